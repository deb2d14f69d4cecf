//! Random switches, losses, reorderings, duplicates and restarts of sources: the listener's line never breaks.

use crate::world::{Graph, Party, SESSION, Speaker, World, peer, rtp_socket};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    /// The source that is heard changes.
    Hear(u32),
    /// Every source sends this many packets, in order.
    Speak(u8),
    /// Of the next packets of a source, one is lost.
    Lose(u32),
    /// The next two packets of a source change places.
    Swap(u32),
    /// The next packet of a source comes twice.
    Twice(u32),
    /// A source gets a new SSRC, sequence and timestamp.
    Restart(u32),
    /// A source's timestamp jumps.
    Jump(u32, i32),
    /// Nobody speaks.
    Pause(u16),
}

const SOURCES: u32 = 3;

fn step() -> impl Strategy<Value = Step> {
    let source = 0..SOURCES;
    prop_oneof![
        source.clone().prop_map(Step::Hear),
        (1..12u8).prop_map(Step::Speak),
        source.clone().prop_map(Step::Lose),
        source.clone().prop_map(Step::Swap),
        source.clone().prop_map(Step::Twice),
        source.clone().prop_map(Step::Restart),
        (source, -2_000_000_000..2_000_000_000i32).prop_map(|(source, by)| Step::Jump(source, by)),
        (1..3_000u16).prop_map(Step::Pause),
    ]
}

/// What a payload says about its packet.
fn label(source: u32, count: u32) -> [u8; 8] {
    let mut label = [0; 8];
    label[..4].copy_from_slice(&source.to_be_bytes());
    label[4..].copy_from_slice(&count.to_be_bytes());
    label
}

struct Sources {
    world: World,
    speakers: Vec<Speaker>,
    counts: Vec<u32>,
    /// In-order packets of the source that is heard: they must all arrive.
    expected: Vec<[u8; 8]>,
    heard: u32,
}

impl Sources {
    fn packet(&mut self, source: u32) -> (Vec<u8>, [u8; 8]) {
        self.counts[source as usize] += 1;
        let label = label(source, self.counts[source as usize]);
        (self.speakers[source as usize].packet(&label), label)
    }

    fn arrive(&mut self, source: u32, datagram: &[u8]) {
        self.world.receive(rtp_socket(source), peer(source), datagram);
    }

    fn speak(&mut self) {
        for source in 0..SOURCES {
            let (datagram, label) = self.packet(source);
            if source == self.heard {
                self.expected.push(label);
            }
            self.arrive(source, &datagram);
        }
        self.world.pass_ms(20);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Hear(source) => {
                self.heard = source;
                let name = ["a", "b", "c"][source as usize];
                let mut graph = graph();
                graph.hear(&[(name, "listener")]);
                self.world.commit(SESSION, &graph);
            }
            Step::Speak(times) => (0..times).for_each(|_| self.speak()),
            Step::Lose(source) => {
                self.packet(source);
                self.world.pass_ms(20);
            }
            Step::Swap(source) => {
                let (first, _) = self.packet(source);
                let (second, label) = self.packet(source);
                self.arrive(source, &second);
                self.arrive(source, &first);
                if source == self.heard {
                    // The overtaken one may be late from before a switch, the newer one never is.
                    self.expected.push(label);
                }
                self.world.pass_ms(40);
            }
            Step::Twice(source) => {
                let (datagram, label) = self.packet(source);
                self.arrive(source, &datagram);
                self.arrive(source, &datagram);
                if source == self.heard {
                    self.expected.push(label);
                }
                self.world.pass_ms(20);
            }
            Step::Restart(source) => {
                let speaker = &mut self.speakers[source as usize];
                speaker.ssrc.0 += 0x100;
                speaker.sequence = speaker.sequence.wrapping_mul(31).wrapping_add(7);
                speaker.timestamp = speaker.timestamp.wrapping_mul(31).wrapping_add(7);
            }
            Step::Jump(source, by) => {
                let speaker = &mut self.speakers[source as usize];
                speaker.timestamp = speaker.timestamp.wrapping_add_signed(by);
            }
            Step::Pause(ms) => self.world.pass_ms(u64::from(ms)),
        }
    }
}

fn graph() -> Graph {
    let parties = vec![
        Party::new("a", 0),
        Party::new("b", 1),
        Party::new("c", 2),
        Party::new("listener", 3),
    ];
    Graph::of(parties, &[("a", "listener")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_number_repeats_time_runs_forward_and_each_packet_comes_once(
        steps in proptest::collection::vec(step(), 1..60),
        seed: u64,
    ) {
        let mut world = World::seeded(seed);
        world.commit(SESSION, &graph());
        let speakers = (0..SOURCES).map(|n| Speaker::new(n + 1)).collect();
        let mut sources =
            Sources { world, speakers, counts: vec![0; SOURCES as usize], expected: Vec::new(), heard: 0 };
        steps.iter().for_each(|step| sources.take(step));
        sources.speak();

        let sent = sources.world.sent_rtp();
        let mut line = BTreeMap::new();
        let mut newest: Option<u64> = None;
        let mut ssrc = None;
        for sent in &sent {
            let header = sent.header();
            prop_assert_eq!(*ssrc.get_or_insert(header.ssrc), header.ssrc);
            let ext = match newest {
                None => 0x1_0000 | u64::from(header.sequence),
                Some(newest) => rtp::units::ExtendedSeq(newest).nearest(header.sequence).0,
            };
            newest = Some(newest.map_or(ext, |newest| newest.max(ext)));
            let payload: [u8; 8] = sent.payload().try_into().expect("a label");
            prop_assert!(line.insert(ext, (payload, header.timestamp)).is_none(), "{ext} came twice");
        }
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        let mut clock = None;
        for (payload, timestamp) in line.values() {
            let source = u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
            let count = u32::from_be_bytes(payload[4..].try_into().expect("four bytes"));
            let before = last.insert(source, count);
            prop_assert!(before.is_none_or(|before| before < count), "source {} repeats or goes back", source);
            let earlier = clock.replace(*timestamp);
            // Small steps back of a source within a second are the source's own and are shown as they are.
            prop_assert!(earlier.is_none_or(|earlier| timestamp.diff(earlier) > -8_000));
        }
        let arrived: Vec<_> = sent.iter().map(|sent| sent.payload().to_vec()).collect();
        for label in &sources.expected {
            let times = arrived.iter().filter(|payload| payload[..] == label[..]).count();
            prop_assert_eq!(times, 1, "packet {:?} was accepted and came {} times", label, times);
        }
    }
}

#[test]
fn a_switch_advances_by_the_time_that_passed_and_marks_it() {
    let mut world = World::new();
    world.commit(SESSION, &graph());
    let (mut a, mut b) = (Speaker::new(1), Speaker::new(2));
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    let first = world.sent_rtp()[0].header();
    world.pass_ms(500);
    let mut hear_b = graph();
    hear_b.hear(&[("b", "listener")]);
    world.commit(SESSION, &hear_b);
    b.sequence = 77;
    world.receive(rtp_socket(1), peer(1), &b.packet(&[1]));
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), 1, "a is not heard any more");
    let second = sent[0].header();
    assert_eq!(second.sequence, first.sequence.wrapping_add(1));
    assert_eq!(second.timestamp.diff(first.timestamp), 4_000);
    assert!(second.marker);
    // At once: at least one frame.
    world.commit(SESSION, &graph());
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    let third = world.sent_rtp()[0].header();
    assert_eq!(third.sequence, second.sequence.wrapping_add(1));
    assert_eq!(third.timestamp.diff(second.timestamp), 160);
}

#[test]
fn packets_of_the_ssrc_before_are_late_not_a_change_back() {
    let mut world = World::new();
    world.commit(SESSION, &graph());
    let (mut old, mut new) = (Speaker::new(1), Speaker::new(2));
    world.receive(rtp_socket(0), peer(0), &old.packet(&[1]));
    let overtaken = old.packet(&[2]);
    world.receive(rtp_socket(0), peer(0), &new.packet(&[3]));
    world.receive(rtp_socket(0), peer(0), &overtaken);
    world.receive(rtp_socket(0), peer(0), &new.packet(&[4]));
    let payloads: Vec<_> = world.sent_rtp().iter().map(|sent| sent.payload()[0]).collect();
    assert_eq!(payloads, [1, 3, 4]);
    assert_eq!(world.endpoint("a").ingress.ssrc_changes, 1);
}

#[test]
fn a_restart_under_the_same_ssrc_is_believed_with_its_second_packet() {
    let mut world = World::new();
    world.commit(SESSION, &graph());
    let mut a = Speaker::new(1);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    world.pass_ms(20);
    a.sequence = a.sequence.wrapping_add(20_000);
    a.timestamp = a.timestamp.wrapping_add(1_000_000_000);
    for n in 2..5 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[n]));
        world.pass_ms(20);
    }
    let sent = world.sent_rtp();
    let payloads: Vec<_> = sent.iter().map(|sent| sent.payload()[0]).collect();
    assert_eq!(
        payloads,
        [1, 3, 4],
        "one stray packet far away must not move the line"
    );
    let first = sent[0].header();
    let line: Vec<_> = sent
        .iter()
        .map(|sent| {
            let header = sent.header();
            (
                header.sequence.wrapping_sub(first.sequence),
                header.timestamp.diff(first.timestamp),
            )
        })
        .collect();
    assert_eq!(line, [(0, 0), (1, 320), (2, 480)]);
    assert_eq!(world.drops("t-a", media_engine::command::DropReason::Replay), 1);
}

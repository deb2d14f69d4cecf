//! Players of one group are one: sessions that come and go hear the same sound at the same moment, each in its own codec,
//! and what one does with it is no matter of the others.

use codecs::CodecKind;
use media_engine::{
    command::{Command, EventKind, PlayEnd, ReplyToken, SessionKey},
    spec::{Codec, NodeKind, NodeSpec, PlaySource},
};

use crate::{
    tones::{Ear, LOUD},
    world::{Graph, Party, Sent, World, events, format, pcma, pcmu, player, prompt, rtp_socket},
};

fn music(repeat: Option<u32>) -> NodeSpec {
    let mut node = player("music", &[PlaySource::Prompt("music".into())]);
    if let NodeKind::Player(player) = &mut node.kind {
        player.shared_group = Some("moh".into());
        player.repeat = repeat;
    }
    node
}

/// Party `number`, on hold in a session of its own.
fn held(number: u32, codec: media_engine::spec::PayloadFormat, repeat: Option<u32>) -> (SessionKey, Graph) {
    let party = Party::new("a", number).with_formats(vec![codec, events(101)]);
    let mut graph = Graph::of(vec![party], &[("music", "a")]);
    graph.others.push(music(repeat));
    (SessionKey(u64::from(number) + 1), graph)
}

/// Two seconds: a tone that rises, so that every place in it sounds otherwise.
fn rising() -> Vec<i16> {
    let mut phase = 0.0_f64;
    (0..16_000)
        .map(|n| {
            phase += (300.0 + f64::from(n) / 16.0) / 8_000.0 * std::f64::consts::TAU;
            (phase.sin() * LOUD) as i16
        })
        .collect()
}

fn payloads(sent: &[Sent], number: u32) -> Vec<Vec<u8>> {
    let to = sent.iter().filter(|sent| sent.socket == rtp_socket(number));
    to.map(|sent| sent.payload().to_vec()).collect()
}

#[test]
fn all_hear_the_same_at_once_and_the_next_joins_in() {
    let mut world = World::new();
    world.prompts = vec![prompt("music", 8_000, rising())];
    let held: Vec<_> = (0..3).map(|number| held(number, pcmu(), None)).collect();
    for (key, graph) in &held {
        world.commit(*key, graph);
    }
    world.pass_ms(1_000);
    let sent = world.sent_rtp();
    let heard: Vec<_> = (0..3).map(|number| payloads(&sent, number)).collect();
    for number in 1..3 {
        assert!(heard[number].len().abs_diff(heard[0].len()) <= 1);
        // One may have begun a tick later than the other.
        let (a, b) = (&heard[0], &heard[number]);
        let (from, _) = a
            .iter()
            .enumerate()
            .find(|(_, p)| **p == b[0])
            .expect("it is in the other");
        assert!(from <= 1);
        assert!(a[from..].iter().zip(b).all(|(a, b)| a == b), "the same payloads");
    }

    // Who comes later hears what all hear then, and another codec's listener the same sound.
    let (late, late_graph) = self::held(3, pcmu(), None);
    let (other, other_graph) = self::held(4, pcma(), None);
    world.commit(late, &late_graph);
    world.commit(other, &other_graph);
    world.pass_ms(600);
    let sent = world.sent_rtp();
    let (first, late) = (payloads(&sent, 0), payloads(&sent, 3));
    assert!(late.len() >= 28);
    assert!(late.iter().all(|payload| first.contains(payload)));
    let pcm = |payloads: &[Vec<u8>], kind| {
        let mut decoder = codecs::Decoder::new(kind, 8_000).expect("a rate");
        let mut pcm = vec![0; 160 * payloads.len()];
        for (payload, pcm) in payloads.iter().zip(pcm.chunks_mut(160)) {
            decoder.decode(payload, pcm).expect("160 samples");
        }
        pcm
    };
    let (alaw, ulaw) = (
        pcm(&payloads(&sent, 4), CodecKind::Pcma),
        pcm(&late, CodecKind::Pcmu),
    );
    let off = |shift: usize| {
        let pairs = alaw.iter().zip(&ulaw[shift..]).take(4_000);
        pairs
            .map(|(a, b)| (i32::from(*a) - i32::from(*b)).unsigned_abs())
            .max()
    };
    assert!(
        [0, 160].into_iter().any(|shift| off(shift) < Some(500)),
        "{:?}",
        off(0)
    );
}

#[test]
fn other_codecs_and_packet_times_hear_it_too() {
    let mut world = World::new();
    let mut sine = codecs::tone::Oscillator::new(600.0, 16_000);
    let sine = (0..16_000)
        .map(|_| (f64::from(sine.next_value()) * LOUD) as i16)
        .collect();
    world.prompts = vec![prompt("music", 16_000, sine)];
    let codecs = [
        (pcmu(), CodecKind::Pcmu, 20),
        (pcmu(), CodecKind::Pcmu, 60),
        (pcma(), CodecKind::Pcma, 10),
        (format(9, Codec::G722, 8_000), CodecKind::G722, 20),
        (format(111, Codec::Opus, 48_000), CodecKind::Opus, 20),
        (format(111, Codec::Opus, 48_000), CodecKind::Opus, 60),
    ];
    for (number, (format, _, ptime_ms)) in codecs.iter().enumerate() {
        let (key, mut graph) = held(number as u32, format.clone(), None);
        graph.party("a").ptime_ms = *ptime_ms;
        world.commit(key, &graph);
    }
    world.pass_ms(2_400);
    let sent = world.sent_rtp();
    for (number, (format, kind, ptime_ms)) in codecs.iter().enumerate() {
        let number = number as u32;
        let packets = payloads(&sent, number).len();
        let expected = 2_400 / usize::from(*ptime_ms);
        assert!(
            packets.abs_diff(expected) <= 3,
            "{packets} packets of {ptime_ms} ms"
        );
        let mut ear = Ear::default();
        ear.hear(&sent, number, &[(format.payload_type.value(), *kind)]);
        ear.hears("held", &[600.0, 1_200.0], &[(600.0, LOUD)]);
    }
}

#[test]
fn a_pause_and_an_end_are_each_session_s_own_and_the_last_one_takes_it_away() {
    let mut world = World::new();
    world.prompts = vec![prompt("music", 8_000, rising())];
    let (one, mut graph_one) = held(0, pcmu(), Some(2));
    let (two, graph_two) = held(1, pcmu(), Some(2));
    world.commit(one, &graph_one);
    world.commit(two, &graph_two);
    world.pass_ms(500);
    if let NodeKind::Player(player) = &mut graph_one.others[0].kind {
        player.paused = true;
    }
    world.commit(one, &graph_one);
    world.sent();
    world.pass_ms(500);
    let sent = world.sent_rtp();
    assert!(
        payloads(&sent, 0).iter().flatten().all(|byte| *byte == 0xff),
        "silence"
    );
    assert!(payloads(&sent, 1).iter().flatten().any(|byte| *byte != 0xff));
    if let NodeKind::Player(player) = &mut graph_one.others[0].kind {
        player.paused = false;
    }
    world.commit(one, &graph_one);
    world.pass_ms(200);
    let sent = world.sent_rtp();
    let (a, b) = (payloads(&sent, 0), payloads(&sent, 1));
    assert!(
        a.iter().skip(1).filter(|payload| b.contains(payload)).count() >= 8,
        "together again"
    );

    world.pass_ms(5_000);
    let ends: Vec<_> = world
        .events()
        .into_iter()
        .map(|event| (event.session, event.kind))
        .collect();
    let end = EventKind::PlayFinished(PlayEnd::End);
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.contains(&(one, end.clone())) && ends.contains(&(two, end)));

    // Gone with the last of them: who comes then hears it from the beginning.
    for key in [one, two] {
        world.command(Command::End(key, ReplyToken(99)));
        world.engine.poll_reply();
    }
    let (three, graph_three) = held(2, pcmu(), Some(2));
    world.commit(three, &graph_three);
    world.sent();
    world.pass_ms(100);
    let heard = payloads(&world.sent_rtp(), 2);
    let mut first = vec![0; 160];
    codecs::g711::encode_ulaw(&rising()[..160], &mut first);
    assert_eq!(heard[0], first);
}

#[test]
fn who_comes_after_its_end_hears_it_from_the_beginning() {
    let mut world = World::new();
    world.prompts = vec![prompt("music", 8_000, rising())];
    let (first, first_graph) = held(0, pcmu(), Some(0));
    world.commit(first, &first_graph);
    world.pass_ms(3_000);
    let before = payloads(&world.sent_rtp(), 0);
    let (late, late_graph) = held(1, pcmu(), Some(0));
    world.commit(late, &late_graph);
    world.pass_ms(1_000);
    let after = payloads(&world.sent_rtp(), 1);
    assert!(after.len() >= 45, "{} packets", after.len());
    assert!(before.starts_with(&after), "the same from the beginning");
}

/// Who asks for less gets less (RFC 7587 §6.1), and who comes after it as much as ever.
#[test]
fn each_gets_the_opus_that_it_asked_for_whoever_came_first() {
    const ASKED: &str = "maxaveragebitrate=8000";
    for order in [[ASKED, ""], ["", ASKED]] {
        let mut world = World::new();
        world.prompts = vec![prompt("music", 8_000, rising())];
        for (number, fmtp) in (0..).zip(order) {
            let mut opus = format(111, Codec::Opus, 48_000);
            opus.fmtp = fmtp.into();
            let (key, graph) = held(number, opus, None);
            world.commit(key, &graph);
        }
        world.pass_ms(500);
        world.sent();
        world.pass_ms(4_000);
        let sent = world.sent_rtp();
        for (number, fmtp) in (0..).zip(order) {
            let bytes: usize = payloads(&sent, number).iter().map(Vec::len).sum();
            let bps = bytes * 8 / 4;
            let expected = if fmtp.is_empty() {
                15_000..32_000
            } else {
                4_000..11_000
            };
            assert!(
                expected.contains(&bps),
                "{bps} bit/s, who asked {fmtp:?} of {order:?}"
            );
        }
    }
}

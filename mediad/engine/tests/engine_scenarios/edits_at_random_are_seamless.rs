//! Random edits among relay, transcoding, mixing and playing: after each, every listener hears exactly the tones that the graph
//! says, at their levels; its line never breaks, and between two packets there are never more than 60 ms.

use std::collections::{BTreeMap, BTreeSet};

use codecs::CodecKind;
use media_engine::spec::{CallProgress, Codec, Country, EdgeSpec, PlaySource};

use crate::{
    tones::{Ear, Voice, talk},
    world::{Graph, Party, SESSION, World, edge, format, pcma, pcmu, player, room},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (8, CodecKind::Pcma), (9, CodecKind::G722)];
const IDS: [&str; 4] = ["a", "b", "c", "d"];
const TONES: [f64; 4] = [620.0, 810.0, 1_100.0, 1_500.0];
/// Of the dial tone.
const PLAYED: f64 = 350.0;
/// Quiet enough that all at once are not turned down.
const LOUD: f64 = 2_500.0;
const GAP_MS_MAX: u64 = 60;

/// A small generator (SplitMix64): a seed is a test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

fn edges(dice: &mut Dice) -> Vec<EdgeSpec> {
    let mut pairs = BTreeSet::new();
    // Now a call of two, now a conference, now anything.
    let members = [0, 2, 3, 4][dice.below(4) as usize];
    for id in &IDS[..members] {
        pairs.extend([(*id, "room"), ("room", *id)]);
    }
    for from in IDS {
        for to in IDS {
            if from != to && dice.one_in(if members == 0 { 3 } else { 12 }) {
                pairs.insert((from, to));
            }
        }
    }
    for id in IDS {
        if dice.one_in(6) {
            pairs.insert(("player", id));
        }
    }
    let edge = |(from, to): (&str, &str)| EdgeSpec {
        gain_db: if dice.one_in(6) { -6.0 } else { 0.0 },
        muted: dice.one_in(8),
        ..edge(from, to)
    };
    pairs.into_iter().map(edge).collect()
}

/// What `listener` hears, by who speaks: the sum over all ways of their gains. Knows edges, and no plans.
fn heard(edges: &[EdgeSpec], listener: &str) -> BTreeMap<String, f64> {
    let gain = |edge: &EdgeSpec| 10_f64.powf(edge.gain_db / 20.0);
    let into = |to: &str| {
        let to = to.to_owned();
        edges.iter().filter(move |edge| *edge.to == *to && !edge.muted)
    };
    let mut heard: BTreeMap<String, f64> = BTreeMap::new();
    for way in into(listener) {
        if &*way.from == "room" {
            for member in into("room").filter(|member| &*member.from != listener) {
                *heard.entry(member.from.to_string()).or_default() += gain(way) * gain(member);
            }
        } else {
            *heard.entry(way.from.to_string()).or_default() += gain(way);
        }
    }
    heard
}

fn run(seed: u64, edits: u32) {
    let mut dice = Dice(seed);
    let mut world = World::seeded(seed);
    let formats = [
        vec![pcmu()],
        vec![pcma()],
        vec![pcmu()],
        vec![format(9, Codec::G722, 8_000)],
    ];
    let kinds = [CodecKind::Pcmu, CodecKind::Pcma, CodecKind::Pcmu, CodecKind::G722];
    let mut parties: Vec<Party> = (0..)
        .zip(IDS)
        .map(|(number, id)| Party::new(id, number))
        .collect();
    for (party, formats) in parties.iter_mut().zip(&formats) {
        party.receive.clone_from(formats);
        party.send.clone_from(formats);
        party.detect_talk = dice.one_in(3);
    }
    let mut graph = Graph::of(parties, &[]);
    graph.others.push(room("room", 16_000));
    let tone = PlaySource::Tone(Country::Us, CallProgress::Dial);
    graph.others.push(player("player", &[tone]));
    let mut voices: Vec<Voice> = (0..)
        .zip(kinds.iter().zip(TONES).zip(&formats))
        .map(|(number, ((kind, hz), formats))| {
            let mut voice = Voice::new(number, hz, *kind, formats[0].payload_type.value());
            voice.loud = LOUD;
            voice
        })
        .collect();
    // Of each listener that heard something before the edit, and when it last did.
    let mut ears: [Option<(Ear, u64)>; 4] = Default::default();
    let mut ms = 0;
    for round in 0..edits {
        graph.edges = edges(&mut dice);
        world.commit(SESSION, &graph);
        let expected: Vec<_> = IDS.iter().map(|id| heard(&graph.edges, id)).collect();
        for (ear, heard) in ears.iter_mut().zip(&expected) {
            if heard.is_empty() {
                *ear = None;
            }
        }
        let place =
            |number: usize| format!("seed {seed}, edit {round}: {} of {:?}", IDS[number], graph.edges);
        for _ in 0..35 {
            talk(&mut world, &mut voices.iter_mut().collect::<Vec<_>>(), 20);
            ms += 20;
            let sent = world.sent_rtp();
            for (number, ear) in ears.iter_mut().enumerate() {
                if !sent
                    .iter()
                    .any(|sent| sent.socket == crate::world::rtp_socket(number as u32))
                {
                    let last = ear.as_ref().map_or(ms, |(_, last)| *last);
                    assert!(
                        ms - last <= GAP_MS_MAX,
                        "{} ms of nothing, {}",
                        ms - last,
                        place(number)
                    );
                    continue;
                }
                assert!(!expected[number].is_empty(), "something for {}", place(number));
                let (ear, last) = ear.get_or_insert_with(Default::default);
                ear.hear(&sent, number as u32, KINDS);
                *last = ms;
            }
        }
        for (number, (ear, heard)) in ears.iter().zip(&expected).enumerate() {
            let Some((ear, _)) = ear else {
                assert!(heard.is_empty(), "nothing for {}", place(number));
                continue;
            };
            let tones: Vec<_> = IDS
                .iter()
                .zip(TONES)
                .filter_map(|(id, hz)| Some((hz, LOUD * heard.get(*id)?)))
                .collect();
            ear.hears(&place(number), &TONES, &tones);
            let played = ear.levels(&[PLAYED])[&(PLAYED as u32)];
            let plays = heard.contains_key("player");
            assert_eq!(
                played > 200.0,
                plays,
                "the player is heard at {played:.0} by {}",
                place(number)
            );
        }
    }
}

#[test]
fn whatever_the_edits_everybody_hears_whom_they_should() {
    for seed in 0..6 {
        run(seed, 12);
    }
}

/// As many seeds as asked for: SEEDS=0..1000 cargo test -p media-engine --test engine_scenarios seeds
#[test]
fn more_seeds_when_asked_for() {
    let asked = std::env::var("SEEDS").unwrap_or_default();
    let mut bounds = asked.split("..").filter_map(|bound| bound.parse().ok());
    if let (Some(from), Some(to)) = (bounds.next(), bounds.next()) {
        (from..to).for_each(|seed| run(seed, 12));
    }
}

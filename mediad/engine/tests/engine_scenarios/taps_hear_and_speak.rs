//! Programs at taps: they hear a mix of what the tap hears, are heard where the tap is, at any rate, and neither their coming
//! nor their going is heard in the call.

use std::sync::Arc;

use codecs::{goertzel, tone::Oscillator};
use media_engine::{
    command::{Command, PlanKind, TapRings},
    spec::{NodeKind, NodeSpec, TapSpec},
    tap::{Program, TapPort},
};

use crate::{
    tones::{Ear, LOUD, Voice},
    world::{Graph, Party, SESSION, World, edge, room},
};

const KINDS: &[(u8, codecs::CodecKind)] = &[(0, codecs::CodecKind::Pcmu)];

fn tap(id: &str, sample_rate_hz: u32) -> NodeSpec {
    NodeSpec {
        id: id.into(),
        kind: NodeKind::Tap(TapSpec { sample_rate_hz }),
    }
}

/// A program that says a tone and keeps what it hears.
struct Robot {
    program: Program,
    rate_hz: u32,
    sine: Oscillator,
    silent: bool,
    heard: Vec<i16>,
    next: u64,
}

impl Robot {
    fn attach(port: &Arc<TapPort>, hz: f64) -> Self {
        let rate_hz = port.sample_rate_hz();
        Self {
            program: Program::attach(port).expect("the tap is free"),
            rate_hz,
            sine: Oscillator::new(hz, rate_hz),
            silent: false,
            heard: Vec::new(),
            next: 0,
        }
    }

    fn frame(&mut self) -> Vec<i16> {
        let samples = self.rate_hz as usize / 50;
        (0..samples)
            .map(|_| (f64::from(self.sine.next_value()) * LOUD) as i16)
            .collect()
    }

    fn turn(&mut self) {
        if !self.silent {
            let frame = self.frame();
            assert_eq!(self.program.speak(&frame), frame.len(), "there is room");
        }
        let mut frame = vec![0; self.rate_hz as usize / 50];
        while let Some(heard) = self.program.hear(&mut frame) {
            assert_eq!((heard.position, heard.lost), (self.next, 0));
            self.next += frame.len() as u64;
            self.heard.extend(&frame);
        }
    }

    /// The amplitude of a tone over the last 400 ms.
    fn level(&self, hz: f64) -> f64 {
        let from = self.heard.len().saturating_sub(self.rate_hz as usize * 2 / 5);
        let part = &self.heard[from..];
        assert!(part.len() >= self.rate_hz as usize / 5, "{} samples", part.len());
        goertzel::amplitude(part, hz, self.rate_hz)
    }

    fn hears(&self, tones: &[f64], expected: &[f64]) {
        for tone in tones {
            let level = self.level(*tone);
            if expected.contains(tone) {
                assert!(
                    (LOUD * 0.85..LOUD * 1.15).contains(&level),
                    "the program hears {tone} Hz at {level:.0}"
                );
            } else {
                assert!(level < 60.0, "the program hears {tone} Hz at {level:.0}");
            }
        }
    }
}

fn live(world: &mut World, voices: &mut [&mut Voice], robots: &mut [&mut Robot], ms: u64) {
    for _ in 0..ms / 20 {
        for voice in voices.iter_mut() {
            voice.speak(world);
        }
        for robot in robots.iter_mut() {
            robot.turn();
        }
        world.pass_ms(20);
    }
}

fn tapped(graph: &Graph, sample_rate_hz: u32) -> (World, Graph, Arc<TapPort>) {
    let (mut world, mut graph) = (World::new(), graph.clone());
    graph.others.push(tap("tap", sample_rate_hz));
    let port = TapPort::new(sample_rate_hz);
    world.taps.push(TapRings {
        node: "tap".into(),
        port: port.clone(),
    });
    (world, graph, port)
}

const TONES: [f64; 3] = [440.0, 1_100.0, 700.0];

#[test]
fn a_program_listens_beside_a_relay_and_then_whispers() {
    for rate in [8_000, 16_000, 24_000, 48_000] {
        let (mut world, mut graph, port) = tapped(&Graph::call(), rate);
        graph.edges.extend([edge("a", "tap"), edge("b", "tap")]);
        world.commit(SESSION, &graph);
        let plans: Vec<_> = world.report(SESSION).expect("there").plans;
        assert!(plans.iter().all(|plan| plan.kind == PlanKind::Relay), "{plans:?}");
        let (mut a, mut b) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
        let mut robot = Robot::attach(&port, 700.0);
        live(&mut world, &mut [&mut a, &mut b], &mut [&mut robot], 800);
        robot.hears(&TONES, &[440.0, 1_100.0]);
        assert!(world.engine.poll_taps(), "those who serve programs are told");
        let waiting = robot.program.spoken() - robot.program.played();
        assert!(waiting <= u64::from(rate) / 16, "{waiting} samples wait");

        // It speaks to one of them.
        graph.edges.push(edge("tap", "a"));
        world.commit(SESSION, &graph);
        live(&mut world, &mut [&mut a, &mut b], &mut [&mut robot], 800);
        let sent = world.sent_rtp();
        let (mut at_a, mut at_b) = (Ear::default(), Ear::default());
        at_a.hear(&sent, 0, KINDS);
        at_b.hear(&sent, 1, KINDS);
        at_a.hears("a", &TONES, &[(1_100.0, LOUD), (700.0, LOUD)]);
        at_b.hears("b", &TONES, &[(440.0, LOUD)]);
        robot.hears(&TONES, &[440.0, 1_100.0]);

        // It goes: the call stays as it is, and after a while costs what it cost before.
        drop(robot);
        live(&mut world, &mut [&mut a, &mut b], &mut [], 800);
        let sent = world.sent_rtp();
        at_a.hear(&sent, 0, KINDS);
        at_b.hear(&sent, 1, KINDS);
        at_a.hears("a", &TONES, &[(1_100.0, LOUD)]);
        at_b.hears("b", &TONES, &[(440.0, LOUD)]);
        world.engine.poll_taps();
        live(&mut world, &mut [&mut a, &mut b], &mut [], 100);
        assert!(!world.engine.poll_taps(), "nobody is there to be told");
    }
}

#[test]
fn in_a_room_a_program_hears_all_but_itself() {
    let parties = vec![Party::new("a", 0), Party::new("b", 1)];
    let (mut world, mut graph, port) = tapped(&Graph::of(parties, &[]), 16_000);
    graph.others.push(room("room", 16_000));
    for id in ["a", "b", "tap"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
    let mut robot = Robot::attach(&port, 700.0);
    live(&mut world, &mut [&mut a, &mut b], &mut [&mut robot], 1_000);
    let sent = world.sent_rtp();
    let (mut at_a, mut at_b) = (Ear::default(), Ear::default());
    at_a.hear(&sent, 0, KINDS);
    at_b.hear(&sent, 1, KINDS);
    robot.hears(&TONES, &[440.0, 1_100.0]);
    at_a.hears("a", &TONES, &[(1_100.0, LOUD), (700.0, LOUD)]);
    at_b.hears("b", &TONES, &[(440.0, LOUD), (700.0, LOUD)]);
}

/// One party that hears only the program.
fn prompted() -> (World, Arc<TapPort>, Voice) {
    let party = vec![Party::new("a", 0)];
    let (mut world, mut graph, port) = tapped(&Graph::of(party, &[]), 16_000);
    graph.edges.extend([edge("a", "tap"), edge("tap", "a")]);
    world.commit(SESSION, &graph);
    (world, port, Voice::pcmu(0, 440.0))
}

#[test]
fn a_flush_is_heard_within_a_tick_whoever_asks_for_it() {
    for by_act in [false, true] {
        let (mut world, port, mut a) = prompted();
        let mut robot = Robot::attach(&port, 700.0);
        for _ in 0..25 {
            let frame = robot.frame();
            robot.program.speak(&frame);
        }
        robot.silent = true;
        live(&mut world, &mut [&mut a], &mut [&mut robot], 200);
        let before = world.sent_rtp();
        assert!(before.len() >= 8, "{} packets", before.len());
        assert!(robot.program.played() < robot.program.spoken());
        world.engine.poll_taps();
        match by_act {
            true => world.command(Command::Flush(SESSION, "tap".into())),
            false => robot.program.flush(),
        }
        assert_eq!(world.engine.poll_taps(), by_act, "the program is to look");
        assert_eq!(
            robot.program.played(),
            robot.program.spoken(),
            "what was flushed counts as passed"
        );
        live(&mut world, &mut [&mut a], &mut [&mut robot], 600);
        let mut ear = Ear::default();
        let sent = world.sent_rtp();
        ear.hear(&sent, 0, KINDS);
        let silent_from = ear.pcm.iter().rposition(|sample| sample.unsigned_abs() > 200);
        assert!(silent_from.is_none_or(|at| at <= 160 + 40), "{silent_from:?}");
    }
}

#[test]
fn what_is_said_is_played_in_order_and_counted_whoever_hears_it() {
    let (mut world, port, _) = prompted();
    // Nobody speaks, and the tick rests.
    world.pass_ms(5_000);
    let mut robot = Robot::attach(&port, 700.0);
    world.command(Command::Attend(SESSION));
    robot.silent = true;
    for _ in 0..10 {
        let frame = robot.frame();
        robot.program.speak(&frame);
    }
    let mut played = Vec::new();
    for _ in 0..14 {
        live(&mut world, &mut [], &mut [&mut robot], 20);
        played.push(robot.program.played() / 320);
    }
    assert!(
        played.windows(2).all(|two| two[1] - two[0] <= 1),
        "one tick at a time: {played:?}"
    );
    assert_eq!(played.last(), Some(&10));
    // While a program is attached it hears, even if there is only silence.
    assert!(robot.heard.len() >= 12 * 320, "{}", robot.heard.len());
}

#[test]
fn an_edit_around_a_tap_loses_nothing_of_either_way() {
    let (mut world, mut graph, port) = tapped(&Graph::call(), 16_000);
    graph.edges.extend([edge("a", "tap"), edge("tap", "b")]);
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
    let mut robot = Robot::attach(&port, 700.0);
    let mut at_b = Ear::default();
    for n in 0..10 {
        live(&mut world, &mut [&mut a, &mut b], &mut [&mut robot], 100);
        if n % 2 == 0 {
            graph.edges.push(edge("b", "tap"));
        } else {
            graph.edges.pop();
        }
        world.commit(SESSION, &graph);
        let sent = world.sent_rtp();
        at_b.hear(&sent, 1, KINDS);
    }
    live(&mut world, &mut [&mut a, &mut b], &mut [&mut robot], 500);
    at_b.hear(&world.sent_rtp(), 1, KINDS);
    at_b.hears("b", &TONES, &[(440.0, LOUD), (700.0, LOUD)]);
    robot.hears(&TONES, &[440.0]);
    // One tick in hand and no more.
    let waiting = robot.program.spoken() - robot.program.played();
    assert!(waiting <= 3 * 320, "{waiting} samples wait");
}

//! Tones of digits in the audio of a peer are told once each, where something needs them, beside what its listeners get.

use codecs::CodecKind;
use media_engine::{
    command::{CollectEnd, CollectWish, Command, DigitSource, EventKind, PlanKind, PlayEnd},
    spec::{BargeIn, Codec, InbandDigits, NodeKind, PlaySource},
};

use crate::{
    keypad::{Form, Keypad, told},
    world::{Graph, Party, SESSION, World, edge, events, format, pcmu, player, rtp_socket},
};

fn plans(world: &mut World) -> Vec<PlanKind> {
    let report = world.report(SESSION).expect("there");
    report.plans.iter().map(|plan| plan.kind).collect()
}

fn keys(told: &[(char, DigitSource, u32)], source: DigitSource) -> String {
    assert!(told.iter().all(|(_, by, _)| *by == source), "{told:?}");
    told.iter().map(|(key, ..)| *key).collect()
}

#[test]
fn tones_of_a_peer_without_events_are_told_beside_a_relay_that_stays_one() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").receive = vec![pcmu()];
    graph.party("a").inband_digits = InbandDigits::On;
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    let mut twin = Keypad::pcmu(0);
    a.talk(&mut world, 200);
    for key in "159D*0#22".chars() {
        a.press(&mut world, key, Form::Tone);
    }
    a.talk(&mut world, 400);
    let told = told(&mut world);
    assert_eq!(keys(&told, DigitSource::Inband), "159D*0#22");
    assert!(told.iter().all(|(.., ms)| (90..=115).contains(ms)), "{told:?}");
    assert_eq!(world.endpoint("a").digits, 9);
    assert_eq!(plans(&mut world), [PlanKind::Relay; 2]);
    // Packet by packet as it came.
    let sent: Vec<_> = world
        .sent_rtp()
        .into_iter()
        .filter(|sent| sent.socket == rtp_socket(1))
        .collect();
    for key in "159D*0#22".chars() {
        if key == '1' {
            (0..10).for_each(|n| same(&sent[n].bytes, &twin.packet()));
        }
        twin.queue_tone(key, 100, 60);
    }
    sent[10..]
        .iter()
        .for_each(|sent| same(&sent.bytes, &twin.packet()));
    assert_eq!(sent.len(), 10 + 9 * 8 + 20);
}

/// The same payload.
fn same(sent: &[u8], came: &[u8]) {
    assert_eq!(sent[12..], came[12..]);
}

#[test]
fn nobody_looks_where_nobody_asks_or_it_is_forbidden() {
    for (inband, receive) in [
        (InbandDigits::Auto, vec![pcmu(), events(101)]),
        (InbandDigits::Auto, vec![pcmu()]),
        (InbandDigits::Off, vec![pcmu()]),
    ] {
        let mut world = World::new();
        let mut graph = Graph::call();
        graph.party("a").receive = receive;
        graph.party("a").inband_digits = inband;
        world.commit(SESSION, &graph);
        let mut a = Keypad::pcmu(0);
        a.press(&mut world, '5', Form::Tone);
        a.talk(&mut world, 400);
        assert_eq!(told(&mut world), []);
    }
}

#[test]
fn a_key_that_comes_as_tone_and_as_event_is_told_once() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").inband_digits = InbandDigits::On;
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    a.talk(&mut world, 200);
    for key in "1223".chars() {
        a.press(&mut world, key, Form::Both);
    }
    a.talk(&mut world, 600);
    assert_eq!(keys(&told(&mut world), DigitSource::TelephoneEvent), "1223");
    // It may change its mind.
    for key in "44".chars() {
        a.press(&mut world, key, Form::Tone);
    }
    a.talk(&mut world, 600);
    assert_eq!(keys(&told(&mut world), DigitSource::Inband), "44");
    for key in "55".chars() {
        a.press(&mut world, key, Form::Event);
    }
    a.talk(&mut world, 600);
    assert_eq!(keys(&told(&mut world), DigitSource::TelephoneEvent), "55");
    assert_eq!(world.endpoint("a").digits, 8);
}

#[test]
fn an_event_that_is_late_does_not_double_its_tone() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").inband_digits = InbandDigits::On;
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    a.talk(&mut world, 200);
    a.press(&mut world, '7', Form::Tone);
    a.talk(&mut world, 100);
    a.press(&mut world, '7', Form::Event);
    a.talk(&mut world, 400);
    assert_eq!(keys(&told(&mut world), DigitSource::Inband), "7");
}

#[test]
fn who_gathers_digits_gets_tones_as_well() {
    let wish = CollectWish {
        digits_min: 0,
        digits_max: 3,
        terminators: 1 << 11,
        first_digit_ms: 3_000,
        inter_digit_ms: 1_000,
    };
    let mut world = World::new();
    let graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    a.press(&mut world, '9', Form::Tone);
    a.talk(&mut world, 400);
    assert_eq!(told(&mut world), [], "nobody asked");
    world.command(Command::Collect {
        session: SESSION,
        node: "a".into(),
        request: "pin".into(),
        wish,
    });
    // An edit in the middle of it changes nothing.
    a.press(&mut world, '1', Form::Tone);
    a.talk(&mut world, 100);
    world.commit(SESSION, &graph);
    a.press(&mut world, '2', Form::Event);
    a.press(&mut world, '#', Form::Tone);
    a.talk(&mut world, 400);
    let collected = world.event_kinds().into_iter().find_map(|kind| match kind {
        EventKind::DigitsCollected { digits, end, .. } => Some((digits.events().to_vec(), end)),
        _ => None,
    });
    assert_eq!(collected, Some((vec![1, 2], CollectEnd::Terminator)));
    assert_eq!(plans(&mut world), [PlanKind::Relay; 2]);
    // The next edit finds that nobody asks any more.
    world.commit(SESSION, &graph);
    a.press(&mut world, '9', Form::Tone);
    a.talk(&mut world, 400);
    assert_eq!(told(&mut world), []);
}

/// A player that `a` interrupts as said.
fn interruptible(on_digit: bool, on_speech: bool) -> (World, Keypad) {
    let mut world = World::new();
    let mut graph = Graph::of(vec![Party::new("a", 0)], &[]);
    let mut prompt = player("p", &[PlaySource::Silence(60_000)]);
    if let NodeKind::Player(player) = &mut prompt.kind {
        player.barge_in = Some(BargeIn {
            node: "a".into(),
            on_digit,
            on_speech,
        });
    }
    graph.others.push(prompt);
    graph.edges.push(edge("p", "a"));
    world.commit(SESSION, &graph);
    (world, Keypad::pcmu(0))
}

fn is_interrupted(world: &mut World) -> bool {
    let ended = |kind| matches!(kind, EventKind::PlayFinished(PlayEnd::BargeIn));
    world.event_kinds().into_iter().any(ended)
}

#[test]
fn a_player_is_interrupted_by_a_tone_and_not_by_speech_unless_asked_to() {
    let (mut world, mut a) = interruptible(true, false);
    a.talk(&mut world, 500);
    assert!(!is_interrupted(&mut world), "speech");
    a.press(&mut world, '8', Form::Tone);
    a.talk(&mut world, 200);
    assert!(is_interrupted(&mut world), "a tone");
    let (mut world, mut a) = interruptible(false, true);
    a.loud = 0.0;
    a.talk(&mut world, 500);
    a.press(&mut world, '8', Form::Event);
    assert!(!is_interrupted(&mut world), "an event");
    a.loud = 6_000.0;
    a.talk(&mut world, 200);
    assert!(is_interrupted(&mut world), "speech");
}

#[test]
fn tones_are_found_in_every_codec_and_edits_under_way_end_them() {
    let mut opus = format(111, Codec::Opus, 48_000);
    opus.channels = 2;
    let wide = CodecKind::L16 {
        sample_rate_hz: 16_000,
    };
    for (format, kind) in [
        (format(8, Codec::Pcma, 8_000), CodecKind::Pcma),
        (format(9, Codec::G722, 8_000), CodecKind::G722),
        (opus, CodecKind::Opus),
        (format(97, Codec::L16, 16_000), wide),
    ] {
        let mut world = World::new();
        let mut graph = Graph::of(
            vec![
                Party::new("a", 0).with_formats(vec![format.clone()]),
                Party::new("b", 1).with_formats(vec![format.clone()]),
            ],
            &[("a", "b")],
        );
        // Mixed at the codec's own rate.
        graph.edges[0].gain_db = -3.0;
        graph.party("a").inband_digits = InbandDigits::On;
        world.commit(SESSION, &graph);
        let mut a = Keypad::new(0, kind, format.payload_type.value());
        a.talk(&mut world, 200);
        for key in "30A".chars() {
            a.press(&mut world, key, Form::Tone);
        }
        a.talk(&mut world, 400);
        assert_eq!(keys(&told(&mut world), DigitSource::Inband), "30A", "{kind:?}");
        // It holds a key, and nobody looks any more.
        a.queue_tone('6', 1_000, 0);
        a.talk(&mut world, 400);
        graph.party("a").inband_digits = InbandDigits::Off;
        world.commit(SESSION, &graph);
        let [('6', DigitSource::Inband, _)] = told(&mut world)[..] else {
            panic!("{kind:?}: the key that was held has ended");
        };
    }
}

//! Digits reach every listener in the form it takes, once, and those who are not to get them hear nothing of them.

use codecs::{CodecKind, dtmf, goertzel};
use media_engine::{
    command::{Command, PlanKind, SendDigit},
    spec::{Codec, DigitPolicy, InbandDigits, PayloadFormat},
};

use crate::{
    keypad::{EVENTS, Form, Keypad, VOICE_HZ, events_to, told, tones_in, volumes_to},
    test_signal::speech_like,
    tones::Ear,
    world::{Graph, Party, SESSION, Sent, World, edge, events, format, pcma, pcmu, room, rtp_socket},
};

const KINDS: &[(u8, CodecKind)] = &[
    (0, CodecKind::Pcmu),
    (8, CodecKind::Pcma),
    (9, CodecKind::G722),
    (111, CodecKind::Opus),
];

fn opus() -> PayloadFormat {
    let mut opus = format(111, Codec::Opus, 48_000);
    opus.channels = 2;
    opus
}

/// What party `number` hears. Without telephone-events, its line is unbroken.
fn heard(sent: &[Sent], number: u32) -> Ear {
    // While a key is held nothing comes but events.
    let mut ear = Ear::of_a_line_that_pauses(120);
    let to = |sent: &&Sent| sent.socket == rtp_socket(number);
    let is_event = |sent: &&Sent| sent.header().payload_type.value() == EVENTS;
    if sent.iter().filter(to).any(|sent| is_event(&sent)) {
        // Checked by themselves; here they would be gaps.
        let audio: Vec<Sent> = sent
            .iter()
            .filter(to)
            .filter(|sent| !is_event(sent))
            .cloned()
            .collect();
        audio.iter().for_each(|sent| {
            ear.pcm.extend(decoded(sent));
        });
        return ear;
    }
    ear.hear(sent, number, KINDS);
    ear
}

fn decoded(sent: &Sent) -> Vec<i16> {
    let mut pcm = vec![0; sent.payload().len()];
    match sent.header().payload_type.value() {
        0 => codecs::g711::decode_ulaw(sent.payload(), &mut pcm),
        8 => codecs::g711::decode_alaw(sent.payload(), &mut pcm),
        other => panic!("payload type {other}"),
    };
    pcm
}

/// The line of party `number`: one number after the other, no time twice.
fn is_unbroken(sent: &[Sent], number: u32) {
    let line: Vec<_> = sent
        .iter()
        .filter(|sent| sent.socket == rtp_socket(number))
        .collect();
    for pair in line.windows(2) {
        let (earlier, later) = (pair[0].header(), pair[1].header());
        assert_eq!(later.sequence, earlier.sequence.wrapping_add(1));
        let step = later.timestamp.diff(earlier.timestamp);
        assert!((0..=160 * 12).contains(&step), "the timestamp goes on by {step}");
    }
}

/// The loudest of any tone of a digit in `pcm`, where no voice is at their frequencies, in parts of 25 ms.
fn loudest_tone(pcm: &[i16]) -> f64 {
    let hz = dtmf::LOW_HZ.iter().chain(&dtmf::HIGH_HZ);
    let parts = |hz: f64| {
        pcm.chunks_exact(200)
            .map(move |part| goertzel::amplitude(part, hz, 8_000))
    };
    hz.flat_map(|hz| parts(*hz)).fold(0.0, f64::max)
}

fn plan_of(world: &mut World, node: &str) -> PlanKind {
    let report = world.report(SESSION).expect("there");
    let plan = report.plans.iter().find(|plan| &*plan.node == node);
    plan.expect("it has one").kind
}

/// A voice around keys, and what is sent meanwhile.
fn dial(world: &mut World, from: &mut Keypad, keys: &str, form: Form) -> Vec<Sent> {
    from.talk(world, 400);
    for key in keys.chars() {
        from.press(world, key, form);
    }
    from.talk(world, 600);
    world.sent_rtp()
}

#[test]
fn events_become_tones_for_who_takes_none_whatever_its_plan() {
    for (formats, plan) in [
        (vec![pcmu()], PlanKind::Relay),
        (vec![pcma()], PlanKind::Rewrite),
        (vec![format(9, Codec::G722, 8_000)], PlanKind::Transcode),
        (vec![opus()], PlanKind::Transcode),
    ] {
        let mut world = World::new();
        let graph = Graph::of(
            vec![
                Party::new("a", 0),
                Party::new("b", 1).with_formats(formats.clone()),
            ],
            &[("a", "b"), ("b", "a")],
        );
        world.commit(SESSION, &graph);
        let mut a = Keypad::pcmu(0);
        let sent = dial(&mut world, &mut a, "15#", Form::Event);
        assert_eq!(plan_of(&mut world, "b"), plan);
        let ear = heard(&sent, 1);
        assert_eq!(tones_in(&ear.pcm), "15#", "{formats:?}");
        // At the level that was asked for, by both frequencies, and nothing else meanwhile.
        let level = loudest_tone(&ear.pcm);
        let wanted = codecs::level::amplitude_of_dbm0(-7.0);
        assert!(
            (0.7..1.3).contains(&(level / wanted)),
            "{level:.0}, not {wanted:.0}: {plan:?}"
        );
        assert!(ear.loudest(VOICE_HZ) > 5_000.0, "the voice is heard");
        assert_eq!(told(&mut world).len(), 3);
        // The voice afterwards is what it was before.
        ear.hears("b", &[VOICE_HZ, 697.0, 1_209.0], &[(VOICE_HZ, 6_000.0)]);
    }
}

#[test]
fn digits_are_as_loud_as_they_were_pressed_in_every_form() {
    for volume in [3, 12, 20] {
        let mut world = World::new();
        // C and D are told of all tones as events; B hears all as sound. A room passes nothing on as packets.
        let mut graph = Graph::of(
            vec![
                Party::new("a", 0),
                Party::new("b", 1).with_formats(vec![pcmu()]),
                Party::new("c", 2),
                Party::new("d", 3),
            ],
            &[],
        );
        graph.others.push(room("room", 8_000));
        for id in ["a", "b", "c", "d"] {
            graph.edges.extend([edge(id, "room"), edge("room", id)]);
        }
        for edge in &mut graph.edges {
            edge.digits = DigitPolicy::Convert;
        }
        world.commit(SESSION, &graph);
        let mut a = Keypad::pcmu(0);
        a.volume = volume;
        let sent = dial(&mut world, &mut a, "5", Form::Event);
        assert_eq!(volumes_to(&sent, 2), [volume], "event to event");
        assert_eq!(volumes_to(&sent, 3), [volume], "event to event");
        let ear = heard(&sent, 1);
        assert_eq!(tones_in(&ear.pcm), "5");
        let level = codecs::level::dbm0_of_amplitude(loudest_tone(&ear.pcm));
        let wanted = 1.0 - f64::from(volume);
        assert!(
            (level - wanted).abs() < 1.5,
            "event to tone: {level:.1} dBm0, not {wanted:.1}"
        );
        let mut b = Keypad::pcmu(1);
        b.volume = volume;
        let sent = dial(&mut world, &mut b, "9", Form::Tone);
        let told = volumes_to(&sent, 2);
        assert!(
            matches!(told[..], [told] if told.abs_diff(volume) <= 1),
            "tone to event: {told:?}, not {volume}"
        );
    }
    // However faint an event says that it is, its tone is found.
    let mut world = World::new();
    let formats = vec![pcmu()];
    let graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1).with_formats(formats)],
        &[("a", "b")],
    );
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    for volume in [0, 63] {
        a.volume = volume;
        let sent = dial(&mut world, &mut a, "4", Form::Event);
        assert_eq!(tones_in(&heard(&sent, 1).pcm), "4", "at -{volume} dBm0");
    }
}

#[test]
fn in_a_room_everybody_gets_digits_in_its_own_form_and_the_presser_none() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![
            Party::new("a", 0),
            Party::new("b", 1),
            Party::new("c", 2).with_formats(vec![pcmu()]),
        ],
        &[],
    );
    graph.others.push(room("room", 8_000));
    for id in ["a", "b", "c"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    let sent = dial(&mut world, &mut a, "207", Form::Event);
    let presses: Vec<char> = events_to(&sent, 1).iter().map(|(key, ..)| *key).collect();
    assert_eq!(presses, ['2', '0', '7']);
    assert_eq!(tones_in(&heard(&sent, 1).pcm), "");
    assert_eq!(tones_in(&heard(&sent, 2).pcm), "207");
    assert_eq!(events_to(&sent, 0), []);
    assert_eq!(tones_in(&heard(&sent, 0).pcm), "", "a hears nothing of it");
    // C presses a key, as its phone can: it is sound to both.
    let mut c = Keypad::pcmu(2);
    let sent = dial(&mut world, &mut c, "9", Form::Tone);
    assert_eq!(tones_in(&heard(&sent, 0).pcm), "9");
    assert_eq!(tones_in(&heard(&sent, 1).pcm), "9");
    assert_eq!(tones_in(&heard(&sent, 2).pcm), "");
}

/// `a`, whose phone sends tones, is heard by `b`, who takes events, as `policy` says.
fn tones_to_events(policy: DigitPolicy) -> (World, Graph) {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0).with_formats(vec![pcmu()]), Party::new("b", 1)],
        &[("a", "b"), ("b", "a")],
    );
    graph.edges[0].digits = policy;
    world.commit(SESSION, &graph);
    (world, graph)
}

#[test]
fn tones_become_events_and_are_taken_out_of_the_sound() {
    let (mut world, graph) = tones_to_events(DigitPolicy::Convert);
    assert_eq!(plan_of(&mut world, "b"), PlanKind::Transcode);
    assert_eq!(plan_of(&mut world, "a"), PlanKind::Relay);
    let mut a = Keypad::pcmu(0);
    let sent = dial(&mut world, &mut a, "1590", Form::Tone);
    let presses = events_to(&sent, 1);
    let keys: String = presses.iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, "1590");
    for (_, packets, ends, ticks) in presses {
        assert!(
            packets >= 7 && ends == 3,
            "{packets} packets, {ends} of them ends"
        );
        assert!((720..=920).contains(&ticks), "{ticks} ticks for 100 ms");
    }
    is_unbroken(&sent, 1);
    let ear = heard(&sent, 1);
    assert_eq!(tones_in(&ear.pcm), "");
    // A tone is some 10 000 loud.
    let left = loudest_tone(&ear.pcm);
    assert!(left < 700.0, "a tone of {left:.0} is left");
    ear.hears("b", &[VOICE_HZ, 697.0, 1_209.0], &[(VOICE_HZ, 6_000.0)]);
    // The edge passes them again: a relay, and sound.
    let mut graph = graph;
    graph.edges[0].digits = DigitPolicy::Pass;
    world.commit(SESSION, &graph);
    let sent = dial(&mut world, &mut a, "2", Form::Tone);
    assert_eq!(plan_of(&mut world, "b"), PlanKind::Relay);
    assert_eq!(events_to(&sent, 1), []);
    assert_eq!(tones_in(&heard(&sent, 1).pcm), "2");
    is_unbroken(&sent, 1);
}

#[test]
fn of_speech_nothing_is_missing_but_the_digits_in_it() {
    let (mut world, _) = tones_to_events(DigitPolicy::Clamp);
    let mut a = Keypad::pcmu(0);
    let (mut said, mut pressed) = (Vec::new(), Vec::new());
    for (seed, key) in [(1, '5'), (2, '#'), (3, '0')] {
        let speech = speech_like(8_000, 32_000, seed);
        a.queue_sound(&speech);
        said.extend(speech);
        a.queue_tone(key, 100, 60);
        pressed.push(said.len()..said.len() + 800);
        said.resize(said.len() + 1_280, 0);
    }
    let speech = speech_like(8_000, 32_000, 4);
    a.queue_sound(&speech);
    said.extend(speech);
    a.talk(&mut world, said.len() as u64 / 8 + 400);
    let told = world.endpoint("a").digits;
    assert_eq!(told, 3, "speech is no digit");
    let sent = world.sent_rtp();
    is_unbroken(&sent, 1);
    let heard = heard(&sent, 1).pcm;
    assert_eq!(tones_in(&heard), "");

    let mut law = vec![0; said.len()];
    codecs::g711::encode_ulaw(&said, &mut law);
    codecs::g711::decode_ulaw(&law, &mut said);
    let is_lag = |lag: &usize| heard[lag + 1_600..lag + 9_600] == said[1_600..9_600];
    let lag = (0..2_400).find(is_lag).expect("its speech is heard bit for bit");
    for (at, sample) in said.iter().enumerate().skip(1_600) {
        let near = |key: &std::ops::Range<usize>| (key.start - 160..key.end + 160).contains(&at);
        if !pressed.iter().any(near) {
            assert_eq!(heard[lag + at], *sample, "at {at}");
        }
    }
}

#[test]
fn who_may_send_both_is_converted_once() {
    let (mut world, mut graph) = tones_to_events(DigitPolicy::Convert);
    graph.party("a").receive.push(events(EVENTS));
    world.commit(SESSION, &graph);
    assert_eq!(plan_of(&mut world, "b"), PlanKind::Relay, "it sends events");
    graph.party("a").inband_digits = InbandDigits::On;
    world.commit(SESSION, &graph);
    assert_eq!(plan_of(&mut world, "b"), PlanKind::Transcode);
    let mut a = Keypad::pcmu(0);
    let sent = dial(&mut world, &mut a, "33", Form::Both);
    let keys: String = events_to(&sent, 1).iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, "33");
    assert_eq!(tones_in(&heard(&sent, 1).pcm), "");
    let sent = dial(&mut world, &mut a, "4", Form::Tone);
    let keys: String = events_to(&sent, 1).iter().map(|(key, ..)| *key).collect();
    assert_eq!(keys, "4");
}

#[test]
fn chosen_listeners_get_no_digit_in_any_form_and_others_do() {
    for form in [Form::Tone, Form::Event, Form::Both] {
        let mut world = World::new();
        let mut graph = Graph::of(
            vec![
                Party::new("a", 0),
                Party::new("b", 1),
                Party::new("c", 2),
                Party::new("d", 3).with_formats(vec![pcma()]),
            ],
            &[],
        );
        graph.others.push(room("room", 8_000));
        for id in ["a", "b", "c", "d"] {
            graph.edges.extend([edge(id, "room"), edge("room", id)]);
        }
        for at in [5, 7] {
            graph.edges[at].digits = DigitPolicy::Clamp;
        }
        world.commit(SESSION, &graph);
        let mut a = Keypad::pcmu(0);
        let sent = dial(&mut world, &mut a, "4444", form);
        for clamped in [2, 3] {
            let ear = heard(&sent, clamped);
            assert_eq!(tones_in(&ear.pcm), "", "party {clamped}");
            assert!(loudest_tone(&ear.pcm) < 700.0, "party {clamped}");
            assert_eq!(events_to(&sent, clamped), []);
            ear.hears("who is clamped", &[VOICE_HZ], &[(VOICE_HZ, 6_000.0)]);
        }
        let (tones, presses) = (tones_in(&heard(&sent, 1).pcm), events_to(&sent, 1).len());
        match form {
            Form::Tone => assert_eq!((&*tones, presses), ("4444", 0)),
            Form::Event => assert_eq!((&*tones, presses), ("", 4)),
            Form::Both => assert_eq!(presses, 4),
        }
        assert_eq!(world.endpoint("a").digits, 4, "they are told");
    }
}

#[test]
fn a_relay_that_clamps_decodes_and_its_other_listener_is_relayed() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
        &[("a", "b"), ("a", "c")],
    );
    graph.edges[1].digits = DigitPolicy::Clamp;
    world.commit(SESSION, &graph);
    assert_eq!(plan_of(&mut world, "b"), PlanKind::Relay);
    assert_eq!(plan_of(&mut world, "c"), PlanKind::Transcode);
    let mut a = Keypad::pcmu(0);
    let sent = dial(&mut world, &mut a, "86", Form::Tone);
    assert_eq!(tones_in(&heard(&sent, 1).pcm), "86");
    assert_eq!(tones_in(&heard(&sent, 2).pcm), "");
    // The clamp comes and goes while it speaks: nobody hears a click.
    for policy in [DigitPolicy::Pass, DigitPolicy::Clamp, DigitPolicy::Block] {
        graph.edges[1].digits = policy;
        graph.edges[1].gain_db = -1.0;
        world.commit(SESSION, &graph);
        a.talk(&mut world, 300);
    }
    let sent = world.sent_rtp();
    let ear = heard(&sent, 2);
    let own = 6_000.0 * 2.0 * (std::f64::consts::PI * VOICE_HZ / 8_000.0).sin();
    assert!(
        ear.steepest() < 1.6 * own,
        "a step of {:.0}, of its own {own:.0}",
        ear.steepest()
    );
    is_unbroken(&sent, 2);
}

#[test]
fn digits_we_send_are_tones_where_events_are_not_taken() {
    for hears_somebody in [true, false] {
        let mut world = World::new();
        let edges: &[(&str, &str)] = if hears_somebody { &[("a", "b")] } else { &[] };
        let graph = Graph::of(
            vec![Party::new("a", 0), Party::new("b", 1).with_formats(vec![pcmu()])],
            edges,
        );
        world.commit(SESSION, &graph);
        let mut a = Keypad::pcmu(0);
        a.talk(&mut world, 300);
        let digit = |event, volume| SendDigit {
            event: Some(event),
            duration_ms: 120,
            gap_ms: 80,
            volume,
        };
        let digits = [digit(1, 20), digit(11, 20), digit(16, 20), digit(1, 20)];
        world.command(Command::SendDigits(SESSION, "b".into(), digits.into()));
        a.talk(&mut world, 1_400);
        let sent = world.sent_rtp();
        is_unbroken(&sent, 1);
        let ear = heard(&sent, 1);
        assert_eq!(tones_in(&ear.pcm), "1#1");
        let (level, wanted) = (loudest_tone(&ear.pcm), codecs::level::amplitude_of_dbm0(-19.0));
        assert!(
            (0.8..1.2).contains(&(level / wanted)),
            "{level:.0}, not {wanted:.0}"
        );
        if hears_somebody {
            ear.hears("b", &[VOICE_HZ, 697.0], &[(VOICE_HZ, 6_000.0)]);
        }
    }
}

/// Who is sent what it does not like best gets its tones so, and whole, whatever is edited meanwhile.
#[test]
fn an_edit_cuts_no_tone_that_we_send() {
    let mut world = World::new();
    let b = Party::new("b", 1).with_formats(vec![pcma(), pcmu()]);
    let mut graph = Graph::of(vec![Party::new("a", 0), b], &[("a", "b")]);
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    a.talk(&mut world, 300);
    let digits = [1, 2].map(|event| SendDigit {
        event: Some(event),
        duration_ms: 100,
        gap_ms: 80,
        volume: 20,
    });
    world.command(Command::SendDigits(SESSION, "b".into(), digits.into()));
    a.talk(&mut world, 20);
    graph.party("b").detect_talk = true;
    world.commit(SESSION, &graph);
    a.talk(&mut world, 600);
    let sent = world.sent_rtp();
    assert!(sent.iter().all(|sent| sent.header().payload_type.value() == 0));
    is_unbroken(&sent, 1);
    assert_eq!(tones_in(&heard(&sent, 1).pcm), "12");
}

//! Several digits at once: by number, by terminator, by time; a newer wish takes the place of the one before.

use media_engine::command::{CollectEnd, CollectWish, Command, EventKind, ReplyToken};

use crate::world::{Graph, SESSION, Speaker, World, peer, rtp_socket};

const WISH: CollectWish = CollectWish {
    digits_min: 0,
    digits_max: 4,
    terminators: 1 << 11,
    first_digit_ms: 3_000,
    inter_digit_ms: 1_000,
};

fn collect(world: &mut World, request: &str, wish: CollectWish) {
    world.command(Command::Collect {
        session: SESSION,
        node: "a".into(),
        request: request.into(),
        wish,
    });
}

/// a's peer presses a key for 40 ms.
fn press(world: &mut World, speaker: &mut Speaker, event: u8) {
    (speaker.payload_type, speaker.step) = (101, 0);
    for duration in [160, 320] {
        let end = if duration == 320 { 0x8a } else { 0x0a };
        let [high, low] = u16::to_be_bytes(duration);
        let packet = speaker.packet(&[event, end, high, low]);
        world.receive(rtp_socket(0), peer(0), &packet);
        world.pass_ms(20);
    }
    speaker.timestamp = speaker.timestamp.wrapping_add(1_600);
    world.pass_ms(100);
}

/// What was gathered since the last call.
fn collected(world: &mut World) -> Vec<(String, Vec<u8>, CollectEnd)> {
    let kinds = world.event_kinds().into_iter();
    kinds
        .filter_map(|kind| match kind {
            EventKind::DigitsCollected { request, digits, end } => {
                Some((request.to_string(), digits.events().to_vec(), end))
            }
            _ => None,
        })
        .collect()
}

fn result(request: &str, digits: &[u8], end: CollectEnd) -> Vec<(String, Vec<u8>, CollectEnd)> {
    vec![(request.into(), digits.into(), end)]
}

fn world() -> (World, Speaker) {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    (world, Speaker::new(0xA))
}

#[test]
fn as_many_as_wanted_or_up_to_a_terminator() {
    let (mut world, mut a) = world();
    collect(&mut world, "four", WISH);
    for event in [1, 2, 3] {
        press(&mut world, &mut a, event);
    }
    assert_eq!(collected(&mut world), []);
    press(&mut world, &mut a, 10);
    assert_eq!(
        collected(&mut world),
        result("four", &[1, 2, 3, 10], CollectEnd::Complete)
    );
    press(&mut world, &mut a, 5);
    assert_eq!(collected(&mut world), [], "it is over");

    // The first terminator comes too early and is passed over.
    let wish = CollectWish {
        digits_min: 2,
        ..WISH
    };
    collect(&mut world, "hash", wish);
    for event in [7, 11, 8, 11] {
        press(&mut world, &mut a, event);
    }
    assert_eq!(
        collected(&mut world),
        result("hash", &[7, 8], CollectEnd::Terminator)
    );
}

#[test]
fn time_runs_out_before_the_first_and_between_two() {
    let (mut world, mut a) = world();
    collect(&mut world, "none", WISH);
    world.pass_ms(2_900);
    assert_eq!(collected(&mut world), []);
    world.pass_ms(200);
    assert_eq!(collected(&mut world), result("none", &[], CollectEnd::Timeout));

    collect(&mut world, "one", WISH);
    press(&mut world, &mut a, 9);
    world.pass_ms(1_500);
    assert_eq!(collected(&mut world), result("one", &[9], CollectEnd::Timeout));

    // Enough is enough.
    let wish = CollectWish {
        digits_min: 1,
        ..WISH
    };
    collect(&mut world, "enough", wish);
    press(&mut world, &mut a, 9);
    world.pass_ms(1_500);
    assert_eq!(
        collected(&mut world),
        result("enough", &[9], CollectEnd::Complete)
    );
}

#[test]
fn a_newer_wish_and_the_end_of_the_endpoint_cancel() {
    let (mut world, mut a) = world();
    collect(&mut world, "first", WISH);
    press(&mut world, &mut a, 4);
    collect(&mut world, "second", WISH);
    assert_eq!(
        collected(&mut world),
        result("first", &[4], CollectEnd::Cancelled)
    );
    press(&mut world, &mut a, 6);
    world.command(Command::End(SESSION, ReplyToken(7)));
    assert_eq!(
        collected(&mut world),
        result("second", &[6], CollectEnd::Cancelled)
    );
}

/// RFC 4733 §2.5.1.5: short ones may come in one packet, each where the one before it ended.
#[test]
fn several_in_one_packet_are_all_gathered() {
    let (mut world, mut a) = world();
    let wish = CollectWish {
        digits_max: 3,
        ..WISH
    };
    collect(&mut world, "three", wish);
    (a.payload_type, a.step) = (101, 0);
    let keys = [4, 2, 7].map(|event| [event, 0x8a, 1, 0x40]);
    let packet = a.packet(keys.as_flattened());
    for _ in 0..3 {
        world.receive(rtp_socket(0), peer(0), &packet);
    }
    assert_eq!(
        collected(&mut world),
        result("three", &[4, 2, 7], CollectEnd::Complete)
    );
}

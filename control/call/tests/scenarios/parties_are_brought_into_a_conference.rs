use std::collections::BTreeSet;

use sip::{
    message::{HeaderName, StatusCode},
    stack::{StackConfig, UnknownDialogs},
};

use crate::{phone::Behaviour, world::World};

fn all(names: &[&'static str]) -> BTreeSet<(&'static str, &'static str)> {
    let pairs = names.iter().flat_map(|a| names.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}

fn join(world: &mut World, phone: usize) {
    world.call(phone, "room-7");
    world.run_ms(200);
    assert!(world.phones[phone].talks(), "{}", world.story());
}

fn refer(world: &mut World, phone: usize, to: &str) {
    let now = world.now;
    world.phones[phone].refer(now, to);
}

/// Alice and a customer of the queue talk, and dora is in the room.
fn talking() -> (World, usize, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (customer, dora) = (world.phone("customer"), world.phone("dora"));
    join(&mut world, dora);
    world.call(customer, "support");
    world.run_ms(2_000);
    assert!(
        world.heard().contains(&("customer", "alice")),
        "{}",
        world.story()
    );
    (world, alice, customer, dora)
}

/// RFC 4579 §5.1.
#[test]
fn whose_contact_says_that_it_is_one() {
    let (mut world, alice, customer, dora) = talking();
    let contact = |world: &World, phone: usize| {
        let response = world.phones[phone].last_response.as_ref().unwrap();
        let contact = response.headers.get(HeaderName::Contact).unwrap_or_default();
        String::from_utf8_lossy(contact).into_owned()
    };
    assert!(
        contact(&world, dora).ends_with(";isfocus"),
        "{}",
        contact(&world, dora)
    );
    assert!(!contact(&world, customer).contains("isfocus"), "only a room is");
    world.hang_up(alice);
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// The one who is brought makes an offer of its own just then.
#[test]
fn who_offers_anew_at_that_moment_too() {
    for slow in [false, true] {
        for after_ms in 0..24 {
            let (mut world, alice, customer, dora) = talking();
            refer(&mut world, alice, "sip:room-7@example.com");
            world.media.silent = slow;
            world.run_ms(after_ms);
            let now = world.now;
            world.phones[customer].try_reinvite(now, sdp::Direction::SendRecv);
            world.run_ms(200);
            world.media.silent = false;
            world.run_ms(10_000);
            let story = format!("after {after_ms} ms\n{}", world.story());
            assert!(world.phones[customer].talks(), "{story}");
            assert_eq!(world.heard(), all(&["customer", "dora"]), "{story}");
            assert!(!world.phones[customer].is_calling(), "{story}");
            world.hang_up(customer);
            world.hang_up(dora);
            world.assert_nothing_left();
        }
    }
}

/// Whenever the controller is killed meanwhile, who is brought is there, or with who brought it.
#[test]
fn also_when_the_controller_is_killed() {
    for (after_ms, slow) in (0..30).flat_map(|ms| [(ms, false), (ms, true)]) {
        let (mut world, alice, customer, dora) = talking();
        refer(&mut world, alice, "sip:room-7@example.com");
        world.run_ms(5);
        world.media.silent = slow;
        world.run_ms(after_ms);
        world.media.silent = false;
        world.restart();
        world.run_ms(60_000);
        let story = format!("killed after {after_ms} ms, slow: {slow}\n{}", world.story());
        let with = |other| world.heard().contains(&("customer", other));
        assert!(with("dora") || with("alice"), "{story}");
        for phone in [alice, customer, dora] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
                world.run_ms(200);
            }
        }
        world.assert_nothing_left();
    }
}

#[test]
fn by_who_talks_to_them() {
    let (mut world, alice, customer, dora) = talking();
    refer(&mut world, alice, "sip:room-7@example.com");
    world.run_ms(1_000);
    assert_eq!(world.heard(), all(&["customer", "dora"]), "{}", world.story());
    assert_eq!(
        world.phones[alice].notified,
        ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    );
    assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
    assert_eq!(world.count("server>customer INVITE"), 1, "moved, once");
    let detail = world.detail();
    assert!(detail.reason.contains("in room-7"), "{}", detail.reason);
    world.hang_up(customer);
    world.hang_up(dora);
    world.run_ms(500);
    let rooms = world.details().into_iter().filter(|detail| detail.room.is_some());
    assert_eq!(rooms.count(), 2);
    world.assert_nothing_left();
}

#[test]
fn unless_it_is_full_and_they_stay() {
    let mut config = crate::world::config();
    config.conferences.members_max = 1;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let (customer, dora) = (world.phone("customer"), world.phone("dora"));
    join(&mut world, dora);
    world.call(customer, "support");
    world.run_ms(2_000);
    refer(&mut world, alice, "sip:room-7@example.com");
    world.run_ms(1_000);
    assert_eq!(world.heard(), all(&["customer", "alice"]), "{}", world.story());
    assert_eq!(
        world.phones[alice].notified.last().unwrap(),
        "SIP/2.0 486 Busy Here"
    );
    world.hang_up(customer);
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// A member asks the room, which calls whom it names.
#[test]
fn by_a_member_who_asks_the_room() {
    let mut world = World::new();
    let (alice, bob) = (
        world.registered("alice", "wonder"),
        world.registered("bob", "builder"),
    );
    let dora = world.phone("dora");
    join(&mut world, dora);
    join(&mut world, alice);
    refer(&mut world, alice, "sip:bob@example.com");
    world.run_ms(3_000);
    assert_eq!(world.heard(), all(&["alice", "bob", "dora"]), "{}", world.story());
    assert_eq!(
        world.phones[alice].notified,
        ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    );
    assert!(world.phones[alice].talks(), "she stays");
    // Who asks is one of ours; whom it asks for need not come.
    refer(&mut world, dora, "sip:carol@example.com");
    world.hang_up(bob);
    world.run_ms(500);
    assert_eq!(
        world.phones[dora].notified,
        Vec::<String>::new(),
        "{}",
        world.story()
    );
    world.behave(bob, Behaviour::Refuse(StatusCode::BUSY_HERE));
    refer(&mut world, alice, "sip:bob@example.com");
    world.run_ms(1_000);
    assert_eq!(
        world.phones[alice].notified.last().unwrap(),
        "SIP/2.0 486 Busy Here",
        "{}",
        world.story()
    );
    refer(&mut world, alice, "sip:nobody@example.com");
    world.run_ms(1_000);
    assert_eq!(
        world.phones[alice].notified,
        ["SIP/2.0 404 Not Found"],
        "{}",
        world.story()
    );
    assert_eq!(world.heard(), all(&["alice", "dora"]), "{}", world.story());
    world.hang_up(alice);
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// Alice is in the room by her second line, and gives her place to the customer: either of her calls may be the one that
/// is asked.
#[test]
fn in_the_stead_of_who_asks() {
    for room_is_asked in [false, true] {
        let (mut world, alice, customer, dora) = talking();
        let line_two = world.phone("alice");
        world.phones[line_two].password = "wonder";
        join(&mut world, line_two);
        let (asks, named, at) = if room_is_asked {
            (line_two, alice, "customer")
        } else {
            (alice, line_two, "room-7")
        };
        let (escaped, _) = world.phones[named].replaces();
        refer(
            &mut world,
            asks,
            &format!("sip:{at}@example.com?Replaces={escaped}"),
        );
        world.run_ms(1_000);
        assert_eq!(
            world.heard(),
            all(&["customer", "dora"]),
            "{room_is_asked}\n{}",
            world.story()
        );
        for line in [alice, line_two] {
            assert!(world.phones[line].dialog.is_none(), "{}", world.story());
        }
        assert_eq!(world.phones[asks].notified.last().unwrap(), "SIP/2.0 200 OK");
        world.hang_up(customer);
        world.hang_up(dora);
        world.run_ms(500);
        assert_eq!(world.details().len(), 4, "{}", world.story());
        world.assert_nothing_left();
    }
}

/// Of a phone that keeps the dialog which its REFER makes.
fn asks(config: &mut StackConfig) {
    config.unknown_dialogs = UnknownDialogs::Ask;
}

/// A phone with a registration or without, that is in no room.
fn at_a_desk(world: &mut World, name: &'static str, password: &'static str) -> usize {
    let phone = world.phone_with(name, asks);
    let now = world.now;
    world.phones[phone].register(now, password, 300);
    world.run_ms(100);
    phone
}

/// Its answer, after a second.
fn refer_room(world: &mut World, phone: usize, room: &str, to: &str) -> u16 {
    let now = world.now;
    world.phones[phone].refer_room(now, room, to, |_| {});
    world.run_ms(1_000);
    let answer = world.phones[phone].outside.1.as_ref();
    answer
        .unwrap_or_else(|| panic!("{}", world.story()))
        .status
        .code()
}

/// RFC 4579 §5.2: the room need not be called first, and need not be there.
#[test]
fn by_who_asks_a_room_from_outside() {
    let mut world = World::new();
    let alice = at_a_desk(&mut world, "alice", "wonder");
    let (bob, carol) = (
        world.registered("bob", "builder"),
        world.registered("carol", "singer"),
    );
    world.behave(bob, Behaviour::Answer(500));
    assert_eq!(
        refer_room(&mut world, alice, "room-7", "sip:bob@example.com"),
        202
    );
    let accepted = world.phones[alice].outside.1.clone().unwrap();
    let contact = accepted.headers.get(HeaderName::Contact).unwrap_or_default();
    assert!(contact.ends_with(b";isfocus"), "RFC 4579 §5.1");
    assert_eq!(
        refer_room(&mut world, alice, "room-7", "sip:carol@example.com"),
        202
    );
    world.run_ms(3_000);
    assert_eq!(world.heard(), all(&["bob", "carol"]), "{}", world.story());
    assert_eq!(
        world.phones[alice].notified,
        ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]
    );
    assert!(
        world.count("alice>server SIP/2.0 200") >= 4,
        "each NOTIFY is taken"
    );
    world.hang_up(bob);
    world.hang_up(carol);
    world.run_ms(500);
    let asked = world.details().into_iter().filter(|detail| {
        let reference = detail.origin.reference.as_deref();
        reference == Some("invited by sip:alice@example.com")
    });
    assert_eq!(asked.count(), 2, "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn and_how_it_went_is_told_to_who_wants_to_know() {
    let mut world = World::new();
    let alice = at_a_desk(&mut world, "alice", "wonder");
    let bob = world.registered("bob", "builder");
    world.behave(bob, Behaviour::Refuse(StatusCode::BUSY_HERE));
    assert_eq!(
        refer_room(&mut world, alice, "room-7", "sip:bob@example.com"),
        202
    );
    assert_eq!(
        world.phones[alice].notified,
        ["SIP/2.0 100 Trying", "SIP/2.0 486 Busy Here"]
    );
    // RFC 4488.
    let now = world.now;
    world.phones[alice].refer_room(now, "room-7", "sip:bob@example.com", |request| {
        request.headers.push(HeaderName::ReferSub, "false").unwrap();
    });
    world.run_ms(1_000);
    let answer = world.phones[alice].outside.1.clone().unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(
        answer.headers.get(HeaderName::ReferSub),
        Some(&b"false"[..]),
        "{}",
        world.story()
    );
    assert_eq!(world.phones[alice].notified, Vec::<String>::new());
    assert_eq!(world.phones[bob].rung, 2);
    world.assert_nothing_left();
}

#[test]
fn unless_who_asks_may_not_or_nobody_is_there() {
    let mut config = crate::world::config();
    config.conferences.pins.insert("room-8".into(), "1234".into());
    let mut world = World::with(config);
    let alice = at_a_desk(&mut world, "alice", "wonder");
    let (bob, mallory) = (
        world.registered("bob", "builder"),
        world.phone_with("mallory", asks),
    );
    let imposter = world.phone_with("carol", asks);
    let dora = world.phone("dora");
    join(&mut world, dora);
    for (phone, room, to, status) in [
        (mallory, "room-7", "sip:bob@example.com", 403),
        (mallory, "room-7", "sip:dora@example.com;method=BYE", 403),
        (imposter, "room-7", "sip:bob@example.com", 401),
        // Its PIN says who may be there.
        (alice, "room-8", "sip:bob@example.com", 403),
        // She is not there herself.
        (alice, "room-7", "sip:dora@example.com;method=BYE", 403),
        (alice, "room-7", "sip:zoe@example.com;method=BYE", 404),
        (alice, "room-9", "sip:dora@example.com;method=BYE", 404),
        (alice, "room-7", "sip:bob@example.com;method=SUBSCRIBE", 501),
        (alice, "room-7", "sip:nobody@example.com", 404),
        (alice, "room-7", "sip:support@example.com", 403),
        (alice, "support", "sip:bob@example.com", 405),
        (alice, "nobody", "sip:bob@example.com", 404),
    ] {
        let answer = refer_room(&mut world, phone, room, to);
        assert_eq!(answer, status, "{room} {to}\n{}", world.story());
        assert_eq!(world.phones[phone].notified, Vec::<String>::new(), "{room} {to}");
    }
    assert_eq!(world.phones[bob].rung, 0);
    assert!(world.phones[dora].talks());
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// RFC 4579 §5.11: by a member in its call with the room, by one who asks from outside, and each by its address.
#[test]
fn and_are_removed_again() {
    for from_outside in [false, true] {
        let mut world = World::new();
        let alice = at_a_desk(&mut world, "alice", "wonder");
        let bob = world.registered("bob", "builder");
        let dora = world.phone("dora");
        for phone in [alice, bob, dora] {
            join(&mut world, phone);
        }
        let remove = |world: &mut World, whom: &str| {
            let whom = format!("sip:{whom};method=BYE");
            if from_outside {
                assert_eq!(
                    refer_room(world, alice, "room-7", &whom),
                    202,
                    "{}",
                    world.story()
                );
            } else {
                refer(world, alice, &whom);
                world.run_ms(1_000);
            }
            assert_eq!(
                world.phones[alice].notified,
                ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"],
                "{}",
                world.story()
            );
        };
        remove(&mut world, "bob@example.com");
        assert_eq!(world.heard(), all(&["alice", "dora"]), "{}", world.story());
        assert!(world.phones[bob].dialog.is_none());
        // One of no account, by where it is reached.
        let at = world.phones[dora].address;
        remove(&mut world, &format!("{at}"));
        assert!(world.phones[dora].dialog.is_none(), "{}", world.story());
        // And herself.
        remove(&mut world, "alice@example.com");
        assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
        let details = world.details();
        assert_eq!(details.len(), 3);
        let reason = "sip:alice@example.com had it removed from room-7";
        assert!(
            details.iter().all(|detail| detail.reason == reason),
            "{details:#?}"
        );
        world.assert_nothing_left();
    }
}

/// In a call of two there is nobody to remove, and whom its REFER names is not called by accident.
#[test]
fn but_from_no_call_of_two() {
    let (mut world, alice, customer, dora) = talking();
    world.registered("bob", "builder");
    refer(&mut world, alice, "sip:bob@example.com;method=BYE");
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].notified, ["SIP/2.0 501 Not Implemented"]);
    assert!(
        world.heard().contains(&("customer", "alice")),
        "{}",
        world.story()
    );
    world.hang_up(customer);
    world.hang_up(dora);
    world.assert_nothing_left();
}

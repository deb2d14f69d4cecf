use std::collections::BTreeSet;

use sip::message::{HeaderName, StatusCode};

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

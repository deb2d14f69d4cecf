use std::collections::BTreeSet;

use sdp::Direction;

use crate::world::{World, config};

/// The other hears our music, not what the holder's phone sends.
#[test]
fn and_the_other_hears_music() {
    for holder in ["customer", "alice"] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(2_000);
        let (phone, other) = match holder {
            "alice" => (alice, customer),
            _ => (customer, alice),
        };
        for direction in [Direction::SendOnly, Direction::Inactive] {
            let now = world.now;
            world.phones[phone].reinvite(now, direction);
            world.run_ms(200);
            assert_eq!(world.heard(), BTreeSet::new(), "{}", world.story());
            assert_eq!(world.played_to(other), ["tone:melody"], "{}", world.story());
            assert!(world.played_to(phone).is_empty(), "{}", world.story());
        }
        assert_eq!(
            world.count(&format!("server>{} INVITE", world.phones[other].name)),
            usize::from(holder == "customer"),
            "the held party is not asked"
        );
        let now = world.now;
        world.phones[other].reinvite(now, Direction::SendOnly);
        world.run_ms(200);
        assert!(world.played_to(other).is_empty(), "both hold: nobody listens");
        let now = world.now;
        world.phones[other].reinvite(now, Direction::SendRecv);
        world.run_ms(200);
        let now = world.now;
        world.phones[phone].reinvite(now, Direction::SendRecv);
        world.run_ms(200);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        assert!(world.played_to(other).is_empty(), "{}", world.story());
        let session = world.media.sessions.values().next().unwrap();
        assert_eq!(session.nodes.len(), 2, "the player is gone");
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

#[test]
fn until_it_comes_back() {
    for holder in ["customer", "alice"] {
        let mut with_own_music = config();
        with_own_music.music.on_hold = false;
        let mut world = World::with(with_own_music);
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(2_000);
        let phone = if holder == "alice" { alice } else { customer };
        let other = if holder == "alice" { "customer" } else { "alice" };
        let now = world.now;
        world.phones[phone].reinvite(now, Direction::SendOnly);
        world.run_ms(200);
        let story = world.story();
        assert_eq!(world.phones[phone].statuses.last(), Some(&200), "{story}");
        assert_eq!(
            world.heard(),
            BTreeSet::from([(holder, other)]),
            "the holder's music is heard\n{story}"
        );
        let now = world.now;
        world.phones[phone].reinvite(now, Direction::Inactive);
        world.run_ms(200);
        assert_eq!(world.heard(), BTreeSet::new(), "{}", world.story());
        let now = world.now;
        world.phones[phone].reinvite(now, Direction::SendRecv);
        world.run_ms(200);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

#[test]
fn what_the_other_cannot_speak_is_refused_and_the_call_goes_on() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    world.phones[customer].codecs = vec![sdp::Codec::g722()];
    let now = world.now;
    world.phones[customer].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    assert_eq!(
        world.phones[customer].statuses.last(),
        Some(&488),
        "{}",
        world.story()
    );
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// RFC 3311: an offer in an UPDATE is as good as one in a re-INVITE, in a call and in a room.
#[test]
fn by_update_too() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    let change = |world: &mut World, phone: usize, direction| {
        let now = world.now;
        world.phones[phone].update(now, direction);
        world.run_ms(200);
        assert_eq!(world.phones[phone].statuses, [200], "{}", world.story());
    };
    for holder in [alice, customer] {
        let other = if holder == alice { customer } else { alice };
        change(&mut world, holder, Direction::SendOnly);
        assert_eq!(world.heard(), BTreeSet::new(), "{}", world.story());
        assert_eq!(world.played_to(other), ["tone:melody"], "{}", world.story());
        change(&mut world, holder, Direction::SendRecv);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        assert!(world.played_to(other).is_empty(), "{}", world.story());
    }
    assert_eq!(world.count("server>customer INVITE"), 0, "nobody is asked");
    world.hang_up(customer);
    world.run_ms(10_000);

    let members = ["dora", "emil", "fred"].map(|name| {
        let phone = world.phone(name);
        world.call(phone, "room-7");
        world.run_ms(200);
        phone
    });
    assert_eq!(world.heard().len(), 6, "{}", world.story());
    change(&mut world, members[0], Direction::Inactive);
    assert_eq!(
        world.heard(),
        BTreeSet::from([("emil", "fred"), ("fred", "emil")]),
        "{}",
        world.story()
    );
    change(&mut world, members[0], Direction::SendRecv);
    assert_eq!(world.heard().len(), 6, "{}", world.story());
    for member in members {
        world.hang_up(member);
    }
    world.assert_nothing_left();
}

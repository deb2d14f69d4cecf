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

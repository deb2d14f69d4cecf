use std::collections::BTreeSet;

use sdp::Direction;

use crate::world::World;

fn both(a: &'static str, b: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    BTreeSet::from([(a, b), (b, a)])
}

/// The media host is lost and its ports with it, so both parties are told by re-INVITE; one of them holds at the same
/// moment. RFC 3261 §14.1: each refuses the other's with 491, and both are made again, ours not in the same moment.
#[test]
fn when_a_party_holds_while_it_is_told_where_to_send() {
    let mut crossed = 0;
    for after_ms in 0..24 {
        for holder in ["customer", "alice"] {
            let mut world = World::new();
            let alice = world.registered("alice", "wonder");
            let customer = world.phone("customer");
            world.call(customer, "support");
            world.run_ms(2_000);
            let phone = if holder == "alice" { alice } else { customer };
            world.lose_media_host();
            world.run_ms(100);
            world.restart_media_host(false);
            // Its calls are placed again 400 ms later.
            world.run_ms(392 + after_ms);
            let now = world.now;
            world.phones[phone].try_reinvite(now, Direction::SendOnly);
            world.run_ms(10_000);
            let story = world.story();
            crossed += world.count("SIP/2.0 491");
            assert_eq!(
                world.heard(),
                BTreeSet::new(),
                "{holder} holds, after {after_ms} ms\n{story}"
            );
            let other = if holder == "alice" { customer } else { alice };
            assert_eq!(
                world.played_to(other),
                ["tone:melody"],
                "after {after_ms} ms\n{story}"
            );
            let now = world.now;
            world.phones[phone].try_reinvite(now, Direction::SendRecv);
            world.run_ms(500);
            let story = world.story();
            assert_eq!(
                world.heard(),
                both("customer", "alice"),
                "after {after_ms} ms\n{story}"
            );
            world.hang_up(customer);
            world.assert_nothing_left();
        }
    }
    assert!(crossed >= 4, "they never crossed: {crossed}");
}

/// The party that is to be moved to another call holds just then: it is asked again, and the transfer succeeds.
#[test]
fn when_a_party_offers_while_it_is_moved() {
    let mut crossed = 0;
    for after_ms in 0..24 {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let carol = world.registered("carol", "singer");
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(2_000);
        // Alice asks carol from her other line, and brings the two together.
        let line = world.registered("alice", "wonder");
        world.call(line, "carol");
        world.run_ms(2_000);
        assert!(
            world.phones[line].talks() && world.phones[carol].talks(),
            "{}",
            world.story()
        );
        let (replaces, _) = world.phones[line].replaces();
        let now = world.now;
        world.phones[alice].refer(now, &format!("sip:carol@example.com?Replaces={replaces}"));
        world.run_ms(after_ms);
        let now = world.now;
        world.phones[carol].try_reinvite(now, Direction::SendRecv);
        world.run_ms(10_000);
        crossed += world.count("SIP/2.0 491");
        let story = world.story();
        assert_eq!(
            world.heard(),
            both("customer", "carol"),
            "after {after_ms} ms\n{story}"
        );
        world.hang_up(customer);
        world.assert_nothing_left();
    }
    assert!(crossed >= 2, "they never crossed: {crossed}");
}

use std::collections::BTreeSet;

use call_control::journal::EndedBy;
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// The customer calls alice, whose phone rings; carol's is free.
fn ringing() -> (World, usize, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(alice, Behaviour::Ring);
    world.call(customer, "alice");
    world.run_ms(500);
    assert_eq!(world.phones[customer].statuses, [180], "{}", world.story());
    (world, alice, carol, customer)
}

/// An INVITE that names the dialog in which `of` rings or talks.
fn pick_up(world: &mut World, phone: usize, of: usize, more: &str) {
    let (_, replaces) = world.phones[of].replaces();
    let now = world.now;
    let value = format!("{replaces}{more}");
    world.phones[phone].call_with(now, "alice", true, |request| {
        request.headers.push(HeaderName::Replaces, &value).unwrap();
    });
}

#[test]
fn by_a_colleague_and_the_phone_stops_ringing() {
    for more in ["", ";early-only"] {
        let (mut world, alice, carol, customer) = ringing();
        pick_up(&mut world, carol, alice, more);
        world.run_ms(500);
        let story = world.story();
        let heard = BTreeSet::from([("customer", "carol"), ("carol", "customer")]);
        assert_eq!(world.heard(), heard, "{story}");
        assert_eq!(world.phones[carol].statuses, [200], "{story}");
        assert_eq!(world.phones[customer].statuses, [180, 200], "{story}");
        assert_eq!(world.phones[alice].cancelled.len(), 1, "{story}");
        assert!(world.phones[alice].cancelled[0].contains("completed elsewhere"));
        world.hang_up(customer);
        world.run_ms(200);
        assert!(world.phones[carol].dialog.is_none(), "{}", world.story());
        let detail = world.detail();
        assert_eq!(
            (detail.answered_by.as_deref(), &detail.rung[..]),
            (Some("carol"), &["alice".to_owned()][..])
        );
        assert_eq!(detail.legs.len(), 2);
        world.assert_nothing_left();
    }
}

/// While it is being joined, everything may still happen.
#[test]
fn or_not_when_somebody_is_faster() {
    for (who, after_ms) in [
        (0, 6),
        (0, 7),
        (0, 12),
        (1, 6),
        (1, 7),
        (1, 8),
        (1, 12),
        (2, 6),
        (2, 7),
        (2, 12),
    ] {
        let (mut world, alice, carol, customer) = ringing();
        world.behave(alice, Behaviour::Ring);
        pick_up(&mut world, carol, alice, "");
        world.run_ms(after_ms);
        let now = world.now;
        match who {
            0 if world.phones[customer].is_calling() => world.phones[customer].cancel(now),
            1 if world.phones[carol].is_calling() => world.phones[carol].cancel(now),
            2 => world.media.fail = Some("out of ports"),
            _ => {}
        }
        world.run_ms(2_000);
        world.media.fail = None;
        for phone in [carol, customer] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
            }
        }
        // Who gave up or found no room took nothing with it.
        if world.phones[customer].is_calling() {
            let now = world.now;
            world.phones[customer].cancel(now);
        }
        world.run_ms(500);
        assert_eq!(world.details().len(), 1, "{}", world.story());
        world.assert_nothing_left();
    }
}

#[test]
fn by_who_changes_its_mind_and_the_phone_rings_on() {
    let (mut world, alice, carol, customer) = ringing();
    world.media.silent = true;
    pick_up(&mut world, carol, alice, "");
    world.run_ms(300);
    let now = world.now;
    world.phones[carol].cancel(now);
    world.run_ms(300);
    world.media.silent = false;
    assert_eq!(world.phones[carol].statuses, [487], "{}", world.story());
    world.run_ms(10_000);
    assert_eq!(world.phones[customer].statuses, [180], "{}", world.story());
    assert!(world.phones[alice].cancelled.is_empty(), "{}", world.story());
    // Another time it is meant.
    pick_up(&mut world, carol, alice, "");
    world.run_ms(500);
    let heard = BTreeSet::from([("customer", "carol"), ("carol", "customer")]);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    let detail = world.detail();
    assert_eq!((detail.ended_by, detail.status), (EndedBy::Caller, 200));
    world.assert_nothing_left();
}

#[test]
fn and_goes_on_without_whom_the_media_host_has_no_room_for() {
    let (mut world, alice, carol, customer) = ringing();
    world.media.fail = Some("out of ports");
    pick_up(&mut world, carol, alice, "");
    world.run_ms(500);
    world.media.fail = None;
    assert_eq!(world.phones[carol].statuses, [503], "{}", world.story());
    assert_eq!(world.phones[customer].statuses, [180], "{}", world.story());
    assert!(world.phones[alice].cancelled.is_empty(), "{}", world.story());
    let now = world.now;
    world.phones[customer].cancel(now);
    world.run_ms(500);
    assert_eq!(world.phones[alice].cancelled.len(), 1, "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn unless_the_phone_answers_first() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(alice, Behaviour::Answer(500));
    world.call(customer, "alice");
    world.run_ms(400);
    world.media.silent = true;
    pick_up(&mut world, carol, alice, "");
    world.run_ms(300);
    world.media.silent = false;
    world.run_ms(10_000);
    assert_eq!(world.phones[carol].statuses, [481], "{}", world.story());
    let heard = BTreeSet::from([("customer", "alice"), ("alice", "customer")]);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn but_not_by_strangers_nor_out_of_a_queue() {
    let (mut world, alice, carol, customer) = ringing();
    let stranger = world.phone("stranger");
    pick_up(&mut world, stranger, alice, "");
    world.run_ms(300);
    assert_eq!(world.phones[stranger].statuses, [403], "{}", world.story());
    // RFC 3891 §3: an early dialog that the other side began, such as the caller's, is nobody's to take.
    let (early, _) = (world.phones[customer].early, ());
    world.phones[customer].dialog = early;
    pick_up(&mut world, carol, customer, "");
    world.run_ms(300);
    assert_eq!(world.phones[carol].statuses, [481], "{}", world.story());
    world.phones[customer].dialog = None;
    let now = world.now;
    world.phones[customer].cancel(now);
    world.run_ms(500);
    // The queue decides who serves.
    world.call(customer, "support");
    world.run_ms(500);
    pick_up(&mut world, carol, alice, "");
    world.run_ms(300);
    assert_eq!(world.phones[carol].statuses, [403], "{}", world.story());
    let now = world.now;
    world.phones[customer].cancel(now);
    world.assert_nothing_left();
}

#[test]
fn with_the_codec_and_keys_of_who_picks_up() {
    let mut config = config();
    config.media.srtp_keys_in_clear = true;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(alice, Behaviour::Early(60_000));
    world.phones[carol].codecs = vec![sdp::Codec::pcma()];
    world.phones[carol].suites = vec![sdp::CryptoSuite::AeadAes128Gcm];
    world.phones[carol].insists = true;
    world.call(customer, "alice");
    world.run_ms(500);
    assert!(
        world.heard().contains(&("alice", "customer")),
        "{}",
        world.story()
    );
    pick_up(&mut world, carol, alice, "");
    world.run_ms(500);
    let heard = BTreeSet::from([("customer", "carol"), ("carol", "customer")]);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.phones[alice].behaviour = Behaviour::Refuse(StatusCode::BUSY_HERE);
    world.hang_up(carol);
    world.run_ms(200);
    let codecs: Vec<_> = world.detail().legs.iter().map(|leg| leg.codec.clone()).collect();
    assert_eq!(codecs, ["PCMU", "PCMA"]);
    world.assert_nothing_left();
}

/// The first party is to be the caller of what comes: nobody else takes that place.
#[test]
fn but_not_one_that_a_machine_asked_for() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    let carol = world.registered("carol", "singer");
    world.originate("alice", "bob", "");
    world.run_ms(500);
    assert_eq!(world.phones[alice].rung, 1, "{}", world.story());
    pick_up(&mut world, carol, alice, "");
    world.run_ms(500);
    assert_eq!(world.phones[carol].statuses, [403], "{}", world.story());
    assert!(world.phones[alice].cancelled.is_empty(), "{}", world.story());
    world.run_ms(4_000);
    let heard = BTreeSet::from([("alice", "bob"), ("bob", "alice")]);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.hang_up(bob);
    world.run_ms(200);
    world.assert_nothing_left();
}

/// Whoever has picked it up, whose place another phone takes by itself then.
#[test]
fn and_is_passed_on_by_an_invite_with_replaces() {
    for replaced in ["caller", "callee", "cancelled"] {
        let (mut world, alice, carol, customer) = ringing();
        pick_up(&mut world, carol, alice, "");
        world.run_ms(500);
        let bob = world.registered("bob", "builder");
        let (of, stays) = match replaced {
            "caller" => (customer, "carol"),
            _ => (carol, "customer"),
        };
        if replaced == "cancelled" {
            world.media.silent = true;
        }
        pick_up(&mut world, bob, of, "");
        if replaced == "cancelled" {
            world.run_ms(100);
            let now = world.now;
            world.phones[bob].cancel(now);
            world.run_ms(500);
            world.media.silent = false;
        }
        world.run_ms(12_000);
        let heard = match replaced {
            "cancelled" => BTreeSet::from([("customer", "carol"), ("carol", "customer")]),
            _ => BTreeSet::from([("bob", stays), (stays, "bob")]),
        };
        assert_eq!(world.heard(), heard, "{replaced}\n{}", world.story());
        let last = if replaced == "caller" { carol } else { customer };
        world.hang_up(last);
        world.run_ms(200);
        assert_eq!(
            world.detail().legs.len(),
            if replaced == "cancelled" { 2 } else { 3 }
        );
        world.assert_nothing_left();
    }
}

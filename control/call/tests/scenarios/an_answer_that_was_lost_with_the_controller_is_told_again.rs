//! The controller is killed when it has recorded its 200, and that never arrives. A caller that had a provisional answer
//! repeats nothing; one that had none repeats its INVITE, and is no second caller for that.

use std::collections::BTreeSet;

use call_control::{Config, Srtp};
use sdp::CryptoSuite;

use crate::world::{World, config};

const TO_CUSTOMER: &str = "server>customer SIP/2.0 200";

fn both(a: &'static str, b: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    BTreeSet::from([(a, b), (b, a)])
}

/// The customer calls. From the first provisional answer on, or (`is_deaf`) from the beginning, nothing reaches it until
/// the controller, which had answered, was killed.
fn killed_as_it_answers(world: &mut World, customer: usize, to: &str, with_offer: bool, is_deaf: bool) {
    let now = world.now;
    world.phones[customer].call(now, to, with_offer);
    for _ in 0..3_000 {
        let phone = &mut world.phones[customer];
        phone.dead = is_deaf || !phone.statuses.is_empty();
        if world.count(TO_CUSTOMER) > 0 {
            break;
        }
        world.run_ms(1);
    }
    assert_eq!(world.count(TO_CUSTOMER), 1, "{}", world.story());
    world.restart();
    // What was on its way is lost as well.
    world.run_ms(10);
    world.phones[customer].dead = false;
}

/// The call stands, once, and its end is told so.
fn is_one_call(world: &mut World, customer: usize) {
    world.hang_up(customer);
    world.run_ms(200);
    for phone in 0..world.phones.len() {
        if world.phones[phone].dialog.is_some() {
            world.hang_up(phone);
        }
    }
    world.run_ms(200);
    let mut details = world.details();
    details.retain(|detail| detail.from.contains("customer"));
    let ends: Vec<_> = details
        .iter()
        .map(|detail| (detail.status, detail.reason.as_str()))
        .collect();
    assert_eq!(ends, [(200, "the caller hung up")], "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn to_a_member_of_a_conference() {
    for (with_offer, is_deaf) in [(true, true), (false, true)] {
        let mut world = World::new();
        let friend = world.phone("friend");
        world.call(friend, "room-7");
        world.run_ms(200);
        let customer = world.phone("customer");
        killed_as_it_answers(&mut world, customer, "room-7", with_offer, is_deaf);
        world.run_ms(3_000);
        assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
        assert_eq!(world.heard(), both("friend", "customer"), "{}", world.story());
        let live = world.controller.live(world.clocks());
        assert_eq!(live.conferences[0].members.len(), 2, "{}", world.story());
        world.run_ms(60_000);
        assert_eq!(world.heard(), both("friend", "customer"), "{}", world.story());
        is_one_call(&mut world, customer);
    }
}

#[test]
fn to_the_caller_of_a_user() {
    for (with_offer, is_deaf) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        killed_as_it_answers(&mut world, customer, "alice", with_offer, is_deaf);
        world.run_ms(3_000);
        talks_to_alice(&world, customer);
        assert_eq!(world.phones[alice].rung, 1, "{}", world.story());
        world.run_ms(60_000);
        assert_eq!(world.heard(), both("alice", "customer"), "{}", world.story());
        is_one_call(&mut world, customer);
    }
}

#[test]
fn to_who_waits() {
    for with_offer in [true, false] {
        let mut config = config();
        config.calls.answer_before_music = true;
        let mut world = World::with(config);
        let customer = world.phone("customer");
        killed_as_it_answers(&mut world, customer, "support", with_offer, true);
        world.run_ms(3_000);
        assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
        assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
        world.registered("alice", "wonder");
        world.run_ms(3_000);
        assert_eq!(world.heard(), both("alice", "customer"), "{}", world.story());
        is_one_call(&mut world, customer);
    }
}

/// The same, of audio that has to be encrypted, to alice or to a room in which she is.
fn killed_as_it_answers_with_keys(to: &str, with_offer: bool, is_deaf: bool) -> (World, usize) {
    let mut world = World::with(encrypted());
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    insist(&mut world, [alice, customer]);
    if to == "room-7" {
        world.call(alice, to);
        world.run_ms(200);
    }
    killed_as_it_answers(&mut world, customer, to, with_offer, is_deaf);
    (world, customer)
}

fn encrypted() -> Config {
    let mut config = config();
    config.media.srtp = Srtp::Required;
    config.media.srtp_keys_in_clear = true;
    config
}

/// These phones offer SRTP, and nothing else.
fn insist(world: &mut World, phones: [usize; 2]) {
    for phone in phones {
        world.phones[phone].suites = vec![CryptoSuite::AesCm128HmacSha1_80];
        world.phones[phone].insists = true;
    }
}

/// It was answered, and talks to alice.
fn talks_to_alice(world: &World, customer: usize) {
    assert_eq!(
        world.phones[customer].statuses.last(),
        Some(&200),
        "{}",
        world.story()
    );
    assert_eq!(world.heard(), both("alice", "customer"), "{}", world.story());
}

/// The answer cannot be told again before the media host has told our keys, and who had none repeats its INVITE meanwhile.
#[test]
fn to_who_repeats_its_invite_while_the_keys_are_away() {
    for (to, with_offer) in [
        ("alice", true),
        ("alice", false),
        ("room-7", true),
        ("room-7", false),
    ] {
        let (mut world, customer) = killed_as_it_answers_with_keys(to, with_offer, true);
        world.restart_alone();
        world.run_ms(2_000);
        world.host_is_up("m1");
        world.run_ms(3_000);
        talks_to_alice(&world, customer);
        is_one_call(&mut world, customer);
    }
}

/// Our keys are at the media host only, which tells them again: in our answer, or in our offer to who made none.
#[test]
fn with_the_keys_that_were_in_it() {
    for (to, with_offer) in [
        ("alice", true),
        ("room-7", true),
        ("alice", false),
        ("room-7", false),
    ] {
        let (mut world, customer) = killed_as_it_answers_with_keys(to, with_offer, to == "room-7");
        world.run_ms(3_000);
        talks_to_alice(&world, customer);
        is_one_call(&mut world, customer);
    }
}

/// Its ACK is what was lost: told again, it hears of no other key.
#[test]
fn and_who_heard_it_talks_on_under_the_same_keys() {
    let mut world = World::with(encrypted());
    let friend = world.phone("friend");
    let customer = world.phone("customer");
    insist(&mut world, [friend, customer]);
    world.call(friend, "room-7");
    world.run_ms(200);
    world.swallow.push(("ACK", usize::MAX));
    let now = world.now;
    world.phones[customer].call(now, "room-7", false);
    world.run_ms(1_000);
    let keys = world.phones[customer].ciphers();
    assert!(keys.0.is_some() && keys.1.is_some(), "{}", world.story());
    world.restart();
    world.swallow.clear();
    world.run_ms(3_000);
    assert_eq!(world.phones[customer].ciphers(), keys, "{}", world.story());
    assert_eq!(world.heard(), both("friend", "customer"), "{}", world.story());
    is_one_call(&mut world, customer);
}

/// Who has acknowledged is asked whether it is there, and not answered again.
#[test]
fn and_not_to_who_has_it() {
    for to in ["alice", "room-7", "support"] {
        let mut world = World::new();
        world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, to);
        world.run_ms(3_000);
        assert_eq!(world.count(TO_CUSTOMER), 1, "{}", world.story());
        world.restart();
        world.run_ms(3_000);
        assert_eq!(world.count(TO_CUSTOMER), 1, "{}", world.story());
        assert!(world.count("server>customer OPTIONS") > 0, "{}", world.story());
        is_one_call(&mut world, customer);
    }
}

/// The end of the journal is lost with the controller: that the answer was acknowledged, and the call over. The phone
/// acknowledges what it is told again, as it does when its ACK was lost.
#[test]
fn and_who_has_left_since_is_let_go() {
    for to in ["room-7", "support"] {
        let mut config = config();
        config.calls.answer_before_music = true;
        let mut world = World::with(config);
        let customer = world.phone("customer");
        world.call(customer, to);
        while world.count(TO_CUSTOMER) == 0 {
            world.run_ms(1);
        }
        let kept = world.records.len();
        world.run_ms(20);
        let live = world.controller.live(world.clocks());
        let waiting = live.calls.iter().map(|call| &call.call);
        let members = live.conferences.iter().flat_map(|room| &room.members);
        let call = waiting.chain(members.map(|member| &member.call)).next().unwrap();
        assert!(world.end(call), "{}", world.story());
        world.run_ms(20);
        assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
        world.restart_from(kept);
        world.run_ms(60_000);
        assert_eq!(world.count("customer>server ACK"), 2, "{}", world.story());
        assert_eq!(world.controller.counters().calls, 0, "{}", world.story());
        world.assert_nothing_left();
    }
}

use std::collections::BTreeSet;

use sip::message::StatusCode;

use crate::{phone::Behaviour, world::World};

#[test]
fn and_the_first_to_answer_has_the_call() {
    let mut world = World::new();
    let desk = world.registered("carol", "singer");
    let mobile = world.registered("carol", "singer");
    let alice = world.registered("alice", "wonder");
    world.behave(desk, Behaviour::Answer(3_000));
    world.behave(mobile, Behaviour::Answer(2_000));
    world.call(alice, "carol");
    world.run_ms(1_000);
    assert_eq!(
        (world.phones[desk].rung, world.phones[mobile].rung),
        (1, 1),
        "{}",
        world.story()
    );
    assert_eq!(world.phones[alice].statuses, [180]);
    let commands = world.controller.counters().media_commands;
    assert_eq!(commands, 1, "one makes room for the caller and for all devices");
    world.run_ms(2_000);
    let story = world.story();
    assert_eq!(world.phones[alice].statuses, [180, 200], "{story}");
    assert_eq!(
        world.phones[desk].cancelled,
        ["SIP;cause=200;text=\"Call completed elsewhere\""]
    );
    assert!(world.phones[mobile].dialog.is_some());
    assert_eq!(
        world.heard(),
        BTreeSet::from([("alice", "carol"), ("carol", "alice")])
    );
    world.hang_up(alice);
    world.run_ms(200);
    assert!(world.phones[mobile].dialog.is_none());
    assert_eq!(
        (world.detail().rung, world.detail().queue),
        (vec!["carol".to_owned()], None)
    );
    world.assert_nothing_left();
}

#[test]
fn one_that_declines_for_the_person_stops_the_others() {
    let mut world = World::new();
    let desk = world.registered("carol", "singer");
    let mobile = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(desk, Behaviour::Ring);
    world.behave(mobile, Behaviour::Refuse(StatusCode::DECLINE));
    world.call(customer, "carol");
    world.run_ms(500);
    assert_eq!(world.phones[customer].statuses, [180, 603], "{}", world.story());
    assert_eq!(world.phones[desk].cancelled.len(), 1);
    world.assert_nothing_left();
}

#[test]
fn one_that_is_busy_does_not() {
    let mut world = World::new();
    let desk = world.registered("carol", "singer");
    let mobile = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(desk, Behaviour::Answer(1_000));
    world.behave(mobile, Behaviour::Refuse(StatusCode::BUSY_HERE));
    world.call(customer, "carol");
    world.run_ms(2_000);
    assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn two_answers_that_cross_leave_one_call() {
    let mut world = World::new();
    let desk = world.registered("carol", "singer");
    let mobile = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(desk, Behaviour::Answer(1_000));
    world.behave(mobile, Behaviour::Answer(1_000));
    world.call(customer, "carol");
    world.run_ms(3_000);
    let talking = [desk, mobile]
        .iter()
        .filter(|phone| world.phones[**phone].dialog.is_some())
        .count();
    assert_eq!(
        talking,
        1,
        "the loser is acknowledged and hung up\n{}",
        world.story()
    );
    assert_eq!(
        (world.count("server>carol ACK"), world.count("server>carol BYE")),
        (2, 1)
    );
    assert_eq!(world.heard().len(), 2);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn phones_that_nobody_answers_stop_after_a_while() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.behave(carol, Behaviour::Ring);
    world.call(customer, "carol");
    world.run_ms(61_000);
    assert_eq!(world.phones[customer].statuses, [180, 480], "{}", world.story());
    assert_eq!(world.phones[carol].cancelled.len(), 1);
    world.assert_nothing_left();
}

/// RFC 3261 §20.10: a desk phone (q 1), a mobile (q 0.5), and two at home (q 0.1).
fn preferred(desk: Behaviour) -> (World, usize, [usize; 4]) {
    let mut world = World::new();
    let mut devices = [0; 4];
    for (device, q) in devices.iter_mut().zip(["", ";q=0.5", ";q=0.1", ";q=0.1"]) {
        *device = world.phone("alice");
        let (now, at) = (world.now, world.phones[*device].address);
        let contact = format!("<sip:alice@{at}>;expires=300{q}");
        world.phones[*device].register_as(now, "wonder", &contact);
        world.run_ms(100);
        assert_eq!(world.phones[*device].registered, Some(200), "{}", world.story());
    }
    let answer = world.phones[devices[3]].registration.as_ref().unwrap();
    let contacts = answer.headers.contacts().unwrap();
    let told: Vec<u16> = contacts
        .iter()
        .filter_map(|contact| Some(contact.address()?.q()))
        .collect();
    assert_eq!(told, [1_000, 500, 100, 100], "as it said");
    world.behave(devices[0], desk);
    let caller = world.phone("bob-at-home");
    (world, caller, devices)
}

fn rung(world: &World, devices: [usize; 4]) -> [usize; 4] {
    devices.map(|device| world.phones[device].rung)
}

#[test]
fn those_that_the_user_prefers_ring_before_the_others() {
    for restarts in [false, true] {
        let (mut world, caller, devices) = preferred(Behaviour::Ring);
        if restarts {
            world.restart();
        }
        world.behave(devices[1], Behaviour::Ring);
        world.call(caller, "alice");
        world.run_ms(14_900);
        assert_eq!(rung(&world, devices), [1, 0, 0, 0], "{}", world.story());
        world.run_ms(200);
        assert_eq!(rung(&world, devices), [1, 1, 0, 0], "{}", world.story());
        let why = ["SIP;cause=408;text=\"Not answered in time\""];
        assert_eq!(world.phones[devices[0]].cancelled, why);
        world.run_ms(16_500);
        assert_eq!(rung(&world, devices), [1, 1, 1, 1], "{}", world.story());
        assert_eq!(world.phones[caller].statuses, [180, 200]);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(caller);
        world.assert_nothing_left();
    }
}

#[test]
fn or_at_once_when_those_refuse_and_never_when_the_person_declines() {
    for (status, expected) in [
        (StatusCode::BUSY_HERE, [1, 1, 0, 0]),
        (StatusCode::DECLINE, [1, 0, 0, 0]),
    ] {
        let (mut world, caller, devices) = preferred(Behaviour::Refuse(status));
        world.call(caller, "alice");
        world.run_ms(3_000);
        assert_eq!(rung(&world, devices), expected, "{}", world.story());
        let is_answered = world.phones[caller].talks();
        assert_eq!(is_answered, status == StatusCode::BUSY_HERE, "{}", world.story());
        if is_answered {
            world.hang_up(caller);
        }
        world.assert_nothing_left();
    }
}

/// The caller gives up while there are devices that did not ring yet.
#[test]
fn and_the_others_not_when_nobody_waits_any_more() {
    let (mut world, caller, devices) = preferred(Behaviour::Ring);
    world.call(caller, "alice");
    world.run_ms(5_000);
    let now = world.now;
    world.phones[caller].cancel(now);
    world.run_ms(60_000);
    assert_eq!(rung(&world, devices), [1, 0, 0, 0], "{}", world.story());
    // An agent is asked on all devices at once.
    world.behave(devices[0], Behaviour::Answer(1_000));
    world.call(caller, "support");
    world.run_ms(3_000);
    assert_eq!(rung(&world, devices), [2, 1, 1, 1], "{}", world.story());
    world.hang_up(caller);
    world.assert_nothing_left();
}

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

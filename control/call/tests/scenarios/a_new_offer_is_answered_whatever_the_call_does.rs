use sdp::Direction;
use sip::{
    message::{Method, StatusCode},
    stack::DialogRequest,
};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

fn reinvite(world: &mut World, phone: usize, direction: Direction) {
    let now = world.now;
    world.phones[phone].reinvite(now, direction);
    world.run_ms(100);
}

/// Who waits with music may put us on hold, and come back.
#[test]
fn while_the_caller_waits_in_a_queue() {
    let mut settings = config();
    settings.calls.answer_before_music = true;
    let mut world = World::with(settings);
    let alice = world.registered("alice", "wonder");
    world.behave(alice, Behaviour::Ring);
    let now = world.now;
    world.phones[alice].register(now, "wonder", 0);
    let customer = world.phone("customer");
    world.run_ms(100);
    // Nobody is there: it waits. Then alice is rung.
    for registers in [false, true] {
        if registers {
            let now = world.now;
            world.phones[alice].register(now, "wonder", 300);
            world.run_ms(500);
            assert_eq!(world.phones[alice].rung, 1, "{}", world.story());
        } else {
            world.call(customer, "support");
            world.run_ms(500);
        }
        for direction in [Direction::SendOnly, Direction::SendRecv] {
            reinvite(&mut world, customer, direction);
            assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
        }
        assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    }
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// RFC 3311: the caller hears the other phone already and changes its mind about its audio.
#[test]
fn while_the_other_phone_rings() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Early(5_000));
    let dora = world.phone("dora");
    world.call(dora, "carol");
    world.run_ms(500);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let (now, invite) = (world.now, world.phones[dora].invite);
    world.phones[dora].update(now, Direction::SendOnly);
    world.run_ms(100);
    assert_eq!(world.phones[dora].statuses, [200], "{}", world.story());
    assert_eq!(world.heard().len(), 1, "{}", world.story());
    world.phones[dora].invite = invite;
    world.run_ms(5_000);
    assert!(
        world.phones[dora].talks() && world.phones[carol].talks(),
        "{}",
        world.story()
    );
    world.hang_up(carol);
    world.assert_nothing_left();
}

/// A gateway says by a 183 where it is heard, and by UPDATE that it is somewhere else, before anybody answers.
#[test]
fn of_a_phone_that_is_not_answered_yet() {
    for queued in [false, true] {
        let mut world = World::new();
        let (name, password) = if queued {
            ("alice", "wonder")
        } else {
            ("carol", "singer")
        };
        let called = world.registered(name, password);
        world.behave(called, Behaviour::Early(5_000));
        let dora = world.phone("dora");
        world.call(dora, if queued { "support" } else { "carol" });
        world.run_ms(500);
        let now = world.now;
        world.phones[called].media.set_port(4_242);
        world.phones[called].update(now, Direction::SendRecv);
        world.run_ms(100);
        assert_eq!(world.phones[called].statuses, [200], "{}", world.story());
        let heard = if queued { 0 } else { 2 };
        assert_eq!(world.heard().len(), heard, "{}", world.story());
        let now = world.now;
        world.phones[called].send(now, DialogRequest::new(Method::Info));
        world.run_ms(100);
        assert_eq!(world.count(" 481 "), 0, "{}", world.story());
        world.run_ms(5_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(dora);
        world.assert_nothing_left();
    }
}

/// Many phones put the other on hold before they ask for a transfer, some after that.
#[test]
fn while_who_transfers_stands_aside() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    world.behave(carol, Behaviour::Ring);
    let now = world.now;
    world.phones[alice].refer(now, "sip:carol@example.com");
    world.run_ms(500);
    for phone in [alice, customer] {
        reinvite(&mut world, phone, Direction::SendOnly);
        assert_eq!(world.phones[phone].statuses, [200], "{}", world.story());
        reinvite(&mut world, phone, Direction::SendRecv);
        assert_eq!(world.phones[phone].statuses, [200], "{}", world.story());
    }
    let now = world.now;
    world.behave(carol, Behaviour::Refuse(StatusCode::BUSY_HERE));
    world.phones[alice].hang_up(now);
    world.run_ms(100);
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// The media host does not do what is asked: what stood before stands, and nobody loses the place.
#[test]
fn and_refused_where_the_media_host_refuses_it() {
    let mut settings = config();
    settings.calls.answer_before_music = true;
    let mut world = World::with(settings);
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(500);
    world.media.fail = Some("out of ports");
    reinvite(&mut world, customer, Direction::SendOnly);
    world.media.fail = None;
    assert_eq!(world.phones[customer].statuses, [500], "{}", world.story());
    reinvite(&mut world, customer, Direction::SendRecv);
    assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    world.registered("alice", "wonder");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

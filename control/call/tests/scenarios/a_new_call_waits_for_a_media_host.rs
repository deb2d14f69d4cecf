//! No media host is up, at the start or since the last one was lost: new calls wait a moment.

use sdp::CryptoSuite;

use crate::world::{World, config};

/// A controller that has just started, and a call to this address after 100 ms.
fn called(to: &str) -> (World, usize) {
    let mut world = World::new();
    world.restart_alone();
    let customer = world.phone("customer");
    world.run_ms(100);
    world.call(customer, to);
    world.run_ms(1_000);
    assert!(world.phones[customer].statuses.is_empty(), "{}", world.story());
    (world, customer)
}

fn count(world: &World, kind: &str) -> usize {
    world.kinds().iter().filter(|one| *one == kind).count()
}

fn gives_up(world: &mut World, customer: usize) {
    let now = world.now;
    world.phones[customer].cancel(now);
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [487], "{}", world.story());
}

#[test]
fn and_is_served_once_there_is_one() {
    let (mut world, customer) = called("support");
    world.restart_media_host(true);
    world.registered("alice", "wonder");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_room_is_entered_once_there_is_one() {
    let (mut world, customer) = called("room-1");
    world.restart_media_host(true);
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn and_is_refused_when_there_is_none_and_the_next_one_at_once() {
    let (mut world, customer) = called("support");
    world.run_ms(3_800);
    assert!(world.phones[customer].statuses.is_empty(), "{}", world.story());
    world.run_ms(200);
    assert_eq!(world.phones[customer].statuses, [503], "{}", world.story());
    let next = world.phone("next");
    world.call(next, "support");
    world.run_ms(50);
    assert_eq!(world.phones[next].statuses, [503], "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn who_gives_up_meanwhile_is_no_call() {
    let (mut world, customer) = called("support");
    gives_up(&mut world, customer);
    world.restart_media_host(true);
    world.run_ms(3_000);
    assert_eq!(world.phones[customer].statuses, [487], "{}", world.story());
    assert!(world.details().is_empty());
    world.assert_nothing_left();
}

#[test]
fn one_that_comes_after_the_last_host_was_lost_waits_too() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    world.lose_media_host();
    world.run_ms(500);
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    world.restart_media_host(true);
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_controller_that_stops_keeps_nobody_waiting() {
    let (mut world, customer) = called("support");
    let at = world.clocks();
    world.controller.stop(at, "the controller stops");
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [503], "{}", world.story());
    world.assert_nothing_left();
}

/// Its caller has our 100, and so repeats nothing.
#[test]
fn one_that_waited_when_the_controller_was_killed_waits_on() {
    for to in ["support", "alice", "room-1"] {
        for segments in 0..2 {
            let (mut world, customer) = called(to);
            if segments > 0 {
                world.records = world.controller.standing(world.clocks());
            }
            world.restart_alone();
            world.run_ms(3_000);
            assert!(world.phones[customer].statuses.is_empty(), "{}", world.story());
            world.restart_media_host(true);
            world.registered("alice", "wonder");
            world.run_ms(5_000);
            let served = world.phones[customer].statuses.last();
            // Who calls her, and not the queue, came too early.
            let status = if to == "alice" { 480 } else { 200 };
            assert_eq!(served, Some(&status), "{to}: {}", world.story());
            let started = count(&world, "started");
            assert_eq!(started, usize::from(status == 200), "{}", world.story());
            if status == 200 {
                world.hang_up(customer);
                world.run_ms(500);
                assert_eq!(world.detail().status, 200);
            }
            world.restart();
            world.run_ms(40_000);
            assert_eq!(world.details().len(), started, "{}", world.story());
            world.assert_nothing_left();
        }
    }
}

#[test]
fn and_may_give_up_then_too() {
    let (mut world, customer) = called("support");
    world.restart_alone();
    world.run_ms(500);
    gives_up(&mut world, customer);
    world.restart();
    world.run_ms(3_000);
    assert_eq!(world.phones[customer].statuses, [487], "{}", world.story());
    assert!(world.details().is_empty());
    world.assert_nothing_left();
}

/// No journal holds keys: who offered some is told to call again.
#[test]
fn but_not_one_with_keys() {
    let mut config = config();
    config.media.srtp_keys_in_clear = true;
    let mut world = World::with(config);
    world.restart_alone();
    let customer = world.phone("customer");
    world.phones[customer].suites = vec![CryptoSuite::AesCm128HmacSha1_80];
    world.call(customer, "support");
    world.run_ms(1_000);
    world.restart_alone();
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [500], "{}", world.story());
    world.assert_nothing_left();
}

/// Nobody is there any more after so long.
#[test]
fn and_not_for_ever() {
    let (mut world, customer) = called("support");
    world.clock_set_s += 60;
    world.restart();
    world.run_ms(1_000);
    assert!(world.phones[customer].statuses.is_empty(), "{}", world.story());
    assert!(
        !world.kinds().iter().any(|kind| kind == "started"),
        "{}",
        world.story()
    );
}

/// A call from whose media host nothing comes, though nobody knows yet that it is gone. Its caller has our 100.
fn called_at_a_silent_host(to: &str) -> (World, usize) {
    let mut world = World::new();
    world.registered("alice", "wonder");
    world.media.silent = true;
    let customer = world.phone("customer");
    world.call(customer, to);
    world.run_ms(1_000);
    assert!(world.phones[customer].statuses.is_empty(), "{}", world.story());
    (world, customer)
}

/// The controller is killed before it knows that the media host is gone.
#[test]
fn one_whose_host_was_silent_when_the_controller_was_killed_goes_on() {
    for to in ["support", "alice", "room-1"] {
        for segments in 0..2 {
            for kills in 1..3 {
                let (mut world, customer) = called_at_a_silent_host(to);
                if segments > 0 {
                    world.records = world.controller.standing(world.clocks());
                }
                for _ in 0..kills {
                    world.restart_alone();
                    world.run_ms(1_000);
                }
                world.media.silent = false;
                world.host_is_up("m1");
                world.run_ms(3_000);
                let served = world.phones[customer].statuses.last();
                assert_eq!(served, Some(&200), "{to}: {}", world.story());
                world.hang_up(customer);
                world.run_ms(500);
                assert_eq!(world.detail().status, 200);
                if segments > 0 {
                    // Its beginning is told in the segment before.
                    continue;
                }
                assert_eq!(count(&world, "started"), 1, "{to}: {}", world.story());
                world.restart();
                world.run_ms(40_000);
                assert_eq!(world.details().len(), 1, "{to}: {}", world.story());
                world.assert_nothing_left();
            }
        }
    }
}

/// Or another one takes its place at once, and knows nothing of the call.
#[test]
fn also_when_there_is_a_host_at_once() {
    for to in ["support", "alice", "room-1"] {
        let (mut world, customer) = called_at_a_silent_host(to);
        world.media.silent = false;
        world.restart();
        world.run_ms(3_000);
        let served = world.phones[customer].statuses.last();
        assert_eq!(served, Some(&200), "{to}: {}", world.story());
        world.hang_up(customer);
        world.run_ms(500);
        assert_eq!(world.detail().status, 200);
        world.assert_nothing_left();
    }
}

/// And killed again, however soon after it is there again.
#[test]
fn also_when_it_is_killed_again() {
    for to in ["support", "alice", "room-1"] {
        for ms in (0..20).chain([250]) {
            let (mut world, customer) = called_at_a_silent_host(to);
            world.media.silent = false;
            world.restart();
            world.run_ms(ms);
            world.restart_alone();
            world.run_ms(50);
            world.host_is_up("m1");
            world.run_ms(3_000);
            let served = world.phones[customer].statuses.last();
            assert_eq!(served, Some(&200), "{to}, {ms} ms: {}", world.story());
            world.hang_up(customer);
            world.run_ms(500);
            assert_eq!(world.detail().status, 200, "{to}, {ms} ms");
            assert_eq!(count(&world, "started"), 1, "{to}: {}", world.story());
            world.assert_nothing_left();
        }
    }
}

/// It may be taken back, by who was restarted too.
#[test]
fn and_is_given_up() {
    for restarts in 0..2 {
        let (mut world, customer) = called_at_a_silent_host("support");
        for _ in 0..restarts {
            world.restart_alone();
            world.run_ms(500);
        }
        gives_up(&mut world, customer);
        world.media.silent = false;
        world.restart();
        world.run_ms(40_000);
        assert_eq!(world.phones[customer].statuses, [487], "{}", world.story());
        assert_eq!(world.detail().status, 487, "{}", world.story());
        world.assert_nothing_left();
    }
}

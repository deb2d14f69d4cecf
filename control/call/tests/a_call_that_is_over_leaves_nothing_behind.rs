//! What a controller holds does not depend on how many calls it has had, whatever became of them.
//!
//! Other tests count the entries of its tables. This one counts every block of memory: what the allocator gets back when a
//! controller is dropped. Not their bytes: tables and queues keep the room that they had at their fullest, which depends on
//! which timers happened to run at once. A tree that is left with more has more blocks. So has everything that is kept for a
//! call and has memory of its own; what has none stands in tables whose entries are counted here beside the blocks.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by stopping")]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the world and its phones are shared with the scenarios, which use more of them"
)]

#[path = "scenarios/media_host.rs"]
mod media_host;
#[path = "scenarios/phone.rs"]
mod phone;
#[path = "scenarios/world.rs"]
mod world;

use call_control::Config;
use sip::message::StatusCode;

use phone::Behaviour;
use world::World;

#[global_allocator]
static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;

/// Longer than anything is kept of a call that is over.
const FORGOTTEN_MS: u64 = 300_000;
/// Calls after which every table and queue has been used; and after which there is to be no more.
const CALLS: (usize, usize) = (100, 200);

/// Two who call and are called.
struct Parties {
    alice: usize,
    bob: usize,
}

/// Blocks of memory that a controller holds when `count` calls of this kind are over and forgotten.
fn held_after(count: usize, config: Config, call: fn(&mut World, &Parties)) -> u64 {
    let mut world = World::with(config);
    let registered = |world: &mut World, name, password| {
        let phone = world.phone(name);
        world.phones[phone].register(world.now, password, 3_600);
        world.run_ms(100);
        assert_eq!(world.phones[phone].registered, Some(200));
        phone
    };
    let parties = Parties {
        alice: registered(&mut world, "alice", "wonder"),
        bob: registered(&mut world, "bob", "builder"),
    };
    for _ in 0..count {
        call(&mut world, &parties);
        world.records.clear();
        world.trace.clear();
    }
    world.run_ms(FORGOTTEN_MS);
    let counters = world.controller.counters();
    let sip = counters.sip;
    assert_eq!(counters.calls, 0);
    assert_eq!(
        (sip.dialogs, sip.client_transactions, sip.server_transactions),
        (0, 0, 0)
    );
    assert_eq!((sip.keys, sip.timers), (0, 0));
    let controller = world.controller;
    noalloc::count(|| drop(controller)).deallocs
}

fn assert_leaves_nothing(config: fn() -> Config, call: fn(&mut World, &Parties)) {
    let (few, many) = CALLS;
    let held = [few, many].map(|count| held_after(count, config(), call));
    assert_eq!(held[0], held[1], "blocks after {few} and after {many} calls");
}

/// Accounts are known by where they call from: a nonce for each call would be kept until there are as many as may be.
fn trusting() -> Config {
    let trusted = [1, 2].map(|last| [10, 0, 1, last].into());
    Config {
        trusted: trusted.into_iter().collect(),
        ..world::config()
    }
}

#[test]
fn whether_it_was_answered() {
    assert_leaves_nothing(trusting, |world, parties| {
        world.behave(parties.bob, Behaviour::Answer(50));
        world.call(parties.alice, "bob");
        world.run_ms(300);
        world.hang_up(parties.alice);
        world.run_ms(300);
    });
}

#[test]
fn or_hung_up_by_who_was_called() {
    assert_leaves_nothing(trusting, |world, parties| {
        world.behave(parties.bob, Behaviour::Early(50));
        world.call(parties.alice, "bob");
        world.run_ms(300);
        world.hang_up(parties.bob);
        world.run_ms(300);
    });
}

#[test]
fn or_refused() {
    assert_leaves_nothing(trusting, |world, parties| {
        world.behave(parties.bob, Behaviour::Refuse(StatusCode::BUSY_HERE));
        world.call(parties.alice, "bob");
        world.run_ms(600);
    });
}

#[test]
fn or_cancelled() {
    assert_leaves_nothing(trusting, |world, parties| {
        world.behave(parties.bob, Behaviour::Ring);
        world.call(parties.alice, "bob");
        world.run_ms(300);
        let now = world.now;
        world.phones[parties.alice].cancel(now);
        world.run_ms(300);
    });
}

#[test]
fn or_led_nowhere() {
    assert_leaves_nothing(trusting, |world, parties| {
        world.call(parties.alice, "nobody");
        world.run_ms(600);
    });
}

#[test]
fn or_waited_in_a_queue() {
    let queued = || {
        let mut config = trusting();
        config.calls.answer_before_music = true;
        config.agents.wrap_up_s = 0;
        config
    };
    assert_leaves_nothing(queued, |world, parties| {
        world.behave(parties.bob, Behaviour::Answer(50));
        world.call(parties.alice, "support");
        world.run_ms(500);
        world.hang_up(parties.alice);
        world.run_ms(500);
    });
}

#[test]
fn or_was_into_a_room() {
    assert_leaves_nothing(trusting, |world, parties| {
        world.call(parties.alice, "room-7");
        world.run_ms(300);
        world.hang_up(parties.alice);
        world.run_ms(300);
    });
}

#[test]
fn or_was_asked_for_by_a_machine() {
    assert_leaves_nothing(trusting, |world, parties| {
        for phone in [parties.alice, parties.bob] {
            world.behave(phone, Behaviour::Answer(50));
        }
        world.originate("alice", "bob", "");
        world.run_ms(600);
        world.hang_up(parties.bob);
        world.run_ms(300);
    });
}

use call_control::{domain::AgentState, journal::EndedBy};

use crate::{phone::Behaviour, world::World};

fn cancel(world: &mut World, phone: usize) {
    let now = world.now;
    world.phones[phone].cancel(now);
}

#[test]
fn while_waiting() {
    let mut world = World::new();
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(5_000);
    assert_eq!(world.phones[customer].statuses, [180], "{}", world.story());
    cancel(&mut world, customer);
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [180, 487]);
    let detail = world.detail();
    assert_eq!(
        (detail.ended_by, detail.status, detail.talk_ms),
        (EndedBy::Caller, 487, 0)
    );
    let live = world.controller.live(world.clocks());
    assert_eq!((live.queues[0].abandoned, live.queues[0].waiting), (1, 0));
    world.assert_nothing_left();
}

#[test]
fn while_ringing() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(alice, Behaviour::Ring);
    world.call(customer, "support");
    world.run_ms(3_000);
    assert_eq!(world.agent("alice"), AgentState::Reserved);
    cancel(&mut world, customer);
    world.run_ms(100);
    assert_eq!(
        world.phones[alice].cancelled,
        ["SIP;cause=487;text=\"Caller gone\""],
        "{}",
        world.story()
    );
    assert_eq!(world.agent("alice"), AgentState::Ready, "nothing to wrap up");
    assert_eq!(world.phones[customer].statuses, [180, 487]);
    world.assert_nothing_left();
}

#[test]
fn before_the_media_host_has_answered() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.media.silent = true;
    world.call(customer, "support");
    // Past the 100 Trying that a CANCEL waits for.
    world.run_ms(1_000);
    cancel(&mut world, customer);
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [487], "{}", world.story());
    world.media.silent = false;
    world.assert_nothing_left();
}

#[test]
fn at_every_moment_of_the_answer() {
    // From before the agent's 200 leaves until after the caller has it, in steps of a millisecond.
    let mut outcomes = (0, 0);
    for ms in 1_000..1_080 {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(ms);
        let answered = world.phones[customer].statuses.last() == Some(&200);
        if answered {
            world.hang_up(customer);
        } else {
            cancel(&mut world, customer);
        }
        world.run_ms(500);
        if world.phones[customer].dialog.is_some() {
            // Our 200 crossed the CANCEL: the phone hangs up, as RFC 3261 §15 asks.
            world.hang_up(customer);
            world.run_ms(500);
            outcomes.0 += 1;
        } else {
            outcomes.1 += 1;
        }
        assert!(
            world.phones[alice].dialog.is_none(),
            "at {ms} ms\n{}",
            world.story()
        );
        assert_eq!(world.heard().len(), 0, "at {ms} ms");
        world.assert_nothing_left();
    }
    assert!(
        outcomes.0 > 0 && outcomes.1 > 0,
        "both orders happened: {outcomes:?}"
    );
}

/// Who did not hang up gave nothing up.
#[test]
fn and_one_whose_call_we_end_did_not_give_up() {
    let mut world = World::new();
    let phones = ["first", "second", "third"].map(|name| world.phone(name));
    for phone in phones {
        world.call(phone, "support");
    }
    world.run_ms(1_000);
    cancel(&mut world, phones[0]);
    let call = world.controller.live(world.clocks()).calls.pop().unwrap().call;
    assert!(world.end(&call));
    world.run_ms(100);
    let at = world.clocks();
    world.controller.stop(at, "the controller is stopping");
    world.run_ms(100);
    let queue = world.controller.live(world.clocks()).queues.remove(0);
    assert_eq!((queue.abandoned, queue.turned_away), (1, 2), "{}", world.story());
    world.assert_nothing_left();
}

use call_control::domain::AgentState;

use crate::{phone::Behaviour, world::World};

fn register(world: &mut World, phone: usize, password: &'static str, expires: u32) {
    let now = world.now;
    world.phones[phone].register(now, password, expires);
    world.run_ms(100);
    assert_eq!(world.phones[phone].registered, Some(200), "{}", world.story());
}

/// A phone that starts anew, or whose connection breaks, in the middle of a call.
#[test]
fn one_whose_phone_was_gone_during_a_call_takes_calls_after_it() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    for wraps_up in [false, true] {
        world.call(customer, "support");
        world.run_ms(2_000);
        assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
        if wraps_up {
            world.hang_up(customer);
            world.run_ms(500);
            assert_eq!(world.agent("alice"), AgentState::WrapUp, "{}", world.story());
        }
        register(&mut world, alice, "wonder", 0);
        register(&mut world, alice, "wonder", 300);
        if !wraps_up {
            world.hang_up(customer);
        }
        world.run_ms(3_000);
        assert_eq!(world.agent("alice"), AgentState::Ready, "{}", world.story());
    }
    world.assert_nothing_left();
}

/// Lunch does not end because a phone starts anew.
#[test]
fn one_who_is_paused_stays_so_whatever_its_phone_does() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let at = world.clocks();
    world.controller.agent_pause(at, "alice", "lunch").unwrap();
    register(&mut world, alice, "wonder", 0);
    register(&mut world, alice, "wonder", 300);
    assert_eq!(world.agent("alice"), AgentState::Paused("lunch".into()));
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].rung, 0, "{}", world.story());
    let at = world.clocks();
    world.controller.agent_ready(at, "alice").unwrap();
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// A call that came by no queue is a call all the same.
#[test]
fn one_who_was_called_or_calls_is_offered_no_other_call() {
    for calls in [false, true] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let carol = world.registered("carol", "singer");
        let customer = world.phone("customer");
        if calls {
            world.phones[alice].password = "wonder";
            world.call(alice, "carol");
        } else {
            world.phones[carol].password = "singer";
            world.call(carol, "alice");
        }
        world.run_ms(500);
        assert_eq!(world.agent("alice"), AgentState::Engaged, "{}", world.story());
        let rung = world.phones[alice].rung;
        world.call(customer, "support");
        world.run_ms(20_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        assert_eq!(world.phones[alice].rung, rung, "{}", world.story());
        assert_eq!(world.agent("alice"), AgentState::Engaged, "{}", world.story());
        world.hang_up(alice);
        world.run_ms(2_000);
        assert!(
            world.heard().contains(&("customer", "alice")),
            "{}",
            world.story()
        );
        let alice = world.controller.live(world.clocks()).agents.remove(0);
        assert_eq!((alice.declined, alice.missed, alice.served), (0, 0, 0));
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// Who was given a call by a colleague has one.
#[test]
fn one_whom_a_call_was_brought_to_is_offered_no_other() {
    for restarts in [false, true] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let first = world.phone("first");
        let second = world.phone("second");
        world.call(first, "support");
        world.run_ms(2_000);
        let bob = world.registered("bob", "builder");
        let now = world.now;
        world.phones[alice].refer(now, "sip:bob@example.com");
        world.run_ms(500);
        let at = world.clocks();
        world.controller.agent_pause(at, "alice", "lunch").unwrap();
        world.run_ms(2_000);
        assert!(world.heard().contains(&("first", "bob")), "{}", world.story());
        assert_eq!(world.agent("bob"), AgentState::Engaged, "{}", world.story());
        if restarts {
            world.restart();
            world.run_ms(1_000);
            assert_eq!(world.agent("bob"), AgentState::Engaged, "{}", world.story());
        }
        world.call(second, "support");
        world.run_ms(20_000);
        assert_eq!(world.phones[bob].rung, 1, "{}", world.story());
        world.hang_up(first);
        world.run_ms(3_000);
        assert!(world.heard().contains(&("second", "bob")), "{}", world.story());
        world.hang_up(second);
        if !restarts {
            world.assert_nothing_left();
        }
    }
}

/// Both agents talk with one customer while one asks the other.
#[test]
fn one_who_is_asked_by_a_colleague_is_offered_no_other() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let alices_other = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(
        alices_other,
        Behaviour::Refuse(sip::message::StatusCode::BUSY_HERE),
    );
    world.call(customer, "support");
    world.run_ms(2_000);
    assert!(world.phones[alice].talks(), "{}", world.story());
    let bob = world.registered("bob", "builder");
    world.phones[alices_other].password = "wonder";
    world.call(alices_other, "bob");
    world.run_ms(2_000);
    assert_eq!(world.agent("bob"), AgentState::Engaged, "{}", world.story());
    let (replaces, _) = world.phones[alices_other].replaces();
    let now = world.now;
    world.phones[alice].refer(now, &format!("sip:bob@example.com?Replaces={replaces}"));
    world.run_ms(1_000);
    assert!(world.heard().contains(&("customer", "bob")), "{}", world.story());
    assert_eq!(world.agent("bob"), AgentState::Engaged, "{}", world.story());
    let second = world.phone("second");
    world.behave(alices_other, Behaviour::Answer(500));
    world.call(second, "support");
    world.run_ms(5_000);
    assert_eq!(world.phones[bob].rung, 1, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    assert_eq!(world.agent("bob"), AgentState::Ready, "{}", world.story());
    if world.phones[second].talks() {
        world.hang_up(second);
    }
    world.assert_nothing_left();
}

/// Nothing rings while a call has no media host: no agent misses that.
#[test]
fn one_whose_caller_has_no_media_host_is_left_alone_until_there_is_one() {
    let mut config = crate::world::config();
    config.media.replace_within_s = 40;
    config.agents.misses_max = 1;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(alice, Behaviour::Ring);
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.agent("alice"), AgentState::Reserved, "{}", world.story());
    world.lose_media_host();
    world.run_ms(25_000);
    assert_eq!(world.agent("alice"), AgentState::Ready, "{}", world.story());
    world.behave(alice, Behaviour::Answer(1_000));
    world.restart_media_host(true);
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let live = world.controller.live(world.clocks()).agents.remove(0);
    assert_eq!((live.missed, live.declined), (0, 0), "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// As when a disk does not answer: whoever talked all the time goes on.
#[test]
fn one_who_talked_while_this_process_stood_still_talks_on() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.now += std::time::Duration::from_secs(150);
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
    world.hang_up(alice);
    world.assert_nothing_left();
}

use call_control::domain::AgentState;

use crate::world::{World, config};

#[test]
fn one_after_the_other_with_a_rest_between() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let first = world.phone("first");
    let second = world.phone("second");
    world.call(first, "support");
    world.run_ms(100);
    world.call(second, "support");
    world.run_ms(5_000);
    assert_eq!(
        (world.phones[alice].rung, world.agent("alice")),
        (1, AgentState::Talking),
        "{}",
        world.story()
    );
    assert_eq!(
        (
            &world.phones[first].statuses[..],
            &world.phones[second].statuses[..]
        ),
        (&[180, 200][..], &[180][..])
    );
    let live = world.controller.live(world.clocks());
    assert_eq!((live.queues[0].waiting, live.calls.len()), (1, 2));

    world.hang_up(first);
    world.run_ms(1_900);
    assert_eq!(
        (world.phones[alice].rung, world.agent("alice")),
        (1, AgentState::WrapUp),
        "it rests first"
    );
    world.run_ms(200);
    assert_eq!(
        (world.phones[alice].rung, world.agent("alice")),
        (2, AgentState::Reserved)
    );
    world.run_ms(1_500);
    assert_eq!(world.phones[second].statuses, [180, 200]);
    assert_eq!(world.heard().len(), 2);
    world.hang_up(second);
    world.run_ms(100);
    let by: Vec<_> = world
        .details()
        .into_iter()
        .map(|detail| detail.answered_by)
        .collect();
    assert_eq!(by, [Some("alice".to_owned()), Some("alice".to_owned())]);
    world.assert_nothing_left();
}

#[test]
fn nobody_free_is_told_after_the_queues_time() {
    for (status, given) in [(480, 480), (503, 503)] {
        let mut config = crate::world::config();
        config.queues[0].timeout_status = status;
        let mut world = World::with(config);
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(59_900);
        assert_eq!(world.phones[customer].statuses, [180], "{}", world.story());
        world.run_ms(200);
        assert_eq!(world.phones[customer].statuses, [180, given], "{}", world.story());
        let live = world.controller.live(world.clocks());
        assert_eq!((live.queues[0].overdue, live.queues[0].abandoned), (1, 0));
        world.assert_nothing_left();
    }
}

#[test]
fn an_agent_who_registers_late_gets_who_waits() {
    let mut world = World::new();
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(20_000);
    world.registered("bob", "builder");
    world.run_ms(1_500);
    assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Two at once, and its rest after the first is not over when the agent is taken out.
#[test]
fn at_once_and_the_agent_is_taken_out_while_it_rests() {
    let mut settings = config();
    (settings.agents.calls_max, settings.agents.wrap_up_s) = (2, 60);
    let mut world = World::with(settings.clone());
    world.registered("alice", "wonder");
    world.registered("alice", "wonder");
    let first = world.phone("first");
    let second = world.phone("second");
    world.call(first, "support");
    world.run_ms(2_000);
    world.call(second, "support");
    world.run_ms(500);
    assert_eq!(world.phones[second].statuses, [180], "{}", world.story());
    world.hang_up(first);
    world.run_ms(5_000);
    assert!(world.phones[second].talks(), "{}", world.story());
    world.hang_up(second);
    world.run_ms(1_000);
    assert_eq!(world.agent("alice"), AgentState::WrapUp);
    settings.queues[0].agents = vec!["bob".to_owned()];
    world.reconfigure(settings);
    world.run_ms(120_000);
    world.assert_nothing_left();
}

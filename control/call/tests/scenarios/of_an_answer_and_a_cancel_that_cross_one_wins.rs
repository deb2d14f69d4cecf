use crate::{phone::Behaviour, world::World};

/// The agent's 200 and our CANCEL pass each other on the wire: it is acknowledged, hung up, and was never heard.
#[test]
fn when_the_agent_answers_as_its_ringing_ends() {
    let mut crossed = 0;
    for ms in (9_900..10_100).step_by(2) {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.behave(alice, Behaviour::Answer(ms));
        world.call(customer, "support");
        world.run_ms(10_500);
        let won = world.phones[customer].statuses.contains(&200);
        assert_eq!(
            world.phones[alice].dialog.is_some(),
            won,
            "at {ms} ms\n{}",
            world.story()
        );
        assert_eq!(world.heard().len(), if won { 2 } else { 0 });
        let cancelled = world.count("server>alice CANCEL") > 0;
        crossed += usize::from(!won && cancelled && world.count("server>alice BYE") > 0);
        let now = world.now;
        if won {
            world.hang_up(customer);
        } else {
            world.behave(alice, Behaviour::Ring);
            world.phones[customer].cancel(now);
        }
        world.assert_nothing_left();
    }
    assert!(crossed > 0, "some answers crossed the CANCEL");
}

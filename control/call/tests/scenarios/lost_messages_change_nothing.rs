use crate::world::World;

#[test]
fn each_message_of_a_call_may_be_lost_once() {
    for lost in [
        "INVITE",
        "SIP/2.0 180",
        "SIP/2.0 200",
        "ACK",
        "BYE",
        "REGISTER",
        "SIP/2.0 401",
    ] {
        let mut world = World::new();
        world.swallow.push((lost, 1));
        let alice = world.phone("alice");
        let now = world.now;
        world.phones[alice].register(now, "wonder", 300);
        world.run_ms(2_000);
        assert_eq!(
            world.phones[alice].registered,
            Some(200),
            "{lost}\n{}",
            world.story()
        );
        for message in ["INVITE", "SIP/2.0 200", "ACK"] {
            world.swallow.push((message, usize::from(message == lost)));
        }
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(6_000);
        assert_eq!(
            world.phones[customer].statuses.last(),
            Some(&200),
            "{lost}\n{}",
            world.story()
        );
        assert_eq!(world.heard().len(), 2, "{lost}\n{}", world.story());
        world.hang_up(alice);
        world.run_ms(2_000);
        assert_eq!(world.details().len(), 1);
        world.assert_nothing_left();
    }
}

#[test]
fn a_caller_that_never_acknowledges_is_hung_up() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_020);
    world.phones[customer].dead = true;
    world.run_ms(40_000);
    assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().reason, "no ACK came");
    world.assert_nothing_left();
}

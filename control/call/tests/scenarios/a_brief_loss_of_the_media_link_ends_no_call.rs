use call_control::domain::AgentState;

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// The link is away for this long, in which commands under way had arrived, or not.
const WAYS: [(bool, u64); 2] = [(true, 3_000), (false, 3_000)];

#[test]
fn while_it_is_being_made_room_for() {
    for (arrive, ms) in WAYS {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        world.behave(alice, Behaviour::Answer(200));
        let customer = world.phone("customer");
        world.call(customer, "alice");
        // The INVITE is there, and the command for its session on its way.
        world.run_ms(5);
        world.cut_link(arrive);
        world.run_ms(ms);
        assert!(world.phones[customer].is_calling(), "{}", world.story());
        world.mend_link();
        world.run_ms(1_500);
        assert_eq!(world.heard().len(), 2, "{arrive}\n{}", world.story());
        assert_eq!(world.media.sessions.len(), 1, "{}", world.story());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

#[test]
fn that_begins_meanwhile() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    world.cut_link(false);
    let customer = world.phone("customer");
    world.call(customer, "alice");
    world.run_ms(2_000);
    assert!(world.phones[customer].is_calling(), "{}", world.story());
    world.mend_link();
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(alice);
    world.assert_nothing_left();
}

#[test]
fn but_one_that_begins_meanwhile_goes_to_another_host() {
    let mut config = config();
    config.media.hosts.push(call_control::config::MediaHost {
        name: "m2".into(),
        address: "http://10.0.0.3:7000".into(),
    });
    let mut world = World::with(config);
    world.add_media_host();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "alice");
    world.run_ms(5);
    world.cut_link(true);
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "at once\n{}", world.story());
    assert_eq!(world.media.sessions.len(), 1, "what may have been made");
    world.mend_link();
    world.run_ms(1_000);
    assert_eq!(world.media.sessions.len(), 0, "is not wanted\n{}", world.story());
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(alice);
    world.assert_nothing_left();
}

#[test]
fn that_waits_in_a_queue() {
    for (arrive, ms) in WAYS {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let (first, second) = (world.phone("first"), world.phone("second"));
        world.call(first, "support");
        world.run_ms(2_000);
        world.call(second, "support");
        world.run_ms(1_000);
        world.cut_link(arrive);
        world.run_ms(1_000);
        // The agent is free, and the next one's turn comes while nothing can be asked of the host.
        world.hang_up(first);
        world.run_ms(ms);
        assert!(world.phones[second].is_calling(), "{}", world.story());
        world.mend_link();
        world.run_ms(6_000);
        assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
        assert!(world.heard().contains(&("second", "alice")), "{}", world.story());
        let first = &world.details()[0];
        assert_eq!(
            (first.status, first.caller_media.is_some()),
            (200, true),
            "its counts are not lost"
        );
        world.hang_up(alice);
        world.assert_nothing_left();
    }
}

#[test]
fn that_rings() {
    for (arrive, ms) in WAYS {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        world.behave(alice, Behaviour::Answer(2_000));
        let customer = world.phone("customer");
        world.call(customer, "alice");
        world.run_ms(1_000);
        world.cut_link(arrive);
        // It answers while the link is away.
        world.run_ms(ms);
        world.mend_link();
        world.run_ms(1_000);
        assert_eq!(world.phones[alice].rung, 1, "{}", world.story());
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(customer);
        world.run_ms(200);
        let detail = world.detail();
        assert_eq!((detail.status, detail.caller_media.is_some()), (200, true));
        world.assert_nothing_left();
    }
}

#[test]
fn nor_a_conference() {
    for (arrive, ms) in WAYS {
        let mut world = World::new();
        let (dora, emil) = (world.phone("dora"), world.phone("emil"));
        world.call(dora, "room-7");
        world.run_ms(5);
        world.cut_link(arrive);
        world.run_ms(ms);
        world.mend_link();
        world.run_ms(1_000);
        assert_eq!(world.phones[dora].statuses, [200], "{arrive}\n{}", world.story());
        world.call(emil, "room-7");
        world.run_ms(200);
        let both = [("dora", "emil"), ("emil", "dora")].into();
        assert_eq!(world.heard(), both, "{}", world.story());
        // Another comes and one leaves while nothing can be asked of the host.
        world.cut_link(arrive);
        let fred = world.phone("fred");
        world.call(fred, "room-7");
        world.run_ms(500);
        world.hang_up(dora);
        world.run_ms(ms);
        world.mend_link();
        world.run_ms(1_000);
        let both = [("fred", "emil"), ("emil", "fred")].into();
        assert_eq!(world.heard(), both, "{arrive}\n{}", world.story());
        world.hang_up(fred);
        world.hang_up(emil);
        world.assert_nothing_left();
    }
}

#[test]
fn unless_the_host_is_declared_lost() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2);
    world.cut_link(false);
    world.run_ms(4_000);
    assert_eq!(world.heard().len(), 2, "audio needs no link");
    world.lose_media_host();
    world.run_ms(11_000);
    let detail = world.detail();
    assert!(detail.reason.contains("connection refused"), "{}", detail.reason);
    world.mend_link();
    world.assert_nothing_left();
}

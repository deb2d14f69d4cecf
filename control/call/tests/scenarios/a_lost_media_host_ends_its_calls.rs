use call_control::{MediaInput, domain::AgentState};

use crate::world::World;

#[test]
fn waiting_and_talking_ones() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(2_000);
    world.call(second, "support");
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2);
    world.lose_media_host();
    world.run_ms(100);
    assert_eq!(world.phones[second].statuses, [180, 503], "{}", world.story());
    assert!(world.phones[first].dialog.is_none() && world.phones[alice].dialog.is_none());
    let details = world.details();
    assert_eq!(details.len(), 2);
    assert!(
        details
            .iter()
            .all(|detail| detail.reason.contains("connection refused")),
        "{details:?}"
    );
    assert!(
        details.iter().all(|detail| detail.caller_media.is_none()),
        "nobody counted"
    );

    let third = world.phone("third");
    world.call(third, "support");
    world.run_ms(100);
    assert_eq!(world.phones[third].statuses, [503], "no host, no call");
    let at = world.clocks();
    world.controller.handle_media(
        at,
        MediaInput::HostUp {
            host: "m1".into(),
            boot_id: "boot-2".into(),
        },
    );
    world.run_ms(3_000);
    world.call(third, "support");
    world.run_ms(2_000);
    assert_eq!(
        world.phones[third].statuses,
        [180, 200],
        "back again\n{}",
        world.story()
    );
    world.hang_up(third);
    world.assert_nothing_left();
}

#[test]
fn one_that_restarted_has_lost_them_too() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    world.media.sessions.clear();
    let at = world.clocks();
    world.controller.handle_media(
        at,
        MediaInput::HostUp {
            host: "m1".into(),
            boot_id: "boot-2".into(),
        },
    );
    world.run_ms(100);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn one_that_refuses_is_told_to_the_caller() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.media.fail = Some("no ports left in 20000-20100");
    world.call(customer, "support");
    world.run_ms(100);
    assert_eq!(world.phones[customer].statuses, [503], "{}", world.story());
    let detail = world.detail();
    assert!(detail.reason.contains("no ports left"), "{}", detail.reason);
    world.media.fail = None;
    world.assert_nothing_left();
}

#[test]
fn one_that_refuses_the_agents_side_too() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(500);
    world.media.fail = Some("broken");
    world.run_ms(1_000);
    assert_eq!(world.phones[customer].statuses, [180, 503], "{}", world.story());
    assert_eq!(world.count("server>alice BYE"), 1, "who answered is hung up");
    world.media.fail = None;
    world.assert_nothing_left();
}

#[test]
fn one_that_says_nothing_is_given_up() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.media.silent = true;
    world.call(customer, "support");
    world.run_ms(6_000);
    assert_eq!(world.phones[customer].statuses, [503], "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::Ready);
    world.run_ms(6_000);
    assert_eq!(world.media.sessions.len(), 0, "what it may have made is deleted");
    world.assert_nothing_left();
}

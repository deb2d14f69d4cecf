use std::time::Duration;

use sip::message::HeaderName;

use crate::world::World;

/// Time passes, in which every message waits like this.
fn messages_wait(world: &mut World, wait: Duration, for_ms: u64) {
    for _ in 0..for_ms / 10 {
        world.run_ms(10);
        let now = world.clocks();
        world.controller.messages_waited(now, wait);
    }
}

#[test]
fn and_those_that_stand_go_on() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard_phones().len(), 2, "{}", world.story());

    messages_wait(&mut world, Duration::from_secs(1), 2_000);
    let late = world.phone("late");
    world.call(late, "support");
    world.run_ms(20);
    assert_eq!(world.phones[late].statuses, [503], "{}", world.story());
    let refusal = world.phones[late].last_response.as_ref().unwrap();
    assert!(refusal.headers.contains(HeaderName::RetryAfter));
    assert_eq!(world.controller.counters().sip.overloaded, 1);

    world.hang_up(customer);
    world.run_ms(500);
    assert_eq!(world.details().len(), 1, "{}", world.story());
    messages_wait(&mut world, Duration::ZERO, 30_000);
    world.call(late, "support");
    world.run_ms(2_000);
    let heard = world.heard_phones();
    assert!(
        heard.contains(&(late, alice)) && heard.contains(&(alice, late)),
        "{}",
        world.story()
    );
    world.hang_up(late);
    world.assert_nothing_left();
}

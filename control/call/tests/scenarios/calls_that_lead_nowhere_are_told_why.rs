use bytes::Bytes;
use sdp::Codec;
use sip::message::{HeaderName, Method, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

fn refused(prepare: impl Fn(&mut World, usize), to: &str) -> (World, Vec<u16>) {
    let mut world = World::new();
    let customer = world.phone("customer");
    prepare(&mut world, customer);
    world.call(customer, to);
    world.run_ms(300);
    let statuses = world.phones[customer].statuses.clone();
    world.assert_nothing_left();
    (world, statuses)
}

#[test]
fn an_unknown_user() {
    let (world, statuses) = refused(|_, _| {}, "nobody");
    assert_eq!(statuses, [404], "{}", world.story());
    assert_eq!(
        (
            world.controller.counters().calls_refused,
            world.controller.counters().calls_started
        ),
        (1, 0)
    );
}

#[test]
fn a_user_without_a_phone() {
    let (world, statuses) = refused(|_, _| {}, "carol");
    assert_eq!(statuses, [480], "{}", world.story());
}

#[test]
fn no_common_codec() {
    let (world, statuses) = refused(
        |world, customer| world.phones[customer].codecs = vec![Codec::g722()],
        "support",
    );
    assert_eq!(statuses, [488], "{}", world.story());
    let response = world.phones[0].last_response.as_ref().unwrap();
    assert!(response.headers.contains(HeaderName::Warning));
}

#[test]
fn a_user_with_a_wrong_password() {
    let mut world = World::new();
    let carol = world.phone("carol");
    world.phones[carol].password = "sinner";
    world.call(carol, "support");
    world.run_ms(300);
    assert_eq!(world.phones[carol].statuses, [401], "{}", world.story());
    world.phones[carol].password = "singer";
    world.call(carol, "support");
    world.run_ms(300);
    assert_eq!(
        world.phones[carol].statuses,
        [180],
        "the right one lets it in\n{}",
        world.story()
    );
    let now = world.now;
    world.phones[carol].cancel(now);
    world.assert_nothing_left();
}

#[test]
fn a_stranger_where_strangers_may_not_call() {
    let mut config = config();
    config.allow_anonymous_calls = false;
    let mut world = World::with(config.clone());
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(300);
    assert_eq!(world.phones[customer].statuses, [401], "{}", world.story());
    world.assert_nothing_left();

    config.trusted = vec!["10.0.1.1".parse().unwrap()];
    let mut world = World::with(config);
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(300);
    assert_eq!(
        world.phones[customer].statuses,
        [180],
        "its address is trusted\n{}",
        world.story()
    );
}

#[test]
fn more_calls_than_there_may_be() {
    let mut config = config();
    config.calls.count_max = 1;
    let mut world = World::with(config);
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(100);
    world.call(second, "support");
    world.run_ms(100);
    assert_eq!(world.phones[second].statuses, [503], "{}", world.story());
    let now = world.now;
    world.phones[first].cancel(now);
    world.assert_nothing_left();
}

/// A call that began while all others are ended would be cut off without a word.
#[test]
fn while_the_controller_stops() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(2_000);
    let at = world.clocks();
    world.swallow.push(("BYE sip:10.0.1.2", 1));
    world.controller.stop(at, "the controller is stopping");
    for destination in ["support", "room-7"] {
        world.call(second, destination);
        world.run_ms(100);
        assert_eq!(world.phones[second].statuses, [503], "{}", world.story());
    }
    assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
    // Who was not told is told again, for as long as the process has.
    assert!(
        world.phones[first].dialog.is_some() && !world.controller.is_idle(),
        "{}",
        world.story()
    );
    world.run_ms(1_000);
    assert!(world.phones[first].dialog.is_none(), "{}", world.story());
    assert!(world.controller.is_idle(), "{}", world.story());
    assert!(world.ask("alice", "carol", "", None).is_err());
    world.assert_nothing_left();
}

/// RFC 3261 §21.4.6: what is not done there is told with what is.
#[test]
fn what_a_method_cannot_do_there() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    world.registered("bob", "builder");
    for method in [Method::Publish, Method::Refer] {
        let now = world.now;
        world.phones[alice].write(now, "sip:bob@example.com", "", |request| {
            request.method = method.clone();
            request
                .headers
                .set(HeaderName::ReferTo, "<sip:carol@example.com>")
                .unwrap();
            request.body = Bytes::new();
        });
        world.run_ms(500);
        assert_eq!(world.phones[alice].told(), Some(405), "{}", world.story());
        let response = world.phones[alice].outside.1.as_ref().unwrap();
        let allow = response.headers.allow().unwrap();
        assert!(
            allow.contains("OPTIONS") && !allow.contains(method.as_str()),
            "{allow:?}"
        );
    }
    world.assert_nothing_left();
}

/// What a phone says of an INVITE of ours need not be true of the caller's, which did not ask for the same.
#[test]
fn whom_a_phone_turns_away_by_what_we_wrote() {
    for (status, told) in [(405, 405), (415, 488), (420, 500), (421, 500)] {
        let mut world = World::new();
        let bob = world.registered("bob", "builder");
        world.behave(bob, Behaviour::Refuse(StatusCode::new(status).unwrap()));
        let customer = world.phone("customer");
        world.call(customer, "bob");
        world.run_ms(1_000);
        assert_eq!(
            world.phones[customer].statuses.last(),
            Some(&told),
            "{}",
            world.story()
        );
        let response = world.phones[customer].last_response.as_ref().unwrap();
        let allows = response.headers.contains(HeaderName::Allow);
        assert_eq!(allows, told == 405, "{response:?}");
        world.assert_nothing_left();
    }
}

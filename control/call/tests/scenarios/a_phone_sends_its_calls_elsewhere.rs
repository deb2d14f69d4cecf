use call_control::domain::AgentState;
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// Bob's phone rings in place of Carol's.
#[test]
fn to_another_user() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    let bob = world.registered("bob", "builder");
    let dora = world.phone("dora");
    world.behave(carol, Behaviour::Forward("bob"));
    world.call(dora, "carol");
    world.run_ms(2_000);
    assert!(world.heard().contains(&("dora", "bob")), "{}", world.story());
    assert_eq!(world.phones[dora].statuses, [180, 200], "{}", world.story());
    let invite = world.phones[bob].invited_by.as_ref().unwrap();
    let diversion = invite.headers.get(HeaderName::Diversion);
    assert_eq!(
        diversion,
        Some(&b"<sip:carol@example.com>;reason=unconditional"[..])
    );
    world.hang_up(dora);
    world.run_ms(200);
    let detail = world.detail();
    assert_eq!(
        (detail.rung, detail.answered_by.as_deref()),
        (vec!["carol".into(), "bob".into()], Some("bob"))
    );
    world.assert_nothing_left();
}

/// Another phone of the same user may take the call first; should it only ring, the call goes on after that.
#[test]
fn when_no_other_of_its_user_takes_them() {
    for takes in [true, false] {
        let mut world = World::new();
        let carol = world.registered("carol", "singer");
        let other = world.registered("carol", "singer");
        let bob = world.registered("bob", "builder");
        let dora = world.phone("dora");
        world.behave(carol, Behaviour::Forward("bob"));
        world.behave(
            other,
            if takes {
                Behaviour::Answer(500)
            } else {
                Behaviour::Ring
            },
        );
        world.call(dora, "carol");
        world.run_ms(70_000);
        assert_eq!(world.phones[bob].rung, usize::from(!takes), "{}", world.story());
        assert!(world.phones[dora].talks(), "{}", world.story());
        world.hang_up(dora);
        world.assert_nothing_left();
    }
}

/// In a circle, to nobody, or out of our domain's reach: the caller is told that nobody is there, and not where else to look.
#[test]
fn and_where_that_leads_nowhere_the_caller_is_told() {
    for (carol_to, bob_to) in [("bob", "carol"), ("nobody", ""), ("room-7", ""), ("carol", "")] {
        let mut world = World::new();
        let carol = world.registered("carol", "singer");
        let bob = world.registered("bob", "builder");
        let dora = world.phone("dora");
        world.behave(carol, Behaviour::Forward(carol_to));
        world.behave(bob, Behaviour::Forward(bob_to));
        world.call(dora, "carol");
        world.run_ms(5_000);
        assert_eq!(
            world.phones[dora].statuses.last(),
            Some(&480),
            "{}",
            world.story()
        );
        assert!(
            world.phones[carol].rung + world.phones[bob].rung <= 6,
            "{}",
            world.story()
        );
        world.assert_nothing_left();
    }
}

/// To a queue, where it is a caller as any other; but what a queue brings an agent takes or declines.
#[test]
fn to_a_queue_and_not_away_from_it() {
    let mut settings = config();
    settings.calls.answer_before_music = true;
    let mut world = World::with(settings);
    let carol = world.registered("carol", "singer");
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(carol, Behaviour::Forward("support"));
    world.behave(alice, Behaviour::Forward("carol"));
    world.call(customer, "carol");
    world.run_ms(2_000);
    assert_eq!(world.phones[carol].rung, 1, "{}", world.story());
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    world.behave(alice, Behaviour::Answer(100));
    world.run_ms(6_000);
    assert!(
        world.heard().contains(&("customer", "alice")),
        "{}",
        world.story()
    );
    assert_eq!(world.agent("alice"), AgentState::Talking);
    world.hang_up(customer);
    world.run_ms(200);
    assert_eq!(world.detail().queue.as_deref(), Some("support"));
    world.assert_nothing_left();
}

/// What is between us and a phone is no news for who called: it would act on it.
#[test]
fn or_refuses_in_a_way_that_is_not_told_to_the_caller() {
    for (refused, told) in [
        (503, 500),
        (401, 502),
        (407, 502),
        (302, 480),
        (487, 480),
        (486, 486),
        (603, 603),
    ] {
        let mut world = World::new();
        let carol = world.registered("carol", "singer");
        let dora = world.phone("dora");
        world.behave(carol, Behaviour::Refuse(StatusCode::new(refused).unwrap()));
        world.call(dora, "carol");
        world.run_ms(1_000);
        assert_eq!(
            world.phones[dora].statuses.last(),
            Some(&told),
            "{}",
            world.story()
        );
        let response = world.phones[dora].last_response.as_ref().unwrap();
        assert!(
            !response.headers.contains(HeaderName::RetryAfter),
            "we take calls"
        );
        let kinds = world.kinds();
        assert!(kinds.contains(&format!("declined carol {refused}")), "{kinds:?}");
        world.assert_nothing_left();
    }
}

use call_control::{domain::AgentState, journal::EndedBy};
use sip::message::StatusCode;

use crate::{phone::Behaviour, world::World};

/// Alice, idle longest, does as told; Bob answers. Gives the milliseconds the customer waited.
fn falls_to_bob(alice_does: impl Fn(&mut World, usize)) -> (World, u64) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    let customer = world.phone("customer");
    world.behave(bob, Behaviour::Answer(1_000));
    alice_does(&mut world, alice);
    world.call(customer, "support");
    world.run_ms(45_000);
    let story = world.story();
    assert_eq!(
        world.phones[customer].statuses,
        [180, 200],
        "one 180, one 200\n{story}"
    );
    assert_eq!(world.agent("bob"), AgentState::Talking, "{story}");
    assert_eq!(world.heard().len(), 2, "{story}");
    assert!(!world.heard().iter().any(|(a, b)| *a == "alice" || *b == "alice"));
    assert_eq!(
        world.media.sessions.values().next().unwrap().nodes.len(),
        2,
        "the first agent's port is given back"
    );
    world.hang_up(bob);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(
        (detail.answered_by.as_deref(), detail.ended_by),
        (Some("bob"), EndedBy::Callee)
    );
    let waited = detail.wait_ms;
    (world, waited)
}

#[test]
fn busy() {
    let (mut world, waited) =
        falls_to_bob(|world, alice| world.behave(alice, Behaviour::Refuse(StatusCode::BUSY_HERE)));
    assert!(waited < 1_200, "at once: {waited}");
    assert!(world.kinds().contains(&"declined alice 486".to_owned()));
    world.assert_nothing_left();
}

#[test]
fn declines() {
    let (mut world, waited) =
        falls_to_bob(|world, alice| world.behave(alice, Behaviour::Refuse(StatusCode::DECLINE)));
    assert!(waited < 1_200, "at once: {waited}");
    world.assert_nothing_left();
}

#[test]
fn does_not_answer() {
    let (mut world, waited) = falls_to_bob(|world, alice| world.behave(alice, Behaviour::Ring));
    assert!((11_000..11_300).contains(&waited), "after 10 s: {waited}");
    assert_eq!(
        world.phones[0].cancelled,
        ["SIP;cause=408;text=\"Not answered in time\""]
    );
    assert!(world.kinds().contains(&"declined alice 408".to_owned()));
    world.assert_nothing_left();
}

#[test]
fn says_nothing_at_all() {
    let (mut world, waited) = falls_to_bob(|world, alice| world.phones[alice].dead = true);
    assert!((11_000..11_300).contains(&waited), "after 10 s: {waited}");
    world.assert_nothing_left();
}

#[test]
fn cannot_be_reached() {
    let (mut world, waited) =
        falls_to_bob(|world, alice| world.phones[alice].address = "10.9.9.9:9".parse().unwrap());
    assert!(waited < 1_300, "at once: {waited}");
    world.assert_nothing_left();
}

#[test]
fn has_no_common_codec() {
    let (mut world, waited) =
        falls_to_bob(|world, alice| world.phones[alice].codecs = vec![sdp::Codec::g722()]);
    assert!(waited < 2_300, "when it answers: {waited}");
    world.assert_nothing_left();
}

#[test]
fn somebody_who_never_answers_is_paused() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(alice, Behaviour::Ring);
    world.call(customer, "support");
    world.run_ms(59_000);
    assert_eq!(
        world.agent("alice"),
        AgentState::Paused("not answering".into()),
        "{}",
        world.story()
    );
    assert_eq!(world.phones[alice].rung, 3);
    world.run_ms(2_000);
    assert_eq!(world.phones[customer].statuses, [180, 480]);
    world.assert_nothing_left();
}

use call_control::{Config, domain::AgentState};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

fn with_music() -> Config {
    let mut config = config();
    config.calls.answer_before_music = true;
    config
}

/// Answered at once, and only the answer of an agent counts as one.
#[test]
fn until_an_agent_answers() {
    let mut world = World::with(with_music());
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    let story = world.story();
    assert_eq!(world.phones[customer].statuses, [200], "{story}");
    assert_eq!(world.played_to(customer), ["tone:melody"], "{story}");
    assert_eq!(world.controller.counters().calls_answered, 0);

    let alice = world.registered("alice", "wonder");
    world.run_ms(500);
    assert_eq!(world.agent("alice"), AgentState::Reserved);
    assert_eq!(
        world.played_to(customer),
        ["tone:melody"],
        "also while phones ring"
    );
    world.run_ms(1_500);
    let story = world.story();
    assert_eq!(world.heard().len(), 2, "{story}");
    assert!(world.played_to(customer).is_empty(), "{story}");
    assert_eq!(
        world.phones[customer].statuses,
        [200],
        "nothing of it is signalled"
    );
    assert_eq!(world.count("server>customer INVITE"), 0, "{story}");

    world.hang_up(alice);
    world.run_ms(200);
    let detail = world.detail();
    assert_eq!(
        (detail.status, detail.answered_by.as_deref()),
        (200, Some("alice"))
    );
    assert!((2_000..2_500).contains(&detail.wait_ms), "{}", detail.wait_ms);
    world.assert_nothing_left();
}

/// RFC 3261 §13.2.1: the 200 holds our offer, the ACK the answer; then there is somewhere to play to.
#[test]
fn though_it_made_no_offer() {
    for agent_first in [false, true] {
        let mut world = World::with(with_music());
        if agent_first {
            world.registered("alice", "wonder");
            world.phones[0].behaviour = Behaviour::Answer(0);
            // The agent answers before the ACK is here.
            world.swallow.push(("ACK sip:10.0.0.1", 1));
        }
        let customer = world.phone("customer");
        let now = world.now;
        world.phones[customer].call(now, "support", false);
        world.run_ms(300);
        if !agent_first {
            assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
            world.registered("alice", "wonder");
        }
        world.run_ms(3_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

#[test]
fn and_is_hung_up_on_when_nobody_comes() {
    let mut world = World::with(with_music());
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(61_000);
    let story = world.story();
    assert!(world.phones[customer].dialog.is_none(), "{story}");
    assert_eq!(world.count("server>customer BYE"), 1, "{story}");
    let detail = world.detail();
    assert_eq!((detail.status, detail.answered_by), (480, None));
    world.assert_nothing_left();
}

/// The queue's own prompt goes before the general one; a prompt that the media host lacks leaves nobody in silence.
#[test]
fn of_its_queue_or_the_built_in_melody() {
    for (prompts, hears) in [
        (vec!["jazz.wav", "general.wav"], "prompt:jazz.wav"),
        (vec![], "tone:melody"),
    ] {
        let mut config = with_music();
        config.music.prompt = "general.wav".to_owned();
        config.queues[0].music = "jazz.wav".to_owned();
        let mut world = World::with(config);
        world.media.prompts = prompts;
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(1_000);
        assert_eq!(world.played_to(customer), [hears], "{}", world.story());
        world.hang_up(customer);
        world.run_ms(200);
        assert_eq!(world.detail().reason, "the caller hung up");
        world.assert_nothing_left();
    }
}

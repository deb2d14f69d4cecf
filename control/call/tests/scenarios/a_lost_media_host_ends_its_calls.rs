use call_control::{MediaInput, config::MediaHost, domain::AgentState};

use crate::world::World;

/// Alice and a customer talk, another customer waits.
fn talking_and_waiting() -> (World, usize, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(2_000);
    world.call(second, "support");
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2);
    (world, alice, first, second)
}

#[test]
fn when_no_other_is_found_in_time() {
    let (mut world, alice, first, second) = talking_and_waiting();
    world.lose_media_host();
    world.run_ms(9_000);
    assert!(
        world.phones[first].talks() && world.phones[alice].talks(),
        "they are kept for a while"
    );
    world.run_ms(2_000);
    assert!(!world.phones[second].is_calling(), "{}", world.story());
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
    world.restart_media_host(true);
    world.run_ms(3_000);
    world.call(third, "support");
    world.run_ms(2_000);
    assert!(world.phones[third].talks(), "back again\n{}", world.story());
    world.hang_up(third);
    world.assert_nothing_left();
}

#[test]
fn unless_it_is_there_again_with_the_ports_it_had() {
    let (mut world, _, first, second) = talking_and_waiting();
    let heard = world.heard();
    world.lose_media_host();
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 0);
    world.restart_media_host(true);
    world.run_ms(1_000);
    assert_eq!(world.heard(), heard, "{}", world.story());
    assert_eq!(world.count("server>first INVITE"), 0, "nobody has to be told");
    assert_eq!(world.controller.counters().calls_replaced, 2);
    world.hang_up(first);
    world.run_ms(5_000);
    assert!(world.heard().contains(&("second", "alice")), "{}", world.story());
    world.hang_up(second);
    world.assert_nothing_left();
}

#[test]
fn unless_it_is_there_again_with_others_which_both_are_told() {
    let (mut world, _, first, second) = talking_and_waiting();
    let heard = world.heard();
    world.restart_media_host(false);
    world.run_ms(1_000);
    assert_eq!(world.heard(), heard, "{}", world.story());
    assert_eq!(world.count("server>first INVITE"), 1);
    assert_eq!(
        world.count("server>alice INVITE"),
        2,
        "the call, and the other port"
    );
    world.hang_up(first);
    world.run_ms(5_000);
    assert!(world.heard().contains(&("second", "alice")), "{}", world.story());
    world.hang_up(second);
    world.assert_nothing_left();
}

/// It is lost again before the two have answered where they were told to send: they agreed to a place that is gone, and
/// are told of the newer one.
#[test]
fn unless_it_is_there_again_twice_before_they_followed() {
    let (mut world, alice, first, second) = talking_and_waiting();
    let heard = world.heard();
    world.swallow.push(("SIP/2.0 200", 2));
    world.restart_media_host(false);
    world.run_ms(100);
    assert_eq!(world.count("server>first INVITE"), 1, "{}", world.story());
    assert_eq!(world.swallow, [("SIP/2.0 200", 0)], "their answers are lost");
    world.lose_media_host();
    world.restart_media_host(false);
    world.run_ms(200);
    assert_eq!(world.count("server>first INVITE"), 1, "one at a time");
    // Which is repeated, because its answer was lost.
    world.run_ms(2_000);
    assert_eq!(world.heard(), heard, "{}", world.story());
    let told = (
        world.count("server>first INVITE"),
        world.count("server>alice INVITE"),
    );
    assert_eq!(told, (3, 4), "the call, and both places\n{}", world.story());
    world.hang_up(first);
    world.run_ms(5_000);
    assert!(world.heard().contains(&("second", "alice")), "{}", world.story());
    world.hang_up(alice);
    world.run_ms(1_000);
    assert!(world.phones[second].dialog.is_none());
    world.assert_nothing_left();
}

/// The controller is killed before they have answered: the next one does not take them to know.
#[test]
fn and_who_had_not_followed_when_the_controller_died_is_told_by_the_next_one() {
    let (mut world, _, first, second) = talking_and_waiting();
    let heard = world.heard();
    world.swallow.push(("INVITE", usize::MAX));
    world.restart_media_host(false);
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 0, "nobody was told");
    world.swallow.clear();
    world.restart();
    world.run_ms(2_000);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.hang_up(first);
    world.run_ms(5_000);
    assert!(world.heard().contains(&("second", "alice")), "{}", world.story());
    world.hang_up(second);
    world.assert_nothing_left();
}

#[test]
fn a_phone_that_rings_meanwhile_is_rung_again() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(alice, crate::phone::Behaviour::Ring);
    world.call(customer, "alice");
    world.run_ms(1_000);
    world.behave(alice, crate::phone::Behaviour::Answer(500));
    world.restart_media_host(false);
    world.run_ms(2_000);
    assert_eq!(world.phones[alice].rung, 2, "{}", world.story());
    assert!(world.phones[alice].cancelled[0].contains("Media host lost"));
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Both wait when the host is lost: the one loses the agent, who is free for the other until that is looked at too.
#[test]
fn an_agent_is_not_rung_for_who_was_lost_too() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.call(second, "support");
    // The endpoint for Alice is being made.
    world.run_ms(7);
    assert_eq!(world.agent("alice"), AgentState::Reserved, "{}", world.story());
    world.lose_media_host();
    let counters = world.controller.counters();
    assert_eq!((counters.offers, counters.offers_of_calls), (0, 0));
    assert_eq!(world.agent("alice"), AgentState::Ready);
    world.restart_media_host(false);
    world.run_ms(2_000);
    assert!(
        world.heard().contains(&("first", "alice")),
        "who came first is served first\n{}",
        world.story()
    );
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
    world.run_ms(12_000);
    assert_eq!(world.phones[customer].statuses, [503], "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::Ready);
    world.run_ms(12_000);
    assert_eq!(world.media.sessions.len(), 0, "what it may have made is deleted");
    world.assert_nothing_left();
}

/// It was out of reach for longer than anybody waits, as behind a switch that starts anew; its calls went on.
#[test]
fn unless_it_was_only_cut_off() {
    let (mut world, _, first, second) = talking_and_waiting();
    let heard = world.heard();
    let conferees = ["emil", "fred"].map(|name| {
        let phone = world.phone(name);
        world.call(phone, "room-7");
        world.run_ms(200);
        phone
    });
    let all = world.heard();
    world.cut_link(false);
    world.give_up_media_host();
    world.run_ms(6_000);
    assert_eq!(world.heard(), all, "nobody noticed anything");
    world.mend_link();
    world.run_ms(2_000);
    assert_eq!(world.heard(), all, "{}", world.story());
    assert_eq!(world.count("server>first INVITE"), 0, "{}", world.story());
    assert_eq!(world.controller.counters().calls_replaced, 0);
    for phone in conferees {
        world.hang_up(phone);
    }
    world.run_ms(200);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.hang_up(first);
    world.run_ms(5_000);
    assert!(world.heard().contains(&("second", "alice")), "{}", world.story());
    world.hang_up(second);
    world.assert_nothing_left();
}

/// The other host is full: it is asked now and then, and not for ever.
#[test]
fn when_the_others_do_not_take_them() {
    let mut config = crate::world::config();
    config.media.hosts.push(MediaHost {
        name: "full".into(),
        address: "http://10.0.0.3:7000".into(),
    });
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let [first, emil, fred] = ["first", "emil", "fred"].map(|name| world.phone(name));
    for (phone, to) in [(first, "support"), (emil, "room-7"), (fred, "room-7")] {
        world.call(phone, to);
    }
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 4, "{}", world.story());
    let at = world.clocks();
    let up = MediaInput::HostUp {
        host: "full".into(),
        boot_id: "x".into(),
    };
    world.controller.handle_media(at, up);
    let before = world.controller.counters().media_commands;
    world.lose_media_host();
    world.run_ms(8_000);
    let phones = [alice, first, emil, fred];
    assert!(
        phones.iter().all(|phone| world.phones[*phone].talks()),
        "kept for a while"
    );
    world.run_ms(4_000);
    assert!(
        !phones.iter().any(|phone| world.phones[*phone].talks()),
        "{}",
        world.story()
    );
    let asked = world.controller.counters().media_commands - before;
    assert!((10..100).contains(&asked), "{asked} times");
    assert_eq!(world.details().len(), 3);
    world.restart_media_host(true);
    world.assert_nothing_left();
}

/// A session that nobody needs would record on.
#[test]
fn and_one_that_is_over_is_let_go_though_its_recording_is_awaited() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(3_000);
    let at = world.clocks();
    let call = world.controller.live(at).calls[0].call.clone();
    assert!(world.controller.record_call(at, &call));
    world.run_ms(500);
    world.cut_link(false);
    world.give_up_media_host();
    world.run_ms(11_000);
    assert!(!world.phones[customer].talks(), "{}", world.story());
    assert!(world.details().is_empty(), "{}", world.story());
    world.mend_link();
    world.run_ms(200);
    assert_eq!(world.media.sessions.len(), 0, "{}", world.story());
    world.run_ms(10_000);
    assert_eq!(world.detail().recordings.len(), 1);
    world.assert_nothing_left();
}

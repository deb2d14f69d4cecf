use call_control::{domain::AgentState, journal::EndedBy};
use sdp::Direction;
use sip::message::Method;

use crate::world::{World, config};

/// Alice and a customer talk.
fn talking() -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    (world, alice, customer)
}

fn registered_again(world: &mut World, phone: usize) {
    let now = world.now;
    world.phones[phone].register(now, "wonder", 300);
    world.run_ms(100);
}

#[test]
fn a_conversation_goes_on_and_the_customer_hangs_up() {
    let (mut world, alice, customer) = talking();
    let heard = world.heard();
    world.restart();
    assert_eq!(world.heard(), heard, "nobody took the audio away");
    world.run_ms(1_000);
    assert_eq!(world.heard(), heard, "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::Talking);
    assert_eq!(
        world.media.sessions.values().next().unwrap().epoch,
        2,
        "the former owner is fenced off"
    );
    registered_again(&mut world, alice);
    world.run_ms(60_000);
    assert_eq!(world.agent("alice"), AgentState::Talking);
    world.hang_up(customer);
    world.run_ms(100);
    assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::WrapUp);
    let detail = world.detail();
    assert_eq!(detail.answered_by.as_deref(), Some("alice"));
    assert_eq!(detail.queue.as_deref(), Some("support"));
    assert!((60_000..70_000).contains(&detail.talk_ms), "{detail:?}");
    assert_eq!(
        detail.caller_media.unwrap().rx_packets,
        500,
        "counted by the host"
    );
    assert_eq!(detail.status, 200);
    world.assert_nothing_left();
}

#[test]
fn a_conversation_goes_on_and_the_agent_hangs_up() {
    let (mut world, alice, customer) = talking();
    world.restart();
    registered_again(&mut world, alice);
    world.run_ms(1_000);
    world.hang_up(alice);
    world.run_ms(100);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().answered_by.as_deref(), Some("alice"));
    world.assert_nothing_left();
}

#[test]
fn twice_in_a_row() {
    let (mut world, alice, customer) = talking();
    world.restart();
    world.run_ms(500);
    world.restart();
    registered_again(&mut world, alice);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.media.sessions.values().next().unwrap().epoch, 3);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn who_waits_keeps_the_place_and_is_served_in_order() {
    let mut world = World::new();
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(1_000);
    world.call(second, "support");
    world.run_ms(20_000);
    world.restart();
    world.run_ms(1_000);
    let live = world.controller.live(world.clocks());
    assert_eq!(live.queues[0].waiting, 2, "{}", world.story());
    let places: Vec<_> = live
        .calls
        .iter()
        .map(|call| (call.from.clone(), call.position))
        .collect();
    assert!(
        places[0].0.contains("first") && places[0].1 == Some(1),
        "{places:?}"
    );
    assert!(
        places[1].0.contains("second") && places[1].1 == Some(2),
        "{places:?}"
    );
    let alice = world.registered("alice", "wonder");
    world.run_ms(3_000);
    let heard = world.heard();
    assert!(
        heard.contains(&("first", "alice")) && heard.contains(&("alice", "first")),
        "{heard:?}"
    );
    world.hang_up(alice);
    world.run_ms(6_000);
    assert!(world.heard().contains(&("alice", "second")), "{}", world.story());
    let served = world.details();
    assert!(
        (21_000..24_000).contains(&served[0].wait_ms),
        "from when it came: {served:?}"
    );
    world.hang_up(second);
    world.assert_nothing_left();
}

#[test]
fn who_waited_too_long_meanwhile_is_told() {
    let mut world = World::new();
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(59_000);
    world.restart();
    world.run_ms(2_000);
    assert_eq!(
        world.detail().reason,
        "nobody answered in time",
        "{}",
        world.story()
    );
    assert!(world.phones[customer].dialog.is_none());
    world.assert_nothing_left();
}

#[test]
fn a_phone_that_rings_is_cancelled_and_rung_again() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.behave(alice, crate::phone::Behaviour::Ring);
    world.call(customer, "support");
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].rung, 1);
    world.behave(alice, crate::phone::Behaviour::Answer(500));
    world.restart();
    world.run_ms(100);
    assert!(
        world.phones[alice].cancelled[0].contains("Controller restarted"),
        "{}",
        world.story()
    );
    world.run_ms(10_000);
    assert_eq!(world.phones[alice].rung, 2, "{}", world.story());
    assert_eq!(world.heard().len(), 2);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_party_that_hung_up_meanwhile_ends_the_call() {
    let (mut world, alice, customer) = talking();
    // Its BYE finds nobody.
    world.swallow.push(("BYE", 11));
    world.hang_up(customer);
    world.run_ms(40_000);
    world.swallow.clear();
    world.phones[customer].dialog = None;
    world.restart();
    world.run_ms(1_000);
    assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
    let detail = world.detail();
    assert_eq!(
        (detail.ended_by, detail.reason.as_str(), detail.status),
        (EndedBy::Caller, "the caller had gone", 200)
    );
    world.assert_nothing_left();
}

#[test]
fn a_session_that_is_gone_is_made_again() {
    let (mut world, alice, customer) = talking();
    world.media.restart(false);
    world.restart();
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "by re-INVITE\n{}", world.story());
    registered_again(&mut world, alice);
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// The host had nothing when it was asked: what the dead process had it make came there a moment later.
#[test]
fn a_session_that_was_being_made_anew_is_taken_over() {
    let (mut world, alice, customer) = talking();
    world.restart_media_host(true);
    world.run_ms(0);
    assert_eq!(world.controller.counters().media_pending, 1);
    world.restart();
    registered_again(&mut world, alice);
    world.run_ms(60_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
    let sessions = &world.media.sessions;
    let epochs: Vec<u64> = sessions.values().map(|session| session.epoch).collect();
    assert_eq!(epochs, [2], "{}", world.story());
    world.hang_up(customer);
    world.run_ms(100);
    assert_eq!(world.detail().status, 200);
    world.assert_nothing_left();
}

/// As many messages as there may be: no number of a request is used a second time.
#[test]
fn numbers_of_requests_that_no_record_tells_of_are_not_used_again() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    world.call(alice, "bob");
    world.run_ms(3_000);
    for _ in 0..130 {
        let now = world.now;
        world.phones[alice].write_within(now, "hello");
        world.run_ms(50);
    }
    assert_eq!(world.phones[bob].read.len(), 130, "{}", world.story());
    world.restart();
    world.run_ms(1_000);
    let now = world.now;
    world.phones[alice].write_within(now, "and again");
    world.run_ms(500);
    assert_eq!(world.phones[alice].told(), Some(200), "{}", world.story());
    assert_eq!(world.phones[bob].texts().pop().unwrap(), "and again");
    world.hang_up(bob);
    world.assert_nothing_left();
}

/// The media host gives other ports, both parties are asked to go there, and the controller is killed before they answer, or
/// at any moment soon after.
#[test]
fn who_was_being_asked_to_go_elsewhere_talks_on() {
    for killed_after_ms in 0..60 {
        let (mut world, alice, customer) = talking();
        let invited = world.count(" INVITE ");
        world.restart_media_host(false);
        while world.count(" INVITE ") < invited + 2 {
            world.run_ms(1);
        }
        world.run_ms(killed_after_ms);
        world.restart();
        registered_again(&mut world, alice);
        world.run_ms(60_000);
        let story = || format!("killed after {killed_after_ms} ms\n{}", world.story());
        assert_eq!(world.heard().len(), 2, "{}", story());
        assert_eq!(world.agent("alice"), AgentState::Talking, "{}", story());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// What the records tell is what is: at whatever record the process is killed, nothing is stuck, nothing is doubled,
/// and every call gets its detail.
#[test]
fn killed_at_any_record_every_call_ends_with_one_detail() {
    let script = |world: &mut World| {
        let alice = world.registered("alice", "wonder");
        let (first, second) = (world.phone("first"), world.phone("second"));
        world.call(first, "support");
        world.run_ms(500);
        world.call(second, "alice");
        world.run_ms(3_000);
        (alice, first, second)
    };
    let mut whole = World::new();
    script(&mut whole);
    let count = whole.records.len();
    assert!(count > 10, "{}", whole.story());
    for kept in 0..=count {
        let mut world = World::new();
        let (alice, first, second) = script(&mut world);
        world.restart_from(kept);
        world.run_ms(5_000);
        registered_again(&mut world, alice);
        world.run_ms(5_000);
        for phone in [alice, first, second] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
            }
        }
        world.run_ms(200_000);
        world.assert_each_call_has_one_detail(kept);
    }
}

/// Nobody would ever come to who waits in a queue that is not there any more.
#[test]
fn but_not_in_a_queue_that_is_not_configured_any_more() {
    let mut config = config();
    config.calls.answer_before_music = true;
    let mut world = World::with(config.clone());
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(3_000);
    assert!(world.phones[customer].talks(), "{}", world.story());
    config.queues.clear();
    world.restart_with(config);
    world.run_ms(500);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    let detail = world.detail();
    assert!(detail.reason.contains("\"support\" does not exist"), "{detail:?}");
    world.assert_nothing_left();
}

/// Nobody could tell where their audio is, so it is made anew elsewhere.
#[test]
fn and_a_media_host_that_is_not_configured_any_more() {
    let (mut world, alice, customer) = talking();
    let second = world.phone("second");
    world.call(second, "support");
    world.run_ms(1_000);
    let mut config = config();
    config.media.hosts[0].name = "m2".into();
    world.restart_with(config);
    world.add_media_host();
    world.run_ms(3_000);
    let both = [("alice", "customer"), ("customer", "alice")].into();
    assert_eq!(world.heard(), both, "{}", world.story());
    registered_again(&mut world, alice);
    world.hang_up(customer);
    world.run_ms(5_000);
    assert!(world.heard().contains(&("alice", "second")), "{}", world.story());
    world.hang_up(second);
    world.media.sessions.clear();
    world.assert_nothing_left();
}

/// Which tells nobody of itself, since it was not there before either.
#[test]
fn and_a_media_host_that_is_not_there_after_it() {
    let mut config = config();
    let other = call_control::config::MediaHost {
        name: "m2".into(),
        address: "http://10.0.0.3:7000".into(),
    };
    config.media.hosts.push(other);
    for comes_back in [false, true] {
        let mut world = World::with(config.clone());
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(3_000);
        let heard = world.heard();
        assert_eq!(heard.len(), 2, "{}", world.story());
        world.restart_alone();
        world.run_ms(6_000);
        if comes_back {
            // It was only slow.
            world.mend_link();
        } else {
            world.add_media_host();
        }
        world.run_ms(2_000);
        assert_eq!(world.heard(), heard, "{}", world.story());
        assert_eq!(
            world.count("server>customer INVITE"),
            usize::from(!comes_back),
            "{}",
            world.story()
        );
        registered_again(&mut world, alice);
        world.hang_up(customer);
        world.media.sessions.retain(|_, _| comes_back);
        world.assert_nothing_left();
    }
}

/// A peer that has our 100 repeats nothing.
#[test]
fn a_new_offer_that_was_not_answered_is_answered_after_it() {
    for method in [Method::Invite, Method::Update] {
        let (mut world, alice, customer) = talking();
        world.media.silent = true;
        let now = world.now;
        world.phones[customer].try_offer(now, method.clone(), Direction::SendOnly);
        world.run_ms(1_000);
        assert_eq!(world.phones[customer].statuses, [0; 0], "{}", world.story());
        world.media.silent = false;
        world.restart();
        world.run_ms(1_000);
        assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
        assert_eq!(world.heard().len(), 0, "on hold\n{}", world.story());
        let now = world.now;
        world.phones[customer].try_offer(now, method, Direction::SendRecv);
        world.run_ms(1_000);
        assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        registered_again(&mut world, alice);
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// No journal holds keys: it is asked to come again.
#[test]
fn and_one_with_keys_is_refused_and_what_stood_stands() {
    let mut config = config();
    config.media.srtp_keys_in_clear = true;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.phones[customer].suites = vec![sdp::CryptoSuite::AeadAes128Gcm];
    world.call(customer, "support");
    world.run_ms(3_000);
    let heard = world.heard();
    assert_eq!(heard.len(), 2, "{}", world.story());
    world.media.silent = true;
    let now = world.now;
    world.phones[customer].try_offer(now, Method::Invite, Direction::SendOnly);
    world.run_ms(1_000);
    world.media.silent = false;
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.phones[customer].statuses, [500], "{}", world.story());
    assert_eq!(world.heard(), heard, "{}", world.story());
    registered_again(&mut world, alice);
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Its caller has no answer, and so repeats its INVITE: that is no other call.
#[test]
fn one_that_had_only_begun_goes_on_when_its_invite_comes_again() {
    for to in ["alice", "support", "room-7"] {
        for segments in 0..2 {
            let mut world = World::new();
            world.registered("alice", "wonder");
            let customer = world.phone("customer");
            world.call(customer, to);
            world.run_ms(6);
            assert_eq!(
                world.kinds().last().map(String::as_str),
                Some("started"),
                "{}",
                world.story()
            );
            for _ in 0..segments {
                world.restart();
                let standing = world.controller.standing(world.clocks());
                world.records = standing;
            }
            world.restart();
            world.run_ms(3_000);
            assert_eq!(
                world.phones[customer].statuses.last(),
                Some(&200),
                "{}",
                world.story()
            );
            world.hang_up(customer);
            world.run_ms(200);
            let detail = world.detail();
            assert_eq!(
                (detail.status, detail.reason.as_str()),
                (200, "the caller hung up")
            );
            world.run_ms(40_000);
            assert_eq!(world.details().len(), 1, "{}", world.story());
            if segments == 0 {
                world.assert_nothing_left();
            }
        }
    }
}

#[test]
fn and_ends_when_it_does_not() {
    for to in ["alice", "support", "room-7"] {
        let mut world = World::new();
        world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, to);
        world.run_ms(6);
        world.swallow.push(("INVITE", usize::MAX));
        world.restart();
        world.run_ms(31_000);
        assert!(world.details().is_empty(), "{}", world.story());
        world.run_ms(2_000);
        let detail = world.detail();
        assert_eq!(detail.status, 500, "{}", world.story());
        assert_eq!(
            detail.reason,
            "the controller was restarted before the call was set up"
        );
        world.assert_nothing_left();
    }
}

/// Whose call began first may have come to the queue last.
#[test]
fn callers_are_served_in_the_order_in_which_they_came_to_the_queue() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(2_000);
    world.call(second, "support");
    world.run_ms(1_000);
    let at = world.clocks();
    world.controller.agent_pause(at, "alice", "lunch").unwrap();
    let now = world.now;
    world.phones[alice].refer(now, "sip:support@example.com");
    world.run_ms(3_000);
    world.restart();
    world.run_ms(3_000);
    let at = world.clocks();
    world.controller.agent_ready(at, "alice").unwrap();
    world.run_ms(3_000);
    assert!(world.phones[second].talks(), "{}", world.story());
    world.hang_up(second);
    world.run_ms(6_000);
    assert!(world.heard().contains(&("first", "alice")), "{}", world.story());
    world.hang_up(first);
    world.run_ms(200);
    assert_eq!(world.details().len(), 2);
    world.assert_nothing_left();
}

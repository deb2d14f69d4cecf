use std::collections::BTreeSet;

use call_control::{RecordKind, domain::AgentState};
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

fn both(a: &'static str, b: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    BTreeSet::from([(a, b), (b, a)])
}

/// A customer that alice serves, and carol, who is no agent.
fn served() -> (World, usize, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_500);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    (world, alice, carol, customer)
}

fn refer(world: &mut World, phone: usize, to: &str) {
    let now = world.now;
    world.phones[phone].refer(now, to);
}

/// How often an agent's state was recorded.
fn times(world: &World, agent: &str, state: &str) -> usize {
    let kind = format!("{agent} {state}");
    world.kinds().iter().filter(|found| **found == kind).count()
}

fn transfers(world: &World) -> Vec<u16> {
    let of = |record: &call_control::Record| match &record.kind {
        RecordKind::CallTransferred { status, .. } => Some(*status),
        _ => None,
    };
    world.records.iter().filter_map(of).collect()
}

#[test]
fn by_the_agent_to_a_user() {
    let (mut world, alice, carol, customer) = served();
    refer(&mut world, alice, "sip:carol@example.com");
    world.run_ms(500);
    let story = world.story();
    assert_eq!(world.played_to(customer), ["tone:ringback-us"], "{story}");
    assert_eq!(world.heard(), BTreeSet::new(), "{story}");
    assert_eq!(
        world.agent("alice"),
        AgentState::Talking,
        "until it is known how it ends"
    );
    world.run_ms(1_500);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "carol"), "{story}");
    let told = ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"];
    assert_eq!(world.phones[alice].notified, told, "{story}");
    assert!(world.phones[alice].dialog.is_none(), "{story}");
    assert_eq!(world.agent("alice"), AgentState::WrapUp);
    assert_eq!(
        world.count("server>customer"),
        2,
        "nothing is signalled to it\n{story}"
    );
    let invited = world.phones[carol].invited_by.as_ref().unwrap();
    let header = |name| String::from_utf8_lossy(invited.headers.get(name).unwrap()).into_owned();
    assert_eq!(header(HeaderName::ReferredBy), "<sip:alice@example.com>");
    assert!(header(HeaderName::From).contains("sip:customer@example.com"));

    world.run_ms(5_000);
    world.hang_up(carol);
    world.run_ms(200);
    let detail = world.detail();
    assert_eq!(detail.answered_by.as_deref(), Some("carol"));
    let legs: Vec<_> = detail
        .legs
        .iter()
        .map(|leg| (leg.address.as_str(), leg.called))
        .collect();
    let expected = [
        ("sip:customer@example.com", false),
        ("sip:alice@example.com", true),
        ("sip:carol@example.com", true),
    ];
    assert_eq!(legs, expected);
    assert!(
        detail.legs.iter().all(|leg| leg.media.is_some()),
        "all are counted"
    );
    assert_eq!(
        (times(&world, "alice", "wrap_up"), transfers(&world)),
        (1, vec![200])
    );
    world.assert_nothing_left();
}

/// What phones do that do not wait to be told.
#[test]
fn by_an_agent_who_hangs_up_at_once() {
    for answers in [true, false] {
        let (mut world, alice, carol, customer) = served();
        if !answers {
            world.behave(carol, Behaviour::Refuse(StatusCode::BUSY_HERE));
        }
        refer(&mut world, alice, "sip:carol@example.com");
        world.run_ms(12);
        world.hang_up(alice);
        world.run_ms(3_000);
        let story = world.story();
        assert_eq!(times(&world, "alice", "wrap_up"), 1, "{story}");
        if answers {
            assert_eq!(world.heard(), both("customer", "carol"), "{story}");
            world.hang_up(customer);
        } else {
            // The customer is not lost: it is back in the queue, and alice is the only agent.
            world.run_ms(5_000);
            assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
            world.hang_up(customer);
        }
        world.run_ms(200);
        assert_eq!(world.details().len(), 1);
        world.assert_nothing_left();
    }
}

/// The queue that has the customer back took nobody more meanwhile.
#[test]
fn by_an_agent_who_hangs_up_and_whose_queue_is_full() {
    let mut settings = config();
    settings.queues[0].entries_max = 1;
    let mut world = World::with(settings);
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Refuse(StatusCode::BUSY_HERE));
    let [customer, other, late] = ["customer", "other", "late"].map(|name| world.phone(name));
    world.call(customer, "support");
    world.run_ms(1_500);
    world.call(other, "support");
    world.run_ms(200);
    refer(&mut world, alice, "sip:carol@example.com");
    world.run_ms(12);
    world.hang_up(alice);
    world.run_ms(500);
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    world.call(late, "support");
    world.run_ms(200);
    assert_eq!(
        world.phones[late].statuses.last(),
        Some(&486),
        "{}",
        world.story()
    );
    world.run_ms(7_500);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    world.hang_up(customer);
    world.run_ms(8_000);
    assert_eq!(world.heard(), both("other", "alice"), "{}", world.story());
    world.hang_up(other);
    world.run_ms(200);
    world.assert_nothing_left();
}

#[test]
fn and_comes_back_when_nobody_takes_it() {
    for behaviour in [Behaviour::Refuse(StatusCode::BUSY_HERE), Behaviour::Ring] {
        let (mut world, alice, carol, customer) = served();
        world.behave(carol, behaviour);
        refer(&mut world, alice, "sip:carol@example.com");
        world.run_ms(70_000);
        let story = world.story();
        assert_eq!(world.heard(), both("customer", "alice"), "{story}");
        let told = world.phones[alice].notified.last().unwrap();
        let expected = match behaviour {
            Behaviour::Ring => "SIP/2.0 480 Temporarily Unavailable",
            _ => "SIP/2.0 486 Busy Here",
        };
        assert_eq!(told, expected, "{story}");
        assert_eq!(world.agent("alice"), AgentState::Talking);
        // A second try says which one it is about (RFC 3515 §2.4.6).
        world.behave(carol, Behaviour::Answer(100));
        refer(&mut world, alice, "sip:carol@example.com");
        world.run_ms(1_000);
        assert_eq!(world.heard(), both("customer", "carol"), "{}", world.story());
        world.hang_up(customer);
        world.run_ms(200);
        assert_eq!(times(&world, "alice", "wrap_up"), 1);
        assert_eq!(transfers(&world).len(), 2);
        world.assert_nothing_left();
    }
}

/// Nor does a media host end the call that has no room for who is to be rung, or to be moved.
#[test]
fn and_when_the_media_host_has_no_room_for_who_is_to_come() {
    for attended in [false, true] {
        let (mut world, alice, carol, customer) = served();
        let line_two = world.phone("alice");
        world.phones[line_two].password = "wonder";
        if attended {
            world.call(line_two, "carol");
            world.run_ms(2_000);
            world.media.fail = Some("out of ports");
            refer_to_the_other(&mut world, (alice, line_two), false);
        } else {
            world.media.fail = Some("out of ports");
            refer(&mut world, alice, "sip:carol@example.com");
        }
        world.run_ms(300);
        world.media.fail = None;
        world.run_ms(2_000);
        let story = world.story();
        let mut expected = both("customer", "alice");
        if attended {
            expected.extend(both("carol", "alice"));
        }
        assert_eq!(world.heard(), expected, "{story}");
        let told = world.phones[alice].notified.last().unwrap();
        assert_eq!(told, "SIP/2.0 503 Service Unavailable", "{story}");
        assert_eq!(world.agent("alice"), AgentState::Talking);
        if attended {
            world.hang_up(line_two);
            world.run_ms(100);
        }
        refer(&mut world, alice, "sip:carol@example.com");
        world.run_ms(2_000);
        assert_eq!(world.heard(), both("customer", "carol"), "{}", world.story());
        assert_eq!(transfers(&world), [503, 200]);
        world.hang_up(carol);
        world.run_ms(100);
        assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
        world.assert_nothing_left();
    }
}

/// Who came last is not who came at the latest time.
#[test]
fn and_its_detail_names_who_has_it_though_a_clock_was_set_back() {
    let (mut world, alice, carol, customer) = served();
    world.phones[carol].codecs = vec![sdp::Codec::pcma()];
    world.clock_set_s = -3_600;
    refer(&mut world, alice, "sip:carol@example.com");
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("customer", "carol"), "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    let detail = world.detail();
    assert_eq!(
        (detail.answered_by.as_deref(), detail.callee_codec.as_str()),
        (Some("carol"), "PCMA")
    );
    assert_eq!(detail.legs.len(), 3);
    world.assert_nothing_left();
}

/// The one who was called goes on, and hears ringback of ours.
#[test]
fn by_the_caller() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    let carol = world.registered("carol", "singer");
    world.call(carol, "bob");
    world.run_ms(1_500);
    assert_eq!(world.heard(), both("carol", "bob"), "{}", world.story());
    refer(&mut world, carol, "sip:alice@example.com");
    world.run_ms(500);
    assert_eq!(world.played_to(bob), ["tone:ringback-us"], "{}", world.story());
    world.run_ms(1_500);
    assert_eq!(world.heard(), both("bob", "alice"), "{}", world.story());
    assert!(world.phones[carol].dialog.is_none());
    let from = world.phones[alice]
        .invited_by
        .as_ref()
        .unwrap()
        .headers
        .from()
        .unwrap();
    assert_eq!(
        &from.uri.as_bytes()[..],
        b"sip:bob@example.com",
        "who waits calls"
    );
    world.hang_up(bob);
    world.run_ms(200);
    let detail = world.detail();
    assert_eq!(
        detail.ended_by,
        call_control::journal::EndedBy::Callee,
        "bob was called"
    );
    assert_eq!(
        (detail.from.as_str(), detail.legs.len()),
        ("sip:carol@example.com", 3)
    );
    world.assert_nothing_left();
}

/// The caller of a queue leaves its agent to somebody who does not come: the agent came by no queue, and waits in none.
#[test]
fn by_a_caller_who_leaves_its_agent_alone() {
    for hangs_up_late in [false, true] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let carol = world.registered("carol", "singer");
        world.call(carol, "support");
        world.run_ms(1_500);
        let bob = world.registered("bob", "builder");
        world.behave(bob, Behaviour::Refuse(StatusCode::BUSY_HERE));
        let at = world.clocks();
        world.controller.agent_pause(at, "bob", "lunch").unwrap();
        refer(&mut world, carol, "sip:bob@example.com");
        world.run_ms(if hangs_up_late { 28 } else { 12 });
        world.hang_up(carol);
        world.run_ms(1_000);
        let story = world.story();
        assert_eq!(world.controller.counters().waiting, 0, "{story}");
        assert!(world.phones[alice].dialog.is_none(), "{story}");
        assert_eq!(world.agent("alice"), AgentState::WrapUp, "{story}");
        world.assert_nothing_left();
    }
}

/// Carol has her calls go to the queue: then that has it, as if alice had sent it there.
#[test]
fn to_who_sends_its_calls_to_a_queue() {
    let (mut world, alice, carol, customer) = served();
    world.behave(carol, Behaviour::Forward("support"));
    refer(&mut world, alice, "sip:carol@example.com");
    world.run_ms(500);
    let story = world.story();
    assert_eq!(
        world.phones[alice].notified.last().unwrap(),
        "SIP/2.0 200 OK",
        "{story}"
    );
    assert_eq!(world.agent("alice"), AgentState::WrapUp, "{story}");
    // She is the only one who may take it.
    world.run_ms(5_000);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    assert_eq!(transfers(&world), [200]);
    world.assert_nothing_left();
}

/// There is no media host just then: nobody is rung before there is one, nor blamed.
#[test]
fn to_a_queue_while_the_media_host_is_lost() {
    let (mut world, alice, _, customer) = served();
    world.registered("bob", "builder");
    world.lose_media_host();
    world.run_ms(100);
    refer(&mut world, alice, "sip:support@example.com");
    world.run_ms(9_000);
    let state = world.agent("bob");
    assert_eq!(state, AgentState::Ready, "{}", world.story());
    world.run_ms(600);
    world.restart_media_host(false);
    world.run_ms(5_000);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "bob"), "{story}");
    let agents = world.controller.live(world.clocks()).agents;
    let blamed: Vec<_> = agents.iter().map(|it| (it.missed, it.declined)).collect();
    assert_eq!(blamed, [(0, 0), (0, 0)], "{story}");
    world.hang_up(customer);
    world.run_ms(200);
    world.assert_nothing_left();
}

/// The agent is free at once: it may be the one who has to take the next call.
#[test]
fn to_a_queue() {
    let (mut world, alice, _, customer) = served();
    world.registered("bob", "builder");
    refer(&mut world, alice, "sip:support@example.com");
    world.run_ms(200);
    let story = world.story();
    assert_eq!(world.agent("alice"), AgentState::WrapUp, "{story}");
    assert_eq!(world.agent("bob"), AgentState::Reserved, "{story}");
    assert_eq!(world.played_to(customer), ["tone:melody"], "{story}");
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("customer", "bob"), "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    assert_eq!(
        (world.detail().answered_by.as_deref(), world.detail().legs.len()),
        (Some("bob"), 3)
    );
    world.assert_nothing_left();
}

/// Carol is brought together with who is on the other of these two lines, by REFER. Either call may be the one that is
/// referred, and the other the one that is named. Gives the line that asks.
fn refer_to_the_other(world: &mut World, (one, two): (usize, usize), named_first: bool) -> usize {
    let (asks, named) = if named_first { (two, one) } else { (one, two) };
    let (escaped, _) = world.phones[named].replaces();
    refer(world, asks, &format!("sip:carol@example.com?Replaces={escaped}"));
    asks
}

/// Alice asks carol before she brings the customer to her. Two lines of a phone are two phones here.
#[test]
fn after_asking_the_other() {
    for named_first in [false, true] {
        let (mut world, alice, carol, customer) = served();
        let line_two = world.phone("alice");
        world.phones[line_two].password = "wonder";
        let now = world.now;
        world.phones[alice].reinvite(now, sdp::Direction::SendOnly);
        world.call(line_two, "carol");
        world.run_ms(2_000);
        let story = world.story();
        assert_eq!(world.played_to(customer), ["tone:melody"], "{story}");
        assert!(world.phones[carol].talks(), "{story}");
        let asks = refer_to_the_other(&mut world, (alice, line_two), named_first);
        world.run_ms(1_000);
        let story = world.story();
        assert_eq!(world.heard(), both("customer", "carol"), "{story}");
        for line in [alice, line_two] {
            assert!(world.phones[line].dialog.is_none(), "{story}");
        }
        assert_eq!(
            world.phones[asks].notified.last().unwrap(),
            "SIP/2.0 200 OK",
            "{story}"
        );
        assert_eq!(world.agent("alice"), AgentState::WrapUp, "{story}");
        assert_eq!(world.count("server>customer INVITE"), 0, "{story}");
        assert_eq!(world.media.sessions.len(), 1, "{story}");
        world.run_ms(1_000);
        world.hang_up(carol);
        world.run_ms(200);
        let details = world.details();
        let told: Vec<_> = details
            .iter()
            .map(|detail| (detail.status, detail.answered_by.as_deref(), detail.legs.len()))
            .collect();
        assert_eq!(told, [(200, Some("carol"), 2), (200, Some("carol"), 3)]);
        assert!(
            details[0].reason.starts_with("transferred to call"),
            "{}",
            details[0].reason
        );
        world.assert_nothing_left();
    }
}

/// She does not wait to be told, and hangs up one of her lines, or both, while the other is being moved.
#[test]
fn after_asking_the_other_by_who_hangs_up_at_once() {
    for after_ms in 1..30 {
        for (named_first, hangs_up) in [false, true]
            .into_iter()
            .flat_map(|it| (1..4).map(move |up| (it, up)))
        {
            let (mut world, alice, carol, customer) = served();
            let line_two = world.phone("alice");
            world.phones[line_two].password = "wonder";
            world.call(line_two, "carol");
            world.run_ms(2_000);
            refer_to_the_other(&mut world, (alice, line_two), named_first);
            world.run_ms(after_ms);
            for (line, is_hung_up) in [(alice, hangs_up & 1 > 0), (line_two, hangs_up & 2 > 0)] {
                if is_hung_up && world.phones[line].talks() {
                    world.hang_up(line);
                }
            }
            world.run_ms(1_000);
            let story = format!("{named_first} {hangs_up} after {after_ms} ms\n{}", world.story());
            assert_eq!(world.heard(), both("customer", "carol"), "{story}");
            assert_eq!(times(&world, "alice", "wrap_up"), 1, "{story}");
            for line in [alice, line_two] {
                assert!(world.phones[line].dialog.is_none(), "{story}");
            }
            world.hang_up(customer);
            world.run_ms(200);
            let details = world.details();
            let told: Vec<_> = details
                .iter()
                .map(|it| (it.status, it.answered_by.as_deref(), it.legs.len()))
                .collect();
            assert_eq!(
                told,
                [(200, Some("carol"), 2), (200, Some("carol"), 3)],
                "{story}"
            );
            assert!(world.phones[carol].dialog.is_none(), "{story}");
            world.assert_nothing_left();
        }
    }
}

/// And then carol cannot be moved: nobody is left alone.
#[test]
fn and_nobody_is_left_alone_when_that_fails() {
    for hangs_up in 1..4 {
        let (mut world, alice, carol, customer) = served();
        let line_two = world.phone("alice");
        world.phones[line_two].password = "wonder";
        world.call(line_two, "carol");
        world.run_ms(2_000);
        world.phones[carol].codecs = vec![sdp::Codec::g722()];
        refer_to_the_other(&mut world, (alice, line_two), false);
        world.run_ms(7);
        for (line, is_hung_up) in [(alice, hangs_up & 1 > 0), (line_two, hangs_up & 2 > 0)] {
            if is_hung_up {
                world.hang_up(line);
            }
        }
        world.run_ms(8_000);
        let story = format!("{hangs_up}\n{}", world.story());
        // The customer is with alice, who has it back or has taken it from the queue.
        let mut expected = both("customer", "alice");
        if hangs_up == 1 {
            expected.extend(both("carol", "alice"));
        }
        assert_eq!(world.phones[carol].talks(), hangs_up == 1, "{story}");
        if hangs_up > 1 {
            assert_eq!(world.heard(), expected, "{story}");
        }
        for phone in [customer, line_two] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
            }
        }
        world.assert_nothing_left();
    }
}

/// Carol makes an offer of her own just then, and hangs up before she can be asked again: alice has the customer back at
/// once.
#[test]
fn unless_the_other_hangs_up_meanwhile() {
    for after_ms in 0..20 {
        let (mut world, alice, carol, customer) = served();
        let line_two = world.phone("alice");
        world.phones[line_two].password = "wonder";
        world.call(line_two, "carol");
        world.run_ms(2_000);
        refer_to_the_other(&mut world, (alice, line_two), false);
        world.run_ms(after_ms);
        let now = world.now;
        world.phones[carol].try_reinvite(now, sdp::Direction::SendRecv);
        world.run_ms(30);
        let is_moved = world.heard() == both("customer", "carol");
        if world.phones[carol].talks() {
            world.hang_up(carol);
        }
        world.run_ms(1_000);
        let story = format!("{after_ms} ms\n{}", world.story());
        if !is_moved && world.phones[alice].talks() {
            assert_eq!(world.heard(), both("customer", "alice"), "{story}");
        }
        if world.phones[customer].talks() {
            world.hang_up(customer);
        }
        world.assert_nothing_left();
    }
}

/// Whenever the controller is killed meanwhile, it is done or all is as it was before, and nobody is rung anew.
#[test]
fn after_asking_the_other_though_the_controller_is_killed() {
    let mut ends = BTreeSet::new();
    for (killed_after_ms, named_first) in (0..40).flat_map(|ms| [(ms, false), (ms, true)]) {
        let (mut world, alice, carol, customer) = served();
        let line_two = world.phone("alice");
        world.phones[line_two].password = "wonder";
        world.call(line_two, "carol");
        world.run_ms(2_000);
        refer_to_the_other(&mut world, (alice, line_two), named_first);
        world.run_ms(killed_after_ms);
        world.restart();
        world.run_ms(60_000);
        let story = || format!("killed after {killed_after_ms} ms\n{}", world.story());
        let heard = world.heard();
        let is_done = heard == both("customer", "carol");
        let before = &both("customer", "alice") | &both("carol", "alice");
        assert!(is_done || heard == before, "{heard:?}, {}", story());
        assert_eq!(world.phones[carol].rung, 1, "{}", story());
        let state = if is_done {
            AgentState::Ready
        } else {
            AgentState::Talking
        };
        assert_eq!(world.agent("alice"), state, "{}", story());
        ends.insert(is_done);
        for phone in [customer, line_two] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
                world.run_ms(200);
            }
        }
        let told = world.details().into_iter();
        let told: Vec<_> = told
            .map(|it| (it.status, it.answered_by, it.legs.len()))
            .collect();
        let (carols, alices) = (Some("carol".to_owned()), Some("alice".to_owned()));
        let expected = if is_done {
            [(200, carols.clone(), 2), (200, carols, 3)]
        } else {
            [(200, alices, 2), (200, carols, 2)]
        };
        assert_eq!(told, expected, "{}", world.story());
        world.assert_nothing_left();
    }
    assert_eq!(ends.len(), 2, "it was killed before and after it was done");
}

/// By another line alice calls there, and before anybody answers she brings the customer to that place.
fn refer_to_own_call(world: &mut World, alice: usize, to: &str) {
    let line_two = world.phone("alice");
    world.phones[line_two].password = "wonder";
    world.call(line_two, to);
    world.run_ms(300);
    world.phones[line_two].dialog = world.phones[line_two].early;
    let (escaped, _) = world.phones[line_two].replaces();
    refer(world, alice, &format!("sip:{to}@example.com?Replaces={escaped}"));
}

/// She does not wait until carol answers.
#[test]
fn while_the_other_is_still_rung() {
    let (mut world, alice, carol, customer) = served();
    refer_to_own_call(&mut world, alice, "carol");
    world.run_ms(3_000);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "carol"), "{story}");
    assert_eq!(world.phones[carol].rung, 2, "{story}");
    world.hang_up(customer);
    world.run_ms(200);
    assert_eq!(world.details().len(), 2);
    world.assert_nothing_left();
}

/// She waits in a queue herself, and leaves that to the customer: nobody gave up there.
#[test]
fn while_she_waits_in_a_queue() {
    let (mut world, alice, _, customer) = served();
    refer_to_own_call(&mut world, alice, "support");
    world.run_ms(5_000);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "alice"), "{story}");
    let queue = world.controller.live(world.clocks()).queues.remove(0);
    assert_eq!((queue.answered, queue.abandoned), (2, 0), "{story}");
    world.hang_up(customer);
    world.run_ms(200);
    world.assert_nothing_left();
}

/// Carol does not take it from where she is: everything is as before.
#[test]
fn unless_the_other_cannot_be_moved() {
    let (mut world, alice, carol, customer) = served();
    let line_two = world.phone("alice");
    world.phones[line_two].password = "wonder";
    world.call(line_two, "carol");
    world.run_ms(1_500);
    world.phones[carol].codecs = vec![sdp::Codec::g722()];
    let (escaped, _) = world.phones[line_two].replaces();
    refer(
        &mut world,
        alice,
        &format!("sip:carol@example.com?Replaces={escaped}"),
    );
    world.run_ms(1_000);
    let story = world.story();
    assert_eq!(
        world.phones[alice].notified.last().unwrap(),
        "SIP/2.0 488 Not Acceptable Here",
        "{story}"
    );
    assert!(
        world.phones[alice].talks() && world.phones[line_two].talks(),
        "{story}"
    );
    let mut expected = both("customer", "alice");
    expected.extend(both("alice", "carol"));
    assert_eq!(world.heard(), expected, "{story}");
    world.hang_up(customer);
    world.hang_up(carol);
    world.assert_nothing_left();
}

/// INVITE with Replaces (RFC 3891): bob takes the call over from alice.
#[test]
fn by_somebody_who_takes_it_over() {
    let (mut world, alice, _, customer) = served();
    let bob = world.registered("bob", "builder");
    world
        .controller
        .agent_pause(world.clocks(), "bob", "lunch")
        .unwrap();
    // Seen from the third party, tags are as alice's own side names them.
    let (_, header) = world.phones[alice].replaces();
    let now = world.now;
    world.phones[bob].call_with(now, "alice", true, |request| {
        request.headers.push(HeaderName::Replaces, &header).unwrap();
        request.headers.push(HeaderName::Require, "replaces").unwrap();
    });
    world.run_ms(300);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "bob"), "{story}");
    assert!(world.phones[alice].dialog.is_none(), "{story}");
    assert_eq!(times(&world, "alice", "wrap_up"), 1, "{story}");
    world.hang_up(bob);
    world.run_ms(200);
    assert!(world.phones[customer].dialog.is_none());
    assert_eq!(world.detail().answered_by.as_deref(), Some("bob"));
    world.assert_nothing_left();
}

/// The media host is silent, so that carol has our 100 and repeats nothing when the controller is killed.
#[test]
fn by_somebody_who_waits_when_the_controller_is_killed() {
    for (segments, kills) in [(0, 1), (0, 2), (1, 1)] {
        let (mut world, alice, carol, customer) = served();
        let (_, header) = world.phones[alice].replaces();
        let now = world.now;
        world.media.silent = true;
        world.phones[carol].call_with(now, "alice", true, |request| {
            request.headers.push(HeaderName::Replaces, &header).unwrap();
        });
        world.run_ms(1_000);
        if segments > 0 {
            world.records = world.controller.standing(world.clocks());
        }
        for _ in 0..kills {
            world.restart_alone();
            world.run_ms(1_000);
        }
        world.media.silent = false;
        world.host_is_up("m1");
        world.run_ms(3_000);
        let story = world.story();
        assert_eq!(world.heard(), both("customer", "carol"), "{story}");
        assert!(world.phones[alice].dialog.is_none(), "{story}");
        // And of who waited nothing is left in the journal.
        world.restart();
        world.run_ms(3_000);
        assert_eq!(world.heard(), both("customer", "carol"), "{}", world.story());
        world.hang_up(customer);
        world.run_ms(200);
        assert_eq!(
            world.details().pop().unwrap().answered_by.as_deref(),
            Some("carol")
        );
        world.run_ms(40_000);
        world.restart();
        world.run_ms(1_000);
        assert_eq!(world.count("server>carol SIP/2.0 481"), 0, "{}", world.story());
    }
}

#[test]
fn only_by_who_may_and_to_who_is_there() {
    let (mut world, alice, carol, customer) = served();
    let status_of = |world: &mut World, phone: usize, to: &str| {
        refer(world, phone, to);
        world.run_ms(100);
        if let Some(told) = world.phones[phone].notified.last() {
            return told.clone();
        }
        let last = world
            .trace
            .iter()
            .rev()
            .find(|line| line.contains("server>") && line.contains(" SIP/2.0 "));
        last.unwrap().split("SIP/2.0 ").nth(1).unwrap().to_owned()
    };
    let carols = "sip:carol@example.com";
    assert_eq!(
        status_of(&mut world, customer, carols),
        "403 Forbidden",
        "a stranger"
    );
    for (to, why) in [
        ("sip:nobody@example.com", "SIP/2.0 404 Not Found"),
        ("sip:carol@elsewhere.org", "SIP/2.0 404 Not Found"),
        ("sip:bob@example.com", "SIP/2.0 480 Temporarily Unavailable"),
        (
            "sip:carol@example.com?Replaces=x%3Bto-tag%3Dy%3Bfrom-tag%3Dz",
            "SIP/2.0 481 Call/Transaction Does Not Exist",
        ),
    ] {
        assert_eq!(status_of(&mut world, alice, to), why, "{to}");
    }
    assert_eq!(world.heard(), both("customer", "alice"));
    world.behave(carol, Behaviour::Ring);
    refer(&mut world, alice, "sip:carol@example.com");
    world.run_ms(300);
    assert_eq!(
        status_of(&mut world, alice, carols),
        "491 Request Pending",
        "one at a time"
    );
    world.hang_up(customer);
    world.run_ms(300);
    assert!(
        world.phones[alice].dialog.is_none(),
        "who is transferred hung up: all is over"
    );
    assert_eq!(world.phones[carol].cancelled.len(), 1);
    world.assert_nothing_left();

    let mut nobody_may = config();
    nobody_may.calls.transfers = call_control::services::Transfers::None;
    let mut world = World::with(nobody_may);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_500);
    assert_eq!(
        status_of(&mut world, alice, "sip:support@example.com"),
        "403 Forbidden"
    );
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// A queue that takes nobody more gives nobody away.
#[test]
fn to_a_queue_that_is_full_and_comes_back() {
    let mut settings = config();
    let full = call_control::config::Queue {
        name: "full".into(),
        entries_max: 0,
        ..settings.queues[0].clone()
    };
    settings.queues.push(full);
    let mut world = World::with(settings);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    refer(&mut world, alice, "sip:full@example.com");
    world.run_ms(500);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "alice"), "{story}");
    let told = world.phones[alice].notified.last().unwrap();
    assert_eq!(told, "SIP/2.0 486 Busy Here", "{story}");
    assert_eq!(world.agent("alice"), AgentState::Talking);
    // Who dials it is told the same, and nothing that would keep its proxy away.
    let other = world.phone("other");
    world.call(other, "full");
    world.run_ms(200);
    assert_eq!(world.phones[other].statuses.last(), Some(&486));
    let response = world.phones[other].last_response.as_ref().unwrap();
    assert!(!response.headers.contains(HeaderName::RetryAfter));
    world.hang_up(customer);
    world.run_ms(200);
    let served = world.details().pop().unwrap();
    assert_eq!(served.queue.as_deref(), Some("support"));
    world.assert_nothing_left();
}

/// From her other line alice sends the same party elsewhere, while it is being brought to the one who waits.
#[test]
fn to_one_place_at_a_time() {
    let mut refused = 0;
    for after_ms in 0..30 {
        let (mut world, alice, carol, customer) = served();
        let bob = world.registered("bob", "builder");
        let line = world.registered("alice", "wonder");
        world.call(line, "carol");
        world.run_ms(2_000);
        let (replaces, _) = world.phones[line].replaces();
        refer(
            &mut world,
            alice,
            &format!("sip:carol@example.com?Replaces={replaces}"),
        );
        world.run_ms(after_ms);
        if world.phones[line].talks() {
            refer(&mut world, line, "sip:bob@example.com");
        }
        world.run_ms(10_000);
        refused += world.count("server>alice SIP/2.0 491");
        let phones = [alice, carol, customer, bob, line];
        let talking = phones
            .iter()
            .filter(|phone| world.phones[**phone].talks())
            .count();
        let (heard, story) = (world.heard(), world.story());
        assert!(
            heard.contains(&("carol", "customer")) || heard.contains(&("carol", "bob")),
            "{after_ms} ms\n{story}"
        );
        assert!(
            heard.iter().all(|(a, b)| heard.contains(&(*b, *a))),
            "{after_ms} ms\n{story}"
        );
        assert_eq!(
            heard.len(),
            talking,
            "each hears one, after {after_ms} ms\n{story}"
        );
        for phone in phones {
            if world.phones[phone].talks() {
                world.hang_up(phone);
                world.run_ms(200);
            }
        }
        world.assert_nothing_left();
    }
    assert!(refused >= 2, "they never met: {refused}");
}

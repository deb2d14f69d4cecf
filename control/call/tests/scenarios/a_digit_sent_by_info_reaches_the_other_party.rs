use proto::mediad::v1 as pb;
use sip::{
    message::{HeaderName, Method, Response, StatusCode},
    stack::{Content, DialogRequest},
};

use call_control::MediaInput;

use crate::world::{World, config};

#[test]
fn as_the_media_host_sends_it() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    for (phone, content) in [
        (
            customer,
            Content::new("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"),
        ),
        (alice, Content::new("application/dtmf", "#")),
        (
            customer,
            Content::new("application/dtmf-relay", "Signal= 10\r\nDuration= 250\r\n"),
        ),
        (alice, Content::new("application/dtmf-relay", "Signal=11\r\n")),
        (alice, Content::new("application/dtmf-relay", "Signal=16\r\n")),
        (alice, Content::new("application/dtmf", "reboot")),
    ] {
        let now = world.now;
        world.phones[phone].send(now, DialogRequest::new(Method::Info).with_content(content));
        world.run_ms(100);
    }
    let acts = world.media.acts.iter().map(|act| match &act.act {
        Some(pb::act_request::Act::SendDigits(send)) => {
            (act.node.as_str(), send.digits.as_str(), send.duration_ms)
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(
        acts.collect::<Vec<_>>(),
        [
            ("callee-1", "5", 160),
            ("caller", "#", 100),
            ("callee-1", "*", 250),
            ("caller", "#", 100)
        ]
    );
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// A media host heard a digit from an endpoint.
fn digit_heard(world: &mut World, node: &str, digit: &str) {
    let (at, session) = (
        world.clocks(),
        world.media.sessions.keys().next().unwrap().clone(),
    );
    let ended = pb::DigitEnded {
        digit: digit.to_owned(),
        duration_ms: 120,
        source: pb::DigitSource::TelephoneEvent.into(),
        inferred: false,
    };
    let event = Box::new(pb::Event {
        session,
        node: node.to_owned(),
        kind: Some(pb::event::Kind::DigitEnded(ended)),
        ..pb::Event::default()
    });
    let host = "m1".into();
    world
        .controller
        .handle_media(at, MediaInput::Event { host, event });
    world.run_ms(100);
}

/// A phone without telephone-events gets digits by INFO, each once, and its own go the other way; one with them hears
/// them in its audio, and gets no INFO beside.
#[test]
fn each_way_once_between_a_phone_with_events_and_one_without() {
    for without in ["customer", "alice"] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        let (by_info, by_event) = match without {
            "alice" => (alice, customer),
            _ => (customer, alice),
        };
        world.phones[by_info].codecs = vec![sdp::Codec::pcmu()];
        world.call(customer, "support");
        world.run_ms(2_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        let (node_with, node_without) = match without {
            "alice" => ("caller", "callee-1"),
            _ => ("callee-1", "caller"),
        };
        for digit in ["1", "1", "#"] {
            digit_heard(&mut world, node_with, digit);
        }
        let expected = ["1", "1", "#"].map(|digit| format!("Signal={digit}\r\nDuration=120\r\n"));
        assert_eq!(world.phones[by_info].informed, expected, "{}", world.story());
        assert!(world.phones[by_event].informed.is_empty(), "{}", world.story());
        assert!(
            world.media.acts.is_empty(),
            "the media host passes on none of them"
        );
        // The other way: what comes by INFO is sent as events, once.
        let now = world.now;
        let content = Content::new("application/dtmf-relay", "Signal=7\r\nDuration=160\r\n");
        world.phones[by_info].send(now, DialogRequest::new(Method::Info).with_content(content));
        world.run_ms(200);
        let acts: Vec<_> = world.media.acts.iter().map(|act| act.node.as_str()).collect();
        assert_eq!(acts, [node_with], "{}", world.story());
        assert_ne!(node_with, node_without);
        assert!(world.phones[by_event].informed.is_empty(), "{}", world.story());
        world.hang_up(customer);
        world.run_ms(100);
        world.assert_nothing_left();
    }
}

/// Two phones with telephone-events: the media host passes them on, and nobody is told beside.
#[test]
fn not_twice_to_who_hears_it_in_its_audio() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    digit_heard(&mut world, "caller", "5");
    digit_heard(&mut world, "callee-1", "6");
    assert!(world.phones[alice].informed.is_empty() && world.phones[customer].informed.is_empty());
    assert!(world.media.acts.is_empty());
    world.hang_up(alice);
    world.assert_nothing_left();
}

fn info(kind: &'static str, body: &'static str) -> DialogRequest {
    DialogRequest::new(Method::Info).with_content(Content::new(kind, body))
}

/// What is no digit is for the other party, as it is, and its answer for who sent it.
#[test]
fn and_what_is_none_reaches_it_as_it_is() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    world.call(alice, "bob");
    world.run_ms(3_000);
    for (from, to) in [(alice, bob), (bob, alice)] {
        for (kind, body) in [
            ("application/media_control+xml", "<media_control/>"),
            ("application/x-whatever", "\u{1}bits"),
        ] {
            let now = world.now;
            let packaged = info(kind, body).with_header("Info-Package", "nurse");
            world.phones[from].say_within(now, packaged.unwrap());
            world.run_ms(500);
            assert_eq!(world.phones[from].told(), Some(200), "{}", world.story());
            let read = world.phones[to].read.pop().unwrap();
            let header = |name: &str| String::from_utf8_lossy(read.headers.get(name).unwrap()).into_owned();
            assert_eq!((&read.method, &read.body[..]), (&Method::Info, body.as_bytes()));
            assert_eq!(
                (header("Content-Type"), header("Info-Package")),
                (kind.into(), "nurse".into())
            );
        }
        // No status of the other's call ends one's own.
        for (status, told) in [(415, 415), (469, 469), (404, 500)] {
            let mut refusal = Response::new(StatusCode::new(status).unwrap());
            refusal.headers.push("Recv-Info", "pager").unwrap();
            world.phones[to].replies.push_back(refusal);
            let now = world.now;
            world.phones[from].say_within(now, info("application/x-whatever", "bits"));
            world.run_ms(500);
            assert_eq!(world.phones[from].told(), Some(told), "{}", world.story());
            let response = world.phones[from].outside.1.as_ref().unwrap();
            assert_eq!(response.headers.get("Recv-Info"), Some(&b"pager"[..]));
        }
        // As a phone does that asks whether the other is there.
        let now = world.now;
        world.phones[from].say_within(now, DialogRequest::new(Method::Info));
        world.run_ms(500);
        assert_eq!(world.phones[from].told(), Some(200), "{}", world.story());
    }
    assert_eq!(world.heard().len(), 2, "the call goes on\n{}", world.story());
    let counters = world.controller.counters();
    assert_eq!((counters.messages_taken, counters.messages_refused), (0, 0));
    assert!(world.media.acts.is_empty() && world.phones[bob].informed.is_empty());
    world.hang_up(bob);
    world.assert_nothing_left();
}

/// RFC 6086 §4.2.2.
#[test]
fn and_what_is_none_is_refused_where_nobody_else_is() {
    let mut config = config();
    config.calls.answer_before_music = true;
    let mut world = World::with(config);
    let customer = world.phone("customer");
    for called in ["support", "room-1"] {
        world.call(customer, called);
        world.run_ms(1_000);
        let whatever = || info("application/x-whatever", "bits");
        for (request, status, name, value) in [
            (
                whatever(),
                415,
                HeaderName::Accept.as_str(),
                "application/dtmf-relay, application/dtmf",
            ),
            (
                whatever().with_header("Info-Package", "nurse").unwrap(),
                469,
                "Recv-Info",
                "",
            ),
        ] {
            let now = world.now;
            world.phones[customer].say_within(now, request);
            world.run_ms(500);
            assert_eq!(world.phones[customer].told(), Some(status), "{}", world.story());
            let response = world.phones[customer].outside.1.as_ref().unwrap();
            assert_eq!(response.headers.get(name), Some(value.as_bytes()), "{response:?}");
        }
        assert!(world.phones[customer].talks(), "that ends no call");
        world.hang_up(customer);
        world.run_ms(500);
    }
    world.assert_nothing_left();
}

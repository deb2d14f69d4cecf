use std::time::Duration;

use call_control::Config;
use sip::{
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{Identity, Transport},
};

use crate::world::{World, config};

fn header(request: &Request, name: HeaderName) -> String {
    String::from_utf8_lossy(request.headers.get(name).unwrap_or_default()).into_owned()
}

fn write(world: &mut World, phone: usize, to: &str, text: &str) {
    let (now, to) = (world.now, format!("sip:{to}@example.com"));
    world.phones[phone].write(now, &to, text, |_| {});
}

/// Writes, and what that is answered with within a second.
fn told(world: &mut World, phone: usize, to: &str) -> Option<u16> {
    write(world, phone, to, "hello");
    world.run_ms(1_000);
    world.phones[phone].told()
}

fn refusal(status: u16) -> Response {
    Response::new(StatusCode::new(status).unwrap())
}

#[test]
fn on_all_devices_and_who_sent_it_is_told() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (desk, mobile) = (
        world.registered("bob", "builder"),
        world.registered("bob", "builder"),
    );
    let now = world.now;
    world.phones[alice].write(now, "sip:bob@example.com", "Grüße", |request| {
        for (name, value) in [
            (HeaderName::MaxForwards, "20"),
            (HeaderName::ContentLanguage, "de"),
            (HeaderName::Subject, "lunch"),
            (HeaderName::Organization, "secret lab"),
        ] {
            request.headers.set(name, value).unwrap();
        }
    });
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].told(), Some(200), "{}", world.story());
    assert!(
        !world.phones[alice]
            .outside
            .1
            .as_ref()
            .unwrap()
            .headers
            .contains(HeaderName::Contact)
    );
    for phone in [desk, mobile] {
        assert_eq!(world.phones[phone].texts(), ["Grüße"], "{}", world.story());
        let got = &world.phones[phone].read[0];
        assert_eq!(header(got, HeaderName::ContentType), "text/plain;charset=UTF-8");
        assert_eq!(header(got, HeaderName::ContentLanguage), "de");
        assert_eq!(header(got, HeaderName::Subject), "lunch");
        assert!(header(got, HeaderName::From).starts_with("<sip:alice@example.com>;tag="));
        assert_eq!(header(got, HeaderName::To), "<sip:bob@example.com>");
        assert_eq!(header(got, HeaderName::MaxForwards), "19");
        assert!(!got.headers.contains(HeaderName::Contact), "RFC 3428 §4");
        assert!(
            !got.headers.contains(HeaderName::Organization)
                && !got.headers.contains(HeaderName::Authorization)
        );
        assert_eq!(got.headers.vias().unwrap().len(), 1, "nothing of the way it came");
    }
    let [one, other] = [desk, mobile].map(|phone| header(&world.phones[phone].read[0], HeaderName::CallId));
    assert_ne!(one, other, "each is a request of our own");
    let counters = world.controller.counters();
    assert_eq!(
        (counters.messages_taken, counters.messages_refused),
        (1, 0),
        "a challenge is no refusal"
    );
    world.assert_nothing_left();
}

#[test]
fn or_its_sender_is_told_why_not() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    assert_eq!(told(&mut world, alice, "nobody"), Some(404));
    assert_eq!(told(&mut world, alice, "bob"), Some(480), "registered nowhere");
    for called in ["support", "room-1"] {
        assert_eq!(told(&mut world, alice, called), Some(405));
        let refusal = world.phones[alice].outside.1.as_ref().unwrap();
        let allow = String::from_utf8_lossy(refusal.headers.get(HeaderName::Allow).unwrap());
        assert!(allow.contains("INVITE") && !allow.contains("MESSAGE"), "{allow}");
    }
    // Strangers may call here, and yet not write; nobody writes in another's name.
    let stranger = world.phone("customer");
    assert_eq!(told(&mut world, stranger, "alice"), Some(403));
    let carol = world.phone("carol");
    world.phones[carol].password = "guessed";
    assert_eq!(told(&mut world, carol, "alice"), Some(401));
    let now = world.now;
    let uri = "sip:alice@example.com";
    world.phones[alice].write(now, uri, "to myself", |request| {
        request.headers.set(HeaderName::MaxForwards, "0").unwrap();
    });
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].told(), Some(483));
    assert!(world.phones[alice].read.is_empty(), "{}", world.story());
    assert_eq!(
        world.controller.counters().messages_refused,
        6,
        "all but what wants a password"
    );
    world.assert_nothing_left();
}

#[test]
fn one_of_several_devices_is_enough_and_the_best_refusal_is_told() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let (desk, mobile) = (
        world.registered("bob", "builder"),
        world.registered("bob", "builder"),
    );
    // One is asleep.
    world.phones[desk].replies.push_back(refusal(100));
    assert_eq!(told(&mut world, alice, "bob"), Some(200), "{}", world.story());
    world.phones[desk].replies.push_back(refusal(503));
    world.phones[mobile].replies.push_back(refusal(202));
    assert_eq!(told(&mut world, alice, "bob"), Some(202));
    let mut unreadable = refusal(415);
    unreadable.headers.push(HeaderName::Accept, "text/html").unwrap();
    world.phones[desk].replies.push_back(unreadable);
    world.phones[mobile].replies.push_back(refusal(500));
    assert_eq!(told(&mut world, alice, "bob"), Some(415), "{}", world.story());
    let response = world.phones[alice].outside.1.as_ref().unwrap();
    assert_eq!(response.headers.get(HeaderName::Accept), Some(&b"text/html"[..]));
    // What is between us and a phone is no news for its sender.
    for (status, told_status) in [(401, 502), (302, 480), (503, 500), (486, 486), (603, 603)] {
        for phone in [desk, mobile] {
            world.phones[phone].replies.push_back(refusal(status));
        }
        assert_eq!(told(&mut world, alice, "bob"), Some(told_status), "{status}");
    }
    world.assert_nothing_left();
}

#[test]
fn nobody_answers_and_its_sender_learns_it_in_time() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    world.phones[bob].dead = true;
    write(&mut world, alice, "bob", "are you there?");
    world.run_ms(29_000);
    assert_eq!(
        (world.phones[alice].told(), world.controller.counters().messages),
        (None, 1)
    );
    world.run_ms(2_000);
    assert_eq!(world.phones[alice].told(), Some(480), "{}", world.story());
    let sent = world.count("MESSAGE sip:bob@10");
    world.run_ms(30_000);
    assert_eq!(
        world.count("MESSAGE sip:bob@10"),
        sent,
        "told, and so nothing more is tried"
    );
    world.assert_nothing_left();
}

#[test]
fn behind_a_proxy_and_behind_a_nat() {
    let mut world = World::new();
    let alice = reckless(&mut world, "alice", "wonder");
    let edge = world.phone("edge");
    let carol = world.phone("carol");
    let now = world.now;
    world.phones[carol].path = Some("<sip:10.0.1.2;lr>");
    world.phones[carol].register(now, "singer", 300);
    let bob = world.phone("bob");
    world.phones[bob].register_as(now, "builder", "<sip:bob@192.168.7.7:5060>");
    world.run_ms(500);
    assert_eq!(told(&mut world, alice, "carol"), Some(200), "{}", world.story());
    let got = &world.phones[edge].read[0];
    assert_eq!(header(got, HeaderName::Route), "<sip:10.0.1.2;lr>");
    assert!(
        got.uri_text().starts_with(b"sip:carol@10.0.1.3"),
        "{:?}",
        got.uri_text()
    );
    assert_eq!(told(&mut world, alice, "bob"), Some(200), "{}", world.story());
    assert_eq!(world.phones[bob].texts(), ["hello"]);
    // A flow over UDP is all that leads there (RFC 3428 §8).
    write(&mut world, alice, "bob", &"long ".repeat(250));
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].told(), Some(513), "{}", world.story());
    assert_eq!(world.phones[bob].read.len(), 1);
    world.assert_nothing_left();
}

/// A phone that sends what it likes over UDP.
fn reckless(world: &mut World, name: &'static str, password: &'static str) -> usize {
    let phone = world.phone_with(name, |config| config.udp_request_bytes_max = 60_000);
    let now = world.now;
    world.phones[phone].register(now, password, 300);
    world.run_ms(100);
    phone
}

#[test]
fn a_long_one_goes_over_tcp_or_not_at_all() {
    let mut with_tcp = config();
    let tcp = call_control::config::Listener {
        transport: Transport::Tcp,
        ..with_tcp.listeners[0].clone()
    };
    with_tcp.listeners.push(tcp);
    for (config, status) in [(config(), 513), (with_tcp, 200)] {
        let mut world = World::with(config);
        let alice = reckless(&mut world, "alice", "wonder");
        let bob = world.registered("bob", "builder");
        write(&mut world, alice, "bob", &"long ".repeat(300));
        world.run_ms(1_000);
        assert_eq!(world.phones[alice].told(), Some(status), "{}", world.story());
        assert_eq!(world.phones[bob].read.len(), usize::from(status == 200));
        assert_eq!(
            world.controller.counters().sip.too_large_for_udp,
            u64::from(status == 200)
        );
        write(&mut world, alice, "bob", &"x".repeat(16 * 1_024 + 1));
        world.run_ms(1_000);
        assert_eq!(world.phones[alice].told(), Some(413), "{}", world.story());
        world.assert_nothing_left();
    }
}

#[test]
fn while_messages_wait_they_get_503_as_calls_do() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    for _ in 0..200 {
        world.run_ms(10);
        let now = world.clocks();
        world.controller.messages_waited(now, Duration::from_secs(1));
    }
    assert_eq!(told(&mut world, alice, "bob"), Some(503), "{}", world.story());
    assert!(world.phones[bob].read.is_empty());
    assert_eq!(world.controller.counters().sip.overloaded, 1);
    world.assert_nothing_left();
}

/// Carriers are at `10.0.1.3` and `10.0.1.4`.
fn with_trunks() -> Config {
    let both: Config = toml::from_str(
        r#"
        [[trunks]]
        name = "a"
        targets = [{ uri = "sip:10.0.1.3:5060" }]
        sources = ["10.0.1.3"]
        username = "us"
        password = "secret"
        probe_s = 0
        tx_called = [{ pattern = "+.", strip = 1, prefix = "011" }]
        tx_caller = [{ pattern = "alice", set = "+44207000001" }]
        rx_called = [{ pattern = "+44207000001", set = "alice" }, { pattern = "+442079.", set = "support" }]
        rx_caller = [{ pattern = "0.", strip = 1, prefix = "+49" }]
        identity = { assert = true }
        headers = { set = { X-Site = "london" }, remove = ["User-Agent"] }
        [[trunks]]
        name = "b"
        targets = [{ uri = "sip:10.0.1.4:5060" }]
        probe_s = 0
        [dialplan]
        routes = [{ pattern = "+4.", trunks = ["a", "b"] }, { pattern = "+1.", trunks = ["a"], accounts = ["bob"] }]
        "#,
    )
    .unwrap();
    Config {
        trunks: both.trunks,
        dialplan: both.dialplan,
        ..config()
    }
}

#[test]
fn over_trunks_out_and_in() {
    let mut world = World::with(with_trunks());
    let alice = world.registered("alice", "wonder");
    let _bob = world.phone("bob");
    let (a, b) = (world.phone("a"), world.phone("b"));
    let mut challenge = refusal(407);
    let digest = "Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
    challenge
        .headers
        .push(HeaderName::ProxyAuthenticate, digest)
        .unwrap();
    world.phones[a].replies.push_back(challenge);
    assert_eq!(
        told(&mut world, alice, "+49301234"),
        Some(200),
        "{}",
        world.story()
    );
    let got = world.phones[a].read.last().unwrap();
    assert_eq!(&got.uri_text()[..], b"sip:01149301234@10.0.1.3:5060");
    assert!(header(got, HeaderName::From).contains("sip:+44207000001@10.0.1.3"));
    assert!(header(got, HeaderName::PAssertedIdentity).contains("+44207000001"));
    assert!(header(got, HeaderName::ProxyAuthorization).contains("username=\"us\""));
    assert_eq!(got.headers.get("X-Site"), Some(&b"london"[..]));
    assert!(!got.headers.contains(HeaderName::UserAgent) && got.body == "hello");
    // The next one, when this one takes nothing; its word, when it says that there is nobody.
    world.phones[a].replies.push_back(refusal(503));
    assert_eq!(
        told(&mut world, alice, "+49301234"),
        Some(200),
        "{}",
        world.story()
    );
    assert_eq!(world.phones[b].read.len(), 1);
    world.phones[a].replies.push_back(refusal(404));
    assert_eq!(
        told(&mut world, alice, "+49301234"),
        Some(404),
        "{}",
        world.story()
    );
    world.phones[a].replies.push_back(refusal(503));
    world.phones[b].replies.push_back(refusal(503));
    assert_eq!(
        told(&mut world, alice, "+49301234"),
        Some(500),
        "{}",
        world.story()
    );
    assert_eq!(told(&mut world, alice, "+1212"), Some(403), "a route for others");
    // From there to a user; not to a queue, and not out again.
    let now = world.now;
    for (called, status) in [("+44207000001", 200), ("+4420790", 405), ("+49301234", 403)] {
        world.phones[a].write(
            now,
            &format!("sip:{called}@10.0.0.1"),
            "from outside",
            |request| {
                let from = "<sip:030777@carrier.net>;tag=7";
                request.headers.set(HeaderName::From, from).unwrap();
            },
        );
        world.run_ms(1_000);
        assert_eq!(
            world.phones[a].told(),
            Some(status),
            "{called}\n{}",
            world.story()
        );
    }
    assert_eq!(world.phones[alice].texts(), ["from outside"]);
    assert!(
        header(&world.phones[alice].read[0], HeaderName::From).starts_with("<sip:+4930777@example.com>;tag=")
    );
    assert_eq!(world.controller.trunks_live()[0].calls, 0, "no call of theirs");
    world.assert_nothing_left();
}

/// A proxy on the way and who is called (RFC 3261 §22.3), whoever asks first; but nobody twice.
#[test]
fn each_that_asks_on_the_way_to_a_trunk_gets_its_proof() {
    let mut world = World::with(with_trunks());
    let alice = world.registered("alice", "wonder");
    let _bob = world.phone("bob");
    let (a, b) = (world.phone("a"), world.phone("b"));
    let asked = |status, name, realm: &str| {
        let mut challenge = refusal(status);
        let digest = format!("Digest realm=\"{realm}\", nonce=\"n-{realm}\", algorithm=MD5, qop=\"auth\"");
        challenge.headers.push(name, &digest).unwrap();
        challenge
    };
    let by_proxy = || asked(407, HeaderName::ProxyAuthenticate, "edge");
    let by_carrier = || asked(401, HeaderName::WwwAuthenticate, "carrier");
    for [first, second] in [[by_proxy(), by_carrier()], [by_carrier(), by_proxy()]] {
        let first_was_proxy = first.status.code() == 407;
        world.phones[a].replies.extend([first, second]);
        assert_eq!(
            told(&mut world, alice, "+49301234"),
            Some(200),
            "{}",
            world.story()
        );
        let got = world.phones[a].read.last().unwrap();
        let (to_proxy, to_carrier) = (
            header(got, HeaderName::ProxyAuthorization),
            header(got, HeaderName::Authorization),
        );
        assert!(to_proxy.contains("nonce=\"n-edge\""), "{to_proxy}");
        assert!(to_carrier.contains("nonce=\"n-carrier\""), "{to_carrier}");
        let of_first = if first_was_proxy { to_proxy } else { to_carrier };
        assert!(of_first.contains("nc=00000002"), "sent anew: {of_first}");
    }
    // Two proxies, whose proofs stand side by side.
    let by_other = asked(407, HeaderName::ProxyAuthenticate, "core");
    world.phones[a].replies.extend([by_proxy(), by_other]);
    assert_eq!(
        told(&mut world, alice, "+49301234"),
        Some(200),
        "{}",
        world.story()
    );
    let got = world.phones[a].read.last().unwrap();
    assert_eq!(got.headers.count(HeaderName::ProxyAuthorization), 2);
    let sent = world.phones[a].read.len();
    world.phones[a]
        .replies
        .extend([by_proxy(), by_carrier(), by_proxy()]);
    assert_eq!(
        told(&mut world, alice, "+49301234"),
        Some(200),
        "by the other target"
    );
    assert_eq!(world.phones[a].read.len(), sent + 3);
    assert_eq!(world.phones[b].read.len(), 1);
}

#[test]
fn within_a_call_the_other_party_answers() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let bob = world.registered("bob", "builder");
    let now = world.now;
    world.phones[alice].call(now, "bob", true);
    world.run_ms(3_000);
    for (from, to) in [(alice, bob), (bob, alice)] {
        let now = world.now;
        world.phones[from].write_within(now, "see the link");
        world.run_ms(500);
        assert_eq!(world.phones[from].told(), Some(200), "{}", world.story());
        assert_eq!(world.phones[to].texts(), ["see the link"]);
        assert_eq!(
            header(&world.phones[to].read[0], HeaderName::ContentType),
            "text/plain"
        );
        // No status of the other's call ends one's own.
        for (status, told) in [(415, 415), (404, 500), (302, 500), (603, 603)] {
            world.phones[to].replies.push_back(refusal(status));
            let now = world.now;
            world.phones[from].write_within(now, "and this one");
            world.run_ms(500);
            assert_eq!(world.phones[from].told(), Some(told), "{}", world.story());
        }
    }
    assert_eq!(world.heard().len(), 2, "the call goes on\n{}", world.story());
    let counters = world.controller.counters();
    assert_eq!((counters.messages_taken, counters.messages_refused), (2, 8));
    // One that is not answered, in a call that ends meanwhile.
    world.phones[bob].replies.push_back(refusal(100));
    let now = world.now;
    world.phones[alice].write_within(now, "goodbye");
    world.run_ms(100);
    world.hang_up(bob);
    world.assert_nothing_left();
}

#[test]
fn nobody_there_to_read_it_yet_is_said_so() {
    let mut config = config();
    config.calls.answer_before_music = true;
    let mut world = World::with(config);
    let customer = world.phone("customer");
    for (called, status) in [("support", 500), ("room-1", 405)] {
        world.call(customer, called);
        world.run_ms(1_000);
        let now = world.now;
        world.phones[customer].write_within(now, "hello?");
        world.run_ms(500);
        assert_eq!(world.phones[customer].told(), Some(status), "{}", world.story());
        assert!(world.phones[customer].talks(), "that ends no call");
        world.hang_up(customer);
        world.run_ms(500);
    }
    world.assert_nothing_left();
}

#[test]
fn options_tell_that_messages_are_taken() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let now = world.now;
    world.phones[alice].write(now, "sip:example.com", "", |request| {
        let mut options = Request::new(Method::Options, &request.uri().unwrap());
        for name in [HeaderName::From, HeaderName::To] {
            options
                .headers
                .push_field(request.headers.field(name).unwrap().clone());
        }
        *request = options;
    });
    world.run_ms(500);
    let response = world.phones[alice].outside.1.as_ref().unwrap();
    let allow = String::from_utf8_lossy(response.headers.get(HeaderName::Allow).unwrap());
    assert!(allow.contains("MESSAGE"), "{allow}");
    world.assert_nothing_left();
}

#[test]
fn a_carriers_password_is_asked_for_within_a_call_too() {
    let mut world = World::with(with_trunks());
    let alice = world.registered("alice", "wonder");
    let _bob = world.phone("bob");
    let a = world.phone("a");
    world.call(alice, "+49301234");
    world.run_ms(3_000);
    assert!(world.phones[alice].talks(), "{}", world.story());
    world.guarded = Some(a);
    let now = world.now;
    world.phones[alice].write_within(now, "hello");
    world.run_ms(500);
    assert_eq!(world.phones[alice].told(), Some(200), "{}", world.story());
    assert_eq!(world.phones[a].texts(), ["hello"]);
    world.hang_up(alice);
    world.assert_nothing_left();
}

/// Whose length does not matter.
#[test]
fn over_a_browsers_own_connection() {
    let mut config = config();
    let ws = call_control::config::Listener {
        transport: Transport::Ws,
        ..config.listeners[0].clone()
    };
    config.listeners.push(ws);
    let mut world = World::with(config);
    let alice = reckless(&mut world, "alice", "wonder");
    let browser = world.phone_with("bob", |config| {
        let local = config.identities[0].local;
        config.identities = vec![Identity::new(Transport::Ws, local, local)];
    });
    let now = world.now;
    world.phones[browser].register_as(now, "builder", "<sip:bob@x.invalid;transport=ws>;expires=300");
    world.run_ms(500);
    write(&mut world, alice, "bob", &"long ".repeat(250));
    world.run_ms(500);
    assert_eq!(world.phones[alice].told(), Some(200), "{}", world.story());
    assert_eq!(world.phones[browser].texts(), ["long ".repeat(250)]);
    world.assert_nothing_left();
}

use std::net::SocketAddr;

use call_control::{Output, domain::AgentState};
use sip::{
    auth::{ClientSession, Ha1, choose_challenge},
    limits::Limits,
    message::{HeaderName, Message, Request, Response, parse_datagram},
    stack::{Flow, FlowId, Target, Transport},
};

use crate::world::{World, config, server};

const INSTANCE: &str = "<urn:uuid:00000000-0000-4000-8000-0000000000a1>";

fn world() -> World {
    let mut config = config();
    let ws = call_control::config::Listener {
        transport: Transport::Ws,
        ..config.listeners[0].clone()
    };
    config.listeners.push(ws);
    World::with(config)
}

/// A browser's connection.
fn connection(number: u64) -> Flow {
    Flow {
        transport: Transport::Ws,
        local: server(),
        remote: SocketAddr::from(([10, 0, 9, 9], 50_000 + number as u16)),
        id: FlowId(1_000 + number),
    }
}

/// What a REGISTER over a connection gets, once it is proved whose it is.
fn register(world: &mut World, flow: Flow, extra: &str) -> Response {
    let challenge = exchange(world, flow, &request(flow, 1, extra));
    let mut again = request(flow, 2, extra);
    let challenge = choose_challenge(&challenge.headers.www_authenticate().unwrap()).unwrap();
    let ha1 = Ha1::from_password(challenge.hash, b"alice", &challenge.realm, b"wonder");
    let mut session = ClientSession::new(challenge, "alice", ha1, "0123456789abcdef").unwrap();
    let credentials = session.credentials(&again);
    again.headers.push_value(HeaderName::Authorization, &credentials);
    exchange(world, flow, &again)
}

fn request(flow: Flow, number: u32, extra: &str) -> Request {
    let text = format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK{number}{}\r\nMax-Forwards: 70\r\n\
        From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: c{}\r\n\
        CSeq: {number} REGISTER\r\nExpires: 300\r\n{extra}\r\n",
        flow.id.0, flow.id.0
    );
    match parse_datagram(text.into_bytes().into(), &Limits::DEFAULT).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!(),
    }
}

fn exchange(world: &mut World, flow: Flow, request: &Request) -> Response {
    let at = world.clocks();
    world.controller.handle_message(at, flow, request.to_bytes());
    while let Some(output) = world.controller.poll_output() {
        if let Output::Transmit(transmit) = output {
            assert_eq!(transmit.target, Target::Flow(flow));
            let Ok(Message::Response(response)) = parse_datagram(transmit.bytes, &Limits::DEFAULT) else {
                panic!()
            };
            return response;
        }
    }
    panic!("no answer")
}

fn contact(reg_id: u32) -> String {
    format!(
        "Contact: <sip:a{reg_id}@a.invalid;transport=ws>;+sip.instance=\"{INSTANCE}\";reg-id={reg_id}\r\n\
        Supported: outbound\r\n"
    )
}

fn gone(world: &mut World, flow: Flow) {
    let at = world.clocks();
    world.controller.handle_transport_error(at, &Target::Flow(flow));
}

fn invites(world: &World) -> usize {
    world
        .trace
        .iter()
        .filter(|line| line.contains("server>? INVITE"))
        .count()
}

#[test]
fn one_at_a_time_and_the_next_when_one_fails() {
    let mut world = world();
    let (first, second) = (connection(1), connection(2));
    for (flow, reg_id) in [(first, 1), (second, 2)] {
        let answer = register(&mut world, flow, &contact(reg_id));
        assert_eq!(answer.status.code(), 200);
        assert!(answer.headers.require().unwrap().contains("outbound"));
        assert_eq!(answer.headers.get(HeaderName::FlowTimer), Some(&b"120"[..]));
    }
    assert_eq!(world.controller.counters().bindings, 2);
    assert_eq!(world.agent("alice"), AgentState::Ready);
    let customer = world.phone("customer");
    world.call(customer, "alice");
    world.run_ms(300);
    assert_eq!(invites(&world), 1, "one device, one INVITE\n{}", world.story());
    gone(&mut world, second);
    world.run_ms(300);
    assert_eq!(invites(&world), 2, "the other flow\n{}", world.story());
    assert_eq!(world.controller.counters().bindings, 1);
    gone(&mut world, first);
    world.run_ms(300);
    assert_eq!(world.controller.counters().bindings, 0);
    assert_eq!(world.agent("alice"), AgentState::Away);
    world.assert_nothing_left();
}

#[test]
fn a_flow_registered_again_takes_its_own_place() {
    let mut world = world();
    for number in 1..=3 {
        // A browser that reconnects: another connection, the same flow of the same device.
        let answer = register(&mut world, connection(number), &contact(1));
        assert_eq!(answer.status.code(), 200);
        assert_eq!(world.controller.counters().bindings, 1);
    }
    gone(&mut world, connection(2));
    assert_eq!(
        world.controller.counters().bindings,
        1,
        "an old connection concerns nobody"
    );
    gone(&mut world, connection(3));
    assert_eq!(world.controller.counters().bindings, 0);
}

/// A phone whose settings were changed is the same phone: called twice it would knock at its own call.
#[test]
fn a_device_that_has_flows_now_or_has_none_any_more_is_one() {
    let plain = format!("Contact: <sip:a1@a.invalid;transport=ws>;+sip.instance=\"{INSTANCE}\"\r\n");
    for contacts in [[plain.clone(), contact(1)], [contact(1), plain]] {
        let mut world = world();
        for (number, contact) in (1..).zip(&contacts) {
            let answer = register(&mut world, connection(number), contact);
            assert_eq!(answer.status.code(), 200);
            assert_eq!(world.controller.counters().bindings, 1, "{contact}");
        }
        let customer = world.phone("customer");
        world.call(customer, "alice");
        world.run_ms(300);
        assert_eq!(invites(&world), 1, "{}", world.story());
    }
}

#[test]
fn a_proxy_before_the_phone_must_keep_flows_too() {
    let mut world = world();
    let behind = |path: &str| {
        format!(
            "Via: SIP/2.0/UDP 10.0.7.7;branch=z9hG4bKp\r\n{path}{}",
            contact(1)
        )
    };
    let refused = register(&mut world, connection(1), &behind(""));
    assert_eq!(refused.status.code(), 439);
    let path = behind("Path: <sip:10.0.7.7;lr;ob>\r\n");
    assert_eq!(register(&mut world, connection(2), &path).status.code(), 200);
    // Two Contacts cannot share a flow.
    let two = format!("{}{}", contact(1), contact(2));
    assert_eq!(register(&mut world, connection(3), &two).status.code(), 400);
}

#[test]
fn a_phone_behind_a_nat_is_asked_and_forgotten_when_it_is_silent() {
    for is_dead in [false, true] {
        let mut world = World::new();
        let alice = world.phone("alice");
        let now = world.now;
        world.phones[alice].register_as(now, "wonder", "<sip:alice@192.168.1.7:5062>;expires=3000");
        world.run_ms(100);
        assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
        world.phones[alice].dead = is_dead;
        world.run_ms(200_000);
        let asked = world
            .trace
            .iter()
            .filter(|line| line.contains("server>alice OPTIONS"))
            .count();
        assert!(asked >= 3, "{asked}\n{}", world.story());
        let bindings = world.controller.counters().bindings;
        assert_eq!(bindings, usize::from(!is_dead), "{}", world.story());
        let state = if is_dead {
            AgentState::Away
        } else {
            AgentState::Ready
        };
        assert_eq!(world.agent("alice"), state);
        assert_eq!(
            world.controller.counters().keepalives_missed,
            if is_dead { 3 } else { 0 }
        );
    }
}

#[test]
fn others_are_not_asked() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    world.run_ms(200_000);
    let asked = world.trace.iter().filter(|line| line.contains("OPTIONS")).count();
    assert_eq!(asked, 0, "{}", world.story());
}

#[test]
fn registrations_survive_the_process() {
    let mut old = World::new();
    let alice = old.phone("alice");
    let now = old.now;
    // Behind a NAT: only the journal knows where.
    old.phones[alice].register_as(now, "wonder", "<sip:alice@192.168.1.7:5062>;expires=300");
    let bob = old.registered("bob", "builder");
    old.run_ms(100);
    let now = old.now;
    old.phones[bob].register_as(now, "builder", "*");
    old.run_ms(100);
    let records = std::mem::take(&mut old.records);

    let mut world = World::new();
    let alice = world.phone("alice");
    let at = world.clocks();
    for record in records {
        let json = serde_json::to_string(&record).unwrap();
        world.controller.replay(serde_json::from_str(&json).unwrap());
    }
    world.controller.resume(at);
    assert_eq!(world.controller.counters().bindings, 1, "Bob had left");
    assert_eq!(world.agent("alice"), AgentState::Ready);
    assert_eq!(world.agent("bob"), AgentState::Away);
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(500);
    assert_eq!(world.phones[alice].rung, 1, "{}", world.story());
    let now = world.now;
    world.phones[customer].cancel(now);
    // It ends when it would have ended.
    world.phones[alice].dead = false;
    world.run_ms(301_000);
    assert_eq!(world.controller.counters().bindings, 0);
    assert_eq!(world.agent("alice"), AgentState::Away);
    world.assert_nothing_left();
}

/// A phone that writes its Contact in another way than before is no second phone, and when it leaves it has left.
#[test]
fn one_that_writes_its_contact_anew_is_one_after_a_restart_too() {
    for leaves in [false, true] {
        let mut world = World::new();
        let alice = world.phone("alice");
        for contact in ["<sip:alice@10.0.1.1:5060>", "<sip:alice@10.0.1.1:5060;ob>"] {
            let now = world.now;
            world.phones[alice].register_as(now, "wonder", &format!("{contact};expires=3000"));
            world.run_ms(100);
            assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
        }
        assert_eq!(world.controller.counters().bindings, 1);
        if leaves {
            let now = world.now;
            world.phones[alice].register_as(now, "wonder", "<sip:alice@10.0.1.1:5060;ob>;expires=0");
            world.run_ms(100);
            assert_eq!(world.controller.counters().bindings, 0);
        }
        world.restart();
        world.run_ms(100);
        let bindings = world.controller.counters().bindings;
        assert_eq!(bindings, usize::from(!leaves), "{}", world.story());
    }
}

/// A browser whose network fails for a moment has its call when it is back, and is told of its end.
#[test]
fn a_call_goes_on_over_the_next_connection() {
    let mut world = world();
    let alice = world.browser("alice");
    world.registers(alice, "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    // The connection breaks, or the phone is back before that is noticed, or the controller was away meanwhile.
    for (is_noticed, was_away) in [(true, false), (false, false), (false, true)] {
        world.reconnect(alice, is_noticed);
        if was_away {
            world.restart();
            world.run_ms(1_000);
        }
        world.registers(alice, "wonder");
        // Half of the session's time goes by, and it is asked to stay.
        world.run_ms(1_000_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
    }
    world.hang_up(customer);
    world.run_ms(500);
    assert!(world.phones[alice].bye.is_some(), "{}", world.story());
    assert_eq!(world.details().len(), 1, "{}", world.story());
}

use super::a_call_is_set_up_and_torn_down::{establish, expect_answer, expect_invite};
use super::world::*;
use sip::auth::{ClientSession, Ha1, HashKind, choose_challenge};
use sip::limits::Limits;
use sip::message::{HeaderName, Message, Method, Response, StatusCode, parse_datagram};
use sip::stack::{DialogRequest, EndReason, Event, StackError, Target, Transport};

const CAROL: usize = 2;

fn carol_is_asked(world: &mut World) -> sip::stack::ServerTxn {
    let event = world.event(CAROL);
    let Event::Request { txn, request, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!(request.headers.vias().unwrap().len(), 1, "our old Via is gone");
    assert_eq!(request.headers.cseq().unwrap().number, 1);
    txn
}

#[test]
fn after_a_transport_error_a_503_or_silence() {
    for case in 0..3 {
        let mut world = World::new(10, Weather::FINE);
        let targets = [world.target(BOB), world.target(CAROL)];
        let (now, invite) = (world.now, world.invite(ALICE, BOB));
        let sent = world.ends[ALICE].stack.request(now, invite, &targets).unwrap();
        if case == 2 {
            world.swallow.push(("INVITE", 7));
        }
        world.run_ms(20);
        match case {
            0 => {
                let now = world.now;
                world.ends[ALICE].stack.handle_transport_error(now, &targets[0]);
            }
            1 => {
                let Event::Request { txn, .. } = world.event(BOB) else {
                    panic!()
                };
                world.respond(BOB, txn, StatusCode::SERVICE_UNAVAILABLE);
            }
            _ => world.run_ms(32_000),
        }
        world.run_ms(50);
        let txn = carol_is_asked(&mut world);
        world.respond(CAROL, txn, StatusCode::BUSY_HERE);
        world.run_ms(50);
        // The user hears of the last target only.
        let Event::Response { txn, response, .. } = world.event(ALICE) else {
            panic!()
        };
        assert_eq!(
            (txn, response.status),
            (sent, StatusCode::BUSY_HERE),
            "case {case}"
        );
        world.assert_no_event(ALICE);
        assert_eq!(
            world.count("A>B ACK"),
            usize::from(case == 1),
            "the 503 is acknowledged"
        );
        for end in [ALICE, BOB, CAROL] {
            world.ends[end].events.clear();
        }
        world.run_ms(1);
        if case == 0 {
            // Bob still waits for his user.
            world.run_ms(400_000);
        }
        world.assert_nothing_left();
    }
}

#[test]
fn without_another_target_the_failure_is_told() {
    let mut world = World::new(10, Weather::FINE);
    let target = world.target(BOB);
    let (now, options) = (world.now, world.request_to(Method::Options, ALICE, BOB));
    let txn = world.ends[ALICE]
        .stack
        .request(now, options, std::slice::from_ref(&target))
        .unwrap();
    world.ends[ALICE].stack.handle_transport_error(now, &target);
    assert_eq!(world.event(ALICE), Event::TransportFailed { txn, dialog: None });
    let options = world.request_to(Method::Options, ALICE, BOB);
    assert_eq!(
        world.ends[ALICE].stack.request(now, options.clone(), &[]),
        Err(StackError::NoTarget)
    );
    let tls = Target::address(Transport::Tls, address(BOB));
    assert_eq!(
        world.ends[ALICE]
            .stack
            .request(now, options, std::slice::from_ref(&tls)),
        Err(StackError::NoIdentity(tls))
    );
    world.ends[BOB].events.clear();
    world.assert_nothing_left();
}

#[test]
fn a_challenge_is_answered_with_the_next_number_and_the_ack_of_the_2xx_repeats_the_credentials() {
    let mut world = World::new(10, Weather::FINE);
    let target = world.target(BOB);
    let (now, invite) = (world.now, world.invite(ALICE, BOB));
    let first = world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(20);
    let Event::Request {
        txn, request: plain, ..
    } = world.event(BOB)
    else {
        panic!()
    };
    let mut challenge = Response::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let value = "Digest realm=\"example\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"";
    challenge
        .headers
        .push(HeaderName::ProxyAuthenticate, value)
        .unwrap();
    let now = world.now;
    world.ends[BOB].stack.respond(now, txn, challenge).unwrap();
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));
    world.run_ms(20);
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    let chosen = choose_challenge(&response.headers.proxy_authenticate().unwrap()).unwrap();
    let ha1 = Ha1::from_password(HashKind::Sha256, b"alice", b"example", b"secret");
    let mut session = ClientSession::new(chosen, "alice", ha1, "0123456789abcdef").unwrap();
    let now = world.now;
    let second = world.ends[ALICE]
        .stack
        .retry_with_credentials(now, first, &response, &mut session)
        .unwrap();
    assert_ne!(first, second);
    world.run_ms(20);
    let Event::Request { txn, request, .. } = world.event(BOB) else {
        panic!()
    };
    let credentials = request
        .headers
        .get(HeaderName::ProxyAuthorization)
        .unwrap()
        .to_vec();
    assert_eq!(request.headers.cseq().unwrap().number, 2);
    assert_eq!(
        request.headers.call_id().unwrap(),
        plain.headers.call_id().unwrap()
    );
    assert_eq!(
        request.headers.get(HeaderName::From),
        plain.headers.get(HeaderName::From)
    );
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(20);
    let Event::Response {
        dialog: Some(dialog), ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    world.ends[ALICE].stack.ack(dialog, None).unwrap();
    world.run_ms(20);
    let Event::Ack {
        request,
        dialog: bobs,
    } = world.event(BOB)
    else {
        panic!()
    };
    assert_eq!(
        request.headers.get(HeaderName::ProxyAuthorization),
        Some(&credentials[..])
    );
    let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
    world.ends[BOB].stack.dialog_request(now, bobs, bye).unwrap();
    world.assert_nothing_left();
}

#[test]
fn a_bye_that_is_challenged_is_sent_again_or_forgotten() {
    for retries in [true, false] {
        let mut world = World::new(10, Weather::FINE);
        let (alices, bobs) = establish(&mut world);
        let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
        let stack = &mut world.ends[ALICE].stack;
        let first = stack.dialog_request(now, alices, bye).unwrap();
        let sent = stack.poll_transmit().unwrap().bytes;
        let Ok(Message::Request(sent)) = parse_datagram(sent, &Limits::DEFAULT) else {
            panic!()
        };
        let mut challenge = Response::to_request(&sent, StatusCode::UNAUTHORIZED);
        let value = "Digest realm=\"example\", nonce=\"n1\", qop=\"auth\"";
        challenge
            .headers
            .push(HeaderName::WwwAuthenticate, value)
            .unwrap();
        let flow = world.flow(ALICE, address(BOB));
        let stack = &mut world.ends[ALICE].stack;
        stack.handle_message(now, flow, challenge.to_bytes());
        let Some(Event::Response { response, .. }) = stack.poll_event() else {
            panic!()
        };
        assert!(
            stack.dialog(alices).is_some(),
            "there is still time for credentials"
        );
        if retries {
            let chosen = choose_challenge(&response.headers.www_authenticate().unwrap()).unwrap();
            let ha1 = Ha1::from_password(HashKind::Md5, b"alice", b"example", b"secret");
            let mut session = ClientSession::new(chosen, "alice", ha1, "0123456789abcdef").unwrap();
            stack
                .retry_with_credentials(now, first, &response, &mut session)
                .unwrap();
            world.run_ms(50);
            let Event::Bye { request, .. } = world.event(BOB) else {
                panic!()
            };
            assert_eq!(request.headers.cseq().unwrap().number, 3);
            assert!(request.headers.contains(HeaderName::Authorization));
        } else {
            world.ends[BOB].stack.forget_dialog(bobs);
        }
        world.assert_nothing_left();
        let ended = |event: &Event| {
            matches!(
                event,
                Event::DialogEnded {
                    reason: EndReason::LocalBye,
                    ..
                }
            )
        };
        assert_eq!(
            world.ends[ALICE]
                .events
                .iter()
                .filter(|event| ended(event))
                .count(),
            1
        );
    }
}

/// RFC 3261 §18.1.1, RFC 5923: a proxy that records itself at an address closes connections that are silent for a while,
/// and is still there.
#[test]
fn within_a_dialog_when_its_connection_is_gone() {
    for is_recorded in [false, true] {
        let mut world = World::over(10, Transport::Tcp);
        let (now, target) = (world.now, world.target(BOB));
        let mut invite = world.invite(ALICE, BOB);
        if is_recorded {
            let route = "<sip:192.0.2.1;transport=tcp;lr>";
            invite.headers.push(HeaderName::RecordRoute, route).unwrap();
            invite
                .headers
                .push(HeaderName::Contact, "<sip:user@10.9.9.9;transport=tcp>")
                .unwrap();
        }
        world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
        world.run_ms(50);
        let (txn, bobs) = expect_invite(&mut world);
        world.respond(BOB, txn, StatusCode::OK);
        world.run_ms(50);
        let alices = expect_answer(&mut world);
        world.ends[ALICE].stack.ack(alices, None).unwrap();
        // She would take the proxy's way, and there is none.
        let ack = world.ends[ALICE].stack.poll_transmit().unwrap();
        world.send(address(ALICE), address(BOB), ack.bytes);
        world.run_ms(50);

        let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
        let bob = &mut world.ends[BOB].stack;
        bob.dialog_request(now, bobs, bye).unwrap();
        let first = bob.poll_transmit().unwrap().target;
        assert!(
            matches!(first, Target::Flow(_)),
            "over the connection if it is there"
        );
        bob.handle_transport_error(now, &first);
        let next = bob.poll_transmit().expect("a connection of its own");
        assert_eq!(next.target, Target::address(Transport::Tcp, address(ALICE)));
        world.send(address(BOB), address(ALICE), next.bytes);
        world.run_ms(50);
        assert!(matches!(world.event(ALICE), Event::Bye { .. }));
        world.ends.iter_mut().for_each(|end| end.events.clear());
        world.assert_nothing_left();
    }
}

/// Where a phone's Contact leads to another place than its connection, only that leads back through its NAT.
#[test]
fn a_peer_behind_a_nat_has_its_connection_only() {
    let mut world = World::over(10, Transport::Tcp);
    let (now, target) = (world.now, world.target(BOB));
    let mut invite = world.invite(ALICE, BOB);
    let contact = "<sip:user@10.9.9.9;transport=tcp>";
    invite.headers.push(HeaderName::Contact, contact).unwrap();
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(50);
    let (txn, bobs) = expect_invite(&mut world);
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(50);
    let alices = expect_answer(&mut world);
    world.ends[ALICE].stack.ack(alices, None).unwrap();
    world.run_ms(50);
    let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
    let bob = &mut world.ends[BOB].stack;
    let sent = bob.dialog_request(now, bobs, bye).unwrap();
    let first = bob.poll_transmit().unwrap().target;
    bob.handle_transport_error(now, &first);
    assert_eq!(bob.poll_transmit(), None);
    assert!(matches!(world.event(BOB), Event::Ack { .. }));
    let failed = Event::TransportFailed {
        txn: sent,
        dialog: Some(bobs),
    };
    assert_eq!(world.event(BOB), failed);
}

use super::world::*;
use sip::message::{HeaderName, Message, Method, Request, Response, StatusCode};
use sip::stack::{DialogKey, EndReason, Event, StackError};

/// Alice calls; what comes out is the INVITE, to be answered by hand in the name of several phones.
fn call(world: &mut World) -> Request {
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    sent(world)
}

fn sent(world: &mut World) -> Request {
    let bytes = world.ends[ALICE]
        .stack
        .poll_transmit()
        .expect("something is sent")
        .bytes;
    let parsed = sip::message::parse_datagram(bytes, &sip::limits::Limits::DEFAULT);
    let Ok(Message::Request(request)) = parsed else {
        panic!("no request")
    };
    request
}

fn answer(world: &mut World, invite: &Request, phone: u8, status: StatusCode) {
    let mut response = Response::to_request(invite, status);
    response.set_to_tag(&format!("phone{phone}"));
    let contact = format!("<sip:phone{phone}@p{phone}.example>");
    response.headers.push(HeaderName::Contact, contact).unwrap();
    for hop in 1..3 {
        let route = format!("<sip:hop{hop}.phone{phone}.example;lr>");
        response.headers.push(HeaderName::RecordRoute, route).unwrap();
    }
    let flow = world.flow(ALICE, address(BOB));
    let now = world.now;
    world.ends[ALICE]
        .stack
        .handle_message(now, flow, response.to_bytes());
}

fn told(world: &mut World, status: StatusCode) -> DialogKey {
    let event = world.ends[ALICE].stack.poll_event();
    let Some(Event::Response {
        response,
        dialog: Some(dialog),
        ..
    }) = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(response.status, status);
    dialog
}

#[test]
fn two_phones_answer_and_the_third_only_rang() {
    let mut world = World::new(6, Weather::FINE);
    let invite = call(&mut world);
    let early: Vec<DialogKey> = (1..=3)
        .map(|phone| {
            answer(&mut world, &invite, phone, StatusCode::RINGING);
            told(&mut world, StatusCode::RINGING)
        })
        .collect();
    assert!(early[0] != early[1] && early[1] != early[2]);
    let mut confirmed = Vec::new();
    for phone in 1..=2 {
        answer(&mut world, &invite, phone, StatusCode::OK);
        confirmed.push(told(&mut world, StatusCode::OK));
    }
    assert_eq!(confirmed, early[..2]);
    // A repetition before the ACK tells nothing new.
    answer(&mut world, &invite, 1, StatusCode::OK);
    assert_eq!(world.ends[ALICE].stack.poll_event(), None);
    assert!(world.ends[ALICE].stack.poll_transmit().is_none());

    world.ends[ALICE].stack.ack(confirmed[0], None).unwrap();
    let ack = sent(&mut world);
    assert_eq!(ack.uri_text(), "sip:phone1@p1.example");
    let routes: Vec<&[u8]> = ack
        .headers
        .fields(HeaderName::Route)
        .map(|field| field.value())
        .collect();
    // RFC 3261 §12.1.2: Record-Route from behind.
    assert_eq!(
        routes,
        [
            &b"<sip:hop2.phone1.example;lr>"[..],
            b"<sip:hop1.phone1.example;lr>"
        ]
    );
    assert_eq!(ack.headers.cseq().unwrap().number, 1);
    assert_ne!(
        ack.headers.top_via().unwrap().branch(),
        invite.headers.top_via().unwrap().branch(),
        "the ACK of a 2xx is a transaction of its own"
    );
    assert_eq!(
        world.ends[ALICE].stack.ack(confirmed[0], None),
        Err(StackError::WrongState)
    );
    // A repetition after the ACK gets exactly the same ACK.
    answer(&mut world, &invite, 1, StatusCode::OK);
    assert_eq!(sent(&mut world), ack);

    let now = world.now;
    world.ends[ALICE]
        .stack
        .ack_and_bye(now, confirmed[1], None)
        .unwrap();
    assert_eq!(
        (sent(&mut world).method, sent(&mut world).method),
        (Method::Ack, Method::Bye)
    );

    // The third phone is given up when no other 2xx can come any more.
    world.run_ms(32_100);
    let ended = world.ends[ALICE].events.iter().find_map(|event| match event {
        Event::DialogEnded {
            dialog,
            reason: EndReason::OtherFork,
        } => Some(*dialog),
        _ => None,
    });
    assert_eq!(ended, Some(early[2]));
    world.ends[ALICE].stack.forget_dialog(confirmed[0]);
    world.assert_nothing_left();
}

#[test]
fn a_flood_of_forks_is_bounded() {
    let mut world = World::new(6, Weather::FINE);
    let invite = call(&mut world);
    for phone in 0..200 {
        answer(&mut world, &invite, phone, StatusCode::RINGING);
    }
    assert_eq!(
        world.ends[ALICE].stack.stats().dialogs,
        sip::limits::FORK_COUNT_MAX
    );
    answer(&mut world, &invite, 0, StatusCode::BUSY_HERE);
    assert_eq!(world.ends[ALICE].stack.stats().dialogs, 0);
    world.run_ms(1);
    let ends = world.ends[ALICE].events.iter().filter(|event| {
        matches!(event, Event::DialogEnded { reason: EndReason::Failed(status), .. } if *status == StatusCode::BUSY_HERE)
    });
    assert_eq!(ends.count(), sip::limits::FORK_COUNT_MAX);
    world.assert_nothing_left();
}

#[test]
fn a_provisional_response_without_to_tag_makes_no_dialog() {
    let mut world = World::new(6, Weather::FINE);
    let invite = call(&mut world);
    let response = Response::to_request(&invite, StatusCode::RINGING);
    let flow = world.flow(ALICE, address(BOB));
    let now = world.now;
    world.ends[ALICE]
        .stack
        .handle_message(now, flow, response.to_bytes());
    let event = world.ends[ALICE].stack.poll_event();
    assert!(
        matches!(event, Some(Event::Response { dialog: None, .. })),
        "{event:?}"
    );
    answer(&mut world, &invite, 1, StatusCode::DECLINE);
    world.assert_nothing_left();
}

#[test]
fn a_response_with_another_via_or_an_unknown_branch_is_dropped() {
    let mut world = World::new(6, Weather::FINE);
    let invite = call(&mut world);
    let flow = world.flow(ALICE, address(BOB));
    let now = world.now;
    let mut two = Response::to_request(&invite, StatusCode::OK);
    two.headers
        .push(HeaderName::Via, "SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKother")
        .unwrap();
    let mut other = Response::to_request(&invite, StatusCode::OK);
    other
        .headers
        .set(HeaderName::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKguess")
        .unwrap();
    for response in [two, other] {
        world.ends[ALICE]
            .stack
            .handle_message(now, flow, response.to_bytes());
    }
    assert_eq!(world.ends[ALICE].stack.poll_event(), None);
    assert_eq!(world.ends[ALICE].stack.stats().strays, 2);
    answer(&mut world, &invite, 1, StatusCode::DECLINE);
    world.assert_nothing_left();
}

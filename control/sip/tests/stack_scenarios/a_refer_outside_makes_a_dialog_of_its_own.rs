//! RFC 3515 §2.4.4: NOTIFYs go in the dialog that the 2xx to a REFER outside of dialogs makes.

use super::phone::*;
use super::world::*;
use sip::limits::Limits;
use sip::message::{HeaderName, Message, Method, Request, Response, StatusCode, parse_datagram};
use sip::stack::{Content, DialogKey, DialogRequest, Event, ServerTxn, StackError};

fn notify(state: &str) -> DialogRequest {
    DialogRequest::new(Method::Notify)
        .with_header("Event", "refer")
        .and_then(|request| request.with_header("Subscription-State", state))
        .unwrap()
        .with_content(Content::new("message/sipfrag", "SIP/2.0 200 OK\r\n"))
}

/// Bob is sent a REFER that says more, and has not answered it.
fn refer(world: &mut World, phone: &mut Phone, more: &str) -> (ServerTxn, Request) {
    let text = phone.text("REFER", 1, &format!("Refer-To: <sip:carol@192.0.2.3>\r\n{more}"));
    assert!(phone.send(world, &text).is_none());
    match world.event(BOB) {
        Event::Request {
            txn,
            request,
            dialog: None,
            initial: true,
            ..
        } => (txn, request),
        other => panic!("{other:?}"),
    }
}

fn respond(world: &mut World, txn: ServerTxn, status: StatusCode) -> Response {
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    bob.respond(now, txn, Response::new(status)).unwrap();
    answer(world).unwrap().0
}

fn subscribe(world: &mut World, txn: ServerTxn, request: &Request) -> Option<DialogKey> {
    let now = world.now;
    world.ends[BOB]
        .stack
        .subscribe_referrer(now, txn, request)
        .unwrap()
}

/// What Bob sends in the dialog, where to, and what he hears of it when it is taken.
fn tell(world: &mut World, dialog: DialogKey, state: &str) -> (Request, std::net::SocketAddr) {
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    bob.dialog_request(now, dialog, notify(state)).unwrap();
    let sent = bob.poll_transmit().unwrap();
    let Ok(Message::Request(request)) = parse_datagram(sent.bytes, &Limits::DEFAULT) else {
        panic!("a NOTIFY is a request")
    };
    let taken = Response::to_request(&request, StatusCode::OK).to_bytes();
    let flow = world.flow(BOB, address(ALICE));
    world.ends[BOB].stack.handle_message(now, flow, taken);
    assert!(matches!(world.event(BOB), Event::Response { .. }));
    (request, sent.target.remote())
}

#[test]
fn and_it_is_over_with_the_last_of_them() {
    let mut world = World::new(11, Weather::FINE);
    let mut phone = Phone::new("asks");
    let (txn, request) = refer(&mut world, &mut phone, "Record-Route: <sip:192.0.2.9;lr>\r\n");
    let dialog = subscribe(&mut world, txn, &request).unwrap();
    let accepted = respond(&mut world, txn, StatusCode::ACCEPTED);
    assert!(accepted.headers.contains(HeaderName::Contact));
    assert_eq!(
        accepted.headers.get(HeaderName::RecordRoute),
        Some(&b"<sip:192.0.2.9;lr>"[..])
    );
    let (first, to) = tell(&mut world, dialog, "active;expires=60");
    assert_eq!(&first.uri_text()[..], b"sip:phone@192.0.2.1:5060");
    assert_eq!(
        (first.headers.get(HeaderName::Route), to),
        (
            Some(&b"<sip:192.0.2.9;lr>"[..]),
            "192.0.2.9:5060".parse().unwrap()
        )
    );
    let tag = |header: sip::header::NameAddr| header.tag().map(<[u8]>::to_vec);
    assert_eq!(
        tag(first.headers.from().unwrap()),
        tag(accepted.headers.to().unwrap()),
        "the dialog of the 202"
    );
    world.assert_no_event(BOB);
    tell(&mut world, dialog, "terminated;reason=noresource");
    let over = world.event(BOB);
    assert!(matches!(over, Event::DialogEnded { dialog: over, .. } if over == dialog));
    world.assert_nothing_left();
}

#[test]
fn and_when_none_comes_for_long_or_the_peer_forgot_it() {
    let mut world = World::new(11, Weather::FINE);
    let mut phone = Phone::new("silent");
    let (txn, request) = refer(&mut world, &mut phone, "");
    subscribe(&mut world, txn, &request).unwrap();
    respond(&mut world, txn, StatusCode::ACCEPTED);
    world.assert_nothing_left();
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));

    let mut phone = Phone::new("forgets");
    let (txn, request) = refer(&mut world, &mut phone, "");
    let dialog = subscribe(&mut world, txn, &request).unwrap();
    respond(&mut world, txn, StatusCode::ACCEPTED);
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    bob.dialog_request(now, dialog, notify("active")).unwrap();
    let sent = bob.poll_transmit().unwrap();
    let Ok(Message::Request(request)) = parse_datagram(sent.bytes, &Limits::DEFAULT) else {
        panic!("a NOTIFY is a request")
    };
    let unknown = Response::to_request(&request, StatusCode::CALL_DOES_NOT_EXIST).to_bytes();
    let flow = world.flow(BOB, address(ALICE));
    world.ends[BOB].stack.handle_message(now, flow, unknown);
    assert!(matches!(world.event(BOB), Event::Response { .. }));
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));
    world.assert_nothing_left();
}

#[test]
fn but_not_when_it_is_refused_or_nobody_wants_to_hear() {
    let mut world = World::new(11, Weather::FINE);
    let mut phone = Phone::new("refused");
    let (txn, request) = refer(&mut world, &mut phone, "");
    subscribe(&mut world, txn, &request).unwrap();
    let again = {
        let now = world.now;
        world.ends[BOB].stack.subscribe_referrer(now, txn, &request)
    };
    assert_eq!(again, Err(StackError::WrongState), "once");
    respond(&mut world, txn, StatusCode::DECLINE);
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));

    let mut phone = Phone::new("deaf");
    let (txn, request) = refer(&mut world, &mut phone, "Refer-Sub: false\r\n");
    assert_eq!(subscribe(&mut world, txn, &request), None);
    let accepted = respond(&mut world, txn, StatusCode::ACCEPTED);
    // RFC 4488 §4.
    assert_eq!(accepted.headers.get(HeaderName::ReferSub), Some(&b"false"[..]));
    assert!(!accepted.headers.contains(HeaderName::Contact), "no dialog");
    world.assert_nothing_left();
}

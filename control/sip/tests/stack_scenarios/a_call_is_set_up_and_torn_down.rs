use super::world::*;
use sip::dialog::DialogState;
use sip::message::{HeaderName, Method, StatusCode};
use sip::stack::{DialogKey, DialogRequest, EndReason, Event, ServerTxn, Transport};
use std::time::Duration;

/// Rings and answers; gives both sides' dialogs.
pub(crate) fn establish(world: &mut World) -> (DialogKey, DialogKey) {
    let invite = world.invite(ALICE, BOB);
    let target = world.target(BOB);
    let now = world.now;
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(50);
    let (txn, bobs) = expect_invite(world);
    world.respond(BOB, txn, StatusCode::RINGING);
    world.run_ms(50);
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::RINGING);
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(50);
    let alices = expect_answer(world);
    world.ends[ALICE].stack.ack(alices, None).unwrap();
    world.run_ms(50);
    let Event::Ack { dialog, .. } = world.event(BOB) else {
        panic!()
    };
    assert_eq!(dialog, bobs);
    (alices, bobs)
}

pub(crate) fn expect_invite(world: &mut World) -> (ServerTxn, DialogKey) {
    let event = world.event(BOB);
    let Event::Request {
        txn,
        request,
        dialog: Some(dialog),
        initial: true,
        ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(request.method, Method::Invite);
    (txn, dialog)
}

pub(crate) fn expect_answer(world: &mut World) -> DialogKey {
    let event = world.event(ALICE);
    let Event::Response {
        response,
        dialog: Some(dialog),
        ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(response.status, StatusCode::OK);
    dialog
}

fn call(transport: Transport, hangs_up: usize) {
    let mut world = World::over(1, transport);
    let (alices, bobs) = establish(&mut world);
    for (end, dialog) in [(ALICE, alices), (BOB, bobs)] {
        let dialog = world.ends[end].stack.dialog(dialog).unwrap();
        assert_eq!(dialog.state, DialogState::Confirmed);
        let target = String::from_utf8_lossy(dialog.remote_target.as_bytes()).into_owned();
        assert!(
            target.contains(&format!("owner=node{}", 1 - end)),
            "no owner token in {target}"
        );
    }
    let (dialog, other) = if hangs_up == ALICE { (alices, BOB) } else { (bobs, ALICE) };
    let now = world.now;
    world.ends[hangs_up]
        .stack
        .dialog_request(now, dialog, DialogRequest::new(Method::Bye))
        .unwrap();
    world.run_ms(100);
    let Event::Bye { request, .. } = world.event(other) else {
        panic!()
    };
    assert!(request.headers.get(HeaderName::CSeq).is_some());
    let ended = world.event(other);
    assert!(
        matches!(ended, Event::DialogEnded { reason: EndReason::RemoteBye, .. }),
        "{ended:?}"
    );
    let Event::Response { response, .. } = world.event(hangs_up) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::OK);
    let ended = world.event(hangs_up);
    assert!(
        matches!(ended, Event::DialogEnded { reason: EndReason::LocalBye, .. }),
        "{ended:?}"
    );
    // Nothing was lost, so nothing was sent twice.
    let expected = ["INVITE", "180 ", "200 OK [1 INVITE]", "ACK", "BYE", "200 OK ["];
    for (text, count) in expected.iter().zip([1, 1, 1, 1, 1, 2]) {
        let sent = world.trace.iter().filter(|line| line[10..].contains(text)).count();
        let of_response = ["INVITE", "BYE", "ACK"].contains(text);
        let responses = world
            .trace
            .iter()
            .filter(|line| of_response && line.contains("SIP/2.0") && line.contains(text))
            .count();
        assert_eq!(sent - responses, count, "{text}\n{}", world.trace.join("\n"));
    }
    world.assert_nothing_left();
    assert_eq!(world.now.duration_since(world.start) > Duration::from_secs(60), true);
}

#[test]
fn over_udp_the_caller_hangs_up() {
    call(Transport::Udp, ALICE);
}

#[test]
fn over_udp_the_callee_hangs_up() {
    call(Transport::Udp, BOB);
}

#[test]
fn over_tcp_the_caller_hangs_up() {
    call(Transport::Tcp, ALICE);
}

#[test]
fn over_a_websocket_the_callee_hangs_up() {
    call(Transport::Ws, BOB);
}

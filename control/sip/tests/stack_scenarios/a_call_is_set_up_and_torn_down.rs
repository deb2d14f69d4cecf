use super::world::*;
use sip::dialog::DialogState;
use sip::message::{HeaderName, Method, StatusCode};
use sip::stack::{DialogKey, DialogRequest, EndReason, Event, ServerTxn, Transport};

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
    let (dialog, other) = if hangs_up == ALICE {
        (alices, BOB)
    } else {
        (bobs, ALICE)
    };
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
        matches!(
            ended,
            Event::DialogEnded {
                reason: EndReason::RemoteBye,
                ..
            }
        ),
        "{ended:?}"
    );
    let Event::Response { response, .. } = world.event(hangs_up) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::OK);
    let ended = world.event(hangs_up);
    assert!(
        matches!(
            ended,
            Event::DialogEnded {
                reason: EndReason::LocalBye,
                ..
            }
        ),
        "{ended:?}"
    );
    // Nothing was lost, so nothing was sent twice.
    let sent: Vec<&str> = world.trace.iter().map(|line| &line[7..]).collect();
    let (by, of) = if hangs_up == ALICE {
        ("A>B", "B>A")
    } else {
        ("B>A", "A>B")
    };
    let number = if hangs_up == ALICE { 2 } else { 1 };
    let expected = [
        "A>B INVITE [1 INVITE]".to_owned(),
        "B>A SIP/2.0 180 Ringing [1 INVITE]".to_owned(),
        "B>A SIP/2.0 200 OK [1 INVITE]".to_owned(),
        "A>B ACK [1 ACK]".to_owned(),
        format!("{by} BYE [{number} BYE]"),
        format!("{of} SIP/2.0 200 OK [{number} BYE]"),
    ];
    assert_eq!(sent, expected);
    world.assert_nothing_left();
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

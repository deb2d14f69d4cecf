use super::a_call_is_set_up_and_torn_down::{establish, expect_answer};
use super::world::*;
use sip::message::{HeaderName, Method, Response, StatusCode};
use sip::stack::{DialogRequest, Event, StackError};

fn reinvite() -> DialogRequest {
    DialogRequest::new(Method::Invite).with_content(sdp().unwrap())
}

#[test]
fn both_wait_and_the_side_that_may_be_faster_is_the_callee() {
    let mut world = World::new(3, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, reinvite())
        .unwrap();
    world.ends[BOB]
        .stack
        .dialog_request(now, bobs, reinvite())
        .unwrap();
    let again = world.ends[ALICE].stack.dialog_request(now, alices, reinvite());
    assert_eq!(again, Err(StackError::RequestPending));
    world.run_ms(100);
    assert_eq!(world.count("491"), 2);
    for end in [ALICE, BOB] {
        let Event::Response { response, .. } = world.event(end) else {
            panic!()
        };
        assert_eq!(response.status, StatusCode::REQUEST_PENDING);
    }
    // RFC 3261 §14.1: Bob waits up to 2 s, Alice, who made the Call-ID, from 2.1 s on.
    world.run_ms(2_020);
    assert_eq!(
        world.event(BOB),
        Event::GlareOver {
            dialog: bobs,
            method: Method::Invite
        }
    );
    world.assert_no_event(ALICE);
    let now = world.now;
    world.ends[BOB]
        .stack
        .dialog_request(now, bobs, reinvite())
        .unwrap();
    world.run_ms(20);
    let Event::Request {
        txn, initial: false, ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    world.respond(ALICE, txn, StatusCode::OK);
    world.run_ms(20);
    let Event::Response { response, .. } = world.event(BOB) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::OK);
    world.ends[BOB].stack.ack(bobs, None).unwrap();
    world.run_ms(2_000);
    assert!(matches!(world.event(ALICE), Event::Ack { .. }));
    assert!(matches!(world.event(ALICE), Event::GlareOver { .. }));
    hang_up(&mut world, alices);
}

/// After 64·T1 nobody waits for the answer any more: what comes then is no second one before the first is answered.
#[test]
fn an_update_that_is_never_answered_is_over_some_time() {
    let mut world = World::new(3, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    for _ in 0..2 {
        let update = DialogRequest::new(Method::Update).with_content(sdp().unwrap());
        let now = world.now;
        let alice = &mut world.ends[ALICE].stack;
        alice.dialog_request(now, alices, update).unwrap();
        world.run_ms(20);
        let event = world.event(BOB);
        let is_update = matches!(&event, Event::Request { request, .. } if request.method == Method::Update);
        assert!(is_update, "{event:?}");
        world.run_ms(40_000);
        world.ends.iter_mut().for_each(|end| end.events.clear());
        assert!(world.ends[BOB].stack.may_reinvite(bobs));
    }
    hang_up(&mut world, alices);
}

/// Who does not hear that it has to wait asks again, and is told the same: told anything else it would give up.
#[test]
fn a_refusal_that_is_lost_is_told_again() {
    let mut world = World::new(3, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    world.swallow.push(("SIP/2.0 491", 2));
    let now = world.now;
    for (end, dialog) in [(ALICE, alices), (BOB, bobs)] {
        let stack = &mut world.ends[end].stack;
        stack.dialog_request(now, dialog, reinvite()).unwrap();
    }
    world.run_ms(1_000);
    for end in [ALICE, BOB] {
        let Event::Response { response, .. } = world.event(end) else {
            panic!()
        };
        let status = response.status;
        assert_eq!(status, StatusCode::REQUEST_PENDING, "{}", world.trace.join("\n"));
    }
    hang_up(&mut world, alices);
}

fn hang_up(world: &mut World, dialog: sip::stack::DialogKey) {
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, dialog, DialogRequest::new(Method::Bye))
        .unwrap();
    world.assert_nothing_left();
}

#[test]
fn a_second_one_before_the_first_is_answered_gets_500_with_retry_after() {
    let mut world = World::new(3, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, reinvite())
        .unwrap();
    world.run_ms(20);
    let Event::Request { txn, .. } = world.event(BOB) else {
        panic!()
    };
    // The same dialog from a user agent that does not wait: the trace's INVITE with another number and branch.
    let dialog = world.ends[BOB].stack.dialog(bobs).unwrap().clone();
    let text = format!(
        "INVITE sip:x@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKzz\r\nMax-Forwards: 9\r\n\
        From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 9 INVITE\r\nContact: <sip:192.0.2.1>\r\n\r\n",
        String::from_utf8_lossy(&dialog.remote),
        String::from_utf8_lossy(&dialog.local),
        String::from_utf8_lossy(&dialog.id.call_id),
    );
    let flow = world.flow(BOB, address(ALICE));
    let now = world.now;
    world.ends[BOB].stack.handle_message(now, flow, text.into());
    let transmit = world.ends[BOB].stack.poll_transmit().unwrap();
    let answer = String::from_utf8_lossy(&transmit.bytes).into_owned();
    assert!(
        answer.starts_with("SIP/2.0 500") && answer.contains("Retry-After: "),
        "{answer}"
    );
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(20);
    let alices_again = expect_answer(&mut world);
    assert_eq!(alices_again, alices);
    world.ends[ALICE].stack.ack(alices, None).unwrap();
    world.run_ms(20);
    // Bob has seen number 9, which Alice did not send.
    let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
    world.ends[BOB].stack.dialog_request(now, bobs, bye).unwrap();
    world.assert_nothing_left();
}

#[test]
fn an_update_collides_like_an_invite_and_one_without_offer_does_not() {
    let mut world = World::new(3, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    let update = DialogRequest::new(Method::Update).with_content(sdp().unwrap());
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, update.clone())
        .unwrap();
    world.ends[BOB].stack.dialog_request(now, bobs, update).unwrap();
    world.run_ms(100);
    assert_eq!(world.count("491"), 2);
    for end in [ALICE, BOB] {
        world.ends[end].events.clear();
    }
    world.run_ms(4_100);
    assert!(matches!(
        world.event(ALICE),
        Event::GlareOver {
            method: Method::Update,
            ..
        }
    ));
    assert!(matches!(
        world.event(BOB),
        Event::GlareOver {
            method: Method::Update,
            ..
        }
    ));
    let now = world.now;
    let plain = DialogRequest::new(Method::Update);
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, plain.clone())
        .unwrap();
    world.ends[BOB].stack.dialog_request(now, bobs, plain).unwrap();
    world.run_ms(50);
    for end in [ALICE, BOB] {
        let Event::Request { txn, request, .. } = world.event(end) else {
            panic!()
        };
        assert!(request.headers.contains(HeaderName::Contact));
        let now = world.now;
        world.ends[end]
            .stack
            .respond(now, txn, Response::new(StatusCode::OK))
            .unwrap();
    }
    world.run_ms(50);
    for end in [ALICE, BOB] {
        let Event::Response { response, .. } = world.event(end) else {
            panic!()
        };
        assert_eq!(response.status, StatusCode::OK);
    }
    hang_up(&mut world, alices);
}

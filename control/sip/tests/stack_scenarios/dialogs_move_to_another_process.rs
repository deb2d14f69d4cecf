use super::a_call_is_set_up_and_torn_down::{establish, expect_invite};
use super::phone::*;
use super::world::*;
use sip::limits::SEQUENCE_MARK;
use sip::message::{Method, Request, Response, StatusCode};
use sip::stack::{
    DialogKey, DialogRequest, Event, Flow, InvitedRecord, ServerTxn, Stack, StackError, UnknownDialogs,
};

/// Bob's process dies: a new one with nothing but its configuration.
fn restart(world: &mut World, end: usize, unknown: UnknownDialogs) -> Stack {
    let mut config = world.ends[end].stack.config().clone();
    config.unknown_dialogs = unknown;
    std::mem::replace(&mut world.ends[end].stack, Stack::new(config, [99; 32]))
}

#[test]
fn an_adopted_dialog_goes_on_both_ways() {
    let mut world = World::new(9, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    let record = world.ends[BOB].stack.export(bobs).unwrap();
    restart(&mut world, BOB, UnknownDialogs::Refuse);
    let now = world.now;
    let adopted = world.ends[BOB].stack.adopt(now, &record, 10).unwrap();
    assert_eq!(
        world.ends[BOB].stack.adopt(now, &record, 10),
        Err(StackError::WrongState),
        "only once"
    );
    let info = DialogRequest::new(Method::Info);
    world.ends[BOB].stack.dialog_request(now, adopted, info).unwrap();
    world.run_ms(20);
    let Event::Request {
        txn, dialog, request, ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    assert_eq!(dialog, Some(alices));
    assert_eq!(
        request.headers.cseq().unwrap().number,
        11,
        "beyond what may have been sent"
    );
    let now = world.now;
    world.ends[ALICE]
        .stack
        .respond(now, txn, Response::new(StatusCode::OK))
        .unwrap();
    let bye = DialogRequest::new(Method::Bye);
    world.ends[ALICE].stack.dialog_request(now, alices, bye).unwrap();
    world.run_ms(50);
    assert!(matches!(world.event(BOB), Event::Response { .. }));
    assert!(matches!(world.event(BOB), Event::Bye { dialog, .. } if dialog == adopted));
    world.assert_nothing_left();
}

#[test]
fn an_offer_that_the_dead_process_made_does_not_end_the_call() {
    for is_exported_before in [true, false] {
        let mut world = World::new(9, Weather::FINE);
        let (alices, bobs) = establish(&mut world);
        let before = world.ends[ALICE].stack.export(alices).unwrap();
        let (now, offer) = (world.now, DialogRequest::new(Method::Invite));
        world.ends[ALICE]
            .stack
            .dialog_request(now, alices, offer)
            .unwrap();
        let after = world.ends[ALICE].stack.export(alices).unwrap();
        world.run_ms(50);
        let Event::Request { txn, dialog, .. } = world.event(BOB) else {
            panic!()
        };
        assert_eq!(dialog, Some(bobs));
        restart(&mut world, ALICE, UnknownDialogs::Refuse);
        let record = if is_exported_before { before } else { after };
        let now = world.now;
        let adopted = world.ends[ALICE].stack.adopt(now, &record, 10).unwrap();
        world.respond(BOB, txn, StatusCode::OK);
        world.run_ms(40_000);
        assert!(matches!(world.event(BOB), Event::Ack { dialog, .. } if dialog == bobs));
        world.assert_no_event(BOB);
        world.assert_no_event(ALICE);
        assert_eq!(world.count("A>B ACK"), 2, "one more");
        let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
        world.ends[ALICE].stack.dialog_request(now, adopted, bye).unwrap();
        world.run_ms(50);
        assert!(matches!(world.event(BOB), Event::Bye { dialog, .. } if dialog == bobs));
        assert!(matches!(world.event(ALICE), Event::Response { .. }));
        world.assert_nothing_left();
    }
}

/// Whoever writes a record whenever told to, and adopts with twice as much, uses no number twice.
#[test]
fn numbers_are_marked_before_their_margin_is_used_up() {
    let mut world = World::new(9, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    let mut record = world.ends[ALICE].stack.export(alices).unwrap();
    for _ in 0..3 * SEQUENCE_MARK {
        let (now, info) = (world.now, DialogRequest::new(Method::Info));
        world.ends[ALICE].stack.dialog_request(now, alices, info).unwrap();
        world.run_ms(50);
        let Event::Request { txn, dialog, .. } = world.event(BOB) else {
            panic!()
        };
        assert_eq!(dialog, Some(bobs));
        world.respond(BOB, txn, StatusCode::OK);
        world.run_ms(50);
        let mut event = world.event(ALICE);
        if event == (Event::SequenceMark { dialog: alices }) {
            record = world.ends[ALICE].stack.export(alices).unwrap();
            event = world.event(ALICE);
        }
        assert!(matches!(event, Event::Response { .. }), "{event:?}");
        let now = world.ends[ALICE].stack.export(alices).unwrap().local_cseq;
        assert!(
            now - record.local_cseq <= SEQUENCE_MARK,
            "{now} {}",
            record.local_cseq
        );
    }
    let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
    world.ends[ALICE].stack.dialog_request(now, alices, bye).unwrap();
    world.run_ms(50);
}

#[test]
fn a_request_for_a_foreign_dialog_waits_until_the_dialog_is_adopted() {
    let mut world = World::new(9, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    let record = world.ends[BOB].stack.export(bobs).unwrap();
    restart(&mut world, BOB, UnknownDialogs::Ask);
    let now = world.now;
    let bye = DialogRequest::new(Method::Bye);
    world.ends[ALICE].stack.dialog_request(now, alices, bye).unwrap();
    world.run_ms(700);
    let Event::UnknownDialog {
        txn: Some(txn),
        request,
        ..
    } = world.event(BOB)
    else {
        panic!()
    };
    assert_eq!(request.method, Method::Bye);
    world.assert_no_event(BOB);
    let now = world.now;
    assert_eq!(world.ends[BOB].stack.readmit(now, txn), Err(StackError::NoDialog));
    let adopted = world.ends[BOB].stack.adopt(now, &record, 10).unwrap();
    world.ends[BOB].stack.readmit(now, txn).unwrap();
    assert_eq!(world.ends[BOB].stack.readmit(now, txn), Err(StackError::Answered));
    world.run_ms(50);
    assert!(matches!(world.event(BOB), Event::Bye { dialog, .. } if dialog == adopted));
    assert_eq!(world.count("200 OK [2 BYE]"), 1);
    world.assert_nothing_left();
}

#[test]
fn a_peer_that_lost_the_dialog_ends_it() {
    let mut world = World::new(9, Weather::FINE);
    let (alices, _) = establish(&mut world);
    restart(&mut world, BOB, UnknownDialogs::Refuse);
    let now = world.now;
    let info = DialogRequest::new(Method::Info);
    world.ends[ALICE].stack.dialog_request(now, alices, info).unwrap();
    world.run_ms(50);
    assert!(matches!(world.event(ALICE), Event::Response { .. }));
    assert!(matches!(world.event(ALICE), Event::DialogEnded { dialog, .. } if dialog == alices));
    world.assert_nothing_left();
}

#[test]
fn a_ringing_call_of_a_dead_process_is_cancelled_by_its_successor() {
    let mut world = World::new(9, Weather::FINE);
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    let txn = world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(50);
    let (server, _) = expect_invite(&mut world);
    world.respond(BOB, server, StatusCode::RINGING);
    world.run_ms(50);
    let record = world.ends[ALICE].stack.export_invite(txn).unwrap();
    restart(&mut world, ALICE, UnknownDialogs::Refuse);
    world.ends[ALICE].events.clear();
    let now = world.now;
    let adopted = world.ends[ALICE].stack.adopt_invite(now, &record).unwrap();
    world.ends[ALICE].stack.cancel(now, adopted, None).unwrap();
    world.run_ms(50);
    assert!(matches!(world.event(BOB), Event::Cancelled { txn, .. } if txn == server));
    let Event::Response {
        txn,
        response,
        cancelled: true,
        ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    assert_eq!((txn, response.status), (adopted, StatusCode::REQUEST_TERMINATED));
    assert_eq!(world.count("A>B ACK"), 1);
    world.assert_nothing_left();
}

/// Bob has an INVITE of Alice's.
fn invited(world: &mut World) -> (ServerTxn, Request, Flow, DialogKey) {
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(50);
    let Event::Request {
        txn,
        request,
        flow,
        dialog: Some(dialog),
        ..
    } = world.event(BOB)
    else {
        panic!()
    };
    (txn, request, flow, dialog)
}

#[test]
fn an_invite_that_waits_is_answered_by_the_successor() {
    let mut world = World::new(9, Weather::FINE);
    let (txn, request, flow, dialog) = invited(&mut world);
    world.respond(BOB, txn, StatusCode::RINGING);
    world.run_ms(50);
    let local_tag = world.ends[BOB].stack.dialog(dialog).unwrap().id.local_tag.clone();
    let record = InvitedRecord {
        request: request.to_bytes(),
        flow,
        local_tag,
    };
    restart(&mut world, BOB, UnknownDialogs::Refuse);
    world.ends[BOB].events.clear();
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    let (txn, dialog, again) = bob.adopt_invited(now, &record).unwrap();
    assert_eq!(again, request);
    assert_eq!(
        bob.adopt_invited(now, &record),
        Err(StackError::WrongState),
        "only once"
    );
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(50);
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::RINGING);
    let Event::Response {
        response,
        dialog: Some(alices),
        ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::OK, "of the same dialog");
    let now = world.now;
    world.ends[ALICE].stack.ack(alices, None).unwrap();
    let bye = DialogRequest::new(Method::Bye);
    world.ends[ALICE].stack.dialog_request(now, alices, bye).unwrap();
    world.run_ms(50);
    assert!(matches!(world.event(BOB), Event::Ack { dialog: acked, .. } if acked == dialog));
    assert!(matches!(world.event(BOB), Event::Bye { .. }));
    world.ends[ALICE].events.clear();
    world.assert_nothing_left();
}

/// Bob answered, and was killed before Alice heard it.
#[test]
fn an_answer_that_nobody_acknowledged_is_given_again_by_the_successor() {
    for has_rung in [true, false] {
        let mut world = World::new(9, Weather::FINE);
        let (txn, request, flow, dialog) = invited(&mut world);
        if has_rung {
            world.respond(BOB, txn, StatusCode::RINGING);
            world.run_ms(50);
        }
        let now = world.now;
        let bob = &mut world.ends[BOB].stack;
        bob.respond(now, txn, Response::new(StatusCode::OK)).unwrap();
        let of_dialog = bob.export(dialog).unwrap();
        let invited = InvitedRecord {
            request: request.to_bytes(),
            flow,
            local_tag: of_dialog.local_tag.clone(),
        };
        restart(&mut world, BOB, UnknownDialogs::Refuse);
        world.ends[BOB].events.clear();
        let bob = &mut world.ends[BOB].stack;
        let gone = bob.adopt_unacknowledged(now, dialog, &invited);
        assert_eq!(gone, Err(StackError::NoDialog));
        let adopted = bob.adopt(now, &of_dialog, 100).unwrap();
        let txn = bob.adopt_unacknowledged(now, adopted, &invited).unwrap();
        let twice = bob.adopt_unacknowledged(now, adopted, &invited);
        assert_eq!(twice, Err(StackError::WrongState), "only once");
        world.respond(BOB, txn, StatusCode::OK);
        world.run_ms(1_000);
        if has_rung {
            assert!(matches!(world.event(ALICE), Event::Response { .. }));
        }
        let Event::Response {
            response,
            dialog: Some(alices),
            ..
        } = world.event(ALICE)
        else {
            panic!()
        };
        assert_eq!(response.status, StatusCode::OK);
        assert!(world.count("B>A SIP/2.0 200") > 1, "until it is acknowledged");
        world.ends[ALICE].stack.ack(alices, None).unwrap();
        world.run_ms(50);
        assert!(matches!(world.event(BOB), Event::Ack { dialog: acked, .. } if acked == adopted));
        let answers = world.count("B>A SIP/2.0 200");
        world.run_ms(10_000);
        assert_eq!(world.count("B>A SIP/2.0 200"), answers);
        let now = world.now;
        let bye = DialogRequest::new(Method::Bye);
        world.ends[BOB].stack.dialog_request(now, adopted, bye).unwrap();
        world.run_ms(50);
        assert!(
            matches!(world.event(ALICE), Event::Bye { .. }),
            "in the same dialog"
        );
        world.ends[BOB].events.clear();
        world.assert_nothing_left();
    }
}

#[test]
fn an_ack_for_a_foreign_dialog_is_shown_and_never_answered() {
    let mut world = World::new(9, Weather::FINE);
    restart(&mut world, BOB, UnknownDialogs::Ask);
    let mut phone = Phone::new("foreign");
    phone.to_tag = "elsewhere".into();
    let ack = phone.text("ACK", 1, "");
    assert_eq!(phone.send(&mut world, &ack), None);
    assert!(matches!(
        world.ends[BOB].stack.poll_event(),
        Some(Event::UnknownDialog { txn: None, .. })
    ));
    world.assert_nothing_left();
}

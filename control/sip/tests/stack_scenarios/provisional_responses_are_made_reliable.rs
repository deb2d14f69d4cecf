use super::a_call_is_set_up_and_torn_down::{expect_answer, expect_invite};
use super::world::*;
use sip::message::{HeaderName, Method, Response, StatusCode};
use sip::stack::{DialogKey, DialogRequest, EndReason, Event, ServerTxn, StackError, Transport};

const EVER: usize = usize::MAX;

fn call(world: &mut World, late_offer: bool) -> (ServerTxn, DialogKey) {
    let (now, target) = (world.now, world.target(BOB));
    let mut invite = world.invite(ALICE, BOB);
    if late_offer {
        invite.body = bytes::Bytes::new();
        invite.headers.remove(HeaderName::ContentType);
    }
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(15);
    expect_invite(world)
}

fn progress(body: bool) -> Response {
    let mut response = Response::new(StatusCode::SESSION_PROGRESS);
    if body {
        response
            .headers
            .push(HeaderName::ContentType, "application/sdp")
            .unwrap();
        response.body = bytes::Bytes::from_static(b"v=0\r\n");
    }
    response
}

fn reliably(world: &mut World, txn: ServerTxn, response: Response) -> Result<(), StackError> {
    let now = world.now;
    world.ends[BOB].stack.respond_reliable(now, txn, response)
}

fn finish(world: &mut World, txn: ServerTxn) {
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(50);
    let alices = loop {
        match world.ends[ALICE].events.front() {
            Some(Event::Response { response, .. }) if response.status == StatusCode::OK => {
                break expect_answer(world);
            }
            Some(_) => drop(world.event(ALICE)),
            None => panic!("{}", world.trace.join("\n")),
        }
    };
    world.ends[ALICE].stack.ack(alices, None).unwrap();
    world.run_ms(50);
    let now = world.now;
    let bye = DialogRequest::new(Method::Bye);
    world.ends[ALICE].stack.dialog_request(now, alices, bye).unwrap();
    world.assert_nothing_left();
}

#[test]
fn they_are_repeated_until_the_prack_comes_and_told_once() {
    // Over a stream, where no repeated INVITE asks for the answer again.
    let mut world = World::over(4, Transport::Tcp);
    world.swallow.push(("SIP/2.0 183", 2));
    let (txn, dialog) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    world.run_ms(3_000);
    let sent = world.times("183 ");
    let gaps: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [500, 1000], "RFC 3262 §3: T1, doubled, until acknowledged");
    assert_eq!(
        (world.count("A>B PRACK"), world.count("200 OK [2 PRACK]")),
        (1, 1)
    );
    let Event::ProvisionalAcknowledged {
        dialog: told, rseq, ..
    } = world.event(BOB)
    else {
        panic!()
    };
    assert!(told == dialog && rseq > 0);
    let Event::Response {
        needs_prack: false,
        response,
        ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    assert_eq!(response.headers.rseq().unwrap(), Some(rseq));
    world.assert_no_event(ALICE);
    finish(&mut world, txn);
}

#[test]
fn a_late_offer_in_one_is_answered_in_the_prack() {
    let mut world = World::new(4, Weather::FINE);
    let (txn, _) = call(&mut world, true);
    reliably(&mut world, txn, progress(true)).unwrap();
    world.run_ms(15);
    let Event::Response {
        needs_prack: true,
        dialog: Some(dialog),
        ..
    } = world.event(ALICE)
    else {
        panic!()
    };
    assert_eq!(world.count("PRACK"), 0);
    let now = world.now;
    world.ends[ALICE].stack.prack(now, dialog, sdp()).unwrap();
    assert_eq!(
        world.ends[ALICE].stack.prack(now, dialog, sdp()),
        Err(StackError::WrongState)
    );
    world.run_ms(15);
    let Event::Request {
        txn: prack,
        request,
        initial: false,
        ..
    } = world.event(BOB)
    else {
        panic!()
    };
    assert_eq!((request.method, request.body.is_empty()), (Method::Prack, false));
    let now = world.now;
    world.ends[BOB]
        .stack
        .respond(now, prack, Response::new(StatusCode::OK))
        .unwrap();
    world.run_ms(15);
    finish(&mut world, txn);
}

#[test]
fn a_second_one_and_the_2xx_wait_for_the_prack_of_the_first() {
    let mut world = World::new(4, Weather::FINE);
    let (txn, _) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    reliably(&mut world, txn, Response::new(StatusCode::RINGING)).unwrap();
    let now = world.now;
    world.ends[BOB]
        .stack
        .respond(now, txn, Response::new(StatusCode::OK))
        .unwrap();
    assert_eq!(
        reliably(&mut world, txn, progress(false)),
        Err(StackError::Answered)
    );
    world.run_ms(200);
    let sent: Vec<&str> = world.trace.iter().map(|line| &line[7..]).collect();
    let expected = [
        "A>B INVITE [1 INVITE]",
        "B>A SIP/2.0 183 Session Progress [1 INVITE]",
        "A>B PRACK [2 PRACK]",
        "B>A SIP/2.0 200 OK [2 PRACK]",
        "B>A SIP/2.0 180 Ringing [1 INVITE]",
        "A>B PRACK [3 PRACK]",
        "B>A SIP/2.0 200 OK [3 PRACK]",
        "B>A SIP/2.0 200 OK [1 INVITE]",
    ];
    assert_eq!(sent, expected);
    finish(&mut world, txn);
}

/// What nobody has heard is taken back: a dialog that Alice alone would know of nobody would ever end.
#[test]
fn a_2xx_that_waits_for_a_prack_is_taken_back_by_bye() {
    let mut world = World::new(4, Weather::FINE);
    world.swallow.push(("PRACK", 1));
    let (txn, dialog) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    bob.respond(now, txn, Response::new(StatusCode::OK)).unwrap();
    world.run_ms(200);
    let now = world.now;
    let bye = DialogRequest::new(Method::Bye);
    let bob = &mut world.ends[BOB].stack;
    assert_eq!(bob.dialog_request(now, dialog, bye), Err(StackError::NoDialog));
    let reason = EndReason::Failed(StatusCode::REQUEST_TERMINATED);
    assert_eq!(world.event(BOB), Event::DialogEnded { dialog, reason });
    world.run_ms(5_000);
    assert_eq!(world.count("487 Request Terminated [1 INVITE]"), 1);
    assert_eq!(world.count("200 OK [1 INVITE]"), 0);
    world.ends[ALICE].events.clear();
    world.assert_nothing_left();
}

/// It has not been sent: who takes its INVITE back meanwhile is not answered (RFC 3261 §9.2).
#[test]
fn a_2xx_that_waits_for_a_prack_is_taken_back_by_cancel() {
    let mut world = World::new(4, Weather::FINE);
    world.swallow.push(("PRACK", EVER));
    let (txn, dialog) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(200);
    let Event::Response { txn: invite, .. } = world.event(ALICE) else {
        panic!()
    };
    let now = world.now;
    world.ends[ALICE].stack.cancel(now, invite, None).unwrap();
    world.run_ms(100);
    assert_eq!(
        world.count("487 Request Terminated [1 INVITE]"),
        1,
        "{}",
        world.trace.join("\n")
    );
    assert!(matches!(world.event(BOB), Event::Cancelled { dialog: told, .. } if told == dialog));
    let reason = EndReason::Failed(StatusCode::REQUEST_TERMINATED);
    assert_eq!(world.event(BOB), Event::DialogEnded { dialog, reason });
    world.ends[ALICE].events.clear();
    world.assert_nothing_left();
    assert_eq!(world.count("200 OK [1 INVITE]"), 0);
}

#[test]
fn without_any_prack_the_call_is_refused() {
    let mut world = World::new(4, Weather::FINE);
    world.swallow.push(("PRACK", EVER));
    let (txn, dialog) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    world.run_ms(40_000);
    assert_eq!(world.event(BOB), Event::ProvisionalTimedOut { txn });
    let reason = EndReason::Failed(StatusCode::SERVER_TIMEOUT);
    assert_eq!(world.event(BOB), Event::DialogEnded { dialog, reason });
    // The doubling has no upper limit (RFC 3262 §3): 0, .5, 1.5, 3.5, 7.5, 15.5, 31.5 s.
    assert_eq!(world.count("183 "), 7);
    world.assert_nothing_left();
}

/// RFC 3262 §7.1: each INVITE numbers its own anew, from wherever it likes.
#[test]
fn those_to_a_further_invite_of_the_dialog_are_acknowledged_too() {
    let mut world = World::new(4, Weather::FINE);
    let (txn, _) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    world.run_ms(50);
    world.respond(BOB, txn, StatusCode::OK);
    world.run_ms(50);
    drop(world.event(ALICE));
    let alices = expect_answer(&mut world);
    world.ends[ALICE].stack.ack(alices, None).unwrap();
    world.run_ms(50);
    for pracks in 2..5 {
        world.ends.iter_mut().for_each(|end| end.events.clear());
        let (now, again) = (
            world.now,
            DialogRequest::new(Method::Invite).with_content(sdp().unwrap()),
        );
        world.ends[ALICE]
            .stack
            .dialog_request(now, alices, again)
            .unwrap();
        world.run_ms(15);
        let Event::Request { txn, .. } = world.event(BOB) else {
            panic!()
        };
        reliably(&mut world, txn, progress(true)).unwrap();
        world.run_ms(50);
        assert_eq!(world.count("A>B PRACK"), pracks, "{}", world.trace.join("\n"));
        world.respond(BOB, txn, StatusCode::OK);
        world.run_ms(50);
        drop(world.event(ALICE));
        assert_eq!(expect_answer(&mut world), alices);
        world.ends[ALICE].stack.ack(alices, None).unwrap();
        world.run_ms(50);
    }
    let (now, bye) = (world.now, DialogRequest::new(Method::Bye));
    world.ends[ALICE].stack.dialog_request(now, alices, bye).unwrap();
    world.assert_nothing_left();
}

#[test]
fn one_that_comes_before_its_turn_is_ignored() {
    let mut world = World::new(4, Weather::FINE);
    let (txn, _) = call(&mut world, false);
    reliably(&mut world, txn, progress(true)).unwrap();
    world.run_ms(15);
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    let rseq = response.headers.rseq().unwrap().unwrap();
    let mut early = response.clone();
    early
        .headers
        .set(HeaderName::RSeq, (rseq + 2).to_string())
        .unwrap();
    world.send(address(BOB), address(ALICE), early.to_bytes());
    world.run_ms(15);
    world.assert_no_event(ALICE);
    assert_eq!(world.count("A>B PRACK"), 1);
    finish(&mut world, txn);
}

#[test]
fn a_peer_that_does_not_know_100rel_gets_ordinary_ones_and_one_that_requires_it_reliable_ones() {
    for (header, value, reliable) in [
        (HeaderName::Supported, "timer", false),
        (HeaderName::Require, "100rel", true),
    ] {
        let mut world = World::new(4, Weather::FINE);
        let (now, target) = (world.now, world.target(BOB));
        let mut invite = world.invite(ALICE, BOB);
        invite.headers.push(header, value).unwrap();
        world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
        world.run_ms(15);
        let (txn, _) = expect_invite(&mut world);
        if reliable {
            world.respond(BOB, txn, StatusCode::RINGING);
        } else {
            reliably(&mut world, txn, progress(true)).unwrap();
        }
        world.run_ms(50);
        assert_eq!(world.count("A>B PRACK"), usize::from(reliable));
        finish(&mut world, txn);
    }
}

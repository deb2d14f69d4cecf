use super::a_call_is_set_up_and_torn_down::{expect_answer, expect_invite};
use super::world::*;
use sip::header::Reason;
use sip::message::StatusCode;
use sip::stack::{ClientTxn, EndReason, Event, Transport};
use std::time::Duration;

const EVER: usize = usize::MAX;

fn call(world: &mut World) -> ClientTxn {
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap()
}

fn expect_response(world: &mut World, status: StatusCode) -> (sip::message::Response, bool) {
    let event = world.event(ALICE);
    let Event::Response {
        response, cancelled, ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(response.status, status);
    (response, cancelled)
}

#[test]
fn while_it_rings() {
    let mut world = World::new(2, Weather::FINE);
    let txn = call(&mut world);
    world.run_ms(50);
    let (server, dialog) = expect_invite(&mut world);
    world.respond(BOB, server, StatusCode::RINGING);
    world.run_ms(50);
    expect_response(&mut world, StatusCode::RINGING);
    let reason = Reason::new("SIP", 200, "Call completed elsewhere");
    let now = world.now;
    world.ends[ALICE].stack.cancel(now, txn, Some(&reason)).unwrap();
    world.ends[ALICE].stack.cancel(now, txn, None).unwrap();
    world.run_ms(100);
    let Event::Cancelled {
        txn: cancelled,
        request,
        ..
    } = world.event(BOB)
    else {
        panic!()
    };
    assert_eq!(cancelled, server);
    assert_eq!(request.headers.reasons().unwrap()[0].cause(), Some(200));
    assert_eq!(
        world.event(BOB),
        Event::DialogEnded {
            dialog,
            reason: EndReason::Failed(StatusCode::REQUEST_TERMINATED)
        }
    );
    let (response, cancelled) = expect_response(&mut world, StatusCode::REQUEST_TERMINATED);
    assert!(
        cancelled && response.headers.to().unwrap().tag().is_some(),
        "487 has a To tag"
    );
    assert!(matches!(world.event(ALICE), Event::DialogEnded { .. }));
    assert_eq!(world.count("CANCEL [1 CANCEL]"), 1);
    assert_eq!(world.count("ACK"), 1);
    world.assert_nothing_left();
}

#[test]
fn before_any_answer_it_waits_for_the_first_one() {
    let mut world = World::new(2, Weather::FINE);
    let txn = call(&mut world);
    let now = world.now;
    world.ends[ALICE].stack.cancel(now, txn, None).unwrap();
    world.run_ms(205);
    assert_eq!(world.count("CANCEL"), 0, "RFC 3261 §9.1");
    world.run_ms(200);
    assert_eq!(world.times("A>B CANCEL"), [220], "right after the 100");
    expect_response(&mut world, StatusCode::TRYING);
    expect_response(&mut world, StatusCode::REQUEST_TERMINATED);
    world.assert_nothing_left();
}

#[test]
fn a_200_that_crosses_it_is_acknowledged_and_ended() {
    let mut world = World::new(2, Weather::FINE);
    let txn = call(&mut world);
    world.run_ms(50);
    let (server, bobs) = expect_invite(&mut world);
    world.respond(BOB, server, StatusCode::RINGING);
    world.run_ms(50);
    expect_response(&mut world, StatusCode::RINGING);
    let now = world.now;
    world.ends[ALICE].stack.cancel(now, txn, None).unwrap();
    world.respond(BOB, server, StatusCode::OK);
    world.run_ms(50);
    let alices = expect_answer(&mut world);
    assert_eq!(
        world.count("200 OK [1 CANCEL]"),
        1,
        "the CANCEL is answered all the same"
    );
    let now = world.now;
    world.ends[ALICE].stack.ack_and_bye(now, alices, None).unwrap();
    world.run_ms(50);
    assert!(matches!(world.event(BOB), Event::Ack { .. }));
    assert!(matches!(world.event(BOB), Event::Bye { dialog, .. } if dialog == bobs));
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));
    assert_eq!(world.count("487"), 0);
    world.assert_nothing_left();
}

#[test]
fn a_lost_487_is_repeated_and_acknowledged_each_time() {
    let mut world = World::new(2, Weather::FINE);
    world.swallow.push(("SIP/2.0 487", 2));
    world.swallow.push(("ACK", 1));
    let txn = call(&mut world);
    world.run_ms(50);
    let (server, _) = expect_invite(&mut world);
    world.respond(BOB, server, StatusCode::RINGING);
    world.run_ms(50);
    let now = world.now;
    world.ends[ALICE].stack.cancel(now, txn, None).unwrap();
    world.run_ms(20_000);
    assert_eq!(world.count("487"), 4);
    assert_eq!(world.count("A>B ACK"), 2);
    world.assert_nothing_left();
}

#[test]
fn a_peer_that_ignores_it_is_given_up() {
    let mut world = World::new(2, Weather::FINE);
    let txn = call(&mut world);
    world.run_ms(50);
    let (server, _) = expect_invite(&mut world);
    world.respond(BOB, server, StatusCode::RINGING);
    world.run_ms(50);
    expect_response(&mut world, StatusCode::RINGING);
    world.swallow.push(("CANCEL", EVER));
    let now = world.now;
    world.ends[ALICE].stack.cancel(now, txn, None).unwrap();
    world.run_ms(31_000);
    world.assert_no_event(ALICE);
    world.run_ms(1_500);
    assert_eq!(world.event(ALICE), Event::Timeout { txn, dialog: None });
    assert!(matches!(
        world.event(ALICE),
        Event::DialogEnded {
            reason: EndReason::NoResponse,
            ..
        }
    ));
    world.assert_nothing_left();
}

#[test]
fn a_call_that_rings_too_long_is_cancelled_by_the_stack() {
    let mut world = World::with_configs(2, Weather::FINE, Transport::Udp, |config| {
        config.answer_max = Duration::from_secs(1000);
    });
    call(&mut world);
    world.run_ms(50);
    let (server, _) = expect_invite(&mut world);
    world.respond(BOB, server, StatusCode::RINGING);
    world.run_ms(50);
    // Bob repeats his 180 every minute (RFC 3261 §13.3.1.1), which keeps Alice patient; then he falls silent.
    world.run_ms(170_000);
    assert_eq!(world.count("180 "), 3);
    world.swallow.push(("SIP/2.0 180", EVER));
    world.run_ms(200_000);
    assert_eq!(world.count("CANCEL [1 CANCEL]"), 1);
    world.assert_nothing_left();
}

#[test]
fn one_that_matches_nothing_gets_481() {
    let mut world = World::new(2, Weather::FINE);
    let text = "CANCEL sip:user@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnone\r\n\
        From: <sip:a@192.0.2.1>;tag=1\r\nTo: <sip:user@192.0.2.2>\r\nCall-ID: x\r\nCSeq: 1 CANCEL\r\n\
        Max-Forwards: 70\r\n\r\n";
    world.send(address(ALICE), address(BOB), text.into());
    world.run_ms(50);
    assert_eq!(world.count("481"), 1);
    world.assert_no_event(BOB);
    assert_eq!(world.ends[BOB].stack.stats().refused, 1);
    world.assert_nothing_left();
}

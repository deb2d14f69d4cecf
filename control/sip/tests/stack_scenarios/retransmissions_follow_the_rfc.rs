use super::a_call_is_set_up_and_torn_down::{expect_answer, expect_invite};
use super::world::*;
use sip::message::{Method, Response, StatusCode};
use sip::stack::{Event, Transport};
use std::time::Duration;

const EVER: usize = usize::MAX;

#[test]
fn an_invite_nobody_answers_is_sent_seven_times() {
    let mut world = World::new(1, Weather::FINE);
    world.swallow.push(("INVITE", EVER));
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    let txn = world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(31_999);
    world.assert_no_event(ALICE);
    world.run_ms(1);
    // RFC 3261 §17.1.1.2: timer A doubles from T1, timer B ends it after 64·T1.
    assert_eq!(world.times("INVITE"), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(world.event(ALICE), Event::Timeout { txn, dialog: None });
    world.assert_nothing_left();
}

#[test]
fn a_request_nobody_answers_is_sent_eleven_times() {
    let mut world = World::new(1, Weather::FINE);
    world.swallow.push(("OPTIONS", EVER));
    let (now, target) = (world.now, world.target(BOB));
    let options = world.request_to(Method::Options, ALICE, BOB);
    let txn = world.ends[ALICE].stack.request(now, options, &[target]).unwrap();
    world.run_ms(32_000);
    // RFC 3261 §17.1.2.2: timer E doubles from T1 to T2.
    let expected = [
        0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(world.times("OPTIONS"), expected);
    assert_eq!(world.event(ALICE), Event::Timeout { txn, dialog: None });
    world.assert_nothing_left();
}

#[test]
fn on_a_stream_nothing_is_sent_twice() {
    let mut world = World::over(1, Transport::Tls);
    world.swallow.push(("OPTIONS", EVER));
    let (now, target) = (world.now, world.target(BOB));
    let options = world.request_to(Method::Options, ALICE, BOB);
    world.ends[ALICE].stack.request(now, options, &[target]).unwrap();
    world.run_ms(40_000);
    assert_eq!(world.times("OPTIONS"), [0]);
    world.assert_nothing_left();
}

#[test]
fn a_refusal_is_repeated_until_its_ack_comes() {
    let mut world = World::new(1, Weather::FINE);
    world.swallow.push(("ACK", 3));
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(50);
    let (txn, _) = expect_invite(&mut world);
    world.respond(BOB, txn, StatusCode::BUSY_HERE);
    world.run_ms(40_000);
    // Timer G: T1, then doubled; the fourth ACK gets through.
    let sent = world.times("486");
    let gaps: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [500, 1000, 2000]);
    assert_eq!(world.times("> ACK").len() + world.count("B ACK"), 4);
    // Alice hears of it once.
    assert!(matches!(world.event(ALICE), Event::Response { .. }));
    world.assert_no_event(ALICE);
    world.assert_nothing_left();
}

#[test]
fn a_refusal_nobody_acknowledges_is_given_up_silently() {
    let mut world = World::new(1, Weather::FINE);
    world.swallow.push(("ACK", EVER));
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(10);
    let (txn, _) = expect_invite(&mut world);
    world.respond(BOB, txn, StatusCode::BUSY_HERE);
    world.run_ms(60_000);
    let sent = world.times("486");
    let from_first: Vec<u64> = sent.iter().map(|ms| ms - sent[0]).collect();
    let expected = [
        0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(from_first, expected);
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));
    world.assert_no_event(BOB);
    world.assert_nothing_left();
}

#[test]
fn a_2xx_is_repeated_until_its_ack_comes_also_on_a_stream() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut world = World::over(1, transport);
        world.swallow.push(("ACK", EVER));
        let (now, target) = (world.now, world.target(BOB));
        let invite = world.invite(ALICE, BOB);
        world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
        world.run_ms(10);
        let (txn, dialog) = expect_invite(&mut world);
        world.respond(BOB, txn, StatusCode::OK);
        world.run_ms(15);
        let alices = expect_answer(&mut world);
        world.ends[ALICE].stack.ack(alices, None).unwrap();
        world.run_ms(31_980);
        // RFC 3261 §13.3.1.4: T1 doubling to T2, 64·T1 in all.
        let sent = world.times("200 OK");
        let from_first: Vec<u64> = sent.iter().map(|ms| ms - sent[0]).collect();
        let expected = [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
        ];
        assert_eq!(from_first, expected, "{transport:?}");
        // Every repetition is acknowledged by the stack, and told to nobody.
        assert_eq!(world.count("A>B ACK"), expected.len());
        world.assert_no_event(ALICE);
        world.run_ms(20);
        assert_eq!(world.event(BOB), Event::AckTimedOut { dialog });
        world.ends[ALICE].stack.forget_dialog(alices);
        world.ends[BOB].stack.forget_dialog(dialog);
        world.assert_nothing_left();
    }
}

#[test]
fn a_silent_user_gets_a_100_sent_for_it_and_a_repeated_invite_the_last_provisional_answer() {
    let mut world = World::new(1, Weather::FINE);
    // Alice never hears the first answers, so she repeats her INVITE.
    world.swallow.push(("SIP/2.0 100", EVER));
    world.swallow.push(("SIP/2.0 180", 1));
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(10);
    let (txn, dialog) = expect_invite(&mut world);
    world.run_ms(290);
    assert_eq!(world.times("100 Trying"), [210], "200 ms after the INVITE came");
    assert_eq!(world.event(BOB), Event::Trying { dialog });
    world.run_ms(220);
    assert_eq!(world.times("100 Trying"), [210, 510], "again for the repetition");
    world.respond(BOB, txn, StatusCode::RINGING);
    world.run_ms(1500);
    assert_eq!(world.times("180 "), [520, 1510]);
    world.assert_no_event(BOB);
    let now = world.now;
    let busy = Response::new(StatusCode::BUSY_HERE);
    world.ends[BOB].stack.respond(now, txn, busy.clone()).unwrap();
    assert!(
        world.ends[BOB].stack.respond(now, txn, busy).is_err(),
        "answered once"
    );
    world.assert_nothing_left();
}

#[test]
fn a_user_that_never_answers_is_answered_for() {
    let mut world = World::new(1, Weather::FINE);
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    let mut patient = world.ends[ALICE].stack.config().clone();
    patient.ring_max = Duration::from_secs(1000);
    world.ends[ALICE].stack = sip::stack::Stack::new(patient, [7; 32]);
    world.ends[ALICE]
        .stack
        .request(now, invite, std::slice::from_ref(&target))
        .unwrap();
    world.run_ms(10);
    let (txn, dialog) = expect_invite(&mut world);
    world.run_ms(400_000);
    assert_eq!(world.event(BOB), Event::Trying { dialog });
    assert_eq!(world.event(BOB), Event::AnswerTimedOut { txn });
    assert!(matches!(world.event(BOB), Event::DialogEnded { dialog: ended, .. } if ended == dialog));
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::TRYING);
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::TEMPORARILY_UNAVAILABLE);
    // The same without INVITE: the client has given up, and the server forgets it.
    let (now, options) = (world.now, world.request_to(Method::Options, ALICE, BOB));
    world.ends[ALICE].stack.request(now, options, &[target]).unwrap();
    world.run_ms(40_000);
    let Event::Request { txn, .. } = world.event(BOB) else {
        panic!()
    };
    assert_eq!(world.event(BOB), Event::AnswerTimedOut { txn });
    world.assert_nothing_left();
}

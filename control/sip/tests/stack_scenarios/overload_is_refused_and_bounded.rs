use super::a_call_is_set_up_and_torn_down::establish;
use super::phone::*;
use super::world::*;
use sip::header::RetryAfter;
use sip::limits::{Limits, StackLimits};
use sip::message::{Message, Method, Response, StatusCode, parse_datagram};
use sip::stack::{DialogRequest, Event, StackError, Transport, WAIT_MAX, Waiting};

#[test]
fn new_work_gets_503_and_calls_in_progress_go_on() {
    let limits = StackLimits {
        server_transactions: 20,
        client_transactions: 4,
        dialogs: 10,
    };
    let mut world = World::with_configs(8, Weather::FINE, Transport::Udp, |config| config.limits = limits);
    let mut talking = Phone::new("talking");
    let invite = talking.text("INVITE", 1, "");
    talking.send(&mut world, &invite);
    let Some(Event::Request { txn, .. }) = world.ends[BOB].stack.poll_event() else {
        panic!()
    };
    let now = world.now;
    world.ends[BOB]
        .stack
        .respond(now, txn, Response::new(StatusCode::OK))
        .unwrap();
    let (ok, _) = answer(&mut world).unwrap();
    talking.to_tag = String::from_utf8(ok.headers.to().unwrap().tag().unwrap().to_vec()).unwrap();

    let mut refused = 0;
    for index in 0..1000 {
        let mut phone = Phone::new(&format!("flood{index}"));
        let text = phone.text(if index % 2 == 0 { "INVITE" } else { "OPTIONS" }, 1, "");
        let flow = world.flow(BOB, address(ALICE));
        if let Some((response, _)) = receive(&mut world, flow, &text) {
            assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
            let after: RetryAfter = response.headers.retry_after().unwrap().unwrap();
            assert_eq!(after.seconds, 5);
            refused += 1;
        }
    }
    let stats = world.ends[BOB].stack.stats();
    assert_eq!((stats.server_transactions, stats.dialogs), (20, 10));
    assert_eq!((stats.overloaded, refused), (981, 981));
    // Inside the call there is still room.
    let bye = talking.text("BYE", 2, "");
    assert_eq!(talking.send(&mut world, &bye).unwrap().status, StatusCode::OK);

    let (now, target) = (world.now, world.target(BOB));
    for index in 0..5 {
        let options = world.request_to(Method::Options, ALICE, BOB);
        let sent = world.ends[ALICE]
            .stack
            .request(now, options, std::slice::from_ref(&target));
        assert_eq!(sent.err(), (index == 4).then_some(StackError::Overloaded));
    }
    world.assert_nothing_left();
}

/// While messages wait callers ask again: a copy that was taken would ring somebody for who was told no.
#[test]
fn a_copy_of_a_refused_call_is_refused_too() {
    let mut world = World::new(8, Weather::FINE);
    for _ in 0..200 {
        let now = world.now;
        world.ends[BOB].stack.waited(now, Waiting::Messages, WAIT_MAX * 2);
        world.run_ms(10);
    }
    let mut early = Phone::new("early");
    let invite = early.text("INVITE", 1, "");
    let status = early.send(&mut world, &invite).unwrap().status;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);

    world.run_ms(15_000);
    let status = early.send(&mut world, &invite).unwrap().status;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    world.assert_no_event(BOB);
    let mut late = Phone::new("late");
    let invite = late.text("INVITE", 1, "");
    late.send(&mut world, &invite);
    let Event::Request { txn, .. } = world.event(BOB) else {
        panic!("who calls when nothing waits any more is taken")
    };
    world.respond(BOB, txn, StatusCode::BUSY_HERE);
    world.run_ms(40_000);
    world.assert_nothing_left();
}

/// What could not be sent is not waited for.
#[test]
fn a_request_that_cannot_be_sent_again_for_want_of_room_is_no_open_one() {
    let limits = StackLimits {
        server_transactions: 20,
        client_transactions: 4,
        dialogs: 10,
    };
    let mut world = World::with_configs(8, Weather::FINE, Transport::Udp, |config| config.limits = limits);
    let (alices, _) = establish(&mut world);
    world.run_ms(100_000);
    for method in [Method::Invite, Method::Bye] {
        world.ends.iter_mut().for_each(|end| end.events.clear());
        let now = world.now;
        let alice = &mut world.ends[ALICE].stack;
        for _ in 0..4 {
            let info = DialogRequest::new(Method::Info);
            alice.dialog_request(now, alices, info).unwrap();
            alice.poll_transmit().unwrap();
        }
        let request = DialogRequest::new(method.clone());
        let first = alice.dialog_request(now, alices, request).unwrap();
        let sent = alice.poll_transmit().unwrap().bytes;
        let Ok(Message::Request(sent)) = parse_datagram(sent, &Limits::DEFAULT) else {
            panic!()
        };
        let asks = Response::to_request(&sent, StatusCode::UNAUTHORIZED);
        world.send(address(BOB), address(ALICE), asks.to_bytes());
        world.run_ms(20);
        let now = world.now;
        let again = world.ends[ALICE].stack.retry(now, first, |_| {});
        assert_eq!(again, Err(StackError::Overloaded));
        if method == Method::Invite {
            world.run_ms(100_000);
            assert!(world.ends[ALICE].stack.may_reinvite(alices));
        }
    }
    world.run_ms(100_000);
    assert_eq!(
        world.ends[ALICE].stack.stats().dialogs,
        0,
        "hung up, as far as that goes"
    );
}

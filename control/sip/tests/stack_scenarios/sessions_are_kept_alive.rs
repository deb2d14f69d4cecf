use super::a_call_is_set_up_and_torn_down::{establish, expect_invite};
use super::world::*;
use sip::header::Refresher;
use sip::message::{HeaderName, Method, Response, StatusCode};
use sip::stack::{DialogRequest, Event, SessionTimerConfig, Transport};
use std::time::Duration;

fn world(interval: u64, min_se: u64) -> World {
    World::with_configs(5, Weather::FINE, Transport::Udp, |config| {
        config.session_timer = Some(SessionTimerConfig {
            interval: Duration::from_secs(interval),
            min_se: Duration::from_secs(min_se),
        });
    })
}

#[test]
fn the_refresher_is_told_at_half_of_the_interval_and_again_after_its_refresh() {
    let mut world = world(600, 90);
    let (alices, _) = establish(&mut world);
    for round in 0..3 {
        world.run(Duration::from_secs(295));
        world.assert_no_event(ALICE);
        world.run(Duration::from_secs(6));
        assert_eq!(
            world.event(ALICE),
            Event::SessionRefreshDue { dialog: alices },
            "{round}"
        );
        let now = world.now;
        let update = DialogRequest::new(Method::Update);
        world.ends[ALICE]
            .stack
            .dialog_request(now, alices, update)
            .unwrap();
        world.run_ms(50);
        let Event::Request { txn, request, .. } = world.event(BOB) else {
            panic!()
        };
        let value = request.headers.session_expires().unwrap().unwrap();
        assert_eq!((value.seconds, value.refresher), (600, Some(Refresher::Uac)));
        let now = world.now;
        world.ends[BOB]
            .stack
            .respond(now, txn, Response::new(StatusCode::OK))
            .unwrap();
        world.run_ms(50);
        assert!(matches!(world.event(ALICE), Event::Response { .. }));
        world.assert_no_event(BOB);
    }
}

#[test]
fn without_refresh_both_sides_are_told_to_hang_up() {
    let mut world = world(600, 90);
    let (alices, bobs) = establish(&mut world);
    world.run(Duration::from_secs(560));
    assert_eq!(world.event(ALICE), Event::SessionRefreshDue { dialog: alices });
    world.assert_no_event(BOB);
    world.run(Duration::from_secs(10));
    // RFC 4028 §10: 32 s before the end.
    assert_eq!(world.event(BOB), Event::SessionExpired { dialog: bobs });
    assert_eq!(world.event(ALICE), Event::SessionExpired { dialog: alices });
    let now = world.now;
    let bye = DialogRequest::new(Method::Bye);
    world.ends[BOB].stack.dialog_request(now, bobs, bye).unwrap();
    world.assert_nothing_left();
}

#[test]
fn an_interval_below_ours_gets_422_and_is_raised() {
    let mut world = world(1800, 300);
    let (now, target) = (world.now, world.target(BOB));
    let mut invite = world.invite(ALICE, BOB);
    invite.headers.push(HeaderName::SessionExpires, "120").unwrap();
    let txn = world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    world.run_ms(30);
    let Event::Response { response, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!(response.status, StatusCode::SESSION_INTERVAL_TOO_SMALL);
    assert_eq!(response.headers.min_se().unwrap(), Some(300));
    world.assert_no_event(BOB);
    let now = world.now;
    world.ends[ALICE]
        .stack
        .retry_with_session_interval(now, txn, &response)
        .unwrap();
    world.run_ms(30);
    let event = world.ends[BOB].events.front();
    let Some(Event::Request { request, .. }) = event else {
        panic!("{event:?}")
    };
    let value = request.headers.session_expires().unwrap().unwrap();
    assert!(value.seconds >= 300);
    assert_eq!(request.headers.min_se().unwrap(), Some(300));
    assert_eq!(request.headers.cseq().unwrap().number, 2);
    let (txn, _) = expect_invite(&mut world);
    world.respond(BOB, txn, StatusCode::DECLINE);
    world.assert_nothing_left();
}

use super::a_call_is_set_up_and_torn_down::establish;
use super::phone::*;
use super::world::*;
use sip::dialog::DialogState;
use sip::message::{HeaderName, Method, Response, StatusCode};
use sip::stack::{DialogKey, DialogRequest, Event};

fn refer(refer_sub: bool) -> DialogRequest {
    let request = DialogRequest::new(Method::Refer)
        .with_header("Refer-To", "<sip:carol@192.0.2.3>")
        .unwrap();
    if refer_sub {
        request
    } else {
        request.with_header("Refer-Sub", "false").unwrap()
    }
}

fn transfer(world: &mut World, alices: DialogKey, refer_sub: bool) {
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, refer(refer_sub))
        .unwrap();
    world.run_ms(20);
    let Event::Request { txn, request, .. } = world.event(BOB) else {
        panic!()
    };
    assert!(request.headers.refer_to().unwrap().is_some());
    let now = world.now;
    world.ends[BOB]
        .stack
        .respond(now, txn, Response::new(StatusCode::ACCEPTED))
        .unwrap();
    world.run_ms(20);
    assert!(matches!(world.event(ALICE), Event::Response { .. }));
}

fn notify(state: &str) -> DialogRequest {
    DialogRequest::new(Method::Notify)
        .with_header("Event", "refer")
        .and_then(|request| request.with_header("Subscription-State", state))
        .unwrap()
        .with_content(sip::stack::Content::new("message/sipfrag", "SIP/2.0 200 OK\r\n"))
}

#[test]
fn the_end_of_a_transfer_is_told_after_the_bye() {
    let mut world = World::new(11, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    transfer(&mut world, alices, true);
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, DialogRequest::new(Method::Bye))
        .unwrap();
    world.run_ms(50);
    assert!(matches!(world.event(BOB), Event::Bye { .. }));
    assert!(matches!(world.event(ALICE), Event::Response { .. }));
    // The subscription keeps the dialog (RFC 3515 §2.4.4, RFC 5057 §4.2).
    world.assert_no_event(BOB);
    assert_eq!(
        world.ends[BOB].stack.dialog(bobs).unwrap().state,
        DialogState::Ending
    );
    let now = world.now;
    let last = notify("terminated;reason=noresource");
    world.ends[BOB].stack.dialog_request(now, bobs, last).unwrap();
    world.run_ms(20);
    let Event::Request { txn, request, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!(&request.body[..], b"SIP/2.0 200 OK\r\n");
    assert!(matches!(world.event(ALICE), Event::DialogEnded { .. }));
    let now = world.now;
    world.ends[ALICE]
        .stack
        .respond(now, txn, Response::new(StatusCode::OK))
        .unwrap();
    world.run_ms(20);
    assert!(matches!(world.event(BOB), Event::Response { .. }));
    assert!(matches!(world.event(BOB), Event::DialogEnded { .. }));
    world.assert_nothing_left();
}

#[test]
fn a_subscription_that_never_ends_is_swept_and_one_that_was_declined_never_was() {
    for refer_sub in [true, false] {
        let mut world = World::new(11, Weather::FINE);
        let (alices, bobs) = establish(&mut world);
        transfer(&mut world, alices, refer_sub);
        let now = world.now;
        world.ends[ALICE]
            .stack
            .dialog_request(now, alices, DialogRequest::new(Method::Bye))
            .unwrap();
        world.run_ms(100);
        assert_eq!(world.ends[BOB].stack.dialog(bobs).is_some(), refer_sub);
        world.assert_nothing_left();
    }
}

#[test]
fn an_invite_with_replaces_finds_the_dialog_it_replaces() {
    let mut world = World::new(11, Weather::FINE);
    let (alices, bobs) = establish(&mut world);
    // Alice names the dialog to a third party, which calls Bob with it.
    let replaces = world.ends[ALICE].stack.dialog(alices).unwrap().replaces();
    for (early_only, expected) in [(true, Some(486)), (false, None)] {
        let mut phone = Phone::new(if early_only { "early" } else { "any" });
        let early = if early_only { ";early-only" } else { "" };
        let value = format!(
            "Replaces: {};to-tag={};from-tag={}{early}\r\nRequire: replaces\r\n",
            String::from_utf8_lossy(&replaces.call_id),
            String::from_utf8_lossy(&replaces.to_tag),
            String::from_utf8_lossy(&replaces.from_tag),
        );
        let invite = phone.text("INVITE", 1, &value);
        let answer = phone.send(&mut world, &invite);
        assert_eq!(answer.map(|response| response.status.code()), expected);
    }
    let Some(Event::Request {
        txn,
        replaces,
        initial: true,
        request,
        ..
    }) = world.ends[BOB].stack.poll_event()
    else {
        panic!()
    };
    assert_eq!(replaces, Some(bobs));
    assert!(request.headers.contains(HeaderName::Replaces));
    let now = world.now;
    world.ends[BOB]
        .stack
        .respond(now, txn, Response::new(StatusCode::DECLINE))
        .unwrap();
    world.ends[BOB]
        .stack
        .dialog_request(now, bobs, DialogRequest::new(Method::Bye))
        .unwrap();
    world.assert_nothing_left();
}

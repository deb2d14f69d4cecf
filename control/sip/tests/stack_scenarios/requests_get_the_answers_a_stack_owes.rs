use super::phone::*;
use super::world::*;
use sip::message::{HeaderName, Response, StatusCode};
use sip::stack::{Event, Flow, FlowId, ServerTxn, Target, Transport};

fn established(world: &mut World, phone: &mut Phone) -> ServerTxn {
    let invite = phone.text("INVITE", 10, "");
    assert_eq!(phone.send(world, &invite), None);
    let event = world.ends[BOB].stack.poll_event();
    let Some(Event::Request { txn, .. }) = event else {
        panic!("{event:?}")
    };
    let now = world.now;
    let ok = Response::new(StatusCode::OK);
    world.ends[BOB].stack.respond(now, txn, ok).unwrap();
    let (response, _) = answer(world).unwrap();
    phone.to_tag = String::from_utf8(response.headers.to().unwrap().tag().unwrap().to_vec()).unwrap();
    let ack = phone.text("ACK", 10, "");
    assert_eq!(phone.send(world, &ack), None);
    assert!(matches!(
        world.ends[BOB].stack.poll_event(),
        Some(Event::Ack { .. })
    ));
    txn
}

fn status(response: Option<Response>) -> u16 {
    response.map_or(0, |response| response.status.code())
}

#[test]
fn sequence_numbers_may_have_gaps_and_must_not_fall() {
    let mut world = World::new(7, Weather::FINE);
    let mut phone = Phone::new("gaps");
    established(&mut world, &mut phone);
    for (number, expected) in [(12, 0), (20, 0), (15, 500), (20, 482), (21, 0)] {
        let info = phone.text("INFO", number, "");
        assert_eq!(status(phone.send(&mut world, &info)), expected, "CSeq {number}");
        let event = world.ends[BOB].stack.poll_event();
        assert_eq!(event.is_some(), expected == 0, "CSeq {number}");
        if let Some(Event::Request { txn, .. }) = event {
            let now = world.now;
            let ok = Response::new(StatusCode::OK);
            world.ends[BOB].stack.respond(now, txn, ok).unwrap();
            assert_eq!(answer(&mut world).unwrap().0.status, StatusCode::OK);
            // The same datagram again: the same answer, and nothing told.
            assert_eq!(status(phone.send(&mut world, &info)), 200);
            assert_eq!(world.ends[BOB].stack.poll_event(), None);
        }
    }
    let low = phone.text("BYE", 11, "");
    assert_eq!(status(phone.send(&mut world, &low)), 500, "a BYE is no exception");
    let bye = phone.text("BYE", 22, "");
    assert_eq!(status(phone.send(&mut world, &bye)), 200);
    assert_eq!(
        status(phone.send(&mut world, &bye)),
        200,
        "repeated after the dialog is gone"
    );
    world.assert_nothing_left();
}

#[test]
fn requests_of_every_kind_reach_the_user_inside_a_dialog() {
    let mut world = World::new(7, Weather::FINE);
    let mut phone = Phone::new("kinds");
    established(&mut world, &mut phone);
    for (number, method) in (11..).zip(["OPTIONS", "INFO", "MESSAGE", "UPDATE", "REFER", "NOTIFY"]) {
        let extra = if method == "REFER" {
            "Refer-To: <sip:other@192.0.2.3>\r\n"
        } else {
            ""
        };
        let text = phone.text(method, number, extra);
        assert_eq!(status(phone.send(&mut world, &text)), 0, "{method}");
        let Some(Event::Request {
            txn,
            dialog: Some(_),
            initial: false,
            ..
        }) = world.ends[BOB].stack.poll_event()
        else {
            panic!("{method}")
        };
        let now = world.now;
        world.ends[BOB]
            .stack
            .respond(now, txn, Response::new(StatusCode::OK))
            .unwrap();
        assert_eq!(answer(&mut world).unwrap().0.status, StatusCode::OK);
    }
    let bye = phone.text("BYE", 30, "");
    assert_eq!(status(phone.send(&mut world, &bye)), 200);
    world.assert_nothing_left();
}

/// RFC 3261 §21.4.6: with those that are.
#[test]
fn a_method_that_is_not_allowed_is_told_so_with_the_others() {
    let mut world = World::new(7, Weather::FINE);
    let mut phone = Phone::new("notify");
    established(&mut world, &mut phone);
    for (number, own) in [(11, None), (12, Some("INVITE"))] {
        let text = phone.text("NOTIFY", number, "");
        assert_eq!(status(phone.send(&mut world, &text)), 0);
        let Some(Event::Request { txn, .. }) = world.ends[BOB].stack.poll_event() else {
            panic!()
        };
        let mut refusal = Response::new(StatusCode::METHOD_NOT_ALLOWED);
        if let Some(methods) = own {
            refusal.headers.push(HeaderName::Allow, methods).unwrap();
        }
        let now = world.now;
        world.ends[BOB].stack.respond(now, txn, refusal).unwrap();
        let (response, _) = answer(&mut world).unwrap();
        let allow = response.headers.allow().unwrap();
        assert!(allow.contains("INVITE") && !allow.contains("NOTIFY"), "{allow:?}");
        assert_eq!(allow.contains("BYE"), own.is_none(), "{allow:?}");
    }
    let bye = phone.text("BYE", 30, "");
    assert_eq!(status(phone.send(&mut world, &bye)), 200);
    world.assert_nothing_left();
}

#[test]
fn what_belongs_nowhere_is_refused_with_a_to_tag_that_stays_the_same() {
    let mut world = World::new(7, Weather::FINE);
    for (method, expected) in [
        ("BYE", 481),
        ("INFO", 481),
        ("UPDATE", 481),
        ("PRACK", 481),
        ("INVITE", 481),
    ] {
        let mut phone = Phone::new(method);
        phone.to_tag = "gone".into();
        let text = phone.text(method, 5, "");
        assert_eq!(status(phone.send(&mut world, &text)), expected, "{method}");
    }
    let mut phone = Phone::new("no-tag");
    for method in ["BYE", "UPDATE", "PRACK", "INFO"] {
        let text = phone.text(method, 1, "");
        let first = phone.send(&mut world, &text).unwrap();
        assert_eq!(first.status, StatusCode::CALL_DOES_NOT_EXIST);
        assert!(first.headers.to().unwrap().tag().is_some());
        assert_eq!(phone.send(&mut world, &text), Some(first), "RFC 3261 §8.2.7");
    }
    let cases = [
        ("FLY", "", 501),
        ("PUBLISH", "", 405),
        ("INVITE", "Require: telepathy\r\n", 420),
        (
            "OPTIONS",
            "Content-Type: image/png\r\nContent-Length: 2\r\n\r\nxx",
            415,
        ),
        ("OPTIONS", "Bad header\r\n", 400),
        ("INVITE", "Session-Expires: 30\r\nSupported: timer\r\n", 422),
        ("INVITE", "Replaces: nothing;to-tag=a;from-tag=b\r\n", 481),
    ];
    for (method, extra, expected) in cases {
        let text = phone.text(method, 2, extra);
        assert_eq!(
            status(phone.send(&mut world, &text)),
            expected,
            "{method} {extra}"
        );
    }
    let ack = phone.text("ACK", 2, "");
    assert_eq!(phone.send(&mut world, &ack), None);
    world.assert_no_event(BOB);
    assert_eq!(
        world.ends[BOB].stack.stats().server_transactions,
        0,
        "nothing is kept"
    );
    world.assert_nothing_left();
}

/// The telephone network's reason is in the BYE of a trunk (RFC 3204), and what some phones measured. Whoever reads it not
/// knows that the call is over all the same.
#[test]
fn a_bye_ends_its_dialog_whatever_is_in_it() {
    let kinds = [
        "Content-Type: application/ISUP;version=itu-t92+\r\n",
        "Content-Type: application/vq-rtcpxr\r\n",
        "Content-Type: multipart/mixed;boundary=b\r\n",
        "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n",
    ];
    for kind in kinds {
        let mut world = World::new(7, Weather::FINE);
        let mut phone = Phone::new("bye");
        established(&mut world, &mut phone);
        let bye = phone.text("BYE", 11, &format!("{kind}Content-Length: 2\r\n\r\nxx"));
        assert_eq!(status(phone.send(&mut world, &bye)), 200, "{kind}");
        assert!(matches!(
            world.ends[BOB].stack.poll_event(),
            Some(Event::Bye { .. })
        ));
        world.assert_nothing_left();
    }
}

#[test]
fn a_copy_that_came_another_way_gets_482() {
    let mut world = World::new(7, Weather::FINE);
    let mut phone = Phone::new("merged");
    let first = phone.text("OPTIONS", 1, "");
    assert_eq!(phone.send(&mut world, &first), None);
    let copy = phone.text("OPTIONS", 1, "");
    assert_eq!(status(phone.send(&mut world, &copy)), 482);
    let next = phone.text("OPTIONS", 2, "");
    assert_eq!(phone.send(&mut world, &next), None);
    world.assert_nothing_left();
}

#[test]
fn an_rfc_2543_peer_is_understood() {
    let mut world = World::new(7, Weather::FINE);
    let mut phone = Phone::new("old");
    // No magic cookie, no From tag.
    let old = |text: String| text.replace("z9hG4bK", "").replace(";tag=tag-old", "");
    let invite = old(phone.text("INVITE", 1, ""));
    assert_eq!(phone.send(&mut world, &invite), None);
    let Some(Event::Request { txn, .. }) = world.ends[BOB].stack.poll_event() else {
        panic!()
    };
    let now = world.now;
    world.ends[BOB]
        .stack
        .respond(now, txn, Response::new(StatusCode::BUSY_HERE))
        .unwrap();
    let (busy, _) = answer(&mut world).unwrap();
    assert_eq!(
        status(phone.send(&mut world, &invite)),
        486,
        "a repetition is known by its fields"
    );
    let to = String::from_utf8(busy.headers.get(HeaderName::To).unwrap().to_vec()).unwrap();
    let ack = invite
        .replace("INVITE", "ACK")
        .replace("To: <sip:user@192.0.2.2>", &format!("To: {to}"));
    assert_eq!(phone.send(&mut world, &ack), None);
    world.run_ms(20_000);
    assert_eq!(world.count("486"), 0, "the ACK ended the repetitions");
    world.assert_nothing_left();
}

#[test]
fn answers_go_where_rfc_3261_and_3581_send_them() {
    let udp = |via: &str, from: &str| {
        let mut world = World::new(7, Weather::FINE);
        let text = Phone::new("via")
            .text("BYE", 1, "")
            .replace("SIP/2.0/UDP 192.0.2.1:5060", via);
        let flow = Flow {
            remote: from.parse().unwrap(),
            ..world.flow(BOB, address(ALICE))
        };
        let (response, transmit) = receive(&mut world, flow, &text).unwrap();
        let Target::Flow(to) = transmit.target else {
            panic!()
        };
        assert_eq!(
            (to.local, to.id),
            (flow.local, flow.id),
            "from the socket it came to"
        );
        let via = response.headers.top_via().unwrap();
        (
            to.remote.to_string(),
            via.received().map(|ip| ip.to_string()),
            via.rport(),
        )
    };
    let received = |ip: &str| Some(ip.to_owned());
    let expect = [
        // Behind NAT, with rport: back to the source.
        (
            "SIP/2.0/UDP 10.0.0.5:5060;rport",
            "203.0.113.7:40000",
            ("203.0.113.7:40000", received("203.0.113.7"), Some(40000)),
        ),
        // Without rport: received address, sent-by port.
        (
            "SIP/2.0/UDP 10.0.0.5:5062",
            "203.0.113.7:40000",
            ("203.0.113.7:5062", received("203.0.113.7"), None),
        ),
        (
            "SIP/2.0/UDP 203.0.113.7",
            "203.0.113.7:40000",
            ("203.0.113.7:5060", None, None),
        ),
        (
            "SIP/2.0/UDP phone.example",
            "203.0.113.7:40000",
            ("203.0.113.7:5060", received("203.0.113.7"), None),
        ),
        (
            "SIP/2.0/UDP 203.0.113.7;maddr=203.0.113.9",
            "203.0.113.7:40000",
            ("203.0.113.9:5060", None, None),
        ),
        (
            "SIP/2.0/UDP [2001:db8::1]:5070",
            "[2001:db8::2]:6000",
            ("[2001:db8::2]:5070", received("2001:db8::2"), None),
        ),
    ];
    for (via, from, (to, received, rport)) in expect {
        assert_eq!(
            udp(via, from),
            (to.to_owned(), received, rport),
            "{via} from {from}"
        );
    }
    // On a connection: over the connection, and if it is gone to received and the sent-by port (§18.2.2).
    let mut world = World::new(7, Weather::FINE);
    let text = Phone::new("tcp")
        .text("BYE", 1, "Content-Length: 0\r\n")
        .replace("UDP 192.0.2.1:5060", "TCP 10.0.0.5:5099");
    let flow = Flow {
        transport: Transport::Tcp,
        local: address(BOB),
        remote: "203.0.113.7:40000".parse().unwrap(),
        id: FlowId(77),
    };
    let (_, transmit) = receive(&mut world, flow, &text).unwrap();
    assert_eq!(transmit.target, Target::Flow(flow));
    let fallback = Target::address(Transport::Tcp, "203.0.113.7:5099".parse().unwrap());
    assert_eq!(transmit.fallback, Some(fallback));
}

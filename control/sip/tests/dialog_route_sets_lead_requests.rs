//! Route sets, strict routers, and where requests inside a dialog go.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by stopping")]

use bytes::Bytes;
use sip::dialog::Dialog;
use sip::limits::Limits;
use sip::message::{HeaderName, Message, Method, Request, Response, StatusCode, parse_datagram};
use sip::stack::{Flow, FlowId, Hop, Target, Transport};

fn invite(record_route: &str) -> Request {
    let text = format!(
        "INVITE sip:us@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1\r\n{record_route}\
        From: <sip:peer@example.com>;tag=p\r\nTo: <sip:us@198.51.100.1>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\
        Contact: <sip:peer@10.0.0.5:5070>\r\n\r\n"
    );
    let Ok(Message::Request(request)) = parse_datagram(Bytes::from(text), &Limits::DEFAULT) else {
        panic!()
    };
    request
}

fn flow() -> Target {
    Target::Flow(Flow {
        transport: Transport::Udp,
        local: "198.51.100.1:5060".parse().unwrap(),
        remote: "203.0.113.7:40000".parse().unwrap(),
        id: FlowId(1),
    })
}

fn routes(request: &Request) -> Vec<String> {
    let fields = request.headers.fields(HeaderName::Route);
    fields
        .map(|field| String::from_utf8_lossy(field.value()).into_owned())
        .collect()
}

fn from_request(record_route: &str) -> Dialog {
    Dialog::from_request(
        &invite(record_route),
        "ours",
        Bytes::from_static(b"<sip:us@h>"),
        flow(),
    )
    .unwrap()
}

#[test]
fn the_callee_keeps_record_route_in_order_and_numbers_from_one() {
    let mut dialog = from_request("Record-Route: <sip:a;lr>, <sip:b;lr>\r\nRecord-Route: <sip:c;lr>\r\n");
    let bye = dialog.build_request(Method::Bye, None);
    assert_eq!(bye.uri_text(), "sip:peer@10.0.0.5:5070");
    assert_eq!(routes(&bye), ["<sip:a;lr>", "<sip:b;lr>", "<sip:c;lr>"]);
    assert_eq!(
        bye.headers.get(HeaderName::From),
        Some(&b"<sip:us@198.51.100.1>;tag=ours"[..])
    );
    assert_eq!(
        bye.headers.get(HeaderName::To),
        Some(&b"<sip:peer@example.com>;tag=p"[..])
    );
    assert_eq!(bye.headers.cseq().unwrap().number, 1);
    assert_eq!(
        dialog
            .build_request(Method::Info, None)
            .headers
            .cseq()
            .unwrap()
            .number,
        2
    );
    assert_eq!(
        dialog
            .build_request(Method::Ack, Some(9))
            .headers
            .cseq()
            .unwrap()
            .number,
        9
    );
    assert_eq!(dialog.next_hop().as_bytes(), "sip:a;lr");
}

#[test]
fn a_strict_router_becomes_the_request_uri() {
    let mut dialog = from_request("Record-Route: <sip:strict.example>, <sip:b;lr>\r\n");
    let bye = dialog.build_request(Method::Bye, None);
    assert_eq!(bye.uri_text(), "sip:strict.example");
    assert_eq!(routes(&bye), ["<sip:b;lr>", "<sip:peer@10.0.0.5:5070>"]);
}

/// Calls a peer at an address; it answers with this Contact and Record-Route.
fn answered(target: Target, contact: &str, record_route: &str) -> Target {
    let mut request = invite("");
    request.headers.remove(HeaderName::Contact);
    let mut response = Response::to_request(&request, StatusCode::RINGING);
    response.set_to_tag("early");
    let contact_field = Bytes::from_static(b"<sip:us@h>");
    let mut dialog = Dialog::from_response(&request, &response, contact_field, target).unwrap();
    let mut ok = Response::to_request(&request, StatusCode::OK);
    ok.headers.push(HeaderName::Contact, contact).unwrap();
    if !record_route.is_empty() {
        ok.headers.push(HeaderName::RecordRoute, record_route).unwrap();
    }
    dialog.confirm(&ok).unwrap();
    match dialog.new_next_hop() {
        Some(Hop::Target(target)) => target,
        Some(Hop::Name(_)) | None => dialog.target,
    }
}

#[test]
fn requests_follow_addresses_and_keep_flows_and_public_addresses() {
    let udp = |remote: &str| Target::address(Transport::Udp, remote.parse().unwrap());
    let trunk = udp("203.0.113.1:5060");
    let cases = [
        // A proxy that stays out of the way: straight to the peer.
        (
            trunk.clone(),
            "<sip:203.0.113.9:5080>",
            "",
            udp("203.0.113.9:5080"),
        ),
        // A trunk behind a NAT that names its inner address: where it answered.
        (trunk.clone(), "<sip:10.0.0.9:5080>", "", trunk.clone()),
        // A name is the resolver's business.
        (trunk.clone(), "<sip:peer.example>", "", trunk.clone()),
        // A peer on a stream that forgets to say so.
        (
            Target::address(Transport::Tcp, "203.0.113.1:5060".parse().unwrap()),
            "<sip:203.0.113.1:5090>",
            "",
            Target::address(Transport::Tcp, "203.0.113.1:5090".parse().unwrap()),
        ),
        // The route comes first.
        (
            trunk.clone(),
            "<sip:203.0.113.9>",
            "<sip:203.0.113.2;lr>",
            udp("203.0.113.2:5060"),
        ),
        (
            trunk.clone(),
            "<sip:203.0.113.9>",
            "<sip:203.0.113.2;lr;transport=tcp>",
            Target::address(Transport::Tcp, "203.0.113.2:5060".parse().unwrap()),
        ),
        (
            trunk.clone(),
            "<sips:203.0.113.9>",
            "",
            Target::address(Transport::Tls, "203.0.113.9:5061".parse().unwrap()),
        ),
        // A registered phone behind a NAT, and one that a proxy on the same flow records.
        (flow(), "<sip:10.0.0.9:5080>", "", flow()),
        (flow(), "<sip:10.0.0.9:5080>", "<sip:203.0.113.7;lr>", flow()),
        (
            flow(),
            "<sip:10.0.0.9:5080>",
            "<sip:203.0.113.8;lr>",
            udp("203.0.113.8:5060"),
        ),
    ];
    for (target, contact, record_route, expected) in cases {
        assert_eq!(
            answered(target, contact, record_route),
            expected,
            "{contact} {record_route}"
        );
    }
}

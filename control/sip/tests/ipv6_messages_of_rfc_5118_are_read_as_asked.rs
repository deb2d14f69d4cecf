//! The IPv6 cases of RFC 5118, rebuilt from its descriptions, and messages that stacks in the field stumble over.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use sip::check::{Policy, Role, check_request};
use sip::limits::Limits;
use sip::message::{Message, Method, Request, parse_datagram};
use std::net::IpAddr;

fn bytes(name: &str) -> Bytes {
    let path = format!("{}/corpus/message/{name}.sip", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).expect(&path).into()
}

fn request(name: &str) -> Request {
    match parse_datagram(bytes(name), &Limits::DEFAULT) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn status(name: &str) -> Option<u16> {
    let methods = [Method::Invite, Method::Bye, Method::Options, Method::Register];
    let content_types = &[("application", "sdp")];
    let policy = Policy {
        role: Role::Endpoint,
        methods: &methods,
        extensions: &[],
        content_types,
        tel: false,
    };
    check_request(&request(name), &policy)
        .answer()
        .map(|answer| answer.status.code())
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

#[test]
fn a_reference_needs_brackets() {
    let good = request("ipv6-good").uri().unwrap();
    assert_eq!(
        (good.host().unwrap().as_ip(), good.port()),
        (ip("2001:db8::10"), None)
    );
    assert_eq!(status("ipv6-good"), None);
    assert_eq!(status("ipv6-bad"), Some(400));
}

#[test]
fn a_port_stands_outside_the_brackets() {
    let ambiguous = request("port-ambiguous").uri().unwrap();
    assert_eq!(
        (ambiguous.host().unwrap().as_ip(), ambiguous.port()),
        (ip("2001:db8::10:5070"), None)
    );
    let clear = request("port-unambiguous").uri().unwrap();
    assert_eq!(
        (clear.host().unwrap().as_ip(), clear.port()),
        (ip("2001:db8::10"), Some(5070))
    );
}

#[test]
fn received_is_read_with_and_without_brackets() {
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let via = request(name).headers.top_via().unwrap();
        assert_eq!(
            (via.sent_by.host.as_ip(), via.received()),
            (ip("2001:db8::9:1"), ip("2001:db8::9:255"))
        );
        assert_eq!(status(name), None);
    }
}

#[test]
fn both_families_may_meet_in_one_message() {
    let vias = request("mult-ip-in-header").headers.vias().unwrap();
    let hops: Vec<_> = vias
        .iter()
        .map(|via| (via.sent_by.host.as_ip(), via.sent_by.port))
        .collect();
    assert_eq!(hops, [(ip("2001:db8::9:1"), Some(6050)), (ip("192.0.2.1"), None)]);
    assert!(
        request("mult-ip-in-header")
            .body
            .ends_with(b"c=IN IP4 192.0.2.20\r\n")
    );
    let mapped = request("ipv4-mapped-ipv6");
    assert_eq!(
        mapped.headers.top_via().unwrap().sent_by.host.as_ip(),
        ip("192.0.2.10")
    );
    assert_eq!(
        mapped.headers.contact().unwrap().unwrap().uri.to_string(),
        "sip:ted@[::ffff:192.0.2.2]"
    );
}

#[test]
fn three_colons_are_an_error() {
    assert_eq!(status("ipv6-bug-abnf-3-colons"), Some(400));
    assert_eq!(status("ipv6-correct-abnf-2-colons"), None);
}

#[test]
fn latin1_costs_neither_the_headers_after_it_nor_the_body() {
    let request = request("latin1-header");
    assert_eq!(
        request.headers.from().unwrap().display().as_deref(),
        Some(&b"M\xfcller"[..])
    );
    assert_eq!(request.headers.get("Subject"), Some(&b"Gr\xfc\xdfe"[..]));
    assert_eq!(request.headers.record_routes().unwrap().len(), 1);
    assert_eq!(&request.body[..], b"v=0\r\n");
    assert_eq!(status("latin1-header"), None);
}

#[test]
fn an_escaped_quote_hides_no_address() {
    let from = request("escaped-quote-display").headers.from().unwrap();
    assert_eq!(
        (from.uri.to_string().as_str(), from.tag()),
        ("sip:a@h", Some(&b"1"[..]))
    );
    assert_eq!(from.display().as_deref(), Some(&b"Joe \"x\" <y>"[..]));
}

#[test]
fn tel_is_a_scheme_we_know_and_may_not_serve() {
    let uri = request("tel-ruri").uri().unwrap();
    assert_eq!(uri.user(), Some(&b"+358-555-1234567"[..]));
    assert!(uri.matches(&"tel:+3585551234567;phone-context=EXAMPLE.com".parse().unwrap()));
    assert_eq!(status("tel-ruri"), Some(416));
}

#[test]
fn lines_may_end_in_lf_and_are_written_with_crlf() {
    let request = request("lf-only");
    assert_eq!(status("lf-only"), None);
    assert!(
        !request
            .to_bytes()
            .windows(2)
            .any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
    );
}

#[test]
fn what_is_no_sip_gets_no_answer() {
    for name in ["garbage", "stun-on-the-sip-port", "only-line-ends"] {
        assert_eq!(
            parse_datagram(bytes(name), &Limits::DEFAULT)
                .unwrap_err()
                .answer(),
            None,
            "{name}"
        );
    }
    let cut = parse_datagram(bytes("truncated-in-header"), &Limits::DEFAULT).unwrap_err();
    assert_eq!(cut.answer().unwrap().status.code(), 400);
}

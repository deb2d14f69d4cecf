//! Typed header values: what is read is written back, what is malformed is named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use sip::header::{
    CSeq, Contact, Event, HeaderValue, MediaType, NameAddr, RAck, Reason, Refresher, Replaces, RetryAfter,
    SessionExpires, SubscriptionState, Warning,
};
use sip::message::{HeaderName, Headers, Method, Request, Response, StatusCode};

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn written(value: &impl HeaderValue) -> String {
    let mut out = Vec::new();
    value.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn values_are_written_as_they_were_read() {
    assert_eq!(
        written(&CSeq::parse(&value("4711  INVITE")).unwrap()),
        "4711 INVITE"
    );
    assert_eq!(
        written(&RAck::parse(&value("776656 1 INVITE")).unwrap()),
        "776656 1 INVITE"
    );
    assert_eq!(
        written(&SessionExpires::parse(&value("1800 ; Refresher=UAS")).unwrap()),
        "1800;refresher=uas"
    );
    let retry = RetryAfter::parse(&value("18000 (in (a) meeting\\)) ;duration=3600")).unwrap();
    assert_eq!(written(&retry), "18000;duration=3600");
    let replaces = "425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only";
    assert_eq!(written(&Replaces::parse(&value(replaces)).unwrap()), replaces);
    let reason = Reason::new("SIP", 200, "Call completed \"elsewhere\"");
    let read = Reason::parse(&value(&written(&reason))).unwrap();
    assert_eq!(
        (read.cause(), read.text().as_deref()),
        (Some(200), Some(&b"Call completed \"elsewhere\""[..]))
    );
    let event = Event::parse(&value("dialog ; id=7")).unwrap();
    assert_eq!(
        (&event.package[..], event.id()),
        (&b"dialog"[..], Some(&b"7"[..]))
    );
    let state = SubscriptionState::parse(&value("Terminated;reason=noresource;expires=0")).unwrap();
    assert!(state.is_terminated() && state.expires() == Some(0));
    let warning = "301 isi.edu \"Incompatible \\\"network\\\"\"";
    assert_eq!(written(&Warning::parse(&value(warning)).unwrap()), warning);
    assert!(
        MediaType::parse(&value("APPLICATION/SDP;charset=utf-8"))
            .unwrap()
            .is("application", "sdp")
    );
    let timer = SessionExpires::parse(&value("90;refresher=uac")).unwrap();
    assert_eq!((timer.seconds, timer.refresher), (90, Some(Refresher::Uac)));
}

#[test]
fn malformed_values_are_named() {
    assert_eq!(CSeq::parse(&value("1INVITE")), Err("no space after the number"));
    assert_eq!(CSeq::parse(&value("-1 INVITE")), Err("bad number"));
    assert_eq!(
        CSeq::parse(&value("2147483648 INVITE")),
        Err("number is 2^31 or more")
    );
    assert_eq!(RAck::parse(&value("0 1 INVITE")), Err("bad response number"));
    assert_eq!(
        SessionExpires::parse(&value("90;refresher=me")),
        Err("refresher is neither uac nor uas")
    );
    assert_eq!(Replaces::parse(&value("a;to-tag=1")), Err("missing from-tag"));
    assert_eq!(
        Replaces::parse(&value("a;to-tag=1;from-tag=2;to-tag=3")),
        Err("more than one to-tag or from-tag")
    );
    assert_eq!(RetryAfter::parse(&value("5 (open")), Err("unterminated comment"));
    assert_eq!(
        NameAddr::parse(&value("\"a\" sip:a@h")),
        Err("no <URI> after the display name")
    );
    assert_eq!(NameAddr::parse(&value("a <sip:a@h")), Err("no > after the URI"));
    assert_eq!(
        NameAddr::parse(&value("<sip:a@h> x")),
        Err("unexpected text after the parameters")
    );
    assert_eq!(
        NameAddr::parse(&value("sip:evil@h, a <sip:a@h>")),
        Err("display name needs quotes")
    );
    assert_eq!(
        Contact::parse(&value("<sip:a@h>;q=1.1")),
        Err("q is not a number from 0 to 1")
    );
}

#[test]
fn contacts_carry_registration_parameters() {
    let mut headers = Headers::new();
    let line = "\"A, B\" <sip:a@h;x=1,2>;q=0.7;expires=60;+sip.instance=\"<urn:uuid:1>\";reg-id=2, sip:b@h;expires=x";
    assert!(headers.push("m", line).is_ok());
    // A comma in a URI parameter is no legal URI; the quoted comma is no separator.
    assert_eq!(
        headers.contacts().unwrap_err().to_string(),
        "Contact: bad parameters in URI"
    );
    headers.set("Contact", line.replace(";x=1,2", "")).unwrap();
    let contacts = headers.contacts().unwrap();
    let (a, b) = (contacts[0].address().unwrap(), contacts[1].address().unwrap());
    assert_eq!((a.q(), a.expires(), a.reg_id()), (700, Some(60), Some(2)));
    assert_eq!(a.instance().as_deref(), Some(&b"<urn:uuid:1>"[..]));
    assert_eq!((b.q(), b.expires(), b.reg_id()), (1000, Some(3600), None));
    headers.set("Contact", "*").unwrap();
    assert_eq!(headers.contacts().unwrap(), [Contact::Star]);
    assert!(headers.contact().is_err());
}

#[test]
fn responses_copy_what_rfc_3261_lists_and_tags_are_added_once() {
    let mut request = Request::new(Method::Invite, &"sip:a@h".parse().unwrap());
    for (name, text) in [
        ("v", "SIP/2.0/UDP one;branch=z9hG4bK1, SIP/2.0/UDP two"),
        ("X-Not", "copied"),
        ("Via", "SIP/2.0/UDP three"),
        ("f", "sip:c@d;tag=1"),
        ("Record-Route", "<sip:p;lr>"),
        ("t", "sip:a@h"),
        ("i", "id"),
        ("CSeq", "1 INVITE"),
        ("Timestamp", "54"),
    ] {
        request.headers.push(name, text).unwrap();
    }
    let mut response = Response::to_request(&request, StatusCode::RINGING);
    response.set_to_tag("xyz");
    response.set_to_tag("again");
    response.copy_record_route(&request);
    response.set_reason("Ringing\r\nEvil: header");
    let text = String::from_utf8(response.to_bytes().to_vec()).unwrap();
    let expected = "SIP/2.0 180 Ringing  Evil: header\r\nVia: SIP/2.0/UDP one;branch=z9hG4bK1, SIP/2.0/UDP two\r\n\
        Via: SIP/2.0/UDP three\r\nFrom: sip:c@d;tag=1\r\nTo: sip:a@h;tag=xyz\r\nCall-ID: id\r\nCSeq: 1 INVITE\r\n\
        Timestamp: 54\r\nRecord-Route: <sip:p;lr>\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(text, expected);
}

#[test]
fn the_top_via_is_stamped_in_place() {
    let mut headers = Headers::new();
    headers
        .push(
            "v",
            "SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1 ,  SIP/2.0/UDP two",
        )
        .unwrap();
    let mut via = headers.top_via().unwrap();
    assert!(via.stamp_source("192.0.2.7:4000".parse().unwrap()));
    headers.set_top_via(&via);
    let expected = "SIP/2.0/UDP 10.0.0.1;rport=4000;branch=z9hG4bK1;received=192.0.2.7 ,  SIP/2.0/UDP two";
    assert_eq!(headers.get(HeaderName::Via), Some(expected.as_bytes()));
}

#[test]
fn accept_tells_absent_from_empty() {
    let mut headers = Headers::new();
    assert_eq!(headers.accept(), Ok(None));
    headers.push("Accept", "").unwrap();
    assert_eq!(headers.accept(), Ok(Some(Vec::new())));
    headers.set("Accept", "text/plain, application/*;q=0.5").unwrap();
    assert!(headers.accept().unwrap().unwrap()[1].covers("application", "sdp"));
    headers.set("Supported", "").unwrap();
    assert!(headers.supported().unwrap().is_empty());
    headers.push("k", "100rel,, Replaces").unwrap();
    assert!(headers.supported().unwrap().contains("replaces"));
}

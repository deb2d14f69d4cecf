//! The torture cases of RFC 4475, rebuilt from its descriptions (same names), with what a stack owes for each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use sip::check::{Policy, Role, Verdict, check_request};
use sip::header::Contact;
use sip::limits::Limits;
use sip::message::{Message, Method, Request, Response, StatusCode, parse_datagram};

const POLICY: Policy<'_> = Policy {
    role: Role::Endpoint,
    methods: &[
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Options,
        Method::Register,
    ],
    extensions: &["100rel"],
    content_types: &[("application", "sdp")],
    tel: false,
};

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

fn response(name: &str) -> Response {
    match parse_datagram(bytes(name), &Limits::DEFAULT) {
        Ok(Message::Response(response)) => response,
        other => panic!("{name}: {other:?}"),
    }
}

/// A request that passes every check.
fn passes(name: &str) -> Request {
    let request = request(name);
    assert_eq!(check_request(&request, &POLICY), Verdict::Pass, "{name}");
    request
}

/// The answer owed, from the parser or from the checks: status and reason phrase.
fn answer(name: &str) -> (u16, String) {
    let response = match parse_datagram(bytes(name), &Limits::DEFAULT) {
        Ok(Message::Request(request)) => check_request(&request, &POLICY).answer(),
        Ok(Message::Response(response)) => panic!("{name}: {response:?}"),
        Err(error) => error.answer(),
    };
    let response = response.unwrap_or_else(|| panic!("{name}: no answer"));
    (
        response.status.code(),
        String::from_utf8(response.reason().to_vec()).unwrap(),
    )
}

fn bad_request(name: &str, why: &str) {
    assert_eq!(answer(name), (400, format!("Bad Request ({why})")), "{name}");
}

#[test]
fn wsinv_a_short_tortuous_invite() {
    let request = passes("wsinv");
    let headers = &request.headers;
    assert_eq!(headers.to().unwrap().tag(), Some(&b"1918181833n"[..]));
    assert_eq!(
        headers.from().unwrap().display().as_deref(),
        Some(&br#"J Rosenberg \""#[..])
    );
    assert_eq!(headers.max_forwards(), Ok(Some(68)));
    assert_eq!(headers.cseq().unwrap().number, 9);
    let vias = headers.vias().unwrap();
    let transports: Vec<&[u8]> = vias.iter().map(|via| &via.transport[..]).collect();
    assert_eq!(transports, [&b"UDP"[..], b"TCP", b"UDP"]);
    assert_eq!(vias[2].branch(), Some(&b"z9hG4bK30239"[..]));
    assert_eq!(headers.get("Subject"), Some(&b""[..]));
    assert_eq!(
        headers.get("newfangledheader"),
        Some(&b"newfangled value   continued newfangled value"[..])
    );
    assert_eq!(
        headers.get("UnknownHeaderWithUnusualValue"),
        Some(&b";;,,;;,;"[..])
    );
    let contact = headers.contact().unwrap().unwrap();
    assert_eq!(
        (contact.q(), contact.display().as_deref()),
        (330, Some(&br#"Quoted string """#[..]))
    );
    assert!(headers.routes().unwrap()[0].uri.is_loose_router());
    assert!(request.body.starts_with(b"v=0\r\n") && request.body.ends_with(b"RTP/AVP 0 12\r\n"));
}

#[test]
fn intmeth_a_wide_range_of_valid_characters() {
    let request = request("intmeth");
    assert_eq!(
        request.method.as_str(),
        "!interesting-Method0123456789_*+`.%indeed'~"
    );
    let uri = request.uri().unwrap();
    assert_eq!(
        uri.user(),
        Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..])
    );
    assert_eq!(
        uri.password(),
        Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..])
    );
    let to = request.headers.to().unwrap();
    assert_eq!(to.display().as_deref(), Some(&b"BEL:\x07 NUL:\0 DEL:\x7f"[..]));
    assert_eq!(
        request.headers.from().unwrap().tag(),
        Some(&b"_token~1'+`*%!-."[..])
    );
    assert_eq!(answer("intmeth").0, 501);
}

#[test]
fn escapes_are_resolved_only_where_they_are_escapes() {
    let esc01 = passes("esc01");
    let uri = esc01.uri().unwrap();
    assert_eq!(
        uri.user_unescaped().as_deref(),
        Some(&b"sips:user@example.com"[..])
    );
    assert_eq!(uri.host().unwrap().to_string(), "example.net");
    let to = esc01.headers.to().unwrap().uri;
    assert!(to.matches(&"sip:user@example.com".parse().unwrap()));
    assert!(
        esc01
            .headers
            .contact()
            .unwrap()
            .unwrap()
            .uri
            .matches(&"sip:caller@host5.example.net".parse().unwrap())
    );

    let escnull = passes("escnull");
    assert_eq!(
        escnull.headers.to().unwrap().uri.user_unescaped().as_deref(),
        Some(&b"null-\0-null"[..])
    );
    let users: Vec<usize> = (escnull.headers.contacts().unwrap().iter())
        .map(|contact| contact.address().unwrap().uri.user_unescaped().unwrap().len())
        .collect();
    assert_eq!(users, [1, 2]);

    // A method and a header name are not URIs: their % is a character.
    let esc02 = request("esc02");
    assert_ne!(esc02.method, Method::Register);
    assert_eq!(esc02.headers.contacts().unwrap().len(), 2);
    assert_eq!(
        esc02.headers.get("C%6Fntact"),
        Some(&b"<sip:alias2@host2.example.com>"[..])
    );
    assert_eq!(
        esc02.headers.to().unwrap().display().as_deref(),
        Some(&b"%Z%45"[..])
    );
    assert_eq!(answer("esc02").0, 501);
}

#[test]
fn the_other_valid_requests_pass() {
    assert_eq!(
        passes("lwsdisp").headers.from().unwrap().display().as_deref(),
        Some(&b"caller"[..])
    );
    assert_eq!(passes("longreq").headers.vias().unwrap().len(), 31);
    assert_eq!(passes("dblreq").method, Method::Register);
    let semiuri = passes("semiuri");
    assert_eq!(
        semiuri.uri().unwrap().user_unescaped().as_deref(),
        Some(&b"user;par=u@example.net"[..])
    );
    assert!(semiuri.uri().unwrap().params().is_empty());
    assert_eq!(
        passes("transports").headers.vias().unwrap()[3].transport,
        "UNKNOWN"
    );
    let mpart01 = request("mpart01");
    assert!(
        mpart01
            .body
            .windows(256)
            .any(|part| part.iter().copied().eq(0..=255))
    );
    let content_type = mpart01.headers.content_type().unwrap().unwrap();
    assert_eq!(
        content_type.params.get("boundary"),
        Some(&b"7a9cbec02ceef655"[..])
    );
    assert_eq!(answer("mpart01").0, 405);
}

#[test]
fn reason_phrases_may_be_unusual_or_empty() {
    assert!(
        response("unreason")
            .reason()
            .starts_with(b"= 2**3 * 5**2 \xd0\xbd")
    );
    let noreason = response("noreason");
    assert_eq!(
        (noreason.status, noreason.reason()),
        (StatusCode::TRYING, &b""[..])
    );
}

#[test]
fn malformed_requests_get_400_with_the_reason() {
    bad_request("badinv01", "Via: empty or malformed parameter name");
    bad_request("clerr", "Content-Length: 9999 bytes promised, 108 present");
    bad_request("ncl", "Content-Length: not a number");
    bad_request("scalar02", "CSeq: number is 2^31 or more");
    bad_request("quotbal", "To: unterminated quoted string");
    bad_request("ltgtruri", "Request-URI: illegal character in URI");
    bad_request("lwsruri", "malformed request line");
    bad_request("lwsstart", "malformed request line");
    bad_request("trws", "malformed request line");
    bad_request("escruri", "Request-URI: headers are not allowed");
    bad_request("regbadct", "Contact: a URI with ? or , must stand in < >");
    bad_request("badaspec", "To: illegal character in URI");
    bad_request("baddn", "From: display name needs quotes");
    bad_request("mismatch01", "CSeq: method differs from the request line");
    bad_request("mismatch02", "CSeq: method differs from the request line");
    bad_request("insuf", "From: missing");
    bad_request("multi01", "From: more than one");
    bad_request("mcl01", "Content-Length: several that differ");
}

#[test]
fn a_bad_date_is_seen_by_who_reads_it() {
    let request = passes("baddate");
    assert_eq!(
        request.headers.date().unwrap_err().to_string(),
        "Date: zone is not GMT"
    );
}

#[test]
fn responses_with_overlarge_values_are_not_answered_and_not_believed() {
    let scalarlg = response("scalarlg");
    assert_eq!(
        scalarlg.headers.cseq().unwrap_err().problem,
        "number is 2^31 or more"
    );
    assert_eq!(scalarlg.headers.retry_after().unwrap().unwrap().seconds, u32::MAX);
    assert_eq!(
        scalarlg.headers.warnings().unwrap_err().problem,
        "bad warning code"
    );
    let error = parse_datagram(bytes("bigcode"), &Limits::DEFAULT).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.answer()),
        ("malformed status line", None)
    );
}

#[test]
fn what_is_not_supported_is_named() {
    assert_eq!(
        answer("badvers"),
        (505, "Version Not Supported (unsupported SIP version)".into())
    );
    assert_eq!(answer("unkscm").0, 416);
    assert_eq!(answer("novelsc").0, 416);
    assert_eq!(answer("invut").0, 415);
    assert_eq!(answer("sdp01").0, 406);
    let bext01 = request("bext01");
    let Verdict::Answer(refusal) = check_request(&bext01, &POLICY) else {
        panic!()
    };
    assert_eq!(refusal.status, StatusCode::BAD_EXTENSION);
    let expected = &b"nothingSupportsThis, nothingSupportsThisEither"[..];
    assert_eq!(refusal.headers.get("Unsupported"), Some(expected));
    let Verdict::Answer(refusal) = check_request(
        &bext01,
        &Policy {
            role: Role::Proxy,
            ..POLICY
        },
    ) else {
        panic!()
    };
    let expected = &b"noProxiesSupportThis, norDoAnyProxiesSupportThis"[..];
    assert_eq!(
        (refusal.status.code(), refusal.headers.get("Unsupported")),
        (420, Some(expected))
    );
    let Verdict::Answer(refusal) = check_request(&request("invut"), &POLICY) else {
        panic!()
    };
    assert_eq!(refusal.headers.get("Accept"), Some(&b"application/sdp"[..]));
    let Verdict::Answer(refusal) = check_request(&request("intmeth"), &POLICY) else {
        panic!()
    };
    assert!(refusal.headers.allow().unwrap().contains("INVITE"));
}

#[test]
fn unknown_schemes_outside_the_request_uri_are_values() {
    let request = passes("unksm2");
    assert_eq!(request.headers.to().unwrap().uri.scheme_text(), b"isbn");
    assert_eq!(
        request.headers.from().unwrap().uri.to_string(),
        "http://www.example.com"
    );
    assert!(!passes("regaut01").headers.authorization().unwrap()[0].is_digest());
}

#[test]
fn max_forwards_zero_stops_a_proxy_and_not_an_endpoint() {
    let request = passes("zeromf");
    let refusal = check_request(
        &request,
        &Policy {
            role: Role::Proxy,
            ..POLICY
        },
    )
    .answer()
    .unwrap();
    assert_eq!(refusal.status, StatusCode::TOO_MANY_HOPS);
}

#[test]
fn contact_parameters_belong_to_header_or_uri_by_the_brackets() {
    let contact = |name| match passes(name).headers.contacts().unwrap().swap_remove(0) {
        Contact::Address(address) => address,
        Contact::Star => panic!(),
    };
    let (outside, inside) = (contact("cparam01"), contact("cparam02"));
    assert!(outside.params.contains("unknownparam") && outside.uri.params().is_empty());
    assert!(inside.uri.params().contains("unknownparam") && inside.params.is_empty());
    let escaped = contact("regescrt");
    let route = escaped
        .uri
        .headers()
        .next()
        .map(|(name, value)| (name.to_vec(), value.into_owned()));
    assert_eq!(
        route,
        Some((b"Route".to_vec(), b"<sip:sip.example.com>".to_vec()))
    );
}

#[test]
fn old_branches_and_old_requests_are_recognised() {
    assert!(!passes("badbranch").headers.top_via().unwrap().has_unique_branch());
    let old = passes("inv2543");
    assert_eq!(old.headers.top_via().unwrap().branch(), None);
    assert_eq!(old.headers.max_forwards(), Ok(None));
    assert_eq!(old.headers.from().unwrap().tag(), None);
    // No Content-Length in a datagram: the body runs to its end.
    assert!(old.body.ends_with(b"RTP/AVP 0\r\n"));
    assert_eq!(response("bcast").headers.vias().unwrap().len(), 2);
}

//! URI parts, comparison (the examples of RFC 3261 §19.1.4 first), edits and faults.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sip::uri::{Host, Scheme, Uri, UriError, escape_header, unescape};

fn uri(text: &str) -> Uri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn equivalent_uris_match() {
    let cases = [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;newparam=5",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
        ("tel:+1-201-555-0123", "tel:+12015550123"),
        ("urn:service:sos", "urn:service:sos"),
    ];
    for (a, b) in cases {
        assert!(uri(a).matches(&uri(b)) && uri(b).matches(&uri(a)), "{a} {b}");
    }
}

#[test]
fn different_uris_do_not_match() {
    let cases = [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        ("sip:a@h", "sips:a@h"),
        ("sip:a:pw@h", "sip:a@h"),
        ("sip:h;user=phone", "sip:h"),
        (
            "tel:5550123;phone-context=a.com",
            "tel:5550123;phone-context=b.com",
        ),
        ("tel:5550123;phone-context=a.com", "tel:5550123"),
    ];
    for (a, b) in cases {
        assert!(!uri(a).matches(&uri(b)) && !uri(b).matches(&uri(a)), "{a} {b}");
    }
}

#[test]
fn parts_are_found() {
    let full = uri("sips:al%20ice:s%3Acret@[2001:db8::1]:5071;lr;transport=tls?Replaces=a%3Bto-tag%3D1&x=");
    assert_eq!(full.scheme(), Scheme::Sips);
    assert_eq!(full.user_unescaped().as_deref(), Some(&b"al ice"[..]));
    assert_eq!(full.password(), Some(&b"s%3Acret"[..]));
    assert_eq!(
        (full.host().unwrap().to_string().as_str(), full.port()),
        ("[2001:db8::1]", Some(5071))
    );
    assert!(full.is_loose_router());
    assert_eq!(full.transport().as_deref(), Some(&b"tls"[..]));
    let headers: Vec<(Vec<u8>, Vec<u8>)> = full
        .headers()
        .map(|(name, value)| (name.to_vec(), value.into_owned()))
        .collect();
    assert_eq!(
        headers,
        [
            (b"Replaces".to_vec(), b"a;to-tag=1".to_vec()),
            (b"x".to_vec(), Vec::new())
        ]
    );
    let unusual = uri("sip:user;par?a@h");
    assert_eq!(
        (unusual.user(), unusual.headers_text()),
        (Some(&b"user;par?a"[..]), &b""[..])
    );
    assert_eq!(uri("mailto:a@b").scheme(), Scheme::Other);
}

#[test]
fn faults_are_told_apart() {
    let cases = [
        ("", UriError::Scheme),
        ("alice", UriError::Scheme),
        ("1sip:a@h", UriError::Scheme),
        ("sip:", UriError::Host),
        ("sip:@h", UriError::User),
        ("sip:a@", UriError::Host),
        ("sip:a@b@c", UriError::Host),
        ("sip:2001:db8::10", UriError::Host),
        ("sip:a@[2001:db8:::1]", UriError::Host),
        ("sip:a@[2001:db8::1", UriError::Host),
        ("sip:a@300.1.1.1", UriError::Host),
        ("sip:a@h:65536", UriError::Port),
        ("sip:a@h:50x", UriError::Port),
        ("sip:a@h:", UriError::Port),
        ("sip:a%4@h", UriError::Escape),
        ("sip:a@h;", UriError::Params),
        ("sip:a@h;;lr", UriError::Params),
        ("sip:a@h;x=%zz", UriError::Escape),
        ("sip:a b@h", UriError::Character),
        ("sip:<a>@h", UriError::Character),
        ("sip:a\r\n@h", UriError::Character),
        ("tel:", UriError::Number),
        ("tel:alice", UriError::Number),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<Uri>(), Err(error), "{text}");
    }
}

#[test]
fn edits_keep_the_rest_of_the_text() {
    let original = uri("sip:A%6cice@Example.COM;Transport=TCP;x=1?Subject=y");
    assert_eq!(
        original.with_param("lr", None).to_string(),
        "sip:A%6cice@Example.COM;Transport=TCP;x=1;lr?Subject=y"
    );
    assert_eq!(
        original.with_param("transport", Some("udp")).to_string(),
        "sip:A%6cice@Example.COM;transport=udp;x=1?Subject=y"
    );
    assert_eq!(
        original.without_param("TRANSPORT").to_string(),
        "sip:A%6cice@Example.COM;x=1?Subject=y"
    );
    assert_eq!(
        original.without_headers().to_string(),
        "sip:A%6cice@Example.COM;Transport=TCP;x=1"
    );
    let escaped = uri("sip:h").with_param("token", Some("a;b=c \"d\"\r\n"));
    assert_eq!(escaped.to_string(), "sip:h;token=a%3Bb%3Dc%20%22d%22%0D%0A");
    assert_eq!(
        &unescape(&escaped.param("token").unwrap())[..],
        b"a;b=c \"d\"\r\n"
    );
}

#[test]
fn users_and_headers_are_escaped() {
    let host = Host::parse("example.com".into()).unwrap();
    let made = Uri::sip(Some("a@b:c<d>é"), &host, Some(5060));
    assert_eq!(made.to_string(), "sip:a%40b%3Ac%3Cd%3E%C3%A9@example.com:5060");
    let mut header = Vec::new();
    escape_header(b"id@h;to-tag=1;from-tag=2", &mut header);
    assert_eq!(header, b"id%40h%3Bto-tag%3D1%3Bfrom-tag%3D2");
}

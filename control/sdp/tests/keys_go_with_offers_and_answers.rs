//! SDES (RFC 4568): which lines are read, which are taken, and what both sides then encrypt with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sdp::{
    Answer, Capabilities, Codec, Crypto, CryptoSuite, Description, LocalSession, LocalTransport,
    NegotiatedMedia, NegotiationError, OfferedMedia, Selection, apply_answer, assign_payload_types, select,
    write_answer, write_offer,
};
use std::net::IpAddr;

const OFFERER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ANSWERER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
const SUITES: [CryptoSuite; 5] = [
    CryptoSuite::AeadAes256Gcm,
    CryptoSuite::AeadAes128Gcm,
    CryptoSuite::AesCm256HmacSha1_80,
    CryptoSuite::AesCm128HmacSha1_80,
    CryptoSuite::AesCm128HmacSha1_32,
];
/// 30 bytes: the example of RFC 4568 §9.
const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

fn description(profile: &str, lines: &[String]) -> Description {
    let lines: String = lines.iter().map(|line| format!("a=crypto:{line}\r\n")).collect();
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 {profile} 0\r\n{lines}"
    );
    Description::parse(text.as_bytes()).unwrap()
}

fn transport(address: IpAddr, suites: &[CryptoSuite], fill: u8) -> LocalTransport {
    let mut transport = LocalTransport::plain(address, 4000);
    let keys = (1..).zip(suites);
    let key = |(tag, suite): (u32, &CryptoSuite)| {
        Crypto::new(tag, *suite, vec![fill + tag as u8; suite.key_length()]).unwrap()
    };
    transport.sdes = keys.map(key).collect();
    transport
}

fn offer(transport: LocalTransport) -> Description {
    let media = OfferedMedia::Audio {
        formats: assign_payload_types(&[Codec::pcmu()], &[]),
        transport,
        rtcp_mux: false,
        mid: None,
    };
    let offer = write_offer(&[media], &mut LocalSession::new(1, OFFERER));
    Description::parse(offer.to_string().as_bytes()).unwrap()
}

fn takes(suites: &[CryptoSuite], plain: bool) -> Capabilities {
    Capabilities {
        sdes: suites.to_vec(),
        plain,
        ..Capabilities::new(vec![Codec::pcmu()])
    }
}

fn audio(selections: &[Selection]) -> &NegotiatedMedia {
    match &selections[0] {
        Selection::Audio(audio) => audio,
        other => panic!("{other:?}"),
    }
}

/// What the offerer reads from the answer of who can do `suites`.
fn exchange(offer: &Description, suites: &[CryptoSuite]) -> (NegotiatedMedia, Description) {
    let selections = select(offer, &takes(suites, true)).unwrap();
    let local = transport(ANSWERER, suites, 100);
    let mut session = LocalSession::new(2, ANSWERER);
    let answer = write_answer(offer, &selections, &[Answer::Audio(&local)], &mut session).unwrap();
    let answer = Description::parse(answer.to_string().as_bytes()).unwrap();
    let agreed = apply_answer(offer, &answer).unwrap().remove(0).unwrap();
    let (theirs, ours) = (&audio(&selections).sdes, &agreed.sdes);
    assert_eq!(theirs.is_some(), ours.is_some());
    (agreed, answer)
}

#[test]
fn lines_are_read_or_passed_over() {
    let suite = "AES_CM_128_HMAC_SHA1_80";
    let read = |line: String| {
        let media = description("RTP/SAVP", &[line]).media()[0].clone();
        media.crypto.first().map(|crypto| (crypto.tag, crypto.is_plain()))
    };
    for (line, expected) in [
        (format!("1 {suite} inline:{KEY}"), Some((1, true))),
        (
            format!("999999999 {suite} inline:{KEY}|2^31"),
            Some((999_999_999, true)),
        ),
        (format!("1 aes_cm_128_hmac_sha1_80 INLINE:{KEY}"), Some((1, true))),
        (format!("1  {suite}  inline:{KEY}  WSH=128"), Some((1, true))),
        (format!("1 {suite} inline:{KEY} -X=1"), Some((1, true))),
        // Read, and not to be chosen.
        (format!("1 {suite} inline:{KEY}|1:4"), Some((1, false))),
        (
            format!("1 {suite} inline:{KEY}|2^20|1:4;inline:{KEY}|2^20|2:4"),
            Some((1, false)),
        ),
        (
            format!("1 {suite} inline:{KEY} UNENCRYPTED_SRTP"),
            Some((1, false)),
        ),
        (format!("1 {suite} inline:{KEY} KDR=1"), Some((1, false))),
        // Not read.
        (format!("+1 {suite} inline:{KEY}"), None),
        (format!("-1 {suite} inline:{KEY}"), None),
        (format!("1000000000 {suite} inline:{KEY}"), None),
        (format!("one {suite} inline:{KEY}"), None),
        (format!("1 ROT13 inline:{KEY}"), None),
        (format!("1 {suite} inline:{}", &KEY[4..]), None),
        (format!("1 {suite} inline:{KEY}{KEY}"), None),
        (format!("1 {suite} inline:!{}", &KEY[1..]), None),
        (format!("1 {suite} outline:{KEY}"), None),
        (format!("1 {suite} inl"), None),
        (format!("1 {suite} inline:"), None),
        (format!("1 {suite}"), None),
        ("1".to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(read(line.clone()), expected, "{line}");
    }
}

#[test]
fn a_tag_counts_once_and_lines_have_a_bound() {
    let line = |tag: usize, suite: &str| format!("{tag} {suite} inline:{KEY}");
    let twice = [
        line(1, "AES_CM_128_HMAC_SHA1_80"),
        line(1, "AES_CM_128_HMAC_SHA1_32"),
    ];
    let media = description("RTP/SAVP", &twice).media()[0].clone();
    assert_eq!(media.crypto.len(), 1);
    assert_eq!(media.crypto[0].suite, CryptoSuite::AesCm128HmacSha1_80);
    let many: Vec<String> = (1..100).map(|tag| line(tag, "AES_CM_128_HMAC_SHA1_80")).collect();
    assert_eq!(
        description("RTP/SAVP", &many).media()[0].crypto.len(),
        sdp::limits::CRYPTO_COUNT_MAX
    );
}

/// RFC 4568 §5.1.2: the offer's order counts, and the answer has the tag and a key of its own.
#[test]
fn the_first_line_that_both_can_is_chosen() {
    let offer = offer(transport(OFFERER, &SUITES, 0));
    assert_eq!(offer.media()[0].proto, "RTP/SAVP");
    for (index, suite) in SUITES.into_iter().enumerate() {
        // Whatever the answerer prefers itself.
        let mut own = SUITES[index..].to_vec();
        own.reverse();
        let (agreed, answer) = exchange(&offer, &own);
        let sdes = agreed.sdes.unwrap();
        assert_eq!((sdes.remote.suite, sdes.local_tag), (suite, index as u32 + 1));
        assert_ne!(sdes.remote.key, offer.media()[0].crypto[index].key);
        assert_eq!(answer.media()[0].crypto.len(), 1, "{answer}");
        assert!(agreed.secure);
    }
}

/// RFC 8643: keys on RTP/AVP are an invitation.
#[test]
fn who_cannot_encrypt_answers_an_invitation_without() {
    let mut inviting = transport(OFFERER, &SUITES, 0);
    inviting.opportunistic = true;
    let offer = offer(inviting);
    assert_eq!(
        (offer.media()[0].proto.as_str(), offer.media()[0].crypto.len()),
        ("RTP/AVP", 5)
    );
    let (agreed, answer) = exchange(&offer, &[]);
    assert!(agreed.sdes.is_none() && !agreed.secure && answer.media()[0].crypto.is_empty());
    let (agreed, answer) = exchange(&offer, &[CryptoSuite::AeadAes128Gcm]);
    assert_eq!(agreed.sdes.unwrap().local_tag, 2);
    assert!(!agreed.secure);
    assert_eq!(answer.media()[0].proto, "RTP/AVP");
}

#[test]
fn what_does_not_meet_is_refused_by_its_reason() {
    let secure = offer(transport(OFFERER, &[CryptoSuite::AeadAes256Gcm], 0));
    let plain = offer(transport(OFFERER, &[], 0));
    let mut inviting = transport(OFFERER, &[CryptoSuite::AeadAes256Gcm], 0);
    inviting.opportunistic = true;
    let inviting = offer(inviting);
    let other = [CryptoSuite::AesCm128HmacSha1_80];
    assert_eq!(
        select(&secure, &takes(&other, true)),
        Err(NegotiationError::NoCommonEncryption)
    );
    assert_eq!(
        select(&secure, &takes(&[], true)),
        Err(NegotiationError::NoCommonEncryption)
    );
    assert_eq!(
        select(&plain, &takes(&SUITES, false)),
        Err(NegotiationError::EncryptionRequired)
    );
    assert_eq!(
        select(&inviting, &takes(&other, false)),
        Err(NegotiationError::EncryptionRequired)
    );
    assert!(select(&inviting, &takes(&SUITES, false)).is_ok());
    let no_codec = Capabilities {
        codecs: vec![Codec::g722()],
        ..takes(&SUITES, false)
    };
    assert_eq!(select(&plain, &no_codec), Err(NegotiationError::NoCommonMedia));
}

/// Audio of both kinds is offered: the line that fits is taken, the other refused.
#[test]
fn of_two_lines_the_one_that_is_allowed_is_taken() {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n\
         m=audio 4002 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
    );
    let offer = Description::parse(text.as_bytes()).unwrap();
    let ports = |plain| {
        let selections = select(&offer, &takes(&SUITES, plain)).unwrap();
        let taken = selections
            .iter()
            .map(|selection| matches!(selection, Selection::Audio(_)));
        taken.collect::<Vec<_>>()
    };
    assert_eq!(ports(true), [true, false]);
    assert_eq!(ports(false), [false, true]);
}

/// RFC 4568 §5.1.3: an answer that chose nothing of ours is no agreement.
#[test]
fn an_answer_must_choose_a_line_of_the_offer() {
    let offer = offer(transport(OFFERER, &SUITES, 0));
    let answer = |profile, lines: &[String]| apply_answer(&offer, &description(profile, lines));
    let refused = Err(NegotiationError::NoCommonMedia);
    let line = |tag, suite: &str| format!("{tag} {suite} inline:{KEY}");
    assert!(answer("RTP/SAVP", &[line(4, "AES_CM_128_HMAC_SHA1_80")]).is_ok());
    assert_eq!(answer("RTP/SAVP", &[line(1, "AES_CM_128_HMAC_SHA1_80")]), refused);
    assert_eq!(answer("RTP/SAVP", &[line(9, "AES_CM_128_HMAC_SHA1_80")]), refused);
    assert_eq!(answer("RTP/SAVP", &[]), refused);
    assert_eq!(answer("RTP/AVP", &[]), refused);
    let plain = self::offer(transport(OFFERER, &[], 0));
    let unasked = description("RTP/SAVP", &[line(1, "AES_CM_128_HMAC_SHA1_80")]);
    assert_eq!(apply_answer(&plain, &unasked), refused);
}

#[test]
fn no_key_is_shown_by_debug() {
    let offer = offer(transport(OFFERER, &SUITES, 0));
    let selections = select(&offer, &takes(&SUITES, true)).unwrap();
    for shown in [format!("{offer:?}"), format!("{selections:?}")] {
        assert!(!shown.contains("inline"), "{shown}");
        assert!(!shown.contains("4, 4, 4"), "{shown}");
        assert!(shown.contains("AEAD_AES_256_GCM"), "{shown}");
    }
}

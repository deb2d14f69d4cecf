//! Descriptions as endpoints really send them: every file of the corpus, and what it means.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sdp::{
    Capabilities, Codec, CodecOrder, CryptoSuite, Description, Direction, MediaKind, NegotiatedMedia,
    NegotiationError, Profile, Selection, Setup, select,
};

fn read(name: &str) -> Description {
    let path = format!("{}/corpus/description/{name}.sdp", env!("CARGO_MANIFEST_DIR"));
    Description::parse(&std::fs::read(&path).expect(&path)).expect(name)
}

fn capabilities() -> Capabilities {
    Capabilities::new(vec![
        Codec::opus(Some("useinbandfec=1")),
        Codec::g722(),
        Codec::pcma(),
        Codec::pcmu(),
        Codec::telephone_event(8_000),
        Codec::telephone_event(48_000),
    ])
}

fn audio(name: &str) -> NegotiatedMedia {
    let selections = select(&read(name), &capabilities()).expect(name);
    let audio = selections.into_iter().find_map(|selection| match selection {
        Selection::Audio(audio) => Some(audio),
        Selection::Opaque | Selection::Rejected => None,
    });
    *audio.expect(name)
}

fn numbers(audio: &NegotiatedMedia) -> Vec<u8> {
    audio
        .formats
        .iter()
        .map(|format| format.tx_payload_type)
        .collect()
}

#[test]
fn plain_g711() {
    let audio = audio("01-plain-g711");
    assert_eq!(numbers(&audio), [0, 101]);
    assert_eq!(audio.remote, "203.0.113.1:49170".parse().ok());
    assert_eq!(audio.remote_rtcp, "203.0.113.1:49171".parse().ok());
    assert_eq!(
        (audio.ptime_ms, audio.direction, audio.rtcp_mux),
        (20, Direction::SendRecv, false)
    );
    assert_eq!(audio.formats[1].codec.fmtp.as_deref(), Some("0-15"));
    assert_eq!(audio.formats[1].local_fmtp.as_deref(), Some("0-16"));
    let ours = Capabilities {
        order: CodecOrder::Ours,
        ..capabilities()
    };
    let Selection::Audio(audio) = &select(&read("01-plain-g711"), &ours).unwrap()[0] else {
        panic!()
    };
    assert_eq!(numbers(audio), [8, 101]);
}

#[test]
fn line_feeds_alone_and_missing_lines() {
    assert_eq!(
        audio("02-lf-only-no-s-no-t").remote,
        "192.0.2.1:4000".parse().ok()
    );
}

#[test]
fn a_session_id_beyond_64_bits_is_kept() {
    let description = read("03-session-id-beyond-64-bits");
    assert_eq!(description.session_id(), "123456789012345678901234567890");
    assert!(
        description
            .to_string()
            .contains("o=sbc 123456789012345678901234567890 1 IN IP4 192.0.2.1\r\n")
    );
}

#[test]
fn fax_lines_are_kept_in_place() {
    let description = read("04-t38-after-audio");
    assert_eq!(description.media()[1].kind, MediaKind::Image);
    assert_eq!(description.media()[1].profile, Profile::Other);
    let selections = select(&description, &capabilities()).unwrap();
    assert_eq!(selections[1], Selection::Rejected);
    let selections = select(
        &description,
        &Capabilities {
            opaque: true,
            ..capabilities()
        },
    )
    .unwrap();
    assert_eq!(selections[1], Selection::Opaque);
    assert!(
        description
            .to_string()
            .contains("a=T38FaxRateManagement:transferredTCF\r\n")
    );
}

#[test]
fn crypto_lines_with_demands_we_cannot_meet_are_passed_over() {
    let description = read("05-sdes-three-suites");
    assert_eq!(description.media()[0].crypto.len(), 3);
    let sdes = audio("05-sdes-three-suites").sdes.unwrap();
    assert_eq!(
        (sdes.remote.tag, sdes.remote.suite),
        (3, CryptoSuite::AesCm128HmacSha1_80)
    );
    assert_eq!(sdes.remote.key, b"70xwPH5@/,L:S1wY\"~='EpgT%(i_Vc");
    let without = Capabilities {
        sdes: Vec::new(),
        ..capabilities()
    };
    assert_eq!(
        select(&description, &without),
        Err(NegotiationError::NoCommonEncryption)
    );
}

#[test]
fn a_browser_offer() {
    let description = read("06-browser-bundle");
    assert_eq!(description.bundle(), ["0", "1"]);
    assert_eq!(description.media()[0].setup, Some(Setup::ActPass));
    let audio = audio("06-browser-bundle");
    assert_eq!(numbers(&audio), [111, 110]);
    assert!(audio.rtcp_mux && audio.sdes.is_none());
    let dtls = audio.dtls.unwrap();
    assert!(dtls.is_client);
    assert_eq!(
        (
            dtls.fingerprints[0].hash.as_str(),
            dtls.fingerprints[0].digest[31]
        ),
        ("sha-256", 31)
    );
    let ice = audio.ice.unwrap();
    assert_eq!((ice.candidates.len(), ice.trickle, ice.lite), (3, true, false));
    assert_eq!(ice.candidates[0].ip(), "192.0.2.7".parse().ok());
    assert_eq!(ice.candidates[2].ip(), None);
    // c=0.0.0.0 of a trickling browser is a placeholder, and the direction says what is meant.
    assert_eq!(audio.remote, None);
    assert_eq!(audio.direction, Direction::SendRecv);
}

#[test]
fn hold_by_address_and_by_direction() {
    let held = audio("07-hold-by-address");
    assert_eq!((held.remote, held.direction), (None, Direction::RecvOnly));
    let held = audio("08-hold-sendonly-at-session-level");
    assert_eq!(
        (held.remote.is_some(), held.direction),
        (true, Direction::RecvOnly)
    );
}

#[test]
fn ipv6_and_its_own_rtcp_address() {
    let audio = audio("09-ipv6-media-level-connection");
    assert_eq!(audio.remote, "[2001:db8::2]:4000".parse().ok());
    assert_eq!(audio.remote_rtcp, "[2001:db8::3]:4010".parse().ok());
}

#[test]
fn an_rtcp_address_that_leads_nowhere_is_the_next_port() {
    let remote_rtcp = |rtcp: &str| {
        let text = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n\
             a=rtcp:{rtcp}\r\n"
        );
        let description = Description::parse(text.as_bytes()).unwrap();
        description.media()[0].rtcp_address()
    };
    let cases = [
        ("4010", "192.0.2.1:4010"),
        ("4010 IN IP4 192.0.2.9", "192.0.2.9:4010"),
        // Browsers, before they know an address.
        ("9 IN IP4 0.0.0.0", "192.0.2.1:4001"),
        ("0", "192.0.2.1:4001"),
        ("4010 IN IP4 224.0.0.1", "192.0.2.1:4001"),
        // A gateway's other leg: nothing of ours that sends there receives from the other family.
        ("4010 IN IP6 2001:db8::1", "192.0.2.1:4001"),
        ("4010 IN IP4 rtcp.example.com", "192.0.2.1:4001"),
    ];
    for (rtcp, expected) in cases {
        assert_eq!(remote_rtcp(rtcp), expected.parse().ok(), "{rtcp}");
    }
}

#[test]
fn static_numbers_need_no_rtpmap_and_dynamic_ones_do() {
    let description = read("10-static-types-without-rtpmap");
    let formats: Vec<u8> = description.media()[0]
        .formats
        .iter()
        .map(|format| format.payload_type)
        .collect();
    assert_eq!(formats, [18, 9, 0, 3]);
    assert_eq!(numbers(&audio("10-static-types-without-rtpmap")), [9]);
}

#[test]
fn only_the_first_usable_audio_is_taken() {
    let selections = select(&read("11-rejected-first-line"), &capabilities()).unwrap();
    let [Selection::Rejected, Selection::Audio(audio), Selection::Rejected] = &selections[..] else {
        panic!("{selections:?}")
    };
    assert_eq!(audio.index, 1);
}

#[test]
fn latin1_is_read() {
    assert_eq!(
        read("12-latin1-session-name").session().session_name,
        "Café München"
    );
}

#[test]
fn telephone_events_follow_the_clock_rate_of_the_audio() {
    let taken = audio("13-events-of-two-clock-rates");
    assert_eq!(numbers(&taken), [107, 102]);
    assert_eq!(taken.ptime_ms, 20);
    assert_eq!(
        read("13-events-of-two-clock-rates").media()[0].max_ptime_ms,
        Some(150)
    );
    let g711 = Capabilities::new(vec![Codec::pcma(), Codec::telephone_event(8_000)]);
    let Selection::Audio(audio) = &select(&read("13-events-of-two-clock-rates"), &g711).unwrap()[0] else {
        panic!()
    };
    assert_eq!(numbers(audio), [8, 101]);
}

#[test]
fn opportunistic_keys_on_plain_rtp() {
    assert!(audio("14-avp-with-crypto").sdes.is_some());
    let strict = Capabilities {
        opportunistic: false,
        ..capabilities()
    };
    let Selection::Audio(audio) = &select(&read("14-avp-with-crypto"), &strict).unwrap()[0] else {
        panic!()
    };
    assert!(audio.sdes.is_none());
}

#[test]
fn a_media_without_usable_address_is_no_media() {
    let description = read("15-hostname-multicast-and-odd-lines");
    assert_eq!(description.media()[0].direction, Direction::RecvOnly);
    assert_eq!(description.media()[0].address, None);
    assert_eq!(
        select(&description, &capabilities()),
        Err(NegotiationError::NoCommonMedia)
    );
}

#[test]
fn no_common_codec_is_an_error() {
    assert_eq!(
        select(&read("16-no-common-codec"), &capabilities()),
        Err(NegotiationError::NoCommonMedia)
    );
}

#[test]
fn blanks_at_the_ends_of_lines_mean_nothing() {
    let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1 \r\ns= \r\nc=IN IP4 192.0.2.1\t\r\nb=AS:64 \r\nt=0 0 \r\n\
        m=audio 4000 RTP/AVP 8 101 \r\na=rtpmap:101 telephone-event/8000 \r\na=sendonly \r\n";
    let description = Description::parse(text.as_bytes()).unwrap();
    let media = &description.media()[0];
    assert_eq!(media.direction, Direction::SendOnly);
    assert_eq!(media.address.unwrap().to_string(), "192.0.2.1");
    let g711 = Capabilities::new(vec![Codec::pcma(), Codec::telephone_event(8_000)]);
    let Selection::Audio(audio) = &select(&description, &g711).unwrap()[0] else {
        panic!()
    };
    assert_eq!(numbers(audio), [8, 101]);
}

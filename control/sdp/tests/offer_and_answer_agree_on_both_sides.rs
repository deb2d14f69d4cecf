//! Whole exchanges: what the answerer negotiated and what the offerer reads from its answer are the same session.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sdp::{
    Answer, Capabilities, Codec, Crypto, CryptoSuite, Description, Direction, Format, LocalSession,
    LocalTransport, NegotiatedFormat, NegotiatedMedia, NegotiationError, OfferedMedia, Selection,
    apply_answer, assign_payload_types, select, write_answer, write_offer,
};
use std::net::IpAddr;

const OFFERER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ANSWERER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn audio(formats: Vec<Format>, transport: LocalTransport) -> OfferedMedia {
    OfferedMedia::Audio {
        formats,
        transport,
        rtcp_mux: true,
        mid: None,
    }
}

fn formats(codecs: &[Codec]) -> Vec<Format> {
    assign_payload_types(codecs, &[])
}

fn reread(description: &Description) -> Description {
    Description::parse(description.to_string().as_bytes()).unwrap()
}

fn first(selections: &[Selection]) -> &NegotiatedMedia {
    match &selections[0] {
        Selection::Audio(audio) => audio,
        other => panic!("{other:?}"),
    }
}

/// RFC 8866 §5.7. Simple phones take each c= for a stream of its own.
#[test]
fn the_address_is_said_once_unless_the_audio_is_elsewhere() {
    let offer = |media| {
        let line = audio(formats(&[Codec::pcmu()]), LocalTransport::plain(media, 4000));
        write_offer(&[line], &mut LocalSession::new(10, OFFERER))
    };
    for (media, count) in [(OFFERER, 1), (ANSWERER, 2)] {
        let text = offer(media).to_string();
        assert_eq!(text.matches("c=IN IP4 ").count(), count, "{text}");
        let read = reread(&offer(media));
        assert_eq!(read.media()[0].rtp_address(), Some((media, 4000).into()));
    }
}

#[test]
fn codec_events_ports_and_keys() {
    let suite = CryptoSuite::AesCm128HmacSha1_80;
    let key = |byte| vec![byte; suite.key_length()];
    let gcm = Crypto::new(1, CryptoSuite::AeadAes256Gcm, vec![9; 44]).unwrap();
    let mut transport = LocalTransport::plain(OFFERER, 4000);
    transport.sdes = vec![gcm, Crypto::new(2, suite, key(1)).unwrap()];
    let codecs = [Codec::opus(None), Codec::pcmu(), Codec::telephone_event(8000)];
    let offer = write_offer(
        &[audio(formats(&codecs), transport)],
        &mut LocalSession::new(10, OFFERER),
    );
    let offer = reread(&offer);
    assert_eq!(offer.media()[0].proto, "RTP/SAVP");

    let mut capabilities = Capabilities::new(vec![Codec::pcmu(), Codec::telephone_event(8000)]);
    capabilities.sdes = vec![suite];
    let selections = select(&offer, &capabilities).unwrap();
    let chosen = first(&selections);
    assert_eq!(chosen.sdes.as_ref().unwrap().remote.key, key(1));
    let mut local = LocalTransport::plain(ANSWERER, 5000);
    local.sdes = vec![Crypto::new(99, suite, key(2)).unwrap()];
    let answer = write_answer(
        &offer,
        &selections,
        &[Answer::Audio(&local)],
        &mut LocalSession::new(11, ANSWERER),
    )
    .unwrap();
    let agreed = apply_answer(&offer, &reread(&answer)).unwrap();
    let agreed = agreed[0].as_ref().unwrap();
    assert_eq!(agreed.remote, "192.0.2.2:5000".parse().ok());
    assert!(agreed.rtcp_mux && agreed.remote_rtcp == agreed.remote);
    assert_eq!(agreed.formats, chosen.formats);
    let sdes = agreed.sdes.as_ref().unwrap();
    assert_eq!((sdes.local_tag, &sdes.remote.key), (2, &key(2)));
}

#[test]
fn telephone_events_are_agreed_at_the_clock_of_the_audio_or_else_at_8_khz() {
    let events = Codec::telephone_event;
    let both = || vec![Codec::opus(None), Codec::pcmu(), events(8_000), events(48_000)];
    // Offered, understood, and at which clocks they are agreed on.
    for (offered, understood, agreed) in [
        (both(), both(), &[48_000][..]),
        // As baresip offers it, and as older phones answer.
        (vec![Codec::opus(None), events(8_000)], both(), &[8_000]),
        (both(), vec![Codec::opus(None), events(8_000)], &[8_000]),
        (vec![Codec::pcmu(), events(48_000)], both(), &[]),
        (vec![Codec::opus(None)], both(), &[]),
        (
            vec![Codec::new("L16", 16_000), events(48_000), events(8_000)],
            {
                let l16 = Codec::new("L16", 16_000);
                [vec![l16], both()].concat()
            },
            &[8_000],
        ),
    ] {
        let offer = [audio(formats(&offered), LocalTransport::plain(OFFERER, 4000))];
        let offer = reread(&write_offer(&offer, &mut LocalSession::new(10, OFFERER)));
        let selections = select(&offer, &Capabilities::new(understood)).unwrap();
        let local = LocalTransport::plain(ANSWERER, 5000);
        let mut session = LocalSession::new(11, ANSWERER);
        let answer = write_answer(&offer, &selections, &[Answer::Audio(&local)], &mut session).unwrap();
        let applied = apply_answer(&offer, &reread(&answer)).unwrap();
        assert_eq!(clocks_of_events(first(&selections)), agreed, "{offered:?}");
        assert_eq!(
            clocks_of_events(applied[0].as_ref().unwrap()),
            agreed,
            "{offered:?}"
        );
    }
}

/// Both payload types, since its sender may take either.
#[test]
fn an_answer_with_telephone_events_at_two_clocks_agrees_on_both() {
    let codecs = [
        Codec::opus(None),
        Codec::telephone_event(8_000),
        Codec::telephone_event(48_000),
    ];
    let offered = [audio(formats(&codecs), LocalTransport::plain(OFFERER, 4000))];
    let offer = reread(&write_offer(&offered, &mut LocalSession::new(10, OFFERER)));
    let applied = apply_answer(&offer, &offer).unwrap();
    let agreed = applied[0].as_ref().unwrap();
    assert_eq!(clocks_of_events(agreed), [48_000, 8_000]);
    let numbers = |clock_hz| {
        let formats = offer.media()[0].formats.iter();
        let mut own = formats.filter(|format| format.codec.clock_hz == clock_hz);
        own.rfind(|format| format.codec.is_telephone_event())
            .unwrap()
            .payload_type
    };
    for format in &agreed.formats[1..] {
        let number = numbers(format.codec.clock_hz);
        assert_eq!((format.rx_payload_type, format.tx_payload_type), (number, number));
    }
}

fn clocks_of_events(media: &NegotiatedMedia) -> Vec<u32> {
    let events = media
        .formats
        .iter()
        .filter(|format| format.codec.is_telephone_event());
    events.map(|format| format.codec.clock_hz).collect()
}

#[test]
fn comfort_noise_is_agreed_where_both_name_it_at_the_clock_of_the_audio() {
    let noise = Codec::comfort_noise;
    let events = || Codec::telephone_event(8_000);
    // Offered, understood, agreed: by name.
    for (offered, understood, agreed) in [
        (
            vec![Codec::pcmu(), noise(8_000), events()],
            vec![Codec::pcmu(), events(), noise(8_000)],
            &["PCMU", "telephone-event", "CN"][..],
        ),
        (
            vec![Codec::pcmu(), noise(8_000)],
            vec![Codec::pcmu(), events()],
            &["PCMU"],
        ),
        (vec![Codec::pcmu()], vec![Codec::pcmu(), noise(8_000)], &["PCMU"]),
        (
            vec![Codec::opus(None), noise(8_000)],
            vec![Codec::opus(None), noise(8_000)],
            &["opus"],
        ),
        (
            vec![Codec::g722(), noise(16_000), noise(8_000)],
            vec![Codec::g722(), noise(8_000)],
            &["G722", "CN"],
        ),
        (
            vec![Codec::new("L16", 16_000), noise(8_000), noise(16_000)],
            vec![Codec::new("L16", 16_000), noise(16_000)],
            &["L16", "CN"],
        ),
    ] {
        let offer = [audio(formats(&offered), LocalTransport::plain(OFFERER, 4000))];
        let offer = reread(&write_offer(&offer, &mut LocalSession::new(10, OFFERER)));
        let selections = select(&offer, &Capabilities::new(understood)).unwrap();
        let local = LocalTransport::plain(ANSWERER, 5000);
        let mut session = LocalSession::new(11, ANSWERER);
        let answer = write_answer(&offer, &selections, &[Answer::Audio(&local)], &mut session).unwrap();
        let applied = apply_answer(&offer, &reread(&answer)).unwrap();
        let named = |formats: &[NegotiatedFormat]| -> Vec<String> {
            formats
                .iter()
                .map(|format| format.codec.name.to_string())
                .collect()
        };
        assert_eq!(named(&first(&selections).formats), agreed, "{offered:?}");
        assert_eq!(
            named(&applied[0].as_ref().unwrap().formats),
            agreed,
            "{offered:?}"
        );
        let noise = first(&selections)
            .formats
            .iter()
            .find(|format| format.codec.is_comfort_noise());
        // RFC 3551: 13 at 8 kHz, a dynamic number elsewhere.
        assert!(noise.is_none_or(|noise| (noise.rx_payload_type == 13) == (noise.codec.clock_hz == 8_000)));
    }
}

#[test]
fn hold_and_resume_raise_the_version_and_nothing_else_does() {
    let mut session = LocalSession::new(10, OFFERER);
    let mut offer = |direction| {
        let transport = LocalTransport {
            direction,
            ..LocalTransport::plain(OFFERER, 4000)
        };
        write_offer(&[audio(formats(&[Codec::pcmu()]), transport)], &mut session)
    };
    let first_offer = offer(Direction::SendRecv);
    assert_eq!(first_offer.version(), 1);
    assert_eq!(offer(Direction::SendRecv).version(), 1);
    let hold = offer(Direction::SendOnly);
    assert_eq!(hold.version(), 2);
    let selections = select(&hold, &Capabilities::new(vec![Codec::pcmu()])).unwrap();
    assert_eq!(first(&selections).direction, Direction::RecvOnly);
    let local = LocalTransport::plain(ANSWERER, 5000);
    let answer = write_answer(
        &hold,
        &selections,
        &[Answer::Audio(&local)],
        &mut LocalSession::new(11, ANSWERER),
    )
    .unwrap();
    assert_eq!(answer.media()[0].direction, Direction::RecvOnly);
    let agreed = apply_answer(&hold, &answer).unwrap();
    assert_eq!(agreed[0].as_ref().unwrap().direction, Direction::SendOnly);
    assert_eq!(offer(Direction::SendRecv).version(), 3);
}

#[test]
fn an_answer_never_gives_what_was_not_offered() {
    let transport = LocalTransport {
        direction: Direction::RecvOnly,
        ..LocalTransport::plain(OFFERER, 4000)
    };
    let offer = write_offer(
        &[audio(formats(&[Codec::pcmu()]), transport)],
        &mut LocalSession::new(1, OFFERER),
    );
    let greedy = Description::parse(
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n",
    );
    let agreed = apply_answer(&offer, &greedy.unwrap()).unwrap();
    assert_eq!(agreed[0].as_ref().unwrap().direction, Direction::RecvOnly);
}

#[test]
fn each_way_has_the_number_of_its_receiver() {
    let offered = vec![Format {
        payload_type: 96,
        codec: Codec::opus(None),
    }];
    let transport = LocalTransport::plain(OFFERER, 4000);
    let offer = write_offer(&[audio(offered, transport)], &mut LocalSession::new(1, OFFERER));
    let answer = Description::parse(
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
          m=audio 5000 RTP/AVP 120\r\na=rtpmap:120 opus/48000/2\r\n",
    );
    let agreed = apply_answer(&offer, &answer.unwrap()).unwrap();
    let format = &agreed[0].as_ref().unwrap().formats[0];
    assert_eq!((format.tx_payload_type, format.rx_payload_type), (120, 96));
}

#[test]
fn refused_lines_keep_their_place_and_broken_answers_are_named() {
    let offer = Description::parse(
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=video 4002 RTP/AVP 96\r\n\
          a=rtpmap:96 VP8/90000\r\na=mid:v\r\nm=audio 4000 RTP/AVP 0\r\nm=image 4004 udptl t38\r\n",
    )
    .unwrap();
    let selections = select(&offer, &Capabilities::new(vec![Codec::pcmu()])).unwrap();
    let local = LocalTransport::plain(ANSWERER, 5000);
    let answers = [Answer::Rejected, Answer::Audio(&local), Answer::Rejected];
    let mut session = LocalSession::new(2, ANSWERER);
    let answer = write_answer(&offer, &selections, &answers, &mut session).unwrap();
    let text = answer.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 96",
            "m=audio 5000 RTP/AVP 0",
            "m=image 0 udptl t38"
        ]
    );

    let one_line = write_answer(&answer, &[], &[], &mut session).unwrap();
    assert_eq!(
        apply_answer(&offer, &one_line),
        Err(NegotiationError::NoCommonMedia)
    );
    let short =
        Description::parse(b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\n");
    let expected = NegotiationError::MediaCount {
        offered: 3,
        answered: 1,
    };
    assert_eq!(apply_answer(&offer, &short.unwrap()), Err(expected));
}

#[test]
fn dtls_roles_are_complementary() {
    let fingerprint = |byte| sdp::Fingerprint {
        hash: "sha-256".to_owned(),
        digest: vec![byte; 32],
    };
    let transport = |address, byte| {
        let dtls = Some(sdp::LocalDtls {
            fingerprint: fingerprint(byte),
        });
        LocalTransport {
            dtls,
            ..LocalTransport::plain(address, 4000)
        }
    };
    let media = audio(formats(&[Codec::opus(None)]), transport(OFFERER, 1));
    let offer = reread(&write_offer(&[media], &mut LocalSession::new(1, OFFERER)));
    assert_eq!(offer.media()[0].proto, "UDP/TLS/RTP/SAVPF");
    let selections = select(&offer, &Capabilities::new(vec![Codec::opus(None)])).unwrap();
    assert!(first(&selections).dtls.as_ref().unwrap().is_client);
    let mut session = LocalSession::new(2, ANSWERER);
    let without = LocalTransport::plain(ANSWERER, 5000);
    let missing = write_answer(&offer, &selections, &[Answer::Audio(&without)], &mut session);
    assert_eq!(missing, Err(NegotiationError::LocalKeyMissing(0)));
    let local = transport(ANSWERER, 2);
    let answer = write_answer(&offer, &selections, &[Answer::Audio(&local)], &mut session).unwrap();
    let agreed = apply_answer(&offer, &reread(&answer)).unwrap();
    let dtls = agreed[0].as_ref().unwrap().dtls.as_ref().unwrap();
    assert!(!dtls.is_client);
    assert_eq!(dtls.fingerprints, [fingerprint(2)]);
}

//! The corpus, random bytes and mutated messages through the fuzz entry points, and round trips.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use proptest::prelude::*;
use sip::fuzzing::{fuzz_auth, fuzz_message, fuzz_stream, fuzz_uri};
use sip::header::NameAddr;
use sip::limits::Limits;
use sip::message::{Message, Method, Request, parse_datagram};
use sip::uri::Uri;

fn corpus() -> Vec<Vec<u8>> {
    files(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/message"))
}

fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn the_smaller_corpora_replay() {
    let replay = |folder: &str, least: usize, fuzz: fn(&[u8])| {
        let corpus = files(folder);
        assert!(corpus.len() >= least, "{folder} holds {}", corpus.len());
        corpus.iter().for_each(|data| fuzz(data));
    };
    replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/stream"),
        6,
        sip::fuzzing::fuzz_stream,
    );
    replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/uri"),
        8,
        sip::fuzzing::fuzz_uri,
    );
    replay(
        concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/auth"),
        6,
        sip::fuzzing::fuzz_auth,
    );
}

#[test]
fn the_corpus_replays() {
    let corpus = corpus();
    assert!(corpus.len() > 60, "{}", corpus.len());
    for data in corpus {
        fuzz_message(&data);
        for piece in [1, 7, 100] {
            fuzz_stream(&[&[piece][..], &data, b"\r\n\r\n", &data].concat());
        }
    }
}

#[test]
fn unedited_messages_are_written_as_they_came() {
    let wire =
        b"OPTIONS sip:a@b SIP/2.0\r\nv:SIP/2.0/UDP h;branch=z9hG4bK1\r\nX-Odd  :\t kept  as is ;;,,\r\n\
        f: <sip:c@d>;tag=1\r\nTO: <sip:a@b>\r\ni: 1\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n";
    let message = parse_datagram(Bytes::from_static(wire), &Limits::DEFAULT).unwrap();
    assert_eq!(&message.to_bytes()[..], &wire[..]);
}

#[test]
fn limits_answer_with_their_status() {
    let head = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n";
    let status = |text: String| {
        let error = parse_datagram(text.into(), &Limits::DEFAULT).unwrap_err();
        let answer = error.answer().unwrap();
        assert_eq!(answer.headers.get("Call-ID"), Some(&b"1"[..]));
        answer.status.code()
    };
    assert_eq!(status(format!("{head}{}\r\n", "X: y\r\n".repeat(200))), 400);
    assert_eq!(status(format!("{head}X: {}\r\n\r\n", "y".repeat(9_000))), 400);
    assert_eq!(
        status(format!(
            "{head}{}\r\n",
            "v: SIP/2.0/UDP h, SIP/2.0/UDP h\r\n".repeat(17)
        )),
        483
    );
    assert_eq!(status(format!("{head}\r\n{}", "b".repeat(50_000))), 413);
    assert_eq!(status(format!("{head}\r\n{}", "b".repeat(70_000))), 513);
    assert_eq!(
        status(head.replace("sip:a@b SIP", &format!("sip:{}@b SIP", "a".repeat(5_000))) + "\r\n"),
        414
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz_message(&data);
        fuzz_stream(&data);
        fuzz_uri(&data);
        fuzz_auth(&data);
    }

    #[test]
    fn random_uris(text in "(sip|sips|tel):[a-z0-9%;:@?=&\\[\\].+-]{0,40}") {
        fuzz_uri(text.as_bytes());
    }

    #[test]
    fn random_auth_values(text in "Digest ([a-z]{1,5}=(\"[a-z\\\\\"]{0,5}\"?|[a-z0-9]{0,4}) ?,? ?){0,8}") {
        fuzz_auth(text.as_bytes());
    }

    #[test]
    fn mutated_messages(
        index in any::<prop::sample::Index>(),
        piece in any::<u8>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let corpus = corpus();
        let mut data = index.get(&corpus).clone();
        for (at, byte, kind) in edits {
            if data.is_empty() {
                break;
            }
            let at = at.index(data.len());
            match kind {
                0 => data[at] = byte,
                1 => data.insert(at, byte),
                _ => drop(data.remove(at)),
            }
        }
        fuzz_message(&data);
        data.insert(0, piece);
        fuzz_stream(&data);
    }

    #[test]
    fn built_messages_read_back_equal(
        display in any::<String>(),
        user in "\\PC{1,20}",
        values in proptest::collection::vec(("X-[A-Za-z]{1,10}", "[ -~\u{80}-\u{ff}]{0,40}"), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let uri = Uri::sip(Some(&user), &Uri::parse("sip:h".into()).unwrap().host().unwrap().clone(), Some(5060));
        let mut request = Request::new(Method::Message, &uri);
        let from = NameAddr::new(uri.clone()).with_display(&display).with_tag("t");
        request.headers.push_value(sip::message::HeaderName::From, &from);
        for (name, value) in &values {
            request.headers.push(name.as_str(), value).unwrap();
        }
        request.body = body.into();
        let wire = request.to_bytes();
        let Ok(Message::Request(read)) = parse_datagram(wire.clone(), &Limits::DEFAULT) else { panic!() };
        prop_assert_eq!(read.to_bytes(), wire);
        prop_assert_eq!(&read.body, &request.body);
        prop_assert_eq!(read.uri().unwrap().user_unescaped().unwrap().into_owned(), user.into_bytes());
        let read_from = read.headers.from().unwrap();
        let plain: String = display.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }).collect();
        prop_assert_eq!(read_from.display().unwrap().into_owned(), plain.into_bytes());
        let length = request.body.len().to_string();
        prop_assert_eq!(read.headers.get("Content-Length"), Some(length.as_bytes()));
        prop_assert_eq!(read.headers.len(), values.len() + 2);
    }
}

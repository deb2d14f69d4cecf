//! StreamFramer: pipelined messages, pieces, keepalives, and streams that cannot be framed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sip::limits::Limits;
use sip::message::{Frame, FramerRole, Message, StreamFramer, parse_stream_message};

const HEAD: &str = "MESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\n\
    To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n";

fn frames(role: FramerRole, pieces: &[&[u8]]) -> Vec<Frame> {
    let mut framer = StreamFramer::new(role, Limits::DEFAULT);
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(frame) = framer.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    frames
}

fn body(frame: &Frame) -> Vec<u8> {
    let Frame::Message(text) = frame else {
        panic!("{frame:?}")
    };
    match parse_stream_message(text.clone(), &Limits::DEFAULT) {
        Ok(Message::Request(request)) => request.body.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pipelined_messages_and_pings_come_apart_however_they_arrive() {
    let one = format!("{HEAD}Content-Type: text/plain\r\nl : 5\r\n\r\na\r\n\r\n");
    let stream = format!("{one}\r\n\r\n{one}{HEAD}\r\n\r\n{one}");
    let whole = frames(FramerRole::Acceptor, &[stream.as_bytes()]);
    let kinds: Vec<bool> = whole.iter().map(|frame| *frame == Frame::Ping).collect();
    assert_eq!(kinds, [false, true, false, false, false]);
    assert_eq!(
        (body(&whole[0]), body(&whole[3]), body(&whole[4])),
        (b"a\r\n\r\n".to_vec(), vec![], b"a\r\n\r\n".to_vec())
    );
    for size in 1..40 {
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
        assert_eq!(frames(FramerRole::Acceptor, &pieces), whole, "{size}");
    }
}

#[test]
fn who_connected_sees_pongs() {
    assert_eq!(
        frames(FramerRole::Initiator, &[b"\r", b"\n", b"\r\n"]),
        [Frame::Pong, Frame::Pong]
    );
    assert_eq!(frames(FramerRole::Acceptor, &[b"\r\n", b"\r\n"]), [Frame::Ping]);
}

#[test]
fn a_stream_that_cannot_be_framed_is_answered_and_ends() {
    let cases = [
        (
            format!("{HEAD}Content-Type: text/plain\r\n\r\nbody"),
            400,
            "Content-Length: missing on a stream",
        ),
        (
            format!("{HEAD}Content-Length: x\r\n\r\n"),
            400,
            "Content-Length: not a number",
        ),
        (
            format!("{HEAD}Content-Length: 1\r\nl: 2\r\n\r\n"),
            400,
            "Content-Length: several that differ",
        ),
        (
            format!("{HEAD}Content-Length: 60000\r\n\r\n"),
            413,
            "body of 60000 bytes is too large",
        ),
        (format!("{HEAD}X: {}", "y".repeat(66_000)), 513, "message of"),
    ];
    for (text, status, why) in cases {
        let mut framer = StreamFramer::new(FramerRole::Acceptor, Limits::DEFAULT);
        framer.push(text.as_bytes());
        let error = framer.next_frame().unwrap_err();
        assert!(error.to_string().starts_with(why), "{error}");
        assert_eq!(error.answer().unwrap().status.code(), status);
        framer.push(HEAD.as_bytes());
        assert_eq!((framer.next_frame(), framer.pending()), (Ok(None), 0));
    }
}

/// Phones keep connections open by half a ping too; nobody waits for the end of that.
#[test]
fn line_ends_between_messages_begin_none() {
    let mut framer = StreamFramer::new(FramerRole::Acceptor, Limits::DEFAULT);
    for (piece, is_amid) in [("\r\n", false), ("INV", true)] {
        framer.push(piece.as_bytes());
        assert_eq!(framer.next_frame().unwrap(), None);
        assert_eq!(framer.is_amid_message(), is_amid, "{piece:?}");
    }
}

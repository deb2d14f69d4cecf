//! Entry points for fuzzing and for the replay of the committed corpus. Each must return, whatever it is given.

use bytes::Bytes;

use crate::header::{AuthValue, HeaderValue};
use crate::limits::Limits;
use crate::message::{
    Frame, FramerRole, Headers, Message, Method, StreamFramer, parse_datagram, parse_stream_message,
};
use crate::uri::Uri;

/// Parses a datagram, reads every typed header, writes it and checks that it reads the same again.
pub fn fuzz_message(data: &[u8]) {
    let message = match parse_datagram(Bytes::copy_from_slice(data), &Limits::DEFAULT) {
        Ok(message) => message,
        Err(error) => {
            if let Some(answer) = error.answer() {
                assert_reparses(&Message::Response(answer));
            }
            return;
        }
    };
    read_everything(message.headers());
    assert_reparses(&message);
    if let Message::Request(request) = message {
        let policy = crate::check::Policy {
            role: crate::check::Role::Endpoint,
            methods: &[Method::Invite, Method::Ack, Method::Bye],
            extensions: &["100rel"],
            content_types: &[("application", "sdp")],
            tel: false,
        };
        if let Some(mut answer) = crate::check::check_request(&request, &policy).answer() {
            answer.set_to_tag("t");
            assert_reparses(&Message::Response(answer));
        }
    }
}

/// What we write must read as what it was. An answer to too many Via values carries them all back.
fn assert_reparses(message: &Message) {
    let wire = message.to_bytes();
    let again = match parse_datagram(
        wire.clone(),
        &Limits {
            message_bytes: usize::MAX,
            via_count: usize::MAX,
            ..Limits::DEFAULT
        },
    ) {
        Ok(again) => again,
        // Our own Content-Length line may be one field too many for a message at the limit.
        Err(error) => {
            let at_limit = message.headers().len() >= Limits::DEFAULT.header_count;
            assert!(at_limit, "{error}: {}", wire.escape_ascii());
            return;
        }
    };
    assert_eq!(again.to_bytes(), wire);
}

fn read_everything(headers: &Headers) {
    let _ = (
        headers.top_via(),
        headers.vias(),
        headers.from(),
        headers.to(),
        headers.call_id(),
        headers.cseq(),
    );
    let _ = (
        headers.max_forwards(),
        headers.contacts(),
        headers.routes(),
        headers.record_routes(),
    );
    let _ = (
        headers.paths(),
        headers.service_routes(),
        headers.asserted_identities(),
        headers.diversions(),
    );
    let _ = (
        headers.refer_to(),
        headers.referred_by(),
        headers.replaces(),
        headers.expires(),
    );
    let _ = (
        headers.min_expires(),
        headers.session_expires(),
        headers.min_se(),
        headers.rseq(),
        headers.rack(),
    );
    let _ = (
        headers.require(),
        headers.supported(),
        headers.proxy_require(),
        headers.allow(),
    );
    let _ = (
        headers.reasons(),
        headers.retry_after(),
        headers.event(),
        headers.subscription_state(),
    );
    let _ = (
        headers.content_type(),
        headers.accept(),
        headers.warnings(),
        headers.date(),
    );
    let _ = (headers.www_authenticate(), headers.authorization());
    for contact in headers.contacts().unwrap_or_default() {
        if let Some(address) = contact.address() {
            let _ = (
                address.expires(),
                address.q(),
                address.instance(),
                address.reg_id(),
                address.display(),
            );
            let mut text = Vec::new();
            address.write(&mut text);
            let again = crate::header::NameAddr::parse(&text.into());
            assert_eq!(again.as_ref(), Ok(address));
        }
    }
}

/// Frames a stream given in pieces, and in one piece; both must find the same frames.
pub fn fuzz_stream(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let run = |size: usize| {
        let mut framer = StreamFramer::new(FramerRole::Acceptor, Limits::DEFAULT);
        let mut frames = Vec::new();
        for chunk in data.chunks(size) {
            framer.push(chunk);
            while let Ok(Some(frame)) = framer.next_frame() {
                frames.push(frame);
            }
        }
        frames
    };
    let whole = run(data.len().max(1));
    assert_eq!(whole, run(usize::from(piece).max(1)));
    for frame in whole {
        if let Frame::Message(message) = frame {
            let _ = parse_stream_message(message, &Limits::DEFAULT);
        }
    }
}

/// Reads a URI; equal to itself, and its edits are URIs.
pub fn fuzz_uri(data: &[u8]) {
    let Ok(uri) = Uri::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert!(uri.matches(&uri));
    let edited = uri
        .with_param("lr", None)
        .without_param("transport")
        .without_headers();
    assert_eq!(Uri::parse(edited.as_bytes().clone()).as_ref(), Ok(&edited));
    let _ = (
        uri.user_unescaped(),
        uri.password(),
        uri.headers().count(),
        uri.host().map(ToString::to_string),
    );
}

/// Reads challenges and credentials, and lets client and server have them.
pub fn fuzz_auth(data: &[u8]) {
    use crate::auth::{DigestServer, NonceKey, ServerConfig, choose_challenge};
    let Ok(value) = AuthValue::parse(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let _ = choose_challenge(std::slice::from_ref(&value));
    let server = DigestServer::new(ServerConfig::new("r"), NonceKey([0; 32]), 0);
    let _ = server.read_attempt(std::slice::from_ref(&value));
    let mut text = Vec::new();
    value.write(&mut text);
    assert_eq!(AuthValue::parse(&text.into()), Ok(value));
}

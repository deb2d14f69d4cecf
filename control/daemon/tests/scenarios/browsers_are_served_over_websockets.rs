use std::net::TcpStream;

use tokio_tungstenite::tungstenite::{
    self, ClientRequestBuilder, HandshakeError, Message, WebSocket, client, http::Uri,
};

use crate::{
    certificates::{Authority, Issued, connect},
    support::{Controld, PATIENCE, authorised, request, tcp},
};

/// The opening handshake of a browser; the status when it is refused.
fn open<S: std::io::Read + std::io::Write>(
    stream: S,
    path: &str,
    origin: &str,
    protocol: Option<&str>,
) -> Result<WebSocket<S>, u16> {
    let uri: Uri = format!("ws://sip.example.com{path}").parse().unwrap();
    let mut builder = ClientRequestBuilder::new(uri).with_header("Origin", origin);
    if let Some(protocol) = protocol {
        builder = builder.with_sub_protocol(protocol);
    }
    match client(builder, stream) {
        Ok((socket, answer)) => {
            assert_eq!(answer.headers()["sec-websocket-protocol"], "sip");
            Ok(socket)
        }
        Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

const PAGE: &str = "https://phone.example.com";

fn browser(controld: &Controld) -> WebSocket<TcpStream> {
    open(tcp(controld.at("ws")), "/", PAGE, Some("sip")).unwrap()
}

/// A REGISTER as browsers send it: they know no address of their own (RFC 7118 §5).
fn browser_request(transport: &str, number: u32) -> String {
    let unknown = "127.0.0.1:1".parse().unwrap();
    let contact = "Contact: <sip:alice@df7jal23ls0d.invalid;transport=ws>\
        ;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-000000000001>\";reg-id=1\r\n\
        Supported: path, outbound\r\nExpires: 300\r\n";
    request("REGISTER", transport, unknown, number, contact)
        .replace("127.0.0.1:1;branch", "df7jal23ls0d.invalid;branch")
}

fn read<S: std::io::Read + std::io::Write>(socket: &mut WebSocket<S>) -> String {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn register<S: std::io::Read + std::io::Write>(socket: &mut WebSocket<S>, transport: &str) -> String {
    socket.send(Message::text(browser_request(transport, 1))).unwrap();
    let challenge = read(socket);
    assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    let again = authorised(&browser_request(transport, 2), &challenge);
    // Binary is as good as text (RFC 7118 §4.2).
    socket.send(Message::binary(again.into_bytes())).unwrap();
    read(socket)
}

#[test]
fn a_browser_registers_leaves_and_comes_back() {
    let controld = Controld::start(&["signalling.ws=['127.0.0.1:0']"]);
    for _ in 0..2 {
        let mut socket = browser(&controld);
        let answer = register(&mut socket, "WS");
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        for expected in [
            "Require: outbound",
            "Flow-Timer: 120",
            "reg-id=1",
            "+sip.instance=\"<urn:uuid:",
        ] {
            assert!(answer.contains(expected), "{expected} is missing in {answer}");
        }
        assert_eq!(controld.metric("controld_bindings"), 1.0);
        // Keepalives of those that cannot send pings.
        socket.send(Message::text("\r\n\r\n")).unwrap();
        assert_eq!(read(&mut socket), "\r\n");
        drop(socket);
        controld.until_metric("controld_bindings", 0.0);
        controld.until_metric("controld_ws_connections", 0.0);
    }
    assert_eq!(controld.metric("controld_ws_accepted_total"), 2.0);
}

/// RFC 6455 §5.5.1: whoever closes is told that it is, and who is silent for too long is told that too. Otherwise a page takes
/// its connection for broken.
#[test]
fn an_end_is_told_on_both_sides() {
    let controld = Controld::start(&["signalling.ws=['127.0.0.1:0']", "signalling.tcp_idle_s=1"]);
    for says_so in [true, false] {
        let mut socket = browser(&controld);
        if says_so {
            socket.close(None).unwrap();
        }
        let ends = |told: tungstenite::Result<Message>| match told {
            Ok(Message::Close(_)) => true,
            Ok(Message::Ping(_)) => false,
            other => panic!("{says_so}: {other:?}"),
        };
        while !ends(socket.read()) {}
    }
    controld.until_metric("controld_ws_connections", 0.0);
    assert_eq!(controld.metric("controld_ws_broken_total"), 0.0);
}

#[test]
fn over_tls_too() {
    let authority = Authority::new("wss");
    let own = authority.issue("sip", &["sip.example.com"]);
    let controld = Controld::start(&["signalling.wss=['127.0.0.1:0']", &Issued::setting(&[&own])]);
    let stream = connect(&authority.client(None), controld.at("wss"), "sip.example.com").unwrap();
    let mut socket = open(stream, "/sip", PAGE, Some("sip")).unwrap();
    let answer = register(&mut socket, "WSS");
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    let (_, page) = controld.page("/v1/registrations");
    assert!(page.contains("\"source\":\"wss:127.0.0.1:"), "{page}");
}

#[test]
fn other_paths_pages_and_protocols_are_refused() {
    let controld = Controld::start(&[
        "signalling.ws=['127.0.0.1:0']",
        "websocket.paths=['/sip']",
        "websocket.origins=['https://phone.example.com']",
    ]);
    let ws = || tcp(controld.at("ws"));
    assert!(open(ws(), "/sip", PAGE, Some("sip")).is_ok());
    assert_eq!(open(ws(), "/", PAGE, Some("sip")).err(), Some(404));
    assert_eq!(
        open(ws(), "/sip", "https://evil.example", Some("sip")).err(),
        Some(403)
    );
    assert_eq!(open(ws(), "/sip", PAGE, Some("chat")).err(), Some(400));
    assert_eq!(open(ws(), "/sip", PAGE, None).err(), Some(400));
    controld.until_metric("controld_ws_handshakes_failed_total", 4.0);
}

#[test]
fn who_answers_no_ping_or_sends_too_much_is_gone() {
    let controld = Controld::start(&["signalling.ws=['127.0.0.1:0']", "signalling.keepalive_s=1"]);
    let mut alive = browser(&controld);
    let mut greedy = browser(&controld);
    // Never read from: its pings are not answered.
    let dead = browser(&controld);
    controld.until_metric("controld_ws_connections", 3.0);
    let _ = greedy.send(Message::text("x".repeat(100_000)));
    controld.until_metric("controld_ws_broken_total", 1.0);
    // Reading answers pings.
    alive
        .get_ref()
        .set_read_timeout(Some(std::time::Duration::from_millis(50)))
        .unwrap();
    let since = std::time::Instant::now();
    while controld.metric("controld_ws_broken_total") < 2.0 {
        assert!(since.elapsed() < PATIENCE);
        let _ = alive.read();
    }
    assert_eq!(controld.metric("controld_ws_connections"), 1.0);
    alive.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let answer = register(&mut alive, "WS");
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    drop(dead);
}

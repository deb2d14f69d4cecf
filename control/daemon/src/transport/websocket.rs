//! SIP over WebSocket (RFC 7118): the handshake, and messages as they come and go.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use sip::{limits::Limits, stack::Flow};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode, header},
        protocol::WebSocketConfig,
    },
};

use super::streams::Shared;
use crate::{config::Websocket, limits};

const SUBPROTOCOL: &str = "sip";

/// Answers the opening handshake.
///
/// # Errors
/// The handshake was refused, or was none.
pub(super) async fn accept<S>(stream: S, rules: &Websocket) -> tungstenite::Result<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bytes_max = Limits::DEFAULT.message_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::WEBSOCKET_BUFFER_BYTES)
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    #[allow(
        clippy::result_large_err,
        reason = "the library's callback returns the whole response"
    )]
    let answer = |request: &Request, response: Response| check(rules, request, response);
    accept_hdr_async_with_config(stream, answer, Some(config)).await
}

#[allow(
    clippy::result_large_err,
    reason = "the library's callback returns the whole response"
)]
fn check(rules: &Websocket, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let path = request.uri().path();
    if !rules.paths.is_empty() && !rules.paths.iter().any(|known| known == path) {
        return Err(refusal(StatusCode::NOT_FOUND, "no SIP at this path"));
    }
    // Browsers say which page opened the connection; other programs need not, and could say anything.
    let origin = request.headers().get(header::ORIGIN);
    let is_known = |origin: &HeaderValue| {
        rules
            .origins
            .iter()
            .any(|known| origin.as_bytes() == known.as_bytes())
    };
    if !rules.origins.is_empty() && !origin.is_none_or(is_known) {
        return Err(refusal(StatusCode::FORBIDDEN, "this origin may not connect"));
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offered.iter().filter_map(|value| value.to_str().ok());
    // RFC 7118 §4.
    if !offered.any(|value| {
        value
            .split(',')
            .any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL))
    }) {
        return Err(refusal(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Protocol: sip is missing",
        ));
    }
    let value = HeaderValue::from_static(SUBPROTOCOL);
    response
        .headers_mut()
        .insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    Ok(response)
}

fn refusal(status: StatusCode, why: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(format!("{why}\n")));
    *response.status_mut() = status;
    response
}

/// Until the peer closes, does not answer pings, is silent for too long, or something breaks.
pub(super) async fn exchange<S>(
    shared: &Shared,
    mut socket: WebSocketStream<S>,
    flow: Flow,
    writes: &mut mpsc::Receiver<Bytes>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (keepalive, idle) = (shared.keepalive(), shared.idle());
    let (mut ping_at, mut idle_at) = (Instant::now() + keepalive, Instant::now() + idle);
    // A ping went out and nothing came since.
    let mut is_waiting = false;
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                (is_waiting, ping_at) = (false, Instant::now() + keepalive);
                let bytes = match message.map_err(io::Error::other)? {
                    Message::Text(text) => Bytes::from(text),
                    Message::Binary(bytes) => bytes,
                    Message::Close(_) => break,
                    // Pings are answered by the library.
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                };
                idle_at = Instant::now() + idle;
                if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                    // RFC 7118 §6: browsers, which cannot send pings, send CRLF CRLF.
                    if bytes.len() >= 4 {
                        send(&mut socket, Message::text("\r\n")).await?;
                    }
                    continue;
                }
                shared.deliver(flow, bytes).await?;
            }
            bytes = writes.recv() => {
                let Some(bytes) = bytes else { break };
                send(&mut socket, message_of(bytes)).await?;
                idle_at = Instant::now() + idle;
            }
            () = sleep_until(ping_at) => {
                if is_waiting {
                    return Err(io::Error::other("no answer to a ping"));
                }
                send(&mut socket, Message::Ping(Bytes::new())).await?;
                (is_waiting, ping_at) = (true, Instant::now() + keepalive);
            }
            () = sleep_until(idle_at) => break,
        }
    }
    // RFC 6455 §5.5.1: it is told that this is the end, or that we heard so.
    let _gone = timeout(limits::CONNECT_TIMEOUT, SinkExt::<Message>::close(&mut socket)).await;
    Ok(())
}

/// RFC 7118 §4.2: text when it is UTF-8, which browsers prefer; binary otherwise.
fn message_of(bytes: Bytes) -> Message {
    match tungstenite::Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(bytes),
    }
}

async fn send<S>(socket: &mut WebSocketStream<S>, message: Message) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(limits::CONNECT_TIMEOUT, socket.send(message)).await {
        Ok(sent) => sent.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rules: &Websocket, path: &str, headers: &[(&str, &str)]) -> Result<Response, u16> {
        let mut request = tungstenite::http::Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(rules, &request.body(()).unwrap(), Response::new(()))
            .map_err(|refused| refused.status().as_u16())
    }

    #[test]
    fn path_origin_and_subprotocol_are_checked() {
        let open = Websocket::default();
        let sip = ("sec-websocket-protocol", "chat, SIP");
        let taken = answer(&open, "/any", &[sip]).unwrap();
        assert_eq!(taken.headers()["sec-websocket-protocol"], "sip");
        assert_eq!(answer(&open, "/", &[]).unwrap_err(), 400);
        assert_eq!(
            answer(&open, "/", &[("sec-websocket-protocol", "chat")]).unwrap_err(),
            400
        );
        let closed = Websocket {
            paths: vec!["/sip".into()],
            origins: vec!["https://phone.example".into()],
        };
        let (good, bad) = (
            ("origin", "https://phone.example"),
            ("origin", "https://evil.example"),
        );
        assert!(answer(&closed, "/sip?token=1", &[sip, good]).is_ok());
        assert!(answer(&closed, "/sip", &[sip]).is_ok(), "no browser");
        assert_eq!(answer(&closed, "/sip", &[sip, bad]).unwrap_err(), 403);
        assert_eq!(answer(&closed, "/other", &[sip, good]).unwrap_err(), 404);
    }
}

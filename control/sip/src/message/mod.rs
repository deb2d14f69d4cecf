//! Requests and responses: bytes in, slices out, bytes out.
//!
//! [`parse_datagram`] and [`parse_stream_message`] cut a message into start line, header fields and body without
//! looking inside the fields; typed values are read on demand (`request.headers.via()`). Whatever is not edited is
//! written back as it came.

mod framer;
mod headers;
mod method;
mod multipart;
mod name;
mod parse;
mod response;
mod status;

pub use framer::{Frame, FramerRole, StreamFramer};
pub use headers::{Header, Headers, UnwritableHeader};
pub use method::{Method, OtherMethod};
pub(crate) use multipart::{drop_others, unwrap_description};
pub use name::{HeaderName, Name};
pub use parse::{ParseError, ParseProblem, parse_datagram, parse_stream_message};
pub use status::StatusCode;

use bytes::Bytes;

use crate::uri::{Uri, UriError};

/// A SIP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// The header fields.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The message as it goes on the wire.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

/// A request. Its URI is kept as text, so that digest authentication and forwarding see what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method of the request line.
    pub method: Method,
    uri: Bytes,
    /// The header fields, in order.
    pub headers: Headers,
    /// The body; Content-Length is written from its length.
    pub body: Bytes,
}

impl Request {
    /// A request with no header fields and no body.
    pub fn new(method: Method, uri: &Uri) -> Self {
        Self {
            method,
            uri: uri.as_bytes().clone(),
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// The Request-URI, parsed.
    ///
    /// # Errors
    /// The text is no URI: answer 400 (see [`crate::check`] for the whole rule).
    pub fn uri(&self) -> Result<Uri, UriError> {
        Uri::parse(self.uri.clone())
    }

    /// The Request-URI as it stands in the message.
    pub fn uri_text(&self) -> &Bytes {
        &self.uri
    }

    /// Replaces the Request-URI.
    pub fn set_uri(&mut self, uri: &Uri) {
        self.uri = uri.as_bytes().clone();
    }

    /// The message as it goes on the wire.
    pub fn to_bytes(&self) -> Bytes {
        let method = self.method.as_bytes();
        let length = method.len() + self.uri.len() + 12 + self.headers.written_length() + self.body.len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(method);
        out.push(b' ');
        out.extend_from_slice(&self.uri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        self.headers.write(&mut out, self.body.len());
        out.extend_from_slice(&self.body);
        out.into()
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    reason: Bytes,
    /// The header fields, in order.
    pub headers: Headers,
    /// The body; Content-Length is written from its length.
    pub body: Bytes,
}

impl Response {
    /// A response with the default phrase, no header fields and no body. Most callers want
    /// [`Response::to_request`].
    pub fn new(status: StatusCode) -> Self {
        let reason = Bytes::from_static(status.reason().as_bytes());
        Self {
            status,
            reason,
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// The reason phrase; any bytes but CR and LF, possibly none.
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Replaces the reason phrase. CR and LF become spaces; it is cut at
    /// [`REASON_PHRASE_BYTES_MAX`](crate::limits::REASON_PHRASE_BYTES_MAX).
    pub fn set_reason(&mut self, reason: &str) {
        let keep = |c: char| if c.is_control() { ' ' } else { c };
        let mut text: String = reason.chars().map(keep).collect();
        let mut end = text.len().min(crate::limits::REASON_PHRASE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        self.reason = text.into();
    }

    /// The message as it goes on the wire.
    pub fn to_bytes(&self) -> Bytes {
        let length = 14 + self.reason.len() + self.headers.written_length() + self.body.len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(b"SIP/2.0 ");
        out.extend_from_slice(self.status.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(&self.reason);
        out.extend_from_slice(b"\r\n");
        self.headers.write(&mut out, self.body.len());
        out.extend_from_slice(&self.body);
        out.into()
    }
}

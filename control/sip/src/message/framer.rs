//! Cuts a byte stream into messages and keepalives.

use bytes::{Buf, Bytes, BytesMut};

use super::parse::{content_length, parse_stream_message};
use super::{HeaderName, Message, ParseError, ParseProblem};
use crate::header::scan;
use crate::limits::Limits;

/// Which end of the connection we are; only the end that opened it sends pings (RFC 5626 §4.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramerRole {
    /// The peer connected to us: CRLFCRLF is its ping.
    Acceptor,
    /// We connected to the peer: CRLF is its pong.
    Initiator,
}

/// What a stream held next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, header section and body: give it to [`parse_stream_message`].
    Message(Bytes),
    /// CRLFCRLF: answer with CRLF.
    Ping,
    /// CRLF: the answer to our ping.
    Pong,
}

/// Finds message boundaries by Content-Length (RFC 3261 §18.3).
///
/// Give it what was read with [`push`](Self::push), then take frames with [`next_frame`](Self::next_frame) until
/// there is none. It holds at most one unfinished message, so memory is bounded by
/// [`Limits::message_bytes`] plus what one `push` brings.
#[derive(Debug)]
pub struct StreamFramer {
    limits: Limits,
    role: FramerRole,
    buffer: BytesMut,
    /// Bytes of `buffer` already searched for the end of the header section.
    searched: usize,
    /// Length of the message that `buffer` begins with, once its header section is there.
    total: Option<usize>,
    /// Set once the stream cannot be framed any more.
    broken: bool,
}

impl StreamFramer {
    /// A framer for a new connection.
    pub fn new(role: FramerRole, limits: Limits) -> Self {
        Self {
            limits,
            role,
            buffer: BytesMut::new(),
            searched: 0,
            total: None,
            broken: false,
        }
    }

    /// Appends what was read from the connection.
    pub fn push(&mut self, data: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(data);
        }
    }

    /// Bytes held that are not yet part of a frame.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// A message has begun and not ended: line ends between messages are none, half a ping for instance.
    pub fn is_amid_message(&self) -> bool {
        let first = self.buffer.first();
        first.is_some_and(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The stream cannot be cut any more: send the error's answer if it has one, then close the connection. Every
    /// later call returns `None`.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Box<ParseError>> {
        if self.broken {
            return Ok(None);
        }
        if self.searched == 0
            && let Some(keepalive) = self.keepalive()
        {
            return Ok(Some(keepalive));
        }
        if self.buffer.is_empty() || matches!(self.buffer[0], b'\r' | b'\n') {
            return Ok(None);
        }
        if self.total.is_none() {
            self.total = match self.measure() {
                Ok(total) => total,
                Err(problem) => return Err(self.fail(problem)),
            };
        }
        let Some(total) = self.total.take_if(|total| self.buffer.len() >= *total) else {
            return Ok(None);
        };
        self.searched = 0;
        Ok(Some(Frame::Message(self.buffer.split_to(total).freeze())))
    }

    /// Length of the message that has begun; `None` while its header section is not whole. Done once for each: a peer may
    /// send its body byte by byte.
    fn measure(&mut self) -> Result<Option<usize>, ParseProblem> {
        let header_end = self.header_end();
        let total = match header_end {
            Some(header_end) => header_end + self.body_length(header_end)?,
            None => self.buffer.len(),
        };
        if total > self.limits.message_bytes {
            return Err(ParseProblem::MessageTooLarge(total));
        }
        Ok(header_end.map(|_| total))
    }

    /// Takes line ends that stand between messages. A ping needs both of its CRLFs, so an acceptor waits for the
    /// byte after a first one.
    fn keepalive(&mut self) -> Option<Frame> {
        loop {
            match (self.role, &self.buffer[..]) {
                (FramerRole::Acceptor, [b'\r', b'\n', b'\r', b'\n', ..]) => {
                    self.buffer.advance(4);
                    return Some(Frame::Ping);
                }
                (FramerRole::Initiator, [b'\r', b'\n', ..]) => {
                    self.buffer.advance(2);
                    return Some(Frame::Pong);
                }
                (_, [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r']) => return None,
                // RFC 3261 §7.5: other empty lines before a start line are skipped.
                (_, [b'\r', b'\n', ..]) => self.buffer.advance(2),
                (_, [b'\r' | b'\n', ..]) => self.buffer.advance(1),
                _ => return None,
            }
        }
    }

    /// End of the header section, just after its empty line, by the same line rule as the parser's.
    fn header_end(&mut self) -> Option<usize> {
        let mut at = self.searched;
        while let Some(found) = memchr::memchr(b'\n', &self.buffer[at..]) {
            at += found + 1;
            match &self.buffer[at..] {
                [b'\n', ..] => return Some(at + 1),
                [b'\r', b'\n', ..] => return Some(at + 2),
                _ => {}
            }
        }
        self.searched = self.buffer.len().saturating_sub(3);
        None
    }

    fn body_length(&self, header_end: usize) -> Result<usize, ParseProblem> {
        let mut lines = self.buffer[..header_end]
            .split(|&byte| byte == b'\n')
            .skip(1)
            .peekable();
        let mut lengths = Vec::new();
        let mut has_content_type = false;
        while let Some(line) = lines.next() {
            let name_end = line
                .iter()
                .position(|&byte| !scan::is_token_byte(byte))
                .unwrap_or_default();
            match HeaderName::from_bytes(&line[..name_end]) {
                Some(HeaderName::ContentLength) => {
                    // A folded number could read differently here and in another parser on the path.
                    if matches!(lines.peek(), Some([b' ' | b'\t', ..])) {
                        return Err(ParseProblem::ContentLength("folded"));
                    }
                    let value = scan::trim(&line[name_end..])
                        .strip_prefix(b":")
                        .unwrap_or_default();
                    lengths.push(scan::trim(value));
                }
                Some(HeaderName::ContentType) => has_content_type = true,
                _ => {}
            }
        }
        let length = content_length(lengths.into_iter())?;
        let Some(length) = length else {
            return if has_content_type {
                Err(ParseProblem::ContentLengthMissing)
            } else {
                Ok(0)
            };
        };
        if length > self.limits.body_bytes as u64 {
            return Err(ParseProblem::BodyTooLarge(length));
        }
        Ok(length as usize)
    }

    /// Marks the stream broken and reads what can be read for an answer.
    fn fail(&mut self, problem: ParseProblem) -> Box<ParseError> {
        self.broken = true;
        let text = self.buffer.split().freeze();
        let request = match parse_stream_message(text, &self.limits) {
            Ok(Message::Request(request)) => Some(Box::new(request)),
            Ok(Message::Response(_)) => None,
            Err(error) => error.request,
        };
        let request = request.filter(|request| request.method != super::Method::Ack);
        Box::new(ParseError { problem, request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer may send a body byte by byte behind a header section of many kilobytes.
    #[test]
    fn a_header_section_is_read_once_however_its_body_comes() {
        let head = "MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 5\r\n\r\n";
        let mut framer = StreamFramer::new(FramerRole::Acceptor, Limits::DEFAULT);
        framer.push(head.as_bytes());
        assert_eq!(framer.next_frame(), Ok(None));
        // Who looked again would find another length.
        let length = head.len() - "5\r\n\r\n".len();
        framer.buffer[length] = b'4';
        for byte in *b"body" {
            framer.push(&[byte]);
            assert_eq!(framer.next_frame(), Ok(None));
        }
        framer.push(b"!");
        let frame = framer.next_frame();
        assert!(
            matches!(&frame, Ok(Some(Frame::Message(bytes))) if bytes.len() == head.len() + 5),
            "{frame:?}"
        );
    }
}

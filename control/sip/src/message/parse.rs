//! The lazy parser: start line, header fields, body.

use bytes::{Bytes, BytesMut};

use super::{Header, HeaderName, Headers, Message, Method, Request, Response, StatusCode};
use crate::header::scan;
use crate::limits::Limits;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseProblem {
    /// No line that could be a start line.
    #[error("empty message")]
    Empty,
    /// Above [`Limits::message_bytes`].
    #[error("message of {0} bytes is too large")]
    MessageTooLarge(usize),
    /// Above [`Limits::start_line_bytes`].
    #[error("start line of {0} bytes is too long")]
    StartLineTooLong(usize),
    /// The start line is not `Method SP Request-URI SP SIP-Version`.
    #[error("malformed request line")]
    RequestLine,
    /// The start line is not `SIP-Version SP Status-Code SP Reason-Phrase`.
    #[error("malformed status line")]
    StatusLine,
    /// The version is well-formed but not 2.0.
    #[error("unsupported SIP version")]
    Version,
    /// Line `0` (counted from 1 after the start line) is not a header field.
    #[error("malformed header field {0}")]
    HeaderLine(usize),
    /// Above [`Limits::header_line_bytes`].
    #[error("header field {0} is too long")]
    HeaderTooLong(usize),
    /// Above [`Limits::header_count`].
    #[error("too many header fields")]
    TooManyHeaders,
    /// Above [`Limits::via_count`].
    #[error("too many Via values")]
    TooManyVias,
    /// The header section has no empty line at its end.
    #[error("no empty line after the header fields")]
    Unterminated,
    /// Not a decimal number, or several that differ.
    #[error("Content-Length: {0}")]
    ContentLength(&'static str),
    /// A stream message with a body but without Content-Length.
    #[error("Content-Length: missing on a stream")]
    ContentLengthMissing,
    /// Content-Length promises more than the datagram holds.
    #[error("Content-Length: {promised} bytes promised, {present} present")]
    BodyShort {
        /// Bytes Content-Length states.
        promised: u64,
        /// Bytes that followed the header section.
        present: usize,
    },
    /// Above [`Limits::body_bytes`].
    #[error("body of {0} bytes is too large")]
    BodyTooLarge(u64),
}

impl ParseProblem {
    /// The status that answers it when the message was a request.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MessageTooLarge(_) => StatusCode::MESSAGE_TOO_LARGE,
            Self::StartLineTooLong(_) => StatusCode::REQUEST_URI_TOO_LONG,
            Self::Version => StatusCode::VERSION_NOT_SUPPORTED,
            Self::TooManyVias => StatusCode::TOO_MANY_HOPS,
            Self::BodyTooLarge(_) => StatusCode::REQUEST_ENTITY_TOO_LARGE,
            Self::Empty
            | Self::RequestLine
            | Self::StatusLine
            | Self::HeaderLine(_)
            | Self::HeaderTooLong(_)
            | Self::TooManyHeaders
            | Self::Unterminated
            | Self::ContentLength(_)
            | Self::ContentLengthMissing
            | Self::BodyShort { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

/// A message that was refused, with what is needed to answer it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ParseError {
    /// What is wrong; the first thing found.
    pub problem: ParseProblem,
    /// What could be read of a request other than ACK; `None` for responses and for bytes that are no SIP.
    pub request: Option<Box<Request>>,
}

impl ParseError {
    /// The answer owed to the sender: [`ParseProblem::status`] with a phrase that says what is wrong.
    ///
    /// `None` for responses and ACK, which are never answered, and where no Via says where an answer should go.
    pub fn answer(&self) -> Option<Response> {
        let request = self.request.as_deref()?;
        if request.method == Method::Ack || !request.headers.contains(HeaderName::Via) {
            return None;
        }
        let status = self.problem.status();
        let mut response = Response::to_request(request, status);
        response.set_reason(&format!("{} ({})", status.reason(), self.problem));
        Some(response)
    }
}

/// Parses one datagram, or one WebSocket message.
///
/// Without Content-Length the body runs to the end of the datagram; bytes after it are dropped
/// (RFC 3261 §18.3). Empty lines before the start line are skipped (§7.5).
///
/// # Errors
/// [`ParseError`]; send its [`answer`](ParseError::answer) if there is one.
pub fn parse_datagram(datagram: Bytes, limits: &Limits) -> Result<Message, ParseError> {
    parse(datagram, limits, Framing::Datagram)
}

/// Parses one message cut from a stream by [`StreamFramer`](super::StreamFramer): header section and exactly its
/// body.
///
/// # Errors
/// [`ParseError`]; the framing held, so the connection can stay.
pub fn parse_stream_message(message: Bytes, limits: &Limits) -> Result<Message, ParseError> {
    parse(message, limits, Framing::Stream)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Datagram,
    Stream,
}

enum StartLine {
    Request { method: Method, uri: Bytes },
    Response { status: StatusCode, reason: Bytes },
}

fn parse(mut text: Bytes, limits: &Limits, framing: Framing) -> Result<Message, ParseError> {
    let lead = text
        .iter()
        .position(|b| !matches!(b, b'\r' | b'\n'))
        .unwrap_or(text.len());
    bytes::Buf::advance(&mut text, lead);
    let whole = text.len();
    // An oversized message is still read, within the limit, for the fields its answer copies.
    text.truncate(limits.message_bytes);

    let mut lines = Lines { text: &text, at: 0 };
    let Some(first) = lines.next_line() else {
        return Err(ParseError {
            problem: ParseProblem::Empty,
            request: None,
        });
    };
    let (start, mut problem) = start_line(&text, first, limits);
    let Some(start) = start else {
        return Err(ParseError {
            problem: problem.unwrap_or(ParseProblem::RequestLine),
            request: None,
        });
    };
    if whole > limits.message_bytes {
        problem = Some(ParseProblem::MessageTooLarge(whole));
    }

    let section = header_section(&text, &mut lines, limits);
    let mut problem = problem.or(section.problem);
    let mut body = Bytes::new();
    if problem.is_none() {
        match cut_body(text.slice(lines.at..), &section.headers, limits, framing) {
            Ok(found) => body = found,
            Err(found) => problem = Some(found),
        }
    }
    let headers = section.headers;
    match (start, problem) {
        (StartLine::Request { method, uri }, None) => Ok(Message::Request(Request {
            method,
            uri,
            headers,
            body,
        })),
        (StartLine::Response { status, reason }, None) => Ok(Message::Response(Response {
            status,
            reason,
            headers,
            body,
        })),
        (StartLine::Request { method, uri }, Some(problem)) => {
            let request = (method != Method::Ack).then(|| {
                Box::new(Request {
                    method,
                    uri,
                    headers,
                    body,
                })
            });
            Err(ParseError { problem, request })
        }
        (StartLine::Response { .. }, Some(problem)) => Err(ParseError {
            problem,
            request: None,
        }),
    }
}

/// Reads the start line. A line that is clearly a request but wrong gives both a request to answer and a problem.
fn start_line(text: &Bytes, line: &[u8], limits: &Limits) -> (Option<StartLine>, Option<ParseProblem>) {
    if line
        .get(..4)
        .is_some_and(|lead| lead.eq_ignore_ascii_case(b"SIP/"))
    {
        return match status_line(text, line) {
            Ok(start) => (Some(start), None),
            Err(problem) => (None, Some(problem)),
        };
    }
    let Some(method_end) = line.iter().position(|&byte| byte == b' ') else {
        return (None, Some(ParseProblem::RequestLine));
    };
    let Some(method) = Method::from_bytes(&line[..method_end]) else {
        return (None, Some(ParseProblem::RequestLine));
    };
    let rest = &line[method_end + 1..];
    let (uri, version) = match rest.iter().rposition(|&byte| byte == b' ') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    // What comes after the version's major number decides between "not ours" (505) and "not SIP" (400).
    let is_sip = version
        .get(..4)
        .is_some_and(|lead| lead.eq_ignore_ascii_case(b"SIP/"));
    if !is_sip && !line.windows(5).any(|part| part.eq_ignore_ascii_case(b" SIP/")) {
        return (None, Some(ParseProblem::RequestLine));
    }
    let problem = if line.len() > limits.start_line_bytes {
        Some(ParseProblem::StartLineTooLong(line.len()))
    } else if !is_sip || uri.is_empty() || uri.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        // RFC 3261 §7.1: no space in the Request-URI, single spaces between the elements.
        Some(ParseProblem::RequestLine)
    } else {
        version_problem(version).err()
    };
    (
        Some(StartLine::Request {
            method,
            uri: text.slice_ref(uri),
        }),
        problem,
    )
}

fn status_line(text: &Bytes, line: &[u8]) -> Result<StartLine, ParseProblem> {
    let version_end = line
        .iter()
        .position(|&byte| byte == b' ')
        .ok_or(ParseProblem::StatusLine)?;
    version_problem(&line[..version_end]).map_err(|problem| match problem {
        ParseProblem::Version => problem,
        _ => ParseProblem::StatusLine,
    })?;
    let rest = &line[version_end + 1..];
    let (code, reason) = match rest.iter().position(|&byte| byte == b' ') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        // The space after the code is required, but its absence with an empty phrase harms no one.
        None => (rest, &[][..]),
    };
    let status = StatusCode::from_bytes(code).ok_or(ParseProblem::StatusLine)?;
    Ok(StartLine::Response {
        status,
        reason: text.slice_ref(reason),
    })
}

fn version_problem(version: &[u8]) -> Result<(), ParseProblem> {
    // RFC 3261 §7.1: the version is compared without case.
    if version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let mut parts = version.get(4..).unwrap_or_default().split(|&byte| byte == b'.');
    let is_number = |part: Option<&[u8]>| part.is_some_and(|part| scan::decimal(part).is_some());
    if is_number(parts.next()) && is_number(parts.next()) && parts.next().is_none() {
        Err(ParseProblem::Version)
    } else {
        Err(ParseProblem::RequestLine)
    }
}

struct Section {
    headers: Headers,
    problem: Option<ParseProblem>,
}

/// Reads header fields up to the empty line. Stops at the first problem that a count causes, steps over a broken
/// line, so that the answer can copy the fields around it.
fn header_section(text: &Bytes, lines: &mut Lines<'_>, limits: &Limits) -> Section {
    let mut headers = Headers::with_capacity(24);
    let mut problem: Option<ParseProblem> = None;
    let mut via_count = 0;
    let mut index = 0;
    let ended = loop {
        let Some(mut line) = lines.next_line() else {
            break false;
        };
        if line.is_empty() {
            break true;
        }
        index += 1;
        if index > limits.header_count {
            problem.get_or_insert(ParseProblem::TooManyHeaders);
            break true;
        }
        let mut folded = false;
        while lines.next_is_continuation() {
            folded = true;
            let start = line.as_ptr() as usize - text.as_ptr() as usize;
            let end = lines.continuation_end();
            line = &text[start..end];
        }
        if line.len() > limits.header_line_bytes {
            problem.get_or_insert(ParseProblem::HeaderTooLong(index));
            continue;
        }
        let owned = if folded {
            unfold(line)
        } else {
            text.slice_ref(line)
        };
        let field = if owned.contains(&b'\r') {
            None
        } else {
            Header::from_line(owned)
        };
        let Some(field) = field else {
            problem.get_or_insert(ParseProblem::HeaderLine(index));
            continue;
        };
        if field.name() == HeaderName::Via {
            via_count += 1 + field.value().iter().filter(|&&byte| byte == b',').count();
        }
        headers.push_field(field);
        if via_count > limits.via_count {
            problem.get_or_insert(ParseProblem::TooManyVias);
        }
    };
    if !ended {
        problem.get_or_insert(ParseProblem::Unterminated);
    }
    Section { headers, problem }
}

/// RFC 3261 §7.3.1: a line end followed by space is one space. The length stays, so every byte of the value that is
/// not part of a line end is where it was.
fn unfold(line: &[u8]) -> Bytes {
    let mut plain = BytesMut::from(line);
    let mut at = 0;
    while at < plain.len() {
        let is_end = plain[at] == b'\n' || (plain[at] == b'\r' && plain.get(at + 1) == Some(&b'\n'));
        if is_end {
            plain[at] = b' ';
        }
        at += 1;
    }
    plain.freeze()
}

fn cut_body(
    mut rest: Bytes,
    headers: &Headers,
    limits: &Limits,
    framing: Framing,
) -> Result<Bytes, ParseProblem> {
    let length = content_length(headers.fields(HeaderName::ContentLength).map(Header::value))?;
    let length = match (length, framing) {
        (Some(length), _) => length,
        (None, Framing::Datagram) => rest.len() as u64,
        (None, Framing::Stream) if headers.contains(HeaderName::ContentType) => {
            return Err(ParseProblem::ContentLengthMissing);
        }
        (None, Framing::Stream) => 0,
    };
    if length > limits.body_bytes as u64 {
        return Err(ParseProblem::BodyTooLarge(length));
    }
    if length > rest.len() as u64 {
        return Err(ParseProblem::BodyShort {
            promised: length,
            present: rest.len(),
        });
    }
    rest.truncate(length as usize);
    Ok(rest)
}

/// The one Content-Length: several are tolerated only when they agree.
pub(super) fn content_length<'a>(
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<u64>, ParseProblem> {
    let mut length = None;
    for value in values {
        let found = scan::decimal(value).ok_or(ParseProblem::ContentLength("not a number"))?;
        if length.is_some_and(|length| length != found) {
            return Err(ParseProblem::ContentLength("several that differ"));
        }
        length = Some(found);
    }
    Ok(length)
}

/// Lines that end in LF or CRLF. A last line without its end is no line.
struct Lines<'a> {
    text: &'a Bytes,
    at: usize,
}

impl<'a> Lines<'a> {
    fn next_line(&mut self) -> Option<&'a [u8]> {
        let text: &'a [u8] = self.text;
        let rest = text.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn next_is_continuation(&self) -> bool {
        matches!(self.text.get(self.at), Some(b' ' | b'\t'))
    }

    /// Steps over a continuation line; returns where its text ends. A continuation without a line end runs to the
    /// end of the text, where the missing empty line is then noticed.
    fn continuation_end(&mut self) -> usize {
        let start = self.at;
        match self.next_line() {
            Some(line) => start + line.len(),
            None => {
                self.at = self.text.len();
                self.at
            }
        }
    }
}

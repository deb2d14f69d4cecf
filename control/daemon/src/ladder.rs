//! One line of the log for each SIP message: who, which way, what. Never credentials.

use std::borrow::Cow;

use sip::stack::{Flow, Target};

/// Tells of a message received.
pub(crate) fn received(flow: &Flow, message: &[u8]) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let (transport, peer, line) = (flow.transport.uri_token(), flow.remote, Line::of(message));
    tracing::debug!(
        transport, %peer, start = %line.start, call_id = %line.call_id, cseq = %line.cseq, "sip rx"
    );
}

/// Tells of a message about to be sent.
pub(crate) fn sent(target: &Target, message: &[u8]) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let (transport, peer, line) = (target.transport().uri_token(), target.remote(), Line::of(message));
    tracing::debug!(
        transport, %peer, start = %line.start, call_id = %line.call_id, cseq = %line.cseq, "sip tx"
    );
}

struct Line<'a> {
    start: Cow<'a, str>,
    call_id: Cow<'a, str>,
    cseq: Cow<'a, str>,
}

impl<'a> Line<'a> {
    fn of(message: &'a [u8]) -> Self {
        const LINES_MAX: usize = 64;
        let mut lines = message
            .split(|&byte| byte == b'\n')
            .take(LINES_MAX)
            .map(<[u8]>::trim_ascii);
        let start = lines.next().unwrap_or_default();
        let start = start.strip_suffix(b" SIP/2.0").unwrap_or(start);
        let start = start.strip_prefix(b"SIP/2.0 ").unwrap_or(start);
        let (mut call_id, mut cseq): (&[u8], &[u8]) = (b"-", b"-");
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
                call_id = value;
            } else if name.eq_ignore_ascii_case(b"cseq") {
                cseq = value;
            }
        }
        Self {
            start: without_password(String::from_utf8_lossy(start)),
            call_id: String::from_utf8_lossy(call_id),
            cseq: String::from_utf8_lossy(cseq),
        }
    }
}

/// A URI may hold one (RFC 3261 §19.1.1: not recommended, and seen).
fn without_password(start: Cow<'_, str>) -> Cow<'_, str> {
    let parts = start.find(':').zip(start.find('@'));
    let Some((scheme, at)) = parts.filter(|(scheme, at)| scheme < at) else {
        return start;
    };
    match start[scheme + 1..at].find(':') {
        Some(colon) => format!("{}:***{}", &start[..scheme + 1 + colon], &start[at..]).into(),
        None => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_start_call_and_number_and_no_password() {
        let line =
            Line::of(b"INVITE sip:a:secret@h SIP/2.0\r\nCSeq: 7 INVITE\r\ni: x@y\r\n\r\nCSeq: 9 BYE\r\n");
        assert_eq!(line.start, "INVITE sip:a:***@h");
        assert_eq!((&*line.call_id, &*line.cseq), ("x@y", "7 INVITE"));
        let line = Line::of(b"SIP/2.0 180 Ringing\r\n\xff\r\n");
        assert_eq!((&*line.start, &*line.call_id), ("180 Ringing", "-"));
        assert_eq!(Line::of(b"").start, "");
    }
}

//! Bodies of several parts (RFC 2046 §5.1, RFC 5621): carriers wrap a session description up with what other networks
//! want to know of a call.

use bytes::Bytes;

use super::{Header, HeaderName, Headers, Method};
use crate::header::MediaType;

/// Parts that are looked at; a body with more of them is left as it is.
const PARTS_MAX: usize = 16;

/// Makes a session description that is one part of a body the whole body. Everything else is left as it is.
pub(crate) fn unwrap_description(headers: &mut Headers, body: &mut Bytes) {
    let kind = headers.get(HeaderName::ContentType).unwrap_or_default();
    let is_multipart = kind
        .get(..10)
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/"));
    if !is_multipart {
        return;
    }
    let Ok(Some(content_type)) = headers.content_type() else {
        return;
    };
    let boundary = content_type.params.unquoted("boundary");
    let Some(description) = boundary.and_then(|boundary| description_in(body, &boundary)) else {
        return;
    };
    headers.set_field(Header::from_typed(HeaderName::ContentType, b"application/sdp"));
    *body = description;
}

/// Takes a body away that is no session description, where nothing else could be meant by one: it was to be understood only
/// by who can (RFC 3261 §20.11), or refused before. What is left then has no offer and no answer.
pub(crate) fn drop_others(method: &Method, headers: &mut Headers, body: &mut Bytes) {
    let is_of_session = matches!(
        method,
        Method::Invite | Method::Ack | Method::Prack | Method::Update
    );
    // A phone that does not say what its body is means this.
    let is_description = || match headers.content_type() {
        Ok(Some(kind)) => kind.is("application", "sdp"),
        Ok(None) | Err(_) => body.starts_with(b"v="),
    };
    if is_of_session && !body.is_empty() && !is_description() {
        headers.remove(HeaderName::ContentType);
        *body = Bytes::new();
    }
}

/// The first part that is a session description.
fn description_in(body: &Bytes, boundary: &[u8]) -> Option<Bytes> {
    let mut rest = 0;
    let mut start = None;
    for _ in 0..=PARTS_MAX {
        let (at, after, is_last) = delimiter(body, rest, boundary)?;
        if let Some(start) = start.replace(after)
            && let Some(description) = description_of(&body.slice(start..at))
        {
            return Some(description);
        }
        if is_last {
            return None;
        }
        rest = after;
    }
    None
}

/// Where the next delimiter's line break begins, where the line after it does, and whether it is the last one.
fn delimiter(body: &[u8], from: usize, boundary: &[u8]) -> Option<(usize, usize, bool)> {
    let mut line = from;
    while line < body.len() {
        let end = body[line..].iter().position(|&byte| byte == b'\n');
        let next = end.map_or(body.len(), |end| line + end + 1);
        let found = body[line..next].strip_prefix(b"--");
        if let Some(after) = found.and_then(|found| found.strip_prefix(boundary)) {
            let is_last = after.starts_with(b"--");
            let padding = if is_last { &after[2..] } else { after };
            if padding.trim_ascii().is_empty() {
                // The line break before a delimiter belongs to that.
                let before = &body[..line];
                let before = before.strip_suffix(b"\n").unwrap_or(before);
                let before = before.strip_suffix(b"\r").unwrap_or(before);
                return Some((before.len().max(from), next, is_last));
            }
        }
        line = next;
    }
    None
}

/// A part's content, if it is a session description.
fn description_of(part: &Bytes) -> Option<Bytes> {
    let mut line = 0;
    let mut is_description = false;
    loop {
        let end = line + part.get(line..)?.iter().position(|&byte| byte == b'\n')?;
        let field = part[line..end].trim_ascii();
        line = end + 1;
        if field.is_empty() {
            return is_description.then(|| part.slice(line..));
        }
        let colon = field.iter().position(|&byte| byte == b':');
        let (name, value) = field.split_at(colon.unwrap_or(field.len()));
        if name.trim_ascii().eq_ignore_ascii_case(b"Content-Type") && !value.is_empty() {
            let parsed = MediaType::parse(&Bytes::copy_from_slice(&value[1..]));
            is_description = parsed.is_ok_and(|parsed| parsed.is("application", "sdp"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n";

    fn unwrapped(content_type: &str, body: &str) -> (String, String) {
        let mut headers = Headers::default();
        headers.push(HeaderName::ContentType, content_type).unwrap();
        let mut body = Bytes::copy_from_slice(body.as_bytes());
        unwrap_description(&mut headers, &mut body);
        let kind = headers.get(HeaderName::ContentType).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(kind), text(&body))
    }

    #[test]
    fn what_is_no_description_goes_and_one_that_is_not_named_stays() {
        for (content_type, body, stays) in [
            (Some("application/sdp"), SDP, true),
            (None, SDP, true),
            (None, "\u{1}x", false),
            (Some("application/ISUP"), "\u{1}x", false),
        ] {
            let (mut headers, mut left) = (Headers::default(), Bytes::copy_from_slice(body.as_bytes()));
            if let Some(content_type) = content_type {
                headers.push(HeaderName::ContentType, content_type).unwrap();
            }
            drop_others(&Method::Invite, &mut headers, &mut left);
            assert_eq!(left == body.as_bytes(), stays, "{content_type:?} {body:?}");
            assert_eq!(left.is_empty(), !stays);
        }
    }

    #[test]
    fn a_description_is_found_among_other_parts() {
        let isup = "Content-Type: application/ISUP;version=ansi\r\nContent-Disposition: signal;handling=optional\r\n\r\n\u{1}x\r\n";
        let described = format!("content-type : application/sdp\r\nContent-ID: <a>\r\n\r\n{SDP}");
        for body in [
            format!("--b1\r\n{described}\r\n--b1\r\n{isup}\r\n--b1--\r\n"),
            format!("preamble\r\n--b1  \r\n{isup}\r\n--b1\r\n{described}\r\n--b1--"),
            format!("\r\n--b1\n{described}\n--b1--\n"),
        ] {
            for kind in ["multipart/mixed;boundary=b1", "Multipart/Mixed; boundary=\"b1\""] {
                let found = unwrapped(kind, &body);
                assert_eq!(found, ("application/sdp".to_owned(), SDP.to_owned()), "{body}");
            }
        }
    }

    #[test]
    fn whatever_else_it_is_stays_as_it_is() {
        let many = format!(
            "{}--b\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b--",
            "--b\r\n\r\n\r\n".repeat(20)
        );
        for (kind, body) in [
            ("application/sdp", SDP),
            (
                "multipart/mixed",
                "--b\r\nContent-Type: application/sdp\r\n\r\nx\r\n--b--",
            ),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--",
            ),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Type: application/sdp\r\n\r\nno end",
            ),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Type: application/sdp\r\n--b--",
            ),
            (
                "multipart/mixed;boundary=b",
                "--bc\r\nContent-Type: application/sdp\r\n\r\nx\r\n--bc--",
            ),
            ("multipart/mixed;boundary=\"\"", "--"),
            ("multipart/mixed;boundary=b", &many),
        ] {
            assert_eq!(unwrapped(kind, body), (kind.to_owned(), body.to_owned()));
        }
    }
}

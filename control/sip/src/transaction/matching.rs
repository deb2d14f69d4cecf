//! Which server transaction a request belongs to.

use crate::header::{HeaderError, HeaderValue, MAGIC_COOKIE, Via};
use crate::message::{HeaderName, Headers, Method, Request};

/// The key of a server transaction (RFC 3261 §17.2.3).
///
/// With the magic cookie: branch, sent-by and method. Without it (RFC 2543): Request-URI, From tag, Call-ID, CSeq
/// number, the whole topmost Via and method. The To tag is left out there: an ACK has one that its INVITE has not, and
/// the rest already tells two requests of one sender apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(Vec<u8>);

impl ServerKey {
    /// The key of the transaction a request starts or repeats; for an ACK, the key of the INVITE it acknowledges.
    ///
    /// # Errors
    /// A field the key is made of is missing or cannot be read.
    pub fn of(request: &Request, via: &Via) -> Result<Self, HeaderError> {
        let method = match &request.method {
            Method::Ack => &Method::Invite,
            method => method,
        };
        Self::with_method(request, via, method)
    }

    /// The key of the INVITE that a CANCEL cancels (RFC 3261 §9.2).
    ///
    /// # Errors
    /// As [`ServerKey::of`].
    pub fn of_cancelled(cancel: &Request, via: &Via) -> Result<Self, HeaderError> {
        Self::with_method(cancel, via, &Method::Invite)
    }

    fn with_method(request: &Request, via: &Via, method: &Method) -> Result<Self, HeaderError> {
        let mut key = Vec::with_capacity(96);
        if via.has_unique_branch() {
            // Case-insensitive tokens (§7.3.1). The cookie is common to all and would only slow comparisons down.
            let branch = via.branch().unwrap_or_default();
            key.extend(branch[MAGIC_COOKIE.len()..].iter().map(u8::to_ascii_lowercase));
            key.push(0);
            let host = key.len();
            via.sent_by.host.write(&mut key);
            key[host..].make_ascii_lowercase();
            key.extend_from_slice(&via.sent_by.port.unwrap_or_default().to_be_bytes());
        } else {
            let headers = &request.headers;
            key.push(1);
            key.extend_from_slice(request.uri_text());
            key.push(0);
            key.extend_from_slice(headers.from()?.tag().unwrap_or_default());
            key.push(0);
            key.extend_from_slice(&headers.call_id()?);
            key.push(0);
            key.extend_from_slice(&headers.cseq()?.number.to_be_bytes());
            via.write(&mut key);
        }
        key.push(0);
        key.extend_from_slice(method.as_bytes());
        Ok(Self(key))
    }
}

/// What is equal in copies of one request that came over different paths (RFC 3261 §8.2.2.2): From tag, Call-ID, CSeq.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergeKey(Vec<u8>);

impl MergeKey {
    /// The key of a request without To tag, whose From was read before.
    ///
    /// # Errors
    /// Another field that the key is made of is missing or cannot be read.
    pub fn of(headers: &Headers) -> Result<Self, HeaderError> {
        let call_id = headers.call_id()?;
        let cseq = headers.cseq()?;
        let tag = headers.tag(HeaderName::From).unwrap_or_default();
        let mut key = Vec::with_capacity(tag.len() + call_id.len() + 16);
        key.extend_from_slice(tag);
        key.push(0);
        key.extend_from_slice(&call_id);
        key.push(0);
        key.extend_from_slice(&cseq.number.to_be_bytes());
        key.extend_from_slice(cseq.method.as_bytes());
        Ok(Self(key))
    }
}

//! The answers a stack owes before an application sees a request (RFC 3261 §8.2 and §16.3).
//!
//! A pure function of request and policy. 413, 414, 505 and 513 come from the parser
//! ([`ParseError::answer`](crate::message::ParseError::answer)); 481, 482, 491 and 500 need state and come from
//! transactions and dialogs.

use crate::header::{HeaderError, HeaderValue, OptionTags};
use crate::message::{HeaderName, Method, Request, Response, StatusCode};
use crate::uri::Scheme;

/// In what role a request is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// User agent server, B2BUA, registrar: the request ends here.
    Endpoint,
    /// The request will be sent on: Max-Forwards and Proxy-Require count.
    Proxy,
}

/// What is supported here.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// In what role.
    pub role: Role,
    /// Methods that are served; written into Allow.
    pub methods: &'a [Method],
    /// Option tags that may stand in Require (Endpoint) or Proxy-Require (Proxy).
    pub extensions: &'a [&'static str],
    /// Media types a body may have, as (type, subtype); written into Accept.
    pub content_types: &'a [(&'static str, &'static str)],
    /// Serve `tel:` Request-URIs.
    pub tel: bool,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to the transaction layer.
    Pass,
    /// Send this answer; nothing else happens. It goes to where the request came from when the topmost Via is what
    /// is wrong.
    Answer(Response),
    /// Nothing can be sent: a bad ACK, or a request without any Via. Count it.
    Drop(HeaderError),
}

impl Verdict {
    /// The answer, if there is one.
    pub fn answer(self) -> Option<Response> {
        match self {
            Self::Answer(response) => Some(response),
            Self::Pass | Self::Drop(_) => None,
        }
    }
}

/// Checks a request that parsed.
pub fn check_request(request: &Request, policy: &Policy<'_>) -> Verdict {
    let refusal = match check_syntax(request) {
        Err(error) if request.method == Method::Ack => return Verdict::Drop(error),
        Err(error) if !request.headers.contains(HeaderName::Via) => return Verdict::Drop(error),
        Err(error) => Some(bad_request(request, &error)),
        // RFC 3261 §17.1.1.3: an ACK is never answered, whatever it asks for.
        Ok(()) if request.method == Method::Ack => None,
        Ok(()) => match policy.role {
            Role::Endpoint => check_endpoint(request, policy),
            Role::Proxy => check_proxy(request, policy),
        },
    };
    refusal.map_or(Verdict::Pass, Verdict::Answer)
}

/// RFC 3261 §16.3 step 1: the fields without which nothing can be done, and those that will be read later.
fn check_syntax(request: &Request) -> Result<(), HeaderError> {
    let headers = &request.headers;
    if headers.vias()?.is_empty() {
        return Err(HeaderError {
            header: HeaderName::Via,
            problem: "missing",
        });
    }
    headers.from()?;
    let to = headers.to()?;
    headers.call_id()?;
    let cseq = headers.cseq()?;
    if cseq.method != request.method {
        return Err(HeaderError {
            header: HeaderName::CSeq,
            problem: "method differs from the request line",
        });
    }
    headers.max_forwards()?;
    let contacts = headers.contacts()?;
    headers.routes()?;
    headers.record_routes()?;
    headers.require()?;
    headers.proxy_require()?;
    headers.supported()?;
    if !request.body.is_empty() {
        // RFC 3261 §7.4.1: a body must say what it is.
        let content_type = headers.content_type()?;
        content_type.ok_or(HeaderError {
            header: HeaderName::ContentType,
            problem: "missing",
        })?;
    }
    // RFC 3261 §12.1.1: an INVITE that makes a dialog says where its sender is reached.
    if request.method == Method::Invite && to.tag().is_none() && contacts.is_empty() {
        return Err(HeaderError {
            header: HeaderName::Contact,
            problem: "missing",
        });
    }
    Ok(())
}

fn bad_request(request: &Request, error: &HeaderError) -> Response {
    let mut response = Response::to_request(request, StatusCode::BAD_REQUEST);
    response.set_reason(&format!("Bad Request ({error})"));
    response
}

fn check_endpoint(request: &Request, policy: &Policy<'_>) -> Option<Response> {
    // The order of RFC 3261 §8.2: method, header, content.
    check_method(request, policy)
        .or_else(|| check_uri(request, policy))
        .or_else(|| check_require(request, policy, HeaderName::Require))
        .or_else(|| check_content(request, policy))
}

fn check_proxy(request: &Request, policy: &Policy<'_>) -> Option<Response> {
    // The order of RFC 3261 §16.3.
    if let Some(refusal) = check_uri(request, policy) {
        return Some(refusal);
    }
    if request.headers.max_forwards() == Ok(Some(0)) {
        return Some(Response::to_request(request, StatusCode::TOO_MANY_HOPS));
    }
    check_require(request, policy, HeaderName::ProxyRequire)
}

fn check_method(request: &Request, policy: &Policy<'_>) -> Option<Response> {
    if policy.methods.contains(&request.method) {
        return None;
    }
    // A method nobody here has heard of is 501; one we know but do not serve is 405 (RFC 3261 §21.4.6, §21.5.2).
    let status = match request.method {
        Method::Other(_) => StatusCode::NOT_IMPLEMENTED,
        Method::Invite
        | Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Register
        | Method::Options
        | Method::Prack
        | Method::Update
        | Method::Info
        | Method::Refer
        | Method::Subscribe
        | Method::Notify
        | Method::Message
        | Method::Publish => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::to_request(request, status);
    // RFC 3261 §8.2.1: a 405 must have Allow.
    response.headers.push_value(
        HeaderName::Allow,
        &Words(policy.methods.iter().map(Method::as_str).collect()),
    );
    Some(response)
}

fn check_uri(request: &Request, policy: &Policy<'_>) -> Option<Response> {
    let refuse = |status: StatusCode, why: &str| {
        let mut response = Response::to_request(request, status);
        if !why.is_empty() {
            response.set_reason(&format!("{} (Request-URI: {why})", status.reason()));
        }
        Some(response)
    };
    let uri = match request.uri() {
        Ok(uri) => uri,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    // RFC 3261 §19.1.1 table 1: no headers in a Request-URI.
    if !uri.headers_text().is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "headers are not allowed");
    }
    match uri.scheme() {
        Scheme::Sip | Scheme::Sips => None,
        Scheme::Tel if policy.tel => None,
        // RFC 3261 §8.2.2.1.
        Scheme::Tel | Scheme::Other => refuse(StatusCode::UNSUPPORTED_URI_SCHEME, ""),
    }
}

/// RFC 3261 §8.2.2.3 and §16.3 step 5: not for CANCEL, whose Require belongs to the request it cancels.
fn check_require(request: &Request, policy: &Policy<'_>, header: HeaderName) -> Option<Response> {
    if request.method == Method::Cancel {
        return None;
    }
    let required = match header {
        HeaderName::ProxyRequire => request.headers.proxy_require(),
        _ => request.headers.require(),
    };
    let mut unsupported = OptionTags::default();
    for tag in required.ok()?.iter() {
        if !policy
            .extensions
            .iter()
            .any(|known| tag.eq_ignore_ascii_case(known.as_bytes()))
        {
            unsupported.push(tag.clone());
        }
    }
    if unsupported.is_empty() {
        return None;
    }
    let mut response = Response::to_request(request, StatusCode::BAD_EXTENSION);
    response.headers.push_value(HeaderName::Unsupported, &unsupported);
    Some(response)
}

fn check_content(request: &Request, policy: &Policy<'_>) -> Option<Response> {
    let accepted = || {
        let names: Vec<String> = policy
            .content_types
            .iter()
            .map(|(kind, sub)| format!("{kind}/{sub}"))
            .collect();
        names.join(", ")
    };
    // RFC 3261 §20.11: a body marked optional may be ignored.
    let optional = request
        .headers
        .get(HeaderName::ContentDisposition)
        .is_some_and(|value| {
            let lower = value.to_ascii_lowercase();
            lower
                .split(|&byte| byte == b';')
                .any(|part| part.trim_ascii() == b"handling=optional")
        });
    // A message (RFC 3428) is read by whom it is for, and that is not us. What an INFO (RFC 6086) holds is between the two
    // of a dialog, of whom we may be none.
    let is_passed_on = matches!(request.method, Method::Message | Method::Info);
    // What ends something ends it whatever it says of why: refused, a call would go on that its peer has left.
    let is_an_end = matches!(request.method, Method::Bye | Method::Cancel);
    if !request.body.is_empty() && !optional && !is_passed_on && !is_an_end {
        let content_type = request.headers.content_type().ok()??;
        if !policy
            .content_types
            .iter()
            .any(|(kind, subtype)| content_type.is(kind, subtype))
        {
            let mut response = Response::to_request(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            response
                .headers
                .push_value(HeaderName::Accept, &Words(vec![&accepted()]));
            return Some(response);
        }
        let encoding = request.headers.get(HeaderName::ContentEncoding);
        if encoding
            .is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity") && !encoding.is_empty())
        {
            let mut response = Response::to_request(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            response
                .headers
                .push_value(HeaderName::AcceptEncoding, &Words(vec!["identity"]));
            return Some(response);
        }
    }
    // RFC 4475 §3.3.15: an INVITE whose sender takes none of what we could answer with.
    if request.method == Method::Invite {
        let accept = match request.headers.accept() {
            Ok(accept) => accept?,
            Err(error) => return Some(bad_request(request, &error)),
        };
        let covered = |range: &crate::header::MediaType| {
            policy
                .content_types
                .iter()
                .any(|(kind, subtype)| range.covers(kind, subtype))
        };
        if !accept.iter().any(covered) {
            return Some(Response::to_request(request, StatusCode::NOT_ACCEPTABLE));
        }
    }
    None
}

/// Words of our own, written as a comma-separated list.
struct Words<'a>(Vec<&'a str>);

impl HeaderValue for Words<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.join(", ").as_bytes());
    }
}

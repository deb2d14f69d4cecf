//! URIs: sip, sips, tel, and others kept as text.

use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use crate::header::{Params, scan};
use crate::text::{push_ip, push_number};

/// Why text is not a URI we can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// No `scheme:` in front.
    #[error("no URI scheme")]
    Scheme,
    /// Bytes that a URI cannot hold: space, control, quote, angle bracket.
    #[error("illegal character in URI")]
    Character,
    /// `%` without two hexadecimal digits in a place where it must be an escape.
    #[error("bad escape in URI")]
    Escape,
    /// No host, or not a hostname, IPv4 or bracketed IPv6 address.
    #[error("bad host in URI")]
    Host,
    /// Not a number from 1 to 65535 (0 is kept: some endpoints send it for "none").
    #[error("bad port in URI")]
    Port,
    /// Empty user part before `@`.
    #[error("empty user in URI")]
    User,
    /// Malformed or too many parameters.
    #[error("bad parameters in URI")]
    Params,
    /// Not a telephone number.
    #[error("bad telephone number")]
    Number,
}

/// The scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Anything else: kept as text, answered with 416 as a Request-URI.
    Other,
}

/// A host as it stands in a URI or Via.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A hostname, as sent; compared without case by [`Host::matches`].
    Name(Bytes),
    /// An IPv4 address, or an IPv6 address that stood in brackets.
    Ip(IpAddr),
}

impl Host {
    /// Reads a hostname, an IPv4 address or a bracketed IPv6 address.
    pub fn parse(text: Bytes) -> Option<Self> {
        if let [b'[', inner @ .., b']'] = &text[..] {
            let address: Ipv6Addr = std::str::from_utf8(inner).ok()?.parse().ok()?;
            return Some(Self::Ip(address.into()));
        }
        // RFC 3261 §25.1 hostname, and underscores, which real networks have. A name whose last label starts with
        // a digit can only be an IPv4 address.
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if text.is_empty() || text.len() > 255 || !text.iter().all(|&b| is_name(b)) || text[0] == b'.' {
            return None;
        }
        let last = text
            .strip_suffix(b".")
            .unwrap_or(&text)
            .rsplit(|&b| b == b'.')
            .next()?;
        if last.iter().all(u8::is_ascii_digit) {
            return std::str::from_utf8(&text).ok()?.parse().ok().map(Self::Ip);
        }
        Some(Self::Name(text))
    }

    /// The address, unless it is a name. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn as_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(ip.to_canonical()),
        }
    }

    /// Equal by RFC 3261 §19.1.4: names without case, addresses by value.
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Name(_), Self::Ip(_)) | (Self::Ip(_), Self::Name(_)) => false,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Name(name) => out.extend_from_slice(name),
            Self::Ip(ip @ IpAddr::V4(_)) => push_ip(out, *ip),
            Self::Ip(ip @ IpAddr::V6(_)) => {
                out.push(b'[');
                push_ip(out, *ip);
                out.push(b']');
            }
        }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{}", String::from_utf8_lossy(name)),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A port: one to five digits, at most 65535.
pub(crate) fn parse_port(text: &[u8]) -> Option<u16> {
    if text.len() > 5 {
        return None;
    }
    scan::decimal(text).and_then(|port| u16::try_from(port).ok())
}

/// A URI. Keeps its text: what was received is what is compared in digests and sent on.
///
/// `==` compares text; [`Uri::matches`] compares by RFC 3261 §19.1.4.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    text: Bytes,
    scheme: Scheme,
    user: Range<u16>,
    password: Option<Range<u16>>,
    host: Option<Host>,
    port: Option<u16>,
    params: Range<u16>,
    headers: Range<u16>,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`UriError`] says which part is wrong.
    pub fn parse(text: Bytes) -> Result<Self, UriError> {
        if text.len() > usize::from(u16::MAX) || text.iter().any(|&byte| !is_uri_byte(byte)) {
            return Err(UriError::Character);
        }
        let colon = text
            .iter()
            .position(|&byte| byte == b':')
            .ok_or(UriError::Scheme)?;
        let scheme = &text[..colon];
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(|&b| is_scheme(b)) {
            return Err(UriError::Scheme);
        }
        if scheme.eq_ignore_ascii_case(b"sip") {
            Self::parse_sip(text, Scheme::Sip, colon + 1)
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            Self::parse_sip(text, Scheme::Sips, colon + 1)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            Self::parse_tel(text)
        } else {
            Ok(Self::bare(text, Scheme::Other))
        }
    }

    fn bare(text: Bytes, scheme: Scheme) -> Self {
        let end = text.len() as u16;
        let (user, params, headers) = (end..end, end..end, end..end);
        Self {
            text,
            scheme,
            user,
            password: None,
            host: None,
            port: None,
            params,
            headers,
        }
    }

    fn parse_sip(text: Bytes, scheme: Scheme, start: usize) -> Result<Self, UriError> {
        let mut uri = Self::bare(text, scheme);
        let text = uri.text.clone();
        // The user part may hold `;` and `?`, so `@` is looked for first; it stands nowhere else unescaped.
        let mut at = start;
        if let Some(length) = text[start..].iter().position(|&byte| byte == b'@') {
            let userinfo = &text[start..start + length];
            let user_length = userinfo.iter().position(|&byte| byte == b':').unwrap_or(length);
            if user_length == 0 {
                return Err(UriError::User);
            }
            check_escapes(userinfo)?;
            uri.user = range(start, start + user_length);
            if user_length < length {
                uri.password = Some(range(start + user_length + 1, start + length));
            }
            at = start + length + 1;
        }
        let rest = &text[at..];
        let host_length = match rest.first() {
            Some(b'[') => rest.iter().position(|&byte| byte == b']').ok_or(UriError::Host)? + 1,
            _ => rest
                .iter()
                .position(|&byte| matches!(byte, b':' | b';' | b'?'))
                .unwrap_or(rest.len()),
        };
        uri.host = Some(Host::parse(text.slice(at..at + host_length)).ok_or(UriError::Host)?);
        at += host_length;
        if text.get(at) == Some(&b':') {
            let digits = text[at + 1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            uri.port = Some(parse_port(&text[at + 1..at + 1 + digits]).ok_or(UriError::Port)?);
            at += 1 + digits;
        }
        if !matches!(text.get(at), None | Some(b';' | b'?')) {
            // `sip:h:50x` and an IPv6 address without brackets (RFC 5118 §4.2) end here.
            return Err(if uri.port.is_some() {
                UriError::Port
            } else {
                UriError::Host
            });
        }
        uri.parse_tail(&text, at)?;
        Ok(uri)
    }

    fn parse_tail(&mut self, text: &Bytes, at: usize) -> Result<(), UriError> {
        let params_length = text[at..]
            .iter()
            .position(|&byte| byte == b'?')
            .unwrap_or(text.len() - at);
        let params = &text[at..at + params_length];
        check_uri_params(params)?;
        self.params = range(at, at + params_length);
        let headers = (at + params_length + 1).min(text.len());
        check_escapes(&text[headers..])?;
        self.headers = range(headers, text.len());
        Ok(())
    }

    fn parse_tel(text: Bytes) -> Result<Self, UriError> {
        let mut uri = Self::bare(text, Scheme::Tel);
        let text = uri.text.clone();
        let number_length = text[4..]
            .iter()
            .position(|&byte| byte == b';')
            .unwrap_or(text.len() - 4);
        let number = &text[4..4 + number_length];
        // RFC 3966 §3: global numbers start with `+`; local ones may hold hex digits, `*` and `#`.
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        let is_phone = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b'.' | b'(' | b')' | b'*' | b'#');
        if !digits.iter().all(is_phone) || !digits.iter().any(|b| b.is_ascii_hexdigit() || b"*#".contains(b))
        {
            return Err(UriError::Number);
        }
        check_uri_params(&text[4 + number_length..])?;
        uri.user = range(4, 4 + number_length);
        uri.params = range(4 + number_length, text.len());
        Ok(uri)
    }

    /// A `sip:` URI from parts; the user is escaped where it must be.
    pub fn sip(user: Option<&str>, host: &Host, port: Option<u16>) -> Self {
        let mut text = b"sip:".to_vec();
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            escape_user(user.as_bytes(), &mut text);
            text.push(b'@');
        }
        host.write(&mut text);
        if let Some(port) = port {
            text.push(b':');
            push_number(&mut text, port);
        }
        Self::parse(text.into()).expect("an escaped user, a valid host and a port make a valid URI")
    }

    /// The same URI with a parameter set (RFC 3261 §19.1.1); a value that needs it is escaped.
    ///
    /// # Panics
    /// When `name` is not a token: names come from our code.
    #[must_use]
    pub fn with_param(&self, name: &str, value: Option<&str>) -> Self {
        let mut params = self.params();
        let escaped = value.map(|value| {
            let mut out = Vec::with_capacity(value.len());
            escape(value.as_bytes(), is_param_byte, &mut out);
            out
        });
        params.set(name, escaped.as_deref());
        self.with_params(&params)
    }

    /// The same URI without a parameter.
    #[must_use]
    pub fn without_param(&self, name: &str) -> Self {
        let mut params = self.params();
        if params.remove(name) {
            self.with_params(&params)
        } else {
            self.clone()
        }
    }

    /// The same URI without its `?headers`, as a Request-URI must be (RFC 3261 §19.1.1 table 1).
    #[must_use]
    pub fn without_headers(&self) -> Self {
        if self.headers.is_empty() {
            return self.clone();
        }
        let end = usize::from(self.params.end);
        Self::parse(self.text.slice(..end)).unwrap_or_else(|_| self.clone())
    }

    fn with_params(&self, params: &Params) -> Self {
        let (start, end) = (usize::from(self.params.start), usize::from(self.params.end));
        let mut text = self.text[..start].to_vec();
        text.extend_from_slice(params.as_bytes());
        text.extend_from_slice(&self.text[end..]);
        Self::parse(text.into()).unwrap_or_else(|_| self.clone())
    }

    /// The URI as it was received.
    pub fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The scheme's text, as received.
    pub fn scheme_text(&self) -> &[u8] {
        self.text.split(|&byte| byte == b':').next().unwrap_or_default()
    }

    /// True for `sip:` and `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part as received (for `tel:`, the number); `None` when there is none.
    pub fn user(&self) -> Option<&[u8]> {
        Some(self.cut(&self.user)).filter(|user| !user.is_empty())
    }

    /// The user part with escapes resolved. May hold any byte, NUL included (`%00`).
    pub fn user_unescaped(&self) -> Option<Cow<'_, [u8]>> {
        self.user().map(unescape)
    }

    /// The password part as received.
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_ref().map(|range| self.cut(range))
    }

    /// The host; `None` for `tel:` and other schemes.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The port, when one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The URI's parameters.
    pub fn params(&self) -> Params {
        Params::from_uri(
            self.text
                .slice(usize::from(self.params.start)..usize::from(self.params.end)),
        )
    }

    /// A parameter's value, as received.
    pub fn param(&self, name: &str) -> Option<Bytes> {
        self.params().value_bytes(name)
    }

    /// The `transport` parameter.
    pub fn transport(&self) -> Option<Bytes> {
        self.param("transport")
    }

    /// True with `lr`: the owner of this Route is a loose router.
    pub fn is_loose_router(&self) -> bool {
        self.params().contains("lr")
    }

    /// The text after `?`; empty when there is none.
    pub fn headers_text(&self) -> &[u8] {
        self.cut(&self.headers)
    }

    /// Names and unescaped values after `?`, such as `Replaces` in a Refer-To.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Cow<'_, [u8]>)> {
        self.headers_text()
            .split(|&byte| byte == b'&')
            .filter(|part| !part.is_empty())
            .map(|part| match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (&part[..at], unescape(&part[at + 1..])),
                None => (part, Cow::Borrowed(&[][..])),
            })
    }

    fn cut(&self, range: &Range<u16>) -> &[u8] {
        &self.text[usize::from(range.start)..usize::from(range.end)]
    }

    /// Equal by the rules of RFC 3261 §19.1.4 (sip, sips), RFC 3966 §4 (tel, without visual separators), or text.
    pub fn matches(&self, other: &Self) -> bool {
        if self.scheme != other.scheme {
            return false;
        }
        match self.scheme {
            Scheme::Sip | Scheme::Sips => self.matches_sip(other),
            Scheme::Tel => self.matches_tel(other),
            Scheme::Other => self.text == other.text,
        }
    }

    fn matches_sip(&self, other: &Self) -> bool {
        // User and password with case, escapes resolved; host without case; a written default port differs from
        // an absent one.
        let same_host = match (&self.host, &other.host) {
            (Some(a), Some(b)) => a.matches(b),
            _ => false,
        };
        self.user_unescaped() == other.user_unescaped()
            && self.password().map(unescape) == other.password().map(unescape)
            && same_host
            && self.port == other.port
            && same_params(&self.params(), &other.params())
            && self.same_headers(other)
    }

    fn matches_tel(&self, other: &Self) -> bool {
        let digits = |uri: &Self| -> Vec<u8> {
            let number = uri.user().unwrap_or_default().iter();
            number
                .filter(|byte| !b"-.()".contains(byte))
                .map(u8::to_ascii_lowercase)
                .collect()
        };
        let (a, b) = (self.params(), other.params());
        let covers = |a: &Params, b: &Params| {
            a.iter()
                .all(|(name, _)| match (value_of(a, name), value_of(b, name)) {
                    (Some(own), Some(found)) => own.eq_ignore_ascii_case(found),
                    (Some(_) | None, _) => false,
                })
        };
        digits(self) == digits(other) && covers(&a, &b) && covers(&b, &a)
    }

    fn same_headers(&self, other: &Self) -> bool {
        let sorted = |uri: &Self| {
            let lower =
                |(name, value): (&[u8], Cow<'_, [u8]>)| (name.to_ascii_lowercase(), value.into_owned());
            let mut headers: Vec<(Vec<u8>, Vec<u8>)> = uri.headers().map(lower).collect();
            headers.sort();
            headers
        };
        self.headers.is_empty() && other.headers.is_empty() || sorted(self) == sorted(other)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.text))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text.escape_ascii())
    }
}

impl std::str::FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// RFC 3261 §19.1.4: a parameter in both must match; `user`, `ttl`, `method`, `maddr` (and, by its erratum,
/// `transport`) must be in both or neither; others may be in one only.
fn same_params(a: &Params, b: &Params) -> bool {
    let one_way = |a: &Params, b: &Params| {
        a.iter().all(|(name, _)| {
            if let (Some(own), Some(found)) = (value_of(a, name), value_of(b, name)) {
                return unescape(own).eq_ignore_ascii_case(&unescape(found));
            }
            let decides = ["user", "ttl", "method", "maddr", "transport"];
            !decides
                .iter()
                .any(|decisive| name.eq_ignore_ascii_case(decisive.as_bytes()))
        })
    };
    one_way(a, b) && one_way(b, a)
}

/// The value of a parameter, empty if it has none; `None` when it is absent. Names are bytes, which need not be text; of
/// those that come twice, which none may, the first counts, as everywhere.
fn value_of<'a>(params: &'a Params, name: &[u8]) -> Option<&'a [u8]> {
    let mut all = params.iter();
    let (_, value) = all.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
    Some(value.unwrap_or_default())
}

fn range(start: usize, end: usize) -> Range<u16> {
    start as u16..end as u16
}

/// What may stand anywhere in a URI: printable ASCII without the delimiters of its surroundings. Bytes above 0x7F
/// are not legal but common (UTF-8 users); they change no structure and are kept.
fn is_uri_byte(byte: u8) -> bool {
    byte > 0x20 && byte != 0x7f && !matches!(byte, b'<' | b'>' | b'"')
}

fn is_param_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&byte)
}

fn check_escapes(text: &[u8]) -> Result<(), UriError> {
    let bad = |at: usize| {
        !text
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    let mut escapes = text.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    if escapes.any(|(at, _)| bad(at)) {
        Err(UriError::Escape)
    } else {
        Ok(())
    }
}

fn check_uri_params(text: &[u8]) -> Result<(), UriError> {
    if text.is_empty() {
        return Ok(());
    }
    let mut count = 0;
    for param in text[1..].split(|&byte| byte == b';') {
        count += 1;
        let name = param.split(|&byte| byte == b'=').next().unwrap_or_default();
        if name.is_empty() || param.contains(&b',') || count > crate::limits::PARAM_COUNT_MAX {
            return Err(UriError::Params);
        }
        check_escapes(param)?;
    }
    Ok(())
}

/// Resolves `%XX`; text without escapes is borrowed.
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return text.into();
    }
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escaped = match text.get(at + 1..at + 3) {
            Some(&[high, low]) if byte == b'%' => hex(high).zip(hex(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                plain.push(high << 4 | low);
                at += 3;
            }
            None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    plain.into()
}

/// Escapes a user part (RFC 3261 §25.1 `user`).
pub fn escape_user(text: &[u8], out: &mut Vec<u8>) {
    escape(
        text,
        |byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte),
        out,
    );
}

/// Escapes a header value for the part after `?` of a URI.
pub fn escape_header(text: &[u8], out: &mut Vec<u8>) {
    escape(
        text,
        |byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(&byte),
        out,
    );
}

fn escape(text: &[u8], keep: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    for &byte in text {
        if keep(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

//! Via.

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

use super::{HeaderValue, Params, Problem, params::pieces, scan::Cursor};
use crate::text::{push_ip, push_number};
use crate::uri::{Host, parse_port};

/// The `host[:port]` of a Via.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentBy {
    /// Where the sender says it listens.
    pub host: Host,
    /// Its port; the transport's default when absent.
    pub port: Option<u16>,
}

/// One Via value (RFC 3261 §20.42).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS` or any other token, as sent; compare without case.
    pub transport: Bytes,
    /// Where the sender says it listens.
    pub sent_by: SentBy,
    /// `branch`, `received`, `rport`, `maddr`, `ttl` and others.
    pub params: Params,
}

/// RFC 3261 §8.1.1.7: a branch that starts so is unique in space and time.
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

impl Via {
    /// A Via of our own; `branch` is a token.
    pub(crate) fn new(transport: &'static str, host: Host, port: Option<u16>, branch: &[u8]) -> Self {
        // RFC 3581 §3: rport is always asked for, so that answers come back through any NAT.
        let params = [b";branch=", branch, b";rport"].concat();
        Self {
            transport: Bytes::from_static(transport.as_bytes()),
            sent_by: SentBy { host, port },
            params: Params::written(params),
        }
    }

    /// Reads one value (not a comma-separated line: see [`Headers::vias`](crate::message::Headers::vias)).
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let protocol = cursor.token("missing protocol")?;
        cursor.expect(b'/', "malformed protocol")?;
        let version = cursor.token("missing protocol version")?;
        if !protocol.eq_ignore_ascii_case(b"SIP") || version != b"2.0" {
            return Err("protocol is not SIP/2.0");
        }
        cursor.expect(b'/', "malformed protocol")?;
        let transport = cursor.token("missing transport")?;
        let transport = cursor.slice_of(transport);
        if !cursor.peek().is_some_and(super::scan::is_space) {
            return Err("no space after the transport");
        }
        cursor.skip_space();
        let start = cursor.at();
        if cursor.peek() == Some(b'[') {
            cursor.take_while(|byte| byte != b']' && byte != b';');
            cursor.bump(1);
        } else {
            cursor.take_while(|byte| !matches!(byte, b':' | b';') && !super::scan::is_space(byte));
        }
        let host = Host::parse(cursor.since(start)).ok_or("bad sent-by host")?;
        // RFC 3261 §25.1 allows space around the colon: `first.example.com : 5060`.
        let port = if cursor.eat(b':') {
            let digits = cursor.take_while(|byte| byte.is_ascii_digit());
            Some(parse_port(digits).ok_or("bad sent-by port")?)
        } else {
            None
        };
        let params = Params::parse(&mut cursor)?;
        let via = Self {
            transport,
            sent_by: SentBy { host, port },
            params,
        };
        via.check_params()?;
        Ok(via)
    }

    fn check_params(&self) -> Result<(), Problem> {
        let (mut rport, mut received, mut ttl) = (None, None, None);
        for (name, value) in self.params.iter() {
            let first = match name.len() {
                5 if name.eq_ignore_ascii_case(b"rport") => &mut rport,
                8 if name.eq_ignore_ascii_case(b"received") => &mut received,
                3 if name.eq_ignore_ascii_case(b"ttl") => &mut ttl,
                _ => continue,
            };
            first.get_or_insert(value);
        }
        let is_bad = |param: Option<Option<&[u8]>>, is_good: fn(&[u8]) -> bool| {
            param.flatten().is_some_and(|value| !is_good(value))
        };
        if is_bad(rport, |port| parse_port(port).is_some()) {
            return Err("bad rport");
        }
        if is_bad(received, |host| parse_ip(host).is_some()) {
            return Err("received is not an IP address");
        }
        if is_bad(ttl, |ttl| matches!(super::scan::decimal(ttl), Some(0..=255))) {
            return Err("ttl is not a number from 0 to 255");
        }
        Ok(())
    }

    /// The branch, compared as bytes without case (a token).
    pub fn branch(&self) -> Option<&[u8]> {
        self.params.get("branch")
    }

    /// True when the branch identifies its transaction by RFC 3261 §17.2.3: cookie and something after it.
    pub fn has_unique_branch(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len()
                && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }

    /// Where the request came from, as the next hop saw it.
    pub fn received(&self) -> Option<IpAddr> {
        self.params.get("received").and_then(parse_ip)
    }

    /// The port the request came from, as the next hop saw it (RFC 3581).
    pub fn rport(&self) -> Option<u16> {
        self.params.get("rport").and_then(parse_port)
    }

    /// True when the sender asked for its port (`rport` with or without value, RFC 3581).
    pub fn wants_rport(&self) -> bool {
        self.params.contains("rport")
    }

    /// The multicast or alternative address answers go to.
    pub fn maddr(&self) -> Option<Host> {
        self.params.value_bytes("maddr").and_then(Host::parse)
    }

    /// Time to live for multicast.
    pub fn ttl(&self) -> Option<u8> {
        self.params
            .get("ttl")
            .and_then(super::scan::decimal)
            .and_then(|ttl| u8::try_from(ttl).ok())
    }

    /// Notes where the request really came from: `received` always when it differs from the sent-by host or when
    /// `rport` was asked for (RFC 3581 §4), and the `rport` value. Returns whether anything changed.
    pub fn stamp_source(&mut self, source: SocketAddr) -> bool {
        let ip = source.ip().to_canonical();
        let differs = self.sent_by.host.as_ip() != Some(ip);
        let wants_rport = self.wants_rport();
        let is_stamped = differs || wants_rport;
        if is_stamped {
            let mut text = Vec::with_capacity(self.params.as_bytes().len() + 48);
            for (param, name, _) in pieces(self.params.as_bytes()) {
                if name.eq_ignore_ascii_case(b"rport") {
                    text.extend_from_slice(b";rport=");
                    push_number(&mut text, source.port());
                } else if !name.eq_ignore_ascii_case(b"received") {
                    text.extend_from_slice(param);
                }
            }
            text.extend_from_slice(b";received=");
            push_ip(&mut text, ip);
            self.params = Params::written(text);
        }
        is_stamped
    }
}

impl HeaderValue for Via {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0/");
        out.extend_from_slice(&self.transport);
        out.push(b' ');
        self.sent_by.host.write(out);
        if let Some(port) = self.sent_by.port {
            out.push(b':');
            push_number(out, port);
        }
        out.extend_from_slice(self.params.as_bytes());
    }
}

/// An IP address with or without brackets: RFC 5118 §4.5 shows both in `received`.
fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<Via, Problem> {
        Via::parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn reads_spaces_ipv6_and_parameters() {
        let via =
            parse("SIP / 2.0 / UDP  first.example.com : 4000 ;ttl=16 ;maddr=224.2.0.1 ;branch=z9hG4bKa7")
                .unwrap();
        assert_eq!(&via.transport[..], b"UDP");
        assert_eq!(via.sent_by.port, Some(4000));
        assert_eq!(
            (via.ttl(), via.maddr().and_then(|h| h.as_ip())),
            (Some(16), Some([224, 2, 0, 1].into()))
        );
        assert!(via.has_unique_branch());
        let via = parse("SIP/2.0/TLS [2001:db8::9:1]:5070;received=[2001:db8::9:255];rport;branch=z9hG4bK")
            .unwrap();
        assert_eq!(via.sent_by.host.as_ip(), "2001:db8::9:1".parse().ok());
        assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
        assert!(via.wants_rport() && via.rport().is_none() && !via.has_unique_branch());
    }

    #[test]
    fn malformed_values_are_refused_with_a_reason() {
        let cases = [
            ("SIP/2.0/UDP", "no space after the transport"),
            ("SIP/3.0/UDP h", "protocol is not SIP/2.0"),
            ("SIP/2.0/UDP ;branch=1", "bad sent-by host"),
            ("SIP/2.0/UDP h:99999", "bad sent-by port"),
            ("SIP/2.0/UDP h:", "bad sent-by port"),
            ("SIP/2.0/UDP h;;", "empty or malformed parameter name"),
            ("SIP/2.0/UDP h;rport=x", "bad rport"),
            ("SIP/2.0/UDP [2001:db8::1", "bad sent-by host"),
            ("SIP/2.0/UDP h;received=host", "received is not an IP address"),
            ("SIP/2.0/UDP h;ttl=256", "ttl is not a number from 0 to 255"),
        ];
        for (text, problem) in cases {
            assert_eq!(parse(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn the_source_is_stamped_as_rfc_3581_asks() {
        let mut via = parse("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport").unwrap();
        assert!(via.stamp_source("[::ffff:192.0.2.1]:1024".parse().unwrap()));
        let mut out = Vec::new();
        via.write(&mut out);
        assert_eq!(
            out,
            b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport=1024;received=192.0.2.1"
        );
        let mut plain = parse("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1").unwrap();
        assert!(!plain.stamp_source("192.0.2.1:9".parse().unwrap()));
    }
}

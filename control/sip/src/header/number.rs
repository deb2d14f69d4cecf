//! Values made of numbers: CSeq, RAck, Retry-After, Session-Expires.

use bytes::Bytes;

use super::{HeaderValue, Params, Problem, Refresher, scan, scan::Cursor};
use crate::{message::Method, text::push_number};

/// CSeq (RFC 3261 §20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2^31.
    pub number: u32,
    /// The method of the request it numbers.
    pub method: Method,
}

impl CSeq {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let number = sequence(cursor.take_while(|byte| byte.is_ascii_digit()))?;
        if !cursor.peek().is_some_and(scan::is_space) {
            return Err("no space after the number");
        }
        cursor.skip_space();
        let method = Method::from_bytes(scan::trim(cursor.rest())).ok_or("bad method")?;
        Ok(Self { number, method })
    }
}

impl HeaderValue for CSeq {
    fn write(&self, out: &mut Vec<u8>) {
        push_number(out, self.number);
        out.push(b' ');
        out.extend_from_slice(self.method.as_bytes());
    }
}

/// RAck (RFC 3262 §7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RAck {
    /// The RSeq that is acknowledged.
    pub rseq: u32,
    /// The CSeq of the response that carried it.
    pub cseq: CSeq,
}

impl RAck {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let digits = cursor.take_while(|byte| byte.is_ascii_digit());
        let rseq = scan::decimal_u32(digits)
            .filter(|&rseq| rseq > 0)
            .ok_or("bad response number")?;
        if !cursor.peek().is_some_and(scan::is_space) {
            return Err("no space after the response number");
        }
        let cseq = CSeq::parse(&value.slice(cursor.at()..))?;
        Ok(Self { rseq, cseq })
    }
}

impl HeaderValue for RAck {
    fn write(&self, out: &mut Vec<u8>) {
        push_number(out, self.rseq);
        out.push(b' ');
        self.cseq.write(out);
    }
}

/// Retry-After (RFC 3261 §20.33).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryAfter {
    /// Seconds to wait.
    pub seconds: u32,
    /// `duration` and others.
    pub params: Params,
}

impl RetryAfter {
    /// Reads the value; a comment in parentheses is stepped over.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let seconds = clamped(cursor.take_while(|byte| byte.is_ascii_digit())).ok_or("not a number")?;
        cursor.skip_space();
        if cursor.peek() == Some(b'(') {
            skip_comment(&mut cursor)?;
        }
        let params = Params::parse(&mut cursor)?;
        Ok(Self { seconds, params })
    }
}

impl HeaderValue for RetryAfter {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.seconds.to_string().as_bytes());
        out.extend_from_slice(self.params.as_bytes());
    }
}

fn skip_comment(cursor: &mut Cursor<'_>) -> Result<(), Problem> {
    let mut depth = 0u32;
    while let Some(byte) = cursor.peek() {
        cursor.bump(if byte == b'\\' { 2 } else { 1 });
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(());
        }
    }
    Err("unterminated comment")
}

/// Session-Expires, and Min-SE without refresher (RFC 4028 §4, §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session interval, in seconds.
    pub seconds: u32,
    /// Who refreshes, when it says so.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let seconds = clamped(cursor.take_while(|byte| byte.is_ascii_digit())).ok_or("not a number")?;
        let params = Params::parse(&mut cursor)?;
        let refresher = match params.get("refresher") {
            Some(value) if value.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(value) if value.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            Some(_) => return Err("refresher is neither uac nor uas"),
            None => None,
        };
        Ok(Self { seconds, refresher })
    }
}

impl HeaderValue for SessionExpires {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.seconds.to_string().as_bytes());
        match self.refresher {
            Some(Refresher::Uac) => out.extend_from_slice(b";refresher=uac"),
            Some(Refresher::Uas) => out.extend_from_slice(b";refresher=uas"),
            None => {}
        }
    }
}

/// A CSeq number: RFC 3261 §8.1.1.5, below 2^31. The wire allows leading zeros.
fn sequence(digits: &[u8]) -> Result<u32, Problem> {
    let number = clamped(digits).ok_or("bad number")?;
    if number < 1 << 31 {
        Ok(number)
    } else {
        Err("number is 2^31 or more")
    }
}

/// Digits as seconds; above 32 bits the largest (RFC 3261 §10.2.1.1 for Expires).
pub(super) fn clamped(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(scan::decimal_u32(digits).unwrap_or(u32::MAX))
}

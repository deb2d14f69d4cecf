//! Values of dialogs and subscriptions: Replaces, Reason, Event, Subscription-State, Warning.

use bytes::Bytes;

use super::{HeaderValue, Params, Problem, scan, scan::Cursor};
use crate::text::push_number;

/// Who sends session refreshes (RFC 4028 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// The side that sent the request the header stands in.
    Uac,
    /// The side that answered it.
    Uas,
}

/// Replaces (RFC 3891 §6.1), Join (RFC 3911) and Target-Dialog (RFC 4538): a dialog named from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaces {
    /// The dialog's Call-ID.
    pub call_id: Bytes,
    /// Its local tag, seen from the side that receives the header.
    pub to_tag: Bytes,
    /// Its remote tag, seen from the side that receives the header.
    pub from_tag: Bytes,
    /// Replace only an early dialog.
    pub early_only: bool,
}

impl Replaces {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let call_id = cursor.take_while(|byte| byte != b';' && byte != b',' && !scan::is_space(byte));
        if call_id.is_empty() {
            return Err("missing Call-ID");
        }
        let call_id = cursor.slice_of(call_id);
        let params = Params::parse(&mut cursor)?;
        // RFC 3891 §3: exactly one of each; a second one makes the header ambiguous.
        let count = |wanted: &[u8]| {
            params
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .count()
        };
        if count(b"to-tag") > 1 || count(b"from-tag") > 1 {
            return Err("more than one to-tag or from-tag");
        }
        let to_tag = params.value_bytes("to-tag").ok_or("missing to-tag")?;
        let from_tag = params.value_bytes("from-tag").ok_or("missing from-tag")?;
        Ok(Self {
            call_id,
            to_tag,
            from_tag,
            early_only: params.contains("early-only"),
        })
    }
}

impl HeaderValue for Replaces {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.call_id);
        out.extend_from_slice(b";to-tag=");
        out.extend_from_slice(&self.to_tag);
        out.extend_from_slice(b";from-tag=");
        out.extend_from_slice(&self.from_tag);
        if self.early_only {
            out.extend_from_slice(b";early-only");
        }
    }
}

/// One Reason value (RFC 3326): `SIP;cause=200;text="Call completed elsewhere"`, `Q.850;cause=16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850` or another token.
    pub protocol: Bytes,
    /// `cause`, `text` and others.
    pub params: Params,
}

impl Reason {
    /// A value of our own.
    pub fn new(protocol: &'static str, cause: u16, text: &str) -> Self {
        let mut params = Vec::with_capacity(text.len() + 20);
        params.extend_from_slice(b";cause=");
        push_number(&mut params, cause);
        if !text.is_empty() {
            params.extend_from_slice(b";text=");
            scan::write_quoted(&mut params, text.as_bytes());
        }
        Self {
            protocol: Bytes::from_static(protocol.as_bytes()),
            params: Params::written(params),
        }
    }

    /// Reads one value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let protocol = cursor.token("missing protocol")?;
        let protocol = cursor.slice_of(protocol);
        let params = Params::parse(&mut cursor)?;
        Ok(Self { protocol, params })
    }

    /// The `cause` number.
    pub fn cause(&self) -> Option<u32> {
        self.params.get("cause").and_then(scan::decimal_u32)
    }

    /// The `text`, without quotes.
    pub fn text(&self) -> Option<std::borrow::Cow<'_, [u8]>> {
        self.params.unquoted("text")
    }
}

impl HeaderValue for Reason {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.protocol);
        out.extend_from_slice(self.params.as_bytes());
    }
}

/// Event (RFC 6665 §8.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event package, with its template: `presence.winfo`. Compared by bytes.
    pub package: Bytes,
    /// `id` and others.
    pub params: Params,
}

impl Event {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let package = cursor.token("missing event package")?;
        let package = cursor.slice_of(package);
        let params = Params::parse(&mut cursor)?;
        Ok(Self { package, params })
    }

    /// The `id` that tells subscriptions of one dialog apart.
    pub fn id(&self) -> Option<&[u8]> {
        self.params.get("id")
    }
}

impl HeaderValue for Event {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.package);
        out.extend_from_slice(self.params.as_bytes());
    }
}

/// Subscription-State (RFC 6665 §8.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// `active`, `pending`, `terminated` or an extension; compare without case.
    pub state: Bytes,
    /// `reason`, `expires`, `retry-after` and others.
    pub params: Params,
}

impl SubscriptionState {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let state = cursor.token("missing state")?;
        let state = cursor.slice_of(state);
        let params = Params::parse(&mut cursor)?;
        Ok(Self { state, params })
    }

    /// True when the subscription is over.
    pub fn is_terminated(&self) -> bool {
        self.state.eq_ignore_ascii_case(b"terminated")
    }

    /// Seconds the subscription has left, when it says so.
    pub fn expires(&self) -> Option<u32> {
        self.params.get("expires").and_then(super::number::clamped)
    }
}

impl HeaderValue for SubscriptionState {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.state);
        out.extend_from_slice(self.params.as_bytes());
    }
}

/// One Warning value (RFC 3261 §20.43).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Three digits.
    pub code: u16,
    /// Host, or a pseudonym.
    pub agent: Bytes,
    /// The text, without quotes.
    pub text: Bytes,
}

impl Warning {
    /// Reads one value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let digits = cursor.take_while(|byte| byte.is_ascii_digit());
        let code = scan::decimal_u32(digits).and_then(|code| u16::try_from(code).ok());
        let code = code
            .filter(|code| (100..1000).contains(code))
            .ok_or("bad warning code")?;
        cursor.skip_space();
        let agent = cursor.take_while(|byte| !scan::is_space(byte) && byte != b'"');
        if agent.is_empty() {
            return Err("missing warning agent");
        }
        let agent = cursor.slice_of(agent);
        cursor.skip_space();
        let text = cursor.quoted()?;
        cursor.skip_space();
        if !cursor.is_end() {
            return Err("unexpected text after the warning");
        }
        Ok(Self {
            code,
            agent,
            text: Bytes::copy_from_slice(&scan::unquote(text)),
        })
    }
}

impl HeaderValue for Warning {
    fn write(&self, out: &mut Vec<u8>) {
        push_number(out, self.code);
        out.push(b' ');
        out.extend_from_slice(&self.agent);
        out.push(b' ');
        scan::write_quoted(out, &self.text);
    }
}

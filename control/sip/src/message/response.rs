//! Responses made from requests.

use super::{Header, HeaderName, Request, Response, StatusCode};
use crate::header::{HeaderValue, NameAddr};

impl Response {
    /// A response with the fields RFC 3261 §8.2.6 copies from the request: every Via, From, To, Call-ID, CSeq, and
    /// Timestamp (in a 100, as §8.2.6.1 asks, and harmless elsewhere).
    ///
    /// The To tag is the caller's to add: [`Response::set_to_tag`].
    pub fn to_request(request: &Request, status: StatusCode) -> Self {
        let mut response = Self::new(status);
        // With room for what most responses get besides.
        response.headers = super::Headers::with_capacity(12);
        for field in &request.headers {
            let copied = [
                HeaderName::Via,
                HeaderName::From,
                HeaderName::To,
                HeaderName::CallId,
                HeaderName::CSeq,
                HeaderName::Timestamp,
            ];
            if copied.iter().any(|&name| field.name() == name) {
                response.headers.push_field(field.clone());
            }
        }
        response
    }

    /// Copies Record-Route (RFC 3261 §12.1.1: into every response that makes a dialog).
    pub fn copy_record_route(&mut self, request: &Request) {
        for field in request.headers.fields(HeaderName::RecordRoute) {
            self.headers.push_field(field.clone());
        }
    }

    /// Adds a tag to To unless it has one; the rest of the field stays as it came.
    ///
    /// A To that cannot be read is left alone: such a response goes back to its sender as it was sent.
    pub fn set_to_tag(&mut self, tag: &str) {
        let Ok(to) = self.headers.to() else { return };
        if to.tag().is_some() {
            return;
        }
        let Some(old) = self.headers.field(HeaderName::To) else {
            return;
        };
        let mut value = old.value().to_vec();
        // Without brackets, `;tag=` after the URI is already a header parameter (RFC 3261 §20).
        value.extend_from_slice(b";tag=");
        value.extend_from_slice(tag.as_bytes());
        self.headers.set_field(Header::from_typed(HeaderName::To, value));
    }
}

impl super::Headers {
    /// Appends a typed value as a field of its own.
    pub fn push_value(&mut self, name: HeaderName, value: &impl HeaderValue) {
        self.push_field(typed_field(name, value));
    }

    /// Inserts a typed value before the first field of its name, or at the front.
    pub fn push_front_value(&mut self, name: HeaderName, value: &impl HeaderValue) {
        self.push_front(typed_field(name, value));
    }

    /// Replaces the fields of this name by one typed value; appends it when there is none.
    pub fn set_value(&mut self, name: HeaderName, value: &impl HeaderValue) {
        self.set_field(typed_field(name, value));
    }

    /// Replaces the fields of this name by one field per value, in order, appended at the end.
    pub fn set_values(&mut self, name: HeaderName, values: &[NameAddr]) {
        self.remove(name);
        for value in values {
            self.push_value(name, value);
        }
    }
}

fn typed_field(name: HeaderName, value: &impl HeaderValue) -> Header {
    let mut text = Vec::with_capacity(64);
    value.write(&mut text);
    Header::from_typed(name, text)
}

//! What a user hands over to have it sent inside a dialog.

use bytes::Bytes;

use super::flow::Target;
use crate::header::HeaderValue;
use crate::message::{Header, HeaderName, Headers, Method, UnwritableHeader};

/// A body with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Content-Type.
    pub content_type: Bytes,
    /// The body.
    pub body: Bytes,
}

impl Content {
    /// `application/sdp`.
    pub fn sdp(body: impl Into<Bytes>) -> Self {
        Self::new("application/sdp", body)
    }

    /// A body of another type.
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            content_type: Bytes::from_static(content_type.as_bytes()),
            body: body.into(),
        }
    }

    pub(crate) fn put(self, headers: &mut Headers, body: &mut Bytes) {
        headers.set_field(Header::from_typed(HeaderName::ContentType, &self.content_type));
        *body = self.body;
    }
}

/// A request inside a dialog. The stack writes all fields of the dialog; this holds the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogRequest {
    /// Anything but ACK and CANCEL, which have calls of their own.
    pub method: Method,
    /// The body.
    pub content: Option<Content>,
    /// Further fields.
    pub headers: Headers,
    /// Where to, in order of preference; without any, where the dialog's requests went so far.
    pub targets: Vec<Target>,
}

impl DialogRequest {
    /// A request with nothing but its method.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            content: None,
            headers: Headers::new(),
            targets: Vec::new(),
        }
    }

    /// With a body.
    #[must_use]
    pub fn with_content(mut self, content: Content) -> Self {
        self.content = Some(content);
        self
    }

    /// With a header field.
    #[must_use]
    pub fn with_value(mut self, name: HeaderName, value: &impl HeaderValue) -> Self {
        self.headers.push_value(name, value);
        self
    }

    /// With a header field from text.
    ///
    /// # Errors
    /// The name is no token, or the value holds a line break.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, UnwritableHeader> {
        self.headers.push(name, value)?;
        Ok(self)
    }

    /// To these targets.
    #[must_use]
    pub fn to_targets(mut self, targets: Vec<Target>) -> Self {
        self.targets = targets;
        self
    }
}

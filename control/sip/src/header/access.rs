//! Typed access to the fields of a message.

use bytes::Bytes;

use super::number::clamped;
use super::scan::Elements;
use super::{
    AuthValue, CSeq, Contact, Event, HeaderError, MediaType, NameAddr, OptionTags, Problem, RAck, Reason,
    Replaces, RetryAfter, SessionExpires, SubscriptionState, Via, Warning, scan,
};
use crate::limits::LIST_ELEMENT_COUNT_MAX;
use crate::message::{Header, HeaderName, Headers};

type Parse<T> = fn(&Bytes) -> Result<T, Problem>;

/// Typed values. A field that must be there once gives an error when it is missing or there twice; an optional one
/// gives `None` when it is missing; a list runs over all lines of its name.
///
/// # Errors
/// All of them: [`HeaderError`], whose text is the reason phrase of a 400.
impl Headers {
    fn only(&self, header: HeaderName) -> Result<Option<&Header>, HeaderError> {
        let mut fields = self.fields(header);
        let first = fields.next();
        // RFC 4475 §3.3.8: a second value of a single-valued field is an error, not a choice.
        if fields.next().is_some() {
            return Err(HeaderError {
                header,
                problem: "more than one",
            });
        }
        Ok(first)
    }

    fn optional<T>(&self, header: HeaderName, parse: Parse<T>) -> Result<Option<T>, HeaderError> {
        let Some(field) = self.only(header)? else {
            return Ok(None);
        };
        parse(&field.value_bytes())
            .map(Some)
            .map_err(|problem| HeaderError { header, problem })
    }

    fn required<T>(&self, header: HeaderName, parse: Parse<T>) -> Result<T, HeaderError> {
        self.optional(header, parse)?.ok_or(HeaderError {
            header,
            problem: "missing",
        })
    }

    fn list<T>(&self, header: HeaderName, parse: Parse<T>) -> Result<Vec<T>, HeaderError> {
        let mut values = Vec::new();
        for field in self.fields(header) {
            for element in Elements::new(&field.value_bytes()) {
                if values.len() == LIST_ELEMENT_COUNT_MAX {
                    return Err(HeaderError {
                        header,
                        problem: "too many values",
                    });
                }
                if element.is_empty() {
                    return Err(HeaderError {
                        header,
                        problem: "empty value",
                    });
                }
                values.push(parse(&element).map_err(|problem| HeaderError { header, problem })?);
            }
        }
        Ok(values)
    }

    fn tags(&self, header: HeaderName) -> Result<OptionTags, HeaderError> {
        let mut tags = OptionTags::default();
        for field in self.fields(header) {
            tags.extend(&field.value_bytes())
                .map_err(|problem| HeaderError { header, problem })?;
        }
        Ok(tags)
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        let header = HeaderName::Via;
        let field = self.field(header).ok_or(HeaderError {
            header,
            problem: "missing",
        })?;
        let first = Elements::new(&field.value_bytes()).next().unwrap_or_default();
        Via::parse(&first).map_err(|problem| HeaderError { header, problem })
    }

    /// Every Via, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        self.list(HeaderName::Via, Via::parse)
    }

    /// Writes over the topmost Via, keeping what shares its line.
    pub fn set_top_via(&mut self, via: &Via) {
        self.replace_first_value(HeaderName::Via, via);
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::From, NameAddr::parse)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.required(HeaderName::To, NameAddr::parse)
    }

    /// The tag in a From or To that was read before, and is not read whole again.
    pub(crate) fn tag(&self, header: HeaderName) -> Option<&[u8]> {
        self.get(header).and_then(super::address::tag_in)
    }

    /// Call-ID, compared byte by byte.
    pub fn call_id(&self) -> Result<Bytes, HeaderError> {
        self.required(HeaderName::CallId, |value| {
            let is_word = |&byte: &u8| byte > 0x20 && byte != 0x7f;
            if value.is_empty() || !value.iter().all(is_word) {
                Err("malformed")
            } else {
                Ok(value.clone())
            }
        })
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.required(HeaderName::CSeq, CSeq::parse)
    }

    /// Max-Forwards, 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        self.optional(HeaderName::MaxForwards, |value| {
            scan::decimal(value)
                .and_then(|hops| u8::try_from(hops).ok())
                .ok_or("not a number from 0 to 255")
        })
    }

    /// Contact, over all lines.
    pub fn contacts(&self) -> Result<Vec<Contact>, HeaderError> {
        self.list(HeaderName::Contact, Contact::parse)
    }

    /// The one Contact address of a dialog-forming message; `None` when there is none.
    pub fn contact(&self) -> Result<Option<NameAddr>, HeaderError> {
        let contact = self.contacts()?.into_iter().next();
        match contact {
            None => Ok(None),
            Some(Contact::Address(address)) => Ok(Some(address)),
            Some(Contact::Star) => Err(HeaderError {
                header: HeaderName::Contact,
                problem: "* outside REGISTER",
            }),
        }
    }

    /// Route, in order.
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::Route, NameAddr::parse)
    }

    /// Record-Route, in order.
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::RecordRoute, NameAddr::parse)
    }

    /// Path (RFC 3327), in order.
    pub fn paths(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::Path, NameAddr::parse)
    }

    /// Service-Route (RFC 3608), in order.
    pub fn service_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::ServiceRoute, NameAddr::parse)
    }

    /// P-Asserted-Identity (RFC 3325): at most a sip and a tel identity.
    pub fn asserted_identities(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::PAssertedIdentity, NameAddr::parse)
    }

    /// P-Preferred-Identity (RFC 3325).
    pub fn preferred_identities(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::PPreferredIdentity, NameAddr::parse)
    }

    /// Diversion (RFC 5806), most recent first.
    pub fn diversions(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list(HeaderName::Diversion, NameAddr::parse)
    }

    /// Refer-To (RFC 3515).
    pub fn refer_to(&self) -> Result<Option<NameAddr>, HeaderError> {
        self.optional(HeaderName::ReferTo, NameAddr::parse)
    }

    /// Referred-By (RFC 3892).
    pub fn referred_by(&self) -> Result<Option<NameAddr>, HeaderError> {
        self.optional(HeaderName::ReferredBy, NameAddr::parse)
    }

    /// Replaces (RFC 3891).
    pub fn replaces(&self) -> Result<Option<Replaces>, HeaderError> {
        self.optional(HeaderName::Replaces, Replaces::parse)
    }

    /// Expires, in seconds; numbers above 32 bits count as the largest.
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::Expires, |value| clamped(value).ok_or("not a number"))
    }

    /// Min-Expires, in seconds.
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::MinExpires, |value| {
            clamped(value).ok_or("not a number")
        })
    }

    /// Session-Expires (RFC 4028).
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, HeaderError> {
        self.optional(HeaderName::SessionExpires, SessionExpires::parse)
    }

    /// Min-SE, in seconds (RFC 4028); its generic parameters say nothing to us.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::MinSe, |value| {
            SessionExpires::parse(value).map(|value| value.seconds)
        })
    }

    /// RSeq (RFC 3262).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.optional(HeaderName::RSeq, |value| {
            scan::decimal_u32(value)
                .filter(|&rseq| rseq > 0)
                .ok_or("not a number from 1 to 4294967295")
        })
    }

    /// RAck (RFC 3262).
    pub fn rack(&self) -> Result<Option<RAck>, HeaderError> {
        self.optional(HeaderName::RAck, RAck::parse)
    }

    /// Require.
    pub fn require(&self) -> Result<OptionTags, HeaderError> {
        self.tags(HeaderName::Require)
    }

    /// Supported.
    pub fn supported(&self) -> Result<OptionTags, HeaderError> {
        self.tags(HeaderName::Supported)
    }

    /// Proxy-Require.
    pub fn proxy_require(&self) -> Result<OptionTags, HeaderError> {
        self.tags(HeaderName::ProxyRequire)
    }

    /// Unsupported, in a 420.
    pub fn unsupported(&self) -> Result<OptionTags, HeaderError> {
        self.tags(HeaderName::Unsupported)
    }

    /// Allow.
    pub fn allow(&self) -> Result<OptionTags, HeaderError> {
        self.tags(HeaderName::Allow)
    }

    /// Reason, one per protocol (RFC 3326).
    pub fn reasons(&self) -> Result<Vec<Reason>, HeaderError> {
        self.list(HeaderName::Reason, Reason::parse)
    }

    /// Retry-After.
    pub fn retry_after(&self) -> Result<Option<RetryAfter>, HeaderError> {
        self.optional(HeaderName::RetryAfter, RetryAfter::parse)
    }

    /// Event.
    pub fn event(&self) -> Result<Option<Event>, HeaderError> {
        self.optional(HeaderName::Event, Event::parse)
    }

    /// Subscription-State.
    pub fn subscription_state(&self) -> Result<Option<SubscriptionState>, HeaderError> {
        self.optional(HeaderName::SubscriptionState, SubscriptionState::parse)
    }

    /// Content-Type.
    pub fn content_type(&self) -> Result<Option<MediaType>, HeaderError> {
        self.optional(HeaderName::ContentType, MediaType::parse)
    }

    /// Accept; `None` when the field is absent, which means `application/sdp` (RFC 3261 §20.1), while an empty
    /// field means that nothing is acceptable.
    pub fn accept(&self) -> Result<Option<Vec<MediaType>>, HeaderError> {
        let header = HeaderName::Accept;
        let mut fields = self.fields(header).peekable();
        if fields.peek().is_none() {
            return Ok(None);
        }
        if fields.all(|field| field.value().is_empty()) {
            return Ok(Some(Vec::new()));
        }
        self.list(header, MediaType::parse).map(Some)
    }

    /// Warning.
    pub fn warnings(&self) -> Result<Vec<Warning>, HeaderError> {
        self.list(HeaderName::Warning, Warning::parse)
    }

    fn auth_values(&self, header: HeaderName) -> Result<Vec<AuthValue>, HeaderError> {
        let parsed = self.fields(header).take(LIST_ELEMENT_COUNT_MAX).map(|field| {
            AuthValue::parse(&field.value_bytes()).map_err(|problem| HeaderError { header, problem })
        });
        parsed.collect()
    }

    /// WWW-Authenticate, in the server's order of preference (RFC 8760 §2.4).
    pub fn www_authenticate(&self) -> Result<Vec<AuthValue>, HeaderError> {
        self.auth_values(HeaderName::WwwAuthenticate)
    }

    /// Proxy-Authenticate, in the server's order of preference.
    pub fn proxy_authenticate(&self) -> Result<Vec<AuthValue>, HeaderError> {
        self.auth_values(HeaderName::ProxyAuthenticate)
    }

    /// Authorization, one per realm.
    pub fn authorization(&self) -> Result<Vec<AuthValue>, HeaderError> {
        self.auth_values(HeaderName::Authorization)
    }

    /// Proxy-Authorization, one per realm.
    pub fn proxy_authorization(&self) -> Result<Vec<AuthValue>, HeaderError> {
        self.auth_values(HeaderName::ProxyAuthorization)
    }

    /// Date, as Unix seconds. RFC 3261 §20.17: the zone is always GMT.
    pub fn date(&self) -> Result<Option<i64>, HeaderError> {
        self.optional(HeaderName::Date, |value| super::date::parse(value))
    }
}

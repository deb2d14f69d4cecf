//! Header field names.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident $text:literal $($compact:literal)?;)*) => {
        /// A header field name this crate knows. Unknown names stay text: see [`Name`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant is documented by its text in the RFC's spelling")]
        pub enum HeaderName { $(#[doc = concat!("`", $text, "`")] $variant,)* }

        const NAMES: &[HeaderName] = &[$(HeaderName::$variant,)*];
        const TEXTS: &[&str] = &[$($text,)*];

        impl HeaderName {
            /// The name in the spelling of its RFC.
            pub fn as_str(self) -> &'static str {
                TEXTS[self as usize]
            }

            fn from_compact(letter: u8) -> Option<Self> {
                match letter.to_ascii_lowercase() {
                    $($($compact => Some(Self::$variant),)?)*
                    _ => None,
                }
            }
        }
    };
}

header_names! {
    Accept "Accept";
    AcceptContact "Accept-Contact" b'a';
    AcceptEncoding "Accept-Encoding";
    AcceptLanguage "Accept-Language";
    AlertInfo "Alert-Info";
    Allow "Allow";
    AllowEvents "Allow-Events" b'u';
    AuthenticationInfo "Authentication-Info";
    Authorization "Authorization";
    CallId "Call-ID" b'i';
    CallInfo "Call-Info";
    Contact "Contact" b'm';
    ContentDisposition "Content-Disposition";
    ContentEncoding "Content-Encoding" b'e';
    ContentLanguage "Content-Language";
    ContentLength "Content-Length" b'l';
    ContentType "Content-Type" b'c';
    CSeq "CSeq";
    Date "Date";
    Diversion "Diversion";
    ErrorInfo "Error-Info";
    Event "Event" b'o';
    Expires "Expires";
    FlowTimer "Flow-Timer";
    From "From" b'f';
    HistoryInfo "History-Info";
    Identity "Identity" b'y';
    InfoPackage "Info-Package";
    InReplyTo "In-Reply-To";
    Join "Join";
    MaxForwards "Max-Forwards";
    MimeVersion "MIME-Version";
    MinExpires "Min-Expires";
    MinSe "Min-SE";
    Organization "Organization";
    PAssertedIdentity "P-Asserted-Identity";
    Path "Path";
    PPreferredIdentity "P-Preferred-Identity";
    Priority "Priority";
    Privacy "Privacy";
    ProxyAuthenticate "Proxy-Authenticate";
    ProxyAuthorization "Proxy-Authorization";
    ProxyRequire "Proxy-Require";
    RAck "RAck";
    Reason "Reason";
    RecordRoute "Record-Route";
    RecvInfo "Recv-Info";
    ReferredBy "Referred-By" b'b';
    ReferSub "Refer-Sub";
    ReferTo "Refer-To" b'r';
    RejectContact "Reject-Contact" b'j';
    RemotePartyId "Remote-Party-ID";
    Replaces "Replaces";
    ReplyTo "Reply-To";
    RequestDisposition "Request-Disposition" b'd';
    Require "Require";
    RetryAfter "Retry-After";
    Route "Route";
    RSeq "RSeq";
    Server "Server";
    ServiceRoute "Service-Route";
    SessionExpires "Session-Expires" b'x';
    SipEtag "SIP-ETag";
    SipIfMatch "SIP-If-Match";
    Subject "Subject" b's';
    SubscriptionState "Subscription-State";
    Supported "Supported" b'k';
    TargetDialog "Target-Dialog";
    Timestamp "Timestamp";
    To "To" b't';
    Unsupported "Unsupported";
    UserAgent "User-Agent";
    UserToUser "User-to-User";
    Via "Via" b'v';
    Warning "Warning";
    WwwAuthenticate "WWW-Authenticate";
}

const LENGTH_MAX: usize = 24;
const BUCKET: usize = 12;
const UNUSED: u8 = u8::MAX;

/// Names by length, so that a lookup compares a handful of texts.
const BY_LENGTH: [[u8; BUCKET]; LENGTH_MAX] = {
    let mut table = [[UNUSED; BUCKET]; LENGTH_MAX];
    let mut index = 0;
    while index < TEXTS.len() {
        let length = TEXTS[index].len();
        let mut slot = 0;
        while table[length][slot] != UNUSED {
            slot += 1;
        }
        table[length][slot] = index as u8;
        index += 1;
    }
    table
};

impl HeaderName {
    /// Looks a name up, long or compact form, in any case (RFC 3261 §7.3.1, §7.3.3).
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        if let [letter] = *text {
            return Self::from_compact(letter);
        }
        let bucket = BY_LENGTH.get(text.len())?;
        bucket
            .iter()
            .take_while(|&&index| index != UNUSED)
            .find_map(|&index| {
                let index = usize::from(index);
                TEXTS[index]
                    .as_bytes()
                    .eq_ignore_ascii_case(text)
                    .then(|| NAMES[index])
            })
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A header field name: one we know, or any other token.
///
/// Functions that take `impl Into<Name>` accept `HeaderName::Via`, `"Via"`, `"v"` and `"X-Anything"` alike.
#[derive(Debug, Clone, Copy)]
pub enum Name<'a> {
    /// A name of [`HeaderName`].
    Known(HeaderName),
    /// Any other name, as it stands in the message.
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    /// The text: the RFC's spelling for known names, the given bytes for others.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Known(name) => name.as_str().as_bytes(),
            Self::Other(text) => text,
        }
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a == b,
            (Self::Other(a), Self::Other(b)) => a.eq_ignore_ascii_case(b),
            (Self::Known(_), Self::Other(_)) | (Self::Other(_), Self::Known(_)) => false,
        }
    }
}

impl Eq for Name<'_> {}

impl PartialEq<HeaderName> for Name<'_> {
    fn eq(&self, other: &HeaderName) -> bool {
        matches!(self, Self::Known(name) if name == other)
    }
}

impl From<HeaderName> for Name<'_> {
    fn from(name: HeaderName) -> Self {
        Self::Known(name)
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(text: &'a [u8]) -> Self {
        HeaderName::from_bytes(text).map_or(Self::Other(text), Self::Known)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        text.as_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_by_its_compact_form() {
        for &name in NAMES {
            let text = name.as_str();
            assert_eq!(HeaderName::from_bytes(text.as_bytes()), Some(name));
            assert_eq!(HeaderName::from_bytes(text.to_uppercase().as_bytes()), Some(name));
            assert_eq!(HeaderName::from_bytes(text.to_lowercase().as_bytes()), Some(name));
        }
        let compact = [
            ("v", HeaderName::Via),
            ("f", HeaderName::From),
            ("t", HeaderName::To),
            ("i", HeaderName::CallId),
            ("m", HeaderName::Contact),
            ("l", HeaderName::ContentLength),
            ("c", HeaderName::ContentType),
            ("e", HeaderName::ContentEncoding),
            ("s", HeaderName::Subject),
            ("k", HeaderName::Supported),
            ("x", HeaderName::SessionExpires),
            ("r", HeaderName::ReferTo),
            ("b", HeaderName::ReferredBy),
            ("o", HeaderName::Event),
            ("u", HeaderName::AllowEvents),
        ];
        for (letter, name) in compact {
            assert_eq!(HeaderName::from_bytes(letter.as_bytes()), Some(name));
            assert_eq!(
                HeaderName::from_bytes(letter.to_uppercase().as_bytes()),
                Some(name)
            );
        }
        assert_eq!(HeaderName::from_bytes(b"X-Viable"), None);
        assert_eq!(HeaderName::from_bytes(b""), None);
        assert_eq!(HeaderName::from_bytes(&[b'a'; 200]), None);
    }

    #[test]
    fn unknown_names_compare_without_case() {
        assert_eq!(Name::from("X-Foo"), Name::from("x-foo"));
        assert_ne!(Name::from("X-Foo"), Name::from("X-Bar"));
        assert_eq!(Name::from("v"), HeaderName::Via);
    }
}

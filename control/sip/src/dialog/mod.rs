//! Dialogs (RFC 3261 §12): identity, route set, sequence numbers, and the state of what runs inside them: offers,
//! reliable provisional responses, the session timer.
//!
//! Values without timers or transactions; [`crate::stack::Stack`] owns those.

mod glare;
mod record;
mod reliable;
mod session_timer;

pub use glare::{Glare, Offers};
pub use record::DialogRecord;
pub use reliable::{ProvisionalOrder, ReliableReceiver, ReliableSender};
pub use session_timer::{SessionAnswer, SessionTimer, SessionTimerRole};

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

use crate::header::{CSeq, HeaderError, HeaderValue, NameAddr, OptionTags, Replaces};
use crate::message::{Header, HeaderName, Headers, Method, Request, Response};
use crate::stack::{Hop, Target, Transport};
use crate::uri::{Scheme, Uri};

/// What identifies a dialog (RFC 3261 §12).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId {
    /// Our tag.
    pub local_tag: Bytes,
    /// The peer's tag; empty for a peer of RFC 2543 that has none (§12.1.1).
    pub remote_tag: Bytes,
    /// The Call-ID.
    pub call_id: Bytes,
}

impl DialogId {
    /// The dialog a received request says it belongs to; `None` without To tag.
    ///
    /// # Errors
    /// A field is missing or cannot be read.
    pub fn of_request(headers: &Headers) -> Result<Option<Self>, HeaderError> {
        let (from, to) = (headers.from()?, headers.to()?);
        let call_id = headers.call_id()?;
        Ok(to.tag().map(|local| Self {
            local_tag: Bytes::copy_from_slice(local),
            remote_tag: Bytes::copy_from_slice(from.tag().unwrap_or_default()),
            call_id,
        }))
    }

    /// [`DialogId::of_request`] for a request that was checked.
    pub(crate) fn of_checked_request(headers: &Headers) -> Option<Self> {
        let local = headers.tag(HeaderName::To)?;
        Some(Self {
            local_tag: Bytes::copy_from_slice(local),
            remote_tag: Bytes::copy_from_slice(headers.tag(HeaderName::From).unwrap_or_default()),
            call_id: headers.call_id().ok()?,
        })
    }

    /// The dialog a received response belongs to or makes; its From and To were read before. A 2xx of an RFC 2543 peer may
    /// lack the To tag.
    pub(crate) fn of_checked_response(headers: &Headers) -> Option<Self> {
        let tag = |header| Bytes::copy_from_slice(headers.tag(header).unwrap_or_default());
        Some(Self {
            local_tag: tag(HeaderName::From),
            remote_tag: tag(HeaderName::To),
            call_id: headers.call_id().ok()?,
        })
    }

    /// The dialog a Replaces header names (RFC 3891 §3: its to-tag is our tag).
    pub fn of_replaces(replaces: &Replaces) -> Self {
        // RFC 3891 §6.1: a tag of zero also stands for "no tag".
        let remote = if replaces.from_tag == "0" {
            Bytes::new()
        } else {
            replaces.from_tag.clone()
        };
        Self {
            local_tag: replaces.to_tag.clone(),
            remote_tag: remote,
            call_id: replaces.call_id.clone(),
        }
    }
}

/// Which side sent the request that made the dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Uac,
    /// The peer did.
    Uas,
}

/// How far a dialog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialogState {
    /// Our user has not answered the INVITE yet: the peer does not know of the dialog.
    Invited,
    /// A provisional response made it.
    Early,
    /// A 2xx confirmed it.
    Confirmed,
    /// BYE was sent or received; what is left is the end of subscriptions and of the BYE itself.
    Ending,
}

/// Where a received request stands in the peer's sequence (RFC 3261 §12.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// Higher than any before; gaps are legal, for example after a proxy's challenge.
    Next,
    /// The number of the last request in another transaction: a copy that came another way.
    Repeated,
    /// Lower than one before: 500.
    Stale,
}

/// A dialog.
#[derive(Debug, Clone)]
pub struct Dialog {
    /// Its identity.
    pub id: DialogId,
    /// Who made it.
    pub side: Side,
    /// How far it is.
    pub state: DialogState,
    /// Our From value, tag included, as it was first written.
    pub local: Bytes,
    /// The peer's address for our To, tag included, as the peer wrote it.
    pub remote: Bytes,
    /// The CSeq number of our last request in this dialog (or of the INVITE that made it).
    pub local_cseq: u32,
    /// The highest CSeq number received.
    pub remote_cseq: Option<u32>,
    /// Route values for our requests, in order.
    pub route_set: Vec<Bytes>,
    /// The peer's Contact.
    pub remote_target: Uri,
    /// What the peer's device registered, where `remote_target` is an address that we gave it (RFC 5627): the Request-URI
    /// of what is sent to it.
    pub registered: Option<Uri>,
    /// Our Contact.
    pub contact: Bytes,
    /// Where our requests go.
    pub target: Target,
    /// Methods the peer's Allow lists; empty when it sent none.
    pub remote_allow: OptionTags,
    /// Extensions the peer's Supported lists.
    pub remote_supported: OptionTags,
    /// Offers outstanding.
    pub offers: Offers,
    /// The session timer.
    pub session: SessionTimer,
    /// Provisional responses received.
    pub received: ReliableReceiver,
    /// Another process had it, which may have received the request with the highest number and not answered it.
    pub is_adopted: bool,
}

impl Dialog {
    /// The dialog a received request makes, once answered with `local_tag` in To (RFC 3261 §12.1.1). Its From was read before.
    ///
    /// # Errors
    /// A field the dialog needs is missing or cannot be read.
    pub fn from_request(
        request: &Request,
        local_tag: &str,
        contact: Bytes,
        target: Target,
    ) -> Result<Self, HeaderError> {
        let headers = &request.headers;
        let missing = |header| HeaderError {
            header,
            problem: "missing",
        };
        let contact_of_peer = headers.contact()?.ok_or(missing(HeaderName::Contact))?;
        let to = headers.field(HeaderName::To).ok_or(missing(HeaderName::To))?;
        let remote = headers.field(HeaderName::From).ok_or(missing(HeaderName::From))?;
        let remote_tag = headers.tag(HeaderName::From).unwrap_or_default();
        let mut local = Vec::with_capacity(to.value().len() + 5 + local_tag.len());
        local.extend_from_slice(to.value());
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(local_tag.as_bytes());
        Ok(Self {
            id: DialogId {
                local_tag: Bytes::copy_from_slice(local_tag.as_bytes()),
                remote_tag: Bytes::copy_from_slice(remote_tag),
                call_id: headers.call_id()?,
            },
            side: Side::Uas,
            state: DialogState::Invited,
            local: local.into(),
            remote: remote.value_bytes(),
            local_cseq: 0,
            remote_cseq: Some(headers.cseq()?.number),
            // RFC 3261 §12.1.1: Record-Route in order.
            route_set: route_values(headers.record_routes()?, false),
            remote_target: contact_of_peer.uri,
            registered: None,
            contact,
            target,
            remote_allow: headers.allow().unwrap_or_default(),
            remote_supported: headers.supported().unwrap_or_default(),
            offers: Offers::default(),
            session: SessionTimer::default(),
            received: ReliableReceiver::default(),
            is_adopted: false,
        })
    }

    /// The dialog a response with To tag makes (RFC 3261 §12.1.2). Its From and To were read before.
    ///
    /// # Errors
    /// A field the dialog needs is missing or cannot be read. A provisional response may lack Contact: then requests
    /// go to the Request-URI of the INVITE.
    pub fn from_response(
        request: &Request,
        response: &Response,
        contact: Bytes,
        target: Target,
    ) -> Result<Self, HeaderError> {
        let missing = |header| HeaderError {
            header,
            problem: "missing",
        };
        let headers = &response.headers;
        let id = DialogId::of_checked_response(headers).ok_or(missing(HeaderName::CallId))?;
        let local = request
            .headers
            .field(HeaderName::From)
            .ok_or(missing(HeaderName::From))?;
        let remote = headers.field(HeaderName::To).ok_or(missing(HeaderName::To))?;
        let remote_target = match headers.contact()? {
            Some(contact) => contact.uri,
            None => request.uri().map_err(|_| missing(HeaderName::Contact))?,
        };
        Ok(Self {
            id,
            side: Side::Uac,
            state: if response.status.is_success() {
                DialogState::Confirmed
            } else {
                DialogState::Early
            },
            local: local.value_bytes(),
            remote: remote.value_bytes(),
            local_cseq: request.headers.cseq()?.number,
            remote_cseq: None,
            // RFC 3261 §12.1.2: Record-Route in reverse order.
            route_set: route_values(headers.record_routes()?, true),
            remote_target,
            registered: None,
            contact,
            target,
            remote_allow: headers.allow().unwrap_or_default(),
            remote_supported: headers.supported().unwrap_or_default(),
            offers: Offers::default(),
            session: SessionTimer::default(),
            received: ReliableReceiver::default(),
            is_adopted: false,
        })
    }

    /// A 2xx confirms an early dialog of ours: route set and target are computed again (RFC 3261 §13.2.2.4).
    ///
    /// # Errors
    /// A field cannot be read; the dialog is confirmed all the same, with what it had.
    pub fn confirm(&mut self, response: &Response) -> Result<(), HeaderError> {
        self.state = DialogState::Confirmed;
        self.note_capabilities(&response.headers);
        self.route_set = route_values(response.headers.record_routes()?, true);
        if let Some(contact) = response.headers.contact()? {
            self.set_remote_target(contact.uri);
        }
        Ok(())
    }

    /// A target refresh request or its 2xx: INVITE, UPDATE (RFC 3261 §12.2, RFC 3311 §4).
    pub fn refresh_target(&mut self, headers: &Headers) {
        self.note_capabilities(headers);
        if let Ok(Some(contact)) = headers.contact() {
            self.set_remote_target(contact.uri);
        }
    }

    fn set_remote_target(&mut self, uri: Uri) {
        if uri.as_bytes() != self.remote_target.as_bytes() {
            (self.remote_target, self.registered) = (uri, None);
        }
    }

    /// The Request-URI of our requests, unless a strict router comes first.
    pub fn request_uri(&self) -> &Uri {
        self.registered.as_ref().unwrap_or(&self.remote_target)
    }

    /// Where requests should go by route set and Contact; `None`: where they went so far.
    ///
    /// A flow is kept while there is no route that leads elsewhere, and a public address while the other one is
    /// private: a peer behind a NAT is reached where it was heard.
    pub fn new_next_hop(&self) -> Option<Hop> {
        let uri = self.next_hop();
        let hop = Hop::of_uri(&uri)?;
        let is_flow = matches!(self.target, Target::Flow(_));
        if is_flow && self.route_set.is_empty() {
            return None;
        }
        let Hop::Target(target) = hop else {
            return Some(hop);
        };
        let known = self.target.remote().ip().to_canonical();
        let ip = target.remote().ip();
        if (is_flow && ip == known) || (is_private(ip) && !is_private(known)) {
            return None;
        }
        // Peers that forget the transport parameter are met over what worked so far.
        let forgotten = uri.transport().is_none() && uri.scheme() != Scheme::Sips && ip == known;
        let transport = if forgotten {
            self.target.transport()
        } else {
            target.transport()
        };
        let port = uri.port().unwrap_or(transport.default_port());
        let remote = SocketAddr::new(ip, port);
        let is_new = (self.target.transport(), self.target.remote()) != (transport, remote);
        is_new.then(|| Hop::Target(Target::address(transport, remote)))
    }

    /// Where requests go when the connection that they went over is gone (RFC 3261 §18.1.1): where the peer, or the proxy
    /// before it, says that it is, if that is where the connection led. A NAT lets nobody in there, and whom the certificate
    /// of such a peer names nobody knows.
    pub fn without_connection(&self) -> Option<Target> {
        let Target::Flow(flow) = &self.target else {
            return None;
        };
        let uri = self.next_hop();
        let Hop::Target(target) = Hop::of_uri(&uri)? else {
            return None;
        };
        let ip = target.remote().ip();
        let is_said = target.transport() == Transport::Tcp
            || (uri.transport().is_none() && uri.scheme() != Scheme::Sips);
        let is_same = flow.transport == Transport::Tcp && ip == flow.remote.ip().to_canonical();
        (is_said && is_same).then(|| Target::address(Transport::Tcp, target.remote()))
    }

    fn note_capabilities(&mut self, headers: &Headers) {
        if headers.contains(HeaderName::Allow) {
            self.remote_allow = headers.allow().unwrap_or_default();
        }
        if headers.contains(HeaderName::Supported) {
            self.remote_supported = headers.supported().unwrap_or_default();
        }
    }

    /// True when the peer says it serves a method, or says nothing about methods.
    pub fn peer_allows(&self, method: &Method) -> bool {
        self.remote_allow.is_empty() || self.remote_allow.contains(method.as_str())
    }

    /// Takes note of a request's number. ACK and CANCEL have the number of their INVITE and do not come here.
    pub fn on_sequence(&mut self, number: u32) -> Sequence {
        match self.remote_cseq {
            Some(last) if number < last => Sequence::Stale,
            // Here it is none.
            Some(last) if number == last && !self.is_adopted => Sequence::Repeated,
            Some(_) | None => {
                self.remote_cseq = Some(number);
                self.is_adopted = false;
                Sequence::Next
            }
        }
    }

    /// Builds a request inside the dialog, without Via (RFC 3261 §12.2.1.1). Takes the next CSeq number; an ACK takes
    /// the number of its INVITE, `ack_of`.
    pub fn build_request(&mut self, method: Method, ack_of: Option<u32>) -> Request {
        let number = ack_of.unwrap_or_else(|| {
            // RFC 3261 §8.1.1.5 keeps numbers below 2^31.
            self.local_cseq = (self.local_cseq + 1) & 0x7fff_ffff;
            self.local_cseq
        });
        let first_route = self
            .route_set
            .first()
            .and_then(|route| NameAddr::parse(route).ok());
        let strict = first_route.filter(|route| !route.uri.is_loose_router());
        let mut request = Request::new(
            method,
            strict.as_ref().map_or(self.request_uri(), |route| &route.uri),
        );
        let headers = &mut request.headers;
        match &strict {
            None => {
                for route in &self.route_set {
                    headers.push_field(Header::from_typed(HeaderName::Route, route));
                }
            }
            // A strict router takes its own address as Request-URI and puts the last Route there.
            Some(_) => {
                for route in &self.route_set[1..] {
                    headers.push_field(Header::from_typed(HeaderName::Route, route));
                }
                headers.push_value(HeaderName::Route, &NameAddr::new(self.request_uri().clone()));
            }
        }
        headers.push_field(Header::from_typed(HeaderName::MaxForwards, b"70"));
        headers.push_field(Header::from_typed(HeaderName::From, &self.local));
        headers.push_field(Header::from_typed(HeaderName::To, &self.remote));
        headers.push_field(Header::from_typed(HeaderName::CallId, &self.id.call_id));
        let method = request.method.clone();
        request
            .headers
            .push_value(HeaderName::CSeq, &CSeq { number, method });
        request
    }

    /// The URI whose host a request goes to first: the first Route, else the Request-URI.
    pub fn next_hop(&self) -> Uri {
        let route = self
            .route_set
            .first()
            .and_then(|route| NameAddr::parse(route).ok());
        route.map_or_else(|| self.request_uri().clone(), |route| route.uri)
    }

    /// A Replaces value that names this dialog to a third party (RFC 3891 §6.1: tags as the peer sees them).
    pub fn replaces(&self) -> Replaces {
        Replaces {
            call_id: self.id.call_id.clone(),
            to_tag: self.id.remote_tag.clone(),
            from_tag: self.id.local_tag.clone(),
            early_only: false,
        }
    }
}

/// An address that means nothing outside of its own network.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

fn route_values(routes: Vec<NameAddr>, reversed: bool) -> Vec<Bytes> {
    let write = |route: &NameAddr| {
        let mut value = Vec::with_capacity(48);
        route.write(&mut value);
        Bytes::from(value)
    };
    if reversed {
        routes.iter().rev().map(write).collect()
    } else {
        routes.iter().map(write).collect()
    }
}

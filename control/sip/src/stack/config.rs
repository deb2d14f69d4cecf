//! What a stack is told when it is made.

use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;

use super::flow::Transport;
use crate::limits::{Limits, StackLimits};
use crate::message::Method;
use crate::transaction::Timing;
use crate::uri::{Host, Uri};

/// How the stack names itself on one local socket.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The protocol.
    pub transport: Transport,
    /// The socket's address; the unspecified address (`0.0.0.0`, `[::]`) stands for every address of its family.
    pub local: SocketAddr,
    /// Host of our Via: the address others reach us at.
    pub via_host: Host,
    /// Port of our Via.
    pub via_port: Option<u16>,
    /// The base of our Contact, without owner token: host, port and `transport` are taken from it.
    pub contact: Uri,
}

impl Identity {
    /// An identity whose Via and Contact are `advertised`, the address that others reach `local` at.
    pub fn new(transport: Transport, local: SocketAddr, advertised: SocketAddr) -> Self {
        let host = Host::from(advertised.ip());
        let mut contact = Uri::sip(None, &host, Some(advertised.port()));
        if transport != Transport::Udp {
            // RFC 7118 §5.3 knows `ws` only, with and without TLS.
            let token = match transport {
                Transport::Wss => Transport::Ws.uri_token(),
                other => other.uri_token(),
            };
            contact = contact.with_param("transport", Some(token));
        }
        Self {
            transport,
            local,
            via_host: host,
            via_port: Some(advertised.port()),
            contact,
        }
    }
}

/// What to do with an in-dialog request whose dialog is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownDialogs {
    /// Answer 481.
    Refuse,
    /// Ask: [`Event::UnknownDialog`](super::Event::UnknownDialog); the user adopts the dialog, forwards the request to
    /// its owner, or answers 481 itself.
    Ask,
}

/// Session timers (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimerConfig {
    /// The interval we ask for, and the longest we accept; at least `min_se`.
    pub interval: Duration,
    /// The shortest interval we accept (Min-SE); at least 90 s.
    pub min_se: Duration,
}

impl SessionTimerConfig {
    /// 1800 s and 90 s, the RFC's recommendations.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(1800),
        min_se: Duration::from_secs(90),
    };
}

/// What a stack is told when it is made.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// At least one; the first that fits transport and address family names us on a target without flow.
    pub identities: Vec<Identity>,
    /// A URI parameter of every Contact of ours, by which a cluster finds a dialog's owner.
    pub owner: Option<(String, String)>,
    /// Server in responses and User-Agent in requests; empty for none.
    pub server_name: String,
    /// Methods served (Allow).
    pub methods: Vec<Method>,
    /// Option tags understood (Supported, Require): `100rel`, `timer`, `replaces`, `norefersub` are the stack's own
    /// work and may be left out to switch them off.
    pub extensions: Vec<&'static str>,
    /// Media types a body may have, as (type, subtype).
    pub content_types: Vec<(&'static str, &'static str)>,
    /// Serve `tel:` Request-URIs.
    pub tel: bool,
    /// Timer values.
    pub timing: Timing,
    /// Session timers; `None` never asks for one and never offers one, but keeps one that a peer insists on.
    pub session_timer: Option<SessionTimerConfig>,
    /// Longest wait for a final response to an INVITE after its last provisional one; then it is cancelled.
    pub ring_max: Duration,
    /// Longest time an INVITE may stay unanswered by our user; then it is refused with 480.
    pub answer_max: Duration,
    /// Seconds in the Retry-After of a 503 sent because a table is full.
    pub overload_retry_after: u32,
    /// Names of next hops are looked up through [`Stack::poll_lookup`](super::Stack::poll_lookup). Off, a request to
    /// a name fails, and a dialog whose route names a host keeps the target it has.
    pub resolves_names: bool,
    /// Domains in which the user gives devices addresses of their own (RFC 5627). Where these lead it says with
    /// [`Stack::set_registered`](super::Stack::set_registered).
    pub gruu_domains: Vec<Host>,
    /// Requests larger than this go to an address over TCP, and over UDP only if there is no connection to be had
    /// (RFC 3261 §18.1.1).
    pub udp_request_bytes_max: usize,
    /// In-dialog requests for dialogs not known here.
    pub unknown_dialogs: UnknownDialogs,
    /// Bounds of messages.
    pub message_limits: Limits,
    /// Bounds of tables.
    pub limits: StackLimits,
}

impl StackConfig {
    /// A user agent with everything this crate can do, reachable at `identities`.
    pub fn new(identities: Vec<Identity>) -> Self {
        Self {
            identities,
            owner: None,
            server_name: String::new(),
            methods: vec![
                Method::Invite,
                Method::Ack,
                Method::Bye,
                Method::Cancel,
                Method::Options,
                Method::Register,
                Method::Prack,
                Method::Update,
                Method::Info,
                Method::Refer,
                Method::Notify,
                Method::Message,
            ],
            extensions: vec!["100rel", "timer", "replaces", "norefersub", "path", "outbound"],
            content_types: vec![
                ("application", "sdp"),
                ("application", "dtmf-relay"),
                ("application", "dtmf"),
                ("application", "media_control+xml"),
                ("message", "sipfrag"),
                ("text", "plain"),
            ],
            tel: true,
            timing: Timing::DEFAULT,
            session_timer: Some(SessionTimerConfig::DEFAULT),
            ring_max: Duration::from_secs(180),
            answer_max: Duration::from_secs(300),
            overload_retry_after: 5,
            resolves_names: false,
            gruu_domains: Vec::new(),
            udp_request_bytes_max: 1_300,
            unknown_dialogs: UnknownDialogs::Refuse,
            message_limits: Limits::DEFAULT,
            limits: StackLimits::DEFAULT,
        }
    }

    /// The value of our Contact on `identity`.
    pub(crate) fn contact_value(&self, identity: &Identity) -> Bytes {
        let uri = match &self.owner {
            Some((name, value)) => identity.contact.with_param(name, Some(value)),
            None => identity.contact.clone(),
        };
        let mut value = Vec::with_capacity(uri.as_bytes().len() + 2);
        value.push(b'<');
        value.extend_from_slice(uri.as_bytes());
        value.push(b'>');
        value.into()
    }
}

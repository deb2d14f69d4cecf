//! A registered device: how it is reached, and how the journal keeps it.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sip::{
    header::NameAddr,
    stack::{Flow, FlowId, Hop, Target, Transport},
    uri::Uri,
};

use super::gruu::TempGruus;
use crate::{
    controller::{Now, unix_us},
    domain::Name,
    journal::RecordKind,
    security::is_safe_hop,
};

/// Of a device that its user prefers to all others, or as much as any.
pub(super) const PREFERENCE_MAX: u16 = 1_000;

/// A registered device, or one of several ways to it (RFC 5626).
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(super) id: u64,
    /// Its Contact: the Request-URI of what is sent to it.
    pub(crate) uri: Uri,
    /// RFC 5626 §4.1: the device, wherever it is.
    pub(super) instance: Option<Bytes>,
    /// RFC 5626 §4.2: which of the device's flows this is. Only when flows are in use.
    pub(super) reg_id: Option<u32>,
    /// How much its user prefers it, in thousandths.
    pub(super) preference: u16,
    /// Its temporary addresses, when it knows such.
    pub(super) gruus: Option<TempGruus>,
    pub(super) call_id: Bytes,
    pub(super) cseq: u32,
    pub(crate) expires: Instant,
    /// Route values for what is sent to it (RFC 3327).
    pub(crate) path: Vec<NameAddr>,
    /// How its registration came.
    pub(crate) flow: Flow,
    /// The flow can still be used: it is no connection that is gone.
    pub(super) has_flow: bool,
    /// User-Agent.
    pub(crate) agent: String,
    /// Keepalives in a row that it did not answer.
    pub(super) missed: u32,
    /// Hops of other flows of the same device, for when this one fails.
    pub(super) others: Vec<Hop>,
}

impl Binding {
    /// A target of a trunk, which is called as a device is.
    pub(crate) fn of_trunk(now: Instant, uri: Uri, transport: Transport, remote: SocketAddr) -> Self {
        let any = if remote.is_ipv4() {
            IpAddr::from([0; 4])
        } else {
            IpAddr::from([0; 16])
        };
        Self {
            id: 0,
            uri,
            instance: None,
            reg_id: None,
            preference: PREFERENCE_MAX,
            gruus: None,
            call_id: Bytes::new(),
            cseq: 0,
            expires: now,
            path: Vec::new(),
            flow: Flow {
                transport,
                local: SocketAddr::new(any, 0),
                remote,
                id: FlowId(0),
            },
            has_flow: false,
            agent: String::new(),
            missed: 0,
            others: Vec::new(),
        }
    }

    /// How much its user prefers it to others.
    pub(crate) fn preference(&self) -> u16 {
        self.preference
    }

    /// It is this device.
    pub(crate) fn is_instance(&self, instance: &Bytes) -> bool {
        self.instance.as_ref() == Some(instance)
    }

    /// Where its requests go, first choice first.
    pub(crate) fn hops(&self) -> Vec<Hop> {
        let mut hops = self.own_hops();
        hops.extend(self.others.iter().cloned());
        hops
    }

    /// Nobody reads what is sent to it, whichever of its flows that goes over.
    pub(crate) fn is_safe(&self) -> bool {
        let hops = self.hops();
        !hops.is_empty() && hops.iter().all(is_safe_hop)
    }

    /// Whom its requests reach first: the phone, or the proxy before it.
    pub(crate) fn peer(&self) -> IpAddr {
        match self.path.first().and_then(|first| Hop::of_uri(&first.uri)) {
            Some(Hop::Target(target)) => target.remote().ip(),
            Some(Hop::Name(_)) | None => self.flow.remote.ip(),
        }
    }

    pub(super) fn own_hops(&self) -> Vec<Hop> {
        let flow = self.has_flow.then_some(Hop::Target(Target::Flow(self.flow)));
        if let Some(first) = self.path.first() {
            return Hop::of_uri(&first.uri).or(flow).into_iter().collect();
        }
        // A connection, or the source address (RFC 3581 §4), is the only way back behind a NAT. Without one the phone
        // is also where it says (RFC 3261 §18.1.1): it may have closed the connection it registered over.
        let reached = self.reached().map(Hop::Target);
        match self.flow.transport {
            Transport::Udp => reached.or(flow).into_iter().collect(),
            Transport::Tcp => flow.into_iter().chain(reached).collect(),
            // Whom such a phone's certificate names nobody knows, and browsers cannot be called.
            Transport::Tls | Transport::Ws | Transport::Wss => flow.into_iter().collect(),
        }
    }

    /// The address of the Contact, when the registration came from there.
    fn reached(&self) -> Option<Target> {
        match Hop::of_uri(&self.uri) {
            Some(Hop::Target(target)) => {
                let same_ip = target.remote().ip() == self.flow.remote.ip().to_canonical();
                (same_ip && target.transport() == self.flow.transport).then_some(target)
            }
            Some(Hop::Name(_)) | None => None,
        }
    }

    /// It registered over UDP from another address than its Contact names: only the NAT's memory leads to it.
    pub(super) fn is_behind_nat(&self) -> bool {
        let contact = self.reached().map(|target| target.remote());
        self.path.is_empty() && self.flow.transport == Transport::Udp && contact != Some(self.flow.remote)
    }

    /// RFC 5626 §6, RFC 3261 §10.3: what a new registration of this Contact takes the place of.
    pub(super) fn is_same(&self, contact: &Identity) -> bool {
        match (&self.instance, &contact.instance) {
            // A device that told its flows apart does so no more, or does so from now on.
            (Some(own), Some(other)) if own == other => {
                self.reg_id == contact.reg_id || self.reg_id.is_none() || contact.reg_id.is_none()
            }
            _ => self.uri.matches(&contact.uri),
        }
    }

    /// What the journal keeps of it.
    pub(crate) fn record(&self, user: &str, now: Now) -> RecordKind {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let left = self.expires.saturating_duration_since(now.mono);
        RecordKind::Registered {
            user: user.to_owned(),
            contact: text(self.uri.as_bytes()),
            path: self.path.iter().map(|hop| text(hop.uri.as_bytes())).collect(),
            source: source_of(self.flow),
            local: self.flow.local.to_string(),
            instance: self.instance.as_deref().map(text).unwrap_or_default(),
            reg_id: self.reg_id,
            preference: (self.preference != PREFERENCE_MAX).then_some(self.preference),
            call_id: text(&self.call_id),
            cseq: self.cseq,
            gruu_secret: self.gruus.as_ref().map(|gruus| gruus.secret.clone()),
            gruu_count: self.gruus.as_ref().map_or(0, |gruus| gruus.count),
            user_agent: self.agent.clone(),
            expires_unix_us: unix_us(now.wall + left),
        }
    }

    /// A device as the journal kept it then, its user, and for how long it is still registered. `None`: it is registered no
    /// more, or the record is not understood.
    pub(super) fn of_record(at_unix_us: u64, kind: &RecordKind, now: Now) -> Option<(Name, Self)> {
        let RecordKind::Registered {
            user,
            contact,
            path,
            source,
            local,
            instance,
            reg_id,
            preference,
            call_id,
            cseq,
            gruu_secret,
            gruu_count,
            user_agent,
            expires_unix_us,
        } = kind
        else {
            return None;
        };
        // A clock that was set back since makes no registration longer than it was then.
        let left_us = expires_unix_us
            .checked_sub(unix_us(now.wall).max(at_unix_us))
            .filter(|left| *left > 0)?;
        let (transport, remote) = source.split_once(':')?;
        let transport = Transport::from_bytes(transport.as_bytes())?;
        let remote: SocketAddr = remote.parse().ok()?;
        let path = path
            .iter()
            .map(|hop| Uri::parse(hop.clone().into()).ok().map(NameAddr::new));
        let binding = Self {
            id: 0,
            uri: Uri::parse(contact.clone().into()).ok()?,
            instance: (!instance.is_empty()).then(|| instance.clone().into()),
            reg_id: *reg_id,
            preference: preference.unwrap_or(PREFERENCE_MAX),
            gruus: gruu_secret.clone().map(|secret| TempGruus {
                secret,
                count: *gruu_count,
            }),
            call_id: call_id.clone().into(),
            cseq: *cseq,
            expires: now.mono + Duration::from_micros(left_us),
            path: path.collect::<Option<_>>()?,
            flow: Flow {
                transport,
                local: local.parse().unwrap_or(remote),
                remote,
                // A datagram's socket is known by its address; connections did not outlive their process.
                id: FlowId(0),
            },
            has_flow: transport == Transport::Udp && !local.is_empty(),
            agent: user_agent.clone(),
            missed: 0,
            others: Vec::new(),
        };
        Some((user.as_str().into(), binding))
    }
}

/// What a Contact says of the device it belongs to.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) uri: Uri,
    pub(super) instance: Option<Bytes>,
    pub(super) reg_id: Option<u32>,
    pub(super) preference: u16,
}

impl Identity {
    /// Without `outbound` a flow's number means nothing (RFC 5626 §6).
    pub(super) fn of(address: &NameAddr, outbound: bool) -> Self {
        let instance = address
            .instance()
            .map(|instance| Bytes::copy_from_slice(&instance));
        let reg_id = address.reg_id().filter(|_| outbound && instance.is_some());
        Self {
            uri: address.uri.clone(),
            instance,
            reg_id,
            preference: address.q(),
        }
    }
}

/// Transport and address, for people.
pub(crate) fn source_of(flow: Flow) -> String {
    format!("{}:{}", flow.transport.uri_token(), flow.remote)
}

/// The address a URI names; `None` for names.
pub(crate) fn address_of(uri: &Uri) -> Option<Target> {
    match Hop::of_uri(uri)? {
        Hop::Target(target) => Some(target),
        Hop::Name(_) => None,
    }
}

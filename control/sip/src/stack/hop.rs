//! Next hops: where a URI leads (RFC 3263 §4), as far as that can be said without asking a name server.

use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Instant;

use super::event::{ClientTxn, DialogKey, Event, StackError};
use super::flow::{Target, Transport};
use super::outgoing::Outgoing;
use super::{ClientTimer, Due, Stack};
use crate::limits::LOOKUP_COUNT_MAX;
use crate::message::Request;
use crate::uri::{Host, Scheme, Uri};

/// Where a request is to go: a target, or a name that stands for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// Known.
    Target(Target),
    /// To be looked up first.
    Name(NameHop),
}

/// What a name server is asked about, and what the URI says beside the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameHop {
    /// The host name.
    pub host: Bytes,
    /// The port. With one, no SRV records are asked for (RFC 3263 §4.2).
    pub port: Option<u16>,
    /// The transport. With one, no NAPTR records are asked for (RFC 3263 §4.1).
    pub transport: Option<Transport>,
    /// Only TLS and WSS will do (`sips:`).
    pub secure: bool,
}

/// The stack's name for a question about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub(super) u64);

/// A name that waits for its targets: answer with [`Stack::handle_lookup`](super::Stack::handle_lookup).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// To be given back with the answer.
    pub id: LookupId,
    /// The question.
    pub name: NameHop,
}

impl Hop {
    /// Where a request for this URI goes; `None` for other schemes, for `sips:` over UDP, which cannot be (RFC 3261
    /// §26.2.2), and for names under `.invalid`, by which browsers say that only their connection leads to them (RFC 7118
    /// §5).
    pub fn of_uri(uri: &Uri) -> Option<Self> {
        if !uri.is_sip() {
            return None;
        }
        let secure = uri.scheme() == Scheme::Sips;
        let named = uri.transport().and_then(|name| Transport::from_bytes(&name));
        let transport = match named {
            Some(Transport::Udp) if secure => return None,
            Some(Transport::Tcp) if secure => Some(Transport::Tls),
            Some(Transport::Ws) if secure => Some(Transport::Wss),
            None if secure && uri.port().is_some() => Some(Transport::Tls),
            named => named,
        };
        let maddr = uri.param("maddr").and_then(Host::parse);
        match maddr.as_ref().or(uri.host())? {
            Host::Ip(ip) => {
                // RFC 3263 §4.1: an address and no transport mean UDP, or TLS for sips.
                let otherwise = if secure { Transport::Tls } else { Transport::Udp };
                let transport = transport.unwrap_or(otherwise);
                let port = uri.port().unwrap_or(transport.default_port());
                let remote = SocketAddr::new(ip.to_canonical(), port);
                Some(Self::Target(Target::address(transport, remote)))
            }
            Host::Name(name) => {
                let name = name
                    .strip_suffix(b".")
                    .map_or(name.clone(), |name| name.to_vec().into());
                let unreachable = name.len() >= 8 && name[name.len() - 8..].eq_ignore_ascii_case(b".invalid");
                (!unreachable).then_some(Self::Name(NameHop {
                    host: name,
                    port: uri.port(),
                    transport,
                    secure,
                }))
            }
        }
    }
}

impl From<Target> for Hop {
    fn from(target: Target) -> Self {
        Self::Target(target)
    }
}

impl From<NameHop> for Hop {
    fn from(name: NameHop) -> Self {
        Self::Name(name)
    }
}

/// A request whose next hop is being looked up.
#[derive(Debug)]
pub(super) struct Parked {
    request: Request,
    /// The hops after the one that is looked up.
    outgoing: Outgoing,
}

impl Stack {
    /// The targets of a name, best first; none when it has none. A request goes on to its next hop then, or fails; a
    /// dialog keeps the target it has. Targets we have no socket for are passed over.
    pub fn handle_lookup(&mut self, now: Instant, id: LookupId, targets: Vec<Target>) {
        let usable = targets
            .into_iter()
            .filter(|target| self.identity_for(target).is_some());
        let mut usable: Vec<Target> = usable.collect();
        if let Some(mut parked) = self.take_parked(id.0) {
            for target in usable.into_iter().rev() {
                parked.outgoing.hops.push_front(Hop::Target(target));
            }
            self.start_or_fail(now, id.0, parked.request, parked.outgoing);
        } else if let (Some(entry), false) = (self.dialogs.get_mut(&id.0), usable.is_empty())
            && entry.looked_up.is_some()
        {
            entry.dialog.target = usable.remove(0);
            entry.alternates = usable;
        }
    }

    /// Keeps a request until its next hop is known.
    pub(super) fn park(
        &mut self,
        now: Instant,
        id: u64,
        name: NameHop,
        request: Request,
        outgoing: Outgoing,
    ) -> Result<(), StackError> {
        self.ask(id, name)?;
        self.parked.insert(id, Parked { request, outgoing });
        let overdue = Due::Client(id, ClientTimer::Lookup);
        self.timers.start(overdue, now + self.config.timing.give_up());
        Ok(())
    }

    /// Asks for the targets of a name, on behalf of a request or a dialog.
    pub(super) fn ask(&mut self, id: u64, name: NameHop) -> Result<(), StackError> {
        if !self.config.resolves_names {
            return Err(StackError::NoTarget);
        }
        if self.lookups.len() >= LOOKUP_COUNT_MAX {
            return Err(StackError::Overloaded);
        }
        let id = LookupId(id);
        self.lookups.push_back(Lookup { id, name });
        Ok(())
    }

    /// An address failed: whoever looks names up may prefer others. Dropped when nobody takes them.
    pub(super) fn note_failed(&mut self, id: u64) {
        let target = self.clients.get(&id).map(|client| client.target.clone());
        if let Some(target @ Target::Address { .. }) = target
            && self.config.resolves_names
            && self.failed_targets.len() < LOOKUP_COUNT_MAX
        {
            self.failed_targets.push_back(target);
        }
    }

    pub(super) fn take_parked(&mut self, id: u64) -> Option<Parked> {
        self.timers.stop(Due::Client(id, ClientTimer::Lookup));
        self.parked.remove(&id)
    }

    pub(super) fn lookup_overdue(&mut self, now: Instant, id: u64) {
        if let Some(parked) = self.take_parked(id) {
            self.start_or_fail(now, id, parked.request, parked.outgoing);
        }
    }

    /// Withdraws a request that was never sent; its user hears that no answer came. False when there is none.
    pub(super) fn unpark(&mut self, now: Instant, id: u64) -> bool {
        let Some(Parked { request, outgoing }) = self.take_parked(id) else {
            return false;
        };
        if !outgoing.silent {
            self.events.push_back(Event::Timeout {
                txn: ClientTxn(id),
                dialog: outgoing.dialog.map(DialogKey),
            });
        }
        self.after_final(now, id, outgoing.dialog, &request.method, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(uri: &'static str) -> Option<Hop> {
        Hop::of_uri(&Uri::parse(uri.into()).unwrap())
    }

    #[test]
    fn addresses_are_targets_at_once() {
        let cases = [
            ("sip:a@192.0.2.1", Transport::Udp, "192.0.2.1:5060"),
            ("sip:a@192.0.2.1;transport=tcp", Transport::Tcp, "192.0.2.1:5060"),
            ("sips:a@192.0.2.1", Transport::Tls, "192.0.2.1:5061"),
            ("sips:a@192.0.2.1;transport=tcp", Transport::Tls, "192.0.2.1:5061"),
            ("sips:a@192.0.2.1:99;transport=ws", Transport::Wss, "192.0.2.1:99"),
            ("sip:a@[2001:db8::1]:5070", Transport::Udp, "[2001:db8::1]:5070"),
            (
                "sip:a@example.com;maddr=192.0.2.9",
                Transport::Udp,
                "192.0.2.9:5060",
            ),
        ];
        for (uri, transport, remote) in cases {
            let expected = Target::address(transport, remote.parse().unwrap());
            assert_eq!(hop(uri), Some(Hop::Target(expected)), "{uri}");
        }
    }

    #[test]
    fn names_are_looked_up_and_invalid_ones_lead_nowhere() {
        let name = |port, transport, secure| {
            Some(Hop::Name(NameHop {
                host: "example.com".into(),
                port,
                transport,
                secure,
            }))
        };
        assert_eq!(hop("sip:a@example.com"), name(None, None, false));
        assert_eq!(hop("sip:a@example.com.:5070"), name(Some(5070), None, false));
        assert_eq!(hop("sips:a@example.com"), name(None, None, true));
        let tls = Some(Transport::Tls);
        assert_eq!(hop("sips:a@example.com:9"), name(Some(9), tls, true));
        assert_eq!(hop("sips:a@example.com;transport=tcp"), name(None, tls, true));
        assert_eq!(hop("sip:a@df7jal23ls0d.invalid;transport=ws"), None);
        assert_eq!(hop("tel:+1234"), None);
    }

    #[test]
    fn nothing_secure_goes_in_clear() {
        for uri in [
            "sips:a@192.0.2.1;transport=udp",
            "sips:a@example.com;transport=UDP",
        ] {
            assert_eq!(hop(uri), None, "{uri}");
        }
    }
}

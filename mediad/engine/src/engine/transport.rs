//! The sockets of a session: who may send to them and where they send to.

use std::{mem::offset_of, net::SocketAddr, ops::Range, sync::Arc, time::Instant};

use rtp::demux::Kind;
use srtp::Outbound;

use super::{
    Egress, links,
    prefetch::prefetch_first,
    security::Security,
    slab::Key,
    source::{RtcpSource, SourceLock},
};
use crate::{
    command::{DropReason, SocketId, TransportReport, TransportSockets},
    spec::{MasterKey, RtcpMode, SessionOptions, SourcePolicy, TransportKind, TransportSpec},
};

/// What a socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) transport: Key,
    /// The socket of RTCP alone.
    pub(crate) rtcp: bool,
}

/// A transport in use. Hot fields first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Transport {
    pub(crate) source: SourceLock,
    pub(crate) endpoint: Option<Key>,
    pub(crate) rtp_socket: SocketId,
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    /// For what is encrypted.
    pub(crate) security: Option<Box<Security>>,
    is_dropping: bool,
    pub(crate) session: Key,
    pub(crate) rtcp_socket: Option<SocketId>,
    /// Sent by what is not counted at an endpoint: RTCP, and endpoints that are gone.
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) spec: Arc<TransportSpec>,
    pub(crate) rtcp_source: RtcpSource,
    drops: [u32; DropReason::COUNT],
    /// Those since RTP was last taken: why there is none now.
    drops_since_rx: [u16; DropReason::COUNT],
    refused: Option<SocketAddr>,
    /// A link whose other end is there.
    pub(crate) linked: bool,
}

impl Transport {
    /// What a packet needs of it, from its place in a [`Slab`](super::slab::Slab) on.
    pub(super) const RECEIVING: Range<usize> = 0..offset_of!(Transport, session) + size_of::<Key>();

    /// A hint: a packet follows.
    pub(super) fn prefetch(&self, tx: &impl Egress) {
        if let Some(security) = self.security.as_deref() {
            prefetch_first(tx, security);
        }
    }

    pub(crate) fn new(
        session: Key,
        spec: Arc<TransportSpec>,
        sockets: &TransportSockets,
        options: &SessionOptions,
    ) -> Self {
        Self {
            source: {
                let (policy, remote) = signalled(&spec);
                SourceLock::new(policy, remote, options.relearn_after)
            },
            endpoint: None,
            rx_packets: 0,
            rx_bytes: 0,
            session,
            rtp_socket: sockets.rtp,
            rtcp_socket: sockets.rtcp,
            tx_packets: 0,
            tx_bytes: 0,
            spec,
            rtcp_source: RtcpSource::default(),
            drops: [0; DropReason::COUNT],
            drops_since_rx: [0; DropReason::COUNT],
            is_dropping: false,
            refused: None,
            linked: false,
            security: None,
        }
    }

    /// Take a changed spec; sockets and counters stay.
    pub(crate) fn update(&mut self, now: Instant, spec: Arc<TransportSpec>, options: &SessionOptions) {
        let before = self.source.destination();
        let (policy, remote) = signalled(&spec);
        self.source.update(now, policy, remote, options.relearn_after);
        let remote_rtcp = self.remote_rtcp();
        self.spec = spec;
        if before != self.source.destination() || remote_rtcp != self.remote_rtcp() {
            self.rtcp_source.forget();
        }
        // What was dropped under other terms does not say why nothing comes now.
        self.take();
    }

    /// Count a drop; `from` is kept when it was refused for what it is.
    #[inline]
    pub(crate) fn drop(&mut self, reason: DropReason, from: SocketAddr) {
        self.count(reason);
        if matches!(reason, DropReason::WrongSource | DropReason::Probation) {
            self.refused = Some(from);
        }
    }

    /// RTP was taken: what was dropped before is history.
    #[inline]
    pub(crate) fn take(&mut self) {
        if self.is_dropping {
            self.is_dropping = false;
            self.drops_since_rx = [0; DropReason::COUNT];
        }
    }

    /// Count a drop whose source does not matter.
    #[inline]
    pub(crate) fn count(&mut self, reason: DropReason) {
        let count = &mut self.drops[reason as usize];
        *count = count.saturating_add(1);
        let since = &mut self.drops_since_rx[reason as usize];
        *since = since.saturating_add(1);
        self.is_dropping = true;
    }

    /// Count packets and bytes that an endpoint sent while it rode here.
    pub(crate) fn count_sent(&mut self, (packets, bytes): (u64, u64)) {
        self.tx_packets += packets;
        self.tx_bytes += bytes;
    }

    /// Nothing can be sent: keys are missing, or the socket.
    fn is_mute(&self) -> bool {
        let security = self.security.as_ref();
        self.rtp_socket == SocketId::NONE || security.is_some_and(|security| !security.is_ready())
    }

    /// Where RTP is sent.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        if self.is_mute() {
            return None;
        }
        match &self.spec.kind {
            TransportKind::Udp(_) => self.source.destination(),
            TransportKind::Link(_) => self.linked.then_some(links::THROUGH),
        }
    }

    /// Take the keys of the spec and the one that is sent with.
    pub(crate) fn secure(&mut self, now: Instant, sending: Option<&Arc<MasterKey>>) {
        match self.spec.sdes() {
            Some(sdes) => self
                .security
                .get_or_insert_default()
                .update(now, sdes.remote.as_ref(), sending),
            None => self.security = None,
        }
        self.source.authentic = self.security.is_some();
    }

    /// Keep what encrypts while nobody rides here.
    pub(crate) fn park(&mut self, sealer: Option<Box<Outbound>>) {
        if let (Some(security), Some(sealer)) = (&mut self.security, sealer) {
            security.park(sealer);
        }
    }

    /// What encrypts, for who rides here; nothing while keys are missing.
    pub(crate) fn take_sealer(&mut self) -> Option<Box<Outbound>> {
        self.security.as_mut()?.take_sealer()
    }

    /// Checks and decrypts what was received; its length then. Who is not the locked source is not worth the work.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        kind: Kind,
        on_rtcp_socket: bool,
        from: SocketAddr,
        data: &mut [u8],
    ) -> Result<usize, DropReason> {
        let Some(security) = &mut self.security else {
            return Ok(data.len());
        };
        match kind {
            Kind::Rtp if !on_rtcp_socket && self.source.is_stranger(now, from) => {
                Err(DropReason::WrongSource)
            }
            Kind::Rtp if !on_rtcp_socket => security.open_rtp(now, data),
            Kind::Rtcp => security.open_rtcp(now, data),
            Kind::Rtp | Kind::Stun | Kind::Dtls | Kind::Zrtp | Kind::TurnChannel | Kind::Unknown => {
                Ok(data.len())
            }
        }
    }

    /// Where RTCP goes; what passes a link has been reported on already.
    pub(crate) fn rtcp_mode(&self) -> RtcpMode {
        self.spec.udp().map_or(RtcpMode::Off, |udp| udp.rtcp)
    }

    /// Where the peer said it receives RTCP.
    pub(crate) fn remote_rtcp(&self) -> Option<SocketAddr> {
        self.spec.udp().and_then(|udp| udp.remote_rtcp)
    }

    /// Socket and address for RTCP, if it goes anywhere.
    pub(crate) fn rtcp_destination(&self) -> Option<(SocketId, SocketAddr)> {
        if self.is_mute() {
            return None;
        }
        match self.rtcp_mode() {
            RtcpMode::Off => None,
            RtcpMode::Mux => Some((self.rtp_socket, self.source.destination()?)),
            RtcpMode::Separate => {
                let to = self.rtcp_source.destination(&self.source, self.remote_rtcp())?;
                Some((self.rtcp_socket?, to))
            }
        }
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        std::iter::once(self.rtp_socket).chain(self.rtcp_socket)
    }

    /// State for the host, with what its endpoint sent.
    pub(crate) fn report(&self, endpoint_tx: (u64, u64)) -> TransportReport {
        TransportReport {
            transport: self.spec.id.clone(),
            remote: self.source.destination(),
            remote_rtcp: self.rtcp_destination().map(|(_, to)| to),
            source: self.source.state(),
            learned_at: self.source.learned_at(),
            relearned: self.source.relearned(),
            rx_packets: self.rx_packets,
            rx_bytes: self.rx_bytes,
            tx_packets: self.tx_packets + endpoint_tx.0,
            tx_bytes: self.tx_bytes + endpoint_tx.1,
            drops: self.drops.map(u64::from),
            drops_since_rx: self.drops_since_rx.map(u64::from),
            refused: self.refused,
            linked: self.linked,
        }
    }
}

/// Whose packets are accepted and where the signalling sends ours. Nobody outside sends to a link.
fn signalled(spec: &TransportSpec) -> (SourcePolicy, Option<SocketAddr>) {
    spec.udp()
        .map_or((SourcePolicy::Signalled, None), |udp| (udp.source, udp.remote))
}

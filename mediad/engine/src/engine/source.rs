//! Whose packets a transport accepts, and where it sends: latching that a stranger cannot disturb.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use rtp::{header::RtpHeader, time::Now};

use super::{random::mix, slab::Key, unix::UnixMicros};
use crate::{
    command::{DropReason, SourceState},
    limits,
    spec::SourcePolicy,
};

/// Whether two socket addresses name one source. Flow label and scope of IPv6 are not part of it.
pub(crate) fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// From the locked source.
    Accept,
    /// The source is locked from now on; packets go there. Not said when it is where they went already.
    Learned {
        /// Where packets went before.
        previous: Option<SocketAddr>,
    },
    /// Not ours.
    Refuse(DropReason),
}

/// What became of a lock when the signalling named another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It did not.
    Held,
    /// It was given up.
    GivenUp,
    /// It was given up, and its source learned again.
    Again,
}

/// The source of RTP of one transport.
#[derive(Debug)]
pub(crate) struct SourceLock {
    /// Also one that was given up: see [`Self::held`].
    locked: Option<SocketAddr>,
    hold: Hold,
    /// When the locked source was last heard; of one that was given up: when it was.
    heard: Option<Instant>,
    policy: SourcePolicy,
    /// What is judged is known to come from the peer: one packet is enough to learn its address.
    pub(crate) authentic: bool,
    /// Somebody not trusted yet is sending.
    probing: bool,
    /// Small, for every transport has it: see [`Self::relearn_after`].
    relearn_after_ms: u32,
    /// What was named last, also when it was taken away since: see [`Self::signalled`].
    named: Option<SocketAddr>,
    taken_away: bool,
    learned_at: UnixMicros,
    relearned: u32,
}

impl SourceLock {
    pub(crate) fn new(policy: SourcePolicy, signalled: Option<SocketAddr>, relearn_after: Duration) -> Self {
        Self {
            locked: None,
            hold: Hold::Held,
            heard: None,
            policy,
            authentic: false,
            probing: false,
            relearn_after_ms: millis(relearn_after),
            named: signalled,
            taken_away: false,
            learned_at: UnixMicros::default(),
            relearned: 0,
        }
    }

    /// The signalling said something new. A lock to another address than a new one is given up: the caller asked for
    /// that address, and a peer behind NAT is learned within four packets, or learned again once what was on its way has
    /// come. An address that is only taken away, as for a hold, and given again leaves a live lock alone.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        policy: SourcePolicy,
        signalled: Option<SocketAddr>,
        relearn_after: Duration,
    ) {
        self.relearn_after_ms = millis(relearn_after);
        let moved = signalled.is_some() && signalled != self.named;
        let restricted =
            policy == SourcePolicy::Signalled && (policy, signalled) != (self.policy, self.signalled());
        if let Some(locked) = self.held() {
            if signalled.is_some_and(|signalled| same(signalled, locked)) {
                self.hold = Hold::Held;
            } else if moved || restricted {
                self.give_up(now);
            }
        }
        self.policy = policy;
        self.taken_away = signalled.is_none();
        self.named = signalled.or(self.named);
    }

    /// A locked source that was silent this long may be replaced.
    fn relearn_after(&self) -> Duration {
        Duration::from_millis(self.relearn_after_ms.into())
    }

    fn give_up(&mut self, now: Instant) {
        self.hold = Hold::GivenUp;
        self.heard = Some(now);
    }

    fn signalled(&self) -> Option<SocketAddr> {
        self.named.filter(|_| !self.taken_away)
    }

    fn held(&self) -> Option<SocketAddr> {
        self.locked.filter(|_| self.hold != Hold::GivenUp)
    }

    /// When to look whether a source that was learned again still sends.
    pub(crate) fn due(&self) -> Option<Instant> {
        let heard = self
            .heard
            .filter(|_| self.hold == Hold::Again && self.signalled().is_some())?;
        Some(heard + self.relearn_after())
    }

    /// A peer that moved may have nothing to say where it is now, and its last packets from where it was taught that again:
    /// once those have ceased, what the signalling named holds. Gives where packets go then, and where they went.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Option<(SocketAddr, SocketAddr)> {
        let (signalled, locked) = (self.signalled()?, self.locked?);
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        self.give_up(now);
        Some((signalled, locked))
    }

    /// Where RTP is sent.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        self.held().or(self.signalled())
    }

    /// The source is locked and not where the signalling said.
    pub(crate) fn is_learned(&self) -> bool {
        self.held()
            .is_some_and(|locked| !self.signalled().is_some_and(|signalled| same(signalled, locked)))
    }

    pub(crate) fn state(&self) -> SourceState {
        match (self.held(), self.probing) {
            (Some(_), _) => SourceState::Locked,
            (None, true) => SourceState::Probation,
            (None, false) => SourceState::Signalled,
        }
    }

    pub(crate) fn learned_at(&self) -> Option<SystemTime> {
        self.learned_at.get()
    }

    pub(crate) fn relearned(&self) -> u32 {
        self.relearned
    }

    /// Whether `from` is whom we talk to already: for RTCP on the same port, which never teaches an address.
    pub(crate) fn is_peer(&self, from: SocketAddr) -> bool {
        self.destination().is_some_and(|peer| same(peer, from))
    }

    /// The source is locked to somebody else who is alive.
    #[inline]
    pub(crate) fn is_stranger(&self, now: Instant, from: SocketAddr) -> bool {
        self.locked != Some(from) && self.is_alive(now) && !self.gives_way_to(from)
    }

    /// When media moves, packets from where it was go on for a moment and are learned again: they do not keep out the
    /// address that the signalling named instead.
    fn gives_way_to(&self, from: SocketAddr) -> bool {
        self.hold == Hold::Again && self.is_signalled(from)
    }

    fn is_signalled(&self, from: SocketAddr) -> bool {
        self.signalled().is_some_and(|signalled| same(signalled, from))
    }

    /// Judge a datagram from the locked source without its content; `None` if it needs [`judge`](Self::judge).
    #[inline]
    pub(crate) fn recognise(&mut self, now: Instant, from: SocketAddr) -> Option<Verdict> {
        if self.locked == Some(from) && self.hold != Hold::GivenUp {
            self.heard = Some(now);
            return Some(Verdict::Accept);
        }
        if self.is_stranger(now, from) {
            return Some(Verdict::Refuse(DropReason::WrongSource));
        }
        None
    }

    /// Judge a valid RTP packet that [`recognise`](Self::recognise) left open.
    pub(crate) fn judge(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: &RtpHeader,
        transport: Key,
        probation: &mut Probation,
    ) -> Verdict {
        let is_signalled = self.is_signalled(from);
        if self.policy != SourcePolicy::Signalled && self.is_on_its_way(now.mono, from) {
            return Verdict::Accept;
        }
        let trusted = match self.policy {
            SourcePolicy::Signalled if !is_signalled => return Verdict::Refuse(DropReason::WrongSource),
            SourcePolicy::Signalled | SourcePolicy::Immediate => true,
            // What the signalling named needs no probation.
            SourcePolicy::Learn => {
                self.authentic || is_signalled || probation.passes(now.mono, transport, from, header)
            }
        };
        if !trusted {
            self.probing = true;
            return Verdict::Refuse(DropReason::Probation);
        }
        self.lock(now, from)
    }

    /// The peer has just moved away from there, as the signalling said: what was sent before is heard, and says nothing of
    /// where the peer is.
    fn is_on_its_way(&self, now: Instant, from: SocketAddr) -> bool {
        let given_up = self.heard.filter(|_| self.hold == Hold::GivenUp);
        self.locked == Some(from)
            && !self.is_signalled(from)
            && given_up.is_some_and(|at| now.saturating_duration_since(at) < limits::MOVES_WITHIN)
    }

    fn lock(&mut self, now: Now, from: SocketAddr) -> Verdict {
        let previous = self.destination();
        self.hold = match self.hold {
            Hold::GivenUp | Hold::Again if self.locked == Some(from) && !self.is_signalled(from) => {
                Hold::Again
            }
            Hold::Held | Hold::GivenUp | Hold::Again => Hold::Held,
        };
        self.locked = Some(from);
        self.heard = Some(now.mono);
        self.probing = false;
        if previous.is_some_and(|previous| same(previous, from)) {
            return Verdict::Accept;
        }
        if self.learned_at.get().is_some() {
            self.relearned = self.relearned.saturating_add(1);
        }
        self.learned_at = UnixMicros::of(now.wall);
        Verdict::Learned { previous }
    }

    /// Nobody else is listened to. Who has to prove with its key who it is may do so from elsewhere once it is silent for
    /// a moment: a NAT that forgot its binding.
    fn is_alive(&self, now: Instant) -> bool {
        let patience = match self.authentic {
            true => self.relearn_after().min(limits::AUTHENTIC_RELEARN_AFTER),
            false => self.relearn_after(),
        };
        let silent = self.heard.map(|heard| now.saturating_duration_since(heard));
        self.held().is_some() && silent.is_some_and(|silent| silent < patience)
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The source of RTCP of a transport with a port of its own for it.
#[derive(Debug, Default)]
pub(crate) struct RtcpSource {
    learned: Option<SocketAddr>,
    heard: Option<Instant>,
}

impl RtcpSource {
    /// Forget what was learned: RTP moved.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Where RTCP is sent: learned, else beside learned RTP, else as signalled.
    pub(crate) fn destination(&self, rtp: &SourceLock, signalled: Option<SocketAddr>) -> Option<SocketAddr> {
        self.learned.or_else(|| {
            let signalled = if rtp.is_learned() { None } else { signalled };
            signalled.or_else(|| rtp.destination().and_then(port_above))
        })
    }

    /// Judge a valid RTCP packet. Only a host that already sends us RTP, or was signalled, can teach us its port.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        rtp: &SourceLock,
        signalled: Option<SocketAddr>,
    ) -> Verdict {
        let expected = self.destination(rtp, signalled);
        if expected.is_some_and(|expected| same(expected, from)) {
            self.heard = Some(now);
            return Verdict::Accept;
        }
        let silent = self.heard.map(|heard| now.saturating_duration_since(heard));
        let alive = silent.is_some_and(|silent| silent < limits::RTCP_RELEARN_AFTER);
        let same_host = rtp
            .destination()
            .is_some_and(|peer| peer.ip().to_canonical() == from.ip().to_canonical());
        if alive || !same_host || rtp.policy == SourcePolicy::Signalled {
            return Verdict::Refuse(DropReason::WrongSource);
        }
        self.learned = Some(from);
        self.heard = Some(now);
        Verdict::Learned { previous: expected }
    }
}

fn port_above(rtp: SocketAddr) -> Option<SocketAddr> {
    Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?))
}

/// Progress of sources that are not trusted yet, for all transports of an engine in one table of fixed size.
///
/// One slot for each transport could be held, or reset, by whoever sends most. Here every packet of a flood lands in
/// a place that depends on a secret seed; the true peer's place is overwritten between two of its packets only with a
/// small chance, and a place with two packets in sequence outranks any with one. So a flood delays learning and cannot
/// prevent it, and it costs no memory.
#[derive(Debug)]
pub(crate) struct Probation {
    seed: u64,
    entries: Box<[[Entry; WAYS]]>,
    origin: Option<Instant>,
}

/// Entries that share a place.
const WAYS: usize = 4;
/// A source that paused this long starts over, in units of 32 ms.
const PATIENCE: u8 = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    tag: u32,
    expected: u16,
    /// Packets in sequence so far; 0 is free.
    count: u8,
    /// When, in units of 32 ms, modulo 256.
    at: u8,
}

impl Probation {
    pub(crate) fn new(seed: u64) -> Self {
        let entries = vec![[Entry::default(); WAYS]; limits::PROBATION_ENTRIES / WAYS].into_boxed_slice();
        Self {
            seed,
            entries,
            origin: None,
        }
    }

    /// Count a packet; true once `from` sent enough of them in sequence with one SSRC.
    fn passes(&mut self, now: Instant, transport: Key, from: SocketAddr, header: &RtpHeader) -> bool {
        let hash = self.hash(transport, from, header.ssrc.0);
        let (tag, place) = ((hash >> 32) as u32, hash as usize % self.entries.len());
        let at = self.stamp(now);
        let bucket = &mut self.entries[place];
        let rank = |entry: &Entry| {
            if at.wrapping_sub(entry.at) > PATIENCE {
                0
            } else {
                entry.count
            }
        };
        let next = header.sequence.wrapping_add(1);
        if let Some(entry) = bucket
            .iter_mut()
            .find(|entry| entry.tag == tag && rank(entry) > 0)
        {
            if header.sequence == entry.expected.wrapping_sub(1) {
                return false;
            }
            entry.count = if header.sequence == entry.expected {
                entry.count + 1
            } else {
                1
            };
            entry.expected = next;
            entry.at = at;
            if entry.count < limits::PROBATION_PACKETS {
                return false;
            }
            *entry = Entry::default();
            return true;
        }
        // The least proven goes; among equals a random one, or a flood would always keep the oldest out.
        let turn = (hash >> 20) as usize % WAYS;
        let Some(weakest) = (0..WAYS)
            .map(|way| (way + turn) % WAYS)
            .min_by_key(|way| rank(&bucket[*way]))
        else {
            return false;
        };
        bucket[weakest] = Entry {
            tag,
            expected: next,
            count: 1,
            at,
        };
        limits::PROBATION_PACKETS <= 1
    }

    fn hash(&self, transport: Key, from: SocketAddr, ssrc: u32) -> u64 {
        let address = match from.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
            std::net::IpAddr::V6(ip) => u128::from(ip),
        };
        let mut hash = mix(self.seed ^ transport.bits());
        hash = mix(hash ^ address as u64);
        hash = mix(hash ^ (address >> 64) as u64);
        mix(hash ^ u64::from(ssrc) << 16 ^ u64::from(from.port()))
    }

    fn stamp(&mut self, now: Instant) -> u8 {
        // The origin only has to be the same for all: the first moment seen.
        let origin = *self.origin.get_or_insert(now);
        (now.saturating_duration_since(origin).as_millis() / 32) as u8
    }
}

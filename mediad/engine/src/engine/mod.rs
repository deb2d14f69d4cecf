//! The engine of one worker: sessions, their plans and the packet path, sans-IO.
//!
//! Call [`handle_datagram`](Engine::handle_datagram) for what a socket received,
//! [`handle_command`](Engine::handle_command) for what the host says and [`handle_timeout`](Engine::handle_timeout)
//! when [`poll_timeout`](Engine::poll_timeout) says so; each writes what it sends into an [`Egress`]. After any of
//! them take [`poll_event`](Engine::poll_event), [`poll_reply`](Engine::poll_reply) and
//! [`poll_release`](Engine::poll_release) until they are empty. Neither datagrams nor time-outs allocate.
//!
//! Sessions whose plans decode have a mixer: their sources' packets wait in jitter buffers, and every 20 ms, each session in
//! a phase of its own, all is decoded, summed and encoded at once. What is not heard costs nothing.
//!
//! Links join sessions of the host: what goes through one to a session of this engine arrives within the same call; what goes
//! to another worker is taken from [`poll_link`](Engine::poll_link) and given to that worker's
//! [`handle_link`](Engine::handle_link).
//!
//! What passes a relay is the payload. The header is written anew: contributing sources, header extensions and padding
//! are negotiated for one RTP session and end at it (RFC 7667 §3.6 calls this a back-to-back RTP session). RTCP ends here as well;
//! feedback of video (NACK, PLI) is not carried across yet.

mod collect;
mod commit;
mod decoding;
mod dialling;
mod digits;
mod encoding;
mod endpoint;
mod group;
mod hearing;
mod inband;
mod jitter;
mod line;
mod links;
mod making;
mod media;
mod mixer;
mod mixing;
mod observer;
mod outbox;
mod participant;
pub(crate) mod plan;
mod playback;
mod playing;
mod polish;
mod prefetch;
mod random;
mod recorders;
mod report;
mod retelling;
mod rtcp;
mod security;
mod shared;
mod silence;
mod slab;
mod source;
mod sum;
mod tapping;
mod tick;
mod timeout;
mod transport;
mod unix;
mod wheel;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use rtp::time::Now;

pub use self::wheel::Wake;
use self::{
    collect::Collecting,
    commit::Session,
    decoding::Scratch,
    endpoint::Endpoint,
    line::StreamId,
    links::{Links, Rounds},
    outbox::Outbox,
    playing::Player,
    random::Random,
    shared::SharedPlayers,
    slab::{Key, Slab},
    source::Probation,
    tick::Ticks,
    transport::{Flow, Transport},
    wheel::Wheel,
};
use crate::{
    command::{Command, DropReason, EngineEvent, Reply, ReplyToken, SessionKey, SocketId},
    host::EffortRange,
};

/// Where an engine puts the packets it sends.
pub trait Egress {
    /// A free buffer, the same one until [`commit`](Self::commit); `None` if the send side takes no more for now.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// Sends the first `len` bytes of the buffer from `socket` to `to`.
    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr);

    /// A hint: a packet is committed from `socket` soon.
    fn prefetch_socket(&self, socket: SocketId) {
        let _ = socket;
    }

    /// A hint: the cache line of `address` is used soon. It need not be memory of this process.
    fn prefetch(&self, address: *const u8) {
        let _ = address;
    }
}

/// What an engine is told at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// When the quality of what an endpoint receives is worth an event.
    pub mos: MosThresholds,
    /// Effort of Opus encoders, 0 to 10, until [`Command::OpusComplexity`].
    pub opus_complexity: u8,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            mos: MosThresholds::default(),
            opus_complexity: EffortRange::default().most,
        }
    }
}

/// Hysteresis of the quality event, in hundredths of MOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MosThresholds {
    /// A good stream that falls below is poor. Default 310.
    pub poor: u16,
    /// A poor stream that rises above is good. Default 360.
    pub good: u16,
}

impl Default for MosThresholds {
    fn default() -> Self {
        Self { poor: 310, good: 360 }
    }
}

/// Counters of one engine since its start, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams received, before any drop.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Datagrams sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Drops by [`DropReason`].
    pub drops: [u64; DropReason::COUNT],
    /// What its Opus encoders are to be taken for, ns: the time that all they encoded takes by
    /// [`codecs::opus::encoding_ns`].
    pub opus_ns: u64,
    /// Ticks of players whose file was not read in time: what they played was silence.
    pub late_prompt_ticks: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Endpoints now.
    pub endpoints: u32,
    /// Sockets in use now.
    pub sockets: u32,
}

/// See the module.
///
/// ```
/// use media_engine::engine::{Engine, EngineConfig};
///
/// let engine = Engine::new(EngineConfig::default(), 7);
/// assert_eq!(engine.poll_timeout(), None);
/// assert_eq!(engine.totals().sessions, 0);
/// ```
#[derive(Debug)]
pub struct Engine {
    // Passed in.
    config: EngineConfig,

    // Owned.
    random: Random,
    sessions: Slab<Session>,
    transports: Slab<Transport>,
    endpoints: Slab<Endpoint>,
    probation: Probation,
    links: Links,
    /// From the first link on; out while packets are written.
    rounds: Option<Box<Rounds>>,
    wheel: Wheel,
    ticks: Ticks,
    shared: SharedPlayers,
    /// Of the sessions that have any, in the order of their nodes.
    players: BTreeMap<Key, Vec<Player>>,
    /// Rates of the prompts of these players, in the order of all nodes.
    native_hz: BTreeMap<Key, Box<[u32]>>,
    /// Of the endpoints that gathered digits at some time; few do.
    collections: BTreeMap<Key, Collecting>,
    /// From the first session that decodes on.
    scratch: Option<Scratch>,
    outbox: Outbox,
    /// Programs have something to hear.
    tapped: bool,
    totals: Totals,
    last_stream: u64,

    // Derived.
    flows: Vec<Option<Flow>>,
    keys: BTreeMap<SessionKey, Key>,
}

impl Engine {
    /// An engine without sessions. The same seed, inputs and times give the same outputs.
    pub fn new(config: EngineConfig, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            config,
            sessions: Slab::new(),
            transports: Slab::new(),
            endpoints: Slab::new(),
            probation: Probation::new(random.next()),
            links: Links::default(),
            rounds: None,
            wheel: Wheel::new(),
            ticks: Ticks::new(),
            shared: SharedPlayers::default(),
            players: BTreeMap::new(),
            native_hz: BTreeMap::new(),
            collections: BTreeMap::new(),
            scratch: None,
            outbox: Outbox::new(),
            tapped: false,
            totals: Totals::default(),
            last_stream: 0,
            flows: Vec::new(),
            keys: BTreeMap::new(),
            random,
        }
    }

    /// Carry out a command of the host. May allocate; answers come from [`poll_reply`](Self::poll_reply), sockets no
    /// longer needed from [`poll_release`](Self::poll_release): send what is in `tx` before closing them.
    pub fn handle_command(&mut self, now: Now, command: Command, tx: &mut impl Egress) {
        if let Command::Commit(commit) = &command
            && !commit.links.is_empty()
        {
            self.rounds.get_or_insert_default().reserve();
        }
        let mut exits = self.open_exits(tx);
        match command {
            Command::Commit(commit) => self.commit(now, *commit, &mut exits),
            Command::Link(link, peer) => self.join(link, peer),
            Command::Attend(session) => {
                if let Some(key) = self.keys.get(&session).copied() {
                    self.wake_session(now, key);
                }
            }
            Command::End(session, token) => {
                let report = self.end(now, session, &mut exits);
                self.outbox.reply(token, Reply::Ended(report));
            }
            Command::Report(session, token) => {
                let report = self.keys.get(&session).and_then(|key| self.report(now, *key));
                self.outbox.reply(token, Reply::Report(report));
            }
            Command::Orphaned(session, orphaned) => self.set_orphaned(now, session, orphaned),
            Command::SendDigits(session, node, digits) => self.send_digits(now, session, &node, &digits),
            Command::OpusComplexity(complexity) => self.config.opus_complexity = complexity,
            Command::Seek {
                session,
                node,
                item,
                position_ms,
            } => self.seek(now, session, &node, item, position_ms),
            Command::Collect {
                session,
                node,
                request,
                wish,
            } => self.collect(now, session, &node, request, wish),
            Command::Flush(session, node) => self.flush(now, session, &node),
        }
        self.carry(now, &mut exits, 0);
        self.close_exits(exits);
    }

    /// The backend dropped a datagram by itself: received on, or meant to be sent from, `socket`.
    pub fn note_drop(&mut self, socket: SocketId, reason: DropReason) {
        self.totals.drops[reason as usize] += 1;
        let received = reason != DropReason::EgressFull;
        self.totals.rx_packets += u64::from(received);
        if let Some(transport) = self
            .flow(socket)
            .and_then(|flow| self.transports.get_mut(flow.transport))
        {
            transport.rx_packets += u64::from(received);
            transport.count(reason);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, and why; `None` while there is no session. O(1).
    pub fn poll_timeout(&self) -> Option<(Instant, Wake)> {
        let tick = self.ticks.next_deadline().map(|at| (at, Wake::Tick));
        self.wheel.next_deadline().into_iter().chain(tick).min()
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<EngineEvent> {
        self.outbox.take_event()
    }

    /// Events lost because nobody took those before: whoever follows events has to start anew.
    pub fn lost_events(&self) -> u64 {
        self.outbox.lost_events()
    }

    /// The next reply, in the order of the commands.
    pub fn poll_reply(&mut self) -> Option<(ReplyToken, Reply)> {
        self.outbox.take_reply()
    }

    /// Replies lost because nobody took those before.
    pub fn lost_replies(&self) -> u64 {
        self.outbox.lost_replies()
    }

    /// Whether programs attached to taps have something to hear, since the last call: wake those who serve them.
    pub fn poll_taps(&mut self) -> bool {
        std::mem::take(&mut self.tapped)
    }

    /// A socket that no session needs any more.
    pub fn poll_release(&mut self) -> Option<SocketId> {
        self.outbox.take_release()
    }

    /// Counters since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    #[inline]
    fn flow(&self, socket: SocketId) -> Option<Flow> {
        self.flows.get(socket.0 as usize).copied().flatten()
    }

    fn next_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        StreamId(self.last_stream)
    }

    /// Something happened to `endpoint`: its reports go on if they rested.
    fn arm(&mut self, now: Instant, endpoint: Key) {
        let random = &mut self.random;
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.participant.rouse(now, || random.next() as u32);
        }
        self.set_timer(now, endpoint);
    }

    /// Arm the timer of `endpoint` for its next deadline.
    fn set_timer(&mut self, now: Instant, endpoint: Key) {
        let of = self.endpoints.get(endpoint);
        let transport = of.and_then(|endpoint| self.transports.get(endpoint.transport));
        let source = transport.and_then(|transport| transport.source.due());
        let collecting = self.collections.get(&endpoint).and_then(Collecting::due);
        let due = of
            .and_then(Endpoint::next_due)
            .into_iter()
            .chain(collecting.map(|at| (at, Wake::Digit)))
            .chain(source.map(|at| (at, Wake::Media)))
            .min();
        match due {
            Some((at, wake)) => self.wheel.arm(endpoint_timer(endpoint), at, now, wake),
            None => self.wheel.disarm(endpoint_timer(endpoint)),
        }
    }
}

/// Timer of an endpoint: even numbers.
fn endpoint_timer(endpoint: Key) -> u32 {
    endpoint.index() << 1
}

/// Timer of a session: odd numbers.
fn session_timer(session: Key) -> u32 {
    session.index() << 1 | 1
}

/// Same allocation or same value.
fn unchanged<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

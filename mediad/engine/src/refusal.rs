//! Why an edit or a call was refused: one variant for each kind of mistake, each naming value, place and remedy.

use std::net::IpAddr;

use thiserror::Error;

use crate::spec::{Name, Suite};

/// The gRPC status code a refusal is reported with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// The request can never succeed as it stands.
    InvalidArgument = 3,
    /// The named thing does not exist.
    NotFound = 5,
    /// A bound is reached; later or elsewhere it may succeed.
    ResourceExhausted = 8,
    /// The state has moved on; look again.
    FailedPrecondition = 9,
    /// The contract has it, this version of the engine does not carry it out.
    Unimplemented = 12,
    /// Not here, not now; another host may serve.
    Unavailable = 14,
}

/// Why nothing was done.
///
/// # Errors
/// The caller mends the request (`InvalidArgument`), reads the current state and decides again
/// (`FailedPrecondition`, `NotFound`), or tries another host (`ResourceExhausted`, `Unavailable`).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A field that must be set is not.
    #[error("{subject}: {field} is missing")]
    Missing {
        /// What the field belongs to.
        subject: String,
        /// Field name in the contract.
        field: &'static str,
    },
    /// An id is empty, too long, or has control characters.
    #[error("{what} id {id:?} must be 1 to {bytes_max} bytes without control characters")]
    BadId {
        /// Kind of id.
        what: &'static str,
        /// The id, cut at 64 characters.
        id: String,
        /// Longest allowed.
        bytes_max: usize,
    },
    /// A number outside its range.
    #[error("{subject}: {field} is {value}, must be {range}")]
    OutOfRange {
        /// What the field belongs to.
        subject: String,
        /// Field name in the contract.
        field: &'static str,
        /// Value given.
        value: String,
        /// Values allowed.
        range: &'static str,
    },
    /// Not an IP address and port.
    #[error("{subject}: {field} is {value:?}, must be an IP address with a port from 1 to 65535")]
    BadAddress {
        /// What the field belongs to.
        subject: String,
        /// Field name in the contract.
        field: &'static str,
        /// Value given.
        value: String,
    },
    /// The same id twice in one request.
    #[error("{subject} appears twice in the request; give it once")]
    Twice {
        /// The thing.
        subject: String,
    },
    /// In the contract, not in this engine.
    #[error("{subject}: {what} is not carried out by this version of mediad")]
    Unimplemented {
        /// The node, edge or transport.
        subject: String,
        /// What it asked for.
        what: &'static str,
    },
    /// More than a bound allows.
    #[error("{subject}: {count} {what}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        subject: String,
        /// Kind of thing counted.
        what: &'static str,
        /// How many.
        count: usize,
        /// Bound.
        max: usize,
    },
    /// An endpoint names a transport that the session would not have.
    #[error("node:{node}: transport {transport:?} does not exist in the session; put it in the same request")]
    UnknownTransport {
        /// The endpoint.
        node: Name,
        /// What it named.
        transport: Name,
    },
    /// Two endpoints on one transport.
    #[error(
        "node:{node}: transport {transport:?} already carries node {other:?}; give each endpoint its own"
    )]
    TransportShared {
        /// The second endpoint.
        node: Name,
        /// The transport.
        transport: Name,
        /// The first endpoint.
        other: Name,
    },
    /// Two formats with one payload type.
    #[error("node:{node}: payload type {payload_type} is given to two formats")]
    PayloadTypeTwice {
        /// The endpoint.
        node: Name,
        /// The number.
        payload_type: u8,
    },
    /// No format to carry audio.
    #[error("node:{node}: {field} has no audio format, only telephone-event or comfort noise")]
    NoAudioFormat {
        /// The endpoint.
        node: Name,
        /// Which list.
        field: &'static str,
    },
    /// An edge names a node that the session would not have.
    #[error("edge:{from}>{to}: node {missing:?} does not exist in the session; put it in the same request")]
    EdgeEndMissing {
        /// Speaker.
        from: Name,
        /// Listener.
        to: Name,
        /// The one that is not there.
        missing: Name,
    },
    /// A node that hears itself.
    #[error("edge:{0}>{0}: a node cannot hear itself; use a room or a second endpoint to loop audio back")]
    SelfEdge(Name),
    /// A player has no ears.
    #[error("edge:{from}>{to}: {to:?} is a player, which hears nobody; turn the edge round")]
    PlayerHears {
        /// Speaker.
        from: Name,
        /// The player.
        to: Name,
    },
    /// A recorder has no mouth.
    #[error("edge:{from}>{to}: {from:?} is a recorder, which nobody hears; turn the edge round")]
    RecorderSpeaks {
        /// The recorder.
        from: Name,
        /// Listener.
        to: Name,
    },
    /// A recording that cannot be made.
    #[error("node:{node}: recording {recording:?} segment {segment} {reason}")]
    Recording {
        /// The recorder.
        node: Name,
        /// The caller's id of the recording.
        recording: Name,
        /// Its segment.
        segment: u32,
        /// What is wrong and what to do, as the end of the sentence.
        reason: String,
    },
    /// No such tone.
    #[error("node:{node}: there is no tone {tone:?}; known: {known}")]
    UnknownTone {
        /// The player.
        node: Name,
        /// What it named, cut at 64 characters.
        tone: String,
        /// Names there are.
        known: String,
    },
    /// Something stands behind a tone, which never ends.
    #[error("node:{0}: a tone sounds until the player is changed; make it the last of the items")]
    AfterTone(Name),
    /// A prompt that cannot be played.
    #[error("node:{node}: prompt {prompt:?} {reason}")]
    Prompt {
        /// The player.
        node: Name,
        /// The file.
        prompt: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A prompt that could be played if fewer were.
    #[error("node:{node}: prompt {prompt:?} {reason}")]
    PromptsFull {
        /// The player.
        node: Name,
        /// The file.
        prompt: String,
        /// What there is too much of, and the remedy.
        reason: String,
    },
    /// Digits for what is no endpoint.
    #[error("node:{0}: digits are sent to endpoints, and gathered from them, only")]
    NotEndpoint(Name),
    /// A program for what is no tap.
    #[error("node:{0}: programs attach to taps only")]
    NotTap(Name),
    /// Play control for what is no player.
    #[error("node:{0}: only players are moved and flushed")]
    NotPlayer(Name),
    /// One of many listeners would change what all hear.
    #[error(
        "node:{0}: it shares its sound with players of other sessions; leave out shared_group to move, flush or interrupt it"
    )]
    SharedPlayer(Name),
    /// An item that the player does not have.
    #[error("node:{node}: there is no item {item}; it has {items}, counted from 0")]
    NoSuchItem {
        /// The player.
        node: Name,
        /// The item asked for.
        item: usize,
        /// How many there are.
        items: usize,
    },
    /// Nobody could interrupt the player.
    #[error("node:{node}: barge_in.node {by:?} is no endpoint of the session; name one that is")]
    BargeIn {
        /// The player.
        node: Name,
        /// Who was to interrupt it.
        by: Name,
    },
    /// Something to be removed is not there.
    #[error("{subject} does not exist in the session, so it cannot be removed")]
    NothingToRemove {
        /// The thing.
        subject: String,
    },
    /// A transport is used by an endpoint that stays.
    #[error("transport:{transport}: node {node:?} rides on it; remove the node too")]
    TransportInUse {
        /// The transport.
        transport: Name,
        /// The endpoint.
        node: Name,
    },
    /// Something that a bound port cannot change.
    #[error(
        "transport:{transport}: {field} cannot change once the port is bound; put a transport under a new id"
    )]
    TransportFixed {
        /// The transport.
        transport: Name,
        /// Field name in the contract.
        field: &'static str,
    },
    /// Links that form a circle.
    #[error(
        "transport:{transport}: what comes out of this link would come back to it through other links; mute or remove one of the edges on the way"
    )]
    LinkCircle {
        /// The link.
        transport: Name,
    },
    /// Links one after another, too many of them.
    #[error(
        "transport:{transport}: what comes out of this link would pass more than {max} links; link the sessions more directly"
    )]
    LinkChain {
        /// The link.
        transport: Name,
        /// Bound.
        max: usize,
    },
    /// A remote address of the other family than the local one.
    #[error(
        "transport:{transport}: {field} {remote} cannot be reached from the local address {local}; set `family`"
    )]
    FamilyMismatch {
        /// The transport.
        transport: Name,
        /// Field name in the contract.
        field: &'static str,
        /// Peer.
        remote: IpAddr,
        /// Ours.
        local: IpAddr,
    },
    /// No such media interface.
    #[error("transport:{transport}: interface {interface:?} is not configured; known: {known}")]
    UnknownInterface {
        /// The transport.
        transport: Name,
        /// What it named.
        interface: Name,
        /// Names configured.
        known: String,
    },
    /// The interface has no address of that family.
    #[error("transport:{transport}: interface {interface:?} has no {family} address")]
    NoSuchFamily {
        /// The transport.
        transport: Name,
        /// The interface.
        interface: Name,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
    /// No port left.
    #[error(
        "transport:{transport}: no free port on interface {interface:?} {address}, range {port_min}-{port_max}: \
         {used} pairs in use, {quarantined} in quarantine, {foreign} held by other programs; widen the range or use another host"
    )]
    PortsExhausted {
        /// The transport.
        transport: Name,
        /// The interface.
        interface: Name,
        /// Its address.
        address: IpAddr,
        /// Range.
        port_min: u16,
        /// Range.
        port_max: u16,
        /// Pairs in sessions.
        used: usize,
        /// Pairs released a short while ago.
        quarantined: usize,
        /// Pairs that could not be bound.
        foreign: usize,
    },
    /// The wanted port cannot be had.
    #[error(
        "transport:{transport}: requested port {port} on {address} is {state}; leave requested_port unset to get another"
    )]
    RequestedPort {
        /// The transport.
        transport: Name,
        /// The port.
        port: u16,
        /// Local address.
        address: IpAddr,
        /// Why not.
        state: &'static str,
    },
    /// A socket could not be made, for another reason than a taken port.
    #[error("transport:{transport}: {reason}")]
    Socket {
        /// The transport.
        transport: Name,
        /// What the operating system said, with the address.
        reason: String,
    },
    /// No such session.
    #[error("session {0:?} does not exist on this host")]
    UnknownSession(Name),
    /// No such node in the session.
    #[error("session {session:?} has no node {node:?}")]
    UnknownNode {
        /// The session.
        session: Name,
        /// What was named.
        node: Name,
    },
    /// Somebody else's session.
    #[error("session {session:?} is owned by {owner:?}, not by {caller:?}; adopt it first")]
    NotOwner {
        /// The session.
        session: Name,
        /// Its owner.
        owner: Name,
        /// Who asked.
        caller: Name,
    },
    /// An epoch from before an adoption, or from a future that was never announced.
    #[error("session {session:?} is at epoch {current}, the request is of epoch {given}; {remedy}")]
    StaleEpoch {
        /// The session.
        session: Name,
        /// In force.
        current: u64,
        /// In the request.
        given: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// The session has changed since the caller looked.
    #[error(
        "session {session:?} is at revision {current}, the request expects {expected}; describe it and decide again"
    )]
    StaleRevision {
        /// The session.
        session: Name,
        /// In force; 0: it does not exist.
        current: u64,
        /// In the request.
        expected: u64,
    },
    /// The host takes no new sessions.
    #[error(
        "session {session:?} is new, and the host is draining: it keeps those it has and takes no others; use another \
         host, or end the drain (Host/Drain with drain = false, `mctl undrain`)"
    )]
    Draining {
        /// The session that was to be.
        session: Name,
    },
    /// Every worker has as much to do as it can do in time.
    #[error(
        "session {session:?} is new, and the host is busy: its least busy worker uses {busy_percent} % of its core, and \
         takes new sessions up to {max_percent} % (limits.busy_percent_max); use another host, or end sessions of this one"
    )]
    Overloaded {
        /// The session that was to be.
        session: Name,
        /// Share of its time that the least busy worker works.
        busy_percent: u32,
        /// The limit.
        max_percent: u32,
    },
    /// No worker has time, and the least busy one was late with less to do than it may have.
    #[error(
        "session {session:?} is new, and the host is late: in {late_percent} % of the time what came to worker {worker} had to wait \
         for more than {late_ms_max} ms (limits.late_ms_max), while it was busy for {then_percent} %. So it takes new sessions only up \
         to {max_percent} % for now, and it is busy for {busy_percent} %; use another host, or see what keeps this one from its \
         CPU (other processes there, a quota, the machine below a virtual one; workers.cpus, workers.realtime_priority)"
    )]
    Late {
        /// The session that was to be.
        session: Name,
        /// The least busy one.
        worker: usize,
        /// The limit.
        late_ms_max: u64,
        /// Share of its time that was beyond it.
        late_percent: u32,
        /// Share of its time that the worker worked then.
        then_percent: u32,
        /// The same now.
        busy_percent: u32,
        /// Up to which it takes new sessions.
        max_percent: u32,
    },
    /// The host is full.
    #[error(
        "session {session:?} is new, and the host carries {max} sessions, its limit (limits.sessions_max); use another \
         host, or end sessions of this one"
    )]
    SessionsFull {
        /// The session that was to be.
        session: Name,
        /// The limit.
        max: usize,
    },
    /// A worker's mailbox is full.
    #[error("worker {worker} has {waiting} commands waiting, its limit; try again")]
    MailboxFull {
        /// Which worker.
        worker: usize,
        /// How many.
        waiting: usize,
    },
    /// Keys of a generation that is neither the present one nor the one before, or that had no such suite.
    #[error(
        "transport:{transport}: sdes.send_generation {asked} has no {} key; send with {current}, the present one, or with the one before it",
        suite.name()
    )]
    KeyGeneration {
        /// The transport.
        transport: Name,
        /// In the request.
        asked: u32,
        /// The present one.
        current: u32,
        /// The suite of the peer's key.
        suite: Suite,
    },
    /// No key can be made.
    #[error(
        "transport:{0}: the host's source of randomness gives nothing, so no key can be made; use another host"
    )]
    NoRandomness(Name),
}

impl Refusal {
    /// The status code to report.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing { .. }
            | Self::BadId { .. }
            | Self::OutOfRange { .. }
            | Self::BadAddress { .. }
            | Self::Twice { .. }
            | Self::TooMany { .. }
            | Self::UnknownTransport { .. }
            | Self::TransportShared { .. }
            | Self::PayloadTypeTwice { .. }
            | Self::NoAudioFormat { .. }
            | Self::EdgeEndMissing { .. }
            | Self::SelfEdge(_)
            | Self::PlayerHears { .. }
            | Self::RecorderSpeaks { .. }
            | Self::UnknownTone { .. }
            | Self::AfterTone(_)
            | Self::Prompt { .. }
            | Self::NotEndpoint(_)
            | Self::NotTap(_)
            | Self::NotPlayer(_)
            | Self::SharedPlayer(_)
            | Self::NoSuchItem { .. }
            | Self::BargeIn { .. }
            | Self::TransportInUse { .. }
            | Self::TransportFixed { .. }
            | Self::LinkCircle { .. }
            | Self::LinkChain { .. }
            | Self::FamilyMismatch { .. }
            | Self::UnknownInterface { .. }
            | Self::NoSuchFamily { .. } => Code::InvalidArgument,
            Self::Unimplemented { .. } => Code::Unimplemented,
            Self::NothingToRemove { .. } | Self::UnknownSession(_) | Self::UnknownNode { .. } => {
                Code::NotFound
            }
            Self::PortsExhausted { .. }
            | Self::PromptsFull { .. }
            | Self::RequestedPort { .. }
            | Self::Socket { .. }
            | Self::SessionsFull { .. }
            | Self::Overloaded { .. }
            | Self::Late { .. }
            | Self::MailboxFull { .. } => Code::ResourceExhausted,
            Self::Recording { .. }
            | Self::NotOwner { .. }
            | Self::StaleEpoch { .. }
            | Self::StaleRevision { .. }
            | Self::KeyGeneration { .. } => Code::FailedPrecondition,
            Self::Draining { .. } | Self::NoRandomness(_) => Code::Unavailable,
        }
    }

    /// What is at fault, as in `Error.subject`: `node:a`, `edge:a>b`, `transport:t`, `session:s`, or empty.
    pub fn subject(&self) -> String {
        match self {
            Self::Missing { subject, .. }
            | Self::OutOfRange { subject, .. }
            | Self::BadAddress { subject, .. }
            | Self::Twice { subject }
            | Self::Unimplemented { subject, .. }
            | Self::TooMany { subject, .. }
            | Self::NothingToRemove { subject } => subject.clone(),
            Self::UnknownTransport { node, .. }
            | Self::TransportShared { node, .. }
            | Self::PayloadTypeTwice { node, .. }
            | Self::NoAudioFormat { node, .. }
            | Self::UnknownNode { node, .. }
            | Self::UnknownTone { node, .. }
            | Self::AfterTone(node)
            | Self::Prompt { node, .. }
            | Self::PromptsFull { node, .. }
            | Self::Recording { node, .. }
            | Self::NotTap(node)
            | Self::NotPlayer(node)
            | Self::SharedPlayer(node)
            | Self::NoSuchItem { node, .. }
            | Self::BargeIn { node, .. }
            | Self::NotEndpoint(node) => format!("node:{node}"),
            Self::EdgeEndMissing { from, to, .. }
            | Self::PlayerHears { from, to }
            | Self::RecorderSpeaks { from, to } => {
                format!("edge:{from}>{to}")
            }
            Self::SelfEdge(node) => format!("edge:{node}>{node}"),
            Self::TransportInUse { transport, .. }
            | Self::TransportFixed { transport, .. }
            | Self::LinkCircle { transport }
            | Self::LinkChain { transport, .. }
            | Self::FamilyMismatch { transport, .. }
            | Self::UnknownInterface { transport, .. }
            | Self::NoSuchFamily { transport, .. }
            | Self::PortsExhausted { transport, .. }
            | Self::RequestedPort { transport, .. }
            | Self::KeyGeneration { transport, .. }
            | Self::NoRandomness(transport)
            | Self::Socket { transport, .. } => format!("transport:{transport}"),
            Self::UnknownSession(session)
            | Self::NotOwner { session, .. }
            | Self::StaleEpoch { session, .. }
            | Self::StaleRevision { session, .. }
            | Self::Draining { session }
            | Self::SessionsFull { session, .. }
            | Self::Overloaded { session, .. }
            | Self::Late { session, .. } => format!("session:{session}"),
            Self::BadId { .. } | Self::MailboxFull { .. } => String::new(),
        }
    }
}

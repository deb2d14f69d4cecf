//! The controller: everything that decides, behind one set of verbs.
//!
//! Feed it with [`Controller::handle_message`], [`Controller::handle_media`] and [`Controller::handle_timeout`]; after
//! each call drain [`Controller::poll_output`] in order and set an alarm for [`Controller::poll_timeout`].

mod admission;
mod arrival;
mod audio;
mod begun;
mod calling;
mod clock;
mod conference;
mod conference_restore;
mod detail;
mod doorstep;
mod early;
mod engaged;
mod figures;
mod interruption;
mod invitation;
mod live;
mod media;
mod menu;
mod message;
mod originate;
mod outbound;
mod pickup;
mod profile;
mod reach;
mod reconfigure;
mod recording;
mod redirection;
mod relocate;
mod restore;
mod rounds;
mod sequence;
mod sip_events;
mod sounds;
mod transfer;
mod trunk;
mod unheard_answer;
mod within_dialog;

pub use audio::{AudioParty, AudioRole, CallAudio};
use begun::Begun;
use doorstep::Doorstep;
pub(crate) use invitation::Notify;
use message::Message;
pub use outbound::TrunkLive;
use relocate::Displaced;
pub(crate) use relocate::Displacement;
use restore::Past;
use trunk::Proof;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use proto::mediad::v1 as pb;
use sip::{
    message::ParseError,
    stack::{
        ClientTxn, DialogKey, Flow, Identity, Lookup, ServerTxn, Stack, StackConfig, Target, Transmit,
        Waiting,
    },
    uri::Host,
};

use crate::{
    call::{Call, CallId, Side},
    calls::{Calls, Members},
    cdr::{CallOrigin, OriginKind},
    conference::Conference,
    config::{self, Config, ConfigError},
    domain::{AgentState, Domain, DomainError, EntryId, Name, OfferId, Standing, TALK_LEASE},
    journal::{EndedBy, Record, RecordKind},
    media::CodecPolicy,
    originate::Keys,
    pool::{HostId, HostView, Pool},
    registrar::Registrar,
    routing::Routing,
    security::SecurityPolicy,
    trunk::{Rate, TargetId, TrunkId, Trunks},
};

/// The time, by both clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub mono: Instant,
    /// For records, nonces and expiry told to others.
    pub wall: SystemTime,
}

/// A session that a host says is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFound {
    /// Its name.
    pub session: String,
    /// Under which epoch.
    pub epoch: u64,
}

/// What comes from the media hosts.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaInput {
    /// The command stream of a host stands; `boot_id` is from its hello. Again after each reconnection.
    HostUp {
        /// Which.
        host: HostId,
        /// Its boot id.
        boot_id: String,
    },
    /// The sessions a host says are ours, from its hello; after [`MediaInput::HostUp`]. Those of calls from before a
    /// restart are taken over; those that no call knows are deleted.
    Sessions {
        /// Of which host.
        host: HostId,
        /// Their names.
        sessions: Vec<SessionFound>,
    },
    /// The connection to the host broke. [`MediaInput::HostUp`] or [`MediaInput::HostDown`] follows soon.
    LinkLost {
        /// Which.
        host: HostId,
    },
    /// Commands that got no reply before the connection broke, or had none to go over: nobody knows whether they were
    /// carried out.
    Unanswered {
        /// Of which host.
        host: HostId,
        /// Their ids.
        commands: Vec<u64>,
    },
    /// The host is lost: connection refused, or silent for too long.
    HostDown {
        /// Which.
        host: HostId,
        /// Why.
        reason: String,
    },
    /// Replies to commands.
    Replies {
        /// Of which host.
        host: HostId,
        /// The replies, in any order.
        replies: Vec<pb::CommandReply>,
    },
    /// An event.
    Event {
        /// Of which host.
        host: HostId,
        /// The event.
        event: Box<pb::Event>,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write to the journal. It comes before every message and command that it is about.
    Record(Record),
    /// Send over SIP.
    Transmit(Transmit),
    /// Send to a media host; its reply comes back through [`MediaInput::Replies`] with the command's id.
    Media {
        /// To which.
        host: HostId,
        /// The command.
        command: pb::Command,
    },
    /// Ask name servers; the answer comes back through [`Controller::handle_lookup`].
    Lookup(Lookup),
    /// A target did not answer, or could not be reached: prefer others for a while.
    Unreachable(Target),
    /// Somebody who came this way gave a wrong password.
    WrongPassword(Flow),
    /// A media host that was taken out of the configuration has nothing of ours any more: let it go.
    HostDrained(HostId),
    /// Tell a media host that a recording is accounted for, once the records before this are on the disk to stay.
    Acknowledge {
        /// Which.
        host: HostId,
        /// The recording.
        recording: pb::AcknowledgeRequest,
    },
}

/// What is going on, for people and dashboards.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Agents, by name.
    pub agents: Vec<AgentLive>,
    /// Queues, by name.
    pub queues: Vec<QueueLive>,
    /// Calls, oldest first.
    pub calls: Vec<CallLive>,
    /// Conferences, oldest first.
    pub conferences: Vec<ConferenceLive>,
    /// Registrations, by user.
    pub registrations: Vec<RegistrationLive>,
    /// Media hosts, by name.
    pub hosts: Vec<HostView>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLive {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: AgentState,
    /// For how long, in milliseconds.
    pub since_ms: u64,
    /// Conversations had.
    pub served: u64,
    /// Offers not answered in time.
    pub missed: u64,
    /// Offers declined.
    pub declined: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLive {
    /// Its name.
    pub name: String,
    /// Waiting now.
    pub waiting: usize,
    /// Reached an agent.
    pub answered: u64,
    /// Hung up while waiting.
    pub abandoned: u64,
    /// Waited too long.
    pub overdue: u64,
    /// Were waiting when we ended their calls.
    pub turned_away: u64,
    /// Sum of the waits of those who reached an agent, in milliseconds.
    pub waited_ms: u64,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStage {
    /// The media host is making room for it.
    Preparing,
    /// A machine asked for it, and its first party is rung.
    Calling,
    /// It waits for an agent.
    Waiting,
    /// Phones ring.
    Ringing,
    /// Answered; the two are being connected.
    Connecting,
    /// They talk.
    Talking,
    /// Over; the media host is counting.
    Ending,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLive {
    /// Our name for it.
    pub call: String,
    /// The caller.
    pub from: String,
    /// What the caller calls itself: anything at all.
    pub from_name: Option<String>,
    /// What was dialled.
    pub to: String,
    /// The queue, if it goes to one.
    pub queue: Option<String>,
    /// Since it joined the queue in which it waits, in milliseconds.
    pub queued_ms: Option<u64>,
    /// Its place among those who wait in the queue; 1 is next.
    pub position: Option<usize>,
    /// The menu in which it is asked.
    pub menu: Option<String>,
    /// Who is rung or talks to the caller.
    pub user: Option<String>,
    /// How far it is.
    pub stage: CallStage,
    /// Since the INVITE came, in milliseconds.
    pub age_ms: u64,
    /// The media host.
    pub host: String,
    /// What asked for it.
    pub origin: CallOrigin,
    /// Its recording, if it has one.
    pub recording: Option<RecordingLive>,
}

/// How a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingLive {
    /// What is said is written.
    Recording,
    /// It goes on in silence.
    Masked,
    /// It ended before its call.
    Finished,
}

/// A conference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConferenceLive {
    /// What is dialled.
    pub room: String,
    /// The media host.
    pub host: String,
    /// Since the first member came, in milliseconds.
    pub age_ms: u64,
    /// Who is in it, in the order they came.
    pub members: Vec<MemberLive>,
}

/// Somebody in a conference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLive {
    /// Our name for its call.
    pub call: String,
    /// Its address.
    pub from: String,
    /// What it calls itself: anything at all.
    pub from_name: Option<String>,
    /// The account, if it is one of ours.
    pub user: Option<String>,
    /// It is not heard, because an operator said so.
    pub muted: bool,
    /// It does not listen.
    pub on_hold: bool,
    /// The codec towards it; empty before one was agreed.
    pub codec: String,
    /// Since it called, in milliseconds.
    pub age_ms: u64,
}

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationLive {
    /// The account.
    pub user: String,
    /// Its Contact.
    pub contact: String,
    /// Where it was heard from: transport and address.
    pub source: String,
    /// What it calls itself (User-Agent).
    pub agent: String,
    /// Seconds until it ends.
    pub expires_s: u64,
}

/// What a controller has seen since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls accepted for routing.
    pub calls_started: u64,
    /// Calls in which two were connected.
    pub calls_answered: u64,
    /// Calls whose session was made anew on a restarted or another media host.
    pub calls_replaced: u64,
    /// Calls over; equals `calls_started` when `calls` is 0.
    pub calls_ended: u64,
    /// Calls refused before a CallStarted: unknown address, authentication, overload, no common codec.
    pub calls_refused: u64,
    /// Calls and new offers refused, and phones not rung, because of whether their audio must or must not be encrypted.
    pub srtp_refusals: u64,
    /// Phones that refused keys on a line that may be answered without, and were asked again with RTP/SAVP, or the other
    /// way round.
    pub srtp_second_offers: u64,
    /// Offers with keys taken over signalling that is not encrypted, because the other side made them there.
    pub srtp_keys_in_clear: u64,
    /// Calls now, ending ones and members of conferences included.
    pub calls: usize,
    /// Conferences now, ending ones included.
    pub conferences: usize,
    /// Registrations accepted, refreshes included.
    pub registrations_accepted: u64,
    /// Registrations and calls refused for a wrong password.
    pub authentication_failures: u64,
    /// Keepalives that a registered device did not answer.
    pub keepalives_missed: u64,
    /// Devices registered now.
    pub bindings: usize,
    /// Commands sent to media hosts.
    pub media_commands: u64,
    /// Commands that failed.
    pub media_errors: u64,
    /// Commands without reply, whose outcome was asked for before they were said again.
    pub media_retries: u64,
    /// Recordings that media hosts had not told of in time, or could not make.
    pub recordings_missing: u64,
    /// Calls whose music the media host did not have, so that they heard the built-in melody.
    pub prompts_missing: u64,
    /// Choices of callers in menus, and those brought on who chose nothing.
    pub menu_choices: u64,
    /// Calls that ended in a menu because nothing was chosen, or nobody took who had chosen.
    pub menu_failures: u64,
    /// Commands without reply now.
    pub media_pending: usize,
    /// Offers to agents now, conversations included.
    pub offers: usize,
    /// Offers as the calls know them; equals `offers` when nothing is under way.
    pub offers_of_calls: usize,
    /// Callers waiting in queues, offered ones included.
    pub waiting: usize,
    /// Places in queues as the calls know them; equals `waiting`.
    pub places_of_calls: usize,
    /// Requests of ours without final answer that something hangs on.
    pub requests_pending: usize,
    /// Dialogs that belong to a call.
    pub parties: usize,
    /// Messages that somebody took.
    pub messages_taken: u64,
    /// Messages that nobody took, or that were refused.
    pub messages_refused: u64,
    /// Messages on their way now, those within calls left out.
    pub messages: usize,
    /// The SIP stack's own.
    pub sip: sip::stack::Stats,
}

/// What a request of ours that can still be answered was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The INVITE to a device in a round of this call.
    Branch(CallId),
    /// A session refresh.
    Refresh(CallId, Side),
    /// A request in a trunk's dialog whose answer matters only when it asks for a password.
    Plain(TrunkId),
    /// Our registration with a trunk.
    Registration(TrunkId),
    /// The end of one.
    Farewell(TrunkId),
    /// Whether a trunk's target is there.
    Probe(TargetId),
    /// Whether a party is still there; its dialog's end tells when it is not.
    Alive(CallId),
    /// A keepalive to a registered device.
    Ping(u64),
    /// A message, to one of those it is for.
    Message(u64),
    /// A message within a call, on its way from the party that sent it by this request.
    Carried(ServerTxn),
    /// The same of an INFO.
    Informed(ServerTxn),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Look after a call: is it alive, too long, known to the domain.
    Check(CallId),
    /// A called user's phones rang long enough.
    Ring(CallId),
    /// Those that the user prefers did.
    NextDevices(CallId),
    /// A command got no reply.
    Reply(u64),
    /// A call or conference whose media host is lost gets another place.
    Replace(CallId),
    /// A media host is asked what became of a command without reply.
    Retry(CallId),
    /// Media hosts from before a restart should have been heard of.
    Hosts,
    /// A party is to be told of another address.
    Tell(CallId),
    /// A session refresh that was refused is tried again.
    Refresh(DialogKey),
    /// A trunk wants our registration again.
    Register(TrunkId),
    /// A trunk's target is asked whether it is there.
    Probe(TargetId),
    /// A trunk's target should have said something.
    Setup(CallId),
    /// A call that is over waited long enough for its recording.
    Recording(CallId),
    /// A member of a conference typed nothing of the PIN for too long.
    Gate(CallId),
    /// A caller in a menu pressed no key for too long.
    Menu(CallId),
    /// Sounds of a conference are over.
    Sound(CallId),
    /// Who sent a message waits no longer.
    Message(u64),
    /// New calls waited long enough for a media host.
    Doorstep,
    /// Calls that had only begun before a restart are asked for no more.
    Begun,
}

/// A command without reply.
#[derive(Debug)]
struct Pending {
    /// `None` for a session that no call knows.
    call: Option<CallId>,
    since: Instant,
    until: Instant,
}

/// The core of a call centre. Feed it with the `handle_` methods; after each call drain
/// [`Controller::poll_output`] in order and set an alarm for [`Controller::poll_timeout`].
///
/// ```
/// use std::time::{Instant, SystemTime};
/// use call_control::{Config, Controller, Now, Output};
/// use sip::stack::{Flow, FlowId, Transport};
///
/// let config: Config = toml::from_str(r#"
///     domains = ["example.com"]
///     listeners = [{ transport = "udp", local = "192.0.2.1:5060" }]
///     media.hosts = [{ name = "m1", address = "http://192.0.2.2:7000" }]
/// "#).unwrap();
/// # #[allow(clippy::disallowed_methods)]
/// let now = Now { mono: Instant::now(), wall: SystemTime::now() };
/// let mut controller = Controller::new(config, [7; 32], now).unwrap();
/// let [local, remote] = ["192.0.2.1:5060", "192.0.2.9:5060"].map(|address| address.parse().unwrap());
/// let flow = Flow { transport: Transport::Udp, local, remote, id: FlowId(1) };
/// let ping = "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
///     Max-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:example.com>\r\n\
///     Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n";
/// controller.handle_message(now, flow, ping.into());
/// let Some(Output::Transmit(pong)) = controller.poll_output() else { panic!("it answers") };
/// assert!(pong.bytes.starts_with(b"SIP/2.0 200 OK"));
/// ```
#[derive(Debug)]
pub struct Controller {
    config: Config,
    /// Queues that were taken out while callers waited there, as they were.
    retired: Vec<config::Queue>,
    routing: Routing,
    policy: CodecPolicy,
    security: SecurityPolicy,

    stack: Stack,
    registrar: Registrar,
    domain: Domain,
    pool: Pool,
    doorstep: Doorstep,
    begun: Begun,

    calls: Calls,
    displaced: Displaced,
    conferences: BTreeMap<CallId, Conference>,
    rooms: BTreeMap<Name, CallId>,
    /// Members of conferences, by the number of their calls.
    members: Members,
    /// Requests for calls that are remembered.
    keys: Keys,
    originate_rate: Rate,
    trunks: Trunks,
    /// Requests to trunks that hold proofs of ours already.
    tried: BTreeMap<ClientTxn, Vec<Proof>>,
    /// On their way, outside of calls.
    messages: BTreeMap<u64, Message>,
    /// Dialogs with trunks, until they end.
    trunk_dialogs: BTreeMap<DialogKey, TrunkId>,
    /// Contacts of devices that refuse to be offered encryption as something optional.
    insistent: BTreeSet<String>,
    by_dialog: BTreeMap<DialogKey, (CallId, Side)>,
    by_client: BTreeMap<ClientTxn, Purpose>,
    /// Dialogs whose refresh is to be tried again.
    refreshed_later: BTreeSet<DialogKey>,
    by_entry: BTreeMap<EntryId, CallId>,
    by_offer: BTreeMap<OfferId, CallId>,
    pending: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Instant, Due)>,
    /// Agents in calls that came by no queue, as the domain was told.
    engaged: BTreeMap<CallId, Vec<Name>>,
    /// Agents as last recorded.
    agent_states: BTreeMap<Name, (AgentState, Standing)>,

    /// What the journal told, until it is gone on from.
    past: Past,
    wrong_passwords: VecDeque<Flow>,
    /// Media hosts to be let go.
    drained: VecDeque<HostId>,
    acknowledgements: VecDeque<(HostId, pb::AcknowledgeRequest)>,
    /// It is to end: no registration is begun.
    is_stopping: bool,
    records: VecDeque<Record>,
    commands: VecDeque<(HostId, pb::Command)>,
    /// When inputs were handled whose outputs were not asked for yet.
    advanced: Option<Now>,
    /// Both clocks, since nobody set the one.
    clock: Now,
    last_call: u64,
    last_command: u64,
    last_message: u64,
    last_record: u64,
    counters: Counters,
}

/// How often a call is looked after: often enough for its lease in the domain.
const CHECK_EVERY: Duration = Duration::from_secs(TALK_LEASE.as_secs() / 2);

impl Controller {
    /// A controller. `seed` decides every tag, nonce and name: take it from a secret source, or from a test.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Result<Self, ConfigError> {
        config.check()?;
        let mut stack = Stack::new(stack_config(&config), seed);
        let mut nonce_key = [0; 32];
        for part in nonce_key.chunks_exact_mut(16) {
            part.copy_from_slice(stack.random_token().as_bytes());
        }
        let unknown = stack.random_token();
        let hosts = config.media.hosts.iter().map(|host| host.name.clone());
        let mut controller = Self {
            retired: Vec::new(),
            routing: Routing::new(&config),
            policy: CodecPolicy::new(&config),
            security: SecurityPolicy::new(&config),
            registrar: Registrar::new(&config, now, nonce_key, &unknown)?,
            stack,
            domain: Domain::default(),
            pool: Pool::new(hosts),
            doorstep: Doorstep::default(),
            begun: Begun::default(),
            calls: Calls::default(),
            displaced: Displaced::default(),
            conferences: BTreeMap::new(),
            rooms: BTreeMap::new(),
            members: Members::default(),
            keys: Keys::default(),
            originate_rate: Rate::new(config.originate.calls_per_s),
            trunks: Trunks::new(&config.trunks, &config.dialplan),
            tried: BTreeMap::new(),
            messages: BTreeMap::new(),
            trunk_dialogs: BTreeMap::new(),
            insistent: BTreeSet::new(),
            by_dialog: BTreeMap::new(),
            by_client: BTreeMap::new(),
            refreshed_later: BTreeSet::new(),
            by_entry: BTreeMap::new(),
            by_offer: BTreeMap::new(),
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            engaged: BTreeMap::new(),
            agent_states: BTreeMap::new(),
            past: Past::default(),
            wrong_passwords: VecDeque::new(),
            drained: VecDeque::new(),
            acknowledgements: VecDeque::new(),
            is_stopping: false,
            records: VecDeque::new(),
            commands: VecDeque::new(),
            advanced: None,
            clock: now,
            last_call: 0,
            last_command: 0,
            last_message: 0,
            last_record: unix_us(now.wall),
            counters: Counters::default(),
            config,
        };
        controller.configure_domain(now);
        controller.start_trunks(now);
        controller.hope_for_host(now);
        Ok(controller)
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A datagram, a WebSocket message, or one message cut from a stream by
    /// [`StreamFramer`](sip::message::StreamFramer). STUN and keepalives are not for here.
    pub fn handle_message(&mut self, now: Now, flow: Flow, bytes: Bytes) {
        self.stack.handle_message(now.mono, flow, bytes);
        self.advance(now);
    }

    /// How long the oldest of the messages that are about to be handled had waited. While even the shortest of these
    /// waits are long, or those for replies of media hosts, new calls are refused with 503.
    pub fn messages_waited(&mut self, now: Now, wait: Duration) {
        self.stack.waited(now.mono, Waiting::Messages, wait);
    }

    /// A message that a [`StreamFramer`](sip::message::StreamFramer) refused.
    pub fn handle_malformed(&mut self, now: Now, flow: Flow, error: &ParseError) {
        self.stack.handle_malformed(flow, error);
        self.advance(now);
    }

    /// Something from a media host.
    pub fn handle_media(&mut self, now: Now, input: MediaInput) {
        match input {
            MediaInput::HostUp { host, boot_id } => self.host_up(now, &host, &boot_id),
            MediaInput::Sessions { host, sessions } => self.sessions_found(now, &host, sessions),
            MediaInput::LinkLost { host } => self.pool.away(&host),
            MediaInput::Unanswered { host: _, commands } => self.unanswered(now, commands),
            MediaInput::HostDown { host, reason } => self.host_down(now, &host, &reason),
            MediaInput::Replies { host: _, replies } => {
                for reply in replies {
                    self.media_reply(now, reply);
                }
            }
            MediaInput::Event { host, event } => self.media_event(now, &host, &event),
        }
        self.advance(now);
    }

    /// Time has come to [`Controller::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.stack.handle_timeout(now.mono);
        self.advance(now);
        let mut records = Vec::new();
        for user in self.registrar.handle_timeout(now.mono, &mut records) {
            self.presence_changed(now, &user);
        }
        self.record_all(now, records);
        self.ping_devices(now);
        while let Some((_, due)) = self.deadlines.first().filter(|(at, _)| *at <= now.mono).copied() {
            self.deadlines.pop_first();
            match due {
                Due::Check(call) => self.check(now, call),
                Due::Ring(call) => self.ring_timeout(now, call),
                Due::NextDevices(call) => drop(self.ring_next_devices(now, call)),
                Due::Reply(command) => self.reply_overdue(now, command),
                Due::Replace(call) => self.replace(now, call),
                Due::Retry(call) => self.retry(now, call),
                Due::Hosts => self.hosts_overdue(now),
                Due::Tell(call) => self.tell_moved(now, call),
                Due::Refresh(dialog) => self.refresh_again(now, dialog),
                Due::Register(trunk) => self.register_with(now, trunk),
                Due::Probe(target) => self.probe(now, target),
                Due::Setup(call) => self.setup_overdue(now, call),
                Due::Recording(call) => self.recording_overdue(now, call),
                Due::Gate(member) => self.gate_overdue(now, member),
                Due::Menu(call) => self.menu_overdue(now, call),
                Due::Sound(conference) => self.sounds_overdue(now, conference),
                Due::Message(message) => self.message_overdue(now, message),
                Due::Doorstep => self.open_door(now),
                Due::Begun => self.bury_begun(now),
            }
        }
        // After the calls were looked after: should this process have stood still for long, their conversations are
        // confirmed before the domain looks for those that nobody confirms.
        self.domain.handle_timeout(now.mono);
        self.advance(now);
    }

    /// When to call [`Controller::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.deadlines.first().map(|(at, _)| *at);
        let deadlines = [
            own,
            self.stack.poll_timeout(),
            self.domain.poll_timeout(),
            self.registrar.poll_timeout(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The next thing to do. Records come before the messages and commands they are about.
    pub fn poll_output(&mut self) -> Option<Output> {
        // Once for all inputs since the last time: a call that changed twice is written once.
        if let Some(now) = self.advanced.take() {
            self.save_touched(now);
            self.save_touched_members(now);
        }
        if let Some(record) = self.records.pop_front() {
            return Some(Output::Record(record));
        }
        if let Some((host, command)) = self.commands.pop_front() {
            return Some(Output::Media { host, command });
        }
        if let Some(transmit) = self.stack.poll_transmit() {
            return Some(Output::Transmit(transmit));
        }
        self.poll_reach()
    }

    /// An agent takes calls from now on.
    ///
    /// # Errors
    /// No such agent.
    pub fn agent_ready(&mut self, now: Now, agent: &str) -> Result<(), DomainError> {
        self.domain.agent_ready(now.mono, agent)?;
        self.advance(now);
        Ok(())
    }

    /// An agent takes no further calls, with the reason. A ringing phone stops; a conversation goes on.
    ///
    /// # Errors
    /// No such agent.
    pub fn agent_pause(&mut self, now: Now, agent: &str, reason: &str) -> Result<(), DomainError> {
        self.domain.agent_away(now.mono, agent, Some(reason))?;
        self.advance(now);
        Ok(())
    }

    /// Ends a call, whoever is in it. False when there is no such call, or it is over.
    pub fn end_call(&mut self, now: Now, call: &str, reason: &str) -> bool {
        if let Some(id) = self.member_named(call) {
            let status = sip::message::StatusCode::SERVICE_UNAVAILABLE;
            self.member_leaves(now, id, EndedBy::System, status, reason);
            self.advance(now);
            return true;
        }
        let found = CallId::of_name(call);
        let is_open = |id: &CallId| {
            self.calls
                .get(id)
                .is_some_and(|found| found.name == call && found.ended.is_none())
        };
        let Some(id) = found.filter(is_open) else {
            return false;
        };
        // Who called is told to try later; who was called by a machine's wish is told nothing but that it is over.
        let status = match self.calls[&id].origin.kind {
            OriginKind::Sip => sip::message::StatusCode::SERVICE_UNAVAILABLE,
            OriginKind::Api => sip::message::StatusCode::REQUEST_TERMINATED,
        };
        self.end(now, id, EndedBy::System, status, reason);
        self.advance(now);
        true
    }

    /// Ends everything: calls, and our registrations with trunks. [`Controller::is_idle`] tells when it is done.
    pub fn stop(&mut self, now: Now, reason: &str) {
        self.is_stopping = true;
        self.open_door(now);
        let calls = self.calls.values().map(|call| call.name.clone());
        let members = self.members.values().map(|member| member.name.clone());
        let all: Vec<String> = calls.chain(members).collect();
        for call in all {
            self.end_call(now, &call, reason);
        }
        self.unregister(now);
        self.advance(now);
    }

    /// No call is left, everybody knows, and no registration is under way.
    pub fn is_idle(&self) -> bool {
        let registers =
            |purpose: &Purpose| matches!(purpose, Purpose::Registration(_) | Purpose::Farewell(_));
        let is_over = self.calls.len() + self.members.len() == 0;
        is_over && !self.by_client.values().any(registers) && !self.stack.awaits_farewells()
    }

    /// Carries out what the stack and the domain say until both are silent.
    fn advance(&mut self, now: Now) {
        self.note_clock(now);
        loop {
            if let Some(event) = self.stack.poll_event() {
                self.sip_event(now, event);
            } else if let Some(output) = self.domain.poll_output() {
                self.domain_output(now, output);
            } else if !self.note_engaged(now) {
                break;
            }
        }
        while let Some((agent, view)) = self.domain.poll_agent() {
            let Some(view) = view else {
                self.agent_gone(now, &agent);
                continue;
            };
            // An offer missed and the next one made in one moment leave it as it was, but for its counts.
            let news = (view.state, view.standing);
            if self.agent_states.get(&agent) != Some(&news) {
                let record = RecordKind::AgentState {
                    agent: agent.to_string(),
                    state: live::state_name(&news.0).to_owned(),
                    standing: news.1.clone(),
                };
                self.record(now, record);
                self.agent_states.insert(agent, news);
            }
        }
        while let Some(host) = self.pool.pop_drained() {
            self.host_drained(now, host);
        }
        self.advanced = Some(now);
    }

    fn record(&mut self, now: Now, kind: RecordKind) {
        self.last_record += 1;
        self.records.push_back(Record {
            sequence: self.last_record,
            at_unix_us: unix_us(now.wall),
            repeated: false,
            kind,
        });
    }

    fn record_all(&mut self, now: Now, kinds: Vec<RecordKind>) {
        for kind in kinds {
            self.record(now, kind);
        }
    }

    fn call_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.get_mut(&id)
    }

    /// A user got its first device, or lost its last.
    fn presence_changed(&mut self, now: Now, user: &Name) {
        if !self.config.agents.ready_when_registered {
            return;
        }
        // A user that serves no queue is no agent.
        let Some(agent) = self.domain.agent(user) else {
            return;
        };
        let present = !self.registrar.bindings(user).is_empty();
        // What it is told to be, not what it is doing: its phone may start anew while it talks. And a pause is a
        // person's, whatever the phone does.
        let (is_ready, is_paused) = (agent.standing.ready, agent.standing.paused.is_some());
        let _known = match (present, is_ready, is_paused) {
            (true, false, false) => self.domain.agent_ready(now.mono, user),
            (false, _, false) => self.domain.agent_away(now.mono, user, None),
            (true, true, _) | (_, _, true) => Ok(()),
        };
    }
}

fn stack_config(config: &Config) -> StackConfig {
    let listeners = config.listeners.iter();
    let identities =
        listeners.map(|listener| Identity::new(listener.transport, listener.local, listener.advertised()));
    let mut stack = StackConfig::new(identities.collect());
    // RFC 3261 §19.1.1 has no parameter for it; ours says whose dialog it is.
    let token = &config.owner_token;
    stack.owner = (!token.is_empty()).then(|| ("owner".to_owned(), token.clone()));
    stack.server_name = "controld".to_owned();
    stack.extensions = vec![
        "100rel",
        "timer",
        "replaces",
        "norefersub",
        "path",
        "outbound",
        "gruu",
    ];
    stack.resolves_names = true;
    let domains = config.domains.iter();
    stack.gruu_domains = domains
        .filter_map(|domain| Host::parse(domain.clone().into()))
        .collect();
    stack.tel = true;
    stack.answer_max = patience(config);
    stack.ring_max = stack.answer_max;
    stack
}

/// How long an INVITE may have no answer: for as long as its queue lets it wait, or phones ring.
fn patience(config: &Config) -> Duration {
    let queues = config.queues.iter().map(|queue| queue.timeout());
    let ringing = Duration::from_secs(config.calls.ring_timeout_s);
    queues.fold(ringing, Duration::max) + Duration::from_secs(120)
}

/// Microseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_us(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

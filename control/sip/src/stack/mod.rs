//! A user agent core without I/O: transport matching, transactions and dialogs behind one set of verbs.
//!
//! Feed it with [`Stack::handle_message`], [`Stack::handle_transport_error`] and [`Stack::handle_timeout`]; after each
//! call, and after each request of yours, drain [`Stack::poll_event`] and [`Stack::poll_transmit`] and set an alarm
//! for [`Stack::poll_timeout`]. What one call puts into the two queues is bounded by the message that caused it.
//!
//! ```
//! use sip::{header::NameAddr, message::{HeaderName, Method, Request}, stack::*, uri::Uri};
//!
//! let local = "192.0.2.1:5060".parse().unwrap();
//! let config = StackConfig::new(vec![Identity::new(Transport::Udp, local, local)]);
//! let mut stack = Stack::new(config, [7; 32]); // a secret seed, in earnest
//! let now = std::time::Instant::now();
//! let peer = Uri::parse("sip:bob@192.0.2.2".into()).unwrap();
//! let mut options = Request::new(Method::Options, &peer);
//! options.headers.push_value(HeaderName::From, &NameAddr::new(Uri::parse("sip:a@192.0.2.1".into()).unwrap()));
//! options.headers.push_value(HeaderName::To, &NameAddr::new(peer));
//! let target = Target::address(Transport::Udp, "192.0.2.2:5060".parse().unwrap());
//! stack.request(now, options, &[target]).unwrap();
//! assert!(stack.poll_transmit().unwrap().bytes.starts_with(b"OPTIONS sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP"));
//! assert_eq!(stack.poll_timeout().unwrap() - now, stack.config().timing.t1); // timer E
//! ```
//!
//! Authentication is its user's: answer a request with 401, or repeat one of ours with credentials by
//! [`Stack::retry_with_credentials`].

mod acknowledge;
mod client;
mod config;
mod dialogs;
mod event;
mod flow;
mod hop;
mod index;
mod invited;
mod outgoing;
mod overload;
mod random;
mod request;
mod respond;
mod server;
mod stats;

pub use config::{Identity, SessionTimerConfig, StackConfig, UnknownDialogs};
pub use event::{ClientTxn, DialogKey, EndReason, Event, ServerTxn, StackError};
pub use flow::{Flow, FlowId, Target, Transmit, Transport, distance};
pub use hop::{Hop, Lookup, LookupId, NameHop};
pub use invited::InvitedRecord;
pub use outgoing::InviteRecord;
pub use request::{Content, DialogRequest};
pub use stats::{METHOD_NAMES, PerMethod, Stats};

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::dialog::{Dialog, DialogId};
use crate::id_map::IdMap;
use crate::message::{self, Header, HeaderName, Message, Request, Response};
use crate::transaction::{MergeKey, ServerKey, Timer, TimerKey, TimerQueue};
use client::Client;
use dialogs::DialogEntry;
use hop::Parked;
use index::Index;
use overload::Overload;
pub use overload::{WAIT_MAX, Waiting};
use random::Random;
use server::Server;

/// A user agent core. See the module's documentation for how to drive it.
#[derive(Debug)]
pub struct Stack {
    config: StackConfig,
    /// Our Contact value per identity.
    contacts: Vec<Bytes>,
    /// Fields that most of our messages have.
    allow: Header,
    supported: Header,
    /// What software we are; `None`: we do not say.
    server: Option<Header>,
    user_agent: Option<Header>,

    random: Random,
    timers: TimerQueue<Due>,
    clients: IdMap<Box<Client>>,
    /// By branch; a CANCEL has the branch of its INVITE.
    clients_by_branch: Index,
    /// Requests whose next hop is being looked up.
    parked: BTreeMap<u64, Parked>,
    servers: IdMap<Box<Server>>,
    servers_by_key: Index,
    servers_by_merge: Index,
    dialogs: IdMap<Box<DialogEntry>>,
    dialogs_by_id: Index,
    next_id: u64,
    overload: Overload,

    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    lookups: VecDeque<Lookup>,
    failed_targets: VecDeque<Target>,
    stats: Stats,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Client(u64, ClientTimer),
    Server(u64, ServerTimer),
    Dialog(u64, DialogTimer),
}

impl TimerKey for Due {
    fn owner(&self) -> u64 {
        match self {
            Self::Client(id, _) | Self::Server(id, _) | Self::Dialog(id, _) => *id,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClientTimer {
    Machine(Timer),
    /// [`StackConfig::ring_max`].
    Ring,
    /// No answer from the name server.
    Lookup,
    /// RFC 3261 §9.1: 64·T1 after a CANCEL the INVITE counts as cancelled.
    CancelWait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ServerTimer {
    Machine(Timer),
    /// [`StackConfig::answer_max`].
    Answer,
    /// Repeat a reliable provisional response.
    Reliable,
    /// No PRACK.
    ReliableGiveUp,
    /// RFC 3261 §13.3.1.1: a provisional response every minute keeps proxies waiting.
    Refresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DialogTimer {
    /// Repeat a 2xx.
    Repeat2xx,
    /// No ACK.
    AckGiveUp,
    /// Session refresh due, or session over.
    Session,
    /// RFC 3261 §14.1: try again after 491.
    Glare,
    /// A subscription that outlives its session.
    Subscription,
}

impl Stack {
    /// A stack. `seed` decides every tag, branch and random wait: take it from a secret source, or from a test.
    ///
    /// # Panics
    /// Without identities there is nothing to write into a Via.
    pub fn new(config: StackConfig, seed: [u8; 32]) -> Self {
        assert!(
            !config.identities.is_empty(),
            "a stack needs at least one identity"
        );
        let identities = config.identities.iter();
        let contacts = identities
            .map(|identity| config.contact_value(identity))
            .collect();
        let methods: Vec<&str> = config.methods.iter().map(message::Method::as_str).collect();
        let named = !config.server_name.is_empty();
        let names_us = |name| named.then(|| Header::from_typed(name, &config.server_name));
        let random = Random::new(seed);
        let secret = random.secret();
        Self {
            allow: Header::from_typed(HeaderName::Allow, methods.join(", ")),
            supported: Header::from_typed(HeaderName::Supported, config.extensions.join(", ")),
            server: names_us(HeaderName::Server),
            user_agent: names_us(HeaderName::UserAgent),
            contacts,
            config,
            random,
            timers: TimerQueue::default(),
            clients: IdMap::default(),
            clients_by_branch: Index::new(secret),
            parked: BTreeMap::new(),
            servers: IdMap::default(),
            servers_by_key: Index::new(secret),
            servers_by_merge: Index::new(secret),
            dialogs: IdMap::default(),
            dialogs_by_id: Index::new(secret),
            next_id: 0,
            overload: Overload::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            lookups: VecDeque::new(),
            failed_targets: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// What it was told.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// Other [`StackConfig::ring_max`] and [`StackConfig::answer_max`] for INVITEs from now on.
    pub fn set_patience(&mut self, ring_max: Duration, answer_max: Duration) {
        (self.config.ring_max, self.config.answer_max) = (ring_max, answer_max);
    }

    /// A datagram, a WebSocket message, or one message cut from a stream by
    /// [`StreamFramer`](crate::message::StreamFramer). STUN and keepalives are not for here.
    pub fn handle_message(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        let limits = &self.config.message_limits;
        let parsed = match flow.transport {
            Transport::Udp | Transport::Ws | Transport::Wss => message::parse_datagram(bytes, limits),
            Transport::Tcp | Transport::Tls => message::parse_stream_message(bytes, limits),
        };
        match parsed {
            Ok(message) => self.handle_parsed(now, flow, message),
            Err(error) => self.handle_malformed(flow, &error),
        }
    }

    /// How long somebody had waited until now. When even the shortest waits are longer than [`WAIT_MAX`], a share of new
    /// calls is refused with 503 and Retry-After; [`Stats::overloaded`] counts them.
    pub fn waited(&mut self, now: Instant, who: Waiting, wait: Duration) {
        self.overload.waited(now, who, wait);
    }

    /// A message that is parsed already.
    pub fn handle_parsed(&mut self, now: Instant, flow: Flow, message: Message) {
        match message {
            Message::Request(mut request) => {
                message::unwrap_description(&mut request.headers, &mut request.body);
                self.receive_request(now, flow, request);
            }
            Message::Response(mut response) => {
                message::unwrap_description(&mut response.headers, &mut response.body);
                if let Ok(cseq) = response.headers.cseq() {
                    message::drop_others(&cseq.method, &mut response.headers, &mut response.body);
                }
                self.receive_response(now, response);
            }
        }
    }

    /// A message that [`StreamFramer`](crate::message::StreamFramer) or a parser of the caller refused: sends the
    /// answer it is owed, if any.
    pub fn handle_malformed(&mut self, flow: Flow, error: &message::ParseError) {
        self.stats.malformed += 1;
        if let Some(response) = error.answer() {
            self.answer_stateless(flow, response);
        }
    }

    /// Sending to `target` failed, or its connection is gone. Requests that wait for an answer from there go to
    /// their next target, or fail. Looks at every open client transaction.
    pub fn handle_transport_error(&mut self, now: Instant, target: &Target) {
        let waits = |client: &Client| client.target == *target;
        let clients = self.clients.iter();
        let failed = clients.filter(|(_, client)| waits(client)).map(|(&id, _)| id);
        let mut failed: Vec<u64> = failed.collect();
        failed.sort_unstable();
        for id in failed {
            self.client_transport_error(now, id);
        }
    }

    /// Time has come to [`Stack::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop_due(now) {
            match due {
                Due::Client(id, timer) => self.client_timer(now, id, timer),
                Due::Server(id, timer) => self.server_timer(now, id, timer),
                Due::Dialog(id, timer) => self.dialog_timer(now, id, timer),
            }
        }
    }

    /// When to call [`Stack::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next_due()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next name to look up; none ever with [`StackConfig::resolves_names`] off. It is answered by
    /// [`Stack::handle_lookup`].
    pub fn poll_lookup(&mut self) -> Option<Lookup> {
        self.lookups.pop_front()
    }

    /// The next address that a request could not be sent to, that did not answer, or that answered 503. None ever with
    /// [`StackConfig::resolves_names`] off.
    pub fn poll_failed_target(&mut self) -> Option<Target> {
        self.failed_targets.pop_front()
    }

    /// Counters and table sizes.
    pub fn stats(&self) -> Stats {
        let indices = [
            &self.clients_by_branch,
            &self.servers_by_key,
            &self.servers_by_merge,
            &self.dialogs_by_id,
        ];
        Stats {
            client_transactions: self.clients.len(),
            lookups: self.parked.len(),
            server_transactions: self.servers.len(),
            dialogs: self.dialogs.len(),
            keys: indices.map(Index::len).iter().sum(),
            timers: self.timers.len(),
            ..self.stats
        }
    }

    /// A dialog's state.
    pub fn dialog(&self, dialog: DialogKey) -> Option<&Dialog> {
        self.dialogs.get(&dialog.0).map(|entry| &entry.dialog)
    }

    /// The dialog with this identity, for Replaces and Target-Dialog.
    pub fn find_dialog(&self, id: &DialogId) -> Option<DialogKey> {
        self.dialog_known_as(id).map(DialogKey)
    }

    /// An unguessable token of 16 characters, for Call-IDs and cnonces.
    pub fn random_token(&mut self) -> String {
        self.random.token()
    }

    /// An unguessable number.
    pub fn random_number(&mut self) -> u64 {
        self.random.next_u64()
    }

    fn dialog_known_as(&self, id: &DialogId) -> Option<u64> {
        let is_it = |key| self.dialogs.get(&key).is_some_and(|entry| entry.dialog.id == *id);
        self.dialogs_by_id.find(id, is_it)
    }

    fn server_of(&self, key: &ServerKey) -> Option<u64> {
        let is_it = |id| self.servers.get(&id).is_some_and(|server| server.key == *key);
        self.servers_by_key.find(key, is_it)
    }

    /// The transaction of another copy of this request.
    fn server_merged(&self, merge: &MergeKey) -> Option<u64> {
        let is_it = |id| {
            let server = self.servers.get(&id);
            server.is_some_and(|server| server.merge.as_ref() == Some(merge))
        };
        self.servers_by_merge.find(merge, is_it)
    }

    fn client_of(&self, branch: &Bytes, is_cancel: bool) -> Option<u64> {
        let is_it = |id| {
            let client = self.clients.get(&id);
            client.is_some_and(|client| client.branch == *branch && client.is_cancel() == is_cancel)
        };
        self.clients_by_branch.find(&(branch, is_cancel), is_it)
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn transmit(&mut self, target: Target, fallback: Option<Target>, bytes: Bytes) {
        self.transmits.push_back(Transmit {
            target,
            fallback,
            bytes,
        });
    }

    /// The identity we use towards a target: same transport and address family, best the same address and port, or the
    /// nearest.
    fn identity_for(&self, target: &Target) -> Option<usize> {
        let (transport, local) = match target {
            Target::Flow(flow) => (flow.transport, Some(flow.local)),
            Target::Address { transport, .. } => (*transport, None),
        };
        let remote = target.remote().ip();
        let family = remote.to_canonical().is_ipv4();
        let fits = |identity: &Identity| {
            let own = identity.local.ip();
            identity.transport == transport
                && (own.to_canonical().is_ipv4() == family || (own.is_ipv6() && own.is_unspecified()))
        };
        let rank = |identity: &Identity| match local {
            Some(local) => {
                let same_address = identity.local.ip() == local.ip();
                let same_port = identity.local.port() == local.port();
                let same_family = identity.local.is_ipv4() == family;
                (!same_address, !same_port, !same_family, 0)
            }
            None => {
                let (is_elsewhere, is_abroad, bits) = distance(identity.local.ip(), remote);
                (is_elsewhere, is_abroad, identity.local.is_ipv4() != family, bits)
            }
        };
        let candidates = self.config.identities.iter().enumerate();
        candidates
            .filter(|(_, identity)| fits(identity))
            .min_by_key(|(_, identity)| rank(identity))
            .map(|(index, _)| index)
    }

    fn count_refusal(&mut self) {
        self.stats.refused += 1;
    }

    fn count_response_sent(&mut self, response: &Response) {
        let class = usize::from(response.status.class());
        self.stats.responses_sent[class - 1] += 1;
    }

    fn count_request_sent(&mut self, request: &Request) {
        self.stats.requests_sent.count(&request.method);
    }
}

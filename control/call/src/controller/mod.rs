//! The controller: everything that decides, behind one set of verbs.
//!
//! Feed it with [`Controller::handle_message`], [`Controller::handle_media`] and [`Controller::handle_timeout`]; after
//! each call drain [`Controller::poll_output`] in order and set an alarm for [`Controller::poll_timeout`].

use std::{
    collections::VecDeque,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use proto::mediad::v1 as pb;
use sip::{
    message::ParseError,
    stack::{Flow, Identity, Stack, StackConfig, Target, Transmit},
};

use crate::{
    config::{Config, ConfigError},
    domain::{AgentState, Domain, DomainError},
    journal::Record,
    pool::{HostId, HostView, Pool},
};

/// The time, by both clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub mono: Instant,
    /// For records, nonces and expiry told to others.
    pub wall: SystemTime,
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
    /// Sum of the waits of those who reached an agent, in milliseconds.
    pub waited_ms: u64,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStage {
    /// The media host is making room for it.
    Preparing,
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
    /// What was dialled.
    pub to: String,
    /// The queue, if it goes to one.
    pub queue: Option<String>,
    /// Who is rung or talks to the caller.
    pub user: Option<String>,
    /// How far it is.
    pub stage: CallStage,
    /// Since the INVITE came, in milliseconds.
    pub age_ms: u64,
    /// The media host.
    pub host: String,
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
    /// Calls over; equals `calls_started` when `calls` is 0.
    pub calls_ended: u64,
    /// Calls refused before a CallStarted: unknown address, authentication, overload, no common codec.
    pub calls_refused: u64,
    /// Calls now, ending ones included.
    pub calls: usize,
    /// Registrations accepted, refreshes included.
    pub registrations_accepted: u64,
    /// Registrations and calls refused for a wrong password.
    pub authentication_failures: u64,
    /// Devices registered now.
    pub bindings: usize,
    /// Commands sent to media hosts.
    pub media_commands: u64,
    /// Commands that failed.
    pub media_errors: u64,
    /// Commands without reply now.
    pub media_pending: usize,
    /// Offers to agents now, conversations included.
    pub offers: usize,
    /// The SIP stack's own.
    pub sip: sip::stack::Stats,
}

/// See the module.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    stack: Stack,
    domain: Domain,
    pool: Pool,
    records: VecDeque<Record>,
    commands: VecDeque<(HostId, pb::Command)>,
    counters: Counters,
}

impl Controller {
    /// A controller. `seed` decides every tag, nonce and name: take it from a secret source, or from a test.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Result<Self, ConfigError> {
        config.check()?;
        let _ = now;
        let identities = config
            .listeners
            .iter()
            .map(|listener| Identity::new(listener.transport, listener.local, listener.advertised()))
            .collect();
        let hosts = config.media.hosts.iter().map(|host| host.name.clone());
        Ok(Self {
            stack: Stack::new(StackConfig::new(identities), seed),
            domain: Domain::default(),
            pool: Pool::new(hosts),
            records: VecDeque::new(),
            commands: VecDeque::new(),
            counters: Counters::default(),
            config,
        })
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

    /// A message that a [`StreamFramer`](sip::message::StreamFramer) refused.
    pub fn handle_malformed(&mut self, now: Now, flow: Flow, error: &ParseError) {
        self.stack.handle_malformed(flow, error);
        self.advance(now);
    }

    /// Sending to `target` failed, or its connection is gone.
    pub fn handle_transport_error(&mut self, now: Now, target: &Target) {
        self.stack.handle_transport_error(now.mono, target);
        self.advance(now);
    }

    /// Something from a media host.
    pub fn handle_media(&mut self, now: Now, input: MediaInput) {
        match input {
            MediaInput::HostUp { host, boot_id } => drop(self.pool.up(&host, &boot_id)),
            MediaInput::HostDown { host, .. } => drop(self.pool.down(&host)),
            MediaInput::Replies { .. } | MediaInput::Event { .. } => {}
        }
        self.advance(now);
    }

    /// Time has come to [`Controller::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.stack.handle_timeout(now.mono);
        self.domain.handle_timeout(now.mono);
        self.advance(now);
    }

    /// When to call [`Controller::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.stack.poll_timeout(), self.domain.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    /// The next thing to do. Records come before the messages and commands they are about.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(record) = self.records.pop_front() {
            return Some(Output::Record(record));
        }
        if let Some((host, command)) = self.commands.pop_front() {
            return Some(Output::Media { host, command });
        }
        self.stack.poll_transmit().map(Output::Transmit)
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

    /// Ends a call, whoever is in it. False when there is no such call.
    pub fn end_call(&mut self, now: Now, call: &str, reason: &str) -> bool {
        let _ = (call, reason);
        self.advance(now);
        false
    }

    /// What is going on.
    pub fn live(&self, now: Now) -> Live {
        let _ = now;
        Live {
            agents: Vec::new(),
            queues: Vec::new(),
            calls: Vec::new(),
            registrations: Vec::new(),
            hosts: self.pool.views(),
        }
    }

    /// Counters and table sizes.
    pub fn counters(&self) -> Counters {
        Counters {
            sip: self.stack.stats(),
            ..self.counters
        }
    }

    fn advance(&mut self, now: Now) {
        let _ = now;
        while self.stack.poll_event().is_some() || self.domain.poll_output().is_some() {}
    }
}

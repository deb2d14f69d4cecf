//! The core thread: owns the controller, takes inputs in order, carries out what comes of them.
//!
//! It sleeps on a tokio runtime of its own, on its sockets and on a bell that all others ring. The tasks that talk to media
//! hosts run on the same thread while it sleeps, so that a command and its reply wake nobody. Inputs are handled in batches.
//! The records of a batch are written before its first message or command leaves.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use call_control::{
    CallAudio, CallLive, Controller, Counters, HostId, Live, MediaInput, MemberLive, Now, Output, TrunkLive,
    cdr::CallDetail,
    originate::{Originate, OriginateError, Originated},
};
use proto::mediad::v1 as pb;
use sip::{
    message::ParseError,
    stack::{Flow, LookupId, Target, Transmit},
};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    bell::Bell,
    journal::{DetailText, Journal},
    ladder, limits,
    media::Hosts,
    resolver::Resolver,
    transport::{Inbox, Transports},
};

/// What the core thread is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// A message from a socket.
    Message(Flow, Bytes),
    /// What a stream held instead of a message.
    Malformed(Flow, Box<ParseError>),
    /// A message could not be sent there, or the connection is gone.
    TransportError(Target),
    /// Where a name leads.
    Resolved(LookupId, Vec<Target>),
    /// Something from a media host.
    Media(MediaInput),
    /// A question from the management listener.
    Ask(Question),
    /// End all calls, then the thread.
    Stop,
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(crate) enum Question {
    /// Counters.
    Counters(oneshot::Sender<Counters>),
    /// What is going on.
    Live(oneshot::Sender<Live>),
    /// Trunks as they are.
    Trunks(oneshot::Sender<Vec<TrunkLive>>),
    /// Something to be done, and whether it was.
    Do(Action, oneshot::Sender<Result<(), String>>),
    /// The newest call details, newest first, this many at most.
    Details(usize, oneshot::Sender<Vec<DetailText>>),
    /// Mute a member of a conference, or let it be heard again; false when there is none.
    Mute(String, bool, oneshot::Sender<bool>),
    /// Record a call (`None`), mask its recording or go on with it; false when there is none.
    Record(String, Option<bool>, oneshot::Sender<bool>),
    /// End a call; false when there is none.
    End(String, oneshot::Sender<bool>),
    /// A call, while it lasts and after.
    Call(String, oneshot::Sender<Option<CallFound>>),
    /// Where the audio of a call is that goes on.
    Audio(String, oneshot::Sender<Option<CallAudio>>),
    /// Go over to another configuration.
    Reconfigure(
        Box<call_control::Config>,
        oneshot::Sender<Result<(), call_control::ConfigError>>,
    ),
    /// Make a call; a repetition is known by the key.
    Originate(Box<Originate>, Option<String>, oneshot::Sender<OriginateAnswer>),
}

/// What became of a request for a call.
pub(crate) type OriginateAnswer = Result<Originated, OriginateError>;

/// A call as it was found.
#[derive(Debug)]
pub(crate) enum CallFound {
    /// It goes on.
    Live(Box<CallLive>),
    /// It goes on, in this room.
    Member(String, Box<MemberLive>),
    /// It is over.
    Over(Box<CallDetail>),
}

/// What an operator asks for.
#[derive(Debug)]
pub(crate) enum Action {
    /// An agent takes calls.
    Ready(String),
    /// An agent takes none, with the reason.
    Pause(String, String),
}

/// The way to the core thread: bounded, and counted when full.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    to_core: SyncSender<(Instant, Input)>,
    bell: Arc<Bell>,
    shared: Arc<InputCounters>,
}

/// What befell inputs.
#[derive(Debug, Default)]
pub(crate) struct InputCounters {
    pub(crate) taken: AtomicU64,
    pub(crate) delayed: AtomicU64,
}

/// The core thread is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Inputs {
    /// A bounded queue.
    pub(crate) fn new() -> (Self, Receiver<(Instant, Input)>) {
        let (to_core, from_all) = sync_channel(limits::INPUTS);
        let inputs = Self {
            to_core,
            bell: Arc::default(),
            shared: Arc::default(),
        };
        (inputs, from_all)
    }

    pub(crate) fn counters(&self) -> &InputCounters {
        &self.shared
    }

    /// Waits until there is room for it.
    pub(crate) async fn deliver(&self, input: Input) -> Result<(), Gone> {
        let mut input = (Instant::now(), input);
        loop {
            match self.to_core.try_send(input) {
                Ok(()) => {
                    self.bell.ring();
                    self.shared.taken.fetch_add(1, Relaxed);
                    return Ok(());
                }
                Err(TrySendError::Full(back)) => {
                    self.shared.delayed.fetch_add(1, Relaxed);
                    input = back;
                    sleep(Duration::from_millis(1)).await;
                }
                Err(TrySendError::Disconnected(_)) => return Err(Gone),
            }
        }
    }

    /// Asks and waits for the answer, but not for ever.
    pub(crate) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        self.ask_for(limits::QUERY_TIMEOUT, question).await
    }

    /// As [`Inputs::ask`], for so long.
    pub(crate) async fn ask_for<T>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.deliver(Input::Ask(question(answer))).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(patience, asked).await.ok()?
    }
}

/// Everything the thread owns.
pub(crate) struct Core {
    controller: Controller,
    /// With when they came.
    inputs: Receiver<(Instant, Input)>,
    journal: Journal,
    /// The way in: its bell, and where answers of name servers come back to.
    to_itself: Inputs,
    transports: Transports,
    resolver: Resolver,
    hosts: Hosts,
    /// Told to stop: the calls have until then to end.
    stop_at: Option<Instant>,
    /// Given when the records they are about are written.
    answers: Vec<(oneshot::Sender<OriginateAnswer>, OriginateAnswer)>,
    /// Told to media hosts when what was written up to that mark is on the disk to stay.
    acknowledgements: VecDeque<(u64, HostId, pb::AcknowledgeRequest)>,
}

impl Core {
    pub(crate) fn new(
        controller: Controller,
        inputs: Receiver<(Instant, Input)>,
        journal: Journal,
        to_itself: &Inputs,
        transports: Transports,
        resolver: Resolver,
        hosts: &Hosts,
    ) -> Self {
        Self {
            controller,
            inputs,
            journal,
            to_itself: to_itself.clone(),
            transports,
            resolver,
            hosts: hosts.clone(),
            stop_at: None,
            answers: Vec::new(),
            acknowledgements: VecDeque::new(),
        }
    }

    /// Runs until told to stop, and until the calls have ended or took too long for it.
    pub(crate) async fn run(mut self) {
        let mut inbox = Inbox::default();
        let mut arrived = Vec::new();
        // More is in the queue than one batch took.
        let mut behind = false;
        loop {
            self.carry_out();
            if let Some(until) = self.stop_at
                && (self.controller.is_idle() || Instant::now() >= until)
            {
                // What was said last is still on its way through the tasks beside us.
                sleep(limits::SHUTDOWN_LAST_WORDS).await;
                return;
            }
            let longest = if behind { Duration::ZERO } else { self.pause() };
            self.transports.wait(&self.to_itself.bell, longest).await;
            let now = now();
            let wait = self.transports.receive(&mut inbox, &mut arrived);
            for (flow, bytes) in arrived.drain(..) {
                self.to_itself.shared.taken.fetch_add(1, Relaxed);
                self.take(now, Input::Message(flow, bytes));
            }
            let (others, wait_of_others) = self.take_batch(now);
            if let Some(wait) = wait.max(wait_of_others) {
                self.controller.messages_waited(now, wait);
            }
            behind = others == limits::INPUTS_PER_BATCH;
            if self.controller.poll_timeout().is_some_and(|due| due <= now.mono) {
                self.controller.handle_timeout(now);
            }
        }
    }

    /// How long nothing needs doing.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let waits = !self.acknowledgements.is_empty();
        let acknowledge = waits.then(|| now + limits::ACKNOWLEDGE_EVERY);
        // Each message leaves timers behind. They do not wake the thread one by one.
        let timers = self.controller.poll_timeout();
        let timers = timers.map(|due| due.max(now + limits::TIMERS_EVERY));
        let due = [timers, self.stop_at, acknowledge].into_iter().flatten().min();
        due.map_or(Duration::from_secs(1), |due| due.saturating_duration_since(now))
    }

    /// Takes what is in the queue, a batch at most; gives how much it was, and how long the first message had waited.
    fn take_batch(&mut self, now: Now) -> (usize, Option<Duration>) {
        self.to_itself.bell.quiet();
        let mut wait = None;
        for count in 0..limits::INPUTS_PER_BATCH {
            let Ok((came, input)) = self.inputs.try_recv() else {
                return (count, wait);
            };
            if matches!(input, Input::Message(..)) {
                wait.get_or_insert(now.mono.saturating_duration_since(came));
            }
            self.take(now, input);
        }
        (limits::INPUTS_PER_BATCH, wait)
    }

    fn take(&mut self, now: Now, input: Input) {
        match input {
            Input::Message(flow, bytes) => {
                ladder::received(&flow, &bytes);
                self.controller.handle_message(now, flow, bytes);
            }
            Input::Malformed(flow, error) => self.controller.handle_malformed(now, flow, &error),
            Input::TransportError(target) => self.controller.handle_transport_error(now, &target),
            Input::Resolved(id, targets) => self.controller.handle_lookup(now, id, targets),
            Input::Media(input) => self.controller.handle_media(now, input),
            Input::Ask(question) => self.answer(now, question),
            Input::Stop => self.end_calls(now),
        }
    }

    /// Who asked may have gone away.
    fn answer(&mut self, now: Now, question: Question) {
        match question {
            Question::Counters(to) => drop(to.send(self.controller.counters())),
            Question::Live(to) => drop(to.send(self.controller.live(now))),
            Question::Trunks(to) => drop(to.send(self.controller.trunks_live())),
            Question::Do(action, to) => drop(to.send(self.act(now, action))),
            Question::Details(count, to) => drop(to.send(self.journal.details(count))),
            Question::Mute(call, muted, to) => {
                let _gone = to.send(self.controller.mute_member(now, &call, muted));
            }
            Question::Record(call, paused, to) => {
                let done = match paused {
                    None => self.controller.record_call(now, &call),
                    Some(paused) => self.controller.pause_recording(now, &call, paused),
                };
                let _gone = to.send(done);
            }
            Question::End(call, to) => {
                let _gone = to.send(self.controller.end_call(now, &call, "ended by an operator"));
            }
            Question::Call(call, to) => drop(to.send(self.find_call(now, &call))),
            Question::Audio(call, to) => drop(to.send(self.controller.call_audio(&call))),
            Question::Reconfigure(config, to) => drop(to.send(self.reconfigure(now, *config))),
            Question::Originate(request, key, to) => {
                let answer = self.controller.originate(now, *request, key.as_deref());
                self.answers.push((to, answer));
            }
        }
    }

    fn reconfigure(
        &mut self,
        now: Now,
        config: call_control::Config,
    ) -> Result<(), call_control::ConfigError> {
        // A media host that is let go and put back at once is let go first.
        self.carry_out();
        let hosts = config.media.hosts.clone();
        self.controller.reconfigure(now, config)?;
        self.hosts.add(&hosts);
        Ok(())
    }

    fn find_call(&self, now: Now, name: &str) -> Option<CallFound> {
        if let Some(call) = self.controller.call_live(now, name) {
            return Some(CallFound::Live(Box::new(call)));
        }
        if let Some((room, member)) = self.controller.member_live(now, name) {
            return Some(CallFound::Member(room, Box::new(member)));
        }
        let detail = self.journal.detail(name)?;
        Some(CallFound::Over(Box::new(detail)))
    }

    fn act(&mut self, now: Now, action: Action) -> Result<(), String> {
        let told = |error: call_control::domain::DomainError| error.to_string();
        match action {
            Action::Ready(agent) => self.controller.agent_ready(now, &agent).map_err(told),
            Action::Pause(agent, reason) => self.controller.agent_pause(now, &agent, &reason).map_err(told),
        }
    }

    /// Carries out all outputs: records first, then messages and commands in their order.
    fn carry_out(&mut self) {
        // A failure to send is an input, which may bring further outputs (the next target of a request). Each round
        // uses up targets, so this ends; the bound holds should it not.
        for _ in 0..16 {
            let mut sends = Vec::new();
            while let Some(output) = self.controller.poll_output() {
                match output {
                    Output::Record(record) => self.journal.push(&record),
                    Output::Transmit(transmit) => sends.push(Send::Message(transmit)),
                    Output::Media { host, command } => sends.push(Send::Command(host, command)),
                    Output::Lookup(lookup) => self.resolver.ask(lookup, &self.to_itself),
                    Output::Unreachable(target) => self.resolver.avoid(target),
                    Output::HostDrained(host) => self.hosts.close(&host),
                    Output::WrongPassword(flow) => self.transports.wrong_password(flow.remote.ip()),
                    Output::Acknowledge { host, recording } => {
                        if self.acknowledgements.len() < limits::ACKNOWLEDGEMENTS {
                            let mark = self.journal.next_mark();
                            self.acknowledgements.push_back((mark, host, recording));
                        }
                    }
                }
            }
            if !self.journal.write() {
                // No journal knows of these recordings: their hosts tell of them again.
                self.acknowledgements.clear();
                self.controller.records_lost();
            }
            for (to, answer) in self.answers.drain(..) {
                // Who asked may have gone away.
                let _gone = to.send(answer);
            }
            self.acknowledge();
            if self.journal.is_full() {
                self.journal.turn(&self.controller.standing(now()));
            }
            if sends.is_empty() {
                return;
            }
            for send in sends {
                self.send(send);
            }
        }
    }

    /// Tells media hosts of the recordings whose records are safe.
    fn acknowledge(&mut self) {
        let safe = self.journal.synced_mark();
        while self
            .acknowledgements
            .front()
            .is_some_and(|(mark, ..)| *mark <= safe)
        {
            if let Some((_, host, recording)) = self.acknowledgements.pop_front() {
                self.hosts.acknowledge(&host, recording);
            }
        }
    }

    fn send(&mut self, send: Send) {
        match send {
            Send::Message(transmit) => {
                ladder::sent(&transmit.target, &transmit.bytes);
                if !self.transports.send(&transmit) {
                    let error = transmit.target;
                    self.controller.handle_transport_error(now(), &error);
                }
            }
            Send::Command(host, command) => {
                let commands = vec![command.id];
                if !self.hosts.send(&host, command) {
                    let input = MediaInput::Unanswered { host, commands };
                    self.controller.handle_media(now(), input);
                }
            }
        }
    }

    fn end_calls(&mut self, now: Now) {
        self.stop_at = Some(now.mono + limits::SHUTDOWN_CALLS);
        self.controller.stop(now, "the controller is stopping");
    }
}

/// What leaves the process.
enum Send {
    Message(Transmit),
    Command(call_control::HostId, pb::Command),
}

/// Both clocks, taken together.
pub(crate) fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Where we listen, for the line that says so.
pub(crate) type Bound = Vec<(sip::stack::Transport, SocketAddr)>;

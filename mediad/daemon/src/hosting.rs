//! The host thread: owns the `Host`, carries requests out in order, binds sockets, talks to the workers.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use media_engine::{
    api,
    command::{Command, EngineEvent, Reply, ReplyToken, SessionKey, SessionReport},
    explain,
    host::{ActOutcome, Busy, HOST_TOKEN, Host, Prepared, Taking, TapPlace},
    refusal::Refusal,
    spec::Name,
};
use proto::mediad::v1 as pb;
use rtp::time::Now;
use tokio::sync::{oneshot, watch};

use crate::{
    doorbell::Doorbell,
    limits,
    prompts::Prompts,
    recordings::{Opened, Recordings},
    requests::{Answer, HostLine, Request, Way, refused},
    seats::Seats,
    sockets,
    team::Team,
    watchers::Watchers,
    worker::{Bound, Message},
};

/// How often workers are measured and looked after.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(500);

/// Everything the host thread owns.
pub(crate) struct Hosting {
    host: Host,
    team: Team,
    line: HostLine,
    doorbell: Arc<Doorbell>,
    /// Number of the latest event, for those who begin to watch.
    latest: watch::Sender<u64>,
    watchers: Watchers,
    /// RTP ports on which packets of an earlier life arrived, until when they are left alone.
    noisy: HashSet<SocketAddr>,
    noisy_until: Instant,
    prompts: Prompts,
    seats: Arc<Seats>,
    recordings: Recordings,
    pending: BTreeMap<ReplyToken, Pending>,
    batches: BTreeMap<u64, Batch>,
    next_number: u64,
    /// Commands of the host's own that found a mailbox full.
    orders: VecDeque<(usize, Command)>,
    housekeeping_at: Instant,
    stopping: Option<Instant>,
}

/// What the host thread is started with.
pub(crate) struct Parts {
    pub(crate) host: Host,
    pub(crate) team: Team,
    pub(crate) line: HostLine,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) latest: watch::Sender<u64>,
    pub(crate) noisy: HashSet<SocketAddr>,
    pub(crate) quarantine: Duration,
    pub(crate) prompts: Prompts,
    /// Programs at taps.
    pub(crate) seats: Arc<Seats>,
    pub(crate) recordings: Recordings,
}

/// Who waits for a worker's answer.
#[derive(Debug)]
enum Pending {
    Delete {
        batch: u64,
        index: usize,
        key: SessionKey,
    },
    Adopt {
        batch: u64,
        index: usize,
        key: SessionKey,
    },
    Describe {
        session: Name,
        key: SessionKey,
        answer: Answer<pb::SessionDescription>,
    },
    Explain {
        session: Name,
        key: SessionKey,
        ends: (Option<Name>, Option<Name>),
        answer: Answer<pb::ExplainReply>,
    },
    /// The host itself ended the session.
    Ended { key: SessionKey },
}

/// A batch of commands some of whose replies come from workers.
#[derive(Debug)]
struct Batch {
    replies: Vec<pb::CommandReply>,
    missing: usize,
    reply: oneshot::Sender<Vec<pb::CommandReply>>,
}

impl Hosting {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            host: parts.host,
            team: parts.team,
            line: parts.line,
            doorbell: parts.doorbell,
            latest: parts.latest,
            watchers: Watchers::default(),
            noisy: parts.noisy,
            noisy_until: now + parts.quarantine,
            prompts: parts.prompts,
            seats: parts.seats,
            recordings: parts.recordings,
            pending: BTreeMap::new(),
            batches: BTreeMap::new(),
            next_number: 1,
            orders: VecDeque::new(),
            // Not at once: a measurement over no time would take what starting cost for a full core.
            housekeeping_at: now + HOUSEKEEPING_EVERY,
            stopping: None,
        }
    }

    /// Runs until [`Request::Stop`], or until a worker died.
    ///
    /// # Errors
    /// Says which worker stopped by itself.
    pub(crate) fn run(mut self) -> Result<(), String> {
        self.doorbell.attach();
        loop {
            let now = now();
            let mut worked = self.take_from_workers(now);
            worked |= self.take_requests(now);
            if self.host.poll_timeout().is_some_and(|at| at <= now.mono) {
                self.host.handle_timeout(now);
            }
            self.pass_orders();
            self.team.wake();
            self.announce();
            self.seats.ring();
            if now.mono >= self.housekeeping_at {
                self.keep_house(now)?;
            }
            if self.is_stopped(now) {
                return self.team.stop();
            }
            if !worked {
                self.doorbell.wait(self.pause(now));
            }
        }
    }

    /// How long nothing needs doing.
    fn pause(&self, now: Now) -> Duration {
        if !self.orders.is_empty() || self.stopping.is_some() {
            return Duration::from_millis(2);
        }
        let next = self
            .host
            .poll_timeout()
            .into_iter()
            .chain([self.housekeeping_at])
            .min();
        next.map_or(Duration::ZERO, |at| at.saturating_duration_since(now.mono))
    }

    fn keep_house(&mut self, now: Now) -> Result<(), String> {
        self.housekeeping_at = now.mono + HOUSEKEEPING_EVERY;
        self.watchers.keep_abreast(now.mono);
        if self.stopping.is_none() {
            self.team.check()?;
        }
        for (worker, (busy, late)) in self.team.measure(now.mono).into_iter().enumerate() {
            if let Some(taking) = self.host.worker_busy(worker, busy, late) {
                tell_of(worker, busy, late, taking);
            }
        }
        if !self.noisy.is_empty() && now.mono >= self.noisy_until {
            self.noisy = HashSet::new();
        }
        Ok(())
    }

    /// Tells watchers what is new.
    fn announce(&mut self) {
        let last = self.host.last_event();
        let is_news = self
            .latest
            .send_if_modified(|seen| std::mem::replace(seen, last) != last);
        if is_news {
            self.watchers.tell(&self.host);
        }
    }

    fn take_from_workers(&mut self, now: Now) -> bool {
        let mut worked = false;
        for worker in 0..self.team.count() {
            let shared = Arc::clone(self.team.shared(worker));
            let lost = shared.counters.events_lost();
            if self.team.newly_lost(worker, lost) {
                tracing::warn!(
                    worker,
                    lost,
                    "events were lost under load; watchers take a snapshot"
                );
                self.host.lost_events();
            }
            // Counted before the rest is taken: a worker tells what happened, and lets go of sockets, before it answers.
            let answered = shared.replies.len();
            while let Some(event) = shared.events.pop() {
                worked = true;
                self.tell_taps(&event);
                self.host.engine_event(now, event);
            }
            while let Some(socket) = shared.released.pop() {
                worked = true;
                self.team.sockets_closed(worker, 1);
                drop(socket);
            }
            let refused = shared.refused_sockets.swap(0, Ordering::Relaxed);
            self.team.sockets_closed(worker, refused);
            for (token, reply) in std::iter::from_fn(|| shared.replies.pop()).take(answered) {
                worked = true;
                self.take_reply(now, token, reply);
            }
        }
        worked
    }

    fn take_requests(&mut self, now: Now) -> bool {
        for count in 0..limits::REQUESTS_PER_TURN {
            let Some(request) = self.line.pop() else {
                return count > 0;
            };
            self.carry_out(now, request);
        }
        true
    }

    fn carry_out(&mut self, now: Now, request: Request) {
        match request {
            Request::Commands(commands, way, reply) => self.run_batch(now, commands, way, reply),
            Request::Hello(hello, answer) => {
                drop(answer.send(self.hello(now, &hello).map_err(|r| refused(&r))))
            }
            Request::Goodbye(controller) => {
                tracing::info!(controller, "control stream closed");
                self.host.disconnected(now, &controller.into());
            }
            Request::Renew(renew, answer) => {
                drop(answer.send(self.renew(now, &renew).map_err(|r| refused(&r))))
            }
            Request::List(list, reply) => drop(reply.send(self.list(&list))),
            Request::Describe(session, answer) => self.describe(session.into(), answer),
            Request::Explain(request, answer) => self.explain(&request, answer),
            Request::Tap(session, node, answer) => drop(answer.send(self.tap(&session.into(), &node.into()))),
            Request::Status(reply) => drop(reply.send(self.status(now))),
            Request::Drain(drain, reply) => drop(reply.send(self.drain(now, drain))),
            Request::Pulse(reply) => drop(reply.send(self.team.pulse())),
            Request::Tune(tuning, reply) => {
                self.host.tune(tuning);
                let _ = reply.send(());
            }
            Request::Events(asked) => self.watchers.ask(&self.host, now.mono, asked),
            Request::RecordingFinalised {
                controller,
                session,
                node,
                outcome,
            } => self
                .host
                .recording_finalised(now, controller, session, node, outcome),
            Request::Stop => self.begin_stop(now),
        }
    }

    fn run_batch(
        &mut self,
        now: Now,
        commands: Vec<pb::Command>,
        way: Way,
        reply: oneshot::Sender<Vec<pb::CommandReply>>,
    ) {
        let batch = self.number();
        let mut replies = Vec::with_capacity(commands.len());
        let mut missing = 0;
        for (index, command) in commands.into_iter().enumerate() {
            let result = match self.run_command(now, command.kind, way, (batch, index)) {
                Ok(Some(result)) => Some(result),
                Ok(None) => {
                    missing += 1;
                    None
                }
                Err(refusal) => Some(pb::command_reply::Result::Error(refused(&refusal))),
            };
            replies.push(pb::CommandReply {
                id: command.id,
                result,
            });
        }
        if missing == 0 {
            let _ = reply.send(replies);
        } else {
            self.batches.insert(
                batch,
                Batch {
                    replies,
                    missing,
                    reply,
                },
            );
        }
    }

    /// `None`: a worker answers later.
    fn run_command(
        &mut self,
        now: Now,
        command: Option<pb::command::Kind>,
        way: Way,
        (batch, index): (u64, usize),
    ) -> Result<Option<pb::command_reply::Result>, Refusal> {
        use pb::{command::Kind, command_reply::Result as Done};
        match command {
            Some(Kind::Apply(apply)) => self.apply(now, &apply).map(|reply| Some(Done::Apply(reply))),
            Some(Kind::Act(act)) => self.act(now, &act).map(|reply| Some(Done::Act(reply))),
            Some(Kind::Delete(delete)) => {
                let (session, owner) = api::delete(&delete)?;
                self.room_for(&session)?;
                let (worker, key) = match way {
                    Way::Stream => self.host.delete(now, &session, &owner)?,
                    Way::Call => self.host.remove(now, &session, &owner)?,
                };
                let token = self.expect(Pending::Delete { batch, index, key });
                self.team.send(worker, Message::Command(Command::End(key, token)));
                Ok(None)
            }
            Some(Kind::Adopt(adopt)) => {
                let (session, owner) = api::adopt(&adopt)?;
                self.room_for(&session)?;
                let (worker, key) = self.host.adopt(now, &session, &owner)?;
                let token = self.expect(Pending::Adopt { batch, index, key });
                self.team
                    .send(worker, Message::Command(Command::Report(key, token)));
                Ok(None)
            }
            None => Err(Refusal::Missing {
                subject: String::new(),
                field: "command.kind",
            }),
        }
    }

    fn apply(&mut self, now: Now, request: &pb::ApplyRequest) -> Result<pb::ApplyReply, Refusal> {
        let patch = api::apply(request)?;
        let mut prepared = self.host.prepare(now, patch)?;
        let loaded = self.host.load_prompts(&mut prepared, &mut self.prompts);
        let mut opened: Vec<Opened> = Vec::new();
        let recordings = &self.recordings;
        let ready = loaded.and_then(|()| {
            self.host.open_recordings(&mut prepared, |want| {
                let (one, feed) = recordings.open(want)?;
                opened.push(one);
                Ok(feed)
            })
        });
        let bound = match ready.and_then(|()| self.bind(now, &mut prepared)) {
            Ok(bound) => bound,
            Err(refusal) => {
                self.host.abort(now, prepared);
                opened.into_iter().for_each(Opened::discard);
                return Err(refusal);
            }
        };
        opened.into_iter().for_each(|one| self.recordings.begin(one));
        let committed = self.host.commit(now, prepared);
        if let Some(commit) = committed.commit {
            self.team.send(committed.worker, Message::Commit(commit, bound));
        }
        Ok(api::applied(self.host.boot_id(), &committed.applied))
    }

    /// Binds what `prepared` wants, moving on from ports that others hold. What fails, fails here.
    fn bind(&mut self, now: Now, prepared: &mut Prepared) -> Result<Vec<Bound>, Refusal> {
        let worker = prepared.worker();
        self.team.room(worker)?;
        let mut bound = Vec::with_capacity(prepared.wants().len());
        let mut attempts = 0;
        while let Some(want) = prepared.wants().get(bound.len()) {
            let sockets = bound.iter().map(sockets::count).sum::<usize>();
            self.team.room_for_sockets(worker, sockets + 2, &want.transport)?;
            let noisy = !want.requested && self.noisy.contains(&want.rtp);
            match sockets::bind(want, noisy)? {
                Some(one) => bound.push(one),
                None if attempts == limits::BIND_ATTEMPTS => {
                    let reason = format!(
                        "{attempts} ports in a row are held by other programs, the last was {}",
                        want.rtp
                    );
                    return Err(Refusal::Socket {
                        transport: want.transport.clone(),
                        reason,
                    });
                }
                None => {
                    attempts += 1;
                    self.host.rebind(now, prepared, bound.len())?;
                }
            }
        }
        Ok(bound)
    }

    fn act(&mut self, now: Now, request: &pb::ActRequest) -> Result<pb::ActReply, Refusal> {
        let act = api::act(request)?;
        self.room_for(&act.session)?;
        match self.host.act(now, act)? {
            ActOutcome::Order(worker, command) => self.team.send(worker, Message::Command(command)),
            ActOutcome::Repeated => {}
        }
        Ok(pb::ActReply {
            request: request.request.clone(),
        })
    }

    /// The mailbox of the session's worker takes one more, and the queue of its answers too.
    fn room_for(&self, session: &Name) -> Result<(usize, SessionKey), Refusal> {
        let (worker, key) = self.host.locate(session)?;
        self.team.room(worker)?;
        if self.pending.len() >= limits::ANSWERS_AWAITED {
            return Err(Refusal::MailboxFull {
                worker,
                waiting: self.pending.len(),
            });
        }
        Ok((worker, key))
    }

    fn hello(&mut self, now: Now, hello: &pb::Hello) -> Result<pb::HelloReply, Refusal> {
        let lease = lease_of(hello.lease_ms);
        let controller = controller_of(&hello.controller)?;
        let granted = self.host.hello(now, &controller, lease)?;
        self.recordings.repeat(&controller);
        let sessions = self.host.list(Some(&controller), "", usize::MAX);
        tracing::info!(%controller, sessions = sessions.len(), lease_ms = granted.as_millis() as u64, "control stream open");
        Ok(pb::HelloReply {
            boot_id: self.host.boot_id().into(),
            lease_ms: granted.as_millis() as u32,
            sessions: sessions.iter().map(api::summary).collect(),
        })
    }

    fn renew(&mut self, now: Now, renew: &pb::RenewRequest) -> Result<pb::RenewReply, Refusal> {
        let controller = controller_of(&renew.controller)?;
        let granted = self.host.renew(now, &controller, lease_of(renew.lease_ms))?;
        Ok(pb::RenewReply {
            boot_id: self.host.boot_id().into(),
            lease_ms: granted.as_millis() as u32,
        })
    }

    fn list(&self, list: &pb::ListRequest) -> pb::ListReply {
        let controller = (!list.controller.is_empty()).then_some(list.controller.as_str());
        let page = if list.limit == 0 {
            1_000
        } else {
            list.limit.min(10_000)
        } as usize;
        let mut sessions = self.host.list(controller, &list.after, page + 1);
        let more = sessions.len() > page;
        sessions.truncate(page);
        let next = sessions
            .last()
            .filter(|_| more)
            .map(|last| last.name.to_string())
            .unwrap_or_default();
        pb::ListReply {
            sessions: sessions.iter().map(api::summary).collect(),
            next,
        }
    }

    fn describe(&mut self, session: Name, answer: Answer<pb::SessionDescription>) {
        match self.room_for(&session) {
            Ok((worker, key)) => self.report(worker, key, Pending::Describe { session, key, answer }),
            Err(refusal) => drop(answer.send(Err(refused(&refusal)))),
        }
    }

    fn explain(&mut self, request: &pb::ExplainRequest, answer: Answer<pb::ExplainReply>) {
        let found = api::explain(request).and_then(|(session, from, to)| {
            self.room_for(&session).map(|place| (session, (from, to), place))
        });
        match found {
            Ok((session, ends, (worker, key))) => {
                self.report(
                    worker,
                    key,
                    Pending::Explain {
                        session,
                        key,
                        ends,
                        answer,
                    },
                );
            }
            Err(refusal) => drop(answer.send(Err(refused(&refusal)))),
        }
    }

    /// The rings of a tap, whose session's tick does not rest from now on.
    fn tap(&mut self, session: &Name, node: &Name) -> Result<TapPlace, pb::Error> {
        let place = self.host.tap(session, node);
        let place = place.and_then(|place| self.team.room(place.worker).map(|()| place));
        let place = place.map_err(|refusal| refused(&refusal))?;
        let attend = Message::Command(Command::Attend(place.session));
        self.team.send(place.worker, attend);
        Ok(place)
    }

    /// Programs hear who talks, of those that their taps hear.
    fn tell_taps(&self, event: &EngineEvent) {
        if self.seats.is_any()
            && let Some((told, taps)) = self.host.talk_for_taps(event)
        {
            self.seats.tell(event.session, &taps, &api::event(&told));
        }
    }

    fn report(&mut self, worker: usize, key: SessionKey, pending: Pending) {
        let token = self.expect(pending);
        self.team
            .send(worker, Message::Command(Command::Report(key, token)));
    }

    fn drain(&mut self, now: Now, drain: bool) -> pb::DrainReply {
        self.host.drain(drain);
        tracing::info!(drain, "drain");
        let status = self.status(now);
        pb::DrainReply {
            state: status.state,
            sessions: status.sessions,
        }
    }

    fn status(&self, now: Now) -> pb::StatusReply {
        let mut status = api::status(self.host.boot_id(), &self.host.status(now));
        self.team.fill(&mut status);
        status.version = env!("CARGO_PKG_VERSION").into();
        status
    }

    fn take_reply(&mut self, now: Now, token: ReplyToken, reply: Reply) {
        let Some(pending) = self.pending.remove(&token) else {
            return;
        };
        let report = match reply {
            Reply::Report(report) | Reply::Ended(report) => report.map(|report| *report),
        };
        match pending {
            Pending::Delete { batch, index, key } => {
                self.host.ended(now, key);
                let reply = report.as_ref().map(api::ended).unwrap_or_default();
                self.complete(batch, index, pb::command_reply::Result::Delete(reply));
            }
            Pending::Adopt { batch, index, key } => {
                let result = self.adopted(key, report);
                self.complete(batch, index, result);
            }
            Pending::Describe { session, key, answer } => {
                let described = report.and_then(|report| self.host.described(key, report));
                let described = described.as_ref().map(api::description);
                let _ = answer.send(described.ok_or_else(|| refused(&Refusal::UnknownSession(session))));
            }
            Pending::Explain {
                session,
                key,
                ends: (from, to),
                answer,
            } => {
                let described = report.and_then(|report| self.host.described(key, report));
                let findings = described
                    .ok_or(Refusal::UnknownSession(session))
                    .and_then(|described| explain::explain(&described, from.as_ref(), to.as_ref(), now.wall));
                let _ = answer.send(findings.map(|f| api::findings(&f)).map_err(|r| refused(&r)));
            }
            Pending::Ended { key } => self.host.ended(now, key),
        }
    }

    fn adopted(&self, key: SessionKey, report: Option<SessionReport>) -> pb::command_reply::Result {
        let described = report.and_then(|report| self.host.described(key, report));
        match described {
            Some(described) => pb::command_reply::Result::Adopt(pb::AdoptReply {
                boot_id: self.host.boot_id().into(),
                revision: described.summary.revision,
                description: Some(api::description(&described)),
            }),
            None => pb::command_reply::Result::Error(pb::Error {
                code: tonic::Code::NotFound as i32,
                message: "the session ended while it was adopted".into(),
                subject: String::new(),
            }),
        }
    }

    fn complete(&mut self, number: u64, index: usize, result: pb::command_reply::Result) {
        let Some(batch) = self.batches.get_mut(&number) else {
            return;
        };
        batch.replies[index].result = Some(result);
        batch.missing -= 1;
        if batch.missing == 0
            && let Some(batch) = self.batches.remove(&number)
        {
            let _ = batch.reply.send(batch.replies);
        }
    }

    /// Passes on what the host itself wants done; what finds a mailbox full is kept and goes first next time.
    fn pass_orders(&mut self) {
        self.orders.extend(std::iter::from_fn(|| self.host.poll_order()));
        while let Some((worker, command)) = self.orders.pop_front() {
            if self.team.room(worker).is_err() || self.pending.len() >= limits::ANSWERS_AWAITED {
                self.orders.push_front((worker, command));
                return;
            }
            let command = match command {
                Command::End(key, _) => Command::End(key, self.expect(Pending::Ended { key })),
                Command::OpusComplexity(complexity) => {
                    let busy = format!("{:.0} %", self.team.busy(worker) * 100.0);
                    tracing::info!(worker, busy, complexity, "its Opus encoders make another effort");
                    command
                }
                other => other,
            };
            self.team.send(worker, Message::Command(command));
        }
    }

    fn expect(&mut self, pending: Pending) -> ReplyToken {
        let token = ReplyToken(self.number());
        self.pending.insert(token, pending);
        token
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Every session ends, so that its peers hear a BYE.
    fn begin_stop(&mut self, now: Now) {
        self.stopping = Some(now.mono + limits::SHUTDOWN_SESSIONS);
        self.host.drain(true);
        for session in self.host.list(None, "", usize::MAX) {
            if let Ok((worker, key)) = self.host.remove(now, &session.name, &session.owner) {
                self.orders.push_back((worker, Command::End(key, HOST_TOKEN)));
            }
        }
    }

    fn is_stopped(&self, now: Now) -> bool {
        let Some(at) = self.stopping else { return false };
        let sessions_ended = at <= now.mono || (self.pending.is_empty() && self.orders.is_empty());
        let sealed = self.recordings.is_idle() || at + limits::SHUTDOWN_RECORDINGS <= now.mono;
        sessions_ended && sealed
    }
}

/// The controller's name in a Hello or Renew.
fn controller_of(given: &str) -> Result<Name, Refusal> {
    let bytes_max = media_engine::limits::SESSION_ID_BYTES_MAX;
    if given.is_empty() || given.len() > bytes_max || given.chars().any(char::is_control) {
        return Err(Refusal::BadId {
            what: "controller",
            id: given.chars().take(64).collect(),
            bytes_max,
        });
    }
    Ok(given.into())
}

/// What a worker that is late takes, or takes again.
fn tell_of(worker: usize, busy: Busy, late: f32, taking: Taking) {
    let percent = |share: f32| format!("{:.0} %", share * 100.0);
    match taking {
        Taking::Less(max) => tracing::warn!(
            worker,
            late = percent(late),
            busy = percent(busy.media),
            "what comes has to wait for too long (limits.late_ms_max); it takes new sessions only up to {} busy for now",
            percent(max)
        ),
        Taking::AsConfigured => {
            tracing::info!(worker, "it keeps its time, and takes new sessions as configured")
        }
    }
}

/// 0 is the host's default.
fn lease_of(ms: u32) -> Option<Duration> {
    (ms != 0).then(|| Duration::from_millis(ms.into()))
}

fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

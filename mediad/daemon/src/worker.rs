//! A media thread: one backend, one engine, one mailbox. It never waits for anybody.
//!
//! Commands come in through a bounded mailbox and the backend's waker; events, replies and sockets to close go out
//! through bounded queues and the host's doorbell. On the packet path nothing allocates, locks, logs or formats.

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_queue::ArrayQueue;
use media_engine::{
    command::{Command, Commit, DropReason, EngineEvent, Reply, ReplyToken, SocketId, TransportSockets},
    engine::{Egress, Engine, EngineConfig},
    spec::Name,
};
use media_net::{AnyBackend, Backend, Datagram, Handler, IoChoice, NetError, Transmit, Waker};
use rtp::time::Now;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    counters::{self, Counters},
    cpus,
    doorbell::Doorbell,
    exchange::Exchange,
    limits,
    liveness::Pulse,
};

/// What the host thread tells a worker.
#[derive(Debug)]
pub(crate) enum Message {
    /// An edit, with the sockets of its new transports.
    Commit(Box<Commit>, Vec<Bound>),
    /// Anything else.
    Command(Command),
    /// The process ends.
    Stop,
}

/// The sockets of a new transport, bound by the host thread.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Which transport.
    pub(crate) transport: Name,
    /// RTP, and RTCP when muxed.
    pub(crate) rtp: UdpSocket,
    /// RTCP on a port of its own.
    pub(crate) rtcp: Option<UdpSocket>,
}

/// Queues and counters between one worker and the rest of the process.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Commands in.
    pub(crate) mailbox: ArrayQueue<Message>,
    /// Replies out; none is ever lost.
    pub(crate) replies: ArrayQueue<(ReplyToken, Reply)>,
    /// Events out.
    pub(crate) events: ArrayQueue<EngineEvent>,
    /// Sockets out, to be closed where closing disturbs nobody.
    pub(crate) released: ArrayQueue<UdpSocket>,
    /// Sockets that came and could not be taken in, and are closed.
    pub(crate) refused_sockets: AtomicUsize,
    /// Published figures.
    pub(crate) counters: Counters,
    /// Whether it makes progress.
    pub(crate) pulse: Pulse,
}

impl Shared {
    fn new(mailbox: usize) -> Self {
        Self {
            mailbox: ArrayQueue::new(mailbox),
            replies: ArrayQueue::new(limits::REPLIES_PER_WORKER),
            events: ArrayQueue::new(limits::EVENTS_PER_WORKER),
            released: ArrayQueue::new(limits::RELEASES_PER_WORKER),
            refused_sockets: AtomicUsize::new(0),
            counters: Counters::default(),
            pulse: Pulse::default(),
        }
    }
}

/// The host's side of a running worker.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) waker: Waker,
    pub(crate) cpu: Option<usize>,
    /// Which backend and why.
    pub(crate) backend: String,
    pub(crate) thread: JoinHandle<Result<(), NetError>>,
}

/// What a worker is started with.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) index: usize,
    pub(crate) cpu: Option<usize>,
    pub(crate) realtime_priority: u8,
    pub(crate) io: IoChoice,
    pub(crate) net: media_net::Config,
    pub(crate) mailbox: usize,
    pub(crate) opus_complexity: u8,
    pub(crate) seed: u64,
}

/// Starts the thread and waits until its backend is open.
///
/// # Errors
/// The backend cannot be opened as configured, or the thread not be started.
pub(crate) fn start(
    start: Start,
    doorbell: Arc<Doorbell>,
    exchange: Arc<Exchange>,
) -> Result<Handle, String> {
    let shared = Arc::new(Shared::new(start.mailbox));
    let (opened, when_opened) = mpsc::sync_channel(1);
    let (cpu, index, theirs) = (start.cpu, start.index, Arc::clone(&shared));
    let thread = thread::Builder::new()
        .name(format!("media-{index}"))
        .spawn(move || {
            settle(&start);
            match media_net::open(start.io, &start.net) {
                Ok((net, reason)) => {
                    let _ = opened.send(Ok((net.waker(), reason.to_string())));
                    exchange.attach(index, net.waker());
                    let ended = Worker::new(net, &start, theirs, Arc::clone(&doorbell), exchange).run();
                    doorbell.ring();
                    ended
                }
                Err(error) => {
                    let _ = opened.send(Err(error.to_string()));
                    Ok(())
                }
            }
        })
        .map_err(|error| format!("worker {index}: thread: {error}"))?;
    let opened = when_opened
        .recv()
        .map_err(|_| format!("worker {index} stopped while starting"))?;
    let (waker, backend) = opened.map_err(|error| format!("worker {index}: {error}"))?;
    Ok(Handle {
        shared,
        waker,
        cpu,
        backend,
        thread,
    })
}

/// CPU and scheduler of the calling thread; what is not permitted is said and done without.
fn settle(start: &Start) {
    if let Some(cpu) = start.cpu
        && let Err(error) = cpus::pin(&[cpu])
    {
        tracing::warn!(worker = start.index, cpu, %error, "cannot pin; the scheduler decides");
    }
    if start.realtime_priority > 0
        && let Err(error) = cpus::realtime(start.realtime_priority)
    {
        tracing::warn!(
            worker = start.index,
            priority = start.realtime_priority,
            error,
            "workers.realtime_priority is not permitted (needs CAP_SYS_NICE); using the normal scheduler"
        );
    }
}

/// CPU time of the calling thread, ns.
fn cpu_ns() -> u64 {
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64
}

struct Worker {
    net: AnyBackend,
    turn: Turn,
    shared: Arc<Shared>,
    doorbell: Arc<Doorbell>,
    /// Other workers who have something in their inbox from here and were not woken.
    unwoken: Box<[bool]>,
    /// Something could not be handed out for want of room.
    backlog: bool,
    stop: bool,
    started: Instant,
    published: Instant,
    /// Its CPU time then.
    published_cpu_ns: u64,
    /// Something happened since.
    unpublished: bool,
    events_lost: u64,
    register_failures: u64,
}

/// The part of a worker that the backend calls.
struct Turn {
    engine: Engine,
    commands: VecDeque<Command>,
    /// CPU time spent on commands and their sockets, ns: work that ends with the edit.
    edits_ns: u64,
    /// Its own number.
    index: usize,
    exchange: Arc<Exchange>,
    now: Now,
}

impl Worker {
    fn new(
        net: AnyBackend,
        start: &Start,
        shared: Arc<Shared>,
        doorbell: Arc<Doorbell>,
        exchange: Arc<Exchange>,
    ) -> Self {
        let now = now();
        let config = EngineConfig {
            opus_complexity: start.opus_complexity,
            ..EngineConfig::default()
        };
        let engine = Engine::new(config, start.seed);
        Self {
            net,
            turn: Turn {
                engine,
                commands: VecDeque::with_capacity(limits::COMMANDS_PER_TURN),
                edits_ns: 0,
                index: start.index,
                now,
                exchange: Arc::clone(&exchange),
            },
            unwoken: vec![false; exchange.count()].into(),
            shared,
            doorbell,
            backlog: false,
            stop: false,
            started: now.mono,
            published: now.mono,
            published_cpu_ns: 0,
            unpublished: true,
            events_lost: 0,
            register_failures: 0,
        }
    }

    fn run(mut self) -> Result<(), NetError> {
        loop {
            self.shared.pulse.answer();
            self.take_messages();
            if self.stop && self.turn.commands.is_empty() {
                self.publish();
                return Ok(());
            }
            let deadline = self.deadline();
            let wake = self.net.poll(deadline, &mut self.turn)?;
            self.pass_links();
            self.hand_out();
            // What timers ask for is work too, also where nothing comes.
            if !self.unpublished && (wake.datagrams > 0 || wake.woken || wake.deadline) {
                self.unpublished = true;
                self.shared.counters.owe();
            }
            let since = self.turn.now.mono.saturating_duration_since(self.published);
            if self.unpublished && since >= limits::PUBLISH_EVERY {
                let cpu_ns = self.publish();
                self.let_others_run(since, cpu_ns);
            }
        }
    }

    /// When the next poll must come back: for the engine, for counters not yet published, for what is left over.
    fn deadline(&self) -> Option<Instant> {
        let now = self.turn.now.mono;
        if !self.turn.commands.is_empty() || !self.turn.exchange.is_empty(self.turn.index) {
            return Some(now);
        }
        let engine = self.turn.engine.poll_timeout().map(|(at, _)| at);
        let publish = self.unpublished.then(|| self.published + limits::PUBLISH_EVERY);
        let backlog = self.backlog.then(|| now + Duration::from_millis(5));
        engine.into_iter().chain(publish).chain(backlog).min()
    }

    /// Moves messages from the mailbox to the turn, registering the sockets they bring.
    fn take_messages(&mut self) {
        if self.shared.mailbox.is_empty() {
            return;
        }
        let from = cpu_ns();
        self.drain_mailbox();
        self.turn.edits_ns += cpu_ns() - from;
    }

    fn drain_mailbox(&mut self) {
        while self.turn.commands.len() < limits::COMMANDS_PER_TURN {
            match self.shared.mailbox.pop() {
                Some(Message::Commit(mut commit, bound)) => {
                    commit.sockets = bound
                        .into_iter()
                        .filter_map(|bound| self.register(bound))
                        .collect();
                    self.turn.commands.push_back(Command::Commit(commit));
                }
                Some(Message::Command(command)) => self.turn.commands.push_back(command),
                Some(Message::Stop) => {
                    self.stop = true;
                    return;
                }
                None => return,
            }
        }
    }

    fn register(&mut self, bound: Bound) -> Option<TransportSockets> {
        let Some(rtp) = self.register_one(bound.rtp) else {
            // Without RTP there is nothing to report on.
            self.refuse(usize::from(bound.rtcp.is_some()));
            return None;
        };
        let rtcp = bound.rtcp.and_then(|socket| self.register_one(socket));
        Some(TransportSockets {
            transport: bound.transport,
            rtp,
            rtcp,
        })
    }

    /// The host thread made sure that there is room, so that only a kernel out of memory refuses.
    fn register_one(&mut self, socket: UdpSocket) -> Option<SocketId> {
        match self.net.register(socket) {
            Ok(id) => Some(SocketId(id.0)),
            Err(error) => {
                self.register_failures += 1;
                self.refuse(1);
                tracing::error!(%error, "a media socket could not be registered; its transport is deaf");
                None
            }
        }
    }

    /// The host has counted sockets that are not here: they leave room for others.
    fn refuse(&self, sockets: usize) {
        self.shared.refused_sockets.fetch_add(sockets, Ordering::Relaxed);
    }

    /// Gives other workers the packets that go to their sessions.
    fn pass_links(&mut self) {
        let Turn { engine, exchange, .. } = &mut self.turn;
        let mut any = false;
        while let Some(packet) = engine.poll_link() {
            let (from, worker) = (packet.from, packet.worker);
            if exchange.put(&packet) {
                self.unwoken[worker] = true;
                any = true;
            } else {
                engine.lose_link(from);
            }
        }
        if any {
            for (worker, unwoken) in self.unwoken.iter_mut().enumerate() {
                if std::mem::take(unwoken) {
                    exchange.wake(worker);
                }
            }
        }
    }

    /// Gives the host what the engine has for it.
    fn hand_out(&mut self) {
        let Turn { engine, .. } = &mut self.turn;
        let mut ring = engine.poll_taps();
        while let Some(event) = engine.poll_event() {
            ring = true;
            self.events_lost += u64::from(self.shared.events.push(event).is_err());
        }
        // Before the replies: whoever reads that a session ended finds its sockets here, and its ports free.
        while !self.shared.released.is_full()
            && let Some(socket) = engine.poll_release()
        {
            if let Some(socket) = self.net.unregister(media_net::SocketId(socket.0)) {
                ring = true;
                let _ = self.shared.released.push(socket);
            }
        }
        while !self.shared.replies.is_full()
            && let Some((token, reply)) = engine.poll_reply()
        {
            ring = true;
            let _ = self.shared.replies.push((token, reply));
        }
        self.backlog = self.shared.replies.is_full() || self.shared.released.is_full();
        if ring {
            self.doorbell.ring();
        }
    }

    /// Where all threads have one core and one real-time priority, nobody runs but a worker that has something to do all the
    /// time: not the host thread either, which would give it less.
    fn let_others_run(&mut self, elapsed: Duration, cpu_ns: u64) {
        let used = Duration::from_nanos(cpu_ns.saturating_sub(self.published_cpu_ns));
        self.published_cpu_ns = cpu_ns;
        if used >= elapsed.mul_f32(limits::SATURATED) {
            std::thread::yield_now();
        }
    }

    /// Gives its CPU time, ns.
    fn publish(&mut self) -> u64 {
        let totals = self.turn.engine.totals();
        let mut figures = counters::from_net(self.net.stats());
        figures.drops = totals.drops;
        figures.drops[DropReason::Stale as usize] += self.net.stats().rx_stale;
        figures.sockets = self.net.socket_count() as u64;
        figures.events_lost = self.events_lost + self.turn.engine.lost_events();
        figures.register_failures = self.register_failures;
        figures.late_prompt_ticks = self.turn.engine.totals().late_prompt_ticks;
        figures.opus_ns = self.turn.engine.totals().opus_ns;
        figures.uptime_ns = self
            .turn
            .now
            .mono
            .saturating_duration_since(self.started)
            .as_nanos() as u64;
        figures.cpu_ns = cpu_ns();
        figures.edits_ns = self.turn.edits_ns;
        self.shared.counters.publish(&figures);
        self.published = self.turn.now.mono;
        self.unpublished = false;
        figures.cpu_ns
    }
}

impl Turn {
    /// Carries out what was in the mailbox, before any datagram may meet the sockets that came with it.
    fn run_commands<T: Transmit>(&mut self, tx: &mut T) {
        if self.commands.is_empty() {
            return;
        }
        let from = cpu_ns();
        while let Some(command) = self.commands.pop_front() {
            self.engine.handle_command(self.now, command, &mut Slots(tx));
        }
        self.edits_ns += cpu_ns() - from;
    }
}

impl Turn {
    /// Takes in what other workers sent through links; what is more than fits an inbox follows in the next turn.
    fn take_parcels<T: Transmit>(&mut self, tx: &mut T) {
        for _ in 0..limits::PARCELS_PER_WORKER {
            let Some(parcel) = self.exchange.take(self.index) else {
                return;
            };
            let packet = parcel.packet(self.index);
            self.engine.handle_link(self.now, &packet, &mut Slots(tx));
        }
    }
}

impl Handler for Turn {
    fn begin(&mut self, mono: Instant) {
        self.now = Now {
            mono,
            wall: SystemTime::now(),
        };
    }

    fn prefetch<T: Transmit>(&mut self, sockets: &[Option<media_net::SocketId>], tx: &mut T) {
        let sockets = sockets.iter().flatten().map(|socket| SocketId(socket.0));
        self.engine.prefetch(sockets, &Slots(tx));
    }

    fn datagram<T: Transmit>(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        self.run_commands(tx);
        let socket = SocketId(datagram.socket.0);
        if datagram.truncated {
            self.engine.note_drop(socket, DropReason::Malformed);
            return;
        }
        self.engine
            .handle_datagram(self.now, socket, datagram.from, datagram.data, &mut Slots(tx));
    }

    fn end<T: Transmit>(&mut self, tx: &mut T) {
        self.run_commands(tx);
        self.take_parcels(tx);
        if self
            .engine
            .poll_timeout()
            .is_some_and(|(at, _)| at <= self.now.mono)
        {
            self.engine.handle_timeout(self.now, &mut Slots(tx));
        }
    }
}

/// The backend's slots as the engine knows them.
struct Slots<'a, T>(&'a mut T);

impl<T: Transmit> Egress for Slots<'_, T> {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.0.slot()
    }

    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr) {
        self.0.commit(len, media_net::SocketId(socket.0), to);
    }

    fn prefetch_socket(&self, socket: SocketId) {
        self.0.prefetch(media_net::SocketId(socket.0));
    }

    fn prefetch(&self, address: *const u8) {
        media_net::prefetch(address);
    }
}

fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(transport: &str) -> Bound {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        Bound {
            transport: transport.into(),
            rtp: socket(),
            rtcp: Some(socket()),
        }
    }

    #[test]
    fn sockets_that_are_refused_are_told_each() {
        let net = media_net::Config {
            max_sockets: 3,
            ..media_net::Config::default()
        };
        let start = Start {
            index: 0,
            cpu: None,
            realtime_priority: 0,
            io: IoChoice::Mmsg,
            net: net.clone(),
            mailbox: 4,
            opus_complexity: 5,
            seed: 1,
        };
        let (backend, _) = media_net::open(start.io, &net).unwrap();
        let shared = Arc::new(Shared::new(start.mailbox));
        let exchange = Arc::new(Exchange::new(1));
        let mut worker = Worker::new(
            backend,
            &start,
            Arc::clone(&shared),
            Arc::new(Doorbell::default()),
            exchange,
        );
        let refused = || shared.refused_sockets.load(Ordering::Relaxed);
        assert!(worker.register(bound("a")).is_some_and(|got| got.rtcp.is_some()));
        assert_eq!(refused(), 0);
        let half = worker.register(bound("b"));
        assert!(half.is_some_and(|got| got.rtcp.is_none()), "one more fits");
        assert_eq!(refused(), 1);
        assert!(worker.register(bound("c")).is_none());
        assert_eq!(refused(), 3, "RTCP goes with RTP");
        assert_eq!(worker.register_failures, 2);
    }
}

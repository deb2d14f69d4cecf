//! The workers as the host thread sees them: mailboxes, room, and how busy they are.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use media_engine::{host::Busy, refusal::Refusal, spec::Name};
use proto::mediad::v1 as pb;

use crate::{
    counters::Lateness,
    worker::{Handle, Message, Shared},
};

/// Over how long lateness is reported, and in how many steps the span moves on.
const LATENESS_STEP: Duration = Duration::from_secs(10);
const LATENESS_STEPS: usize = 6;

/// All workers.
#[derive(Debug)]
pub(crate) struct Team {
    members: Vec<Member>,
    sockets_max: usize,
}

#[derive(Debug)]
struct Member {
    handle: Handle,
    /// Has mail, or is asked for a sign of life, and was not woken for it.
    unwoken: bool,
    /// Sockets given to it and not yet come back.
    sockets: usize,
    events_lost: u64,
    /// When it was measured last.
    measured: Measured,
    busy: f64,
    /// Of it, its media.
    media: Busy,
    /// Measurements in a row in which it published nothing of what it had to.
    away: u32,
    lateness: VecDeque<(Instant, Lateness)>,
}

/// What it had used then.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Measured {
    uptime_ns: u64,
    cpu_ns: u64,
    edits_ns: u64,
    opus_ns: u64,
    late_ns: u64,
}

impl Team {
    pub(crate) fn new(handles: Vec<Handle>, sockets_max: usize) -> Self {
        let now = Instant::now();
        let member = |handle| Member {
            handle,
            unwoken: false,
            sockets: 0,
            events_lost: 0,
            measured: Measured::default(),
            busy: 0.0,
            media: Busy::default(),
            away: 0,
            lateness: VecDeque::from([(now, Lateness::default())]),
        };
        Self {
            members: handles.into_iter().map(member).collect(),
            sockets_max,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn shared(&self, worker: usize) -> &Arc<Shared> {
        &self.members[worker].handle.shared
    }

    /// One more message fits; this thread is the only one that sends, so it still fits when it does.
    ///
    /// # Errors
    /// The mailbox is full.
    pub(crate) fn room(&self, worker: usize) -> Result<(), Refusal> {
        let mailbox = &self.shared(worker).mailbox;
        if mailbox.is_full() {
            return Err(Refusal::MailboxFull {
                worker,
                waiting: mailbox.len(),
            });
        }
        Ok(())
    }

    /// `count` more sockets fit.
    ///
    /// # Errors
    /// The worker's table of sockets is full.
    pub(crate) fn room_for_sockets(
        &self,
        worker: usize,
        count: usize,
        transport: &Name,
    ) -> Result<(), Refusal> {
        let have = self.members[worker].sockets;
        if have + count > self.sockets_max {
            let reason = format!(
                "worker {worker} has {have} sockets of {} (io.sockets_max); raise it or use another host",
                self.sockets_max
            );
            return Err(Refusal::Socket {
                transport: transport.clone(),
                reason,
            });
        }
        Ok(())
    }

    /// Puts a message into a worker's mailbox, where the caller made sure of [`Team::room`].
    pub(crate) fn send(&mut self, worker: usize, message: Message) {
        let member = &mut self.members[worker];
        if let Message::Commit(_, bound) = &message {
            member.sockets += bound.iter().map(crate::sockets::count).sum::<usize>();
        }
        let full = member.handle.shared.mailbox.push(message).is_err();
        assert!(!full, "the caller asked for room first");
        member.unwoken = true;
    }

    pub(crate) fn sockets_closed(&mut self, worker: usize, count: usize) {
        let member = &mut self.members[worker];
        member.sockets = member.sockets.saturating_sub(count);
    }

    /// Wakes those who have mail or are asked.
    pub(crate) fn wake(&mut self) {
        for member in &mut self.members {
            if std::mem::take(&mut member.unwoken) {
                member.handle.waker.wake();
            }
        }
    }

    /// Whether a worker says that it lost more events than it said before.
    pub(crate) fn newly_lost(&mut self, worker: usize, lost: u64) -> bool {
        std::mem::replace(&mut self.members[worker].events_lost, lost) < lost
    }

    /// Asks every worker for a sign of life. Gives those that did not answer the last time.
    pub(crate) fn pulse(&mut self) -> Vec<usize> {
        let ask = |(worker, member): (usize, &mut Member)| {
            member.unwoken = true;
            (!member.handle.shared.pulse.ask()).then_some(worker)
        };
        self.members.iter_mut().enumerate().filter_map(ask).collect()
    }

    /// Every worker runs.
    ///
    /// # Errors
    /// Names the one that stopped by itself.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self
            .members
            .iter()
            .position(|member| member.handle.thread.is_finished())
        {
            None => Ok(()),
            Some(worker) => Err(format!("worker {worker} stopped by itself")),
        }
    }

    /// Takes note of how busy each worker was since the last time. Gives what its media took: without the edits, since what a
    /// storm of new sessions costs is over when they are made; and for which share of its time it was late.
    pub(crate) fn measure(&mut self, now: Instant) -> Vec<(Busy, f32)> {
        self.members
            .iter_mut()
            .map(|member| member.measure(now))
            .collect()
    }

    /// The share of its time that a worker used when it was measured last.
    pub(crate) fn busy(&self, worker: usize) -> f64 {
        self.members[worker].busy
    }

    /// Fills in what the host core cannot know.
    pub(crate) fn fill(&self, status: &mut pb::StatusReply) {
        for (member, told) in self.members.iter().zip(&mut status.workers) {
            member.fill(told);
        }
        status.load = self.members.iter().map(|member| member.busy).fold(0.0, f64::max);
        status.backend = self
            .members
            .first()
            .map(|member| member.handle.backend.clone())
            .unwrap_or_default();
    }

    /// Tells every worker to stop and waits for them.
    ///
    /// # Errors
    /// What a worker ended with.
    pub(crate) fn stop(self) -> Result<(), String> {
        for member in &self.members {
            // A full mailbox is drained by its worker in microseconds.
            while member.handle.shared.mailbox.push(Message::Stop).is_err()
                && !member.handle.thread.is_finished()
            {
                member.handle.waker.wake();
                std::thread::yield_now();
            }
            member.handle.waker.wake();
        }
        for (worker, member) in self.members.into_iter().enumerate() {
            match member.handle.thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(format!("worker {worker}: {error}")),
                Err(_) => return Err(format!("worker {worker} panicked")),
            }
        }
        Ok(())
    }
}

impl Member {
    fn measure(&mut self, now: Instant) -> (Busy, f32) {
        let figures = self.handle.shared.counters.read();
        let now_used = Measured {
            uptime_ns: figures.uptime_ns,
            cpu_ns: figures.cpu_ns,
            edits_ns: figures.edits_ns,
            opus_ns: figures.opus_ns,
            late_ns: figures.late_ns,
        };
        let then = std::mem::replace(&mut self.measured, now_used);
        self.away = match now_used == then && self.handle.shared.counters.owes() {
            true => self.away + 1,
            false => 0,
        };
        if self.away > 0 {
            // It goes on with what it did. What it owed the last time is due since then at the latest.
            return (self.media, f32::from(u8::from(self.away > 1)));
        }
        // By its own clock: what it published a moment earlier or later is no more or less work. Who has nothing to do
        // publishes nothing.
        let span = figures.uptime_ns.saturating_sub(then.uptime_ns).max(1) as f64;
        let used = figures.cpu_ns.saturating_sub(then.cpu_ns);
        let edits = figures.edits_ns.saturating_sub(then.edits_ns);
        let share = |ns: u64| (ns as f64 / span).min(1.0);
        self.busy = share(used);
        if self
            .lateness
            .back()
            .is_none_or(|(at, _)| now.saturating_duration_since(*at) >= LATENESS_STEP)
        {
            self.lateness
                .push_back((now, figures.tick_lateness.plus(&figures.deadline_lateness)));
            if self.lateness.len() > LATENESS_STEPS {
                self.lateness.pop_front();
            }
        }
        self.media = Busy {
            media: share(used.saturating_sub(edits)) as f32,
            opus: share(figures.opus_ns.saturating_sub(then.opus_ns)) as f32,
        };
        (
            self.media,
            share(figures.late_ns.saturating_sub(then.late_ns)) as f32,
        )
    }

    fn fill(&self, status: &mut pb::WorkerStatus) {
        let figures = self.handle.shared.counters.read();
        let now = figures.tick_lateness.plus(&figures.deadline_lateness);
        let lateness = self
            .lateness
            .front()
            .map_or_else(|| now.clone(), |(_, then)| now.since(then));
        let mailbox = &self.handle.shared.mailbox;
        let [datagram, command, deadline, tick, ..] = figures.wakes;
        *status = pb::WorkerStatus {
            cpu: self.handle.cpu.map_or(-1, |cpu| cpu as i32),
            sockets: figures.sockets as u32,
            rx_packets: figures.rx_packets,
            tx_packets: figures.tx_packets,
            drops: figures.drops_total(),
            cpu_us: figures.cpu_ns / 1_000,
            busy: self.busy,
            wakeups_datagram: datagram,
            wakeups_command: command,
            wakeups_deadline: deadline,
            wakeups_tick: tick,
            lateness_p50_us: lateness.quantile_us(0.50),
            lateness_p99_us: lateness.quantile_us(0.99),
            mailbox_used: mailbox.len() as u32,
            mailbox_size: mailbox.capacity() as u32,
            ..*status
        };
    }
}

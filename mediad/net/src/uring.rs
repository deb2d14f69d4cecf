//! The io_uring backend: one multishot receive per socket fed from one buffer ring, sends without completions.
//!
//! Needs Linux 6.1 (`SINGLE_ISSUER`, `DEFER_TASKRUN`, `SEND` with an address). Task work is deferred, so the kernel
//! receives while this thread waits, and only then. A send is attempted inside the submission
//! (`MSG_DONTWAIT`), so its slot is free when the submission returns; only failures leave a completion.
//!
//! A multishot receive ends when the buffer ring is empty (ENOBUFS), on an ICMP error, or when the completion
//! queue overflows. It is armed again only after buffers went back, and no more of them at a time than
//! there are free buffers: a ring that is far too small costs at most one re-arm per datagram instead of a livelock.

use crate::addr::RawAddr;
use crate::age::Age;
use crate::arena::Arena;
use crate::bufring::BufRing;
use crate::pace::{Pace, Sleep};
use crate::slab::Slab;
use crate::sys::Block;
use crate::{Backend, Config, Datagram, Handler, NetError, NetStats, SocketId, Transmit, Wake, Waker, sys};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// What a completion belongs to: the upper byte of its user data. Receives add generation and socket id.
const RECV: u64 = 1;
const SEND: u64 = 2;
const WAKER: u64 = 3;
const CANCEL: u64 = 4;

const KIND_SHIFT: u32 = 56;
const GENERATION_MASK: u32 = 0xff_ffff;

/// Completions at once from which on the kernel may hold more: it runs deferred work in portions of 20, and takes 32
/// datagrams from one socket before it turns to the next.
const PORTION: usize = 20;

/// `io_uring_recvmsg_out`, then the name, control data and payload.
const OUT_LEN: usize = 16;
const NAME_AT: usize = OUT_LEN;
const CONTROL_AT: usize = NAME_AT + RawAddr::SIZE;

/// How long to wait for the last completion of a cancelled request, and how long to try. It comes at once; the
/// bound keeps a kernel bug from hanging a worker.
const CANCEL_WAIT: Duration = Duration::from_millis(100);
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// io_uring with multishot receives.
pub struct Uring {
    // The io_uring is in `core` and must go before the memory that the kernel writes to: fields drop in order.
    core: Core,
    rx: BufRing,
    /// The layout of received buffers, the same for all sockets.
    message: Box<libc::msghdr>,
    /// Where the kernel writes the waker's count.
    wake_count: Block,
    payload_at: usize,
    /// Filled buffers that the handler has not seen; never more than there are buffers.
    inbox: VecDeque<Filled>,
    /// Sockets whose multishot receive ended.
    rearm: VecDeque<(SocketId, u32)>,
    /// The buffer ring was empty since the last look, so sockets hold more.
    starved: bool,
    waker: Waker,
    waker_armed: bool,
    woken: bool,
    generation: u32,
    pace: Pace,
    drain_max: usize,
    age: Age,
    more: bool,
    /// `SINGLE_ISSUER`: only the thread that opened the ring may use it.
    _thread: PhantomData<*const ()>,
}

/// A buffer filled for a socket, or for its predecessor under the same id.
#[derive(Clone, Copy)]
struct Filled {
    socket: SocketId,
    generation: u32,
    buffer: u16,
    len: usize,
}

/// State of a socket's multishot receive.
struct Receive {
    generation: u32,
    armed: bool,
    closing: bool,
}

impl Uring {
    /// Opens the backend on this thread, which must be the one that polls it.
    ///
    /// # Errors
    /// [`NetError::Unavailable`] with a reason for a person when io_uring is missing, forbidden or too old;
    /// [`NetError::Config`] and [`NetError::Limit`] for sizes that cannot be had.
    pub fn open(config: &Config) -> Result<Self, NetError> {
        config.check()?;
        sys::ensure_files(config.max_sockets)?;
        sys::tighten_timers();
        let control_len = if config.max_age.is_some() {
            sys::STAMP_LEN
        } else {
            0
        };
        let payload_at = CONTROL_AT + control_len;
        let mut rx = BufRing::new(config, payload_at + config.max_datagram);
        let ring = set_up(config)?;
        rx.register(&ring.submitter()).map_err(|error| match error {
            NetError::Io { source, .. } => {
                unavailable(format!("no buffer ring ({source}); Linux 6.1 is needed"))
            }
            other => other,
        })?;
        // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_namelen = RawAddr::SIZE as u32;
        message.msg_controllen = control_len as _;
        let now = Instant::now();
        Ok(Uring {
            core: Core::new(ring, config),
            rx,
            message,
            wake_count: Block::new(8),
            payload_at,
            inbox: VecDeque::with_capacity(config.rx_buffers),
            rearm: VecDeque::with_capacity(config.max_sockets),
            // Without EFD_NONBLOCK: an io_uring read of a non-blocking eventfd would fail instead of waiting.
            waker: Waker::new(0)?,
            starved: false,
            waker_armed: false,
            woken: false,
            generation: 0,
            pace: Pace::new(config, now),
            drain_max: config.drain_max,
            age: Age::open(config.max_age, now)?,
            more: false,
            _thread: PhantomData,
        })
    }

    /// Forgets what was counted so far.
    pub(crate) fn reset_stats(&mut self) {
        self.core.stats = NetStats::default();
    }

    fn arm(&mut self, id: SocketId) -> bool {
        let Some(fd) = self.core.sockets.fd(id) else {
            return false;
        };
        let Some(entry) = self.core.sockets.entry_mut(id) else {
            return false;
        };
        let message: *const libc::msghdr = &raw const *self.message;
        let sqe = opcode::RecvMsgMulti::new(Fd(fd), message, BufRing::GROUP)
            .build()
            .user_data(receive_tag(id, entry.state.generation));
        entry.state.armed = true;
        // The message header is only read, is the same for all receives, and lives as long as the ring.
        let pushed = self.core.push(&sqe);
        if !pushed && let Some(entry) = self.core.sockets.entry_mut(id) {
            entry.state.armed = false;
        }
        pushed
    }

    /// Arms what has ended, as far as there are buffers for it.
    fn rearm(&mut self) {
        if !self.waker_armed {
            let count = self.wake_count.at(0);
            let sqe = opcode::Read::new(Fd(self.waker.fd()), count, 8)
                .build()
                .user_data(WAKER << KIND_SHIFT);
            self.waker_armed = self.core.push(&sqe);
        }
        for _ in 0..self.rx.free().min(self.rearm.len()) {
            let Some((id, generation)) = self.rearm.pop_front() else {
                break;
            };
            let current = self
                .core
                .sockets
                .entry_mut(id)
                .is_some_and(|entry| entry.state.generation == generation);
            if !current {
                continue;
            }
            if !self.arm(id) {
                self.rearm.push_front((id, generation));
                break;
            }
            self.core.stats.rx_rearms += 1;
        }
    }

    /// Takes all completions off the queue: filled buffers to the inbox, the rest is dealt with here. Returns
    /// how many there were.
    fn reap(&mut self) -> usize {
        let mut count = 0;
        for cqe in self.core.ring.completion() {
            count += 1;
            let (tag, result, flags) = (cqe.user_data(), cqe.result(), cqe.flags());
            match tag >> KIND_SHIFT {
                SEND if result < 0 => self.core.stats.tx_drops.count(-result),
                WAKER => {
                    self.waker_armed = false;
                    self.woken |= result > 0;
                }
                RECV => {
                    let (socket, generation) = split_tag(tag);
                    if let Some(buffer) = cqueue::buffer_select(flags) {
                        self.rx.take();
                        let len = usize::try_from(result).unwrap_or(0);
                        self.inbox.push_back(Filled {
                            socket,
                            generation,
                            buffer,
                            len,
                        });
                    }
                    match -result {
                        ..=0 | libc::ECANCELED => {}
                        libc::ENOBUFS => {
                            self.core.stats.rx_no_buffers += 1;
                            self.starved = true;
                        }
                        errno => self.core.stats.rx_errors.count(errno),
                    }
                    if !cqueue::more(flags)
                        && let Some(entry) = self.core.sockets.entry_mut(socket)
                        && entry.state.generation == generation
                    {
                        entry.state.armed = false;
                        if !entry.state.closing {
                            self.rearm.push_back((socket, generation));
                        }
                    }
                }
                // A cancellation that found nothing, or a send that succeeded after all.
                _ => {}
            }
        }
        count
    }

    /// Hands over all that has completed, and goes on while the kernel evidently holds more. What arrives
    /// meanwhile is left to the next drain: picking it up in small portions would undo the tick.
    fn drain<H: Handler>(&mut self, stale_ns: u64, handler: &mut H) -> Wake {
        let (mut wake, mut work) = (Wake::default(), 0);
        loop {
            let mut backlog = self.reap() >= PORTION;
            backlog |= std::mem::take(&mut self.starved);
            while let Some(filled) = self.inbox.pop_front() {
                if work >= self.drain_max {
                    self.inbox.push_front(filled);
                    wake.more = true;
                    return wake;
                }
                work += 1;
                wake.datagrams += usize::from(self.give(filled, stale_ns, handler));
                self.rx.give_back(filled.buffer);
            }
            self.rearm();
            if !backlog {
                // Sockets still not armed must not be slept over.
                wake.more = !self.rearm.is_empty();
                return wake;
            }
            // Completions that bring no datagram are work as well.
            work += 1;
            self.core.submit();
        }
    }

    fn give<H: Handler>(&mut self, filled: Filled, stale_ns: u64, handler: &mut H) -> bool {
        let Filled {
            socket,
            generation,
            buffer,
            len,
        } = filled;
        match self.core.sockets.entry_mut(socket) {
            Some(entry) if entry.state.generation == generation => {}
            _ => return false,
        }
        let bytes = self.rx.bytes(buffer);
        if len < self.payload_at {
            self.core.stats.rx_errors.other += 1;
            return false;
        }
        let (head, payload) = bytes.split_at_mut(self.payload_at);
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (name_len, control_len, flags) = (word(0) as usize, word(4) as usize, word(12));
        let (name, control) = (&head[NAME_AT..CONTROL_AT], &head[CONTROL_AT..]);
        let control = &control[..control_len.min(control.len())];
        if stale_ns != 0 && sys::stamp_ns(control).is_some_and(|at| at < stale_ns) {
            self.core.stats.rx_stale += 1;
            return false;
        }
        let Some(from) = RawAddr::decode(name, name_len) else {
            self.core.stats.rx_errors.bad_address += 1;
            return false;
        };
        let truncated = flags & libc::MSG_TRUNC as u32 != 0;
        let data = &mut payload[..len - self.payload_at];
        self.core.stats.received(data.len(), truncated);
        handler.datagram(
            Datagram {
                socket,
                from,
                data,
                truncated,
            },
            &mut self.core,
        );
        true
    }

    /// Cancels requests until none is left that `armed` knows of.
    fn cancel(&mut self, builder: impl Fn() -> CancelBuilder, armed: impl Fn(&mut Self) -> bool) -> bool {
        let give_up = Instant::now() + CANCEL_PATIENCE;
        loop {
            self.reap();
            if !armed(self) {
                return true;
            }
            if Instant::now() >= give_up {
                return false;
            }
            let sqe = opcode::AsyncCancel2::new(builder())
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(CANCEL << KIND_SHIFT);
            self.core.push(&sqe);
            // Whatever the wait says, the next look tells.
            let _ = self.core.wait(1, Some(CANCEL_WAIT));
        }
    }

    fn is_armed(&mut self, id: SocketId) -> bool {
        self.core
            .sockets
            .entry_mut(id)
            .is_some_and(|entry| entry.state.armed)
    }
}

impl Backend for Uring {
    fn register(&mut self, socket: UdpSocket) -> Result<SocketId, NetError> {
        if self.age.is_stamping() {
            self.core.stats.syscalls += 1;
            sys::stamp_datagrams(socket.as_raw_fd(), true)?;
        }
        self.generation = (self.generation + 1) & GENERATION_MASK;
        let generation = self.generation;
        let id = self.core.sockets.insert(
            socket,
            Receive {
                generation,
                armed: false,
                closing: false,
            },
        )?;
        if !self.arm(id) {
            self.rearm.push_back((id, generation));
        }
        Ok(id)
    }

    fn unregister(&mut self, id: SocketId) -> Option<UdpSocket> {
        let entry = self.core.sockets.entry_mut(id)?;
        entry.state.closing = true;
        let tag = receive_tag(id, entry.state.generation);
        // The request holds a reference to the socket until its last completion; without the wait the port would
        // stay bound for a while after the socket is closed.
        self.cancel(|| CancelBuilder::user_data(tag), |backend| backend.is_armed(id));
        self.core.sockets.remove(id).map(|entry| entry.socket)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn poll<H: Handler>(&mut self, deadline: Option<Instant>, handler: &mut H) -> Result<Wake, NetError> {
        self.rearm();
        let more = self.more || !self.inbox.is_empty() || !self.rearm.is_empty();
        let before = Instant::now();
        let slept = self.pace.plan(before, deadline, more);
        if let Sleep::Tick(left) = slept {
            // Not inside the ring's wait, which would receive before the age of what waits is looked at.
            self.core.stats.syscalls += 1;
            sys::sleep(left);
        }
        let stale_ns = self.age.look(
            slept,
            before,
            &mut self.core.stats,
            each_of(&mut self.core.sockets),
        );
        match slept {
            Sleep::No | Sleep::Tick(_) => self.core.submit(),
            Sleep::Block(left) => self.core.wait(1, left)?,
        }
        let now = Instant::now();
        let reached = self.pace.woke(slept, now, deadline, &mut self.core.stats);
        handler.begin(now);
        let mut wake = self.drain(stale_ns, handler);
        self.pace.on_timers(|| handler.end(&mut self.core));
        self.core.submit();
        if std::mem::take(&mut self.woken) {
            self.waker.reset();
            wake.woken = true;
        }
        wake.deadline = reached;
        self.more = wake.more;
        self.age.drained(
            now,
            wake.more,
            &mut self.core.stats,
            each_of(&mut self.core.sockets),
        );
        self.core.stats.drains += 1;
        self.core.stats.drains_cut += u64::from(wake.more);
        self.pace.drained(slept, now, wake, &mut self.core.stats);
        Ok(wake)
    }

    fn stats(&self) -> &NetStats {
        &self.core.stats
    }

    fn socket_count(&self) -> usize {
        self.core.sockets.len()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Closing an io_uring frees its sockets asynchronously; after this they are free when `core` has gone.
        self.core.sockets.each(|entry| entry.state.closing = true);
        let quiet = self.cancel(CancelBuilder::any, |backend| {
            let mut armed = backend.waker_armed;
            backend.core.sockets.each(|entry| armed |= entry.state.armed);
            armed
        });
        if !quiet {
            self.rx.leak();
            self.wake_count.leak();
        }
    }
}

/// Visits all sockets.
fn each_of(sockets: &mut Slab<Receive>) -> impl FnOnce(&mut dyn FnMut(RawFd)) {
    |visit| sockets.each(|entry| visit(entry.socket.as_raw_fd()))
}

fn receive_tag(id: SocketId, generation: u32) -> u64 {
    RECV << KIND_SHIFT | u64::from(generation) << 32 | u64::from(id.0)
}

fn split_tag(tag: u64) -> (SocketId, u32) {
    (SocketId(tag as u32), (tag >> 32) as u32 & GENERATION_MASK)
}

/// What transmitting needs, apart from the buffers that a handler's datagram borrows.
struct Core {
    ring: IoUring,
    sockets: Slab<Receive>,
    arena: Arena,
    stats: NetStats,
}

impl Core {
    fn new(ring: IoUring, config: &Config) -> Self {
        Core {
            ring,
            sockets: Slab::new(config.max_sockets),
            arena: Arena::new(config.tx_slots, config.max_datagram, 0),
            stats: NetStats::default(),
        }
    }

    /// Queues a request; when the queue is full even after a submission, `false`.
    fn push(&mut self, sqe: &squeue::Entry) -> bool {
        if self.ring.submission().is_full() {
            self.submit();
        }
        // SAFETY: what the entry points to (arena slots, the shared message header, the waker's count) lives at a
        // fixed address until the kernel is done with it; see `Uring::drop` and the module's text.
        unsafe { self.ring.submission().push(sqe) }.is_ok()
    }

    /// Requests are queued, or completions wait inside the kernel.
    fn has_pending(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Hands over what is queued and collects what has completed, without waiting.
    fn submit(&mut self) {
        if self.has_pending() {
            self.stats.syscalls += 1;
            // EAGAIN and EBUSY leave entries in the queue; the arena sees that and keeps their slots.
            let _ = self.ring.submit();
            self.recycle();
        }
    }

    /// Hands over what is queued and waits for `want` completions or the time; `None` waits for ever.
    fn wait(&mut self, want: usize, timeout: Option<Duration>) -> Result<(), NetError> {
        self.stats.syscalls += 1;
        let result = match timeout {
            None => self.ring.submit_and_wait(want),
            Some(left) => {
                let ts = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
                self.ring
                    .submitter()
                    .submit_with_args(want, &SubmitArgs::new().timespec(&ts))
            }
        };
        self.recycle();
        match result {
            Ok(_) => Ok(()),
            // Time is up, a signal came, or the kernel wants completions collected first: the drain does that.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(source) => Err(NetError::Io {
                op: "io_uring_enter",
                source,
            }),
        }
    }

    /// Slots are free once the kernel has taken all requests: each send was attempted while it was taken.
    fn recycle(&mut self) {
        if self.ring.submission().is_empty() {
            self.arena.clear();
        }
    }
}

impl Transmit for Core {
    fn slot(&mut self) -> Option<&mut [u8]> {
        // Room is made here, not in `commit`: a submission empties the arena, the slot given out included.
        if self.arena.is_full() || self.ring.submission().is_full() {
            self.submit();
            if self.arena.is_full() || self.ring.submission().is_full() {
                self.stats.tx_drops.no_slot += 1;
                return None;
            }
        }
        Some(self.arena.slot())
    }

    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr) {
        self.arena.close(len);
        let Some(fd) = self.sockets.fd(socket) else {
            self.stats.tx_drops.no_socket += 1;
            return;
        };
        self.stats.tx_datagrams += 1;
        self.stats.tx_bytes += len as u64;
        let index = self.arena.push(len, fd, to);
        let (meta, payload) = (&self.arena.queued()[index], self.arena.packet(index));
        let sqe = opcode::Send::new(Fd(fd), payload.as_ptr(), meta.len)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .dest_addr(meta.addr.0.as_ptr().cast())
            .dest_addr_len(meta.addr_len)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND << KIND_SHIFT);
        if !self.push(&sqe) {
            self.stats.tx_drops.no_slot += 1;
        }
    }
}

/// Sets up the ring and checks that the kernel knows all operations.
fn set_up(config: &Config) -> Result<IoUring, NetError> {
    let submissions = (config.tx_slots * 2).next_power_of_two().max(256) as u32;
    // Every buffer can be one completion; re-arms, failed sends and cancellations come on top.
    let completions = (config.rx_buffers * 2)
        .next_power_of_two()
        .max(2 * submissions as usize) as u32;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .build(submissions)
        .map_err(|error| unavailable(refusal(&error, disabled(), sys::locked_memory_limit())))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| unavailable(format!("cannot list its operations ({error})")))?;
    let needed = [
        ("RECVMSG", opcode::RecvMsgMulti::CODE),
        ("SEND", opcode::Send::CODE),
        ("READ", opcode::Read::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            return Err(unavailable(format!("operation {name} is missing")));
        }
    }
    Ok(ring)
}

pub(crate) fn unavailable(reason: String) -> NetError {
    NetError::Unavailable {
        backend: "io_uring",
        reason,
    }
}

/// `kernel.io_uring_disabled`, where there is one.
fn disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Why the kernel refused to set up a ring, for a person.
fn refusal(error: &io::Error, disabled: Option<u8>, locked: u64) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match disabled {
            Some(n @ 1..) => format!("not permitted (kernel.io_uring_disabled={n})"),
            _ => "not permitted (seccomp or container policy)".to_owned(),
        },
        Some(libc::ENOSYS) => "not in this kernel, or hidden by a seccomp policy".to_owned(),
        Some(libc::EINVAL) => "this kernel is too old (6.1 is needed for DEFER_TASKRUN)".to_owned(),
        Some(libc::ENOMEM) => {
            format!("no memory (RLIMIT_MEMLOCK is {locked} bytes; raise it or lower rx_buffers)")
        }
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptor left (RLIMIT_NOFILE)".to_owned(),
        _ => format!("set-up failed ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_explained() {
        let say = |errno, disabled| refusal(&io::Error::from_raw_os_error(errno), disabled, 65_536);
        assert_eq!(
            say(libc::EPERM, Some(2)),
            "not permitted (kernel.io_uring_disabled=2)"
        );
        assert_eq!(
            say(libc::EPERM, Some(0)),
            "not permitted (seccomp or container policy)"
        );
        assert_eq!(
            say(libc::EPERM, None),
            "not permitted (seccomp or container policy)"
        );
        assert!(say(libc::ENOSYS, None).contains("not in this kernel"));
        assert!(say(libc::EINVAL, None).contains("6.1"));
        assert!(say(libc::ENOMEM, None).contains("RLIMIT_MEMLOCK is 65536"));
    }

    #[test]
    fn tags_carry_id_and_generation() {
        let tag = receive_tag(SocketId(u32::MAX), GENERATION_MASK);
        assert_eq!(tag >> KIND_SHIFT, RECV);
        assert_eq!(split_tag(tag), (SocketId(u32::MAX), GENERATION_MASK));
        assert_eq!(split_tag(receive_tag(SocketId(5), 9)), (SocketId(5), 9));
    }
}

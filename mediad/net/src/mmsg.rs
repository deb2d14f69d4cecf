//! Level-triggered epoll, `recvmmsg` per ready socket, `sendmmsg` for runs of one socket: the portable backend, and the
//! one with sockets that are shared by many ports, which needs privileges.

use crate::addr::RawAddr;
use crate::age::Age;
use crate::arena::{Arena, stride};
use crate::pace::{Pace, Sleep};
use crate::shared::{self, Shared, Steered};
use crate::slab::Slab;
use crate::sys::{self, Block};
use crate::{
    Backend, Config, Datagram, Handler, NetError, NetStats, SocketId, Transmit, Wake, Waker, header, limits,
};
use std::marker::PhantomData;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Marks the waker among epoll's events; no socket id reaches it.
const WAKER: u64 = u64::MAX;

/// The first lane's mark; the others follow. No socket id reaches it.
const LANE: u64 = 1 << 32;

/// epoll with `recvmmsg` and `sendmmsg`.
pub struct Mmsg {
    core: Core,
    rx: Rx,
    epoll: OwnedFd,
    events: Box<[libc::epoll_event]>,
    /// `epoll_pwait2` exists (Linux 5.11); without it deadlines are rounded up to milliseconds.
    precise: bool,
    waker: Waker,
    pace: Pace,
    drain_max: usize,
    age: Age,
    opened: Instant,
    more: bool,
    /// Backends stay on the thread that opened them, so that both can be used alike.
    _thread: PhantomData<*const ()>,
}

impl Mmsg {
    /// Opens the portable backend on this thread.
    ///
    /// # Errors
    /// [`NetError::Config`] and [`NetError::Limit`] for what the operator can change, [`NetError::Io`] otherwise.
    pub fn open(config: &Config) -> Result<Self, NetError> {
        Self::with(config, None)
    }

    /// Opens the backend with sockets that are shared by many ports.
    ///
    /// # Errors
    /// [`NetError::Unavailable`] with a reason for a person when the kernel or its policy forbids that; else as
    /// [`Mmsg::open`].
    pub fn open_shared(config: &Config) -> Result<Self, NetError> {
        config.check()?;
        Self::with(config, Some(Shared::open(&config.steering)?))
    }

    fn with(config: &Config, shared: Option<Shared>) -> Result<Self, NetError> {
        config.check()?;
        sys::ensure_files(config.max_sockets)?;
        sys::tighten_timers();
        // SAFETY: epoll_create1 takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(NetError::last("epoll_create1"));
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let waker = Waker::new(libc::EFD_NONBLOCK)?;
        control(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, waker.fd(), WAKER)?;
        for (lane, fd) in shared.iter().flat_map(Shared::lanes).enumerate() {
            control(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, LANE + lane as u64)?;
        }
        let now = Instant::now();
        Ok(Mmsg {
            rx: Rx::new(config, shared.is_some()),
            core: Core::new(config, shared),
            epoll,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; limits::EPOLL_EVENTS].into_boxed_slice(),
            precise: true,
            waker,
            pace: Pace::new(config, now),
            drain_max: config.drain_max,
            age: Age::open(config.max_age, now)?,
            opened: now,
            more: false,
            _thread: PhantomData,
        })
    }

    /// Datagrams that came through lanes, since the backend was opened.
    pub(crate) fn through_lanes(&self) -> u64 {
        self.rx.through_lanes
    }

    /// Forgets what was counted so far.
    pub(crate) fn reset_stats(&mut self) {
        self.core.stats = NetStats::default();
    }

    /// Waits for ready sockets; `None` waits for ever. A signal counts as nothing ready.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<usize, NetError> {
        self.core.stats.syscalls += 1;
        let max = self.events.len() as libc::c_int;
        if self.precise {
            let ts = timeout.map(sys::timespec);
            let ts_ptr = ts
                .as_ref()
                .map_or(std::ptr::null(), |ts| ts as *const libc::timespec);
            // SAFETY: the event array has `max` entries, the timespec (if any) lives across the call, no signal mask is given.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.epoll.as_raw_fd(),
                    self.events.as_mut_ptr(),
                    max,
                    ts_ptr,
                    std::ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            };
            if n >= 0 {
                return Ok(n as usize);
            }
            match sys::errno() {
                libc::EINTR => return Ok(0),
                // Old kernels and old seccomp profiles.
                libc::ENOSYS | libc::EPERM => self.precise = false,
                _ => return Err(NetError::last("epoll_pwait2")),
            }
        }
        let ms = timeout.map_or(-1, |t| {
            t.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as libc::c_int
        });
        // SAFETY: the event array has `max` entries.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), max, ms) };
        match n {
            0.. => Ok(n as usize),
            _ if sys::errno() == libc::EINTR => Ok(0),
            _ => Err(NetError::last("epoll_wait")),
        }
    }

    /// The first pass takes one datagram from each ready socket, as most hold no more and asking for a second
    /// costs as much as epoll's own look, which the level-triggered list needs anyway. The next passes take batches
    /// from the sockets that are still ready, as long as batches are full. What arrives meanwhile is left to
    /// the next drain: picking it up in small portions would undo the tick. A lane is read until it is empty.
    fn drain<H: Handler>(&mut self, ready: usize, stale_ns: u64, handler: &mut H) -> Result<Wake, NetError> {
        let (mut ready, mut wake, mut work, mut batch) = (ready, Wake::default(), 0, 1);
        while ready > 0 {
            let mut again = ready == self.events.len();
            for index in 0..ready {
                let tag = self.events[index].u64;
                if tag == WAKER {
                    self.waker.drain();
                    self.core.stats.syscalls += 1;
                    wake.woken = true;
                    continue;
                }
                if work >= self.drain_max {
                    // The rest stays ready, behind those that epoll has not reported yet: nobody starves.
                    wake.more = true;
                    continue;
                }
                let left = self.drain_max - work;
                let read = if tag >= LANE {
                    let lane = Source::Lane((tag - LANE) as usize);
                    let read = self.rx.read_all(&mut self.core, lane, left, stale_ns, handler);
                    wake.more |= read.again;
                    read
                } else {
                    let socket = Source::Socket(SocketId(tag as u32));
                    let read = self
                        .rx
                        .read(&mut self.core, socket, batch.min(left), stale_ns, handler);
                    again |= read.again;
                    read
                };
                wake.datagrams += read.given;
                work += read.work;
            }
            self.core.flush();
            if wake.more || !again {
                break;
            }
            batch = self.rx.batch;
            ready = self.wait(Some(Duration::ZERO))?;
        }
        Ok(wake)
    }
}

impl Backend for Mmsg {
    fn register(&mut self, socket: UdpSocket) -> Result<SocketId, NetError> {
        let fd = socket.as_raw_fd();
        if self.age.is_stamping() {
            self.core.stats.syscalls += 1;
            sys::stamp_datagrams(fd, true)?;
        }
        let id = self.core.sockets.insert(socket, None)?;
        self.core.stats.syscalls += 1;
        // Also what is steered into a lane: something may have come before.
        if let Err(error) = control(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, u64::from(id.0)) {
            self.core.sockets.remove(id);
            return Err(error);
        }
        self.core.steer(id);
        Ok(id)
    }

    fn unregister(&mut self, id: SocketId) -> Option<UdpSocket> {
        let entry = self.core.sockets.remove(id)?;
        self.core.release(id, entry.state.as_ref());
        self.core.stats.syscalls += 1;
        // Cannot fail for a descriptor that was added and is still open.
        let _ = control(
            self.epoll.as_raw_fd(),
            libc::EPOLL_CTL_DEL,
            entry.socket.as_raw_fd(),
            0,
        );
        Some(entry.socket)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn poll<H: Handler>(&mut self, deadline: Option<Instant>, handler: &mut H) -> Result<Wake, NetError> {
        let before = Instant::now();
        let slept = self.pace.plan(before, deadline, self.more);
        let timeout = match slept {
            Sleep::No => Some(Duration::ZERO),
            Sleep::Block(left) => left,
            Sleep::Tick(left) => {
                self.core.stats.syscalls += 1;
                sys::sleep(left);
                Some(Duration::ZERO)
            }
        };
        let stale_ns = self.age.look(slept, before, &mut self.core.stats, |visit| {
            each_read(self.core.shared.as_ref(), &mut self.core.sockets, visit);
        });
        let ready = self.wait(timeout)?;
        let now = Instant::now();
        self.core.second = now.saturating_duration_since(self.opened).as_secs();
        let reached = self.pace.woke(slept, now, deadline, &mut self.core.stats);
        handler.begin(now);
        let mut wake = self.drain(ready, stale_ns, handler)?;
        self.pace.on_timers(|| handler.end(&mut self.core));
        self.core.flush();
        wake.deadline = reached;
        self.more = wake.more;
        if self.age.is_stamping()
            && let Some(shared) = &self.core.shared
        {
            self.core.stats.rx_overrun = shared.overrun();
        }
        self.age.drained(now, wake.more, &mut self.core.stats, |visit| {
            each_read(self.core.shared.as_ref(), &mut self.core.sockets, visit);
        });
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

/// Visits lanes, and sockets that are read by themselves.
fn each_read(shared: Option<&Shared>, sockets: &mut Slab<Option<Steered>>, visit: &mut dyn FnMut(RawFd)) {
    shared
        .iter()
        .flat_map(|shared| shared.lanes())
        .for_each(&mut *visit);
    sockets.each(|entry| {
        if entry.state.as_ref().is_none_or(Steered::is_out) {
            visit(entry.socket.as_raw_fd());
        }
    });
}

fn control(epoll: RawFd, op: libc::c_int, fd: RawFd, tag: u64) -> Result<(), NetError> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: tag,
    };
    // SAFETY: `event` is valid across the call; the kernel copies it.
    let rc = unsafe { libc::epoll_ctl(epoll, op, fd, &raw mut event) };
    if rc < 0 {
        Err(NetError::last("epoll_ctl"))
    } else {
        Ok(())
    }
}

/// What is read from.
#[derive(Clone, Copy)]
enum Source {
    Socket(SocketId),
    /// By its place.
    Lane(usize),
}

/// Outcome of reading one ready socket.
#[derive(Default)]
struct Read {
    /// Datagrams given to the handler.
    given: usize,
    /// Those, stale ones and errors: what the drain's bound counts.
    work: usize,
    /// The socket may hold more.
    again: bool,
}

/// Receive slots, used for one socket after the other so that they stay in the cache.
struct Rx {
    headers: Box<[libc::mmsghdr]>,
    /// Kept for `headers`, which point into it.
    _vectors: Vec<libc::iovec>,
    block: Block,
    stride: usize,
    payload: usize,
    control_len: usize,
    /// Datagrams at once from a socket, and from a lane.
    batch: usize,
    lane_batch: usize,
    /// Whom the datagrams read are for; nobody, if they are not given.
    receivers: Box<[Option<SocketId>]>,
    through_lanes: u64,
}

/// Where name, control data and payload stand in a slot.
const NAME_AT: usize = 0;
const CONTROL_AT: usize = RawAddr::SIZE;
const CONTROL_MAX: usize = sys::STAMP_LEN + sys::DESTINATION_LEN;
const PAYLOAD_AT: usize = CONTROL_AT + CONTROL_MAX;

impl Rx {
    fn new(config: &Config, lanes: bool) -> Self {
        let lane_batch = if lanes { limits::LANE_BATCH } else { 0 };
        let slots = config.rx_batch.max(lane_batch);
        let stride = stride(PAYLOAD_AT + config.max_datagram);
        let block = Block::new(slots * stride);
        let mut vectors: Vec<libc::iovec> = (0..slots)
            .map(|i| libc::iovec {
                iov_base: block.at(i * stride + PAYLOAD_AT).cast(),
                iov_len: config.max_datagram,
            })
            .collect();
        let first = vectors.as_mut_ptr();
        let control_len = match (config.max_age, lanes) {
            (_, true) => CONTROL_MAX,
            (Some(_), false) => sys::STAMP_LEN,
            (None, false) => 0,
        };
        let headers = (0..slots)
            .map(|i| {
                // SAFETY: all-zero is a valid mmsghdr (null pointers, zero lengths).
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_name = block.at(i * stride + NAME_AT).cast();
                header.msg_hdr.msg_namelen = RawAddr::SIZE as u32;
                header.msg_hdr.msg_control = block.at(i * stride + CONTROL_AT).cast();
                header.msg_hdr.msg_controllen = control_len as _;
                // SAFETY: `i` is below the number of vectors.
                header.msg_hdr.msg_iov = unsafe { first.add(i) };
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Rx {
            headers,
            _vectors: vectors,
            block,
            stride,
            payload: config.max_datagram,
            control_len,
            batch: config.rx_batch,
            lane_batch,
            receivers: vec![None; slots].into(),
            through_lanes: 0,
        }
    }

    /// Reads a lane until it is empty, or `max` datagrams.
    fn read_all<H: Handler>(
        &mut self,
        core: &mut Core,
        source: Source,
        max: usize,
        stale_ns: u64,
        handler: &mut H,
    ) -> Read {
        let mut all = Read::default();
        loop {
            let batch = self.lane_batch.min(max - all.work);
            let read = self.read(core, source, batch, stale_ns, handler);
            self.through_lanes += read.given as u64;
            all.given += read.given;
            all.work += read.work;
            all.again = read.again;
            if !read.again || all.work >= max {
                return all;
            }
        }
    }

    fn read<H: Handler>(
        &mut self,
        core: &mut Core,
        source: Source,
        batch: usize,
        stale_ns: u64,
        handler: &mut H,
    ) -> Read {
        let Some(fd) = core.fd(source) else {
            return Read::default();
        };
        core.stats.syscalls += 1;
        // SAFETY: every header points to a name, control area, vector and payload that live in `self` and that nothing else uses now.
        let n = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                batch as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            return match sys::errno() {
                // A bad checksum, or a reader elsewhere: nothing there after all.
                libc::EAGAIN | libc::EINTR => Read::default(),
                errno => {
                    core.stats.rx_errors.count(errno);
                    Read {
                        given: 0,
                        work: 1,
                        again: true,
                    }
                }
            };
        }
        let count = n as usize;
        if let Source::Lane(_) = source {
            for step in [Shared::prefetch_port, Shared::prefetch_socket] {
                (0..count).for_each(|index| core.prefetch_receiver(step, self.control(index)));
            }
        }
        for index in 0..count {
            self.receivers[index] = self.receiver(core, source, index, stale_ns);
        }
        if count > 1 {
            handler.prefetch(&self.receivers[..count], core);
        }
        let given = (0..count)
            .map(|index| usize::from(self.give(core, index, handler)))
            .sum();
        Read {
            given,
            work: count,
            again: count == batch,
        }
    }

    /// What the kernel told of the datagram in slot `index`.
    fn control(&self, index: usize) -> &[u8] {
        #[allow(clippy::unnecessary_cast, reason = "other C libraries have a u32 here")]
        let len = self.headers[index].msg_hdr.msg_controllen as usize;
        let slot = self.block.slice(index * self.stride, PAYLOAD_AT);
        &slot[CONTROL_AT..CONTROL_AT + len.min(CONTROL_MAX)]
    }

    /// Whom the datagram in slot `index` is for; nobody if it is too old.
    fn receiver(&self, core: &mut Core, source: Source, index: usize, stale_ns: u64) -> Option<SocketId> {
        let control = self.control(index);
        if stale_ns != 0 && sys::stamp_ns(control).is_some_and(|at| at < stale_ns) {
            core.stats.rx_stale += 1;
            return None;
        }
        let receiver = core.receiver(source, control);
        core.stats.rx_unclaimed += u64::from(receiver.is_none());
        receiver
    }

    /// Hands over the datagram in slot `index` and makes the slot ready for the next call.
    fn give<H: Handler>(&mut self, core: &mut Core, index: usize, handler: &mut H) -> bool {
        let header = &mut self.headers[index];
        let (len, flags) = (header.msg_len as usize, header.msg_hdr.msg_flags);
        let name_len = header.msg_hdr.msg_namelen as usize;
        header.msg_hdr.msg_namelen = RawAddr::SIZE as u32;
        header.msg_hdr.msg_controllen = self.control_len as _;
        let Some(socket) = self.receivers[index] else {
            return false;
        };
        let slot = self
            .block
            .slice_mut(index * self.stride, PAYLOAD_AT + self.payload);
        let (head, payload) = slot.split_at_mut(PAYLOAD_AT);
        let Some(from) = RawAddr::decode(head, name_len) else {
            core.stats.rx_errors.bad_address += 1;
            return false;
        };
        let truncated = flags & libc::MSG_TRUNC != 0;
        let data = &mut payload[..len.min(self.payload)];
        core.stats.received(data.len(), truncated);
        handler.datagram(
            Datagram {
                socket,
                from,
                data,
                truncated,
            },
            core,
        );
        true
    }
}

/// What transmitting needs, apart from the receive slots that a handler's datagram borrows.
struct Core {
    sockets: Slab<Option<Steered>>,
    shared: Option<Shared>,
    /// Of the last packet with a header of ours.
    identification: u16,
    /// Since the backend was opened, at the last drain.
    second: u64,
    arena: Arena,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    stats: NetStats,
}

impl Core {
    fn new(config: &Config, shared: Option<Shared>) -> Self {
        let headroom = if shared.is_some() { header::LEN } else { 0 };
        // SAFETY: all-zero is a valid mmsghdr.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let vector = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        Core {
            sockets: Slab::new(config.max_sockets),
            shared,
            identification: 0,
            second: 0,
            arena: Arena::new(config.tx_slots, config.max_datagram, headroom),
            headers: vec![header; config.tx_slots].into_boxed_slice(),
            vectors: vec![vector; config.tx_slots].into_boxed_slice(),
            stats: NetStats::default(),
        }
    }

    fn fd(&self, source: Source) -> Option<RawFd> {
        match source {
            Source::Socket(id) => self.sockets.fd(id),
            Source::Lane(lane) => self.shared.as_ref()?.lane_fd(lane),
        }
    }

    /// A hint: [`Self::receiver`] is asked for what has this `control` soon.
    fn prefetch_receiver(&self, step: fn(&Shared, SocketAddr, &Slab<Option<Steered>>), control: &[u8]) {
        if let (Some(shared), Some(local)) = (&self.shared, sys::destination(control)) {
            step(shared, local, &self.sockets);
        }
    }

    /// The socket that a datagram is for.
    fn receiver(&mut self, source: Source, control: &[u8]) -> Option<SocketId> {
        match source {
            Source::Socket(id) => Some(id),
            Source::Lane(_) => {
                let local = sys::destination(control)?;
                self.shared
                    .as_ref()?
                    .receiver(local, self.second, &mut self.sockets)
            }
        }
    }

    /// Lets a registered socket share lane and sender, where there are some and it can.
    fn steer(&mut self, id: SocketId) {
        if let Some(shared) = &mut self.shared
            && let Some(entry) = self.sockets.entry_mut(id)
        {
            self.stats.syscalls += 1;
            entry.state = shared.steer(id, &entry.socket);
        }
    }

    fn release(&mut self, id: SocketId, steered: Option<&Steered>) {
        if let (Some(shared), Some(steered)) = (&mut self.shared, steered) {
            self.stats.syscalls += 1;
            shared.release(id, steered, &mut self.sockets);
        }
    }

    /// Sends everything queued, a run of packets of one socket at a time.
    fn flush(&mut self) {
        let queued = self.arena.queued().len();
        let mut start = 0;
        while start < queued {
            let metas = &self.arena.queued()[start..];
            let run = metas.iter().take_while(|meta| meta.fd == metas[0].fd).count();
            if run == 1 {
                self.send_one(start);
            } else {
                self.send_run(start, run);
            }
            start += run;
        }
        self.arena.clear();
    }

    fn send_one(&mut self, index: usize) {
        self.stats.syscalls += 1;
        let (meta, payload) = (&self.arena.queued()[index], self.arena.packet(index));
        // SAFETY: payload and address live in the arena across the call, with the lengths given.
        let n = unsafe {
            libc::sendto(
                meta.fd,
                payload.as_ptr().cast(),
                payload.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                meta.addr.0.as_ptr().cast(),
                meta.addr_len,
            )
        };
        if n < 0 {
            self.stats.tx_drops.count(sys::errno());
        }
    }

    fn send_run(&mut self, start: usize, run: usize) {
        for index in 0..run {
            let (meta, payload) = (
                &self.arena.queued()[start + index],
                self.arena.packet(start + index),
            );
            let vector = &mut self.vectors[index];
            vector.iov_base = payload.as_ptr().cast_mut().cast();
            vector.iov_len = payload.len();
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = meta.addr.0.as_ptr().cast_mut().cast();
            header.msg_namelen = meta.addr_len;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
        }
        let fd = self.arena.queued()[start].fd;
        let mut done = 0;
        while done < run {
            self.stats.syscalls += 1;
            let rest = &mut self.headers[done..run];
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: each header was just pointed at a vector, payload and address that live in `self`; the kernel only reads them.
            let n = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, flags as _) };
            if n > 0 {
                done += n as usize;
            } else {
                // The first of the rest was refused; the others may still go.
                self.stats.tx_drops.count(sys::errno());
                done += 1;
            }
        }
    }
}

impl Drop for Core {
    /// The program outlives this backend when others of the process use it.
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.release_all(&mut self.sockets);
        }
    }
}

impl Transmit for Core {
    fn slot(&mut self) -> Option<&mut [u8]> {
        if self.arena.is_full() {
            self.flush();
        }
        Some(self.arena.slot())
    }

    fn prefetch(&self, socket: SocketId) {
        self.sockets.prefetch(socket);
    }

    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr) {
        self.arena.close(len);
        let Some(fd) = self.sockets.fd(socket) else {
            self.stats.tx_drops.no_socket += 1;
            return;
        };
        self.stats.tx_datagrams += 1;
        self.stats.tx_bytes += len as u64;
        match (self.sockets.state(socket), to) {
            (Some(Some(Steered { head: Some(head), .. })), SocketAddr::V4(v4))
                if shared::goes_raw(len, v4) =>
            {
                let index = self.arena.push(len, head.sender, to);
                // Never 0.
                self.identification = self.identification % u16::MAX + 1;
                head.write(self.arena.prepend(index, header::LEN), v4, self.identification);
            }
            _ => {
                self.arena.push(len, fd, to);
            }
        }
    }
}

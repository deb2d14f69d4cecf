//! The few system facts both backends need: process limits, sleeping, memory for the kernel to write to.

use crate::addr::RawAddr;
use crate::{NetError, limits};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Page-aligned, zeroed memory behind a raw pointer: the kernel keeps addresses into it while slices of it
/// come and go, which a `Box<[u8]>` would not allow.
pub(crate) struct Block {
    ptr: NonNull<u8>,
    layout: Layout,
    leaked: bool,
}

impl Block {
    pub(crate) fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), 4096).expect("sizes are bounded by Config::check");
        // SAFETY: the layout has a size above zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(raw) else {
            handle_alloc_error(layout)
        };
        Block {
            ptr,
            layout,
            leaked: false,
        }
    }

    /// Address of byte `offset`.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.layout.size(), "offset {offset} outside of a block");
        // SAFETY: the offset was just checked to lie inside the allocation.
        unsafe { self.ptr.as_ptr().add(offset) }
    }

    /// Bytes `offset..offset + len`. The caller makes sure that the kernel does not own them now.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset + len <= self.layout.size(), "range outside of a block");
        let first = self.at(offset);
        // SAFETY: in bounds, initialised (zeroed or written by the kernel), and `&self` rules out slices that write.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    /// The same, to be written to.
    pub(crate) fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset + len <= self.layout.size(), "range outside of a block");
        let first = self.at(offset);
        // SAFETY: in bounds, initialised (zeroed or written by the kernel), and `&mut self` rules out other slices.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }
}

impl Block {
    /// Never frees the memory: the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: allocated in `new` with this layout and freed once.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sleeps for `duration`; a signal may end it early.
pub(crate) fn sleep(duration: Duration) {
    let ts = timespec(duration);
    // SAFETY: `ts` is a valid timespec and the remainder is not asked for.
    unsafe { libc::nanosleep(&raw const ts, std::ptr::null_mut()) };
}

pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Wall-clock time in nanoseconds, the clock of receive time stamps.
pub(crate) fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

/// Lets this thread's timers fire on time: the default slack of 50 us is a fifth of a tick.
pub(crate) fn tighten_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes an integer. A failure leaves the default slack, which works.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong) };
}

/// Asks for a receive time stamp with every datagram (the control message of [`stamp_ns`]), or no longer.
pub(crate) fn stamp_datagrams(fd: RawFd, on: bool) -> Result<(), NetError> {
    set_option(
        fd,
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
        on.into(),
        "setsockopt(SO_TIMESTAMPNS)",
    )
}

/// Asks for the address and port that every datagram was sent to (the control message of [`destination`]).
pub(crate) fn tell_destination(fd: RawFd, v6: bool) -> Result<(), NetError> {
    let (option, op) = if v6 {
        (
            (libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR),
            "setsockopt(IPV6_RECVORIGDSTADDR)",
        )
    } else {
        (
            (libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR),
            "setsockopt(IP_RECVORIGDSTADDR)",
        )
    };
    set_option(fd, option, 1, op)
}

/// Room for `bytes` of payload and bookkeeping, beyond `net.core.rmem_max`; the kernel doubles it.
pub(crate) fn force_receive_buffer(fd: RawFd, bytes: i32) -> Result<(), NetError> {
    set_option(
        fd,
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
        bytes,
        "setsockopt(SO_RCVBUFFORCE)",
    )
}

/// The same for sending.
pub(crate) fn force_send_buffer(fd: RawFd, bytes: i32) -> Result<(), NetError> {
    set_option(
        fd,
        (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
        bytes,
        "setsockopt(SO_SNDBUFFORCE)",
    )
}

/// Datagrams that the kernel dropped because the socket's buffer was full.
pub(crate) fn dropped(fd: RawFd) -> u64 {
    // SK_MEMINFO_DROPS of linux/sock_diag.h, the last of nine words.
    const DROPS: usize = 8;
    let mut words = [0u32; DROPS + 1];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `words`.
    let rc = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if rc < 0 { 0 } else { words[DROPS].into() }
}

fn set_option(
    fd: RawFd,
    (level, name): (libc::c_int, libc::c_int),
    value: libc::c_int,
    op: &'static str,
) -> Result<(), NetError> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option value is a c_int that lives across the call, and `len` is its size.
    let rc = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
    if rc < 0 { Err(NetError::last(op)) } else { Ok(()) }
}

/// Bytes of control data that hold one time stamp: `cmsghdr` and `timespec`.
pub(crate) const STAMP_LEN: usize = 32;

/// The receive time stamp in `control`, wall clock nanoseconds, if the kernel put one there.
pub(crate) fn stamp_ns(control: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(i64::from_ne_bytes(control.get(at..at + 8)?.try_into().ok()?));
    let int = |at: usize| Some(i32::from_ne_bytes(control.get(at..at + 4)?.try_into().ok()?));
    let is_stamp =
        word(0)? == STAMP_LEN as i64 && int(8)? == libc::SOL_SOCKET && int(12)? == libc::SCM_TIMESTAMPNS;
    is_stamp.then_some(())?;
    let seconds = u64::try_from(word(16)?).ok()?;
    let nanos = u64::try_from(word(24)?).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// The stamp of the datagram that waits in a socket, which is taken out; `None` when there is none, or no stamp.
pub(crate) fn receive_stamp(fd: RawFd) -> Option<u64> {
    let (mut byte, mut control) = ([0u8; 1], [0u64; STAMP_LEN / 8]);
    let mut vector = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: byte.len(),
    };
    // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = STAMP_LEN as _;
    // SAFETY: the message points to a vector, a byte and control data that live across the call.
    let n = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    if n < 0 { None } else { stamp_ns(&bytes) }
}

/// Bytes of control data that hold one destination: `cmsghdr` and `sockaddr_in6`, rounded up.
pub(crate) const DESTINATION_LEN: usize = 48;

/// Where a datagram was sent to, if the kernel told it in `control`.
pub(crate) fn destination(control: &[u8]) -> Option<SocketAddr> {
    const HEAD: usize = 16;
    let mut rest = control;
    loop {
        let len = usize::try_from(u64::from_ne_bytes(rest.get(..8)?.try_into().ok()?)).ok()?;
        let level = i32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
        let kind = i32::from_ne_bytes(rest.get(12..HEAD)?.try_into().ok()?);
        let data = rest.get(HEAD..len)?;
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) | (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR) => {
                return RawAddr::decode(data, data.len());
            }
            _ => rest = rest.get(len.next_multiple_of(8)..)?,
        }
    }
}

/// Makes room for `sockets` sockets in this process: raises the soft limit of open files to the hard one.
///
/// Each backend does this for its own [`crate::Config::max_sockets`]; a process with several calls it for the sum.
///
/// # Errors
/// [`NetError::Limit`] when the hard limit is too low.
pub fn ensure_files(sockets: usize) -> Result<(), NetError> {
    let need = (sockets as u64).saturating_add(limits::SPARE_FILES);
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the kernel to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(NetError::last("getrlimit(RLIMIT_NOFILE)"));
    }
    if limit.rlim_max < need {
        return Err(NetError::Limit {
            limit: "RLIMIT_NOFILE",
            have: limit.rlim_max,
            need,
            remedy: "raise it (systemd: LimitNOFILE=, docker: --ulimit nofile=) or lower max_sockets",
        });
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit within the hard limit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
            return Err(NetError::last("setrlimit(RLIMIT_NOFILE)"));
        }
    }
    Ok(())
}

/// Which capabilities for shared sockets this thread lacks.
pub fn missing_capabilities() -> Vec<&'static str> {
    const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", 39)];
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    let has = |bit: u32| effective.is_some_and(|set| set & 1 << bit != 0);
    NEEDED
        .iter()
        .filter(|(_, bit)| !has(*bit))
        .map(|(name, _)| *name)
        .collect()
}

/// Current limit of locked memory in bytes.
pub(crate) fn locked_memory_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the kernel to write; on failure it stays zero.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    limit.rlim_cur
}

/// A hint: the cache line of `at` is used soon. It need not be memory of this process. Nothing but on x86-64.
#[inline]
pub fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is a hint, which reads nothing and cannot fault; SSE is part of the architecture.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stamp_is_found_and_garbage_is_not() {
        let mut control = [0u8; STAMP_LEN];
        assert_eq!(stamp_ns(&control), None);
        control[..8].copy_from_slice(&32u64.to_ne_bytes());
        control[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        control[12..16].copy_from_slice(&libc::SCM_TIMESTAMPNS.to_ne_bytes());
        control[16..24].copy_from_slice(&3i64.to_ne_bytes());
        control[24..].copy_from_slice(&7i64.to_ne_bytes());
        assert_eq!(stamp_ns(&control), Some(3_000_000_007));
        assert_eq!(stamp_ns(&control[..20]), None);
        control[16..24].copy_from_slice(&(-1i64).to_ne_bytes());
        assert_eq!(stamp_ns(&control), None);
    }

    #[test]
    fn a_destination_is_found_behind_a_stamp_and_garbage_is_not() {
        let message = |level: i32, kind: i32, data: &[u8]| {
            let mut bytes = (16 + data.len() as u64).to_ne_bytes().to_vec();
            bytes.extend(level.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        };
        for text in ["192.0.2.7:4000", "[2001:db8::7]:4000"] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut raw = RawAddr::default();
            let len = raw.encode(addr) as usize;
            let (level, kind) = match addr {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR),
            };
            let told = message(level, kind, &raw.0[..len]);
            assert!(told.len() <= DESTINATION_LEN);
            let stamp = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[0; 16]);
            let both = [stamp.clone(), told.clone()].concat();
            assert_eq!((destination(&told), destination(&both)), (Some(addr), Some(addr)));
            assert_eq!(destination(&both[..stamp.len() + 20]), None, "cut short");
        }
        assert_eq!(destination(&[0; 64]), None);
        assert_eq!(destination(&[0xff; 64]), None);
    }

    #[test]
    fn too_many_sockets_name_the_limit_and_the_remedy() {
        let text = ensure_files(usize::MAX >> 8).unwrap_err().to_string();
        assert!(
            text.contains("RLIMIT_NOFILE") && text.contains("LimitNOFILE"),
            "{text}"
        );
    }
}

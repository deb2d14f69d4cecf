//! The floor: a bare relay of many flows through each backend, with its own load generator.
//!
//! Measures what the socket layer alone costs per relayed packet (CPU clock of the relay thread divided by the
//! packets that reached the sink) and adds in latency (send stamp to the kernel's receive stamp at the sink). No
//! flow learning, statistics or cipher: an engine adds its own time. The relay runs on core 0, the generator and
//! sink on core 1, both SCHED_FIFO where that is permitted; on loopback a sender pays for the delivery into the
//! receiver's socket, so the relay pays for receive, send and delivery, and not for reception.
//!
//! ```text
//! cargo run --release -p media-net --example relay -- uring 100000 2000 500 5
//!                                                      backend  packets/s  sockets  budget us  seconds
//! ```
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a measuring program: it owns threads, clocks and sockets"
)]

use media_net::{Backend, Config, Datagram, Handler, IoChoice, NetStats, SocketId, Transmit, bind, open};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A G.711 packet of 20 ms: 12 bytes of header, 160 of payload.
const PACKET: usize = 172;
/// Packets per `sendmmsg` and `recvmmsg` of the generator.
const BURST: usize = 32;

struct Relay {
    /// Where packets of a socket go: out of its partner.
    partner: Vec<SocketId>,
    sink: SocketAddr,
}

impl Handler for Relay {
    fn datagram<T: Transmit>(&mut self, d: Datagram<'_>, tx: &mut T) {
        if let Some(slot) = tx.slot() {
            slot[..d.data.len()].copy_from_slice(d.data);
            tx.commit(d.data.len(), self.partner[d.socket.index()], self.sink);
        }
    }
}

struct Args {
    choice: IoChoice,
    rate: u64,
    sockets: usize,
    config: Config,
    time: Duration,
}

fn main() {
    let args = arguments();
    let sink = bind::udp(
        "127.0.0.1:0".parse().expect("a literal"),
        &bind::Options::default(),
    )
    .expect("sink");
    prepare_sink(&sink);
    let sink_addr = sink.local_addr().expect("a bound socket has an address");
    let targets: Vec<UdpSocket> = (0..args.sockets)
        .map(|_| {
            bind::udp(
                "127.0.0.1:0".parse().expect("a literal"),
                &bind::Options::default(),
            )
            .expect("bind")
        })
        .collect();
    let addrs: Vec<SocketAddr> = targets.iter().map(|s| s.local_addr().expect("bound")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let measuring = Arc::new(AtomicBool::new(false));
    let (rate, time) = (args.rate, args.time);
    let relay = {
        let (stop, measuring) = (stop.clone(), measuring.clone());
        std::thread::spawn(move || relay(&args, targets, sink_addr, &stop, &measuring))
    };
    pin(1, 20);
    let (sent, seen) = generate(rate, time, &addrs, &sink, &measuring);
    stop.store(true, Ordering::Relaxed);
    let result = relay.join().expect("the relay does not panic");
    report(&result, sent, seen, time);
}

fn arguments() -> Args {
    let args: Vec<String> = std::env::args().collect();
    let number =
        |index: usize, default: u64| args.get(index).map_or(default, |a| a.parse().expect("a number"));
    let choice = match args.get(1).map(String::as_str) {
        Some("uring") => IoChoice::Uring,
        Some("mmsg") => IoChoice::Mmsg,
        Some("shared") => IoChoice::Shared,
        _ => IoChoice::Auto,
    };
    let max_age = Some(Duration::from_millis(number(6, 150))).filter(|age| !age.is_zero());
    let defaults = Config::default();
    let config = Config {
        latency_budget: Duration::from_micros(number(4, 250)),
        latency_budget_busy: Duration::from_micros(number(4, 250)),
        max_age,
        rx_buffers: number(7, defaults.rx_buffers as u64) as usize,
        tx_slots: number(8, defaults.tx_slots as u64) as usize,
        rx_batch: number(9, defaults.rx_batch as u64) as usize,
        ..defaults
    };
    let sockets = number(3, 2_000) as usize;
    Args {
        choice,
        rate: number(2, 100_000),
        sockets,
        config,
        time: Duration::from_secs(number(5, 5)),
    }
}

struct Outcome {
    reason: String,
    cpu: Duration,
    stats: NetStats,
    resident_kb: u64,
}

fn relay(
    args: &Args,
    sockets: Vec<UdpSocket>,
    sink: SocketAddr,
    stop: &AtomicBool,
    measuring: &AtomicBool,
) -> Outcome {
    pin(0, 10);
    let before_kb = resident_kb();
    let (mut net, reason) = open(args.choice, &args.config).expect("a backend opens");
    let ids: Vec<SocketId> = sockets
        .into_iter()
        .map(|s| net.register(s).expect("registers"))
        .collect();
    let mut partner = vec![SocketId(0); ids.len()];
    for (index, id) in ids.iter().enumerate() {
        partner[id.index()] = ids[index ^ 1];
    }
    let mut handler = Relay { partner, sink };
    let mut begin = None;
    while !stop.load(Ordering::Relaxed) {
        if begin.is_none() && measuring.load(Ordering::Relaxed) {
            begin = Some(thread_cpu());
        }
        net.poll(Some(Instant::now() + Duration::from_millis(20)), &mut handler)
            .expect("polls");
    }
    let cpu = thread_cpu().saturating_sub(begin.unwrap_or_default());
    Outcome {
        reason: reason.to_string(),
        cpu,
        stats: net.stats().clone(),
        resident_kb: resident_kb().saturating_sub(before_kb),
    }
}

/// Sends at `rate` and reads the sink; returns packets sent and the latencies (us) of those that arrived, both without the
/// first half second.
fn generate(
    rate: u64,
    time: Duration,
    targets: &[SocketAddr],
    sink: &UdpSocket,
    measuring: &AtomicBool,
) -> (u64, Vec<u32>) {
    let source = bind::udp(
        "127.0.0.1:0".parse().expect("a literal"),
        &bind::Options::default(),
    )
    .expect("source");
    let warm_up = Duration::from_millis(500);
    let mut latencies = Vec::with_capacity((rate * time.as_secs() * 2) as usize + 1_000_000);
    let (start, mut sent, mut counted_from) = (Instant::now(), 0u64, None);
    let mut receiver = Receiver::new();
    // Neighbouring packets go to distant sockets.
    let step = (targets.len() / 2 + 7) | 1;
    let mut target = 0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= warm_up + time {
            break;
        }
        if counted_from.is_none() && elapsed >= warm_up {
            counted_from = Some(sent);
            latencies.clear();
            measuring.store(true, Ordering::Relaxed);
        }
        let due = (elapsed.as_nanos() as u64 * rate / 1_000_000_000)
            .saturating_sub(sent)
            .min(BURST as u64);
        for _ in 0..due {
            let mut packet = [0x55u8; PACKET];
            packet[12..20].copy_from_slice(&wall_ns().to_ne_bytes());
            // A full queue at the relay is the relay's loss.
            let _ = source.send_to(&packet, targets[target]);
            target = (target + step) % targets.len();
            sent += 1;
        }
        receiver.receive(sink, &mut latencies);
    }
    let last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        receiver.receive(sink, &mut latencies);
    }
    (sent - counted_from.unwrap_or(0), latencies)
}

/// Reads the sink in bursts with the kernel's receive stamps.
struct Receiver {
    packets: Box<[[u8; PACKET]; BURST]>,
    controls: Box<[[u64; 4]; BURST]>,
}

impl Receiver {
    fn new() -> Self {
        Receiver {
            packets: Box::new([[0; PACKET]; BURST]),
            controls: Box::new([[0; 4]; BURST]),
        }
    }

    fn receive(&mut self, sink: &UdpSocket, latencies: &mut Vec<u32>) {
        // SAFETY: all-zero is a valid array of headers and vectors.
        let (mut headers, mut vectors): ([libc::mmsghdr; BURST], [libc::iovec; BURST]) =
            unsafe { std::mem::zeroed() };
        for index in 0..BURST {
            vectors[index] = libc::iovec {
                iov_base: self.packets[index].as_mut_ptr().cast(),
                iov_len: PACKET,
            };
            headers[index].msg_hdr.msg_iov = &raw mut vectors[index];
            headers[index].msg_hdr.msg_iovlen = 1;
            headers[index].msg_hdr.msg_control = self.controls[index].as_mut_ptr().cast();
            headers[index].msg_hdr.msg_controllen = 32;
        }
        // SAFETY: every header points to memory of `self` or of this frame that lives across the call.
        let n = unsafe {
            libc::recvmmsg(
                sink.as_raw_fd(),
                headers.as_mut_ptr(),
                BURST as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        for index in 0..n.max(0) as usize {
            let stamp = u64::from_ne_bytes(self.packets[index][12..20].try_into().expect("eight bytes"));
            let arrived = self.controls[index][2] * 1_000_000_000 + self.controls[index][3];
            latencies.push((arrived.saturating_sub(stamp) / 1_000) as u32);
        }
    }
}

fn prepare_sink(sink: &UdpSocket) {
    for (option, value) in [(libc::SO_RCVBUFFORCE, 64 << 20), (libc::SO_TIMESTAMPNS, 1)] {
        let value: libc::c_int = value;
        // SAFETY: the value is a c_int that lives across the call.
        unsafe {
            libc::setsockopt(
                sink.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const value).cast(),
                4,
            )
        };
    }
}

fn report(outcome: &Outcome, sent: u64, mut latencies: Vec<u32>, time: Duration) {
    latencies.sort_unstable();
    let seen = latencies.len() as u64;
    let quantile = |q: f64| {
        latencies
            .get(((seen as f64 * q) as usize).min(latencies.len().max(1) - 1))
            .copied()
    };
    let stats = &outcome.stats;
    println!("{}", outcome.reason);
    println!(
        "sent {sent} seen {seen} loss {:.3} %  cpu/packet {:.3} us  core {:.3}  added p50 {:?} p99 {:?} p99.9 {:?} us",
        100.0 * (1.0 - seen as f64 / sent as f64),
        outcome.cpu.as_nanos() as f64 / 1_000.0 / seen as f64,
        outcome.cpu.as_secs_f64() / time.as_secs_f64(),
        quantile(0.5).unwrap_or(0),
        quantile(0.99).unwrap_or(0),
        quantile(0.999).unwrap_or(0),
    );
    println!(
        "wakes {:?} switches {} tick time {:.2} s late p50 < {} us p99 < {} us  drains {} cut {} syscalls/packet {:.2}",
        stats.wakes,
        stats.mode_switches,
        stats.tick_time.as_secs_f64(),
        stats.tick_lateness.quantile_us(0.5),
        stats.tick_lateness.quantile_us(0.99),
        stats.drains,
        stats.drains_cut,
        stats.syscalls as f64 / stats.rx_datagrams as f64,
    );
    println!(
        "no buffers {} rearms {} stale {} drops {}  backend memory {} kB",
        stats.rx_no_buffers,
        stats.rx_rearms,
        stats.rx_stale,
        stats.tx_drops.total(),
        outcome.resident_kb
    );
}

fn pin(core: usize, priority: libc::c_int) {
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid and the core number small.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set lives across the call; 0 is this thread.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameter lives across the call. Without the permission it stays an ordinary thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) } < 0 {
        println!("no SCHED_FIFO: figures are noisier");
    }
}

fn thread_cpu() -> Duration {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid timespec for the kernel to write.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut ts) };
    Duration::new(ts.tv_sec as u64, ts.tv_nsec as u32)
}

fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4
}

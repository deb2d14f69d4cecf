//! Once everything is registered, polling allocates nothing: not for datagrams, ticks, wakes, re-arms, stale or
//! truncated packets, nor for sends that fail.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a counting allocator and real sockets"
)]

use media_net::{Backend, Config, Datagram, Handler, IoChoice, SocketId, Transmit, bind, open};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

thread_local! {
    /// Allocations of this thread while it counts.
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

// SAFETY: every call goes on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get().map(|n| n + 1)));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    COUNT.set(Some(0));
    work();
    COUNT.take().expect("still counting")
}

/// Answers, and sends one packet that cannot go.
struct Reply {
    nowhere: SocketAddr,
    seen: usize,
}

impl Handler for Reply {
    fn datagram<T: Transmit>(&mut self, d: Datagram<'_>, tx: &mut T) {
        self.seen += 1;
        for (socket, to) in [
            (d.socket, d.from),
            (d.socket, self.nowhere),
            (SocketId(900), d.from),
        ] {
            if let Some(slot) = tx.slot() {
                slot[..d.data.len()].copy_from_slice(d.data);
                tx.commit(d.data.len(), socket, to);
            }
        }
    }
}

fn run(choice: IoChoice, config: &Config) {
    let (mut net, reason) = open(choice, config).unwrap();
    let waker = net.waker();
    let mut targets = Vec::new();
    for _ in 0..50 {
        let socket = bind::udp("127.0.0.1:0".parse().unwrap(), &bind::Options::default()).unwrap();
        targets.push(socket.local_addr().unwrap());
        net.register(socket).unwrap();
    }
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut handler = Reply {
        nowhere: "[::1]:9".parse().unwrap(),
        seen: 0,
    };
    let mut round = |net: &mut media_net::AnyBackend, size: usize| {
        for target in &targets {
            client.send_to(&[7; 300][..size], target).unwrap();
        }
        waker.wake();
        for _ in 0..4 {
            net.poll(Some(Instant::now() + Duration::from_micros(100)), &mut handler)
                .unwrap();
        }
    };
    // The first round may fill caches of the standard library.
    round(&mut net, 172);
    let count = allocations(|| {
        for _ in 0..100 {
            round(&mut net, 172);
            round(&mut net, 300);
        }
        std::thread::sleep(Duration::from_millis(3));
        round(&mut net, 100);
    });
    let stats = net.stats();
    assert_eq!(count, 0, "allocations with {reason}: {stats:?}");
    assert!(
        stats.rx_datagrams > 5_000 && stats.rx_truncated > 1_000,
        "{stats:?}"
    );
    assert!(stats.tx_drops.bad_address > 5_000 && stats.tx_drops.no_socket > 5_000);
}

#[test]
fn with_epoll() {
    run(
        IoChoice::Mmsg,
        &Config {
            max_sockets: 64,
            max_datagram: 200,
            ..Config::default()
        },
    );
}

#[test]
fn with_shared_sockets() {
    let config = Config {
        max_sockets: 64,
        max_datagram: 200,
        ..Config::default()
    };
    let missing = media_net::missing_capabilities();
    if missing.is_empty() {
        run(IoChoice::Shared, &config);
    } else {
        eprintln!("NOT RUN: shared sockets need {}", missing.join(", "));
    }
}

#[test]
fn with_io_uring() {
    if std::env::var_os("MEDIA_NET_NO_URING").is_none() {
        run(
            IoChoice::Uring,
            &Config {
                max_sockets: 64,
                max_datagram: 200,
                ..Config::default()
            },
        );
    }
}

#[test]
fn with_io_uring_short_of_buffers_and_checking_ages() {
    if std::env::var_os("MEDIA_NET_NO_URING").is_none() {
        let max_age = Some(Duration::from_millis(1));
        let config = Config {
            max_sockets: 64,
            max_datagram: 200,
            rx_buffers: 4,
            max_age,
            ..Config::default()
        };
        run(IoChoice::Uring, &config);
    }
}

//! A bare relay loop that can be told to misbehave stands between the generator and its sink: each fault must show in
//! its own counter and nowhere else, and an honest relay must show none.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "the faulty server is made of real sockets and a thread; a failure in it fails the test"
)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench::load::{Call, LoadReport, LoadSpec, Payload, Sides, run};

const CALLS: usize = 10;

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    DropEveryTenth,
    DoubleEveryTenth,
    HoldEveryTenth,
    SendToNeighbour,
}

#[test]
fn an_honest_relay_shows_no_fault() {
    let report = through(Fault::None, 27_000, Payload::Stamp);
    assert!(report.sent > 200, "{} packets sent", report.sent);
    assert_eq!(faults(&report), (0, 0, 0, 0), "{}", report.line());
    assert!(
        report.delay_us.p50 > 0.0 && report.delay_us.p99 < 1e6,
        "{:?}",
        report.delay_us
    );
}

#[test]
fn every_leg_of_an_honest_relay_hears_its_partner_and_of_a_crossed_one_somebody_else() {
    let honest = through(Fault::None, 27_100, Payload::Tone);
    assert_eq!(
        (honest.tones_right, honest.tones_wrong, honest.tones_silent),
        (2 * CALLS, 0, 0)
    );
    let crossed = through(Fault::SendToNeighbour, 27_200, Payload::Tone);
    assert_eq!(
        (crossed.tones_right, crossed.tones_wrong, crossed.tones_silent),
        (0, 2 * CALLS, 0)
    );
}

#[test]
fn each_fault_shows_in_its_own_counter() {
    let lost = through(Fault::DropEveryTenth, 27_300, Payload::Stamp);
    assert!((0.05..0.15).contains(&lost.loss()), "{}", lost.line());
    assert_eq!((lost.duplicates, lost.reordered, lost.foreign), (0, 0, 0));

    let doubled = through(Fault::DoubleEveryTenth, 27_400, Payload::SignStamp);
    assert!(doubled.duplicates > 20, "{}", doubled.line());
    assert_eq!(
        (
            doubled.sent - doubled.delivered,
            doubled.reordered,
            doubled.foreign
        ),
        (0, 0, 0)
    );

    let held = through(Fault::HoldEveryTenth, 27_500, Payload::Stamp);
    assert!(held.reordered > 20, "{}", held.line());
    assert_eq!((held.duplicates, held.foreign), (0, 0));

    let crossed = through(Fault::SendToNeighbour, 27_600, Payload::Stamp);
    assert!(crossed.foreign > 200, "{}", crossed.line());
    assert_eq!(crossed.delivered, 0, "a stranger's packet is not a delivered one");
}

fn faults(report: &LoadReport) -> (u64, u64, u64, u64) {
    let lost = report.sent.saturating_sub(report.delivered);
    (
        lost,
        report.duplicates,
        report.reordered,
        report.foreign + report.unknown_source + report.sequence_breaks,
    )
}

/// Loads a relay with this fault; its ports and the generator's lie in the hundred from `port` on.
fn through(fault: Fault, port: u16, payload: Payload) -> LoadReport {
    let mut sides = Sides::open(Ipv4Addr::LOCALHOST, port, 1).unwrap();
    let sockets: Vec<[UdpSocket; 2]> = (0..CALLS).map(|_| [socket(), socket()]).collect();
    let calls: Vec<Call> = sockets
        .iter()
        .map(|[a, b]| Call {
            a: address(a),
            b: address(b),
            srtp: None,
        })
        .collect();
    let ends = [sides.address(0, 0), sides.address(0, 1)];
    let stop = Arc::new(AtomicBool::new(false));
    let relay = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || relay(&sockets, ends, fault, &stop)
    });
    let spec = LoadSpec {
        payload,
        warm: Duration::from_millis(100),
        window: Duration::from_millis(600),
        ..LoadSpec::new(calls)
    };
    let report = run(&mut sides, &spec).unwrap();
    stop.store(true, Ordering::Relaxed);
    relay.join().unwrap();
    report
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn address(socket: &UdpSocket) -> SocketAddrV4 {
    match socket.local_addr().unwrap() {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => unreachable!("bound to IPv4, is {address}"),
    }
}

/// What comes in on one leg goes out on the other.
fn relay(sockets: &[[UdpSocket; 2]], ends: [SocketAddrV4; 2], fault: Fault, stop: &AtomicBool) {
    let mut buffer = [0u8; 2_048];
    let mut counts = vec![[0u32; 2]; sockets.len()];
    let mut held: Vec<[Option<Vec<u8>>; 2]> = (0..sockets.len()).map(|_| [None, None]).collect();
    while !stop.load(Ordering::Relaxed) {
        for call in 0..sockets.len() {
            for side in 0..2 {
                let Ok((length, _)) = sockets[call][side].recv_from(&mut buffer) else {
                    continue;
                };
                let packet = &buffer[..length];
                counts[call][side] += 1;
                let tenth = counts[call][side].is_multiple_of(10);
                let exit = match fault {
                    Fault::SendToNeighbour => (call + 1) % sockets.len(),
                    _ => call,
                };
                let send = |packet: &[u8]| {
                    sockets[exit][1 - side]
                        .send_to(packet, ends[1 - side])
                        .map(drop)
                        .unwrap()
                };
                if tenth && fault == Fault::HoldEveryTenth {
                    held[call][side] = Some(packet.to_vec());
                    continue;
                }
                if !(tenth && fault == Fault::DropEveryTenth) {
                    send(packet);
                }
                if tenth && fault == Fault::DoubleEveryTenth {
                    send(packet);
                }
                if let Some(late) = held[call][side].take() {
                    send(&late);
                }
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

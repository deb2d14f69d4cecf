//! Audio of calls that come and go: every packet stamped, every arrival judged.
//!
//! As in the relay's generator a whole side of all calls shares one socket, and who is heard is told by the port that
//! the server sends from.

use std::net::{Ipv4Addr, SocketAddrV4};

use hdrhistogram::Histogram;
use nix::sys::socket::SockaddrIn;
use serde::Serialize;

use super::report::nanosecond_histogram;
use super::run::now_ns;
use super::socket::{BATCH, Received, Socket};
use super::stamp::{Encoding, HEADER_BYTES, PACKET_BYTES, PAYLOAD_BYTES, Stamp, read_header, write_header};

/// Milliseconds of audio in a packet.
const PTIME_MS: u64 = 20;
/// A flow that is further behind than this moves its schedule instead of catching up.
const FORGIVE_MS: u64 = 100;
/// Packets at the beginning of a flow that may be lost: the server learns of the other side one message later.
const SETTLING_PACKETS: u32 = 5;

/// What became of the packets of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AudioReport {
    /// Packets sent, those of the first 100 ms of a call apart.
    pub sent: u64,
    /// Of these, packets that arrived at the partner.
    pub delivered: u64,
    /// Packets of another call than the port they came from: strangers heard.
    pub foreign: u64,
    /// Datagrams the kernel refused to send.
    pub refused: u64,
    /// Calls of which one side heard nothing at all.
    pub silent_sides: u64,
    /// One-way delay of the 99th percentile, microseconds.
    pub delay_p99_us: f64,
}

impl AudioReport {
    /// Share of packets lost, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.sent.saturating_sub(self.delivered) as f64 / self.sent.max(1) as f64
    }
}

/// One direction of one call.
#[derive(Debug)]
struct Flow {
    serial: u32,
    to: SockaddrIn,
    sent: u32,
    next_ms: u64,
    talks: bool,
    delivered: u32,
    heard: bool,
}

/// The audio of all calls.
#[derive(Debug)]
pub struct LiveAudio {
    /// Side A's socket and side B's.
    sides: [Socket; 2],
    /// Two for each call, by place.
    flows: Vec<Option<Flow>>,
    free: Vec<usize>,
    /// By the server's port: the flow that is heard from there.
    by_port: Vec<Option<u32>>,
    /// Flows by the millisecond, modulo the packet time, in which they send.
    slots: [Vec<usize>; PTIME_MS as usize],
    cursor_ms: u64,
    next_serial: u32,
    delay: Histogram<u64>,
    report: AudioReport,
}

impl LiveAudio {
    /// Takes the UDP ports `first` and `first + 2` of 127.0.0.1.
    ///
    /// # Errors
    /// One is in use.
    pub fn open(first: u16) -> anyhow::Result<LiveAudio> {
        let bind = |port| Socket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        Ok(LiveAudio {
            sides: [bind(first)?, bind(first + 2)?],
            flows: Vec::new(),
            free: Vec::new(),
            by_port: vec![None; 1 << 16],
            slots: Default::default(),
            cursor_ms: now_ns() / 1_000_000,
            next_serial: 1,
            delay: nanosecond_histogram(),
            report: AudioReport::default(),
        })
    }

    /// What side A (0) or B (1) writes into its descriptions.
    #[must_use]
    pub fn address(&self, side: usize) -> SocketAddrV4 {
        self.sides[side].address()
    }

    /// A call begins: A sends to `to[0]` and B to `to[1]`. Its place, for [`LiveAudio::hush`] and [`LiveAudio::end`].
    pub fn begin(&mut self, to: [SocketAddrV4; 2]) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.flows.extend([None, None]);
            self.flows.len() - 2
        });
        let now_ms = now_ns() / 1_000_000;
        for side in 0..2 {
            let at = place + side;
            self.flows[at] = Some(Flow {
                serial: self.next_serial,
                to: SockaddrIn::from(to[side]),
                sent: 0,
                next_ms: now_ms + 1,
                talks: true,
                delivered: 0,
                heard: false,
            });
            self.next_serial += 1;
            self.slots[((now_ms + 1) % PTIME_MS) as usize].push(at);
            // What A says leaves the server from the port that B talks to.
            self.by_port[usize::from(to[1 - side].port())] = Some(at as u32);
        }
        place
    }

    /// Both sides stop talking; what is on its way still counts.
    pub fn hush(&mut self, place: usize) {
        for flow in self.flows[place..place + 2].iter_mut().flatten() {
            flow.talks = false;
        }
    }

    /// The call is over: its packets are counted. Its place may be another's at once, its ports are nobody's: what is still on
    /// its way from there is no stranger to whoever comes next.
    pub fn end(&mut self, place: usize) {
        for flow in self.flows[place..place + 2].iter().flatten() {
            let heard_from = &mut self.by_port[usize::from(flow.to.port())];
            if heard_from.is_some_and(|at| (place..place + 2).contains(&(at as usize))) {
                *heard_from = None;
            }
        }
        for at in place..place + 2 {
            for slot in &mut self.slots {
                slot.retain(|flow| *flow != at);
            }
            let Some(flow) = self.flows[at].take() else {
                continue;
            };
            self.report.sent += u64::from(flow.sent.saturating_sub(SETTLING_PACKETS));
            self.report.delivered += u64::from(flow.delivered);
            self.report.silent_sides += u64::from(!flow.heard);
        }
        self.free.push(place);
    }

    /// Sends what is due and takes in what has come; how much there was.
    ///
    /// # Errors
    /// A socket fails.
    pub fn step(&mut self) -> anyhow::Result<usize> {
        Ok(self.send_due()? + self.receive()?)
    }

    /// What was counted so far; counting begins anew.
    pub fn take_report(&mut self) -> AudioReport {
        self.report.delay_p99_us = self.delay.value_at_quantile(0.99) as f64 / 1e3;
        self.delay.reset();
        std::mem::take(&mut self.report)
    }

    fn send_due(&mut self) -> anyhow::Result<usize> {
        let now_ms = now_ns() / 1_000_000;
        if now_ms > self.cursor_ms + FORGIVE_MS {
            self.cursor_ms = now_ms - PTIME_MS;
        }
        let mut count = 0;
        while self.cursor_ms < now_ms && count < BATCH {
            self.cursor_ms += 1;
            let slot = (self.cursor_ms % PTIME_MS) as usize;
            for n in 0..self.slots[slot].len() {
                let at = self.slots[slot][n];
                count += usize::from(self.stage(at)?);
            }
        }
        for side in &mut self.sides {
            self.report.refused += side.flush()? as u64;
        }
        Ok(count)
    }

    fn stage(&mut self, at: usize) -> anyhow::Result<bool> {
        let Some(flow) = self.flows[at]
            .as_mut()
            .filter(|flow| flow.talks && flow.next_ms <= self.cursor_ms)
        else {
            return Ok(false);
        };
        flow.next_ms = self.cursor_ms + PTIME_MS;
        let n = flow.sent;
        flow.sent += 1;
        let socket = &mut self.sides[at % 2];
        if socket.is_full() {
            self.report.refused += socket.flush()? as u64;
        }
        let packet = socket.stage(flow.to, PACKET_BYTES);
        let timestamp = n.wrapping_mul(PAYLOAD_BYTES as u32);
        write_header(packet, 0, n == 0, n as u16, timestamp, flow.serial);
        let payload = (&mut packet[HEADER_BYTES..PACKET_BYTES])
            .try_into()
            .expect("a packet is a header and a payload");
        let stamp = Stamp {
            flow: flow.serial,
            seq: n,
            sent_ns: now_ns(),
        };
        stamp.write(Encoding::Raw, payload);
        Ok(true)
    }

    fn receive(&mut self) -> anyhow::Result<usize> {
        let Self {
            sides,
            flows,
            by_port,
            report,
            delay,
            ..
        } = self;
        let mut count = 0;
        for (side, socket) in sides.iter_mut().enumerate() {
            count += socket.receive(|datagram| judge(side, &datagram, flows, by_port, report, delay))?;
        }
        Ok(count)
    }
}

fn judge(
    side: usize,
    datagram: &Received<'_>,
    flows: &mut [Option<Flow>],
    by_port: &[Option<u32>],
    report: &mut AudioReport,
    delay: &mut Histogram<u64>,
) {
    let stamp = read_header(datagram.bytes)
        .and_then(|header| Stamp::read(Encoding::Raw, &datagram.bytes[header.payload_at..]));
    let expected = by_port[usize::from(datagram.from_port)].map(|at| at as usize);
    let flow = expected.and_then(|at| flows[at].as_mut().filter(|_| at % 2 != side));
    match (stamp, flow) {
        (Some(stamp), Some(flow)) if stamp.flow == flow.serial => {
            flow.heard = true;
            flow.delivered += u32::from(stamp.seq >= SETTLING_PACKETS);
            delay.saturating_record(datagram.at_ns.saturating_sub(stamp.sent_ns));
        }
        // The call ended while it was on its way.
        (Some(_), None) => {}
        (Some(_) | None, _) => report.foreign += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn run(audio: &mut LiveAudio, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            audio.step().unwrap();
        }
    }

    #[test]
    fn a_call_s_packets_are_counted_and_a_stranger_s_are_noticed() {
        let mut audio = LiveAudio::open(23_456).unwrap();
        let (a, b) = (audio.address(0), audio.address(1));
        // Without a server each side sends straight to the other, and is heard from the other's port.
        let place = audio.begin([b, a]);
        run(&mut audio, Duration::from_millis(400));
        audio.hush(place);
        run(&mut audio, Duration::from_millis(50));
        audio.end(place);
        let report = audio.take_report();
        assert!(report.sent >= 10 && report.delivered == report.sent, "{report:?}");
        assert_eq!((report.foreign, report.silent_sides), (0, 0), "{report:?}");

        // Packets of a call that is over arrive when its place is another's.
        let place = audio.begin([b, a]);
        std::thread::sleep(Duration::from_millis(45));
        assert!(audio.send_due().unwrap() >= 2);
        audio.end(place);
        let nowhere = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 23_459);
        assert_eq!(audio.begin([nowhere, nowhere]), place);
        assert!(audio.receive().unwrap() >= 2);
        audio.end(place);
        assert_eq!(audio.take_report().foreign, 0);

        // Two calls that are both heard from the same port: one of them is a stranger there.
        let first = audio.begin([b, a]);
        let second = audio.begin([b, a]);
        run(&mut audio, Duration::from_millis(200));
        audio.end(first);
        audio.end(second);
        let report = audio.take_report();
        assert!(report.foreign >= 10 && report.silent_sides == 2, "{report:?}");
    }
}

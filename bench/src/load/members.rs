//! Load of one session with many members: some speak, all are listened to, and what they hear is kept for a few.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use nix::sys::socket::SockaddrIn;
use nix::time::ClockId;
use serde::Serialize;

use super::pace::Schedule;
use super::report::{Quantiles, nanosecond_histogram};
use super::socket::{BATCH, Socket};
use super::stamp::{HEADER_BYTES, read_header, write_header};
use crate::machine::{GENERATOR_PRIORITY, Raised, clock_ns};

/// Lateness beyond which the schedule moves instead of being caught up.
const FORGIVE_NS: u64 = 5_000_000;
/// As in the generator of calls: naps that keep the kernel from stopping a thread of high priority.
const REST_EVERY: Duration = Duration::from_micros(500);
const REST: Duration = Duration::from_micros(20);
const PACKET_NS: u64 = 20_000_000;

/// What a member says, in packets of 20 ms, again and again.
#[derive(Clone, Debug)]
pub struct Speech {
    /// One payload for each packet.
    pub frames: Vec<Vec<u8>>,
    /// RTP payload type.
    pub payload_type: u8,
    /// Length of a packet on the RTP clock.
    pub ticks: u32,
    /// Packets of 20 ms that pass for each that is sent: 1, or more where silence is not transmitted.
    pub every: u32,
}

/// One who is in the session.
#[derive(Clone, Debug)]
pub struct Member {
    /// The server's address for it.
    pub at: SocketAddrV4,
    /// What it says, as an index into [`MembersSpec::speeches`]; `None`: it sends nothing.
    pub says: Option<usize>,
    /// It should be sent something.
    pub hears: bool,
    /// Payloads it is sent are kept.
    pub kept: bool,
}

/// A load.
#[derive(Clone, Debug)]
pub struct MembersSpec {
    /// Everybody.
    pub members: Vec<Member>,
    /// What is said.
    pub speeches: Vec<Speech>,
    /// Not counted.
    pub warm: Duration,
    /// Counted.
    pub window: Duration,
    /// CPU clock of the server.
    pub server_clock: ClockId,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MembersReport {
    /// Members that should hear something.
    pub listeners: usize,
    /// Packets sent to the server in the window.
    pub sent: u64,
    /// Packets that all listeners should have got: by the sequence numbers of those that came in the window, and one each
    /// 20 ms less the one where the window cuts, at least.
    pub expected: u64,
    /// Those that came.
    pub arrived: u64,
    /// Of the listener that got fewest.
    pub fewest: u64,
    /// From one packet of a listener to its next, beyond 20 ms, in us.
    pub late_us: Quantiles,
    /// Share of a core that the server used.
    pub core: f64,
    /// Time given up because the generator was held back.
    pub forgiven_ms: f64,
    /// Payloads by member.
    #[serde(skip)]
    pub heard: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl MembersReport {
    /// Share of packets that did not come.
    #[must_use]
    pub fn loss(&self) -> f64 {
        1.0 - self.arrived as f64 / self.expected.max(1) as f64
    }
}

/// One socket that all members share: the server tells them apart by its own port.
#[derive(Debug)]
pub struct Hall {
    socket: Socket,
}

impl Hall {
    /// Binds the socket.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(port: u16) -> anyhow::Result<Hall> {
        let socket = Socket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        Ok(Hall { socket })
    }

    /// Where every member receives.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.socket.address()
    }

    /// Runs a load to its end.
    ///
    /// # Errors
    /// A socket or the server's clock fails.
    pub fn run(&mut self, spec: &MembersSpec) -> anyhow::Result<MembersReport> {
        let _raised = Raised::raise(GENERATOR_PRIORITY);
        while self.socket.receive(|_| ())? > 0 {}
        let began = Instant::now();
        let mut turn = Turn::new(spec);
        let (opens, closes) = (spec.warm, spec.warm + spec.window);
        let mut cpu_ns = None;
        let mut rested = Instant::now();
        loop {
            let passed = began.elapsed();
            if passed >= closes {
                break;
            }
            if passed >= opens && cpu_ns.is_none() {
                cpu_ns = Some(clock_ns(spec.server_clock)?);
                turn.counts = true;
            }
            let sent = turn.send(&mut self.socket, passed.as_nanos() as u64)?;
            let got = self.socket.receive(|datagram| {
                turn.take(datagram.from_port, datagram.bytes, datagram.at_ns);
            })?;
            if rested.elapsed() >= REST_EVERY || sent + got == 0 {
                std::thread::sleep(REST);
                rested = Instant::now();
            }
        }
        let used = clock_ns(spec.server_clock)? - cpu_ns.context("no window")?;
        Ok(turn.finish(used as f64 / spec.window.as_nanos() as f64))
    }
}

/// What one listener got in the window.
#[derive(Clone, Copy, Debug, Default)]
struct Arrived {
    packets: u64,
    /// Of the first packet, and the newest one.
    sequences: (u16, u16),
}

impl Arrived {
    fn take(&mut self, sequence: u16) {
        if self.packets == 0 {
            self.sequences = (sequence, sequence);
        } else if (sequence.wrapping_sub(self.sequences.1) as i16) > 0 {
            self.sequences.1 = sequence;
        }
        self.packets += 1;
    }

    /// Packets from the first to the newest, whether they came or not. A window is far shorter than a round of numbers.
    fn span(&self) -> u64 {
        let (first, newest) = self.sequences;
        u64::from(newest.wrapping_sub(first)) + u64::from(self.packets > 0)
    }
}

/// A run under way.
struct Turn<'a> {
    spec: &'a MembersSpec,
    schedule: Option<Schedule>,
    /// Members that send, in the order of the schedule's flows, with their packets so far.
    senders: Vec<(usize, u32)>,
    /// Member by the server's port, plus one.
    by_port: Vec<u16>,
    last_ns: Vec<u64>,
    arrived: Vec<Arrived>,
    late: Histogram<u64>,
    counts: bool,
    report: MembersReport,
}

impl<'a> Turn<'a> {
    fn new(spec: &'a MembersSpec) -> Turn<'a> {
        let members = &spec.members;
        let mut by_port = vec![0; 1 << 16];
        for (number, member) in members.iter().enumerate() {
            by_port[usize::from(member.at.port())] = number as u16 + 1;
        }
        let senders: Vec<(usize, u32)> = (0..members.len())
            .filter(|number| members[*number].says.is_some())
            .map(|number| (number, 0))
            .collect();
        Turn {
            spec,
            schedule: (!senders.is_empty()).then(|| Schedule::new(senders.len() as u32, 50, 1, 0)),
            senders,
            by_port,
            last_ns: vec![0; members.len()],
            arrived: vec![Arrived::default(); members.len()],
            late: nanosecond_histogram(),
            counts: false,
            report: MembersReport::default(),
        }
    }

    /// Sends what is due, a batch at most.
    fn send(&mut self, socket: &mut Socket, now_ns: u64) -> anyhow::Result<usize> {
        let Some(schedule) = &mut self.schedule else {
            return Ok(0);
        };
        schedule.forgive(now_ns, FORGIVE_NS);
        let mut count = 0;
        // Packets that are not sent count too, so that a turn stays short.
        for _ in 0..BATCH {
            let Some(flow) = schedule.pop_due(now_ns) else {
                break;
            };
            let (number, passed) = &mut self.senders[flow as usize];
            let member = &self.spec.members[*number];
            let speech = &self.spec.speeches[member.says.expect("only who says something sends")];
            let index = *passed;
            *passed += 1;
            if index % speech.every != flow % speech.every {
                continue;
            }
            let sequence = index / speech.every;
            let frame = &speech.frames[sequence as usize % speech.frames.len()];
            let packet = socket.stage(SockaddrIn::from(member.at), HEADER_BYTES + frame.len());
            let (timestamp, ssrc) = (index.wrapping_mul(speech.ticks), 0x1000 + flow);
            write_header(
                packet,
                speech.payload_type,
                sequence == 0,
                sequence as u16,
                timestamp,
                ssrc,
            );
            packet[HEADER_BYTES..HEADER_BYTES + frame.len()].copy_from_slice(frame);
            count += 1;
        }
        if count > 0 {
            socket.flush()?;
        }
        if self.counts {
            self.report.sent += count as u64;
        }
        Ok(count)
    }

    fn take(&mut self, from_port: u16, bytes: &[u8], at_ns: u64) {
        let Some(number) = usize::from(self.by_port[usize::from(from_port)]).checked_sub(1) else {
            return;
        };
        let Some(header) = read_header(bytes).filter(|header| !(72..=76).contains(&header.payload_type))
        else {
            return;
        };
        let before = std::mem::replace(&mut self.last_ns[number], at_ns);
        if !self.counts {
            return;
        }
        self.arrived[number].take(header.seq);
        if before > 0 {
            self.late
                .saturating_record(at_ns.saturating_sub(before + PACKET_NS));
        }
        if self.spec.members[number].kept {
            let payloads = self.report.heard.entry(number).or_default();
            payloads.push(bytes[header.payload_at..].to_vec());
        }
    }

    fn finish(mut self, core: f64) -> MembersReport {
        let each = (self.spec.window.as_nanos() as u64) / PACKET_NS;
        let listeners = self
            .spec
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.hears);
        let arrived: Vec<Arrived> = listeners.map(|(number, _)| self.arrived[number]).collect();
        self.report.listeners = arrived.len();
        self.report.expected = arrived.iter().map(|it| it.span().max(each - 1)).sum();
        self.report.arrived = arrived.iter().map(|it| it.packets).sum();
        self.report.fewest = arrived.iter().map(|it| it.packets).min().unwrap_or(0);
        self.report.late_us = Quantiles::of(&self.late);
        self.report.core = core;
        self.report.forgiven_ms = self
            .schedule
            .map_or(0.0, |schedule| schedule.forgiven_ns as f64 / 1e6);
        self.report
    }
}

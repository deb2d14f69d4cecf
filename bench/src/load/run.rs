//! The generator's loop.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use nix::sys::socket::SockaddrIn;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use srtp::{Inbound, MasterKey, Outbound, Suite};

use super::attack::Attacker;
use super::flow::{Arrival, RxFlow, TxFlow};
use super::pace::{Schedule, Seeded};
use super::report::{LoadReport, Quantiles, nanosecond_histogram};
use super::sides::Sides;
use super::socket::{BATCH, Received};
use super::stamp::{
    Encoding, HEADER_BYTES, PACKET_BYTES, PAYLOAD_BYTES, SLOT_BYTES, Stamp, TRAILER_BYTES, read_header,
    write_header,
};
use super::tone::{self, Heard};
use super::{Codec, LoadSpec, Payload, SrtpKeys};
use crate::machine::{self, GENERATOR_CORE, GENERATOR_PRIORITY, Raised};

/// Lateness beyond which the schedule moves instead of being caught up.
const FORGIVE_NS: u64 = 5_000_000;
/// A thread that spins under SCHED_FIFO is stopped by the kernel for 50 ms in each second as soon as anything else
/// wants its core. Short naps of its own, often, leave the same share to others without the stall.
const REST_EVERY_NS: u64 = 500_000;
const REST_NS: u64 = 20_000;
/// After the window, late packets are still awaited this long.
const DRAIN_NS: u64 = 400_000_000;
/// RTCP and telephone-events repeat after this many packets of a flow: 5 s.
const REPEAT_PACKETS: u32 = 250;
/// Packets of one digit: updates, then three end packets (RFC 4733 §2.5.1.4).
const EVENT_PACKETS: u32 = 8;
const EVENT_PAYLOAD_TYPE: u8 = 101;
/// The RTCP sockets are looked at every so many turns of the loop: they are never busy.
const RTCP_TURNS: u32 = 256;
/// Audio kept per flow for the judge: half a second.
const HEARD_BYTES: usize = 4000;
/// What a packet says takes this long.
const FRAME_NS: u64 = 20_000_000;

/// Runs the load on the calling thread, pinned, and under `SCHED_FIFO` meanwhile where that is permitted.
///
/// # Errors
/// No calls, a socket fails, or a tone run is asked for more calls than it can keep audio for.
pub fn run(sides: &mut Sides, spec: &LoadSpec) -> anyhow::Result<LoadReport> {
    anyhow::ensure!(!spec.calls.is_empty(), "a load needs at least one call");
    anyhow::ensure!(
        spec.calls.len() <= 0x7fff,
        "at most 32767 calls: flows are numbered in 16 bits"
    );
    machine::pin_this_thread(GENERATOR_CORE)?;
    let raised = Raised::raise(GENERATOR_PRIORITY);
    let mut report = Generator::new(sides, spec)?.run()?;
    report.generator_fifo = raised.is_some();
    Ok(report)
}

pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("the wall clock always answers");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn cpu_ns(clock: Option<ClockId>) -> anyhow::Result<u64> {
    let Some(clock) = clock else { return Ok(0) };
    let used = clock_gettime(clock).context("the server's CPU clock: did it die?")?;
    Ok(used.tv_sec() as u64 * 1_000_000_000 + used.tv_nsec() as u64)
}

struct Generator<'a> {
    sides: &'a mut Sides,
    spec: &'a LoadSpec,
    tx: Vec<TxFlow>,
    tones: Vec<[u8; PAYLOAD_BYTES]>,
    sink: Sink,
    schedule: Schedule,
    lateness: Histogram<u64>,
    sent: u64,
    refused: u64,
    events_sent: u64,
    victims_sent: u64,
    turns: u32,
}

/// Everything the receiving side updates, apart from the sockets so that both can be borrowed.
struct Sink {
    rx: Vec<RxFlow>,
    /// By the server's port: the flow expected from there, and the socket it must come to. None without a server.
    flow_by_port: Option<Vec<Option<(u16, u16)>>>,
    tag: u32,
    encoding: Option<Encoding>,
    events: bool,
    window: std::ops::Range<u64>,
    delay: Histogram<u64>,
    gap_late: Histogram<u64>,
    codecs: [Codec; 2],
    /// For contexts that ask for a time.
    began: Instant,
    arrived: u64,
    delivered: u64,
    report: LoadReport,
}

/// Frames of Opus legs, made once for each tone.
#[derive(Default)]
struct Frames {
    none: Option<Rc<[Box<[u8]>]>>,
    by_hz: BTreeMap<u32, Rc<[Box<[u8]>]>>,
}

impl Frames {
    fn of(&mut self, codec: Codec, flow: u32) -> anyhow::Result<Rc<[Box<[u8]>]>> {
        if codec != Codec::Opus {
            return Ok(self.none.get_or_insert_with(|| Rc::from([])).clone());
        }
        let hz = tone::tone_hz(flow);
        if let Some(frames) = self.by_hz.get(&hz) {
            return Ok(frames.clone());
        }
        let frames: Rc<[Box<[u8]>]> = tone::opus_frames(flow)?.into();
        self.by_hz.insert(hz, frames.clone());
        Ok(frames)
    }
}

fn master(key_salt: &[u8; 30]) -> MasterKey {
    MasterKey::new(Suite::AesCm128HmacSha1_80, key_salt).expect("30 bytes are this suite's")
}

fn seal(keys: &SrtpKeys) -> Box<Outbound> {
    Box::new(Outbound::new(&master(&keys.to_server)))
}

fn open(keys: &SrtpKeys) -> Box<Inbound> {
    Box::new(Inbound::new(&master(&keys.from_server)))
}

/// How stamps are written, or each flow's tone.
fn payload_of(spec: &LoadSpec, flows: usize) -> anyhow::Result<(Option<Encoding>, Vec<[u8; PAYLOAD_BYTES]>)> {
    Ok(match spec.payload {
        Payload::Stamp => (Some(Encoding::Raw), Vec::new()),
        Payload::SignStamp => (Some(Encoding::Sign), Vec::new()),
        Payload::Tone => {
            let calls = spec.calls.len();
            anyhow::ensure!(
                calls <= 1000,
                "tone mode keeps audio of each leg: at most 1000 calls, not {calls}"
            );
            // An Opus leg says frames instead.
            let tone = |flow: usize| tone::tone_frame(flow as u32, spec.codecs[flow % 2]);
            (None, (0..flows).map(tone).collect())
        }
    })
}

/// The receiving half of every flow.
fn receiving(spec: &LoadSpec, flows: usize) -> Vec<RxFlow> {
    let targets = spec.attack.as_ref().map_or(&[][..], |attack| &attack.targets);
    let receive = |flow: usize| {
        let call = &spec.calls[flow / 2];
        let is_victim = targets.contains(&call.a) || targets.contains(&call.b);
        // Flow 2n is said by A and heard by B.
        let keys = call.srtp.filter(|_| flow.is_multiple_of(2));
        RxFlow::new(is_victim, keys.map(|keys| open(&keys)))
    };
    (0..flows).map(receive).collect()
}

impl<'a> Generator<'a> {
    fn new(sides: &'a mut Sides, spec: &'a LoadSpec) -> anyhow::Result<Generator<'a>> {
        let flows = 2 * spec.calls.len();
        let start = now_ns() + 1_000_000;
        let mut random = Seeded::new(spec.seed ^ start);
        let mut tx = Vec::with_capacity(flows);
        let mut flow_by_port = vec![None; 1 << 16];
        let mut frames = Frames::default();
        for (index, call) in spec.calls.iter().enumerate() {
            for (side, to) in [call.a, call.b].into_iter().enumerate() {
                let rtcp = std::net::SocketAddrV4::new(*to.ip(), to.port() + 1);
                tx.push(TxFlow {
                    to: SockaddrIn::from(to),
                    to_rtcp: SockaddrIn::from(rtcp),
                    socket_index: sides.socket_index(index, side),
                    payload_type: spec.codecs[side].payload_type(),
                    ssrc: random.next() as u32,
                    sent: 0,
                    first_seq: random.next() as u16,
                    first_timestamp: random.next() as u32,
                    ticks: spec.codecs[side].ticks(),
                    seal: call.srtp.filter(|_| side == 1).map(|keys| seal(&keys)),
                    frames: frames.of(spec.codecs[side], (2 * index + side) as u32)?,
                });
            }
            // What A says leaves the server from B's port, and the other way round.
            let hears = |side| sides.socket_index(index, side) as u16;
            flow_by_port[usize::from(call.b.port())] = Some(((2 * index) as u16, hears(1)));
            flow_by_port[usize::from(call.a.port())] = Some(((2 * index + 1) as u16, hears(0)));
        }
        let (encoding, tones) = payload_of(spec, flows)?;
        let window_start = start + spec.warm.as_nanos() as u64;
        Ok(Generator {
            sides,
            tx,
            tones,
            sink: Sink {
                rx: receiving(spec, flows),
                flow_by_port: (!spec.direct).then_some(flow_by_port),
                // Never 0xffff, the tag of a spoofed stamp.
                tag: (random.next() as u32 & 0x7fff) << 16,
                encoding,
                events: spec.events,
                window: window_start..window_start + spec.window.as_nanos() as u64,
                delay: nanosecond_histogram(),
                gap_late: nanosecond_histogram(),
                codecs: spec.codecs,
                began: Instant::now(),
                arrived: 0,
                delivered: 0,
                report: LoadReport::default(),
            },
            schedule: Schedule::new(flows as u32, spec.flow_pps, spec.seed, start),
            lateness: nanosecond_histogram(),
            spec,
            sent: 0,
            refused: 0,
            events_sent: 0,
            victims_sent: 0,
            turns: 0,
        })
    }

    fn run(mut self) -> anyhow::Result<LoadReport> {
        let window = self.sink.window.clone();
        self.drain_backlog()?;
        let mut attacker = match &self.spec.attack {
            Some(attack) => Some(Attacker::open(attack, self.spec.seed, now_ns())?),
            None => None,
        };
        self.spin_until(window.start, &mut attacker)?;
        let (cpu_start, counted_from) = (cpu_ns(self.spec.server_clock)?, now_ns());
        (self.sent, self.victims_sent, self.sink.arrived, self.events_sent) = (0, 0, 0, 0);
        self.sink.report.events_heard = 0;
        self.lateness.reset();
        let forgiven_before = self.schedule.forgiven_ns;
        self.spin_until(window.end, &mut attacker)?;
        let (cpu_end, counted_to) = (cpu_ns(self.spec.server_clock)?, now_ns());
        let mut report = std::mem::take(&mut self.sink.report);
        report.arrived = self.sink.arrived;
        report.sent = self.sent;
        report.victims_sent = self.victims_sent;
        report.seconds = (counted_to - counted_from) as f64 * 1e-9;
        report.server_cpu_seconds = (cpu_end - cpu_start) as f64 * 1e-9;
        report.forgiven_ms = (self.schedule.forgiven_ns - forgiven_before) as f64 * 1e-6;
        report.events_sent = self.events_sent;
        report.hostile_sent = attacker.map_or(0, |a| a.sent);
        // The counts go on while the last packets of the window come in.
        self.sink.report = report;
        self.drain_until(window.end + DRAIN_NS)?;
        Ok(self.finish())
    }

    /// Sends and receives until `end_ns`.
    fn spin_until(&mut self, end_ns: u64, attacker: &mut Option<Attacker>) -> anyhow::Result<()> {
        let mut rested_ns = now_ns();
        loop {
            let now = now_ns();
            if now >= end_ns {
                return Ok(());
            }
            if now - rested_ns > REST_EVERY_NS {
                nap(REST_NS);
                rested_ns = now_ns();
                continue;
            }
            let sent = self.send_due(now)?;
            if let Some(attacker) = attacker {
                attacker.step(now)?;
            }
            let received = self.receive_all()?;
            if sent + received == 0 && attacker.is_none() {
                pause_before(self.schedule.due_ns());
            }
        }
    }

    /// Sends at most one batch per socket of what is due.
    #[inline]
    fn send_due(&mut self, now: u64) -> anyhow::Result<usize> {
        self.schedule.forgive(now, FORGIVE_NS);
        let mut count = 0;
        while count < BATCH {
            let due = self.schedule.due_ns();
            let Some(flow) = self.schedule.pop_due(now) else {
                break;
            };
            self.lateness.saturating_record(now - due);
            self.stage(flow as usize)?;
            count += 1;
        }
        if count > 0 {
            for socket in &mut self.sides.rtp {
                self.refused += socket.flush()? as u64;
            }
            self.sent += count as u64;
        }
        Ok(count)
    }

    /// Writes the next packet of a flow straight into its socket's batch.
    #[inline]
    fn stage(&mut self, index: usize) -> anyhow::Result<()> {
        let flow = &mut self.tx[index];
        let n = flow.sent;
        flow.sent += 1;
        self.victims_sent += u64::from(self.sink.rx[index].victim);
        let phase = (n + 97 * index as u32) % REPEAT_PACKETS;
        let seq = flow.first_seq.wrapping_add(n as u16);
        let timestamp = flow.first_timestamp.wrapping_add(n.wrapping_mul(flow.ticks));
        let trailer = if flow.seal.is_some() { TRAILER_BYTES } else { 0 };
        let socket = &mut self.sides.rtp[flow.socket_index];
        if self.spec.events && phase < EVENT_PACKETS {
            let event_start = timestamp.wrapping_sub(phase * PAYLOAD_BYTES as u32);
            let packet = socket.stage(flow.to, HEADER_BYTES + 4);
            write_header(
                packet,
                EVENT_PAYLOAD_TYPE,
                phase == 0,
                seq,
                event_start,
                flow.ssrc,
            );
            packet[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&event_payload(index, phase));
            self.events_sent += 1;
        } else if !flow.frames.is_empty() {
            let frame = &flow.frames[n as usize % flow.frames.len()];
            let packet = socket.stage(flow.to, HEADER_BYTES + frame.len());
            write_header(packet, flow.payload_type, n == 0, seq, timestamp, flow.ssrc);
            packet[HEADER_BYTES..HEADER_BYTES + frame.len()].copy_from_slice(frame);
        } else {
            let packet = socket.stage(flow.to, PACKET_BYTES + trailer);
            write_header(packet, flow.payload_type, n == 0, seq, timestamp, flow.ssrc);
            let payload: &mut [u8; PAYLOAD_BYTES] = (&mut packet[HEADER_BYTES..PACKET_BYTES])
                .try_into()
                .expect("a packet is a header and a payload");
            match self.sink.encoding {
                Some(encoding) => {
                    let stamp = Stamp {
                        flow: self.sink.tag | index as u32,
                        seq: n,
                        sent_ns: now_ns(),
                    };
                    stamp.write(encoding, payload);
                }
                None => *payload = self.tones[index],
            }
            if let Some(seal) = &mut flow.seal {
                seal.protect_rtp(packet, PACKET_BYTES)
                    .context("protecting a packet of the generator")?;
            }
        }
        if self.spec.rtcp && phase == REPEAT_PACKETS / 2 {
            let socket = &mut self.sides.rtcp[flow.socket_index];
            let packet = socket.stage(flow.to_rtcp, SENDER_REPORT_BYTES);
            write_sender_report(packet, flow.ssrc, timestamp, n);
            self.refused += socket.flush()? as u64;
        }
        Ok(())
    }

    #[inline]
    fn receive_all(&mut self) -> anyhow::Result<usize> {
        let mut count = 0;
        for (index, socket) in self.sides.rtp.iter_mut().enumerate() {
            count += socket.receive(|mut datagram| self.sink.take(index as u16, &mut datagram))?;
        }
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(RTCP_TURNS) {
            for socket in &mut self.sides.rtcp {
                self.sink.report.rtcp_received += socket.receive(|_| ())? as u64;
            }
        }
        Ok(count)
    }

    /// Throws away what earlier runs left in the sockets.
    fn drain_backlog(&mut self) -> anyhow::Result<()> {
        for socket in self.sides.rtp.iter_mut().chain(&mut self.sides.rtcp) {
            while socket.receive(|_| ())? > 0 {}
        }
        Ok(())
    }

    fn drain_until(&mut self, end_ns: u64) -> anyhow::Result<()> {
        while now_ns() < end_ns {
            if self.receive_all()? == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> LoadReport {
        let mut report = std::mem::take(&mut self.sink.report);
        report.calls = self.spec.calls.len();
        report.delivered = self.sink.delivered;
        report.refused = self.refused;
        report.delay_us = Quantiles::of(&self.sink.delay);
        report.gap_late_us = Quantiles::of(&self.sink.gap_late);
        report.lateness_us = Quantiles::of(&self.lateness);
        if self.spec.payload == Payload::Tone {
            for (index, flow) in self.sink.rx.iter().enumerate() {
                // Flow 2n is said by A and heard by B.
                let codec = self.spec.codecs[1 - index % 2];
                let samples = match codec {
                    Codec::Opus => {
                        let from = std::iter::once(&0).chain(&flow.ends);
                        let packets = from.zip(&flow.ends).map(|(from, to)| &flow.heard[*from..*to]);
                        // What is no Opus is no tone either.
                        tone::opus_samples(packets).unwrap_or_default()
                    }
                    Codec::Pcmu | Codec::Pcma => {
                        let decode = tone::decoder(codec);
                        flow.heard.iter().map(|byte| decode(*byte)).collect()
                    }
                };
                match tone::judge(&samples, index as u32) {
                    Heard::Partner => report.tones_right += 1,
                    Heard::Other => report.tones_wrong += 1,
                    Heard::Silence => report.tones_silent += 1,
                }
            }
        }
        report
    }
}

impl Sink {
    /// Judges one datagram that came to a side's socket.
    #[inline]
    fn take(&mut self, socket_index: u16, datagram: &mut Received<'_>) {
        let expected = match &self.flow_by_port {
            Some(flows) => flows[usize::from(datagram.from_port)],
            None => self.stamped_flow(socket_index, datagram.bytes),
        };
        let Some((expected, socket_expected)) = expected else {
            self.report.unknown_source += 1;
            return;
        };
        let mut length = datagram.bytes.len();
        if let Some(open) = &mut self.rx[usize::from(expected)].open {
            // RTCP that is muxed is not looked at.
            match open.unprotect_rtp(self.began, datagram.bytes) {
                Ok(clear) => length = clear,
                Err(_) => {
                    self.report.unauthentic += 1;
                    return;
                }
            }
        }
        let Some(header) = read_header(&datagram.bytes[..length]).filter(|_| socket_index == socket_expected)
        else {
            self.report.foreign += 1;
            return;
        };
        self.arrived += 1;
        let payload = &datagram.bytes[header.payload_at..length];
        if self.events && header.payload_type == EVENT_PAYLOAD_TYPE {
            self.take_event(expected, payload, datagram.at_ns);
            return;
        }
        let Some(encoding) = self.encoding else {
            self.take_tone(expected, payload, datagram.at_ns);
            return;
        };
        match Stamp::read(encoding, payload) {
            Some(stamp) if stamp.flow == self.tag | u32::from(expected) => {
                let (arrival, in_line) = self.rx[usize::from(expected)].book(&stamp, header.seq);
                self.report.sequence_breaks += u64::from(!in_line);
                match arrival {
                    Arrival::InOrder => {}
                    Arrival::Reordered => self.report.reordered += 1,
                    Arrival::Duplicate => {
                        self.report.duplicates += 1;
                        return;
                    }
                }
                if self.window.contains(&stamp.sent_ns) {
                    self.delivered += 1;
                    self.report.victims_delivered += u64::from(self.rx[usize::from(expected)].victim);
                    self.delay
                        .saturating_record(datagram.at_ns.saturating_sub(stamp.sent_ns));
                }
            }
            Some(stamp) if stamp.flow >> 31 == 0 && stamp.flow & 0x7fff_0000 != self.tag => {
                self.report.stale += 1
            }
            _ => self.report.foreign += 1,
        }
    }

    /// Without a server all packets come from one port, so the stamp is believed.
    fn stamped_flow(&self, socket_index: u16, packet: &[u8]) -> Option<(u16, u16)> {
        let stamp = Stamp::read(self.encoding?, packet.get(HEADER_BYTES..)?)?;
        (usize::from(stamp.flow as u16) < self.rx.len()).then_some((stamp.flow as u16, socket_index))
    }

    fn take_event(&mut self, expected: u16, payload: &[u8], at_ns: u64) {
        if payload.first() == Some(&event_payload(usize::from(expected), 0)[0]) {
            self.report.events_heard += 1;
        } else {
            self.report.events_wrong += 1;
        }
        self.delivered += u64::from(self.window.contains(&at_ns));
    }

    fn take_tone(&mut self, expected: u16, payload: &[u8], at_ns: u64) {
        let flow = &mut self.rx[usize::from(expected)];
        let before = std::mem::replace(&mut flow.last_ns, at_ns);
        let heard = &mut flow.heard;
        if self.window.contains(&at_ns) {
            self.delivered += 1;
            if self.window.contains(&before) {
                self.gap_late
                    .saturating_record(at_ns.saturating_sub(before + FRAME_NS));
            }
            if self.codecs[1 - usize::from(expected) % 2] == Codec::Opus {
                // Whole packets only; half a second of them.
                if flow.ends.len() < HEARD_BYTES / PAYLOAD_BYTES {
                    heard.extend_from_slice(payload);
                    flow.ends.push(heard.len());
                }
                return;
            }
            let room = HEARD_BYTES - heard.len().min(HEARD_BYTES);
            heard.extend_from_slice(&payload[..payload.len().min(room)]);
        }
    }
}

/// Sleeps when the next packet is far enough away that a wake-up is not late for it.
fn pause_before(due_ns: u64) {
    let wait_ns = due_ns.saturating_sub(now_ns());
    if wait_ns > 300_000 {
        nap((wait_ns - 150_000).min(1_000_000));
    }
}

fn nap(ns: u64) {
    let length = nix::sys::time::TimeSpec::from(Duration::from_nanos(ns));
    // An early return only means one more turn of the loop.
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &length);
}

/// The payload of a flow's digit in its `phase`-th packet (RFC 4733 §2.3).
fn event_payload(flow_index: usize, phase: u32) -> [u8; 4] {
    let end = phase + 3 >= EVENT_PACKETS;
    let duration = (phase.min(EVENT_PACKETS - 3) + 1) as u16 * PAYLOAD_BYTES as u16;
    let [high, low] = duration.to_be_bytes();
    [(flow_index % 16) as u8, u8::from(end) << 7 | 10, high, low]
}

/// A sender report without report blocks (RFC 3550 §6.4.1) and an empty SDES CNAME chunk after it (§6.1 wants both).
const SENDER_REPORT_BYTES: usize = 28 + 16;

fn write_sender_report(packet: &mut [u8; SLOT_BYTES], ssrc: u32, timestamp: u32, sent: u32) {
    packet[..4].copy_from_slice(&[0x80, 200, 0, 6]);
    packet[4..8].copy_from_slice(&ssrc.to_be_bytes());
    // NTP era 0 begins 2 208 988 800 s before the Unix epoch.
    let now = now_ns();
    let seconds = (now / 1_000_000_000 + 2_208_988_800) as u32;
    let fraction = (((now % 1_000_000_000) << 32) / 1_000_000_000) as u32;
    packet[8..12].copy_from_slice(&seconds.to_be_bytes());
    packet[12..16].copy_from_slice(&fraction.to_be_bytes());
    packet[16..20].copy_from_slice(&timestamp.to_be_bytes());
    packet[20..24].copy_from_slice(&sent.to_be_bytes());
    packet[24..28].copy_from_slice(&sent.wrapping_mul(PAYLOAD_BYTES as u32).to_be_bytes());
    packet[28..32].copy_from_slice(&[0x81, 202, 0, 3]);
    packet[32..36].copy_from_slice(&ssrc.to_be_bytes());
    packet[36..44].copy_from_slice(&[1, 5, b'b', b'e', b'n', b'c', b'h', 0]);
}

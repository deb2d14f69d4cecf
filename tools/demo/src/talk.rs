//! The audio of a call: sends a tone every 20 ms and keeps what it hears.

use std::{
    f64::consts::TAU,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader, RtpReader},
    quality::{CodecImpairment, QualityInputs, mos},
    receive::ReceiveStats,
    units::{ClockRate, PayloadType, RtpTimestamp, Ssrc},
};

use crate::stop::Stop;

/// Of what is said and heard.
pub const RATE_HZ: u32 = 8_000;
/// Samples in a packet.
pub const FRAME_SAMPLES: usize = 160;
const FRAME: Duration = Duration::from_millis(20);
/// 100 ms.
pub const STRETCH: usize = RATE_HZ as usize / 10;
/// How long the last packets may take to arrive.
const LINGER: Duration = Duration::from_millis(100);
/// What is said, in units of a sample.
pub const AMPLITUDE: f64 = 8_000.0;
/// The level of what is said, in dB below a full-scale sine.
pub const TONE_DB: f64 = -12.2;
/// Heard audio kept for measuring: ten minutes.
const SAMPLES_MAX: usize = RATE_HZ as usize * 600;

/// A G.711 law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// PCMU.
    Ulaw,
    /// PCMA.
    Alaw,
}

impl Law {
    /// By its name in a description.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ulaw, Self::Alaw]
            .into_iter()
            .find(|law| law.name().eq_ignore_ascii_case(name))
    }

    /// Its name in a description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ulaw => "PCMU",
            Self::Alaw => "PCMA",
        }
    }

    fn encode(self, pcm: &[i16], payload: &mut [u8]) -> usize {
        match self {
            Self::Ulaw => codecs::g711::encode_ulaw(pcm, payload),
            Self::Alaw => codecs::g711::encode_alaw(pcm, payload),
        }
    }

    fn decode(self, payload: &[u8], pcm: &mut [i16]) -> usize {
        match self {
            Self::Ulaw => codecs::g711::decode_ulaw(payload, pcm),
            Self::Alaw => codecs::g711::decode_alaw(payload, pcm),
        }
    }
}

/// How a call's audio is sent and received.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Where to.
    pub remote: SocketAddr,
    /// Law of both ways.
    pub law: Law,
    /// Payload type of what we send.
    pub tx_payload_type: PayloadType,
    /// Payload type of what we receive.
    pub rx_payload_type: PayloadType,
    /// The tone we send, Hz; a multiple of 10.
    pub hz: f64,
}

/// What was sent and heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// Packets that did not arrive, by sequence number.
    pub lost: i64,
    /// Datagrams that are not RTP of this call.
    pub strange: u64,
    /// Changes of the sender's SSRC.
    pub ssrc_changes: u64,
    /// Interarrival jitter at the end (RFC 3550).
    pub jitter: Duration,
    /// Longest pause between two packets.
    pub gap_max: Duration,
    /// Everything heard, 8 kHz.
    pub pcm: Vec<i16>,
    /// How many packets had been sent when each of those in `pcm` came.
    pub sent_by_then: Vec<u64>,
}

/// A call's audio in a thread of its own.
#[derive(Debug)]
pub struct Talk {
    stop: Stop,
    thread: JoinHandle<Result<Heard>>,
}

/// A socket in a range of ports of an own address, at an even one.
///
/// # Errors
/// All are taken.
pub fn bind(ip: IpAddr, ports: &RangeInclusive<u16>) -> Result<UdpSocket> {
    let even = ports.clone().filter(|port| port % 2 == 0);
    let socket = even.into_iter().find_map(|port| UdpSocket::bind((ip, port)).ok());
    socket.with_context(|| {
        format!(
            "every even port from {} to {} (udp, {ip}) is in use; choose another range with --media-ports",
            ports.start(),
            ports.end()
        )
    })
}

impl Talk {
    /// Begins to talk and listen.
    ///
    /// # Errors
    /// No thread.
    pub fn start(socket: UdpSocket, line: Line) -> Result<Self> {
        let stop = Stop::default();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("audio".into())
            .spawn(move || Voice::new(&socket, line).run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Stops talking, listens for what is still on its way, and tells.
    ///
    /// # Errors
    /// The socket failed.
    pub fn end(self) -> Result<Heard> {
        self.stop.raise();
        self.thread
            .join()
            .map_err(|_| anyhow!("the audio thread panicked"))?
    }
}

struct Voice<'a> {
    socket: &'a UdpSocket,
    line: Line,
    port: u16,
    heard: Heard,
    stats: ReceiveStats,
    ssrc: Option<Ssrc>,
    last: Option<Instant>,
}

impl<'a> Voice<'a> {
    fn new(socket: &'a UdpSocket, line: Line) -> Self {
        Self {
            socket,
            line,
            port: socket.local_addr().map_or(0, |addr| addr.port()),
            heard: Heard {
                sent: 0,
                received: 0,
                lost: 0,
                strange: 0,
                ssrc_changes: 0,
                jitter: Duration::ZERO,
                gap_max: Duration::ZERO,
                pcm: Vec::new(),
                sent_by_then: Vec::new(),
            },
            stats: ReceiveStats::with_probation(1),
            ssrc: None,
            last: None,
        }
    }

    fn run(mut self, stop: &Stop) -> Result<Heard> {
        let start = Instant::now();
        let mut index = 0;
        while !stop.is_raised() {
            let packet = self.frame(index);
            self.socket
                .send_to(&packet, self.line.remote)
                .with_context(|| format!("sending audio to {}", self.line.remote))?;
            self.heard.sent += 1;
            index += 1;
            self.listen_until(start + FRAME * u32::try_from(index).unwrap_or(u32::MAX))?;
        }
        self.listen_until(Instant::now() + LINGER)?;
        self.heard.lost = self.stats.lost().into();
        self.heard.jitter = self.stats.jitter(ClockRate::HZ_8000);
        Ok(self.heard)
    }

    /// Packet number `index` of the tone.
    fn frame(&self, index: usize) -> [u8; FIXED_HEADER_BYTES + FRAME_SAMPLES] {
        let mut packet = [0; FIXED_HEADER_BYTES + FRAME_SAMPLES];
        let header = RtpHeader {
            marker: index == 0,
            payload_type: self.line.tx_payload_type,
            sequence: (index as u16).wrapping_add(self.port),
            timestamp: RtpTimestamp(((index * FRAME_SAMPLES) as u32).wrapping_add(self.port.into())),
            ssrc: Ssrc(0x5eed_0000 | u32::from(self.port)),
        };
        header.write_to(&mut packet);
        let pcm: [i16; FRAME_SAMPLES] = std::array::from_fn(|n| {
            let at = (index * FRAME_SAMPLES + n) as f64 / f64::from(RATE_HZ);
            (AMPLITUDE * (TAU * self.line.hz * at).sin()) as i16
        });
        self.line.law.encode(&pcm, &mut packet[FIXED_HEADER_BYTES..]);
        packet
    }

    fn listen_until(&mut self, end: Instant) -> Result<()> {
        let mut buffer = [0; 2_048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.socket
                .set_read_timeout(Some(left))
                .context("read time-out")?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) if from == self.line.remote => self.hear(&buffer[..length]),
                Ok(_) => self.heard.strange += 1,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::TimedOut
                            | std::io::ErrorKind::Interrupted
                    ) => {}
                // The media host has closed the port before our last packets came.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error).context("receiving audio"),
            }
        }
    }

    fn hear(&mut self, datagram: &[u8]) {
        let packet = RtpReader::parse(datagram);
        let Ok(packet) = packet.map_err(drop).and_then(|packet| {
            (packet.payload_type() == self.line.rx_payload_type)
                .then_some(packet)
                .ok_or(())
        }) else {
            self.heard.strange += 1;
            return;
        };
        let now = Instant::now();
        self.heard.received += 1;
        if self.ssrc.is_some_and(|ssrc| ssrc != packet.ssrc()) {
            self.heard.ssrc_changes += 1;
        }
        self.ssrc = Some(packet.ssrc());
        self.stats
            .on_packet(packet.sequence(), packet.timestamp(), now, ClockRate::HZ_8000);
        let gap = self.last.map_or(Duration::ZERO, |last| now - last);
        self.heard.gap_max = self.heard.gap_max.max(gap);
        self.last = Some(now);
        let at = self.heard.pcm.len();
        if at < SAMPLES_MAX {
            self.heard.sent_by_then.push(self.heard.sent);
            self.heard.pcm.resize(at + packet.payload().len(), 0);
            self.line.law.decode(packet.payload(), &mut self.heard.pcm[at..]);
        }
    }
}

impl Heard {
    /// How much of what was heard, from its beginning, is music of this tone, in samples.
    pub fn music_samples(&self, hz: f64) -> usize {
        let is_music = |stretch: &&[i16]| level_db(stretch, hz, RATE_HZ) > TONE_DB - 6.0;
        self.pcm.chunks_exact(STRETCH).take_while(is_music).count() * STRETCH
    }

    /// Level of `hz` in what was heard up to here, dB below a full-scale sine; -100 at least.
    pub fn level_db_until(&self, end: usize, hz: f64) -> f64 {
        level_db(&self.pcm[..end.min(self.pcm.len())], hz, RATE_HZ)
    }

    /// As [`Heard::level_db_until`], from here on.
    pub fn level_db_from(&self, begin: usize, hz: f64) -> f64 {
        level_db(&self.pcm[begin.min(self.pcm.len())..], hz, RATE_HZ)
    }

    /// Mean opinion score of what was heard (ITU-T G.107): 1.0 to 4.5, 0 when nothing was.
    pub fn mos(&self) -> f32 {
        if self.received == 0 {
            return 0.0;
        }
        let lost = self.lost.max(0) as f32;
        mos(&QualityInputs {
            codec: CodecImpairment::G711,
            loss: lost / (lost + self.received as f32),
            burst_ratio: 1.0,
            // Packetisation, and a jitter buffer of twice the jitter.
            delay: FRAME + self.jitter * 2,
        })
    }
}

/// Level of a tone, dB below a full-scale sine; -100 at least. Over stretches of 100 ms, in which the tones used here have
/// whole periods.
pub fn level_db(pcm: &[i16], hz: f64, rate_hz: u32) -> f64 {
    let stretches = pcm.chunks_exact(rate_hz as usize / 10);
    let count = stretches.len().max(1) as f64;
    let square = |stretch| codecs::goertzel::amplitude(stretch, hz, rate_hz).powi(2);
    let amplitude = (stretches.map(square).sum::<f64>() / count).sqrt();
    (20.0 * (amplitude / f64::from(i16::MAX)).max(1e-5).log10()).max(-100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_tone_is_measured_at_its_level_and_others_are_absent() {
        let socket = bind(LOCAL, &(6_900..=6_998)).unwrap();
        for law in [Law::Ulaw, Law::Alaw] {
            let line = Line {
                remote: "127.0.0.1:9".parse().unwrap(),
                law,
                tx_payload_type: PayloadType::PCMU,
                rx_payload_type: PayloadType::PCMU,
                hz: 440.0,
            };
            let voice = Voice::new(&socket, line);
            let mut pcm = vec![0; 50 * FRAME_SAMPLES];
            for (index, frame) in pcm.chunks_exact_mut(FRAME_SAMPLES).enumerate() {
                law.decode(&voice.frame(index)[FIXED_HEADER_BYTES..], frame);
            }
            assert!((level_db(&pcm, 440.0, RATE_HZ) - TONE_DB).abs() < 0.2, "{law:?}");
            assert!(level_db(&pcm, 1_000.0, RATE_HZ) < -60.0, "{law:?}");
        }
        assert_eq!(level_db(&[0; 1_600], 440.0, RATE_HZ), -100.0);
        assert_eq!(level_db(&[], 440.0, RATE_HZ), -100.0);
    }

    #[test]
    fn music_ends_where_somebody_begins_to_speak() {
        let tone = |hz: f64, count: usize| {
            (0..count).map(move |at| (AMPLITUDE * (TAU * hz * at as f64 / f64::from(RATE_HZ)).sin()) as i16)
        };
        let mut heard = Voice::new(
            &bind(LOCAL, &(6_900..=6_998)).unwrap(),
            Line {
                remote: "127.0.0.1:9".parse().unwrap(),
                law: Law::Ulaw,
                tx_payload_type: PayloadType::PCMU,
                rx_payload_type: PayloadType::PCMU,
                hz: 440.0,
            },
        )
        .heard;
        heard.pcm = tone(600.0, 4_320).chain(tone(440.0, 8_000)).collect();
        let end = heard.music_samples(600.0);
        assert_eq!(end, 4_000, "whole stretches");
        assert!((heard.level_db_until(end, 600.0) - TONE_DB).abs() < 0.2);
        assert!((heard.level_db_from(end + STRETCH, 440.0) - TONE_DB).abs() < 0.2);
        assert!(
            heard.level_db_from(end + STRETCH, 600.0) < -60.0,
            "none is left over"
        );
        assert_eq!(heard.music_samples(440.0), 0, "another tone is no music");
    }

    #[test]
    fn two_voices_hear_each_other() {
        let sockets = [(); 2].map(|()| bind(LOCAL, &(6_900..=6_998)).unwrap());
        let ports = [0, 1].map(|index: usize| sockets[index].local_addr().unwrap());
        let [a, b] = sockets;
        let line = |remote, hz| Line {
            remote,
            law: Law::Ulaw,
            tx_payload_type: PayloadType::PCMU,
            rx_payload_type: PayloadType::PCMU,
            hz,
        };
        let (a, b) = (
            Talk::start(a, line(ports[1], 440.0)).unwrap(),
            Talk::start(b, line(ports[0], 730.0)).unwrap(),
        );
        thread::sleep(Duration::from_millis(400));
        let (a, b) = (a.end().unwrap(), b.end().unwrap());
        assert!(a.received > 10 && b.received > 10);
        assert!((a.level_db_from(0, 730.0) - TONE_DB).abs() < 0.5 && a.level_db_from(0, 440.0) < -50.0);
        assert!((b.level_db_from(0, 440.0) - TONE_DB).abs() < 0.5 && b.mos() > 4.0);
    }
}

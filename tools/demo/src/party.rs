//! A phone without signalling: sends its tone as PCMU every 20 ms and keeps what it hears.

use std::{
    f64::consts::TAU,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader, RtpReader},
    units::{PayloadType, RtpTimestamp, Ssrc},
};

const RATE_HZ: f64 = 8_000.0;
const FRAME_SAMPLES: usize = 160;
const FRAME: Duration = Duration::from_millis(20);
/// How long the last packets may take to arrive.
const LINGER: Duration = Duration::from_millis(200);
const AMPLITUDE: f64 = 8_000.0;

/// One side of the call.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) name: &'static str,
    pub(crate) hz: f64,
    socket: UdpSocket,
    addr: SocketAddr,
}

/// What a party sent and heard.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) name: &'static str,
    pub(crate) hz: f64,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// Packets that did not follow the one before by exactly one.
    pub(crate) out_of_order: usize,
    /// Datagrams that are not RTP, or came from elsewhere than the host.
    pub(crate) strange: usize,
    pub(crate) pcm: Vec<i16>,
    /// Longest pause between two packets.
    pub(crate) gap_max: Duration,
}

impl Party {
    pub(crate) fn new(name: &'static str, hz: f64) -> Result<Self> {
        let socket =
            UdpSocket::bind("127.0.0.1:0").with_context(|| format!("{name}: no UDP port on 127.0.0.1"))?;
        let addr = socket
            .local_addr()
            .with_context(|| format!("{name}: own address"))?;
        Ok(Self {
            name,
            hz,
            socket,
            addr,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Talks to `host` for `length` and listens all the while.
    pub(crate) fn talk(self, host: SocketAddr, length: Duration) -> Result<Heard> {
        let frames = (length.as_millis() / FRAME.as_millis()) as usize;
        let mut heard = Heard {
            name: self.name,
            hz: self.hz,
            sent: 0,
            received: 0,
            out_of_order: 0,
            strange: 0,
            pcm: Vec::with_capacity(frames * FRAME_SAMPLES),
            gap_max: Duration::ZERO,
        };
        let mut ear = Ear {
            last: None,
            sequence: None,
        };
        let start = Instant::now();
        for frame in 0..frames {
            let packet = self.frame(frame);
            self.socket
                .send_to(&packet, host)
                .with_context(|| format!("{}: sending to {host}", self.name))?;
            heard.sent += 1;
            self.listen_until(start + FRAME * (frame as u32 + 1), host, &mut ear, &mut heard)?;
        }
        self.listen_until(Instant::now() + LINGER, host, &mut ear, &mut heard)?;
        Ok(heard)
    }

    /// Packet number `index` of the tone.
    fn frame(&self, index: usize) -> [u8; FIXED_HEADER_BYTES + FRAME_SAMPLES] {
        let mut packet = [0; FIXED_HEADER_BYTES + FRAME_SAMPLES];
        let header = RtpHeader {
            marker: index == 0,
            payload_type: PayloadType::PCMU,
            sequence: (index as u16).wrapping_add(self.addr.port()),
            timestamp: RtpTimestamp((index * FRAME_SAMPLES) as u32),
            ssrc: Ssrc(0x5eed_0000 | u32::from(self.addr.port())),
        };
        header.write_to(&mut packet);
        let pcm: [i16; FRAME_SAMPLES] = std::array::from_fn(|n| {
            let at = (index * FRAME_SAMPLES + n) as f64 / RATE_HZ;
            (AMPLITUDE * (TAU * self.hz * at).sin()) as i16
        });
        codecs::g711::encode_ulaw(&pcm, &mut packet[FIXED_HEADER_BYTES..]);
        packet
    }

    fn listen_until(&self, end: Instant, host: SocketAddr, ear: &mut Ear, heard: &mut Heard) -> Result<()> {
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
                Ok((len, from)) if from == host => ear.hear(&buffer[..len], heard),
                Ok(_) => heard.strange += 1,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(error).with_context(|| format!("{}: receiving", self.name)),
            }
        }
    }
}

/// What is remembered from packet to packet.
struct Ear {
    last: Option<Instant>,
    sequence: Option<u16>,
}

impl Ear {
    fn hear(&mut self, datagram: &[u8], heard: &mut Heard) {
        let Ok(packet) = RtpReader::parse(datagram) else {
            heard.strange += 1;
            return;
        };
        let now = Instant::now();
        heard.received += 1;
        let follows = self
            .sequence
            .is_none_or(|before| packet.sequence() == before.wrapping_add(1));
        heard.out_of_order += usize::from(!follows);
        self.sequence = Some(packet.sequence());
        let gap = self.last.map_or(Duration::ZERO, |last| now - last);
        heard.gap_max = heard.gap_max.max(gap);
        self.last = Some(now);
        let at = heard.pcm.len();
        heard.pcm.resize(at + packet.payload().len(), 0);
        codecs::g711::decode_ulaw(packet.payload(), &mut heard.pcm[at..]);
    }
}

impl Heard {
    /// Level of `hz` in what was heard, dB below a full-scale sine; -100 at least.
    pub(crate) fn level_db(&self, hz: f64) -> f64 {
        level_db(&self.pcm, hz)
    }
}

/// By Goertzel over stretches of 100 ms, in which the tones used here have whole periods.
fn level_db(pcm: &[i16], hz: f64) -> f64 {
    const STRETCH: usize = 800;
    let stretches = pcm.chunks_exact(STRETCH);
    let count = stretches.len().max(1) as f64;
    let power: f64 = stretches.map(|stretch| goertzel(stretch, hz)).sum::<f64>() / count;
    // A sine of amplitude A has a Goertzel power of (A N / 2)².
    let amplitude = power.sqrt() * 2.0 / STRETCH as f64;
    (20.0 * (amplitude / f64::from(i16::MAX)).max(1e-5).log10()).max(-100.0)
}

fn goertzel(samples: &[i16], hz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hz / RATE_HZ).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for sample in samples {
        let s0 = f64::from(*sample) + coefficient * s1 - s2;
        (s2, s1) = (s1, s0);
    }
    s1 * s1 + s2 * s2 - coefficient * s1 * s2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_measured_at_its_level_and_others_are_absent() {
        let party = Party::new("alice", 440.0).unwrap();
        let mut pcm = vec![0; 50 * FRAME_SAMPLES];
        for (index, frame) in pcm.chunks_exact_mut(FRAME_SAMPLES).enumerate() {
            codecs::g711::decode_ulaw(&party.frame(index)[FIXED_HEADER_BYTES..], frame);
        }
        // 8000 of 32767 is -12.2 dB.
        assert!(
            (level_db(&pcm, 440.0) + 12.2).abs() < 0.2,
            "{}",
            level_db(&pcm, 440.0)
        );
        assert!(level_db(&pcm, 1_000.0) < -60.0, "{}", level_db(&pcm, 1_000.0));
        assert_eq!(level_db(&[0; 1_600], 440.0), -100.0);
        assert_eq!(level_db(&[], 440.0), -100.0);
    }
}

//! The audio of a phone whose signalling somebody else does: says its tone, and tells which tones it heard.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::program::wait_for;

/// Samples in 20 ms.
const FRAME: usize = 160;

/// Which of the two laws of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    Mu,
    A,
}

impl Law {
    /// Static payload type (RFC 3551 §6).
    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Self::Mu => 0,
            Self::A => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mu => "PCMU",
            Self::A => "PCMA",
        }
    }

    /// Written from G.711's definition, on purpose not the code that is tested.
    pub(crate) fn decode(self, byte: u8) -> i16 {
        match self {
            Self::Mu => {
                let code = !byte;
                let magnitude = ((i32::from(code & 15) << 3) + 0x84) << (code >> 4 & 7);
                let value = magnitude - 0x84;
                (if code & 0x80 == 0 { value } else { -value }) as i16
            }
            Self::A => {
                let code = byte ^ 0x55;
                let (segment, step) = (code >> 4 & 7, i32::from(code & 15) << 4);
                let value = match segment {
                    0 => step + 8,
                    _ => (step + 0x108) << (segment - 1),
                };
                (if code & 0x80 == 0 { -value } else { value }) as i16
            }
        }
    }

    /// The code whose value is nearest.
    pub(crate) fn encode(self, sample: i16) -> u8 {
        let distance = |code: &u8| (i32::from(self.decode(*code)) - i32::from(sample)).abs();
        (0..=255).min_by_key(distance).unwrap()
    }
}

#[derive(Default)]
struct Heard {
    samples: Vec<i16>,
    packets: usize,
    payload_types: Vec<u8>,
    from: Option<SocketAddr>,
}

/// One talking and listening phone.
pub(crate) struct Voice {
    socket: UdpSocket,
    law: Law,
    hz: f64,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    ear: Option<JoinHandle<()>>,
    mouth: Option<JoinHandle<usize>>,
    /// Where it speaks to.
    to: Arc<Mutex<Option<SocketAddr>>>,
}

impl Voice {
    /// Listens from now on; `hz` is what it will say.
    pub(crate) fn new(law: Law, hz: f64) -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), law, hz)
    }

    /// As [`Voice::new`], at another address.
    pub(crate) fn on(ip: IpAddr, law: Law, hz: f64) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (heard, stop) = (Arc::default(), Arc::default());
        let ear = thread::spawn({
            let (socket, heard, stop) = (socket.try_clone().unwrap(), Arc::clone(&heard), Arc::clone(&stop));
            move || listen(&socket, law, &heard, &stop)
        });
        Self {
            socket,
            law,
            hz,
            heard,
            stop,
            ear: Some(ear),
            mouth: None,
            to: Arc::default(),
        }
    }

    pub(crate) fn law(&self) -> Law {
        self.law
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Says its tone there, a packet every 20 ms, until the end or until it talks to somebody else.
    pub(crate) fn talk_to(&mut self, to: SocketAddr) {
        *self.to.lock().unwrap() = Some(to);
        if self.mouth.is_none() {
            let (socket, stop) = (self.socket.try_clone().unwrap(), Arc::clone(&self.stop));
            let (law, hz, to) = (self.law, self.hz, Arc::clone(&self.to));
            self.mouth = Some(thread::spawn(move || talk(&socket, law, hz, &to, &stop)));
        }
    }

    /// Ends it; the packets it sent and received.
    pub(crate) fn end(&mut self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.mouth.take().map_or(0, |mouth| mouth.join().unwrap());
        if let Some(ear) = self.ear.take() {
            ear.join().unwrap();
        }
        (sent, self.heard.lock().unwrap().packets)
    }

    /// The next 1.6 s that it hears, after a moment in which what was on the way arrives.
    pub(crate) fn listen(&self) -> Sound {
        let begin = self.heard.lock().unwrap().samples.len() + 3_200;
        let samples = wait_for("1.6 s of audio", || {
            let heard = self.heard.lock().unwrap();
            heard.samples.get(begin..begin + 12_800).map(<[i16]>::to_vec)
        });
        Sound {
            samples,
            rate: 8_000.0,
        }
    }

    /// Packets it heard so far.
    pub(crate) fn packets_heard(&self) -> usize {
        self.heard.lock().unwrap().packets
    }

    /// Everything came from there, as the law agreed on, and held this tone and none of the others.
    pub(crate) fn assert_heard(&self, from: SocketAddr, hz: f64, others: &[f64]) {
        let heard = self.heard.lock().unwrap();
        assert_eq!(heard.from, Some(from), "{:.0} Hz: where audio came from", self.hz);
        assert_eq!(
            heard.payload_types,
            [self.law.payload_type()],
            "{:.0} Hz",
            self.hz
        );
        // Its beginning may be silent.
        let samples = &heard.samples[heard.samples.len() / 4..];
        assert!(
            samples.len() >= 4_000,
            "{:.0} Hz heard {} samples",
            self.hz,
            samples.len()
        );
        let holding = holding(samples, hz, 8_000.0);
        assert!(
            holding > MOSTLY,
            "{:.0} Hz heard {hz:.0} Hz in {holding:.3} of the time only",
            self.hz
        );
        for other in others {
            let share = self::share(samples, *other, 8_000.0);
            assert!(
                share < 0.01,
                "{:.0} Hz heard {other:.0} Hz to {share:.3}",
                self.hz
            );
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listen(socket: &UdpSocket, law: Law, heard: &Mutex<Heard>, stop: &AtomicBool) {
    let mut buffer = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        // RTCP has a port of its own here; anything else is not version 2.
        if len < 12 || buffer[0] != 0x80 {
            continue;
        }
        let mut heard = heard.lock().unwrap();
        heard.packets += 1;
        heard.from = Some(from);
        let payload_type = buffer[1] & 0x7f;
        if !heard.payload_types.contains(&payload_type) {
            heard.payload_types.push(payload_type);
        }
        heard
            .samples
            .extend(buffer[12..len].iter().map(|byte| law.decode(*byte)));
    }
}

fn talk(socket: &UdpSocket, law: Law, hz: f64, to: &Mutex<Option<SocketAddr>>, stop: &AtomicBool) -> usize {
    // One second holds a whole number of periods.
    let tone: Vec<u8> = (0..8_000)
        .map(|at| {
            let angle = std::f64::consts::TAU * hz * f64::from(at) / 8_000.0;
            law.encode((8_000.0 * angle.sin()) as i16)
        })
        .collect();
    let mut frames = tone.chunks_exact(FRAME).cycle();
    let start = Instant::now();
    let mut sent = 0_u16;
    while !stop.load(Ordering::Relaxed) {
        let mut packet = vec![0x80, law.payload_type()];
        packet.extend(sent.to_be_bytes());
        packet.extend((u32::from(sent) * FRAME as u32).to_be_bytes());
        packet.extend((hz as u32).to_be_bytes());
        packet.extend(frames.next().unwrap());
        // A port that is closed at the end of a call is no fault.
        if let Some(to) = *to.lock().unwrap() {
            let _ = socket.send_to(&packet, to);
        }
        sent += 1;
        let due = start + Duration::from_millis(20) * u32::from(sent);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    usize::from(sent)
}

/// A stretch of what somebody heard.
pub(crate) struct Sound {
    pub(crate) samples: Vec<i16>,
    pub(crate) rate: f64,
}

impl Sound {
    /// Share of its energy at `hz`; see [`share`].
    pub(crate) fn share(&self, hz: f64) -> f64 {
        share(&self.samples, hz, self.rate)
    }

    /// Share of its energy around `hz`; see [`around`].
    pub(crate) fn around(&self, hz: f64) -> f64 {
        around(&self.samples, hz, self.rate)
    }

    /// It is this tone, and none of the others is in it.
    #[track_caller]
    pub(crate) fn assert_is(&self, hz: f64, others: &[f64]) {
        let share = self.around(hz);
        assert!(share > 0.85, "{hz} Hz to {share:.3}; {}", self.in_words());
        self.assert_lacks(others);
    }

    /// None of these is in it.
    #[track_caller]
    pub(crate) fn assert_lacks(&self, tones: &[f64]) {
        for hz in tones {
            let share = self.share(*hz);
            assert!(share < 0.02, "{hz} Hz to {share:.3}; {}", self.in_words());
        }
    }

    /// It is the melody that media hosts have built in: its notes are between 100 and 700 Hz, and three of them sound in
    /// any stretch of this length.
    #[track_caller]
    pub(crate) fn assert_is_music(&self, others: &[f64]) {
        let notes = [
            110.0, 130.8, 174.6, 196.0, 261.6, 293.7, 329.6, 349.2, 392.0, 440.0, 493.9, 523.3, 587.3, 659.3,
        ];
        let all: f64 = notes.iter().map(|hz| self.share(*hz)).sum();
        assert!(all > 0.7, "notes to {all:.3}; {}", self.in_words());
        self.assert_lacks(others);
    }

    /// It is ringback: 440 and 480 Hz, as E.180 has it for the United States.
    #[track_caller]
    pub(crate) fn assert_is_ringback(&self) {
        let both = self.share(440.0) + self.share(480.0);
        assert!(both > 0.7, "ringback to {both:.3}; {}", self.in_words());
    }

    /// The loudest of the tones that tests use.
    pub(crate) fn in_words(&self) -> String {
        let loudest = self.samples.iter().map(|sample| sample.unsigned_abs()).max();
        let mut tones: Vec<(f64, f64)> = (10..150)
            .map(|tens| f64::from(tens) * 10.0)
            .map(|hz| (self.share(hz), hz))
            .collect();
        tones.sort_by(|a, b| b.0.total_cmp(&a.0));
        let tones: Vec<String> = tones
            .iter()
            .take(4)
            .map(|(share, hz)| format!("{hz} Hz to {share:.3}"))
            .collect();
        format!("peak {loudest:?}, {}", tones.join(", "))
    }
}

/// A tone that is spoken is to be heard in more than this share of the time: a busy machine loses a frame now and then.
pub(crate) const MOSTLY: f64 = 0.75;

/// Share of the stretches of 100 ms that hold little but `hz`.
pub(crate) fn holding(samples: &[i16], hz: f64, rate: f64) -> f64 {
    let stretches = samples.chunks_exact(stretch_len(rate));
    let count = stretches.len();
    let holding = stretches
        .filter(|stretch| around(stretch, hz, rate) > 0.9)
        .count();
    holding as f64 / count.max(1) as f64
}

/// Share of the energy of `samples` in 50 Hz around `hz`: a tone that lost a frame now and then on a busy machine, or that was
/// held up there and is played half a percent faster until it is in time again, is still that tone.
pub(crate) fn around(samples: &[i16], hz: f64, rate: f64) -> f64 {
    (-2..=2)
        .map(|tens| share(samples, hz + f64::from(tens) * 10.0, rate))
        .sum()
}

/// Share of the energy of `samples` that is at `hz`, by Goertzel over stretches of 100 ms: near 1 when it is all there
/// is, near 0 when it is absent.
pub(crate) fn share(samples: &[i16], hz: f64, rate: f64) -> f64 {
    let stretch_len = stretch_len(rate);
    let (mut at_hz, mut all) = (0.0, 0.0);
    for stretch in samples.chunks_exact(stretch_len) {
        let coefficient = 2.0 * (std::f64::consts::TAU * hz / rate).cos();
        let (mut s1, mut s2) = (0.0, 0.0);
        for sample in stretch {
            let s0 = f64::from(*sample) + coefficient * s1 - s2;
            (s2, s1) = (s1, s0);
            all += f64::from(*sample).powi(2);
        }
        at_hz += (s1 * s1 + s2 * s2 - coefficient * s1 * s2) * 2.0 / stretch_len as f64;
    }
    if all == 0.0 { 0.0 } else { at_hz / all }
}

fn stretch_len(rate: f64) -> usize {
    (rate / 10.0) as usize
}

#[test]
fn a_tone_that_is_pulled_to_its_place_is_heard_and_another_one_is_not() {
    let tone = |hz: f64| -> Vec<i16> {
        let angle = |at: i32| std::f64::consts::TAU * hz * f64::from(at) / 8_000.0;
        (0..16_000).map(|at| (8_000.0 * angle(at).sin()) as i16).collect()
    };
    for hz in [440.0, 700.0, 1_100.0] {
        for pulled in [0.995, 1.0, 1.005] {
            assert_eq!(holding(&tone(hz * pulled), hz, 8_000.0), 1.0, "{hz} Hz, {pulled}");
        }
        assert_eq!(holding(&tone(hz + 100.0), hz, 8_000.0), 0.0, "{hz} Hz");
    }
}

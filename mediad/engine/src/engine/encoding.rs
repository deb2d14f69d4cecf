//! From frames of a tick to payloads: the listener's sampling rate, its packet time, its codec.

use codecs::{
    CodecKind, Encoder,
    comfort_noise::{REFRESH_MS, SID_BYTES_MAX, SilenceSuppressor, Transmission},
    opus,
    resample::Resampler,
};

use super::{
    plan::{Group, Silence},
    tick::TICK_MS,
};

/// Longest payload: an Opus packet of 60 ms, or what a datagram carries.
const PAYLOAD_BYTES_MAX: usize = 1_500;

/// Silence of Opus is encoded this often (RFC 6716 §2.1.9).
const OPUS_REFRESH_MS: u32 = 400;

/// One run of an encoder. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Encoding {
    kind: CodecKind,
    encoder: Encoder,
    /// From the session's rate, where the codec needs another.
    resampler: Option<Resampler>,
    /// Samples of a packet.
    frame: usize,
    /// Waiting for a packet to be full.
    pending: Box<[i16]>,
    pending_samples: usize,
    payload: Box<[u8]>,
    /// Describes silence rather than encoding it, where that is so …
    suppressor: Option<Box<SilenceSuppressor>>,
    /// … by packets of the codec itself, between which nothing is sent.
    discontinuous: bool,
    /// The packet after one of those says that nothing follows.
    announces: bool,
    /// The effort it makes, where it is Opus.
    complexity: u8,
    /// What it did since that was asked for, as time, ns: Opus alone takes any to speak of.
    spent_ns: u64,
}

/// What a packet's time comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    /// Empty: nothing needs to be sent for it.
    pub(crate) bytes: &'a [u8],
    /// It says what a silence is like.
    pub(crate) is_silence: bool,
}

impl Encoding {
    /// For listeners of `group`, fed at `rate_hz`; `None` only for rates that nobody compiles.
    pub(crate) fn new(group: &Group, rate_hz: u32) -> Option<Self> {
        let kind = group.kind;
        // Opus takes the session's rate: at 8 kHz it costs half.
        let own_hz = if kind.runs_at(rate_hz) {
            rate_hz
        } else {
            kind.sample_rate_hz()
        };
        let resampler = if own_hz == rate_hz {
            None
        } else {
            Some(Resampler::new(rate_hz, own_hz).ok()?)
        };
        let frame = CodecKind::frame_samples(own_hz, group.ptime_ms.into());
        let tick = CodecKind::frame_samples(own_hz, TICK_MS);
        let settings = opus::Settings::asked(&group.format.fmtp);
        let mut encoder = Encoder::new(kind, own_hz, &settings).ok()?;
        // Its listeners heard others before: packets of their source, or encoders of another rate.
        encoder.start_anew();
        Some(Self {
            kind,
            encoder,
            resampler,
            frame,
            pending: vec![0; frame + tick + 8].into_boxed_slice(),
            pending_samples: 0,
            payload: vec![0; PAYLOAD_BYTES_MAX].into_boxed_slice(),
            suppressor: match &group.silence {
                // G.722's clock is half its rate: there the spectrum would be another's.
                Silence::Described(noise) => {
                    let spectrum = noise.clock.hz() == own_hz;
                    Some(Box::new(SilenceSuppressor::new(own_hz, spectrum, REFRESH_MS)))
                }
                Silence::Discontinuous => {
                    Some(Box::new(SilenceSuppressor::new(own_hz, false, OPUS_REFRESH_MS)))
                }
                Silence::Encoded => None,
            },
            discontinuous: group.silence == Silence::Discontinuous,
            announces: false,
            complexity: settings.complexity,
            spent_ns: 0,
        })
    }

    /// The effort it makes from here on. Before each tick: what is new makes that of its worker from its first packet on.
    pub(crate) fn set_complexity(&mut self, complexity: u8) {
        if complexity != self.complexity {
            self.complexity = complexity;
            self.encoder.set_complexity(complexity);
        }
    }

    /// What it did since the last call, as time, ns.
    pub(crate) fn take_spent(&mut self) -> u64 {
        std::mem::take(&mut self.spent_ns)
    }

    /// It remembers nothing from one tick to the next, so that whoever needs it may use it.
    pub(crate) fn is_stateless(&self) -> bool {
        let plain = match self.kind {
            CodecKind::Pcmu | CodecKind::Pcma | CodecKind::L16 { .. } => true,
            CodecKind::G722 | CodecKind::Opus => false,
        };
        plain
            && self.resampler.is_none()
            && self.suppressor.is_none()
            && TICK_MS as usize * self.frame == self.tick_samples() * TICK_MS as usize
    }

    /// Takes over from `shared`, which encoded the same until now: packets begin where its packets would, and the
    /// listener's decoder finds an encoder that knows what it heard. `recent` is what that was, if it is known.
    pub(crate) fn take_over(&mut self, shared: &Self, recent: Option<&[i16]>, tick_samples: usize) {
        if !self.encoder.continue_from(&shared.encoder) {
            self.encoder.start_anew();
            self.pending_samples = 0;
            if let Some(recent) = recent {
                // It learns by encoding the latest sound for nobody, in whole packets up to where the next begins.
                let ticks = recent.len() / tick_samples;
                let waiting = shared.pending_samples.div_ceil(self.tick_samples());
                let a_packet = self.frame.div_ceil(self.tick_samples());
                let end = ticks.saturating_sub(waiting);
                let whole = end / a_packet * a_packet;
                for tick in recent.chunks_exact(tick_samples).take(end).skip(end - whole) {
                    self.feed(tick);
                    while self.poll_payload().is_some() {
                        self.encoder.start_again();
                    }
                }
            }
        }
        if let (Some(own), Some(shared)) = (&mut self.resampler, &shared.resampler) {
            own.continue_from(shared);
        }
        if let (Some(own), Some(shared)) = (&mut self.suppressor, &shared.suppressor) {
            own.clone_from(shared);
        }
        self.announces = shared.announces;
        let pending = shared.pending_samples;
        self.pending[..pending].copy_from_slice(&shared.pending[..pending]);
        self.pending_samples = pending;
    }

    /// All who listen heard another encoder until now.
    pub(crate) fn start_anew(&mut self) {
        self.encoder.start_anew();
    }

    /// What waits for its packet to be full is too old.
    pub(crate) fn clear(&mut self) {
        self.pending_samples = 0;
    }

    /// Some of those who listen heard another encoder until now.
    pub(crate) fn refresh(&mut self) {
        self.encoder.refresh();
    }

    /// Another encoder can go on where it stands.
    pub(crate) fn can_go_on(&self) -> bool {
        self.kind != CodecKind::Opus
    }

    /// Leaves out the packets that are full.
    pub(crate) fn skip(&mut self) {
        let full = self.pending_samples / self.frame * self.frame;
        self.pending.copy_within(full..self.pending_samples, 0);
        self.pending_samples -= full;
    }

    /// A packet in units of the RTP clock.
    pub(crate) fn ticks(&self, ptime_ms: u8) -> u32 {
        self.kind.ptime_ticks(ptime_ms.into())
    }

    /// Takes the frame of one tick.
    pub(crate) fn feed(&mut self, pcm: &[i16]) {
        let room = &mut self.pending[self.pending_samples..];
        self.pending_samples += match &mut self.resampler {
            Some(resampler) => resampler.process(pcm, room).unwrap_or(0),
            None => {
                let count = pcm.len().min(room.len());
                room[..count].copy_from_slice(&pcm[..count]);
                count
            }
        };
    }

    /// The next payload; `None` when too little waits.
    pub(crate) fn poll_payload(&mut self) -> Option<Payload<'_>> {
        if self.pending_samples < self.frame {
            return None;
        }
        let frame = &self.pending[..self.frame];
        let suppressor = self.suppressor.as_deref_mut();
        let transmission = suppressor.map_or(Transmission::Speech, |suppressor| suppressor.process(frame));
        let encodes = match transmission {
            Transmission::Speech => true,
            Transmission::Describe(_) => self.discontinuous,
            Transmission::Nothing => false,
        };
        if encodes && self.kind == CodecKind::Opus {
            self.spent_ns += opus::encoding_ns(frame.len(), self.complexity);
        }
        let bytes = match transmission {
            Transmission::Speech => self.encoder.encode(frame, &mut self.payload).unwrap_or(0),
            Transmission::Nothing if self.announces => {
                // RFC 6716 §3.2.1: a frame without content, of the same kind as the packet before.
                self.payload[0] &= !0b11;
                1
            }
            Transmission::Nothing => 0,
            Transmission::Describe(_) if self.discontinuous => {
                self.encoder.encode(frame, &mut self.payload).unwrap_or(0)
            }
            Transmission::Describe(sid) => {
                let mut written = [0; SID_BYTES_MAX];
                let bytes = sid.write(&mut written);
                self.payload[..bytes].copy_from_slice(&written[..bytes]);
                bytes
            }
        };
        let describes = matches!(transmission, Transmission::Describe(_));
        self.announces = describes && self.discontinuous;
        self.pending.copy_within(self.frame..self.pending_samples, 0);
        self.pending_samples -= self.frame;
        Some(Payload {
            bytes: &self.payload[..bytes],
            is_silence: transmission != Transmission::Speech,
        })
    }

    pub(crate) fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// A packet of less than a packet's time, where nothing speaks against that.
    pub(crate) fn encode_rest(&mut self, pcm: &[i16]) -> Option<&[u8]> {
        if !self.is_stateless() || pcm.is_empty() || pcm.len() > 2 * self.frame {
            return None;
        }
        let bytes = self.encoder.encode(pcm, &mut self.payload).ok()?;
        Some(&self.payload[..bytes])
    }

    fn tick_samples(&self) -> usize {
        self.pending.len() - 8 - self.frame
    }
}

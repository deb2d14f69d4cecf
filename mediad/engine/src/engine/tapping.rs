//! A tap within a tick: what its program speaks at the session's rate, and what it hears at the program's.

use std::sync::Arc;

use codecs::resample::Resampler;

use super::tick::TICK_MS;
use crate::{command::TapRings, spec::Name, tap::TapPort};

/// One tap. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Tapping {
    pub(crate) node: Name,
    port: Arc<TapPort>,
    rate_hz: u32,
    /// To the program, where its rate is another.
    down: Option<Resampler>,
    /// From the program.
    up: Option<Resampler>,
    /// A tick at the program's rate.
    program: Box<[i16]>,
    /// What the program speaks in this tick, at the session's rate.
    pub(crate) spoken: Box<[i16]>,
    /// The program speaks in this tick.
    pub(crate) speaks: bool,
    /// Nothing waited at the last tick.
    dry: bool,
}

impl Tapping {
    /// `None` only for rates that nobody compiles.
    pub(crate) fn new(node: Name, port: Arc<TapPort>, rate_hz: u32) -> Option<Self> {
        let tap_hz = port.sample_rate_hz();
        let converter = |from, to| match from == to {
            true => Ok(None),
            false => Resampler::new(from, to).map(Some),
        };
        let samples = |hz: u32| vec![0; (hz / 1_000 * TICK_MS) as usize].into_boxed_slice();
        Some(Self {
            node,
            rate_hz,
            down: converter(rate_hz, tap_hz).ok()?,
            up: converter(tap_hz, rate_hz).ok()?,
            program: samples(tap_hz),
            spoken: samples(rate_hz),
            port,
            speaks: false,
            dry: true,
        })
    }

    /// It is the same tap, between the same rates.
    pub(crate) fn fits(&self, port: &Arc<TapPort>, rate_hz: u32) -> bool {
        Arc::ptr_eq(&self.port, port) && self.rate_hz == rate_hz
    }

    pub(crate) fn rings(&self) -> TapRings {
        TapRings {
            node: self.node.clone(),
            port: self.port.clone(),
        }
    }

    /// Throws away what the program has spoken and was not played.
    pub(crate) fn flush(&self) {
        self.port.flush();
    }

    /// Nobody is attached and nothing waits to be played.
    pub(crate) fn is_idle(&self) -> bool {
        !self.port.is_attached() && self.port.waiting() == 0
    }

    /// Takes what the program speaks in this tick. Once it ran dry, it begins with a tick in hand: programs are not punctual.
    pub(crate) fn pull(&mut self) {
        let waiting = self.port.waiting();
        let begins = std::mem::replace(&mut self.dry, waiting == 0);
        if waiting == 0 || begins && waiting < 2 * self.program.len() {
            self.speaks = false;
            self.spoken.fill(0);
            return;
        }
        let count = self.port.play(&mut self.program);
        let pcm = &self.program[..count];
        let written = match &mut self.up {
            Some(up) => up.process(pcm, &mut self.spoken).unwrap_or(0),
            None => {
                self.spoken[..count].copy_from_slice(pcm);
                count
            }
        };
        self.spoken[written..].fill(0);
        self.speaks = true;
    }

    /// Gives the program what the tap hears in this tick; true if there is a program.
    pub(crate) fn push(&mut self, heard: &[i16]) -> bool {
        if !self.port.is_attached() {
            return false;
        }
        match &mut self.down {
            Some(down) => {
                let count = down.process(heard, &mut self.program).unwrap_or(0);
                self.port.write(&self.program[..count]);
            }
            None => self.port.write(heard),
        }
        true
    }
}

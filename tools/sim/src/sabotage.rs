//! Faults put between the engine and the judge on purpose: the proof that the judge can fail.

use std::net::SocketAddr;

use crate::model::Graph;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One packet goes to another phone.
    WrongListener,
    /// One packet is sent twice with another number.
    RepeatedFrame,
    /// One packet is sent twice as it is.
    RepeatedPacket,
    /// The sequence skips a number.
    SequenceGap,
    /// The timestamp steps back.
    TimestampBack,
    /// Another SSRC.
    OtherSsrc,
    /// A byte of the payload changes.
    DamagedPayload,
    /// A payload type nobody agreed to.
    OtherPayloadType,
    /// From now on nothing is sent.
    Silence,
    /// A digit is not told of.
    LostDigit,
    /// The engine hears an edge that was not asked for.
    ExtraEdge,
    /// An event number is skipped.
    SkippedEvent,
    /// The host is never told that a session's worker let it go.
    LeakedSession,
    /// The host encrypts with a key that it told nobody.
    UntoldKey,
}

/// A fault and when it strikes.
#[derive(Debug, Clone, Copy)]
pub struct Sabotage {
    fault: Fault,
    /// RTP packets, digits or graphs until then.
    countdown: u32,
}

impl Sabotage {
    /// The fault strikes after a number of chances.
    pub fn new(fault: Fault, countdown: u32) -> Self {
        Self { fault, countdown }
    }

    fn strikes(&mut self) -> bool {
        let now = self.countdown == 0;
        self.countdown = if now { u32::MAX } else { self.countdown - 1 };
        now
    }

    /// What leaves instead of an RTP packet.
    pub fn spoil(
        &mut self,
        to: SocketAddr,
        mut bytes: Vec<u8>,
        others: &[SocketAddr],
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
        match self.fault {
            Fault::LostDigit
            | Fault::ExtraEdge
            | Fault::SkippedEvent
            | Fault::LeakedSession
            | Fault::UntoldKey => {
                return vec![(to, bytes)];
            }
            Fault::Silence => {
                self.countdown = self.countdown.saturating_sub(1);
                return if self.countdown == 0 {
                    Vec::new()
                } else {
                    vec![(to, bytes)]
                };
            }
            _ => {}
        }
        if !self.strikes() {
            return vec![(to, bytes)];
        }
        match self.fault {
            Fault::WrongListener => {
                let other = others.iter().find(|other| other.ip() != to.ip());
                return vec![(*other.unwrap_or(&to), bytes)];
            }
            Fault::RepeatedPacket => return vec![(to, bytes.clone()), (to, bytes)],
            Fault::RepeatedFrame => {
                let mut again = bytes.clone();
                again[2..4].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
                return vec![(to, bytes), (to, again)];
            }
            Fault::SequenceGap => bytes[2..4].copy_from_slice(&sequence.wrapping_add(7).to_be_bytes()),
            Fault::TimestampBack => bytes[4] ^= 0x80,
            Fault::OtherSsrc => bytes[8] ^= 1,
            Fault::DamagedPayload => {
                if let Some(last) = bytes.get_mut(20) {
                    *last ^= 0x55;
                }
            }
            Fault::OtherPayloadType => bytes[1] = bytes[1] & 0x80 | 33,
            Fault::Silence
            | Fault::LostDigit
            | Fault::ExtraEdge
            | Fault::SkippedEvent
            | Fault::LeakedSession
            | Fault::UntoldKey => {}
        }
        vec![(to, bytes)]
    }

    /// Whether this digit's event disappears.
    pub fn loses_digit(&mut self) -> bool {
        self.fault == Fault::LostDigit && self.strikes()
    }

    /// What the judge takes a graph for.
    pub fn misread(&mut self, graph: &Graph) -> Graph {
        let mut graph = graph.clone();
        if self.fault == Fault::ExtraEdge && self.countdown > 0 {
            self.countdown -= 1;
        } else if self.fault == Fault::ExtraEdge {
            graph.edges.pop_first();
        }
        graph
    }

    /// Whether a watcher misses an event now.
    pub fn skips_event(&mut self) -> bool {
        self.fault == Fault::SkippedEvent && self.strikes()
    }

    /// Whether nobody hears of this key of the host. A key is told with each reply: from some time on none is.
    pub fn keeps_key(&mut self) -> bool {
        if self.fault != Fault::UntoldKey {
            return false;
        }
        self.countdown = self.countdown.saturating_sub(1);
        self.countdown == 0
    }

    /// Whether the host does not hear of a session's end.
    pub fn leaks(&mut self) -> bool {
        self.fault == Fault::LeakedSession && self.strikes()
    }
}

//! Encrypted legs: what phones encrypt with, and what of the host's packets can be opened, by the phone and where they leave.
//!
//! Keys of phones follow from a seed in the model; those of the host are what it told.

use std::{collections::BTreeMap, time::Instant};

use netem::Rng;
use proto::mediad::v1 as pb;
use rtp::demux::{Kind, classify};
use srtp::{Inbound, MasterKey, Outbound, Suite, TRAILER_BYTES_MAX, UnprotectError};

/// Every suite there is, with its name in the contract.
pub const SUITES: [(Suite, pb::SrtpSuite); 5] = [
    (Suite::AesCm128HmacSha1_80, pb::SrtpSuite::AesCm128HmacSha180),
    (Suite::AesCm128HmacSha1_32, pb::SrtpSuite::AesCm128HmacSha132),
    (Suite::Aes256CmHmacSha1_80, pb::SrtpSuite::Aes256CmHmacSha180),
    (Suite::AeadAes128Gcm, pb::SrtpSuite::AeadAes128Gcm),
    (Suite::AeadAes256Gcm, pb::SrtpSuite::AeadAes256Gcm),
];

/// Generations of a leg's keys that packets on their way may still be under.
const GENERATIONS_MAX: usize = 8;

/// Encryption of a transport, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdes {
    /// Its place among [`SUITES`].
    pub suite: usize,
    /// What the phone's key follows from.
    pub seed: u64,
    /// Counts the host's keys.
    pub generation: u32,
}

impl Sdes {
    /// Any suite and key.
    pub fn any(rng: &mut Rng) -> Self {
        Self {
            suite: rng.below(SUITES.len() as u64) as usize,
            seed: rng.next_u64(),
            generation: 0,
        }
    }

    /// Other keys: the host's, the phone's, or both with the suite.
    pub fn change(&mut self, rng: &mut Rng) {
        let (kind, suite, seed) = (
            rng.below(3),
            rng.below(SUITES.len() as u64) as usize,
            rng.next_u64(),
        );
        match kind {
            0 => self.generation += 1,
            1 => self.seed = seed,
            _ => {
                *self = Self {
                    suite,
                    seed,
                    generation: self.generation + 1,
                }
            }
        }
    }

    /// The suite.
    pub fn suite(self) -> Suite {
        SUITES[self.suite].0
    }

    /// What the phone encrypts with.
    pub fn phone_key(self) -> MasterKey {
        let mut rng = Rng::new(self.seed);
        let bytes: Vec<u8> = (0..self.suite().key_salt_bytes())
            .map(|_| rng.next_u64() as u8)
            .collect();
        MasterKey::new(self.suite(), &bytes).expect("of the suite's own length")
    }

    /// As the contract has it.
    pub fn security(self) -> pb::udp_transport::Security {
        let suite = SUITES[self.suite].1.into();
        pb::udp_transport::Security::Sdes(pb::SdesSecurity {
            suites: vec![suite],
            remote: Some(pb::SdesKey {
                suite,
                key_salt: self.phone_key().key_salt().to_vec(),
                tag: 1,
            }),
            key_generation: self.generation,
            send_generation: None,
        })
    }
}

/// A phone's own encryption.
#[derive(Debug)]
pub struct Sealer {
    sdes: Sdes,
    tx: Outbound,
}

impl Sealer {
    /// With the phone's key of a leg.
    pub fn new(sdes: Sdes) -> Self {
        Self {
            sdes,
            tx: Outbound::new(&sdes.phone_key()),
        }
    }

    /// It encrypts with that key already.
    pub fn has_key_of(&self, sdes: Sdes) -> bool {
        (self.sdes.suite, self.sdes.seed) == (sdes.suite, sdes.seed)
    }

    /// Counts its packets from the beginning again, as no phone may.
    pub fn forget(&mut self) {
        *self = Self::new(self.sdes);
    }

    /// The packet, encrypted; `None`: it must not be sent.
    pub fn seal(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut slot = [packet, &[0; TRAILER_BYTES_MAX]].concat();
        let sealed = match classify(packet) {
            Kind::Rtcp => self.tx.protect_rtcp(&mut slot, packet.len()),
            _ => self.tx.protect_rtp(&mut slot, packet.len()),
        };
        slot.truncate(sealed.ok()?);
        Some(slot)
    }
}

/// What became of a packet of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is authentic, and says this.
    Plain(Vec<u8>),
    /// It came before.
    Again,
    /// No key that was ever told opens it.
    Never,
}

/// What the host encrypts one leg with, as it was told: each key is opened with where packets leave, and at the phone.
#[derive(Debug)]
struct Generation {
    key: MasterKey,
    leaving: Inbound,
    arriving: Inbound,
}

/// Where a packet is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where it leaves the host: all of them, in order.
    Leaving,
    /// At the phone: what the network has left of them.
    Arriving,
}

/// The host's keys, by life and transport, newest last.
#[derive(Debug, Default)]
pub struct HostKeys(BTreeMap<(usize, String), Vec<Generation>>);

impl HostKeys {
    /// The host told this key for a leg.
    pub fn told(&mut self, leg: (usize, String), suite: Suite, key_salt: &[u8]) {
        let key = MasterKey::new(suite, key_salt).expect("the host tells keys of the suite's own length");
        let known = self.0.entry(leg).or_default();
        if known.last().is_some_and(|newest| newest.key == key) {
            return;
        }
        known.push(Generation {
            leaving: Inbound::new(&key),
            arriving: Inbound::new(&key),
            key,
        });
        if known.len() > GENERATIONS_MAX {
            known.remove(0);
        }
    }

    /// A packet of the host on an encrypted leg.
    pub fn open(&mut self, now: Instant, leg: (usize, String), packet: &[u8], place: Place) -> Opened {
        for generation in self.0.entry(leg).or_default().iter_mut().rev() {
            let context = match place {
                Place::Leaving => &mut generation.leaving,
                Place::Arriving => &mut generation.arriving,
            };
            let mut bytes = packet.to_vec();
            let opened = match classify(packet) {
                Kind::Rtcp => context.unprotect_rtcp(now, &mut bytes),
                _ => context.unprotect_rtp(now, &mut bytes),
            };
            match opened {
                Ok(len) => {
                    bytes.truncate(len);
                    return Opened::Plain(bytes);
                }
                Err(UnprotectError::Replay) => return Opened::Again,
                Err(_) => {}
            }
        }
        Opened::Never
    }
}

/// Secrets that follow from the run's seed, as everything here does.
#[derive(Debug)]
pub struct Secrets(pub Rng);

impl media_engine::host::SecretRandom for Secrets {
    fn fill(&mut self, secret: &mut [u8]) -> Result<(), media_engine::host::NoRandomness> {
        secret.fill_with(|| self.0.next_u64() as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phone_seals_opens_with_its_key_and_no_other() {
        let now = crate::world::base();
        let packet = [0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 1, 2, 3, 4];
        for suite in 0..SUITES.len() {
            let sdes = Sdes {
                suite,
                seed: 9,
                generation: 0,
            };
            let mut sealer = Sealer::new(sdes);
            let sealed = sealer.seal(&packet).expect("the first of its number");
            assert_ne!(sealed[12..16], packet[12..]);
            assert_eq!(sealer.seal(&packet), None, "one number, one packet");
            let mut keys = HostKeys::default();
            let leg = || (0, "t".to_owned());
            keys.told(leg(), sdes.suite(), sdes.phone_key().key_salt());
            let other = Sdes { seed: 10, ..sdes };
            keys.told(leg(), sdes.suite(), other.phone_key().key_salt());
            for place in [Place::Leaving, Place::Arriving] {
                let mut damaged = sealed.clone();
                damaged[13] ^= 1;
                assert_eq!(keys.open(now, leg(), &damaged, place), Opened::Never);
                assert_eq!(keys.open(now, leg(), &packet, place), Opened::Never);
                assert_eq!(
                    keys.open(now, leg(), &sealed, place),
                    Opened::Plain(packet.to_vec())
                );
                assert_eq!(keys.open(now, leg(), &sealed, place), Opened::Again);
            }
        }
    }
}

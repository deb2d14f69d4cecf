//! Local SRTP keys: made here, told once, never described.

use std::{fmt, sync::Arc};

use super::Host;
use crate::{
    command::SendingKey,
    refusal::Refusal,
    spec::{MasterKey, Name, SdesSpec, SessionSpec, Suite},
};

/// Randomness that nobody can guess, for keys. What merely has to differ comes from the host's seed.
pub trait SecretRandom: fmt::Debug + Send {
    /// Fills `secret`.
    ///
    /// # Errors
    /// [`NoRandomness`]: the edit that needed it is refused.
    fn fill(&mut self, secret: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The source of randomness gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

/// A local key, for the crypto attribute that offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalKey {
    /// The key.
    pub key: Arc<MasterKey>,
    /// Tag of its attribute.
    pub tag: u32,
}

/// The local keys of one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TransportKeys {
    pub(super) transport: Name,
    current: Generation,
    /// Kept while it is still sent with.
    before: Option<Generation>,
    /// In use. Once another is, this one is never used again: its packets are numbered by a context that is gone.
    sending: Option<Arc<MasterKey>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Generation {
    number: u32,
    keys: Vec<Arc<MasterKey>>,
}

impl Generation {
    fn key(&self, suite: Suite) -> Option<&Arc<MasterKey>> {
        self.keys.iter().find(|key| key.suite() == suite)
    }
}

impl Host {
    /// Gives the host its source of randomness for keys. Without one, edits that need keys are refused.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Box<dyn SecretRandom>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// The keys of every transport of `spec` that is protected by SDES, in its order. Those of `before` stay as far as they
    /// are still asked for.
    pub(super) fn local_keys(
        &mut self,
        spec: &SessionSpec,
        before: &[TransportKeys],
    ) -> Result<Vec<TransportKeys>, Refusal> {
        let mut all = Vec::new();
        for transport in &spec.transports {
            if let Some(sdes) = transport.sdes() {
                let before = before.iter().find(|keys| keys.transport == transport.id);
                all.push(self.keys_of(&transport.id, sdes, before)?);
            }
        }
        Ok(all)
    }

    fn keys_of(
        &mut self,
        transport: &Name,
        sdes: &SdesSpec,
        old: Option<&TransportKeys>,
    ) -> Result<TransportKeys, Refusal> {
        let (kept, before) = match old {
            Some(old) if old.current.number == sdes.key_generation => {
                (&old.current.keys[..], old.before.clone())
            }
            Some(old) => (&[][..], Some(old.current.clone())),
            None => (&[][..], None),
        };
        let mut current = Generation {
            number: sdes.key_generation,
            keys: Vec::with_capacity(sdes.suites.len()),
        };
        for suite in &sdes.suites {
            let key = match kept.iter().find(|key| key.suite() == *suite) {
                Some(key) => key.clone(),
                None => Arc::new(self.fresh_key(transport, *suite)?),
            };
            current.keys.push(key);
        }
        let mut before = before.filter(|before| before.number == sdes.send_generation);
        let in_use = old.and_then(|old| old.sending.as_ref());
        let Some(remote) = &sdes.remote else {
            // Nothing is sent; who goes on does so with the key that was in use.
            return Ok(TransportKeys {
                transport: transport.clone(),
                current,
                before,
                sending: in_use.cloned(),
            });
        };
        let sends_with = if sdes.send_generation == sdes.key_generation {
            Some(&current)
        } else {
            before.as_ref()
        };
        let sending = sends_with.and_then(|generation| generation.key(remote.key.suite()));
        let Some(sending) = sending.cloned() else {
            return Err(Refusal::KeyGeneration {
                transport: transport.clone(),
                asked: sdes.send_generation,
                current: sdes.key_generation,
                suite: remote.key.suite(),
            });
        };
        if let Some(used) = in_use.filter(|used| **used != sending) {
            for key in current.keys.iter_mut().filter(|key| *key == used) {
                *key = Arc::new(self.fresh_key(transport, used.suite())?);
            }
            // What was offered before cannot be offered anew.
            if let Some(before) = &mut before {
                before.keys.retain(|key| key != used);
            }
        }
        Ok(TransportKeys {
            transport: transport.clone(),
            current,
            before,
            sending: Some(sending),
        })
    }

    fn fresh_key(&mut self, transport: &Name, suite: Suite) -> Result<MasterKey, Refusal> {
        let refusal = || Refusal::NoRandomness(transport.clone());
        let secrets = self.secrets.as_mut().ok_or_else(refusal)?;
        MasterKey::generate(suite, |secret| secrets.fill(secret)).map_err(|NoRandomness| refusal())
    }
}

impl TransportKeys {
    /// What to tell the peer, best first. RFC 4568 §5.1.3: an answer has the tag of the attribute it accepts.
    pub(super) fn told(&self, sdes: &SdesSpec) -> Vec<LocalKey> {
        let chosen = sdes
            .remote
            .as_ref()
            .map(|remote| (remote.key.suite(), remote.tag));
        let beyond = self.current.keys.len() as u32 + 1;
        let tag = |at: u32, suite| match chosen {
            Some((accepted, tag)) if accepted == suite => tag,
            Some((_, tag)) if tag == at => beyond,
            Some(_) | None => at,
        };
        let told = |(at, key): (u32, &Arc<MasterKey>)| LocalKey {
            key: key.clone(),
            tag: tag(at, key.suite()),
        };
        (1..).zip(&self.current.keys).map(told).collect()
    }
}

/// For the worker: what each transport sends with.
pub(super) fn sending(keys: &[TransportKeys]) -> Vec<SendingKey> {
    let sending = |keys: &TransportKeys| {
        Some(SendingKey {
            transport: keys.transport.clone(),
            key: keys.sending.clone()?,
        })
    };
    keys.iter().filter_map(sending).collect()
}

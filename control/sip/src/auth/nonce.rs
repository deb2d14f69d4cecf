//! Nonces that carry their own proof, and the counts they were used with.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

use crate::limits::{NONCE_COUNT_WINDOW, NONCE_TRACKED_MAX};

const HEAD_BYTES: usize = 16;
const PROOF_BYTES: usize = 16;

/// The secret that nonces are signed with. Processes that share it accept each other's nonces.
#[derive(Clone)]
pub struct NonceKey(pub [u8; 32]);

impl std::fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKey(…)")
    }
}

/// When a nonce was issued, and a number that makes it unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NonceId {
    issued: u64,
    serial: u64,
}

impl NonceKey {
    /// The text of a nonce: issue time, serial, and an HMAC over both and the realm, in hexadecimal.
    pub(super) fn issue(&self, realm: &str, issued: u64, serial: u64) -> String {
        let mut raw = [0u8; HEAD_BYTES + PROOF_BYTES];
        raw[..8].copy_from_slice(&issued.to_be_bytes());
        raw[8..HEAD_BYTES].copy_from_slice(&serial.to_be_bytes());
        let proof = self.proof(realm, &raw[..HEAD_BYTES]);
        raw[HEAD_BYTES..].copy_from_slice(&proof);
        let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
        raw.iter()
            .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
            .collect()
    }

    /// Reads a nonce back; `None` when it is not ours.
    pub(super) fn verify(&self, realm: &str, nonce: &[u8]) -> Option<NonceId> {
        if nonce.len() != 2 * (HEAD_BYTES + PROOF_BYTES) {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let mut raw = [0u8; HEAD_BYTES + PROOF_BYTES];
        for (byte, pair) in raw.iter_mut().zip(nonce.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let (head, proof) = raw.split_at(HEAD_BYTES);
        if !bool::from(self.proof(realm, head).ct_eq(proof)) {
            return None;
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        Some(NonceId {
            issued: number(&head[..8]),
            serial: number(&head[8..]),
        })
    }

    fn proof(&self, realm: &str, head: &[u8]) -> [u8; PROOF_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(head);
        mac.update(realm.as_bytes());
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(&mac.finalize().into_bytes()[..PROOF_BYTES]);
        proof
    }
}

/// What the use of a nonce with a count means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceUse {
    /// First use of this count: accept.
    Fresh,
    /// Too old, issued in the future, forgotten, or the count is below the window: challenge with `stale=true`.
    Stale,
    /// This count was used before: somebody repeats a request. Challenge with `stale=true`.
    Replayed,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    highest: u32,
    /// Bit n: count `highest - n` was used.
    seen: u64,
}

/// Counts used per nonce, bounded by [`NONCE_TRACKED_MAX`].
#[derive(Debug)]
pub(super) struct NonceCounts {
    windows: BTreeMap<NonceId, Window>,
    lifetime_s: u64,
    /// Nonces up to this one may have been forgotten; without a window they are stale.
    forgotten: Option<NonceId>,
    tracked_max: usize,
}

impl NonceCounts {
    pub(super) fn new(lifetime_s: u64) -> Self {
        Self {
            windows: BTreeMap::new(),
            lifetime_s,
            forgotten: None,
            tracked_max: NONCE_TRACKED_MAX,
        }
    }

    /// Notes the use of `count` (from 1) with a nonce that was verified.
    ///
    /// Call it only after the response proved right, so that strangers cannot burn counts.
    pub(super) fn note(&mut self, id: NonceId, count: u32, now: u64) -> NonceUse {
        self.expire(now);
        // A minute of clock difference between processes that share the key.
        if !self.is_current(id, now) || count == 0 {
            return NonceUse::Stale;
        }
        match self.windows.get_mut(&id) {
            Some(window) => window.note(count),
            None if self.forgotten.is_some_and(|forgotten| id <= forgotten) => NonceUse::Stale,
            None => {
                self.windows.insert(
                    id,
                    Window {
                        highest: count,
                        seen: 1,
                    },
                );
                if self.windows.len() > self.tracked_max {
                    self.forgotten = self.windows.pop_first().map(|(id, _)| id).max(self.forgotten);
                }
                NonceUse::Fresh
            }
        }
    }

    pub(super) fn is_current(&self, id: NonceId, now: u64) -> bool {
        id.issued <= now.saturating_add(60) && now.saturating_sub(id.issued) <= self.lifetime_s
    }

    fn expire(&mut self, now: u64) {
        while let Some((&id, _)) = self.windows.first_key_value()
            && now.saturating_sub(id.issued) > self.lifetime_s
        {
            self.windows.pop_first();
        }
    }
}

impl Window {
    fn note(&mut self, count: u32) -> NonceUse {
        if count > self.highest {
            let step = count - self.highest;
            self.seen = if step < NONCE_COUNT_WINDOW {
                self.seen << step | 1
            } else {
                1
            };
            self.highest = count;
            return NonceUse::Fresh;
        }
        let back = self.highest - count;
        if back >= NONCE_COUNT_WINDOW {
            return NonceUse::Stale;
        }
        if self.seen >> back & 1 == 1 {
            return NonceUse::Replayed;
        }
        self.seen |= 1 << back;
        NonceUse::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: NonceKey = NonceKey([7; 32]);

    fn id(issued: u64, serial: u64) -> NonceId {
        NonceId { issued, serial }
    }

    #[test]
    fn a_nonce_proves_itself_and_nothing_else_does() {
        let nonce = KEY.issue("r", 1_000, 5);
        assert_eq!(KEY.verify("r", nonce.as_bytes()), Some(id(1_000, 5)));
        assert_eq!(KEY.verify("other", nonce.as_bytes()), None);
        assert_eq!(NonceKey([8; 32]).verify("r", nonce.as_bytes()), None);
        for at in 0..nonce.len() {
            let mut forged = nonce.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(KEY.verify("r", &forged), None);
        }
        assert_eq!(KEY.verify("r", &nonce.as_bytes()[1..]), None);
        assert_eq!(KEY.verify("r", &[b'z'; 64]), None);
    }

    #[test]
    fn counts_may_come_late_but_never_twice() {
        let mut counts = NonceCounts::new(300);
        let nonce = id(1_000, 1);
        // Past 9, where a decimal or 8-bit reading would fail: 0x0a, 0x100, 0xffff_ffff.
        for count in [1, 2, 10, 9, 256, 255, u32::MAX] {
            assert_eq!(counts.note(nonce, count, 1_000), NonceUse::Fresh, "{count}");
            assert_eq!(counts.note(nonce, count, 1_000), NonceUse::Replayed, "{count}");
        }
        assert_eq!(counts.note(nonce, u32::MAX - 63, 1_000), NonceUse::Fresh);
        assert_eq!(counts.note(nonce, u32::MAX - 64, 1_000), NonceUse::Stale);
        assert_eq!(counts.note(nonce, 0, 1_000), NonceUse::Stale);
    }

    #[test]
    fn old_future_and_forgotten_nonces_are_stale() {
        let mut counts = NonceCounts::new(300);
        assert_eq!(counts.note(id(1_000, 1), 1, 1_301), NonceUse::Stale);
        assert_eq!(counts.note(id(2_000, 1), 1, 1_301), NonceUse::Stale);
        counts.tracked_max = 2;
        for serial in 1..=3 {
            assert_eq!(counts.note(id(1_000, serial), 1, 1_000), NonceUse::Fresh);
        }
        // The first was forgotten: its count 1 must not pass again.
        assert_eq!(counts.note(id(1_000, 1), 1, 1_000), NonceUse::Stale);
        assert_eq!(counts.note(id(1_000, 3), 1, 1_000), NonceUse::Replayed);
        assert_eq!(counts.note(id(1_400, 9), 1, 1_400), NonceUse::Fresh);
        assert_eq!(counts.windows.len(), 1);
    }
}

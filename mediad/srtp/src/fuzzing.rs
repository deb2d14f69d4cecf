//! Entry point for the fuzzer and the corpus replay: a peer and a stranger send, and what is taken must be the peer's.
//!
//! It panics if and only if the crate contradicts itself.

use std::time::{Duration, Instant};

use crate::{Inbound, MasterKey, Outbound, Suite, TRAILER_BYTES_MAX, UnprotectError};

/// Longest input looked at.
const INPUT_BYTES_MAX: usize = 4_096;

/// Bytes of a text in hexadecimal.
///
/// # Panics
/// If it is none: for vectors that stand in the source.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// Reads `data` as a script. Its first byte chooses the suite; then each step is a kind, a length and as many bytes:
/// garbage as RTP or RTCP, a packet of the peer's, one of the peer's with a bit turned over, one that was taken before,
/// a change of the key, time that passes.
pub fn fuzz_srtp(data: &[u8]) {
    let [choice, script @ ..] = &data[..data.len().min(INPUT_BYTES_MAX)] else {
        return;
    };
    let mut world = World::new(Suite::ALL[usize::from(*choice) % Suite::ALL.len()]);
    let mut rest = script;
    while let [kind, len, after @ ..] = rest {
        let (bytes, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        match kind % 8 {
            0 => world.garbage(bytes, false),
            1 => world.garbage(bytes, true),
            2 => world.speak(bytes, None),
            3 => world.speak(bytes, Some(usize::from(*len))),
            4 => world.report(bytes),
            5 => world.replay(),
            6 => world.rekey(bytes),
            _ => world.now += Duration::from_millis(u64::from(*len) * 100),
        }
    }
}

struct World {
    now: Instant,
    suite: Suite,
    peer: Outbound,
    us: Inbound,
    sequence: u16,
    /// Protected, and taken once.
    taken: Option<(Vec<u8>, bool)>,
}

impl World {
    fn new(suite: Suite) -> Self {
        let key = MasterKey::new(suite, &[1; 64][..suite.key_salt_bytes()]).expect("the suite's own length");
        Self {
            // Its value does not matter: only differences count.
            #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
            now: Instant::now(),
            suite,
            peer: Outbound::new(&key),
            us: Inbound::new(&key),
            sequence: 0xfff0,
            taken: None,
        }
    }

    fn garbage(&mut self, bytes: &[u8], as_rtcp: bool) {
        let mut packet = bytes.to_vec();
        let outcome = match as_rtcp {
            true => self.us.unprotect_rtcp(self.now, &mut packet),
            false => self.us.unprotect_rtp(self.now, &mut packet),
        };
        let is_copy = self.taken.as_ref().is_some_and(|(taken, _)| taken == bytes);
        assert!(outcome.is_err() || is_copy, "garbage was taken");
        // What one attempts to send may be anything too.
        let mut slot = [bytes, &[0; TRAILER_BYTES_MAX]].concat();
        let _ = self.peer_copy().protect_rtp(&mut slot, bytes.len());
        let _ = self.peer_copy().protect_rtcp(&mut slot, bytes.len());
        let _ = self
            .peer_copy()
            .protect_rtp(&mut slot[..bytes.len()], bytes.len());
    }

    /// Another sender, so that garbage does not disturb the peer's own windows.
    fn peer_copy(&self) -> Outbound {
        let key = MasterKey::new(self.suite, &[9; 64][..self.suite.key_salt_bytes()]);
        Outbound::new(&key.expect("the suite's own length"))
    }

    fn speak(&mut self, payload: &[u8], turned: Option<usize>) {
        self.sequence = self.sequence.wrapping_add(1);
        let [high, low] = self.sequence.to_be_bytes();
        let clear = [&[0x80, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 7], payload].concat();
        let mut slot = [&clear[..], &[0; TRAILER_BYTES_MAX]].concat();
        let len = self
            .peer
            .protect_rtp(&mut slot, clear.len())
            .expect("the peer counts up");
        assert_eq!(len, clear.len() + self.suite.rtp_trailer_bytes());
        let mut packet = slot[..len].to_vec();
        if let Some(bit) = turned {
            packet[bit / 8 % len] ^= 1 << (bit % 8);
            assert!(
                self.us.unprotect_rtp(self.now, &mut packet).is_err(),
                "a forgery was taken"
            );
            packet = slot[..len].to_vec();
        }
        self.taken = Some((packet.clone(), false));
        assert_eq!(self.us.unprotect_rtp(self.now, &mut packet), Ok(clear.len()));
        assert_eq!(packet[..clear.len()], clear);
    }

    fn report(&mut self, body: &[u8]) {
        let clear = [&[0x80, 200, 0, 1, 0, 0, 0, 7], body].concat();
        let mut slot = [&clear[..], &[0; TRAILER_BYTES_MAX]].concat();
        let len = self
            .peer
            .protect_rtcp(&mut slot, clear.len())
            .expect("an index is left");
        assert_eq!(len, clear.len() + self.suite.rtcp_trailer_bytes());
        let mut packet = slot[..len].to_vec();
        self.taken = Some((packet.clone(), true));
        assert_eq!(self.us.unprotect_rtcp(self.now, &mut packet), Ok(clear.len()));
        assert_eq!(packet[..clear.len()], clear);
    }

    fn replay(&mut self) {
        let Some((mut packet, is_rtcp)) = self.taken.clone() else {
            return;
        };
        let outcome = match is_rtcp {
            true => self.us.unprotect_rtcp(self.now, &mut packet),
            false => self.us.unprotect_rtp(self.now, &mut packet),
        };
        assert!(
            matches!(
                outcome,
                Err(UnprotectError::Replay | UnprotectError::Authentication)
            ),
            "taken twice: {outcome:?}"
        );
    }

    fn rekey(&mut self, bytes: &[u8]) {
        let mut key = [2; 64];
        let len = bytes.len().min(key.len());
        key[..len].copy_from_slice(&bytes[..len]);
        let key = MasterKey::new(self.suite, &key[..self.suite.key_salt_bytes()]);
        let key = key.expect("the suite's own length");
        self.peer = Outbound::new(&key);
        self.us.rekey(self.now, &key);
        self.taken = None;
    }
}

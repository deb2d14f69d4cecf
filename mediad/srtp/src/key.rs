//! Master keys and what is derived from them.

use std::fmt;

use aes::{
    Aes128Enc, Aes256Enc,
    cipher::{BlockEncrypt, BlockSizeUser, KeyInit, consts::U16, generic_array::GenericArray},
};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::suite::Suite;

/// Longest master key and salt: AES-256 in counter mode.
const KEY_SALT_BYTES_MAX: usize = Suite::Aes256CmHmacSha1_80.key_salt_bytes();

/// A master key with its salt and what they are for. Overwritten when dropped, compared in constant time.
#[derive(Clone)]
pub struct MasterKey {
    suite: Suite,
    bytes: [u8; KEY_SALT_BYTES_MAX],
}

/// Master key and salt do not have the suite's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{} takes {} bytes of key and salt, not {given}", suite.name(), suite.key_salt_bytes())]
pub struct KeyLength {
    /// The suite.
    pub suite: Suite,
    /// Bytes given.
    pub given: usize,
}

impl MasterKey {
    /// A key from `key_salt`: master key, then master salt, as in SDES.
    ///
    /// # Errors
    /// [`KeyLength`] unless it has [`Suite::key_salt_bytes`]: tell whoever gave it.
    pub fn new(suite: Suite, key_salt: &[u8]) -> Result<Self, KeyLength> {
        let given = key_salt.len();
        if given != suite.key_salt_bytes() {
            return Err(KeyLength { suite, given });
        }
        let mut bytes = [0; KEY_SALT_BYTES_MAX];
        bytes[..given].copy_from_slice(key_salt);
        Ok(Self { suite, bytes })
    }

    /// A key that `fill` makes: from a source of randomness that nobody can guess.
    ///
    /// # Errors
    /// What `fill` says.
    pub fn generate<E>(suite: Suite, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self {
            suite,
            bytes: [0; KEY_SALT_BYTES_MAX],
        };
        fill(&mut key.bytes[..suite.key_salt_bytes()])?;
        Ok(key)
    }

    /// What it is for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Master key, then master salt. For the one place that tells them to the peer.
    pub fn key_salt(&self) -> &[u8] {
        &self.bytes[..self.suite.key_salt_bytes()]
    }

    pub(crate) fn derive(&self, label: Label) -> SessionKeys {
        let (key, salt) = self.key_salt().split_at(self.suite.key_bytes());
        let mut keys = SessionKeys::default();
        let wanted = [
            (label as u8, &mut keys.cipher[..key.len()]),
            (label as u8 + 1, &mut keys.auth[..]),
            (label as u8 + 2, &mut keys.salt[..salt.len()]),
        ];
        for (label, out) in wanted {
            match key.len() {
                16 => fill::<Aes128Enc>(key, salt, label, out),
                _ => fill::<Aes256Enc>(key, salt, label, out),
            }
        }
        keys
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.suite == other.suite && bool::from(self.bytes.ct_eq(&other.bytes))
    }
}

impl Eq for MasterKey {}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, secret)", self.suite.name())
    }
}

/// The first of the three labels of a kind of packet: encryption, authentication, salt.
///
/// # Source
/// RFC 3711 §4.3.1, §4.3.2.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Label {
    Rtp = 0,
    Rtcp = 3,
}

/// Keys of one kind of packet; the front of each array is used, as long as the suite says.
#[derive(Default)]
pub(crate) struct SessionKeys {
    pub(crate) cipher: [u8; 32],
    pub(crate) auth: [u8; 20],
    pub(crate) salt: [u8; 14],
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.cipher.zeroize();
        self.auth.zeroize();
        self.salt.zeroize();
    }
}

/// AES-CM as the pseudo-random function, with a key derivation rate of zero.
///
/// # Source
/// RFC 3711 §4.3.3; RFC 6188 §3 for AES-256; RFC 7714 §11 for AES-GCM, whose salt of 96 bits is filled up with zeros.
fn fill<A: BlockEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit>(
    key: &[u8],
    salt: &[u8],
    label: u8,
    out: &mut [u8],
) {
    let prf = A::new_from_slice(key).expect("the suite says how long the key is");
    let mut start = Zeroizing::new([0_u8; 16]);
    start[..salt.len()].copy_from_slice(salt);
    start[7] ^= label;
    for (count, chunk) in (0_u16..).zip(out.chunks_mut(16)) {
        let mut block = start.clone();
        block[14..].copy_from_slice(&count.to_be_bytes());
        prf.encrypt_block(GenericArray::from_mut_slice(&mut block[..]));
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::hex;

    #[test]
    fn session_keys_are_those_of_rfc_3711_appendix_b_3() {
        let key_salt = [
            hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            hex("0EC675AD498AFEEBB6960B3AABE6"),
        ]
        .concat();
        let key = MasterKey::new(Suite::AesCm128HmacSha1_80, &key_salt).expect("30 bytes");
        let keys = key.derive(Label::Rtp);
        assert_eq!(keys.cipher[..16], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(keys.salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(keys.auth[..], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn session_keys_are_those_of_rfc_6188_section_7_2() {
        let key_salt = [
            hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6"),
            hex("3b04803de51ee7c96423ab5b78d2"),
        ]
        .concat();
        let key = MasterKey::new(Suite::Aes256CmHmacSha1_80, &key_salt).expect("46 bytes");
        let keys = key.derive(Label::Rtp);
        assert_eq!(
            keys.cipher[..],
            hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(keys.salt[..], hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(keys.auth[..], hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused_by_name() {
        for suite in Suite::ALL {
            let right = vec![1; suite.key_salt_bytes()];
            assert!(MasterKey::new(suite, &right).is_ok());
            let refused = MasterKey::new(suite, &right[1..]).expect_err("too short");
            assert!(refused.to_string().contains(suite.name()), "{refused}");
            assert!(MasterKey::new(suite, &[]).is_err());
            assert!(MasterKey::new(suite, &[right, vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let key = MasterKey::new(Suite::AeadAes128Gcm, &[0xab; 28]).expect("28 bytes");
        assert_eq!(format!("{key:?}"), "MasterKey(AEAD_AES_128_GCM, secret)");
        assert_eq!(key, key.clone());
        assert_ne!(
            key,
            MasterKey::new(Suite::AeadAes128Gcm, &[0xac; 28]).expect("28 bytes")
        );
    }
}

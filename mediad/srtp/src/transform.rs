//! What is done to one packet with one set of session keys: encrypt and tag, check and decrypt.

use std::{fmt, hint::black_box};

use aes::{
    Aes128Enc, Aes256Enc,
    cipher::{
        BlockCipher, BlockEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher,
        StreamCipherCoreWrapper, consts::U16, generic_array::GenericArray,
    },
};
use ctr::{CtrCore, flavors::Ctr128BE};
use hmac::{Hmac, Mac};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use sha1::Sha1;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::{
    key::{Label, MasterKey, SessionKeys},
    suite::{INDEX_BYTES, Suite},
};

/// RTCP's header, which stays readable.
pub(crate) const RTCP_HEADER_BYTES: usize = 8;
/// Encrypted, in the word with the SRTCP index.
const E_BIT: u32 = 1 << 31;
const GCM_TAG_BYTES: usize = 16;

/// The tag is not what it would be with this key and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forged;

/// Session keys of RTP and RTCP of one direction.
pub(crate) struct Transforms {
    pub(crate) suite: Suite,
    rtp: Transform,
    rtcp: Transform,
}

impl fmt::Debug for Transforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transforms({}, secret)", self.suite.name())
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "kept in place: each packet needs it, and a call has four"
)]
enum Transform {
    Cm128(CounterMode<Aes128Enc>),
    /// The largest by far, and rare.
    Cm256(Box<CounterMode<Aes256Enc>>),
    Gcm(Galois),
}

impl Transforms {
    pub(crate) fn new(master: &MasterKey) -> Self {
        let suite = master.suite();
        Self {
            suite,
            rtp: Transform::new(suite, &master.derive(Label::Rtp)),
            rtcp: Transform::new(suite, &master.derive(Label::Rtcp)),
        }
    }

    /// For vectors that give session keys.
    #[cfg(test)]
    pub(crate) fn from_session_keys(suite: Suite, keys: &SessionKeys) -> Self {
        Self {
            suite,
            rtp: Transform::new(suite, keys),
            rtcp: Transform::new(suite, keys),
        }
    }

    /// Tags a packet that ends in a word and room for the tag, encrypting nothing.
    #[cfg(test)]
    pub(crate) fn tag_rtcp_for_tests(&self, packet: &mut [u8]) {
        let Transform::Cm128(cm) = &self.rtcp else {
            panic!("only for AES-128 in counter mode");
        };
        let (data, tag) = packet.split_at_mut(packet.len() - self.suite.rtcp_tag_bytes());
        tag.copy_from_slice(&cm.tag([data, &[]])[..tag.len()]);
    }

    /// Overwrites the keys; what is opened from now on fails.
    pub(crate) fn wipe(&mut self) {
        self.rtp.wipe();
        self.rtcp.wipe();
    }

    /// Encrypts the packet in `buffer[..len]` behind its header and appends the tag; `buffer` has room for it.
    #[inline]
    pub(crate) fn seal_rtp(&self, buffer: &mut [u8], len: usize, header_len: usize, ssrc: u32, index: u64) {
        let tag_bytes = self.suite.rtp_trailer_bytes();
        let (packet, rest) = buffer.split_at_mut(len);
        let tag = &mut rest[..tag_bytes];
        match &self.rtp {
            Transform::Cm128(cm) => cm.seal_rtp(packet, header_len, ssrc, index, tag),
            Transform::Cm256(cm) => cm.seal_rtp(packet, header_len, ssrc, index, tag),
            Transform::Gcm(gcm) => {
                let (header, body) = packet.split_at_mut(header_len);
                gcm.seal(header, body, ssrc, index, tag);
            }
        }
    }

    /// Checks and decrypts; the length of what is left.
    ///
    /// # Errors
    /// [`Forged`]; the packet may be spoilt unless [`Suite::is_checked_first`].
    #[inline]
    pub(crate) fn open_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, Forged> {
        let len = packet.len() - self.suite.rtp_trailer_bytes();
        match &self.rtp {
            Transform::Cm128(cm) => cm.open_rtp(packet, len, header_len, ssrc, index)?,
            Transform::Cm256(cm) => cm.open_rtp(packet, len, header_len, ssrc, index)?,
            Transform::Gcm(gcm) => {
                let (header, body) = packet.split_at_mut(header_len);
                gcm.open(header, body, ssrc, index)?;
            }
        }
        Ok(len)
    }

    /// Encrypts the compound packet in `buffer[..len]` and appends index and tag; `buffer` has room for both.
    pub(crate) fn seal_rtcp(&self, buffer: &mut [u8], len: usize, ssrc: u32, index: u32) -> usize {
        let word = (E_BIT | index).to_be_bytes();
        let end = len + self.suite.rtcp_trailer_bytes();
        match &self.rtcp {
            Transform::Cm128(cm) => cm.seal_rtcp(&mut buffer[..end], len, ssrc, index, word),
            Transform::Cm256(cm) => cm.seal_rtcp(&mut buffer[..end], len, ssrc, index, word),
            Transform::Gcm(gcm) => {
                // RFC 7714 §9.2: what is authenticated beside the text is the header and the word at the end.
                let (packet, trailer) = buffer[..end].split_at_mut(len);
                let (header, body) = packet.split_at_mut(RTCP_HEADER_BYTES);
                let (tag, place) = trailer.split_at_mut(GCM_TAG_BYTES);
                gcm.seal(&associated(header, word), body, ssrc, u64::from(index), tag);
                place.copy_from_slice(&word);
            }
        }
        end
    }

    /// The index that an SRTCP packet states.
    pub(crate) fn rtcp_index(&self, packet: &[u8]) -> u32 {
        u32::from_be_bytes(self.rtcp_word(packet)) & !E_BIT
    }

    /// Checks and decrypts; the length of what is left.
    ///
    /// # Errors
    /// [`Forged`], as [`open_rtp`](Self::open_rtp).
    pub(crate) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32) -> Result<usize, Forged> {
        let len = packet.len() - self.suite.rtcp_trailer_bytes();
        let word = self.rtcp_word(packet);
        let is_encrypted = word[0] & 0x80 != 0;
        let index = self.rtcp_index(packet);
        match &self.rtcp {
            Transform::Cm128(cm) => cm.open_rtcp(packet, len, ssrc, index, is_encrypted)?,
            Transform::Cm256(cm) => cm.open_rtcp(packet, len, ssrc, index, is_encrypted)?,
            Transform::Gcm(gcm) if is_encrypted => {
                let (header, rest) = packet.split_at_mut(RTCP_HEADER_BYTES);
                let body_and_tag = &mut rest[..len - RTCP_HEADER_BYTES + GCM_TAG_BYTES];
                gcm.open(&associated(header, word), body_and_tag, ssrc, u64::from(index))?;
            }
            Transform::Gcm(gcm) => {
                // RFC 7714 §9.3: all is associated data, the word last; so it changes places with the tag.
                let (data, trailer) = packet.split_at_mut(len + INDEX_BYTES);
                let mut tag = [0; GCM_TAG_BYTES];
                let (front, back) = tag.split_at_mut(INDEX_BYTES);
                front.copy_from_slice(&data[len..]);
                back.copy_from_slice(&trailer[..GCM_TAG_BYTES - INDEX_BYTES]);
                data[len..].copy_from_slice(&word);
                gcm.open(data, &mut tag, ssrc, u64::from(index))?;
            }
        }
        Ok(len)
    }

    /// The word with E bit and index: last with AES-GCM (RFC 7714 §9.2), before the tag otherwise (RFC 3711 §3.4).
    fn rtcp_word(&self, packet: &[u8]) -> [u8; INDEX_BYTES] {
        let behind = match &self.rtcp {
            Transform::Cm128(_) | Transform::Cm256(_) => self.suite.rtcp_tag_bytes(),
            Transform::Gcm(_) => 0,
        };
        let word = packet[..packet.len() - behind].last_chunk();
        *word.expect("the caller checked that header and trailer are there")
    }
}

/// Header and word, in one piece.
fn associated(header: &[u8], word: [u8; INDEX_BYTES]) -> [u8; RTCP_HEADER_BYTES + INDEX_BYTES] {
    let mut associated = [0; RTCP_HEADER_BYTES + INDEX_BYTES];
    associated[..RTCP_HEADER_BYTES].copy_from_slice(header);
    associated[RTCP_HEADER_BYTES..].copy_from_slice(&word);
    associated
}

impl Transform {
    fn new(suite: Suite, keys: &SessionKeys) -> Self {
        match suite {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => Self::Cm128(CounterMode::new(keys)),
            Suite::Aes256CmHmacSha1_80 => Self::Cm256(Box::new(CounterMode::new(keys))),
            Suite::AeadAes128Gcm => Self::Gcm(Galois::new(&AES_128_GCM, keys)),
            Suite::AeadAes256Gcm => Self::Gcm(Galois::new(&AES_256_GCM, keys)),
        }
    }

    /// Neither HMAC nor ring overwrites its state when dropped; another key in its place does.
    fn wipe(&mut self) {
        let nothing = SessionKeys::default();
        match self {
            Self::Cm128(cm) => *cm = CounterMode::new(&nothing),
            Self::Cm256(cm) => **cm = CounterMode::new(&nothing),
            Self::Gcm(gcm) => *gcm = Galois::new(gcm.key.algorithm(), &nothing),
        }
        black_box(&*self);
    }
}

impl Drop for Transform {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// AES in counter mode with HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1).
struct CounterMode<A> {
    aes: A,
    /// Keyed; cloned for each packet.
    mac: Hmac<Sha1>,
    salt: [u8; 14],
}

impl<A> CounterMode<A>
where
    A: BlockEncrypt + BlockCipher + BlockSizeUser<BlockSize = U16> + KeyInit,
{
    fn new(keys: &SessionKeys) -> Self {
        let cipher = &keys.cipher[..A::key_size()];
        Self {
            aes: A::new_from_slice(cipher).expect("cut to the cipher's own length"),
            mac: <Hmac<Sha1> as Mac>::new_from_slice(&keys.auth).expect("HMAC takes keys of any length"),
            salt: keys.salt,
        }
    }

    /// Encrypts or decrypts.
    #[inline]
    fn crypt(&self, data: &mut [u8], ssrc: u32, index: u64) {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        for (iv, salt) in iv.iter_mut().zip(&self.salt) {
            *iv ^= salt;
        }
        let core = CtrCore::<&A, Ctr128BE>::inner_iv_init(&self.aes, GenericArray::from_slice(&iv));
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    #[inline]
    fn tag(&self, parts: [&[u8]; 2]) -> [u8; 20] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    #[inline]
    fn seal_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64, tag: &mut [u8]) {
        self.crypt(&mut packet[header_len..], ssrc, index);
        tag.copy_from_slice(&self.tag([packet, &rollovers(index)])[..tag.len()]);
    }

    #[inline]
    fn open_rtp(
        &self,
        packet: &mut [u8],
        len: usize,
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), Forged> {
        let (data, tag) = packet.split_at_mut(len);
        check(&self.tag([data, &rollovers(index)]), tag)?;
        self.crypt(&mut data[header_len..], ssrc, index);
        Ok(())
    }

    fn seal_rtcp(&self, buffer: &mut [u8], len: usize, ssrc: u32, index: u32, word: [u8; INDEX_BYTES]) {
        self.crypt(&mut buffer[RTCP_HEADER_BYTES..len], ssrc, u64::from(index));
        let (data, tag) = buffer.split_at_mut(len + INDEX_BYTES);
        data[len..].copy_from_slice(&word);
        tag.copy_from_slice(&self.tag([data, &[]])[..tag.len()]);
    }

    fn open_rtcp(
        &self,
        packet: &mut [u8],
        len: usize,
        ssrc: u32,
        index: u32,
        is_encrypted: bool,
    ) -> Result<(), Forged> {
        let (data, tag) = packet.split_at_mut(len + INDEX_BYTES);
        check(&self.tag([data, &[]]), tag)?;
        if is_encrypted {
            self.crypt(&mut data[RTCP_HEADER_BYTES..len], ssrc, u64::from(index));
        }
        Ok(())
    }
}

/// The rollover counter, which is authenticated behind the packet and not sent.
#[inline]
fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// In constant time.
#[inline]
fn check(tag: &[u8; 20], received: &[u8]) -> Result<(), Forged> {
    match bool::from(tag[..received.len()].ct_eq(received)) {
        true => Ok(()),
        false => Err(Forged),
    }
}

impl<A> Drop for CounterMode<A> {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

/// AES in Galois/counter mode (RFC 7714).
struct Galois {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Galois {
    fn new(algorithm: &'static Algorithm, keys: &SessionKeys) -> Self {
        let cipher = &keys.cipher[..algorithm.key_len()];
        let key = UnboundKey::new(algorithm, cipher).expect("cut to the algorithm's own length");
        let mut salt = [0; 12];
        salt.copy_from_slice(&keys.salt[..12]);
        Self {
            key: LessSafeKey::new(key),
            salt,
        }
    }

    /// RFC 7714 §8.1 and §9.1; SRTCP's index of 31 bits stands where RTP's 48 end.
    #[inline]
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
        iv[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
        for (iv, salt) in iv.iter_mut().zip(&self.salt) {
            *iv ^= salt;
        }
        Nonce::assume_unique_for_key(iv)
    }

    #[inline]
    fn seal(&self, associated: &[u8], body: &mut [u8], ssrc: u32, index: u64, tag: &mut [u8]) {
        let sealed =
            self.key
                .seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(associated), body);
        let made = sealed.expect("a packet is shorter than the 64 GiB that one nonce is good for");
        tag.copy_from_slice(made.as_ref());
    }

    #[inline]
    fn open(&self, associated: &[u8], body_and_tag: &mut [u8], ssrc: u32, index: u64) -> Result<(), Forged> {
        let opened = self
            .key
            .open_in_place(self.nonce(ssrc, index), Aad::from(associated), body_and_tag);
        opened.map(drop).map_err(|_| Forged)
    }
}

impl Drop for Galois {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

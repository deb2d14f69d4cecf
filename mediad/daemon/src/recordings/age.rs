//! Files that only the holder of a private key can read, in the age format, version 1: written here, read by any of its tools.
//! This host has public keys alone, and could not read what it wrote.
//!
//! A file is a header, in which a key of its own is wrapped for each recipient, and the content in chunks that are
//! sealed one by one: whatever whole chunks a crash leaves can be opened. Keys, sealing and sums are `ring`'s; the format is
//! written down here because the crate that has it brings some 90 packages, message catalogues among them.
//!
//! # Source
//! age-encryption.org/v1 (C2SP `age.md`); BIP 173 (how recipients are spelt).

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// Content of every chunk but the last.
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
/// A whole chunk on disk.
const SEALED_BYTES: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;
const FILE_KEY_BYTES: usize = 16;
const PAYLOAD_NONCE_BYTES: usize = 16;
/// What a file begins with.
pub(crate) const VERSION: &str = "age-encryption.org/v1";
/// Length of a header with as many recipients as a host may have, and some more.
pub(crate) const HEADER_BYTES_MAX: usize = 4_096;
/// Recipients of a host.
pub(crate) const RECIPIENTS_MAX: usize = 16;

/// A public key, for whoever holds the private one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient([u8; 32]);

/// Why a text is no recipient: the end of a sentence that begins with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecipientError {
    #[error(
        "is a private key, which must never be on a media host; give the public key that belongs to it (age-keygen -y), \
         and make a new pair if others can read this configuration"
    )]
    Secret,
    #[error("is no age recipient; give a public key as age-keygen prints it: age1 and 58 letters and digits")]
    Malformed,
    #[error("has a wrong checksum, so a character of it is wrong; copy the public key again")]
    Checksum,
    #[error("is no usable key; give a public key as age-keygen prints it")]
    Unusable,
}

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn parse(text: &str) -> Result<Self, RecipientError> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(RecipientError::Secret);
        }
        let data = text.strip_prefix("age1").ok_or(RecipientError::Malformed)?;
        let recipient = Self(bech32("age", data)?);
        // A key of small order makes no secret; that shows with the first file at the latest, so look now.
        recipient
            .wrap(&[0; FILE_KEY_BYTES], &SystemRandom::new())
            .map_err(|_| RecipientError::Unusable)?;
        Ok(recipient)
    }

    /// The stanza of a header that holds `file_key` for this recipient.
    fn wrap(&self, file_key: &[u8; FILE_KEY_BYTES], random: &SystemRandom) -> Result<String, Unspecified> {
        let ephemeral = EphemeralPrivateKey::generate(&X25519, random)?;
        let share = ephemeral.compute_public_key()?;
        let salt = [share.as_ref(), &self.0].concat();
        let theirs = UnparsedPublicKey::new(&X25519, self.0);
        let wrapping = agreement::agree_ephemeral(ephemeral, &theirs, |secret| {
            derive(&salt, secret, b"age-encryption.org/v1/X25519")
        })??;
        let mut body = file_key.to_vec();
        // A key that wraps once: its nonce is zero.
        sealing_key(&wrapping)?.seal_in_place_append_tag(
            Nonce::assume_unique_for_key([0; 12]),
            Aad::empty(),
            &mut body,
        )?;
        let (share, body) = (
            STANDARD_NO_PAD.encode(share.as_ref()),
            STANDARD_NO_PAD.encode(body),
        );
        Ok(format!("-> X25519 {share}\n{body}\n"))
    }
}

/// The 32 bytes that `data` stands for behind `prefix` and the separator.
fn bech32(prefix: &str, data: &str) -> Result<[u8; 32], RecipientError> {
    const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    /// Letters of 32 bytes, and of the checksum.
    const COUNTS: (usize, usize) = (52, 6);
    let value = |letter: u8| LETTERS.iter().position(|known| *known == letter);
    let values: Option<Vec<u32>> = data
        .bytes()
        .map(|byte| value(byte).map(|value| value as u32))
        .collect();
    let values = values.filter(|values| values.len() == COUNTS.0 + COUNTS.1);
    let values = values.ok_or(RecipientError::Malformed)?;
    let high = prefix.bytes().map(|byte| u32::from(byte) >> 5);
    let low = prefix.bytes().map(|byte| u32::from(byte) & 31);
    let sum = high.chain([0]).chain(low).chain(values.iter().copied());
    let sum = sum.fold(1_u32, |sum, value| {
        let terms = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ value;
        let chosen = terms.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
        chosen.fold(next, |sum, (_, term)| sum ^ term)
    });
    if sum != 1 {
        return Err(RecipientError::Checksum);
    }
    let (mut key, mut bits, mut held) = ([0; 32], 0, 0_u32);
    let mut bytes = key.iter_mut();
    for value in &values[..COUNTS.0] {
        held = held << 5 | value;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            let byte = bytes.next().ok_or(RecipientError::Malformed)?;
            *byte = (held >> bits) as u8;
            held &= (1 << bits) - 1;
        }
    }
    if held == 0 {
        Ok(key)
    } else {
        Err(RecipientError::Malformed)
    }
}

fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Result<[u8; 32], Unspecified> {
    let mut key = [0; 32];
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], HKDF_SHA256)?
        .fill(&mut key)?;
    Ok(key)
}

fn sealing_key(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new)
}

/// Seals what a file holds.
#[derive(Debug)]
pub(crate) struct Encryptor {
    key: LessSafeKey,
    /// Chunks that are sealed.
    chunks: u64,
    /// Content of the chunk to come.
    held: Vec<u8>,
}

impl Encryptor {
    /// Begins a file; its header goes to `out`.
    ///
    /// # Errors
    /// The system gives no random bytes, or a recipient is none.
    pub(crate) fn new(recipients: &[Recipient], out: &mut Vec<u8>) -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let (mut file_key, mut nonce) = ([0; FILE_KEY_BYTES], [0; PAYLOAD_NONCE_BYTES]);
        random.fill(&mut file_key)?;
        random.fill(&mut nonce)?;
        let mut header = format!("{VERSION}\n");
        for recipient in recipients {
            header += &recipient.wrap(&file_key, &random)?;
        }
        header += "---";
        let mac_key = hmac::Key::new(hmac::HMAC_SHA256, &derive(&[], &file_key, b"header")?);
        let mac = hmac::sign(&mac_key, header.as_bytes());
        header += &format!(" {}\n", STANDARD_NO_PAD.encode(mac.as_ref()));
        out.extend(header.as_bytes());
        out.extend(nonce);
        Ok(Self {
            key: sealing_key(&derive(&nonce, &file_key, b"payload")?)?,
            chunks: 0,
            held: Vec::new(),
        })
    }

    /// Takes what follows; whole chunks go to `out`. The last of them stays until it is known that it is not the last.
    ///
    /// # Errors
    /// A file of more than 2^88 chunks.
    pub(crate) fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
        self.held.extend_from_slice(content);
        let mut taken = 0;
        while self.held.len() - taken > CHUNK_BYTES {
            let nonce = nonce(self.chunks, false);
            seal(&self.key, nonce, &self.held[taken..taken + CHUNK_BYTES], out)?;
            self.chunks += 1;
            taken += CHUNK_BYTES;
        }
        self.held.drain(..taken);
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unspecified> {
        let content = std::mem::take(&mut self.held);
        seal(&self.key, nonce(self.chunks, true), &content, out)
    }

    /// Chunks that are sealed, and the content that waits for the next.
    pub(crate) fn waiting(&self) -> (u64, &[u8]) {
        (self.chunks, &self.held)
    }
}

/// The number of a chunk, and whether it is the last one: unlike any other of its key.
fn nonce(chunk: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&chunk.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

fn seal(key: &LessSafeKey, nonce: Nonce, content: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
    let start = out.len();
    out.extend_from_slice(content);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..])?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Of a file that begins with `head` and has `file_bytes`: the length of its header with the whole chunks behind it, and
/// how many those are. `None` if it does not begin as a file of this format does.
pub(crate) fn whole_chunks(head: &[u8], file_bytes: u64) -> Option<(u64, u64)> {
    let rest = head.strip_prefix(VERSION.as_bytes())?;
    let mac = rest.windows(5).position(|five| five == b"\n--- ")?;
    let end = rest[mac + 1..].iter().position(|byte| *byte == b'\n')?;
    let start = (VERSION.len() + mac + 1 + end + 1 + PAYLOAD_NONCE_BYTES) as u64;
    let chunks = file_bytes.checked_sub(start)? / SEALED_BYTES;
    Some((start + chunks * SEALED_BYTES, chunks))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Output, Stdio},
    };

    use super::*;

    /// Runs one of age's own programs, the judge of what is written here.
    fn age(program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install age"));
        let mut pipe = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeding = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        output
    }

    /// A file with a private key that goes with the test, and its recipient.
    struct Identity(std::path::PathBuf, Recipient);

    impl Identity {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mediad-age-{}-{name}", std::process::id()));
            let made = age("age-keygen", &[], &[]).stdout;
            std::fs::write(&path, &made).unwrap();
            let text = String::from_utf8(made).unwrap();
            let key = text.lines().find_map(|line| line.strip_prefix("# public key: "));
            Self(path, Recipient::parse(key.unwrap()).unwrap())
        }

        fn open(&self, file: &[u8]) -> Output {
            age(
                "age",
                &["--decrypt", "--identity", self.0.to_str().unwrap()],
                file,
            )
        }
    }

    impl Drop for Identity {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at / 251 + at) as u8).collect()
    }

    #[test]
    fn age_itself_opens_what_is_written_and_only_with_a_key_it_is_for() {
        let (first, second, other) = (Identity::new("1"), Identity::new("2"), Identity::new("3"));
        let recipients = [first.1.clone(), second.1.clone()];
        for bytes in [1, 65_535, 65_536, 65_537, 131_072, 300_000] {
            let (content, mut file) = (content(bytes), Vec::new());
            let mut encryptor = Encryptor::new(&recipients, &mut file).unwrap();
            for piece in content.chunks(7_001) {
                encryptor.push(piece, &mut file).unwrap();
            }
            encryptor.finish(&mut file).unwrap();
            for reader in [&first, &second] {
                assert_eq!(reader.open(&file).stdout, content, "{bytes}");
            }
            let refused = other.open(&file);
            assert!(!refused.status.success() && refused.stdout.is_empty());
            *file.last_mut().unwrap() ^= 1;
            assert!(!first.open(&file).status.success(), "a changed byte is found");
        }
    }

    #[test]
    fn whole_chunks_of_a_file_that_was_not_ended_can_be_opened() {
        let reader = Identity::new("4");
        let (content, mut file) = (content(200_000), Vec::new());
        let mut encryptor = Encryptor::new(std::slice::from_ref(&reader.1), &mut file).unwrap();
        encryptor.push(&content, &mut file).unwrap();
        assert_eq!(encryptor.waiting(), (3, &content[3 * CHUNK_BYTES..]));
        file.extend([7; 1_000]);
        let head = &file[..HEADER_BYTES_MAX];
        let (whole, chunks) = whole_chunks(head, file.len() as u64).unwrap();
        assert_eq!((whole, chunks), (file.len() as u64 - 1_000, 3));
        let opened = reader.open(&file[..whole as usize]);
        assert!(!opened.status.success(), "its end is missing, and that is told");
        assert_eq!(opened.stdout, content[..3 * CHUNK_BYTES]);
        for other in [&b"RIFF"[..], b"age-encryption.org/v1\n-> X25519 a", b""] {
            assert_eq!(whole_chunks(other, 100_000), None);
        }
        assert_eq!(whole_chunks(head, 60), None);
    }

    #[test]
    fn what_is_no_recipient_says_what_to_give() {
        let good = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
        let wrong = good.replace("zvk", "zvq");
        for (text, why) in [
            (wrong.as_str(), RecipientError::Checksum),
            (&good[..61], RecipientError::Malformed),
            ("ssh-ed25519 AAAA", RecipientError::Malformed),
            ("age1", RecipientError::Malformed),
            ("", RecipientError::Malformed),
            ("AGE-SECRET-KEY-1QQ", RecipientError::Secret),
            ("age-secret-key-1qq", RecipientError::Secret),
        ] {
            assert_eq!(Recipient::parse(text), Err(why), "{text}");
        }
        assert!(Recipient::parse(good).is_ok());
    }
}

//! Stands between a voice that knows no encryption and a media host: SRTP by an implementation that is not ours.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

/// A suite by its registered name, as the other implementation has it: profile, bytes of the key, bytes of the salt.
pub(crate) const SUITES: [(&str, ProtectionProfile, usize, usize); 5] = [
    (
        "AES_CM_128_HMAC_SHA1_80",
        ProtectionProfile::Aes128CmHmacSha1_80,
        16,
        14,
    ),
    (
        "AES_CM_128_HMAC_SHA1_32",
        ProtectionProfile::Aes128CmHmacSha1_32,
        16,
        14,
    ),
    (
        "AES_256_CM_HMAC_SHA1_80",
        ProtectionProfile::Aes256CmHmacSha1_80,
        32,
        14,
    ),
    ("AEAD_AES_128_GCM", ProtectionProfile::AeadAes128Gcm, 16, 12),
    ("AEAD_AES_256_GCM", ProtectionProfile::AeadAes256Gcm, 32, 12),
];

/// Bytes of master key and salt of a suite.
pub(crate) fn key_bytes(suite: &str) -> usize {
    let (_, _, key, salt) = of(suite);
    key + salt
}

fn of(suite: &str) -> (&'static str, ProtectionProfile, usize, usize) {
    *SUITES.iter().find(|(name, ..)| *name == suite).unwrap()
}

/// The two sides of the wall; ends with it.
pub(crate) struct Cipher {
    clear: UdpSocket,
    encrypted: UdpSocket,
    stop: Arc<AtomicBool>,
    /// Packets that did not open under the key that was told.
    pub(crate) wrong: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Cipher {
    pub(crate) fn new() -> Self {
        let socket = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            socket
        };
        Self {
            clear: socket(),
            encrypted: socket(),
            stop: Arc::default(),
            wrong: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// Where the media host is to send.
    pub(crate) fn port(&self) -> u16 {
        self.encrypted.local_addr().unwrap().port()
    }

    /// Where the voice talks to, and hears from.
    pub(crate) fn clear(&self) -> SocketAddr {
        self.clear.local_addr().unwrap()
    }

    /// From now on what `voice` says goes to `host` under `own`, and what comes under `theirs` goes to it.
    pub(crate) fn begin(
        &mut self,
        suite: &str,
        own: &[u8],
        theirs: &[u8],
        host: SocketAddr,
        voice: SocketAddr,
    ) {
        let (_, profile, key, _) = of(suite);
        let context = |bytes: &[u8]| {
            let (key, salt) = bytes.split_at(key);
            Context::new(key, salt, profile, None, None).unwrap()
        };
        let (mut tx, mut rx) = (context(own), context(theirs));
        let sockets = || {
            (
                self.clear.try_clone().unwrap(),
                self.encrypted.try_clone().unwrap(),
            )
        };
        let ((from, to), stop) = (sockets(), Arc::clone(&self.stop));
        self.threads.push(thread::spawn(move || {
            pass(&from, &stop, |packet| {
                let packet = tx.encrypt_rtp(packet).unwrap();
                let _ = to.send_to(&packet, host);
            });
        }));
        let ((to, from), stop, wrong) = (sockets(), Arc::clone(&self.stop), Arc::clone(&self.wrong));
        self.threads.push(thread::spawn(move || {
            pass(&from, &stop, |packet| match rx.decrypt_rtp(packet) {
                Ok(clear) => drop(to.send_to(&clear, voice)),
                Err(_) => drop(wrong.fetch_add(1, Ordering::Relaxed)),
            });
        }));
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn pass(from: &UdpSocket, stop: &AtomicBool, mut each: impl FnMut(&[u8])) {
    let mut buffer = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, _)) = from.recv_from(&mut buffer) {
            each(&buffer[..len]);
        }
    }
}

//! A peer that encrypts.

use std::sync::Arc;

use media_engine::spec::{MasterKey, RemoteKey, SdesSpec, Suite};
use srtp::{Inbound, Outbound, TRAILER_BYTES_MAX, UnprotectError};

use crate::world::{Party, Sent, World, peer, rtcp_socket, rtp_socket};

/// The peer of endpoint `number`.
#[derive(Debug)]
pub(crate) struct Cipher {
    number: u32,
    pub(crate) tx: Outbound,
    pub(crate) rx: Inbound,
}

pub(crate) fn key(suite: Suite, fill: u8) -> MasterKey {
    MasterKey::new(suite, &vec![fill; suite.key_salt_bytes()]).expect("the suite's own length")
}

/// What is asked of a transport whose peer sends with `key(suite, fill)`.
pub(crate) fn sdes(suite: Suite, fill: Option<u8>) -> SdesSpec {
    SdesSpec {
        suites: [suite].into(),
        remote: fill.map(|fill| RemoteKey {
            key: key(suite, fill),
            tag: 1,
        }),
        key_generation: 0,
        send_generation: 0,
    }
}

impl Cipher {
    /// Protects `party`'s transport; the peer sends with one key of its own and we with another.
    pub(crate) fn new(party: &mut Party, suite: Suite) -> Self {
        let (theirs, ours) = (2 * party.number as u8 + 1, 2 * party.number as u8 + 2);
        party.sdes = Some(sdes(suite, Some(theirs)));
        party.sending = Some(Arc::new(key(suite, ours)));
        Self {
            number: party.number,
            tx: Outbound::new(&key(suite, theirs)),
            rx: Inbound::new(&key(suite, ours)),
        }
    }

    /// The peer's packet, encrypted.
    pub(crate) fn rtp(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut slot = [packet, &[0; TRAILER_BYTES_MAX]].concat();
        let len = self.tx.protect_rtp(&mut slot, packet.len()).expect("counts up");
        slot.truncate(len);
        slot
    }

    pub(crate) fn rtcp(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut slot = [packet, &[0; TRAILER_BYTES_MAX]].concat();
        let len = self.tx.protect_rtcp(&mut slot, packet.len()).expect("counts up");
        slot.truncate(len);
        slot
    }

    pub(crate) fn speak(&mut self, world: &mut World, packet: &[u8]) {
        let packet = self.rtp(packet);
        world.receive(rtp_socket(self.number), peer(self.number), &packet);
    }

    /// What was sent to the peer, decrypted; every packet of it must be authentic.
    pub(crate) fn read(&mut self, world: &World, sent: &[Sent]) -> Vec<Sent> {
        let its_sockets = [rtp_socket(self.number), rtcp_socket(self.number)];
        let to_it = |sent: &&Sent| its_sockets.contains(&sent.socket);
        let mut read = Vec::new();
        for sent in sent.iter().filter(to_it) {
            let bytes = self.open(world, sent).expect("it is encrypted with our key");
            read.push(Sent {
                bytes,
                ..sent.clone()
            });
        }
        read
    }

    pub(crate) fn open(&mut self, world: &World, sent: &Sent) -> Result<Vec<u8>, UnprotectError> {
        let mut bytes = sent.bytes.clone();
        let len = match sent.is_rtcp() {
            true => self.rx.unprotect_rtcp(world.now.mono, &mut bytes),
            false => self.rx.unprotect_rtp(world.now.mono, &mut bytes),
        };
        bytes.truncate(len?);
        Ok(bytes)
    }
}

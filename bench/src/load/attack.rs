//! Hostile traffic beside the calls: what a server must survive without harm to anybody else.

use std::net::SocketAddrV4;

use nix::sys::socket::SockaddrIn;

use super::pace::Seeded;
use super::socket::Socket;
use super::stamp::{Encoding, HEADER_BYTES, PACKET_BYTES, PAYLOAD_BYTES, Stamp, write_header};

/// The kind of hostile datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// Random bytes of random length.
    Garbage,
    /// RTP and RTCP cut short at every length, with lying counts and lengths.
    Truncated,
    /// Well-formed RTP of a stranger at a call's port: must not be relayed once the port has locked its source.
    Spoof,
}

/// Hostile traffic: datagrams at `targets`, from an address of its own.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What is sent.
    pub kind: Hostility,
    /// Server ports under attack, in turn.
    pub targets: Vec<SocketAddrV4>,
    /// Where it comes from.
    pub from: SocketAddrV4,
    /// Datagrams per second; 0 is as fast as the generator can beside its calls.
    pub rate_pps: u64,
}

/// Flow number in the stamps of spoofed packets: belongs to no run, so the sink counts it as foreign.
const STRANGER: u32 = u32::MAX;

pub(super) struct Attacker {
    attack: Attack,
    targets: Vec<SockaddrIn>,
    socket: Socket,
    random: Seeded,
    started_ns: u64,
    pub(super) sent: u64,
}

impl Attacker {
    pub(super) fn open(attack: &Attack, seed: u64, now_ns: u64) -> anyhow::Result<Attacker> {
        anyhow::ensure!(!attack.targets.is_empty(), "an attack needs a target port");
        Ok(Attacker {
            targets: attack.targets.iter().map(|to| SockaddrIn::from(*to)).collect(),
            socket: Socket::bind(attack.from)?,
            random: Seeded::new(seed ^ 0xa77a),
            started_ns: now_ns,
            sent: 0,
            attack: attack.clone(),
        })
    }

    /// Sends at most one batch of what is due.
    pub(super) fn step(&mut self, now_ns: u64) -> anyhow::Result<()> {
        let due = match self.attack.rate_pps {
            0 => u64::MAX,
            rate => ((now_ns - self.started_ns) as f64 * 1e-9 * rate as f64) as u64,
        };
        while self.sent < due && !self.socket.is_full() {
            let to = self.targets[self.sent as usize % self.targets.len()];
            let mut packet = [0u8; PACKET_BYTES];
            let length = compose(self.attack.kind, self.sent, now_ns, &mut self.random, &mut packet);
            self.socket.stage(to, length)[..PACKET_BYTES].copy_from_slice(&packet);
            self.sent += 1;
        }
        self.socket.flush()?;
        Ok(())
    }
}

/// Writes the `n`-th hostile datagram; returns its length.
fn compose(
    kind: Hostility,
    n: u64,
    now_ns: u64,
    random: &mut Seeded,
    packet: &mut [u8; PACKET_BYTES],
) -> usize {
    match kind {
        Hostility::Garbage => {
            for eight in packet.chunks_mut(8) {
                eight.copy_from_slice(&random.next().to_be_bytes()[..eight.len()]);
            }
            1 + random.below(PACKET_BYTES as u64) as usize
        }
        Hostility::Truncated => {
            // Version 2 with padding, extension and 15 CSRCs claimed; every second one an RTCP type with a wild length.
            let payload_type = if n.is_multiple_of(2) {
                0
            } else {
                72 + (random.below(5) as u8)
            };
            write_header(
                packet,
                payload_type,
                n % 2 == 1,
                n as u16,
                random.next() as u32,
                random.next() as u32,
            );
            packet[0] = 0x80 | random.below(64) as u8;
            1 + (n / 2) as usize % 60
        }
        Hostility::Spoof => {
            write_header(
                packet,
                0,
                false,
                n as u16,
                (n as u32).wrapping_mul(160),
                0x0bad_5eed,
            );
            let mut payload = [0xff; PAYLOAD_BYTES];
            Stamp {
                flow: STRANGER,
                seq: n as u32,
                sent_ns: now_ns,
            }
            .write(Encoding::Raw, &mut payload);
            packet[HEADER_BYTES..].copy_from_slice(&payload);
            PACKET_BYTES
        }
    }
}

//! IPv4 and UDP headers of our own (RFC 791, RFC 768), written in front of a payload.

use std::net::SocketAddrV4;
use std::os::fd::RawFd;

/// Bytes of both headers.
pub(crate) const LEN: usize = IP_LEN + UDP_LEN;

const IP_LEN: usize = 20;
const UDP_LEN: usize = 8;

/// Longest payload that gets a header of ours. The kernel never cuts such a datagram into fragments, so it must pass
/// every path; RTP audio is far below, and anything longer goes by the port's own socket.
pub(crate) const PAYLOAD_MAX: usize = 1_200;

/// What the datagrams of one port begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The raw socket that sends them.
    pub(crate) sender: RawFd,
    source: SocketAddrV4,
    class: u8,
    ttl: u8,
}

impl Head {
    /// From `source`, with the traffic class (octet) and time to live of the port's own socket.
    pub(crate) fn new(sender: RawFd, source: SocketAddrV4, class: u8, ttl: u8) -> Self {
        Head {
            sender,
            source,
            class,
            ttl,
        }
    }

    /// Writes both headers into the first [`LEN`] bytes of `packet`; the payload follows them. The IP checksum is the
    /// kernel's to fill in. "Don't fragment" is set, so `identification` means nothing to anybody (RFC 6864 §4.1) but must
    /// not be 0, for which the kernel would look for a better one.
    pub(crate) fn write(&self, packet: &mut [u8], to: SocketAddrV4, identification: u16) {
        let total = packet.len() as u16;
        let (ip, udp) = packet.split_at_mut(IP_LEN);
        ip[0] = 0x45;
        ip[1] = self.class;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[4..6].copy_from_slice(&identification.to_be_bytes());
        ip[6..8].copy_from_slice(&0x4000u16.to_be_bytes());
        ip[8] = self.ttl;
        ip[9] = libc::IPPROTO_UDP as u8;
        ip[10..12].fill(0);
        ip[12..16].copy_from_slice(&self.source.ip().octets());
        ip[16..20].copy_from_slice(&to.ip().octets());
        let length = (total - IP_LEN as u16).to_be_bytes();
        udp[0..2].copy_from_slice(&self.source.port().to_be_bytes());
        udp[2..4].copy_from_slice(&to.port().to_be_bytes());
        udp[4..6].copy_from_slice(&length);
        udp[6..8].fill(0);
        // The pseudo header: addresses, protocol, length.
        let protocol = u16::from_ne_bytes([0, libc::IPPROTO_UDP as u8]);
        let pseudo = sum(&ip[12..20]) + u64::from(protocol) + u64::from(u16::from_ne_bytes(length));
        let checksum = match !fold(pseudo + sum(udp)) {
            // 0 would say that there is no checksum.
            0 => 0xffff,
            checksum => checksum,
        };
        udp[6..8].copy_from_slice(&checksum.to_ne_bytes());
    }
}

/// Sum of 16-bit words in this machine's byte order, not yet folded (RFC 1071 §2: the order does not matter).
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let whole: u64 = words
        .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .sum();
    whole + u64::from(u32::from_ne_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let head = Head::new(3, "192.0.2.1:40000".parse().unwrap(), 0xb8, 64);
        let mut packet = vec![0xee; LEN];
        packet.extend_from_slice(payload);
        head.write(&mut packet, "198.51.100.7:5004".parse().unwrap(), 0x1234);
        packet
    }

    /// The receiver's check: the sum over pseudo header and datagram, checksum included, is all ones.
    fn checks(packet: &[u8]) -> bool {
        let mut whole = packet[12..20].to_vec();
        whole.extend([0, 17]);
        whole.extend(&packet[24..26]);
        whole.extend(&packet[20..]);
        let words = whole
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    #[test]
    fn every_field_is_where_it_belongs() {
        let packet = packet(b"abc");
        assert_eq!(
            packet[..20],
            [
                0x45, 0xb8, 0, 31, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7
            ]
        );
        assert_eq!(packet[20..26], [0x9c, 0x40, 0x13, 0x8c, 0, 11]);
        assert_eq!(&packet[28..], b"abc");
    }

    #[test]
    fn checksums_hold_for_every_length_and_are_never_zero() {
        for len in 0..70usize {
            let payload: Vec<u8> = (0..len).map(|at| (at * 37 + 11) as u8).collect();
            assert!(checks(&packet(&payload)), "{len} bytes");
        }
        // A payload that brings the sum to all ones: its checksum would be 0.
        let zero = packet(&[0, 0]);
        let missing = u16::from_be_bytes([zero[26], zero[27]]);
        let full = packet(&missing.to_be_bytes());
        assert_eq!(full[26..28], [0xff, 0xff]);
        assert!(checks(&full));
    }
}

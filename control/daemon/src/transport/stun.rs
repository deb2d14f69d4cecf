//! STUN Binding requests on the SIP port: how phones keep a NAT open and see their own address (RFC 5626 §3.5.2, §8;
//! RFC 5389). Nothing else of STUN is spoken here.

use std::net::{IpAddr, SocketAddr};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0, 0x20];
/// Attributes from 0 to 0x7fff must be understood (RFC 5389 §15); these a keepalive may hold and we need not read:
/// USERNAME, MESSAGE-INTEGRITY, REALM, NONCE.
const KNOWN: [u16; 4] = [0x0006, 0x0008, 0x0014, 0x0015];

/// The answer to a Binding request; `None` for everything else.
pub(super) fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let (header, attributes) = datagram.split_at_checked(20)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[..2] != BINDING_REQUEST || header[4..8] != COOKIE || length != attributes.len() {
        return None;
    }
    if !are_known(attributes) {
        return None;
    }
    let mask = [&COOKIE[..], &header[8..20]].concat();
    let (family, address) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let masked = |bytes: &[u8]| {
        bytes
            .iter()
            .zip(&mask)
            .map(|(byte, mask)| byte ^ mask)
            .collect::<Vec<u8>>()
    };
    let value_bytes = 4 + address.len() as u16;
    let mut answer = Vec::with_capacity(44);
    answer.extend_from_slice(&BINDING_SUCCESS);
    answer.extend_from_slice(&(4 + value_bytes).to_be_bytes());
    answer.extend_from_slice(&header[4..20]);
    answer.extend_from_slice(&XOR_MAPPED_ADDRESS);
    answer.extend_from_slice(&value_bytes.to_be_bytes());
    answer.extend_from_slice(&[0, family]);
    answer.extend_from_slice(&masked(&source.port().to_be_bytes()));
    answer.extend_from_slice(&masked(&address));
    Some(answer)
}

/// True when the attributes are well formed and none is one we would have to understand and do not.
fn are_known(mut attributes: &[u8]) -> bool {
    while let [a, b, c, d, rest @ ..] = attributes {
        let (kind, length) = (
            u16::from_be_bytes([*a, *b]),
            usize::from(u16::from_be_bytes([*c, *d])),
        );
        let Some(rest) = rest.get(length.next_multiple_of(4)..) else {
            return false;
        };
        if kind < 0x8000 && !KNOWN.contains(&kind) {
            return false;
        }
        attributes = rest;
    }
    attributes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The IPv4 and IPv6 responses of RFC 5769 §2.2 and §2.3 hold these mapped addresses for this transaction.
    const TRANSACTION: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = (attributes.len() as u16).to_be_bytes();
        [&BINDING_REQUEST[..], &length, &COOKIE, &TRANSACTION, attributes].concat()
    }

    #[test]
    fn the_mapped_address_is_that_of_rfc_5769() {
        let v4 = answer(&request(&[]), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(
            v4[20..],
            [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]
        );
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let v6 = answer(&request(&[]), v6).unwrap();
        let expected = [
            0, 0x20, 0, 0x14, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
            0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(v6[20..], expected);
    }

    #[test]
    fn other_messages_and_broken_ones_get_no_answer() {
        let source = "192.0.2.1:1".parse().unwrap();
        // SOFTWARE is optional; an unknown attribute that must be understood is not.
        assert!(answer(&request(&[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]), source).is_some());
        assert!(answer(&request(&[0x00, 0x30, 0, 0]), source).is_none());
        assert!(answer(&request(&[0x80, 0x22, 0, 9, 0]), source).is_none());
        let mut other = request(&[]);
        other[4] ^= 1;
        assert!(answer(&other, source).is_none());
        for length in 0..20 {
            assert!(answer(&request(&[])[..length], source).is_none());
        }
    }
}

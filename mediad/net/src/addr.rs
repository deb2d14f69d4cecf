//! Socket addresses as the bytes the kernel reads and writes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for a `sockaddr_in` or a `sockaddr_in6` (28 bytes), in kernel layout.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
pub(crate) struct RawAddr(pub(crate) [u8; RawAddr::SIZE]);

impl RawAddr {
    pub(crate) const SIZE: usize = 32;
    const V4_SIZE: usize = size_of::<libc::sockaddr_in>();
    const V6_SIZE: usize = size_of::<libc::sockaddr_in6>();

    /// Writes `addr` and returns the length of its kernel form.
    pub(crate) fn encode(&mut self, addr: SocketAddr) -> u32 {
        let raw = &mut self.0;
        raw[2..4].copy_from_slice(&addr.port().to_be_bytes());
        match addr {
            SocketAddr::V4(v4) => {
                raw[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                raw[4..8].copy_from_slice(&v4.ip().octets());
                raw[8..16].fill(0);
                Self::V4_SIZE as u32
            }
            SocketAddr::V6(v6) => {
                raw[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                raw[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                raw[8..24].copy_from_slice(&v6.ip().octets());
                raw[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                Self::V6_SIZE as u32
            }
        }
    }

    /// Reads `len` bytes that the kernel wrote at the start of `raw`; `None` for other families.
    pub(crate) fn decode(raw: &[u8], len: usize) -> Option<SocketAddr> {
        let raw = raw.get(..len)?;
        let family = i32::from(u16::from_ne_bytes(raw.get(..2)?.try_into().ok()?));
        let port = u16::from_be_bytes(raw.get(2..4)?.try_into().ok()?);
        match family {
            libc::AF_INET => {
                let ip: [u8; 4] = raw.get(4..8)?.try_into().ok()?;
                Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip), port)))
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = raw.get(8..24)?.try_into().ok()?;
                let flow = u32::from_be_bytes(raw.get(4..8)?.try_into().ok()?);
                let scope = u32::from_ne_bytes(raw.get(24..28)?.try_into().ok()?);
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(ip),
                    port,
                    flow,
                    scope,
                )))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["192.0.2.7:4000", "[2001:db8::7]:65535", "[fe80::1%3]:9"] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut raw = RawAddr([0xff; RawAddr::SIZE]);
            let len = raw.encode(addr) as usize;
            assert_eq!(RawAddr::decode(&raw.0, len), Some(addr));
            assert_eq!(RawAddr::decode(&raw.0, len / 4), None, "cut short");
        }
    }

    #[test]
    fn other_families_and_no_address_are_none() {
        assert_eq!(RawAddr::decode(&[0; 32], 16), None);
        assert_eq!(RawAddr::decode(&[0; 32], 0), None);
        assert_eq!(RawAddr::decode(&[0; 8], 28), None);
    }
}

//! Binding the ports of a transport, and listening for ports that an earlier life's calls still send to.

use std::{
    collections::HashSet,
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use media_engine::{host::PortWant, refusal::Refusal};
use media_net::{NetError, bind};

use crate::{config::Media, worker::Bound};

/// Sockets bound at once while listening; keeps clear of the limit on open files.
const SCOUT_BATCH: usize = 2_048;

/// Binds RTP, and RTCP on its own port. `Ok(None)`: the port is another program's, or `noisy`; try the next.
///
/// # Errors
/// The address itself cannot be bound; another port would not help.
pub(crate) fn bind(want: &PortWant, noisy: bool) -> Result<Option<Bound>, Refusal> {
    if noisy {
        return Ok(None);
    }
    let options = bind::Options {
        dscp: Some(want.dscp),
        ..bind::Options::default()
    };
    let bound = bind::udp(want.rtp, &options)
        .and_then(|rtp| Ok((rtp, want.rtcp.map(|rtcp| bind::udp(rtcp, &options)).transpose()?)));
    match bound {
        Ok((rtp, rtcp)) => Ok(Some(Bound {
            transport: want.transport.clone(),
            rtp,
            rtcp,
        })),
        Err(NetError::InUse { .. }) => Ok(None),
        Err(error) => Err(Refusal::Socket {
            transport: want.transport.clone(),
            reason: error.to_string(),
        }),
    }
}

/// Sockets of a transport.
pub(crate) fn count(bound: &Bound) -> usize {
    1 + usize::from(bound.rtcp.is_some())
}

/// Binds every RTP port for `scout_ms` and returns those to leave alone for now: those on which something arrived, for
/// peers of calls that this host carried before it was restarted still send there and must not be heard in new calls;
/// and those that are taken, for a killed process may let go of its sockets only later (io_uring does).
///
/// # Errors
/// A port could not be listened to, for another reason than that somebody has it.
pub(crate) fn scout(media: &Media) -> Result<HashSet<SocketAddr>, String> {
    let mut noisy = HashSet::new();
    if media.scout_ms == 0 {
        return Ok(noisy);
    }
    let ports = media.interfaces.iter().flat_map(|interface| {
        let even = (interface.port_min..=interface.port_max).filter(|port| port % 2 == 0);
        even.flat_map(|port| {
            interface
                .addresses
                .iter()
                .map(move |ip| SocketAddr::new(*ip, port))
        })
    });
    let ports: Vec<SocketAddr> = ports.collect();
    for batch in ports.chunks(SCOUT_BATCH) {
        let mut listening = Vec::with_capacity(batch.len());
        for addr in batch {
            match listen(*addr)? {
                Some(socket) => listening.push((*addr, socket)),
                None => drop(noisy.insert(*addr)),
            }
        }
        thread::sleep(Duration::from_millis(media.scout_ms));
        let heard = listening.iter().filter(|(_, socket)| has_mail(socket));
        noisy.extend(heard.map(|(addr, _)| *addr));
    }
    Ok(noisy)
}

/// `None`: somebody has the port.
fn listen(addr: SocketAddr) -> Result<Option<UdpSocket>, String> {
    let bound = match UdpSocket::bind(addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
        bound => bound.and_then(|socket| socket.set_nonblocking(true).map(|()| socket)),
    };
    bound
        .map(Some)
        .map_err(|error| format!("listening to {addr} for packets of an earlier life: {error}"))
}

fn has_mail(socket: &UdpSocket) -> bool {
    socket.peek_from(&mut [0; 1]).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::Interface;

    #[test]
    fn ports_that_somebody_sends_to_or_has_are_found() {
        let media = Media {
            interfaces: vec![Interface {
                port_min: 18_900,
                port_max: 18_931,
                ..Interface::default()
            }],
            scout_ms: 100,
            ..Media::default()
        };
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 18_906));
        let stranger = thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..20 {
                // Until the port is bound the kernel answers with "refused".
                let _ = socket.send_to(&[0x80; 172], target);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let taken = UdpSocket::bind("127.0.0.1:18910").unwrap();
        assert_eq!(
            scout(&media),
            Ok(HashSet::from([target, taken.local_addr().unwrap()]))
        );
        stranger.join().unwrap();
        assert_eq!(scout(&Media { scout_ms: 0, ..media }), Ok(HashSet::new()));
    }
}

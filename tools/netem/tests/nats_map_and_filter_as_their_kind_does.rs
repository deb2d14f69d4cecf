//! Three kinds of NAT, seen by a peer outside: which source it sees, and which of its datagrams get in.

use netem::{Delivery, Nat, NatKind, Netem, limits};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn host(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[allow(
    clippy::disallowed_methods,
    reason = "the origin of virtual time; only differences count"
)]
fn origin() -> Instant {
    Instant::now()
}

const TTL: Duration = Duration::from_secs(30);

fn behind(kind: NatKind) -> Netem {
    let mut net = Netem::new(5);
    net.add_nat(Nat {
        kind,
        inside: [host("192.168.0.2"), host("192.168.0.3")].into(),
        outside: host("198.51.100.1"),
        mapping_ttl: TTL,
    });
    net
}

fn pass(net: &mut Netem, now: Instant, from: &str, to: SocketAddr) -> Option<Delivery> {
    net.send(now, at(from), to, b"datagram");
    net.poll(now)
}

const PHONE: &str = "192.168.0.2:5060";
const SERVER: &str = "203.0.113.1:5060";
const OTHER_PORT: &str = "203.0.113.1:9999";
const STRANGER: &str = "203.0.113.9:5060";

#[test]
fn a_full_cone_has_one_port_and_lets_everyone_in() {
    let (mut net, now) = (behind(NatKind::FullCone), origin());
    let seen = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    assert_eq!(seen.ip(), host("198.51.100.1"));
    assert_eq!(
        pass(&mut net, now, PHONE, at(STRANGER)).expect("outbound").from,
        seen
    );
    for outsider in [SERVER, OTHER_PORT, "203.0.113.77:1"] {
        assert_eq!(
            pass(&mut net, now, outsider, seen).expect("everyone").to,
            at(PHONE)
        );
    }
}

#[test]
fn a_port_restricted_cone_has_one_port_and_lets_in_who_was_sent_to() {
    let (mut net, now) = (behind(NatKind::PortRestricted), origin());
    let seen = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    assert_eq!(
        pass(&mut net, now, SERVER, seen).expect("was sent to").to,
        at(PHONE)
    );
    assert_eq!(pass(&mut net, now, OTHER_PORT, seen), None);
    assert_eq!(pass(&mut net, now, STRANGER, seen), None);
    assert_eq!(net.counters().filtered, 2);
    assert_eq!(
        pass(&mut net, now, PHONE, at(STRANGER)).expect("outbound").from,
        seen
    );
    assert!(pass(&mut net, now, STRANGER, seen).is_some());
}

#[test]
fn a_symmetric_nat_has_a_port_for_each_destination() {
    let (mut net, now) = (behind(NatKind::Symmetric), origin());
    let for_server = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    let for_stranger = pass(&mut net, now, PHONE, at(STRANGER)).expect("outbound").from;
    assert_ne!(for_server, for_stranger);
    assert!(pass(&mut net, now, SERVER, for_server).is_some());
    assert_eq!(pass(&mut net, now, SERVER, for_stranger), None);
}

#[test]
fn a_mapping_that_sends_nothing_is_forgotten() {
    let (mut net, now) = (behind(NatKind::FullCone), origin());
    let seen = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    assert!(pass(&mut net, now + TTL - Duration::from_millis(1), SERVER, seen).is_some());
    assert_eq!(pass(&mut net, now + TTL, SERVER, seen), None);
    let again = pass(&mut net, now + TTL, PHONE, at(SERVER))
        .expect("outbound")
        .from;
    assert_ne!(again, seen);
}

#[test]
fn rebinding_changes_the_source_and_shuts_the_old_one() {
    let (mut net, now) = (behind(NatKind::FullCone), origin());
    let seen = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    net.rebind(seen.ip(), seen.ip());
    assert_eq!(pass(&mut net, now, SERVER, seen), None);
    let new_port = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    assert!(new_port.ip() == seen.ip() && new_port.port() != seen.port());
    net.rebind(seen.ip(), host("198.51.100.2"));
    let new_address = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    assert_eq!(new_address.ip(), host("198.51.100.2"));
}

#[test]
fn neighbours_speak_directly_and_through_the_outside_address() {
    let (mut net, now) = (behind(NatKind::FullCone), origin());
    let neighbour = "192.168.0.3:5060";
    assert_eq!(
        pass(&mut net, now, PHONE, at(neighbour))
            .expect("same network")
            .from,
        at(PHONE)
    );
    let seen = pass(&mut net, now, neighbour, at(SERVER)).expect("outbound").from;
    let hairpin = pass(&mut net, now, PHONE, seen).expect("hairpin, RFC 4787 §6");
    assert_eq!((hairpin.to, hairpin.from.ip()), (at(neighbour), seen.ip()));
}

#[test]
fn a_private_address_cannot_be_reached_from_outside() {
    let (mut net, now) = (behind(NatKind::FullCone), origin());
    assert_eq!(pass(&mut net, now, SERVER, at(PHONE)), None);
    assert_eq!(net.counters().filtered, 1);
}

#[test]
fn a_full_table_forgets_the_mapping_unused_for_longest() {
    let (mut net, now) = (behind(NatKind::FullCone), origin());
    let first = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    let later = now + Duration::from_millis(1);
    for port in 0..limits::NAT_MAPPINGS_MAX {
        let socket = format!("192.168.0.3:{}", port + 1);
        assert!(pass(&mut net, later, &socket, at(SERVER)).is_some());
    }
    assert_eq!(pass(&mut net, later, SERVER, first), None);
    assert!(
        pass(&mut net, later, PHONE, at(SERVER)).is_some(),
        "there is room again for it"
    );
}

#[test]
fn a_mapping_with_too_many_peers_forgets_the_oldest() {
    let (mut net, now) = (behind(NatKind::PortRestricted), origin());
    let seen = pass(&mut net, now, PHONE, at(SERVER)).expect("outbound").from;
    for port in 0..limits::NAT_PEERS_MAX {
        let peer = SocketAddr::new(host("203.0.113.200"), u16::try_from(port + 1).expect("few"));
        assert!(pass(&mut net, now, PHONE, peer).is_some());
    }
    assert_eq!(pass(&mut net, now, SERVER, seen), None);
}

//! Which worker's socket takes what arrives on which port: a `sk_lookup` program with a table, one for the process.

use crate::bpf::{self, Map, Program, SkLookup};
use crate::{NetError, limits, sys};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Steers datagrams of many ports into the sockets of a few workers. Clones share one program, which is loaded when the
/// first backend needs it; so all backends of a process should be opened with clones of one [`crate::Config`].
#[derive(Debug, Clone, Default)]
pub struct Steering(Arc<OnceLock<Result<Table, String>>>);

/// Address, and port with [`V6`] for IPv6. An IPv4 address stands in the first word.
type Key = [u32; 5];

const V6: u32 = 1 << 16;

#[derive(Debug)]
struct Table {
    /// To the index of a lane.
    ports: Map<Key, u32>,
    lanes: Map<u32, u64>,
    next_lane: AtomicU32,
    _program: SkLookup,
}

/// A socket that ports can be steered to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane(u32);

impl Steering {
    fn table(&self) -> Result<&Table, NetError> {
        let opened = self.0.get_or_init(|| Table::open().map_err(|error| why(&error)));
        opened.as_ref().map_err(|reason| unavailable(reason.clone()))
    }

    /// Makes `socket` one that ports can be steered to, until it is closed.
    pub(crate) fn lane(&self, socket: RawFd) -> Result<Lane, NetError> {
        let table = self.table()?;
        let lane = table.next_lane.fetch_add(1, Ordering::Relaxed);
        table
            .lanes
            .set(&lane, &(socket as u64))
            .map_err(|error| unavailable(why(&error)))?;
        Ok(Lane(lane))
    }

    /// What is sent to `local` arrives in `lane` from now on.
    pub(crate) fn steer(&self, local: SocketAddr, lane: Lane) -> Result<(), NetError> {
        self.table()?.ports.set(&key(local), &lane.0)
    }

    /// What is sent to `local` arrives in the socket that is bound to it.
    pub(crate) fn release(&self, local: SocketAddr) {
        if let Ok(table) = self.table() {
            // Fails only for a port that is not steered.
            let _ = table.ports.remove(&key(local));
        }
    }
}

impl Table {
    fn open() -> Result<Self, NetError> {
        let ports = Map::create(bpf::HASH, limits::STEERED_PORTS, bpf::NO_PREALLOC, "media_ports")?;
        let lanes = Map::create(bpf::SOCKMAP, limits::LANES, 0, "media_lanes")?;
        let program = SkLookup::attach(&program(&ports, &lanes), "media_steering")?;
        Ok(Table {
            ports,
            lanes,
            next_lane: AtomicU32::new(0),
            _program: program,
        })
    }
}

fn key(local: SocketAddr) -> Key {
    let port = u32::from(local.port());
    match local.ip() {
        IpAddr::V4(ip) => [u32::from_ne_bytes(ip.octets()), 0, 0, 0, port],
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let word =
                |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            [word(0), word(4), word(8), word(12), port | V6]
        }
    }
}

/// Looks up address and port of a UDP datagram and gives it to the lane found. Whatever is not found, or goes wrong, is
/// left to the socket that is bound to the port.
fn program(ports: &Map<Key, u32>, lanes: &Map<u32, u64>) -> Program {
    // Offsets in struct bpf_sk_lookup.
    const FAMILY: i16 = 8;
    const PROTOCOL: i16 = 12;
    const LOCAL_IP4: i16 = 40;
    const LOCAL_IP6: i16 = 44;
    const LOCAL_PORT: i16 = 60;
    // The frame: the key, and behind it the index of the lane.
    const KEY: i16 = -24;
    const LANE: i16 = -4;
    const SK_PASS: i32 = 1;
    use bpf::{FRAME, R0, R1, R2, R3, R6, R7};
    let mut p = Program::new();
    p.copy(R6, R1);
    p.load(R2, R6, PROTOCOL);
    let other_protocol = p.jump_if_not_equal(R2, libc::IPPROTO_UDP);
    p.load(R7, R6, LOCAL_PORT);
    p.load(R2, R6, FAMILY);
    let v6 = p.jump_if_equal(R2, libc::AF_INET6);
    let other_family = p.jump_if_not_equal(R2, libc::AF_INET);
    p.load(R2, R6, LOCAL_IP4);
    p.store(FRAME, KEY, R2);
    for word in 1..4 {
        p.store_value(FRAME, KEY + 4 * word, 0);
    }
    let v4_done = p.jump();
    p.land([v6]);
    for word in 0..4 {
        p.load(R2, R6, LOCAL_IP6 + 4 * word);
        p.store(FRAME, KEY + 4 * word, R2);
    }
    p.or(R7, V6 as i32);
    p.land([v4_done]);
    p.store(FRAME, KEY + 16, R7);
    p.copy(R2, FRAME);
    p.add(R2, KEY.into());
    p.set_map(R1, ports);
    p.call(bpf::MAP_LOOKUP);
    let not_steered = p.jump_if_equal(R0, 0);
    p.load(R2, R0, 0);
    p.store(FRAME, LANE, R2);
    p.copy(R2, FRAME);
    p.add(R2, LANE.into());
    p.set_map(R1, lanes);
    p.call(bpf::MAP_LOOKUP);
    let lane_closed = p.jump_if_equal(R0, 0);
    p.copy(R7, R0);
    p.copy(R1, R6);
    p.copy(R2, R0);
    p.set(R3, 0);
    p.call(bpf::SK_ASSIGN);
    p.copy(R1, R7);
    p.call(bpf::SK_RELEASE);
    p.land([other_protocol, other_family, not_steered, lane_closed]);
    p.set(R0, SK_PASS);
    p.exit();
    p
}

pub(crate) fn unavailable(reason: String) -> NetError {
    NetError::Unavailable {
        backend: "shared",
        reason,
    }
}

/// Why the kernel refused, for a person.
pub(crate) fn why(error: &NetError) -> String {
    let NetError::Io { op, source } = error else {
        return error.to_string();
    };
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match sys::missing_capabilities() {
            missing if missing.is_empty() => {
                format!("{op} is not permitted (seccomp or container policy)")
            }
            missing => format!("{op} is not permitted without {}", missing.join(", ")),
        },
        Some(libc::ENOSYS) => "this kernel has no bpf(2), or a seccomp policy hides it".to_owned(),
        Some(libc::EINVAL) => format!("{op}: this kernel is too old (5.9 is needed for sk_lookup)"),
        Some(libc::E2BIG) => format!("{op}: too many other programs steer in this network namespace"),
        _ => error.to_string(),
    }
}

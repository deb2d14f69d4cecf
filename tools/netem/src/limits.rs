//! Every bound of the simulator, and what happens at it.

/// Datagrams on their way at once; one more is dropped and counted as `overflow`.
pub const IN_FLIGHT_MAX: usize = 65_536;

/// Largest UDP payload over IPv4; sending more is the caller's mistake and panics.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Mappings one NAT holds at once; the one unused for longest makes room for a new one.
pub const NAT_MAPPINGS_MAX: usize = 4_096;

/// Remote addresses one port-restricted mapping admits; the oldest makes room for a new one.
pub const NAT_PEERS_MAX: usize = 256;

/// Lowest external port a NAT gives out.
pub const NAT_PORT_MIN: u16 = 20_000;

/// Highest external port a NAT gives out; then it starts over and skips ports in use.
pub const NAT_PORT_MAX: u16 = 59_999;

// A new mapping always finds a free port.
const _: () = assert!(NAT_MAPPINGS_MAX < (NAT_PORT_MAX - NAT_PORT_MIN) as usize);

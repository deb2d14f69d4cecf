//! Every bound of this crate, and what happens when it is reached.

use std::time::Duration;

/// Sockets per backend, default. Full: `register` refuses.
pub const SOCKETS_DEFAULT: usize = 16_384;

/// Bytes of the longest datagram received or sent, default. Longer ones arrive truncated and flagged.
pub const DATAGRAM_DEFAULT: usize = 2_048;

/// Bytes of the longest datagram that may be configured: a UDP length field.
pub const DATAGRAM_MAX: usize = 65_535;

/// Receive buffers of the io_uring backend, default: twice the packets of a long tick. Too few are no
/// loss but re-arms; far too few are mostly re-arms. Exhausted: the kernel's socket queue holds the packets.
pub const RX_BUFFERS_DEFAULT: usize = 4_096;

/// Largest provided-buffer ring that the kernel accepts.
pub const RX_BUFFERS_MAX: usize = 32_768;

/// Transmit slots, default. Full: the backend flushes, the handler does not notice.
pub const TX_SLOTS_DEFAULT: usize = 64;

/// Most transmit slots that may be configured.
pub const TX_SLOTS_MAX: usize = 4_096;

/// Datagrams taken from one ready socket before the next one gets its turn (epoll backend), default.
pub const RX_BATCH_DEFAULT: usize = 8;

/// Datagrams taken from a lane by one call (shared backend): as many as keep their slots in the cache.
pub const LANE_BATCH: usize = 32;

/// Bytes that may wait in a lane (shared backend), bookkeeping included: about 0.1 s of 250 000 G.711 packets a second.
/// Full: the kernel drops what comes.
pub const LANE_BYTES: i32 = 16 << 20;

/// Datagrams a second of one port in a lane (shared backend): more than any call sends, video included. Reached: the port
/// is read by itself from then on, so that a flood of it fills its own socket and nobody else's.
pub const LANE_PORT_PER_S: u32 = 4_000;

/// Bytes of one address that may wait for a network card (shared backend). Full: counted as `would_block`.
pub const SENDER_BYTES: i32 = 4 << 20;

/// Ports of a process that can be steered into lanes. Full: further ones are read one by one.
pub const STEERED_PORTS: u32 = 1 << 20;

/// Lanes of a process: two for each worker. Full: the shared backend cannot be opened.
pub const LANES: u32 = 1 << 10;

/// Datagrams given to the handler in one drain, default. Reached: the drain ends, the handler's `end` runs, and the
/// next `poll` goes on without a sleep. At 4 us a packet this bounds the lateness of a deadline to about 4 ms.
pub const DRAIN_DEFAULT: usize = 1_024;

/// Ready sockets reported by one `epoll_wait`.
pub const EPOLL_EVENTS: usize = 256;

/// Latency budget (length of a tick), default.
pub const BUDGET_DEFAULT: Duration = Duration::from_micros(250);

/// Latency budget of a worker that is busy, default: calls between Opus and G.711 cost a quarter less than with 250 us.
pub const BUDGET_BUSY_DEFAULT: Duration = Duration::from_micros(2_000);

/// Largest latency budget: longer ticks save nothing (measured) and only add delay.
pub const BUDGET_MAX: Duration = Duration::from_micros(2_000);

/// From this share of its time a worker is busy, and its ticks get longer if half of it is spent on timers …
pub const LENGTHEN_ABOVE: f32 = 0.65;

/// … and up to this they get shorter again, as they do when less than a quarter is.
pub const SHORTEN_BELOW: f32 = 0.4;

/// Wake-ups per second above which sleeping until the next tick is cheaper than being woken.
pub const TICK_ABOVE_PER_S: u64 = 5_000;

/// Datagrams per second below which a ticking worker goes back to blocking.
pub const BLOCK_BELOW_PER_S: u64 = 2_500;

/// Span over which those rates are measured.
pub const PACE_WINDOW: Duration = Duration::from_millis(20);

/// Age beyond which a datagram that waited out a stall is dropped, default.
pub const AGE_DEFAULT: Duration = Duration::from_millis(150);

/// Delay from which the worker counts as late, default: two packets of 20 ms, which listeners' jitter buffers still hide.
pub const LATE_DEFAULT: Duration = Duration::from_millis(40);

/// File descriptors wanted beside the sockets: logs, gRPC, files.
pub const SPARE_FILES: u64 = 64;

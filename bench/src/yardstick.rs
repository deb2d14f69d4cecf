//! How fast the machine is at what every figure is made of, so that figures of two machines, or of two hours on a shared one, can
//! be compared: a model name says little about a virtual machine.

use std::fmt;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::time::ClockId;

use crate::machine::clock_ns;

/// What is chased through: more than any cache keeps for one guest.
const MEMORY_BYTES: usize = 64 << 20;
const LINE_BYTES: usize = 64;
const LOADS: u32 = 200_000;
const DATAGRAMS: u32 = 5_000;
/// A G.711 frame of 20 ms with its header, RFC 3550.
const DATAGRAM_BYTES: usize = 172;
const SLEEPS: u32 = 200;
const SLEEP: Duration = Duration::from_millis(1);

/// What one of each takes on the core that measured it.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    /// A load from a place in memory that no cache holds, ns.
    pub load_ns: f64,
    /// CPU of sending one datagram over loopback and receiving it, µs.
    pub datagram_us: f64,
    /// CPU of sleeping for a millisecond and waking up, µs: a timer, and on a virtual machine a visit to its host.
    pub sleep_us: f64,
}

impl Yardstick {
    /// Measures for half a second on the calling thread's core.
    ///
    /// # Errors
    /// No socket on loopback.
    pub fn measure() -> anyhow::Result<Yardstick> {
        Ok(Yardstick {
            load_ns: load_ns(),
            datagram_us: datagram_us().context("a datagram over loopback")?,
            sleep_us: sleep_us()?,
        })
    }
}

impl fmt::Display for Yardstick {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "a load from memory {:.0} ns, a datagram over loopback {:.1} us of CPU, a sleep of 1 ms {:.0} us of CPU",
            self.load_ns, self.datagram_us, self.sleep_us
        )
    }
}

/// Each load tells where the next one is, so that none begins before the one before it is done.
fn load_ns() -> f64 {
    let lines = chain(MEMORY_BYTES / LINE_BYTES);
    let stride = LINE_BYTES / size_of::<u32>();
    let mut memory = vec![0u32; lines.len() * stride];
    for (line, next) in lines.iter().enumerate() {
        memory[line * stride] = *next;
    }
    let start = Instant::now();
    let mut at = 0;
    for _ in 0..LOADS {
        at = memory[at as usize * stride];
    }
    let taken = start.elapsed();
    std::hint::black_box(at);
    taken.as_nanos() as f64 / f64::from(LOADS)
}

/// For each of `count` places the next one: one circle through all of them in no order that hardware foresees (Sattolo).
fn chain(count: usize) -> Vec<u32> {
    let mut next: Vec<u32> = (0..count as u32).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..count).rev() {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        next.swap(i, (state >> 33) as usize % i);
    }
    next
}

fn datagram_us() -> anyhow::Result<f64> {
    let from = UdpSocket::bind("127.0.0.1:0")?;
    let to = UdpSocket::bind("127.0.0.1:0")?;
    from.connect(to.local_addr()?)?;
    let mut buffer = [0; DATAGRAM_BYTES];
    let before = cpu_ns()?;
    for _ in 0..DATAGRAMS {
        from.send(&buffer)?;
        to.recv(&mut buffer)?;
    }
    Ok((cpu_ns()? - before) as f64 / 1e3 / f64::from(DATAGRAMS))
}

fn sleep_us() -> anyhow::Result<f64> {
    let before = cpu_ns()?;
    for _ in 0..SLEEPS {
        thread::sleep(SLEEP);
    }
    Ok((cpu_ns()? - before) as f64 / 1e3 / f64::from(SLEEPS))
}

/// CPU of this thread so far.
fn cpu_ns() -> anyhow::Result<u64> {
    clock_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_circle_through_every_place() {
        let next = chain(1_000);
        let (mut at, mut steps) = (0, 0);
        loop {
            at = next[at as usize];
            steps += 1;
            if at == 0 {
                break;
            }
        }
        assert_eq!(steps, 1_000);
    }

    #[test]
    fn every_length_is_told() {
        let measured = Yardstick::measure().unwrap();
        for value in [measured.load_ns, measured.datagram_us, measured.sleep_us] {
            assert!(value > 0.0, "{measured:?}");
        }
        let text = Yardstick {
            load_ns: 83.4,
            datagram_us: 2.06,
            sleep_us: 7.9,
        };
        assert_eq!(
            text.to_string(),
            "a load from memory 83 ns, a datagram over loopback 2.1 us of CPU, a sleep of 1 ms 8 us of CPU"
        );
    }
}

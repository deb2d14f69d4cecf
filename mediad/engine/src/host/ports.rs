//! Port pairs of one local address: oldest released first, never within the quarantine, starting at a random place.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The pairs of one address. A pair is an even RTP port and the odd one after it; a transport without an RTCP port of
/// its own leaves the odd one unused.
#[derive(Debug)]
pub(super) struct Ports {
    port_min: u16,
    port_max: u16,
    quarantine: Duration,
    state: Vec<State>,
    /// Indices of the free pairs, next first.
    free: VecDeque<u16>,
    /// Pairs on their way back, with the time they are free again; in time order for each duration.
    resting: VecDeque<(Instant, u16)>,
    /// Pairs somebody else held when we tried, looked at again later.
    foreign: VecDeque<(Instant, u16)>,
    used: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Used,
    Resting,
    Foreign,
}

/// Why a requested port cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFree {
    OutOfRange,
    Odd,
    Used,
    Resting,
    Foreign,
}

impl NotFree {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::OutOfRange => "outside the interface's port range",
            Self::Odd => "odd, RTP ports are even",
            Self::Used => "in use by another transport",
            Self::Resting => "in quarantine after its last use",
            Self::Foreign => "held by another program",
        }
    }
}

/// How long a pair that another program held is left alone.
const FOREIGN_REST: Duration = Duration::from_secs(60);

impl Ports {
    /// All pairs within `port_min..=port_max`; the first handed out is chosen by `seed`.
    pub(super) fn new(port_min: u16, port_max: u16, quarantine: Duration, seed: u64) -> Self {
        let first = port_min.next_multiple_of(2);
        let pairs = usize::from(port_max.saturating_sub(first).saturating_add(1) / 2);
        let mut free: VecDeque<u16> = (0..pairs as u16).collect();
        if pairs > 0 {
            free.rotate_left((seed % pairs as u64) as usize);
        }
        Self {
            port_min: first,
            port_max,
            quarantine,
            state: vec![State::Free; pairs],
            free,
            resting: VecDeque::new(),
            foreign: VecDeque::new(),
            used: 0,
        }
    }

    /// The next pair's even port.
    pub(super) fn take(&mut self, now: Instant) -> Option<u16> {
        self.wake(now);
        let index = self.free.pop_front()?;
        self.set_used(index);
        Some(self.port(index))
    }

    /// Exactly this even port.
    pub(super) fn take_port(&mut self, now: Instant, port: u16) -> Result<(), NotFree> {
        self.wake(now);
        if port % 2 == 1 {
            return Err(NotFree::Odd);
        }
        let index = self.index(port).ok_or(NotFree::OutOfRange)?;
        match self.state[usize::from(index)] {
            State::Free => {
                self.free.retain(|free| *free != index);
                self.set_used(index);
                Ok(())
            }
            State::Used => Err(NotFree::Used),
            State::Resting => Err(NotFree::Resting),
            State::Foreign => Err(NotFree::Foreign),
        }
    }

    /// Gives a pair back after use; it rests for the quarantine.
    pub(super) fn release(&mut self, now: Instant, port: u16) {
        let index = self.own(port);
        self.state[usize::from(index)] = State::Resting;
        self.resting.push_back((now + self.quarantine, index));
        self.used -= 1;
    }

    /// Gives a pair back that was never bound; it is the next one again.
    pub(super) fn untake(&mut self, port: u16) {
        let index = self.own(port);
        self.state[usize::from(index)] = State::Free;
        self.free.push_front(index);
        self.used -= 1;
    }

    /// The pair could not be bound, or packets arrive on it that nobody asked for: left alone for a while.
    pub(super) fn avoid(&mut self, now: Instant, port: u16) {
        let index = self.own(port);
        self.state[usize::from(index)] = State::Foreign;
        self.foreign.push_back((now + FOREIGN_REST, index));
        self.used -= 1;
    }

    /// How long pairs rest that come back from now on. Those that rest keep their time, and their place in the queue.
    pub(super) fn set_quarantine(&mut self, quarantine: Duration) {
        self.quarantine = quarantine;
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    pub(super) fn foreign(&self) -> usize {
        self.foreign.len()
    }

    pub(super) fn free(&self) -> usize {
        self.state.len() - self.used - self.resting.len() - self.foreign.len()
    }

    pub(super) fn range(&self) -> (u16, u16) {
        (self.port_min, self.port_max)
    }

    fn wake(&mut self, now: Instant) {
        for queue in [&mut self.resting, &mut self.foreign] {
            while queue.front().is_some_and(|(until, _)| *until <= now) {
                if let Some((_, index)) = queue.pop_front() {
                    self.state[usize::from(index)] = State::Free;
                    self.free.push_back(index);
                }
            }
        }
    }

    fn set_used(&mut self, index: u16) {
        self.state[usize::from(index)] = State::Used;
        self.used += 1;
    }

    fn own(&self, port: u16) -> u16 {
        let index = self.index(port).expect("only ports handed out come back");
        assert_eq!(
            self.state[usize::from(index)],
            State::Used,
            "port {port} comes back once"
        );
        index
    }

    fn index(&self, port: u16) -> Option<u16> {
        let index = port.checked_sub(self.port_min)? / 2;
        (usize::from(index) < self.state.len()).then_some(index)
    }

    fn port(&self, index: u16) -> u16 {
        self.port_min + index * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARANTINE: Duration = Duration::from_secs(30);

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
        Instant::now()
    }

    #[test]
    fn every_pair_once_then_none() {
        let now = start();
        let mut ports = Ports::new(10_001, 10_010, QUARANTINE, 3);
        let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take(now)).collect();
        assert_eq!(taken[0], 10_008, "starts at the seed's place");
        taken.sort_unstable();
        assert_eq!(taken, [10_002, 10_004, 10_006, 10_008]);
        assert_eq!((ports.used(), ports.free()), (4, 0));
    }

    #[test]
    fn a_range_without_an_odd_partner_has_no_pair() {
        assert_eq!(Ports::new(10_001, 10_002, QUARANTINE, 0).free(), 0);
        assert_eq!(Ports::new(10_002, 10_003, QUARANTINE, 0).free(), 1);
        assert_eq!(
            Ports::new(65_534, 65_535, QUARANTINE, 7).take(start()),
            Some(65_534)
        );
    }

    #[test]
    fn released_ports_rest_and_come_back_oldest_first() {
        let now = start();
        let mut ports = Ports::new(10_000, 10_005, QUARANTINE, 0);
        let all: Vec<u16> = std::iter::from_fn(|| ports.take(now)).collect();
        ports.release(now, all[1]);
        ports.release(now + Duration::from_secs(1), all[0]);
        assert_eq!(ports.take(now + Duration::from_secs(29)), None);
        assert_eq!(ports.take(now + Duration::from_secs(30)), Some(all[1]));
        assert_eq!(ports.take(now + Duration::from_secs(30)), None);
        assert_eq!(ports.take(now + Duration::from_secs(31)), Some(all[0]));
    }

    #[test]
    fn another_quarantine_never_cuts_a_rest_short() {
        let now = start();
        let mut ports = Ports::new(10_000, 10_005, QUARANTINE, 0);
        let all: Vec<u16> = std::iter::from_fn(|| ports.take(now)).collect();
        ports.release(now, all[0]);
        ports.set_quarantine(Duration::from_secs(1));
        ports.release(now, all[1]);
        assert_eq!(
            ports.take(now + Duration::from_secs(29)),
            None,
            "it waits behind the longer rest"
        );
        assert_eq!(ports.take(now + QUARANTINE), Some(all[0]));
        assert_eq!(ports.take(now + QUARANTINE), Some(all[1]));
        ports.release(now + QUARANTINE, all[2]);
        assert_eq!(ports.take(now + QUARANTINE), None);
        assert_eq!(
            ports.take(now + QUARANTINE + Duration::from_secs(1)),
            Some(all[2])
        );
    }

    #[test]
    fn a_requested_port_is_had_once() {
        let now = start();
        let mut ports = Ports::new(10_000, 10_007, QUARANTINE, 0);
        assert_eq!(ports.take_port(now, 10_002), Ok(()));
        assert_eq!(ports.take_port(now, 10_002), Err(NotFree::Used));
        assert_eq!(ports.take_port(now, 10_003), Err(NotFree::Odd));
        assert_eq!(ports.take_port(now, 10_008), Err(NotFree::OutOfRange));
        assert_eq!(ports.take_port(now, 9_998), Err(NotFree::OutOfRange));
        ports.release(now, 10_002);
        assert_eq!(ports.take_port(now, 10_002), Err(NotFree::Resting));
        let later = now + QUARANTINE;
        let rest: Vec<u16> = std::iter::from_fn(|| ports.take(later)).collect();
        assert_eq!(rest, [10_000, 10_004, 10_006, 10_002]);
    }

    #[test]
    fn a_port_held_by_others_is_left_alone_for_a_while() {
        let now = start();
        let mut ports = Ports::new(10_000, 10_001, QUARANTINE, 0);
        assert_eq!(ports.take(now), Some(10_000));
        ports.avoid(now, 10_000);
        assert_eq!(ports.take_port(now, 10_000), Err(NotFree::Foreign));
        assert_eq!((ports.take(now), ports.foreign()), (None, 1));
        assert_eq!(ports.take(now + FOREIGN_REST), Some(10_000));
        ports.untake(10_000);
        assert_eq!(ports.take(now + FOREIGN_REST), Some(10_000));
    }
}

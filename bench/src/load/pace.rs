//! When each flow is due: a fixed cycle of shuffled flows with seeded phases.

/// A small seeded generator (SplitMix64, Steele et al. 2014): runs must be repeatable.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound` (bias below 2^-32 for the small bounds used here).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// The order and the due times of all flows.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Flow and phase within the cycle, by phase.
    slots: Vec<(u32, u64)>,
    cycle_ns: u64,
    cycle_start_ns: u64,
    position: usize,
    /// Time given up because the generator itself was held back, see [`Schedule::forgive`].
    pub(crate) forgiven_ns: u64,
}

impl Schedule {
    /// Spreads `flows` over a cycle of `1 / flow_pps` seconds that starts at `start_ns`.
    pub(crate) fn new(flows: u32, flow_pps: u32, seed: u64, start_ns: u64) -> Schedule {
        let mut random = Seeded::new(seed);
        let mut order: Vec<u32> = (0..flows).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i as u64 + 1) as usize);
        }
        let cycle_ns = 1_000_000_000 / u64::from(flow_pps.max(1));
        let slots = order
            .iter()
            .enumerate()
            .map(|(i, flow)| {
                let width = cycle_ns / u64::from(flows);
                (
                    *flow,
                    i as u64 * cycle_ns / u64::from(flows) + random.below(width.max(1)),
                )
            })
            .collect();
        Schedule {
            slots,
            cycle_ns,
            cycle_start_ns: start_ns,
            position: 0,
            forgiven_ns: 0,
        }
    }

    /// When the next packet is due.
    #[inline]
    pub(crate) fn due_ns(&self) -> u64 {
        self.cycle_start_ns + self.slots[self.position].1
    }

    /// The flow whose packet is due, if it is by `now_ns`.
    #[inline]
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<u32> {
        if self.due_ns() > now_ns {
            return None;
        }
        let flow = self.slots[self.position].0;
        self.position += 1;
        if self.position == self.slots.len() {
            self.position = 0;
            self.cycle_start_ns += self.cycle_ns;
        }
        Some(flow)
    }

    /// Moves the schedule when the generator is more than `limit_ns` late: a generator that was held back must
    /// not answer with a burst that no real caller would send. What was given up is reported.
    #[inline]
    pub(crate) fn forgive(&mut self, now_ns: u64, limit_ns: u64) {
        let late_ns = now_ns.saturating_sub(self.due_ns());
        if late_ns > limit_ns {
            self.cycle_start_ns += late_ns;
            self.forgiven_ns += late_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_is_due_once_per_cycle_in_seeded_order() {
        let drain = |seed| {
            let mut schedule = Schedule::new(100, 50, seed, 1_000);
            let mut order = Vec::new();
            while let Some(flow) = schedule.pop_due(1_000 + 19_999_999) {
                order.push(flow);
            }
            assert!(schedule.due_ns() >= 1_000 + 20_000_000);
            order
        };
        let order = drain(7);
        assert_eq!(order, drain(7));
        assert_ne!(order, drain(8));
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_held_back_generator_moves_its_schedule_and_says_so() {
        let mut schedule = Schedule::new(10, 50, 1, 0);
        schedule.forgive(4_000_000, 5_000_000);
        assert_eq!(schedule.forgiven_ns, 0);
        let due = schedule.due_ns();
        schedule.forgive(due + 50_000_000, 5_000_000);
        assert_eq!(schedule.forgiven_ns, 50_000_000);
        assert_eq!(schedule.due_ns(), due + 50_000_000);
    }
}

//! A set of every number seen says what is new, late or a duplicate, and what is lost.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rtp::receive::{MAX_MISORDER, REPEATED_RESTART, ReceiveStats, SeqVerdict};
use rtp::units::ExtendedSeq;

/// The numbers of [`ReceiveStats`] begin in cycle 1.
const FIRST_CYCLE: i64 = 1 << 16;

proptest! {
    #[test]
    fn over_any_walk_within_the_limits(first: u16, steps in prop::collection::vec((-100i64..140, any::<bool>()), 1..400)) {
        let base = FIRST_CYCLE + i64::from(first);
        let mut stats = ReceiveStats::with_probation(0);
        stats.on_untimed_packet(first);
        let (mut newest, mut seen) = (base, BTreeSet::from([base]));
        let (mut late, mut duplicates, mut max_gap) = (0, 0, 0);
        // Numbers one behind the other without a new one: those of a restart, which is not looked at here.
        let (mut run, mut last) = (0, base);
        for (step, small) in steps {
            // Mostly the next few packets, as on a real network.
            let number = newest + if small { step.rem_euclid(4) } else { step };
            run = if number == last + 1 && number <= newest { run + 1 } else { 1 };
            if run >= i64::from(REPEATED_RESTART) {
                continue;
            }
            last = number;
            let ext = ExtendedSeq(number as u64);
            let is_new = seen.insert(number);
            let expected = if number > newest {
                max_gap = max_gap.max(number - newest - 1);
                newest = number;
                SeqVerdict::Accepted { ext }
            } else if is_new {
                late += 1;
                SeqVerdict::Late { ext }
            } else {
                duplicates += 1;
                SeqVerdict::Duplicate
            };
            prop_assert!(newest - number <= i64::from(MAX_MISORDER));
            prop_assert_eq!(stats.on_untimed_packet(ext.wire()), expected);
        }
        let received = seen.len() as i64;
        prop_assert_eq!(i64::from(stats.received()), received);
        prop_assert_eq!(i64::from(stats.lost()), newest - base + 1 - received);
        prop_assert_eq!((stats.reordered(), stats.duplicates()), (late, duplicates));
        prop_assert_eq!(i64::from(stats.max_gap()), max_gap);
        prop_assert_eq!(stats.newest(), Some(ExtendedSeq(newest as u64)));
    }
}

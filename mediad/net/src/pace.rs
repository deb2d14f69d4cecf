//! When to sleep, and until when: block while little happens, tick while much does.
//!
//! A wake-up costs more than a packet (sleep, switch, cold caches), so beyond
//! [`limits::TICK_ABOVE_PER_S`] wake-ups a second the worker sleeps until the next tick of the latency budget
//! and then works through everything that has come. It goes back to blocking when, over a window, fewer than
//! [`limits::BLOCK_BELOW_PER_S`] datagrams a second came *and* most ticks found no wake-up call. The two
//! thresholds lie a factor of two apart, so a steady load never flips.
//!
//! While ticking, deadline and waker are looked at on the tick only: they are at most one tick late, and a
//! thousand timers a second cost no wake-ups of their own.
//!
//! A tick is as long as the latency budget while the worker has time. A worker that gets busy with what its timers ask
//! for, which is where audio is made, makes it longer, up to the budget it has for that: fewer wake-ups, each with more to
//! do in warm caches, leave it more time, and nobody hears the delay, as such audio is made ahead of its time. Who is busy with
//! datagrams gains nothing by it (measured with 1 150 relayed calls), and there the delay would be heard. A doubled
//! tick saves less than a third of the work, and the thresholds lie further apart than that, so a steady load never swings.

use crate::{Config, NetStats, Wake, limits};
use std::time::{Duration, Instant};

/// How the worker sleeps before a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// Not at all.
    No,
    /// Until a datagram, the waker, or for this long (`None`: no limit).
    Block(Option<Duration>),
    /// For this long, whatever comes.
    Tick(Duration),
}

/// How the worker sleeps in general.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each event wakes it.
    Block,
    /// It wakes by the clock.
    Tick,
}

/// The pacing state of one worker: a pure state machine, driven with the time.
#[derive(Debug)]
pub struct Pace {
    /// The length of a tick, while there is time …
    budget: Duration,
    /// … at most …
    budget_busy: Duration,
    /// … and at present.
    tick: Duration,
    mode: Mode,
    /// From which delay on the worker is late.
    late_after: Option<Duration>,
    /// The tick last slept to.
    last_tick: Instant,
    /// The tick that had passed before it could be slept to.
    missed: Option<Instant>,
    window_start: Instant,
    wakes: u64,
    datagrams: u64,
    polls: u64,
    polls_woken: u64,
    /// Time slept until ticks, as planned: who is woken late had no time.
    rested: Duration,
    /// Time spent on timers.
    on_timers: Duration,
    /// The drain before this one, for the time spent ticking.
    last_drain: Instant,
}

impl Pace {
    /// Begins in block mode, with the budgets of `config`; one of zero never ticks.
    pub fn new(config: &Config, now: Instant) -> Self {
        Pace {
            budget: config.latency_budget,
            budget_busy: config.latency_budget_busy,
            tick: config.latency_budget,
            mode: Mode::Block,
            late_after: config.late_after,
            last_tick: now,
            missed: None,
            window_start: now,
            wakes: 0,
            datagrams: 0,
            polls: 0,
            polls_woken: 0,
            rested: Duration::ZERO,
            on_timers: Duration::ZERO,
            last_drain: now,
        }
    }

    /// The present mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How to sleep at `now`. `more`: the last drain was cut short.
    pub fn plan(&mut self, now: Instant, deadline: Option<Instant>, more: bool) -> Sleep {
        if more {
            return Sleep::No;
        }
        match self.mode {
            Mode::Tick => {
                let next = self.last_tick + self.tick;
                if next <= now {
                    // Behind: begin a new row of ticks here instead of making up for the lost ones.
                    self.last_tick = now;
                    self.missed = Some(next);
                    Sleep::No
                } else {
                    self.last_tick = next;
                    self.rested += next - now;
                    Sleep::Tick(next - now)
                }
            }
            Mode::Block => match deadline.map(|at| at.saturating_duration_since(now)) {
                Some(Duration::ZERO) => Sleep::No,
                left => Sleep::Block(left),
            },
        }
    }

    /// The sleep planned last is over; `now` is the time of the drain. Records how late it is.
    pub fn woke(
        &mut self,
        slept: Sleep,
        now: Instant,
        deadline: Option<Instant>,
        stats: &mut NetStats,
    ) -> bool {
        let missed = self.missed.take();
        let tick = matches!(slept, Sleep::Tick(_)).then_some(self.last_tick);
        if let Some(tick) = tick {
            stats.tick_lateness.record(now.saturating_duration_since(tick));
        }
        let due = tick.or(missed).into_iter().chain(deadline).min();
        stats.late += due.map_or(Duration::ZERO, |due| self.late(due, now));
        match deadline {
            Some(at) if at <= now => {
                stats.deadline_lateness.record(now - at);
                true
            }
            _ => false,
        }
    }

    /// For how long, since the drain before, what came has waited too long by `now`, when the oldest was due at `due`.
    fn late(&self, due: Instant, now: Instant) -> Duration {
        let Some(after) = self.late_after else {
            return Duration::ZERO;
        };
        let too_long = now.saturating_duration_since(due).saturating_sub(after);
        too_long.min(now.saturating_duration_since(self.last_drain))
    }

    /// Does the work that timers ask for, and counts its time while ticking.
    pub fn on_timers(&mut self, work: impl FnOnce()) {
        let begun = (self.mode == Mode::Tick).then(Instant::now);
        work();
        self.on_timers += begun.map_or(Duration::ZERO, |begun| begun.elapsed());
    }

    /// A drain that began at `now` is over: counts it and chooses the mode for the next sleep.
    pub fn drained(&mut self, slept: Sleep, now: Instant, wake: Wake, stats: &mut NetStats) {
        let counts = &mut stats.wakes;
        match slept {
            Sleep::No => counts.no_sleep += 1,
            Sleep::Tick(_) => counts.tick += 1,
            Sleep::Block(_) if wake.woken => counts.waker += 1,
            Sleep::Block(_) if wake.datagrams > 0 => counts.datagrams += 1,
            Sleep::Block(_) if wake.deadline => counts.deadline += 1,
            Sleep::Block(_) => counts.spurious += 1,
        }
        if self.mode == Mode::Tick {
            stats.tick_time += now.saturating_duration_since(self.last_drain);
        }
        self.last_drain = now;
        if self.budget.is_zero() {
            return;
        }
        self.polls += 1;
        self.polls_woken += u64::from(wake.woken);
        self.wakes += u64::from(matches!(slept, Sleep::Block(_)));
        self.datagrams += wake.datagrams as u64;
        self.choose(now, stats);
    }

    fn choose(&mut self, now: Instant, stats: &mut NetStats) {
        let span = now.saturating_duration_since(self.window_start);
        let window_ns = limits::PACE_WINDOW.as_nanos() as u64;
        let full = span >= limits::PACE_WINDOW;
        let per_s = |n: u64| n * 1_000_000_000 / window_ns.max(span.as_nanos() as u64);
        let switch = match self.mode {
            // No need to see the window's end once it has seen enough: a burst switches at once.
            Mode::Block => per_s(self.wakes) > limits::TICK_ABOVE_PER_S,
            Mode::Tick => {
                full && per_s(self.datagrams) < limits::BLOCK_BELOW_PER_S && self.polls_woken * 2 < self.polls
            }
        };
        if switch {
            self.mode = match self.mode {
                Mode::Block => Mode::Tick,
                Mode::Tick => Mode::Block,
            };
            self.last_tick = now;
            self.tick = self.budget;
            stats.mode_switches += 1;
        } else if full && self.mode == Mode::Tick {
            self.fit_tick(span);
        }
        if switch || full {
            self.window_start = now;
            (self.wakes, self.datagrams, self.polls, self.polls_woken) = (0, 0, 0, 0);
            (self.rested, self.on_timers) = (Duration::ZERO, Duration::ZERO);
            stats.tick = match self.mode {
                Mode::Block => Duration::ZERO,
                Mode::Tick => self.tick,
            };
        }
    }

    /// Fits the length of ticks to how busy the worker was in the window that lasted `span`.
    fn fit_tick(&mut self, span: Duration) {
        let busy = span.saturating_sub(self.rested);
        let is_busy = busy >= span.mul_f32(limits::LENGTHEN_ABOVE) && 2 * self.on_timers >= busy;
        let has_time = busy <= span.mul_f32(limits::SHORTEN_BELOW) || 4 * self.on_timers <= busy;
        self.tick = match (is_busy, has_time) {
            (true, _) => self.budget_busy.min(2 * self.tick),
            (_, true) => self.budget.max(self.tick / 2),
            _ => self.tick,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_micros(250);

    /// Ticks of one length.
    fn steady(budget: Duration, now: Instant) -> Pace {
        let config = Config {
            latency_budget: budget,
            latency_budget_busy: budget,
            ..Config::default()
        };
        Pace::new(&config, now)
    }

    /// Runs `pace` for `span` with a datagram every `every`; a sleep ends when its rule says so.
    fn run(pace: &mut Pace, from: Instant, span: Duration, every: Duration, stats: &mut NetStats) -> Instant {
        let (mut now, mut next) = (from, from + every);
        while now < from + span {
            let slept = pace.plan(now, None, false);
            now = match slept {
                Sleep::No => now + Duration::from_micros(1),
                Sleep::Block(_) => next.max(now),
                Sleep::Tick(d) => now + d,
            };
            let mut wake = Wake::default();
            while next <= now {
                wake.datagrams += 1;
                next += every;
            }
            pace.woke(slept, now, None, stats);
            pace.drained(slept, now, wake, stats);
        }
        now
    }

    #[test]
    fn ticks_above_the_threshold_and_blocks_again_with_hysteresis() {
        let (start, mut stats) = (Instant::now(), NetStats::default());
        let mut pace = steady(BUDGET, start);
        let second = Duration::from_secs(1);
        let now = run(&mut pace, start, second, Duration::from_micros(250), &mut stats);
        assert_eq!(
            (pace.mode(), stats.mode_switches),
            (Mode::Block, 0),
            "4000/s blocks"
        );
        let now = run(&mut pace, now, second, Duration::from_micros(20), &mut stats);
        assert_eq!(
            (pace.mode(), stats.mode_switches),
            (Mode::Tick, 1),
            "50000/s ticks"
        );
        let ticks = stats.wakes.tick;
        assert!(
            (3_900..=4_000).contains(&ticks),
            "one wake-up per budget, got {ticks}"
        );
        assert!(stats.tick_time > Duration::from_millis(950));
        let now = run(&mut pace, now, second, Duration::from_micros(250), &mut stats);
        assert_eq!(
            (pace.mode(), stats.mode_switches),
            (Mode::Tick, 1),
            "4000/s goes on ticking"
        );
        run(&mut pace, now, second, Duration::from_micros(500), &mut stats);
        assert_eq!(
            (pace.mode(), stats.mode_switches),
            (Mode::Block, 2),
            "2000/s blocks"
        );
    }

    /// Ticks for `span` with a wake-up that costs `wake` and datagrams that cost `datagram` each, `per_ms` of them, and of all
    /// that so many percent on timers; who falls behind loses what is more than 100 in a drain.
    fn work(
        pace: &mut Pace,
        from: Instant,
        span: Duration,
        (wake, datagram, per_ms): (Duration, Duration, u32),
        on_timers: u32,
    ) -> (Instant, Vec<Duration>) {
        let mut stats = NetStats::default();
        let (mut now, mut done, mut ticks) = (from, 0, vec![pace.tick]);
        while now < from + span {
            let slept = pace.plan(now, None, false);
            let begun = now
                + match slept {
                    Sleep::Tick(d) => d,
                    _ => Duration::ZERO,
                };
            let due = ((begun - from).as_micros() * u128::from(per_ms) / 1_000) as u32;
            let count = (due - done).min(100);
            let seen = Wake {
                datagrams: count as usize,
                ..Wake::default()
            };
            now = begun + wake + datagram * count;
            done = due;
            pace.woke(slept, begun, None, &mut stats);
            pace.on_timers += (now - begun) * on_timers / 100;
            pace.drained(slept, begun, seen, &mut stats);
            assert!([Duration::ZERO, pace.tick].contains(&stats.tick), "told as it is");
            if ticks.last() != Some(&pace.tick) {
                ticks.push(pace.tick);
            }
        }
        (now, ticks)
    }

    /// One that ticks, and may do so for 2 ms when it is busy; and the time.
    fn ticking() -> (Pace, Instant) {
        let config = Config {
            latency_budget: BUDGET,
            latency_budget_busy: Duration::from_millis(2),
            ..Config::default()
        };
        let start = Instant::now();
        let mut pace = Pace::new(&config, start);
        let (second, every) = (Duration::from_secs(1), Duration::from_micros(20));
        let now = run(&mut pace, start, second, every, &mut NetStats::default());
        (pace, now)
    }

    #[test]
    fn ticks_get_longer_while_the_worker_is_busy_and_shorter_when_it_has_time() {
        let (us, second) = (Duration::from_micros, Duration::from_secs(1));
        let (mut pace, now) = ticking();
        assert_eq!((pace.mode(), pace.tick), (Mode::Tick, BUDGET), "it has time");
        // A wake-up costs 80 us, a datagram 20 us: at 20 a millisecond 72 % of the time with ticks of 250 us, 56 % with 500 us.
        let (now, ticks) = work(&mut pace, now, second, (us(80), us(20), 20), 80);
        assert_eq!(ticks, [us(250), us(500)], "as long as it has to be, and steady");
        let (now, ticks) = work(&mut pace, now, second, (us(80), us(20), 35), 80);
        assert_eq!(ticks, [us(500), us(1_000), us(2_000)], "no longer than it may be");
        let (now, ticks) = work(&mut pace, now, second, (us(80), us(20), 100), 80);
        assert_eq!(ticks, [us(2_000)], "more than there is time for");
        let (_, ticks) = work(&mut pace, now, second, (us(5), us(2), 10), 80);
        assert_eq!(
            ticks,
            [us(2_000), us(1_000), us(500), us(250)],
            "it has time again"
        );
    }

    #[test]
    fn who_relays_keeps_its_ticks() {
        let (us, second) = (Duration::from_micros, Duration::from_secs(1));
        let (mut pace, now) = ticking();
        let (now, ticks) = work(&mut pace, now, second, (us(80), us(20), 35), 10);
        assert_eq!(ticks, [BUDGET], "busy with datagrams");
        let (now, ticks) = work(&mut pace, now, second, (us(80), us(20), 35), 80);
        assert_eq!(ticks.last(), Some(&us(2_000)), "busy with timers");
        let (now, ticks) = work(&mut pace, now, second, (us(80), us(20), 35), 40);
        assert_eq!(ticks, [us(2_000)], "with both");
        let (_, ticks) = work(&mut pace, now, second, (us(80), us(20), 35), 10);
        assert_eq!(ticks.last(), Some(&BUDGET), "with datagrams again");
    }

    #[test]
    fn a_zero_budget_never_ticks() {
        let (start, mut stats) = (Instant::now(), NetStats::default());
        let mut pace = steady(Duration::ZERO, start);
        run(
            &mut pace,
            start,
            Duration::from_millis(500),
            Duration::from_micros(10),
            &mut stats,
        );
        assert_eq!(
            (pace.mode(), stats.mode_switches, stats.wakes.tick),
            (Mode::Block, 0, 0)
        );
    }

    #[test]
    fn deadlines_bound_a_block_and_wait_for_the_tick() {
        let (now, mut stats) = (Instant::now(), NetStats::default());
        let mut pace = steady(BUDGET, now);
        let ms = Duration::from_millis(1);
        assert_eq!(pace.plan(now, None, false), Sleep::Block(None));
        assert_eq!(pace.plan(now, Some(now + ms), false), Sleep::Block(Some(ms)));
        assert_eq!(pace.plan(now, Some(now - ms), false), Sleep::No);
        assert_eq!(pace.plan(now, None, true), Sleep::No, "the drain before was cut");
        let now = run(&mut pace, now, 100 * ms, Duration::from_micros(20), &mut stats);
        assert_eq!(pace.mode(), Mode::Tick);
        assert!(matches!(pace.plan(now, Some(now + ms / 100), false), Sleep::Tick(d) if d <= BUDGET));
        assert_eq!(
            pace.plan(now + 10 * BUDGET, None, false),
            Sleep::No,
            "behind: no sleep"
        );
        assert_eq!(
            pace.plan(now + 10 * BUDGET, None, false),
            Sleep::Tick(BUDGET),
            "and no catching up"
        );
    }

    #[test]
    fn time_is_late_in_which_what_comes_waits_too_long() {
        let ms = Duration::from_millis;
        let (start, mut stats) = (Instant::now(), NetStats::default());
        let mut pace = steady(BUDGET, start);
        pace.late_after = Some(ms(40));
        let mut poll = |pace: &mut Pace, slept, now, deadline| {
            let before = stats.late;
            pace.woke(slept, now, deadline, &mut stats);
            pace.drained(slept, now, Wake::default(), &mut stats);
            stats.late - before
        };
        // Away for 100 ms: what came in the first 60 of them waited for more than 40.
        let block = Sleep::Block(None);
        assert_eq!(
            poll(&mut pace, block, start + ms(200), Some(start + ms(100))),
            ms(60)
        );
        // A timer from before that is still open: this time was counted.
        let now = start + ms(210);
        assert_eq!(poll(&mut pace, Sleep::No, now, Some(start + ms(100))), ms(10));
        assert_eq!(
            poll(&mut pace, block, start + ms(300), Some(start + ms(260))),
            ms(0)
        );
        // Nobody says when a blocked worker should have been woken.
        assert_eq!(poll(&mut pace, block, start + ms(900), None), ms(0));
        // Ticking it was to be here each 250 us: it slept for too long, or was away while it worked.
        (pace.mode, pace.last_tick) = (Mode::Tick, start + ms(900));
        let slept = pace.plan(start + ms(900), None, false);
        let woken = start + BUDGET + ms(950);
        assert_eq!(poll(&mut pace, slept, woken, None), ms(10));
        let back = woken + ms(100);
        (pace.mode, pace.last_tick) = (Mode::Tick, woken);
        let slept = pace.plan(back, None, false);
        assert_eq!((slept, pace.mode()), (Sleep::No, Mode::Tick));
        assert_eq!(poll(&mut pace, slept, back, None), ms(60) - BUDGET);
        pace.late_after = None;
        assert_eq!(poll(&mut pace, block, start + ms(9_000), Some(start)), ms(0));
    }

    #[test]
    fn lateness_and_reasons_are_recorded() {
        let (now, mut stats) = (Instant::now(), NetStats::default());
        let mut pace = steady(BUDGET, now);
        let us = Duration::from_micros;
        assert!(pace.woke(Sleep::Block(None), now, Some(now - us(100)), &mut stats));
        assert!(!pace.woke(Sleep::Block(None), now, Some(now + us(1)), &mut stats));
        assert_eq!(
            (stats.deadline_lateness.count, stats.deadline_lateness.max_ns),
            (1, 100_000)
        );
        let block = Sleep::Block(None);
        pace.drained(
            block,
            now,
            Wake {
                datagrams: 1,
                ..Wake::default()
            },
            &mut stats,
        );
        pace.drained(
            block,
            now,
            Wake {
                woken: true,
                datagrams: 3,
                ..Wake::default()
            },
            &mut stats,
        );
        pace.drained(
            block,
            now,
            Wake {
                deadline: true,
                ..Wake::default()
            },
            &mut stats,
        );
        pace.drained(block, now, Wake::default(), &mut stats);
        pace.drained(Sleep::No, now, Wake::default(), &mut stats);
        let w = stats.wakes;
        assert_eq!(
            (w.datagrams, w.waker, w.deadline, w.spurious, w.no_sleep),
            (1, 1, 1, 1, 1)
        );
    }
}

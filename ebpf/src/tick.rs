//! The kernel's tick as the clock that samples stacks.

use crate::sample::SAMPLE_PERIOD_NS;

/// An expiry of any timer is taken for the tick if it is handled no later than this after one begins. Handlers were seen to run 3 to
/// 50 µs late. Ticks that a hypervisor or a long section without interrupts has held up further are left out: what ran meanwhile
/// is not known.
const LATENESS_NS: u64 = 250_000;

/// The tick of a kernel whose ticks begin at multiples of their length on `CLOCK_MONOTONIC`: since Linux 6.4, and in the stable
/// series from 5.10 on (`tick_init_jiffy_update` in kernel/time/tick-sched.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    length_ns: u64,
}

impl Tick {
    /// `None`: a tick of this length comes less often than samples are to be taken.
    pub const fn new(length_ns: u64) -> Option<Self> {
        if length_ns == 0 || length_ns > SAMPLE_PERIOD_NS { None } else { Some(Self { length_ns }) }
    }

    pub const fn length_ns(self) -> u64 {
        self.length_ns
    }

    /// How late the tick may be handled.
    #[inline(always)]
    pub const fn lateness_ns(self) -> u64 {
        if self.length_ns / 4 < LATENESS_NS { self.length_ns / 4 } else { LATENESS_NS }
    }

    /// Which tick a timer's expiry is that is handled at `now_ns`; `None`: that of another timer.
    #[inline(always)]
    pub const fn number(self, now_ns: u64) -> Option<u64> {
        if now_ns % self.length_ns > self.lateness_ns() { None } else { Some(now_ns / self.length_ns) }
    }

    /// Whether stacks are sampled at a tick: at one of each [`SAMPLE_PERIOD_NS`], so that samples come as often as those of a clock
    /// of that period. Which one is drawn anew for each period: work that comes every second or fourth tick is met as often as other
    /// work.
    #[inline(always)]
    pub const fn is_sampled(self, number: u64) -> bool {
        let period = number * self.length_ns / SAMPLE_PERIOD_NS;
        let (first, next) = (self.first_in(period), self.first_in(period + 1));
        // Fibonacci hashing: the upper half differs from one period to the next. Scaled down by a product: a remainder could fail, and the
        // verifier takes no program that may panic.
        let drawn = period.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        number == first + ((drawn * (next - first)) >> 32)
    }

    /// The first tick of a period. There is one in each, because a tick is no longer.
    #[inline(always)]
    const fn first_in(self, period: u64) -> u64 {
        (period * SAMPLE_PERIOD_NS).div_ceil(self.length_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of kernels with 250, 300 and 1000 ticks a second, and with the slowest that does.
    const LENGTHS_NS: [u64; 4] = [4_000_000, 3_333_333, 1_000_000, SAMPLE_PERIOD_NS];
    const HOUR_NS: u64 = 3_600_000_000_000;

    #[test]
    fn each_period_has_one_sample() {
        for length_ns in LENGTHS_NS {
            let tick = Tick::new(length_ns).expect("quick enough");
            let periods = HOUR_NS / SAMPLE_PERIOD_NS;
            let mut last = None;
            let mut samples = 0;
            for number in (0..HOUR_NS / length_ns).filter(|number| tick.is_sampled(*number)) {
                let period = number * length_ns / SAMPLE_PERIOD_NS;
                assert!(last.is_none_or(|last| period == last + 1), "{length_ns}: {last:?}, then {period}");
                last = Some(period);
                samples += 1;
            }
            assert!(periods.abs_diff(samples) <= 1, "{length_ns}: {samples} in {periods} periods");
        }
    }

    #[test]
    fn no_phase_of_the_ticks_is_preferred() {
        let tick = Tick::new(4_000_000).expect("quick enough");
        for ticks in [2, 4, 5, 10, 25] {
            let mut samples = [0u64; 25];
            // Ten seconds: what a stall of some length may be in step with.
            for number in (1_000_000..1_002_500).filter(|number| tick.is_sampled(*number)) {
                samples[(number % ticks) as usize] += 1;
            }
            let expected = 2500 * 4_000_000 / SAMPLE_PERIOD_NS / ticks;
            for count in &samples[..ticks as usize] {
                assert!(count.abs_diff(expected) <= expected / 4 + 8, "every {ticks}: {samples:?}");
            }
        }
    }

    #[test]
    fn a_timer_that_expires_within_a_tick_is_another() {
        let tick = Tick::new(4_000_000).expect("quick enough");
        assert_eq!(tick.number(8_000_000), Some(2));
        assert_eq!(tick.number(8_015_000), Some(2), "handled 15 µs late");
        assert_eq!(tick.number(10_000_000), None);
        assert_eq!(tick.number(7_999_000), None, "early");
    }

    #[test]
    fn a_hundred_ticks_a_second_are_too_few() {
        assert_eq!(Tick::new(10_000_000), None);
        assert_eq!(Tick::new(0), None, "a kernel that does not tell");
    }
}

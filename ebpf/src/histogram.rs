//! Durations in two shapes at once: exponential buckets that are OTLP scale 3 exactly, and the explicit bounds
//! that are exported by default. The true sum, count and maximum are kept beside them.

use crate::wire_record;

/// Buckets per octave: 2^(1/8), OTLP scale 3.
pub const SCALE: i32 = 3;
/// Smallest exponent kept: 2^10 units of 2^-30 s, just under one microsecond. Shorter durations land in bucket 0.
const FIRST_OCTAVE: u32 = 10;
/// 28 octaves: from 1 µs to 256 s; longer durations land in the last bucket, their true length is in the sum.
const OCTAVES: u32 = 28;
pub const EXPONENTIAL_LEN: usize = (OCTAVES as usize) << SCALE;
/// OTLP index of slot 0: bucket `i` covers `(2^(i/8), 2^((i+1)/8)]` seconds, and one second is unit 2^30.
pub const FIRST_INDEX: i32 = (FIRST_OCTAVE.cast_signed() - 30) << SCALE;
/// The longest list of explicit bounds has 19 entries; each list uses its own length plus one for the rest.
pub const EXPLICIT_LEN: usize = 20;

/// Upper bounds in nanoseconds (inclusive) of loop turns and stalls.
pub const TURN_BOUNDS_NS: [u64; 13] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of GC pauses: those the semantic convention asks for, and five below them, because most
/// scavenges are shorter than its first. A superset keeps every `le` of the convention, so mixed fleets sum.
pub const GC_BOUNDS_NS: [u64; 19] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Upper bounds of writes to stdout and stderr.
pub const STDIO_BOUNDS_NS: [u64; 11] = [
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of drains of the microtask queue: most take microseconds, the bad ones as long as bad turns.
pub const DRAIN_BOUNDS_NS: [u64; 13] = [
    100_000,
    250_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// 2^(k/8) for k = 1..7 as 1.31 fixed point: where the mantissa moves to the next eighth of an octave.
const EIGHTHS: [u32; 7] =
    [2_341_847_524, 2_553_802_834, 2_784_941_738, 3_037_000_500, 3_311_872_529, 3_611_622_603, 3_938_502_376];

wire_record! {
    /// A cumulative histogram with one writer. Never reset: readers subtract.
    pub struct Histogram {
        pub count: u64,
        pub sum_ns: u64,
        /// The maximum of an interval cannot be had by subtraction, so there are two slots, each tagged with the
        /// epoch it belongs to; the reader moves the epoch on and reads the slot that is no longer written.
        pub max_epoch: [u64; 2],
        pub max_ns: [u64; 2],
        pub explicit: [u64; EXPLICIT_LEN],
        pub exponential: [u64; EXPONENTIAL_LEN],
    }
}

impl Histogram {
    pub const ZERO: Self = Self {
        count: 0,
        sum_ns: 0,
        max_epoch: [0; 2],
        max_ns: [0; 2],
        explicit: [0; EXPLICIT_LEN],
        exponential: [0; EXPONENTIAL_LEN],
    };

    /// Adds one duration.
    #[inline(always)]
    pub fn record(&mut self, duration_ns: u64, bounds_ns: &[u64], epoch: u64) {
        self.count += 1;
        self.sum_ns += duration_ns;
        let slot = (epoch & 1) as usize;
        if self.max_epoch[slot] != epoch {
            self.max_epoch[slot] = epoch;
            self.max_ns[slot] = duration_ns;
        } else if duration_ns > self.max_ns[slot] {
            self.max_ns[slot] = duration_ns;
        }
        // The masks and bounds below are for the verifier, which does not follow the arithmetic.
        let explicit = explicit_index(duration_ns, bounds_ns);
        if explicit < EXPLICIT_LEN {
            self.explicit[explicit] += 1;
        }
        let exponential = exponential_index(duration_ns);
        if exponential < EXPONENTIAL_LEN {
            self.exponential[exponential] += 1;
        }
    }

    /// The longest duration recorded in `epoch`, nanoseconds; `None` if nothing was.
    pub fn max_in(&self, epoch: u64) -> Option<u64> {
        let slot = (epoch & 1) as usize;
        (self.max_epoch[slot] == epoch).then(|| self.max_ns[slot])
    }
}

/// Index of the first bound that is not below `duration_ns`; `bounds_ns.len()` if there is none. Counting
/// compares instead of searching keeps the loop free of branches, and the verifier unrolls it once.
#[inline(always)]
pub fn explicit_index(duration_ns: u64, bounds_ns: &[u64]) -> usize {
    let mut index = 0;
    for bound in bounds_ns {
        index += usize::from(duration_ns > *bound);
    }
    index
}

/// Slot of a duration in [`Histogram::exponential`].
///
/// Nanoseconds are first scaled so that one second is 2^30 (`ns * 1125900 >> 20`, relative error 8e-8, below
/// the width of a bucket by six orders): only then are powers of two OTLP bucket bounds.
#[inline(always)]
pub fn exponential_index(duration_ns: u64) -> usize {
    // 4.5 h would overflow the product.
    const LONGEST_NS: u64 = u64::MAX / 1_125_900;
    let clamped = if duration_ns > LONGEST_NS { LONGEST_NS } else { duration_ns };
    let units = (clamped * 1_125_900) >> 20;
    if units < 1 << FIRST_OCTAVE {
        return 0;
    }
    let octave = floor_log2(units);
    if octave >= FIRST_OCTAVE + OCTAVES {
        return EXPONENTIAL_LEN - 1;
    }
    // Normalised to 1.31 fixed point; octave is 10 to 37, so one of the two shifts applies.
    let mantissa = if octave > 31 { units >> (octave - 31) } else { units << (31 - octave) } as u32;
    let mut eighth = 0;
    for threshold in EIGHTHS {
        eighth += usize::from(mantissa >= threshold);
    }
    (((octave - FIRST_OCTAVE) as usize) << SCALE) + eighth
}

/// Position of the highest bit. BPF has no instruction for it and the compiler's own expansion is longer.
#[inline(always)]
fn floor_log2(mut value: u64) -> u32 {
    let mut log = 0;
    if value >= 1 << 32 {
        value >>= 32;
        log += 32;
    }
    if value >= 1 << 16 {
        value >>= 16;
        log += 16;
    }
    if value >= 1 << 8 {
        value >>= 8;
        log += 8;
    }
    if value >= 1 << 4 {
        value >>= 4;
        log += 4;
    }
    if value >= 1 << 2 {
        value >>= 2;
        log += 2;
    }
    if value >= 1 << 1 {
        log += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// The oracle is the OTLP definition: index = ceil(log2(seconds) * 2^scale) - 1.
    fn otlp_index(duration_ns: u64) -> i32 {
        let seconds = duration_ns as f64 / 1e9;
        (seconds.log2() * 8.0).ceil() as i32 - 1
    }

    #[test]
    fn exponential_slots_are_otlp_scale_3_buckets() {
        let mut duration_ns = 1_000_u64;
        while duration_ns < 250_000_000_000 {
            // Scaling rounds down by less than one unit, which is less than one nanosecond.
            let index = i32::try_from(exponential_index(duration_ns)).unwrap() + FIRST_INDEX;
            let allowed = otlp_index(duration_ns - 1)..=otlp_index(duration_ns + 1);
            assert!(allowed.contains(&index), "{duration_ns} ns is in {index}, not in {allowed:?}");
            duration_ns += duration_ns / 97 + 1;
        }
    }

    #[test]
    fn extremes_stay_inside_the_histogram() {
        assert_eq!(exponential_index(0), 0);
        assert_eq!(exponential_index(u64::MAX), EXPONENTIAL_LEN - 1);
    }

    #[test]
    fn explicit_bounds_are_inclusive_above() {
        assert_eq!(explicit_index(1_000_000, &TURN_BOUNDS_NS), 0);
        assert_eq!(explicit_index(1_000_001, &TURN_BOUNDS_NS), 1);
        assert_eq!(explicit_index(u64::MAX, &TURN_BOUNDS_NS), TURN_BOUNDS_NS.len());
        assert!(GC_BOUNDS_NS.len() < EXPLICIT_LEN);
    }

    #[test]
    fn maximum_belongs_to_its_epoch() {
        let mut histogram = Histogram::ZERO;
        histogram.record(5, &TURN_BOUNDS_NS, 1);
        histogram.record(3, &TURN_BOUNDS_NS, 1);
        histogram.record(2, &TURN_BOUNDS_NS, 2);
        assert_eq!(histogram.max_in(1), Some(5));
        assert_eq!(histogram.max_in(2), Some(2));
        assert_eq!(histogram.max_in(3), None);
        assert_eq!((histogram.count, histogram.sum_ns), (3, 10));
    }
}

//! A histogram as the faces use it: differences, quantiles, exact explicit counts.

use nodeprobe_ebpf::histogram::{EXPLICIT_LEN, EXPONENTIAL_LEN, FIRST_INDEX, SCALE};

/// Counts, sum and maximum of durations. Cumulative in a `Snapshot`, of one interval in an `Interval`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    pub count: u64,
    pub sum_ns: u64,
    /// The longest of the interval that ended with this reading, also in a cumulative histogram; `None`: nothing
    /// was recorded in it.
    pub interval_max_ns: Option<u64>,
    /// Per explicit bound of the contract's list for this signal, one more for the rest.
    pub explicit: [u64; EXPLICIT_LEN],
    /// Slot `i` is OTLP scale-3 bucket `i + FIRST_INDEX`.
    pub exponential: Box<[u64; EXPONENTIAL_LEN]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            count: 0,
            sum_ns: 0,
            interval_max_ns: None,
            explicit: [0; EXPLICIT_LEN],
            exponential: Box::new([0; EXPONENTIAL_LEN]),
        }
    }
}

impl Histogram {
    /// Takes over the kernel's record; `epoch` is the one that has just ended.
    pub fn from_record(record: &nodeprobe_ebpf::Histogram, epoch: u64) -> Self {
        Self {
            count: record.count,
            sum_ns: record.sum_ns,
            interval_max_ns: record.max_in(epoch),
            explicit: record.explicit,
            exponential: Box::new(record.exponential),
        }
    }

    /// These durations, in the buckets the kernel would have put them in.
    pub fn of(durations_ns: impl IntoIterator<Item = u64>, bounds_ns: &[u64]) -> Self {
        let mut record = nodeprobe_ebpf::Histogram::ZERO;
        for duration_ns in durations_ns {
            record.record(duration_ns, bounds_ns, 1);
        }
        Self::from_record(&record, 1)
    }

    /// What came after `earlier`. A counter that went back (the record was started anew) counts from zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if self.count < earlier.count {
            return self.clone();
        }
        let mut later = self.clone();
        later.count -= earlier.count;
        later.sum_ns = later.sum_ns.saturating_sub(earlier.sum_ns);
        for (now, before) in later.explicit.iter_mut().zip(earlier.explicit) {
            *now = now.saturating_sub(before);
        }
        for (now, before) in later.exponential.iter_mut().zip(earlier.exponential.iter()) {
            *now = now.saturating_sub(*before);
        }
        later
    }

    /// Adds what another thread recorded in the same time.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.interval_max_ns = self.interval_max_ns.max(other.interval_max_ns);
        for (mine, theirs) in self.explicit.iter_mut().zip(other.explicit) {
            *mine += theirs;
        }
        for (mine, theirs) in self.exponential.iter_mut().zip(other.exponential.iter()) {
            *mine += *theirs;
        }
    }

    /// The `q`-quantile in seconds, 0 < q ≤ 1, interpolated inside a bucket that is 9 % wide: within 9 %, and
    /// within half of that where the durations of a bucket are spread evenly; never above the maximum when that is known. `None`: no duration recorded.
    pub fn quantile_s(&self, q: f64) -> Option<f64> {
        let total: u64 = self.exponential.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = (q * total as f64).max(1.0);
        let mut below = 0.0;
        for (slot, count) in self.exponential.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let lower = bucket_lower_s(slot);
                let value = if slot == 0 {
                    // Bucket 0 also holds everything shorter: interpolate from zero.
                    bucket_lower_s(1) * (rank - below) / count
                } else {
                    lower * 2f64.powf((rank - below) / count / f64::from(1 << SCALE))
                };
                let max = self.interval_max_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9);
                return Some(value.min(max));
            }
            below += count;
        }
        None
    }
}

/// Lower bound of an exponential slot, seconds.
pub fn bucket_lower_s(slot: usize) -> f64 {
    2f64.powf((slot as f64 + f64::from(FIRST_INDEX)) / f64::from(1 << SCALE))
}

#[cfg(test)]
mod tests {
    use nodeprobe_ebpf::histogram::TURN_BOUNDS_NS;

    use super::*;

    fn of(durations_ns: impl IntoIterator<Item = u64>) -> Histogram {
        let mut record = nodeprobe_ebpf::Histogram::ZERO;
        for duration in durations_ns {
            record.record(duration, &TURN_BOUNDS_NS, 7);
        }
        Histogram::from_record(&record, 7)
    }

    #[test]
    fn quantiles_are_within_half_a_bucket_of_the_truth() {
        // 1..=1000 ms, so the p50 is 500 ms and the p99 is 990 ms.
        let histogram = of((1..=1000).map(|ms| ms * 1_000_000));
        let p50 = histogram.quantile_s(0.5).unwrap();
        let p99 = histogram.quantile_s(0.99).unwrap();
        assert!((p50 / 0.500 - 1.0).abs() < 0.045, "{p50}");
        assert!((p99 / 0.990 - 1.0).abs() < 0.045, "{p99}");
        assert_eq!(histogram.interval_max_ns, Some(1_000_000_000));
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::default().quantile_s(0.99), None);
    }

    #[test]
    fn difference_leaves_only_what_came_later() {
        let before = of([1_000_000, 2_000_000]);
        let mut record = nodeprobe_ebpf::Histogram::ZERO;
        for duration in [1_000_000, 2_000_000, 60_000_000] {
            record.record(duration, &TURN_BOUNDS_NS, 8);
        }
        let later = Histogram::from_record(&record, 8).since(&before);
        assert_eq!((later.count, later.sum_ns), (1, 60_000_000));
        assert_eq!(later.explicit.iter().sum::<u64>(), 1);
    }
}

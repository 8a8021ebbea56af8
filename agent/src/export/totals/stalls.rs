//! Stalls by leading cause.
//!
//! How many there were and how long they took is counted in the kernel, exactly; which cause led is only in the events,
//! and one of those may be lost. So the kernel's count is divided by what the events say, and what no event claims is
//! `unknown`: the sum over the causes is always the kernel's.

use std::collections::BTreeMap;

use nodeprobe_ebpf::histogram::{EXPONENTIAL_LEN, TURN_BOUNDS_NS, exponential_index};

use crate::model::{Cause, Histogram, Stall};

/// Durations by leading cause. [`Cause::Unknown`] is always there, so that no stall is a value too.
#[derive(Clone, Debug)]
pub(in crate::export) struct Stalls(BTreeMap<Cause, Histogram>);

impl Default for Stalls {
    fn default() -> Self {
        Self(BTreeMap::from([(Cause::Unknown, Histogram::default())]))
    }
}

impl Stalls {
    pub(in crate::export) fn by_cause(&self) -> impl Iterator<Item = (Cause, &Histogram)> {
        self.0.iter().map(|(cause, durations)| (*cause, durations))
    }

    fn add(&mut self, cause: Cause, durations: &Histogram) {
        self.0.entry(cause).or_default().merge(durations);
    }
}

/// By bucket, how many of the previous snapshot no event had claimed. The event may only have been on its way: what has
/// been counted as `unknown` stays that, or a total would go back, and its event is not counted a second time.
#[derive(Clone, Debug)]
pub(super) struct Unclaimed(Box<[u64; EXPONENTIAL_LEN]>);

impl Default for Unclaimed {
    fn default() -> Self {
        Self(Box::new([0; EXPONENTIAL_LEN]))
    }
}

impl Unclaimed {
    /// Divides what the kernel has counted since the previous snapshot by what it told in the same time.
    pub(super) fn divide<'a>(
        &mut self,
        counted: &Histogram,
        told: impl Iterator<Item = &'a Stall>,
        into: &mut Stalls,
    ) {
        let mut by_cause: BTreeMap<Cause, Vec<u64>> = BTreeMap::new();
        for stall in told {
            let late = &mut self.0[exponential_index(stall.duration_ns)];
            if *late > 0 {
                *late -= 1;
            } else {
                let cause = stall.causes.leading().map_or(Cause::Unknown, |(cause, _)| cause);
                by_cause.entry(cause).or_default().push(stall.duration_ns);
            }
        }
        let mut claimed = Histogram::default();
        for (cause, durations) in by_cause {
            let durations = Histogram::of(durations, &TURN_BOUNDS_NS);
            claimed.merge(&durations);
            into.add(cause, &durations);
        }
        let rest = if counted.count > claimed.count { counted.since(&claimed) } else { Histogram::default() };
        self.0.copy_from_slice(rest.exponential.as_slice());
        if rest.count > 0 {
            into.add(Cause::Unknown, &rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, MS};

    /// Stalls led by `sync_io`.
    fn told(durations_ms: &[u64]) -> Vec<Stall> {
        let process = sample::process(301, "checkout-api");
        durations_ms.iter().map(|ms| sample::stall(&process, 0, ms * MS)).collect()
    }

    fn counted(durations_ms: &[u64]) -> Histogram {
        Histogram::of(durations_ms.iter().map(|ms| ms * MS), &TURN_BOUNDS_NS)
    }

    fn summary(stalls: &Stalls) -> Vec<(Cause, u64, u64)> {
        stalls.by_cause().map(|(cause, d)| (cause, d.count, d.sum_ns / MS)).collect()
    }

    #[test]
    fn each_stall_is_counted_once_under_its_leading_cause() {
        let (mut stalls, mut unclaimed) = (Stalls::default(), Unclaimed::default());
        unclaimed.divide(&counted(&[60, 200]), told(&[60, 200]).iter(), &mut stalls);
        assert_eq!(summary(&stalls), [(Cause::SyncIo, 2, 260), (Cause::Unknown, 0, 0)]);
    }

    #[test]
    fn a_stall_whose_event_was_lost_is_of_unknown_cause() {
        let (mut stalls, mut unclaimed) = (Stalls::default(), Unclaimed::default());
        unclaimed.divide(&counted(&[60, 200, 900]), told(&[200]).iter(), &mut stalls);
        assert_eq!(summary(&stalls), [(Cause::SyncIo, 1, 200), (Cause::Unknown, 2, 960)]);
        // It does not take the cause from one that comes later.
        unclaimed.divide(&counted(&[]), told(&[]).iter(), &mut stalls);
        unclaimed.divide(&counted(&[60]), told(&[60]).iter(), &mut stalls);
        assert_eq!(summary(&stalls), [(Cause::SyncIo, 2, 260), (Cause::Unknown, 2, 960)]);
    }

    #[test]
    fn an_event_that_comes_after_its_count_is_not_counted_again() {
        let (mut stalls, mut unclaimed) = (Stalls::default(), Unclaimed::default());
        unclaimed.divide(&counted(&[200]), told(&[]).iter(), &mut stalls);
        unclaimed.divide(&counted(&[60]), told(&[200, 60]).iter(), &mut stalls);
        assert_eq!(summary(&stalls), [(Cause::SyncIo, 1, 60), (Cause::Unknown, 1, 200)]);
    }

    #[test]
    fn no_stall_is_zero_of_unknown_cause() {
        let (mut stalls, mut unclaimed) = (Stalls::default(), Unclaimed::default());
        unclaimed.divide(&counted(&[]), told(&[]).iter(), &mut stalls);
        assert_eq!(summary(&stalls), [(Cause::Unknown, 0, 0)]);
    }
}

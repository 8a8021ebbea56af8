//! A control group with a quota of processor time, as a container with a CPU limit has one.

use std::{fs, io};

use crate::cgroup::{Limit, LimitedGroup};

const PERIOD_US: f64 = 100_000.0;

/// Gives the group that a process is in already a quota of so many processors.
///
/// # Errors
/// The host has none, or does not let us.
pub fn limit_around(pid: u32, processors: f64) -> io::Result<()> {
    limited(processors, |limit| limit.around(pid))
}

fn limited<T>(processors: f64, make: impl FnOnce(Limit<'_>) -> T) -> T {
    let quota_us = (processors * PERIOD_US).round();
    let (v1, v2) = (quota_us.to_string(), format!("{quota_us} {PERIOD_US}"));
    make(Limit { controller: "cpu", v1: ("cpu.cfs_quota_us", &v1), v2: ("cpu.max", &v2) })
}

/// A cgroup with a quota, removed when dropped.
pub struct CpuQuota(LimitedGroup);

/// What a quota did.
#[derive(Clone, Copy, Debug)]
pub struct QuotaAccount {
    pub throttled_s: f64,
    pub throttled_periods: f64,
    pub periods: f64,
}

impl QuotaAccount {
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            throttled_s: self.throttled_s - before.throttled_s,
            throttled_periods: self.throttled_periods - before.throttled_periods,
            periods: self.periods - before.periods,
        }
    }
}

impl CpuQuota {
    /// Makes one of so many processors and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of(pid: u32, processors: f64) -> io::Result<Self> {
        limited(processors, |limit| LimitedGroup::of(pid, limit)).map(Self)
    }

    /// As the group itself accounts it, since it was made.
    ///
    /// # Panics
    /// The group does not tell.
    pub fn account(&self) -> QuotaAccount {
        let text = fs::read_to_string(self.0.directory.join("cpu.stat")).expect("a group has an account");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map(|value| value.trim().parse::<f64>().expect("a number"))
        };
        let of_v1 = value("throttled_time").map(|ns| ns / 1e9);
        let throttled_s = of_v1.or_else(|| Some(value("throttled_usec")? / 1e6));
        QuotaAccount {
            throttled_s: throttled_s.expect("it tells the time throttled"),
            throttled_periods: value("nr_throttled").expect("it tells the periods throttled"),
            periods: value("nr_periods").expect("it tells its periods"),
        }
    }
}

//! A control group with a quota of processor time, as a container with a CPU limit has one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::wait::observe_for;

const REMOVED: Duration = Duration::from_secs(15);
const PERIOD_US: f64 = 100_000.0;

/// A cgroup with a quota, removed when dropped.
pub struct CpuQuota(PathBuf);

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
    /// Makes one of so many processors, by the version of control groups that this host has them in, and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of(pid: u32, processors: f64) -> io::Result<Self> {
        let name = format!("nodeprobe-cpu-{pid}");
        let quota_us = (processors * PERIOD_US).round();
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let (directory, file, value) = if v1.join("cpu.cfs_quota_us").exists() {
            (v1.join(name), "cpu.cfs_quota_us", quota_us.to_string())
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "cpu.max", format!("{quota_us} {PERIOD_US}"))
        };
        fs::create_dir(&directory)?;
        let quota = Self(directory);
        fs::write(quota.0.join(file), value)?;
        fs::write(quota.0.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }

    /// As the group itself accounts it, since it was made.
    ///
    /// # Panics
    /// The group does not tell.
    pub fn account(&self) -> QuotaAccount {
        let text = fs::read_to_string(self.0.join("cpu.stat")).expect("a group has an account");
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

impl Drop for CpuQuota {
    fn drop(&mut self) {
        // It can be removed once the process has gone, which takes the kernel a moment. No panic: that would hide why a test failed.
        let end = Instant::now() + REMOVED;
        while let Err(error) = fs::remove_dir(&self.0) {
            if std::thread::panicking() || Instant::now() > end {
                eprintln!("{} stays behind: {error}", self.0.display());
                return;
            }
            observe_for(Duration::from_millis(50));
        }
    }
}

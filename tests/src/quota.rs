//! A control group with a quota of processor time, as a container has one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A cgroup that may use a fifth of a processor, removed when dropped.
pub struct Quota(PathBuf);

impl Quota {
    /// Makes one, by the version of control groups that this host has quotas in, and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of_a_fifth(pid: u32) -> io::Result<Self> {
        let name = format!("nodeprobe-test-{pid}");
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let (directory, file, value) = if v1.join("cpu.cfs_quota_us").exists() {
            (v1.join(name), "cpu.cfs_quota_us", "20000")
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "cpu.max", "20000 100000")
        };
        fs::create_dir(&directory)?;
        let quota = Self(directory);
        fs::write(quota.0.join(file), value)?;
        fs::write(quota.0.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }

    /// For how long the kernel has kept the group off the processors, seconds.
    ///
    /// # Panics
    /// The group does not tell.
    pub fn throttled_s(&self) -> f64 {
        let account = fs::read_to_string(self.0.join("cpu.stat")).expect("the group tells");
        let figure =
            |name| account.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let of_v1_s = figure("throttled_time ").map(|ns| ns / 1e9);
        of_v1_s.or_else(|| Some(figure("throttled_usec ")? / 1e6)).expect("the group has a quota")
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // It can be removed once the process has gone, which the test has seen to.
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

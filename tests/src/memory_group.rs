//! A control group with a limit of memory, as a container has one.

use std::{fs, io};

use crate::cgroup::{Limit, LimitedGroup};

/// Limits the memory of the group that a process is in already.
///
/// # Errors
/// The host has none, or does not let us.
pub fn limit_around(pid: u32, limit_bytes: u64) -> io::Result<()> {
    limit(&limit_bytes.to_string()).around(pid)
}

fn limit(bytes: &str) -> Limit<'_> {
    Limit { controller: "memory", v1: ("memory.limit_in_bytes", bytes), v2: ("memory.max", bytes) }
}

/// A cgroup with a limit, removed when dropped.
pub struct MemoryGroup(LimitedGroup);

impl MemoryGroup {
    /// Makes one and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of(pid: u32, limit_bytes: u64) -> io::Result<Self> {
        LimitedGroup::of(pid, limit(&limit_bytes.to_string())).map(Self)
    }

    /// What is used of the limit, without what the kernel can drop.
    ///
    /// # Panics
    /// The group does not tell.
    pub fn used_bytes(&self) -> f64 {
        let (usage, droppable) = if self.0.is_v1 {
            ("memory.usage_in_bytes", "total_inactive_file")
        } else {
            ("memory.current", "inactive_file")
        };
        let read = |file: &str| fs::read_to_string(self.0.directory.join(file)).expect("the group tells");
        let usage: f64 = read(usage).trim().parse().expect("a number");
        let account = read("memory.stat");
        let droppable = account.lines().find_map(|line| line.strip_prefix(droppable)?.trim().parse().ok());
        usage - droppable.unwrap_or(0.0)
    }
}

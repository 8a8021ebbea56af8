//! A control group with a limit of memory, as a container has one.

use std::{fs, io, path::Path};

use crate::cgroup::{Limit, LimitedGroup};

/// Limits the memory of the group that a process is in already.
///
/// # Errors
/// The host has none, or does not let us.
pub fn limit_around(pid: u32, limit_bytes: u64) -> io::Result<()> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut lines = text.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        line.split_once(':')
    });
    let of_v1 = |controllers: &str| controllers.split(',').any(|controller| controller == "memory");
    let in_v1 = lines.clone().find(|(controllers, _)| of_v1(controllers));
    let in_v1 = in_v1.map(|(_, path)| ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path));
    let mut in_v2 = || {
        let (_, path) = lines.find(|(controllers, _)| controllers.is_empty())?;
        Some(("/sys/fs/cgroup", "memory.max", path))
    };
    let (mount, file, path) = in_v1.or_else(&mut in_v2).ok_or(io::ErrorKind::NotFound)?;
    let directory = Path::new(mount).join(path.trim_start_matches('/'));
    fs::write(directory.join(file), limit_bytes.to_string())
}

/// A cgroup with a limit, removed when dropped.
pub struct MemoryGroup(LimitedGroup);

impl MemoryGroup {
    /// Makes one and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of(pid: u32, limit_bytes: u64) -> io::Result<Self> {
        let value = limit_bytes.to_string();
        let (v1, v2) = (("memory.limit_in_bytes", &*value), ("memory.max", &*value));
        LimitedGroup::of(pid, Limit { controller: "memory", v1, v2 }).map(Self)
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

//! A control group with a limit of memory, as a container has one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::wait::eventually;

const REMOVED: Duration = Duration::from_secs(15);

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
pub struct MemoryGroup {
    directory: PathBuf,
    usage: &'static str,
    droppable: &'static str,
}

impl MemoryGroup {
    /// Makes one, by the version of control groups that this host has memory in, and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of(pid: u32, limit_bytes: u64) -> io::Result<Self> {
        let name = format!("nodeprobe-memory-{pid}");
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (directory, limit, usage, droppable) = if v1.join("memory.limit_in_bytes").exists() {
            (v1.join(name), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "memory.max", "memory.current", "inactive_file")
        };
        fs::create_dir(&directory)?;
        let group = Self { directory, usage, droppable };
        fs::write(group.directory.join(limit), limit_bytes.to_string())?;
        fs::write(group.directory.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }

    /// What is used of the limit, without what the kernel can drop.
    ///
    /// # Panics
    /// The group does not tell.
    pub fn used_bytes(&self) -> f64 {
        let read = |file: &str| fs::read_to_string(self.directory.join(file)).expect("the group tells");
        let usage: f64 = read(self.usage).trim().parse().expect("a number");
        let account = read("memory.stat");
        let droppable =
            account.lines().find_map(|line| line.strip_prefix(self.droppable)?.trim().parse().ok());
        usage - droppable.unwrap_or(0.0)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It can be removed once the process has gone, which takes the kernel a moment.
        eventually("the group to be empty", REMOVED, || {
            fs::remove_dir(&self.directory).is_ok().then_some(())
        });
    }
}

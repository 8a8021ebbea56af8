//! Control groups on this host, whichever version it has them in.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::wait::observe_for;

const ROOT: &str = "/sys/fs/cgroup";
/// A group can be removed once its last process has gone, which takes the kernel a moment; and the agent leaves a child behind
/// that closes its probes.
const REMOVED: Duration = Duration::from_secs(15);

/// Where hierarchies of groups are mounted: one of version 2, or one for each controller of version 1.
#[must_use]
pub fn hierarchies() -> Vec<PathBuf> {
    let is_hierarchy = |path: &Path| path.join("cgroup.procs").exists();
    let root = PathBuf::from(ROOT);
    if is_hierarchy(&root) {
        return vec![root];
    }
    let entries = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    // Names of two controllers in one hierarchy are links to it.
    entries.filter(|path| is_hierarchy(path) && !path.is_symlink()).collect()
}

/// A limit of a controller: file and value in version 1, and in version 2.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    pub controller: &'a str,
    pub v1: (&'a str, &'a str),
    pub v2: (&'a str, &'a str),
}

impl Limit<'_> {
    /// Limits the group that a process is in already.
    ///
    /// # Errors
    /// The process is in no group of the controller, or the host does not let us.
    pub fn around(self, pid: u32) -> io::Result<()> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mut lines = text.lines().filter_map(|line| {
            let (_, line) = line.split_once(':')?;
            line.split_once(':')
        });
        let of_v1 =
            |controllers: &str| controllers.split(',').any(|controller| controller == self.controller);
        let in_v1 = lines.clone().find(|(controllers, _)| of_v1(controllers));
        let in_v1 = in_v1.map(|(_, path)| (Path::new(ROOT).join(self.controller), self.v1, path));
        let mut in_v2 = || {
            let (_, path) = lines.find(|(controllers, _)| controllers.is_empty())?;
            Some((PathBuf::from(ROOT), self.v2, path))
        };
        let (mount, (file, value), path) = in_v1.or_else(&mut in_v2).ok_or(io::ErrorKind::NotFound)?;
        fs::write(mount.join(path.trim_start_matches('/')).join(file), value)
    }
}

/// A group with one limit, removed when dropped.
pub struct LimitedGroup {
    pub directory: PathBuf,
    pub is_v1: bool,
}

impl LimitedGroup {
    /// Makes one by the version of control groups that this host has the controller in, and moves a process into it.
    ///
    /// # Errors
    /// The host has none, or does not let us.
    pub fn of(pid: u32, limit: Limit<'_>) -> io::Result<Self> {
        let name = format!("nodeprobe-{}-{pid}", limit.controller);
        let v1 = Path::new(ROOT).join(limit.controller);
        let is_v1 = v1.join(limit.v1.0).exists();
        let (directory, (file, value)) =
            if is_v1 { (v1.join(name), limit.v1) } else { (Path::new(ROOT).join(name), limit.v2) };
        fs::create_dir(&directory)?;
        let group = Self { directory, is_v1 };
        fs::write(group.directory.join(file), value)?;
        fs::write(group.directory.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }
}

impl Drop for LimitedGroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Removes a group as soon as it is empty. One that stays is told, without a panic: that would hide why a test failed.
pub fn remove(group: &Path) {
    let end = Instant::now() + REMOVED;
    while let Err(error) = fs::remove_dir(group) {
        if Instant::now() > end {
            eprintln!("{} stays behind: {error}", group.display());
            return;
        }
        observe_for(Duration::from_millis(20));
    }
}

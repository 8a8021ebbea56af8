//! Where the cgroup namespace of the agent begins in what is mounted at `/sys/fs/cgroup`.
//!
//! The kernel tells how deep that is (`/proc/self/mountinfo`), but names only to who may enter the namespace of pid 1, which takes
//! `CAP_SYS_ADMIN`. So the agent looks for the group that holds itself among those of that depth.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::cgroup::namespace::{self, Hierarchy, Roots};

/// No node has as many groups; a search through all would take half a second.
const DIRECTORIES_MAX: usize = 20_000;
/// The text of `mountinfo`, or the list of processes of a group.
const TEXT_MAX_BYTES: u64 = 1 << 20;
/// A search that found nothing is done again after this: the agent may have been moved, or a group have gone meanwhile.
const AGAIN: Duration = Duration::from_mins(5);

/// What was found, and when.
static FOUND: Mutex<Option<(Instant, Arc<Roots>)>> = Mutex::new(None);

/// Of this process. Looked for once: a namespace stays where it is for as long as a process is in it. The first search is waited
/// for; those after one that found nothing are made aside, for whoever asks may hold what others wait for.
pub(super) fn roots() -> Arc<Roots> {
    let mut found = lock();
    let Some((at, roots)) = &mut *found else {
        let roots = Arc::new(find(Path::new("/"), std::process::id()));
        *found = Some((Instant::now(), Arc::clone(&roots)));
        return roots;
    };
    if !roots.are_known() && at.elapsed() >= AGAIN {
        // Not before as long again, whether there is a thread for it or not.
        *at = Instant::now();
        let search = || {
            let roots = Arc::new(find(Path::new("/"), std::process::id()));
            *lock() = Some((Instant::now(), roots));
        };
        std::thread::Builder::new().name("cgroup-search".into()).spawn(search).ok();
    }
    Arc::clone(roots)
}

fn lock() -> MutexGuard<'static, Option<(Instant, Arc<Roots>)>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of the process `pid`, which is `/proc/self` below `root`.
fn find(root: &Path, pid: u32) -> Roots {
    let mountinfo = read(&root.join("proc/self/mountinfo"));
    let mountinfo = String::from_utf8_lossy(&mountinfo);
    let own = read(&root.join("proc/self/cgroup"));
    let root_in = |hierarchy| {
        let Some(mount) = namespace::mount(&mountinfo, super::cgroups::ROOT, hierarchy) else {
            // Nothing can be read of it, wherever it begins.
            return Some(String::new());
        };
        let depth = mount.depth?;
        if depth == 0 {
            return Some(String::new());
        }
        let own = namespace::own_group(&own, hierarchy)?;
        let mut search = Search {
            mount: root.join(mount.directory.trim_start_matches('/')),
            pid: pid.to_string(),
            directories_left: DIRECTORIES_MAX,
        };
        let found = search.below(PathBuf::new(), depth + namespace::names(own).count())?;
        namespace::root_above(found.to_str()?, own).map(str::to_owned)
    };
    Roots { cpu: root_in(Hierarchy::Cpu), memory: root_in(Hierarchy::Memory), v2: root_in(Hierarchy::V2) }
}

struct Search {
    mount: PathBuf,
    /// As `cgroup.procs` has it: the kernel writes pids there as the reader's pid namespace has them.
    pid: String,
    directories_left: usize,
}

impl Search {
    /// The group of the process among those `depth` levels below `group`.
    fn below(&mut self, group: PathBuf, depth: usize) -> Option<PathBuf> {
        self.directories_left = self.directories_left.checked_sub(1)?;
        let directory = self.mount.join(&group);
        if depth == 0 {
            let pids = read(&directory.join("cgroup.procs"));
            return pids.split(|&byte| byte == b'\n').any(|pid| pid == self.pid.as_bytes()).then_some(group);
        }
        let entries = std::fs::read_dir(directory).ok()?.flatten();
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // All names before the first of them is entered: one descriptor is open at a time, however deep it goes.
        let groups: Vec<PathBuf> = groups.map(|entry| group.join(entry.file_name())).collect();
        groups.into_iter().find_map(|group| self.below(group, depth - 1))
    }
}

/// What cannot be read is empty.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path)
        && file.take(TEXT_MAX_BYTES).read_to_end(&mut bytes).is_err()
    {
        // As the list of a group that went away, or of a part of a threaded one.
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;
    use crate::procfs::live::Running;

    const PID: u32 = 4711;

    /// A node with groups of version 2, seen from the inside of a container.
    fn node(mounted: &str, own: &str, groups: &[(&str, &str)]) -> TempDir {
        let node = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = node.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let mount = format!("51 50 0:26 {mounted} /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n");
        write("proc/self/mountinfo", &mount);
        write("proc/self/cgroup", &format!("0::{own}\n"));
        for (group, pids) in groups {
            write(&format!("sys/fs/cgroup/{group}/cgroup.procs"), pids);
        }
        node
    }

    fn v2(node: &TempDir) -> Option<String> {
        let roots = find(node.path(), PID);
        assert_eq!((roots.cpu.as_deref(), roots.memory.as_deref()), (Some(""), Some("")), "not mounted");
        roots.v2
    }

    const GROUPS: [(&str, &str); 5] = [
        ("", "1\n"),
        ("system.slice/kubelet.service", "47110\n4\n"),
        ("kubepods.slice/pod1.slice/b.scope", "14711\n"),
        ("kubepods.slice/pod2.slice/a.scope", "4710\n4711\n4712\n"),
        ("kubepods.slice/pod2.slice/a.scope/init", "4711\n"),
    ];

    #[test]
    fn the_group_with_the_agent_is_where_its_namespace_begins() {
        let found = v2(&node("/../../..", "/", &GROUPS));
        assert_eq!(found.as_deref(), Some("kubepods.slice/pod2.slice/a.scope"));
        let nested = v2(&node("/../../..", "/init", &GROUPS));
        assert_eq!(nested.as_deref(), Some("kubepods.slice/pod2.slice/a.scope"));
        assert_eq!(v2(&node("/", "/", &[])).as_deref(), Some(""), "the namespace of the host");
        assert_eq!(v2(&node("/", "/kubepods.slice", &[])).as_deref(), Some(""));
    }

    #[test]
    fn what_is_not_found_is_not_known() {
        assert_eq!(v2(&node("/../../..", "/", &GROUPS[..3])), None, "its group is not there");
        assert_eq!(v2(&node("/../..", "/", &GROUPS)), None, "not as deep as the kernel says");
        assert_eq!(v2(&node("/../../..", "/other", &GROUPS)), None);
        assert_eq!(v2(&node("/../../..", "/../b.scope", &GROUPS)), None, "it was moved out");
        assert_eq!(v2(&node("/../pod1.slice", "/", &GROUPS)), None, "something beside is mounted");
        assert_eq!(v2(&node("/../../..", "/", &[])), None);
    }

    #[test]
    fn without_a_mount_nothing_is_looked_for() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(find(empty.path(), PID), Roots::default());
    }

    #[test]
    fn a_search_has_an_end() {
        let node = node("/../../..", "/", &GROUPS);
        let search = |directories_left| {
            let mount = node.path().join("sys/fs/cgroup");
            Search { mount, pid: PID.to_string(), directories_left }.below(PathBuf::new(), 3)
        };
        assert!(search(100).is_some());
        assert_eq!(search(3), None);
    }

    /// Groups in hierarchies of this host, removed when dropped.
    struct Groups(Vec<PathBuf>);

    impl Drop for Groups {
        fn drop(&mut self) {
            for group in &self.0 {
                for _ in 0..100 {
                    match std::fs::remove_dir(group) {
                        // The kernel has not done with the process that has just ended.
                        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        _ => break,
                    }
                }
                std::fs::remove_dir(group.parent().unwrap()).ok();
            }
        }
    }

    #[test]
    fn what_the_kernel_shows_in_a_namespace_is_understood() {
        const SCRIPT: &str = r"for group in $1; do echo $$ > $group/cgroup.procs; done
            exec unshare --cgroup sh -c 'cat /proc/self/mountinfo > mountinfo && cat /proc/self/cgroup > cgroup &&
            echo ready && exec sleep 60'";
        let name = format!("nodeprobe-unit-{}/inner", std::process::id());
        let mounts = ["", "unified", "memory"].map(|mount| Path::new("/sys/fs/cgroup").join(mount));
        let groups = mounts.iter().filter(|mount| mount.join("cgroup.procs").exists());
        let groups = Groups(groups.map(|mount| mount.join(&name)).collect());
        let made = groups.0.iter().all(|group| std::fs::create_dir_all(group).is_ok());
        let may = Command::new("unshare").args(["--cgroup", "true"]).status();
        if groups.0.is_empty() || !made || !may.is_ok_and(|status| status.success()) {
            eprintln!("skipped: groups or cgroup namespaces cannot be made here");
            return;
        }
        // What the process sees of itself, and the groups of this host.
        let seen = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/sys", seen.path().join("sys")).unwrap();
        std::fs::create_dir_all(seen.path().join("proc/self")).unwrap();
        let paths: Vec<&str> = groups.0.iter().map(|group| group.to_str().unwrap()).collect();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh", &paths.join(" ")]).current_dir(seen.path().join("proc/self"));
        let running = Running::start_and_wait(&mut command);
        let roots = find(seen.path(), running.child.id());
        let expected = |mounts: &[PathBuf]| {
            let is_there =
                groups.0.iter().any(|group| mounts.iter().any(|mount| group == &mount.join(&name)));
            Some(if is_there { name.clone() } else { String::new() })
        };
        assert_eq!((roots.v2, roots.memory), (expected(&mounts[..2]), expected(&mounts[2..])));
        // The process has not the pid of this test.
        assert!(!find(seen.path(), std::process::id()).are_known());
        drop(running);
    }
}

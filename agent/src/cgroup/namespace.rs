//! Where the paths of `/proc/PID/cgroup` begin. The kernel shows them from the root of the reader's cgroup namespace, and an unprivileged
//! container has one of its own wherever groups are of version 2: the group of another container is
//! `/../../kubepods-burstable-pod….slice/cri-containerd-….scope` there, while the whole hierarchy may be mounted at `/sys/fs/cgroup`.
//!
//! Architecture invariant: no I/O in here.

#![forbid(unsafe_code)]

use super::{Line, lines};

/// A hierarchy in which something is accounted that is told of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// That of version 1 with the controller `cpu`.
    Cpu,
    /// That of version 1 with the controller `memory`.
    Memory,
    V2,
}

impl Hierarchy {
    pub(super) fn is_of(self, line: &Line<'_>) -> bool {
        self.controller().map_or_else(|| line.is_v2(), |controller| line.has(controller))
    }

    fn controller(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Memory => Some("memory"),
            Self::V2 => None,
        }
    }
}

/// Where the namespace begins in each hierarchy: a path below what is mounted of it, without slashes at its ends. Empty: the mount
/// begins there, too, as on the host. `None`: not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    pub cpu: Option<String>,
    pub memory: Option<String>,
    pub v2: Option<String>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { cpu: Some(String::new()), memory: Some(String::new()), v2: Some(String::new()) }
    }
}

impl Roots {
    pub fn are_known(&self) -> bool {
        let Self { cpu, memory, v2 } = self;
        [cpu, memory, v2].into_iter().all(Option::is_some)
    }

    /// The group of a path that the kernel shows, below what is mounted; `None`: it lies outside, or it is not known where.
    pub(super) fn resolve(&self, hierarchy: Hierarchy, shown: &str) -> Option<String> {
        let root = match hierarchy {
            Hierarchy::Cpu => &self.cpu,
            Hierarchy::Memory => &self.memory,
            Hierarchy::V2 => &self.v2,
        };
        let mut group: Vec<&str> = names(root.as_deref()?).collect();
        for name in names(shown) {
            if name == ".." {
                group.pop()?;
            } else {
                group.push(name);
            }
        }
        Some(group.join("/"))
    }
}

/// How a hierarchy is mounted, as one process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub directory: String,
    /// How many groups the namespace begins below what is mounted; `None`: it does not begin below that.
    pub depth: Option<usize>,
}

/// The mount of a hierarchy in `directory` (`/sys/fs/cgroup`) or right below, by `/proc/self/mountinfo`. Its fourth column is what of
/// the hierarchy is mounted, and begins where the paths of groups begin: `/../..` is two groups above.
pub fn mount(mountinfo: &str, directory: &str, hierarchy: Hierarchy) -> Option<Mount> {
    let of_line = |line: &str| {
        let (of_mount, of_file_system) = line.split_once(" - ")?;
        let mut of_mount = of_mount.split(' ').skip(3);
        let (mounted, at) = (of_mount.next()?, of_mount.next()?);
        let mut of_file_system = of_file_system.split(' ');
        let (kind, options) = (of_file_system.next()?, of_file_system.nth(1)?);
        let below = at.strip_prefix(directory)?;
        let is_meant = match hierarchy.controller() {
            None => kind == "cgroup2" && ["", "/unified"].contains(&below),
            Some(controller) => {
                kind == "cgroup" && below.starts_with('/') && options.split(',').any(|one| one == controller)
            }
        };
        let is_above = names(mounted).all(|name| name == "..");
        let depth = is_above.then(|| names(mounted).count());
        is_meant.then(|| Mount { directory: at.to_owned(), depth })
    };
    // A later one at the same place covers the ones before.
    mountinfo.lines().rev().find_map(of_line)
}

/// The path of a process's group in a hierarchy, without slashes at its ends; `None`: it is not below the root of the namespace.
pub fn own_group(cgroup: &[u8], hierarchy: Hierarchy) -> Option<&str> {
    let line = lines(cgroup).find(|line| hierarchy.is_of(line))?;
    let is_below = names(line.path).all(|name| name != "..");
    is_below.then(|| line.path.trim_matches('/'))
}

/// Where the namespace begins, by what is shown of a group and where that group was found.
pub fn root_above<'a>(found: &'a str, shown: &str) -> Option<&'a str> {
    let root = found.strip_suffix(shown)?;
    if shown.is_empty() { Some(root) } else { root.strip_suffix('/') }
}

/// The groups along a path.
pub fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{cpu_stat_paths, is_out_of_sight, memory_groups, memory_limit_paths},
        *,
    };

    const AGENT: &str = "kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope";

    fn roots(root: Option<&str>) -> Roots {
        let root = root.map(str::to_owned);
        Roots { cpu: root.clone(), memory: root.clone(), v2: root }
    }

    #[test]
    fn a_pod_beside_that_of_the_agent_is_found() {
        let roots = roots(Some(AGENT));
        let burstable =
            b"0::/../../kubepods-burstable.slice/kubepods-burstable-pod2.slice/cri-containerd-b.scope\n";
        let group =
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2.slice/cri-containerd-b.scope";
        assert_eq!(cpu_stat_paths(burstable, &roots)[0], format!("{group}/cpu.stat"));
        let (limits, is_root) = memory_limit_paths(burstable, &roots).unwrap();
        assert_eq!(limits, [format!("{group}/memory.max"), format!("{group}/memory.high")]);
        assert!(!is_root);
        assert_eq!(memory_groups(burstable, &roots).unwrap().directories.len(), 4);
        assert_eq!(memory_groups(burstable, &roots).unwrap().directories[0], group);
        // Another container of the same pod, the agent itself, and what it has nested.
        for (shown, group) in [
            ("/../cri-containerd-c.scope", "kubepods.slice/kubepods-pod1.slice/cri-containerd-c.scope"),
            ("/", AGENT),
            ("/init", &format!("{AGENT}/init")),
            ("/../../../system.slice", "system.slice"),
        ] {
            let found = memory_groups(format!("0::{shown}\n").as_bytes(), &roots).unwrap();
            assert_eq!(found.directories[0], group, "{shown}");
        }
        // The root of all: of pid 1 before systemd has moved it.
        assert!(memory_limit_paths(b"0::/../../..\n", &roots).unwrap().1);
    }

    #[test]
    fn each_hierarchy_has_a_root_of_its_own() {
        let hybrid = Roots { cpu: Some("a/b".into()), memory: Some("c".into()), v2: None };
        let text = b"4:memory:/../x\n2:cpu,cpuacct:/../x\n0::/../x\n";
        assert_eq!(cpu_stat_paths(text, &hybrid), ["cpu,cpuacct/a/x/cpu.stat", "cpu/a/x/cpu.stat"]);
        assert_eq!(memory_groups(text, &hybrid).unwrap().directories, ["memory/x"]);
        assert!(!is_out_of_sight(text, &hybrid), "the hierarchy of version 2 has nothing of interest");
        let unified = Roots { v2: Some("d".into()), ..Roots::default() };
        assert_eq!(cpu_stat_paths(b"0::/../x\n", &unified), ["x/cpu.stat", "unified/x/cpu.stat"]);
    }

    #[test]
    fn what_is_outside_is_out_of_sight() {
        for (root, shown) in [
            (Some(AGENT), "/../../../../x"),
            (Some(""), "/../x"),
            (None, "/../x"),
            // From an unknown root also what lies below it.
            (None, "/x"),
        ] {
            let roots = roots(root);
            for text in [format!("0::{shown}\n"), format!("4:memory:{shown}\n2:cpu:{shown}\n0::/\n")] {
                let text = text.as_bytes();
                assert!(is_out_of_sight(text, &roots), "{root:?} {shown}");
                assert!(cpu_stat_paths(text, &roots).is_empty(), "{root:?} {shown}");
                assert_eq!(memory_groups(text, &roots), None, "{root:?} {shown}");
                assert_eq!(memory_limit_paths(text, &roots), None, "{root:?} {shown}");
            }
        }
        assert!(!is_out_of_sight(b"", &roots(None)), "a kernel without groups");
        assert!(!is_out_of_sight(b"0::/x\n", &Roots::default()));
    }

    /// As a container with a private namespace sees the host's hierarchies (Linux 6.18).
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 /../.. /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 /../../.. /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn mounts_tell_how_deep_the_namespace_begins() {
        let of = |text: &str, hierarchy| {
            mount(text, "/sys/fs/cgroup", hierarchy).map(|mount| (mount.directory, mount.depth))
        };
        let at = |directory: &str, depth| Some((format!("/sys/fs/cgroup{directory}"), depth));
        assert_eq!(of(HYBRID, Hierarchy::Cpu), at("/cpu,cpuacct", Some(0)));
        assert_eq!(of(HYBRID, Hierarchy::Memory), at("/memory", Some(2)));
        assert_eq!(of(HYBRID, Hierarchy::V2), at("/unified", Some(3)));
        // The runtime's own mount, and that of the host over it.
        let covered = "50 49 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n\
             51 50 0:26 /../../../.. /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(of(covered, Hierarchy::V2), at("", Some(4)));
        assert_eq!(of(covered, Hierarchy::Memory), None);
        // A group beside that of the agent is all that is mounted.
        let beside = "51 50 0:26 /../system.slice /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(of(beside, Hierarchy::V2), at("", None));
        for other in ["", "x", "51 50 0:26 / /sys/fs/cgroup ro", "5 4 0:2 / /host/cgroup ro - cgroup2 c rw"] {
            assert_eq!(of(other, Hierarchy::V2), None, "{other}");
        }
    }

    #[test]
    fn the_root_is_what_is_above_the_group_of_the_agent() {
        assert_eq!(own_group(b"4:memory:/\n0::/init\n", Hierarchy::Memory), Some(""));
        assert_eq!(own_group(b"4:memory:/\n0::/init\n", Hierarchy::V2), Some("init"));
        assert_eq!(own_group(b"0::/../beside\n", Hierarchy::V2), None, "it was moved");
        assert_eq!(own_group(b"0::/\n", Hierarchy::Cpu), None);
        assert_eq!(root_above("a/b", ""), Some("a/b"));
        assert_eq!(root_above("a/b/init", "init"), Some("a/b"));
        assert_eq!(root_above("a/b/xinit", "init"), None);
        assert_eq!(root_above("a/b/c", "init"), None);
    }
}

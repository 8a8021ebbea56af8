//! What this host lets nodeprobe do: facts ([`Facts`]), what follows from them ([`requirements`]), and the tracefs
//! that tracepoints need ([`tracefs`]).

pub(crate) mod btf;
pub mod requirements;
pub(crate) mod tick;
pub mod tracefs;
pub(crate) mod trial;

use std::{io::Read as _, path::Path};

pub use self::{requirements::Requirement, tracefs::Tracefs, trial::Trial};
use crate::{clean::clean, procfs};

/// The inodes of the first namespaces, `PROC_PID_INIT_INO` and `PROC_USER_INIT_INO` of
/// `include/linux/proc_ns.h`.
const ROOT_PID_NAMESPACE: &str = "pid:[4026531836]";
const ROOT_USER_NAMESPACE: &str = "user:[4026531837]";

/// Capabilities of a thread as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether the capability of this number (include/uapi/linux/capability.h) is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }
}

/// Those that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    DacOverride = 1,
    DacReadSearch = 2,
    SysPtrace = 19,
    SysAdmin = 21,
    Perfmon = 38,
    Bpf = 39,
}

/// Kernel lockdown, see `kernel_lockdown(7)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lockdown {
    #[default]
    Off,
    Integrity,
    Confidentiality,
}

/// Which cgroup hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    V1,
    V2,
    Hybrid,
}

/// What was found on a host. `None`: not there, or not readable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// As `uname -r` prints it, cleaned.
    pub release: String,
    /// Major and minor number of the release.
    pub version: Option<(u32, u32)>,
    /// Effective user of this process.
    pub user_id: Option<u32>,
    /// Effective capabilities of this process.
    pub capabilities: Capabilities,
    /// Creating a BPF map.
    pub bpf: Trial,
    /// Opening a uprobe as a performance event.
    pub uprobe: Trial,
    /// Linking uprobes, many at a time; what is used where it works.
    pub uprobe_links: Trial,
    /// Type number of the uprobe PMU.
    pub uprobe_pmu: Option<u32>,
    pub tracefs: Tracefs,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// The kernel describes its own types.
    pub btf: bool,
    pub lockdown: Lockdown,
    /// Whether this process is in the host's user namespace: in another one its capabilities are for nothing here.
    pub root_user_namespace: Option<bool>,
    /// Whether this process is in the host's pid namespace.
    pub root_pid_namespace: Option<bool>,
    /// `Seccomp:` of `/proc/self/status`: 2 is a filter.
    pub seccomp_mode: Option<u32>,
    pub cgroup: Option<CgroupVersion>,
    /// Whether the group of pid 1 can be looked at, and so those of other containers.
    pub groups_in_sight: Option<bool>,
}

impl Facts {
    /// Of this host and this process. Tries the system calls themselves; leaves nothing behind.
    pub fn of_this_host() -> Self {
        let mut facts = Self::read(Path::new("/"));
        facts.bpf = trial::create_bpf_map();
        if let Some(pmu) = facts.uprobe_pmu {
            facts.uprobe = trial::open_uprobe(pmu);
        }
        facts.uprobe_links = trial::link_uprobes();
        facts.groups_in_sight =
            procfs::Procfs::default().process(1).ok().and_then(|init| procfs::cgroups::is_in_sight(&init));
        facts
    }

    /// From the files below `root`; nothing is tried.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| read_text(&root.join(path));
        let release = clean(text("proc/sys/kernel/osrelease").unwrap_or_default().trim().as_bytes(), 128);
        let status = text("proc/self/status").unwrap_or_default();
        let own = |name: &str| procfs::field(status.as_bytes(), name);
        let namespace = |kind| std::fs::read_link(root.join("proc/self/ns").join(kind)).ok();
        Self {
            version: version(&release),
            release,
            user_id: own("Uid").and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok()),
            capabilities: own("CapEff")
                .and_then(|bits| u64::from_str_radix(bits, 16).ok())
                .map_or_else(Capabilities::default, Capabilities),
            bpf: Trial::NotTried,
            uprobe: Trial::NotTried,
            uprobe_links: Trial::NotTried,
            uprobe_pmu: text("sys/bus/event_source/devices/uprobe/type").and_then(|n| n.trim().parse().ok()),
            tracefs: tracefs::find(root),
            perf_event_paranoid: text("proc/sys/kernel/perf_event_paranoid")
                .and_then(|n| n.trim().parse().ok()),
            btf: root.join("sys/kernel/btf/vmlinux").is_file(),
            lockdown: text("sys/kernel/security/lockdown").map_or(Lockdown::Off, |modes| lockdown(&modes)),
            root_user_namespace: namespace("user").map(|link| link == Path::new(ROOT_USER_NAMESPACE)),
            root_pid_namespace: namespace("pid").map(|link| link == Path::new(ROOT_PID_NAMESPACE)),
            seccomp_mode: own("Seccomp").and_then(|mode| mode.parse().ok()),
            cgroup: text("proc/mounts").and_then(|mounts| cgroup(&mounts)),
            groups_in_sight: None,
        }
    }
}

/// These files are small; on a broken host they may be anything.
pub(super) fn read_text(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(1 << 20).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// `6.18.44-fc-v669` is (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// `none [integrity] confidentiality`: the one in brackets holds.
fn lockdown(modes: &str) -> Lockdown {
    let chosen = modes.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(mode, _)| mode);
    match chosen {
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Off,
    }
}

/// From the third column of `/proc/mounts`.
fn cgroup(mounts: &str) -> Option<CgroupVersion> {
    let mounted = |kind: &str| mounts.lines().any(|line| line.split_ascii_whitespace().nth(2) == Some(kind));
    match (mounted("cgroup"), mounted("cgroup2")) {
        (true, true) => Some(CgroupVersion::Hybrid),
        (true, false) => Some(CgroupVersion::V1),
        (false, true) => Some(CgroupVersion::V2),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_every_distribution_are_read() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10.0-35-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("4.19-rc1"), Some((4, 19)));
        assert_eq!(version("7.2+"), Some((7, 2)));
        assert_eq!(version("linux"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn lockdown_is_the_mode_in_brackets() {
        assert_eq!(lockdown("[none] integrity confidentiality\n"), Lockdown::Off);
        assert_eq!(lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(lockdown("none integrity [confidentiality]\n"), Lockdown::Confidentiality);
        assert_eq!(lockdown("]["), Lockdown::Off);
    }

    #[test]
    fn cgroup_versions_are_told_apart() {
        let v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(cgroup(v1), Some(CgroupVersion::V1));
        assert_eq!(cgroup(v2), Some(CgroupVersion::V2));
        assert_eq!(cgroup(&format!("{v1}{v2}")), Some(CgroupVersion::Hybrid));
        assert_eq!(cgroup("proc /proc proc rw 0 0\n"), None);
    }
}

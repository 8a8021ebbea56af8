//! Which container a process belongs to, and where its group's share of processors is accounted, from the text of
//! `/proc/PID/cgroup`.
//!
//! Architecture invariant: no I/O in here.

#![forbid(unsafe_code)]

pub mod namespace;

use self::namespace::{Hierarchy, Roots};
use crate::model::CpuPeriods;

/// Length of the id that Docker, containerd, CRI-O and podman give to a container, in hexadecimal digits.
const ID_LEN: usize = 64;

/// The container id in the contents of `/proc/PID/cgroup`; `None`: the process runs on the host itself, or in
/// something that is not named by a 64-digit id.
///
/// Known forms, the same on cgroup v1 and v2 (a line is `hierarchy:controllers:path`):
/// `/docker/<id>`, `/kubepods/[burstable/|besteffort/]pod<uid>/<id>`, `/libpod_parent/libpod-<id>`,
/// `….slice/{docker,cri-containerd,crio,libpod}-<id>.scope`, `/system.slice/containerd.service/…:cri-containerd:<id>`,
/// and any of them with something nested below (`…/init.scope`, `…/container`).
pub fn container_id(cgroup: &[u8]) -> Option<&str> {
    // Nested containers (a node of a cluster that is a container itself) have two ids in one path: the innermost
    // is the one the process is in. The lines agree, except where only some hierarchies were set up.
    lines(cgroup).find_map(|line| line.path.rsplit('/').find_map(segment_id))
}

/// The uid of the Kubernetes pod, as the API writes it; `None`: the process is in no pod. Of a static pod it is what the API has in
/// the annotation `kubernetes.io/config.hash`.
///
/// Known forms of the segment: `pod<uid>` of the cgroupfs driver; `kubepods[-burstable|-besteffort]-pod<uid>.slice` with `_` for `-`
/// of the systemd driver; the latter before a `:` where containerd was told to use groups of systemd but does not.
pub fn pod_uid(cgroup: &[u8]) -> Option<String> {
    lines(cgroup).find_map(|line| line.path.rsplit('/').find_map(segment_pod))
}

/// A line of `/proc/PID/cgroup`.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    /// Number, and which controllers, separated by commas; 0 and none: version 2.
    hierarchy: &'a str,
    controllers: &'a str,
    /// May contain colons itself.
    path: &'a str,
}

impl Line<'_> {
    fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }

    fn is_v2(&self) -> bool {
        self.hierarchy == "0" && self.controllers.is_empty()
    }
}

/// Those that are UTF-8: others name no container.
fn lines(cgroup: &[u8]) -> impl Iterator<Item = Line<'_>> {
    cgroup.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.splitn(3, ':');
        Some(Line { hierarchy: fields.next()?, controllers: fields.next()?, path: fields.next()? })
    })
}

/// The line of the hierarchy that has a controller: of version 1, or version 2 where no line of version 1 names it.
fn line_of(cgroup: &[u8], controller: Hierarchy) -> Option<(Hierarchy, Line<'_>)> {
    [controller, Hierarchy::V2]
        .into_iter()
        .find_map(|hierarchy| Some((hierarchy, lines(cgroup).find(|line| hierarchy.is_of(line))?)))
}

/// Whether the group of a process lies where it cannot be looked at: outside of what is mounted here, or it is not known where.
pub fn is_out_of_sight(cgroup: &[u8], roots: &Roots) -> bool {
    [Hierarchy::Cpu, Hierarchy::Memory].into_iter().any(|controller| {
        line_of(cgroup, controller)
            .is_some_and(|(hierarchy, line)| roots.resolve(hierarchy, line.path).is_none())
    })
}

/// Where the file `cpu.stat` of the group may be, below `/sys/fs/cgroup`; the first that exists is the one. The hierarchy that
/// has the `cpu` controller is the one of quotas.
pub fn cpu_stat_paths(cgroup: &[u8], roots: &Roots) -> Vec<String> {
    let Some((hierarchy, line)) = line_of(cgroup, Hierarchy::Cpu) else { return Vec::new() };
    let Some(group) = roots.resolve(hierarchy, line.path) else { return Vec::new() };
    let mounts = if hierarchy == Hierarchy::V2 { ["", "unified"] } else { [line.controllers, "cpu"] };
    mounts.map(|mount| format!("{mount}/{group}/cpu.stat").trim_start_matches('/').to_owned()).into()
}

/// Where the memory limit of the group may be, below `/sys/fs/cgroup`, the least one counts; and whether the group is the root,
/// which need not have one. `None`: the group lies outside of what is mounted here, or there is no line of it. Node asks the
/// group itself, not those around it (libuv, `uv_get_constrained_memory`).
pub fn memory_limit_paths(cgroup: &[u8], roots: &Roots) -> Option<(Vec<String>, bool)> {
    let (hierarchy, line) = line_of(cgroup, Hierarchy::Memory)?;
    let group = roots.resolve(hierarchy, line.path)?;
    let file = |mount: &str, name: &str| format!("{mount}{group}/{name}").trim_start_matches('/').to_owned();
    let paths = if hierarchy == Hierarchy::V2 {
        vec![file("", "memory.max"), file("", "memory.high")]
    } else {
        vec![file("memory/", "memory.limit_in_bytes")]
    };
    Some((paths, group.is_empty()))
}

/// The groups whose memory a process counts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryGroups {
    /// Their directories below `/sys/fs/cgroup`, the innermost first.
    pub directories: Vec<String>,
    /// Names of files in them: the limit, what is used, the account of it; and the line of the account that tells what the kernel
    /// would drop before it kills.
    pub limit: &'static str,
    pub usage: &'static str,
    pub account: &'static str,
    pub droppable: &'static str,
}

/// The groups that limit the memory of a process: its own and all around it, because each can run out. `None`: they lie outside
/// of what is mounted here, or there is no line of them.
pub fn memory_groups(cgroup: &[u8], roots: &Roots) -> Option<MemoryGroups> {
    let (hierarchy, line) = line_of(cgroup, Hierarchy::Memory)?;
    let group = roots.resolve(hierarchy, line.path)?;
    Some(if hierarchy == Hierarchy::V2 {
        MemoryGroups {
            directories: with_those_around("", &group),
            limit: "memory.max",
            usage: "memory.current",
            account: "memory.stat",
            droppable: "inactive_file",
        }
    } else {
        MemoryGroups {
            directories: with_those_around("memory/", &group),
            limit: "memory.limit_in_bytes",
            usage: "memory.usage_in_bytes",
            account: "memory.stat",
            droppable: "total_inactive_file",
        }
    })
}

/// Deeper ones are not looked at.
const GROUPS_MAX: usize = 16;

/// A group and those it is in but the root, which has no limit: that is the machine.
fn with_those_around(mount: &str, path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|end| *end > 0);
    let mut groups: Vec<String> = ends.map(|end| format!("{mount}{}", &path[..end])).collect();
    groups.reverse();
    groups.truncate(GROUPS_MAX);
    groups
}

/// What a group uses and cannot give back, from the text of its usage and its account: the figure that Kubernetes calls the
/// working set.
pub fn working_set_bytes(usage: &str, account: &str, droppable: &str) -> Option<u64> {
    let usage: u64 = usage.trim().parse().ok()?;
    let given_back = account.lines().find_map(|line| match line.split_once(' ')? {
        (name, bytes) if name == droppable => bytes.trim().parse().ok(),
        _ => None,
    });
    Some(usage.saturating_sub(given_back.unwrap_or(0)))
}

/// For how long the group was kept off all processors because its quota was used up, nanoseconds, from the text of its
/// `cpu.stat`; `None`: it does not say, as in a group without the controller.
fn throttled_ns(cpu_stat: &str) -> Option<u64> {
    cpu_stat.lines().find_map(|line| match line.split_once(' ')? {
        ("throttled_time", ns) => ns.trim().parse().ok(),
        ("throttled_usec", us) => us.trim().parse::<u64>().ok()?.checked_mul(1000),
        _ => None,
    })
}

/// How many periods of its quota the group ran in, and was throttled in; `None`: as above.
fn periods(cpu_stat: &str) -> Option<CpuPeriods> {
    let value = |wanted: &str| {
        let mut lines = cpu_stat.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == wanted)?.1.trim().parse().ok()
    };
    Some(CpuPeriods { elapsed: value("nr_periods")?, throttled: value("nr_throttled")? })
}

/// What its quota has cost a group since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaAccount {
    /// The file it stands in, which names the group.
    pub path: String,
    pub throttled_ns: u64,
    pub periods: Option<CpuPeriods>,
}

impl QuotaAccount {
    /// From the text of the group's `cpu.stat`; `None`: it tells nothing of a quota.
    pub fn parse(path: String, cpu_stat: &str) -> Option<Self> {
        Some(Self { path, throttled_ns: throttled_ns(cpu_stat)?, periods: periods(cpu_stat) })
    }
}

/// What quotas have cost a process since it was first looked at, in whichever groups it was: a sum that never goes back.
#[derive(Clone, Debug, Default)]
pub struct QuotaCost {
    throttled_ns: u64,
    periods: CpuPeriods,
    /// As it was read last.
    account: Option<QuotaAccount>,
}

impl QuotaCost {
    /// Takes in what the process's group tells now, and returns the sums; `None`: it tells nothing. What a group has
    /// suffered before the process was seen in it is not the process's.
    pub fn add(&mut self, now: Option<QuotaAccount>) -> Option<(u64, Option<CpuPeriods>)> {
        if let (Some(before), Some(now)) = (&self.account, &now)
            && before.path == now.path
        {
            self.throttled_ns += now.throttled_ns.saturating_sub(before.throttled_ns);
            if let (Some(before), Some(now)) = (before.periods, now.periods) {
                self.periods.merge(now.since(before));
            }
        }
        self.account = now;
        let account = self.account.as_ref()?;
        Some((self.throttled_ns, account.periods.map(|_| self.periods)))
    }
}

fn segment_id(segment: &str) -> Option<&str> {
    let segment = segment.strip_suffix(".scope").unwrap_or(segment);
    let (runtime, id) = segment.split_at_checked(segment.len().checked_sub(ID_LEN)?)?;
    // `crio-conmon-<id>` and `libpod-conmon-<id>` hold the monitor of a container, which runs on the host.
    if runtime.ends_with("conmon-") {
        return None;
    }
    let separated = runtime.is_empty() || runtime.ends_with(['-', ':']);
    (separated && is_hexadecimal(id)).then_some(id)
}

fn segment_pod(segment: &str) -> Option<String> {
    // Of a path that is one segment, the runtime and the id follow.
    let segment = segment.split(':').next()?;
    let (before, uid) = match segment.strip_suffix(".slice") {
        // The last one, because a uid has no `p`. A kubelet with a root of its own puts that before: `kubelet-kubepods-…`.
        Some(unit) => unit.rsplit_once("-pod").filter(|(before, _)| before.contains("kubepods"))?,
        None => ("", segment.strip_prefix("pod")?),
    };
    let uid = if before.is_empty() { uid.to_owned() } else { uid.replace('_', "-") };
    // The API makes uids of version 4; the kubelet names static pods by 32 digits.
    let groups: Vec<usize> = uid.split('-').map(str::len).collect();
    let is_uid = matches!(groups.as_slice(), [8, 4, 4, 4, 12] | [32]);
    (is_uid && uid.split('-').all(is_hexadecimal)).then_some(uid)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_limit_is_that_of_the_group_or_not_known() {
        let paths = |text: &str| {
            memory_limit_paths(text.as_bytes(), &Roots::default()).map(|(paths, _)| paths.join(" "))
        };
        assert_eq!(
            paths("12:memory:/kubepods/pod1\n4:cpu,cpuacct:/x\n0::/y\n").as_deref(),
            Some("memory/kubepods/pod1/memory.limit_in_bytes")
        );
        let v2 = "a.slice/b.scope/memory.max a.slice/b.scope/memory.high";
        assert_eq!(paths("0::/a.slice/b.scope\n").as_deref(), Some(v2));
        assert_eq!(paths("0::/\n").as_deref(), Some("memory.max memory.high"));
        assert_eq!(paths("0::/../../kubepods/pod2\n"), None, "another namespace");
        assert_eq!(paths(""), None);
    }

    #[test]
    fn each_group_around_a_process_limits_its_memory() {
        let roots = Roots::default();
        let directories =
            |text: &str| memory_groups(text.as_bytes(), &roots).map(|groups| groups.directories);
        let v2 = directories("0::/a.slice/b.slice/c.scope\n").unwrap();
        assert_eq!(v2, ["a.slice/b.slice/c.scope", "a.slice/b.slice", "a.slice"]);
        let v1 = memory_groups(b"4:memory:/docker/x\n0::/\n", &roots).unwrap();
        assert_eq!(v1.directories, ["memory/docker/x", "memory/docker"]);
        assert_eq!(v1.limit, "memory.limit_in_bytes");
        assert_eq!(directories("0::/\n").unwrap(), [""; 0], "the root has none");
        assert_eq!(directories("0::/../x\n"), None, "another namespace");
        assert_eq!(directories(&format!("0::{}\n", "/a".repeat(99))).unwrap().len(), GROUPS_MAX);
    }

    #[test]
    fn what_the_kernel_would_drop_is_no_use_of_memory() {
        let account = "anon 5\ninactive_file 300\nactive_file 7\n";
        assert_eq!(working_set_bytes("1000\n", account, "inactive_file"), Some(700));
        assert_eq!(working_set_bytes("1000\n", "", "inactive_file"), Some(1000));
        assert_eq!(working_set_bytes("max\n", account, "inactive_file"), None);
    }

    const ID: &str = "4c01db0b339c8b2c9d2d3a4c1f0e6a5b7c8d9e0f11223344556677889900aabb";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    #[track_caller]
    fn assert_found(path: &str) {
        for cgroup in [
            format!("0::{path}\n"),
            format!("12:memory:{path}\n11:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::{path}\n"),
            // Hybrid: the unified hierarchy was not used.
            format!("4:memory:{path}\n0::/\n"),
            format!("0::/\n4:memory:{path}"),
        ] {
            assert_eq!(container_id(cgroup.as_bytes()), Some(ID), "{cgroup}");
        }
    }

    #[test]
    fn every_runtime_and_driver_is_known() {
        let pod = "pod0a1b2c3d-1111-2222-3333-444455556666";
        let slice = "kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice";
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/kubepods/burstable/{pod}/{ID}"),
            format!("/kubepods/besteffort/{pod}/{ID}"),
            format!("/kubepods/{pod}/{ID}"),
            format!("/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/{slice}/crio-{ID}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/{slice}/docker-{ID}.scope"),
            format!("/system.slice/containerd.service/{slice}:cri-containerd:{ID}"),
            format!("/docker/{ID}/init.scope"),
            // As seen from another cgroup namespace.
            format!("/../../{pod}/{ID}"),
        ] {
            assert_found(&path);
        }
    }

    #[test]
    fn the_pod_is_told_by_both_drivers() {
        let uid = "0a1b2c3d-1111-2222-3333-444455556666";
        let unit = "pod0a1b2c3d_1111_2222_3333_444455556666.slice";
        let kind = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice";
        for path in [
            format!("/kubepods/burstable/pod{uid}/{ID}"),
            format!("/kubepods/pod{uid}/{ID}"),
            format!("/kubepods.slice/kubepods-{unit}/crio-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-{unit}/cri-containerd-{ID}.scope/x"
            ),
            format!("/system.slice/containerd.service/kubepods-burstable-{unit}:cri-containerd:{ID}"),
            format!("{kind}/kubelet-kubepods-burstable-{unit}/cri-containerd-{ID}.scope"),
            format!("/../../pod{uid}/{ID}"),
            // A node that is a container: the inner pod.
            format!("/docker/{OTHER}/kubepods/burstable/pod{uid}/{ID}"),
        ] {
            for text in [format!("0::{path}\n"), format!("4:memory:{path}\n0::/\n")] {
                assert_eq!(pod_uid(text.as_bytes()).as_deref(), Some(uid), "{text}");
            }
        }
        let of_static = "eba807732255ffced0cb2b278b6b115f";
        assert_eq!(
            pod_uid(format!("0::/kubepods/burstable/pod{of_static}/{ID}\n").as_bytes()).as_deref(),
            Some(of_static)
        );
        for path in
            ["/docker/x", "/podman/pod1/x", "/a.slice/x-pod1_2.slice", "/libpod_parent/libpod-y", "/pod"]
        {
            assert_eq!(pod_uid(format!("0::{path}\n").as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn quotas_are_accounted_where_the_cpu_controller_is() {
        let hybrid = b"9:name=systemd:/a\n2:cpu,cpuacct:/docker/x\n0::/a\n";
        let paths = |text: &[u8]| cpu_stat_paths(text, &Roots::default());
        assert_eq!(paths(hybrid), ["cpu,cpuacct/docker/x/cpu.stat", "cpu/docker/x/cpu.stat"]);
        assert_eq!(paths(b"0::/a.slice/b\n"), ["a.slice/b/cpu.stat", "unified/a.slice/b/cpu.stat"]);
        assert_eq!(paths(b"0::/\n")[0], "cpu.stat");
        assert!(paths(b"0::/../../etc\n1:cpu:/../x\nnonsense\n\xff:cpu:/\n").is_empty());
    }

    #[test]
    fn both_versions_tell_the_time_throttled() {
        assert_eq!(throttled_ns("nr_periods 3\nnr_throttled 2\nthrottled_time 5000\n"), Some(5000));
        assert_eq!(throttled_ns("usage_usec 9\nnr_throttled 2\nthrottled_usec 5\n"), Some(5000));
        for text in ["", "usage_usec 9\n", "throttled_usec -1\n", "throttled_usec 18446744073709551615\n"] {
            assert_eq!(throttled_ns(text), None, "{text:?}");
        }
    }

    #[test]
    fn periods_are_told_whole_or_not_at_all() {
        let told = |elapsed, throttled| Some(CpuPeriods { elapsed, throttled });
        assert_eq!(periods("nr_periods 3\nnr_throttled 2\nthrottled_time 5000\n"), told(3, 2));
        assert_eq!(periods("usage_usec 9\nnr_periods 7\nnr_throttled 0\nnr_bursts 1\n"), told(7, 0));
        for text in [
            "",
            "usage_usec 9\n",
            "nr_periods 3\n",
            "nr_throttled 2\n",
            "nr_periods\nnr_throttled 2\n",
            "nr_periods -3\nnr_throttled 2\n",
            "nr_periods 3\nnr_throttled 18446744073709551616\n",
            " nr_periods 3\nnr_throttled 2\n",
        ] {
            assert_eq!(periods(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_quotas_cost_a_process_grows_from_group_to_group_and_never_shrinks() {
        let account = |path: &str, throttled_ns, elapsed, throttled| {
            let periods = Some(CpuPeriods { elapsed, throttled });
            Some(QuotaAccount { path: path.to_owned(), throttled_ns, periods })
        };
        let told =
            |throttled_ns, elapsed, throttled| Some((throttled_ns, Some(CpuPeriods { elapsed, throttled })));
        let mut cost = QuotaCost::default();
        assert_eq!(cost.add(account("a", 900, 90, 9)), told(0, 0, 0), "of before");
        assert_eq!(cost.add(account("a", 950, 95, 10)), told(50, 5, 1));
        assert_eq!(cost.add(account("b", 7_000, 700, 70)), told(50, 5, 1), "of others");
        assert_eq!(cost.add(account("b", 7_001, 702, 71)), told(51, 7, 2));
        assert_eq!(cost.add(account("b", 3, 0, 0)), told(51, 7, 2), "made anew under the same name");
        assert_eq!(cost.add(None), None);
        assert_eq!(cost.add(account("b", 9, 9, 9)), told(51, 7, 2), "it was elsewhere meanwhile");
        assert_eq!(cost.add(account("b", 10, 10, 9)), told(52, 8, 2));
        let no_periods = QuotaAccount::parse("b".to_owned(), "throttled_usec 1\n");
        assert_eq!(cost.add(no_periods), Some((52 + 990, None)));
    }

    #[test]
    fn the_innermost_of_nested_containers_is_meant() {
        assert_found(&format!("/docker/{OTHER}/kubepods/burstable/pod1/{ID}"));
    }

    #[test]
    fn a_process_of_the_host_has_no_container() {
        for cgroup in [
            "",
            "\n\n",
            "0::/\n",
            "0::/user.slice/user-1000.slice/session-3.scope\n",
            "0::/system.slice/shop-api.service\n",
            "4:memory:/jobs/eba807732255ffced0cb2b278b6b115f\n",
            "not a cgroup file",
        ] {
            assert_eq!(container_id(cgroup.as_bytes()), None, "{cgroup:?}");
        }
    }

    #[test]
    fn what_only_looks_like_an_id_is_none() {
        for segment in [
            ID[1..].to_owned(),
            format!("{ID}0"),
            ID.to_uppercase(),
            format!("crio-conmon-{ID}.scope"),
            format!("libpod-conmon-{ID}.scope"),
            format!("docker-{ID}.slice"),
        ] {
            assert_eq!(container_id(format!("0::/{segment}\n").as_bytes()), None, "{segment}");
        }
    }
}

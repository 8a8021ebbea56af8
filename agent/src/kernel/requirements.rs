//! What nodeprobe needs of a host, one function each: whether it is there, what its lack breaks, what to do.
//!
//! Architecture invariant: no I/O in here; everything follows from [`Facts`].

#![forbid(unsafe_code)]

use serde::Serialize;

use super::{Capability, CgroupVersion, Facts, Lockdown, Tracefs, Trial};

/// How a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Something is missing, and the rest works.
    Warn,
    /// Nothing sensible can be observed.
    Fail,
}

/// One requirement on one host. All texts are for people; `name` and `status` are a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    pub name: &'static str,
    pub status: Status,
    pub found: String,
    /// What does not work; `null` when nothing is broken.
    pub breaks: Option<&'static str>,
    /// What to do now.
    pub remedy: Option<&'static str>,
}

/// All of them, the most fundamental first.
pub fn requirements(facts: &Facts) -> Vec<Requirement> {
    [
        kernel,
        pid_namespace,
        capabilities,
        bpf,
        uprobes,
        perf_event_paranoid,
        tracefs,
        lockdown,
        seccomp,
        btf,
        cgroup,
    ]
    .map(|requirement| requirement(facts))
    .into()
}

/// Whether nodeprobe can do its work: warnings are allowed.
pub fn is_observable(requirements: &[Requirement]) -> bool {
    requirements.iter().all(|requirement| requirement.status != Status::Fail)
}

fn ok(name: &'static str, found: impl Into<String>) -> Requirement {
    Requirement { name, status: Status::Ok, found: found.into(), breaks: None, remedy: None }
}

fn lacking(
    name: &'static str,
    status: Status,
    found: impl Into<String>,
    breaks: &'static str,
    remedy: &'static str,
) -> Requirement {
    Requirement { name, status, found: found.into(), breaks: Some(breaks), remedy: Some(remedy) }
}

fn kernel(facts: &Facts) -> Requirement {
    let found =
        format!("Linux {}", if facts.release.is_empty() { "of unknown release" } else { &facts.release });
    let remedy = "boot Linux 5.10 or newer";
    match facts.version {
        Some(version) if version >= (5, 10) => ok("kernel", found),
        Some(version) if version >= (5, 8) => {
            lacking("kernel", Status::Warn, found, "only the core is made for Linux before 5.10", remedy)
        }
        Some(_) => lacking(
            "kernel",
            Status::Fail,
            found,
            "nothing can be observed: BPF ring buffers came with Linux 5.8",
            remedy,
        ),
        None => lacking("kernel", Status::Warn, found, "nodeprobe may not fit this kernel", remedy),
    }
}

fn pid_namespace(facts: &Facts) -> Requirement {
    match facts.root_pid_namespace {
        Some(true) => ok("pid_namespace", "the host's"),
        Some(false) => lacking(
            "pid_namespace",
            Status::Fail,
            "one of a container",
            "processes cannot be matched: the kernel reports pids of the host, /proc those of the container",
            "run in the host's pid namespace: `hostPID: true` in Kubernetes, `--pid=host` with Docker or podman",
        ),
        None => lacking(
            "pid_namespace",
            Status::Warn,
            "unknown: /proc/self/ns/pid is not readable",
            "processes cannot be matched if this is not the host's pid namespace",
            "mount the host's procfs at /proc",
        ),
    }
}

fn capabilities(facts: &Facts) -> Requirement {
    let has = |capability| facts.capabilities.has(capability);
    let admin = has(Capability::SysAdmin);
    let missing: Vec<&str> = [
        ("CAP_BPF", admin || has(Capability::Bpf)),
        ("CAP_PERFMON", admin || has(Capability::Perfmon)),
        ("CAP_SYS_PTRACE", has(Capability::SysPtrace)),
        ("CAP_DAC_READ_SEARCH", has(Capability::DacReadSearch) || has(Capability::DacOverride)),
    ]
    .into_iter()
    .filter_map(|(name, there)| (!there).then_some(name))
    .collect();
    if facts.root_user_namespace == Some(false) {
        return lacking(
            "capabilities",
            Status::Fail,
            "those of a user namespace only",
            "no BPF program can be loaded: the kernel asks for capabilities on the host",
            "run it as root of the host: a rootless container cannot observe it",
        );
    }
    let user = match facts.user_id {
        Some(0) => "root".to_owned(),
        Some(id) => format!("user {id}"),
        None => "unknown user".to_owned(),
    };
    if missing.is_empty() {
        return ok("capabilities", format!("{user}, nothing needed is missing"));
    }
    let found = format!("{user}, without {}", missing.join(", "));
    if missing.iter().any(|name| matches!(*name, "CAP_BPF" | "CAP_PERFMON")) {
        return lacking(
            "capabilities",
            Status::Fail,
            found,
            "no BPF program can be loaded",
            "run it as root (`sudo nodeprobe …`); in a container grant the missing capabilities",
        );
    }
    lacking(
        "capabilities",
        Status::Warn,
        found,
        "processes of other users are skipped: their executables and memory cannot be read",
        "run it as root (`sudo nodeprobe …`); in a container grant the missing capabilities",
    )
}

fn bpf(facts: &Facts) -> Requirement {
    match facts.bpf {
        Trial::Works => ok("bpf", "a map can be created"),
        Trial::NotTried => lacking(
            "bpf",
            Status::Warn,
            "not tried",
            "it is not known whether programs can be loaded",
            "run `nodeprobe check` on the host itself",
        ),
        Trial::Failed(libc::ENOSYS) => lacking(
            "bpf",
            Status::Fail,
            "the kernel has no bpf(2)",
            "no BPF program can be loaded",
            "boot a kernel built with CONFIG_BPF_SYSCALL=y",
        ),
        Trial::Failed(errno) => lacking(
            "bpf",
            Status::Fail,
            error_text(errno),
            "no BPF program can be loaded",
            "run it as root (`sudo nodeprobe …`); in a container grant CAP_BPF and CAP_PERFMON and allow bpf(2) in the seccomp profile",
        ),
    }
}

fn uprobes(facts: &Facts) -> Requirement {
    let breaks = "event loops, garbage collection and worker threads cannot be observed";
    if facts.uprobe_links == Trial::Works {
        return ok("uprobes", "may be linked, many at a time");
    }
    if facts.uprobe_pmu.is_none() {
        return lacking(
            "uprobes",
            Status::Fail,
            "the kernel has no uprobe PMU",
            breaks,
            "boot a kernel built with CONFIG_UPROBE_EVENTS=y; in a container mount /sys",
        );
    }
    match facts.uprobe {
        Trial::Works => ok("uprobes", "may be opened"),
        Trial::NotTried => lacking(
            "uprobes",
            Status::Warn,
            "not tried",
            "it is not known whether uprobes can be opened",
            "run `nodeprobe check` on the host itself",
        ),
        // "perf: Revert to requiring CAP_SYS_ADMIN for uprobes" (CVE-2025-38466): 5.10.240, 5.15.189, 6.1.146,
        // 6.6.99, 6.12.39, 6.15.7 and all newer ones.
        trial @ Trial::Failed(errno) if trial.is_refused() => lacking(
            "uprobes",
            Status::Fail,
            error_text(errno),
            breaks,
            "run it as root (`sudo nodeprobe …`), or grant CAP_SYS_ADMIN: before 6.10 kernels since July 2025 ask for it, CAP_PERFMON is not enough",
        ),
        Trial::Failed(errno) => lacking(
            "uprobes",
            Status::Fail,
            error_text(errno),
            breaks,
            "allow perf_event_open(2) in the seccomp profile of the container",
        ),
    }
}

fn perf_event_paranoid(facts: &Facts) -> Requirement {
    let name = "perf_event_paranoid";
    let Some(level) = facts.perf_event_paranoid else {
        return lacking(
            name,
            Status::Warn,
            "not there",
            "the kernel may have no performance events, which probes need",
            "boot a kernel built with CONFIG_PERF_EVENTS=y",
        );
    };
    // Levels above 2 are patches of Debian, Ubuntu and Android: everything is refused without CAP_SYS_ADMIN.
    if level > 2 && !facts.capabilities.has(Capability::SysAdmin) {
        return lacking(
            name,
            Status::Fail,
            level.to_string(),
            "every probe is refused without CAP_SYS_ADMIN",
            "run it as root (`sudo nodeprobe …`), or run `sudo sysctl kernel.perf_event_paranoid=2`",
        );
    }
    ok(name, level.to_string())
}

fn tracefs(facts: &Facts) -> Requirement {
    let name = "tracefs";
    let breaks = "tracepoints cannot be attached: no event loop, stdio or process start is seen";
    match &facts.tracefs {
        Tracefs::At(path) => ok(name, format!("mounted at {}", path.display())),
        Tracefs::Denied(path) => lacking(
            name,
            Status::Fail,
            format!("mounted at {}, not readable", path.display()),
            breaks,
            "run it as root (`sudo nodeprobe …`), or grant CAP_DAC_READ_SEARCH",
        ),
        Tracefs::Unmounted { .. }
            if facts.capabilities.has(Capability::SysAdmin) && facts.root_user_namespace != Some(false) =>
        {
            ok(name, "not mounted; nodeprobe mounts it for itself alone")
        }
        Tracefs::Unmounted { elsewhere } => lacking(
            name,
            Status::Fail,
            match elsewhere {
                Some(path) => format!("mounted at {} only", path.display()),
                None => "not mounted".to_owned(),
            },
            breaks,
            "run `sudo mount -t tracefs tracefs /sys/kernel/tracing`; in a container mount /sys/kernel/tracing of the host",
        ),
        Tracefs::Unsupported => lacking(
            name,
            Status::Fail,
            "the kernel has none",
            breaks,
            "boot a kernel built with CONFIG_FTRACE=y",
        ),
    }
}

fn lockdown(facts: &Facts) -> Requirement {
    match facts.lockdown {
        Lockdown::Off => ok("lockdown", "off"),
        Lockdown::Integrity => ok("lockdown", "integrity"),
        Lockdown::Confidentiality => lacking(
            "lockdown",
            Status::Fail,
            "confidentiality",
            "tracepoints and programs that read the memory of a process are refused",
            "boot with `lockdown=integrity` or without the option on the kernel command line",
        ),
    }
}

fn seccomp(facts: &Facts) -> Requirement {
    match facts.seccomp_mode {
        None | Some(0) => ok("seccomp", "no filter"),
        Some(_)
            if facts.bpf == Trial::Works && [facts.uprobe, facts.uprobe_links].contains(&Trial::Works) =>
        {
            ok("seccomp", "a filter that lets the calls needed pass")
        }
        Some(_) => lacking(
            "seccomp",
            Status::Warn,
            "a filter is set",
            "bpf(2) or perf_event_open(2) may be refused by it",
            "`seccompProfile: {type: Unconfined}` in Kubernetes, `--security-opt seccomp=unconfined` with Docker or podman",
        ),
    }
}

fn btf(facts: &Facts) -> Requirement {
    if facts.btf {
        return ok("btf", "/sys/kernel/btf/vmlinux");
    }
    lacking(
        "btf",
        Status::Warn,
        "no /sys/kernel/btf/vmlinux",
        "switches between threads are seen in a way that takes more time",
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y",
    )
}

fn cgroup(facts: &Facts) -> Requirement {
    match facts.cgroup {
        Some(_) if facts.groups_in_sight == Some(false) => lacking(
            "cgroup",
            Status::Warn,
            "/sys/fs/cgroup does not show the groups of other containers",
            "memory limits, heap limits that follow from them, and CPU throttling of other containers are absent",
            "mount the host's /sys/fs/cgroup at /sys/fs/cgroup, read-only, or start the container with `--cgroupns=host`",
        ),
        Some(CgroupVersion::V2) => ok("cgroup", "version 2"),
        Some(CgroupVersion::V1) => ok("cgroup", "version 1"),
        Some(CgroupVersion::Hybrid) => ok("cgroup", "versions 1 and 2"),
        None => lacking(
            "cgroup",
            Status::Warn,
            "not mounted",
            "containers are known by what /proc says only",
            "mount the host's /sys/fs/cgroup",
        ),
    }
}

fn error_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

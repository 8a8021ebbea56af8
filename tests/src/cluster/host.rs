//! What a cluster takes of the machine it runs on, and gives back.

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    ptr,
    time::Duration,
};

use super::run;
use crate::{cgroup, wait::eventually};

/// What the kubelet sets for the whole machine.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// Where container runtimes keep what they have to remember, whatever they are told; hidden under empty directories.
const STATE: [&str; 3] = ["/run", "/var/log", CNI_STATE];
const CNI_STATE: &str = "/var/lib/cni";
/// Under which the kubelet makes its control groups, so that everything in them is of this cluster and of no other.
pub(super) const CGROUP: &str = "nodeprobe-cluster";
const PATIENCE: Duration = Duration::from_secs(20);

/// The machine as it was; restored when dropped, after the last program of the cluster has ended.
pub struct Host {
    shared: Shared,
    /// Everything of the cluster lies below it.
    directory: PathBuf,
    /// Its end tells the guard that this process has ended, however it did.
    _alive: io::PipeWriter,
}

/// What neither namespaces nor the end of a process put back.
struct Shared {
    settings: Vec<(PathBuf, String)>,
    made_cni_state: bool,
}

/// Moves this process, and whatever it starts from now on, into a network of its own, which has but a loopback with
/// `addresses`, and into mounts of its own. Neither can be left again. The logs of pods are written to `logs`.
///
/// # Panics
/// When processes run in the control groups of such a cluster: of another test, or left of one that was killed.
pub fn enter(directory: &Path, logs: &Path, addresses: &[&str]) -> Host {
    let strangers = processes();
    assert!(
        strangers.is_empty(),
        "the processes {strangers:?} run in the control groups {CGROUP} of a test cluster: wait for the test that has it, or end \
         them if it was killed"
    );
    let settings = SETTINGS.iter().map(|name| Path::new("/proc/sys").join(name));
    let settings = settings.filter_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?)));
    let shared = Shared { settings: settings.collect(), made_cni_state: fs::create_dir(CNI_STATE).is_ok() };
    let alive = shared.guard();
    // SAFETY: no memory is passed, and no other thread shares what is unshared here.
    check("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) });
    // Nothing of what is mounted from here on reaches the host; below, containers ask for shared mounts.
    mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE);
    mount("none", "/", "", libc::MS_REC | libc::MS_SHARED);
    for state in STATE {
        mount("tmpfs", state, "tmpfs", 0);
    }
    let pods = (logs.join("pods"), Path::new("/var/log/pods"));
    for path in [&pods.0, pods.1] {
        fs::create_dir_all(path).expect("a directory for the logs of pods can be made");
    }
    mount(pods.0.to_str().expect("paths of tests are text"), "/var/log/pods", "", libc::MS_BIND);
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
    for address in addresses {
        run(Command::new("ip").args(["address", "add", &format!("{address}/32"), "dev", "lo"]));
    }
    for root in cgroup::hierarchies() {
        make_group(&root);
    }
    Host { shared, directory: directory.to_owned(), _alive: alive }
}

impl Drop for Host {
    fn drop(&mut self) {
        end_containers();
        for point in mounts_below(&self.directory).into_iter().rev() {
            unmount(&point);
        }
        unmount(Path::new(CNI_STATE));
        self.shared.restore();
    }
}

impl Shared {
    /// Restores everything also if this process is killed: a child waits for its end.
    fn guard(&self) -> io::PipeWriter {
        let (mut end, alive) = io::pipe().expect("a pipe can be made");
        // SAFETY: this process has but one thread, so that the child may do whatever the parent may.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork: {}", io::Error::last_os_error());
        if child > 0 {
            return alive;
        }
        drop(alive);
        // SAFETY: no memory is passed. What is meant for the terminal's programs is not for it.
        unsafe { libc::setsid() };
        drop(io::copy(&mut end, &mut io::sink()));
        // Nobody is left whom a panic could tell.
        let restored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            end_containers();
            self.restore();
        }));
        // SAFETY: nothing of the parent's is to be cleaned up by the child.
        unsafe { libc::_exit(libc::c_int::from(restored.is_err())) };
    }

    fn restore(&self) {
        eventually("the end of the control groups", PATIENCE, || {
            for root in hierarchies() {
                remove_groups(&root);
            }
            hierarchies().is_empty().then_some(())
        });
        for (path, value) in &self.settings {
            // One that this kernel does not let anybody set has not been set by the kubelet either.
            drop(fs::write(path, value));
        }
        if self.made_cni_state {
            drop(fs::remove_dir(CNI_STATE));
        }
    }
}

/// Ends what is left in the control groups, and the shims, which outlive the runtime that started them.
fn end_containers() {
    eventually("the end of all containers", PATIENCE, || {
        for pid in processes().into_iter().chain(shims()) {
            // SAFETY: no memory is passed. They are of this cluster: none was there when it began.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        (processes().is_empty() && shims().is_empty()).then_some(())
    });
}

/// The kubelet takes a group that it is told of for made already.
fn make_group(root: &Path) {
    let group = root.join(CGROUP);
    // There, if a run that was killed has left it.
    drop(fs::create_dir(&group));
    // A new group of this controller has neither processors nor memory, and takes no processes.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(all) = fs::read_to_string(root.join(file)) {
            fs::write(group.join(file), all).expect("a new group gets what its parent has");
        }
    }
}

/// The cluster's groups, in each hierarchy.
fn hierarchies() -> Vec<PathBuf> {
    cgroup::hierarchies().into_iter().map(|root| root.join(CGROUP)).filter(|path| path.is_dir()).collect()
}

/// The processes of all pods.
pub fn processes() -> Vec<i32> {
    fn collect(group: &Path, found: &mut Vec<i32>) {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                collect(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    for root in hierarchies() {
        collect(&root, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The parents of containers, by the socket of our containerd, which no other has.
fn shims() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == super::node::SOCKET.as_bytes())
            && line.windows(15).any(|part| part == b"containerd-shim")
    };
    pids.filter(is_ours).collect()
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    // A group whose processes have just ended is busy for a moment: whoever called tries again.
    drop(fs::remove_dir(group));
}

/// Mount points below a directory, in the order in which they were made.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts can be read");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory) && point != directory).collect()
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) {
    let text = |text: &str| CString::new(text).expect("paths of tests have no zero in them");
    let (source, target, kind) = (text(source), text(target), text(kind));
    // SAFETY: the strings live until the call returns, and no data is passed.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, ptr::null()) };
    check(&format!("mount {}", target.to_string_lossy()), result);
}

/// Also where something of it is still in use: it is gone from here at once, which is all that matters.
fn unmount(point: &Path) {
    let point = CString::new(point.as_os_str().as_encoded_bytes()).expect("a path has no zero in it");
    // SAFETY: the string lives until the call returns.
    unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) };
}

fn check(what: &str, result: libc::c_int) {
    assert_eq!(result, 0, "{what}: {}", io::Error::last_os_error());
}

/// What a cluster may not change for good.
pub fn facts() -> Vec<(String, String)> {
    let settings = SETTINGS.iter().map(|name| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        ((*name).to_owned(), value)
    });
    let rest = [
        ("control groups", format!("{:?}", hierarchies())),
        ("shims", format!("{:?}", shims())),
        (CNI_STATE, Path::new(CNI_STATE).exists().to_string()),
    ];
    settings.chain(rest.map(|(name, value)| (name.to_owned(), value))).collect()
}

//! Pods without a kubelet: groups with the paths that it makes, and real Node processes born into them.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    Node,
    cgroup::hierarchies,
    containers::groups::Slices,
    oracle::Oracle,
    process::{OwnedProcess, describe},
    wait::eventually,
};

const REMOVED: Duration = Duration::from_secs(15);
/// The controllers whose groups a pod gets, where each has a hierarchy of its own: those that tell of limits, and one.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// Says when it was born, by its own clock, and lives as long as it is told.
const LIFE: &str = "require('fs').appendFileSync(process.env.NODEPROBE_ORACLE, \
     JSON.stringify({ type: 'born', pid: process.pid, at_ms: Date.now() }) + '\\n'); \
     setTimeout(() => {}, Number(process.argv[1]))";

/// Who a pod and its only container are.
#[derive(Clone, Debug)]
pub struct Name {
    pub uid: String,
    pub container_id: String,
}

impl Name {
    /// The names of pod number `index` of this process.
    pub fn numbered(index: usize) -> Self {
        let host = std::process::id();
        Self {
            uid: format!("{host:08x}-0000-4000-8000-{index:012x}"),
            container_id: format!("{host:08x}{index:056x}"),
        }
    }

    /// Whether a directory is its own: one around it has neither in its name.
    fn is_part_of(&self, segment: &str) -> bool {
        [&self.uid, &self.uid.replace('-', "_"), &self.container_id]
            .iter()
            .any(|part| segment.contains(*part))
    }

    /// In turn of each class, by each of the two drivers.
    fn path(&self, index: usize) -> String {
        let Self { uid, container_id } = self;
        let unit = uid.replace('-', "_");
        match index % 6 {
            0 => format!("kubepods/pod{uid}/{container_id}"),
            1 => format!("kubepods/burstable/pod{uid}/{container_id}"),
            2 => format!("kubepods/besteffort/pod{uid}/{container_id}"),
            3 => format!("kubepods.slice/kubepods-pod{unit}.slice/crio-{container_id}.scope"),
            4 => format!(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{unit}.slice/cri-containerd-{container_id}.scope"
            ),
            _ => format!(
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{unit}.slice/docker-{container_id}.scope"
            ),
        }
    }
}

/// A pod with one container, in it one Node process.
pub struct Pod {
    pub name: Name,
    pub began: Instant,
    process: OwnedProcess,
    /// Its own groups, in each hierarchy the outermost first.
    directories: Vec<PathBuf>,
}

impl Pod {
    /// Starts Node for `life` in the groups of pod number `index`. Those around it must be watched.
    pub fn start(
        node: &Node,
        _around: &Slices,
        index: usize,
        service: &str,
        life: Duration,
        oracle: &Oracle,
    ) -> Self {
        let name = Name::numbered(index);
        let path = name.path(index);
        let mut directories = Vec::new();
        let mut doors = Vec::new();
        let roots = hierarchies();
        let is_used = |root: &PathBuf| CONTROLLERS.iter().any(|controller| root.ends_with(controller));
        for root in roots.iter().filter(|root| roots.len() == 1 || is_used(root)) {
            let mut directory = root.clone();
            for segment in path.split('/') {
                directory.push(segment);
                if name.is_part_of(segment) {
                    directories.push(directory.clone());
                }
            }
            fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            let door = File::options().write(true).open(directory.join("cgroup.procs"));
            doors.push(door.expect("a group has a list of processes"));
        }
        let mut command = node.command();
        command.args(["-e", LIFE]).arg(life.as_millis().to_string());
        command.env("NODEPROBE_ORACLE", oracle.path()).env("OTEL_SERVICE_NAME", service).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // A runtime does so, too: the process is in its groups before it becomes Node.
        // SAFETY: between fork and exec it only writes to files that are open, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || doors.iter().try_for_each(|mut door| door.write_all(b"0")));
        }
        Self { name, began: Instant::now(), process: OwnedProcess::spawn(&mut command), directories }
    }

    /// Of its Node.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether its Node has ended, as it should by itself.
    pub fn has_ended(&mut self) -> bool {
        let Some(status) = self.process.try_wait() else { return false };
        assert!(status.success(), "Node in pod {} ended with {}", self.name.uid, describe(status));
        true
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.process.signal(libc::SIGKILL);
        self.process.wait(REMOVED);
        for directory in self.directories.iter().rev() {
            // It can be removed once the process has gone, which takes the kernel a moment.
            eventually("a group to be empty", REMOVED, || {
                (fs::remove_dir(directory).is_ok() || !directory.exists()).then_some(())
            });
        }
    }
}

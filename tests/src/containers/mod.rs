//! Node services in real containers: of podman, and of runc in the groups that Kubernetes makes. All of them share the host's
//! network, so that the test can ask them on 127.0.0.1; root file system, mounts, pids and user are their own.

pub mod groups;
mod podman;
mod runc;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

pub use self::{groups::Slices, podman::Podman, runc::Runc};
use crate::{agent::run, oracle::Oracle, workload::notes_directory};

/// Starting a container on a loaded machine, and the Node in it.
const START: Duration = Duration::from_mins(1);
/// Who a container runs as.
const USER: u32 = 1000;
/// Where the directory of the notes is inside.
const NOTES: &str = "/notes";

/// What to run.
#[derive(Default)]
pub struct Order {
    /// What follows `node`.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Default: nothing reads it.
    pub stdout: Option<Stdio>,
}

impl Order {
    /// Runs a service of `workloads/failure-modes` by the name of another.
    pub fn service(script: &str, name: &str) -> Self {
        let environment = vec![("OTEL_SERVICE_NAME".to_owned(), name.to_owned())];
        Self { arguments: vec![format!("/app/failure-modes/{script}.js")], environment, stdout: None }
    }

    /// Runs one that nobody has given a name, nor a script that could have one.
    pub fn nameless(script: &str) -> Self {
        let code = format!("require('/app/failure-modes/{script}.js')");
        Self { arguments: vec!["-e".to_owned(), code], ..Self::default() }
    }

    fn all_environment(&self) -> Vec<String> {
        let fixed = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("NODEPROBE_ORACLE", "/notes/oracle.jsonl")];
        let fixed = fixed.iter().map(|(name, value)| format!("{name}={value}"));
        fixed.chain(self.environment.iter().map(|(name, value)| format!("{name}={value}"))).collect()
    }
}

/// The notes of what runs inside: a directory of the host that any user may write to.
struct Notes {
    directory: TempDir,
    oracle: Oracle,
}

impl Notes {
    fn new() -> Self {
        let directory = TempDir::new_in(notes_directory()).expect("a scratch directory can be made");
        let oracle = Oracle::at(directory.path().join("oracle.jsonl"));
        for (path, mode) in [(directory.path(), 0o777), (oracle.path(), 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
        }
        Self { directory, oracle }
    }
}

/// A running container, removed by its id when dropped.
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Of Node, on the host.
    pub pid: u32,
    notes: Notes,
    stdin: Option<Box<dyn std::io::Write>>,
    /// In this order: what runs, then the groups it ran in.
    runtime: Box<dyn Runtime>,
    groups: groups::NewGroups,
    _around: Rc<Slices>,
}

/// Removes its container when dropped.
trait Runtime {}

impl Container {
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the service reads its stdin");
        stdin.flush().expect("the service reads its stdin");
    }

    /// Waits until there are `count` notes of a type, and returns the last one.
    #[track_caller]
    pub fn wait_for_nth(&self, kind: &str, count: usize) -> Value {
        self.notes.oracle.wait_for_nth(kind, count, START).pop().expect("there is one")
    }

    /// What Node has measured up to now.
    #[track_caller]
    pub fn report(&mut self) -> Value {
        let before = self.notes.oracle.notes("report").len();
        self.say("report");
        self.wait_for_nth("report", before + 1)
    }

    /// Removes it, and returns the groups of it that its runtime has left behind.
    pub fn remove(self) -> Vec<String> {
        let Self { id, runtime, groups, .. } = self;
        drop(runtime);
        // The one of the pod is the kubelet's to remove.
        let own = groups.left().into_iter().filter(|path| path.to_string_lossy().contains(&id));
        own.map(|path| path.display().to_string()).collect()
    }
}

/// Runs a program of a container runtime to its end.
#[track_caller]
fn must(command: &mut Command) -> String {
    let output = run(command.stdin(Stdio::null()), START);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.stdout_text(), output.stderr_text());
    output.stdout_text()
}

/// What a runtime said when it failed.
fn text_of(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

fn log_in(directory: &Path) -> File {
    File::create(directory.join("log")).expect("a file can be made")
}

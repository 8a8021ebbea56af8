//! Node processes that do something known and write down what Node itself measured.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Node, node::target_tmp, oracle::Oracle, process::OwnedProcess};

/// How long a workload may take to start on a loaded machine.
const START: Duration = Duration::from_secs(20);

const INSTALL: &str = "exec 3<\"$0\" && mount -t tmpfs none /srv && mkdir /srv/app && mount --bind /proc/self/fd/3 /srv/app && \
     exec 3<&- && exec \"$@\"";

fn workloads() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads")
}

/// What to start; see `workloads/README.md` for the scripts.
pub struct Plan {
    node: Node,
    launcher: Vec<OsString>,
    script: PathBuf,
    flags: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    working_directory: Option<PathBuf>,
    stdout: Stdio,
    stderr: Stdio,
}

impl Plan {
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// An option of Node itself.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn working_directory(mut self, path: &Path) -> Self {
        self.working_directory = Some(path.to_path_buf());
        self
    }

    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = stdout.into();
        self
    }

    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = stderr.into();
        self
    }

    /// As installed on a server: the script is found below `/srv/app`, for this process alone, so that nothing it tells has the
    /// paths of this machine. Every step is an exec, so the pid stays.
    #[must_use]
    pub fn installed(mut self) -> Self {
        let beneath = self.script.strip_prefix(workloads()).expect("a script of the repository");
        self.script = Path::new("/srv/app").join(beneath);
        self.launcher = ["unshare", "--mount", "sh", "-c", INSTALL].map(OsString::from).into();
        self.launcher.push(workloads().into());
        self
    }

    /// Starts Node at once.
    pub fn start(self) -> Workload {
        let mut command = self.node.command_through(&self.launcher);
        command.args(&self.flags).arg(&self.script).args(&self.arguments);
        self.spawn(command)
    }

    /// Starts a shell that becomes Node at [`Workload::go`]: the pid is known before the first instruction of Node.
    pub fn start_gated(self) -> Workload {
        let mut command = self.node.command_through(&["sh", "-c", "read go; exec \"$@\"", "sh"]);
        command.args(&self.flags).arg(&self.script).args(&self.arguments);
        self.spawn(command)
    }

    fn spawn(self, mut command: Command) -> Workload {
        let directory = TempDir::new_in(notes_directory()).expect("a scratch directory can be made");
        let oracle = Oracle::at(directory.path().join("oracle.jsonl"));
        command.env("NODEPROBE_ORACLE", oracle.path()).envs(self.environment);
        command.stdin(Stdio::piped()).stdout(self.stdout).stderr(self.stderr);
        if let Some(path) = self.working_directory {
            command.current_dir(path);
        }
        let mut process = OwnedProcess::spawn(&mut command);
        let stdin = process.child_mut().stdin.take();
        Workload { process, stdin, oracle, _directory: directory }
    }
}

/// In memory, where there is such a place: on a disk, writing a note down could be the stall.
pub(crate) fn notes_directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { target_tmp() }
}

/// A running workload; ends when dropped.
pub struct Workload {
    process: OwnedProcess,
    stdin: Option<ChildStdin>,
    oracle: Oracle,
    _directory: TempDir,
}

impl Workload {
    /// Plans a script of `workloads/`; nothing is read from its stdout or stderr unless told otherwise.
    pub fn plan(node: &Node, script: &str) -> Plan {
        Self::plan_path(node, &workloads().join(script))
    }

    /// Plans any script.
    pub fn plan_path(node: &Node, script: &Path) -> Plan {
        Plan {
            node: node.clone(),
            script: script.to_path_buf(),
            launcher: Vec::new(),
            flags: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            stdout: Stdio::null(),
            stderr: Stdio::inherit(),
        }
    }

    /// The control process: an idle Node, started and waiting.
    pub fn idle(node: &Node) -> Self {
        let idle = Self::plan(node, "idle.js").start();
        idle.wait_for("ready");
        idle
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Gives the start signal.
    pub fn go(&mut self) {
        self.say("go");
    }

    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        // One write: `writeln!` makes two, and a workload that starts between them acts on each.
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the workload reads its stdin");
    }

    /// Ends the workload by ending its stdin.
    pub fn end(&mut self) -> ExitStatus {
        self.stdin = None;
        self.wait(START)
    }

    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// What Node has written down so far: complete lines only.
    pub fn oracle(&self) -> Vec<Value> {
        self.oracle.all()
    }

    /// All notes of a type so far.
    pub fn notes(&self, kind: &str) -> Vec<Value> {
        self.oracle.notes(kind)
    }

    /// Waits for the first note of a type.
    #[track_caller]
    pub fn wait_for(&self, kind: &str) -> Value {
        self.wait_for_nth(kind, 1).swap_remove(0)
    }

    /// Waits for a note that may take longer than others.
    #[track_caller]
    pub fn wait_for_within(&self, kind: &str, limit: Duration) -> Value {
        self.oracle.wait_for_nth(kind, 1, limit).swap_remove(0)
    }

    /// Waits until there are `count` notes of a type.
    #[track_caller]
    pub fn wait_for_nth(&self, kind: &str, count: usize) -> Vec<Value> {
        self.oracle.wait_for_nth(kind, count, START)
    }
}

/// A number of a note.
#[track_caller]
pub fn number(note: &Value, field: &str) -> f64 {
    note[field].as_f64().unwrap_or_else(|| panic!("no number {field} in {note}"))
}

/// Sum of `duration_ms` of some notes, in seconds.
pub fn duration_s(notes: &[Value]) -> f64 {
    notes.iter().map(|note| number(note, "duration_ms") / 1e3).sum()
}

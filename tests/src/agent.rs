//! The agent under test, as a user runs it.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Report, contract,
    json_lines::{JsonLines, Line},
    node::target_tmp,
    process::{OwnedProcess, describe},
    report::from_line,
    wall_clock::now_s,
    workload::Workload,
};

/// How long the agent may take to load its programs and to list a process.
const READY: Duration = Duration::from_secs(30);
/// How long the agent may take to end after SIGTERM.
const END: Duration = Duration::from_secs(5);

/// Path of the agent.
///
/// # Errors
/// Says what is missing.
pub fn binary() -> Result<PathBuf, String> {
    // SAFETY: geteuid only reads.
    if unsafe { libc::geteuid() } != 0 {
        return Err("the live tests load eBPF programs and need root".to_owned());
    }
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/release/nodeprobe");
    let path = env::var_os("NODEPROBE_BIN").map_or_else(default, PathBuf::from);
    let missing = |_| format!("no agent at {}; build it or set NODEPROBE_BIN", path.display());
    path.canonicalize().map_err(missing)
}

/// A command that runs the agent, free of the settings of whoever runs the tests.
pub fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(binary().expect("`live` has looked for the agent"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The same command by way of `launcher`, which becomes what its last arguments name.
pub fn through(mut launcher: Command, plain: &Command) -> Command {
    launcher.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    launcher
}

/// What a run of the agent to its end left.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            panic!("{error} in {:?}; stderr: {}", self.stdout_text(), self.stderr_text())
        })
    }
}

/// Runs a command to its end, within a deadline.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Output {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let (stdout, stderr) = (directory.path().join("stdout"), directory.path().join("stderr"));
    command.stdout(File::create(&stdout).expect("a scratch file can be made"));
    command.stderr(File::create(&stderr).expect("a scratch file can be made"));
    let status = OwnedProcess::spawn(command).wait(deadline);
    let read = |path| fs::read(path).expect("the scratch file exists");
    Output { status, stdout: read(stdout), stderr: read(stderr) }
}

/// A long-running command of the agent; stderr is kept, panics in it fail the test.
struct Running {
    process: OwnedProcess,
    stderr: PathBuf,
    _directory: TempDir,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let stderr = directory.path().join("stderr");
        command.stderr(File::create(&stderr).expect("a scratch file can be made"));
        Self { process: OwnedProcess::spawn(command), stderr, _directory: directory }
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    fn end(&mut self) {
        self.process.signal(libc::SIGTERM);
        let status = self.process.wait(END);
        let stderr = self.stderr();
        assert!(
            status.success(),
            "the agent ended with {} after SIGTERM; stderr:\n{stderr}",
            describe(status)
        );
        assert!(!stderr.contains("panicked"), "the agent panicked:\n{stderr}");
    }
}

/// `nodeprobe top` in batch mode, its reports read as they come.
pub struct Agent {
    running: Running,
    lines: JsonLines,
}

impl Agent {
    /// Starts with one report per second.
    pub fn start() -> Self {
        Self::every("1")
    }

    /// Starts with one report per `seconds`.
    pub fn every(seconds: &str) -> Self {
        Self::with(&["-d", seconds])
    }

    /// Starts `top -b --format ndjson` with further options.
    pub fn with(options: &[&str]) -> Self {
        Self::run(command(["top", "-b", "--format", "ndjson"]).args(options))
    }

    /// Starts with one report per second, and with a log of how the kernel is used. `has_types`: `false` as on a kernel that does
    /// not describe its types (`CONFIG_DEBUG_INFO_BTF=n`).
    pub fn telling_its_ways(has_types: bool) -> Self {
        let mut plain = command(["top", "-b", "--format", "ndjson", "-d", "1"]);
        plain.env("RUST_LOG", "info");
        if has_types {
            return Self::run(&mut plain);
        }
        let mut hidden = Command::new("unshare");
        hidden.args(["--mount", "sh", "-c", r#"mount -t tmpfs none /sys/kernel/btf && exec "$@""#, "sh"]);
        Self::run(&mut through(hidden, &plain))
    }

    /// Starts with one report per second, by way of `launcher`, which becomes what its last arguments name.
    pub fn through(launcher: Command) -> Self {
        Self::run(&mut through(launcher, &command(["top", "-b", "--format", "ndjson", "-d", "1"])))
    }

    fn run(command: &mut Command) -> Self {
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let stdout = running.process.child_mut().stdout.take().expect("stdout is a pipe");
        Self { running, lines: JsonLines::read(stdout) }
    }

    /// Starts and waits until each workload is listed with its event loop observed.
    #[track_caller]
    pub fn observing<'a>(workloads: impl IntoIterator<Item = &'a Workload>) -> Self {
        let agent = Self::start();
        for workload in workloads {
            agent.wait_for_process(workload.pid());
        }
        agent
    }

    pub fn pid(&self) -> u32 {
        self.running.process.pid()
    }

    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    /// Waits until a process is listed with its event loop observed.
    #[track_caller]
    pub fn wait_for_process(&self, pid: u32) -> Report {
        self.wait_for(&format!("process {pid} observed"), READY, |report| {
            report.signal_is_ok(pid, "event_loop").then(|| report.clone())
        })
    }

    /// Waits until a report, old or new, satisfies `find`, which must not ask this agent for anything.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, deadline: Duration, find: impl FnMut(&Report) -> Option<T>) -> T {
        self.wait_for_after(0, what, deadline, find)
    }

    /// Waits until a report from number `first` on satisfies `find`.
    #[track_caller]
    pub fn wait_for_after<T>(
        &self,
        first: usize,
        what: &str,
        deadline: Duration,
        mut find: impl FnMut(&Report) -> Option<T>,
    ) -> T {
        let mut next = first;
        let search = |lines: &[Line]| {
            let unseen = lines.get(next..).unwrap_or_default();
            let found = unseen.iter().map(from_line).find_map(|report| find(&report));
            next = lines.len().max(next);
            found
        };
        self.lines.wait(deadline, search).unwrap_or_else(|| {
            let last = self.lines.since(self.lines.len().saturating_sub(1));
            panic!("waited {deadline:?} in vain for: {what}; last: {last:?}; stderr:\n{}", self.stderr())
        })
    }

    /// Waits until `count` reports from number `first` on are there.
    #[track_caller]
    pub fn wait_for_intervals(&self, first: usize, count: usize) {
        let enough = self.lines.wait(READY, |lines| (lines.len() >= first + count).then_some(()));
        assert!(enough.is_some(), "the agent stopped to report; stderr:\n{}", self.stderr());
    }

    /// The number of the next report: what happens from now on is in that one or later.
    pub fn mark(&self) -> usize {
        self.lines.len()
    }

    /// Waits for the end of an interval that ends after this very moment.
    #[track_caller]
    pub fn settle(&self) {
        let now = now_s();
        self.wait_for("the report of this moment", READY, |report| (report.end_s() > now).then_some(()));
    }

    /// All reports from number `first` on, once everything up to this moment is in them.
    #[track_caller]
    pub fn reports_since(&self, first: usize) -> Vec<Report> {
        self.settle();
        self.lines.since(first).iter().map(from_line).collect()
    }

    /// Ends the agent by SIGTERM and returns all its reports.
    ///
    /// # Panics
    /// When it does not end in time and with success, panicked, or broke the JSON contract in any report.
    #[track_caller]
    pub fn end(mut self) -> Vec<Report> {
        self.running.end();
        let reports: Vec<Report> = self.lines.since(0).iter().map(from_line).collect();
        for report in &reports {
            let violations = contract::violations(&report.value);
            assert!(violations.is_empty(), "report breaks the contract: {violations:#?}\n{}", report.value);
        }
        reports
    }
}

impl Agent {
    /// Ends the agent as the kernel does where memory is short.
    #[track_caller]
    pub fn kill(mut self) {
        self.running.process.signal(libc::SIGKILL);
        self.running.process.wait(END);
    }
}

/// `nodeprobe debug events`: one JSON line per GC pause of any length and per stall.
pub struct EventStream {
    running: Running,
    lines: JsonLines,
}

impl EventStream {
    /// Starts for a process, which need not be Node yet, and waits for the line `{"type":"ready"}`.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        let mut command = command(["debug", "events", "--pid", &pid.to_string()]);
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let stdout = running.process.child_mut().stdout.take().expect("stdout is a pipe");
        let lines = JsonLines::read(stdout);
        let ready =
            lines.wait(READY, |lines| lines.iter().any(|line| line.value["type"] == "ready").then_some(()));
        assert!(ready.is_some(), "`debug events` did not get ready; stderr:\n{}", running.stderr());
        Self { running, lines }
    }

    /// Ends the agent by SIGTERM, which first prints what is under way, and returns the events of a type.
    #[track_caller]
    pub fn end(mut self, kind: &str) -> Vec<Value> {
        self.running.end();
        let values = self.lines.since(0).into_iter().map(|line| line.value);
        values.filter(|event| event["type"] == kind).collect()
    }
}

/// `nodeprobe trace --format ndjson` of one process: one JSON line per stall.
pub struct Trace {
    running: Running,
    lines: JsonLines,
}

impl Trace {
    pub fn of(pid: u32) -> Self {
        let mut command =
            command(["trace", "--format", "ndjson", "--min", "50ms", "--pid", &pid.to_string()]);
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let stdout = running.process.child_mut().stdout.take().expect("stdout is a pipe");
        Self { running, lines: JsonLines::read(stdout) }
    }

    /// Waits until there are `count` stalls that are `wanted`.
    #[track_caller]
    pub fn wait_for(&self, count: usize, deadline: Duration, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let stalls = |lines: &[Line]| -> Vec<Value> {
            lines.iter().map(|line| line.value.clone()).filter(|stall| wanted(stall)).collect()
        };
        let found =
            self.lines.wait(deadline, |lines| Some(stalls(lines)).filter(|stalls| stalls.len() >= count));
        found.unwrap_or_else(|| {
            let (seen, stderr) = (self.lines.len(), self.running.stderr());
            panic!("not {count} stalls of {seen} in {deadline:?}; stderr:\n{stderr}")
        })
    }

    /// Ends it by SIGTERM.
    #[track_caller]
    pub fn end(&mut self) {
        self.running.end();
    }
}

/// `nodeprobe run`, the daemon.
pub struct Daemon {
    running: Running,
}

impl Daemon {
    /// Starts with settings in the environment.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let mut command = command(["run"]);
        command.envs(environment.iter().copied()).stdout(Stdio::null());
        Self { running: Running::start(&mut command) }
    }

    pub fn pid(&self) -> u32 {
        self.running.process.pid()
    }

    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    pub fn is_running(&mut self) -> bool {
        self.running.process.try_wait().is_none()
    }

    /// Ends the daemon by SIGTERM; it must flush and end within 5 s.
    #[track_caller]
    pub fn end(&mut self) {
        self.running.end();
    }
}

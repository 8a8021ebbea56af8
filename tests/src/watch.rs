//! A command of the agent that watches for some seconds, while the test does something.

use std::{
    fs::{self, File},
    process::ExitStatus,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    agent,
    node::target_tmp,
    process::{OwnedProcess, describe},
    recording::Recording,
    wait::eventually,
};

const READY: Duration = Duration::from_secs(40);

/// The command under way.
pub struct Watch {
    process: OwnedProcess,
    directory: TempDir,
}

impl Watch {
    fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let file = |name| File::create(directory.path().join(name)).expect("a scratch file can be made");
        let mut command = agent::command(arguments);
        let process = OwnedProcess::spawn(command.stdout(file("stdout")).stderr(file("stderr")));
        Self { process, directory }
    }

    /// `nodeprobe diagnose`, from when it watches.
    #[track_caller]
    pub fn diagnose(time: &str) -> Self {
        let watch = Self::start(&["diagnose", "--for", time, "--format", "json"]);
        eventually("the agent to watch", READY, || watch.read("stderr").contains("watching").then_some(()));
        watch
    }

    /// `nodeprobe record`, from when it has recorded a process; until it is [interrupted](Self::interrupt).
    #[track_caller]
    pub fn record(pid: u32) -> Self {
        let watch = Self::start(&["record", "--output", "-"]);
        let identity = format!("{{\"pid\":{pid},");
        eventually("the agent to record", READY, || watch.read("stdout").contains(&identity).then_some(()));
        watch
    }

    /// Ends it before its time, with what it has seen until now.
    #[must_use]
    pub fn interrupt(self) -> Self {
        self.process.signal(libc::SIGTERM);
        self
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).expect("the scratch file can be read")
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        self.process.wait(READY)
    }

    /// What was found, and the exit code says whether.
    #[track_caller]
    pub fn diagnosis(mut self) -> Value {
        let status = self.end();
        let diagnosis: Value = serde_json::from_str(&self.read("stdout"))
            .unwrap_or_else(|error| panic!("{error}; {}: {}", describe(status), self.read("stderr")));
        let processes = diagnosis["processes"].as_array().expect("processes are a list");
        let findings = processes.iter().filter_map(|process| process["findings"].as_array()).flatten();
        let is_sick = findings.into_iter().any(|finding| finding["severity"] != "info");
        assert_eq!(status.code(), Some(if is_sick { 2 } else { 0 }), "{}: {diagnosis}", describe(status));
        diagnosis
    }

    #[track_caller]
    pub fn recording(mut self) -> Recording {
        let status = self.end();
        assert!(status.success(), "{}; stderr: {}", describe(status), self.read("stderr"));
        Recording::parse(&self.read("stdout"))
    }
}

/// What is told of a process.
#[track_caller]
pub fn process(diagnosis: &Value, pid: u32) -> &Value {
    let processes = diagnosis["processes"].as_array().expect("processes are a list");
    let process = processes.iter().find(|process| process["pid"] == pid);
    process.unwrap_or_else(|| panic!("{pid} is not in the diagnosis: {diagnosis:#}"))
}

/// What was found in a process under an id.
#[track_caller]
pub fn finding<'a>(diagnosis: &'a Value, pid: u32, id: &str) -> Option<&'a Value> {
    let process = process(diagnosis, pid);
    process["findings"].as_array().expect("findings are a list").iter().find(|finding| finding["id"] == id)
}

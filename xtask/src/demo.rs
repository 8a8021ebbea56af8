//! `cargo xtask demo`: `nodeprobe top` beside a small service with known illnesses.

use crate::{build, child, setup, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    build::run(workspace)?;
    let service = Service::start(workspace)?;
    eprintln!(
        "xtask: the sick service has process id {}; it ends together with this command",
        service.child.id()
    );
    let status = child::status(child::as_root(workspace.nodeprobe())?.arg("top").args(args))?;
    drop(service);
    anyhow::ensure!(status.success(), "nodeprobe top ended with {status}");
    Ok(())
}

/// Ended by its process id when dropped. When this process is killed, Ctrl-C included, nothing is dropped: then the
/// service sees the end of its standard input, which only this process holds open, and exits by itself.
struct Service {
    child: Child,
}

impl Service {
    fn start(workspace: &Workspace) -> Result<Self> {
        let node = setup::nodes::any(workspace)?;
        let script = workspace.root.join("xtask/demo/service.js");
        let mut child = Command::new(&node)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {} {}", node.display(), script.display()))?;
        let stdout = child.stdout.take().context("the service has no standard output")?;
        let service = Self { child };
        let mut stdout = BufReader::new(stdout);
        let mut ready = String::new();
        stdout.read_line(&mut ready)?;
        anyhow::ensure!(ready.starts_with("ready"), "the service did not start: {ready:?}");
        thread::spawn(move || read_slowly(&mut stdout));
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already; both then fail, and that is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A log collector that naps now and then: the service's pipe fills up, as it does when a container runtime is busy.
/// Between naps it catches up, so that a long demo does not end with the service out of memory.
fn read_slowly(stdout: &mut impl Read) {
    let mut buffer = vec![0; 64 * 1024];
    let mut since_nap = 0;
    while let Ok(read @ 1..) = stdout.read(&mut buffer) {
        since_nap += read;
        if since_nap > 1 << 20 {
            since_nap = 0;
            thread::sleep(Duration::from_millis(500));
        }
    }
}

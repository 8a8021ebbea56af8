//! A program under the benchmark's control: lines in, lines out, and an end that cannot be forgotten.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// Ended by its process id when dropped.
pub(super) struct Running {
    what: String,
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let what = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let stdout = child.stdout.take().context("the program has no standard output")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // When nobody listens any more, reading goes on: a full pipe would change what the program does.
                drop(send.send(line));
            }
        });
        Ok(Self { what, child, lines })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("the program has no standard input")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} does not read", self.what))
    }

    /// Waits for a line that `found` accepts and returns what it makes of it.
    pub(super) fn wait_for<T>(&self, within: Duration, found: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(value) = found(&line) {
                        return Ok(value);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} did not print what was expected within {} s", self.what, within.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended too early; its messages are above", self.what)
                }
            }
        }
    }

    /// Waits for a line that begins with `word` and returns the rest of it.
    pub(super) fn wait_for_word(&self, word: &str, within: Duration) -> Result<String> {
        self.wait_for(within, |line| Some(line.strip_prefix(word)?.trim().to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; both then fail, and that is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

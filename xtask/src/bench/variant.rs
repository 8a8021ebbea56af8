//! The ways of watching that a benchmark compares.

use super::{Bench, running::Running};
use anyhow::{Context, Result};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Attaching and the first interval, on a loaded machine.
const ATTACH_LIMIT: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Unwatched,
    Nodeprobe,
    /// `monitorEventLoopDelay` and a GC `PerformanceObserver` in the process itself.
    InProcess,
    /// A pair of uprobes on `uv__io_poll`, the function that every turn passes.
    Naive,
}

pub(super) const ALL: [Variant; 4] =
    [Variant::Unwatched, Variant::Nodeprobe, Variant::InProcess, Variant::Naive];

/// The variants with their index in [`ALL`], each round beginning with another one, so that none always runs on a
/// machine that the one before has heated or cooled.
pub(super) fn in_turn(round: usize) -> impl Iterator<Item = (usize, Variant)> {
    (0..ALL.len()).map(move |step| (step + round) % ALL.len()).map(|index| (index, ALL[index]))
}

impl Variant {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Unwatched => "unwatched",
            Self::Nodeprobe => "nodeprobe",
            Self::InProcess => "`monitorEventLoopDelay` and GC observer in the process",
            Self::Naive => "naive: uprobe and uretprobe on `uv__io_poll`",
        }
    }

    /// Has `watched` watched in this way and in no other; returns once it really is. A watcher from outside watches
    /// until the result is dropped.
    pub(super) fn watch(self, bench: &Bench<'_>, watched: &mut Running) -> Result<Option<Running>> {
        watched.send(if self == Self::InProcess { "in-process" } else { "plain" })?;
        match self {
            Self::Unwatched | Self::InProcess => Ok(None),
            Self::Nodeprobe => nodeprobe(&bench.workspace.nodeprobe(), watched.pid()).map(Some),
            Self::Naive => naive(&bench.node).map(Some),
        }
    }
}

/// `nodeprobe top` in batch mode: it says for each process what it has counted, so attached and counting are seen.
fn nodeprobe(program: &Path, pid: u32) -> Result<Running> {
    let mut command = Command::new(program);
    command.args(["top", "-b", "-d", "1", "-n", "1000000", "--format", "ndjson"]).env("RUST_LOG", "error");
    let agent = Running::start(&mut command)?;
    agent
        .wait_for(ATTACH_LIMIT, |line| counts_turns(line, pid).then_some(()))
        .context("nodeprobe never counted a turn of the watched process")?;
    Ok(agent)
}

/// Whether a line of `top --format ndjson` says that the event loop of `pid` is observed.
fn counts_turns(line: &str, pid: u32) -> bool {
    let Ok(interval) = serde_json::from_str::<serde_json::Value>(line) else { return false };
    let processes = interval["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut threads = processes
        .iter()
        .filter(|process| process["pid"].as_u64() == Some(pid.into()))
        .flat_map(|process| process["threads"].as_array().map(Vec::as_slice).unwrap_or_default());
    threads.any(|thread| thread["event_loop"]["utilization"].is_number())
}

fn naive(node: &Path) -> Result<Running> {
    let node = node.display();
    let script = format!(
        "BEGIN {{ printf(\"ready\\n\"); }} \
         uprobe:{node}:uv__io_poll {{ @start[tid] = nsecs; }} \
         uretprobe:{node}:uv__io_poll /@start[tid]/ {{ @waits = hist(nsecs - @start[tid]); delete(@start[tid]); }}"
    );
    // Without CAP_SYS_RESOURCE it complains about a limit that current kernels no longer have.
    let bpftrace = Running::start(Command::new("bpftrace").args(["-e", &script]).stderr(Stdio::null()))?;
    bpftrace
        .wait_for_word("ready", ATTACH_LIMIT)
        .with_context(|| format!("bpftrace could not attach; try `bpftrace -e '{script}'`"))?;
    Ok(bpftrace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"time":"2026-01-01T00:00:00Z","processes":[{"pid":7,"threads":[
        {"tid":7,"kind":"main","event_loop":{"utilization":0.5,"turns":9}}]},{"pid":8,"threads":[
        {"tid":8,"kind":"main","event_loop":{"utilization":null}}]}]}"#;

    #[test]
    fn a_process_whose_loop_is_measured_is_watched() {
        assert!(counts_turns(LINE, 7));
    }

    #[test]
    fn a_process_that_is_only_listed_is_not_yet_watched() {
        assert!(!counts_turns(LINE, 8));
        assert!(!counts_turns(LINE, 9));
        assert!(!counts_turns("attaching", 7));
    }
}

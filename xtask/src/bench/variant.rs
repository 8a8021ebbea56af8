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

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Variant {
    /// Nobody watches.
    Unwatched,
    /// nodeprobe with everything on.
    Nodeprobe,
    /// nodeprobe that samples no stacks.
    WithoutStacks,
    /// nodeprobe that never puts in the probes that come and go by their cost.
    WithoutHotProbes,
    /// `monitorEventLoopDelay` and a GC `PerformanceObserver` in the process itself.
    InProcess,
    /// A pair of uprobes on `uv__io_poll`, the function that every turn passes.
    Naive,
    /// A tracepoint on a system call that nobody makes: what the kernel takes from every call as soon as one is traced.
    OneTracepoint,
    /// nodeprobe's tracepoints on `epoll_pwait` and `write` with programs that compare one word: what it could at best
    /// cost to trace these calls.
    EmptyPrograms,
}

/// The ways of watching an event loop, the bare one first.
pub(super) const USUAL: &[Variant] =
    &[Variant::Unwatched, Variant::Nodeprobe, Variant::InProcess, Variant::Naive];

/// The same and the parts of the cost that a system call bears.
pub(super) const WITH_PARTS: &[Variant] = &[
    Variant::Unwatched,
    Variant::Nodeprobe,
    Variant::WithoutStacks,
    Variant::WithoutHotProbes,
    Variant::InProcess,
    Variant::Naive,
    Variant::OneTracepoint,
    Variant::EmptyPrograms,
];

/// nodeprobe with and without what it can do without, and what the kernel takes for one system call that is traced.
pub(super) const OUTSIDE: &[Variant] = &[
    Variant::Unwatched,
    Variant::Nodeprobe,
    Variant::WithoutStacks,
    Variant::WithoutHotProbes,
    Variant::OneTracepoint,
];

/// The variants with their index, each round beginning with another one, so that none always runs on a machine that the
/// one before has heated or cooled.
pub(super) fn in_turn(variants: &[Variant], round: usize) -> impl Iterator<Item = (usize, Variant)> {
    (0..variants.len()).map(move |step| (step + round) % variants.len()).map(|index| (index, variants[index]))
}

impl Variant {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Unwatched => "unwatched",
            Self::Nodeprobe => "nodeprobe",
            Self::WithoutStacks => "nodeprobe without sampling stacks",
            Self::WithoutHotProbes => "nodeprobe with `--max-overhead 0`",
            Self::InProcess => "`monitorEventLoopDelay` and GC observer in the process",
            Self::Naive => "naive: uprobe and uretprobe on `uv__io_poll`",
            Self::OneTracepoint => "one tracepoint, on a call nobody makes",
            Self::EmptyPrograms => "tracepoints on `epoll_pwait` and `write`, empty programs",
        }
    }

    /// Has `watched` watched in this way and in no other; returns once it really is. A watcher from outside watches
    /// until the result is dropped.
    pub(super) fn watch(self, bench: &Bench<'_>, watched: &mut Running) -> Result<Option<Running>> {
        watched.send(if self == Self::InProcess { "in-process" } else { "plain" })?;
        match self {
            Self::Unwatched | Self::InProcess => Ok(None),
            Self::Nodeprobe => nodeprobe(&bench.workspace.nodeprobe(), watched.pid(), &[]).map(Some),
            Self::WithoutStacks => {
                nodeprobe(&bench.workspace.nodeprobe(), watched.pid(), &["--no-stacks"]).map(Some)
            }
            Self::WithoutHotProbes => {
                nodeprobe(&bench.workspace.nodeprobe(), watched.pid(), &["--max-overhead", "0"]).map(Some)
            }
            Self::Naive => bpftrace(&naive(&bench.node)).map(Some),
            Self::OneTracepoint => bpftrace(ONE_TRACEPOINT).map(Some),
            Self::EmptyPrograms => bpftrace(EMPTY_PROGRAMS).map(Some),
        }
    }
}

/// `nodeprobe top` in batch mode: it says for each process what it has counted, so attached and counting are seen.
fn nodeprobe(program: &Path, pid: u32, options: &[&str]) -> Result<Running> {
    let mut command = Command::new(program);
    command.args(["top", "-b", "-d", "1", "-n", "1000000", "--format", "ndjson"]).args(options);
    command.env("RUST_LOG", "error");
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

fn naive(node: &Path) -> String {
    let node = node.display();
    format!(
        "uprobe:{node}:uv__io_poll {{ @start[tid] = nsecs; }} \
         uretprobe:{node}:uv__io_poll /@start[tid]/ {{ @waits = hist(nsecs - @start[tid]); delete(@start[tid]); }}"
    )
}

/// `swapoff` is called by nobody while a benchmark runs.
const ONE_TRACEPOINT: &str = "tracepoint:syscalls:sys_enter_swapoff { @seen = 1; }";

const EMPTY_PROGRAMS: &str = "\
    tracepoint:syscalls:sys_enter_epoll_pwait /args->maxevents == 99999/ { @seen = 1; } \
    tracepoint:syscalls:sys_exit_epoll_pwait /args->ret == 99999/ { @seen = 1; } \
    tracepoint:syscalls:sys_enter_write /args->fd == 99999/ { @seen = 1; } \
    tracepoint:syscalls:sys_exit_write /args->ret == 99999999/ { @seen = 1; }";

/// Has bpftrace run `script`, in a mount namespace of its own, because it wants a tracefs to be mounted.
fn bpftrace(script: &str) -> Result<Running> {
    let script = format!("BEGIN {{ printf(\"ready\\n\"); }} {script}");
    let mounted = r#"grep -qs " /sys/kernel/tracing tracefs " /proc/mounts ||
        mount -t tracefs tracefs /sys/kernel/tracing; exec bpftrace -e "$1""#;
    let mut command = Command::new("unshare");
    // Without CAP_SYS_RESOURCE bpftrace complains about a limit that current kernels no longer have.
    command.args(["--mount", "sh", "-c", mounted, "sh", &script]).stderr(Stdio::null());
    let bpftrace = Running::start(&mut command)?;
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

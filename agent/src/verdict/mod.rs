//! What is wrong with a process: one file per failure mode, each a pure `check` of the process's [`History`].
//!
//! Architecture invariant: no I/O and no clock in here; times are arguments.
#![forbid(unsafe_code)]

mod async_context_loss;
mod cpu_starved;
mod event_loop_starvation;
mod gc_pressure;
mod heap_growth;
pub mod history;
mod microtask_congestion;
mod shape_churn;
mod slope;
mod slow_startup;
mod stdout_backpressure;
mod stream_overflow;
mod sync_child_process;
mod sync_io;
#[cfg(test)]
mod tests;
mod threadpool_saturation;
pub mod thresholds;
mod unhandled_rejections;

use std::collections::{BTreeMap, BTreeSet};

pub use history::History;

use crate::model::{Culprit, Interval, ProcessId, Signal};

/// A way in which a Node service fails. The id is the same in `diagnose`, in the metric, in `top` and in the docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    UnhandledRejections,
    HeapGrowth,
    GcPressure,
    CpuStarved,
    SyncChildProcess,
    SyncIo,
    StdoutBackpressure,
    MicrotaskCongestion,
    ThreadpoolSaturation,
    StreamOverflow,
    ShapeChurn,
    EventLoopStarvation,
    AsyncContextLoss,
    SlowStartup,
}

impl Mode {
    pub const ALL: [Self; 14] = [
        Self::UnhandledRejections,
        Self::HeapGrowth,
        Self::GcPressure,
        Self::CpuStarved,
        Self::SyncChildProcess,
        Self::SyncIo,
        Self::StdoutBackpressure,
        Self::MicrotaskCongestion,
        Self::ThreadpoolSaturation,
        Self::StreamOverflow,
        Self::ShapeChurn,
        Self::EventLoopStarvation,
        Self::AsyncContextLoss,
        Self::SlowStartup,
    ];

    pub const fn id(self) -> &'static str {
        match self {
            Self::UnhandledRejections => "unhandled-rejections",
            Self::HeapGrowth => "heap-growth",
            Self::GcPressure => "gc-pressure",
            Self::CpuStarved => "cpu-starved",
            Self::SyncChildProcess => "sync-child-process",
            Self::SyncIo => "sync-io",
            Self::StdoutBackpressure => "stdout-backpressure",
            Self::MicrotaskCongestion => "microtask-congestion",
            Self::ThreadpoolSaturation => "threadpool-saturation",
            Self::StreamOverflow => "stream-overflow",
            Self::ShapeChurn => "shape-churn",
            Self::EventLoopStarvation => "event-loop-starvation",
            Self::AsyncContextLoss => "async-context-loss",
            Self::SlowStartup => "slow-startup",
        }
    }

    /// Two lines: what to do now, and what to do for good.
    pub const fn remedy(self) -> [&'static str; 2] {
        match self {
            Self::UnhandledRejections => [
                "Await the promise, or add .catch() where it is made: a rejection without a handler ends the process by default.",
                "Do not hide it behind process.on('unhandledRejection'); switch on the lint rule no-floating-promises.",
            ],
            Self::HeapGrowth => [
                "Find what is kept: two heap snapshots minutes apart (node --heapsnapshot-signal) compared by retained size.",
                "Give every cache and map of sessions a bound (an LRU, a time to live), and remove listeners when they are done.",
            ],
            Self::GcPressure => [
                "Allocate less in the named function: reuse buffers and objects, do not copy with spread or map in hot loops.",
                "Try --max-semi-space-size=64: short-lived objects then die before they are copied.",
            ],
            Self::CpuStarved => [
                "Raise the CPU request, and raise or remove the CPU limit of the container: the quota stops the loop for 100 ms at a time.",
                "Give the service fewer neighbours (against steal: another host or kind of instance), or fewer workers than processors.",
            ],
            Self::SyncChildProcess => [
                "Replace execSync and spawnSync by execFile or spawn with a promise: nothing else runs until the child ends.",
                "If it is on every request, keep one child or a worker pool, or do it without a child.",
            ],
            Self::SyncIo => [
                "Replace the Sync call by its promise (fs.promises.readFile): the loop stands still for as long as the device takes.",
                "Read configuration and templates once at start-up and keep them.",
            ],
            Self::StdoutBackpressure => [
                "Log less, or log asynchronously: pino with sync: false, a file or a collector that reads fast enough.",
                "Never leave a terminal or a paused reader on stdout of a service; a blocked write stops every request.",
            ],
            Self::MicrotaskCongestion => [
                "Work in batches: await once per hundred items, not per item, and let the loop turn with setImmediate in between.",
                "Use streams or arrays where an async iterator over values that are there already brings nothing.",
            ],
            Self::ThreadpoolSaturation => [
                "Raise UV_THREADPOOL_SIZE (default 4) towards the number of processors; it is read at the first use of the pool.",
                "Bound how much of it is asked for at once (p-limit), and give hashing and compression a worker_threads pool of their own.",
            ],
            Self::StreamOverflow => [
                "Heed what write() returns: wait for 'drain', or let stream.pipeline() do it, which also ends with the client.",
                "Set a bound and a time limit for slow clients, and end those that exceed it.",
            ],
            Self::ShapeChurn => [
                "Make objects of one kind with the same properties in the same order: one constructor or literal, no delete.",
                "Keep hot functions monomorphic; use Map for dictionaries whose keys are data.",
            ],
            Self::EventLoopStarvation => [
                "Move the named work off the loop: the asynchronous form (crypto.scrypt, zlib), a worker_threads pool, or smaller pieces.",
                "Bound what a request may ask for: size of JSON, length of input to regular expressions, rounds of hashing.",
            ],
            Self::AsyncContextLoss => [
                "Bind the named callback where it is handed over: AsyncResource.bind(callback), or a promise around the call and await.",
                "Replace or update the package that runs it: drivers of today keep the context of each query.",
            ],
            Self::SlowStartup => [
                "Load the named packages where they are first needed (import() or require in the function), or leave them out.",
                "Bundle the service, and let NODE_COMPILE_CACHE (Node 22) keep compiled code between starts.",
            ],
        }
    }

    /// Modes that are mere consequences of this one when both are found.
    const fn explains(self) -> &'static [Self] {
        match self {
            Self::HeapGrowth => &[Self::GcPressure, Self::EventLoopStarvation],
            Self::GcPressure | Self::ShapeChurn => &[Self::EventLoopStarvation],
            // Buffers outside of the heap make V8 collect.
            Self::StreamOverflow => &[Self::GcPressure],
            // Every await leaves a promise behind.
            Self::MicrotaskCongestion => &[Self::EventLoopStarvation, Self::GcPressure],
            // Whoever has no processor is slow in everything; but see `judge`.
            Self::CpuStarved => &[Self::EventLoopStarvation, Self::SlowStartup],
            _ => &[],
        }
    }

    /// What must be observed to find it.
    pub const fn needs(self) -> &'static [Signal] {
        match self {
            Self::UnhandledRejections => &[Signal::Rejections],
            Self::HeapGrowth => &[Signal::Heap],
            Self::GcPressure => &[Signal::Gc],
            // `/proc` tells.
            Self::CpuStarved => &[],
            Self::SyncChildProcess | Self::SyncIo => &[Signal::EventLoop, Signal::Sched],
            Self::StdoutBackpressure => &[Signal::Stdio],
            Self::MicrotaskCongestion => &[Signal::EventLoop, Signal::Sample],
            Self::ThreadpoolSaturation => &[Signal::ThreadPool],
            Self::StreamOverflow => &[Signal::Sockets, Signal::Heap],
            Self::ShapeChurn => &[Signal::Sample],
            Self::AsyncContextLoss => &[Signal::AsyncContext, Signal::Sample],
            Self::EventLoopStarvation | Self::SlowStartup => &[Signal::EventLoop],
        }
    }

    fn check(self, history: &History) -> Option<Finding> {
        match self {
            Self::UnhandledRejections => unhandled_rejections::check(history),
            Self::HeapGrowth => heap_growth::check(history),
            Self::GcPressure => gc_pressure::check(history),
            Self::CpuStarved => cpu_starved::check(history),
            Self::SyncChildProcess => sync_child_process::check(history),
            Self::SyncIo => sync_io::check(history),
            Self::StdoutBackpressure => stdout_backpressure::check(history),
            Self::MicrotaskCongestion => microtask_congestion::check(history),
            Self::ThreadpoolSaturation => threadpool_saturation::check(history),
            Self::StreamOverflow => stream_overflow::check(history),
            Self::ShapeChurn => shape_churn::check(history),
            Self::EventLoopStarvation => event_loop_starvation::check(history),
            Self::AsyncContextLoss => async_context_loss::check(history),
            Self::SlowStartup => slow_startup::check(history),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that is wrong with a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub mode: Mode,
    pub severity: Severity,
    /// One sentence for people.
    pub summary: String,
    /// What was measured; names carry their unit (`stalled_ratio`, `window_s`).
    pub evidence: Vec<(&'static str, f64)>,
    pub culprit: Option<Culprit>,
    /// `Some`: a consequence of that other finding.
    pub because_of: Option<Mode>,
}

impl Finding {
    fn new(mode: Mode, severity: Severity, history: &History, summary: String) -> Self {
        let evidence = vec![("window_s", history.window_s())];
        Self { mode, severity, summary, evidence, culprit: None, because_of: None }
    }

    fn with(mut self, evidence: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn blaming(mut self, culprit: Option<Culprit>) -> Self {
        self.culprit = culprit;
        self
    }

    /// Not a consequence of another finding.
    pub fn is_primary(&self) -> bool {
        self.because_of.is_none()
    }
}

/// What is wrong, the worst first, consequences behind what they follow from.
fn judge(history: &History) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Mode::ALL.into_iter().filter_map(|mode| mode.check(history)).collect();
    let found: Vec<(Mode, Severity)> =
        findings.iter().map(|finding| (finding.mode, finding.severity)).collect();
    for finding in &mut findings {
        let explains = |mode: Mode, severity: Severity| {
            // Little waiting for a processor is no excuse for much work, nor are some awaits for much garbage; a leak is.
            let by_degree =
                mode == Mode::CpuStarved || finding.mode == Mode::GcPressure && mode != Mode::HeapGrowth;
            mode.explains().contains(&finding.mode) && (!by_degree || severity >= finding.severity)
        };
        let cause = found.iter().find(|(mode, severity)| explains(*mode, *severity));
        finding.because_of = cause.map(|(mode, _)| *mode);
    }
    // A consequence of a consequence belongs to what it all began with.
    let causes: BTreeMap<Mode, Mode> =
        findings.iter().filter_map(|finding| Some((finding.mode, finding.because_of?))).collect();
    for finding in &mut findings {
        for _ in 0..Mode::ALL.len() {
            let further = finding.because_of.and_then(|mode| causes.get(&mode).copied());
            finding.because_of = further.or(finding.because_of);
        }
    }
    findings.sort_by_key(|finding| {
        (std::cmp::Reverse(finding.is_primary()), std::cmp::Reverse(finding.severity), finding.mode)
    });
    findings
}

/// What is judged by where nobody says otherwise: the last minute.
pub const WINDOW_S: f64 = 60.0;

/// Watches all processes and says what is wrong with each.
#[derive(Clone, Debug)]
pub struct Judge {
    window_s: f64,
    processes: BTreeMap<ProcessId, (History, Vec<Finding>)>,
}

impl Default for Judge {
    fn default() -> Self {
        Self::new(WINDOW_S)
    }
}

impl Judge {
    /// Judges by the last `window_s` seconds.
    pub fn new(window_s: f64) -> Self {
        Self { window_s, processes: BTreeMap::new() }
    }

    /// Takes in an interval. Processes that are not in it are forgotten; those that ended in it are judged for the last time.
    pub fn push(&mut self, interval: &Interval) {
        let present: BTreeSet<ProcessId> = interval.processes.iter().map(|process| process.id).collect();
        self.processes.retain(|id, _| present.contains(id));
        for process in &interval.processes {
            let (history, findings) =
                self.processes.entry(process.id).or_insert_with(|| (History::new(self.window_s), Vec::new()));
            history.push(process, interval);
            *findings = judge(history);
            history.active = findings.iter().map(|finding| finding.mode).collect();
        }
    }

    /// What is wrong with a process, the worst first; empty also for one that is not known.
    pub fn findings(&self, process: ProcessId) -> &[Finding] {
        self.processes.get(&process).map_or(&[], |(_, findings)| findings)
    }

    pub fn history(&self, process: ProcessId) -> Option<&History> {
        self.processes.get(&process).map(|(history, _)| history)
    }
}

/// A share for people: `7 %`, `0.4 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// A duration for people: `240 ms`, `3.2 s`, `12 min`, `5 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 99.5 => format!("{s:.1} s"),
        s if s < 5970.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// Bytes for people: `12.3 MiB`.
fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.abs() >= 99.5 || unit == 0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

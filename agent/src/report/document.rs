//! The JSON document of one interval. Its field names are a contract, described in `docs/top-schema.json`: fields
//! may be added, none is renamed or removed.
//!
//! Counts and times are those of the interval; sizes, ages and kinds are those at its end. `None` becomes `null` and
//! means "not known": a signal that could not be probed reports `null`, never 0.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    allocations::{self, AllocationReport},
    printable,
    queues::{self, PoolReport, SocketsReport},
    startup::{CompileReport, StartupReport},
    timestamp,
};
use crate::model::{
    AsyncContext, Availability, Causes, Culprit, Histogram, HostCpu, Interval, Pauses, Signal, Stdio,
    interval::{Microtasks, ProcessInterval, ThreadInterval},
};
use crate::stack::logging::logging;

/// Names are bounded where they are read; this bounds what a mistake there could cost.
const MAX_NAME_COLUMNS: usize = 256;

#[derive(Debug, Serialize)]
pub struct Report {
    /// RFC 3339 in UTC with milliseconds, at the end of the interval.
    pub time: String,
    pub interval_s: f64,
    /// What happened in the interval and was not recorded, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    pub host: HostReport,
    /// Those that ended in the interval are in it for the last time.
    pub processes: Vec<ProcessReport>,
}

/// What is of no single process.
#[derive(Debug, Serialize)]
pub struct HostReport {
    /// Of the time of all processors: the hypervisor ran another machine instead, as `top` has it under `st`.
    pub cpu_steal_ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct ProcessReport {
    pub pid: u32,
    pub name: String,
    pub node_version: Option<String>,
    pub v8_version: Option<String>,
    pub container_id: Option<String>,
    pub uptime_s: f64,
    pub rss_bytes: Option<u64>,
    /// 1 is one core.
    pub cpu_ratio: Option<f64>,
    /// Time for which the quota of the cgroup was used up: `cpu_wait` that no neighbour is to blame for.
    pub cpu_throttled_s: Option<f64>,
    /// Periods of that quota in which the group ran, and those of them in which it was throttled.
    pub cpu_periods: Option<u64>,
    pub cpu_throttled_periods: Option<u64>,
    /// Time for which the main thread was ready to run and had no processor.
    pub run_delay_s: Option<f64>,
    /// Of the main thread.
    pub nice: Option<i8>,
    pub heap: HeapReport,
    pub signals: BTreeMap<&'static str, SignalReport>,
    pub gc: GcReport,
    /// Who allocates, most first, ten at most; empty without a sample; `null`: not observed.
    pub allocations: Option<Vec<AllocationReport>>,
    pub rejections: RejectionsReport,
    pub deopts: DeoptsReport,
    pub thread_pool: PoolReport,
    pub sockets: SocketsReport,
    pub microtasks: MicrotasksReport,
    pub async_context: AsyncContextReport,
    pub stdio: StdioReport,
    pub threads: Vec<ThreadReport>,
    /// `null`: it began before it was observed.
    pub startup: Option<StartupReport>,
    pub compile: CompileReport,
    pub logging: LoggingReport,
    /// `null`: not limited, or not known.
    pub memory_limit_bytes: Option<u64>,
    pub memory_used_bytes: Option<u64>,
}

/// Formatting and writing of log lines by the main thread, as its samples tell.
#[derive(Debug, Serialize)]
pub struct LoggingReport {
    /// Of the time that the main thread was sampled on a processor; `null` without a sample.
    pub cpu_ratio: Option<f64>,
    /// `null`: not observed.
    pub cpu_s: Option<f64>,
    /// The time that the main thread was sampled on a processor.
    pub sampled_s: Option<f64>,
    /// The function that most of it was done for.
    pub top_function: Option<CulpritReport>,
}

#[derive(Debug, Serialize)]
pub struct HeapReport {
    pub used_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// Between collections of which the later one ended in the interval.
    pub allocated_bytes: Option<u64>,
}

/// `"ok"` or `{"unavailable": "why"}`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignalReport {
    Ok,
    Unavailable(String),
}

#[derive(Debug, Serialize)]
pub struct GcReport {
    /// Pause time by wall time; pauses of several threads add up.
    pub time_ratio: Option<f64>,
    pub pauses: PausesByKind,
}

#[derive(Debug, Serialize)]
pub struct PausesByKind {
    pub minor: PausesReport,
    pub major: PausesReport,
}

#[derive(Debug, Serialize)]
pub struct PausesReport {
    pub count: Option<u64>,
    pub time_s: Option<f64>,
    pub p50_s: Option<f64>,
    pub p99_s: Option<f64>,
    pub max_s: Option<f64>,
}

/// Rejected promises that had no handler when Node told of them, and handlers that came later.
#[derive(Debug, Serialize)]
pub struct RejectionsReport {
    pub unhandled: Option<u64>,
    pub handled_late: Option<u64>,
}

/// Deoptimisations.
#[derive(Debug, Serialize)]
pub struct DeoptsReport {
    pub eager: Option<u64>,
    pub lazy: Option<u64>,
}

/// Drains of microtask queues, looked at for `seen_ratio` of the interval; all but that `null`: not looked at in it.
#[derive(Debug, Serialize)]
pub struct MicrotasksReport {
    pub seen_ratio: Option<f64>,
    /// Seen.
    pub drains: Option<u64>,
    /// Estimates: what was seen by the time it was looked at.
    pub drains_per_s: Option<f64>,
    pub time_ratio: Option<f64>,
    pub drain_p50_s: Option<f64>,
    pub drain_p99_s: Option<f64>,
    pub drain_max_s: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct StdioReport {
    pub stdout: StreamReport,
    pub stderr: StreamReport,
}

/// Answers to HTTP requests by later callbacks than the one that read the request, followed for `seen_ratio` of the interval.
#[derive(Debug, Serialize)]
pub struct AsyncContextReport {
    pub seen_ratio: Option<f64>,
    pub answers: Option<u64>,
    /// By a callback that has an async context.
    pub with_context: Option<u64>,
    /// By one that has none of it although the request had one.
    pub without_context: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct StreamReport {
    pub kind: Option<&'static str>,
    pub bytes: Option<u64>,
    pub writes: Option<u64>,
    pub blocked_s: Option<f64>,
    pub eagain: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct ThreadReport {
    pub tid: u32,
    pub kind: &'static str,
    pub event_loop: EventLoopReport,
}

#[derive(Debug, Serialize)]
pub struct EventLoopReport {
    pub utilization: Option<f64>,
    pub turns: Option<u64>,
    pub turn_p50_s: Option<f64>,
    pub turn_p99_s: Option<f64>,
    pub turn_max_s: Option<f64>,
    /// Age of the turn under way; null also while the loop waits.
    pub current_turn_s: Option<f64>,
    /// What most of the turn under way was spent with; null also while the loop waits.
    pub current_turn_cause: Option<&'static str>,
    /// Who is to blame for it so far; null also while the loop waits.
    pub current_turn_culprit: Option<CulpritReport>,
    pub stalls: StallsReport,
}

#[derive(Debug, Serialize)]
pub struct StallsReport {
    pub count: Option<u64>,
    pub time_s: Option<f64>,
    /// How `time_s` divides; every cause is listed.
    pub by_cause: Option<BTreeMap<&'static str, f64>>,
    /// The function that most of it was sampled in.
    pub top_culprit: Option<CulpritReport>,
}

/// The function to blame.
#[derive(Clone, Debug, Serialize)]
pub struct CulpritReport {
    pub function: String,
    pub script: Option<String>,
    pub line: Option<u32>,
    /// The npm package; `null` for the application's own code.
    pub package: Option<String>,
}

impl From<&Culprit> for CulpritReport {
    fn from(culprit: &Culprit) -> Self {
        Self {
            function: text(&culprit.function),
            script: culprit.script.as_deref().map(text),
            line: culprit.line,
            package: culprit.package.as_deref().map(text),
        }
    }
}

/// Whether what `process` says about `signal` was measured. A signal nothing was said about counts as measured.
pub(crate) fn is_observed(signals: &BTreeMap<Signal, Availability>, signal: Signal) -> bool {
    !matches!(signals.get(&signal), Some(Availability::Unavailable(_)))
}

impl From<&Interval> for Report {
    fn from(interval: &Interval) -> Self {
        Self {
            time: timestamp::rfc3339(interval.time),
            interval_s: seconds(interval.duration_s),
            lost: interval.lost.clone(),
            host: HostReport {
                cpu_steal_ratio: interval.host_cpu.and_then(HostCpu::steal_ratio).map(seconds),
            },
            processes: interval.processes.iter().map(|process| of_process(process, interval)).collect(),
        }
    }
}

/// What [`ProcessReport`] and the listing of `ps` say alike about signals.
pub(super) fn of_signals(signals: &BTreeMap<Signal, Availability>) -> BTreeMap<&'static str, SignalReport> {
    let of_signal = |availability: &Availability| match availability {
        Availability::Ok => SignalReport::Ok,
        Availability::Unavailable(reason) => SignalReport::Unavailable(text(reason)),
    };
    signals.iter().map(|(signal, availability)| (signal.name(), of_signal(availability))).collect()
}

/// A string of an observed process.
pub(super) fn text(text: &str) -> String {
    printable::fit(text, MAX_NAME_COLUMNS, '…')
}

fn of_process(process: &ProcessInterval, interval: &Interval) -> ProcessReport {
    let gc_observed = is_observed(&process.signals, Signal::Gc);
    let stdio_observed = is_observed(&process.signals, Signal::Stdio);
    let rejections_observed = is_observed(&process.signals, Signal::Rejections);
    let deopts_observed = is_observed(&process.signals, Signal::Deopts);
    let loop_observed = is_observed(&process.signals, Signal::EventLoop);
    let sched_observed = loop_observed && is_observed(&process.signals, Signal::Sched);
    ProcessReport {
        pid: process.id.pid,
        name: text(&process.identity.name),
        node_version: process.identity.node_version.as_deref().map(text),
        v8_version: process.identity.v8_version.as_deref().map(text),
        container_id: process.identity.container_id.as_deref().map(text),
        uptime_s: seconds(process.uptime_s),
        rss_bytes: process.rss_bytes,
        cpu_ratio: process.cpu_ratio.map(seconds),
        cpu_throttled_s: process.cpu_throttled_ns.map(|ns| ns as f64 / 1e9),
        cpu_periods: process.cpu_periods.map(|periods| periods.elapsed),
        cpu_throttled_periods: process.cpu_periods.map(|periods| periods.throttled),
        run_delay_s: process.run_delay_ns.map(|ns| ns as f64 / 1e9),
        nice: process.nice,
        heap: HeapReport {
            used_bytes: process.heap_used_bytes,
            limit_bytes: process.heap_limit_bytes,
            allocated_bytes: process.allocated_bytes,
        },
        signals: of_signals(&process.signals),
        gc: GcReport {
            time_ratio: gc_observed.then(|| seconds(process.gc_time_ratio(interval.duration_s))),
            pauses: PausesByKind {
                minor: of_pauses(&process.minor, gc_observed),
                major: of_pauses(&process.major, gc_observed),
            },
        },
        allocations: gc_observed.then(|| allocations::of_process(process, interval)),
        rejections: RejectionsReport {
            unhandled: rejections_observed.then_some(process.rejections.unhandled),
            handled_late: rejections_observed.then_some(process.rejections.handled_late),
        },
        deopts: DeoptsReport {
            eager: deopts_observed.then_some(process.deopts.eager),
            lazy: deopts_observed.then_some(process.deopts.lazy),
        },
        thread_pool: queues::of_pool(&process.pool, is_observed(&process.signals, Signal::ThreadPool)),
        sockets: queues::of_sockets(process, is_observed(&process.signals, Signal::Sockets)),
        microtasks: of_microtasks(
            &process.microtasks,
            is_observed(&process.signals, Signal::Microtasks),
            interval.duration_s,
        ),
        async_context: of_async_context(
            process.async_context,
            is_observed(&process.signals, Signal::AsyncContext),
            interval.answers_seen_ratio(),
        ),
        stdio: StdioReport {
            stdout: of_stream(&process.stdout, stdio_observed),
            stderr: of_stream(&process.stderr, stdio_observed),
        },
        threads: process
            .threads
            .iter()
            .map(|thread| {
                let culprit = interval.top_culprit(process.id, thread.tid);
                of_thread(thread, culprit.as_ref(), loop_observed, sched_observed)
            })
            .collect(),
        startup: process.startup.as_deref().map(StartupReport::from),
        compile: CompileReport::of(process, is_observed(&process.signals, Signal::Compile)),
        logging: of_logging(process, interval),
        memory_limit_bytes: process.group_memory.map(|memory| memory.limit_bytes),
        memory_used_bytes: process.group_memory.and_then(|memory| memory.used_bytes),
    }
}

fn of_pauses(pauses: &Pauses, observed: bool) -> PausesReport {
    let durations = &pauses.durations;
    PausesReport {
        count: observed.then_some(durations.count),
        time_s: observed.then_some(durations.sum_ns as f64 / 1e9),
        p50_s: quantile_s(durations, 0.5).filter(|_| observed),
        p99_s: quantile_s(durations, 0.99).filter(|_| observed),
        max_s: max_s(durations).filter(|_| observed),
    }
}

fn of_logging(process: &ProcessInterval, interval: &Interval) -> LoggingReport {
    let observed = is_observed(&process.signals, Signal::Sample);
    let logging = logging(interval.stacks_of_main(process.id));
    LoggingReport {
        cpu_ratio: logging.ratio().map(seconds).filter(|_| observed),
        cpu_s: observed.then_some(logging.cpu_ns as f64 / 1e9),
        sampled_s: observed.then_some(logging.sampled_ns as f64 / 1e9),
        top_function: logging.culprit.as_ref().map(CulpritReport::from),
    }
}

fn of_microtasks(microtasks: &Microtasks, observed: bool, duration_s: f64) -> MicrotasksReport {
    let observed = observed || microtasks.seen_ns > 0;
    let is_seen = microtasks.seen_ns > 0;
    let drains = &microtasks.drains;
    MicrotasksReport {
        seen_ratio: observed.then(|| seconds(microtasks.seen_ratio(duration_s))),
        drains: is_seen.then_some(drains.count),
        drains_per_s: microtasks.drains_per_s().map(seconds),
        time_ratio: microtasks.time_ratio().map(seconds),
        drain_p50_s: quantile_s(drains, 0.5).filter(|_| is_seen),
        drain_p99_s: quantile_s(drains, 0.99).filter(|_| is_seen),
        drain_max_s: max_s(drains).filter(|_| is_seen),
    }
}

fn of_async_context(context: AsyncContext, observed: bool, seen_ratio: f64) -> AsyncContextReport {
    AsyncContextReport {
        seen_ratio: observed.then(|| seconds(seen_ratio)),
        answers: observed.then(|| context.answers()),
        with_context: observed.then_some(context.kept),
        without_context: observed.then_some(context.lost),
    }
}

fn of_stream(stream: &Stdio, observed: bool) -> StreamReport {
    StreamReport {
        kind: stream.kind.map(crate::model::StreamKind::name),
        bytes: observed.then_some(stream.bytes),
        writes: observed.then_some(stream.writes),
        blocked_s: observed.then_some(stream.blocked_ns as f64 / 1e9),
        eagain: observed.then_some(stream.eagain),
    }
}

fn of_thread(
    thread: &ThreadInterval,
    culprit: Option<&Culprit>,
    observed: bool,
    sched_observed: bool,
) -> ThreadReport {
    ThreadReport {
        tid: thread.tid,
        kind: thread.kind.name(),
        event_loop: EventLoopReport {
            utilization: thread.utilization().map(seconds).filter(|_| observed),
            turns: observed.then_some(thread.turns.count),
            turn_p50_s: quantile_s(&thread.turns, 0.5).filter(|_| observed),
            turn_p99_s: quantile_s(&thread.turns, 0.99).filter(|_| observed),
            turn_max_s: max_s(&thread.turns).filter(|_| observed),
            current_turn_s: thread.current_turn_ns.map(|ns| ns as f64 / 1e9).filter(|_| observed),
            current_turn_cause: leading(&thread.current_turn_causes).filter(|_| sched_observed),
            current_turn_culprit: thread.current_turn_culprit.as_ref().map(CulpritReport::from),
            stalls: StallsReport {
                count: observed.then_some(thread.stalls.count),
                time_s: observed.then_some(thread.stalls.sum_ns as f64 / 1e9),
                by_cause: sched_observed.then(|| by_cause(&thread.stall_causes)),
                top_culprit: culprit.map(CulpritReport::from),
            },
        },
    }
}

fn leading(causes: &Causes) -> Option<&'static str> {
    causes.leading().map(|(cause, _)| cause.name())
}

fn by_cause(causes: &Causes) -> BTreeMap<&'static str, f64> {
    causes.iter().map(|(cause, ns)| (cause.name(), ns as f64 / 1e9)).collect()
}

/// A quantile of the interval; `None` without a duration in it.
pub(crate) fn quantile_s(durations: &Histogram, q: f64) -> Option<f64> {
    (durations.count > 0).then(|| durations.quantile_s(q)).flatten().map(seconds)
}

/// The longest duration of the interval; `None` without one.
pub(crate) fn max_s(durations: &Histogram) -> Option<f64> {
    durations.interval_max_ns.filter(|_| durations.count > 0).map(|ns| ns as f64 / 1e9)
}

/// Nothing is measured finer than a nanosecond; digits behind that are noise of the division.
fn seconds(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

//! The state of a process as families of points: what every face exports, before it is in a wire format.
//!
//! Architecture invariant: this is the only place that knows which value of [`ProcessState`] is which metric of the
//! catalogue. A face that lists metrics by itself would tell less than another one some day.

use std::time::{Duration, SystemTime};

use super::totals::{Blamed, ProcessState, StdioKey};
use crate::{
    model::{
        AsyncContext, Cause, Histogram, Signal, ThreadKind,
        catalog::{
            self, ANSWERS_SEEN_TIME, Attribute, CONTEXT_ANSWERS, CONTEXT_STATE, CPU_MODE, CPU_QUOTA_PERIODS,
            CPU_THROTTLED_TIME, CPU_WAIT_TIME, DEOPT_KIND, DEOPTIMIZATIONS, DRAIN_DURATION, DRAINS_SEEN_TIME,
            EVENTLOOP_TIME, EVENTLOOP_UTILIZATION, FILE, FUNCTION, GC_DURATION, GC_TYPE, HEAP_LIMIT,
            HEAP_USED, ITERATION_AGE, ITERATION_DURATION, LATE_HANDLERS, LOGGING_CPU_TIME, LOOP_STATE,
            MEMORY_LIMIT, MODULE_COMPILATION_TIME, MODULE_COMPILATIONS, MODULE_TYPE, Metric, OVERFLOW,
            POOL_QUEUE, POOL_TASKS, POOL_TYPE, POOL_WAIT_TIME, PROCESS_CPU_TIME, PROCESS_MEMORY_USAGE,
            PROCESS_UPTIME, QUOTA_STATE, SIGNAL, SIGNAL_AVAILABLE, SOCKET_BACKLOG, SOCKET_QUEUE,
            SOCKET_RETRIES, STALL_CAUSE, STALL_CULPRIT_TIME, STALL_DURATION, STALL_TIME, STARTUP_DURATION,
            STARTUP_PHASE, STDIO_BLOCKED_TIME, STDIO_IO, STDIO_RETRIES, STDIO_STREAM, STDIO_TYPE,
            STDIO_WRITE_DURATION, THREAD_TYPE, UNHANDLED_REJECTIONS,
        },
    },
    verdict::Mode,
};

/// Attributes of one point; values are the catalogue's closed sets, or names that the totals bound.
pub(crate) type Attributes<'a> = Vec<(Attribute, &'a str)>;

/// A value of a counter, up-down counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// Bytes, retries: what is counted in whole numbers.
    Whole(u64),
    Real(f64),
}

/// Since when the points of a family count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Since the counters were last cleared.
    Counters,
    /// Likewise, of CPU time, which counts from the start of the process.
    Cpu,
    /// Likewise, of the histograms.
    Durations,
    /// Never cleared: sizes and states.
    Observed,
}

#[derive(Clone, Debug)]
pub(crate) enum Points<'a> {
    Numbers(Vec<(Attributes<'a>, Number)>),
    Histograms(Vec<(Attributes<'a>, &'a Histogram)>),
}

/// A metric with its points, of which there is at least one.
#[derive(Clone, Debug)]
pub(crate) struct Family<'a> {
    pub(crate) metric: &'static Metric,
    pub(crate) since: Since,
    pub(crate) points: Points<'a>,
}

impl<'a> Family<'a> {
    /// `None` without points.
    pub(crate) fn numbers(
        metric: &'static Metric,
        since: Since,
        points: impl IntoIterator<Item = (Attributes<'a>, Number)>,
    ) -> Option<Self> {
        let points: Vec<_> = points.into_iter().collect();
        (!points.is_empty()).then_some(Self { metric, since, points: Points::Numbers(points) })
    }
}

/// A counter, or a gauge of the same interval.
fn counters<'a>(
    metric: &'static Metric,
    points: impl IntoIterator<Item = (Attributes<'a>, Number)>,
) -> Option<Family<'a>> {
    Family::numbers(metric, Since::Counters, points)
}

fn sizes<'a>(
    metric: &'static Metric,
    points: impl IntoIterator<Item = (Attributes<'a>, Number)>,
) -> Option<Family<'a>> {
    Family::numbers(metric, Since::Observed, points)
}

fn histograms<'a>(
    metric: &'static Metric,
    points: impl IntoIterator<Item = (Attributes<'a>, &'a Histogram)>,
) -> Option<Family<'a>> {
    let points: Vec<_> = points.into_iter().collect();
    let since = Since::Durations;
    (!points.is_empty()).then_some(Family { metric, since, points: Points::Histograms(points) })
}

fn seconds(duration_ns: u64) -> Number {
    Number::Real(duration_ns as f64 / 1e9)
}

fn whole(value: u64) -> Number {
    Number::Whole(value)
}

fn ratio(value: f64) -> Number {
    Number::Real(value)
}

fn since(earlier: SystemTime, later: SystemTime) -> Number {
    Number::Real(later.duration_since(earlier).unwrap_or(Duration::ZERO).as_secs_f64())
}

/// Everything there is to tell of a process, in the order of the catalogue. Without `semconv` only what nobody else can tell: not the
/// names of the conventions.
pub(super) fn families(process: &ProcessState, semconv: bool) -> Vec<Family<'_>> {
    let mut found = Vec::new();
    event_loop(process, &mut found);
    gc(process, &mut found);
    happenings(process, &mut found);
    queues(process, &mut found);
    microtasks(process, &mut found);
    stdio(process, &mut found);
    whole_process(process, &mut found);
    startup(process, &mut found);
    found.retain(|family| semconv || !family.metric.is_of_the_conventions());
    found
}

fn event_loop<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    if !process.has(Signal::EventLoop) {
        return;
    }
    let count = &process.counters;
    let kinds: Vec<_> = process.thread_kinds().collect();
    let of = |kind: ThreadKind| vec![(THREAD_TYPE, kind.name())];
    let [active, idle] = [LOOP_STATE.values[0], LOOP_STATE.values[1]];
    let time = kinds.iter().flat_map(|(slot, kind)| {
        [(active, count.busy_ns[*slot]), (idle, count.idle_ns[*slot])]
            .map(|(state, ns)| (vec![(LOOP_STATE, state), (THREAD_TYPE, kind.name())], seconds(ns)))
    });
    let utilization =
        kinds.iter().filter_map(|(_, kind)| Some((of(*kind), ratio(process.utilization(*kind)?))));
    let age =
        kinds.iter().filter_map(|(slot, kind)| Some((of(*kind), seconds(process.current_turn_ns[*slot]?))));
    let turns = kinds.iter().map(|(slot, kind)| (of(*kind), &process.durations.turns[*slot]));
    let stalls = kinds.iter().flat_map(|(slot, kind)| {
        let by_cause = process.durations.stalls[*slot].by_cause();
        by_cause.map(|(cause, durations)| {
            (vec![(STALL_CAUSE, cause.name()), (THREAD_TYPE, kind.name())], durations)
        })
    });
    let knows_causes = process.has(Signal::Sched);
    let stalled = kinds.iter().flat_map(|(slot, kind)| {
        let causes = count.stalls[*slot];
        let causes = if knows_causes { causes } else { causes.all_unknown() };
        let point = |(cause, ns): (Cause, u64)| {
            (vec![(STALL_CAUSE, cause.name()), (THREAD_TYPE, kind.name())], seconds(ns))
        };
        // Every cause from the start on: a series that appears with its first stall has no rate for that one.
        let known = causes.iter().filter(|(cause, _)| knows_causes || *cause == Cause::Unknown);
        known.map(point).collect::<Vec<_>>()
    });
    let culprits = count.culprits.iter().map(|(blamed, ns)| (who(blamed), seconds(ns)));
    let found = [
        counters(&EVENTLOOP_TIME, time),
        counters(&EVENTLOOP_UTILIZATION, utilization),
        histograms(&ITERATION_DURATION, turns),
        counters(&ITERATION_AGE, age),
        histograms(&STALL_DURATION, stalls),
        counters(&STALL_TIME, stalled),
        counters(&STALL_CULPRIT_TIME, culprits),
    ];
    families.extend(found.into_iter().flatten());
}

/// Who is to blame; `None`: those that have no series of their own.
fn who(blamed: Option<&Blamed>) -> Attributes<'_> {
    let Some(Blamed { thread, function, file }) = blamed else { return vec![(OVERFLOW, OVERFLOW.values[0])] };
    let file = file.as_deref().map(|file| (FILE, file));
    [(THREAD_TYPE, thread.name()), (FUNCTION, function)].into_iter().chain(file).collect()
}

fn gc<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    if process.has(Signal::Gc) {
        let points = GC_TYPE.values.iter().zip(&process.durations.gc);
        let points = points.map(|(kind, pauses)| (vec![(GC_TYPE, *kind)], pauses));
        families.extend(histograms(&GC_DURATION, points));
    }
    if process.has(Signal::Heap) {
        let used = process.heap_used_bytes.map(|bytes| (vec![], whole(bytes)));
        families.extend(sizes(&HEAP_USED, used));
    }
    let limit = process.identity.heap_limit_bytes.map(|bytes| (vec![], whole(bytes)));
    families.extend(sizes(&HEAP_LIMIT, limit));
}

fn happenings<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    let (rejections, deopts) = (process.counters.rejections, process.counters.deopts);
    if process.has(Signal::Rejections) {
        let points = [(vec![], whole(rejections.unhandled))];
        families.extend(counters(&UNHANDLED_REJECTIONS, points));
        families.extend(counters(&LATE_HANDLERS, [(vec![], whole(rejections.handled_late))]));
    }
    if process.has(Signal::Deopts) {
        let counts = DEOPT_KIND.values.iter().zip([deopts.eager, deopts.lazy]);
        let points = counts.map(|(kind, count)| (vec![(DEOPT_KIND, *kind)], whole(count)));
        families.extend(counters(&DEOPTIMIZATIONS, points));
    }
    if process.has(Signal::AsyncContext) {
        let AsyncContext { kept, lost, none } = process.counters.async_context;
        let counts = CONTEXT_STATE.values.iter().zip([kept, lost, none]);
        let points = counts.map(|(state, count)| (vec![(CONTEXT_STATE, *state)], whole(count)));
        families.extend(counters(&CONTEXT_ANSWERS, points));
        let seen = [(vec![], seconds(process.counters.answers_seen_ns))];
        families.extend(counters(&ANSWERS_SEEN_TIME, seen));
    }
}

fn startup<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    if let Some(startup) = &process.startup {
        let phases = STARTUP_PHASE.values.iter().zip(startup.phases());
        let reached = phases.filter_map(|(phase, ns)| Some((vec![(STARTUP_PHASE, *phase)], seconds(ns?))));
        families.extend(sizes(&STARTUP_DURATION, reached));
    }
    if process.has(Signal::Compile) {
        let kinds = || MODULE_TYPE.values.iter().zip(process.counters.modules.kinds);
        let counts = kinds().map(|(name, kind)| (vec![(MODULE_TYPE, *name)], whole(kind.modules)));
        let times = kinds().map(|(name, kind)| (vec![(MODULE_TYPE, *name)], seconds(kind.time_ns)));
        families.extend(counters(&MODULE_COMPILATIONS, counts));
        families.extend(counters(&MODULE_COMPILATION_TIME, times));
    }
}

/// What waits for a thread of the pool, and for the readers of sockets.
fn queues<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    if process.has(Signal::ThreadPool) {
        let kinds = || POOL_TYPE.values.iter().zip(process.counters.pool.kinds);
        let tasks = kinds().map(|(name, kind)| (vec![(POOL_TYPE, *name)], whole(kind.tasks)));
        let waits = kinds().map(|(name, kind)| (vec![(POOL_TYPE, *name)], seconds(kind.waited_ns)));
        families.extend(counters(&POOL_TASKS, tasks));
        families.extend(counters(&POOL_WAIT_TIME, waits));
        families.extend(sizes(&POOL_QUEUE, [(vec![], whole(process.pool_waiting))]));
    }
    if process.has(Signal::Sockets) {
        let refused = process.counters.sockets_refused;
        families.extend(counters(&SOCKET_RETRIES, [(vec![], whole(refused))]));
        let waiting = SOCKET_QUEUE.values.iter().zip(process.backlog_bytes);
        let waiting = waiting.filter_map(|(name, bytes)| Some((vec![(SOCKET_QUEUE, *name)], whole(bytes?))));
        families.extend(sizes(&SOCKET_BACKLOG, waiting));
    }
}

fn microtasks<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    // What was seen stays seen, also while the governor keeps the probes out.
    if process.has(Signal::Microtasks) || process.counters.drains_seen_ns > 0 {
        let drains = [(vec![], &process.durations.drains)];
        let seen = [(vec![], seconds(process.counters.drains_seen_ns))];
        families.extend(histograms(&DRAIN_DURATION, drains));
        families.extend(counters(&DRAINS_SEEN_TIME, seen));
    }
}

fn stdio<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    if !process.has(Signal::Stdio) {
        return;
    }
    let of = |(stream, kind): &StdioKey| vec![(STDIO_STREAM, *stream), (STDIO_TYPE, *kind)];
    let written = process.durations.stdio.iter().map(|(key, histogram)| (of(key), histogram));
    let count = &process.counters.stdio;
    let blocked = count.iter().map(|(key, stdio)| (of(key), seconds(stdio.blocked_ns)));
    let retries = count.iter().map(|(key, stdio)| (of(key), whole(stdio.eagain)));
    let bytes = count.iter().map(|(key, stdio)| (of(key), whole(stdio.bytes)));
    let sampled = process.has(Signal::Sample).then(|| (vec![], seconds(process.counters.logging_ns)));
    let found = [
        histograms(&STDIO_WRITE_DURATION, written),
        counters(&STDIO_BLOCKED_TIME, blocked),
        counters(&STDIO_RETRIES, retries),
        counters(&STDIO_IO, bytes),
        counters(&LOGGING_CPU_TIME, sampled),
    ];
    families.extend(found.into_iter().flatten());
}

fn whole_process<'a>(process: &'a ProcessState, families: &mut Vec<Family<'a>>) {
    let available = SIGNAL.values.iter().zip(Signal::ALL);
    let available =
        available.map(|(name, signal)| (vec![(SIGNAL, *name)], whole(u64::from(process.has(signal)))));
    // What cannot be seen is absent, not well; what is found all the same is told: a full heap of which only the end was seen.
    let is_found = |mode: &Mode| process.findings.contains(&mode.id());
    let judged = Mode::ALL
        .into_iter()
        .filter(|mode| is_found(mode) || mode.needs().iter().all(|signal| process.has(*signal)));
    let active = judged.map(|mode| {
        (vec![(catalog::FINDING, mode.id())], whole(u64::from(process.findings.contains(&mode.id()))))
    });
    let cpu = process.counters.cpu.into_iter().flat_map(|cpu| {
        let [user, system] = [CPU_MODE.values[0], CPU_MODE.values[1]];
        [(user, cpu.user_ns), (system, cpu.system_ns)].map(|(mode, ns)| (vec![(CPU_MODE, mode)], seconds(ns)))
    });
    let count = &process.counters;
    let periods = count.cpu_periods.filter(|_| process.has_quota).into_iter().flat_map(|periods| {
        let [throttled, unthrottled] = [QUOTA_STATE.values[0], QUOTA_STATE.values[1]];
        let rest = periods.elapsed.saturating_sub(periods.throttled);
        [(throttled, periods.throttled), (unthrottled, rest)]
            .map(|(state, count)| (vec![(QUOTA_STATE, state)], whole(count)))
    });
    let limit = process.memory_limit_bytes.map(|bytes| (vec![], whole(bytes)));
    let rss = process.rss_bytes.map(|bytes| (vec![], whole(bytes)));
    let found = [
        sizes(&SIGNAL_AVAILABLE, available),
        sizes(&catalog::FINDING_ACTIVE, active),
        Family::numbers(&PROCESS_CPU_TIME, Since::Cpu, cpu),
        counters(&CPU_WAIT_TIME, count.run_delay_ns.map(|ns| (vec![], seconds(ns)))),
        counters(&CPU_THROTTLED_TIME, count.throttled_ns.map(|ns| (vec![], seconds(ns)))),
        counters(&CPU_QUOTA_PERIODS, periods),
        sizes(&PROCESS_MEMORY_USAGE, rss),
        sizes(&MEMORY_LIMIT, limit),
        sizes(&PROCESS_UPTIME, [(vec![], since(process.started, process.time))]),
    ];
    families.extend(found.into_iter().flatten());
}

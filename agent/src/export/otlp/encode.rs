//! The state of the processes as OTLP requests: one `ResourceMetrics` per process.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{Metric as OtlpMetric, ResourceMetrics, ScopeMetrics},
};
use prost::Message as _;

use super::{
    config::{HistogramAggregation, Temporality},
    points::{Span, histograms, numbers, ratio, seconds, since, whole},
    resource::{HostAttributes, resource},
    state::{ProcessState, State, StdioKey},
};
use crate::{
    model::{
        AsyncContext, Cause, ProcessId, Signal, ThreadKind,
        catalog::{
            self, CONTEXT_ANSWERS, CONTEXT_STATE, CPU_MODE, DEOPT_KIND, DEOPTIMIZATIONS, DRAIN_DURATION,
            DRAINS_SEEN_TIME, EVENTLOOP_TIME, EVENTLOOP_UTILIZATION, GC_DURATION, GC_TYPE, HEAP_LIMIT,
            HEAP_USED, ITERATION_AGE, ITERATION_DURATION, LATE_HANDLERS, LOGGING_CPU_TIME, LOOP_STATE,
            MEMORY_LIMIT, MODULE_COMPILATION_TIME, MODULE_COMPILATIONS, MODULE_TYPE, POOL_QUEUE, POOL_TASKS,
            POOL_TYPE, POOL_WAIT_TIME, PROCESS_CPU_TIME, PROCESS_MEMORY_USAGE, PROCESS_UPTIME, SIGNAL,
            SIGNAL_AVAILABLE, SOCKET_BACKLOG, SOCKET_RETRIES, STALL_CAUSE, STALL_DURATION, STALL_TIME,
            STARTUP_DURATION, STARTUP_PHASE, STDIO_BLOCKED_TIME, STDIO_IO, STDIO_RETRIES, STDIO_STREAM,
            STDIO_TYPE, STDIO_WRITE_DURATION, THREAD_TYPE, UNHANDLED_REJECTIONS,
        },
    },
    verdict::Mode,
};

/// gRPC servers refuse larger messages unless set otherwise (`grpc.MaxRecvMsgSize`, 4 MiB).
pub(super) const LARGEST_REQUEST: usize = 4 << 20;

/// A request and the processes in it.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) request: ExportMetricsServiceRequest,
    pub(super) processes: Vec<ProcessId>,
}

impl Batch {
    fn new() -> Self {
        Self { request: ExportMetricsServiceRequest::default(), processes: Vec::new() }
    }
}

/// How the user wants it.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    pub(super) temporality: Temporality,
    pub(super) histograms: HistogramAggregation,
    pub(super) host: HostAttributes,
}

impl Encoder {
    /// Everything in `state`, in requests of at most `limit` bytes, a process never divided.
    pub(super) fn batches(&self, state: &State, limit: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut batch = Batch::new();
        let mut size = 0;
        for process in state.processes() {
            let resource_metrics = self.process(process);
            let encoded = resource_metrics.encoded_len();
            // Tag and length before the message.
            let framed = encoded + 1 + prost::length_delimiter_len(encoded);
            if size + framed > limit && !batch.processes.is_empty() {
                batches.push(std::mem::replace(&mut batch, Batch::new()));
                size = 0;
            }
            size += framed;
            batch.processes.push(process.id);
            batch.request.resource_metrics.push(resource_metrics);
        }
        if !batch.processes.is_empty() {
            batches.push(batch);
        }
        batches
    }

    fn process(&self, process: &ProcessState) -> ResourceMetrics {
        let mut metrics = Vec::new();
        self.event_loop(process, &mut metrics);
        self.gc(process, &mut metrics);
        self.happenings(process, &mut metrics);
        self.queues(process, &mut metrics);
        self.microtasks(process, &mut metrics);
        self.stdio(process, &mut metrics);
        self.whole_process(process, &mut metrics);
        self.startup(process, &mut metrics);
        let scope = InstrumentationScope {
            name: catalog::SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ResourceMetrics {
            resource: Some(resource(process.id, &process.identity, process.started, &self.host)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics,
                schema_url: catalog::SCHEMA_URL.to_owned(),
            }],
            schema_url: catalog::SCHEMA_URL.to_owned(),
        }
    }

    fn counters(&self, process: &ProcessState) -> Span {
        let delta = self.temporality == Temporality::Delta;
        Span { start: process.counters_since, end: process.time, delta }
    }

    /// The temporality preference leaves up-down counters cumulative.
    fn sizes(process: &ProcessState) -> Span {
        Span { start: process.observed_since, end: process.time, delta: false }
    }

    fn durations(&self, process: &ProcessState) -> Span {
        let delta = self.temporality != Temporality::Cumulative;
        Span { start: process.durations_since, end: process.time, delta }
    }

    fn event_loop(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        if !process.has(Signal::EventLoop) {
            return;
        }
        let (counters, durations) = (self.counters(process), self.durations(process));
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
        let age = kinds
            .iter()
            .filter_map(|(slot, kind)| Some((of(*kind), seconds(process.current_turn_ns[*slot]?))));
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
        let found = [
            numbers(&EVENTLOOP_TIME, counters, time),
            numbers(&EVENTLOOP_UTILIZATION, counters, utilization),
            histograms(&ITERATION_DURATION, self.histograms, durations, turns),
            numbers(&ITERATION_AGE, counters, age),
            histograms(&STALL_DURATION, self.histograms, durations, stalls),
            numbers(&STALL_TIME, counters, stalled),
        ];
        metrics.extend(found.into_iter().flatten());
    }

    fn gc(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        if process.has(Signal::Gc) {
            let points = GC_TYPE.values.iter().zip(&process.durations.gc);
            let points = points.map(|(kind, pauses)| (vec![(GC_TYPE, *kind)], pauses));
            metrics.extend(histograms(&GC_DURATION, self.histograms, self.durations(process), points));
        }
        if process.has(Signal::Heap) {
            let used = process.heap_used_bytes.map(|bytes| (vec![], whole(bytes)));
            metrics.extend(numbers(&HEAP_USED, Self::sizes(process), used));
        }
        let limit = process.identity.heap_limit_bytes.map(|bytes| (vec![], whole(bytes)));
        metrics.extend(numbers(&HEAP_LIMIT, Self::sizes(process), limit));
    }

    fn happenings(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        let span = self.counters(process);
        let (rejections, deopts) = (process.counters.rejections, process.counters.deopts);
        if process.has(Signal::Rejections) {
            let points = [(vec![], whole(rejections.unhandled))];
            metrics.extend(numbers(&UNHANDLED_REJECTIONS, span, points));
            metrics.extend(numbers(&LATE_HANDLERS, span, [(vec![], whole(rejections.handled_late))]));
        }
        if process.has(Signal::Deopts) {
            let counts = DEOPT_KIND.values.iter().zip([deopts.eager, deopts.lazy]);
            let points = counts.map(|(kind, count)| (vec![(DEOPT_KIND, *kind)], whole(count)));
            metrics.extend(numbers(&DEOPTIMIZATIONS, span, points));
        }
        if process.has(Signal::AsyncContext) {
            let AsyncContext { kept, lost, none } = process.counters.async_context;
            let counts = CONTEXT_STATE.values.iter().zip([kept, lost, none]);
            let points = counts.map(|(state, count)| (vec![(CONTEXT_STATE, *state)], whole(count)));
            metrics.extend(numbers(&CONTEXT_ANSWERS, span, points));
        }
    }

    fn startup(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        if let Some(startup) = &process.startup {
            let phases = STARTUP_PHASE.values.iter().zip(startup.phases());
            let reached =
                phases.filter_map(|(phase, ns)| Some((vec![(STARTUP_PHASE, *phase)], seconds(ns?))));
            metrics.extend(numbers(&STARTUP_DURATION, Self::sizes(process), reached));
        }
        if process.has(Signal::Compile) {
            let span = self.counters(process);
            let kinds = || MODULE_TYPE.values.iter().zip(process.counters.modules.kinds);
            let counts = kinds().map(|(name, kind)| (vec![(MODULE_TYPE, *name)], whole(kind.modules)));
            let times = kinds().map(|(name, kind)| (vec![(MODULE_TYPE, *name)], seconds(kind.time_ns)));
            metrics.extend(numbers(&MODULE_COMPILATIONS, span, counts));
            metrics.extend(numbers(&MODULE_COMPILATION_TIME, span, times));
        }
    }

    /// What waits for a thread of the pool, and for the readers of sockets.
    fn queues(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        let (counters, sizes) = (self.counters(process), Self::sizes(process));
        if process.has(Signal::ThreadPool) {
            let kinds = || POOL_TYPE.values.iter().zip(process.counters.pool.kinds);
            let tasks = kinds().map(|(name, kind)| (vec![(POOL_TYPE, *name)], whole(kind.tasks)));
            let waits = kinds().map(|(name, kind)| (vec![(POOL_TYPE, *name)], seconds(kind.waited_ns)));
            metrics.extend(numbers(&POOL_TASKS, counters, tasks));
            metrics.extend(numbers(&POOL_WAIT_TIME, counters, waits));
            metrics.extend(numbers(&POOL_QUEUE, sizes, [(vec![], whole(process.pool_waiting))]));
        }
        if process.has(Signal::Sockets) {
            let refused = process.counters.sockets_refused;
            metrics.extend(numbers(&SOCKET_RETRIES, counters, [(vec![], whole(refused))]));
            metrics.extend(numbers(&SOCKET_BACKLOG, sizes, [(vec![], whole(process.backlog_bytes))]));
        }
    }

    fn microtasks(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        // What was seen stays seen, also while the governor keeps the probes out.
        if process.has(Signal::Microtasks) || process.counters.drains_seen_ns > 0 {
            let drains = [(vec![], &process.durations.drains)];
            let seen = [(vec![], seconds(process.counters.drains_seen_ns))];
            metrics.extend(histograms(&DRAIN_DURATION, self.histograms, self.durations(process), drains));
            metrics.extend(numbers(&DRAINS_SEEN_TIME, self.counters(process), seen));
        }
    }

    fn stdio(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        if !process.has(Signal::Stdio) {
            return;
        }
        let of = |(stream, kind): &StdioKey| vec![(STDIO_STREAM, *stream), (STDIO_TYPE, *kind)];
        let counters = self.counters(process);
        let written = process.durations.stdio.iter().map(|(key, histogram)| (of(key), histogram));
        let count = &process.counters.stdio;
        let blocked = count.iter().map(|(key, stdio)| (of(key), seconds(stdio.blocked_ns)));
        let retries = count.iter().map(|(key, stdio)| (of(key), whole(stdio.eagain)));
        let bytes = count.iter().map(|(key, stdio)| (of(key), whole(stdio.bytes)));
        let sampled = process.has(Signal::Sample).then(|| (vec![], seconds(process.counters.logging_ns)));
        let found = [
            histograms(&STDIO_WRITE_DURATION, self.histograms, self.durations(process), written),
            numbers(&STDIO_BLOCKED_TIME, counters, blocked),
            numbers(&STDIO_RETRIES, counters, retries),
            numbers(&STDIO_IO, counters, bytes),
            numbers(&LOGGING_CPU_TIME, counters, sampled),
        ];
        metrics.extend(found.into_iter().flatten());
    }

    fn whole_process(&self, process: &ProcessState, metrics: &mut Vec<OtlpMetric>) {
        let sizes = Self::sizes(process);
        let available = SIGNAL.values.iter().zip(Signal::ALL);
        let available =
            available.map(|(name, signal)| (vec![(SIGNAL, *name)], whole(u64::from(process.has(signal)))));
        // What cannot be seen is absent, not well.
        let judged =
            Mode::ALL.into_iter().filter(|mode| mode.needs().iter().all(|signal| process.has(*signal)));
        let active = judged.map(|mode| {
            (vec![(catalog::FINDING, mode.id())], whole(u64::from(process.findings.contains(&mode.id()))))
        });
        let cpu = process.counters.cpu.into_iter().flat_map(|cpu| {
            let [user, system] = [CPU_MODE.values[0], CPU_MODE.values[1]];
            [(user, cpu.user_ns), (system, cpu.system_ns)]
                .map(|(mode, ns)| (vec![(CPU_MODE, mode)], seconds(ns)))
        });
        let cpu_span = Span { start: process.cpu_since, ..self.counters(process) };
        let limit = process.memory_limit_bytes.map(|bytes| (vec![], whole(bytes)));
        let rss = process.rss_bytes.map(|bytes| (vec![], whole(bytes)));
        let found = [
            numbers(&SIGNAL_AVAILABLE, sizes, available),
            numbers(&catalog::FINDING_ACTIVE, sizes, active),
            numbers(&PROCESS_CPU_TIME, cpu_span, cpu),
            numbers(&PROCESS_MEMORY_USAGE, sizes, rss),
            numbers(&MEMORY_LIMIT, sizes, limit),
            numbers(&PROCESS_UPTIME, sizes, [(vec![], since(process.started, process.time))]),
        ];
        metrics.extend(found.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests;

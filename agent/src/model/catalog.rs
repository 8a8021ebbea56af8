//! Every exported metric, once. `docs/metrics.md` is generated from this table, and the exporter takes names,
//! units, attributes and bounds from it.
//!
//! Names of the `OpenTelemetry` semantic conventions (1.44.0) are used only where the meaning is theirs; what
//! is new lives under `nodeprobe.`, in the same shape, so that an upstream proposal is a change of prefix.

mod bounds;
mod markdown;

use nodeprobe_ebpf::{
    DropReason,
    histogram::{DRAIN_BOUNDS_NS, GC_BOUNDS_NS, STDIO_BOUNDS_NS, TURN_BOUNDS_NS},
};

pub use bounds::most_series;
pub use markdown::markdown;

use super::{Cause, GcKind, Signal, StreamKind, ThreadKind};

/// The schema the convention names are taken from.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
/// Name of the instrumentation scope of every metric.
pub const SCOPE: &str = "nodeprobe";

/// The `OpenTelemetry` instrument a metric behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// Only grows; exported as a monotonic sum.
    Counter,
    /// A size or a state that may be summed over its attributes; a sum that is not monotonic.
    UpDownCounter,
    /// A value of which no sum makes sense.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// Maturity of the name, in the words of the semantic conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// May change with a minor version.
    Development,
    /// Frozen unless a mistake is found.
    ReleaseCandidate,
}

/// An attribute with its closed set of values. What is read from a process becomes a value only of [`FUNCTION`] and [`FILE`],
/// and [`CULPRITS_MAX`] bounds how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub key: &'static str,
    /// Empty: what the process calls it.
    pub values: &'static [&'static str],
}

/// Whose telemetry a metric is: what its Resource describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An observed Node.js process.
    Process,
    /// The nodeprobe agent itself.
    Agent,
    /// Either; the Resource tells which.
    Both,
}

/// One exported metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub instrument: Instrument,
    /// UCUM, as the conventions ask: `s`, `By`, `1`, or an annotation such as `{retry}`.
    pub unit: &'static str,
    pub attributes: &'static [Attribute],
    pub description: &'static str,
    pub stability: Stability,
    pub subject: Subject,
    /// Upper bounds in nanoseconds, inclusive; empty unless a histogram.
    pub bounds_ns: &'static [u64],
}

/// Active or idle: `nodejs.eventloop.time`.
pub const LOOP_STATE: Attribute = Attribute { key: "nodejs.eventloop.state", values: &["active", "idle"] };
/// Main thread or `worker_threads` worker.
pub const THREAD_TYPE: Attribute =
    Attribute { key: "nodeprobe.thread.type", values: &[ThreadKind::Main.name(), ThreadKind::Worker.name()] };
/// The convention also has `incremental` and `weakcb`; those are no pauses of their own here.
pub const GC_TYPE: Attribute =
    Attribute { key: "v8js.gc.type", values: &[GcKind::Minor.name(), GcKind::Major.name()] };
/// Which of the two standard streams.
pub const STDIO_STREAM: Attribute =
    Attribute { key: "nodeprobe.stdio.stream", values: &["stdout", "stderr"] };
/// What the stream was connected to when the writes were read out.
pub const STDIO_TYPE: Attribute = Attribute {
    key: "nodeprobe.stdio.type",
    values: &[
        StreamKind::File.name(),
        StreamKind::Pipe.name(),
        StreamKind::Tty.name(),
        StreamKind::Socket.name(),
        STDIO_TYPE_UNKNOWN,
    ],
};
/// The stream was closed before its kind could be read.
pub const STDIO_TYPE_UNKNOWN: &str = "unknown";
/// How the wall time of stalls divides.
pub const STALL_CAUSE: Attribute = Attribute {
    key: "nodeprobe.stall.cause",
    values: &[
        Cause::JavaScript.name(),
        Cause::Compile.name(),
        Cause::Native.name(),
        Cause::OnCpu.name(),
        Cause::Gc.name(),
        Cause::StdioWrite.name(),
        Cause::SyncIo.name(),
        Cause::ChildProcess.name(),
        Cause::Lock.name(),
        Cause::CpuWait.name(),
        Cause::Unknown.name(),
    ],
};
/// Name of a function, as in log records.
pub const FUNCTION: Attribute = Attribute { key: "code.function.name", values: &[] };
/// Its script; by source maps the original source. Without the line: that is the one being executed, another one each time.
pub const FILE: Attribute = Attribute { key: "code.file.path", values: &[] };
/// What a series has in place of all other attributes if it stands for those beyond the limit: "Cardinality limits" of the
/// specification of `OpenTelemetry`'s SDK for metrics. A boolean.
pub const OVERFLOW: Attribute = Attribute { key: "otel.metric.overflow", values: &["true"] };
/// Culprits that have a series of their own, in one process; those that come later share one.
pub const CULPRITS_MAX: usize = 20;
/// Whether optimised code met what it was not compiled for, or relied on something that changed elsewhere.
pub const DEOPT_KIND: Attribute = Attribute { key: "nodeprobe.jit.deopt.kind", values: &["eager", "lazy"] };
/// What became of the async context of a request at its answer.
pub const CONTEXT_STATE: Attribute =
    Attribute { key: "nodeprobe.async_context.state", values: &["kept", "lost", "none"] };
/// Where data waits for a full socket.
pub const SOCKET_QUEUE: Attribute = Attribute { key: "nodeprobe.socket.queue", values: &["kernel", "libuv"] };
/// Kinds of work in libuv's pool of threads.
pub const POOL_TYPE: Attribute =
    Attribute { key: "nodeprobe.thread_pool.task.type", values: &super::queue::POOL_NAMES };
/// What a process has reached while it started.
pub const STARTUP_PHASE: Attribute =
    Attribute { key: "nodeprobe.startup.phase", values: &super::startup::PHASES };
/// How a module is written.
pub const MODULE_TYPE: Attribute =
    Attribute { key: "nodeprobe.module.type", values: &super::startup::MODULE_NAMES };
/// A failure mode; `docs/failure-modes.md` explains each.
pub const FINDING: Attribute = Attribute {
    key: "nodeprobe.finding.id",
    values: &[
        "unhandled-rejections",
        "heap-growth",
        "gc-pressure",
        "cpu-starved",
        "sync-child-process",
        "sync-io",
        "stdout-backpressure",
        "microtask-congestion",
        "threadpool-saturation",
        "stream-overflow",
        "shape-churn",
        "event-loop-starvation",
        "async-context-loss",
        "slow-startup",
    ],
};
/// User or system mode.
pub const CPU_MODE: Attribute = Attribute { key: "cpu.mode", values: &["user", "system"] };
/// Whether a control group used up its quota in a period of it.
pub const QUOTA_STATE: Attribute =
    Attribute { key: "nodeprobe.cpu.quota.state", values: &["throttled", "unthrottled"] };
/// A source of data that may be missing for a process.
pub const SIGNAL: Attribute = Attribute {
    key: "nodeprobe.signal",
    values: &[
        Signal::EventLoop.name(),
        Signal::Stdio.name(),
        Signal::Gc.name(),
        Signal::Heap.name(),
        Signal::Lifecycle.name(),
        Signal::Sched.name(),
        Signal::Sample.name(),
        Signal::Rejections.name(),
        Signal::Deopts.name(),
        Signal::ThreadPool.name(),
        Signal::Sockets.name(),
        Signal::Microtasks.name(),
        Signal::AsyncContext.name(),
        Signal::Compile.name(),
    ],
};
/// Why something that happened was not recorded.
pub const LOST_REASON: Attribute = Attribute {
    key: "nodeprobe.lost.reason",
    values: &[
        DropReason::RingFull.name(),
        DropReason::ThreadTableFull.name(),
        DropReason::StdioTableFull.name(),
        DropReason::GcUnmatched.name(),
        DropReason::ThreadReused.name(),
        DropReason::SampleRingFull.name(),
        DropReason::PoolTableFull.name(),
        DropReason::SocketTableFull.name(),
        EXIT_NOT_EXPORTED,
        LOST_PROCESS_MISSED,
        LOST_PROCESS_UNIDENTIFIED,
    ],
};
/// A process began before the probes were in its files, and ended before anything of it was measured.
pub const LOST_PROCESS_MISSED: &str = "process_missed";
/// A loop thread was measured, but its process ended before it could be identified.
pub const LOST_PROCESS_UNIDENTIFIED: &str = "process_unidentified";
/// A process ended while no collector could be reached, and too many others did: its last values were given up.
pub const EXIT_NOT_EXPORTED: &str = "exit_not_exported";
/// How an export ended.
pub const EXPORT_OUTCOME: Attribute =
    Attribute { key: "nodeprobe.export.outcome", values: &["success", "partial", "failure"] };

/// What became of the log record of a stall.
pub const STALL_LOG_OUTCOME: Attribute =
    Attribute { key: "nodeprobe.stall_log.outcome", values: &["success", "suppressed", "lost"] };

/// Attributes of the Resource that are labels of every series in Prometheus: the list that Prometheus' guide "Using Prometheus as your OpenTelemetry backend" recommends to promote; Grafana's
/// and this project's dashboards filter by these.
pub const PROMOTED: [&str; 19] = [
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
];

/// What tells agents apart: labels of the agent's own series on its page, too, so that alerts name the node whose agent is in trouble
/// however the metrics came. A process has them on `target_info` only: its pod or its instance tell it apart.
pub const PROMOTED_OF_AGENT: [&str; 2] = ["host.name", "k8s.node.name"];

const fn new(
    name: &'static str,
    instrument: Instrument,
    unit: &'static str,
    attributes: &'static [Attribute],
    description: &'static str,
) -> Metric {
    Metric {
        name,
        instrument,
        unit,
        attributes,
        description,
        stability: Stability::Development,
        subject: Subject::Process,
        bounds_ns: &[],
    }
}

const fn histogram(
    name: &'static str,
    attributes: &'static [Attribute],
    bounds_ns: &'static [u64],
    description: &'static str,
) -> Metric {
    Metric { bounds_ns, ..new(name, Instrument::Histogram, "s", attributes, description) }
}

const fn process(metric: Metric) -> Metric {
    Metric { stability: Stability::ReleaseCandidate, ..metric }
}

const fn agent(metric: Metric) -> Metric {
    Metric { subject: Subject::Agent, ..metric }
}

pub const EVENTLOOP_TIME: Metric = new(
    "nodejs.eventloop.time",
    Instrument::Counter,
    "s",
    &[LOOP_STATE, THREAD_TYPE],
    "Time the event loop ran callbacks (active) or waited for events (idle).",
);
pub const EVENTLOOP_UTILIZATION: Metric = new(
    "nodejs.eventloop.utilization",
    Instrument::Gauge,
    "1",
    &[THREAD_TYPE],
    "Share of the time since the previous export in which the event loop was active; over several worker \
     threads the mean weighted by time.",
);
pub const ITERATION_DURATION: Metric = histogram(
    "nodeprobe.eventloop.iteration.duration",
    &[THREAD_TYPE],
    &TURN_BOUNDS_NS,
    "Duration of one turn of the event loop, from the end of a wait for events to the begin of the next.",
);
pub const ITERATION_AGE: Metric = new(
    "nodeprobe.eventloop.iteration.age",
    Instrument::Gauge,
    "s",
    &[THREAD_TYPE],
    "Age of the turn under way, 0 while the event loop waits; over several worker threads the greatest. Shows \
     a stall that has not ended.",
);
pub const STALL_DURATION: Metric = histogram(
    "nodeprobe.eventloop.stall.duration",
    &[THREAD_TYPE, STALL_CAUSE],
    &TURN_BOUNDS_NS,
    "Duration of the turns that reached the stall threshold (50 ms unless set otherwise), each under the cause that \
     took the greatest part of it; unknown if its event was lost.",
);
pub const STALL_TIME: Metric = new(
    "nodeprobe.eventloop.stall.time",
    Instrument::Counter,
    "s",
    &[THREAD_TYPE, STALL_CAUSE],
    "Time spent in turns that reached the stall threshold, by what it was spent with.",
);
pub const STALL_CULPRIT_TIME: Metric = new(
    "nodeprobe.eventloop.stall.culprit.time",
    Instrument::Counter,
    "s",
    &[THREAD_TYPE, FUNCTION, FILE, OVERFLOW],
    "Time spent in turns that reached the stall threshold, each as a whole under the function of the application or its packages \
     that is to blame for it. Only turns of which that is known: the sum is at most that of `nodeprobe.eventloop.stall.time`. \
     Functions of the same name in one file are one. Absent until there is a culprit; those beyond the first 20 of a process are \
     told together, with `otel.metric.overflow` as the only attribute.",
);
pub const GC_DURATION: Metric = histogram(
    "v8js.gc.duration",
    &[GC_TYPE],
    &GC_BOUNDS_NS,
    "Duration of the pauses for garbage collection, over all threads of the process.",
);
pub const HEAP_USED: Metric = new(
    "nodeprobe.heap.used",
    Instrument::UpDownCounter,
    "By",
    &[],
    "Bytes used in the V8 heaps of the process when a garbage collection last told; v8js.memory.heap.used is \
     per heap space and cannot be had from outside.",
);
pub const HEAP_LIMIT: Metric = new(
    "nodeprobe.heap.limit",
    Instrument::UpDownCounter,
    "By",
    &[],
    "Bytes that the old generation of a V8 heap of the process may grow to, as its flags and the memory of machine and \
     container decide; absent where its title has overwritten its flags.",
);
pub const UNHANDLED_REJECTIONS: Metric = new(
    "nodeprobe.promise.unhandled_rejections",
    Instrument::Counter,
    "{rejection}",
    &[],
    "Promises that were rejected and had no handler when their callback and its microtasks were done: Node emits `unhandledRejection`.",
);
pub const LATE_HANDLERS: Metric = new(
    "nodeprobe.promise.late_handlers",
    Instrument::Counter,
    "{handler}",
    &[],
    "Handlers that were added to a promise after it was counted as unhandled: Node emits `rejectionHandled`.",
);
pub const DEOPTIMIZATIONS: Metric = new(
    "nodeprobe.jit.deoptimizations",
    Instrument::Counter,
    "{deoptimization}",
    &[DEOPT_KIND],
    "Times that V8 left optimised code of a function, because it met what it was not compiled for or something it relied \
     on had changed.",
);
pub const CONTEXT_ANSWERS: Metric = new(
    "nodeprobe.async_context.answers",
    Instrument::Counter,
    "{answer}",
    &[CONTEXT_STATE],
    "Answers to HTTP requests by later callbacks than the one that read the request: by one that has an async context (kept), by \
     one that has none of it although the request had one (lost), or of whose request none was seen (none). Followed for some of \
     the time only, as `--max-overhead` allows; `nodeprobe.async_context.observed.time` tells how much.",
);
pub const ANSWERS_SEEN_TIME: Metric = new(
    "nodeprobe.async_context.observed.time",
    Instrument::Counter,
    "s",
    &[],
    "For how long answers to HTTP requests were followed while the process was observed. The rate of \
     `nodeprobe.async_context.answers` divided by the rate of this is what it would be if they were followed all the time.",
);
pub const POOL_TASKS: Metric = new(
    "nodeprobe.thread_pool.tasks",
    Instrument::Counter,
    "{task}",
    &[POOL_TYPE],
    "Work that event loops handed to libuv's pool of threads and that a thread of it has begun.",
);
pub const POOL_WAIT_TIME: Metric = new(
    "nodeprobe.thread_pool.wait.time",
    Instrument::Counter,
    "s",
    &[POOL_TYPE],
    "Time that work waited for a thread of libuv's pool, summed over what was begun. Its rate is the mean length of the queue.",
);
pub const POOL_QUEUE: Metric = new(
    "nodeprobe.thread_pool.queue.length",
    Instrument::Gauge,
    "{task}",
    &[],
    "Work that waits for a thread of libuv's pool.",
);
pub const SOCKET_RETRIES: Metric = new(
    "nodeprobe.socket.write.retries",
    Instrument::Counter,
    "{retry}",
    &[],
    "Writes to sockets and pipes other than stdout and stderr that were refused with EAGAIN: the reader is slower than the process.",
);
pub const SOCKET_BACKLOG: Metric = new(
    "nodeprobe.socket.backlog.size",
    Instrument::UpDownCounter,
    "By",
    &[SOCKET_QUEUE],
    "Bytes that wait for TCP sockets that have refused a write since they were last empty, in the kernel and in libuv's queues; \
     what JavaScript keeps until those are empty comes on top of it.",
);
pub const DRAIN_DURATION: Metric = histogram(
    "nodeprobe.microtasks.drain.duration",
    &[],
    &DRAIN_BOUNDS_NS,
    "Drains of the queue of microtasks (promise continuations), in which the event loop does nothing else. Looked at for some of \
     the time only, as `--max-overhead` allows; `nodeprobe.microtasks.observed.time` tells how much.",
);
pub const DRAINS_SEEN_TIME: Metric = new(
    "nodeprobe.microtasks.observed.time",
    Instrument::Counter,
    "s",
    &[],
    "For how long drains of the microtask queue were looked at. The rate of `nodeprobe.microtasks.drain.duration` divided by the \
     rate of this is what it would be if they were looked at all the time.",
);
pub const STDIO_WRITE_DURATION: Metric = histogram(
    "nodeprobe.stdio.write.duration",
    &[STDIO_STREAM, STDIO_TYPE],
    &STDIO_BOUNDS_NS,
    "Calls of event-loop threads that write to stdout or stderr, by the time from where they fell asleep to their \
     end; 0 for those that the kernel took at once. Before Linux 5.15 by their whole duration.",
);
pub const STDIO_BLOCKED_TIME: Metric = new(
    "nodeprobe.stdio.write.blocked.time",
    Instrument::Counter,
    "s",
    &[STDIO_STREAM, STDIO_TYPE],
    "Time event-loop threads stood still in writes of at least 1 ms to stdout or stderr.",
);
pub const STDIO_RETRIES: Metric = new(
    "nodeprobe.stdio.write.retries",
    Instrument::Counter,
    "{retry}",
    &[STDIO_STREAM, STDIO_TYPE],
    "Writes refused with EAGAIN: the reader is slower than the process, and data waits in its memory.",
);
pub const STDIO_IO: Metric = new(
    "nodeprobe.stdio.io",
    Instrument::Counter,
    "By",
    &[STDIO_STREAM, STDIO_TYPE],
    "Bytes that event-loop threads wrote to stdout or stderr.",
);
pub const SIGNAL_AVAILABLE: Metric = new(
    "nodeprobe.signal.available",
    Instrument::UpDownCounter,
    "{signal}",
    &[SIGNAL],
    "1 if the signal is observed in this process, 0 if it is not; `nodeprobe ps` tells why. The metrics of a \
     signal that is not observed are absent, not zero.",
);
pub const FINDING_ACTIVE: Metric = new(
    "nodeprobe.finding.active",
    Instrument::UpDownCounter,
    "1",
    &[FINDING],
    "1 while `nodeprobe diagnose` would find this failure mode in the last minute, as a warning or worse and not as the \
     consequence of another one; else 0.",
);
pub const PROCESS_CPU_TIME: Metric = Metric {
    subject: Subject::Both,
    ..process(new("process.cpu.time", Instrument::Counter, "s", &[CPU_MODE], "CPU time of the process."))
};
pub const PROCESS_MEMORY_USAGE: Metric = Metric {
    subject: Subject::Both,
    ..process(new(
        "process.memory.usage",
        Instrument::UpDownCounter,
        "By",
        &[],
        "Physical memory of the process (resident set size).",
    ))
};
pub const PROCESS_UPTIME: Metric =
    process(new("process.uptime", Instrument::Gauge, "s", &[], "Time since the process started."));

pub const STARTUP_DURATION: Metric = new(
    "nodeprobe.startup.duration",
    Instrument::Gauge,
    "s",
    &[STARTUP_PHASE],
    "Time from the begin of the program to its first line of JavaScript, to the end of the first turn of the event loop, to the \
     first listen, and to the end of the last thing that belongs to the start: a module that is compiled or a turn of at least \
     the stall threshold, with nothing of the kind in the 5 s after it. Of processes that started under observation, as far as \
     they have come.",
);
pub const MODULE_COMPILATIONS: Metric = new(
    "nodeprobe.module.compilations",
    Instrument::Counter,
    "{module}",
    &[MODULE_TYPE],
    "Modules that V8 compiled, at the start and later; those of Node itself do not count.",
);
pub const MODULE_COMPILATION_TIME: Metric = new(
    "nodeprobe.module.compilation.time",
    Instrument::Counter,
    "s",
    &[MODULE_TYPE],
    "Time for which event-loop threads compiled modules. Functions that are compiled when they are first called are not in it.",
);

pub const LOGGING_CPU_TIME: Metric = new(
    "nodeprobe.logging.cpu.time",
    Instrument::Counter,
    "s",
    &[],
    "CPU time of the main thread spent formatting and writing log lines, estimated from the samples of its stacks: under Node's \
     console, its inspector and util.inspect, in packages for logging, and for what a function formats for its own fs.writeSync.",
);

pub const CPU_WAIT_TIME: Metric = new(
    "nodeprobe.cpu.wait.time",
    Instrument::Counter,
    "s",
    &[],
    "Time for which the main thread was ready to run and had no processor, as the kernel's scheduler accounts it: behind others, or \
     because the quota of its control group was used up.",
);
pub const CPU_THROTTLED_TIME: Metric = new(
    "nodeprobe.cpu.throttled.time",
    Instrument::Counter,
    "s",
    &[],
    "Time for which the control group of the process (its container) was kept off the processors because its quota was used up, \
     summed over processors; also while the process itself had nothing to do. Absent where the group has no account of it.",
);
pub const CPU_QUOTA_PERIODS: Metric = new(
    "nodeprobe.cpu.quota.periods",
    Instrument::Counter,
    "{period}",
    &[QUOTA_STATE],
    "Periods of the quota of that control group (100 ms unless set otherwise) in which something of it ran, by whether it was \
     throttled. Absent without a quota.",
);

pub const MEMORY_LIMIT: Metric = new(
    "nodeprobe.memory.limit",
    Instrument::UpDownCounter,
    "By",
    &[],
    "Memory that the control group of the process (its container), or the one around it with the least limit, may use before \
     the kernel kills; absent without a limit. The conventions have a name for the limit of Kubernetes containers only.",
);

pub const AGENT_EVENTS_LOST: Metric = agent(new(
    "nodeprobe.agent.events.lost",
    Instrument::Counter,
    "{event}",
    &[LOST_REASON],
    "Things that happened and were not recorded. 0 for every reason means that nothing was missed.",
));
pub const AGENT_PROCESSES: Metric = agent(new(
    "nodeprobe.agent.processes",
    Instrument::UpDownCounter,
    "{process}",
    &[],
    "Node.js processes under observation.",
));
pub const AGENT_PROBES: Metric = agent(new(
    "nodeprobe.agent.probes.attached",
    Instrument::UpDownCounter,
    "{probe}",
    &[],
    "Uprobes attached to files of Node.js, V8 and libuv.",
));
pub const AGENT_EXPORTS: Metric = agent(new(
    "nodeprobe.agent.exports",
    Instrument::Counter,
    "{export}",
    &[EXPORT_OUTCOME],
    "Exports of process telemetry: delivered, delivered with data points rejected by the collector, or failed \
     after all retries.",
));

pub const AGENT_STALL_LOGS: Metric = agent(new(
    "nodeprobe.agent.stall_logs",
    Instrument::Counter,
    "{record}",
    &[STALL_LOG_OUTCOME],
    "Stalls of which a log record was delivered, suppressed because the process had too many, or lost because no \
     collector took it. All 0 unless stall logs are switched on.",
));

/// The whole catalogue, in the order of the documentation.
pub const ALL: [&Metric; 44] = [
    &EVENTLOOP_TIME,
    &EVENTLOOP_UTILIZATION,
    &ITERATION_DURATION,
    &ITERATION_AGE,
    &STALL_DURATION,
    &STALL_TIME,
    &STALL_CULPRIT_TIME,
    &GC_DURATION,
    &HEAP_USED,
    &HEAP_LIMIT,
    &UNHANDLED_REJECTIONS,
    &LATE_HANDLERS,
    &DEOPTIMIZATIONS,
    &CONTEXT_ANSWERS,
    &ANSWERS_SEEN_TIME,
    &POOL_TASKS,
    &POOL_WAIT_TIME,
    &POOL_QUEUE,
    &SOCKET_RETRIES,
    &SOCKET_BACKLOG,
    &DRAIN_DURATION,
    &DRAINS_SEEN_TIME,
    &STDIO_WRITE_DURATION,
    &STDIO_BLOCKED_TIME,
    &STDIO_RETRIES,
    &STDIO_IO,
    &LOGGING_CPU_TIME,
    &SIGNAL_AVAILABLE,
    &FINDING_ACTIVE,
    &PROCESS_CPU_TIME,
    &CPU_WAIT_TIME,
    &CPU_THROTTLED_TIME,
    &CPU_QUOTA_PERIODS,
    &PROCESS_MEMORY_USAGE,
    &MEMORY_LIMIT,
    &PROCESS_UPTIME,
    &STARTUP_DURATION,
    &MODULE_COMPILATIONS,
    &MODULE_COMPILATION_TIME,
    &AGENT_EVENTS_LOST,
    &AGENT_PROCESSES,
    &AGENT_PROBES,
    &AGENT_EXPORTS,
    &AGENT_STALL_LOGS,
];

impl Metric {
    /// Whether the name is one of the semantic conventions, under which the application may export the same thing.
    pub fn is_of_the_conventions(&self) -> bool {
        !self.name.starts_with("nodeprobe.")
    }

    /// The name after the default translation to Prometheus (`UnderscoreEscapingWithSuffixes`); a histogram
    /// gets `_bucket`, `_sum` and `_count` behind it.
    pub fn prometheus_name(&self) -> String {
        let mut name: String =
            self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        match (self.unit, self.instrument) {
            ("s", _) => name.push_str("_seconds"),
            ("By", _) => name.push_str("_bytes"),
            ("1", Instrument::Gauge) => name.push_str("_ratio"),
            _ => {}
        }
        if self.instrument == Instrument::Counter {
            name.push_str("_total");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nodeprobe_ebpf::histogram::EXPLICIT_LEN;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_naming_rules() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let rule = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '_';
            assert!(metric.name.chars().all(rule), "{}", metric.name);
            assert!(!metric.name.contains("..") && !metric.name.ends_with("total"), "{}", metric.name);
            assert!(metric.description.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn descriptions_and_docs_tell_the_limit_of_culprits() {
        assert!(
            STALL_CULPRIT_TIME.description.contains(&format!("beyond the first {CULPRITS_MAX} of a process"))
        );
    }

    #[test]
    fn only_histograms_have_bounds_and_they_fit_the_record() {
        for metric in ALL {
            assert_eq!(metric.bounds_ns.is_empty(), metric.instrument != Instrument::Histogram);
            assert!(metric.bounds_ns.len() < EXPLICIT_LEN, "{}", metric.name);
            assert!(metric.bounds_ns.is_sorted_by(|a, b| a < b), "{}", metric.name);
        }
    }

    #[test]
    fn gc_bounds_keep_every_bound_of_the_convention() {
        // model/v8js/metrics.yaml of the semantic conventions, in seconds.
        for seconds in [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0] {
            let ns = (seconds * 1e9_f64).round() as u64;
            assert!(GC_DURATION.bounds_ns.contains(&ns), "{seconds}");
        }
    }

    #[test]
    fn prometheus_names_are_those_of_the_default_translation() {
        // From the compatibility specification and otlptranslator.
        for (metric, expected) in [
            (EVENTLOOP_TIME, "nodejs_eventloop_time_seconds_total"),
            (EVENTLOOP_UTILIZATION, "nodejs_eventloop_utilization_ratio"),
            (GC_DURATION, "v8js_gc_duration_seconds"),
            (PROCESS_MEMORY_USAGE, "process_memory_usage_bytes"),
            (STDIO_RETRIES, "nodeprobe_stdio_write_retries_total"),
            (STDIO_IO, "nodeprobe_stdio_io_bytes_total"),
            (SIGNAL_AVAILABLE, "nodeprobe_signal_available"),
            (AGENT_EVENTS_LOST, "nodeprobe_agent_events_lost_total"),
        ] {
            assert_eq!(metric.prometheus_name(), expected);
        }
    }

    #[test]
    fn every_signal_and_every_reason_for_loss_is_a_value() {
        assert_eq!(SIGNAL.values, Signal::ALL.map(Signal::name));
        assert_eq!(STALL_CAUSE.values, Cause::ALL.map(Cause::name));
        for reason in DropReason::ALL {
            assert!(LOST_REASON.values.contains(&reason.name()), "{reason:?}");
        }
    }
}

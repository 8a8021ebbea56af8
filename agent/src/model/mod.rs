//! What is known about the observed processes at one moment ([`Snapshot`], cumulative) and what happened
//! between two moments ([`interval::Interval`]). Every face reads these and nothing else.
//!
//! Architecture invariant: no I/O and no clock in here; times are arguments.

pub mod catalog;
pub mod cause;
pub mod cpu;
pub mod happening;
pub mod histogram;
pub mod interval;
pub mod queue;
pub mod stack;
pub mod startup;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

pub use cause::{Cause, Causes};
pub use cpu::{CpuPeriods, HostCpu};
pub use happening::{AsyncContext, Deopts, Notice, NoticeKind, Occasion, OccasionStack, Rejections};
pub use histogram::Histogram;
pub use interval::Interval;
pub use queue::{Backlog, Pool, PoolWork};
pub use stack::{Category, Culprit, Frame, FrameKind, Stack, StackTime, ThreadStacks};
pub use startup::{Modules, Startup};

/// Distinguishes a process from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    pub pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// The signals a process can be observed by. The name is the same in the flag, the file, the docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    EventLoop,
    Stdio,
    Gc,
    Heap,
    Lifecycle,
    Sched,
    Sample,
    Rejections,
    Deopts,
    ThreadPool,
    Sockets,
    Microtasks,
    AsyncContext,
    Compile,
}

impl Signal {
    pub const ALL: [Self; 14] = [
        Self::EventLoop,
        Self::Stdio,
        Self::Gc,
        Self::Heap,
        Self::Lifecycle,
        Self::Sched,
        Self::Sample,
        Self::Rejections,
        Self::Deopts,
        Self::ThreadPool,
        Self::Sockets,
        Self::Microtasks,
        Self::AsyncContext,
        Self::Compile,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::EventLoop => "event_loop",
            Self::Stdio => "stdio",
            Self::Gc => "gc",
            Self::Heap => "heap",
            Self::Lifecycle => "lifecycle",
            Self::Sched => "sched",
            Self::Sample => "sample",
            Self::Rejections => "rejections",
            Self::Deopts => "deopts",
            Self::ThreadPool => "thread_pool",
            Self::Sockets => "sockets",
            Self::Microtasks => "microtasks",
            Self::AsyncContext => "async_context",
            Self::Compile => "compile",
        }
    }
}

/// Whether a signal is there, and if not, why: a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    Ok,
    Unavailable(Arc<str>),
}

/// What does not change during the life of a process. Strings come from the process and are cleaned already:
/// valid UTF-8, no control characters, bounded length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// For people: package name, else script, else title; never just `node`.
    pub name: String,
    /// For OTLP `service.name`: `OTEL_SERVICE_NAME` of the process first; `unknown_service:node` if nothing fits.
    pub service_name: String,
    pub service_version: Option<String>,
    pub service_namespace: Option<String>,
    /// A version 5 UUID, or what the process's own `OTEL_RESOURCE_ATTRIBUTES` says.
    pub service_instance_id: String,
    /// The process's own `OTEL_RESOURCE_ATTRIBUTES` without the `service.*` above.
    pub resource_attributes: BTreeMap<String, String>,
    /// Without the leading `v`.
    pub node_version: Option<String>,
    pub v8_version: Option<String>,
    pub container_id: Option<String>,
    /// Of the Kubernetes pod it runs in, as its control group tells.
    pub pod_uid: Option<String>,
    /// What the process itself says who it is, so that nobody else may.
    pub says: Says,
    /// Path of the executable inside the process's own mount namespace.
    pub executable_path: String,
    /// The pid inside the process's own pid namespace, where it differs.
    pub namespaced_pid: Option<u32>,
    pub parent_pid: u32,
    pub user_id: u32,
    /// How far V8's old generation may grow, as its flags and the memory of machine and container decide.
    pub heap_limit_bytes: Option<u64>,
}

/// What a process says of itself in `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Says {
    pub service_name: bool,
    pub service_version: bool,
    pub service_instance_id: bool,
}

/// What a file descriptor is, as libuv classifies it (a character device that is no terminal is a file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    Pipe,
    File,
    Tty,
    Socket,
}

impl StreamKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::File => "file",
            Self::Tty => "tty",
            Self::Socket => "socket",
        }
    }
}

/// Counters of stdout or stderr, summed over the threads of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// `None`: closed or not readable.
    pub kind: Option<StreamKind>,
    pub bytes: u64,
    pub writes: u64,
    pub eagain: u64,
    pub blocked_ns: u64,
    pub durations: Histogram,
}

/// CPU time of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    pub user_ns: u64,
    pub system_ns: u64,
}

/// Kind of loop thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThreadKind {
    Main,
    Worker,
}

impl ThreadKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Worker => "worker",
        }
    }
}

/// Heap used around the last pause of a kind; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapChange {
    pub before_bytes: Option<u64>,
    pub after_bytes: Option<u64>,
}

/// Pauses of one kind on one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    pub durations: Histogram,
    pub last: HeapChange,
    /// How long ago the last one ended, when this was read; `None`: there was none, or it is not known.
    pub last_age_ns: Option<u64>,
}

/// One loop thread, cumulative since it was first observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub tid: u32,
    pub kind: ThreadKind,
    /// The thread's own name (`comm`), cleaned; empty when it ended before it was read.
    pub name: String,
    /// `CLOCK_MONOTONIC` when observation began.
    pub observed_ns: u64,
    pub exited: bool,
    /// Both include the state the thread is in at this very moment.
    pub busy_ns: u64,
    pub idle_ns: u64,
    pub turns: Histogram,
    pub stalls: Histogram,
    /// Age of the turn under way; `None` while the loop waits or after exit.
    pub current_turn_ns: Option<u64>,
    /// How the turn under way divides so far; nothing while the loop waits.
    pub current_turn_causes: Causes,
    /// The stack that was sampled last in the turn under way, and who is to blame for it so far.
    pub current_turn_stack: Option<Arc<Stack>>,
    pub current_turn_culprit: Option<Culprit>,
    /// How the stalls divide.
    pub stall_causes: Causes,
    pub minor: Pauses,
    pub major: Pauses,
    pub heap_used_bytes: Option<u64>,
    /// What was allocated in the heap up to the last collection, as far as the sizes around collections tell; 0 where they are not
    /// known.
    pub allocated_bytes: u64,
    pub rejections: Rejections,
    pub deopts: Deopts,
    pub pool: Pool,
    /// Writes to sockets that were refused because they are full.
    pub sockets_refused: u64,
    /// Drains of the microtask queue, of the time in which they were looked at: [`Process::drains_seen_ns`].
    pub drains: Histogram,
    pub async_context: AsyncContext,
    pub modules: Modules,
}

/// The memory of the control group that limits a process most: of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    pub limit_bytes: u64,
    /// What all its processes use together and the kernel cannot take back; `None`: not known.
    pub used_bytes: Option<u64>,
}

/// One Node process.
#[derive(Clone, Debug)]
pub struct Process {
    pub id: ProcessId,
    pub identity: Arc<Identity>,
    pub signals: Arc<BTreeMap<Signal, Availability>>,
    /// Wall clock at process start and at the begin of observation.
    pub started: SystemTime,
    pub observed_since: SystemTime,
    pub rss_bytes: Option<u64>,
    pub cpu: Option<CpuTime>,
    /// For how long the process's cgroup was kept off all processors because its quota was used up, since the process was
    /// first looked at. What of `cpu_wait` is not that, neighbours took.
    pub cpu_throttled_ns: Option<u64>,
    /// Periods of that quota, since the same moment.
    pub cpu_periods: Option<CpuPeriods>,
    /// For how long the main thread was ready to run and had no processor, since it began.
    pub run_delay_ns: Option<u64>,
    /// Of the main thread; `None`: the process has ended.
    pub nice: Option<i8>,
    /// For how long drains of microtask queues were looked at, since observation began.
    pub drains_seen_ns: u64,
    pub stdout: Stdio,
    pub stderr: Stdio,
    /// Sockets that are full, those that have been for longest first.
    pub backlogs: Vec<Backlog>,
    /// `None`: its memory is not limited, or that cannot be told.
    pub group_memory: Option<GroupMemory>,
    /// `None`: it began before it was observed.
    pub startup: Option<Arc<Startup>>,
    /// Main thread first, then workers by tid.
    pub threads: Vec<Thread>,
    /// The process has ended and this is its last appearance.
    pub exited: bool,
}

impl Process {
    /// Heap used over all isolates of the process; `None` while no thread has told.
    pub fn heap_used_bytes(&self) -> Option<u64> {
        self.threads.iter().filter_map(|thread| thread.heap_used_bytes).reduce(|sum, bytes| sum + bytes)
    }
}

/// A turn of at least the stall threshold that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    pub process: ProcessId,
    pub tid: u32,
    pub thread: ThreadKind,
    /// Wall clock when it began.
    pub began: SystemTime,
    pub duration_ns: u64,
    /// The turn was the start-up of the process or worker.
    pub startup: bool,
    /// It began before the agent came: `duration_ns` is a lower bound.
    pub lower_bound: bool,
    pub causes: Causes,
    /// The longest sleep in it.
    pub longest_sleep: Option<Sleep>,
    /// What its time was spent executing, most first; empty when no stack was sampled.
    pub stacks: Vec<StackTime>,
    pub culprit: Option<Culprit>,
}

/// A time a thread slept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleep {
    pub duration_ns: u64,
    pub cause: Cause,
    /// The system call it slept in; `None`: none (a page fault), or not known.
    pub syscall: Option<&'static str>,
    /// What the descriptor it was given leads to: a path, cleaned; `None`: no descriptor, or not sampled.
    pub file: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GcKind {
    Minor,
    Major,
}

impl GcKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Major => "major",
        }
    }
}

/// A GC pause over the event threshold (10 ms); shorter ones are only in the histograms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongPause {
    pub process: ProcessId,
    pub tid: u32,
    pub kind: GcKind,
    pub began: SystemTime,
    pub duration_ns: u64,
    pub heap: HeapChange,
}

/// Everything known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub time: SystemTime,
    pub monotonic_ns: u64,
    /// Things that happened and were not recorded, by reason, since the agent started.
    pub lost: BTreeMap<&'static str, u64>,
    pub processes: Vec<Process>,
    /// What the host's processors did since its boot; `None`: not known.
    pub host_cpu: Option<HostCpu>,
    /// For how long answers to requests were followed, since the agent started.
    pub answers_seen_ns: u64,
    /// What the ring buffer told since the previous snapshot.
    pub stalls: Vec<Stall>,
    pub pauses: Vec<LongPause>,
    pub stacks: Vec<ThreadStacks>,
    pub occasions: Vec<OccasionStack>,
    pub notices: Vec<Notice>,
}

//! The last intervals of one process, and what the checks ask of them.
//!
//! Times are those of the main thread, so that shares are shares of one thread's time: what a worker does keeps nobody else
//! waiting, and has a row of its own in `top`. Counts (rejections, deoptimisations) and streams are those of the process.

mod stalls;
mod sums;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

pub use stalls::RUNNING;
pub use sums::Stream;

use super::Mode;
use crate::model::{
    AsyncContext, Backlog, Causes, CpuPeriods, Culprit, GroupMemory, Histogram, HostCpu, Interval, LongPause,
    NoticeKind, OccasionStack, Pool, StackTime, Stall, Startup, ThreadKind,
    interval::{Microtasks, ProcessInterval},
};

/// Sizes after full collections that are remembered, whatever the window: growth is a matter of time.
const HEAP_SIZES_MAX: usize = 256;
/// Distinct stacks of an interval that are remembered, those with most time first.
const STACKS_MAX: usize = 256;

/// A turn that began so early in the life of a process is its start-up, unless it goes on for ever.
const START_BEGINS_WITHIN_S: f64 = 1.0;
const START_IS_STUCK_NS: u64 = 30_000_000_000;

/// What one process did.
#[derive(Clone, Debug)]
pub struct History {
    window_s: f64,
    seen: VecDeque<Seen>,
    /// Modes that are found at the moment.
    pub(super) active: BTreeSet<Mode>,
    /// When the last full collection of each interval that had one ended, seconds since the first interval, and the bytes in use
    /// after it.
    heap_sizes: VecDeque<(f64, f64)>,
    now_s: f64,
    /// Seconds from the start of the process.
    listening_s: Option<f64>,
    started: Option<Arc<Startup>>,
    group_memory: Option<GroupMemory>,
    heap_limit_bytes: Option<u64>,
    exited: bool,
}

/// One interval.
#[derive(Clone, Debug, Default)]
struct Seen {
    duration_s: f64,
    startup: Option<Stall>,
    notices: BTreeSet<NoticeKind>,
    stalls: Vec<Stall>,
    /// Of the main thread: the turn under way.
    turn_ns: u64,
    turn_causes: Causes,
    turn_culprit: Option<Culprit>,
    gc_ns: u64,
    gc_pauses: u64,
    gc_longest_ns: u64,
    /// `None` without a pause: it takes memory.
    gc_durations: Option<Histogram>,
    long_pauses: u64,
    stdio: [Stream; 2],
    run_delay_ns: Option<u64>,
    throttled_ns: Option<u64>,
    cpu_periods: Option<CpuPeriods>,
    nice: Option<i8>,
    host_cpu: Option<HostCpu>,
    /// Of the main thread: what the hypervisor took away, estimated.
    stolen_ns: Option<u64>,
    rejections: u64,
    rejections_handled_late: u64,
    deopts: u64,
    rss_bytes: Option<u64>,
    heap_used_bytes: Option<u64>,
    allocated_bytes: Option<u64>,
    uptime_s: f64,
    pool: Pool,
    microtasks: Microtasks,
    sockets_refused: u64,
    backlogs: Vec<Backlog>,
    async_context: AsyncContext,
    answers_seen_ns: u64,
    stacks: Vec<StackTime>,
    occasions: Vec<OccasionStack>,
}

impl History {
    pub fn new(window_s: f64) -> Self {
        Self {
            window_s,
            seen: VecDeque::new(),
            active: BTreeSet::new(),
            heap_sizes: VecDeque::new(),
            now_s: 0.0,
            listening_s: None,
            started: None,
            group_memory: None,
            heap_limit_bytes: None,
            exited: false,
        }
    }

    /// Takes in what `process` did in `interval`, and forgets what is older than the window.
    pub fn push(&mut self, process: &ProcessInterval, interval: &Interval) {
        self.now_s += interval.duration_s;
        self.exited = process.exited;
        self.heap_limit_bytes = process.heap_limit_bytes.or(self.heap_limit_bytes);
        // One that has ended is in no group any more.
        self.group_memory = if process.exited { self.group_memory } else { process.group_memory };
        self.started = process.startup.clone().or_else(|| self.started.take());
        let main = process.threads.iter().find(|thread| thread.kind == ThreadKind::Main);
        // Of the main thread's heap: sizes of different heaps make no slope.
        if let Some(main) = main.filter(|main| main.major.durations.count > 0)
            && let Some(bytes) = main.major.last.after_bytes
        {
            if self.heap_sizes.len() == HEAP_SIZES_MAX {
                self.heap_sizes.pop_front();
            }
            let ended_s = self.now_s - main.major.last_age_ns.unwrap_or(0) as f64 / 1e9;
            self.heap_sizes.push_back((ended_s, bytes as f64));
        }
        let main_thread = (process.id, process.id.pid);
        let mut seen = Seen { duration_s: interval.duration_s, ..Seen::default() };
        let mut starts = false;
        if let Some(main) = main {
            let turn_ns = main.current_turn_ns.unwrap_or(0);
            // Loading modules is no work that keeps requests waiting: there are none yet.
            let is_start = process.uptime_s - turn_ns as f64 / 1e9 < START_BEGINS_WITHIN_S
                && turn_ns < START_IS_STUCK_NS;
            starts = is_start && turn_ns > 0;
            if !is_start {
                seen.turn_ns = turn_ns;
                seen.turn_causes = main.current_turn_causes;
                seen.turn_culprit.clone_from(&main.current_turn_culprit);
            }
        }
        let is_of_main = |stall: &&Stall| stall.process == process.id && stall.thread == ThreadKind::Main;
        for stall in interval.stalls.iter().filter(is_of_main) {
            if stall.startup {
                seen.startup = Some(stall.clone());
            } else {
                seen.stalls.push(stall.clone());
            }
        }
        for pauses in main.into_iter().flat_map(|main| [&main.minor, &main.major]) {
            seen.gc_ns += pauses.durations.sum_ns;
            seen.gc_pauses += pauses.durations.count;
            seen.gc_longest_ns = seen.gc_longest_ns.max(pauses.durations.interval_max_ns.unwrap_or(0));
            if pauses.durations.count > 0 {
                seen.gc_durations.get_or_insert_default().merge(&pauses.durations);
            }
        }
        let long_ns = (super::thresholds::GC_LONG_PAUSE_S * 1e9) as u64;
        let long =
            |pause: &&LongPause| (pause.process, pause.tid) == main_thread && pause.duration_ns >= long_ns;
        seen.long_pauses = interval.pauses.iter().filter(long).count() as u64;
        for (stream, stdio) in seen.stdio.iter_mut().zip([&process.stdout, &process.stderr]) {
            *stream = Stream {
                kind: stdio.kind,
                blocked_ns: stdio.blocked_ns,
                refused: stdio.eagain,
                writes: stdio.writes,
                bytes: stdio.bytes,
            };
        }
        (seen.run_delay_ns, seen.throttled_ns) = (process.run_delay_ns, process.cpu_throttled_ns);
        (seen.cpu_periods, seen.nice) = (process.cpu_periods, process.nice);
        seen.host_cpu = interval.host_cpu;
        seen.stolen_ns = stolen_ns(process, interval);
        seen.rejections = process.rejections.unhandled;
        seen.rejections_handled_late = process.rejections.handled_late;
        seen.deopts = process.deopts.total();
        (seen.rss_bytes, seen.heap_used_bytes) = (process.rss_bytes, process.heap_used_bytes);
        seen.allocated_bytes = process.allocated_bytes;
        seen.uptime_s = process.uptime_s;
        seen.microtasks = process.microtasks.clone();
        (seen.pool, seen.sockets_refused) = (process.pool, process.sockets_refused);
        (seen.async_context, seen.answers_seen_ns) = (process.async_context, interval.answers_seen_ns);
        seen.backlogs.clone_from(&process.backlogs);
        // Code that runs for the first time misses every inline cache and says nothing of the service that it becomes. What the
        // start was spent with, its stall tells.
        starts |= seen.startup.is_some();
        let stacks = interval.stacks.iter().filter(|thread| (thread.process, thread.tid) == main_thread);
        seen.stacks = stacks.filter(|_| !starts).flat_map(|thread| thread.stacks.iter().cloned()).collect();
        seen.stacks.sort_by_key(|stack| std::cmp::Reverse(stack.time_ns));
        seen.stacks.truncate(STACKS_MAX);
        let occasions = interval.occasions.iter().filter(|taken| taken.process == process.id);
        seen.occasions = occasions.cloned().collect();
        for notice in interval.notices.iter().filter(|notice| notice.process == process.id) {
            if notice.kind == NoticeKind::Listening && self.listening_s.is_none() {
                self.listening_s = since_start(process, interval.time, notice.time);
            }
            let is_of_a_worker = notice.tid != process.id.pid;
            // A worker with a limit of its own ends alone.
            let is_of_a_heap = matches!(notice.kind, NoticeKind::NearHeapLimit | NoticeKind::OutOfMemory);
            if !(is_of_a_worker && is_of_a_heap) {
                seen.notices.insert(notice.kind);
            }
        }
        self.seen.push_back(seen);
        while self.seen.len() > 1 && self.window_s() - self.seen[0].duration_s >= self.window_s {
            self.seen.pop_front();
        }
    }

    /// What is looked at, seconds: at most the window, less while the process is young to us.
    pub fn window_s(&self) -> f64 {
        self.seen.iter().map(|seen| seen.duration_s).sum()
    }

    /// A time by that of the window.
    pub fn share(&self, ns: u64) -> f64 {
        let window_s = self.window_s();
        if window_s > 0.0 { ns as f64 / 1e9 / window_s } else { 0.0 }
    }

    pub fn per_second(&self, count: u64) -> f64 {
        let window_s = self.window_s();
        if window_s > 0.0 { count as f64 / window_s } else { 0.0 }
    }

    pub fn exited(&self) -> bool {
        self.exited
    }

    fn sum(&self, of: impl Fn(&Seen) -> u64) -> u64 {
        self.seen.iter().map(of).sum()
    }

    /// Whether something was told.
    pub fn has_been_told(&self, kind: NoticeKind) -> bool {
        self.seen.iter().any(|seen| seen.notices.contains(&kind))
    }

    /// Whether something was told right before the end.
    pub fn was_told_last(&self, kind: NoticeKind) -> bool {
        self.seen.iter().rev().take(2).any(|seen| seen.notices.contains(&kind))
    }

    /// The turn in which the process started.
    pub fn startup(&self) -> Option<&Stall> {
        self.seen.iter().find_map(|seen| seen.startup.as_ref())
    }

    /// The memory of the process's control group; `None`: not limited, or not known.
    pub fn group_memory(&self) -> Option<GroupMemory> {
        self.group_memory
    }

    /// How the process started; `None`: that was not observed.
    pub fn started(&self) -> Option<&Startup> {
        self.started.as_deref()
    }

    /// From the start of the process to its first `listen`, seconds.
    pub fn listening_s(&self) -> Option<f64> {
        self.listening_s
    }
}

/// What the hypervisor took away of the time of a process's main thread, as if it took of all that wants to run alike; `None`: not
/// known.
fn stolen_ns(process: &ProcessInterval, interval: &Interval) -> Option<u64> {
    let main = process.threads.iter().find(|thread| thread.kind == ThreadKind::Main)?;
    let share = interval.host_cpu?.stolen_of_wanted().unwrap_or(0.0);
    // Of a turn that sleeps nothing is stolen. CPU time is without what was stolen of it.
    let cpu_ns = process.cpu_ratio? * interval.duration_s * 1e9;
    let wanted_ns = (main.busy_ns as f64).min(cpu_ns / (1.0 - share).max(f64::MIN_POSITIVE));
    Some((wanted_ns * share) as u64)
}

fn since_start(process: &ProcessInterval, end: SystemTime, time: SystemTime) -> Option<f64> {
    let before_end = end.duration_since(time).ok()?.as_secs_f64();
    Some(process.uptime_s - before_end).filter(|seconds| *seconds >= 0.0)
}

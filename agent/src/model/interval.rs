//! What happened between two snapshots: the shape behind `top` on the screen and in JSON.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{
    AsyncContext, Availability, Backlog, Causes, CpuPeriods, Culprit, Deopts, GroupMemory, HeapChange,
    Histogram, HostCpu, Identity, LongPause, Modules, Notice, OccasionStack, Pauses, Pool, Process,
    ProcessId, Rejections, Signal, Snapshot, Stack, StackTime, Stall, Startup, Stdio, Thread, ThreadKind,
    ThreadStacks,
};

/// Counts and times are those of the interval; ages, sizes and kinds are those at its end.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Wall clock at the end.
    pub time: SystemTime,
    pub duration_s: f64,
    pub lost: BTreeMap<&'static str, u64>,
    pub processes: Vec<ProcessInterval>,
    /// What the host's processors did; `None`: not known.
    pub host_cpu: Option<HostCpu>,
    /// For how much of it answers to requests were followed.
    pub answers_seen_ns: u64,
    pub stalls: Vec<Stall>,
    pub pauses: Vec<LongPause>,
    /// What loop threads were sampled executing.
    pub stacks: Vec<ThreadStacks>,
    /// What stacks were taken for beside that.
    pub occasions: Vec<OccasionStack>,
    pub notices: Vec<Notice>,
}

#[derive(Clone, Debug)]
pub struct ProcessInterval {
    pub id: ProcessId,
    pub identity: Arc<Identity>,
    pub signals: Arc<BTreeMap<Signal, Availability>>,
    pub uptime_s: f64,
    pub rss_bytes: Option<u64>,
    /// CPU time by wall time: 1 is one core.
    pub cpu_ratio: Option<f64>,
    /// Time for which the quota of the process's cgroup was used up.
    pub cpu_throttled_ns: Option<u64>,
    /// Periods of that quota.
    pub cpu_periods: Option<CpuPeriods>,
    /// Time for which the main thread was ready to run and had no processor.
    pub run_delay_ns: Option<u64>,
    /// Of the main thread, at the end.
    pub nice: Option<i8>,
    pub heap_used_bytes: Option<u64>,
    /// What was allocated in the heap between collections, of which the later one ended in the interval; `None`: there were none,
    /// or the sizes around them are not known.
    pub allocated_bytes: Option<u64>,
    pub heap_limit_bytes: Option<u64>,
    pub minor: Pauses,
    pub major: Pauses,
    pub rejections: Rejections,
    pub deopts: Deopts,
    pub pool: Pool,
    pub microtasks: Microtasks,
    /// Writes to sockets that were refused because they are full, and those that are full at the end.
    pub sockets_refused: u64,
    pub backlogs: Vec<Backlog>,
    pub async_context: AsyncContext,
    pub group_memory: Option<GroupMemory>,
    pub modules: Modules,
    /// As it is known at the end of the interval; `None`: the process began before it was observed.
    pub startup: Option<Arc<Startup>>,
    pub stdout: Stdio,
    pub stderr: Stdio,
    pub threads: Vec<ThreadInterval>,
    /// The process ended in this interval.
    pub exited: bool,
}

/// Drains of microtask queues, as far as they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Microtasks {
    pub drains: Histogram,
    /// For how much of the interval they were. A rate is a count divided by this.
    pub seen_ns: u64,
}

impl Microtasks {
    /// Share of the interval in which they were looked at.
    pub fn seen_ratio(&self, duration_s: f64) -> f64 {
        ratio(self.seen_ns, duration_s)
    }

    /// Drains per second; `None`: not looked at.
    pub fn drains_per_s(&self) -> Option<f64> {
        (self.seen_ns > 0).then(|| self.drains.count as f64 * 1e9 / self.seen_ns as f64)
    }

    /// Share of the time looked at that was spent in drains; those of several threads add up.
    pub fn time_ratio(&self) -> Option<f64> {
        (self.seen_ns > 0).then(|| self.drains.sum_ns as f64 / self.seen_ns as f64)
    }
}

#[derive(Clone, Debug)]
pub struct ThreadInterval {
    pub tid: u32,
    pub kind: ThreadKind,
    pub name: String,
    pub exited: bool,
    pub busy_ns: u64,
    pub idle_ns: u64,
    pub turns: Histogram,
    pub stalls: Histogram,
    pub current_turn_ns: Option<u64>,
    pub current_turn_causes: Causes,
    pub current_turn_stack: Option<Arc<Stack>>,
    pub current_turn_culprit: Option<Culprit>,
    pub stall_causes: Causes,
    pub minor: Pauses,
    pub major: Pauses,
}

/// Share of an interval that was looked at.
fn ratio(seen_ns: u64, duration_s: f64) -> f64 {
    if duration_s > 0.0 { (seen_ns as f64 / 1e9 / duration_s).min(1.0) } else { 0.0 }
}

impl Interval {
    /// Share of the interval in which answers to requests were followed.
    pub fn answers_seen_ratio(&self) -> f64 {
        ratio(self.answers_seen_ns, self.duration_s)
    }

    /// What was sampled of the main thread of a process.
    pub fn stacks_of_main(&self, process: ProcessId) -> impl Iterator<Item = &StackTime> + Clone {
        let of_main = self.stacks.iter().filter(move |thread| thread.is_main_of(process));
        of_main.flat_map(|thread| &thread.stacks)
    }

    /// Who is to blame for most of the time in the stalls of a thread that ended in the interval.
    pub fn top_culprit(&self, process: ProcessId, tid: u32) -> Option<Culprit> {
        let of_thread = self.stalls.iter().filter(|stall| (stall.process, stall.tid) == (process, tid));
        Culprit::of_most(of_thread.filter_map(|stall| Some((stall.culprit.as_ref()?, stall.duration_ns))))
    }
}

impl ThreadInterval {
    /// busy / (busy + idle); `None` when the thread was not observed for any time.
    pub fn utilization(&self) -> Option<f64> {
        let total = self.busy_ns + self.idle_ns;
        (total > 0).then(|| self.busy_ns as f64 / total as f64)
    }
}

impl ProcessInterval {
    /// Share of the interval that loop threads stood still for GC. Pauses of several threads add up.
    pub fn gc_time_ratio(&self, duration_s: f64) -> f64 {
        let paused_ns = self.minor.durations.sum_ns + self.major.durations.sum_ns;
        if duration_s > 0.0 { paused_ns as f64 / 1e9 / duration_s } else { 0.0 }
    }
}

/// `later` minus `earlier`. A process or thread that is new counts from the begin of its observation.
pub fn between(earlier: &Snapshot, later: &Snapshot) -> Interval {
    // One that had ended is not the same process, even if the id is: `exec` keeps pid and start time.
    let before: BTreeMap<ProcessId, &Process> =
        earlier.processes.iter().filter(|p| !p.exited).map(|p| (p.id, p)).collect();
    let duration_s = later.monotonic_ns.saturating_sub(earlier.monotonic_ns) as f64 / 1e9;
    let processes = later
        .processes
        .iter()
        .map(|process| {
            let earlier =
                before.get(&process.id).copied().filter(|p| p.observed_since == process.observed_since);
            process_between(earlier, process, later.time, duration_s)
        })
        .collect();
    let lost = later
        .lost
        .iter()
        .map(|(reason, n)| (*reason, n.saturating_sub(earlier.lost.get(reason).copied().unwrap_or(0))))
        .collect();
    Interval {
        time: later.time,
        duration_s,
        lost,
        processes,
        host_cpu: earlier.host_cpu.and_then(|earlier| Some(later.host_cpu?.since(earlier))),
        answers_seen_ns: later.answers_seen_ns.saturating_sub(earlier.answers_seen_ns),
        stalls: later.stalls.clone(),
        pauses: later.pauses.clone(),
        stacks: later.stacks.clone(),
        occasions: later.occasions.clone(),
        notices: later.notices.clone(),
    }
}

fn process_between(
    earlier: Option<&Process>,
    later: &Process,
    now: SystemTime,
    duration_s: f64,
) -> ProcessInterval {
    let (mut rejections, mut deopts) = (Rejections::default(), Deopts::default());
    let (mut pool, mut sockets_refused, mut modules) = (Pool::default(), 0, Modules::default());
    let mut drains = Histogram::default();
    let (mut async_context, mut allocated_bytes) = (AsyncContext::default(), 0);
    let threads: Vec<ThreadInterval> = later
        .threads
        .iter()
        .map(|thread| {
            let before = earlier.and_then(|p| {
                p.threads.iter().find(|t| t.tid == thread.tid && t.observed_ns == thread.observed_ns)
            });
            rejections.merge(before.map_or(thread.rejections, |t| thread.rejections.since(t.rejections)));
            deopts.merge(before.map_or(thread.deopts, |t| thread.deopts.since(t.deopts)));
            pool.merge(before.map_or(thread.pool, |t| thread.pool.since(t.pool)));
            sockets_refused += thread.sockets_refused.saturating_sub(before.map_or(0, |t| t.sockets_refused));
            drains.merge(&since(before.map(|t| &t.drains), &thread.drains));
            allocated_bytes += thread.allocated_bytes.saturating_sub(before.map_or(0, |t| t.allocated_bytes));
            async_context
                .merge(before.map_or(thread.async_context, |t| thread.async_context.since(t.async_context)));
            modules.merge(before.map_or(thread.modules, |t| thread.modules.since(t.modules)));
            thread_between(before, thread)
        })
        .collect();
    let mut minor = Pauses::default();
    let mut major = Pauses::default();
    for thread in &threads {
        merge_pauses(&mut minor, &thread.minor);
        merge_pauses(&mut major, &thread.major);
    }
    let cpu_ratio = match (earlier.and_then(|p| p.cpu), later.cpu) {
        (Some(before), Some(after)) if duration_s > 0.0 => {
            let spent = (after.user_ns + after.system_ns).saturating_sub(before.user_ns + before.system_ns);
            Some(spent as f64 / 1e9 / duration_s)
        }
        _ => None,
    };
    ProcessInterval {
        id: later.id,
        identity: Arc::clone(&later.identity),
        signals: Arc::clone(&later.signals),
        uptime_s: now.duration_since(later.started).unwrap_or_default().as_secs_f64(),
        rss_bytes: later.rss_bytes,
        cpu_ratio,
        cpu_throttled_ns: earlier
            .and_then(|earlier| Some(later.cpu_throttled_ns?.saturating_sub(earlier.cpu_throttled_ns?))),
        cpu_periods: earlier.and_then(|earlier| Some(later.cpu_periods?.since(earlier.cpu_periods?))),
        run_delay_ns: earlier
            .and_then(|earlier| Some(later.run_delay_ns?.saturating_sub(earlier.run_delay_ns?))),
        nice: later.nice,
        heap_used_bytes: later.heap_used_bytes(),
        allocated_bytes: (allocated_bytes > 0).then_some(allocated_bytes),
        heap_limit_bytes: later.identity.heap_limit_bytes,
        minor,
        major,
        rejections,
        deopts,
        pool,
        microtasks: Microtasks {
            drains,
            seen_ns: later.drains_seen_ns.saturating_sub(earlier.map_or(0, |p| p.drains_seen_ns)),
        },
        sockets_refused,
        backlogs: later.backlogs.clone(),
        async_context,
        group_memory: later.group_memory,
        modules,
        startup: later.startup.clone(),
        stdout: stdio_between(earlier.map(|p| &p.stdout), &later.stdout),
        stderr: stdio_between(earlier.map(|p| &p.stderr), &later.stderr),
        threads,
        exited: later.exited,
    }
}

fn merge_pauses(into: &mut Pauses, from: &Pauses) {
    into.durations.merge(&from.durations);
    if from.last != HeapChange::default() {
        into.last = from.last;
        into.last_age_ns = from.last_age_ns;
    }
}

fn since(earlier: Option<&Histogram>, later: &Histogram) -> Histogram {
    earlier.map_or_else(|| later.clone(), |earlier| later.since(earlier))
}

fn thread_between(earlier: Option<&Thread>, later: &Thread) -> ThreadInterval {
    ThreadInterval {
        tid: later.tid,
        kind: later.kind,
        name: later.name.clone(),
        exited: later.exited,
        busy_ns: later.busy_ns.saturating_sub(earlier.map_or(0, |t| t.busy_ns)),
        idle_ns: later.idle_ns.saturating_sub(earlier.map_or(0, |t| t.idle_ns)),
        turns: since(earlier.map(|t| &t.turns), &later.turns),
        stalls: since(earlier.map(|t| &t.stalls), &later.stalls),
        current_turn_ns: later.current_turn_ns,
        current_turn_causes: later.current_turn_causes,
        current_turn_stack: later.current_turn_stack.clone(),
        current_turn_culprit: later.current_turn_culprit.clone(),
        stall_causes: earlier.map_or(later.stall_causes, |t| later.stall_causes.since(&t.stall_causes)),
        minor: Pauses {
            durations: since(earlier.map(|t| &t.minor.durations), &later.minor.durations),
            last: later.minor.last,
            last_age_ns: later.minor.last_age_ns,
        },
        major: Pauses {
            durations: since(earlier.map(|t| &t.major.durations), &later.major.durations),
            last: later.major.last,
            last_age_ns: later.major.last_age_ns,
        },
    }
}

fn stdio_between(earlier: Option<&Stdio>, later: &Stdio) -> Stdio {
    let Some(earlier) = earlier else { return later.clone() };
    let Stdio { kind, bytes, writes, eagain, blocked_ns, durations } = later;
    Stdio {
        kind: *kind,
        bytes: bytes.saturating_sub(earlier.bytes),
        writes: writes.saturating_sub(earlier.writes),
        eagain: eagain.saturating_sub(earlier.eagain),
        blocked_ns: blocked_ns.saturating_sub(earlier.blocked_ns),
        durations: durations.since(&earlier.durations),
    }
}

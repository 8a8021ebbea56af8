//! What has to be exported, gathered from one snapshot after the other.
//!
//! A snapshot shows a thread that ended once more and then no longer, and a process likewise; the totals of a
//! process must not shrink by that. So nothing is exported straight from a snapshot: what each thread counted
//! since it was last seen is added to totals of the process that live until the process has been exported for
//! the last time. For cumulative export the totals stay; for delta they are cleared once a collector has
//! accepted them, and only then, which is how an export that failed is merged into the next.
//!
//! Every snapshot that is taken must pass through here, or the maxima of delta histograms miss those between.

mod culprits;
mod stalls;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(super) use self::culprits::Blamed;
use self::{
    culprits::Culprits,
    stalls::{Stalls, Unclaimed},
};
use super::otlp::config::Temporality;
use crate::{
    model::{
        AsyncContext, Availability, Backlog, Causes, CpuPeriods, CpuTime, Deopts, Histogram, Identity,
        Modules, Pauses, Pool, Process, ProcessId, Rejections, Signal, Snapshot, Stall, Startup, Stdio,
        StreamKind, Thread, ThreadKind, catalog, interval,
    },
    stack::logging::logging,
    verdict::{Judge, Severity},
};

/// Processes that ended while no collector could be reached are kept for their last point; the oldest go first.
const MOST_EXITED: usize = 1024;

pub(super) const THREAD_KINDS: [ThreadKind; 2] = [ThreadKind::Main, ThreadKind::Worker];

/// Index into the arrays by thread kind.
fn slot(kind: ThreadKind) -> usize {
    match kind {
        ThreadKind::Main => 0,
        ThreadKind::Worker => 1,
    }
}

/// A stream and what it is connected to: the attributes of stdio points.
pub(super) type StdioKey = (&'static str, &'static str);

#[derive(Clone, Debug, Default)]
pub(super) struct StdioCounters {
    pub(super) bytes: u64,
    pub(super) eagain: u64,
    pub(super) blocked_ns: u64,
}

/// What grows, by thread kind where it is an array.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) busy_ns: [u64; 2],
    pub(super) idle_ns: [u64; 2],
    pub(super) stalls: [Causes; 2],
    pub(super) culprits: Culprits,
    pub(super) stdio: BTreeMap<StdioKey, StdioCounters>,
    pub(super) cpu: Option<CpuTime>,
    /// Of the main thread.
    pub(super) run_delay_ns: Option<u64>,
    pub(super) throttled_ns: Option<u64>,
    pub(super) cpu_periods: Option<CpuPeriods>,
    pub(super) rejections: Rejections,
    pub(super) deopts: Deopts,
    pub(super) pool: Pool,
    pub(super) sockets_refused: u64,
    /// For how long drains of microtask queues were looked at.
    pub(super) drains_seen_ns: u64,
    pub(super) async_context: AsyncContext,
    /// For how long answers to requests were followed.
    pub(super) answers_seen_ns: u64,
    pub(super) modules: Modules,
    /// Of the main thread, by its samples.
    pub(super) logging_ns: u64,
}

/// Histograms; `gc` is minor, major.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations {
    pub(super) turns: [Histogram; 2],
    pub(super) stalls: [Stalls; 2],
    pub(super) gc: [Histogram; 2],
    pub(super) stdio: BTreeMap<StdioKey, Histogram>,
    pub(super) drains: Histogram,
}

/// One process as it will be exported next.
#[derive(Debug)]
pub(super) struct ProcessState {
    pub(super) id: ProcessId,
    pub(super) identity: Arc<Identity>,
    signals: Arc<BTreeMap<Signal, Availability>>,
    /// As first told: computed from the wall clock, it may come out differently each time, and the Resource
    /// must stay the same.
    pub(super) started: SystemTime,
    pub(super) observed_since: SystemTime,
    /// When the values were read.
    pub(super) time: SystemTime,
    pub(super) rss_bytes: Option<u64>,
    pub(super) heap_used_bytes: Option<u64>,
    /// Work that waits for libuv's pool.
    pub(super) pool_waiting: u64,
    /// Bytes that wait for full sockets, by `SOCKET_QUEUE`.
    pub(super) backlog_bytes: [Option<u64>; 2],
    pub(super) startup: Option<Arc<Startup>>,
    pub(super) memory_limit_bytes: Option<u64>,
    /// There was a period of a quota; groups without one have an account of it as well.
    pub(super) has_quota: bool,
    /// `None`: there never was a thread of this kind.
    pub(super) current_turn_ns: [Option<u64>; 2],
    pub(super) counters: Counters,
    pub(super) counters_since: SystemTime,
    pub(super) cpu_since: SystemTime,
    pub(super) durations: Durations,
    pub(super) durations_since: SystemTime,
    /// Failure modes that are found now.
    pub(super) findings: Vec<&'static str>,
    /// Busy and idle since the last accepted export, for the utilization, whatever the temporality.
    interval_ns: [(u64, u64); 2],
    pub(super) exited: bool,
    /// Threads as they were when last seen, by tid and begin of observation.
    threads: HashMap<(u32, u64), Thread>,
    unclaimed: [Unclaimed; 2],
    stdio: [Stdio; 2],
    cpu: Option<CpuTime>,
    run_delay_ns: Option<u64>,
    throttled_ns: u64,
    cpu_periods: CpuPeriods,
    drains_seen_ns: u64,
}

impl ProcessState {
    /// Whether the values of a signal mean something; what is not observed is absent, not zero.
    pub(super) fn has(&self, signal: Signal) -> bool {
        self.signals.get(&signal) == Some(&Availability::Ok)
    }

    /// busy / (busy + idle) over the threads of a kind since the last accepted export; `None`: no time passed.
    pub(super) fn utilization(&self, kind: ThreadKind) -> Option<f64> {
        let (busy, idle) = self.interval_ns[slot(kind)];
        let total = busy + idle;
        (total > 0).then(|| busy as f64 / total as f64)
    }

    /// Kinds of which there is or was a thread.
    pub(super) fn thread_kinds(&self) -> impl Iterator<Item = (usize, ThreadKind)> + '_ {
        THREAD_KINDS.into_iter().enumerate().filter(|(slot, _)| self.current_turn_ns[*slot].is_some())
    }

    fn new(process: &Process, temporality: Temporality) -> Self {
        // A delta of CPU time that began long before the first export would be a peak that never was.
        let from_start = process.observed_since <= process.started + Duration::from_secs(1);
        let baseline = temporality == Temporality::Delta && !from_start;
        Self {
            id: process.id,
            identity: Arc::clone(&process.identity),
            signals: Arc::clone(&process.signals),
            started: process.started,
            observed_since: process.observed_since,
            time: process.observed_since,
            rss_bytes: None,
            heap_used_bytes: None,
            pool_waiting: 0,
            backlog_bytes: [Some(0); 2],
            startup: None,
            memory_limit_bytes: None,
            has_quota: false,
            current_turn_ns: [None; 2],
            counters: Counters::default(),
            counters_since: process.observed_since,
            cpu_since: if baseline { process.observed_since } else { process.started },
            durations: Durations::default(),
            durations_since: process.observed_since,
            findings: Vec::new(),
            interval_ns: [(0, 0); 2],
            exited: false,
            threads: HashMap::new(),
            unclaimed: [Unclaimed::default(), Unclaimed::default()],
            stdio: [Stdio::default(), Stdio::default()],
            drains_seen_ns: 0,
            cpu: if baseline { process.cpu } else { Some(CpuTime::default()) },
            // It counts since the thread began, and is told since the begin of observation.
            run_delay_ns: if from_start { Some(0) } else { process.run_delay_ns },
            throttled_ns: 0,
            cpu_periods: CpuPeriods::default(),
        }
    }

    /// `stalls`: what the ring buffer told, of any process.
    fn add(&mut self, process: &Process, stalls: &[Stall], time: SystemTime) {
        self.identity = Arc::clone(&process.identity);
        self.signals = Arc::clone(&process.signals);
        self.time = time;
        self.exited = process.exited;
        // A process that has gone has no memory any more; its last reading is its last value.
        self.rss_bytes = process.rss_bytes.or(self.rss_bytes);
        self.heap_used_bytes = process.heap_used_bytes().or(self.heap_used_bytes);
        self.pool_waiting = process.threads.iter().map(|thread| thread.pool.waiting).sum();
        let backlogs = &process.backlogs;
        // What is known of none of them is not 0.
        let waiting = |of: fn(&Backlog) -> Option<u64>| {
            let is_known = backlogs.is_empty() || backlogs.iter().any(|backlog| of(backlog).is_some());
            is_known.then(|| backlogs.iter().filter_map(of).sum())
        };
        self.backlog_bytes =
            [waiting(|backlog| backlog.queued_bytes), waiting(|backlog| backlog.libuv_queued_bytes)];
        self.memory_limit_bytes = process.group_memory.map(|memory| memory.limit_bytes);
        self.startup = process.startup.clone().or_else(|| self.startup.take());
        for turn in self.current_turn_ns.iter_mut().flatten() {
            *turn = 0;
        }
        let mut counted = [Histogram::default(), Histogram::default()];
        for thread in &process.threads {
            counted[slot(thread.kind)].merge(&self.add_thread(thread));
        }
        let knows_causes = self.has(Signal::Sched);
        for (kind, counted) in THREAD_KINDS.into_iter().zip(&counted) {
            // Without causes the events say nothing that the count does not.
            let told = stalls
                .iter()
                .filter(|stall| knows_causes && stall.process == process.id && stall.thread == kind);
            self.unclaimed[slot(kind)].divide(counted, told, &mut self.durations.stalls[slot(kind)]);
        }
        for stall in stalls.iter().filter(|stall| stall.process == process.id) {
            self.counters.culprits.add(stall);
        }
        self.counters.drains_seen_ns += process.drains_seen_ns.saturating_sub(self.drains_seen_ns);
        self.drains_seen_ns = process.drains_seen_ns;
        self.threads.retain(|key, _| process.threads.iter().any(|thread| key_of(thread) == *key));
        self.add_stdio(0, "stdout", &process.stdout);
        self.add_stdio(1, "stderr", &process.stderr);
        if let Some(now) = process.cpu {
            let before = self.cpu.unwrap_or(now);
            let sum = self.counters.cpu.get_or_insert_default();
            sum.user_ns += now.user_ns.saturating_sub(before.user_ns);
            sum.system_ns += now.system_ns.saturating_sub(before.system_ns);
            self.cpu = Some(now);
        }
        self.add_waits(process);
    }

    fn add_waits(&mut self, process: &Process) {
        if let Some(now_ns) = process.run_delay_ns {
            let before_ns = self.run_delay_ns.unwrap_or(now_ns);
            *self.counters.run_delay_ns.get_or_insert_default() += now_ns.saturating_sub(before_ns);
            self.run_delay_ns = Some(now_ns);
        }
        if let Some(now_ns) = process.cpu_throttled_ns {
            let sum_ns = self.counters.throttled_ns.get_or_insert_default();
            *sum_ns += now_ns.saturating_sub(self.throttled_ns);
            self.throttled_ns = now_ns;
        }
        if let Some(now) = process.cpu_periods {
            self.counters.cpu_periods.get_or_insert_default().merge(now.since(self.cpu_periods));
            self.cpu_periods = now;
            self.has_quota |= now.elapsed > 0;
        }
    }

    /// Returns the stalls since it was last seen.
    fn add_thread(&mut self, thread: &Thread) -> Histogram {
        let before = self.threads.entry(key_of(thread)).or_insert_with(|| blank(thread));
        let kind = slot(thread.kind);
        let busy = thread.busy_ns.saturating_sub(before.busy_ns);
        let idle = thread.idle_ns.saturating_sub(before.idle_ns);
        let stalls = thread.stalls.since(&before.stalls);
        self.counters.busy_ns[kind] += busy;
        self.counters.idle_ns[kind] += idle;
        self.counters.stalls[kind].merge(&thread.stall_causes.since(&before.stall_causes));
        self.counters.rejections.merge(thread.rejections.since(before.rejections));
        self.counters.deopts.merge(thread.deopts.since(before.deopts));
        self.counters.pool.merge(thread.pool.since(before.pool));
        self.counters.sockets_refused += thread.sockets_refused.saturating_sub(before.sockets_refused);
        self.counters.async_context.merge(thread.async_context.since(before.async_context));
        self.counters.modules.merge(thread.modules.since(before.modules));
        self.interval_ns[kind].0 += busy;
        self.interval_ns[kind].1 += idle;
        self.durations.turns[kind].merge(&thread.turns.since(&before.turns));
        self.durations.gc[0].merge(&thread.minor.durations.since(&before.minor.durations));
        self.durations.gc[1].merge(&thread.major.durations.since(&before.major.durations));
        self.durations.drains.merge(&thread.drains.since(&before.drains));
        let turn = self.current_turn_ns[kind].get_or_insert(0);
        *turn = (*turn).max(thread.current_turn_ns.unwrap_or(0));
        // Time includes the present state, and that may be corrected later: what was counted stays counted.
        let (busy_ns, idle_ns) = (thread.busy_ns.max(before.busy_ns), thread.idle_ns.max(before.idle_ns));
        *before = Thread { busy_ns, idle_ns, ..thread.clone() };
        stalls
    }

    fn add_stdio(&mut self, index: usize, stream: &'static str, now: &Stdio) {
        let before = &self.stdio[index];
        // A stream that can no longer be looked at was last what it was before.
        let kind = now.kind.or(before.kind);
        let Stdio { bytes, writes, eagain, blocked_ns, durations, kind: _ } = now;
        if kind.is_some() || *writes > 0 || *eagain > 0 {
            let key = (stream, kind.map_or(catalog::STDIO_TYPE_UNKNOWN, StreamKind::name));
            let counters = self.counters.stdio.entry(key).or_default();
            counters.bytes += bytes.saturating_sub(before.bytes);
            counters.eagain += eagain.saturating_sub(before.eagain);
            counters.blocked_ns += blocked_ns.saturating_sub(before.blocked_ns);
            self.durations.stdio.entry(key).or_default().merge(&durations.since(&before.durations));
        }
        self.stdio[index] = Stdio { kind, ..now.clone() };
    }

    /// A collector has the values as of `self.time`.
    fn accepted(&mut self, temporality: Temporality) {
        self.interval_ns = [(0, 0); 2];
        if temporality == Temporality::Delta {
            let culprits = std::mem::take(&mut self.counters.culprits).emptied();
            self.counters = Counters { culprits, ..Counters::default() };
            self.counters_since = self.time;
            self.cpu_since = self.time;
        }
        if temporality != Temporality::Cumulative {
            self.durations = Durations::default();
            self.durations_since = self.time;
        }
    }
}

fn key_of(thread: &Thread) -> (u32, u64) {
    (thread.tid, thread.observed_ns)
}

/// The thread before it did anything.
fn blank(thread: &Thread) -> Thread {
    Thread {
        tid: thread.tid,
        kind: thread.kind,
        name: String::new(),
        observed_ns: thread.observed_ns,
        exited: false,
        busy_ns: 0,
        idle_ns: 0,
        turns: Histogram::default(),
        stalls: Histogram::default(),
        current_turn_ns: None,
        current_turn_causes: Causes::default(),
        current_turn_stack: None,
        current_turn_culprit: None,
        stall_causes: Causes::default(),
        minor: Pauses::default(),
        major: Pauses::default(),
        heap_used_bytes: None,
        allocated_bytes: 0,
        rejections: Rejections::default(),
        deopts: Deopts::default(),
        pool: Pool::default(),
        sockets_refused: 0,
        drains: Histogram::default(),
        async_context: AsyncContext::default(),
        modules: Modules::default(),
    }
}

/// All processes that have something to export.
#[derive(Debug)]
pub(super) struct State {
    temporality: Temporality,
    processes: BTreeMap<ProcessId, ProcessState>,
    judge: Judge,
    /// The previous snapshot: what is wrong is judged by what happened between two.
    earlier: Option<Snapshot>,
}

impl State {
    pub(super) fn new(temporality: Temporality) -> Self {
        Self { temporality, processes: BTreeMap::new(), judge: Judge::default(), earlier: None }
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = &ProcessState> {
        self.processes.values()
    }

    /// Adds what happened since the previous snapshot. Returns how many exited processes had to be given up.
    pub(super) fn observe(&mut self, snapshot: &Snapshot) -> usize {
        let temporality = self.temporality;
        let before_ns = self.earlier.as_ref().map_or(0, |earlier| earlier.answers_seen_ns);
        let answers_seen_ns = snapshot.answers_seen_ns.saturating_sub(before_ns);
        let mut gone: Vec<ProcessId> = self.processes.keys().copied().collect();
        for process in &snapshot.processes {
            gone.retain(|id| *id != process.id);
            self.processes.entry(process.id).or_insert_with(|| ProcessState::new(process, temporality)).add(
                process,
                &snapshot.stalls,
                snapshot.time,
            );
            let of_main = snapshot.stacks.iter().filter(|thread| thread.is_main_of(process.id));
            let logged_ns = logging(of_main.flat_map(|thread| &thread.stacks)).cpu_ns;
            if let Some(state) = self.processes.get_mut(&process.id) {
                state.counters.logging_ns += logged_ns;
                // They are followed on all processes at once, on a new one since it is observed.
                let observed = snapshot.time.duration_since(process.observed_since).unwrap_or_default();
                let observed_ns = u64::try_from(observed.as_nanos()).unwrap_or(u64::MAX);
                state.counters.answers_seen_ns += answers_seen_ns.min(observed_ns);
            }
        }
        if let Some(earlier) = &self.earlier {
            self.judge.push(&interval::between(earlier, snapshot));
        }
        for process in &snapshot.processes {
            if let Some(state) = self.processes.get_mut(&process.id) {
                let findings = self.judge.findings(process.id).iter();
                let loud =
                    findings.filter(|finding| finding.is_primary() && finding.severity > Severity::Info);
                state.findings = loud.map(|finding| finding.mode.id()).collect();
            }
        }
        self.earlier = Some(snapshot.clone());
        // Left the snapshots without a farewell; exported once more as it was last seen.
        for id in gone {
            if let Some(process) = self.processes.get_mut(&id) {
                process.exited = true;
            }
        }
        self.forget_oldest()
    }

    fn forget_oldest(&mut self) -> usize {
        let mut exited: Vec<(SystemTime, ProcessId)> =
            self.processes.values().filter(|p| p.exited).map(|p| (p.time, p.id)).collect();
        let surplus = exited.len().saturating_sub(MOST_EXITED);
        exited.sort_unstable();
        for (_, id) in &exited[..surplus] {
            self.processes.remove(id);
        }
        surplus
    }

    /// Gives up processes that ended longer ago than `age`. Returns how many.
    pub(super) fn forget_exited(&mut self, now: SystemTime, age: Duration) -> usize {
        let before = self.processes.len();
        let is_old = |process: &ProcessState| now.duration_since(process.time).is_ok_and(|ago| ago > age);
        self.processes.retain(|_, process| !(process.exited && is_old(process)));
        before - self.processes.len()
    }

    /// A collector has accepted what was encoded of these processes.
    pub(super) fn accepted(&mut self, ids: &[ProcessId]) {
        for id in ids {
            if self.processes.get(id).is_some_and(|process| process.exited) {
                self.processes.remove(id);
            } else if let Some(process) = self.processes.get_mut(id) {
                process.accepted(self.temporality);
            }
        }
    }
}

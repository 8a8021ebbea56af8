//! One line of the table as numbers: a process with its main thread, or a worker thread.

use super::history::ProcessHistory;
use crate::{
    model::{
        Cause, Culprit, ProcessId, Signal, StreamKind, ThreadKind,
        interval::{ProcessInterval, ThreadInterval},
    },
    report::{
        document::{is_observed, max_s, quantile_s},
        printable,
    },
    verdict::{Mode, Severity},
};

/// A turn under way is shown from this age on: shorter ones are the rule, and a column that flickers is not read.
pub(super) const CURRENT_TURN_SHOWN_S: f64 = 0.050;
/// Names wider than this are of no use in a table.
const MAX_NAME_COLUMNS: usize = 120;

/// What a row is about; stays the same when rows move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub process: ProcessId,
    /// `None`: the process, with its main thread.
    pub worker_tid: Option<u32>,
}

/// How much a value deserves to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Normal,
    Warning,
    Critical,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Normal,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

impl Level {
    /// By two thresholds.
    pub fn of(value: Option<f64>, warning: f64, critical: f64) -> Self {
        match value {
            Some(value) if value >= critical => Self::Critical,
            Some(value) if value >= warning => Self::Warning,
            _ => Self::Normal,
        }
    }
}

/// `None` is not known, or belongs to the process and this is a worker. Rates per minute and the longest pause are
/// those of the sliding window of the history.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: RowKey,
    pub name: String,
    pub node_version: Option<String>,
    pub exited: bool,
    pub utilization: Option<f64>,
    pub turn_p50_s: Option<f64>,
    pub turn_p99_s: Option<f64>,
    pub turn_max_s: Option<f64>,
    /// `None` also while it is young.
    pub current_turn_s: Option<f64>,
    pub stalls_per_minute: Option<f64>,
    pub stalled_s_per_minute: Option<f64>,
    /// What most of the stalled time of the window was spent with, and of the turn under way if it is shown; `None` also
    /// without either.
    pub stall_cause: Option<Cause>,
    /// Whom the turn under way is blamed on so far, if it is shown; else most of the stalled time of the window.
    pub culprit: Option<Culprit>,
    /// The worst that is wrong with the process.
    pub finding: Option<(Mode, Severity)>,
    pub gc_ratio: Option<f64>,
    pub gc_longest_s: Option<f64>,
    pub stdout_kind: Option<StreamKind>,
    pub stdout_blocked_ratio: Option<f64>,
    pub heap_used_bytes: Option<u64>,
    pub heap_used_ratio: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub cpu_ratio: Option<f64>,
    pub age_s: Option<f64>,
}

impl Row {
    /// The row of the process and those of its workers.
    pub fn of_process(process: &ProcessInterval, history: &ProcessHistory, duration_s: f64) -> Vec<Self> {
        let main = process.threads.iter().find(|thread| thread.kind == ThreadKind::Main);
        let key = RowKey { process: process.id, worker_tid: None };
        let mut first = Self::of_thread(key, process, main, history);
        let gc_observed = is_observed(&process.signals, Signal::Gc);
        let stdio_observed = is_observed(&process.signals, Signal::Stdio);
        first.exited = process.exited;
        first.gc_ratio = gc_observed.then(|| process.gc_time_ratio(duration_s));
        first.gc_longest_s = history.longest_pause_s().filter(|_| gc_observed);
        first.stdout_kind = process.stdout.kind;
        first.stdout_blocked_ratio =
            (stdio_observed && duration_s > 0.0).then(|| process.stdout.blocked_ns as f64 / 1e9 / duration_s);
        first.heap_used_bytes = process.heap_used_bytes;
        first.heap_used_ratio = match (process.heap_used_bytes, process.heap_limit_bytes) {
            (Some(used), Some(limit)) if limit > 0 => Some(used as f64 / limit as f64),
            _ => None,
        };
        first.rss_bytes = process.rss_bytes;
        first.cpu_ratio = process.cpu_ratio;
        first.age_s = Some(process.uptime_s);
        let workers = process.threads.iter().filter(|thread| thread.kind == ThreadKind::Worker);
        let of_worker = |thread: &ThreadInterval| {
            let key = RowKey { process: process.id, worker_tid: Some(thread.tid) };
            Self::of_thread(key, process, Some(thread), history)
        };
        std::iter::once(first).chain(workers.map(of_worker)).collect()
    }

    fn of_thread(
        key: RowKey,
        process: &ProcessInterval,
        thread: Option<&ThreadInterval>,
        history: &ProcessHistory,
    ) -> Self {
        let thread = thread.filter(|_| is_observed(&process.signals, Signal::EventLoop));
        let turns = thread.map(|thread| &thread.turns);
        let rate = thread.map(|thread| history.stall_rate(thread.tid));
        let current_turn_s = thread
            .and_then(|thread| thread.current_turn_ns)
            .map(|ns| ns as f64 / 1e9)
            .filter(|age_s| *age_s >= CURRENT_TURN_SHOWN_S);
        let causes = thread.filter(|_| is_observed(&process.signals, Signal::Sched)).map(|thread| {
            let mut causes = history.stall_causes(thread.tid);
            if current_turn_s.is_some() {
                causes.merge(&thread.current_turn_causes);
            }
            causes
        });
        let so_far = thread.filter(|_| current_turn_s.is_some()).and_then(|t| t.current_turn_culprit.clone());
        let culprit = so_far.or_else(|| history.culprit(thread?.tid));
        Self {
            key,
            name: printable::fit(&process.identity.name, MAX_NAME_COLUMNS, '~'),
            node_version: process.identity.node_version.clone(),
            exited: thread.is_some_and(|thread| thread.exited),
            utilization: thread.and_then(ThreadInterval::utilization),
            turn_p50_s: turns.and_then(|turns| quantile_s(turns, 0.5)),
            turn_p99_s: turns.and_then(|turns| quantile_s(turns, 0.99)),
            turn_max_s: turns.and_then(max_s),
            current_turn_s,
            stalls_per_minute: rate.map(|rate| rate.per_minute),
            stalled_s_per_minute: rate.map(|rate| rate.stalled_s_per_minute),
            stall_cause: causes.and_then(|causes| causes.leading()).map(|(cause, _)| cause),
            culprit,
            finding: None,
            gc_ratio: None,
            gc_longest_s: None,
            stdout_kind: None,
            stdout_blocked_ratio: None,
            heap_used_bytes: None,
            heap_used_ratio: None,
            rss_bytes: None,
            cpu_ratio: None,
            age_s: None,
        }
    }
}

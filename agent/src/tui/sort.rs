//! The columns of the table and the order of its rows.

use std::cmp::Ordering;

use super::{
    culprit,
    row::{Level, Row},
};
use crate::{
    model::Culprit,
    report::quantity::{bytes, duration, milliseconds, or_unknown, percent},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Pid,
    Service,
    Node,
    Thread,
    Utilization,
    TurnP50,
    TurnP99,
    TurnMax,
    Current,
    Stalls,
    Stalled,
    Cause,
    Culprit,
    Finding,
    GcRatio,
    GcLongest,
    Stdout,
    Blocked,
    Heap,
    Rss,
    Cpu,
    Age,
}

impl Column {
    /// From left to right.
    pub const ALL: [Self; 22] = [
        Self::Pid,
        Self::Service,
        Self::Node,
        Self::Thread,
        Self::Utilization,
        Self::TurnP50,
        Self::TurnP99,
        Self::TurnMax,
        Self::Current,
        Self::Stalls,
        Self::Stalled,
        Self::Cause,
        Self::Culprit,
        Self::Finding,
        Self::GcRatio,
        Self::GcLongest,
        Self::Stdout,
        Self::Blocked,
        Self::Heap,
        Self::Rss,
        Self::Cpu,
        Self::Age,
    ];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::Service => "SERVICE",
            Self::Node => "NODE",
            Self::Thread => "THR",
            Self::Utilization => "UTIL%",
            Self::TurnP50 => "p50ms",
            Self::TurnP99 => "p99ms",
            Self::TurnMax => "MAXms",
            Self::Current => "CURRENT",
            Self::Stalls => "STALL/m",
            Self::Stalled => "STALLED",
            Self::Cause => "CAUSE",
            Self::Culprit => "CULPRIT",
            Self::Finding => "FINDING",
            Self::GcRatio => "GC%",
            Self::GcLongest => "GCMAX",
            Self::Stdout => "STDOUT",
            Self::Blocked => "BLK%",
            Self::Heap => "HEAP",
            Self::Rss => "RSS",
            Self::Cpu => "CPU%",
            Self::Age => "AGE",
        }
    }

    /// For the sort menu and the help.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Pid => "process id",
            Self::Service => "package name, script or title",
            Self::Node => "version of Node",
            Self::Thread => "main, or the id of a worker thread",
            Self::Utilization => "share of time the event loop was busy",
            Self::TurnP50 => "median turn of the loop, ms",
            Self::TurnP99 => "99th percentile of turns, ms",
            Self::TurnMax => "longest turn, ms",
            Self::Current => "age of a turn still in progress",
            Self::Stalls => "turns over the stall threshold, last 60 s",
            Self::Stalled => "time lost in them, last 60 s",
            Self::Cause => "what most of that time was spent with",
            Self::Culprit => "the function most of that time is blamed on",
            Self::Finding => "what is wrong, last 60 s; the page of the process says more",
            Self::GcRatio => "share of time paused by GC",
            Self::GcLongest => "longest GC pause of the last 60 s, ms",
            Self::Stdout => "what stdout is",
            Self::Blocked => "share of time blocked writing to stdout",
            Self::Heap => "V8 heap used",
            Self::Rss => "resident memory",
            Self::Cpu => "CPU time, 100 is one core",
            Self::Age => "time since the process started",
        }
    }

    /// Text reads from the left, numbers line up on the right.
    pub const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Service | Self::Node | Self::Stdout | Self::Cause | Self::Culprit | Self::Finding
        )
    }

    /// What one looks for first in this column stands on top: names and ids from the lowest, numbers from the highest.
    const fn descends(self) -> bool {
        !matches!(
            self,
            Self::Pid
                | Self::Service
                | Self::Node
                | Self::Thread
                | Self::Stdout
                | Self::Cause
                | Self::Culprit
        )
    }

    /// The value of `row` in this column; names are not cut here. Empty where a worker has none of its own.
    pub fn cell(self, row: &Row) -> String {
        let is_process = row.key.worker_tid.is_none();
        let of_process = |text: String| if is_process { text } else { String::new() };
        match self {
            Self::Pid => row.key.process.pid.to_string(),
            Self::Service => row.name.clone(),
            Self::Node => of_process(or_unknown(row.node_version.clone(), |version| version)),
            Self::Thread => row.key.worker_tid.map_or_else(|| "main".to_owned(), |tid| tid.to_string()),
            Self::Utilization => or_unknown(row.utilization, percent),
            Self::TurnP50 => or_unknown(row.turn_p50_s, milliseconds),
            Self::TurnP99 => or_unknown(row.turn_p99_s, milliseconds),
            Self::TurnMax => or_unknown(row.turn_max_s, milliseconds),
            Self::Current => row.current_turn_s.map(duration).unwrap_or_default(),
            Self::Stalls => or_unknown(row.stalls_per_minute, |count| format!("{:.0}", count.ceil())),
            Self::Stalled => or_unknown(row.stalled_s_per_minute, duration),
            Self::Cause => row.stall_cause.map_or_else(String::new, |cause| cause.name().to_owned()),
            Self::Culprit => row.culprit.as_ref().map(culprit::label).unwrap_or_default(),
            Self::Finding => row.finding.map_or_else(String::new, |(mode, _)| mode.id().to_owned()),
            Self::GcRatio => of_process(or_unknown(row.gc_ratio, percent)),
            Self::GcLongest => of_process(or_unknown(row.gc_longest_s, milliseconds)),
            Self::Stdout => of_process(or_unknown(row.stdout_kind, |kind| kind.name().to_owned())),
            Self::Blocked => of_process(or_unknown(row.stdout_blocked_ratio, percent)),
            Self::Heap => of_process(or_unknown(row.heap_used_bytes, bytes)),
            Self::Rss => of_process(or_unknown(row.rss_bytes, bytes)),
            Self::Cpu => of_process(or_unknown(row.cpu_ratio, percent)),
            Self::Age => of_process(or_unknown(row.age_s, duration)),
        }
    }

    /// Thresholds are those in circulation: delays of 50 and 100 ms, 5 and 10 % of time in GC.
    pub fn level(self, row: &Row) -> Level {
        match self {
            Self::Utilization => Level::of(row.utilization, 0.7, 0.9),
            Self::TurnP50 => Level::of(row.turn_p50_s, 0.05, 0.1),
            Self::TurnP99 => Level::of(row.turn_p99_s, 0.05, 0.1),
            Self::TurnMax => Level::of(row.turn_max_s, 0.05, 1.0),
            Self::Current => Level::of(row.current_turn_s, 0.0, 1.0),
            Self::Stalls => Level::of(row.stalls_per_minute, f64::MIN_POSITIVE, 60.0),
            Self::Stalled => Level::of(row.stalled_s_per_minute, f64::MIN_POSITIVE, 6.0),
            Self::GcRatio => Level::of(row.gc_ratio, 0.05, 0.1),
            Self::GcLongest => Level::of(row.gc_longest_s, 0.05, 0.1),
            Self::Blocked => Level::of(row.stdout_blocked_ratio, 0.01, 0.05),
            Self::Heap => Level::of(row.heap_used_ratio, 0.8, 0.95),
            Self::Finding => row.finding.map_or(Level::Normal, |(_, severity)| Level::from(severity)),
            Self::Cause
            | Self::Culprit
            | Self::Pid
            | Self::Service
            | Self::Node
            | Self::Thread
            | Self::Stdout
            | Self::Rss
            | Self::Cpu
            | Self::Age => Level::Normal,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: Column,
    /// Against the column's own direction.
    pub reversed: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { column: Column::Utilization, reversed: false }
    }
}

impl Sort {
    /// Sorts by `column`; a second time turns the order round.
    pub fn choose(&mut self, column: Column) {
        if self.column == column {
            self.reversed = !self.reversed;
        } else {
            *self = Self { column, reversed: false };
        }
    }

    /// To the column on the right (1) or left (-1), around the ends.
    pub fn step(&mut self, by: isize) {
        let here = Column::ALL.iter().position(|column| *column == self.column).unwrap_or(0);
        let there = (here.cast_signed() + by).rem_euclid(Column::ALL.len().cast_signed());
        *self = Self { column: Column::ALL[there.cast_unsigned()], reversed: false };
    }

    /// Whether the largest value stands on top.
    pub const fn descends(self) -> bool {
        self.column.descends() != self.reversed
    }

    /// The order of two rows. What is not known stands last either way; equals are in order of pid and tid, so that
    /// rows do not dance.
    pub fn compare(self, a: &Row, b: &Row) -> Ordering {
        let ordering = match self.column {
            Column::Pid => self.directed(&a.key, &b.key),
            Column::Service => self.directed(&a.name, &b.name),
            Column::Node => self
                .known_first(a.node_version.as_deref().map(version), b.node_version.as_deref().map(version)),
            Column::Thread => self.directed(&a.key.worker_tid, &b.key.worker_tid),
            Column::Stdout => self.known_first(a.stdout_kind, b.stdout_kind),
            Column::Heap => self.known_first(a.heap_used_bytes, b.heap_used_bytes),
            Column::Rss => self.known_first(a.rss_bytes, b.rss_bytes),
            Column::Utilization => self.numbers(a.utilization, b.utilization),
            Column::TurnP50 => self.numbers(a.turn_p50_s, b.turn_p50_s),
            Column::TurnP99 => self.numbers(a.turn_p99_s, b.turn_p99_s),
            Column::TurnMax => self.numbers(a.turn_max_s, b.turn_max_s),
            Column::Current => self.numbers(a.current_turn_s, b.current_turn_s),
            Column::Stalls => self.numbers(a.stalls_per_minute, b.stalls_per_minute),
            Column::Stalled => self.numbers(a.stalled_s_per_minute, b.stalled_s_per_minute),
            Column::Cause => self.known_first(a.stall_cause, b.stall_cause),
            Column::Culprit => self.known_first(of_culprit(a), of_culprit(b)),
            Column::Finding => {
                let of = |row: &Row| row.finding.map(|(mode, severity)| (severity, std::cmp::Reverse(mode)));
                self.known_first(of(a), of(b))
            }
            Column::GcRatio => self.numbers(a.gc_ratio, b.gc_ratio),
            Column::GcLongest => self.numbers(a.gc_longest_s, b.gc_longest_s),
            Column::Blocked => self.numbers(a.stdout_blocked_ratio, b.stdout_blocked_ratio),
            Column::Cpu => self.numbers(a.cpu_ratio, b.cpu_ratio),
            Column::Age => self.numbers(a.age_s, b.age_s),
        };
        ordering.then(a.key.cmp(&b.key))
    }

    fn directed<T: Ord>(self, a: &T, b: &T) -> Ordering {
        if self.descends() { b.cmp(a) } else { a.cmp(b) }
    }

    fn known_first<T: Ord>(self, a: Option<T>, b: Option<T>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) => self.directed(&a, &b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }

    fn numbers(self, a: Option<f64>, b: Option<f64>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) if self.descends() => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    }
}

/// By package, script and function: those of one file stand together.
fn of_culprit(row: &Row) -> Option<impl Ord> {
    row.culprit.as_ref().map(|Culprit { function, script, line, package }| (package, script, function, line))
}

/// `20.9.0` comes before `20.10.0`.
fn version(text: &str) -> Vec<u64> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

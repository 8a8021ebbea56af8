//! One report of `nodeprobe top --format ndjson`, and sums over several.

use serde_json::Value;

use crate::{json_lines::Line, wall_clock::parse_rfc3339_utc};

/// A report; the field names are the contract of `top`.
#[derive(Clone, Debug)]
pub struct Report {
    /// Wall clock at receipt, seconds since 1970.
    pub received_s: f64,
    pub value: Value,
}

pub(crate) fn from_line(line: &Line) -> Report {
    Report { received_s: line.received_s, value: line.value.clone() }
}

impl Report {
    /// Wall clock at the end of the interval, seconds since 1970.
    #[track_caller]
    pub fn end_s(&self) -> f64 {
        let time = self.value["time"].as_str().and_then(parse_rfc3339_utc);
        time.unwrap_or_else(|| panic!("`time` is no RFC 3339 instant in UTC: {}", self.value))
    }

    #[track_caller]
    pub fn interval_s(&self) -> f64 {
        self.value["interval_s"].as_f64().unwrap_or_else(|| panic!("no `interval_s` in {}", self.value))
    }

    pub fn pids(&self) -> Vec<u32> {
        self.processes().filter_map(|process| Some(process["pid"].as_u64()? as u32)).collect()
    }

    pub fn processes(&self) -> impl Iterator<Item = &Value> {
        self.value["processes"].as_array().into_iter().flatten()
    }

    pub fn process(&self, pid: u32) -> Option<&Value> {
        self.processes().find(|process| process["pid"] == pid)
    }

    pub fn signal_is_ok(&self, pid: u32, signal: &str) -> bool {
        self.process(pid).is_some_and(|process| process["signals"][signal] == "ok")
    }

    pub fn threads(&self, pid: u32) -> impl Iterator<Item = &Value> {
        self.process(pid).into_iter().flat_map(|process| process["threads"].as_array().into_iter().flatten())
    }

    pub fn thread(&self, pid: u32, tid: u32) -> Option<&Value> {
        self.threads(pid).find(|thread| thread["tid"] == tid)
    }

    /// `event_loop` of a process's main thread.
    pub fn main_loop(&self, pid: u32) -> Option<&Value> {
        self.thread(pid, pid).map(|thread| &thread["event_loop"])
    }

    /// Sum of `lost` over all reasons.
    pub fn lost(&self) -> u64 {
        self.value["lost"]
            .as_object()
            .into_iter()
            .flat_map(|lost| lost.values())
            .filter_map(Value::as_u64)
            .sum()
    }
}

/// The causes that stand for running code, by what kind of code it is as far as that is known.
pub const RUNNING: [&str; 4] = ["javascript", "compile", "native", "on_cpu"];

/// The sum of [`RUNNING`] in a `by_cause`: for tests that do not care which code ran.
pub fn running(by_cause: &Value) -> f64 {
    RUNNING.iter().filter_map(|cause| by_cause[cause].as_f64()).sum()
}

/// A count and the time that belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    pub count: u64,
    pub time_s: f64,
}

impl Counted {
    fn add(&mut self, value: &Value) {
        self.count += value["count"].as_u64().unwrap_or(0);
        self.time_s += value["time_s"].as_f64().unwrap_or(0.0);
    }
}

/// Stalls of one thread over several reports.
pub fn stalls(reports: &[Report], pid: u32, tid: u32) -> Counted {
    let mut sum = Counted::default();
    for thread in reports.iter().filter_map(|report| report.thread(pid, tid)) {
        sum.add(&thread["event_loop"]["stalls"]);
    }
    sum
}

/// Stalls of all threads of a process.
pub fn stalls_of_process(reports: &[Report], pid: u32) -> Counted {
    let mut sum = Counted::default();
    for thread in reports.iter().flat_map(|report| report.threads(pid)) {
        sum.add(&thread["event_loop"]["stalls"]);
    }
    sum
}

/// Sums a counter of a process, by its place in the JSON, over reports.
pub fn sum(reports: &[Report], pid: u32, pointer: &str) -> u64 {
    let counts = reports.iter().filter_map(|report| report.process(pid)?.pointer(pointer)?.as_u64());
    counts.sum()
}

/// GC pauses of one kind (`minor`, `major`) of a process.
pub fn pauses(reports: &[Report], pid: u32, kind: &str) -> Counted {
    let mut sum = Counted::default();
    for process in reports.iter().filter_map(|report| report.process(pid)) {
        sum.add(&process["gc"]["pauses"][kind]);
    }
    sum
}

/// What a process wrote to one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StdioTotals {
    /// Every kind that was reported, without repetition.
    pub kinds: Vec<String>,
    pub bytes: u64,
    pub writes: u64,
    pub blocked_s: f64,
    pub eagain: u64,
}

/// Sums `stdout` or `stderr` of a process.
pub fn stdio(reports: &[Report], pid: u32, stream: &str) -> StdioTotals {
    let mut sum = StdioTotals::default();
    for process in reports.iter().filter_map(|report| report.process(pid)) {
        let stream = &process["stdio"][stream];
        if let Some(kind) =
            stream["kind"].as_str().filter(|kind| !sum.kinds.iter().any(|known| known == kind))
        {
            sum.kinds.push(kind.to_owned());
        }
        sum.bytes += stream["bytes"].as_u64().unwrap_or(0);
        sum.writes += stream["writes"].as_u64().unwrap_or(0);
        sum.blocked_s += stream["blocked_s"].as_f64().unwrap_or(0.0);
        sum.eagain += stream["eagain"].as_u64().unwrap_or(0);
    }
    sum
}

/// Asserts that a process showed nothing at all: the other side of every test.
#[track_caller]
pub fn assert_quiet(reports: &[Report], pid: u32) {
    assert!(reports.iter().any(|report| report.process(pid).is_some()), "the control process is not listed");
    assert_eq!(stalls_of_process(reports, pid), Counted::default(), "stalls of the control process");
    for stream in ["stdout", "stderr"] {
        let totals = stdio(reports, pid, stream);
        assert_eq!(
            (totals.blocked_s, totals.eagain),
            (0.0, 0),
            "{stream} of the control process: {totals:?}"
        );
    }
}

/// Asserts that no function of a process is blamed for anything.
#[track_caller]
pub fn assert_no_culprit(reports: &[Report], pid: u32) {
    for thread in reports.iter().flat_map(|report| report.threads(pid)) {
        let event_loop = &thread["event_loop"];
        for culprit in [&event_loop["stalls"]["top_culprit"], &event_loop["current_turn_culprit"]] {
            assert_eq!(*culprit, Value::Null, "a culprit in a quiet process: {event_loop}");
        }
    }
}

/// Asserts that nothing was lost, by any reason.
#[track_caller]
pub fn assert_nothing_lost(reports: &[Report]) {
    for report in reports {
        assert_eq!(report.lost(), 0, "lost: {}", report.value["lost"]);
    }
}

//! One stall as a line: for `nodeprobe trace`, and its division also for the list of stalls in `top`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    document::{is_observed, text},
    quantity::milliseconds,
    timestamp,
};
use crate::model::{Cause, Process, Signal, Stall};

/// Smaller shares of a stall only take room.
const SHOWN_SHARE: f64 = 0.05;

/// `sync_io 70% (fsync), on_cpu 20%`: what took at least a twentieth of a stall, most first, and the system call of its
/// longest sleep.
pub fn division(stall: &Stall) -> String {
    let total_ns = stall.causes.total_ns().max(1) as f64;
    let mut shares: Vec<(Cause, f64)> =
        stall.causes.iter().map(|(cause, ns)| (cause, ns as f64 / total_ns)).collect();
    shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let show = |(cause, share): (Cause, f64)| {
        let sleep = stall.longest_sleep.filter(|sleep| sleep.cause == cause);
        let syscall = sleep.and_then(|sleep| sleep.syscall).map(|syscall| format!(" ({syscall})"));
        format!("{} {:.0}%{}", cause.name(), share * 100.0, syscall.unwrap_or_default())
    };
    let shown: Vec<String> =
        shares.into_iter().filter(|(_, share)| *share >= SHOWN_SHARE).map(show).collect();
    shown.join(", ")
}

/// One line of `trace --format ndjson`; `None` becomes `null` and means "not known".
#[derive(Debug, Serialize)]
pub struct StallLine {
    /// RFC 3339 in UTC with milliseconds, when the stall began.
    pub time: String,
    pub pid: u32,
    pub name: String,
    pub tid: u32,
    pub thread: &'static str,
    pub duration_s: f64,
    pub startup: bool,
    /// It was under way when nodeprobe was started: it lasted longer than `duration_s`.
    pub lower_bound: bool,
    /// Seconds by cause; they add up to `duration_s`.
    pub by_cause: Option<BTreeMap<&'static str, f64>>,
    pub longest_sleep: Option<SleepLine>,
    #[serde(skip)]
    division: String,
}

/// The longest sleep in a stall.
#[derive(Debug, Serialize)]
pub struct SleepLine {
    pub duration_s: f64,
    pub cause: &'static str,
    pub syscall: Option<&'static str>,
}

impl StallLine {
    /// `process`: whose stall it is.
    pub fn new(stall: &Stall, process: &Process) -> Self {
        let observed = is_observed(&process.signals, Signal::Sched);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let by_cause = || stall.causes.iter().map(|(cause, ns)| (cause.name(), seconds(ns))).collect();
        let sleep = stall.longest_sleep.filter(|_| observed);
        Self {
            time: timestamp::rfc3339(stall.began),
            pid: stall.process.pid,
            name: text(&process.identity.name),
            tid: stall.tid,
            thread: stall.thread.name(),
            duration_s: seconds(stall.duration_ns),
            startup: stall.startup,
            lower_bound: stall.lower_bound,
            by_cause: observed.then(by_cause),
            longest_sleep: sleep.map(|sleep| SleepLine {
                duration_s: seconds(sleep.duration_ns),
                cause: sleep.cause.name(),
                syscall: sleep.syscall,
            }),
            division: if observed { division(stall) } else { "causes not observed".to_owned() },
        }
    }

    /// For people: one line without its end, no escape codes.
    pub fn render(&self) -> String {
        let thread = if self.pid == self.tid {
            self.thread.to_owned()
        } else {
            format!("{} {}", self.thread, self.tid)
        };
        let at_least = if self.lower_bound { ">=" } else { "" };
        let startup = if self.startup { "  start-up" } else { "" };
        let duration = format!("{at_least}{} ms", milliseconds(self.duration_s));
        let Self { time, pid, name, division, .. } = self;
        format!("{time}  {pid:>7} {name}  {thread}  {duration:>11}{startup}  {division}")
    }
}

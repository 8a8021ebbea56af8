//! `execSync` and `spawnSync`: the loop waits for another process.

use super::{Finding, History, Mode, duration, percent, thresholds::CHILD_PROCESS};
use crate::model::Cause;

const MODE: Mode = Mode::SyncChildProcess;

pub(super) fn check(history: &History) -> Option<Finding> {
    let stalls = history.stalled_with(Cause::ChildProcess);
    let share = history.share(stalls.time_ns);
    let severity = CHILD_PROCESS.severity(share, MODE, history)?;
    let longest_s = stalls.longest_ns as f64 / 1e9;
    let summary = format!(
        "the event loop waited {} of the time for child processes it started synchronously, up to {} at once",
        percent(share),
        duration(longest_s)
    );
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("stalls", stalls.count as f64),
        ("waiting_ratio", share),
        ("longest_wait_s", longest_s),
    ]);
    Some(finding.blaming(history.blamed_for_cause(Cause::ChildProcess)))
}

//! Synchronous file calls: the loop waits for a disk, a network file system or a pipe.

use super::{Finding, History, Mode, duration, percent, thresholds::SYNC_IO};
use crate::model::Cause;

const MODE: Mode = Mode::SyncIo;

pub(super) fn check(history: &History) -> Option<Finding> {
    let stalls = history.stalled_with(Cause::SyncIo);
    let share = history.share(stalls.time_ns);
    let severity = SYNC_IO.severity(share, MODE, history)?;
    let longest_s = stalls.longest_ns as f64 / 1e9;
    let sleep = history
        .stalls()
        .filter_map(|stall| stall.longest_sleep.as_ref())
        .filter(|sleep| sleep.cause == Cause::SyncIo)
        .max_by_key(|sleep| sleep.duration_ns);
    let call = sleep.and_then(|sleep| sleep.syscall).unwrap_or("system calls");
    let file =
        sleep.and_then(|sleep| sleep.file.as_deref()).map(|file| format!(" of {file}")).unwrap_or_default();
    let summary = format!(
        "the event loop was blocked in {call}{file} and the like for {} of the time, up to {} at once",
        percent(share),
        duration(longest_s)
    );
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("stalls", stalls.count as f64),
        ("blocked_ratio", share),
        ("longest_wait_s", longest_s),
    ]);
    Some(finding.blaming(history.blamed_for_cause(Cause::SyncIo)))
}

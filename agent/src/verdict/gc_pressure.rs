//! Garbage collections take a good part of the time, or long at once.

use super::{
    Finding, History, Mode, Severity, duration, percent,
    thresholds::{GC, GC_LONG_PAUSES},
};
use crate::{model::Category, stack::allocations::Allocation};

const MODE: Mode = Mode::GcPressure;

pub(super) fn check(history: &History) -> Option<Finding> {
    let (time_ns, pauses, max_ns, long_pauses) = history.gc();
    let (share, longest_s) = (history.share(time_ns), max_ns as f64 / 1e9);
    // A pause lasts longer when others have the processor, and that is none of the collector's doing.
    let waiting = history.run_delay().unwrap_or(0.0).min(1.0);
    let collecting = share * (1.0 - waiting);
    let (severity, summary) = if let Some(severity) = GC.severity(collecting, MODE, history) {
        let text = format!(
            "garbage collection takes {} of the time in {pauses} pauses, the longest {}",
            percent(share),
            duration(longest_s)
        );
        (severity, text)
    } else if long_pauses >= GC_LONG_PAUSES {
        let text = format!(
            "garbage collection stopped the loop {long_pauses} times for long, up to {}",
            duration(longest_s)
        );
        (Severity::Warning, text)
    } else {
        return None;
    };
    let allocates = history.allocations().into_iter().next();
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("gc_ratio", share),
        ("gc_with_processor_ratio", collecting),
        ("pauses", pauses as f64),
        ("longest_pause_s", longest_s),
    ]);
    let finding = finding.with(history.gc_pause_p99_s().map(|p99_s| ("pause_p99_s", p99_s)));
    let finding = finding.with(allocated_by(allocates.as_ref(), history));
    let collects = || history.blamed(|stack| stack.category == Category::Gc);
    Some(finding.blaming(allocates.map(|allocates| allocates.culprit).or_else(collects)))
}

/// What is known of the function that allocates most.
pub(super) fn allocated_by(
    allocates: Option<&Allocation>,
    history: &History,
) -> impl Iterator<Item = (&'static str, f64)> {
    let window_s = history.window_s();
    let ratio = allocates.map(|allocates| ("allocated_by_culprit_ratio", allocates.ratio));
    let bytes = allocates.and_then(|allocates| allocates.bytes).filter(|_| window_s > 0.0);
    let per_s = bytes.map(|bytes| ("allocated_by_culprit_bytes_per_s", bytes / window_s));
    ratio.into_iter().chain(per_s)
}

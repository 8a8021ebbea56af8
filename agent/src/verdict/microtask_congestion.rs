//! Chains of small `await`s run in one drain of the microtask queue, and the loop waits for its end.

use super::{
    Finding, History, Mode, duration,
    history::RUNNING,
    percent,
    thresholds::{IN_MICROTASK_MACHINERY, STALLED, STALLS_LEAST, UNDER_MICROTASKS},
};
use crate::model::{Category, StackTime};

const MODE: Mode = Mode::MicrotaskCongestion;

pub(super) fn check(history: &History) -> Option<Finding> {
    let stalls = history.stalls_led_by(&RUNNING);
    if stalls.count < STALLS_LEAST {
        return None;
    }
    let share = history.share(stalls.time_ns);
    let severity = STALLED.severity(share, MODE, history)?;
    let (mut all, mut under, mut machinery) = (0, 0, 0);
    for stack in history.stall_stacks().filter(|stack| stack.category != Category::Blocked) {
        all += stack.time_ns;
        if is_in_drain(stack) {
            under += stack.time_ns;
            if stack.category == Category::Microtasks {
                machinery += stack.time_ns;
            }
        }
    }
    let part = |ns: u64| if all > 0 { ns as f64 / all as f64 } else { 0.0 };
    if part(under) < UNDER_MICROTASKS || part(machinery) < IN_MICROTASK_MACHINERY {
        return None;
    }
    let longest_s = stalls.longest_ns as f64 / 1e9;
    let summary = format!(
        "chains of small awaits kept the loop inside one microtask drain {} times for {} of the time, up to {} at once",
        stalls.count,
        percent(share),
        duration(longest_s)
    );
    let mut finding = Finding::new(MODE, severity, history, summary).with([
        ("stalls", stalls.count as f64),
        ("stalled_ratio", share),
        ("longest_stall_s", longest_s),
        ("under_microtasks_ratio", part(under)),
        ("promise_machinery_ratio", part(machinery)),
    ]);
    // Looked at for some of the time, so the longest stall may not be among them.
    let drains = history.microtasks();
    finding = finding.with([("seen_ratio", drains.seen_ratio(history.window_s()))]);
    if let (Some(p99_s), Some(per_s)) = (drains.drains.quantile_s(0.99), drains.drains_per_s()) {
        finding = finding.with([("drains_per_s", per_s), ("drain_p99_s", p99_s)]);
        finding = finding.with(drains.drains.interval_max_ns.map(|ns| ("drain_max_s", ns as f64 / 1e9)));
    }
    Some(finding.blaming(history.blamed_for_stalls(&RUNNING)))
}

fn is_in_drain(stack: &StackTime) -> bool {
    stack.stack.frames.iter().any(|frame| frame.function.contains("RunMicrotasks"))
}

//! The loop could run, and nobody lets it.

use super::{
    Finding, History, Mode, percent,
    thresholds::{RUN_DELAY, THROTTLED},
};

const MODE: Mode = Mode::CpuStarved;

pub(super) fn check(history: &History) -> Option<Finding> {
    let delayed = history.run_delay_ns().map(|ns| history.share(ns));
    let throttled = history.throttled_ns().map(|ns| history.share(ns));
    let by_delay = delayed.and_then(|share| RUN_DELAY.severity(share, MODE, history));
    let by_quota = throttled.and_then(|share| THROTTLED.severity(share, MODE, history));
    let severity = by_delay.max(by_quota)?;
    let summary = match (by_quota, throttled, delayed) {
        (Some(_), Some(throttled), _) => {
            format!("the CPU quota of its cgroup stopped the process for {} of the time", percent(throttled))
        }
        (_, _, delayed) => format!(
            "the main thread was ready to run and had no processor for {} of the time: others took it",
            percent(delayed.unwrap_or(0.0))
        ),
    };
    let known = [("run_delay_ratio", delayed), ("throttled_ratio", throttled)];
    let known = known.into_iter().filter_map(|(name, share)| Some((name, share?)));
    Some(Finding::new(MODE, severity, history, summary).with(known))
}

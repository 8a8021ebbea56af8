//! The loop could run, and nobody lets it.

use super::{
    Finding, History, Mode, percent,
    thresholds::{RUN_DELAY, RUN_DELAY_LEAST_S, THROTTLED, THROTTLED_LEAST_S},
};

const MODE: Mode = Mode::CpuStarved;

pub(super) fn check(history: &History) -> Option<Finding> {
    let (delayed, throttled) = (history.run_delay(), history.throttled());
    let is_much = |share: &f64, least_s: f64| share * history.window_s() >= least_s;
    let by_delay = delayed
        .filter(|share| is_much(share, RUN_DELAY_LEAST_S))
        .and_then(|share| RUN_DELAY.severity(share, MODE, history));
    // The quota is the group's: it may stop others in it while this thread sleeps.
    let waits = delayed.is_none_or(|share| share >= THROTTLED.warning);
    let by_quota = throttled
        .filter(|share| waits && is_much(share, THROTTLED_LEAST_S))
        .and_then(|share| THROTTLED.severity(share, MODE, history));
    let severity = by_delay.max(by_quota)?;
    let summary = if by_quota >= by_delay {
        format!(
            "the CPU quota of its cgroup was used up for {} of the time",
            percent(throttled.unwrap_or(0.0))
        )
    } else {
        format!(
            "the main thread was ready to run and had no processor for {} of the time",
            percent(delayed.unwrap_or(0.0))
        )
    };
    let known = [("run_delay_ratio", delayed), ("throttled_ratio", throttled)];
    let known = known.into_iter().filter_map(|(name, share)| Some((name, share?)));
    Some(Finding::new(MODE, severity, history, summary).with(known))
}

//! Synchronous work keeps the event loop from everything else.

use super::{
    Finding, History, Mode, duration,
    history::RUNNING,
    percent,
    thresholds::{STALLED, STALLS_LEAST, TURN_UNDER_WAY_S},
};

const MODE: Mode = Mode::EventLoopStarvation;

pub(super) fn check(history: &History) -> Option<Finding> {
    under_way(history).or_else(|| in_stalls(history))
}

/// A turn that does not end is found while it lasts.
fn under_way(history: &History) -> Option<Finding> {
    let (in_turn_ns, culprit) = history.turn_under_way(&RUNNING)?;
    let age_s = in_turn_ns as f64 / 1e9;
    let severity = TURN_UNDER_WAY_S.severity(age_s, MODE, history)?;
    let summary = format!("the event loop has been stuck for {} and still is", duration(age_s));
    let finding = Finding::new(MODE, severity, history, summary).with([("current_turn_s", age_s)]);
    Some(finding.blaming(culprit.cloned()))
}

fn in_stalls(history: &History) -> Option<Finding> {
    let stalls = history.stalls_led_by(&RUNNING);
    let longest_s = stalls.longest_ns as f64 / 1e9;
    if stalls.count < STALLS_LEAST && longest_s < TURN_UNDER_WAY_S.warning {
        return None;
    }
    let share = history.share(stalls.time_ns);
    let severity = STALLED.severity(share, MODE, history)?;
    let summary = format!(
        "synchronous work stopped the event loop {} times for {} of the time, up to {} at once",
        stalls.count,
        percent(share),
        duration(longest_s)
    );
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("stalls", stalls.count as f64),
        ("stalled_ratio", share),
        ("longest_stall_s", longest_s),
    ]);
    Some(finding.blaming(history.blamed_for_stalls(&RUNNING)))
}

//! Objects of ever new shapes: optimised code is thrown away, and property access goes the long way.

use super::{
    Finding, History, Mode, Severity, percent,
    thresholds::{
        DEOPTS_INTERVALS_LEAST, DEOPTS_LEAST, DEOPTS_PER_S, IC_MISSES, IC_MISSES_BUSY_LEAST, limit,
    },
};
use crate::model::{Category, Occasion};

const MODE: Mode = Mode::ShapeChurn;

pub(super) fn check(history: &History) -> Option<Finding> {
    let (sampled_ns, missing_ns) = history.sampled_ns(Category::IcMiss);
    let share = if sampled_ns > 0 { missing_ns as f64 / sampled_ns as f64 } else { 0.0 };
    let is_busy = history.share(sampled_ns) >= IC_MISSES_BUSY_LEAST;
    let by_misses = IC_MISSES.severity(share, MODE, history).filter(|_| is_busy);
    let deopts = history.deopts() as f64;
    let taken = |occasion| history.taken(occasion).map(|taken| taken.count).sum::<u64>() as f64;
    let (harmful, of_loops) = (taken(Occasion::Deopt), taken(Occasion::LoopExit));
    let most = history.blamed_for(Occasion::Deopt);
    let loop_exits = if of_loops > 0.0 { of_loops / (harmful + of_loops) } else { 0.0 };
    let of_most = most.as_ref().map_or(0.0, |(_, part)| deopts * part * (1.0 - loop_exits));
    let per_s = if history.window_s() > 0.0 { of_most / history.window_s() } else { 0.0 };
    let goes_on = most.as_ref().is_some_and(|(culprit, _)| {
        let (intervals, is_late) = history.intervals_with(Occasion::Deopt, culprit);
        intervals >= DEOPTS_INTERVALS_LEAST && is_late
    });
    let by_deopts = goes_on
        && of_most >= limit(DEOPTS_LEAST, MODE, history)
        && per_s >= limit(DEOPTS_PER_S, MODE, history);
    let (severity, summary) = match by_misses {
        Some(severity) => (
            severity,
            format!(
                "{} of the processor time goes into inline-cache misses: objects keep changing shape",
                percent(share)
            ),
        ),
        None if by_deopts => {
            let text = format!(
                "optimised code of one function was thrown away about {of_most:.0} times, {per_s:.1} times per second"
            );
            (Severity::Warning, text)
        }
        None => return None,
    };
    let culprit = match by_misses {
        Some(_) => history.blamed(|stack| stack.category == Category::IcMiss),
        None => most.map(|(culprit, _)| culprit),
    };
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("ic_miss_ratio", share),
        ("deopts", deopts),
        ("deopts_per_s", history.per_second(history.deopts())),
        ("loop_exit_ratio", loop_exits),
    ]);
    Some(finding.blaming(culprit))
}

//! Requests are answered by callbacks that have not their async context: `AsyncLocalStorage` is empty there.

use std::collections::BTreeMap;

use super::{
    Finding, History, Mode, Severity, percent,
    thresholds::{CONTEXTS_LOST, CONTEXTS_LOST_LEAST, limit},
};
use crate::{
    model::{Culprit, Occasion},
    stack::callback::callback,
};

const MODE: Mode = Mode::AsyncContextLoss;

pub(super) fn check(history: &History) -> Option<Finding> {
    let answers = history.async_context();
    let mut taken: u64 = history.taken(Occasion::NoContext).map(|sample| sample.count).sum();
    let mut direct = 0;
    let mut callbacks: Vec<(Culprit, u64)> = Vec::new();
    let mut callers: BTreeMap<&str, u64> = BTreeMap::new();
    for sample in history.taken(Occasion::LostContext) {
        taken += sample.count;
        let Some(found) = callback(&sample.stack) else { continue };
        direct += sample.count;
        callbacks.push((Culprit::of_frame(found.function), sample.count));
        if let Some(package) = found.caller {
            *callers.entry(package).or_default() += sample.count;
        }
    }
    // Stacks are bounded in number, so they tell a share only.
    let share_direct = if taken > 0 { direct as f64 / taken as f64 } else { 0.0 };
    let lost = answers.lost as f64 * share_direct;
    if lost < limit(CONTEXTS_LOST_LEAST, MODE, history) {
        return None;
    }
    let share = lost / (lost + answers.kept as f64);
    let severity =
        if share >= limit(CONTEXTS_LOST, MODE, history) { Severity::Warning } else { Severity::Info };
    let caller = callers.iter().max_by_key(|(_, count)| **count).map(|(package, _)| *package);
    let by = caller.map(|package| format!(" by package {package}")).unwrap_or_default();
    let summary = format!(
        "{} of the answers were given by callbacks that run{by} without the async context of their request",
        percent(share)
    );
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("lost_ratio", share),
        ("answers_without_context", lost),
        ("answers_with_context", answers.kept as f64),
        ("seen_ratio", history.answers_seen_ratio()),
        ("sampled_callbacks", taken as f64),
    ]);
    Some(finding.blaming(Culprit::of_most(callbacks.iter().map(|(culprit, count)| (culprit, *count)))))
}

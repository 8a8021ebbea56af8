//! Promises fail and nobody looks.

use super::{Finding, History, Mode, Severity, thresholds::REJECTIONS_PER_S_CRITICAL};
use crate::model::{NoticeKind, Occasion};

const MODE: Mode = Mode::UnhandledRejections;

pub(super) fn check(history: &History) -> Option<Finding> {
    let (unhandled, handled_late) = history.rejections();
    let has_died = history.exited() && history.was_told_last(NoticeKind::UncaughtRejection);
    if unhandled == 0 && !has_died {
        return None;
    }
    let per_s = history.per_second(unhandled);
    let severity =
        if has_died || per_s >= REJECTIONS_PER_S_CRITICAL { Severity::Critical } else { Severity::Warning };
    let plural = if unhandled == 1 { "promise was" } else { "promises were" };
    let summary = match (has_died, unhandled) {
        (true, 0) => "the process died of a rejected promise that nobody handled".to_owned(),
        (true, _) => format!("{unhandled} {plural} rejected and nobody handled it; the process died of it"),
        (false, _) => format!("{unhandled} {plural} rejected and nobody handled it"),
    };
    let culprit = history.blamed_for(Occasion::Rejection).map(|(culprit, _)| culprit);
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("unhandled", unhandled as f64),
        ("unhandled_per_s", per_s),
        ("handled_late", handled_late as f64),
    ]);
    Some(finding.blaming(culprit))
}

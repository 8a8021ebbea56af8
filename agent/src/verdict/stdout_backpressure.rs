//! Whoever reads the logs is slower than the service writes them.

use super::{
    Finding, History, Mode, Severity,
    history::Stream,
    percent,
    thresholds::{STDIO_BLOCKED, STDIO_REFUSED_PER_S, limit},
};
use crate::{
    model::{Cause, StreamKind},
    stack::logging::logging,
};

const MODE: Mode = Mode::StdoutBackpressure;

pub(super) fn check(history: &History) -> Option<Finding> {
    let [stdout, stderr] = history.stdio();
    let of = |name, stream| of_stream(name, stream, history);
    // Of equals the first.
    [of("stderr", stderr), of("stdout", stdout)].into_iter().flatten().max_by_key(|finding| finding.severity)
}

fn of_stream(name: &str, stream: Stream, history: &History) -> Option<Finding> {
    let kind = stream.kind.map_or("stream", StreamKind::name);
    let share = history.share(stream.blocked_ns);
    let refused_per_s = history.per_second(stream.refused);
    let (severity, summary) = if let Some(severity) = STDIO_BLOCKED.severity(share, MODE, history) {
        (
            severity,
            format!("writes to {name} (a {kind}) blocked the event loop for {} of the time", percent(share)),
        )
    } else if refused_per_s >= limit(STDIO_REFUSED_PER_S, MODE, history) {
        let text = format!(
            "{name} (a {kind}) refused {refused_per_s:.1} writes per second: what is logged piles up in memory and is lost at \
             exit"
        );
        (Severity::Warning, text)
    } else {
        return None;
    };
    let logging = logging(history.stacks());
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("blocked_ratio", share),
        ("refused_per_s", refused_per_s),
        ("writes_per_s", history.per_second(stream.writes)),
        ("bytes_per_s", history.per_second(stream.bytes)),
        ("formatting_ratio", logging.ratio().unwrap_or(0.0)),
    ]);
    Some(finding.blaming(history.blamed_for_stalls(&[Cause::StdioWrite]).or(logging.culprit)))
}

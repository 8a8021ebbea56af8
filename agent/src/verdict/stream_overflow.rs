//! Someone reads more slowly than the process writes, and the process keeps what it cannot get rid of.

use super::{
    Finding, History, Mode, bytes, duration,
    slope::theil_sen,
    thresholds::{BACKLOG_S, OUTSIDE_HEAP_FOR_S, OUTSIDE_HEAP_LEAST, OUTSIDE_HEAP_PER_S, limit},
};
use crate::model::Backlog;

const MODE: Mode = Mode::StreamOverflow;

pub(super) fn check(history: &History) -> Option<Finding> {
    let backlogs = history.backlogs();
    let longest = backlogs.first()?;
    let age_s = longest.age_ns as f64 / 1e9;
    if age_s < BACKLOG_S {
        return None;
    }
    let sizes = history.outside_heap();
    let observed_s = sizes.last()?.0 - sizes.first()?.0;
    if sizes.len() < 3 || observed_s < OUTSIDE_HEAP_FOR_S {
        return None;
    }
    // A slow reader alone is no harm, where the writer waits for it: then memory stays as it is.
    let late = theil_sen(&sizes[sizes.len() / 2..])?;
    let slope = theil_sen(&sizes)?.min(late);
    let growth = slope * observed_s;
    let severity = OUTSIDE_HEAP_PER_S.severity(slope, MODE, history)?;
    if growth < limit(OUTSIDE_HEAP_LEAST, MODE, history) {
        return None;
    }
    let peer = longest.peer.as_deref().unwrap_or("someone");
    let others = match backlogs.len() {
        1 => String::new(),
        count => format!(" and those of {} others", count - 1),
    };
    let sum = |of: fn(&Backlog) -> Option<u64>| backlogs.iter().filter_map(of).sum::<u64>() as f64;
    let (in_kernel, in_libuv) = (sum(|one| one.queued_bytes), sum(|one| one.libuv_queued_bytes));
    let is_libuv_known = backlogs.iter().any(|one| one.libuv_queued_bytes.is_some());
    let queue = if backlogs.len() == 1 { "its queue" } else { "their queues" };
    let summary = format!(
        "{peer} reads more slowly than the process writes: its socket{others} has been full for {}, {} wait in {queue}, and memory \
         outside of the heap grows by {} per minute",
        duration(age_s),
        bytes(in_kernel + in_libuv),
        bytes(slope * 60.0)
    );
    let mut evidence = vec![
        ("full_sockets", backlogs.len() as f64),
        ("full_since_s", age_s),
        ("kernel_queue_bytes", in_kernel),
        ("refused_writes_per_s", history.per_second(history.sockets_refused())),
        ("outside_heap_slope_bytes_per_s", slope),
    ];
    if is_libuv_known {
        evidence.push(("libuv_queue_bytes", in_libuv));
    }
    if let Some(rss) = history.rss_bytes() {
        evidence.push(("rss_bytes", rss as f64));
    }
    Some(Finding::new(MODE, severity, history, summary).with(evidence))
}

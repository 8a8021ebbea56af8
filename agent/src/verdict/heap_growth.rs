//! What is kept grows and grows, until V8 gives up or the kernel kills.

use super::{
    Finding, History, Mode, Severity, bytes, duration,
    gc_pressure::allocated_by,
    slope::theil_sen,
    thresholds::{
        HEAP_COLLECTIONS_FEW_S, HEAP_COLLECTIONS_LEAST, HEAP_GROWTH, HEAP_GROWTH_OF_FEW,
        HEAP_STEADINESS_OF_FEW, HEAP_TIME_TO_LIMIT_S, limit,
    },
};
use crate::model::NoticeKind;

const MODE: Mode = Mode::HeapGrowth;

pub(super) fn check(history: &History) -> Option<Finding> {
    for (kind, text) in [
        (NoticeKind::OutOfMemory, "V8 ran out of memory and Node ended the process"),
        (NoticeKind::NearHeapLimit, "V8 has reached the limit of its heap and is about to give up"),
    ] {
        if history.has_been_told(kind) {
            let mut finding = Finding::new(MODE, Severity::Critical, history, text.to_owned());
            if let Some(limit) = history.heap_limit_bytes() {
                finding = finding.with([("heap_limit_bytes", limit as f64)]);
            }
            return Some(blaming_who_allocates(finding, history));
        }
    }
    let sizes = history.heap_sizes();
    let (first, last) = (sizes.first()?, sizes.last()?);
    if sizes.len() < HEAP_COLLECTIONS_LEAST && !is_plain(&sizes) {
        return None;
    }
    // A cache that has filled grows no more: the later half must grow like the whole.
    let slope = theil_sen(&sizes)?;
    let late_slope = theil_sen(&sizes[sizes.len() / 2..]).unwrap_or(slope);
    let slope = slope.min(late_slope.max(0.0));
    let steps_up = sizes.windows(2).filter(|pair| pair[1].1 > pair[0].1).count();
    let growth = slope * (last.0 - first.0);
    let is_growing = 4 * steps_up >= 3 * (sizes.len() - 1) && late_slope > 0.0;
    if !is_growing || growth < limit(HEAP_GROWTH, MODE, history) * first.1 {
        return None;
    }
    let grown = format!(
        "the heap after full collections grows by {} per minute and has {} now",
        bytes(slope * 60.0),
        bytes(last.1)
    );
    let mut evidence = vec![
        ("heap_slope_bytes_per_s", slope),
        ("heap_used_bytes", last.1),
        ("full_collections", sizes.len() as f64),
        ("observed_s", last.0 - first.0),
    ];
    if let Some(rss) = history.rss_bytes() {
        evidence.push(("rss_bytes", rss as f64));
        if let Some(heap) = history.heap_used_bytes() {
            evidence.push(("outside_heap_bytes", rss.saturating_sub(heap) as f64));
        }
    }
    let heap =
        history.heap_limit_bytes().map(|limit| (limit as f64, (limit as f64 - last.1).max(0.0) / slope));
    let group = history.group_memory();
    // What else the group does with its memory is not known to grow.
    let container = group.zip(group.and_then(|group| group.used_bytes)).map(|(group, used_bytes)| {
        (group.limit_bytes as f64, group.limit_bytes.saturating_sub(used_bytes) as f64 / slope)
    });
    if let Some((limit, left_s)) = heap {
        evidence.extend([("heap_limit_bytes", limit), ("time_to_heap_limit_s", left_s)]);
    }
    if let Some((limit, left_s)) = container {
        evidence.extend([("memory_limit_bytes", limit), ("time_to_memory_limit_s", left_s)]);
        evidence
            .extend(group.and_then(|group| group.used_bytes).map(|used| ("memory_used_bytes", used as f64)));
    }
    let of_heap = heap.map(|(limit, left_s)| (limit, left_s, "its limit"));
    let of_container = container.map(|(limit, left_s)| (limit, left_s, "the memory limit of its container"));
    let first = of_heap.into_iter().chain(of_container).min_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
    let (severity, summary) = match first {
        None => (Severity::Warning, format!("{grown}; its limit is not known")),
        Some((limit, left_s, what)) => {
            evidence.push(("time_to_limit_s", left_s));
            let severity = if left_s <= HEAP_TIME_TO_LIMIT_S.critical {
                Severity::Critical
            } else if left_s <= HEAP_TIME_TO_LIMIT_S.warning {
                Severity::Warning
            } else {
                Severity::Info
            };
            (severity, format!("{grown}; it reaches {what} of {} in {}", bytes(limit), duration(left_s)))
        }
    };
    let finding = Finding::new(MODE, severity, history, summary).with(evidence);
    Some(blaming_who_allocates(finding, history))
}

/// Who allocates most is likely to allocate what stays.
fn blaming_who_allocates(finding: Finding, history: &History) -> Finding {
    let allocates = history.allocations().into_iter().next();
    let finding = finding.with(allocated_by(allocates.as_ref(), history));
    finding.blaming(allocates.map(|allocates| allocates.culprit))
}

/// Whether three collections alone tell growth: seconds and bytes of each.
fn is_plain(sizes: &[(f64, f64)]) -> bool {
    let [first, middle, last] = sizes else { return false };
    let slope = |from: &(f64, f64), to: &(f64, f64)| (to.1 - from.1) / (to.0 - from.0);
    last.0 - first.0 >= HEAP_COLLECTIONS_FEW_S
        && last.1 - first.1 >= HEAP_GROWTH_OF_FEW * first.1
        && slope(middle, last) >= HEAP_STEADINESS_OF_FEW * slope(first, middle)
}

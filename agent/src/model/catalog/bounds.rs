//! How many series a process can have: what closed sets of values are good for.

use super::{ALL, CULPRITS_MAX, Metric, Subject, THREAD_TYPE};

/// Series of one process in Prometheus at most, with `target_info` left out, for one or both kinds of threads. How many threads
/// of a kind there are does not matter: they are summed.
pub fn most_series(thread_kinds: usize) -> usize {
    let of_processes = ALL.iter().filter(|metric| metric.subject != Subject::Agent);
    of_processes.map(|metric| most_points(metric, thread_kinds) * series_of_point(metric)).sum()
}

fn most_points(metric: &Metric, thread_kinds: usize) -> usize {
    if metric.attributes.iter().any(|attribute| attribute.values.is_empty()) {
        return CULPRITS_MAX + 1;
    }
    let values = metric.attributes.iter().map(|attribute| match *attribute {
        THREAD_TYPE => thread_kinds,
        attribute => attribute.values.len(),
    });
    values.product()
}

/// A histogram has one for each bound, the one behind the last, its sum and its count.
fn series_of_point(metric: &Metric) -> usize {
    if metric.bounds_ns.is_empty() { 1 } else { metric.bounds_ns.len() + 3 }
}

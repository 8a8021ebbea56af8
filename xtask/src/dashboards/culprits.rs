//! The functions that stalls are blamed on: which, and since when.

use super::{
    metrics::STALL_CULPRIT_TIME,
    panel::{
        Kind::{Lines, Table},
        Panel, panel,
    },
    promql::{growth, rate, share_of, sum},
};

const FUNCTION: &str = "code_function_name";
const FILE: &str = "code_file_path";
const THREAD: &str = "nodeprobe_thread_type";

/// Those that have no series of their own get a name, or they would be a row without one.
fn named(expression: &str) -> String {
    format!(r#"label_replace({expression}, "{FUNCTION}", "(all others)", "otel_metric_overflow", "true")"#)
}

/// The ten with the most time; `labels` are the columns beside function, file and thread.
pub(super) fn table(description: &'static str, labels: &[(&str, &'static str, u64)]) -> Panel {
    let mut table = panel(Table, "Culprits", "short", description).width(16).height(12);
    for (name, heading, width) in labels {
        table = table.label(name, heading, *width);
    }
    let names: Vec<&str> = labels.iter().map(|(name, ..)| *name).chain([FUNCTION, FILE, THREAD]).collect();
    let stalled = sum(&names.join(", "), &named(&growth(STALL_CULPRIT_TIME, "")));
    table.label(THREAD, "Thread", 80).label(FILE, "File", 0).label(FUNCTION, "Function", 200).column(
        "Stalled",
        "s",
        None,
        format!("topk(10, {stalled} > 0)"),
    )
}

/// Over time, over each set of `labels`.
pub(super) fn over_time(description: &'static str, labels: &str, legend: &str) -> Panel {
    let stalled = share_of(labels, FUNCTION, &named(&rate(STALL_CULPRIT_TIME, "")));
    panel(Lines, "Stalled share by culprit", "percentunit", description)
        .height(12)
        .query(legend, format!("topk(10, {stalled})"))
}

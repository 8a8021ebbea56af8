//! CSV: one row per thread, the columns of its process repeated, so that a row can be read alone. Unknown values are
//! empty. Text is quoted as RFC 4180 asks and otherwise left as it is: a name that begins with `=` or `@` (npm
//! scopes do) stays true for programs; a spreadsheet should import the column as text.

use std::io;

use serde::Serialize;

use super::document::{ProcessReport, Report, ThreadReport};

/// The header is made of these names, which follow the path of the same value in the JSON document.
#[derive(Serialize)]
struct Row<'a> {
    time: &'a str,
    interval_s: f64,
    pid: u32,
    name: &'a str,
    node_version: Option<&'a str>,
    v8_version: Option<&'a str>,
    container_id: Option<&'a str>,
    uptime_s: f64,
    rss_bytes: Option<u64>,
    cpu_ratio: Option<f64>,
    cpu_throttled_s: Option<f64>,
    cpu_periods: Option<u64>,
    cpu_throttled_periods: Option<u64>,
    run_delay_s: Option<f64>,
    nice: Option<i8>,
    host_cpu_steal_ratio: Option<f64>,
    heap_used_bytes: Option<u64>,
    heap_limit_bytes: Option<u64>,
    gc_time_ratio: Option<f64>,
    gc_minor_count: Option<u64>,
    gc_minor_time_s: Option<f64>,
    gc_minor_p50_s: Option<f64>,
    gc_minor_p99_s: Option<f64>,
    gc_minor_max_s: Option<f64>,
    gc_major_count: Option<u64>,
    gc_major_time_s: Option<f64>,
    gc_major_p50_s: Option<f64>,
    gc_major_p99_s: Option<f64>,
    gc_major_max_s: Option<f64>,
    stdout_kind: Option<&'a str>,
    stdout_bytes: Option<u64>,
    stdout_writes: Option<u64>,
    stdout_blocked_s: Option<f64>,
    stdout_eagain: Option<u64>,
    stderr_kind: Option<&'a str>,
    stderr_bytes: Option<u64>,
    stderr_writes: Option<u64>,
    stderr_blocked_s: Option<f64>,
    stderr_eagain: Option<u64>,
    tid: Option<u32>,
    thread_kind: Option<&'a str>,
    utilization: Option<f64>,
    turns: Option<u64>,
    turn_p50_s: Option<f64>,
    turn_p99_s: Option<f64>,
    turn_max_s: Option<f64>,
    current_turn_s: Option<f64>,
    current_turn_cause: Option<&'static str>,
    stalls_count: Option<u64>,
    stalls_time_s: Option<f64>,
    stalls_by_cause_javascript: Option<f64>,
    stalls_by_cause_compile: Option<f64>,
    stalls_by_cause_native: Option<f64>,
    stalls_by_cause_on_cpu: Option<f64>,
    stalls_by_cause_gc: Option<f64>,
    stalls_by_cause_stdio_write: Option<f64>,
    stalls_by_cause_sync_io: Option<f64>,
    stalls_by_cause_child_process: Option<f64>,
    stalls_by_cause_lock: Option<f64>,
    stalls_by_cause_cpu_wait: Option<f64>,
    stalls_by_cause_unknown: Option<f64>,
    stalls_top_culprit_function: Option<&'a str>,
    stalls_top_culprit_script: Option<&'a str>,
    stalls_top_culprit_line: Option<u32>,
    stalls_top_culprit_package: Option<&'a str>,
}

/// Appends the rows of `report`, before them the header if asked and if there is any row.
///
/// # Errors
/// None that can happen: memory takes every row, and all rows have the same length.
pub(super) fn render(report: &Report, header: bool, out: &mut Vec<u8>) -> io::Result<()> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(out);
    for process in &report.processes {
        if process.threads.is_empty() {
            writer.serialize(row(report, process, None))?;
        }
        for thread in &process.threads {
            writer.serialize(row(report, process, Some(thread)))?;
        }
    }
    writer.flush()
}

fn row<'a>(report: &'a Report, process: &'a ProcessReport, thread: Option<&'a ThreadReport>) -> Row<'a> {
    let (minor, major) = (&process.gc.pauses.minor, &process.gc.pauses.major);
    let (stdout, stderr) = (&process.stdio.stdout, &process.stdio.stderr);
    let event_loop = thread.map(|thread| &thread.event_loop);
    let causes = event_loop.and_then(|it| it.stalls.by_cause.as_ref());
    let culprit = event_loop.and_then(|it| it.stalls.top_culprit.as_ref());
    let cause = |name: &str| causes.and_then(|causes| causes.get(name)).copied();
    Row {
        time: &report.time,
        interval_s: report.interval_s,
        pid: process.pid,
        name: &process.name,
        node_version: process.node_version.as_deref(),
        v8_version: process.v8_version.as_deref(),
        container_id: process.container_id.as_deref(),
        uptime_s: process.uptime_s,
        rss_bytes: process.rss_bytes,
        cpu_ratio: process.cpu_ratio,
        cpu_throttled_s: process.cpu_throttled_s,
        cpu_periods: process.cpu_periods,
        cpu_throttled_periods: process.cpu_throttled_periods,
        run_delay_s: process.run_delay_s,
        nice: process.nice,
        host_cpu_steal_ratio: report.host.cpu_steal_ratio,
        heap_used_bytes: process.heap.used_bytes,
        heap_limit_bytes: process.heap.limit_bytes,
        gc_time_ratio: process.gc.time_ratio,
        gc_minor_count: minor.count,
        gc_minor_time_s: minor.time_s,
        gc_minor_p50_s: minor.p50_s,
        gc_minor_p99_s: minor.p99_s,
        gc_minor_max_s: minor.max_s,
        gc_major_count: major.count,
        gc_major_time_s: major.time_s,
        gc_major_p50_s: major.p50_s,
        gc_major_p99_s: major.p99_s,
        gc_major_max_s: major.max_s,
        stdout_kind: stdout.kind,
        stdout_bytes: stdout.bytes,
        stdout_writes: stdout.writes,
        stdout_blocked_s: stdout.blocked_s,
        stdout_eagain: stdout.eagain,
        stderr_kind: stderr.kind,
        stderr_bytes: stderr.bytes,
        stderr_writes: stderr.writes,
        stderr_blocked_s: stderr.blocked_s,
        stderr_eagain: stderr.eagain,
        tid: thread.map(|thread| thread.tid),
        thread_kind: thread.map(|thread| thread.kind),
        utilization: event_loop.and_then(|it| it.utilization),
        turns: event_loop.and_then(|it| it.turns),
        turn_p50_s: event_loop.and_then(|it| it.turn_p50_s),
        turn_p99_s: event_loop.and_then(|it| it.turn_p99_s),
        turn_max_s: event_loop.and_then(|it| it.turn_max_s),
        current_turn_s: event_loop.and_then(|it| it.current_turn_s),
        current_turn_cause: event_loop.and_then(|it| it.current_turn_cause),
        stalls_count: event_loop.and_then(|it| it.stalls.count),
        stalls_time_s: event_loop.and_then(|it| it.stalls.time_s),
        stalls_by_cause_javascript: cause("javascript"),
        stalls_by_cause_compile: cause("compile"),
        stalls_by_cause_native: cause("native"),
        stalls_by_cause_on_cpu: cause("on_cpu"),
        stalls_by_cause_gc: cause("gc"),
        stalls_by_cause_stdio_write: cause("stdio_write"),
        stalls_by_cause_sync_io: cause("sync_io"),
        stalls_by_cause_child_process: cause("child_process"),
        stalls_by_cause_lock: cause("lock"),
        stalls_by_cause_cpu_wait: cause("cpu_wait"),
        stalls_by_cause_unknown: cause("unknown"),
        stalls_top_culprit_function: culprit.map(|culprit| culprit.function.as_str()),
        stalls_top_culprit_script: culprit.and_then(|culprit| culprit.script.as_deref()),
        stalls_top_culprit_line: culprit.and_then(|culprit| culprit.line),
        stalls_top_culprit_package: culprit.and_then(|culprit| culprit.package.as_deref()),
    }
}

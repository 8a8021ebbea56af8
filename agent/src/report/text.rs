//! The table of `top -b`: one row per process, which carries its main thread, and its worker threads under it. ASCII
//! but for names, no escape codes: it goes to files, mails and terminals alike.

use super::{
    document::{EventLoopReport, ProcessReport, Report, StallsReport},
    quantity::{UNKNOWN, bytes, duration, milliseconds, or_unknown, percent},
    table::{Align, Table},
};

const COLUMNS: [(&str, Align); 19] = [
    ("PID", Align::Right),
    ("SERVICE", Align::Left),
    ("NODE", Align::Left),
    ("THREAD", Align::Left),
    ("UTIL%", Align::Right),
    ("P50ms", Align::Right),
    ("P99ms", Align::Right),
    ("MAXms", Align::Right),
    ("CURRENT", Align::Right),
    ("STALLS", Align::Right),
    ("STALLED", Align::Right),
    ("CAUSE", Align::Left),
    ("GC%", Align::Right),
    ("GCMAXms", Align::Right),
    ("STDOUT", Align::Left),
    ("BLOCKED%", Align::Right),
    ("HEAP", Align::Right),
    ("RSS", Align::Right),
    ("CPU%", Align::Right),
];

/// A line about the interval, the table and an empty line.
pub(super) fn render(report: &Report) -> String {
    let lost: u64 = report.lost.values().sum();
    let threads: usize = report.processes.iter().map(|process| process.threads.len()).sum();
    let (processes, interval) = (report.processes.len(), duration(report.interval_s));
    let mut lines = vec![format!(
        "{}  processes {processes}  threads {threads}  interval {interval}  lost events {lost}",
        report.time
    )];
    let losses = report.lost.iter().filter(|(_, count)| **count > 0);
    lines.extend(losses.map(|(reason, count)| format!("  lost {count}: {reason}")));
    let mut table = Table::new(&COLUMNS);
    for process in &report.processes {
        let main = process.threads.iter().find(|thread| thread.kind == "main");
        table.push(of_process(process, main.map(|thread| &thread.event_loop), report.interval_s));
        for worker in process.threads.iter().filter(|thread| thread.kind != "main") {
            let mut cells = vec![String::new(), "  worker".to_owned(), String::new(), worker.tid.to_string()];
            cells.extend(of_event_loop(Some(&worker.event_loop)));
            table.push(cells);
        }
    }
    lines.extend(table.lines(|_| Vec::new()));
    lines.join("\n") + "\n\n"
}

fn of_process(process: &ProcessReport, main: Option<&EventLoopReport>, interval_s: f64) -> Vec<String> {
    let mut cells = vec![
        process.pid.to_string(),
        process.name.clone(),
        or_unknown(process.node_version.clone(), |version| version),
        "main".to_owned(),
    ];
    cells.extend(of_event_loop(main));
    let pauses = &process.gc.pauses;
    let longest_pause = pauses.minor.max_s.into_iter().chain(pauses.major.max_s).reduce(f64::max);
    let stdout = &process.stdio.stdout;
    let blocked_ratio = stdout.blocked_s.filter(|_| interval_s > 0.0).map(|blocked| blocked / interval_s);
    cells.extend([
        or_unknown(process.gc.time_ratio, percent),
        or_unknown(longest_pause, milliseconds),
        stdout.kind.unwrap_or(UNKNOWN).to_owned(),
        or_unknown(blocked_ratio, percent),
        or_unknown(process.heap.used_bytes, bytes),
        or_unknown(process.rss_bytes, bytes),
        or_unknown(process.cpu_ratio, percent),
    ]);
    cells
}

fn of_event_loop(event_loop: Option<&EventLoopReport>) -> [String; 8] {
    [
        or_unknown(event_loop.and_then(|it| it.utilization), percent),
        or_unknown(event_loop.and_then(|it| it.turn_p50_s), milliseconds),
        or_unknown(event_loop.and_then(|it| it.turn_p99_s), milliseconds),
        or_unknown(event_loop.and_then(|it| it.turn_max_s), milliseconds),
        or_unknown(event_loop.and_then(|it| it.current_turn_s), duration),
        or_unknown(event_loop.and_then(|it| it.stalls.count), |count| count.to_string()),
        or_unknown(event_loop.and_then(|it| it.stalls.time_s), duration),
        event_loop.and_then(|it| leading_cause(&it.stalls)).unwrap_or_default().to_owned(),
    ]
}

/// The cause of most of the time in stalls; `None` also when there was no stall.
fn leading_cause(stalls: &StallsReport) -> Option<&'static str> {
    let (cause, time_s) = stalls.by_cause.as_ref()?.iter().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (*time_s > 0.0).then_some(*cause)
}

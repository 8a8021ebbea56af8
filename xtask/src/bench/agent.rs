//! What the agent itself takes: processor time and memory with few and many processes to watch, while it exports.

use super::{
    Bench,
    processor::{cpu_s, status_bytes},
    running::Running,
    sink::Sink,
    table::Table,
};
use anyhow::{Context, Result};
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What the processes do, and how many there are of them.
const HOSTS: [(&str, usize); 7] =
    [("idle", 1), ("idle", 20), ("idle", 100), ("busy", 1), ("busy", 20), ("busy", 100), ("stalling", 20)];
const MEASURE: Duration = Duration::from_secs(20);

pub(super) fn measure(bench: &Bench<'_>) -> Result<Table> {
    let mut table = Table::new(
        format!(
            "**The agent itself**, `nodeprobe run` exporting OTLP over HTTP once a second, Node.js {}, {} s each",
            bench.args.node,
            MEASURE.as_secs()
        ),
        &["processes", "kind", "CPU % of a core", "RSS MiB", "peak RSS MiB"],
    );
    for (kind, count) in HOSTS {
        eprintln!("xtask: agent with {count} {kind} processes");
        let (cpu_percent, rss, peak) = one(bench, kind, count)?;
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        table.row([count.to_string(), kind.to_owned(), format!("{cpu_percent:.2}"), mib(rss), mib(peak)]);
    }
    Ok(table)
}

/// CPU in percent of one core, resident bytes at the end, and their peak.
fn one(bench: &Bench<'_>, kind: &str, count: usize) -> Result<(f64, u64, u64)> {
    let start = |_| Running::start(Command::new(&bench.node).arg(bench.script("process.js")).arg(kind));
    let processes = (0..count).map(start).collect::<Result<Vec<_>>>()?;
    for process in &processes {
        process.wait_for_word("ready", Duration::from_mins(1))?;
    }
    let sink = Sink::start()?;
    let agent = Running::start(
        Command::new(bench.workspace.nodeprobe())
            .arg("run")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", sink.port()))
            .env("OTEL_METRIC_EXPORT_INTERVAL", "1000")
            .env("RUST_LOG", "error"),
    )?;
    // Attached, analysed and settled: the cost of starting is paid once and is not what this measures.
    sink.wait_for_requests(5, Duration::from_mins(1)).context("nodeprobe run does not export")?;
    let (before, started) = (cpu_s(agent.pid())?, Instant::now());
    thread::sleep(MEASURE);
    let cpu_percent = (cpu_s(agent.pid())? - before) / started.elapsed().as_secs_f64() * 100.0;
    Ok((cpu_percent, status_bytes(agent.pid(), "VmRSS")?, status_bytes(agent.pid(), "VmHWM")?))
}

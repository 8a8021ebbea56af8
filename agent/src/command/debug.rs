//! `nodeprobe debug`: what tests and benchmarks look at.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nodeprobe_ebpf::{
    Event, EventKind,
    event::{STALL_LOWER_BOUND, STALL_STARTUP},
    part::PARTS,
    thread::{GC_MAJOR, GC_MINOR},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{EXIT_OK, EndSignals, Outcome, init_log, is_broken_pipe, observe, prepare, runtime};
use crate::{binary, bpf::Settings, cli::Debug, model::catalog};

/// Does what the hidden command says.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: Debug) -> Outcome {
    match arguments {
        Debug::Events { pid, observe } => {
            events(pid, Settings { gc_event_threshold_ns: 0, ..observe.into() })
        }
        Debug::Analyze { file, repeat } => analyze(&file, repeat),
        Debug::ManPages { directory } => super::shell::man_pages(&directory),
        Debug::Metrics => {
            io::stdout().write_all(catalog::markdown().as_bytes()).context("the output cannot be written")?;
            Ok(EXIT_OK)
        }
    }
}

/// Prints events until SIGTERM, SIGINT or a closed pipe ends it.
fn events(pid: Option<u32>, settings: Settings) -> Outcome {
    init_log("warn", None);
    let (tap, mut events) = mpsc::unbounded_channel();
    prepare();
    let runtime = runtime()?;
    let mut signals = EndSignals::catch(&runtime)?;
    let _agent = observe(&settings, Some(tap))?;
    let mut stdout = io::stdout().lock();
    let mut print = |value: &Value| -> io::Result<()> {
        writeln!(stdout, "{value}")?;
        stdout.flush()
    };
    runtime.block_on(async {
        print(&json!({ "type": "ready" }))?;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = signals.received() => None,
            };
            let Some((kind, event)) = event else { return Ok(EXIT_OK) };
            if pid.is_some_and(|pid| pid != event.tgid) {
                continue;
            }
            match print(&describe(kind, &event)) {
                Err(error) if is_broken_pipe(&error) => return Ok(EXIT_OK),
                other => other.context("the output cannot be written")?,
            }
        }
    })
}

fn describe(kind: EventKind, event: &Event) -> Value {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let bytes = |bytes: u64| (bytes != 0).then_some(bytes);
    let kind_name = match kind {
        EventKind::Exec => "exec",
        EventKind::ThreadStart => "thread_start",
        EventKind::ThreadExit => "thread_exit",
        EventKind::Stall => "stall",
        EventKind::GcPause => "gc",
        EventKind::Sample => "sample",
        EventKind::Slept => "slept",
        EventKind::Rejected => "rejected",
        EventKind::Uncaught => "uncaught",
        EventKind::HeapLimit => "heap_limit",
        EventKind::Listening => "listening",
    };
    let mut value = json!({
        "type": kind_name, "pid": event.tgid, "tid": event.tid, "start_s": seconds(event.start_ns),
    });
    let Some(fields) = value.as_object_mut() else { return value };
    match kind {
        EventKind::Stall => {
            fields.insert("duration_s".into(), json!(seconds(event.duration_ns)));
            fields.insert("startup".into(), json!(event.detail & STALL_STARTUP != 0));
            fields.insert("lower_bound".into(), json!(event.detail & STALL_LOWER_BOUND != 0));
            fields.insert(
                "parts_s".into(),
                json!(event.values[..PARTS].iter().copied().map(seconds).collect::<Vec<_>>()),
            );
        }
        EventKind::GcPause => {
            let kind = match event.detail {
                GC_MINOR => "minor",
                GC_MAJOR => "major",
                _ => "unknown",
            };
            fields.insert("kind".into(), json!(kind));
            fields.insert("duration_s".into(), json!(seconds(event.duration_ns)));
            fields.insert("heap_before_bytes".into(), json!(bytes(event.values[0])));
            fields.insert("heap_after_bytes".into(), json!(bytes(event.values[1])));
        }
        EventKind::Slept => {
            fields.insert("duration_s".into(), json!(seconds(event.duration_ns)));
        }
        EventKind::Rejected | EventKind::Uncaught | EventKind::HeapLimit => {
            fields.insert("detail".into(), json!(event.detail));
        }
        EventKind::Exec
        | EventKind::ThreadStart
        | EventKind::ThreadExit
        | EventKind::Sample
        | EventKind::Listening => {}
    }
    value
}

fn analyze(path: &Path, repeat: u32) -> Outcome {
    let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let mut cold: Vec<f64> = Vec::new();
    let mut cached: Vec<f64> = Vec::new();
    let mut summary = String::new();
    for _ in 0..repeat.max(1) {
        let file = open()?;
        let begin = Instant::now();
        let analysed =
            binary::analyze(&file).with_context(|| format!("cannot analyse {}", path.display()))?;
        cold.push(millis(begin.elapsed()));
        summary = binary::summary(&analysed);
        // What a further copy of a known file costs: its kind and its build id.
        let begin = Instant::now();
        let copy = open()?;
        binary::quick_kind(&copy)?;
        binary::build_id(&copy)?;
        cached.push(millis(begin.elapsed()));
    }
    let value = json!({ "cold_ms": cold, "cached_ms": cached, "summary": summary });
    writeln!(io::stdout().lock(), "{value:#}").context("the output cannot be written")?;
    Ok(EXIT_OK)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

//! `nodeprobe trace`: every stall as it ends, one line each.

use std::{
    io::{self, Write},
    mem::ManuallyDrop,
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval};

use super::{EXIT_OK, EndSignals, Outcome, init_log, is_broken_pipe, observe, prepare, runtime};
use crate::{
    agent::Agent,
    bpf::Settings,
    cli::{Trace, TraceFormat},
    model::Snapshot,
    report::stall::StallLine,
};

/// How long a stall that has ended may wait for its line.
const LATENCY: Duration = Duration::from_millis(200);

/// Runs until it is interrupted or its reader goes away.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: &Trace) -> Outcome {
    init_log("warn", None);
    prepare();
    let runtime = runtime()?;
    let signals = EndSignals::catch(&runtime)?;
    let mut settings: Settings = arguments.observe.into();
    if let Some(min) = arguments.min {
        settings.stall_threshold_ns = u64::try_from(min.as_nanos()).unwrap_or(u64::MAX);
    }
    let agent = observe(&settings, None)?;
    let threshold = Duration::from_nanos(settings.stall_threshold_ns);
    match runtime.block_on(follow(arguments, &agent, signals, threshold)) {
        Err(error) if is_broken_pipe(&error) => Ok(EXIT_OK),
        Err(error) => Err(error).context("the output cannot be written"),
        Ok(()) => Ok(EXIT_OK),
    }
}

async fn follow(
    arguments: &Trace,
    agent: &ManuallyDrop<Agent>,
    mut signals: EndSignals,
    threshold: Duration,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let first = agent.snapshot();
    eprintln!(
        "nodeprobe: waiting for turns of {threshold:?} and more in {} Node.js processes and those to come; Ctrl-C ends it",
        first.processes.len()
    );
    print(&first, arguments, &mut out)?;
    let mut lost = first.lost.clone();
    let mut ticks = interval(LATENCY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = signals.received() => return Ok(()),
        }
        let snapshot = agent.snapshot();
        print(&snapshot, arguments, &mut out)?;
        for (reason, count) in &snapshot.lost {
            let more = count.saturating_sub(lost.get(reason).copied().unwrap_or(0));
            if more > 0 {
                eprintln!("nodeprobe: lost {more}: {reason}");
            }
        }
        lost.clone_from(&snapshot.lost);
    }
}

fn print(snapshot: &Snapshot, arguments: &Trace, out: &mut impl Write) -> io::Result<()> {
    for stall in &snapshot.stalls {
        let is_wanted = arguments.pids.is_empty() || arguments.pids.contains(&stall.process.pid);
        let process = snapshot.processes.iter().find(|process| process.id == stall.process);
        let Some(process) = process.filter(|_| is_wanted) else { continue };
        let line = StallLine::new(stall, process);
        match arguments.format {
            TraceFormat::Text => {
                let stack = if arguments.stack { line.render_stack() } else { String::new() };
                write!(out, "{}\n{stack}", line.render())?;
            }
            TraceFormat::Ndjson => writeln!(out, "{}", serde_json::to_string(&line)?)?,
        }
    }
    out.flush()
}

//! `nodeprobe top`: intervals, on the screen or printed.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    mem::ManuallyDrop,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    EXIT_NO_PROCESS, EXIT_OK, EndSignals, Outcome, init_log, is_broken_pipe, observe, prepare, runtime,
};
use crate::{
    agent::Agent,
    cli::Top,
    model::{Interval, Snapshot, interval},
    report::Writer,
    tui,
};

/// Runs until it is interrupted or the wanted number of intervals is over.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: &Top) -> Outcome {
    let term = std::env::var("TERM").ok();
    let batch = arguments.batch || !io::stdout().is_terminal() || !tui::is_supported(term.as_deref());
    if batch {
        init_log("warn", None);
    } else {
        // The screen belongs to the table: without a file, messages have no place.
        let log = arguments.log_file.as_ref().map(|path| {
            File::create(path).with_context(|| format!("the log file {} cannot be created", path.display()))
        });
        if let Some(log) = log.transpose()? {
            init_log("info", Some(log));
        }
    }
    if let Some(recording) = &arguments.replay {
        return super::replay::run(arguments, recording, batch);
    }
    prepare();
    let runtime = runtime()?;
    if batch {
        let signals = EndSignals::catch(&runtime)?;
        let agent = observe(&arguments.observe.into(), None)?;
        runtime.block_on(print(arguments, agent, signals))
    } else {
        let agent = observe(&arguments.observe.into(), None)?;
        runtime.block_on(draw(arguments, agent))
    }
}

/// Turns snapshots into intervals.
pub(super) struct Intervals<'a> {
    agent: ManuallyDrop<Agent>,
    earlier: Snapshot,
    pids: &'a [u32],
}

impl<'a> Intervals<'a> {
    pub(super) fn new(agent: ManuallyDrop<Agent>, pids: &'a [u32]) -> Self {
        let earlier = agent.snapshot();
        Self { agent, earlier, pids }
    }

    pub(super) fn next(&mut self) -> Interval {
        let later = self.agent.snapshot();
        let mut interval = interval::between(&self.earlier, &later);
        only(self.pids, &mut interval);
        self.earlier = later;
        interval
    }
}

/// Leaves these processes in; all, if none is named.
pub(super) fn only(pids: &[u32], interval: &mut Interval) {
    if !pids.is_empty() {
        interval.processes.retain(|process| pids.contains(&process.id.pid));
        interval.stalls.retain(|stall| pids.contains(&stall.process.pid));
        interval.pauses.retain(|pause| pids.contains(&pause.process.pid));
        interval.stacks.retain(|thread| pids.contains(&thread.process.pid));
        interval.occasions.retain(|taken| pids.contains(&taken.process.pid));
        interval.notices.retain(|notice| pids.contains(&notice.process.pid));
    }
}

pub(super) fn screen_options(arguments: &Top, delay: watch::Sender<Duration>) -> tui::Options {
    tui::Options {
        color: arguments.color,
        ascii: arguments.ascii,
        mouse: arguments.mouse,
        filter: String::new(),
        snapshot_dir: ".".into(),
        delay,
    }
}

async fn print(arguments: &Top, agent: ManuallyDrop<Agent>, mut signals: EndSignals) -> Outcome {
    let mut writer = Writer::new(arguments.format, io::stdout().lock());
    let mut intervals = Intervals::new(agent, &arguments.pids);
    let mut ticks = interval_at(Instant::now() + arguments.delay, arguments.delay);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = false;
    let mut left = arguments.iterations;
    while left != Some(0) {
        tokio::select! {
            _ = ticks.tick() => {}
            () = signals.received() => break,
        }
        let interval = intervals.next();
        seen |= !interval.processes.is_empty();
        if let Err(error) = writer.write(&interval) {
            if is_broken_pipe(&error) {
                return Ok(EXIT_OK);
            }
            return Err(error).context("the output cannot be written");
        }
        left = left.map(|n| n - 1);
    }
    if !seen {
        eprintln!(
            "nodeprobe: no Node.js process was seen. Start one and it appears here by itself; in a clone of nodeprobe, \
             `cargo xtask demo` starts a small sick service."
        );
    }
    Ok(if seen { EXIT_OK } else { EXIT_NO_PROCESS })
}

async fn draw(arguments: &Top, agent: ManuallyDrop<Agent>) -> Outcome {
    let (delay, mut wanted_delay) = watch::channel(arguments.delay);
    let (sender, receiver) = mpsc::channel(1);
    let options = screen_options(arguments, delay);
    let mut intervals = Intervals::new(agent, &arguments.pids);
    let feed = async {
        // The first numbers come soon, for whoever waits in front of an empty screen.
        let mut next = Instant::now() + Duration::from_millis(200).min(arguments.delay);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {
                    if sender.send(Arc::new(intervals.next())).await.is_err() {
                        return;
                    }
                }
                changed = wanted_delay.changed() => if changed.is_err() { return },
            }
            next = Instant::now() + *wanted_delay.borrow();
        }
    };
    tokio::select! {
        ended = tui::run(receiver, options) => ended?,
        () = feed => {}
    }
    Ok(EXIT_OK)
}

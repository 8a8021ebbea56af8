//! `nodeprobe top --replay`: recorded intervals on the faces of `top`.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    EXIT_NO_PROCESS, EXIT_OK, Outcome, is_broken_pipe,
    record::{open, tell_end},
    runtime,
    top::{only, screen_options},
};
use crate::{cli::Top, model::Interval, recording::Reader, report::Writer, tui};

/// Waiting longer than this for the next interval says nothing about it.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Shows the recording at `path` on the screen, or prints it.
///
/// # Errors
/// What keeps it from that, for people. A recording that is broken somewhere is shown up to there before.
pub(super) fn run(arguments: &Top, path: &Path, batch: bool) -> Outcome {
    let replay = Replay { reader: open(path)?, path, pids: &arguments.pids, intervals: 0 };
    if batch { print(arguments, replay) } else { runtime()?.block_on(draw(arguments, replay)) }
}

struct Replay<'a> {
    reader: Reader<BufReader<File>>,
    path: &'a Path,
    pids: &'a [u32],
    intervals: u64,
}

impl Replay<'_> {
    fn next(&mut self) -> anyhow::Result<Option<Interval>> {
        let next = self.reader.next_interval();
        let next = next.with_context(|| format!("the recording {}", self.path.display()))?;
        Ok(next.map(|mut interval| {
            self.intervals += 1;
            only(self.pids, &mut interval);
            interval
        }))
    }

    fn tell_end(&self) {
        tell_end(self.path, self.reader.end(), self.intervals);
    }
}

/// At once: whoever prints a recording has waited before.
fn print(arguments: &Top, mut replay: Replay<'_>) -> Outcome {
    let mut writer = Writer::new(arguments.format, io::stdout().lock());
    let mut seen = false;
    let mut left = arguments.iterations;
    while left != Some(0) {
        let Some(interval) = replay.next()? else { break };
        seen |= !interval.processes.is_empty();
        match writer.write(&interval) {
            Err(error) if is_broken_pipe(&error) => return Ok(EXIT_OK),
            other => other.context("the output cannot be written")?,
        }
        left = left.map(|n| n - 1);
    }
    replay.tell_end();
    if !seen {
        eprintln!("nodeprobe: no Node.js process is in this recording.");
    }
    Ok(if seen { EXIT_OK } else { EXIT_NO_PROCESS })
}

/// As it was recorded: a recorded second takes `--delay` seconds, so that the keys that change the delay change the
/// speed.
async fn draw(arguments: &Top, mut replay: Replay<'_>) -> Outcome {
    let (delay, mut wanted_delay) = watch::channel(arguments.delay);
    let (sender, receiver) = mpsc::channel(1);
    let mut failed = None;
    let feed = async {
        let mut left = arguments.iterations;
        while left != Some(0) {
            let interval = match replay.next() {
                Ok(Some(interval)) => interval,
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let recorded_s = interval.duration_s;
            if sender.send(Arc::new(interval)).await.is_err() {
                break;
            }
            left = left.map(|n| n - 1);
            let shown = Instant::now();
            loop {
                let pause = wanted_delay.borrow_and_update().as_secs_f64() * recorded_s;
                let pause = Duration::from_secs_f64(pause.clamp(0.0, LONGEST_PAUSE.as_secs_f64()));
                tokio::select! {
                    () = tokio::time::sleep_until(shown + pause) => break,
                    changed = wanted_delay.changed() => if changed.is_err() { break },
                }
            }
        }
        // The last interval stays on the screen until the user leaves.
        drop(sender);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = tui::run(receiver, screen_options(arguments, delay)) => ended?,
        () = feed => {}
    }
    if let Some(error) = failed {
        return Err(error);
    }
    replay.tell_end();
    Ok(EXIT_OK)
}

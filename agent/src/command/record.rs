//! `nodeprobe record`: intervals into a file, as a recording or as a profile, and one into the other.

mod output;
mod progress;

use std::{fs::File, io::BufReader, os::unix::fs::MetadataExt as _, path::Path, time::SystemTime};

use anyhow::{Context as _, bail};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use self::{
    output::Output,
    progress::{Progress, Tally},
};
use super::{
    EXIT_NO_PROCESS, EXIT_OK, EndSignals, Outcome, init_log, is_broken_pipe, observe, prepare, runtime,
    top::{Intervals, only},
};
use crate::{
    cli::Record,
    export::otlp::config::host_name,
    recording::{End, Header, Reader},
    report::timestamp,
};

/// Records until the time is over or a signal comes, or converts a recording.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: &Record) -> Outcome {
    init_log("warn", None);
    match &arguments.from {
        Some(from) => convert(arguments, from),
        None => record(arguments),
    }
}

fn record(arguments: &Record) -> Outcome {
    // Before anything is attached: that the file cannot be had shall cost no time.
    let header = Header::new(
        timestamp::rfc3339(SystemTime::now()),
        host_name(),
        arguments.delay.as_secs_f64(),
        arguments.observe.stall_threshold.as_secs_f64(),
    );
    let mut output = Output::create(arguments, &header)?;
    prepare();
    let runtime = runtime()?;
    let mut signals = EndSignals::catch(&runtime)?;
    let agent = observe(&arguments.observe.into(), None)?;
    let mut intervals = Intervals::new(agent, &arguments.pids);
    let tally = runtime.block_on(async {
        let began = Instant::now();
        let mut progress = Progress::begin(arguments);
        let mut tally = Tally::default();
        let mut ticks = interval_at(began + arguments.delay, arguments.delay);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ends = arguments.duration.map(|duration| began + duration);
        loop {
            let over = async {
                match ends {
                    Some(ends) => sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            let last = tokio::select! {
                biased;
                () = signals.received() => true,
                () = over => true,
                _ = ticks.tick() => false,
            };
            let interval = intervals.next();
            tally.add(&interval);
            if let Err(error) = output.add(&interval) {
                progress.clear();
                return Err(error);
            }
            if last {
                progress.clear();
                return Ok(tally);
            }
            progress.show(began.elapsed(), &tally, output.bytes());
        }
    });
    finish(arguments, output, tally.map(|tally| (tally, None)))
}

fn convert(arguments: &Record, from: &Path) -> Outcome {
    let mut reader = open(from)?;
    if same_file(from, &arguments.output) {
        bail!("--from and --output name the same file, which would be lost before it is read");
    }
    let mut output = Output::create(arguments, reader.header())?;
    let mut tally = Tally::default();
    let mut broken = None;
    loop {
        let mut interval = match reader.next_interval() {
            Ok(Some(interval)) => interval,
            Ok(None) => break,
            // What came before it is right, and may be all there is of an incident.
            Err(error) => {
                broken = Some(anyhow::Error::new(error).context(format!("the recording {}", from.display())));
                break;
            }
        };
        only(&arguments.pids, &mut interval);
        tally.add(&interval);
        if let Err(error) = output.add(&interval) {
            return finish(arguments, output, Err(error));
        }
    }
    tell_end(from, reader.end(), tally.intervals);
    finish(arguments, output, Ok((tally, broken)))
}

/// Opens a recording and reads what it says of itself.
pub(super) fn open(path: &Path) -> anyhow::Result<Reader<BufReader<File>>> {
    let file =
        File::open(path).with_context(|| format!("the recording {} cannot be opened", path.display()))?;
    Reader::new(BufReader::new(file)).with_context(|| format!("{} cannot be replayed", path.display()))
}

fn same_file(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    inode(one).is_some_and(|found| inode(other) == Some(found))
}

/// Tells on stderr when a recording is not whole.
pub(super) fn tell_end(path: &Path, end: Option<End>, intervals: u64) {
    let what = match end {
        None | Some(End::Complete) => return,
        Some(End::Unfinished) => "it has no last line".to_owned(),
        Some(End::CutOff { line }) => format!("line {line} stops in the middle and is left out"),
    };
    eprintln!(
        "nodeprobe: the recording {} was not ended ({what}): its recorder crashed or is still at work. What comes \
         before is whole; intervals: {intervals}.",
        path.display()
    );
}

/// Ends the file, says what is in it, and gives the exit code. `broken`: why a recording could be read no further.
fn finish(
    arguments: &Record,
    output: Output,
    done: std::io::Result<(Tally, Option<anyhow::Error>)>,
) -> Outcome {
    let ended = done.and_then(|done| Ok((done, output.finish(SystemTime::now())?)));
    let ((tally, broken), bytes) = match ended {
        Ok(ended) => ended,
        Err(error) if is_broken_pipe(&error) => return Ok(EXIT_OK),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("{} cannot be written", output::shown(&arguments.output)));
        }
    };
    eprintln!("nodeprobe: wrote {}: {}", output::shown(&arguments.output), tally.summary(bytes));
    if let Some(broken) = broken {
        return Err(broken);
    }
    if tally.processes() == 0 {
        eprintln!("nodeprobe: no Node.js process was seen.");
        return Ok(EXIT_NO_PROCESS);
    }
    if arguments.format.is_profile() && tally.samples == 0 {
        eprintln!(
            "nodeprobe: no stack was sampled, so the profile is empty. Loops that only wait have none; `nodeprobe ps` \
             tells which signals each process has."
        );
    }
    Ok(EXIT_OK)
}

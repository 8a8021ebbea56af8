//! What `record` says on stderr while it is at work.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use super::output;
use crate::{
    cli::Record,
    model::{Interval, ProcessId},
    report::quantity::bytes as shown_bytes,
};

/// Into a log file a line now and then is enough.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// What went into the file.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) intervals: u64,
    pub(super) seconds: f64,
    pub(super) stalls: u64,
    pub(super) samples: u64,
    lost: u64,
    processes: BTreeSet<ProcessId>,
}

impl Tally {
    pub(super) fn add(&mut self, interval: &Interval) {
        self.intervals += 1;
        self.seconds += interval.duration_s;
        self.stalls += interval.stalls.len() as u64;
        let sampled = interval.stacks.iter().flat_map(|thread| &thread.stacks);
        self.samples = sampled.fold(self.samples, |sum, time| sum.saturating_add(time.samples));
        self.lost = interval.lost.values().fold(self.lost, |sum, lost| sum.saturating_add(*lost));
        self.processes.extend(interval.processes.iter().map(|process| process.id));
    }

    pub(super) fn processes(&self) -> usize {
        self.processes.len()
    }

    /// `30 s of 1 process, 12 stalls, 3700 samples, 84.2KB`.
    pub(super) fn summary(&self, bytes: Option<u64>) -> String {
        let Self { seconds, stalls, samples, lost, processes, intervals: _ } = self;
        let of =
            |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let mut summary = format!(
            "{} s of {}, {}, {}",
            seconds.round(),
            of(processes.len() as u64, "process", "processes"),
            of(*stalls, "stall", "stalls"),
            of(*samples, "sample", "samples"),
        );
        if *lost > 0 {
            summary = format!("{summary}, {lost} events lost");
        }
        match bytes {
            Some(bytes) => format!("{summary}, {}B", shown_bytes(bytes)),
            None => summary,
        }
    }
}

/// One line that is drawn over and over on a terminal, and a few lines elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    planned: Option<Duration>,
    logged: Duration,
}

impl Progress {
    pub(super) fn begin(arguments: &Record) -> Self {
        let until = match arguments.duration {
            Some(duration) => format!("for {duration:?}; Ctrl-C ends it sooner"),
            None => "until Ctrl-C".to_owned(),
        };
        eprintln!("nodeprobe: recording into {} {until}", output::shown(&arguments.output));
        Self { is_terminal: io::stderr().is_terminal(), planned: arguments.duration, logged: Duration::ZERO }
    }

    pub(super) fn show(&mut self, elapsed: Duration, tally: &Tally, bytes: Option<u64>) {
        let summary = tally.summary(bytes);
        if self.is_terminal {
            let left = self.planned.map(|planned| planned.saturating_sub(elapsed).as_secs_f64().round());
            let left = left.map(|left| format!("; {left} s left")).unwrap_or_default();
            let text = format!("\r\x1b[K{summary}{left}");
            // If stderr is closed there is nobody to tell.
            drop(io::stderr().write_all(text.as_bytes()));
        } else if elapsed >= self.logged + LOG_EVERY {
            self.logged = elapsed;
            eprintln!("nodeprobe: {summary}");
        }
    }

    /// Leaves the line for what is said next.
    pub(super) fn clear(&self) {
        if self.is_terminal {
            drop(io::stderr().write_all(b"\r\x1b[K"));
        }
    }
}

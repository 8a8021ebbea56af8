//! `nodeprobe diagnose`: watch for a while, then say what is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal as _, Write as _},
    mem::ManuallyDrop,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    EXIT_FINDINGS, EXIT_NO_PROCESS, EXIT_OK, EndSignals, Outcome, init_log, is_broken_pipe, observe, prepare,
    runtime, top::Intervals,
};
use crate::{
    agent::Agent,
    cli::Diagnose,
    model::{Interval, ProcessId},
    report::diagnosis::{Diagnosis, ProcessDiagnosis},
    verdict::{Judge, WINDOW_S},
};

/// Between two readings.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the time is over or it is interrupted; then it reports what it has seen so far.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: &Diagnose) -> Outcome {
    init_log("warn", None);
    prepare();
    let runtime = runtime()?;
    let signals = EndSignals::catch(&runtime)?;
    let agent = observe(&arguments.observe.into(), None)?;
    match runtime.block_on(watch(arguments, agent, signals)) {
        Err(error) if is_broken_pipe(&error) => Ok(EXIT_OK),
        other => other.context("the output cannot be written"),
    }
}

async fn watch(arguments: &Diagnose, agent: ManuallyDrop<Agent>, mut signals: EndSignals) -> io::Result<u8> {
    let total_s = arguments.duration.as_secs_f64();
    let mut patients = Patients::new(if arguments.watch { WINDOW_S } else { total_s });
    let mut intervals = Intervals::new(agent, &arguments.pids);
    let begin = Instant::now();
    let mut ticks = interval_at(begin + TICK.min(arguments.duration), TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = None;
    let mut progress = Progress::new();
    loop {
        let is_over = tokio::select! {
            _ = ticks.tick() => !arguments.watch && begin.elapsed().as_secs_f64() >= total_s - 0.01,
            () = signals.received() => true,
        };
        patients.push(&intervals.next());
        if is_over {
            break;
        }
        let passed_s = begin.elapsed().as_secs_f64();
        if !arguments.watch {
            progress.show(&format!("watching {}, {passed_s:.0} of {total_s:.0} s", patients.in_words()));
        } else if passed_s >= total_s && reported.as_ref() != Some(&patients.ids()) {
            // News, once there is enough to judge by.
            progress.clear();
            patients.diagnosis().write_next(arguments.format, io::stdout().lock())?;
            reported = Some(patients.ids());
            patients.forget_ended();
        } else {
            progress.show(&format!("watching {} for {passed_s:.0} s", patients.in_words()));
        }
    }
    progress.clear();
    if patients.seen.is_empty() {
        eprintln!(
            "nodeprobe: no Node.js process was seen. Start one and try again; in a clone of nodeprobe, `cargo xtask demo` \
             starts a small sick service."
        );
        return Ok(EXIT_NO_PROCESS);
    }
    let diagnosis = patients.diagnosis();
    diagnosis.write(arguments.format, io::stdout().lock())?;
    Ok(if diagnosis.is_sick() { EXIT_FINDINGS } else { EXIT_OK })
}

/// Everything that was seen, also of processes that have ended since.
struct Patients {
    judge: Judge,
    seen: BTreeMap<ProcessId, ProcessDiagnosis>,
}

impl Patients {
    fn new(window_s: f64) -> Self {
        Self { judge: Judge::new(window_s), seen: BTreeMap::new() }
    }

    fn push(&mut self, interval: &Interval) {
        self.judge.push(interval);
        for process in &interval.processes {
            let window_s = self.judge.history(process.id).map_or(0.0, crate::verdict::History::window_s);
            let diagnosis = ProcessDiagnosis::new(process, self.judge.findings(process.id), window_s);
            self.seen.insert(process.id, diagnosis);
        }
    }

    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::new(SystemTime::now(), self.seen.values().cloned())
    }

    /// What is wrong with whom, without figures: when this changes there is news.
    fn ids(&self) -> BTreeSet<(u32, &'static str)> {
        let of = |process: &ProcessDiagnosis| -> Vec<_> {
            process.findings.iter().map(|finding| (process.pid, finding.id)).collect()
        };
        self.seen.values().filter(|process| !process.exited).flat_map(of).collect()
    }

    /// They have been reported.
    fn forget_ended(&mut self) {
        self.seen.retain(|_, process| !process.exited);
    }

    fn in_words(&self) -> String {
        match self.seen.len() {
            1 => "1 Node.js process".to_owned(),
            count => format!("{count} Node.js processes"),
        }
    }
}

/// One line on stderr that is written over; nothing where nobody looks.
struct Progress {
    is_terminal: bool,
}

impl Progress {
    fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        if !is_terminal {
            eprintln!("nodeprobe: watching; the report follows");
        }
        Self { is_terminal }
    }

    fn show(&mut self, text: &str) {
        if self.is_terminal {
            // Whoever closed stderr wants no progress.
            drop(write!(io::stderr(), "\rnodeprobe: {text}\x1b[K"));
        }
    }

    fn clear(&mut self) {
        if self.is_terminal {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

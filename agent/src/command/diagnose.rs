//! `nodeprobe diagnose`: watch for a while, then say what is wrong.

mod page_file;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal as _, Write as _},
    mem::ManuallyDrop,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::page_file::PageFile;
use super::{
    EXIT_FINDINGS, EXIT_NO_PROCESS, EXIT_OK, EndSignals, Outcome, init_log, is_broken_pipe, observe, prepare,
    runtime, top::Intervals,
};
use crate::{
    agent::Agent,
    cli::Diagnose,
    export::otlp::config::host_name,
    model::{Interval, ProcessId},
    recording::{Header, Recent},
    report::{
        diagnosis::{Diagnosis, ProcessDiagnosis},
        timestamp,
    },
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
    // Before anything is attached: that the file cannot be had shall cost no time.
    let page = arguments.html.as_deref().map(|path| PageFile::create(path, arguments.force)).transpose()?;
    prepare();
    let runtime = runtime()?;
    let signals = EndSignals::catch(&runtime)?;
    let agent = observe(&arguments.observe.into(), None)?;
    let mut recent = page.as_ref().map(|_| recent(arguments)).transpose()?;
    let diagnosis = match runtime.block_on(watch(arguments, agent, signals, recent.as_mut())) {
        Err(error) if is_broken_pipe(&error) => return Ok(EXIT_OK),
        other => other.context("the output cannot be written")?,
    };
    let Some(diagnosis) = diagnosis else {
        eprintln!(
            "nodeprobe: no Node.js process was seen. Start one and try again; in a clone of nodeprobe, `cargo xtask demo` \
             starts a small sick service."
        );
        return Ok(EXIT_NO_PROCESS);
    };
    // The page first: that nobody reads stdout any more, as after `| head`, is no reason to lose it. What is wrong with it
    // is told last.
    let written = match (page, &recent) {
        (Some(page), Some(recent)) => page.write(&diagnosis, recent.lines()),
        _ => Ok(()),
    };
    let code = if diagnosis.is_sick() { EXIT_FINDINGS } else { EXIT_OK };
    let code = match diagnosis.write(arguments.format, io::stdout().lock()) {
        Err(error) if is_broken_pipe(&error) => EXIT_OK,
        other => other.context("the output cannot be written").map(|()| code)?,
    };
    written.map(|()| code)
}

/// What the page draws: as much as the findings are about.
fn recent(arguments: &Diagnose) -> anyhow::Result<Recent> {
    let header = Header::new(
        timestamp::rfc3339(SystemTime::now()),
        host_name(),
        TICK.as_secs_f64(),
        arguments.observe.stall_threshold.as_secs_f64(),
    );
    Recent::new(&header, window_s(arguments)).context("the page cannot be begun")
}

fn window_s(arguments: &Diagnose) -> f64 {
    if arguments.watch { WINDOW_S } else { arguments.duration.as_secs_f64() }
}

/// What was found in the end; `None`: there was no process.
async fn watch(
    arguments: &Diagnose,
    agent: ManuallyDrop<Agent>,
    mut signals: EndSignals,
    mut recent: Option<&mut Recent>,
) -> io::Result<Option<Diagnosis>> {
    let total_s = arguments.duration.as_secs_f64();
    let mut patients = Patients::new(window_s(arguments));
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
        let interval = intervals.next();
        patients.push(&interval);
        if let Some(recent) = &mut recent {
            recent.push(&interval)?;
        }
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
    Ok((!patients.seen.is_empty()).then(|| patients.diagnosis()))
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
            let history = self.judge.history(process.id);
            let window_s = history.map_or(0.0, crate::verdict::History::window_s);
            let allocations = history.map(crate::verdict::History::allocations).unwrap_or_default();
            let diagnosis = ProcessDiagnosis::new(process, self.judge.findings(process.id), window_s);
            self.seen.insert(process.id, diagnosis.allocating(&allocations));
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

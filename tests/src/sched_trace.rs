//! When a thread ran, waited for a processor and slept: the kernel's own trace of its switches, as `trace-cmd` reads it.
//!
//! Not `/proc/<pid>/schedstat`: what that calls run time leaves out the time for which the hypervisor took the processor
//! away from the machine (steal). On a virtual disk that was 46 ms of a turn of 400 ms, and what is neither running nor waiting
//! there is then no sleep either.
//!
//! The trace lacks a switch now and then (3 of 1000 were missing on Linux 6.18, with nothing said to be lost). What does not
//! follow from what was before shows it, and the time in between is [`Spent::unknown`].

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::PathBuf,
};

use tempfile::TempDir;

/// An instance of tracefs that records the switches of a process's threads until it is dropped.
pub struct SchedTrace {
    instance: PathBuf,
    /// The mount is detached, so that none stays behind; it lives as long as this.
    _root: File,
}

impl SchedTrace {
    /// Records from now on, threads that do not exist yet among them.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        let trace = Self::empty(&pid.to_string());
        trace.set("options/event-fork", "1");
        trace.set("set_event_pid", &threads(pid).join(" "));
        for event in ["sched_switch", "sched_wakeup"] {
            trace.set(&format!("events/sched/{event}/enable"), "1");
        }
        trace
    }

    /// An instance that records nothing yet.
    #[track_caller]
    pub(crate) fn empty(name: &str) -> Self {
        let root = mount().unwrap_or_else(|error| panic!("tracefs cannot be mounted: {error}"));
        let instance = PathBuf::from(format!(
            "/proc/self/fd/{}/instances/nodeprobe-test-{}-{name}",
            root.as_raw_fd(),
            std::process::id()
        ));
        fs::create_dir(&instance).unwrap_or_else(|error| panic!("{}: {error}", instance.display()));
        let trace = Self { instance, _root: root };
        // The clock of `process.hrtime` and `performance.now`.
        trace.set("trace_clock", "mono");
        trace.set("buffer_size_kb", "8192");
        trace
    }

    #[track_caller]
    pub(crate) fn text(&self) -> String {
        let path = self.instance.join("trace");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What was recorded so far of a thread.
    #[track_caller]
    pub fn history(&self, tid: u32) -> History {
        History::parse(&self.text(), tid)
    }

    #[track_caller]
    pub(crate) fn set(&self, file: &str, value: &str) {
        let path = self.instance.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{value} > {}: {error}", path.display()));
    }
}

impl Drop for SchedTrace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("{} stays behind: {error}", self.instance.display());
        }
    }
}

#[track_caller]
fn threads(pid: u32) -> Vec<String> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    tasks.filter_map(|task| task.ok()?.file_name().into_string().ok()).collect()
}

/// A tracefs of our own: there need not be one where it belongs, and many refuse to show theirs to others.
fn mount() -> io::Result<File> {
    let directory = TempDir::new()?;
    let path = CString::new(directory.path().as_os_str().as_bytes())?;
    let check = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the strings live through the calls; tracefs takes no data.
    check(unsafe {
        libc::mount(c"tracefs".as_ptr(), path.as_ptr(), c"tracefs".as_ptr(), 0, std::ptr::null())
    })?;
    let root = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory.path());
    // SAFETY: as above.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })?;
    root
}

/// Now, on the clock of the trace.
pub fn monotonic_ms() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into the one that is passed.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// What a thread does from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    /// Ready to run without a processor.
    Waiting,
    Asleep,
    /// The trace contradicts itself.
    Unknown,
}

/// The states of a thread in order.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Before the first change.
    first: State,
    /// With the instants from which on they hold, ms of the monotonic clock.
    changes: Vec<(f64, State)>,
}

/// How a stretch of time was spent, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    pub ran: f64,
    pub waited: f64,
    pub slept: f64,
    /// It may have been any of the three.
    pub unknown: f64,
}

impl History {
    #[track_caller]
    fn parse(text: &str, tid: u32) -> Self {
        let counts = text.lines().find_map(|line| line.strip_prefix("# entries-in-buffer/entries-written: "));
        let counts = counts.and_then(|counts| counts.split_whitespace().next()?.split_once('/'));
        let (kept, written) = counts.unwrap_or_else(|| panic!("no trace: {text}"));
        assert_eq!(kept, written, "the kernel overwrote a part of the trace");
        let mut history = Self { first: State::Running, changes: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (at_ms, event) =
                Event::parse(line).unwrap_or_else(|| panic!("unknown line of the trace: {line}"));
            let Some((after, before)) = event.change(tid) else { continue };
            match history.changes.last_mut() {
                None => history.first = before,
                Some((_, State::Running)) if before == State::Asleep && after == State::Waiting => {
                    // It was about to sleep and had not left yet when it was woken.
                    continue;
                }
                // It came although it had not left, or left although it had not come.
                Some((_, state)) if (*state == State::Running) != (before == State::Running) => {
                    *state = State::Unknown;
                }
                Some(_) => {}
            }
            history.changes.push((at_ms, after));
        }
        history
    }

    /// How the time from one instant to another was spent, ms of the monotonic clock.
    pub fn spent(&self, begin_ms: f64, end_ms: f64) -> Spent {
        let mut spent = Spent::default();
        for (from_ms, to_ms, state) in self.stretches() {
            let duration_ms = (to_ms.min(end_ms) - from_ms.max(begin_ms)).max(0.0);
            match state {
                State::Running => spent.ran += duration_ms,
                State::Waiting => spent.waited += duration_ms,
                State::Asleep => spent.slept += duration_ms,
                State::Unknown => spent.unknown += duration_ms,
            }
        }
        spent
    }

    /// How long the thread was awake at a time, ms: running or waiting for a processor. Sleeps below a millisecond do not
    /// interrupt it: a mutex is none of the loop's waits.
    pub fn awake(&self, begin_ms: f64, end_ms: f64) -> Vec<f64> {
        const SHORT_MS: f64 = 1.0;
        let within =
            self.stretches().map(|(from_ms, to_ms, state)| (from_ms.max(begin_ms), to_ms.min(end_ms), state));
        let mut spans = vec![0.0];
        for (from_ms, to_ms, state) in within.filter(|(from_ms, to_ms, _)| from_ms < to_ms) {
            if state != State::Asleep {
                *spans.last_mut().expect("there is one") += to_ms - from_ms;
            } else if to_ms - from_ms >= SHORT_MS {
                spans.push(0.0);
            }
        }
        spans
    }

    /// (begin, end, state); the last one has not ended.
    fn stretches(&self) -> impl Iterator<Item = (f64, f64, State)> {
        let begins = std::iter::once((f64::MIN, self.first)).chain(self.changes.iter().copied());
        let ends = self.changes.iter().map(|(at_ms, _)| *at_ms).chain([f64::MAX]);
        begins.zip(ends).map(|((from_ms, state), to_ms)| (from_ms, to_ms, state))
    }

    /// All of the time off the processor that has something to do with an instant: stretches count in full when they
    /// come within `margin_ms` of it.
    pub fn off_cpu_near(&self, at_ms: f64, margin_ms: f64) -> f64 {
        let is_near = |(from_ms, to_ms, state): &(f64, f64, State)| {
            *state != State::Running && *from_ms < at_ms + margin_ms && *to_ms > at_ms - margin_ms
        };
        self.stretches().filter(is_near).map(|(from_ms, to_ms, _)| to_ms - from_ms).sum()
    }
}

/// One line of the trace.
enum Event {
    Switched { from: u32, asleep: bool, to: u32 },
    Woken(u32),
}

impl Event {
    /// `node-77 [001] d..2. 12.345678: sched_switch: prev_comm=node prev_pid=77 prev_prio=120 prev_state=S ==> next_comm=...`
    ///
    /// Returns the instant in ms as well.
    fn parse(line: &str) -> Option<(f64, Self)> {
        let (head, event) = if let Some((head, event)) = line.split_once(": sched_switch: ") {
            let (prev, next) = event.split_once(" ==> ")?;
            let (from, to) =
                (field(prev, "prev_pid=")?.parse().ok()?, field(next, "next_pid=")?.parse().ok()?);
            // `R+`: preempted.
            (head, Self::Switched { from, asleep: !field(prev, "prev_state=")?.starts_with('R'), to })
        } else {
            let (head, event) = line.split_once(": sched_wakeup: ")?;
            (head, Self::Woken(field(event, " pid=")?.parse().ok()?))
        };
        Some((head.rsplit(' ').next()?.parse::<f64>().ok()? * 1e3, event))
    }

    /// What a thread does from here on, and what it must have done before as far as this tells. `None`: it is about others.
    fn change(&self, tid: u32) -> Option<(State, State)> {
        match *self {
            Self::Switched { from, asleep, .. } if from == tid => {
                Some((if asleep { State::Asleep } else { State::Waiting }, State::Running))
            }
            Self::Switched { to, .. } if to == tid => Some((State::Running, State::Waiting)),
            Self::Woken(woken) if woken == tid => Some((State::Waiting, State::Asleep)),
            _ => None,
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.rsplit_once(name)?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Linux 6.18.
    const TRACE: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 6/6   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
          <idle>-0       [000] dNh4.   100.001000: sched_wakeup: comm=node pid=77 prio=120 target_cpu=000
          <idle>-0       [000] d..2.   100.003000: sched_switch: prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=node next_pid=77 next_prio=120
            node-77      [000] d..2.   100.010000: sched_switch: prev_comm=node prev_pid=77 prev_prio=120 prev_state=R+ ==> next_comm=cc1 next_pid=78 next_prio=120
             cc1-78      [000] d..2.   100.014000: sched_switch: prev_comm=cc1 prev_pid=78 prev_prio=120 prev_state=S ==> next_comm=node next_pid=77 next_prio=120
            node-77      [000] d..2.   100.020000: sched_switch: prev_comm=node prev_pid=77 prev_prio=120 prev_state=D ==> next_comm=swapper/0 next_pid=0 next_prio=120
          <idle>-0       [001] dNh4.   100.028000: sched_wakeup: comm=node pid=77 prio=120 target_cpu=001
";

    #[track_caller]
    fn assert_spent(actual: Spent, [ran, waited, slept]: [f64; 3]) {
        for (actual, expected) in [(actual.ran, ran), (actual.waited, waited), (actual.slept, slept)] {
            assert!((actual - expected).abs() < 1e-6, "{actual} ms, not {expected}");
        }
    }

    #[test]
    fn a_trace_divides_time_into_running_waiting_and_sleeping() {
        let history = History::parse(TRACE, 77);
        assert_spent(history.spent(100_000.0, 100_030.0), [7.0 + 6.0, 2.0 + 4.0 + 2.0, 1.0 + 8.0]);
        assert_spent(history.spent(100_005.0, 100_012.0), [5.0, 2.0, 0.0]);
        assert_spent(history.spent(100_015.0, 100_016.0), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn time_off_the_processor_counts_from_its_begin_to_its_end() {
        let history = History::parse(TRACE, 77);
        for (at_ms, margin_ms, expected_ms) in
            [(100_014.5, 1.0, 4.0), (100_017.0, 2.0, 0.0), (100_015.0, 6.0, 12.0)]
        {
            let off_ms = history.off_cpu_near(at_ms, margin_ms);
            assert!((off_ms - expected_ms).abs() < 1e-6, "{off_ms} ms, not {expected_ms}");
        }
    }

    #[test]
    fn a_wakeup_before_the_thread_has_left_leaves_it_running() {
        let trace = TRACE
            .replace("100.028000", "100.012000")
            .replace("pid=77 prio=120 target_cpu=001", "pid=77 prio=120 target_cpu=000");
        let mut lines: Vec<&str> = trace.lines().collect();
        let woken = lines.pop().expect("it has lines");
        lines.insert(lines.len() - 1, woken);
        assert_spent(History::parse(&lines.join("\n"), 77).spent(100_014.0, 100_020.0), [6.0, 0.0, 0.0]);
    }

    #[test]
    fn a_sleep_ends_being_awake() {
        let awake = |begin_ms, end_ms| -> Vec<f64> {
            let spans = History::parse(TRACE, 77).awake(begin_ms, end_ms);
            spans.into_iter().map(f64::round).collect()
        };
        assert_eq!(format!("{:?}", awake(100_000.0, 100_030.0)), "[0.0, 19.0, 2.0]");
        assert_eq!(format!("{:?}", awake(100_010.0, 100_020.0)), "[10.0]");
    }

    #[test]
    fn time_around_a_missing_switch_is_unknown() {
        let without = |line: &str| {
            let lines: Vec<&str> = TRACE.lines().filter(|other| !other.contains(line)).collect();
            History::parse(&lines.join("\n"), 77).spent(100_003.0, 100_028.0)
        };
        assert_spent(without("100.014000"), [7.0, 0.0, 8.0]);
        assert!((without("100.014000").unknown - 10.0).abs() < 1e-6);
        assert!((without("100.010000").unknown - 11.0).abs() < 1e-6);
        assert!(without("no such line").unknown.abs() < 1e-6);
    }

    #[test]
    fn threads_are_told_apart() {
        let history = History::parse(TRACE, 78);
        assert_spent(history.spent(100_009.0, 100_020.0), [4.0, 1.0, 6.0]);
    }

    #[test]
    #[should_panic(expected = "overwrote")]
    fn a_trace_with_a_gap_is_refused() {
        History::parse(&TRACE.replace("6/6", "6/7"), 77);
    }
}

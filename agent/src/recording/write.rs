//! Intervals to lines.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{
    FORMAT, Header, VERSION,
    tables::Tables,
    wire::{
        BacklogLine, CausesLine, Columns, EndLine, HistogramLine, IntervalLine, Line, MicrotasksLine,
        NoticeLine, OccasionLine, PauseLine, PausesLine, PoolLine, ProcessLine, SampledLine, SleepLine,
        StallLine, StartupLine, StdioLine, ThreadLine,
    },
};
use crate::model::{
    Backlog, Causes, Histogram, Interval, LongPause, Pauses, Sleep, Stall, Startup, Stdio,
    interval::{ProcessInterval, ThreadInterval},
    startup::PackageTime,
};

/// Writes a recording. Every line leaves at once and whole, so that a crash costs the line it happens in.
#[derive(Debug)]
pub struct Recorder<W> {
    sink: W,
    tables: Tables,
    /// The next line begins the tables anew.
    anew: bool,
    intervals: u64,
    bytes: u64,
}

impl Header {
    /// Of a recording that begins now, at `began` (RFC 3339).
    pub fn new(began: String, host: Option<String>, delay_s: f64, stall_threshold_s: f64) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            writer: concat!("nodeprobe ", env!("CARGO_PKG_VERSION")).to_owned(),
            host,
            began,
            delay_s,
            stall_threshold_s,
            columns: Columns::default(),
        }
    }
}

impl<W: Write> Recorder<W> {
    /// Writes the first line.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn new(sink: W, header: &Header) -> io::Result<Self> {
        let mut recorder = Self { sink, tables: Tables::default(), anew: false, intervals: 0, bytes: 0 };
        recorder.line(header)?;
        Ok(recorder)
    }

    /// Writes one interval.
    ///
    /// # Errors
    /// Those of the sink. After one the file may end in the middle of a line.
    pub fn write(&mut self, interval: &Interval) -> io::Result<()> {
        let Interval {
            time,
            duration_s,
            lost,
            processes,
            host_cpu,
            answers_seen_ns,
            stalls,
            pauses,
            stacks,
            occasions,
            notices,
        } = interval;
        let mut line = IntervalLine {
            time_ns: unix_ns(*time),
            duration_s: *duration_s,
            answers_seen_ns: *answers_seen_ns,
            host_cpu: host_cpu.map(|host| (host.busy_ns, host.idle_ns, host.stolen_ns)),
            ..IntervalLine::default()
        };
        if std::mem::take(&mut self.anew) || self.tables.are_full() {
            self.tables = Tables::default();
            line.fresh = true;
        }
        let nonzero = lost.iter().filter(|(_, count)| **count > 0);
        line.lost = nonzero.map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        let tables = &mut self.tables;
        line.processes = processes.iter().map(|process| process_line(process, tables, &mut line)).collect();
        line.stalls = stalls.iter().map(|stall| stall_line(stall, tables, &mut line)).collect();
        line.pauses = pauses.iter().map(pause_line).collect();
        line.sampled = stacks
            .iter()
            .map(|thread| SampledLine {
                pid: thread.process.pid,
                start_ticks: thread.process.start_ticks,
                tid: thread.tid,
                stacks: tables.times(&thread.stacks, &mut line),
            })
            .collect();
        line.occasions = occasions
            .iter()
            .map(|taken| OccasionLine {
                pid: taken.process.pid,
                start_ticks: taken.process.start_ticks,
                tid: taken.tid,
                occasion: taken.occasion.name().to_owned(),
                stack: tables.stack(&taken.stack, &mut line),
                count: taken.count,
            })
            .collect();
        line.notices = notices
            .iter()
            .map(|notice| NoticeLine {
                pid: notice.process.pid,
                start_ticks: notice.process.start_ticks,
                tid: notice.tid,
                notice: notice.kind.name().to_owned(),
                time_ns: unix_ns(notice.time),
            })
            .collect();
        self.tables.keep_processes(processes);
        self.line(&Line::Interval(Box::new(line)))?;
        self.intervals += 1;
        Ok(())
    }

    /// Writes the last line, which says that the recording is whole.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self, time: SystemTime) -> io::Result<W> {
        self.line(&Line::End(EndLine { time_ns: unix_ns(time), intervals: self.intervals }))?;
        Ok(self.sink)
    }

    /// What is written from now on refers to nothing before it.
    pub(super) fn begin_anew(&mut self) {
        self.anew = true;
    }

    /// Written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut rendered = serde_json::to_vec(value)?;
        rendered.push(b'\n');
        self.sink.write_all(&rendered)?;
        self.sink.flush()?;
        self.bytes += rendered.len() as u64;
        Ok(())
    }
}

impl Recorder<Vec<u8>> {
    /// What was written since it was last asked.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sink)
    }
}

fn unix_ns(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn process_line(process: &ProcessInterval, tables: &mut Tables, line: &mut IntervalLine) -> ProcessLine {
    let ProcessInterval {
        id: _,
        identity: _,
        signals: _,
        uptime_s,
        rss_bytes,
        cpu_ratio,
        cpu_throttled_ns,
        cpu_periods,
        run_delay_ns,
        nice,
        heap_used_bytes,
        allocated_bytes,
        heap_limit_bytes,
        minor,
        major,
        rejections,
        deopts,
        pool,
        microtasks,
        sockets_refused,
        backlogs,
        async_context,
        group_memory,
        modules,
        startup,
        stdout,
        stderr,
        threads,
        exited,
    } = process;
    ProcessLine {
        identity: tables.identity(process, line),
        uptime_s: rounded(*uptime_s),
        rss_bytes: *rss_bytes,
        cpu_ratio: cpu_ratio.map(rounded),
        cpu_throttled_ns: *cpu_throttled_ns,
        run_delay_ns: *run_delay_ns,
        cpu_periods: cpu_periods.map(|periods| (periods.elapsed, periods.throttled)),
        nice: nice.map(i64::from),
        rejections: (rejections.unhandled, rejections.handled_late),
        deopts: (deopts.eager, deopts.lazy),
        pool: PoolLine {
            kinds: pool.kinds.map(|kind| (kind.tasks, kind.waited_ns, kind.busy_ns)),
            max_wait_ns: pool.max_wait_ns,
            waiting: pool.waiting,
            oldest_wait_ns: pool.oldest_wait_ns,
        },
        microtasks: MicrotasksLine {
            drains: histogram_line(&microtasks.drains),
            seen_ns: microtasks.seen_ns,
        },
        sockets_refused: *sockets_refused,
        backlogs: backlogs.iter().map(backlog_line).collect(),
        async_context: (async_context.kept, async_context.lost, async_context.none),
        modules: modules.kinds.map(|kind| (kind.modules, kind.time_ns)),
        startup: startup.as_deref().map(startup_line),
        group_memory: group_memory.map(|memory| (memory.limit_bytes, memory.used_bytes)),
        heap_used_bytes: *heap_used_bytes,
        allocated_bytes: *allocated_bytes,
        heap_limit_bytes: *heap_limit_bytes,
        minor: pauses_line(minor),
        major: pauses_line(major),
        stdout: stdio_line(stdout),
        stderr: stdio_line(stderr),
        threads: threads.iter().map(|thread| thread_line(thread, tables, line)).collect(),
        exited: *exited,
    }
}

fn startup_line(startup: &Startup) -> StartupLine {
    let Startup { environment_ns, first_turn_ns, listening_ns, steady_ns, modules, packages } = startup;
    let package = |package: &PackageTime| (package.name.to_string(), package.cpu_ns, package.wait_ns);
    StartupLine {
        environment_ns: *environment_ns,
        first_turn_ns: *first_turn_ns,
        listening_ns: *listening_ns,
        steady_ns: *steady_ns,
        modules: modules.map(|modules| (modules.modules, modules.time_ns)),
        packages: packages.iter().map(package).collect(),
    }
}

fn backlog_line(backlog: &Backlog) -> BacklogLine {
    let Backlog { fd, peer, queued_bytes, libuv_queued_bytes, age_ns } = backlog;
    BacklogLine {
        fd: *fd,
        peer: peer.as_deref().map(str::to_owned),
        queued_bytes: *queued_bytes,
        libuv_queued_bytes: *libuv_queued_bytes,
        age_ns: *age_ns,
    }
}

/// Microseconds and millionths are all that such a number can be trusted for, and half of its digits.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn thread_line(thread: &ThreadInterval, tables: &mut Tables, line: &mut IntervalLine) -> ThreadLine {
    let ThreadInterval {
        tid,
        kind,
        name,
        exited,
        busy_ns,
        idle_ns,
        turns,
        stalls,
        current_turn_ns,
        current_turn_causes,
        current_turn_stack,
        current_turn_culprit,
        stall_causes,
        minor,
        major,
    } = thread;
    ThreadLine {
        tid: *tid,
        kind: kind.name().to_owned(),
        name: name.clone(),
        exited: *exited,
        busy_ns: *busy_ns,
        idle_ns: *idle_ns,
        turns: histogram_line(turns),
        stalls: histogram_line(stalls),
        current_turn_ns: *current_turn_ns,
        current_turn_causes: causes_line(current_turn_causes),
        current_turn_stack: current_turn_stack.as_ref().map(|stack| tables.stack(stack, line)),
        current_turn_culprit: current_turn_culprit.as_ref().map(|culprit| tables.culprit(culprit, line)),
        stall_causes: causes_line(stall_causes),
        minor: pauses_line(minor),
        major: pauses_line(major),
    }
}

fn stall_line(stall: &Stall, tables: &mut Tables, line: &mut IntervalLine) -> StallLine {
    let Stall {
        process,
        tid,
        thread,
        began,
        duration_ns,
        startup,
        lower_bound,
        causes,
        longest_sleep,
        stacks,
        culprit,
    } = stall;
    let sleep = |sleep: &Sleep| SleepLine {
        duration_ns: sleep.duration_ns,
        cause: sleep.cause.name().to_owned(),
        syscall: sleep.syscall.map(str::to_owned),
        file: sleep.file.as_deref().map(str::to_owned),
    };
    StallLine {
        pid: process.pid,
        start_ticks: process.start_ticks,
        tid: *tid,
        thread: thread.name().to_owned(),
        began_ns: unix_ns(*began),
        duration_ns: *duration_ns,
        startup: *startup,
        lower_bound: *lower_bound,
        causes: causes_line(causes),
        longest_sleep: longest_sleep.as_ref().map(sleep),
        stacks: tables.times(stacks, line),
        culprit: culprit.as_ref().map(|culprit| tables.culprit(culprit, line)),
    }
}

fn pause_line(pause: &LongPause) -> PauseLine {
    let LongPause { process, tid, kind, began, duration_ns, heap } = pause;
    PauseLine {
        pid: process.pid,
        start_ticks: process.start_ticks,
        tid: *tid,
        kind: kind.name().to_owned(),
        began_ns: unix_ns(*began),
        duration_ns: *duration_ns,
        before_bytes: heap.before_bytes,
        after_bytes: heap.after_bytes,
    }
}

fn causes_line(causes: &Causes) -> CausesLine {
    causes.iter().filter(|(_, ns)| *ns > 0).map(|(cause, ns)| (cause.name().to_owned(), ns)).collect()
}

fn pauses_line(pauses: &Pauses) -> PausesLine {
    PausesLine {
        durations: histogram_line(&pauses.durations),
        before_bytes: pauses.last.before_bytes,
        after_bytes: pauses.last.after_bytes,
        last_age_ns: pauses.last_age_ns,
    }
}

fn stdio_line(stdio: &Stdio) -> StdioLine {
    let Stdio { kind, bytes, writes, eagain, blocked_ns, durations } = stdio;
    StdioLine {
        kind: kind.map(|kind| kind.name().to_owned()),
        bytes: *bytes,
        writes: *writes,
        eagain: *eagain,
        blocked_ns: *blocked_ns,
        durations: histogram_line(durations),
    }
}

fn histogram_line(histogram: &Histogram) -> HistogramLine {
    let Histogram { count, sum_ns, interval_max_ns, explicit, exponential } = histogram;
    let sparse = |buckets: &[u64]| {
        let used = buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        used.flat_map(|(slot, count)| [slot as u64, *count]).collect()
    };
    HistogramLine {
        count: *count,
        sum_ns: *sum_ns,
        max_ns: *interval_max_ns,
        explicit: sparse(explicit),
        exponential: sparse(exponential.as_slice()),
    }
}

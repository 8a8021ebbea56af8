//! One line to one interval, with the tables that the lines before have filled.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    HARD, MOST_FRAMES,
    intern::intern,
    wire::{
        BacklogLine, CausesLine, CulpritLine, FrameRow, HistogramLine, IdentityLine, IntervalLine,
        NoticeLine, OccasionLine, PauseLine, PausesLine, PoolLine, ProcessLine, SleepLine, StackLine,
        StallLine, StartupLine, StdioLine, ThreadLine, TimeRow,
    },
};
use crate::{
    clean::{NAME_MAX_CHARS, PATH_MAX_CHARS, VALUE_MAX_CHARS, clean},
    model::{
        AsyncContext, Availability, Backlog, Category, Cause, Causes, CpuPeriods, Culprit, Deopts, Frame,
        FrameKind, GcKind, GroupMemory, HeapChange, Histogram, HostCpu, Identity, Interval, LongPause,
        Modules, Notice, NoticeKind, Occasion, OccasionStack, Pauses, Pool, PoolWork, ProcessId, Rejections,
        Says, Signal, Sleep, Stack, StackTime, Stall, Startup, Stdio, StreamKind, ThreadKind, ThreadStacks,
        interval::{Microtasks, ProcessInterval, ThreadInterval},
        startup::{Compiled, PackageTime},
    },
};

/// Beyond it lies no count and no time of an interval (13 days in ns, 1 PB); sums of thousands stay below 2^64.
const MOST: u64 = 1 << 50;
/// Full sockets of one process; the writer has fewer.
const BACKLOGS_MAX: usize = 64;
/// Packages of one start; the writer has fewer.
const PACKAGES_MAX: usize = 64;

/// The reader's side.
#[derive(Debug, Default)]
pub(super) struct Tables {
    strings: Vec<Arc<str>>,
    frames: Vec<Frame>,
    stacks: Vec<Arc<Stack>>,
    stack_frames: usize,
    identities: Vec<Known>,
}

type Known = (ProcessId, Arc<Identity>, Arc<BTreeMap<Signal, Availability>>);
/// What is wrong with a line.
pub(super) type Parsed<T> = Result<T, String>;

fn get<'a, T>(table: &'a [T], number: usize, what: &str) -> Parsed<&'a T> {
    table.get(number).ok_or_else(|| format!("it refers to {what} {number}, and there are {}", table.len()))
}

fn room(used: usize, limit: usize, what: &str) -> Parsed<()> {
    if used > limit { Err(format!("with it there are more than {limit} {what}")) } else { Ok(()) }
}

impl Tables {
    pub(super) fn interval(&mut self, line: IntervalLine) -> Parsed<Interval> {
        if line.fresh {
            *self = Self::default();
        }
        self.extend(&line.strings, &line.frames, &line.stacks, line.identities)?;
        let names = line.lost.iter().map(|(reason, count)| Ok((name(reason)?, bounded(*count))));
        Ok(Interval {
            time: time(line.time_ns),
            duration_s: line.duration_s.clamp(0.0, 1e9),
            answers_seen_ns: bounded(line.answers_seen_ns),
            host_cpu: line.host_cpu.map(|(busy_ns, idle_ns, stolen_ns)| HostCpu {
                busy_ns: bounded(busy_ns),
                idle_ns: bounded(idle_ns),
                stolen_ns: bounded(stolen_ns),
            }),
            lost: names.collect::<Parsed<_>>()?,
            processes: line
                .processes
                .into_iter()
                .map(|process| self.process(process))
                .collect::<Parsed<_>>()?,
            stalls: line.stalls.into_iter().map(|stall| self.stall(stall)).collect::<Parsed<_>>()?,
            pauses: line.pauses.iter().map(pause).collect::<Parsed<_>>()?,
            stacks: line
                .sampled
                .into_iter()
                .map(|thread| {
                    Ok(ThreadStacks {
                        process: ProcessId { pid: thread.pid, start_ticks: thread.start_ticks },
                        tid: thread.tid,
                        stacks: self.times(&thread.stacks)?,
                    })
                })
                .collect::<Parsed<_>>()?,
            occasions: line
                .occasions
                .iter()
                .filter_map(|taken| self.occasion(taken))
                .collect::<Parsed<_>>()?,
            notices: line.notices.iter().filter_map(notice).collect(),
        })
    }

    /// `None`: an occasion that this version does not know has no face in it either.
    fn occasion(&self, line: &OccasionLine) -> Option<Parsed<OccasionStack>> {
        let occasion = known(&Occasion::ALL, Occasion::name, &line.occasion).ok()?;
        Some(self.stack(line.stack).map(|stack| OccasionStack {
            process: ProcessId { pid: line.pid, start_ticks: line.start_ticks },
            tid: line.tid,
            occasion,
            stack,
            count: bounded(line.count),
        }))
    }

    fn extend(
        &mut self,
        strings: &[String],
        frames: &[FrameRow],
        stacks: &[StackLine],
        identities: Vec<IdentityLine>,
    ) -> Parsed<()> {
        room(self.strings.len() + strings.len(), HARD.strings, "strings")?;
        room(self.frames.len() + frames.len(), HARD.frames, "frames")?;
        room(self.stacks.len() + stacks.len(), HARD.stacks, "stacks")?;
        room(self.identities.len() + identities.len(), HARD.processes, "identities")?;
        self.strings.extend(strings.iter().map(|text| Arc::from(clean(text.as_bytes(), PATH_MAX_CHARS))));
        for row in frames {
            let frame = self.frame(row)?;
            self.frames.push(frame);
        }
        for line in stacks {
            room(line.frames.len(), MOST_FRAMES, "frames in a stack")?;
            self.stack_frames += line.frames.len();
            room(self.stack_frames, HARD.stack_frames, "frames in stacks")?;
            let frames = line.frames.iter().map(|number| get(&self.frames, *number, "frame").cloned());
            self.stacks.push(Arc::new(Stack {
                frames: frames.collect::<Parsed<_>>()?,
                truncated: line.truncated,
                problem: line.problem.as_deref().map(name).transpose()?,
            }));
        }
        self.identities.extend(identities.into_iter().map(identity));
        Ok(())
    }

    fn string(&self, number: usize) -> Parsed<Arc<str>> {
        get(&self.strings, number, "string").cloned()
    }

    fn frame(&self, row: &FrameRow) -> Parsed<Frame> {
        let FrameRow(kind, function, script, line, column, line_is_exact, package) = row;
        Ok(Frame {
            kind: known(
                &[FrameKind::JavaScript, FrameKind::NodeInternal, FrameKind::Builtin, FrameKind::Native],
                FrameKind::name,
                kind,
            )?,
            function: self.string(*function)?,
            script: script.map(|number| self.string(number)).transpose()?,
            line: *line,
            column: *column,
            line_is_exact: *line_is_exact,
            package: package.map(|number| self.string(number)).transpose()?,
        })
    }

    fn stack(&self, number: usize) -> Parsed<Arc<Stack>> {
        get(&self.stacks, number, "stack").cloned()
    }

    fn times(&self, rows: &[TimeRow]) -> Parsed<Vec<StackTime>> {
        rows.iter()
            .map(|TimeRow(stack, category, samples, time_ns)| {
                Ok(StackTime {
                    stack: self.stack(*stack)?,
                    category: known(&Category::ALL, Category::name, category).unwrap_or(Category::Unknown),
                    samples: bounded(*samples),
                    time_ns: bounded(*time_ns),
                })
            })
            .collect()
    }

    fn culprit(&self, line: &CulpritLine) -> Parsed<Culprit> {
        Ok(Culprit {
            function: self.string(line.function)?,
            script: line.script.map(|number| self.string(number)).transpose()?,
            line: line.line,
            package: line.package.map(|number| self.string(number)).transpose()?,
        })
    }

    fn process(&self, line: ProcessLine) -> Parsed<ProcessInterval> {
        let (id, identity, signals) = get(&self.identities, line.identity, "identity")?;
        Ok(ProcessInterval {
            id: *id,
            identity: Arc::clone(identity),
            signals: Arc::clone(signals),
            uptime_s: line.uptime_s.clamp(0.0, 1e10),
            rss_bytes: line.rss_bytes.map(bounded),
            cpu_ratio: line.cpu_ratio.map(|ratio| ratio.clamp(0.0, 1e6)),
            cpu_throttled_ns: line.cpu_throttled_ns.map(bounded),
            run_delay_ns: line.run_delay_ns.map(bounded),
            cpu_periods: line.cpu_periods.map(|(elapsed, throttled)| CpuPeriods {
                elapsed: bounded(elapsed),
                throttled: bounded(throttled),
            }),
            nice: line.nice.map(|nice| nice.clamp(-20, 19) as i8),
            rejections: Rejections {
                unhandled: bounded(line.rejections.0),
                handled_late: bounded(line.rejections.1),
            },
            deopts: Deopts { eager: bounded(line.deopts.0), lazy: bounded(line.deopts.1) },
            pool: pool(&line.pool),
            microtasks: Microtasks {
                drains: histogram(&line.microtasks.drains)?,
                seen_ns: bounded(line.microtasks.seen_ns),
            },
            sockets_refused: bounded(line.sockets_refused),
            backlogs: line.backlogs.iter().take(BACKLOGS_MAX).map(backlog).collect(),
            async_context: AsyncContext {
                kept: bounded(line.async_context.0),
                lost: bounded(line.async_context.1),
                none: bounded(line.async_context.2),
            },
            modules: Modules { kinds: line.modules.map(compiled) },
            startup: line.startup.as_ref().map(startup).map(Arc::new),
            group_memory: line.group_memory.map(|(limit_bytes, used_bytes)| GroupMemory {
                limit_bytes: bounded(limit_bytes),
                used_bytes: used_bytes.map(bounded),
            }),
            heap_used_bytes: line.heap_used_bytes.map(bounded),
            allocated_bytes: line.allocated_bytes.map(bounded),
            heap_limit_bytes: line.heap_limit_bytes.map(bounded),
            minor: pauses(&line.minor)?,
            major: pauses(&line.major)?,
            stdout: stdio(&line.stdout)?,
            stderr: stdio(&line.stderr)?,
            threads: line.threads.into_iter().map(|thread| self.thread(&thread)).collect::<Parsed<_>>()?,
            exited: line.exited,
        })
    }

    fn thread(&self, line: &ThreadLine) -> Parsed<ThreadInterval> {
        Ok(ThreadInterval {
            tid: line.tid,
            kind: thread_kind(&line.kind)?,
            name: clean(line.name.as_bytes(), NAME_MAX_CHARS),
            exited: line.exited,
            busy_ns: bounded(line.busy_ns),
            idle_ns: bounded(line.idle_ns),
            turns: histogram(&line.turns)?,
            stalls: histogram(&line.stalls)?,
            current_turn_ns: line.current_turn_ns.map(bounded),
            current_turn_causes: causes(&line.current_turn_causes),
            current_turn_stack: line.current_turn_stack.map(|number| self.stack(number)).transpose()?,
            current_turn_culprit: line
                .current_turn_culprit
                .as_ref()
                .map(|culprit| self.culprit(culprit))
                .transpose()?,
            stall_causes: causes(&line.stall_causes),
            minor: pauses(&line.minor)?,
            major: pauses(&line.major)?,
        })
    }

    fn stall(&self, line: StallLine) -> Parsed<Stall> {
        Ok(Stall {
            process: ProcessId { pid: line.pid, start_ticks: line.start_ticks },
            tid: line.tid,
            thread: thread_kind(&line.thread)?,
            began: time(line.began_ns),
            duration_ns: bounded(line.duration_ns),
            startup: line.startup,
            lower_bound: line.lower_bound,
            causes: causes(&line.causes),
            longest_sleep: line.longest_sleep.map(|sleep| self::sleep(&sleep)).transpose()?,
            stacks: self.times(&line.stacks)?,
            culprit: line.culprit.map(|culprit| self.culprit(&culprit)).transpose()?,
        })
    }
}

fn identity(line: IdentityLine) -> Known {
    let short = |text: String| clean(text.as_bytes(), NAME_MAX_CHARS);
    let value = |text: String| clean(text.as_bytes(), VALUE_MAX_CHARS);
    let attributes = line.resource_attributes.into_iter().map(|(key, text)| (value(key), value(text)));
    let identity = Identity {
        name: short(line.name),
        service_name: value(line.service_name),
        service_version: line.service_version.map(value),
        service_namespace: line.service_namespace.map(value),
        service_instance_id: value(line.service_instance_id),
        resource_attributes: attributes.collect(),
        node_version: line.node_version.map(short),
        v8_version: line.v8_version.map(short),
        container_id: line.container_id.map(short),
        // For a cluster's names, which are looked up live only.
        pod_uid: None,
        says: Says::default(),
        executable_path: clean(line.executable_path.as_bytes(), PATH_MAX_CHARS),
        namespaced_pid: line.namespaced_pid,
        parent_pid: line.parent_pid,
        user_id: line.user_id,
        heap_limit_bytes: line.heap_limit_bytes.map(bounded),
    };
    // A signal that this version does not know has no face in it either.
    let signals = line.signals.into_iter().filter_map(|(name, reason)| {
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name)?;
        let reason = reason.map(|reason| clean(reason.as_bytes(), PATH_MAX_CHARS));
        Some((signal, reason.map_or(Availability::Ok, |text| Availability::Unavailable(text.into()))))
    });
    let id = ProcessId { pid: line.pid, start_ticks: line.start_ticks };
    (id, Arc::new(identity), Arc::new(signals.collect()))
}

fn pool(line: &PoolLine) -> Pool {
    Pool {
        kinds: line.kinds.map(|(tasks, waited_ns, busy_ns)| PoolWork {
            tasks: bounded(tasks),
            waited_ns: bounded(waited_ns),
            busy_ns: bounded(busy_ns),
        }),
        max_wait_ns: line.max_wait_ns.map(bounded),
        waiting: bounded(line.waiting),
        oldest_wait_ns: bounded(line.oldest_wait_ns),
    }
}

fn compiled((modules, time_ns): (u64, u64)) -> Compiled {
    Compiled { modules: bounded(modules), time_ns: bounded(time_ns) }
}

fn startup(line: &StartupLine) -> Startup {
    let package = |(name, cpu_ns, wait_ns): &(String, u64, u64)| PackageTime {
        name: clean(name.as_bytes(), NAME_MAX_CHARS).into(),
        cpu_ns: bounded(*cpu_ns),
        wait_ns: bounded(*wait_ns),
    };
    Startup {
        environment_ns: line.environment_ns.map(bounded),
        first_turn_ns: line.first_turn_ns.map(bounded),
        listening_ns: line.listening_ns.map(bounded),
        steady_ns: line.steady_ns.map(bounded),
        modules: line.modules.map(compiled),
        packages: line.packages.iter().take(PACKAGES_MAX).map(package).collect(),
    }
}

fn backlog(line: &BacklogLine) -> Backlog {
    Backlog {
        fd: line.fd,
        peer: line.peer.as_ref().map(|peer| clean(peer.as_bytes(), NAME_MAX_CHARS).into()),
        queued_bytes: line.queued_bytes.map(bounded),
        libuv_queued_bytes: line.libuv_queued_bytes.map(bounded),
        age_ns: bounded(line.age_ns),
    }
}

fn bounded(value: u64) -> u64 {
    value.min(MOST)
}

fn time(unix_ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_ns)
}

fn name(text: &str) -> Parsed<&'static str> {
    intern(text).ok_or_else(|| "it names more reasons than there are".to_owned())
}

fn known<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Parsed<T> {
    let found = all.iter().copied().find(|value| name(*value) == text);
    found.ok_or_else(|| format!("`{}` is not known", clean(text.as_bytes(), 40)))
}

fn thread_kind(text: &str) -> Parsed<ThreadKind> {
    known(&[ThreadKind::Main, ThreadKind::Worker], ThreadKind::name, text)
}

/// A cause that is not known here is what that word says.
fn causes(line: &CausesLine) -> Causes {
    let cause = |text: &str| known(&Cause::ALL, Cause::name, text).unwrap_or(Cause::Unknown);
    line.iter().map(|(name, ns)| (cause(name), bounded(*ns))).collect()
}

fn sleep(line: &SleepLine) -> Parsed<Sleep> {
    Ok(Sleep {
        duration_ns: bounded(line.duration_ns),
        cause: known(&Cause::ALL, Cause::name, &line.cause).unwrap_or(Cause::Unknown),
        syscall: line.syscall.as_deref().map(name).transpose()?,
        file: line.file.as_deref().map(|file| clean(file.as_bytes(), PATH_MAX_CHARS).into()),
    })
}

/// `None`: as for occasions.
fn notice(line: &NoticeLine) -> Option<Notice> {
    Some(Notice {
        process: ProcessId { pid: line.pid, start_ticks: line.start_ticks },
        tid: line.tid,
        kind: known(&NoticeKind::ALL, NoticeKind::name, &line.notice).ok()?,
        time: time(line.time_ns),
    })
}

fn pause(line: &PauseLine) -> Parsed<LongPause> {
    Ok(LongPause {
        process: ProcessId { pid: line.pid, start_ticks: line.start_ticks },
        tid: line.tid,
        kind: known(&[GcKind::Minor, GcKind::Major], GcKind::name, &line.kind)?,
        began: time(line.began_ns),
        duration_ns: bounded(line.duration_ns),
        heap: heap(line.before_bytes, line.after_bytes),
    })
}

fn heap(before_bytes: Option<u64>, after_bytes: Option<u64>) -> HeapChange {
    HeapChange { before_bytes: before_bytes.map(bounded), after_bytes: after_bytes.map(bounded) }
}

fn pauses(line: &PausesLine) -> Parsed<Pauses> {
    Ok(Pauses {
        durations: histogram(&line.durations)?,
        last: heap(line.before_bytes, line.after_bytes),
        last_age_ns: line.last_age_ns.map(bounded),
    })
}

fn stdio(line: &StdioLine) -> Parsed<Stdio> {
    const KINDS: [StreamKind; 4] = [StreamKind::Pipe, StreamKind::File, StreamKind::Tty, StreamKind::Socket];
    Ok(Stdio {
        kind: line.kind.as_deref().map(|kind| known(&KINDS, StreamKind::name, kind)).transpose()?,
        bytes: bounded(line.bytes),
        writes: bounded(line.writes),
        eagain: bounded(line.eagain),
        blocked_ns: bounded(line.blocked_ns),
        durations: histogram(&line.durations)?,
    })
}

fn histogram(line: &HistogramLine) -> Parsed<Histogram> {
    let mut histogram = Histogram {
        count: bounded(line.count),
        sum_ns: bounded(line.sum_ns),
        interval_max_ns: line.max_ns.map(bounded),
        ..Histogram::default()
    };
    fill(&mut histogram.explicit, &line.explicit)?;
    fill(histogram.exponential.as_mut_slice(), &line.exponential)?;
    Ok(histogram)
}

fn fill(buckets: &mut [u64], pairs: &[u64]) -> Parsed<()> {
    let slots = buckets.len();
    for pair in pairs.chunks(2) {
        let [slot, count] = pair else { return Err("a bucket has no count".to_owned()) };
        let bucket = usize::try_from(*slot).ok().and_then(|slot| buckets.get_mut(slot));
        *bucket.ok_or_else(|| format!("it fills bucket {slot} of {slots}"))? = bounded(*count);
    }
    Ok(())
}

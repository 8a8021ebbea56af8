//! The last intervals of one process, and the sums over them that the checks ask for.
//!
//! Times are those of the main thread, so that shares are shares of one thread's time: what a worker does keeps nobody else
//! waiting, and has a row of its own in `top`. Counts (rejections, deoptimisations) and streams are those of the process.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use super::{Mode, thresholds::OUTSIDE_HEAP_FROM_S};
use crate::{
    model::{
        AsyncContext, Backlog, Category, Cause, Causes, Culprit, GroupMemory, Interval, LongPause,
        NoticeKind, Occasion, OccasionStack, Pool, Stack, StackTime, Stall, Startup, StreamKind, ThreadKind,
        interval::{Microtasks, ProcessInterval},
    },
    stack::culprit::culprit,
};

/// Sizes after full collections that are remembered, whatever the window: growth is a matter of time.
const HEAP_SIZES_MAX: usize = 256;
/// Distinct stacks of an interval that are remembered, those with most time first.
const STACKS_MAX: usize = 256;

/// A turn that began so early in the life of a process is its start-up, unless it goes on for ever.
const START_BEGINS_WITHIN_S: f64 = 1.0;
const START_IS_STUCK_NS: u64 = 30_000_000_000;

/// What one process did.
#[derive(Clone, Debug)]
pub struct History {
    window_s: f64,
    seen: VecDeque<Seen>,
    /// Modes that are found at the moment.
    pub(super) active: BTreeSet<Mode>,
    /// When the last full collection of each interval that had one ended, seconds since the first interval, and the bytes in use
    /// after it.
    heap_sizes: VecDeque<(f64, f64)>,
    now_s: f64,
    /// Seconds from the start of the process.
    listening_s: Option<f64>,
    started: Option<Arc<Startup>>,
    group_memory: Option<GroupMemory>,
    heap_limit_bytes: Option<u64>,
    exited: bool,
}

/// One interval.
#[derive(Clone, Debug, Default)]
struct Seen {
    duration_s: f64,
    startup: Option<Stall>,
    notices: BTreeSet<NoticeKind>,
    stalls: Vec<Stall>,
    /// Of the main thread: the turn under way.
    turn_ns: u64,
    turn_causes: Causes,
    turn_culprit: Option<Culprit>,
    gc_ns: u64,
    gc_pauses: u64,
    gc_longest_ns: u64,
    long_pauses: u64,
    stdio: [Stream; 2],
    run_delay_ns: Option<u64>,
    throttled_ns: Option<u64>,
    rejections: u64,
    rejections_handled_late: u64,
    deopts: u64,
    rss_bytes: Option<u64>,
    heap_used_bytes: Option<u64>,
    uptime_s: f64,
    pool: Pool,
    microtasks: Microtasks,
    sockets_refused: u64,
    backlogs: Vec<Backlog>,
    async_context: AsyncContext,
    stacks: Vec<StackTime>,
    occasions: Vec<OccasionStack>,
}

/// stdout or stderr over the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    pub kind: Option<StreamKind>,
    pub blocked_ns: u64,
    pub refused: u64,
    pub writes: u64,
    pub bytes: u64,
}

/// Some stalls together.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    pub count: usize,
    pub time_ns: u64,
    pub longest_ns: u64,
}

/// Causes that run code, whatever code.
pub const RUNNING: [Cause; 4] = [Cause::JavaScript, Cause::Compile, Cause::Native, Cause::OnCpu];

impl History {
    pub fn new(window_s: f64) -> Self {
        Self {
            window_s,
            seen: VecDeque::new(),
            active: BTreeSet::new(),
            heap_sizes: VecDeque::new(),
            now_s: 0.0,
            listening_s: None,
            started: None,
            group_memory: None,
            heap_limit_bytes: None,
            exited: false,
        }
    }

    /// Takes in what `process` did in `interval`, and forgets what is older than the window.
    pub fn push(&mut self, process: &ProcessInterval, interval: &Interval) {
        self.now_s += interval.duration_s;
        self.exited = process.exited;
        self.heap_limit_bytes = process.heap_limit_bytes.or(self.heap_limit_bytes);
        // One that has ended is in no group any more.
        self.group_memory = if process.exited { self.group_memory } else { process.group_memory };
        self.started = process.startup.clone().or_else(|| self.started.take());
        let main = process.threads.iter().find(|thread| thread.kind == ThreadKind::Main);
        // Of the main thread's heap: sizes of different heaps make no slope.
        if let Some(main) = main.filter(|main| main.major.durations.count > 0)
            && let Some(bytes) = main.major.last.after_bytes
        {
            if self.heap_sizes.len() == HEAP_SIZES_MAX {
                self.heap_sizes.pop_front();
            }
            let ended_s = self.now_s - main.major.last_age_ns.unwrap_or(0) as f64 / 1e9;
            self.heap_sizes.push_back((ended_s, bytes as f64));
        }
        let main_thread = (process.id, process.id.pid);
        let mut seen = Seen { duration_s: interval.duration_s, ..Seen::default() };
        let mut starts = false;
        if let Some(main) = main {
            let turn_ns = main.current_turn_ns.unwrap_or(0);
            // Loading modules is no work that keeps requests waiting: there are none yet.
            let is_start = process.uptime_s - turn_ns as f64 / 1e9 < START_BEGINS_WITHIN_S
                && turn_ns < START_IS_STUCK_NS;
            starts = is_start && turn_ns > 0;
            if !is_start {
                seen.turn_ns = turn_ns;
                seen.turn_causes = main.current_turn_causes;
                seen.turn_culprit.clone_from(&main.current_turn_culprit);
            }
        }
        let is_of_main = |stall: &&Stall| stall.process == process.id && stall.thread == ThreadKind::Main;
        for stall in interval.stalls.iter().filter(is_of_main) {
            if stall.startup {
                seen.startup = Some(stall.clone());
            } else {
                seen.stalls.push(stall.clone());
            }
        }
        for pauses in main.into_iter().flat_map(|main| [&main.minor, &main.major]) {
            seen.gc_ns += pauses.durations.sum_ns;
            seen.gc_pauses += pauses.durations.count;
            seen.gc_longest_ns = seen.gc_longest_ns.max(pauses.durations.interval_max_ns.unwrap_or(0));
        }
        let long_ns = (super::thresholds::GC_LONG_PAUSE_S * 1e9) as u64;
        let long =
            |pause: &&LongPause| (pause.process, pause.tid) == main_thread && pause.duration_ns >= long_ns;
        seen.long_pauses = interval.pauses.iter().filter(long).count() as u64;
        for (stream, stdio) in seen.stdio.iter_mut().zip([&process.stdout, &process.stderr]) {
            *stream = Stream {
                kind: stdio.kind,
                blocked_ns: stdio.blocked_ns,
                refused: stdio.eagain,
                writes: stdio.writes,
                bytes: stdio.bytes,
            };
        }
        (seen.run_delay_ns, seen.throttled_ns) = (process.run_delay_ns, process.cpu_throttled_ns);
        seen.rejections = process.rejections.unhandled;
        seen.rejections_handled_late = process.rejections.handled_late;
        seen.deopts = process.deopts.total();
        (seen.rss_bytes, seen.heap_used_bytes) = (process.rss_bytes, process.heap_used_bytes);
        seen.uptime_s = process.uptime_s;
        seen.microtasks = process.microtasks.clone();
        (seen.pool, seen.sockets_refused) = (process.pool, process.sockets_refused);
        seen.async_context = process.async_context;
        seen.backlogs.clone_from(&process.backlogs);
        // Code that runs for the first time misses every inline cache and says nothing of the service that it becomes. What the
        // start was spent with, its stall tells.
        starts |= seen.startup.is_some();
        let stacks = interval.stacks.iter().filter(|thread| (thread.process, thread.tid) == main_thread);
        seen.stacks = stacks.filter(|_| !starts).flat_map(|thread| thread.stacks.iter().cloned()).collect();
        seen.stacks.sort_by_key(|stack| std::cmp::Reverse(stack.time_ns));
        seen.stacks.truncate(STACKS_MAX);
        let occasions = interval.occasions.iter().filter(|taken| taken.process == process.id);
        seen.occasions = occasions.cloned().collect();
        for notice in interval.notices.iter().filter(|notice| notice.process == process.id) {
            if notice.kind == NoticeKind::Listening && self.listening_s.is_none() {
                self.listening_s = since_start(process, interval.time, notice.time);
            }
            let is_of_a_worker = notice.tid != process.id.pid;
            // A worker with a limit of its own ends alone.
            let is_of_a_heap = matches!(notice.kind, NoticeKind::NearHeapLimit | NoticeKind::OutOfMemory);
            if !(is_of_a_worker && is_of_a_heap) {
                seen.notices.insert(notice.kind);
            }
        }
        self.seen.push_back(seen);
        while self.seen.len() > 1 && self.window_s() - self.seen[0].duration_s >= self.window_s {
            self.seen.pop_front();
        }
    }

    /// What is looked at, seconds: at most the window, less while the process is young to us.
    pub fn window_s(&self) -> f64 {
        self.seen.iter().map(|seen| seen.duration_s).sum()
    }

    /// A time by that of the window.
    pub fn share(&self, ns: u64) -> f64 {
        let window_s = self.window_s();
        if window_s > 0.0 { ns as f64 / 1e9 / window_s } else { 0.0 }
    }

    pub fn per_second(&self, count: u64) -> f64 {
        let window_s = self.window_s();
        if window_s > 0.0 { count as f64 / window_s } else { 0.0 }
    }

    pub fn exited(&self) -> bool {
        self.exited
    }

    fn sum(&self, of: impl Fn(&Seen) -> u64) -> u64 {
        self.seen.iter().map(of).sum()
    }

    /// All stalls but the start-up.
    pub fn stalls(&self) -> impl Iterator<Item = &Stall> {
        self.seen.iter().flat_map(|seen| &seen.stalls)
    }

    /// Stalls of which the greatest part was spent with one of `causes` together.
    pub fn stalls_led_by(&self, causes: &[Cause]) -> Stalls {
        let mut sum = Stalls::default();
        for stall in self.stalls().filter(|stall| leads(&stall.causes, causes)) {
            sum.count += 1;
            sum.time_ns += stall.duration_ns;
            sum.longest_ns = sum.longest_ns.max(stall.duration_ns);
        }
        sum
    }

    /// What stalls were spent with one cause, whatever led in them: how many, the time, and the longest such time.
    pub fn stalled_with(&self, cause: Cause) -> Stalls {
        let mut sum = Stalls::default();
        for ns in self.stalls().map(|stall| stall.causes.ns(cause)).filter(|ns| *ns > 0) {
            sum.count += 1;
            sum.time_ns += ns;
            sum.longest_ns = sum.longest_ns.max(ns);
        }
        sum
    }

    /// Whom the time that stalls were spent with one cause is blamed on.
    pub fn blamed_for_cause(&self, cause: Cause) -> Option<Culprit> {
        let with = self.stalls().filter_map(|stall| Some((stall.culprit.as_ref()?, stall.causes.ns(cause))));
        Culprit::of_most(with.filter(|(_, ns)| *ns > 0))
    }

    /// Whom the stalls that are led by `causes` are blamed on.
    pub fn blamed_for_stalls(&self, causes: &[Cause]) -> Option<Culprit> {
        let led = self.stalls().filter(|stall| leads(&stall.causes, causes));
        Culprit::of_most(led.filter_map(|stall| Some((stall.culprit.as_ref()?, stall.duration_ns))))
    }

    /// The turn under way of the main thread: its age, how it divides and who is to blame, if `causes` lead in it.
    pub fn turn_under_way(&self, causes: &[Cause]) -> Option<(u64, Option<&Culprit>)> {
        let seen = self.seen.back().filter(|seen| seen.turn_ns > 0 && leads(&seen.turn_causes, causes))?;
        Some((seen.turn_ns, seen.turn_culprit.as_ref()))
    }

    /// Stacks of stalls but of the start-up.
    pub fn stall_stacks(&self) -> impl Iterator<Item = &StackTime> {
        self.stalls().flat_map(|stall| &stall.stacks)
    }

    /// Everything that was sampled but in intervals of the start-up.
    pub fn stacks(&self) -> impl Iterator<Item = &StackTime> + Clone {
        self.seen.iter().flat_map(|seen| &seen.stacks)
    }

    /// Time on the processor that was sampled, and its part in a category.
    pub fn sampled_ns(&self, category: Category) -> (u64, u64) {
        let on_cpu = || self.stacks().filter(|stack| stack.category != Category::Blocked);
        let of = on_cpu().filter(|stack| stack.category == category).map(|stack| stack.time_ns).sum();
        (on_cpu().map(|stack| stack.time_ns).sum(), of)
    }

    /// Whom those stacks are blamed on.
    pub fn blamed(&self, wanted: impl Fn(&StackTime) -> bool) -> Option<Culprit> {
        let stacks: Vec<StackTime> = self.stacks().filter(|stack| wanted(stack)).cloned().collect();
        culprit(&stacks).map(|blame| blame.culprit)
    }

    /// Whom stacks that were taken on an occasion are blamed on: the function of the application that is innermost in most of
    /// them, and its share of all.
    pub fn blamed_for(&self, occasion: Occasion) -> Option<(Culprit, f64)> {
        self.blamed_where(occasion, |_| true)
    }

    /// Stacks that were taken on an occasion.
    pub fn taken(&self, occasion: Occasion) -> impl Iterator<Item = &OccasionStack> {
        let occasions = self.seen.iter().flat_map(|seen| &seen.occasions);
        occasions.filter(move |taken| taken.occasion == occasion)
    }

    /// The same for those of the stacks that are `wanted`.
    pub fn blamed_where(
        &self,
        occasion: Occasion,
        wanted: impl Fn(&Stack) -> bool,
    ) -> Option<(Culprit, f64)> {
        let taken = self.taken(occasion).filter(|taken| wanted(&taken.stack));
        let mut all = 0;
        let mut innermost: Vec<(Culprit, u64)> = Vec::new();
        for taken in taken {
            all += taken.count;
            let stack = [StackTime {
                stack: Arc::clone(&taken.stack),
                category: Category::Application,
                samples: taken.count,
                time_ns: taken.count.max(1),
            }];
            if let Some(blame) = culprit(&stack) {
                innermost.push((blame.culprit, taken.count));
            }
        }
        let most = Culprit::of_most(innermost.iter().map(|(culprit, count)| (culprit, *count)))?;
        let is_most =
            |culprit: &Culprit| (&culprit.function, &culprit.script) == (&most.function, &most.script);
        let of_most = innermost.iter().filter(|(culprit, _)| is_most(culprit)).map(|(_, count)| count);
        let of_most: u64 = of_most.sum();
        Some((most, of_most as f64 / all as f64))
    }

    /// Pauses: their time, their number, the longest, and how many were long.
    pub fn gc(&self) -> (u64, u64, u64, u64) {
        let longest_ns = self.seen.iter().map(|seen| seen.gc_longest_ns).max().unwrap_or(0);
        (self.sum(|s| s.gc_ns), self.sum(|s| s.gc_pauses), longest_ns, self.sum(|s| s.long_pauses))
    }

    /// stdout, stderr.
    pub fn stdio(&self) -> [Stream; 2] {
        let mut streams = [Stream::default(); 2];
        for seen in &self.seen {
            for (sum, stream) in streams.iter_mut().zip(&seen.stdio) {
                sum.kind = stream.kind.or(sum.kind);
                sum.blocked_ns += stream.blocked_ns;
                sum.refused += stream.refused;
                sum.writes += stream.writes;
                sum.bytes += stream.bytes;
            }
        }
        streams
    }

    /// Share of the time for which the main thread could run and had no processor; `None`: not known in any interval.
    pub fn run_delay(&self) -> Option<f64> {
        self.known_share(|seen| seen.run_delay_ns)
    }

    /// Share of the time for which the quota of the cgroup was used up. The kernel sums it over processors.
    pub fn throttled(&self) -> Option<f64> {
        self.known_share(|seen| seen.throttled_ns).map(|share| share.min(1.0))
    }

    fn known_share(&self, of: impl Fn(&Seen) -> Option<u64>) -> Option<f64> {
        let known = self.seen.iter().filter_map(|seen| Some((of(seen)?, seen.duration_s)));
        let (ns, known_s) =
            known.fold((0, 0.0), |(ns, seconds), (more, duration_s)| (ns + more, seconds + duration_s));
        (known_s > 0.0).then(|| ns as f64 / 1e9 / known_s)
    }

    /// Unhandled, handled late.
    pub fn rejections(&self) -> (u64, u64) {
        (self.sum(|seen| seen.rejections), self.sum(|seen| seen.rejections_handled_late))
    }

    /// Intervals in which stacks were taken on an occasion that blame `culprit`, and whether there were some in the later half.
    pub fn intervals_with(&self, occasion: Occasion, culprit: &Culprit) -> (usize, bool) {
        let blames = |seen: &Seen| {
            let taken = seen.occasions.iter().filter(|taken| taken.occasion == occasion);
            taken
                .flat_map(|taken| &taken.stack.frames)
                .any(|frame| (&frame.function, &frame.script) == (&culprit.function, &culprit.script))
        };
        let which: Vec<usize> =
            self.seen.iter().enumerate().filter(|(_, seen)| blames(seen)).map(|(n, _)| n).collect();
        (which.len(), which.last().is_some_and(|last| 2 * last >= self.seen.len()))
    }

    pub fn deopts(&self) -> u64 {
        self.sum(|seen| seen.deopts)
    }

    /// Times in seconds, and bytes in use after full collections.
    pub fn heap_sizes(&self) -> Vec<(f64, f64)> {
        self.heap_sizes.iter().copied().collect()
    }

    pub fn heap_limit_bytes(&self) -> Option<u64> {
        self.heap_limit_bytes
    }

    /// Resident memory at the end of the window.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.seen.iter().rev().find_map(|seen| seen.rss_bytes)
    }

    /// Seconds since the begin of the window, and resident memory that is not in the heap (buffers, code, stacks), without the
    /// time right after the start. Empty while the size of the heap is not known: it is seen at collections.
    pub fn outside_heap(&self) -> Vec<(f64, f64)> {
        let mut at_s = 0.0;
        let mut sizes = Vec::new();
        let mut heap_bytes = self.seen.iter().find_map(|seen| seen.heap_used_bytes);
        for seen in &self.seen {
            at_s += seen.duration_s;
            heap_bytes = seen.heap_used_bytes.or(heap_bytes);
            if let (Some(rss), Some(heap)) = (seen.rss_bytes, heap_bytes)
                && seen.uptime_s >= OUTSIDE_HEAP_FROM_S
            {
                sizes.push((at_s, rss as f64 - heap as f64));
            }
        }
        sizes
    }

    /// What libuv's pool of threads had to do; what waits is that at the end of the window.
    pub fn microtasks(&self) -> Microtasks {
        let mut sum = Microtasks::default();
        for seen in &self.seen {
            sum.drains.merge(&seen.microtasks.drains);
            sum.seen_ns += seen.microtasks.seen_ns;
        }
        sum
    }

    pub fn pool(&self) -> Pool {
        let mut pool = Pool::default();
        for seen in &self.seen {
            pool.merge(Pool { waiting: 0, oldest_wait_ns: 0, ..seen.pool });
        }
        let last = self.seen.back().map_or(Pool::default(), |seen| seen.pool);
        Pool { waiting: last.waiting, oldest_wait_ns: last.oldest_wait_ns, ..pool }
    }

    /// Answers to requests, by what became of their contexts.
    pub fn async_context(&self) -> AsyncContext {
        let mut answers = AsyncContext::default();
        for seen in &self.seen {
            answers.merge(seen.async_context);
        }
        answers
    }

    /// Writes to sockets that were refused.
    pub fn sockets_refused(&self) -> u64 {
        self.sum(|seen| seen.sockets_refused)
    }

    /// Sockets that are full at the end of the window, the one that has been for longest first.
    pub fn backlogs(&self) -> &[Backlog] {
        self.seen.back().map_or(&[], |seen| &seen.backlogs)
    }

    /// Whether something was told.
    pub fn has_been_told(&self, kind: NoticeKind) -> bool {
        self.seen.iter().any(|seen| seen.notices.contains(&kind))
    }

    /// Whether something was told right before the end.
    pub fn was_told_last(&self, kind: NoticeKind) -> bool {
        self.seen.iter().rev().take(2).any(|seen| seen.notices.contains(&kind))
    }

    /// The turn in which the process started.
    pub fn startup(&self) -> Option<&Stall> {
        self.seen.iter().find_map(|seen| seen.startup.as_ref())
    }

    /// The memory of the process's control group; `None`: not limited, or not known.
    pub fn group_memory(&self) -> Option<GroupMemory> {
        self.group_memory
    }

    /// Memory in the heaps when it was last told.
    pub fn heap_used_bytes(&self) -> Option<u64> {
        self.seen.iter().rev().find_map(|seen| seen.heap_used_bytes)
    }

    /// How the process started; `None`: that was not observed.
    pub fn started(&self) -> Option<&Startup> {
        self.started.as_deref()
    }

    /// From the start of the process to its first `listen`, seconds.
    pub fn listening_s(&self) -> Option<f64> {
        self.listening_s
    }
}

fn leads(causes: &Causes, wanted: &[Cause]) -> bool {
    let of = |some: &dyn Fn(Cause) -> bool| -> u64 {
        causes.iter().filter(|(cause, _)| some(*cause)).map(|(_, ns)| ns).sum()
    };
    let ours = of(&|cause| wanted.contains(&cause));
    // Those that run code count as one among the others, too.
    let running = if wanted.iter().any(|cause| RUNNING.contains(cause)) {
        0
    } else {
        of(&|cause| RUNNING.contains(&cause))
    };
    let others = causes.iter().filter(|(cause, _)| !wanted.contains(cause) && !RUNNING.contains(cause));
    ours > 0 && ours >= running && others.map(|(_, ns)| ns).all(|ns| ours >= ns)
}

fn since_start(process: &ProcessInterval, end: SystemTime, time: SystemTime) -> Option<f64> {
    let before_end = end.duration_since(time).ok()?.as_secs_f64();
    Some(process.uptime_s - before_end).filter(|seconds| *seconds >= 0.0)
}

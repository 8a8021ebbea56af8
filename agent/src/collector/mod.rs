//! The data lane's end: joins what the kernel has counted with the table of targets into a `Snapshot`.

mod backlog;
mod early;
mod occasions;
mod process;
mod searches;
mod stream_queue;
mod turns;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use nodeprobe_ebpf::{
    Event, EventKind, PoolWork, StdioKey, StdioRecord, ThreadRecord,
    event::{HEAP_NEAR_LIMIT, STALL_LOWER_BOUND, STALL_STARTUP},
    thread::{FLAG_EXITED, GC_MAJOR, GC_MINOR, LANES},
};

use self::{
    backlog::Backlogs,
    early::{Early, told},
    process::{Moment, heap_change, process},
    turns::Division,
};
pub use self::{occasions::Occasions, searches::Searches, turns::Sampling};
use crate::{
    model::{
        GcKind, LongPause, Notice, NoticeKind, Snapshot, Stall, ThreadKind,
        catalog::{LOST_PROCESS_MISSED, LOST_PROCESS_UNIDENTIFIED},
    },
    procfs::Procfs,
    readout::Maps,
    target::{Seen, Targets},
};

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of the kernel side.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// A thread of the pool can be kept from its processor between taking work and telling of it.
const CANCELLED_NS: u64 = 500_000_000;
/// Discovery takes some milliseconds to register a process; for so long its first work is kept.
const UNREGISTERED_NS: u64 = 5_000_000_000;

/// A thread that has ended, with its streams.
type Final = (ThreadRecord, Vec<(StdioKey, StdioRecord)>);

/// Everything both lanes share.
pub struct Collector {
    procfs: Procfs,
    pub maps: Maps,
    pub targets: Targets,
    finals: Vec<Final>,
    stalls: Vec<Stall>,
    pauses: Vec<LongPause>,
    notices: Vec<Notice>,
    early: Early,
    pub sampling: Sampling,
    pub occasions: Occasions,
    backlogs: Backlogs,
    /// When answers to requests were followed.
    pub answers_seen: Seen,
    /// Losses in user space, by reason.
    lost: BTreeMap<&'static str, u64>,
}

impl Collector {
    pub fn new(procfs: Procfs, maps: Maps) -> Self {
        Self {
            procfs,
            maps,
            targets: Targets::default(),
            finals: Vec::new(),
            stalls: Vec::new(),
            pauses: Vec::new(),
            notices: Vec::new(),
            early: Early::default(),
            sampling: Sampling::default(),
            occasions: Occasions::default(),
            backlogs: Backlogs::default(),
            answers_seen: Seen::default(),
            lost: [(LOST_PROCESS_MISSED, 0), (LOST_PROCESS_UNIDENTIFIED, 0)].into(),
        }
    }

    /// Counts a loss in user space.
    pub fn lost(&mut self, reason: &'static str) {
        *self.lost.entry(reason).or_insert(0) += 1;
    }

    /// Losses since the start, by reason.
    pub fn losses(&self) -> BTreeMap<&'static str, u64> {
        let mut lost = self.maps.drops();
        for (reason, count) in &self.lost {
            *lost.entry(*reason).or_insert(0) += count;
        }
        lost
    }

    /// Takes in one event that is about data, not about discovery.
    pub fn event(&mut self, kind: EventKind, event: &Event) {
        match kind {
            EventKind::ThreadExit => {
                if let Some(record) = self.maps.thread(event.tid)
                    && record.flags & FLAG_EXITED != 0
                {
                    let streams = self.maps.streams_of(event.tid);
                    self.maps.remove_thread(event.tid);
                    self.finals.push((record, streams));
                }
                self.sampling.ended(event.tid);
                self.occasions.ended(event.tid);
            }
            EventKind::Stall => {
                let began = wall_clock(event.start_ns);
                let Division { causes, stacks, culprit, longest_sleep, packages } =
                    self.sampling.stalled(event);
                let Some(target) = self.targets.find_mut(event.tgid) else { return };
                if event.detail & STALL_STARTUP != 0 && event.tid == event.tgid {
                    target.startup_packages = packages.into();
                }
                self.stalls.push(Stall {
                    process: target.id,
                    tid: event.tid,
                    thread: if event.tid == event.tgid { ThreadKind::Main } else { ThreadKind::Worker },
                    began,
                    duration_ns: event.duration_ns,
                    startup: event.detail & STALL_STARTUP != 0,
                    lower_bound: event.detail & STALL_LOWER_BOUND != 0,
                    causes,
                    longest_sleep,
                    stacks,
                    culprit,
                });
            }
            EventKind::GcPause => {
                let kind = match event.detail {
                    GC_MINOR => GcKind::Minor,
                    GC_MAJOR => GcKind::Major,
                    _ => return,
                };
                let began = wall_clock(event.start_ns);
                let Some(target) = self.targets.find_mut(event.tgid) else { return };
                self.pauses.push(LongPause {
                    process: target.id,
                    tid: event.tid,
                    kind,
                    began,
                    duration_ns: event.duration_ns,
                    heap: heap_change(event.values[0], event.values[1]),
                });
            }
            EventKind::Slept => self.sampling.slept(event),
            EventKind::Rejected => self.occasions.rejected(event),
            EventKind::Uncaught if event.detail != 0 => self.notice(NoticeKind::UncaughtRejection, event),
            EventKind::Uncaught => self.notice(NoticeKind::UncaughtException, event),
            EventKind::HeapLimit if event.detail == HEAP_NEAR_LIMIT => {
                self.notice(NoticeKind::NearHeapLimit, event);
            }
            EventKind::HeapLimit => self.notice(NoticeKind::OutOfMemory, event),
            EventKind::Listening => self.notice(NoticeKind::Listening, event),
            EventKind::Exec | EventKind::ThreadStart | EventKind::Sample => {}
        }
    }

    fn notice(&mut self, kind: NoticeKind, event: &Event) {
        match self.targets.find(event.tgid) {
            Some(target) => self.notices.push(told(kind, event, target)),
            None => self.early.hold(kind, event),
        }
    }

    /// Reads everything. Processes that were found to have [`end_vanished`](Self::end_vanished) and threads that have ended appear
    /// in this one for the last time.
    pub fn snapshot(&mut self) -> Snapshot {
        let epoch = self.maps.advance_epoch();
        let now_ns = monotonic_ns();
        self.early.release(now_ns, &self.targets, &mut self.notices);
        let time = SystemTime::now();
        let host_cpu = self.procfs.host_cpu();
        let mut by_process = self.records();
        let owners: HashMap<u32, u32> =
            by_process.values().flatten().map(|(record, _)| (record.tid, record.tgid)).collect();
        // Before ended processes leave the table: these are their last samples.
        let stacks = self.sampling.drain(|tid| owners.get(&tid).copied(), &self.targets);
        let living = |pid: u32| self.targets.get(pid).is_some();
        let refused = self.maps.queues.sockets(living);
        let last_begun: HashMap<u32, [u64; LANES]> = by_process
            .values()
            .flatten()
            .map(|(record, _)| (record.tid, record.pool_last_submitted_ns))
            .collect();
        // What waits longer than that which was begun last was cancelled, unless its thread is just about to tell. A process that
        // has just begun is not registered yet.
        let is_over = |tgid: u32, work: &PoolWork| {
            let lane = (work.lane as usize).min(LANES - 1);
            let is_cancelled = last_begun.get(&work.tid).is_some_and(|last| work.submitted_ns < last[lane]);
            let age_ns = now_ns.saturating_sub(work.submitted_ns);
            is_cancelled && age_ns > CANCELLED_NS || !living(tgid) && age_ns > UNREGISTERED_NS
        };
        let pool_waiting = self.maps.queues.pool(is_over);
        self.maps.queues.sweep_pool_threads(living);
        let contexts = self.maps.questions.contexts.all();
        let moment = Moment {
            sampling: &self.sampling,
            pool_waiting: &pool_waiting,
            contexts: &contexts,
            epoch,
            now_ns,
        };
        let mut processes = Vec::new();
        let mut unmeasured = 0;
        for target in self.targets.live_mut() {
            let records = by_process.remove(&target.id.pid).unwrap_or_default();
            let (records, former): (Vec<Final>, Vec<Final>) = records
                .into_iter()
                .partition(|(record, _)| !ended(record) || record.exit_ns > target.begin_ns);
            if !former.is_empty() {
                by_process.insert(target.id.pid, former);
            }
            let mut process = process(&self.procfs, target, &records, &moment, false);
            if let Some(refused) = refused.get(&target.id.pid) {
                let sockets =
                    self.backlogs.look(&self.procfs, target.id.pid, refused, target.begin_ns, now_ns);
                process.backlogs = sockets.full;
                for fd in sockets.drained {
                    self.maps.queues.drained(target.id.pid, fd);
                }
            }
            processes.push(process);
        }
        for mut target in self.targets.take_ended() {
            let records = by_process.remove(&target.id.pid).unwrap_or_default();
            for (record, _) in records.iter().filter(|(record, _)| !ended(record)) {
                // It was registered when it had ended already, so its end was not seen.
                self.maps.remove_thread(record.tid);
            }
            let process = process(&self.procfs, &mut target, &records, &moment, true);
            if target.measured {
                processes.push(process);
            } else if !target.from_start {
                unmeasured += 1;
            }
        }
        *self.lost.entry(LOST_PROCESS_MISSED).or_insert(0) += unmeasured;
        let unidentified =
            by_process.values().filter(|records| records.iter().all(|(r, _)| ended(r))).count();
        *self.lost.entry(LOST_PROCESS_UNIDENTIFIED).or_insert(0) += unidentified as u64;
        processes.sort_by_key(|process| process.id);
        self.maps.questions.contexts.retain(|tid| owners.contains_key(&tid));
        self.maps.questions.rejections.retain(|tid| owners.contains_key(&tid));
        self.sampling.retain(|tid| owners.contains_key(&tid));
        self.backlogs.retain(|pid| self.targets.get(pid).is_some());
        Snapshot {
            time,
            monotonic_ns: now_ns,
            lost: self.losses(),
            processes,
            host_cpu,
            answers_seen_ns: self.answers_seen.until(now_ns),
            stalls: std::mem::take(&mut self.stalls),
            pauses: std::mem::take(&mut self.pauses),
            stacks,
            occasions: self.occasions.drain(),
            notices: std::mem::take(&mut self.notices),
        }
    }

    /// Ends targets whose process is gone, is a zombie, or is another one under the same pid. `true`: there were some; what the
    /// kernel told of their last moments may still be on the way.
    pub fn end_vanished(&mut self) -> bool {
        let gone: Vec<u32> = self
            .targets
            .live_mut()
            .filter(|target| {
                let stat = self.procfs.process(target.id.pid).and_then(|process| process.stat());
                match stat {
                    Ok(stat) => stat.start_ticks != target.id.start_ticks || stat.is_zombie(),
                    // Whatever else keeps us from reading says nothing about the process.
                    Err(error) => error.is_gone(),
                }
            })
            .map(|target| target.id.pid)
            .collect();
        for &pid in &gone {
            self.targets.end(pid);
        }
        !gone.is_empty()
    }

    /// Records by process: those of ended threads first, then those in the map.
    fn records(&mut self) -> HashMap<u32, Vec<Final>> {
        let mut streams: HashMap<u32, Vec<(StdioKey, StdioRecord)>> = HashMap::new();
        for (key, record) in self.maps.stdio() {
            streams.entry(key.tid).or_default().push((key, record));
        }
        let mut by_process: HashMap<u32, Vec<Final>> = HashMap::new();
        for (record, streams) in self.finals.drain(..) {
            by_process.entry(record.tgid).or_default().push((record, streams));
        }
        for record in self.maps.threads() {
            if ended(&record) {
                // Its event was lost or is still on the way.
                self.maps.remove_thread(record.tid);
            }
            let mut streams = streams.remove(&record.tid).unwrap_or_default();
            streams.retain(|(_, stream)| stream.tgid == record.tgid);
            by_process.entry(record.tgid).or_default().push((record, streams));
        }
        by_process
    }
}

fn ended(record: &ThreadRecord) -> bool {
    record.flags & FLAG_EXITED != 0
}

/// Wall clock of a moment of the monotonic clock.
pub(crate) fn wall_clock(monotonic: u64) -> SystemTime {
    let now = monotonic_ns();
    let wall = SystemTime::now();
    if monotonic <= now {
        wall - Duration::from_nanos(now - monotonic)
    } else {
        wall + Duration::from_nanos(monotonic - now)
    }
}

//! The data lane's end: joins what the kernel has counted with the table of targets into a `Snapshot`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use nodeprobe_ebpf::{
    Event, EventKind, StdioKey, StdioRecord, ThreadRecord,
    event::{SLEEP_NS, SLEEP_PART, SLEEP_SYSCALL, STALL_LOWER_BOUND, STALL_STARTUP},
    part::{PART_CPU_WAIT, PART_GC, PART_STDIO_WRITE, PARTS},
    stdio_record::BLOCKED_NS,
    thread::{FLAG_EXITED, GC_MAJOR, GC_MINOR, KIND_MAIN, STATE_TURN, STATE_UNKNOWN, STATE_WAIT},
};

use crate::{
    model::{
        Cause, Causes, CpuTime, GcKind, HeapChange, Histogram, LongPause, Pauses, Process, Sleep, Snapshot,
        Stall, Stdio, Thread, ThreadKind,
        catalog::{LOST_PROCESS_MISSED, LOST_PROCESS_UNIDENTIFIED},
    },
    procfs::Procfs,
    readout::Maps,
    syscalls,
    target::{Target, Targets},
};

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of the kernel side.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a timespec; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

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
            }
            EventKind::Stall => {
                let began = wall_clock(event.start_ns);
                let Some(target) = self.targets.find_mut(event.tgid) else { return };
                self.stalls.push(Stall {
                    process: target.id,
                    tid: event.tid,
                    thread: if event.tid == event.tgid { ThreadKind::Main } else { ThreadKind::Worker },
                    began,
                    duration_ns: event.duration_ns,
                    startup: event.detail & STALL_STARTUP != 0,
                    lower_bound: event.detail & STALL_LOWER_BOUND != 0,
                    causes: causes(event.duration_ns, &event.values),
                    longest_sleep: longest_sleep(&event.values),
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
            EventKind::Exec | EventKind::ThreadStart => {}
        }
    }

    /// Reads everything. Processes and threads that have ended appear in this one for the last time.
    pub fn snapshot(&mut self) -> Snapshot {
        self.end_vanished();
        let epoch = self.maps.advance_epoch();
        let now_ns = monotonic_ns();
        let time = SystemTime::now();
        let mut by_process = self.records();
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
            processes.push(process(&self.procfs, target, &records, epoch, now_ns, false));
        }
        for mut target in self.targets.take_ended() {
            let records = by_process.remove(&target.id.pid).unwrap_or_default();
            for (record, _) in records.iter().filter(|(record, _)| !ended(record)) {
                // It was registered when it had ended already, so its end was not seen.
                self.maps.remove_thread(record.tid);
            }
            let process = process(&self.procfs, &mut target, &records, epoch, now_ns, true);
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
        Snapshot {
            time,
            monotonic_ns: now_ns,
            lost: self.losses(),
            processes,
            stalls: std::mem::take(&mut self.stalls),
            pauses: std::mem::take(&mut self.pauses),
        }
    }

    /// Ends targets whose process is gone, is a zombie, or is another one under the same pid.
    fn end_vanished(&mut self) {
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
        for pid in gone {
            self.targets.end(pid);
        }
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
fn wall_clock(monotonic: u64) -> SystemTime {
    let now = monotonic_ns();
    let wall = SystemTime::now();
    if monotonic <= now {
        wall - Duration::from_nanos(now - monotonic)
    } else {
        wall + Duration::from_nanos(monotonic - now)
    }
}

/// The division of a stall, from its event.
fn causes(duration_ns: u64, values: &[u64]) -> Causes {
    let mut parts_ns = [0; PARTS];
    parts_ns.copy_from_slice(&values[..PARTS]);
    Causes::from_parts(duration_ns, &parts_ns)
}

fn longest_sleep(values: &[u64]) -> Option<Sleep> {
    let (duration_ns, syscall) = (values[SLEEP_NS], u32::try_from(values[SLEEP_SYSCALL]).ok());
    let cause = Cause::of_part(values[SLEEP_PART] as usize);
    (duration_ns > 0).then(|| Sleep { duration_ns, cause, syscall: syscall.and_then(syscalls::name) })
}

/// The division of the turn under way. A sleep or a bracket that is still open counts as far as it has come: the user
/// who looks during it must see it.
fn current_turn_causes(record: &ThreadRecord, age_ns: u64, now_ns: u64) -> Causes {
    let mut parts_ns = record.turn_parts_ns;
    let since = |begin_ns: u64| now_ns.saturating_sub(begin_ns);
    let off_cpu = if record.off_cpu_woken != 0 { PART_CPU_WAIT } else { record.off_cpu_part as usize };
    if record.off_cpu_since_ns != 0
        && let Some(part_ns) = parts_ns.get_mut(off_cpu)
    {
        *part_ns += since(record.off_cpu_since_ns);
    }
    let open = if record.gc_active != 0 {
        Some((PART_GC, record.gc_start_ns, record.gc_opened_ns))
    } else if record.write_start_ns != 0 {
        Some((PART_STDIO_WRITE, record.write_start_ns, record.write_opened_ns))
    } else {
        None
    };
    if let Some((part, start_ns, opened_ns)) = open {
        let counted_ns = (parts_ns[part] + parts_ns[PART_CPU_WAIT]).saturating_sub(opened_ns);
        parts_ns[part] += since(start_ns).saturating_sub(counted_ns);
    }
    Causes::from_parts(age_ns, &parts_ns)
}

fn heap_change(before: u64, after: u64) -> HeapChange {
    let known = |bytes: u64| (bytes != 0).then_some(bytes);
    HeapChange { before_bytes: known(before), after_bytes: known(after) }
}

fn process(
    procfs: &Procfs,
    target: &mut Target,
    records: &[Final],
    epoch: u64,
    now_ns: u64,
    exited: bool,
) -> Process {
    target.measured |= !records.is_empty();
    let directory = (!exited).then(|| procfs.process(target.id.pid).ok()).flatten();
    let mut streams = [target.ended_streams[0].clone(), target.ended_streams[1].clone()];
    for (record, thread_streams) in records {
        for (key, stream) in thread_streams {
            let Some(slot) = (key.fd as usize).checked_sub(1).filter(|slot| *slot < 2) else { continue };
            let mut sums = vec![&mut streams[slot]];
            if ended(record) {
                sums.push(&mut target.ended_streams[slot]);
            }
            for sum in sums {
                add_stream(sum, stream, epoch);
            }
        }
        add_write_under_way(&mut streams, record, now_ns);
    }
    for ended in &mut target.ended_streams {
        // The maximum was of this interval only.
        ended.durations.interval_max_ns = None;
    }
    for (slot, stream) in streams.iter_mut().enumerate() {
        let kind = directory.as_ref().and_then(|d| d.stream_kind(slot as u32 + 1).ok()).flatten();
        // What it was stays true for what was counted, also after the end.
        target.ended_streams[slot].kind = kind.or(target.ended_streams[slot].kind);
        stream.kind = target.ended_streams[slot].kind;
    }
    let mut threads: Vec<Thread> = records
        .iter()
        .map(|(record, _)| {
            let state = directory.as_ref().filter(|_| record.state == STATE_UNKNOWN);
            let waiting =
                state.is_some_and(|d| d.thread_state(record.tid).is_ok_and(|state| state.is_epoll()));
            let name = if record.kind == KIND_MAIN {
                String::new()
            } else {
                let read =
                    || directory.as_ref().and_then(|d| d.thread_name(record.tid).ok()).unwrap_or_default();
                target.thread_names.entry(record.tid).or_insert_with(read).clone()
            };
            thread(record, name, waiting, epoch, now_ns)
        })
        .collect();
    threads.sort_by_key(|thread| (thread.kind, thread.tid));
    let [stdout, stderr] = streams;
    let stat = directory.and_then(|directory| directory.stat().ok());
    Process {
        id: target.id,
        identity: Arc::clone(&target.identity),
        signals: Arc::clone(&target.signals),
        started: target.started,
        observed_since: target.observed_since,
        rss_bytes: stat.as_ref().map(|stat| stat.rss_bytes),
        cpu: stat.map(|stat| CpuTime { user_ns: stat.user_ns, system_ns: stat.system_ns }),
        heap_limit_bytes: None,
        stdout,
        stderr,
        threads,
        exited,
    }
}

fn add_stream(sum: &mut Stdio, stream: &StdioRecord, epoch: u64) {
    sum.bytes += stream.bytes;
    sum.writes += stream.writes;
    sum.eagain += stream.eagain;
    sum.blocked_ns += stream.blocked_ns;
    sum.durations.merge(&Histogram::from_record(&stream.durations, epoch));
}

/// A write that is blocked at this very moment counts as far as it has come: the user who looks during the block
/// must see it.
fn add_write_under_way(streams: &mut [Stdio; 2], record: &ThreadRecord, now_ns: u64) {
    if record.write_start_ns == 0 || ended(record) {
        return;
    }
    let age_ns = now_ns.saturating_sub(record.write_start_ns);
    let slot = (record.write_fd as usize).wrapping_sub(1);
    if age_ns >= BLOCKED_NS
        && let Some(stream) = streams.get_mut(slot)
    {
        stream.blocked_ns += age_ns;
    }
}

fn thread(record: &ThreadRecord, name: String, waiting: bool, epoch: u64, now_ns: u64) -> Thread {
    let exited = ended(record);
    let in_state_ns = if exited { 0 } else { now_ns.saturating_sub(record.since_ns) };
    let in_turn = match record.state {
        STATE_TURN => true,
        STATE_WAIT => false,
        _ => !waiting,
    };
    let pauses = |kind: u32| {
        let index = kind as usize - 1;
        Pauses {
            durations: Histogram::from_record(&record.gc[index], epoch),
            last: heap_change(record.last_gc_before_bytes[index], record.last_gc_after_bytes[index]),
        }
    };
    Thread {
        tid: record.tid,
        kind: if record.kind == KIND_MAIN { ThreadKind::Main } else { ThreadKind::Worker },
        name,
        observed_ns: record.observed_ns,
        exited,
        busy_ns: record.busy_ns + if in_turn { in_state_ns } else { 0 },
        idle_ns: record.idle_ns + if in_turn { 0 } else { in_state_ns },
        turns: Histogram::from_record(&record.turns, epoch),
        stalls: Histogram::from_record(&record.stalls, epoch),
        current_turn_ns: (in_turn && !exited).then_some(in_state_ns),
        current_turn_causes: if in_turn {
            current_turn_causes(record, in_state_ns, now_ns)
        } else {
            Causes::default()
        },
        stall_causes: Causes::from_parts(record.stalls.sum_ns, &record.stall_parts_ns),
        minor: pauses(GC_MINOR),
        major: pauses(GC_MAJOR),
        heap_used_bytes: (record.heap_used_bytes != 0).then_some(record.heap_used_bytes),
    }
}

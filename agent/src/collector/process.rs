//! The records of one process, joined with what `/proc` tells of it.

use std::{collections::HashMap, sync::Arc};

use nodeprobe_ebpf::{
    ContextRecord, StdioRecord, ThreadRecord,
    stdio_record::BLOCKED_NS,
    thread::{
        DEOPT_EAGER, DEOPT_LAZY, GC_MAJOR, GC_MINOR, KIND_MAIN, POOL_KINDS, START_QUIET_NS, START_STEADY,
        STATE_TURN, STATE_UNKNOWN, STATE_WAIT,
    },
};

use super::{
    Final, ended,
    turns::{CurrentTurn, Sampling},
};
use crate::{
    model::{
        AsyncContext, Availability, CpuTime, Deopts, HeapChange, Histogram, Modules, Pauses, Pool, PoolWork,
        Process, Rejections, Signal, Startup, Stdio, Thread, ThreadKind, startup::Compiled,
    },
    procfs::{Procfs, cgroups},
    readout::queues::PoolWaiting,
    target::Target,
};

/// Some files are read for it.
const GROUP_MEMORY_EVERY_NS: u64 = 3_000_000_000;

/// Heap around a collection; 0 on the wire means not known.
pub(super) fn heap_change(before: u64, after: u64) -> HeapChange {
    let known = |bytes: u64| (bytes != 0).then_some(bytes);
    HeapChange { before_bytes: known(before), after_bytes: known(after) }
}

/// What belongs to no single process at the moment of a snapshot.
pub(super) struct Moment<'snapshot> {
    pub(super) sampling: &'snapshot Sampling,
    /// What waits for a thread of libuv's pool.
    pub(super) pool_waiting: &'snapshot PoolWaiting,
    /// What threads know of their async contexts.
    pub(super) contexts: &'snapshot HashMap<u32, ContextRecord>,
    /// The reading interval that has just ended.
    pub(super) epoch: u64,
    /// `CLOCK_MONOTONIC`.
    pub(super) now_ns: u64,
}

/// What one process is and did, cumulative.
pub(super) fn process(
    procfs: &Procfs,
    target: &mut Target,
    records: &[Final],
    moment: &Moment<'_>,
    exited: bool,
) -> Process {
    let (epoch, now_ns) = (moment.epoch, moment.now_ns);
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
    target.startup = startup(target, records, now_ns);
    let mut threads: Vec<Thread> = records
        .iter()
        .map(|(record, _)| {
            let state = directory.as_ref().filter(|_| record.state == STATE_UNKNOWN);
            let waiting =
                state.is_some_and(|d| d.thread_state(record.tid).is_ok_and(|state| state.epfd().is_some()));
            let name = if record.kind == KIND_MAIN {
                String::new()
            } else {
                let read =
                    || directory.as_ref().and_then(|d| d.thread_name(record.tid).ok()).unwrap_or_default();
                target.thread_names.entry(record.tid).or_insert_with(read).clone()
            };
            thread(record, name, waiting, moment)
        })
        .collect();
    threads.sort_by_key(|thread| (thread.kind, thread.tid));
    let [stdout, stderr] = streams;
    if let Some(directory) = &directory
        && now_ns.saturating_sub(target.group_memory.0) >= GROUP_MEMORY_EVERY_NS
    {
        target.group_memory = (now_ns, cgroups::memory(directory));
    }
    let stat = directory.as_ref().and_then(|directory| directory.stat().ok());
    let quota_cost = target.quota_cost.add(directory.as_ref().and_then(cgroups::quota_account));
    // One that has ended is not looked at any more, whatever the governor has heard of that.
    let main_ended = records.iter().find(|(record, _)| record.kind == KIND_MAIN && ended(record));
    let until_ns = main_ended.map_or(now_ns, |(record, _)| record.exit_ns);
    Process {
        id: target.id,
        identity: Arc::clone(&target.identity),
        signals: Arc::clone(&target.signals),
        started: target.started,
        observed_since: target.observed_since,
        rss_bytes: stat.as_ref().map(|stat| stat.rss_bytes),
        cpu_throttled_ns: quota_cost.map(|(throttled_ns, _)| throttled_ns),
        cpu_periods: quota_cost.and_then(|(_, periods)| periods),
        nice: stat.as_ref().map(|stat| stat.nice),
        cpu: stat.map(|stat| CpuTime { user_ns: stat.user_ns, system_ns: stat.system_ns }),
        run_delay_ns: directory.as_ref().and_then(|directory| directory.run_delay_ns().ok()),
        drains_seen_ns: target.drains_seen.until(until_ns),
        stdout,
        stderr,
        backlogs: Vec::new(),
        group_memory: target.group_memory.1,
        startup: target.startup.clone(),
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

/// Work that this loop has handed to the pool. What waits since before the loop was observed is of a former program.
fn pool(record: &ThreadRecord, moment: &Moment<'_>) -> Pool {
    let waiting = moment.pool_waiting.get(&(record.tgid, record.tid)).map_or(&[][..], Vec::as_slice);
    let waiting =
        waiting.iter().map(|work| work.submitted_ns).filter(|since_ns| *since_ns >= record.observed_ns);
    let oldest_ns = waiting.clone().min();
    let mut kinds = [PoolWork::default(); POOL_KINDS];
    for (index, kind) in kinds.iter_mut().enumerate() {
        *kind = PoolWork {
            tasks: record.pool_begun[index],
            waited_ns: record.pool_waited_ns[index],
            busy_ns: record.pool_busy_ns[index],
        };
    }
    Pool {
        kinds,
        max_wait_ns: (record.pool_max_epoch == moment.epoch).then_some(record.pool_max_wait_ns),
        waiting: waiting.count() as u64,
        oldest_wait_ns: oldest_ns.map_or(0, |submitted_ns| moment.now_ns.saturating_sub(submitted_ns)),
    }
}

fn async_context(record: &ThreadRecord, moment: &Moment<'_>) -> AsyncContext {
    let context = moment.contexts.get(&record.tid);
    let context = context.filter(|context| context.observed_ns == record.observed_ns);
    context.map_or_else(AsyncContext::default, |context| AsyncContext {
        kept: context.kept,
        lost: context.lost,
        none: context.none,
    })
}

fn modules(record: &ThreadRecord) -> Modules {
    let mut modules = Modules::default();
    for (index, kind) in modules.kinds.iter_mut().enumerate() {
        *kind = Compiled { modules: record.modules[index], time_ns: record.module_ns[index] };
    }
    modules
}

/// How far the process has come; `None`: it began before the agent.
fn startup(target: &Target, records: &[Final], now_ns: u64) -> Option<Arc<Startup>> {
    let begin_ns = target.begin_ns;
    if begin_ns == 0 {
        return None;
    }
    // 0 is not yet, and what is earlier belongs to a former program.
    let since_begin = |ns: u64| ns.checked_sub(begin_ns);
    let known = target.startup.clone().unwrap_or_default();
    let listening_ns = records.iter().filter_map(|(record, _)| since_begin(record.listening_ns)).min();
    let listening_ns = known.listening_ns.into_iter().chain(listening_ns).min();
    let main = records.iter().map(|(record, _)| record).find(|record| record.kind == KIND_MAIN);
    let Some(main) = main else { return Some(Arc::new(Startup { listening_ns, ..Startup::clone(&known) })) };
    let environment_ns = since_begin(main.environment_ns);
    Some(Arc::new(Startup {
        environment_ns,
        first_turn_ns: since_begin(main.first_wait_ns),
        listening_ns,
        steady_ns: since_begin(main.start_end_ns).filter(|_| is_steady(main, now_ns)),
        // Whose script had begun before the probes were there may have compiled some before that.
        modules: environment_ns
            .filter(|_| has(target, Signal::Compile))
            .map(|_| Compiled { modules: main.start_modules, time_ns: main.start_module_ns }),
        packages: Arc::clone(&target.startup_packages),
    }))
}

fn has(target: &Target, signal: Signal) -> bool {
    target.signals.get(&signal) == Some(&Availability::Ok)
}

/// Whether what is known of the start's end is its end: nothing like it has followed for long enough, nor may the turn that is
/// under way turn out to be like it.
fn is_steady(record: &ThreadRecord, now_ns: u64) -> bool {
    let quiet_from_ns = record.start_end_ns + START_QUIET_NS;
    let seen_until_ns = if ended(record) { record.exit_ns } else { now_ns };
    let is_under_way = record.state != STATE_WAIT && record.since_ns <= quiet_from_ns && !ended(record);
    match record.start_over {
        0 => record.first_wait_ns != 0 && seen_until_ns >= quiet_from_ns && !is_under_way,
        START_STEADY => true,
        _ => false,
    }
}

fn thread(record: &ThreadRecord, name: String, waiting: bool, moment: &Moment<'_>) -> Thread {
    let Moment { sampling, epoch, now_ns, .. } = *moment;
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
            last_age_ns: Some(record.last_gc_end_ns[index])
                .filter(|end_ns| *end_ns != 0)
                .map(|end_ns| now_ns.saturating_sub(end_ns)),
        }
    };
    let current =
        if in_turn { sampling.current_turn(record, in_state_ns, now_ns) } else { CurrentTurn::default() };
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
        current_turn_causes: current.causes,
        current_turn_stack: current.stack,
        current_turn_culprit: current.culprit,
        stall_causes: sampling.stall_causes(record),
        minor: pauses(GC_MINOR),
        major: pauses(GC_MAJOR),
        rejections: Rejections { unhandled: record.rejections, handled_late: record.rejections_handled_late },
        deopts: Deopts { eager: record.deopts[DEOPT_EAGER], lazy: record.deopts[DEOPT_LAZY] },
        pool: if exited {
            Pool { waiting: 0, oldest_wait_ns: 0, ..pool(record, moment) }
        } else {
            pool(record, moment)
        },
        sockets_refused: record.sockets_refused,
        drains: Histogram::from_record(&record.drains, epoch),
        async_context: async_context(record, moment),
        modules: modules(record),
        heap_used_bytes: (record.heap_used_bytes != 0).then_some(record.heap_used_bytes),
        allocated_bytes: record.allocated_bytes,
    }
}

//! Snapshots made by hand: what the exporter gets to see, with numbers that are known. Shared by the unit tests
//! of the encoder and by the tests against real collectors; both name the library `nodeprobe`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nodeprobe_ebpf::{
    histogram::{DRAIN_BOUNDS_NS, GC_BOUNDS_NS, STDIO_BOUNDS_NS, TURN_BOUNDS_NS},
    part::{PART_SYNC_IO, PARTS},
};

use super::nodeprobe::model::{
    AsyncContext, Availability, Causes, CpuPeriods, CpuTime, Culprit, Deopts, GroupMemory, HeapChange,
    Histogram, Identity, Modules, Pauses, Pool, Process, ProcessId, Rejections, Says, Signal, Snapshot,
    Stall, Startup, Stdio, StreamKind, Thread, ThreadKind, startup::Compiled,
};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// 2026-01-01T00:00:00Z plus `seconds`.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + seconds)
}

/// A histogram as the kernel would have recorded it.
pub(crate) fn recorded(durations_ns: &[u64], bounds_ns: &[u64]) -> Histogram {
    let mut record = nodeprobe_ebpf::Histogram::ZERO;
    for duration in durations_ns {
        record.record(*duration, bounds_ns, 1);
    }
    Histogram::from_record(&record, 1)
}

pub(crate) fn turns(durations_ns: &[u64]) -> Histogram {
    recorded(durations_ns, &TURN_BOUNDS_NS)
}

/// Stalls that spent a part of their time in system calls on files, and ran for the rest of it.
pub(crate) fn synchronous(duration_ns: u64, in_files_ns: u64) -> Causes {
    let mut parts_ns = [0; PARTS];
    parts_ns[PART_SYNC_IO] = in_files_ns;
    Causes::from_parts(duration_ns, &parts_ns)
}

/// A loop thread that has done nothing.
pub(crate) fn thread(tid: u32, kind: ThreadKind) -> Thread {
    Thread {
        tid,
        kind,
        name: "node".to_owned(),
        observed_ns: u64::from(tid),
        exited: false,
        busy_ns: 0,
        idle_ns: 0,
        turns: Histogram::default(),
        stalls: Histogram::default(),
        current_turn_ns: None,
        current_turn_causes: Causes::default(),
        current_turn_stack: None,
        current_turn_culprit: None,
        stall_causes: Causes::default(),
        minor: Pauses::default(),
        major: Pauses::default(),
        heap_used_bytes: None,
        allocated_bytes: 0,
        rejections: Rejections::default(),
        deopts: Deopts::default(),
        pool: Pool::default(),
        sockets_refused: 0,
        drains: Histogram::default(),
        async_context: AsyncContext::default(),
        modules: Modules::default(),
    }
}

/// 3 s busy, 1 s idle, three turns of which one is a stall of 200 ms, 150 of them in system calls on files, two scavenges and a mark-compact,
/// two drains of the microtask queue.
pub(crate) fn busy_thread(tid: u32, kind: ThreadKind) -> Thread {
    let pauses = |durations: &[u64]| Pauses {
        durations: recorded(durations, &GC_BOUNDS_NS),
        last: HeapChange::default(),
        last_age_ns: None,
    };
    Thread {
        busy_ns: 3 * SECOND,
        idle_ns: SECOND,
        turns: turns(&[2 * MS, 30 * MS, 200 * MS]),
        stalls: turns(&[200 * MS]),
        current_turn_ns: Some(1500 * MS),
        stall_causes: synchronous(200 * MS, 150 * MS),
        minor: pauses(&[400_000, 2 * MS]),
        major: pauses(&[40 * MS]),
        heap_used_bytes: Some(20 << 20),
        drains: recorded(&[40_000, 3 * MS], &DRAIN_BOUNDS_NS),
        modules: Modules {
            kinds: [Compiled { modules: 7, time_ns: 70 * MS }, Compiled { modules: 2, time_ns: 20 * MS }],
        },
        ..thread(tid, kind)
    }
}

/// A stream that was written to: 4096 bytes in two calls, one of which stood still for 2 s, and 5 refusals.
pub(crate) fn stream(kind: StreamKind) -> Stdio {
    Stdio {
        kind: Some(kind),
        bytes: 4096,
        writes: 2,
        eagain: 5,
        blocked_ns: 2 * SECOND,
        durations: recorded(&[50_000, 2 * SECOND], &STDIO_BOUNDS_NS),
    }
}

/// A process with everything: observed 10 s after its start at `at(0)`, a busy main thread and worker.
pub(crate) fn process(pid: u32) -> Process {
    Process {
        id: ProcessId { pid, start_ticks: 100 },
        identity: Arc::new(Identity {
            name: "shop".to_owned(),
            service_name: format!("shop-{pid}"),
            service_version: Some("1.2.3".to_owned()),
            service_namespace: Some("sales".to_owned()),
            service_instance_id: format!("instance-{pid}"),
            resource_attributes: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
            node_version: Some("24.21.0".to_owned()),
            v8_version: Some("13.6".to_owned()),
            container_id: Some("c0ffee".to_owned()),
            pod_uid: None,
            says: Says::default(),
            executable_path: "/usr/local/bin/node".to_owned(),
            namespaced_pid: Some(1),
            parent_pid: 1,
            user_id: 1000,
            heap_limit_bytes: Some(4 << 30),
        }),
        signals: Arc::new(Signal::ALL.into_iter().map(|signal| (signal, Availability::Ok)).collect()),
        started: at(0),
        observed_since: at(10),
        rss_bytes: Some(64 << 20),
        cpu_throttled_ns: Some(3 * SECOND),
        cpu_periods: Some(CpuPeriods { elapsed: 100, throttled: 40 }),
        nice: Some(0),
        cpu: Some(CpuTime { user_ns: 7 * SECOND, system_ns: 2 * SECOND }),
        run_delay_ns: Some(5 * SECOND),
        drains_seen_ns: SECOND,
        stdout: stream(StreamKind::Pipe),
        stderr: stream(StreamKind::Tty),
        backlogs: Vec::new(),
        group_memory: Some(GroupMemory { limit_bytes: 512 << 20, used_bytes: Some(100 << 20) }),
        startup: Some(Arc::new(Startup {
            environment_ns: Some(40 * MS),
            first_turn_ns: Some(900 * MS),
            listening_ns: Some(SECOND),
            steady_ns: Some(2 * SECOND),
            ..Startup::default()
        })),
        threads: vec![busy_thread(pid, ThreadKind::Main), busy_thread(pid + 1, ThreadKind::Worker)],
        exited: false,
    }
}

/// The stall of a busy thread, without its stacks.
pub(crate) fn stall(process: &Process, thread: ThreadKind, function: &str) -> Stall {
    Stall {
        process: process.id,
        tid: process.id.pid,
        thread,
        began: process.observed_since,
        duration_ns: 200 * MS,
        startup: false,
        lower_bound: false,
        causes: synchronous(200 * MS, 150 * MS),
        longest_sleep: None,
        stacks: Vec::new(),
        culprit: Some(Culprit {
            function: function.into(),
            script: Some("/srv/shop/auth.js".into()),
            line: Some(42),
            package: None,
        }),
    }
}

/// With the stall of each main thread blamed on a function.
pub(crate) fn blaming(time: SystemTime, processes: Vec<Process>) -> Snapshot {
    let stalls = processes.iter().map(|process| stall(process, ThreadKind::Main, "hash")).collect();
    Snapshot { stalls, ..snapshot(time, processes) }
}

pub(crate) fn snapshot(time: SystemTime, processes: Vec<Process>) -> Snapshot {
    Snapshot {
        time,
        monotonic_ns: 0,
        lost: BTreeMap::from([("ring_full", 3)]),
        processes,
        host_cpu: None,
        answers_seen_ns: 0,
        stalls: Vec::new(),
        pauses: Vec::new(),
        stacks: Vec::new(),
        occasions: Vec::new(),
        notices: Vec::new(),
    }
}

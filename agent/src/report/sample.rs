//! Intervals made by hand, for tests of the faces.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nodeprobe_ebpf::{
    histogram::{GC_BOUNDS_NS, TURN_BOUNDS_NS},
    part::{PART_GC, PART_SYNC_IO, PARTS},
};

use crate::model::{
    AsyncContext, Availability, Category, Cause, Causes, CpuPeriods, Culprit, Deopts, Frame, FrameKind,
    GcKind, HeapChange, Histogram, HostCpu, Identity, Interval, LongPause, Modules, Occasion, OccasionStack,
    Pauses, Pool, Process, ProcessId, Rejections, Signal, Sleep, Stack, StackTime, Stall, Startup, Stdio,
    StreamKind, ThreadKind, ThreadStacks,
    interval::{Microtasks, ProcessInterval, ThreadInterval},
    startup::{Compiled, PackageTime},
};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const MIB: u64 = 1 << 20;

/// 2026-11-23T20:31:04.250Z and `after_s` seconds.
pub(crate) fn time(after_s: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_465_864_250 + after_s * 1000)
}

pub(crate) fn histogram(durations_ns: impl IntoIterator<Item = u64>, bounds_ns: &[u64]) -> Histogram {
    let mut record = nodeprobe_ebpf::Histogram::ZERO;
    for duration_ns in durations_ns {
        record.record(duration_ns, bounds_ns, 1);
    }
    Histogram::from_record(&record, 1)
}

pub(crate) fn turns(durations_ns: impl IntoIterator<Item = u64>) -> Histogram {
    histogram(durations_ns, &TURN_BOUNDS_NS)
}

pub(crate) fn pauses(durations_ns: impl IntoIterator<Item = u64>, before_mib: u64, after_mib: u64) -> Pauses {
    let last = HeapChange { before_bytes: Some(before_mib * MIB), after_bytes: Some(after_mib * MIB) };
    Pauses { durations: histogram(durations_ns, &GC_BOUNDS_NS), last, last_age_ns: Some(250 * MS) }
}

pub(crate) fn causes(duration_ns: u64, parts: &[(usize, u64)]) -> Causes {
    let mut parts_ns = [0; PARTS];
    for (part, ns) in parts {
        parts_ns[*part] = *ns;
    }
    Causes::from_parts(duration_ns, &parts_ns)
}

/// An idle loop thread.
pub(crate) fn thread(tid: u32, kind: ThreadKind) -> ThreadInterval {
    ThreadInterval {
        tid,
        kind,
        name: String::new(),
        exited: false,
        busy_ns: 2 * MS,
        idle_ns: 998 * MS,
        turns: turns([MS / 2; 4]),
        stalls: Histogram::default(),
        current_turn_ns: None,
        current_turn_causes: Causes::default(),
        current_turn_stack: None,
        current_turn_culprit: None,
        stall_causes: Causes::default(),
        minor: Pauses::default(),
        major: Pauses::default(),
    }
}

/// An idle process with all signals.
pub(crate) fn process(pid: u32, name: &str) -> ProcessInterval {
    ProcessInterval {
        id: ProcessId { pid, start_ticks: u64::from(pid) * 10 },
        identity: Arc::new(Identity {
            name: name.to_owned(),
            service_name: name.to_owned(),
            node_version: Some("22.23.3".to_owned()),
            v8_version: Some("12.4.254.21-node.33".to_owned()),
            executable_path: "/usr/local/bin/node".to_owned(),
            ..Identity::default()
        }),
        signals: Arc::new(Signal::ALL.into_iter().map(|signal| (signal, Availability::Ok)).collect()),
        uptime_s: 11_520.0,
        rss_bytes: Some(61 * MIB),
        cpu_ratio: Some(0.004),
        cpu_throttled_ns: Some(0),
        cpu_periods: Some(CpuPeriods::default()),
        run_delay_ns: Some(0),
        nice: Some(0),
        heap_used_bytes: Some(9 * MIB),
        allocated_bytes: None,
        heap_limit_bytes: Some(2096 * MIB),
        minor: Pauses::default(),
        major: Pauses::default(),
        rejections: Rejections::default(),
        deopts: Deopts::default(),
        pool: Pool::default(),
        microtasks: Microtasks::default(),
        sockets_refused: 0,
        async_context: AsyncContext::default(),
        backlogs: Vec::new(),
        group_memory: None,
        modules: Modules::default(),
        startup: None,
        stdout: Stdio { kind: Some(StreamKind::Pipe), ..Stdio::default() },
        stderr: Stdio { kind: Some(StreamKind::Pipe), ..Stdio::default() },
        threads: vec![thread(pid, ThreadKind::Main)],
        exited: false,
    }
}

pub(crate) fn with_unavailable(
    mut process: ProcessInterval,
    signal: Signal,
    reason: &str,
) -> ProcessInterval {
    let mut signals = BTreeMap::clone(&process.signals);
    signals.insert(signal, Availability::Unavailable(reason.into()));
    process.signals = Arc::new(signals);
    process
}

/// A slow start: what it reached, and who took the time.
pub(crate) fn startup() -> Startup {
    let package = |name: &str, cpu_ms, wait_ms| PackageTime {
        name: name.into(),
        cpu_ns: cpu_ms * MS,
        wait_ns: wait_ms * MS,
    };
    Startup {
        environment_ns: Some(45 * MS),
        first_turn_ns: Some(2340 * MS),
        listening_ns: Some(2400 * MS),
        steady_ns: None,
        modules: Some(Compiled { modules: 412, time_ns: 380 * MS }),
        packages: [package("aws-sdk", 1100, 120), package("application", 300, 0), package("node", 80, 0)]
            .into(),
    }
}

/// A service whose loop is blocked by hashing, that collects a lot and writes its log to a slow terminal, with one
/// busy worker.
pub(crate) fn sick(pid: u32) -> ProcessInterval {
    let mut process = process(pid, "checkout-api");
    let mut identity = Identity::clone(&process.identity);
    identity.node_version = Some("20.20.2".to_owned());
    identity.v8_version = Some("11.3.244.8-node.38".to_owned());
    identity.container_id =
        Some("4f1c0d3aa6b94b0f8d6c2e51c7a99f6e2d6b3a4c5d6e7f8091a2b3c4d5e6f708".to_owned());
    process.identity = Arc::new(identity);
    process.rss_bytes = Some(412 * MIB);
    process.cpu_ratio = Some(1.31);
    process.heap_used_bytes = Some(287 * MIB);
    process.stdout = Stdio {
        kind: Some(StreamKind::Tty),
        bytes: 183_000,
        writes: 412,
        eagain: 0,
        blocked_ns: 214 * MS,
        durations: histogram([60 * MS, MS, 2 * MS], &nodeprobe_ebpf::histogram::STDIO_BOUNDS_NS),
    };
    process.stderr =
        Stdio { kind: Some(StreamKind::Pipe), bytes: 2_048, writes: 9, eagain: 3, ..Stdio::default() };
    process.minor = pauses([3 * MS, 4 * MS, 2 * MS], 290, 281);
    process.major = pauses([48 * MS], 301, 262);
    process.startup = Some(Arc::new(startup()));
    let main = &mut process.threads[0];
    main.busy_ns = 913 * MS;
    main.idle_ns = 87 * MS;
    // 96 quick turns and 4 slow ones: p50 2 ms, p99 130 ms, maximum 182 ms.
    main.turns = turns(std::iter::repeat_n(2 * MS, 96).chain([70 * MS, 110 * MS, 130 * MS, 182 * MS]));
    main.stalls = turns([70 * MS, 110 * MS, 130 * MS, 182 * MS]);
    main.stall_causes = causes(492 * MS, &[(PART_GC, 48 * MS), (PART_SYNC_IO, 30 * MS)]);
    main.current_turn_ns = Some(12 * MS);
    main.current_turn_causes = causes(12 * MS, &[]);
    let mut worker = thread(pid + 7, ThreadKind::Worker);
    worker.busy_ns = 402 * MS;
    worker.idle_ns = 598 * MS;
    worker.turns = turns(std::iter::repeat_n(8 * MS, 50));
    process.threads.push(worker);
    process
}

pub(crate) fn stall(process: &ProcessInterval, began_after_s: u64, duration_ns: u64) -> Stall {
    Stall {
        process: process.id,
        tid: process.id.pid,
        thread: ThreadKind::Main,
        began: time(began_after_s),
        duration_ns,
        startup: false,
        lower_bound: false,
        causes: causes(duration_ns, &[(PART_SYNC_IO, duration_ns / 10 * 7), (PART_GC, duration_ns / 10)]),
        longest_sleep: Some(Sleep {
            duration_ns: duration_ns / 2,
            cause: Cause::SyncIo,
            syscall: Some("fsync"),
            file: None,
        }),
        stacks: Vec::new(),
        culprit: None,
    }
}

/// As [`stall`], with what was sampled in it.
pub(crate) fn sampled_stall(process: &ProcessInterval, began_after_s: u64, duration_ns: u64) -> Stall {
    let mut stall = stall(process, began_after_s, duration_ns);
    stall.stacks = thread_stacks(process).stacks;
    stall.stacks.sort_by_key(|stack| std::cmp::Reverse(stack.time_ns));
    stall.culprit = Some(culprit("hashPassword", "/srv/checkout/src/auth.js", 42));
    stall
}

pub(crate) fn culprit(function: &str, script: &str, line: u32) -> Culprit {
    Culprit { function: function.into(), script: Some(script.into()), line: Some(line), package: None }
}

/// A function of the application.
pub(crate) fn frame(function: &str, script: &str, line: u32) -> Frame {
    Frame {
        kind: FrameKind::JavaScript,
        function: function.into(),
        script: Some(script.into()),
        line: Some(line),
        column: Some(17),
        line_is_exact: true,
        package: None,
    }
}

/// A function without a script.
pub(crate) fn native(kind: FrameKind, function: &str) -> Frame {
    Frame {
        kind,
        function: function.into(),
        script: None,
        line: None,
        column: None,
        line_is_exact: false,
        package: None,
    }
}

pub(crate) fn stack_time(frames: Vec<Frame>, category: Category, time_ns: u64) -> StackTime {
    let stack = Arc::new(Stack { frames, truncated: false, problem: None });
    StackTime { stack, category, samples: time_ns.div_ceil(10 * MS), time_ns }
}

/// A second of the main thread of [`sick`]: hashing for a login, a cart as JSON, log lines, a collection, and a stack
/// that could not be read.
pub(crate) fn thread_stacks(process: &ProcessInterval) -> ThreadStacks {
    let node = |function: &str, script: &str, line| Frame {
        kind: FrameKind::NodeInternal,
        column: None,
        line_is_exact: false,
        ..frame(function, script, line)
    };
    let package = |function: &str, name: &str, file: &str, line| Frame {
        package: Some(name.into()),
        ..frame(function, &format!("/srv/checkout/node_modules/{name}/{file}"), line)
    };
    let request = |inner: Vec<Frame>| {
        let outer = [
            package("handle", "express", "lib/router/layer.js", 95),
            package("next", "express", "lib/router/index.js", 284),
            node("parserOnIncoming", "node:_http_server", 1137),
            node("parserOnHeadersComplete", "node:_http_common", 119),
        ];
        inner.into_iter().chain(outer).collect::<Vec<_>>()
    };
    let login = frame("login", "/srv/checkout/src/routes.js", 17);
    let cart = frame("serializeCart", "/srv/checkout/src/cart.js", 88);
    let pbkdf2 = native(FrameKind::Native, "PKCS5_PBKDF2_HMAC");
    let job = node("pbkdf2Sync", "node:internal/crypto/pbkdf2", 76);
    let hash = frame("hashPassword", "/srv/checkout/src/auth.js", 42);
    let unreadable = Stack { problem: Some("no frame pointer"), ..Stack::default() };
    let stacks = vec![
        stack_time(request(vec![pbkdf2, job, hash, login]), Category::Crypto, 480 * MS),
        stack_time(
            request(vec![native(FrameKind::Builtin, "JSON.stringify"), cart.clone()]),
            Category::Json,
            190 * MS,
        ),
        stack_time(request(vec![cart.clone()]), Category::Application, 60 * MS),
        stack_time(
            request(vec![
                node("formatWithOptions", "node:internal/util/inspect", 2301),
                package("write", "pino", "lib/proto.js", 214),
                frame("audit", "/srv/checkout/src/log.js", 9),
            ]),
            Category::Logging,
            80 * MS,
        ),
        stack_time(
            request(vec![native(FrameKind::Native, "v8::internal::Heap::CollectGarbage"), cart]),
            Category::Gc,
            70 * MS,
        ),
        StackTime { stack: Arc::new(unreadable), ..stack_time(Vec::new(), Category::Unknown, 20 * MS) },
    ];
    ThreadStacks { process: process.id, tid: process.id.pid, stacks }
}

/// Stacks of two functions, of which the first allocates three quarters.
pub(crate) fn allocations(process: &ProcessInterval) -> Vec<OccasionStack> {
    let stacks = thread_stacks(process).stacks;
    let taken = |(stack, count): (&StackTime, u64)| OccasionStack {
        process: process.id,
        tid: process.id.pid,
        occasion: Occasion::Allocation,
        stack: Arc::clone(&stack.stack),
        count,
    };
    stacks.iter().zip([6, 2]).map(taken).collect()
}

pub(crate) fn long_pause(process: &ProcessInterval, began_after_s: u64) -> LongPause {
    LongPause {
        process: process.id,
        tid: process.id.pid,
        kind: GcKind::Major,
        began: time(began_after_s),
        duration_ns: 48 * MS,
        heap: HeapChange { before_bytes: Some(301 * MIB), after_bytes: Some(262 * MIB) },
    }
}

/// One second that ended `after_s` after the first.
pub(crate) fn interval(after_s: u64, processes: Vec<ProcessInterval>) -> Interval {
    Interval {
        time: time(after_s),
        duration_s: 1.0,
        lost: BTreeMap::from([("ring_full", 0), ("thread_map_full", 0)]),
        processes,
        host_cpu: Some(HostCpu { busy_ns: 500 * MS, idle_ns: 1500 * MS, stolen_ns: 0 }),
        answers_seen_ns: 1_000_000_000,
        stalls: Vec::new(),
        pauses: Vec::new(),
        stacks: Vec::new(),
        occasions: Vec::new(),
        notices: Vec::new(),
    }
}

/// The same process as `ps` sees it.
pub(crate) fn listed(process: &ProcessInterval) -> Process {
    Process {
        id: process.id,
        identity: Arc::clone(&process.identity),
        signals: Arc::clone(&process.signals),
        started: time(0),
        observed_since: time(0),
        rss_bytes: process.rss_bytes,
        cpu: None,
        cpu_throttled_ns: None,
        cpu_periods: None,
        run_delay_ns: None,
        nice: None,
        drains_seen_ns: 0,
        stdout: process.stdout.clone(),
        stderr: process.stderr.clone(),
        backlogs: Vec::new(),
        group_memory: None,
        startup: None,
        threads: Vec::new(),
        exited: false,
    }
}

//! One service over its processes: what is wrong, since when, and in which of them.

use super::{
    ROW_TO_PROCESS, ROW_TO_PROCESSES, TO_PROCESS,
    board::Board,
    culprits,
    metrics::{
        CONTEXTS, CPU_THROTTLED, CPU_WAIT, DEOPTS, DRAIN, DRAIN_OBSERVED, FINDING, GC, HEAP_LIMIT, HEAP_USED,
        LATE_HANDLERS, LOGGING, MEMORY_LIMIT, POOL_QUEUE, POOL_TASKS, POOL_WAIT, REJECTIONS, RSS,
        SOCKET_BACKLOG, SOCKET_RETRIES, STALL, STALL_TIME, STARTUP, TURN, TURN_AGE, UPTIME, UTILIZATION,
        WRITE_BLOCKED, WRITE_BYTES, WRITE_RETRIES,
    },
    panel::{
        Kind::{Heatmap, Lines, Stacked, States, Table},
        Panel, panel,
    },
    promql::{
        INSTANCE, INSTANCE_LEGEND, MAIN, SELECTOR, max, of_processes, quantile, rate, select, share,
        share_by, sum,
    },
    thresholds::{self, Threshold},
};

pub(super) fn board() -> Board {
    Board {
        uid: "nodeprobe-service",
        title: "Node.js / Service",
        description: "One service over all its processes. A row of the table or a line leads to the process.",
        source: UTILIZATION,
        selector: SELECTOR,
        rows: vec![
            ("Processes", vec![table(), findings()]),
            (
                "Event loop",
                vec![heat_map(), causes(), stalls(), utilization(), cpu_wait(), turns(), longest()],
            ),
            ("Culprits", vec![culprits(), culprits_over_time()]),
            (
                "Memory and garbage collection",
                vec![gc_share(), pauses(), heap(), heap_of_limit(), rss(), rss_of_limit()],
            ),
            ("Output", vec![blocked(), refused(), bytes(), logging()]),
            (
                "Promises and code",
                vec![rejections(), deopts(), drains(), drain_length(), contexts(), startup()],
            ),
            ("Queues", vec![pool_wait(), pool_tasks(), sockets()]),
        ],
    }
}

fn table() -> Panel {
    let heap = format!("{} / {}", select(HEAP_USED, ""), select(HEAP_LIMIT, ""));
    panel(
        Table,
        "Processes",
        "short",
        "One row per process, with the thresholds of nodeprobe diagnose as colours; the worst come first. A click on its name leads to it.",
    )
    .label("k8s_namespace_name", "Namespace", 120)
    .label("service_name", "Service", 180)
    .label("service_instance_id", "Instance", 260)
    .column("Up for", "s", None, max(INSTANCE, &select(UPTIME, "")))
    .column("Findings", "short", Some(Threshold(1.0, None)), sum(INSTANCE, &select(FINDING, "")))
    .column("Utilization", "percentunit", None, max(INSTANCE, &select(UTILIZATION, MAIN)))
    .column("p99 turn", "s", None, quantile("0.99", INSTANCE, TURN, MAIN))
    .column("Stalled", "percentunit", Some(thresholds::STALLED), share(INSTANCE, STALL_TIME, MAIN))
    .column("GC", "percentunit", Some(thresholds::GC), share(INSTANCE, &format!("{GC}_sum"), ""))
    .column("Heap / limit", "percentunit", None, max(INSTANCE, &heap))
    .column("RSS", "bytes", None, max(INSTANCE, &of_processes(&select(RSS, ""))))
    .link("Open the process", ROW_TO_PROCESS)
}

fn findings() -> Panel {
    let found = sum("nodeprobe_finding_id", &select(FINDING, ""));
    panel(
        States,
        "Findings over time",
        "short",
        "When which failure mode was found, and in how many processes. Empty when all is well; docs/failure-modes.md explains each.",
    )
    .threshold(Threshold(1.0, None))
    .width(24)
    .height(6)
    .query("{{nodeprobe_finding_id}}", format!("{found} > 0"))
}

fn heat_map() -> Panel {
    let turns = format!("increase({}[$__rate_interval])", select(&format!("{TURN}_bucket"), MAIN));
    panel(
        Heatmap,
        "Turns of the event loop",
        "short",
        "How many turns of main event loops took how long. A second band above the usual one is a kind of request that blocks the others.",
    )
    .width(12)
    .query("{{le}}", sum("le", &turns))
}

fn causes() -> Panel {
    panel(
        Stacked,
        "Stalled share by cause",
        "percentunit",
        "What the turns of at least 50 ms were spent with, as a share of the time of the main event loops. From 5 % of code \
         (javascript, native, compile, on_cpu) on nodeprobe warns; sync_io from 2 %, child_process from 1 %.",
    )
    .width(6)
    .query("{{nodeprobe_stall_cause}}", share_by("", "nodeprobe_stall_cause", STALL_TIME, MAIN))
}

fn utilization() -> Panel {
    panel(
        Lines,
        "Event loop utilization",
        "percentunit",
        "Share of the time in which the event loops of each process ran something.",
    )
    .whole()
    .width(6)
    .query(
        "{{nodeprobe_thread_type}} {{service_instance_id}}",
        max(&format!("{INSTANCE}, nodeprobe_thread_type"), &select(UTILIZATION, "")),
    )
    .link("Open the process", TO_PROCESS)
}

fn cpu_wait() -> Panel {
    panel(
        Lines,
        "Waiting for CPU",
        "percentunit",
        "Share of the time in which the main thread of each process was ready to run and had no processor (from 10 % on nodeprobe \
         warns, 30 % are critical), and for which the quota of its container was used up.",
    )
    .width(6)
    .threshold(thresholds::RUN_DELAY)
    .query("waits {{service_instance_id}}", share(INSTANCE, CPU_WAIT, ""))
    .query("throttled {{service_instance_id}}", share(INSTANCE, CPU_THROTTLED, ""))
    .link("Open the process", TO_PROCESS)
}

fn turns() -> Panel {
    panel(
        Lines,
        "Turns: p50, p99, longest",
        "s",
        "Duration of turns of main event loops over all processes. The longest is told as the upper bound of its bucket.",
    )
    .width(6)
    .query("p50", quantile("0.5", "", TURN, MAIN))
    .query("p99", quantile("0.99", "", TURN, MAIN))
    .query("longest", quantile("1", "", TURN, MAIN))
}

fn longest() -> Panel {
    panel(
        Lines,
        "Turn under way",
        "s",
        "Age of the turn that has not ended, at each export: a process that is blocked right now. From 1 s on nodeprobe warns, 5 s are critical.",
    )
    .width(6)
    .threshold(thresholds::TURN_UNDER_WAY_S)
    .query(INSTANCE_LEGEND, max(INSTANCE, &select(TURN_AGE, MAIN)))
    .link("Open the process", TO_PROCESS)
}

fn stalls() -> Panel {
    panel(
        Stacked,
        "Stalls per second, by leading cause",
        "ops",
        "Turns of at least 50 ms, each under the cause that took the greatest part of it.",
    )
    .width(6)
    .query("{{nodeprobe_stall_cause}}", sum("nodeprobe_stall_cause", &rate(&format!("{STALL}_count"), MAIN)))
}

fn culprits() -> Panel {
    culprits::table(
        "The ten functions that stalled the event loops most in the time shown, over all processes: the whole time of the turns of at \
         least 50 ms that each is to blame for. Stalls of which nobody is known to be to blame are in none. A click on its name leads to \
         the processes.",
        &[("service_name", "Service", 140)],
    )
    .link("Open the processes", ROW_TO_PROCESSES)
}

fn culprits_over_time() -> Panel {
    culprits::over_time(
        "Share of the time of each process in stalls that a function is to blame for: since when it stalls, and where. The first stall \
         of a function has no rate yet; the table has it.",
        INSTANCE,
        "{{code_function_name}} {{service_instance_id}}",
    )
    .link("Open the process", TO_PROCESS)
}

fn gc_share() -> Panel {
    panel(
        Lines,
        "Garbage collection share",
        "percentunit",
        "Share of the time of each process in pauses of the garbage collector. From 10 % on nodeprobe warns, 25 % are critical.",
    )
    .threshold(thresholds::GC)
    .query(INSTANCE_LEGEND, share(INSTANCE, &format!("{GC}_sum"), ""))
    .link("Open the process", TO_PROCESS)
}

fn pauses() -> Panel {
    panel(
        Lines,
        "Pauses by type",
        "s",
        "p99 and mean of the pauses for garbage collection: minor ones empty the young generation, major ones the whole heap.",
    )
    .query("p99 {{v8js_gc_type}}", quantile("0.99", "v8js_gc_type", GC, ""))
    .query(
        "mean {{v8js_gc_type}}",
        format!("{} / {}", sum("v8js_gc_type", &rate(&format!("{GC}_sum"), "")), sum("v8js_gc_type", &rate(&format!("{GC}_count"), ""))),
    )
}

fn heap() -> Panel {
    panel(
        Lines,
        "Heap in use",
        "bytes",
        "Heap of each process as its last collection told. A lower edge that climbs for hours is a leak.",
    )
    .query(INSTANCE_LEGEND, max(INSTANCE, &select(HEAP_USED, "")))
    .query("least limit", format!("min({})", select(HEAP_LIMIT, "")))
    .link("Open the process", TO_PROCESS)
}

fn heap_of_limit() -> Panel {
    panel(
        Lines,
        "Heap against its limit",
        "percentunit",
        "At the limit V8 aborts the process: exit code 134.",
    )
    .whole()
    .query(INSTANCE_LEGEND, max(INSTANCE, &format!("{} / {}", select(HEAP_USED, ""), select(HEAP_LIMIT, ""))))
    .link("Open the process", TO_PROCESS)
}

fn rss() -> Panel {
    panel(
        Lines,
        "Resident memory",
        "bytes",
        "Physical memory of each process, and the least limit of its containers. Memory that climbs while the heap is flat lies in \
         buffers or native code.",
    )
    .query(INSTANCE_LEGEND, max(INSTANCE, &of_processes(&select(RSS, ""))))
    .query("least limit of a container", format!("min({})", select(MEMORY_LIMIT, "")))
    .link("Open the process", TO_PROCESS)
}

fn rss_of_limit() -> Panel {
    panel(
        Lines,
        "Memory against the container's limit",
        "percentunit",
        "At the limit the kernel kills the process: exit code 137, OOMKilled. Absent where there is no limit.",
    )
    .whole()
    .query(INSTANCE_LEGEND, max(INSTANCE, &format!("{} / {}", select(RSS, ""), select(MEMORY_LIMIT, ""))))
    .link("Open the process", TO_PROCESS)
}

fn blocked() -> Panel {
    panel(
        Lines,
        "Blocked in writes to stdout and stderr",
        "percentunit",
        "Share of the time in which main event loops stood still because nobody read their output. From 1 % on nodeprobe warns, 10 % are critical.",
    )
    .width(6)
    .threshold(thresholds::STDIO_BLOCKED)
    .query(INSTANCE_LEGEND, share(INSTANCE, WRITE_BLOCKED, ""))
    .link("Open the process", TO_PROCESS)
}

fn refused() -> Panel {
    panel(
        Lines,
        "Writes refused (EAGAIN)",
        "ops",
        "Writes to stdout and stderr that the reader was too slow for: the data waits in the process. From one per second on nodeprobe warns.",
    )
    .width(6)
    .threshold(thresholds::STDIO_REFUSED_PER_S)
    .query("{{nodeprobe_stdio_stream}} {{nodeprobe_stdio_type}}", sum("nodeprobe_stdio_stream, nodeprobe_stdio_type", &rate(WRITE_RETRIES, "")))
}

fn bytes() -> Panel {
    panel(
        Lines,
        "Written",
        "Bps",
        "Bytes that event loops wrote to stdout and stderr, by what the stream is.",
    )
    .width(6)
    .query(
        "{{nodeprobe_stdio_stream}} {{nodeprobe_stdio_type}}",
        sum("nodeprobe_stdio_stream, nodeprobe_stdio_type", &rate(WRITE_BYTES, "")),
    )
}

fn logging() -> Panel {
    panel(
        Lines,
        "CPU for logging",
        "percentunit",
        "CPU time of the main thread for formatting and writing log lines, as a share of time; estimated from samples of its stacks.",
    )
    .width(6)
    .query(INSTANCE_LEGEND, share(INSTANCE, LOGGING, ""))
    .link("Open the process", TO_PROCESS)
}

fn rejections() -> Panel {
    panel(
        Lines,
        "Unhandled rejections",
        "ops",
        "Promises that failed and nobody handled, and handlers that came too late. One alone is a warning, one per second critical; by \
         default Node.js ends at the first.",
    )
    .threshold(thresholds::REJECTIONS_PER_S_CRITICAL)
    .query("unhandled", sum("", &rate(REJECTIONS, "")))
    .query("handled late", sum("", &rate(LATE_HANDLERS, "")))
}

fn deopts() -> Panel {
    panel(
        Lines,
        "Deoptimisations",
        "ops",
        "How often V8 threw away optimised code. From five per second in one function on, going on for the minute, nodeprobe warns; code that is left behind the loop it was made for is in here, but does not count for that.",
    )
    .threshold(thresholds::DEOPTS_PER_S)
    .query("{{nodeprobe_jit_deopt_kind}} {{service_instance_id}}", sum(&format!("nodeprobe_jit_deopt_kind, {INSTANCE}"), &rate(DEOPTS, "")))
    .link("Open the process", TO_PROCESS)
}

fn drains() -> Panel {
    panel(
        Lines,
        "Share of time in microtasks",
        "percentunit",
        "Time in drains of the queue of promise continuations, of the time they were looked at. The event loop does nothing else meanwhile.",
    )
    .whole()
    .query(INSTANCE_LEGEND, format!("{} / {}", sum(INSTANCE, &rate(&format!("{DRAIN}_sum"), "")), sum(INSTANCE, &rate(DRAIN_OBSERVED, ""))))
    .link("Open the process", TO_PROCESS)
}

fn drain_length() -> Panel {
    panel(
        Lines,
        "p99 of microtask drains",
        "s",
        "Duration of drains of the queue of promise continuations, over all processes.",
    )
    .query("p50", quantile("0.5", "", DRAIN, ""))
    .query("p99", quantile("0.99", "", DRAIN, ""))
}

fn contexts() -> Panel {
    let lost = sum("", &rate(CONTEXTS, r#"nodeprobe_async_context_state="lost""#));
    let had = sum("", &rate(CONTEXTS, r#"nodeprobe_async_context_state=~"kept|lost""#));
    panel(
        Lines,
        "Answers that lost their async context",
        "percentunit",
        "Of the answers to requests that had an async context (AsyncLocalStorage), those that were given without it. From 5 % on nodeprobe warns.",
    )
    .threshold(thresholds::CONTEXTS_LOST)
    .query("lost", format!("{lost} / {had}"))
}

fn startup() -> Panel {
    panel(
        Lines,
        "Start-up by phase",
        "s",
        "Time from the begin of the program to each phase, of processes that started under observation. From 1 s between the first line and \
         the first turn on nodeprobe warns, 5 s are critical.",
    )
    .threshold(thresholds::STARTUP_S)
    .query("{{nodeprobe_startup_phase}} {{service_instance_id}}", max(&format!("nodeprobe_startup_phase, {INSTANCE}"), &select(STARTUP, "")))
    .link("Open the process", TO_PROCESS)
}

fn pool_wait() -> Panel {
    let of_type = "nodeprobe_thread_pool_task_type";
    panel(
        Lines,
        "Mean wait for a thread of libuv's pool",
        "s",
        "How long file system, DNS, crypto and zlib work waits for one of the four threads. From 20 ms on nodeprobe warns, 200 ms are critical.",
    )
    .threshold(thresholds::POOL_WAIT_S)
    .query("{{nodeprobe_thread_pool_task_type}}", format!("{} / {}", sum(of_type, &rate(POOL_WAIT, "")), sum(of_type, &rate(POOL_TASKS, ""))))
}

fn pool_tasks() -> Panel {
    panel(
        Lines,
        "Work for libuv's pool",
        "ops",
        "Work that threads of the pool began per second, by kind, and what waits now.",
    )
    .query(
        "{{nodeprobe_thread_pool_task_type}}",
        sum("nodeprobe_thread_pool_task_type", &rate(POOL_TASKS, "")),
    )
    .query("waits now", sum("", &select(POOL_QUEUE, "")))
    .beside("waits", "short")
}

fn sockets() -> Panel {
    panel(
        Lines,
        "Full sockets",
        "bytes",
        "Bytes that wait for TCP sockets whose reader is slower than the process, in the kernel and in libuv; beside it refused writes \
         per second. What JavaScript keeps comes on top.",
    )
    .query("waiting {{service_instance_id}}", sum(INSTANCE, &select(SOCKET_BACKLOG, "")))
    .query("refused", sum("", &rate(SOCKET_RETRIES, "")))
    .beside("refused", "ops")
    .link("Open the process", TO_PROCESS)
}

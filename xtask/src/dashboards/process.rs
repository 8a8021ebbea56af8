//! One process (or the few that the variables leave) in depth.

use super::{
    board::Board,
    culprits,
    metrics::{
        CONTEXTS, CONTEXTS_OBSERVED, CPU, CPU_PERIODS, CPU_THROTTLED, CPU_WAIT, DEOPTS, DRAIN,
        DRAIN_OBSERVED, FINDING, GC, HEAP_LIMIT, HEAP_USED, LATE_HANDLERS, LOGGING, LOOP_TIME, MEMORY_LIMIT,
        MODULES, MODULES_TIME, POOL_QUEUE, POOL_TASKS, POOL_WAIT, REJECTIONS, RSS, SIGNAL_AVAILABLE,
        SOCKET_BACKLOG, SOCKET_RETRIES, STALL, STALL_TIME, STARTUP, TURN, TURN_AGE, UPTIME, UTILIZATION,
        WRITE, WRITE_BLOCKED, WRITE_BYTES, WRITE_RETRIES,
    },
    panel::{
        Kind::{Bars, Heatmap, Lines, Stacked, Stat, States},
        Panel, panel,
    },
    promql::{MAIN, SELECTOR, max, of_processes, quantile, rate, select, share, share_by, sum},
    thresholds::{self, Threshold},
};

const THREAD: &str = "nodeprobe_thread_type";
const STREAM: &str = "nodeprobe_stdio_stream, nodeprobe_stdio_type";
const STREAM_LEGEND: &str = "{{nodeprobe_stdio_stream}} {{nodeprobe_stdio_type}}";
const THROTTLED: &str = r#"nodeprobe_cpu_quota_state="throttled""#;
const TASK: &str = "nodeprobe_thread_pool_task_type";

pub(super) fn board() -> Board {
    Board {
        uid: "nodeprobe-process",
        title: "Node.js / Process",
        description: "One process in depth. Choose it by service and instance, or come from the board of its service.",
        source: UTILIZATION,
        selector: SELECTOR,
        rows: vec![
            ("Now", vec![uptime(), utilization_now(), under_way(), rss_now(), cpu_now(), findings_now()]),
            ("Findings and signals", vec![findings(), signals()]),
            ("Event loop", vec![turns(), causes(), stalls(), utilization(), loop_time(), percentiles()]),
            ("Culprits", vec![culprits(), culprits_over_time()]),
            (
                "CPU and memory",
                vec![cpu(), cpu_wait(), memory(), heap(), gc_share(), pause_heat_map(), pauses()],
            ),
            ("Output", vec![writes(), blocked(), bytes(), logging()]),
            (
                "Promises and code",
                vec![rejections(), microtasks(), contexts(), deopts(), modules(), startup()],
            ),
            ("Queues", vec![pool(), pool_wait(), sockets()]),
        ],
    }
}

fn uptime() -> Panel {
    panel(Stat, "Up for", "s", "Time since the process started; of several the youngest.")
        .query("uptime", format!("min({})", select(UPTIME, "")))
}

fn utilization_now() -> Panel {
    panel(
        Stat,
        "Utilization",
        "percentunit",
        "Share of the time since the last export in which the main event loop ran something.",
    )
    .query("utilization", max("", &select(UTILIZATION, MAIN)))
}

fn under_way() -> Panel {
    panel(Stat, "Turn under way", "s", "Age of the turn that has not ended; 0 while the event loop waits. From 1 s on the process is blocked.")
        .threshold(thresholds::TURN_UNDER_WAY_S)
        .query("age", max("", &select(TURN_AGE, "")))
}

fn rss_now() -> Panel {
    panel(Stat, "Resident memory", "bytes", "Physical memory of the process.")
        .query("memory", sum("", &format!("({})", of_processes(&select(RSS, "")))))
}

fn cpu_now() -> Panel {
    panel(Stat, "CPU", "percentunit", "Processor time of all threads; 100 % is one processor.")
        .query("cpu", sum("", &format!("({})", of_processes(&rate(CPU, "")))))
}

fn findings_now() -> Panel {
    panel(Stat, "Findings", "short", "Failure modes that nodeprobe diagnose would report now.")
        .threshold(Threshold(1.0, None))
        .query("findings", sum("", &select(FINDING, "")))
}

fn findings() -> Panel {
    panel(
        States,
        "Findings over time",
        "short",
        "Each failure mode that can be judged in this process; docs/failure-modes.md explains them. One whose signal is missing is absent.",
    )
    .words(["well", "found"])
    .threshold(Threshold(1.0, None))
    .width(14)
    .height(12)
    .query("{{nodeprobe_finding_id}}", max("nodeprobe_finding_id", &select(FINDING, "")))
}

fn signals() -> Panel {
    panel(
        Bars,
        "Signals observed",
        "short",
        "1: observed; 0: not, and the panels that need it are empty. nodeprobe ps on the host tells why.",
    )
    .words(["missing", "observed"])
    .at_least(1.0)
    .whole()
    .width(10)
    .height(12)
    .query("{{nodeprobe_signal}}", format!("min by (nodeprobe_signal) ({})", select(SIGNAL_AVAILABLE, "")))
}

fn turns() -> Panel {
    let turns = format!("increase({}[$__rate_interval])", select(&format!("{TURN}_bucket"), MAIN));
    panel(Heatmap, "Turns of the main event loop", "short", "How many turns took how long.")
        .width(12)
        .query("{{le}}", sum("le", &turns))
}

fn causes() -> Panel {
    panel(
        Stacked,
        "Stalled share by cause",
        "percentunit",
        "What the turns of at least 50 ms of the main thread were spent with, as a share of its time.",
    )
    .width(6)
    .query("{{nodeprobe_stall_cause}}", share_by("", "nodeprobe_stall_cause", STALL_TIME, MAIN))
}

fn utilization() -> Panel {
    panel(
        Lines,
        "Utilization by thread",
        "percentunit",
        "Share of the time in which event loops ran something; over several workers their mean.",
    )
    .whole()
    .query("{{nodeprobe_thread_type}}", max(THREAD, &select(UTILIZATION, "")))
}

fn loop_time() -> Panel {
    panel(
        Stacked,
        "Time of event loops",
        "s",
        "Seconds per second that event loops ran callbacks and waited; more than 1 with workers.",
    )
    .query(
        "{{nodeprobe_thread_type}} {{nodejs_eventloop_state}}",
        sum(&format!("{THREAD}, nodejs_eventloop_state"), &rate(LOOP_TIME, "")),
    )
}

fn percentiles() -> Panel {
    panel(Lines, "Turns: p50, p99, longest", "s", "By thread; the longest is the upper bound of its bucket.")
        .query("p50 {{nodeprobe_thread_type}}", quantile("0.5", THREAD, TURN, ""))
        .query("p99 {{nodeprobe_thread_type}}", quantile("0.99", THREAD, TURN, ""))
        .query("longest {{nodeprobe_thread_type}}", quantile("1", THREAD, TURN, ""))
}

fn stalls() -> Panel {
    panel(
        Lines,
        "p99 of stalls by leading cause",
        "s",
        "Duration of the turns of at least 50 ms, under the cause that took the greatest part.",
    )
    .width(6)
    .query("{{nodeprobe_stall_cause}}", quantile("0.99", "nodeprobe_stall_cause", STALL, MAIN))
}

fn culprits() -> Panel {
    culprits::table(
        "The ten functions that stalled the event loops most in the time shown: the whole time of the turns of at least 50 ms that each \
         is to blame for. nodeprobe top and trace show the stacks.",
        &[],
    )
}

fn culprits_over_time() -> Panel {
    culprits::over_time(
        "Share of the time in stalls that a function is to blame for. Its first stall has no rate yet; the table has it.",
        "",
        "{{code_function_name}}",
    )
}

fn cpu() -> Panel {
    panel(Stacked, "CPU by mode", "percentunit", "Processor time of all threads; 100 % is one processor. Much system time is the kernel's work for the process.")
        .width(6)
        .query("{{cpu_mode}}", sum("cpu_mode", &format!("({})", of_processes(&rate(CPU, "")))))
}

fn cpu_wait() -> Panel {
    let periods = |more: &str| sum("", &rate(CPU_PERIODS, more));
    panel(
        Lines,
        "Waiting for CPU",
        "percentunit",
        "Share of the time in which the main thread was ready to run and had no processor (from 10 % on nodeprobe warns, 30 % are \
         critical), and for which the quota of its container was used up; and the share of the quota's periods in which it was.",
    )
    .width(6)
    .threshold(thresholds::RUN_DELAY)
    .query("main thread waits", share("", CPU_WAIT, ""))
    .query("throttled", share("", CPU_THROTTLED, ""))
    .query("throttled periods", format!("{} / {}", periods(THROTTLED), periods("")))
}

fn memory() -> Panel {
    panel(
        Lines,
        "Memory",
        "bytes",
        "Resident memory with its limit. Where the heap is flat and this climbs, buffers or native code grow.",
    )
    .width(6)
    .query("resident", sum("", &format!("({})", of_processes(&select(RSS, "")))))
    .query("limit of the container", format!("min({})", select(MEMORY_LIMIT, "")))
}

fn heap() -> Panel {
    panel(Lines, "Heap", "bytes", "Heap in use at the last collection, and what V8 may take. At the limit the process aborts: exit code 134.")
        .width(6)
        .query("used", sum("", &select(HEAP_USED, "")))
        .query("limit", sum("", &select(HEAP_LIMIT, "")))
}

fn gc_share() -> Panel {
    panel(
        Stacked,
        "Garbage collection share by type",
        "percentunit",
        "Share of the time in pauses. From 10 % on nodeprobe warns, 25 % are critical.",
    )
    .threshold(thresholds::GC)
    .query("{{v8js_gc_type}}", share_by("", "v8js_gc_type", &format!("{GC}_sum"), ""))
}

fn pause_heat_map() -> Panel {
    let pauses = format!("increase({}[$__rate_interval])", select(&format!("{GC}_bucket"), ""));
    panel(Heatmap, "Pauses", "short", "How many pauses for garbage collection took how long.")
        .query("{{le}}", sum("le", &pauses))
}

fn pauses() -> Panel {
    panel(
        Lines,
        "Pauses per second by type",
        "ops",
        "Minor collections empty the young generation, major ones the whole heap.",
    )
    .query("{{v8js_gc_type}}", sum("v8js_gc_type", &rate(&format!("{GC}_count"), "")))
}

fn writes() -> Panel {
    panel(
        Lines,
        "p99 of writes to stdout and stderr",
        "s",
        "How long writes slept until the reader had taken enough.",
    )
    .width(6)
    .query(STREAM_LEGEND, quantile("0.99", STREAM, WRITE, ""))
}

fn blocked() -> Panel {
    panel(
        Lines,
        "Blocked in writes, refused writes",
        "percentunit",
        "Share of the time in which event loops stood still in writes of at least 1 ms (from 1 % on nodeprobe warns, 10 % are critical), and \
         writes refused per second.",
    )
    .width(6)
    .threshold(thresholds::STDIO_BLOCKED)
    .query("blocked", share("", WRITE_BLOCKED, ""))
    .beside("refused", "ops")
    .query("refused {{nodeprobe_stdio_stream}}", sum("nodeprobe_stdio_stream", &rate(WRITE_RETRIES, "")))
}

fn bytes() -> Panel {
    panel(
        Lines,
        "Written",
        "Bps",
        "Bytes that event loops wrote to stdout and stderr, by what the stream is.",
    )
    .width(6)
    .query(STREAM_LEGEND, sum(STREAM, &rate(WRITE_BYTES, "")))
}

fn logging() -> Panel {
    panel(
        Lines,
        "CPU for logging",
        "percentunit",
        "Time of the main thread on a processor for log lines, estimated from samples of its stacks.",
    )
    .width(6)
    .query("logging", share("", LOGGING, ""))
}

fn rejections() -> Panel {
    panel(
        Lines,
        "Unhandled rejections",
        "ops",
        "Promises that failed and nobody handled, and handlers that came later.",
    )
    .threshold(thresholds::REJECTIONS_PER_S_CRITICAL)
    .query("unhandled", sum("", &rate(REJECTIONS, "")))
    .query("handled late", sum("", &rate(LATE_HANDLERS, "")))
}

fn microtasks() -> Panel {
    let share =
        format!("{} / {}", sum("", &rate(&format!("{DRAIN}_sum"), "")), sum("", &rate(DRAIN_OBSERVED, "")));
    panel(
        Lines,
        "Microtasks: share of time, time looked at",
        "percentunit",
        "Time in drains of the queue of promise continuations, of the time they were looked at; and how much of the time that was.",
    )
    .whole()
    .query("in drains", share)
    .query("looked at", sum("", &rate(DRAIN_OBSERVED, "")))
}

fn contexts() -> Panel {
    // Of all processes of a host at the same times, so the mean is what each was looked at.
    let observed = format!("avg({}) > 0", rate(CONTEXTS_OBSERVED, ""));
    let answers = sum("nodeprobe_async_context_state", &rate(CONTEXTS, ""));
    panel(
        Stacked,
        "Answers by async context",
        "ops",
        "HTTP answers given in the async context of their request (kept), without it (lost), or where there was none: how many they would be if they were followed all the time.",
    )
    .query("{{nodeprobe_async_context_state}}", format!("{answers} / ignoring (nodeprobe_async_context_state) group_left () ({observed})"))
}

fn deopts() -> Panel {
    panel(Lines, "Deoptimisations", "ops", "Optimised code thrown away: it met what it was not compiled for (eager), or something it relied on changed (lazy). Code that is left behind the loop it was made for is in here, and is no harm: the finding leaves it out.")
        .threshold(thresholds::DEOPTS_PER_S)
        .query("{{nodeprobe_jit_deopt_kind}}", sum("nodeprobe_jit_deopt_kind", &rate(DEOPTS, "")))
}

fn modules() -> Panel {
    let per_module =
        format!("{} / ({} > 0)", sum("", &select(MODULES_TIME, "")), sum("", &select(MODULES, "")));
    panel(
        Lines,
        "Modules compiled",
        "short",
        "Modules that V8 has compiled since the begin of observation. Ones that are still compiled under load are required inside of a request.",
    )
    .query("{{nodeprobe_module_type}}", sum("nodeprobe_module_type", &select(MODULES, "")))
    .query("time per module", per_module)
    .beside("time", "s")
}

fn startup() -> Panel {
    panel(
        Bars,
        "Start-up",
        "s",
        "Time from the begin of the program to each phase. Empty if the process started before nodeprobe.",
    )
    .query("{{nodeprobe_startup_phase}}", max("nodeprobe_startup_phase", &select(STARTUP, "")))
}

fn pool() -> Panel {
    panel(Stacked, "Work for libuv's pool", "ops", "What the threads of the pool began per second.")
        .query("{{nodeprobe_thread_pool_task_type}}", sum(TASK, &rate(POOL_TASKS, "")))
}

fn pool_wait() -> Panel {
    panel(
        Lines,
        "Queue of libuv's pool",
        "short",
        "Mean length of the queue by kind of work, and its length at the export. Anything but 0 waits for one of the four threads.",
    )
    .query("mean {{nodeprobe_thread_pool_task_type}}", sum(TASK, &rate(POOL_WAIT, "")))
    .query("now", sum("", &select(POOL_QUEUE, "")))
}

fn sockets() -> Panel {
    panel(
        Lines,
        "Full sockets",
        "bytes",
        "Bytes that wait for TCP sockets whose reader is slow, in the kernel and in libuv's queues, and writes refused per second. What \
         JavaScript keeps comes on top.",
    )
    .query("in {{nodeprobe_socket_queue}}", sum("nodeprobe_socket_queue", &select(SOCKET_BACKLOG, "")))
    .query("refused", sum("", &rate(SOCKET_RETRIES, "")))
    .beside("refused", "ops")
}

//! One alert for each failure mode: what `nodeprobe diagnose` would say, for long enough that somebody should look.

use super::{
    INSTANCE, SERVICE,
    yaml::{Alert, Group, Rule},
};

struct Finding {
    id: &'static str,
    alert: &'static str,
    lasts: &'static str,
    severity: &'static str,
    /// After the name of the service.
    summary: &'static str,
    /// What users notice, and the first thing to do.
    description: &'static str,
}

const FINDINGS: [Finding; 14] = [
    Finding {
        id: "event-loop-starvation",
        alert: "NodejsEventLoopStarvation",
        lasts: "5m",
        severity: "warning",
        summary: "code blocks the event loop",
        description: "All requests of these processes wait while one function computes. The panel of stalls by cause tells whether it is \
            JavaScript or native code; nodeprobe diagnose on the host names the function and its line.",
    },
    Finding {
        id: "heap-growth",
        alert: "NodejsHeapGrowth",
        lasts: "10m",
        severity: "warning",
        summary: "the heap grows towards a limit",
        description: "What survives garbage collection grows, and reaches the limit of V8 or of the container within 6 hours: then the \
            process aborts (exit code 134) or is killed (137). A restart buys time; take a heap snapshot of one process before.",
    },
    Finding {
        id: "stdout-backpressure",
        alert: "NodejsStdoutBackpressure",
        lasts: "5m",
        severity: "warning",
        summary: "writing logs blocks or piles up",
        description: "Whoever reads stdout or stderr is slower than the process writes. Look at the log collector and its disk first, then at \
            the log level.",
    },
    Finding {
        id: "microtask-congestion",
        alert: "NodejsMicrotaskCongestion",
        lasts: "5m",
        severity: "warning",
        summary: "promises block the event loop",
        description: "A chain of promises that never waits for I/O keeps the event loop from turning. nodeprobe diagnose on the host names the \
            function; usually it awaits what is cached already.",
    },
    Finding {
        id: "threadpool-saturation",
        alert: "NodejsThreadPoolSaturation",
        lasts: "5m",
        severity: "warning",
        summary: "file system, DNS and crypto work waits for a thread",
        description: "The threads of libuv's pool are all busy, or hang in a file system or a name server. The panel of work by kind tells \
            what fills it; UV_THREADPOOL_SIZE is four unless set.",
    },
    Finding {
        id: "stream-overflow",
        alert: "NodejsStreamOverflow",
        lasts: "2m",
        severity: "warning",
        summary: "memory grows behind a slow reader",
        description: "A peer reads slower than the process writes to it, and the rest is kept in memory outside of the heap until the container \
            is killed. nodeprobe diagnose on the host names the peer: closing that connection frees the memory.",
    },
    Finding {
        id: "unhandled-rejections",
        alert: "NodejsUnhandledRejections",
        lasts: "3m",
        severity: "warning",
        summary: "promises fail and nobody handles it",
        description: "Work fails without an answer to whoever asked for it. By default Node.js ends at the first, so look for restarts. \
            nodeprobe diagnose on the host names the function that fails.",
    },
    Finding {
        id: "async-context-loss",
        alert: "NodejsAsyncContextLoss",
        lasts: "10m",
        severity: "info",
        summary: "answers lose the async context of their request",
        description: "Log lines and traces of these requests have no request id. Nobody is slowed down; nodeprobe diagnose on the host \
            names the package that loses it.",
    },
    Finding {
        id: "shape-churn",
        alert: "NodejsShapeChurn",
        lasts: "15m",
        severity: "info",
        summary: "objects of changing shapes keep code from being optimised",
        description: "The processes use more CPU than the work needs, and warm-up never ends. It waits for the morning; nodeprobe diagnose on the \
            host names the function.",
    },
    Finding {
        id: "slow-startup",
        alert: "NodejsSlowStartup",
        lasts: "0s",
        severity: "info",
        summary: "processes start slowly",
        description: "They read and compile for more than a second before the event loop turns for the first time. If readiness probes fail \
            or a rollout hangs, this is why; nodeprobe diagnose on the host names the package.",
    },
    Finding {
        id: "gc-pressure",
        alert: "NodejsGcPressure",
        lasts: "5m",
        severity: "warning",
        summary: "garbage collection takes the time of requests",
        description: "The processes spend a tenth of their time or more in collections, or stand still for 100 ms and more. If the heap is near \
            its limit, see to that first; otherwise nodeprobe diagnose names who allocates.",
    },
    Finding {
        id: "cpu-starved",
        alert: "NodejsCpuStarved",
        lasts: "10m",
        severity: "warning",
        summary: "processes wait for a processor",
        description: "They are ready to run and cannot: the CPU limit of the container throttles them, or neighbours use the node. Look at \
            throttling first and raise the limit; nothing in the code is to blame.",
    },
    Finding {
        id: "sync-child-process",
        alert: "NodejsSyncChildProcess",
        lasts: "10m",
        severity: "warning",
        summary: "everything waits while a command runs",
        description: "The processes call execSync or spawnSync while they serve requests. If it came suddenly, the command hangs: look for \
            children of the process. nodeprobe diagnose on the host names the caller.",
    },
    Finding {
        id: "sync-io",
        alert: "NodejsSyncIo",
        lasts: "10m",
        severity: "warning",
        summary: "everything waits for a disk or a network file system",
        description: "The processes read or write files synchronously while they serve requests. If it came suddenly, the disk or the \
            file server became slow: look there first. nodeprobe diagnose on the host names the call and the file.",
    },
];

pub(super) fn group() -> Group {
    Group { name: "nodeprobe.findings", rules: FINDINGS.iter().map(alert).collect() }
}

/// Per service, so that a sick release is one alert and not one per pod; the value is how many processes have it.
fn alert(finding: &Finding) -> Rule {
    let Finding { id, alert, lasts, severity, summary, description } = finding;
    let active = format!(r#"max by ({INSTANCE}) (nodeprobe_finding_active{{nodeprobe_finding_id="{id}"}})"#);
    Rule::Alert(Alert {
        name: alert,
        expression: format!("count by ({SERVICE}) (\n{active} == 1\n)"),
        lasts,
        severity,
        summary: format!("{{{{ $labels.service_name }}}}: {summary}"),
        description: format!("{{{{ $value }}}} process(es) of {{{{ $labels.service_name }}}}. {description}"),
        runbook: format!("failure-modes.md#{id}"),
    })
}

//! nodeprobe itself: whether what the other boards show is complete, and what it costs.

use super::{
    board::Board,
    metrics::{
        AGENT_EXPORTS, AGENT_LOST, AGENT_PROBES, AGENT_PROCESSES, AGENT_STALL_LOGS, CPU, RSS,
        SIGNAL_AVAILABLE,
    },
    panel::{
        Kind::{Bars, Lines, Stacked, Stat, Table},
        Panel, panel,
    },
    promql::{SELECTOR, max, rate, select, sum},
    thresholds::Threshold,
};

/// One agent. On a plain host its name tells which, where the path of the metrics keeps it.
const AGENT: &str =
    "k8s_cluster_name, k8s_node_name, k8s_pod_name, host_name, service_name, service_instance_id";
const LEGEND: &str = "{{k8s_node_name}} {{host_name}} {{service_instance_id}}";
const ONE_IS_TOO_MANY: Threshold = Threshold(1.0, None);

pub(super) fn board() -> Board {
    Board {
        uid: "nodeprobe-agent",
        title: "Node.js / nodeprobe agent",
        description: "Whether nodeprobe sees all and delivers all, and what it costs. Service and instance are those of the agents.",
        source: AGENT_PROCESSES,
        selector: SELECTOR,
        rows: vec![
            ("Now", vec![agents(), processes(), probes(), lost_now(), failed_now(), cpu_now()]),
            ("Completeness", vec![lost(), exports(), stall_logs()]),
            ("Signals that are missing", vec![missing(), missing_table()]),
            ("Reach and cost", vec![processes_over_time(), probes_over_time(), cpu(), memory()]),
        ],
    }
}

/// Of metrics that the processes have as well, those of the agents.
fn own(expression: &str) -> String {
    format!("{expression} and on (service_name, service_instance_id) {}", select(AGENT_PROCESSES, ""))
}

fn agents() -> Panel {
    panel(Stat, "Agents", "short", "Agents that report: one per host or node.")
        .query("agents", format!("count({})", select(AGENT_PROCESSES, "")))
}

fn processes() -> Panel {
    panel(Stat, "Processes", "short", "Node.js processes under observation by all agents.")
        .query("processes", sum("", &select(AGENT_PROCESSES, "")))
}

fn probes() -> Panel {
    panel(Stat, "Probes", "short", "Uprobes attached to files of Node.js, V8 and libuv, by all agents.")
        .query("probes", sum("", &select(AGENT_PROBES, "")))
}

fn lost_now() -> Panel {
    panel(Stat, "Events lost", "short", "Things that happened in the last hour and were not recorded. Anything but 0 means that other boards show too little.")
        .threshold(ONE_IS_TOO_MANY)
        .query("lost", format!("round(sum(increase({}[1h])))", select(AGENT_LOST, "")))
}

fn failed_now() -> Panel {
    panel(
        Stat,
        "Exports failed",
        "short",
        "Exports of the last hour that failed after all retries, or of which the collector rejected a part.",
    )
    .threshold(ONE_IS_TOO_MANY)
    .query(
        "failed",
        format!(
            "round(sum(increase({}[1h])))",
            select(AGENT_EXPORTS, r#"nodeprobe_export_outcome=~"failure|partial""#)
        ),
    )
}

fn cpu_now() -> Panel {
    panel(Stat, "Busiest agent", "percentunit", "Processor time of the agent that needs most; 100 % is one processor. The probes themselves run on the time of the processes.")
        .query("cpu", max("", &own(&format!("sum by ({AGENT}) ({})", rate(CPU, "")))))
}

fn lost() -> Panel {
    panel(
        Lines,
        "Events lost by reason",
        "ops",
        "What happened and was not recorded, per second. docs/troubleshooting.md has a remedy for each reason.",
    )
    .query("{{nodeprobe_lost_reason}}", sum("nodeprobe_lost_reason", &rate(AGENT_LOST, "")))
}

fn exports() -> Panel {
    panel(
        Lines,
        "Exports by outcome",
        "ops",
        "Exports delivered, delivered in part, and failed after all retries, per second.",
    )
    .query("{{nodeprobe_export_outcome}}", sum("nodeprobe_export_outcome", &rate(AGENT_EXPORTS, "")))
    .color("success", "green")
    .color("partial", "orange")
    .color("failure", "red")
}

fn stall_logs() -> Panel {
    panel(
        Lines,
        "Log records of stalls by outcome",
        "ops",
        "Stalls as log records: delivered, suppressed because a process had too many, or lost. All 0 unless stall logs are switched on.",
    )
    .query("{{nodeprobe_stall_log_outcome}}", sum("nodeprobe_stall_log_outcome", &rate(AGENT_STALL_LOGS, "")))
}

/// By cluster alone: service and instance are those of the agent on this board.
fn missing() -> Panel {
    panel(Bars, "Processes without a signal", "short", "In how many processes a signal is not observed; 0 is best. Stripped builds and old kernels lack some.")
        .threshold(ONE_IS_TOO_MANY)
        .height(12)
        .query("{{nodeprobe_signal}}", r#"count by (nodeprobe_signal) (nodeprobe_signal_available{k8s_cluster_name=~"$cluster"}) - sum by (nodeprobe_signal) (nodeprobe_signal_available{k8s_cluster_name=~"$cluster"})"#)
}

fn missing_table() -> Panel {
    panel(Table, "Services without a signal", "short", "Which service lacks which signal, in how many processes. nodeprobe ps on the host tells why.")
        .width(16)
        .height(12)
        .label("k8s_namespace_name", "Namespace", 120)
        .label("service_name", "Service", 180)
        .label("nodeprobe_signal", "Signal", 160)
        .column(
            "Processes",
            "short",
            None,
            format!("count by (k8s_namespace_name, service_name, nodeprobe_signal) ({SIGNAL_AVAILABLE}{{k8s_cluster_name=~\"$cluster\"}} == 0)"),
        )
}

fn processes_over_time() -> Panel {
    panel(Stacked, "Processes by agent", "short", "Node.js processes under observation.")
        .width(6)
        .query(LEGEND, max(AGENT, &select(AGENT_PROCESSES, "")))
}

fn probes_over_time() -> Panel {
    panel(
        Lines,
        "Probes by agent",
        "short",
        "Uprobes attached. 0 while there are processes means that nothing is observed.",
    )
    .width(6)
    .query(LEGEND, max(AGENT, &select(AGENT_PROBES, "")))
}

fn cpu() -> Panel {
    panel(Lines, "CPU by agent", "percentunit", "Processor time of the agent; 100 % is one processor.")
        .width(6)
        .query(LEGEND, own(&format!("sum by ({AGENT}) ({})", rate(CPU, ""))))
}

fn memory() -> Panel {
    panel(Lines, "Memory by agent", "bytes", "Resident memory of the agent.")
        .width(6)
        .query(LEGEND, own(&format!("max by ({AGENT}) ({})", select(RSS, ""))))
}

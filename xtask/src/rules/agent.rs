//! Whether nodeprobe itself is there, sees all and delivers it. An alert that cannot fire is worse than none.

use super::{
    SERVICE,
    yaml::{Alert, Group, Rule},
};

const HOST: &str = "k8s_cluster_name, k8s_node_name, host_name";
const WHERE: &str = "{{ $labels.k8s_node_name }} {{ $labels.host_name }}";

pub(super) fn group() -> Group {
    let alerts = [absent(), gone(), no_probes(), lost(), failing(), missing(), logs_lost()];
    Group { name: "nodeprobe.agent", rules: alerts.into_iter().map(Rule::Alert).collect() }
}

fn absent() -> Alert {
    Alert {
        name: "NodeprobeAbsent",
        expression: "absent(nodeprobe_agent_processes)".to_owned(),
        lasts: "15m",
        severity: "warning",
        summary: "No nodeprobe agent reports".to_owned(),
        description: "No alert about Node.js can fire until one does. Look at the agents, then at the collector between them and this \
            database."
            .to_owned(),
        runbook: "troubleshooting.md#export".to_owned(),
    }
}

fn gone() -> Alert {
    Alert {
        name: "NodeprobeGone",
        expression: format!(
            "count by ({HOST}) (nodeprobe_agent_processes offset 1h)\nunless on ({HOST}) count by ({HOST}) (nodeprobe_agent_processes)"
        ),
        lasts: "10m",
        severity: "warning",
        summary: format!("The nodeprobe agent of {WHERE} does not report any more"),
        description: "An hour ago it did. If the host was taken away on purpose, the alert ends by itself within the hour; otherwise nothing \
            is known of the Node.js processes there."
            .to_owned(),
        runbook: "troubleshooting.md#export".to_owned(),
    }
}

fn no_probes() -> Alert {
    Alert {
        name: "NodeprobeNoProbes",
        expression: format!(
            "max by ({HOST}) (nodeprobe_agent_processes) > 0\nand on ({HOST}) max by ({HOST}) (nodeprobe_agent_probes_attached) == 0"
        ),
        lasts: "10m",
        severity: "warning",
        summary: format!("nodeprobe on {WHERE} observes nothing"),
        description: "It knows {{ $value }} Node.js process(es) and has no probe in any of their files. nodeprobe check on the host tells \
            what is in the way."
            .to_owned(),
        runbook: "troubleshooting.md#nodeprobe-does-not-start".to_owned(),
    }
}

fn lost() -> Alert {
    Alert {
        name: "NodeprobeEventsLost",
        expression: format!(
            "sum by ({HOST}, nodeprobe_lost_reason) (increase(nodeprobe_agent_events_lost_total[15m])) > 0"
        ),
        lasts: "15m",
        severity: "info",
        summary: format!("nodeprobe on {WHERE} loses events ({{{{ $labels.nodeprobe_lost_reason }}}})"),
        description: "{{ $value | humanize }} in the last 15 minutes: boards and alerts show too little. The reason tells which limit was \
            reached."
            .to_owned(),
        runbook: "troubleshooting.md#reasons-for-loss".to_owned(),
    }
}

fn failing() -> Alert {
    let failed = r#"nodeprobe_agent_exports_total{nodeprobe_export_outcome=~"failure|partial"}"#;
    Alert {
        name: "NodeprobeExportsFail",
        expression: format!(
            "sum by ({HOST}) (rate({failed}[15m]))\n/ sum by ({HOST}) (rate(nodeprobe_agent_exports_total[15m])) > 0.1"
        ),
        lasts: "15m",
        severity: "warning",
        summary: format!("{{{{ $value | humanizePercentage }}}} of nodeprobe's exports from {WHERE} fail"),
        description: "The collector cannot be reached, or rejects data. Counters catch up with the next export that succeeds; gauges and \
            findings of that time are lost. The agent's log names the error."
            .to_owned(),
        runbook: "troubleshooting.md#export".to_owned(),
    }
}

fn missing() -> Alert {
    Alert {
        name: "NodeprobeSignalUnavailable",
        expression: format!("count by ({SERVICE}, nodeprobe_signal) (nodeprobe_signal_available == 0)"),
        lasts: "1h",
        severity: "info",
        summary: "{{ $labels.service_name }}: the signal {{ $labels.nodeprobe_signal }} is not observed".to_owned(),
        description: "In {{ $value }} process(es) the failure modes that need it cannot be found. nodeprobe ps on the host tells why: a \
            stripped build, an old kernel, missing rights."
            .to_owned(),
        runbook: "troubleshooting.md#a-process-is-missing-or-shows-dashes".to_owned(),
    }
}

fn logs_lost() -> Alert {
    Alert {
        name: "NodeprobeStallLogsLost",
        expression: format!(
            r#"sum by ({HOST}) (increase(nodeprobe_agent_stall_logs_total{{nodeprobe_stall_log_outcome="lost"}}[15m])) > 0"#
        ),
        lasts: "15m",
        severity: "info",
        summary: format!("nodeprobe on {WHERE} loses log records of stalls"),
        description: "{{ $value | humanize }} in the last 15 minutes: no collector of logs took them. Metrics are not concerned.".to_owned(),
        runbook: "troubleshooting.md#export".to_owned(),
    }
}

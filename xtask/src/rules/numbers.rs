//! Alerts on the numbers themselves, where a finding cannot tell how bad it is or comes too late.

use super::{
    INSTANCE,
    yaml::{Alert, Group, Rule},
};
use crate::dashboards::thresholds::{
    HEAP_TIME_TO_LIMIT_S, REJECTIONS_PER_S_CRITICAL, STALLED, TURN_UNDER_WAY_S,
};

const WHO: &str = "{{ $labels.service_name }} {{ $labels.k8s_pod_name }} {{ $labels.service_instance_id }}";

pub(super) fn group() -> Group {
    let alerts = [
        blocked(),
        stalled(),
        saturated(),
        rejections(),
        heap_predicted("NodejsHeapLimitWithinHours", "2h", HEAP_TIME_TO_LIMIT_S.0, "1h", "15m", "warning"),
        heap_predicted(
            "NodejsHeapLimitWithinMinutes",
            "30m",
            critical(HEAP_TIME_TO_LIMIT_S.1),
            "20m",
            "2m",
            "critical",
        ),
        heap_near(),
        memory_near(),
    ];
    Group { name: "nodeprobe.numbers", rules: alerts.into_iter().map(Rule::Alert).collect() }
}

fn critical(threshold: Option<f64>) -> f64 {
    threshold.expect("this mode has a critical threshold")
}

fn blocked() -> Alert {
    let seconds = critical(TURN_UNDER_WAY_S.1);
    Alert {
        name: "NodejsEventLoopBlockedNow",
        expression: format!(
            r#"max by ({INSTANCE}) (nodeprobe_eventloop_iteration_age_seconds{{nodeprobe_thread_type="main"}}) >= {seconds}"#
        ),
        lasts: "30s",
        severity: "critical",
        summary: format!("{WHO} stands still"),
        description: "Its event loop has not turned for {{ $value | humanizeDuration }}: no request is answered, no health check either. \
            nodeprobe trace --stack on the host shows where it hangs; then restart the process."
            .to_owned(),
        runbook: "failure-modes.md#event-loop-starvation".to_owned(),
    }
}

fn stalled() -> Alert {
    let share = critical(STALLED.1);
    Alert {
        name: "NodejsEventLoopStalled",
        expression: format!("instance:nodeprobe_eventloop_stall_time:share_rate5m >= {share}"),
        lasts: "5m",
        severity: "critical",
        summary: format!("{WHO} stands still for {{{{ $value | humanizePercentage }}}} of the time"),
        description: "Turns of its event loop of 50 ms and more take that share of the time, and every request waits for them. The panel of \
            stalls by cause on the board of the service tells what to look at."
            .to_owned(),
        runbook: "failure-modes.md#event-loop-starvation".to_owned(),
    }
}

fn saturated() -> Alert {
    Alert {
        name: "NodejsEventLoopSaturated",
        expression: "service:nodejs_eventloop_utilization:avg > 0.9".to_owned(),
        lasts: "15m",
        severity: "warning",
        summary: "{{ $labels.service_name }}: event loops are {{ $value | humanizePercentage }} busy".to_owned(),
        description: "On the average over its processes there is no time left: requests wait in line, however short each turn is. Start \
            more processes; then look for what each request costs."
            .to_owned(),
        runbook: "failure-modes.md#event-loop-starvation".to_owned(),
    }
}

fn rejections() -> Alert {
    let per_second = REJECTIONS_PER_S_CRITICAL.0;
    Alert {
        name: "NodejsUnhandledRejectionsMany",
        expression: format!(
            "sum by ({INSTANCE}) (rate(nodeprobe_promise_unhandled_rejections_total[5m])) >= {per_second}"
        ),
        lasts: "2m",
        severity: "critical",
        summary: format!("{WHO}: {{{{ $value | humanize }}}} failures per second that nobody handles"),
        description: "So much of its work fails without an answer that something it depends on is probably down. nodeprobe diagnose on the \
            host names the function that fails."
            .to_owned(),
        runbook: "failure-modes.md#unhandled-rejections".to_owned(),
    }
}

/// A straight line through the lower edge of the heap, of a process that is old enough for one.
fn heap_predicted(
    name: &'static str,
    window: &str,
    horizon_s: f64,
    age: &str,
    lasts: &'static str,
    severity: &'static str,
) -> Alert {
    let used = "instance:nodeprobe_heap_used_bytes:min10m";
    Alert {
        name,
        expression: format!(
            "predict_linear({used}[{window}], {horizon_s})\n\
             > on ({INSTANCE}) instance:nodeprobe_heap_limit_bytes:max\n\
             and on ({INSTANCE}) {used} offset {age}"
        ),
        lasts,
        severity,
        summary: format!("{WHO} will reach the limit of its heap"),
        description: format!(
            "As its heap grew over the last {window}, V8 aborts the process within {:.0} minutes (exit code 134). Take a heap snapshot of \
             it if it may stand still for that, then restart it.",
            horizon_s / 60.0
        ),
        runbook: "failure-modes.md#heap-growth".to_owned(),
    }
}

fn heap_near() -> Alert {
    Alert {
        name: "NodejsHeapNearLimit",
        expression: "instance:nodeprobe_heap_used:share_of_limit > 0.9".to_owned(),
        lasts: "10m",
        severity: "warning",
        summary: format!("{WHO} uses {{{{ $value | humanizePercentage }}}} of its heap"),
        description: "V8 collects ever more often to find ever less, and aborts the process at the limit (exit code 134). Raise \
            --max-old-space-size if the container has the memory, else restart it and look for what is kept."
            .to_owned(),
        runbook: "failure-modes.md#heap-growth".to_owned(),
    }
}

fn memory_near() -> Alert {
    Alert {
        name: "NodejsMemoryNearContainerLimit",
        expression: "instance:process_memory_usage:share_of_limit > 0.9".to_owned(),
        lasts: "10m",
        severity: "warning",
        summary: format!("{WHO} uses {{{{ $value | humanizePercentage }}}} of its container's memory"),
        description: "At the limit the kernel kills it (exit code 137, OOMKilled) without a line in its log. If the heap is flat, buffers \
            or native code grow; otherwise see the heap."
            .to_owned(),
        runbook: "failure-modes.md#heap-growth".to_owned(),
    }
}

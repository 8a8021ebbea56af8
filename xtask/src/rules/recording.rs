//! What alerts and long ranges on boards would compute again and again.

use super::{
    INSTANCE, SERVICE,
    yaml::{Group, Rule},
};

const WALL: &str = r#"rate(nodejs_eventloop_time_seconds_total{nodeprobe_thread_type="main"}[5m])"#;
const STALLED: &str =
    r#"rate(nodeprobe_eventloop_stall_time_seconds_total{nodeprobe_thread_type="main"}[5m])"#;
const GC: &str = "rate(v8js_gc_duration_seconds_sum[5m])";
/// The agent has metrics of the same names about itself.
const OF_PROCESSES: &str = "and on (service_name, service_instance_id) nodeprobe_signal_available";

pub(super) fn groups() -> Vec<Group> {
    let record = |(name, expression): (&'static str, String)| Rule::Record { name, expression };
    let services = [
        (
            "service:nodejs_eventloop_utilization:avg",
            format!(
                r#"avg by ({SERVICE}) (nodejs_eventloop_utilization_ratio{{nodeprobe_thread_type="main"}})"#
            ),
        ),
        (
            "service:nodeprobe_eventloop_iteration_duration_seconds:p99_rate5m",
            format!(
                "histogram_quantile(0.99, sum by (le, {SERVICE}) (\n\
                 rate(nodeprobe_eventloop_iteration_duration_seconds_bucket{{nodeprobe_thread_type=\"main\"}}[5m])\n))"
            ),
        ),
        (
            "service:nodeprobe_eventloop_stall_time:share_rate5m",
            format!("sum by ({SERVICE}) ({STALLED})\n/ sum by ({SERVICE}) ({WALL})"),
        ),
        (
            "service:v8js_gc_duration:share_rate5m",
            format!("sum by ({SERVICE}) ({GC})\n/ sum by ({SERVICE}) ({WALL})"),
        ),
    ];
    let instances = [
        (
            "instance:nodeprobe_eventloop_stall_time:share_rate5m",
            format!("sum by ({INSTANCE}) ({STALLED})\n/ sum by ({INSTANCE}) ({WALL})"),
        ),
        // Between two full collections a heap rises and falls; its lower edge is what survives.
        (
            "instance:nodeprobe_heap_used_bytes:min10m",
            format!("max by ({INSTANCE}) (min_over_time(nodeprobe_heap_used_bytes[10m]))"),
        ),
        (
            "instance:nodeprobe_heap_limit_bytes:max",
            format!("max by ({INSTANCE}) (nodeprobe_heap_limit_bytes)"),
        ),
        (
            "instance:nodeprobe_heap_used:share_of_limit",
            format!("max by ({INSTANCE}) (nodeprobe_heap_used_bytes / nodeprobe_heap_limit_bytes)"),
        ),
        (
            "instance:process_memory_usage:share_of_limit",
            format!(
                "max by ({INSTANCE}) ((process_memory_usage_bytes {OF_PROCESSES}) / nodeprobe_memory_limit_bytes)"
            ),
        ),
    ];
    vec![
        Group { name: "nodeprobe.services", rules: services.into_iter().map(record).collect() },
        Group { name: "nodeprobe.instances", rules: instances.into_iter().map(record).collect() },
    ]
}

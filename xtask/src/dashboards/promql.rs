//! The words that expressions of several boards share.
//!
//! In an expression `@` stands for the matchers of the board's variables. A process is known by `service_name` and
//! `service_instance_id`: both are there however the metrics came. The labels of Kubernetes are absent on a plain host;
//! a matcher `=~".*"` takes that as well, and so does `by`.

use super::metrics::{LOOP_TIME, SIGNAL_AVAILABLE};

/// Matchers for the variables that every board of processes has.
pub(super) const SELECTOR: &str = concat!(
    r#"k8s_cluster_name=~"$cluster", k8s_namespace_name=~"$namespace", "#,
    r#"service_name=~"$service", service_instance_id=~"$instance""#
);
/// What is one service.
pub(super) const SERVICE: &str = "k8s_cluster_name, k8s_namespace_name, service_namespace, service_name";
/// What is one process.
pub(super) const INSTANCE: &str = concat!(
    "k8s_cluster_name, k8s_namespace_name, k8s_pod_name, k8s_container_name, ",
    "service_namespace, service_name, service_instance_id"
);
/// In Kubernetes namespace, pod and container, so a legend needs no more.
pub(super) const INSTANCE_LEGEND: &str = "{{service_instance_id}}";
pub(super) const MAIN: &str = r#"nodeprobe_thread_type="main""#;

/// `metric{@, more}`
pub(super) fn select(metric: &str, more: &str) -> String {
    if more.is_empty() { format!("{metric}{{@}}") } else { format!("{metric}{{@, {more}}}") }
}

/// Growth per second.
pub(super) fn rate(metric: &str, more: &str) -> String {
    format!("rate({}[$__rate_interval])", select(metric, more))
}

/// Growth over the time that the board shows. A series that was not there at its begin counts from zero: it comes with its
/// first value, and that is no growth to `increase`. One that only was not scraped then was there within the hour before.
pub(super) fn growth(metric: &str, more: &str) -> String {
    let series = select(metric, more);
    format!(
        "((last_over_time({series}[$__range]) unless last_over_time({series}[1h] offset $__range)) or increase({series}[$__range]))"
    )
}

pub(super) fn by(operator: &str, labels: &str, expression: &str) -> String {
    if labels.is_empty() {
        format!("{operator}({expression})")
    } else {
        format!("{operator} by ({labels}) ({expression})")
    }
}

pub(super) fn sum(labels: &str, expression: &str) -> String {
    by("sum", labels, expression)
}

pub(super) fn max(labels: &str, expression: &str) -> String {
    by("max", labels, expression)
}

/// Observed time of main threads per second: how many of them there are.
pub(super) fn wall(labels: &str) -> String {
    sum(labels, &rate(LOOP_TIME, MAIN))
}

/// Of the observed time of main threads, the share that `time` took, over each set of `labels`. Never more than all of it: the
/// last export of a process that was killed in a long turn has the stall, and the time of the loop ends before it.
pub(super) fn share(labels: &str, time: &str, more: &str) -> String {
    format!("clamp_max({} / {}, 1)", sum(labels, &rate(time, more)), wall(labels))
}

/// The same, divided once more by `label`.
pub(super) fn share_by(labels: &str, label: &str, time: &str, more: &str) -> String {
    share_of(labels, label, &rate(time, more))
}

/// The same of a time per second.
pub(super) fn share_of(labels: &str, label: &str, rate: &str) -> String {
    let both = if labels.is_empty() { label.to_owned() } else { format!("{labels}, {label}") };
    let wall = wall(labels);
    format!("clamp_max({} / ignoring ({label}) group_left () {wall}, 1)", sum(&both, rate))
}

/// A quantile of a histogram with explicit buckets.
pub(super) fn quantile(q: &str, labels: &str, histogram: &str, more: &str) -> String {
    let labels = if labels.is_empty() { "le".to_owned() } else { format!("le, {labels}") };
    format!("histogram_quantile({q}, {})", sum(&labels, &rate(&format!("{histogram}_bucket"), more)))
}

/// Only Node.js processes: the agent has metrics of the same names about itself.
pub(super) fn of_processes(expression: &str) -> String {
    let there = select(SIGNAL_AVAILABLE, "");
    format!("{expression} and on (service_name, service_instance_id) {there}")
}

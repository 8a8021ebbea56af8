use std::collections::BTreeSet;

use nodeprobe_ebpf::histogram::TURN_BOUNDS_NS;

use super::*;
use crate::{
    export::families::Since,
    model::catalog::{
        EVENTLOOP_UTILIZATION, GC_DURATION, ITERATION_DURATION, LOOP_STATE, PROCESS_MEMORY_USAGE, STDIO_IO,
        STDIO_RETRIES, THREAD_TYPE,
    },
};

fn number(metric: &'static Metric, attributes: Attributes<'static>, number: Number) -> Family<'static> {
    Family::numbers(metric, Since::Counters, [(attributes, number)]).unwrap()
}

fn rendered(format: Format, families: &[Family<'_>]) -> String {
    let mut exposition = Exposition::new(format);
    exposition.add(r#"job="shop""#, families);
    exposition.finish()
}

/// Without the texts of help.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("# HELP")).collect()
}

#[test]
fn a_counter_is_named_without_total_in_open_metrics_only() {
    let families = [number(&STDIO_IO, vec![], Number::Whole(4096))];
    assert_eq!(
        lines(&rendered(Format::Text, &families)),
        [
            "# TYPE nodeprobe_stdio_io_bytes_total counter",
            r#"nodeprobe_stdio_io_bytes_total{job="shop"} 4096"#
        ]
    );
    assert_eq!(
        lines(&rendered(Format::OpenMetrics, &families)),
        [
            "# TYPE nodeprobe_stdio_io_bytes counter",
            "# UNIT nodeprobe_stdio_io_bytes bytes",
            r#"nodeprobe_stdio_io_bytes_total{job="shop"} 4096"#,
            "# EOF"
        ]
    );
}

#[test]
fn gauges_have_the_unit_of_their_name() {
    let families = [
        number(&EVENTLOOP_UTILIZATION, vec![(THREAD_TYPE, "main")], Number::Real(0.75)),
        number(&PROCESS_MEMORY_USAGE, vec![], Number::Whole(1 << 40)),
        number(&STDIO_RETRIES, vec![], Number::Whole(0)),
    ];
    let text = rendered(Format::OpenMetrics, &families);
    for line in [
        "# UNIT nodejs_eventloop_utilization_ratio ratio",
        r#"nodejs_eventloop_utilization_ratio{job="shop",nodeprobe_thread_type="main"} 0.75"#,
        "# TYPE process_memory_usage_bytes gauge",
        r#"process_memory_usage_bytes{job="shop"} 1099511627776"#,
        "# TYPE nodeprobe_stdio_write_retries counter",
    ] {
        assert!(lines(&text).contains(&line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("# UNIT nodeprobe_stdio_write_retries"), "an annotation is no unit");
}

#[test]
fn a_histogram_has_cumulative_buckets_with_bounds_as_the_format_writes_them() {
    let histogram = Histogram::of([2_000_000, 900_000_000, 20_000_000_000], &TURN_BOUNDS_NS);
    let family = Family {
        metric: &ITERATION_DURATION,
        since: Since::Durations,
        points: Points::Histograms(vec![(vec![(THREAD_TYPE, "main")], &histogram)]),
    };
    let name = "nodeprobe_eventloop_iteration_duration_seconds";
    let labels = r#"job="shop",nodeprobe_thread_type="main""#;
    for (format, one) in [(Format::Text, "1"), (Format::OpenMetrics, "1.0")] {
        let text = rendered(format, std::slice::from_ref(&family));
        for line in [
            format!("# TYPE {name} histogram"),
            format!("{name}_bucket{{{labels},le=\"0.001\"}} 0"),
            format!("{name}_bucket{{{labels},le=\"0.0025\"}} 1"),
            format!("{name}_bucket{{{labels},le=\"{one}\"}} 2"),
            format!("{name}_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("{name}_sum{{{labels}}} 20.902"),
            format!("{name}_count{{{labels}}} 3"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("_bucket{").count(), TURN_BOUNDS_NS.len() + 1);
    }
}

#[test]
fn every_bound_is_written_without_an_exponent() {
    // Below 0.0001 and from 1e6 on the canonical form of `OpenMetrics` has one.
    for metric in ALL {
        assert!(
            metric.bounds_ns.iter().all(|ns| (100_000..1_000_000_000_000_000).contains(ns)),
            "{metric:?}"
        );
    }
}

#[test]
fn a_family_stands_once_whoever_has_series_of_it() {
    let families = [number(&STDIO_IO, vec![], Number::Whole(1))];
    let mut exposition = Exposition::new(Format::Text);
    exposition.add(r#"job="a""#, &families);
    exposition.add(r#"job="b""#, &families);
    exposition.add_info(r#"job="a""#);
    let text = exposition.finish();
    assert_eq!(text.matches("# TYPE nodeprobe_stdio_io_bytes_total").count(), 1);
    assert!(text.ends_with("total{job=\"a\"} 1\nnodeprobe_stdio_io_bytes_total{job=\"b\"} 1\n"), "{text}");
    assert!(text.contains("# TYPE target_info gauge\ntarget_info{job=\"a\"} 1\n"), "{text}");
}

#[test]
fn target_info_has_a_type_of_its_own_in_open_metrics() {
    let mut exposition = Exposition::new(Format::OpenMetrics);
    exposition.add_info(r#"job="a""#);
    assert_eq!(
        exposition.finish(),
        "# HELP target Target metadata\n# TYPE target info\ntarget_info{job=\"a\"} 1\n# EOF\n"
    );
}

#[test]
fn help_is_escaped_as_each_format_asks() {
    let (mut text, mut open_metrics) = (String::new(), String::new());
    push_head(&mut text, Format::Text, "x", "gauge", None, "a \"b\" \\ c\nd");
    push_head(&mut open_metrics, Format::OpenMetrics, "x", "gauge", None, "a \"b\" \\ c\nd");
    assert!(text.starts_with("# HELP x a \"b\" \\\\ c\\nd\n"), "{text}");
    assert!(open_metrics.starts_with("# HELP x a \\\"b\\\" \\\\ c\\nd\n"), "{open_metrics}");
}

#[test]
fn names_of_families_and_labels_are_valid_and_clash_with_nothing() {
    let mut names = BTreeSet::from(["target".to_owned(), "target_info".to_owned()]);
    for metric in ALL {
        let name = metric.prometheus_name();
        // In OpenMetrics the name without `_total` is taken, too.
        let family = name.strip_suffix("_total").unwrap_or(&name).to_owned();
        assert!(names.insert(family), "{name}");
        for attribute in metric.attributes {
            let label = label_name(attribute.key);
            let valid = label.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
            assert!(valid && label != "le", "{label}");
        }
    }
    assert_eq!(
        (GC_DURATION.prometheus_name(), label_name(LOOP_STATE.key)),
        ("v8js_gc_duration_seconds".to_owned(), "nodejs_eventloop_state".to_owned())
    );
}

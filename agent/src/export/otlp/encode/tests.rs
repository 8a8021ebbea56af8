#![expect(
    clippy::float_cmp,
    reason = "what is compared went through unchanged, or is a short binary fraction"
)]

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{AggregationTemporality, metric::Data, number_data_point::Value as Number},
};

use super::*;
use crate::{
    export::fixture,
    model::{
        Availability, CpuPeriods, Notice, NoticeKind, Process, Signal, Snapshot, StreamKind, ThreadKind,
        catalog::{ITERATION_DURATION, Instrument, OVERFLOW, Subject},
    },
};

mod totals;

use fixture::{MS, SECOND, at, blaming, process, snapshot, thread, turns};

struct Exporter {
    encoder: Encoder,
    state: State,
}

impl Exporter {
    fn new(temporality: Temporality) -> Self {
        Self::shaped(temporality, HistogramAggregation::ExplicitBucket)
    }

    fn shaped(temporality: Temporality, histograms: HistogramAggregation) -> Self {
        let encoder = Encoder { temporality, histograms, semconv: true, host: HostAttributes::default() };
        Self { encoder, state: State::new(temporality) }
    }

    /// Encodes after one more snapshot; `accepted`: the collector takes it.
    fn export(&mut self, time: SystemTime, processes: Vec<Process>, accepted: bool) -> Vec<ResourceMetrics> {
        self.export_snapshot(&snapshot(time, processes), accepted)
    }

    fn export_snapshot(&mut self, snapshot: &Snapshot, accepted: bool) -> Vec<ResourceMetrics> {
        self.state.observe(snapshot);
        let batches = self.encoder.batches(&self.state, LARGEST_REQUEST);
        if accepted {
            for batch in &batches {
                self.state.accepted(&batch.processes);
            }
        }
        batches.into_iter().flat_map(|batch| batch.request.resource_metrics).collect()
    }

    fn export_one(&mut self, time: SystemTime, process: Process, accepted: bool) -> ResourceMetrics {
        let mut all = self.export(time, vec![process], accepted);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// A point of any kind, reduced to what the tests look at.
#[derive(Debug, PartialEq)]
struct Point {
    value: f64,
    count: u64,
    start_s: u64,
    end_s: u64,
    max: Option<f64>,
    temporality: Option<AggregationTemporality>,
}

const BASE: u64 = 1_767_225_600;

fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    attributes
        .iter()
        .map(|a| match a.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(Value::StringValue(text)) => (a.key.clone(), text.clone()),
            other => (a.key.clone(), format!("{other:?}")),
        })
        .collect()
}

/// All points of a metric whose attributes have all of `values`; times relative to `at(0)`.
fn points(of: &ResourceMetrics, name: &str, values: &[&str]) -> Vec<Point> {
    let wanted = |attributes: &[KeyValue]| {
        let labels = labels(attributes);
        values.iter().all(|value| labels.iter().any(|(_, label)| label == value))
    };
    let relative = |nanos: u64| (nanos / SECOND).saturating_sub(BASE);
    let mut found = Vec::new();
    for metric in of.scope_metrics[0].metrics.iter().filter(|metric| metric.name == name) {
        let (numbers, temporality) = match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => (&gauge.data_points, None),
            Data::Sum(sum) => (&sum.data_points, Some(sum.aggregation_temporality())),
            Data::Histogram(histogram) => {
                found.extend(histogram.data_points.iter().filter(|p| wanted(&p.attributes)).map(|p| Point {
                    value: p.sum.unwrap(),
                    count: p.count,
                    start_s: relative(p.start_time_unix_nano),
                    end_s: relative(p.time_unix_nano),
                    max: p.max,
                    temporality: Some(histogram.aggregation_temporality()),
                }));
                continue;
            }
            other => panic!("{other:?}"),
        };
        found.extend(numbers.iter().filter(|p| wanted(&p.attributes)).map(|p| Point {
            value: match p.value.unwrap() {
                Number::AsDouble(value) => value,
                Number::AsInt(value) => value as f64,
            },
            count: 0,
            start_s: relative(p.start_time_unix_nano),
            end_s: relative(p.time_unix_nano),
            max: None,
            temporality,
        }));
    }
    found
}

fn point(of: &ResourceMetrics, name: &str, values: &[&str]) -> Point {
    let mut found = points(of, name, values);
    assert_eq!(found.len(), 1, "{name} {values:?}: {found:?}");
    found.remove(0)
}

fn attribute(of: &ResourceMetrics, key: &str) -> Option<String> {
    labels(&of.resource.as_ref().unwrap().attributes).into_iter().find(|(k, _)| k == key).map(|(_, v)| v)
}

#[test]
fn every_process_metric_of_the_catalogue_is_encoded_as_it_says_and_no_other() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let encoded = exporter.export_snapshot(&blaming(at(60), vec![process(7)]), true).remove(0);
    let metrics = &encoded.scope_metrics[0].metrics;
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    let expected: Vec<&str> =
        catalog::ALL.iter().filter(|m| m.subject != Subject::Agent).map(|m| m.name).collect();
    assert_eq!(names, expected);
    for metric in metrics {
        let entry = catalog::ALL.iter().find(|entry| entry.name == metric.name).unwrap();
        assert_eq!((metric.unit.as_str(), metric.description.as_str()), (entry.unit, entry.description));
        let (instrument, attributes): (_, Vec<_>) = match metric.data.as_ref().unwrap() {
            Data::Gauge(g) => (Instrument::Gauge, g.data_points.iter().map(|p| &p.attributes).collect()),
            Data::Sum(s) if s.is_monotonic => {
                (Instrument::Counter, s.data_points.iter().map(|p| &p.attributes).collect())
            }
            Data::Sum(s) => {
                (Instrument::UpDownCounter, s.data_points.iter().map(|p| &p.attributes).collect())
            }
            Data::Histogram(h) => {
                let bounds: Vec<u64> = h.data_points[0]
                    .explicit_bounds
                    .iter()
                    .map(|seconds| (seconds * 1e9).round() as u64)
                    .collect();
                assert_eq!(bounds, entry.bounds_ns, "{}", metric.name);
                assert_eq!(h.data_points[0].bucket_counts.len(), bounds.len() + 1);
                (Instrument::Histogram, h.data_points.iter().map(|p| &p.attributes).collect())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(instrument, entry.instrument, "{}", metric.name);
        let mut series = BTreeSet::new();
        for attributes in attributes {
            let labels = labels(attributes);
            let keys: BTreeSet<&str> = labels.iter().map(|(key, _)| key.as_str()).collect();
            let expected = entry.attributes.iter().filter(|attribute| **attribute != OVERFLOW);
            assert_eq!(keys, expected.map(|a| a.key).collect(), "{}", metric.name);
            for (key, value) in &labels {
                let attribute = entry.attributes.iter().find(|a| a.key == key).unwrap();
                let is_known = attribute.values.is_empty() || attribute.values.contains(&value.as_str());
                assert!(is_known, "{}: {key}={value}", metric.name);
            }
            assert!(series.insert(labels), "{}: a series twice", metric.name);
        }
    }
}

#[test]
fn exponential_buckets_are_those_of_the_otlp_definition() {
    // 300 ns lies below the first octave that is kept and belongs into the zero bucket.
    let durations = [300, 5_000, 1_234_567, 1_300_000, 40 * MS, 3 * SECOND];
    let mut subject = process(7);
    subject.threads = vec![thread(7, ThreadKind::Main)];
    subject.threads[0].turns = turns(&durations);
    let mut exporter =
        Exporter::shaped(Temporality::Cumulative, HistogramAggregation::Base2ExponentialBucket);
    let encoded = exporter.export_one(at(20), subject, true);
    let metric = encoded.scope_metrics[0].metrics.iter().find(|m| m.name == ITERATION_DURATION.name).unwrap();
    let Some(Data::ExponentialHistogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.zero_count, point.scale), (6, 1, 3));
    assert!(point.zero_threshold > 300e-9 && point.zero_threshold < 5e-6);
    let buckets = point.positive.as_ref().unwrap();
    // index = ceil(log_base(value)) - 1 with base = 2^(2^-scale), opentelemetry/proto/metrics/v1.
    let index = |ns: u64| ((ns as f64 / 1e9).log2() * 8.0).ceil() as i32 - 1;
    let mut expected = vec![0; (index(3 * SECOND) - index(5_000) + 1) as usize];
    for duration in &durations[1..] {
        expected[(index(*duration) - index(5_000)) as usize] += 1;
    }
    assert_eq!(buckets.offset, index(5_000));
    assert_eq!(buckets.bucket_counts, expected);
}

#[test]
fn an_exponential_histogram_without_durations_has_no_buckets() {
    let mut subject = process(7);
    subject.threads = vec![thread(7, ThreadKind::Main)];
    let mut exporter =
        Exporter::shaped(Temporality::Cumulative, HistogramAggregation::Base2ExponentialBucket);
    let encoded = exporter.export_one(at(20), subject, true);
    let metric = encoded.scope_metrics[0].metrics.iter().find(|m| m.name == ITERATION_DURATION.name).unwrap();
    let Some(Data::ExponentialHistogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.zero_count), (0, 0));
    assert!(point.positive.as_ref().unwrap().bucket_counts.is_empty());
}

#[test]
fn requests_stay_below_the_limit_and_never_divide_a_process() {
    let mut state = State::new(Temporality::Cumulative);
    state.observe(&snapshot(at(60), (1..=50).map(|pid| process(pid * 10)).collect()));
    let encoder = Exporter::new(Temporality::Cumulative).encoder;
    let whole = encoder.batches(&state, LARGEST_REQUEST);
    assert_eq!(whole.len(), 1);
    let limit = whole[0].request.encoded_len() / 4;
    let batches = encoder.batches(&state, limit);
    assert!(batches.len() >= 4 && batches.len() <= 6, "{}", batches.len());
    assert!(batches.iter().all(|batch| batch.request.encoded_len() <= limit));
    let ids: Vec<_> = batches.iter().flat_map(|batch| batch.processes.clone()).collect();
    assert_eq!(ids, (1..=50).map(|pid| process(pid * 10).id).collect::<Vec<_>>());
    for batch in &batches {
        assert_eq!(batch.request.resource_metrics.len(), batch.processes.len());
    }
    // A process that is larger than the limit by itself is sent alone rather than never.
    assert_eq!(encoder.batches(&state, 1).len(), 50);
}

#[test]
fn fifteen_hundred_processes_are_divided_at_4_mib() {
    let mut state = State::new(Temporality::Cumulative);
    state.observe(&snapshot(at(60), (1..=1500).map(|pid| process(pid * 10)).collect()));
    let batches = Exporter::new(Temporality::Cumulative).encoder.batches(&state, LARGEST_REQUEST);
    assert!(batches.len() > 1);
    assert!(batches.iter().all(|batch| batch.request.encoded_len() <= 4 * 1024 * 1024));
}

#[test]
fn a_signal_that_is_not_observed_is_absent_and_said_to_be() {
    let mut subject = process(7);
    let mut signals = (*subject.signals).clone();
    signals.insert(Signal::Gc, Availability::Unavailable(Arc::from("no symbol")));
    signals.remove(&Signal::Stdio);
    subject.signals = Arc::new(signals);
    let encoded = Exporter::new(Temporality::Cumulative).export_one(at(20), subject, true);
    assert_eq!(points(&encoded, "v8js.gc.duration", &[]), []);
    assert_eq!(points(&encoded, "nodeprobe.stdio.io", &[]), []);
    assert_eq!(point(&encoded, "nodeprobe.signal.available", &["gc"]).value, 0.0);
    assert_eq!(point(&encoded, "nodeprobe.signal.available", &["stdio"]).value, 0.0);
    assert_eq!(point(&encoded, "nodeprobe.signal.available", &["event_loop"]).value, 1.0);
    assert!(!points(&encoded, "nodejs.eventloop.time", &[]).is_empty());
}

#[test]
fn a_full_heap_is_told_of_a_process_whose_heap_is_not_observed() {
    let mut subject = process(7);
    let mut signals = (*subject.signals).clone();
    signals.insert(Signal::Heap, Availability::Unavailable(Arc::from("stripped")));
    subject.signals = Arc::new(signals);
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let active = |encoded: &ResourceMetrics| points(encoded, "nodeprobe.finding.active", &["heap-growth"]);
    let before = exporter.export_one(at(20), subject.clone(), true);
    assert_eq!(active(&before), [], "whether it is well is not known");
    let (id, time) = (subject.id, at(21));
    let mut end = snapshot(time, vec![subject]);
    end.notices.push(Notice { process: id, tid: id.pid, kind: NoticeKind::OutOfMemory, time });
    exporter.state.observe(&end);
    let batches = exporter.encoder.batches(&exporter.state, LARGEST_REQUEST);
    let told = active(&batches[0].request.resource_metrics[0]);
    assert_eq!(told.iter().map(|point| point.value).collect::<Vec<_>>(), [1.0]);
}

#[test]
fn stalls_whose_causes_are_not_observed_are_of_unknown_cause() {
    let mut subject = process(7);
    let mut signals = (*subject.signals).clone();
    signals.insert(Signal::Sched, Availability::Unavailable(Arc::from("no tracepoint")));
    subject.signals = Arc::new(signals);
    let encoded = Exporter::new(Temporality::Cumulative).export_one(at(20), subject, true);
    assert_eq!(points(&encoded, "nodeprobe.eventloop.stall.time", &["main"]).len(), 1);
    assert_eq!(point(&encoded, "nodeprobe.eventloop.stall.time", &["main", "unknown"]).value, 0.2);
}

#[test]
fn a_clock_that_was_set_back_never_ends_a_point_before_its_start() {
    let encoded = Exporter::new(Temporality::Cumulative).export_one(at(5), process(7), true);
    let turns = point(&encoded, "nodeprobe.eventloop.iteration.duration", &["main"]);
    assert_eq!((turns.start_s, turns.end_s), (5, 5));
}

#[test]
fn names_that_the_application_may_export_can_be_left_out() {
    let names = |semconv: bool| -> Vec<String> {
        let mut exporter = Exporter::new(Temporality::Cumulative);
        exporter.encoder.semconv = semconv;
        let encoded = exporter.export_one(at(20), process(7), true);
        encoded.scope_metrics[0].metrics.iter().map(|metric| metric.name.clone()).collect()
    };
    let (all, own) = (names(true), names(false));
    let of_others =
        |name: &&String| ["nodejs.", "v8js.", "process."].iter().any(|begin| name.starts_with(begin));
    assert_eq!(all.iter().filter(of_others).count(), 6, "{all:?}");
    assert_eq!(own.iter().filter(of_others).count(), 0, "{own:?}");
    assert!(own.iter().all(|name| name.starts_with("nodeprobe.")) && own.len() == all.len() - 6, "{own:?}");
}

#[test]
fn the_resource_describes_the_process_and_never_the_agent() {
    let lookup = |name: &str| {
        (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| {
            "service.name=agent,service.version=9,k8s.pod.name=agent-pod,k8s.cluster.name=prod,host.name=real,\
             deployment.environment.name=live,team=blue"
                .into()
        })
    };
    let overrides = super::super::config::Overrides::default();
    let host = super::super::config::HostFacts {
        name: Some("pod".to_owned()),
        id: Some("machine".to_owned()),
        node: Some("worker-3".to_owned()),
    };
    let resolved = super::super::config::resolve(&lookup, &overrides, host).unwrap();
    let mut exporter = Exporter::new(Temporality::Cumulative);
    exporter.encoder.host = HostAttributes::new(&resolved.config);
    let encoded = exporter.export_one(at(20), process(7), true);
    assert_eq!(encoded.schema_url, "https://opentelemetry.io/schemas/1.44.0");
    let scope = encoded.scope_metrics[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("nodeprobe", env!("CARGO_PKG_VERSION")));
    for (key, expected) in [
        ("service.name", Some("shop-7")),
        ("service.namespace", Some("sales")),
        ("service.version", Some("1.2.3")),
        ("service.instance.id", Some("instance-7")),
        ("process.pid", Some("Some(IntValue(7))")),
        ("process.vpid", Some("Some(IntValue(1))")),
        ("host.id", Some("machine")),
        ("host.arch", Some(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" })),
        ("os.type", Some("linux")),
        ("k8s.node.name", Some("worker-3")),
        ("process.creation.time", Some("2026-01-01T00:00:00.000Z")),
        ("process.executable.path", Some("/usr/local/bin/node")),
        ("process.executable.name", Some("node")),
        ("process.runtime.name", Some("nodejs")),
        ("process.runtime.version", Some("24.21.0")),
        ("container.id", Some("c0ffee")),
        ("host.name", Some("real")),
        ("k8s.cluster.name", Some("prod")),
        ("deployment.environment.name", Some("live")),
        ("telemetry.sdk.name", Some("nodeprobe")),
        ("telemetry.sdk.language", Some("nodejs")),
        ("team", Some("red")),
        ("k8s.pod.name", None),
    ] {
        assert_eq!(attribute(&encoded, key).as_deref(), expected, "{key}");
    }
}

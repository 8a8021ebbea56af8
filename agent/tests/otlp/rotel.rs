//! rotel, a collector that prints what it receives: over gRPC and HTTP.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nodeprobe::{
    export::otlp::{Outcome, SendError},
    model::catalog::{self, Instrument, Metric, Subject},
};
use tempfile::TempDir;

use super::{Running, blaming, eventually, exporter, free_port, listening, now, process, snapshot, tool};

/// A metric as rotel printed it.
#[derive(Debug, Default)]
struct Received {
    resource: BTreeMap<String, String>,
    name: String,
    unit: String,
    data_type: String,
    monotonic: bool,
    temporality: String,
    points: Vec<Point>,
}

#[derive(Debug, Default)]
struct Point {
    attributes: BTreeMap<String, String>,
    /// Of a number the value, of a histogram the count.
    value: f64,
}

pub(super) struct Rotel {
    running: Running,
    directory: TempDir,
    pub(super) grpc: u16,
    pub(super) http: u16,
}

impl Rotel {
    /// `None`: the test is skipped.
    pub(super) async fn start() -> Option<Self> {
        Self::start_with("metrics").await
    }

    /// Printing the telemetry of one signal.
    pub(super) async fn start_with(signal: &str) -> Option<Self> {
        Self::start_on(&tool("NODEPROBE_TEST_ROTEL")?, free_port(), free_port(), signal).await
    }

    async fn start_on(executable: &Path, grpc: u16, http: u16, signal: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let output = fs::File::create(directory.path().join("out")).unwrap();
        let child = Command::new(executable)
            .args(["start", "--exporter", "blackhole", "--debug-log", signal])
            .args(["--debug-log-verbosity", "detailed", "--pid-file"])
            .arg(directory.path().join("pid"))
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let rotel = Self { running: Running(child), directory, grpc, http };
        listening(grpc).await;
        listening(http).await;
        Some(rotel)
    }

    fn stop(self) {
        drop(self.running);
    }

    fn received(&self) -> Vec<Received> {
        parse(&fs::read_to_string(self.directory.path().join("out")).unwrap())
    }

    /// Once rotel has printed this.
    pub(super) async fn prints(&self, text: &str) {
        let output = self.directory.path().join("out");
        eventually(text, async || fs::read_to_string(&output).unwrap().contains(text).then_some(())).await;
    }

    /// Once rotel has printed `exports` points of the metric.
    async fn metric(&self, service: &str, name: &str, exports: usize) -> Vec<Received> {
        eventually(name, async || {
            let found: Vec<_> = self
                .received()
                .into_iter()
                .filter(|metric| metric.name == name && metric.resource["service.name"] == service)
                .collect();
            (found.len() >= exports).then_some(found)
        })
        .await
    }

    pub(super) async fn has(&self, service: &str) {
        self.metric(service, "process.memory.usage", 1).await;
    }
}

/// The lines are `-> key: Type(value)` and `Name: value` under headings that begin a resource, metric or point.
fn parse(output: &str) -> Vec<Received> {
    let mut metrics: Vec<Received> = Vec::new();
    let mut resource = BTreeMap::new();
    let mut heading = String::new();
    for line in output.lines().map(str::trim) {
        if line.starts_with("ResourceMetrics #") {
            resource = BTreeMap::new();
        } else if line.starts_with("Metric #") {
            metrics.push(Received { resource: resource.clone(), ..Received::default() });
        } else if line.contains("DataPoints #") {
            metrics.last_mut().unwrap().points.push(Point::default());
        }
        if line.ends_with(':') || line.contains(" #") {
            line.clone_into(&mut heading);
        }
        let Some((key, value)) = line.trim_start_matches("-> ").split_once(": ") else { continue };
        let inner = value.split_once('(').map_or(value, |(_, rest)| rest.trim_end_matches(')'));
        if heading == "Resource attributes:" {
            resource.insert(key.to_owned(), inner.to_owned());
        }
        let Some(metric) = metrics.last_mut() else { continue };
        match (heading.as_str(), key) {
            ("Descriptor:", "Name") => value.clone_into(&mut metric.name),
            ("Descriptor:", "Unit") => value.clone_into(&mut metric.unit),
            ("Descriptor:", "DataType") => value.clone_into(&mut metric.data_type),
            ("Descriptor:", "IsMonotonic") => metric.monotonic = value == "true",
            ("Descriptor:", "AggregationTemporality") => value.clone_into(&mut metric.temporality),
            (_, "Value" | "Count") => {
                if let Some(point) = metric.points.last_mut() {
                    point.value = value.parse().unwrap();
                }
            }
            ("Data point attributes:", key) if line.starts_with("->") => {
                let point = metric.points.last_mut().unwrap();
                point.attributes.insert(key.to_owned(), inner.to_owned());
            }
            _ => {}
        }
    }
    metrics
}

fn of<'a>(metrics: &'a [Received], service: &str, entry: &Metric) -> &'a Received {
    let wanted = |m: &&Received| m.name == entry.name && m.resource["service.name"] == service;
    metrics.iter().find(wanted).unwrap_or_else(|| panic!("{service} has no {}", entry.name))
}

/// Unit, instrument, temporality and attributes of a metric are those of the catalogue.
fn is_as_the_catalogue_says(received: &Received, entry: &Metric, delta: bool, exponential: bool) {
    assert_eq!(received.unit, entry.unit, "{received:?}");
    let data_type = match entry.instrument {
        Instrument::Gauge => "Gauge",
        Instrument::Counter | Instrument::UpDownCounter => "Sum",
        Instrument::Histogram if exponential => "ExponentialHistogram",
        Instrument::Histogram => "Histogram",
    };
    assert_eq!(received.data_type, data_type, "{received:?}");
    assert_eq!(received.monotonic, entry.instrument == Instrument::Counter, "{received:?}");
    let temporality = match entry.instrument {
        Instrument::Gauge => "",
        Instrument::Counter | Instrument::Histogram if delta => "AGGREGATION_TEMPORALITY_DELTA",
        _ => "AGGREGATION_TEMPORALITY_CUMULATIVE",
    };
    assert_eq!(received.temporality, temporality, "{received:?}");
    assert!(!received.points.is_empty(), "{received:?}");
    for point in &received.points {
        let keys: Vec<&str> = point.attributes.keys().map(String::as_str).collect();
        let attributes = entry.attributes.iter().filter(|attribute| **attribute != catalog::OVERFLOW);
        let mut expected: Vec<&str> = attributes.map(|attribute| attribute.key).collect();
        expected.sort_unstable();
        assert_eq!(keys, expected, "{received:?}");
    }
}

/// Exports a process and the agent, and looks at every metric of the catalogue.
async fn everything_arrives(variables: &[(&str, &str)], rotel: &Rotel, delta: bool, exponential: bool) {
    let (mut exporter, counters) = exporter(variables);
    counters.probes_attached.store(17, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(exporter.export(&blaming(vec![process(4711)])).await, Outcome::Delivered);
    assert_eq!(exporter.shutdown(&now(vec![process(4711)])).await, Outcome::Delivered);
    rotel.metric("shop-4711", "process.uptime", 2).await;
    rotel.metric("nodeprobe", "process.memory.usage", 1).await;
    let received = rotel.received();
    for entry in catalog::ALL {
        if entry.subject != Subject::Agent {
            is_as_the_catalogue_says(of(&received, "shop-4711", entry), entry, delta, exponential);
        }
        if entry.subject != Subject::Process {
            is_as_the_catalogue_says(of(&received, "nodeprobe", entry), entry, delta, exponential);
        }
    }
    let resource = &of(&received, "shop-4711", &catalog::STALL_TIME).resource;
    for (key, value) in [
        ("service.instance.id", "instance-4711"),
        ("service.version", "1.2.3"),
        ("process.pid", "4711"),
        ("process.runtime.name", "nodejs"),
        ("process.runtime.version", "24.21.0"),
        ("container.id", "c0ffee"),
        ("host.name", "test-host"),
        ("telemetry.sdk.name", "nodeprobe"),
    ] {
        assert_eq!(resource.get(key).map(String::as_str), Some(value), "{key}");
    }
    let value = |service, entry, wanted: &[&str]| {
        let points = &of(&received, service, entry).points;
        let matches = |p: &&Point| wanted.iter().all(|w| p.attributes.values().any(|v| v == w));
        points.iter().find(matches).map(|point| point.value)
    };
    // From snapshot.rs: 3 s busy, 3 turns of which 1 is a stall, 1.5 s into the next; 2 GCs on each of 2 threads.
    assert_eq!(value("shop-4711", &catalog::EVENTLOOP_TIME, &["main", "active"]), Some(3.0));
    assert_eq!(value("shop-4711", &catalog::EVENTLOOP_UTILIZATION, &["main"]), Some(0.75));
    assert_eq!(value("shop-4711", &catalog::ITERATION_DURATION, &["worker"]), Some(3.0));
    assert_eq!(value("shop-4711", &catalog::STALL_DURATION, &["main"]), Some(1.0));
    let blamed = ["main", "hash", "/srv/shop/auth.js"];
    assert_eq!(value("shop-4711", &catalog::STALL_CULPRIT_TIME, &blamed), Some(0.2));
    assert_eq!(value("shop-4711", &catalog::ITERATION_AGE, &["main"]), Some(1.5));
    assert_eq!(value("shop-4711", &catalog::GC_DURATION, &["minor"]), Some(4.0));
    assert_eq!(value("shop-4711", &catalog::STDIO_RETRIES, &["stdout", "pipe"]), Some(5.0));
    assert_eq!(value("shop-4711", &catalog::SIGNAL_AVAILABLE, &["gc"]), Some(1.0));
    assert_eq!(value("nodeprobe", &catalog::AGENT_EVENTS_LOST, &["ring_full"]), Some(3.0));
    assert_eq!(value("nodeprobe", &catalog::AGENT_EVENTS_LOST, &["gc_unmatched"]), Some(0.0));
    assert_eq!(value("nodeprobe", &catalog::AGENT_PROBES, &[]), Some(17.0));
    assert_eq!(value("nodeprobe", &catalog::AGENT_PROCESSES, &[]), Some(1.0));
    assert_eq!(value("nodeprobe", &catalog::AGENT_EXPORTS, &["success"]), Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_arrives_by_grpc() {
    let Some(rotel) = Rotel::start().await else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc);
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    everything_arrives(&variables, &rotel, false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_arrives_by_http() {
    let Some(rotel) = Rotel::start().await else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.http);
    everything_arrives(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())], &rotel, false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_and_exponential_histograms_arrive_compressed_by_grpc_and_http() {
    for protocol in ["grpc", "http/protobuf"] {
        let Some(rotel) = Rotel::start().await else { return };
        let port = if protocol == "grpc" { rotel.grpc } else { rotel.http };
        let endpoint = format!("http://127.0.0.1:{port}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue,authorization=Basic%20eDp5"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
            (
                "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
                "base2_exponential_bucket_histogram",
            ),
        ];
        everything_arrives(&variables, &rotel, true, true).await;
    }
}

/// Sums that arrive before, and after the collector was away for one export in which a stall happened.
async fn stalls_around_an_outage(protocol: &str, temporality: &str) -> Option<(f64, f64)> {
    let executable = tool("NODEPROBE_TEST_ROTEL")?;
    let rotel = Rotel::start().await?;
    let (grpc, http) = (rotel.grpc, rotel.http);
    let endpoint = format!("http://127.0.0.1:{}", if protocol == "grpc" { grpc } else { http });
    let (mut exporter, _) = exporter(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
    ]);
    let mut subject = process(4711);
    assert_eq!(exporter.export(&now(vec![subject.clone()])).await, Outcome::Delivered);
    let before = rotel.metric("shop-4711", "nodeprobe.eventloop.stall.duration", 1).await;
    rotel.stop();
    let ms = snapshot::MS;
    subject.threads[0].stalls = snapshot::turns(&[200 * ms, 90 * ms]);
    let outcome = exporter.export(&now(vec![subject.clone()])).await;
    assert!(matches!(outcome, Outcome::Failed(SendError::Refused { .. })), "{outcome:?}");
    let rotel = Rotel::start_on(&executable, grpc, http, "metrics").await?;
    subject.threads[0].stalls = snapshot::turns(&[200 * ms, 90 * ms, 70 * ms]);
    let outcome = eventually("recovery", async || {
        let outcome = exporter.export(&now(vec![subject.clone()])).await;
        (outcome == Outcome::Delivered).then_some(outcome)
    });
    tokio::time::timeout(Duration::from_secs(20), outcome).await.unwrap();
    let after = rotel.metric("shop-4711", "nodeprobe.eventloop.stall.duration", 1).await;
    let main = |metrics: &[Received]| {
        let points = &metrics[0].points;
        points.iter().find(|p| p.attributes["nodeprobe.thread.type"] == "main").unwrap().value
    };
    Some((main(&before), main(&after)))
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_right_after_the_collector_was_killed_and_restarted() {
    for protocol in ["grpc", "http/protobuf"] {
        let Some(cumulative) = stalls_around_an_outage(protocol, "cumulative").await else { return };
        assert_eq!(cumulative, (1.0, 3.0), "{protocol}");
        let Some(delta) = stalls_around_an_outage(protocol, "delta").await else { return };
        assert_eq!(delta, (1.0, 2.0), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_point_of_a_process_is_the_last() {
    let Some(rotel) = Rotel::start().await else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc);
    let (mut exporter, _) = exporter(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    let mut ended = process(1000);
    exporter.export(&now(vec![ended.clone(), process(2000)])).await;
    ended.exited = true;
    exporter.export(&now(vec![ended, process(2000)])).await;
    exporter.export(&now(vec![process(2000)])).await;
    assert_eq!(rotel.metric("shop-2000", "process.uptime", 3).await.len(), 3);
    assert_eq!(rotel.metric("shop-1000", "process.uptime", 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_processes_than_one_request_may_hold_are_accepted() {
    let Some(rotel) = Rotel::start().await else { return };
    for (protocol, port) in [("grpc", rotel.grpc), ("http/protobuf", rotel.http)] {
        let endpoint = format!("http://127.0.0.1:{port}");
        let (mut exporter, _) = exporter(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ]);
        let all = (1..=1500).map(|pid| process(pid * 10)).collect();
        assert_eq!(exporter.export(&now(all)).await, Outcome::Delivered, "{protocol}");
    }
}

//! `VictoriaMetrics`, which stores what it receives and translates the names for Prometheus by its own rules.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use nodeprobe::{
    export::otlp::Outcome,
    model::catalog::{self, Instrument, Subject},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Running, blaming, eventually, exporter, free_port, listening, now, process, tool};

struct VictoriaMetrics {
    _running: Running,
    _directory: TempDir,
    port: u16,
}

impl VictoriaMetrics {
    async fn start() -> Option<Self> {
        let executable = tool("NODEPROBE_TEST_VICTORIA_METRICS")?;
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new(executable)
            .arg(format!("-storageDataPath={}", directory.path().display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .args(["-retentionPeriod=1d", "-search.latencyOffset=0s", "-loggerLevel=ERROR"])
            .arg("-opentelemetry.usePrometheusNaming")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Running(child);
        listening(port).await;
        Some(Self { _running: running, _directory: directory, port })
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/opentelemetry/v1/metrics", self.port)
    }

    /// All series whose name is one of the metric's.
    async fn series(&self, name: &str) -> Vec<Value> {
        // `/api/v1/export` gives one JSON object per line and per series.
        let body =
            format!("match[]=%7B__name__%3D~%22{name}(_bucket|_sum|_count)%3F%22%7D&reduce_mem_usage=1");
        let url = format!("http://127.0.0.1:{}/api/v1/export?{body}", self.port);
        let text = http_get(&url).await;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn http_get(url: &str) -> String {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    client.get(url).send().await.unwrap().text().await.unwrap()
}

async fn everything_is_stored(aggregation: &str) {
    let Some(victoria_metrics) = VictoriaMetrics::start().await else { return };
    let endpoint = victoria_metrics.endpoint();
    let (mut exporter, _) = exporter(&[
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation),
    ]);
    assert_eq!(exporter.export(&blaming(vec![process(4711)])).await, Outcome::Delivered);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(exporter.shutdown(&now(vec![process(4711)])).await, Outcome::Delivered);
    for entry in catalog::ALL {
        let name = entry.prometheus_name();
        let series = eventually(&name, async || {
            // What was received becomes visible after a second or so.
            Some(victoria_metrics.series(&name).await).filter(|series| !series.is_empty())
        })
        .await;
        let service = if entry.subject == Subject::Agent { "nodeprobe" } else { "shop-4711" };
        let mine: Vec<_> = series
            .iter()
            .filter(|s| s["metric"]["service.name"] == service || s["metric"]["service_name"] == service)
            .collect();
        assert!(!mine.is_empty(), "{name} of {service} in {series:?}");
        for attribute in entry.attributes.iter().filter(|attribute| **attribute != catalog::OVERFLOW) {
            let label = attribute.key.replace('.', "_");
            let value = mine[0]["metric"].get(&label).or_else(|| mine[0]["metric"].get(attribute.key));
            let value = value.and_then(Value::as_str).unwrap_or_default();
            let known = match *attribute {
                catalog::FUNCTION => &["hash"][..],
                catalog::FILE => &["/srv/shop/auth.js"],
                attribute => attribute.values,
            };
            assert!(known.contains(&value), "{name}: {label}={value} in {:?}", mine[0]);
        }
        if entry.instrument == Instrument::Histogram {
            let suffixes = mine.iter().filter_map(|s| s["metric"]["__name__"].as_str());
            let suffixes: Vec<_> = suffixes.filter_map(|n| n.strip_prefix(&name)).collect();
            for suffix in ["_bucket", "_sum", "_count"] {
                assert!(suffixes.contains(&suffix), "{name}{suffix} in {suffixes:?}");
            }
        }
    }
    // 2 + 2 scavenges, each thread's 0.4 ms and 2 ms (snapshot.rs).
    let series = victoria_metrics.series("v8js_gc_duration_seconds").await;
    let minor = |suffix: &str| {
        let name = format!("v8js_gc_duration_seconds_{suffix}");
        let mine = |s: &&Value| {
            s["metric"]["__name__"] == name.as_str() && s["metric"].to_string().contains("minor")
        };
        series.iter().find(mine).and_then(|s| s["values"][0].as_f64()).unwrap()
    };
    assert_eq!(minor("count"), 4.0);
    assert!((minor("sum") - 0.0048).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_stored_under_its_documented_prometheus_name() {
    everything_is_stored("explicit_bucket_histogram").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exponential_histograms_are_stored_with_the_same_counts() {
    everything_is_stored("base2_exponential_bucket_histogram").await;
}

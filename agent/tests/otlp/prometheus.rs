//! The page for Prometheus over a real socket: what it says against what goes out by OTLP of the same snapshot, and
//! peers that misbehave.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use nodeprobe::{
    export::{
        heartbeat::Heartbeat,
        prometheus::{Page, Server, Site},
        readings::Readings,
    },
    model::{ThreadKind, catalog},
    self_metrics::AgentCounters,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{ResourceMetrics, metric::Data, number_data_point::Value as Number},
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    blaming, configured, exporter, now, peer, process,
    snapshot::{busy_thread, stall},
};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// A page that is served, and how many snapshots were read for it.
struct Served {
    address: SocketAddr,
    reads: Arc<AtomicUsize>,
    readings: Arc<Readings>,
    site: Arc<Site>,
}

impl Served {
    async fn start() -> Self {
        Self::with(Heartbeat::every(Duration::from_secs(15))).await
    }

    async fn with(heartbeat: Heartbeat) -> Self {
        let heartbeat = Arc::new(heartbeat);
        let reads = Arc::new(AtomicUsize::new(0));
        let page = Arc::new(Page::new(&configured(&[]), Arc::new(AgentCounters::default())));
        let counted = Arc::clone(&reads);
        let readings = Readings::new(Some(Arc::clone(&page)), Arc::clone(&heartbeat), move || {
            counted.fetch_add(1, Relaxed);
            blaming(vec![process(4711)])
        });
        let readings = Arc::new(readings);
        let site = Arc::new(Site::new(page, heartbeat));
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = server.address().unwrap();
        tokio::spawn(server.serve(Arc::clone(&site)));
        Self { address, reads, readings, site }
    }

    fn open(&self) {
        let readings = Arc::clone(&self.readings);
        self.site.open(Arc::new(move || readings.read_for_page()));
    }

    async fn ready() -> Self {
        let served = Self::start().await;
        served.open();
        served
    }

    async fn ask(&self, method: &str, path: &str, accept: &str) -> (String, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
        self.send(request.as_bytes()).await
    }

    /// Head and body of the answer.
    async fn send(&self, request: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_ascii_lowercase(), body.to_owned())
    }
}

type Series = BTreeMap<(String, BTreeSet<String>), f64>;

/// Samples by name and labels, none of them twice.
fn parsed(text: &str) -> Series {
    let mut series = Series::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (id, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = id.split_once('{').unwrap();
        let labels =
            labels.strip_suffix('}').unwrap().split("\",").map(|l| l.trim_end_matches('"').to_owned());
        let key = (name.to_owned(), labels.collect());
        assert_eq!(series.insert(key, value.parse().unwrap()), None, "twice: {line}");
    }
    series
}

fn text_of(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(yes)) => yes.to_string(),
        other => panic!("{other:?}"),
    }
}

fn underscored(key: &str) -> String {
    key.replace('.', "_")
}

/// What Prometheus makes of it with `UnderscoreEscapingWithSuffixes`, by the rules of the compatibility specification.
fn translated(of: &ResourceMetrics) -> Series {
    let resource: BTreeMap<String, String> =
        of.resource.as_ref().unwrap().attributes.iter().map(|a| (a.key.clone(), text_of(a))).collect();
    let job = format!("{}/{}", resource["service.namespace"], resource["service.name"]);
    let identity = [format!("job=\"{job}"), format!("instance=\"{}", resource["service.instance.id"])];
    let promoted = catalog::PROMOTED.iter().filter_map(|key| Some((key, resource.get(*key)?)));
    let promoted = promoted.map(|(key, value)| format!("{}=\"{value}", underscored(key)));
    let common: BTreeSet<String> = identity.iter().cloned().chain(promoted).collect();
    let labels = |attributes: &[KeyValue], le: Option<String>| {
        let own = attributes.iter().map(|a| format!("{}=\"{}", underscored(&a.key), text_of(a)));
        let le = le.map(|le| format!("le=\"{le}"));
        common.iter().cloned().chain(own).chain(le).collect::<BTreeSet<_>>()
    };
    let mut series = Series::new();
    for metric in &of.scope_metrics[0].metrics {
        let mut name = underscored(&metric.name);
        match metric.unit.as_str() {
            "s" => name += "_seconds",
            "By" => name += "_bytes",
            "1" if matches!(metric.data, Some(Data::Gauge(_))) => name += "_ratio",
            _ => {}
        }
        let numbers = match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => {
                if sum.is_monotonic {
                    name += "_total";
                }
                &sum.data_points
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let mut count = 0;
                    let bounds = point.explicit_bounds.iter().map(ToString::to_string);
                    for (le, bucket) in bounds.chain(["+Inf".to_owned()]).zip(&point.bucket_counts) {
                        count += bucket;
                        let key = (format!("{name}_bucket"), labels(&point.attributes, Some(le)));
                        series.insert(key, count as f64);
                    }
                    let plain = labels(&point.attributes, None);
                    series.insert((format!("{name}_sum"), plain.clone()), point.sum.unwrap());
                    series.insert((format!("{name}_count"), plain), point.count as f64);
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        for point in numbers {
            let value = match point.value.unwrap() {
                Number::AsDouble(value) => value,
                Number::AsInt(value) => value as f64,
            };
            series.insert((name.clone(), labels(&point.attributes, None)), value);
        }
    }
    let mut info: BTreeSet<String> = identity.into_iter().collect();
    let rest = resource.iter().filter(|(key, _)| {
        !["service.name", "service.namespace", "service.instance.id"].contains(&key.as_str())
    });
    info.extend(rest.map(|(key, value)| format!("{}=\"{value}", underscored(key))));
    series.insert(("target_info".to_owned(), info), 1.0);
    series
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_goes_out_by_otlp() {
    let collector = peer::HttpServer::answering(&[&peer::answer("200 OK", "", "")]).await;
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let (mut exporter, _) = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let mut snapshot = now(vec![process(4711)]);
    let blamed = |number| stall(&snapshot.processes[0], ThreadKind::Main, &format!("handler{number}"));
    // More than have a series of their own.
    snapshot.stalls = (0..=catalog::CULPRITS_MAX).map(blamed).collect();
    exporter.export(&snapshot).await;
    let request = &collector.requests()[0];
    let request = ExportMetricsServiceRequest::decode(request.plain().as_slice()).unwrap();
    let expected = translated(&request.resource_metrics[0]);
    assert!(expected.len() > 200, "{}", expected.len());

    let page = Arc::new(Page::new(&configured(&[]), Arc::new(AgentCounters::default())));
    let (observed, read) = (Arc::clone(&page), snapshot.clone());
    let site = Arc::new(Site::new(page, Arc::new(Heartbeat::every(Duration::from_secs(15)))));
    site.open(Arc::new(move || observed.observe(&read)));
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let url = format!("http://{}/metrics", server.address().unwrap());
    tokio::spawn(server.serve(site));
    let body = reqwest_text(&url).await;
    let found: Series =
        parsed(&body).into_iter().filter(|((_, labels), _)| !labels.contains("job=\"nodeprobe")).collect();
    for (series, value) in &expected {
        assert_eq!(found.get(series), Some(value), "{series:?} is not as by OTLP");
    }
    assert_eq!(found.len(), expected.len(), "nothing that OTLP has not");
}

async fn reqwest_text(url: &str) -> String {
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_formats_have_every_metric_of_the_documentation() {
    let served = Served::ready().await;
    let (head, text) = served.ask("GET", "/metrics", "*/*").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let (head, open_metrics) = served.ask("GET", "/metrics", OPEN_METRICS).await;
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(content_type), "{head}");
    assert!(open_metrics.ends_with("# EOF\n") && !text.contains("# EOF"));
    let documented = include_str!("../../../docs/metrics.md");
    for metric in catalog::ALL {
        let name = metric.prometheus_name();
        assert!(documented.contains(&format!("| `{name}` |")), "{name}");
        for page in [&text, &open_metrics] {
            let family =
                if page.ends_with("# EOF\n") { name.strip_suffix("_total").unwrap_or(&name) } else { &name };
            assert_eq!(page.matches(&format!("# TYPE {family} ")).count(), 1, "{family}");
            assert!(page.lines().any(|line| line.starts_with(&name)), "{name} has no sample");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_compressed_for_who_takes_that() {
    let served = Served::ready().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&answer[end + 4..]).read_to_string(&mut text).unwrap();
    // Of the same second, so of the same snapshot.
    let (head, plain) = served.ask("GET", "/metrics", "").await;
    assert!(!head.contains("content-encoding"), "{head}");
    let without_agent = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("job=\"nodeprobe\""));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_agent(&text), without_agent(&plain));
    assert_eq!(served.reads.load(Relaxed), 1);
    assert!(answer.len() * 8 < plain.len(), "{} bytes of {}", answer.len(), plain.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_healthy_at_once_and_ready_when_there_is_something_to_read() {
    let served = Served::start().await;
    assert!(served.ask("GET", "/healthz", "").await.0.starts_with("http/1.1 200"));
    for path in ["/readyz", "/metrics"] {
        let (head, body) = served.ask("GET", path, "").await;
        assert!(head.starts_with("http/1.1 503") && body.contains("attaching"), "{path}: {head} {body}");
    }
    served.open();
    for path in ["/readyz", "/metrics", "/healthz", "/"] {
        assert!(served.ask("GET", path, "").await.0.starts_with("http/1.1 200"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_healthy_while_no_reading_finishes() {
    let served = Served::with(Heartbeat::within(Duration::from_millis(1500))).await;
    let health = || served.ask("GET", "/healthz", "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(health().await.0.starts_with("http/1.1 200"), "the probes are still being attached");
    served.readings.read();
    assert!(health().await.0.starts_with("http/1.1 200"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (head, body) = health().await;
    assert!(
        head.starts_with("http/1.1 503") && body.contains("no reading has finished for 2 s"),
        "{head} {body}"
    );
    // Scrapes read as well, until the exporter has to be waited for: then a page alone is no sign of life.
    served.open();
    for _ in 0..4 {
        served.readings.read_for_page();
        assert!(health().await.0.starts_with("http/1.1 200"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(served.ask("GET", "/metrics", "").await.0.starts_with("http/1.1 200"));
    assert!(health().await.0.starts_with("http/1.1 503"));
    served.readings.read();
    assert!(health().await.0.starts_with("http/1.1 200"), "it has come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_is_refused_with_a_sentence() {
    let served = Served::ready().await;
    let (head, body) = served.ask("GET", "/metric", "").await;
    assert!(head.starts_with("http/1.1 404") && body.contains("/metrics"), "{head} {body}");
    for method in ["POST", "DELETE", "NONSENSE"] {
        let (head, body) = served.ask(method, "/metrics", "").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
        assert!(body.contains("GET"), "{body}");
    }
    let (head, body) = served.ask("HEAD", "/metrics", "").await;
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head} {body}");
    assert_eq!(served.reads.load(Relaxed), 0, "nothing of this reads a snapshot");
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // It may be refused before it is written.
    drop(stream.write_all(long.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrapes_in_the_same_second_share_a_snapshot() {
    let served = Served::ready().await;
    for accept in ["", OPEN_METRICS, "", OPEN_METRICS] {
        served.ask("GET", "/metrics", accept).await;
    }
    assert_eq!(served.reads.load(Relaxed), 1);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    served.ask("GET", "/metrics", "").await;
    assert_eq!(served.reads.load(Relaxed), 2);
    assert_eq!(served.readings.take().len(), 2, "the exporter sees both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_than_an_exporter_that_hangs_can_be_told_later() {
    let served = Served::ready().await;
    for _ in 0..20 {
        served.readings.read_for_page();
    }
    assert_eq!(served.reads.load(Relaxed), 4);
    let (head, body) = served.ask("GET", "/metrics", "").await;
    assert!(head.starts_with("http/1.1 200") && body.contains("shop-4711"), "{head}");
    assert_eq!(served.reads.load(Relaxed), 4);
    served.readings.read();
    assert_eq!(served.readings.take().len(), 5, "the exporter itself always reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_are_cut_off_and_hold_nobody_up() {
    let served = Served::ready().await;
    let mut silent = Vec::new();
    for _ in 0..31 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /metrics HT").await.unwrap();
        silent.push(stream);
    }
    let began = Instant::now();
    let (head, _) = served.ask("GET", "/metrics", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    drop(silent[0].read_to_end(&mut rest).await);
    assert!(began.elapsed() < Duration::from_secs(8), "cut off after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_says_what_to_do() {
    let taken = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = taken.address().unwrap();
    let error = Server::bind(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another port"), "{error}");
    let error = Server::bind("192.0.2.1:9464".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("no address of this host"), "{error}");
}

/// A measurement, not a test: how long a page of many processes takes.
#[tokio::test]
#[ignore = "a measurement"]
async fn pages_of_a_hundred_processes() {
    let page = Page::new(&configured(&[]), Arc::new(AgentCounters::default()));
    let processes = (0..100).map(|pid| {
        let mut process = process(5000 + 10 * pid);
        process.threads.push(busy_thread(5002 + 10 * pid, ThreadKind::Worker));
        process
    });
    let snapshot = now(processes.collect());
    for _ in 0..3 {
        let began = Instant::now();
        page.observe(&snapshot);
        let (observed, began) = (began.elapsed(), Instant::now());
        let text = page.render(nodeprobe::export::prometheus::Format::OpenMetrics);
        println!("observe {observed:?}, render {:?}, {} bytes", began.elapsed(), text.len());
    }
}

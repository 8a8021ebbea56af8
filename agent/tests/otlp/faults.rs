//! Collectors that are not there, hang, refuse, redirect or babble.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nodeprobe::export::otlp::{Outcome, SendError};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tracing::instrument::WithSubscriber as _;

use super::{
    exporter, free_port, now,
    peer::{HttpServer, answer},
    process,
};

/// Accepts and says nothing, for as long as the listener is held.
async fn hanging() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Sends the same bytes to everyone who connects.
pub(super) async fn answering_at_once(bytes: &'static [u8]) -> u16 {
    let (listener, port) = hanging().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(bytes).await;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                drop(stream);
            });
        }
    });
    port
}

async fn failure(port: u16, protocol: &str, timeout_ms: &str) -> SendError {
    let endpoint = format!("http://127.0.0.1:{port}");
    let (mut exporter, _) = exporter(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout_ms),
    ]);
    match exporter.export(&now(vec![process(4711)])).await {
        Outcome::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_is_a_refused_connection() {
    for protocol in ["grpc", "http/protobuf"] {
        let port = free_port();
        let error = failure(port, protocol, "400").await;
        assert!(matches!(error, SendError::Refused { .. }), "{protocol}: {error:?}");
        let sentence = error.to_string();
        assert!(sentence.contains(&format!("127.0.0.1:{port}")), "{sentence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_costs_the_timeout_and_no_more() {
    for protocol in ["grpc", "http/protobuf"] {
        let (_listener, port) = hanging().await;
        let began = Instant::now();
        let error = failure(port, protocol, "500").await;
        assert!(matches!(error, SendError::Timeout { .. }), "{protocol}: {error:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(1500), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_given_up() {
    for protocol in ["grpc", "http/protobuf"] {
        let (listener, port) = hanging().await;
        let endpoint = format!("http://127.0.0.1:{port}");
        let (mut exporter, _) = exporter(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
        ]);
        exporter.export(&now(vec![process(4711)])).await;
        exporter.export(&now(vec![process(4711)])).await;
        for connection in 1..=2 {
            let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
            assert!(accepted.is_ok(), "{protocol}: connection {connection} did not come");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_within_5_s_when_the_collector_hangs() {
    for protocol in ["grpc", "http/protobuf"] {
        let (_listener, port) = hanging().await;
        let endpoint = format!("http://127.0.0.1:{port}");
        let (mut exporter, _) = exporter(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ]);
        let began = Instant::now();
        let outcome = exporter.shutdown(&now(vec![process(4711)])).await;
        assert!(matches!(outcome, Outcome::Failed(SendError::Timeout { .. })), "{outcome:?}");
        assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_collector_is_asked_again_when_it_says() {
    let busy = answer("503 Service Unavailable", "retry-after: 1\r\n", "busy");
    let server = HttpServer::answering(&[&busy, &answer("200 OK", "", "")]).await;
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let (mut exporter, _) = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())]);
    let began = Instant::now();
    assert_eq!(exporter.export(&now(vec![process(4711)])).await, Outcome::Delivered);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let busy = answer("429 Too Many Requests", "retry-after: 86400\r\n", "later");
    let server = HttpServer::answering(&[&busy]).await;
    let began = Instant::now();
    let error = failure(server.port, "http/protobuf", "5000").await;
    assert!(matches!(error, SendError::Http { status: 429, .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_not_repeated_and_its_answer_is_cleaned() {
    let body = format!("bad\u{1b}[2J\r\n{}", "x".repeat(5000));
    let server = HttpServer::answering(&[&answer("400 Bad Request", "", &body)]).await;
    let error = failure(server.port, "http/protobuf", "5000").await;
    let SendError::Http { status: 400, body, .. } = &error else { panic!("{error:?}") };
    assert!(body.starts_with("bad [2J xxx"), "{body}");
    assert_eq!(body.chars().count(), 201);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let elsewhere = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port);
    let server = HttpServer::answering(&[&answer("307 Temporary Redirect", &location, "")]).await;
    let error = failure(server.port, "http/protobuf", "2000").await;
    assert!(error.to_string().contains("redirects are not followed"), "{error}");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_success_is_told_and_not_repeated() {
    // ExportMetricsServiceResponse { partial_success { rejected_data_points: 3, error_message: "too old" } }
    let body = "\u{a}\u{b}\u{8}\u{3}\u{12}\u{7}too old";
    let server =
        HttpServer::answering(&[&answer("200 OK", "content-type: application/x-protobuf\r\n", body)]).await;
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let (mut exporter, _) = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())]);
    let outcome = exporter.export(&now(vec![process(4711)])).await;
    assert_eq!(outcome, Outcome::PartlyRejected { data_points: 3 });
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_carry_headers_and_gzip_as_set() {
    let server = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let endpoint = format!("http://127.0.0.1:{}/base/", server.port);
    let (mut exporter, _) = exporter(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
    ]);
    assert_eq!(exporter.export(&now(vec![process(4711)])).await, Outcome::Delivered);
    let request = &server.requests()[0];
    let head = request.head.to_ascii_lowercase();
    for line in [
        "post /base/v1/metrics http/1.1",
        "x-tenant: a b",
        "content-type: application/x-protobuf",
        "content-encoding: gzip",
        "user-agent: nodeprobe/",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(request.body.len() < request.plain().len() / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_another_protocol_is_named_as_such() {
    let http = HttpServer::answering(&[&answer("404 Not Found", "", "")]).await;
    let error = failure(http.port, "grpc", "1500").await.to_string();
    assert!(error.contains("127.0.0.1"), "{error}");
    let babble = answering_at_once(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let error = failure(babble, "http/protobuf", "1500").await;
    assert!(matches!(error, SendError::Protocol { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_exporter_none_nothing_is_sent() {
    let server = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    for off in [("OTEL_METRICS_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")] {
        let (mut exporter, _) = exporter(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), off]);
        assert_eq!(exporter.export(&now(vec![process(4711)])).await, Outcome::Disabled);
        assert_eq!(exporter.shutdown(&now(vec![process(4711)])).await, Outcome::Disabled);
    }
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_does_not_hold_up_the_next() {
    // Enough processes for several requests; the first one is refused.
    let server =
        HttpServer::answering(&[&answer("400 Bad Request", "", "no"), &answer("200 OK", "", "")]).await;
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let (mut exporter, _) = exporter(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
    ]);
    let all: Vec<_> = (1..=1500).map(|pid| process(pid * 10)).collect();
    let outcome = exporter.export(&now(all.clone())).await;
    assert!(matches!(outcome, Outcome::Failed(SendError::Http { status: 400, .. })), "{outcome:?}");
    let requests = server.all_requests();
    assert!(requests.len() > 1);
    assert!(requests.iter().all(|request| request.body.len() <= 4 << 20));
    // Next time everything goes.
    assert_eq!(exporter.export(&now(all)).await, Outcome::Delivered);
}

/// Everything logged by one exporter.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_logged_when_it_begins_and_when_it_ends_and_no_secret_is() {
    let (log, port) = (Log::default(), free_port());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let endpoint = format!("http://me:s3cret@127.0.0.1:{port}/?key=s3cret");
    let exports = async {
        let (mut exporter, counters) = exporter(&[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=s3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ]);
        for _ in 0..3 {
            let outcome = exporter.export(&now(vec![process(4711)])).await;
            assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        }
        let server = HttpServer::answering_on(port, &[&answer("200 OK", "", "")]).await;
        for _ in 0..2 {
            assert_eq!(exporter.export(&now(vec![process(4711)])).await, Outcome::Delivered);
        }
        let head = server.requests()[0].head.to_ascii_lowercase();
        assert!(head.contains("x-token: s3cret"), "{head}");
        format!("{counters:?}")
    };
    let counters = exports.with_subscriber(subscriber).await;
    // By outcome: success, partial, failure.
    assert!(counters.contains("exports: [2, 0, 3]"), "{counters}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let of_level =
        |level: &str| log.lines().filter(|line| line.contains(level) && line.contains("nodeprobe")).count();
    assert_eq!((of_level(" WARN "), of_level(" INFO ")), (1, 1), "{log}");
    // As it is, and as the URL's credentials travel: base64 of `me:s3cret`.
    assert!(!log.contains("s3cret") && !log.contains("bWU6czNjcmV0"), "{log}");
}

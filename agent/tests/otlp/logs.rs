//! Stalls as log records: what arrives, what does not, and that both are counted.

use std::sync::Arc;

use nodeprobe::{
    export::otlp::Outcome,
    model::{Category, Frame, FrameKind, Process, Snapshot, Stack, StackTime, Stall, ThreadKind},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest, common::v1::any_value::Value, logs::v1::LogRecord,
};
use prost::Message as _;

use super::{
    exporter, free_port, now,
    peer::{HttpServer, Request, answer},
    process,
    rotel::Rotel,
    snapshot::{self, MS, synchronous},
};

fn stall(process: &Process, duration_ms: u64) -> Stall {
    let frame = Frame {
        kind: FrameKind::JavaScript,
        function: "hash".into(),
        script: Some("/srv/shop/auth.js".into()),
        line: Some(42),
        column: Some(7),
        line_is_exact: true,
        package: None,
    };
    Stall {
        duration_ns: duration_ms * MS,
        causes: synchronous(duration_ms * MS, duration_ms * MS / 4 * 3),
        stacks: vec![StackTime {
            stack: Arc::new(Stack { frames: vec![frame], truncated: false, problem: None }),
            category: Category::Application,
            samples: 20,
            time_ns: 160 * MS,
        }],
        ..snapshot::stall(process, ThreadKind::Main, "hash")
    }
}

/// A snapshot at this second of the monotonic clock with so many stalls of the hand-made process.
fn stalled(monotonic_s: u64, stalls: usize) -> Snapshot {
    let process = process(4711);
    let stalls = (0..stalls).map(|_| stall(&process, 200)).collect();
    Snapshot { stalls, monotonic_ns: monotonic_s * 1_000_000_000, ..now(vec![process]) }
}

fn is_logs(request: &Request) -> bool {
    request.head.starts_with("POST /v1/logs ")
}

/// Every record in the requests, with the service it belongs to.
fn records(requests: &[Request]) -> Vec<(String, LogRecord)> {
    let mut records = Vec::new();
    for request in requests.iter().filter(|request| is_logs(request)) {
        let message = ExportLogsServiceRequest::decode(request.plain().as_slice()).unwrap();
        for of_resource in message.resource_logs {
            let attributes = of_resource.resource.unwrap().attributes;
            let service = attributes.into_iter().find(|a| a.key == "service.name").unwrap().value.unwrap();
            let Some(Value::StringValue(service)) = service.value else { panic!() };
            for scope in of_resource.scope_logs {
                records.extend(scope.log_records.into_iter().map(|record| (service.clone(), record)));
            }
        }
    }
    records
}

fn integer(record: &LogRecord, key: &str) -> Option<i64> {
    match record.attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()? {
        Value::IntValue(value) => Some(*value),
        other => panic!("{other:?}"),
    }
}

fn to(port: u16) -> [(&'static str, String); 3] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "400".to_owned()),
        ("NODEPROBE_STALL_LOGS", "true".to_owned()),
    ]
}

fn variables<'a>(of: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    of.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_arrives_once_and_only_when_asked_for() {
    let server = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let settings = to(server.port);
    let (mut quiet, _) = exporter(&variables(&settings[..2]));
    quiet.export(&stalled(1, 1)).await;
    assert!(!server.all_requests().iter().any(is_logs));
    let (mut exporter, counters) = exporter(&variables(&settings));
    assert_eq!(exporter.export(&stalled(1, 1)).await, Outcome::Delivered);
    assert_eq!(exporter.export(&stalled(2, 0)).await, Outcome::Delivered);
    let records = records(&server.all_requests());
    assert_eq!(records.len(), 1);
    let (service, record) = &records[0];
    assert_eq!((service.as_str(), record.event_name.as_str()), ("shop-4711", "nodeprobe.eventloop.stall"));
    assert_eq!(integer(record, "code.line.number"), Some(42));
    assert_eq!(integer(record, "nodeprobe.stall.suppressed"), None);
    assert_eq!(counters.stall_logs(), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stalls_all_the_time_is_limited_and_the_rest_is_counted() {
    let server = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let settings = to(server.port);
    let (mut exporter, counters) = exporter(&variables(&settings));
    exporter.export(&stalled(1, 50)).await;
    exporter.export(&stalled(7, 5)).await;
    let records = records(&server.all_requests());
    // Ten at once; six seconds later one more, which stands for the forty before it.
    assert_eq!(records.len(), 11);
    assert_eq!(integer(&records[10].1, "nodeprobe.stall.suppressed"), Some(40));
    assert_eq!(counters.stall_logs(), [11, 44, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_for_a_collector_that_is_away() {
    let port = free_port();
    let settings = to(port);
    let (mut exporter, counters) = exporter(&variables(&settings));
    exporter.export(&stalled(1, 2)).await;
    assert_eq!(counters.stall_logs(), [0, 0, 0]);
    let server = HttpServer::answering_on(port, &[&answer("200 OK", "", "")]).await;
    exporter.export(&stalled(2, 1)).await;
    assert_eq!(records(&server.all_requests()).len(), 3);
    assert_eq!(counters.stall_logs(), [3, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_without_logs_costs_the_records_and_not_the_metrics() {
    let server = HttpServer::answering(&[&answer("404 Not Found", "", "")]).await;
    let metrics = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let mut settings = to(server.port).to_vec();
    settings.push((
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        format!("http://127.0.0.1:{}/v1/metrics", metrics.port),
    ));
    let (mut exporter, counters) = exporter(&variables(&settings));
    assert_eq!(exporter.export(&stalled(1, 3)).await, Outcome::Delivered);
    assert_eq!(counters.stall_logs(), [0, 0, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotel_takes_the_records_by_grpc_and_http() {
    for protocol in ["grpc", "http/protobuf"] {
        let Some(rotel) = Rotel::start_with("logs").await else { return };
        let port = if protocol == "grpc" { rotel.grpc } else { rotel.http };
        let mut settings = to(port).to_vec();
        settings.push(("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()));
        settings.push(("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()));
        settings.retain(|(key, _)| *key != "OTEL_EXPORTER_OTLP_TIMEOUT");
        let (mut exporter, counters) = exporter(&variables(&settings));
        assert_eq!(exporter.export(&stalled(1, 1)).await, Outcome::Delivered, "{protocol}");
        assert_eq!(counters.stall_logs(), [1, 0, 0], "{protocol}");
        for text in ["nodeprobe.stall.cause", "sync_io", "code.function.name", "shop-4711"] {
            rotel.prints(text).await;
        }
    }
}

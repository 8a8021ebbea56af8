//! Every expression of every panel and rule, asked of two real databases while real processes are sick and well: none may be
//! empty.

use std::{collections::BTreeSet, io::Write as _, net::TcpStream, time::Duration};

use nodeprobe_tests::{
    Node, Workload,
    agent::Daemon,
    collector::VictoriaMetrics,
    cpu_quota::CpuQuota,
    load::Load,
    memory_group::MemoryGroup,
    on_one_node,
    prometheus::{Prometheus, VmAgent, query},
    questions::{Database, Questions},
    skip::skip,
    stdio::slow_pipe,
    wait::eventually,
    workload::number,
};

on_one_node!(Node::of_major(24) => every_expression_returns_data_of_real_processes);

const ARRIVAL: Duration = Duration::from_secs(30);
const MEMORY_LIMIT_BYTES: u64 = 1 << 30;
const PROCESSORS: f64 = 4.0;
/// Services with the failure mode that is told of each within the time.
const SICK: [&str; 5] = [
    "event-loop-starvation",
    "stdout-backpressure",
    "unhandled-rejections",
    "sync-child-process",
    "async-context-loss",
];
const ALSO: [&str; 4] = ["heap-growth", "shape-churn", "threadpool-saturation", "stream-overflow"];
/// So that two cores are enough for all.
const RATE_MOST: f64 = 20.0;

/// A service under its load.
struct Service {
    workload: Workload,
    _load: Option<Load>,
    /// Asks once and never reads.
    _client: Option<TcpStream>,
}

impl Service {
    fn start(node: &Node, name: &str) -> Self {
        let mut plan =
            Workload::plan(node, &format!("failure-modes/{name}.js")).env("OTEL_SERVICE_NAME", name);
        if name == "heap-growth" {
            plan = plan.flag("--max-old-space-size=320");
        }
        if name == "stdout-backpressure" {
            plan = plan.stdout(slow_pipe(Duration::from_millis(50)));
        }
        if name.starts_with("sync") {
            // The others are those of a host without Kubernetes.
            plan = plan.env("OTEL_RESOURCE_ATTRIBUTES", "k8s.namespace.name=shop,k8s.pod.name=shop-1");
        }
        let workload = plan.start();
        let ready = workload.wait_for("ready");
        let port = number(&ready, "port") as u16;
        let path = ready["path"].as_str().expect("it says what to ask for");
        let (rate, connections) = (number(&ready, "rate"), number(&ready, "connections") as usize);
        let rate = if name == "threadpool-saturation" { 3.0 } else { rate.min(RATE_MOST) };
        let client =
            (number(&ready, "rate") == 0.0 && connections > 0 && name == "stream-overflow").then(|| {
                let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
                write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it can be asked");
                client
            });
        let load = (rate > 0.0).then(|| Load::start(port, path, rate, connections.max(1)));
        Self { workload, _load: load, _client: client }
    }
}

fn every_expression_returns_data_of_real_processes(node: &Node) {
    let Ok(victoria) = VictoriaMetrics::start().map_err(|reason| skip(&reason)) else { return };
    let prometheus = Prometheus::start().map_err(|reason| skip(&reason)).ok();
    let Ok(vmagent) = VmAgent::start(&victoria, prometheus.as_ref()).map_err(|reason| skip(&reason)) else {
        return;
    };
    let url = vmagent.otlp_url();
    let mut daemon = Daemon::start(&[
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", url.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=test"),
    ]);
    let port = victoria.port;
    eventually(&format!("metrics of the agent; {}", daemon.stderr()), ARRIVAL, || {
        query(port, "nodeprobe_agent_processes").ok().filter(|found| !found.is_empty())
    });
    let services: Vec<Service> = SICK.iter().chain(&ALSO).map(|name| Service::start(node, name)).collect();
    let heap_growth = services[SICK.len()].workload.pid();
    let group = MemoryGroup::of(heap_growth, MEMORY_LIMIT_BYTES);
    let has_limit = group.is_ok();
    // More than it needs: there is an account, and the service stays what it is.
    let quota = CpuQuota::of(services[0].workload.pid(), PROCESSORS);
    let has_quota = quota.is_ok();
    // Dropped in this order: a group can be removed when its processes have ended.
    let _running = (services, group, quota);
    let _idle = Workload::idle(node);
    // Of this one not everything can be observed.
    let old = Node::of_major(16).map(|node| Workload::idle(&node));

    let of_prometheus = prometheus.as_ref().map(|prometheus| Database {
        name: "Prometheus",
        port: prometheus.port(),
        has_rules: true,
    });
    let of_victoria = Database { name: "VictoriaMetrics", port, has_rules: false };
    let databases: Vec<Database> = [of_victoria].into_iter().chain(of_prometheus).collect();
    let mut questions = Questions::of_boards_and_rules();
    let mut without: Vec<&str> = Vec::new();
    if !has_limit {
        skip("no cgroup with a limit of memory can be made: nothing to tell of it");
        without.push("nodeprobe_memory_limit_bytes");
    }
    if !has_quota {
        skip("no cgroup with a quota can be made: nothing to tell of it");
        without.extend(["nodeprobe_cpu_throttled_time_seconds_total", "nodeprobe_cpu_quota_periods_total"]);
    }
    if let Err(reason) = old {
        skip(&reason);
        without.push("nodeprobe_signal_available");
    }
    questions.leave_out(&without);
    let empty = questions.unanswered(&databases);
    assert!(empty.is_empty(), "{} are empty:\n{}\n{}", empty.len(), empty.join("\n"), daemon.stderr());

    for Database { name: database, port, .. } in &databases {
        for id in SICK {
            // On a machine that is busy with something else the processor is to blame, and told in its place.
            let ids = format!("nodeprobe_finding_id=~\"{id}|cpu-starved\"");
            let finding = format!("nodeprobe_finding_active{{service_name=\"{id}\", {ids}}} == 1");
            let what = format!("{id} in {database}");
            eventually(&what, ARRIVAL, || query(*port, &finding).ok().filter(|found| !found.is_empty()));
        }
        let judged =
            query(*port, "nodeprobe_finding_active{service_name=\"idle\"}").expect("a right question");
        assert!(judged.len() > 10, "the idle process is judged in {database}: {judged:?}");
        let well =
            query(*port, "nodeprobe_finding_active{service_name=\"idle\"} == 1").expect("a right question");
        assert!(well.is_empty(), "the idle process is said to be sick in {database}: {well:?}");
    }
    if let Some(prometheus) = &prometheus {
        let alerts = query(prometheus.port(), "count by (alertname) (ALERTS)").expect("a right question");
        let alerts: BTreeSet<String> =
            alerts.iter().filter_map(|(labels, _)| labels["alertname"].as_str().map(str::to_owned)).collect();
        eprintln!("  pending or firing: {alerts:?}");
        assert!(alerts.contains("NodejsUnhandledRejections"), "{alerts:?}");
        assert!(!alerts.contains("NodeprobeNoProbes") && !alerts.contains("NodeprobeAbsent"), "{alerts:?}");
    }
    let failed = query(port, "nodeprobe_agent_exports_total{nodeprobe_export_outcome!=\"success\"} > 0");
    eprintln!("  exports that failed: {failed:?}; {}", daemon.stderr());
    daemon.end();
}

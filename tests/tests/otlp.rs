//! `nodeprobe run` against real receivers of OTLP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::Duration,
};

use nodeprobe_tests::{
    Node, Workload,
    agent::Daemon,
    collector::{Rotel, VictoriaMetrics, free_port, workspace_file},
    cpu_quota::CpuQuota,
    memory_group::MemoryGroup,
    on_one_node,
    rotel_log::{Metric, Point},
    skip::skip,
    stdio::SleepyReader,
    wait::{eventually, observe_for},
};

on_one_node!(Node::of_major(24) => every_catalogue_metric_arrives_over_grpc);
on_one_node!(Node::of_major(20) => every_catalogue_metric_arrives_over_http);
on_one_node!(Node::of_major(24) => each_process_of_a_cluster_is_an_instance_of_its_own);
on_one_node!(Node::of_major(22) => totals_survive_a_collector_that_is_killed_and_started_again);
on_one_node!(Node::of_major(22) => delta_points_add_up_to_the_total);
on_one_node!(Node::of_major(26) => what_is_measured_last_arrives_at_sigterm);
on_one_node!(Node::of_major(18) => an_endpoint_nobody_listens_on_is_told_and_survived);
on_one_node!(Node::of_major(24) => victoria_metrics_takes_what_is_sent);

const ARRIVAL: Duration = Duration::from_secs(30);
/// Less than any machine has that runs these tests, and more than the service needs.
const MEMORY_LIMIT_BYTES: u64 = 1 << 30;
const STALLS: &str = "nodeprobe.eventloop.stall.duration";

/// A process of which every signal has something to tell.
struct Service {
    block: Workload,
    writes: Workload,
    _reader: SleepyReader,
    allocation: Workload,
    /// After the processes: it can be removed when they have ended.
    memory: Option<MemoryGroup>,
    quota: Option<CpuQuota>,
}

impl Service {
    fn start(node: &Node) -> Self {
        let (ours, theirs) = io::pipe().expect("a pipe can be made");
        let block = checkout(node);
        let writes = Workload::plan(node, "stdout.js").args(["sync", "32", "4096"]).stdout(theirs).start();
        writes.wait_for("ready");
        let allocation = Workload::plan(node, "allocate.js").args(["main", "60"]).start_gated();
        let memory = MemoryGroup::of(block.pid(), MEMORY_LIMIT_BYTES).ok();
        // More than it needs: there is an account, and it stays what it is.
        let quota = CpuQuota::of(block.pid(), 4.0).ok();
        Self {
            memory,
            quota,
            block,
            writes,
            _reader: SleepyReader::start(ours, Duration::from_millis(300)),
            allocation,
        }
    }

    fn go(&mut self) {
        self.block.go();
        self.writes.go();
        self.allocation.go();
        self.block.wait_for("block");
        self.writes.wait_for("written");
        self.allocation.wait_for("done");
    }
}

/// A service that blocks 200 ms when told, with the name and attributes its owner gave it.
fn checkout(node: &Node) -> Workload {
    let plan = Workload::plan(node, "block.js").args(["main", "200", "1"]);
    let plan = plan.env("OTEL_SERVICE_NAME", "checkout");
    let block = plan
        .env("OTEL_RESOURCE_ATTRIBUTES", "service.version=1.2.3,deployment.environment.name=test")
        .start();
    block.wait_for("ready");
    block
}

/// Settings of the agent for a receiver, with short intervals.
fn settings<'a>(endpoint: &'a str, protocol: &'a str, interval_ms: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_METRIC_EXPORT_INTERVAL", interval_ms),
    ]
}

/// Starts rotel or skips the test.
fn rotel() -> Option<Rotel> {
    Rotel::start().map_err(|reason| skip(&reason)).ok()
}

fn of_process(metrics: &[Metric], pid: u32) -> impl Iterator<Item = &Metric> {
    let pid = pid.to_string();
    metrics.iter().filter(move |metric| metric.resource.get("process.pid") == Some(&pid))
}

/// All stalls of a process at each export, whatever they were spent with: there is a point for each leading cause.
fn stall_points(metrics: &[Metric], pid: u32) -> Vec<Point> {
    let all_causes = |metric: &Metric| Point {
        start_unix_nano: metric.points.iter().map(|point| point.start_unix_nano).min().unwrap_or(0),
        value: metric.points.iter().map(|point| point.value).sum(),
        count: metric.points.iter().map(|point| point.count).sum(),
        ..Point::default()
    };
    of_process(metrics, pid).filter(|metric| metric.name == STALLS).map(all_causes).collect()
}

/// Waits until a process has been exported, so that it is observed.
fn wait_until_exported(rotel: &Rotel, daemon: &Daemon, pid: u32) {
    let what = format!("a metric of process {pid}; the agent says: {}", daemon.stderr());
    eventually(&what, ARRIVAL, || of_process(&rotel.received(), pid).next().map(drop));
}

fn every_catalogue_metric_arrives_over_grpc(node: &Node) {
    let Some(rotel) = rotel() else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc_port);
    every_catalogue_metric_arrives(node, &rotel, &endpoint, "grpc");
}

fn every_catalogue_metric_arrives_over_http(node: &Node) {
    let Some(rotel) = rotel() else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.http_port);
    every_catalogue_metric_arrives(node, &rotel, &endpoint, "http/protobuf");
}

fn every_catalogue_metric_arrives(node: &Node, rotel: &Rotel, endpoint: &str, protocol: &str) {
    let mut service = Service::start(node);
    let mut daemon = Daemon::start(&settings(endpoint, protocol, "1000"));
    wait_until_exported(rotel, &daemon, service.block.pid());
    wait_until_exported(rotel, &daemon, service.writes.pid());
    service.go();
    let mut catalogue = catalogue();
    if service.memory.is_none() {
        skip("no cgroup with a limit of memory can be made: nothing to tell of it");
        catalogue.remove("nodeprobe.memory.limit");
    }
    if service.quota.is_none() {
        skip("no cgroup with a quota can be made: nothing to tell of it");
        catalogue.remove("nodeprobe.cpu.quota.periods");
    }
    assert!(catalogue.len() >= 8, "docs/metrics.md has no catalogue: {catalogue:?}");
    let missing = |metrics: &[Metric]| -> Vec<String> {
        catalogue.keys().filter(|name| !metrics.iter().any(|metric| metric.name == **name)).cloned().collect()
    };
    let complete = || missing(&rotel.received()).is_empty().then_some(());
    let patience = std::time::Instant::now() + ARRIVAL;
    eventually("all metrics or the end of patience", ARRIVAL * 2, || {
        complete().or_else(|| (std::time::Instant::now() > patience).then_some(()))
    });
    daemon.end();
    let received = rotel.received();
    assert_eq!(missing(&received), Vec::<String>::new(), "metrics that did not arrive over {protocol}");

    for metric in &received {
        if let Some(unit) = catalogue.get(&metric.name) {
            assert_eq!(&metric.unit, unit, "unit of {}", metric.name);
        }
        let temporality = metric.temporality.as_deref();
        assert!(matches!(temporality, None | Some("CUMULATIVE")), "{}: {temporality:?}", metric.name);
        assert_eq!(temporality.is_none(), metric.data_type == "Gauge", "temporality of {}", metric.name);
    }
    let of_service: Vec<&Metric> = of_process(&received, service.block.pid()).collect();
    for (attribute, value) in
        [("service.name", "checkout"), ("service.version", "1.2.3"), ("deployment.environment.name", "test")]
    {
        for metric in &of_service {
            let found = metric.resource.get(attribute).map(String::as_str);
            assert_eq!(found, Some(value), "{attribute} of {} in {:?}", metric.name, metric.resource);
        }
    }
    let instances = received.iter().filter(|metric| metric.resource.contains_key("process.pid"));
    let mut pids_of_instance: BTreeMap<&str, &str> = BTreeMap::new();
    for metric in instances {
        let instance = metric.resource.get("service.instance.id").expect("every process has an instance id");
        let pid = &metric.resource["process.pid"];
        assert_eq!(
            pids_of_instance.entry(instance).or_insert(pid),
            pid,
            "two processes share an instance id"
        );
    }
    let last = stall_points(&received, service.block.pid()).pop().expect("the block is a stall");
    assert_eq!(last.count, Some(1), "stalls of the service");
    assert!(last.value.is_some_and(|sum_s| (sum_s - 0.2).abs() < 0.02), "{last:?}");
}

/// Also where all of them were given the same id, by the environment that workers inherit from the primary.
fn each_process_of_a_cluster_is_an_instance_of_its_own(node: &Node) {
    const WORKERS: &str = "3";
    let Some(rotel) = rotel() else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc_port);
    let start = |attributes: &str| {
        let plan = Workload::plan(node, "cluster.js").args([WORKERS]).env("OTEL_SERVICE_NAME", "shop");
        let cluster = plan.env("OTEL_RESOURCE_ATTRIBUTES", attributes).start();
        let ready = cluster.wait_for("ready");
        let workers = ready["workers"].as_array().expect("it lists its workers").iter();
        let mut pids: Vec<u32> = workers.filter_map(|pid| Some(pid.as_u64()? as u32)).collect();
        pids.push(cluster.pid());
        (cluster, pids)
    };
    let (_plain, pids) = start("team=a");
    let (_named, named_pids) = start("service.instance.id=shop-1");
    assert_eq!((pids.len(), named_pids.len()), (4, 4));
    let mut daemon = Daemon::start(&settings(&endpoint, "grpc", "1000"));
    for pid in pids.iter().chain(&named_pids) {
        wait_until_exported(&rotel, &daemon, *pid);
    }
    observe_for(Duration::from_secs(3)); // Some exports more: an id must not change.
    daemon.end();
    let received = rotel.received();
    let mut owners: BTreeMap<String, u32> = BTreeMap::new();
    for pid in pids.iter().chain(&named_pids) {
        let attribute = |name: &str| -> BTreeSet<String> {
            of_process(&received, *pid).filter_map(|metric| metric.resource.get(name).cloned()).collect()
        };
        assert_eq!(attribute("service.name"), BTreeSet::from(["shop".to_owned()]), "process {pid}");
        let ids = attribute("service.instance.id");
        assert_eq!(ids.len(), 1, "process {pid} is {ids:?}");
        for id in ids {
            assert!(
                !id.is_empty() && !owners.contains_key(&id),
                "{pid} is {id}, as is {:?}",
                owners.get(&id)
            );
            owners.insert(id, *pid);
        }
    }
    // One has the id that was asked for, and the others show where theirs is from.
    let named = |id: &&String| *id == "shop-1" || id.starts_with("shop-1-");
    let of_named = owners.iter().filter(|(id, _)| named(id)).map(|(_, pid)| *pid).collect::<BTreeSet<_>>();
    assert_eq!(of_named, named_pids.into_iter().collect(), "{owners:?}");
    assert!(owners.contains_key("shop-1"), "{owners:?}");
}

/// Names and units of `docs/metrics.md`: the rows of its tables whose first cell is a metric's name.
fn catalogue() -> BTreeMap<String, String> {
    let text = fs::read_to_string(workspace_file("docs/metrics.md")).expect("docs/metrics.md is there");
    let mut unit_column = None;
    let mut metrics = BTreeMap::new();
    for line in text.lines() {
        if !line.starts_with('|') {
            // The next table has columns of its own.
            unit_column = None;
        }
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let Some(column) = cells.iter().position(|cell| cell.eq_ignore_ascii_case("unit")) {
            unit_column = Some(column);
        }
        let (Some(column), Some(name)) = (unit_column, cells.get(1)) else { continue };
        let is_metric =
            ["nodejs.", "v8js.", "process.", "nodeprobe."].iter().any(|prefix| name.starts_with(prefix));
        if let (true, Some(unit)) = (is_metric, cells.get(column)) {
            metrics.insert((*name).to_owned(), (*unit).to_owned());
        }
    }
    metrics
}

fn totals_survive_a_collector_that_is_killed_and_started_again(node: &Node) {
    let Some(mut rotel) = rotel() else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc_port);
    let mut service = checkout(node);
    let pid = service.pid();
    let mut daemon = Daemon::start(&settings(&endpoint, "grpc", "1000"));
    wait_until_exported(&rotel, &daemon, pid);
    service.go();
    let total = |rotel: &Rotel, count| {
        let received = rotel.received();
        let point = stall_points(&received, pid).pop()?;
        (point.count == Some(count)).then_some(point)
    };
    let before = eventually("the first stall", ARRIVAL, || total(&rotel, 1));
    rotel.kill();
    service.go();
    service.wait_for_nth("block", 2);
    observe_for(Duration::from_secs(3)); // Some exports fail meanwhile.
    assert!(daemon.is_running(), "the agent ended without its collector: {}", daemon.stderr());
    rotel.restart();
    let after = eventually("both stalls after the restart", ARRIVAL, || total(&rotel, 2));
    assert_eq!(after.start_unix_nano, before.start_unix_nano, "the series did not begin anew");
    let sum_s = after.value.unwrap_or(0.0);
    assert!((sum_s - 0.4).abs() < 0.03, "two blocks of 200 ms are {sum_s} s");
    daemon.end();
}

fn delta_points_add_up_to_the_total(node: &Node) {
    let Some(rotel) = rotel() else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.http_port);
    let mut service = checkout(node);
    let pid = service.pid();
    let mut settings = settings(&endpoint, "http/protobuf", "1000");
    settings.push(("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"));
    let mut daemon = Daemon::start(&settings);
    wait_until_exported(&rotel, &daemon, pid);
    for blocks in 1..=3 {
        service.go();
        service.wait_for_nth("block", blocks);
        observe_for(Duration::from_millis(1100)); // Each in an interval of its own.
    }
    daemon.end();
    let received = rotel.received();
    for metric in of_process(&received, pid).filter(|metric| metric.data_type == "Histogram") {
        assert_eq!(metric.temporality.as_deref(), Some("DELTA"), "{}", metric.name);
    }
    let counts: Vec<u64> = stall_points(&received, pid).iter().filter_map(|point| point.count).collect();
    assert_eq!(counts.iter().sum::<u64>(), 3, "counts of the points: {counts:?}");
}

fn what_is_measured_last_arrives_at_sigterm(node: &Node) {
    let Some(rotel) = rotel() else { return };
    let endpoint = format!("http://127.0.0.1:{}", rotel.grpc_port);
    let mut service = checkout(node);
    let pid = service.pid();
    // The interval that never comes.
    let mut daemon = Daemon::start(&settings(&endpoint, "grpc", "600000"));
    // Without exports only the agent's programs tell that it observes; `top` beside it uses the same ones.
    nodeprobe_tests::Agent::observing([&service]).end();
    service.go();
    service.wait_for("block");
    daemon.end();
    let received = rotel.received();
    let points = stall_points(&received, pid);
    assert_eq!(
        points.last().and_then(|point| point.count),
        Some(1),
        "the stall before SIGTERM; {}",
        daemon.stderr()
    );
}

fn an_endpoint_nobody_listens_on_is_told_and_survived(node: &Node) {
    let idle = Workload::idle(node);
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    for protocol in ["grpc", "http/protobuf"] {
        let mut daemon = Daemon::start(&settings(&endpoint, protocol, "500"));
        eventually(&format!("a word about port {port}, {protocol}"), ARRIVAL, || {
            assert!(daemon.is_running(), "the agent gave up: {}", daemon.stderr());
            daemon.stderr().contains(&port.to_string()).then_some(())
        });
        observe_for(Duration::from_secs(3));
        assert!(daemon.is_running(), "the agent gave up: {}", daemon.stderr());
        let lines = daemon.stderr().lines().count();
        assert!(lines < 40, "the log floods ({lines} lines): {}", daemon.stderr());
        daemon.end();
    }
    assert!(idle.oracle().len() == 1, "the idle process was disturbed");
}

fn victoria_metrics_takes_what_is_sent(node: &Node) {
    let Ok(database) = VictoriaMetrics::start().map_err(|reason| skip(&reason)) else { return };
    let mut service = checkout(node);
    let url = database.otlp_url();
    let settings = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ];
    let mut daemon = Daemon::start(&settings);
    let ours = || {
        let series = database.series();
        let ours = series.into_iter().filter(|labels| labels["service.name"] == "checkout");
        ours.collect::<Vec<_>>()
    };
    eventually(&format!("a series of the service; {}", daemon.stderr()), ARRIVAL, || {
        (!ours().is_empty()).then_some(())
    });
    service.go();
    service.wait_for("block");
    let query = format!("sum({{__name__=\"{STALLS}_count\",\"service.name\"=\"checkout\"}})");
    let stalls = eventually("the stall", ARRIVAL, || database.value(&query).filter(|count| *count > 0.0));
    assert!((stalls - 1.0).abs() < f64::EPSILON, "{stalls} stalls");
    daemon.end();
    let pid = service.pid().to_string();
    for labels in ours() {
        assert_eq!(labels["process.pid"], pid.as_str(), "a pid is part of the Resource: {labels}");
        assert_eq!(labels["service.version"], "1.2.3", "{labels}");
    }
}

//! The four boards as Grafana's own components draw them in a browser, with what a sick and a healthy shop tells of itself.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nodeprobe_tests::{
    Node, Workload,
    agent::Daemon,
    boards::{BOARDS, board, panels},
    collector::{VictoriaMetrics, workspace_file},
    drawing::{Asked, Page, Range, ask},
    load::Load,
    memory_group::MemoryGroup,
    on_one_node,
    prometheus::{Prometheus, VmAgent, query},
    skip::skip,
    stdio::slow_pipe,
    wait::{eventually, observe_for},
    workload::number,
};
use serde_json::Value;

on_one_node!(Node::of_major(24) => boards_are_drawn_with_real_data);

const ARRIVAL: Duration = Duration::from_secs(30);
const OBSERVED: Duration = Duration::from_mins(3);
/// Also how often the agent exports.
const STEP_S: u64 = 5;
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
/// Name, script, requests per second; so few that two cores are enough for all.
const SERVICES: [(&str, &str, f64); 7] = [
    ("login", "failure-modes/event-loop-starvation.js", 2.0),
    ("sessions", "failure-modes/heap-growth.js", 10.0),
    ("invoices", "failure-modes/unhandled-rejections.js", 10.0),
    ("images", "failure-modes/sync-child-process.js", 3.0),
    ("orders", "failure-modes/async-context-loss.js", 15.0),
    ("audit-log", "failure-modes/stdout-backpressure.js", 20.0),
    ("cart", "failure-modes/healthy-context.js", 15.0),
];
/// One service, two processes.
const CHECKOUT: [(&str, f64); 2] = [("checkout-7d9f-x2x4k", 5.0), ("checkout-7d9f-p8wmz", 3.0)];
const SICK: [&str; 4] = ["login", "invoices", "images", "audit-log"];
/// Idle, named by its package.json.
const HEALTHY: &str = "@example/shop-api";
/// Panels that have nothing to draw here, and why.
const EMPTY: [(&str, &str, &str); 0] = [];

/// A process under its load.
struct Service {
    _workload: Workload,
    /// After its process, so dropped after it: a group can be removed when it is empty.
    group: Option<MemoryGroup>,
    _load: Load,
    /// Asks once and never reads.
    _client: Option<TcpStream>,
}

impl Service {
    fn start(node: &Node, name: &str, pod: &str, script: &str, rate: f64) -> Self {
        // As in Kubernetes, where the agent makes the instance of these.
        let mut plan = Workload::plan(node, script).installed().env("OTEL_SERVICE_NAME", name).env(
            "OTEL_RESOURCE_ATTRIBUTES",
            format!("k8s.namespace.name=shop,k8s.pod.name={pod},service.instance.id=shop.{pod}.app"),
        );
        let is_checkout = name == "checkout";
        if script.ends_with("heap-growth.js") || is_checkout {
            plan = plan.flag("--max-old-space-size=320");
        }
        if script.ends_with("stdout-backpressure.js") || is_checkout {
            plan = plan.stdout(slow_pipe(Duration::from_millis(80)));
        }
        if is_checkout {
            plan = plan.stderr(slow_pipe(Duration::from_millis(80)));
        }
        let workload = plan.start();
        let ready = workload.wait_for("ready");
        let port = number(&ready, "port") as u16;
        let path = ready["path"].as_str().unwrap_or("/order");
        let client = is_checkout.then(|| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            write!(client, "GET /export HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it can be asked");
            client
        });
        let load = Load::start(port, path, rate, 2);
        let group = MemoryGroup::of(workload.pid(), MEMORY_LIMIT_BYTES).ok();
        Self { _workload: workload, group, _load: load, _client: client }
    }
}

fn start_shop(node: &Node) -> Vec<Service> {
    let one = |(name, script, rate): &(&str, &str, f64)| {
        Service::start(node, name, &format!("{name}-5c8b-q7r2n"), script, *rate)
    };
    let checkout =
        CHECKOUT.iter().map(|(pod, rate)| Service::start(node, "checkout", pod, "checkout.js", *rate));
    SERVICES.iter().map(one).chain(checkout).collect()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

fn boards_are_drawn_with_real_data(node: &Node) {
    let drawings = workspace_file("target/drawn");
    let Ok(page) = Page::bundle(&drawings).map_err(|reason| skip(&reason)) else { return };
    let Ok(victoria) = VictoriaMetrics::start().map_err(|reason| skip(&reason)) else { return };
    let Ok(prometheus) = Prometheus::start().map_err(|reason| skip(&reason)) else { return };
    let Ok(vmagent) = VmAgent::start(&victoria, Some(&prometheus)).map_err(|reason| skip(&reason)) else {
        return;
    };
    let (url, interval) = (vmagent.otlp_url(), (STEP_S * 1000).to_string());
    let daemon = Daemon::start(&[
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", url.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", &interval),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=eu-1,k8s.node.name=node-1"),
    ]);
    let port = prometheus.port();
    eventually(&format!("metrics of the agent; {}", daemon.stderr()), ARRIVAL, || {
        query(port, "nodeprobe_agent_processes").ok().filter(|found| !found.is_empty())
    });
    let from = now_s();
    let shop_api = Workload::plan(node, "shop-api/server.js")
        .working_directory(&workspace_file("tests/workloads/shop-api"))
        .env("OTEL_RESOURCE_ATTRIBUTES", "k8s.namespace.name=shop,k8s.pod.name=shop-api-6f4c-zz9l1")
        .start();
    let shop = start_shop(node);
    if shop.iter().any(|service| service.group.is_none()) {
        skip("no cgroup with a limit of memory can be made: nothing to tell of it");
    }
    // Of this one not everything can be observed.
    let old = Node::of_major(16).map(|node| Workload::idle(&node)).map_err(|reason| skip(&reason));
    observe_for(OBSERVED);

    let to = now_s() / STEP_S * STEP_S;
    let range = Range { from: from / STEP_S * STEP_S, to, step: STEP_S };
    let found = query(
        port,
        "nodejs_eventloop_utilization_ratio{service_name=\"checkout\", k8s_pod_name=~\".*x2x4k\"}",
    )
    .expect("a right question");
    let instance = found[0].0["service_instance_id"].as_str().expect("a process has an instance").to_owned();
    // All at the same time, and drawn when the shop has closed: a browser beside it would starve it.
    let asked = BOARDS.map(|name| {
        let (namespace, service, instance) = match name {
            "fleet" => ("shop", ".*", ".*"),
            "service" => ("shop", "checkout", ".*"),
            "process" => ("shop", "checkout", instance.as_str()),
            _ => (".*", ".*", ".*"),
        };
        let variables =
            [("$cluster", ".*"), ("$namespace", namespace), ("$service", service), ("$instance", instance)];
        (name, ask(port, name, &variables, range))
    });
    drop((shop, shop_api, old));
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
    // How soon it ends is asked elsewhere, on a machine that has the time.
    drop(daemon);
    let mut wrong = Vec::new();
    for (name, asked) in &asked {
        let (answer, picture) = page.draw(name, asked);
        eprintln!("  {}", picture.display());
        wrong.extend(faults(name, asked, &answer));
        if *name == "fleet" {
            wrong.extend(faults_of_services(&answer));
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// Texts of an answer.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What is wrong with a drawn board.
fn faults(name: &str, asked: &Asked, answer: &Value) -> Vec<String> {
    let board = board(name);
    let mut wrong: Vec<String> =
        texts(&answer["faults"]).iter().map(|fault| format!("{name}: the page says: {fault}")).collect();
    wrong.extend(texts(&answer["overlaps"]).iter().map(|titles| format!("{name}: overlap: {titles}")));
    let drawn: BTreeMap<u64, &Value> = answer["panels"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|panel| Some((panel["id"].as_u64()?, panel)))
        .collect();
    for panel in panels(&board) {
        let title = panel["title"].as_str().expect("a panel has a title");
        let id = panel["id"].as_u64().expect("a panel has a number");
        let mut fault = |text: &str| wrong.push(format!("{name}: {title}: {text}"));
        let Some(drawn) = drawn.get(&id) else {
            fault("is not drawn");
            continue;
        };
        if drawn["title"] != title || drawn["clipped"] != false {
            fault(&format!("its title is cut or wrong: {}", drawn["title"]));
        }
        let text = drawn["text"].as_str().unwrap_or_default();
        if ["NaN", "undefined", "Infinity", "[object"].iter().any(|word| text.contains(word)) {
            fault(&format!("a number that is none: {text}"));
        }
        let is_excused = EMPTY.iter().any(|(of, excused, _)| *of == name && *excused == title);
        let has_data = drawn["items"].as_u64().unwrap_or_default() > 0 && drawn["painted"] == true;
        if has_data == is_excused {
            fault(&format!(
                "data is {has_data}, expected {}: {}",
                !is_excused,
                asked.results[&id.to_string()]
            ));
        }
        if !is_excused && (text.contains("No data") || text.contains("no data")) {
            fault("says that it has no data");
        }
        for (unit, label) in drawn["units"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)))
        {
            if !has_unit(unit, label) {
                fault(&format!("{label:?} is no {unit}"));
            }
        }
        if panel["type"] != "state-timeline" && drawn["units"].as_array().is_none_or(Vec::is_empty) {
            fault("shows no number");
        }
    }
    wrong
}

/// Whether a text is a number in a unit as Grafana writes it.
fn has_unit(unit: &str, text: &str) -> bool {
    let number = |text: &str| text.trim().replace(',', "").parse::<f64>().is_ok();
    let ends: &[&str] = match unit {
        "percentunit" => &["%"],
        "s" => &[" s", " ms", " µs", " ns", " min", " mins", " hour", " hours", " day", " days"],
        "bytes" => &[" B", " KiB", " MiB", " GiB"],
        "Bps" => &[" B/s", " kB/s", " MB/s", " GB/s"],
        "ops" => &[" ops/s", "K ops/s", " K ops/s"],
        _ => &["", " K", " Mil"],
    };
    ends.iter().any(|end| text.strip_suffix(end).is_some_and(number))
}

/// A service that needs somebody must be told from one that does not.
fn faults_of_services(answer: &Value) -> Vec<String> {
    let table =
        answer["panels"].as_array().into_iter().flatten().find(|panel| panel["title"] == "Every service");
    let Some(table) = table else { return vec!["fleet: no table of services".to_owned()] };
    let headings = texts(&table["headings"]);
    let place = |heading: &str| headings.iter().position(|text| *text == heading);
    let (Some(service), Some(findings)) = (place("Service"), place("Findings")) else {
        return vec![format!("fleet: the table of services has the columns {headings:?}")];
    };
    let rows: Vec<&Value> = table["cells"].as_array().into_iter().flatten().collect();
    let of = |name: &str| rows.iter().find(|row| row[service]["text"] == name).map(|row| &row[findings]);
    let mut wrong = Vec::new();
    let is_well = |cell: &Value| cell["text"] == "0";
    let well = of(HEALTHY);
    if !well.is_some_and(is_well) {
        wrong.push(format!("fleet: {HEALTHY} is not well: {well:?}"));
    }
    for name in SICK {
        let cell = of(name);
        if cell.is_none_or(is_well) || cell.map(|cell| &cell["color"]) == well.map(|cell| &cell["color"]) {
            wrong.push(format!("fleet: {name} does not look sick: {cell:?} beside {well:?}"));
        }
    }
    wrong
}

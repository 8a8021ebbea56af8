//! Sick and healthy services in real containers, seen through an OpenTelemetry Collector in a real Prometheus: every series has to
//! say which container it is of, and what is wrong with it.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    net::TcpStream,
    os::fd::OwnedFd,
    process::Stdio,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use nodeprobe_tests::{
    Node, Workload,
    chain::{ARRIVAL, Chain},
    containers::{Container, Order, Podman, Runc, groups::Slices},
    cpu_quota,
    load::Load,
    memory_group, on_one_node,
    questions::{Database, Questions},
    rootfs::Rootfs,
    skip::skip,
    wait::{eventually, observe_for},
    workload::number,
};
use serde_json::Value;

on_one_node!(Node::of_major(24) => containers_are_told_apart_behind_the_collector);
on_one_node!(Node::of_major(22) => a_container_is_told_behind_rotel);

/// How long services are under load: findings come within 15 s, and the agent looks back on a minute.
const WATCHED: Duration = Duration::from_secs(40);
/// A service may be said to starve if the kernel itself says it waited so long for a processor, within the test, which is no longer than
/// what a verdict looks back on: docs/failure-modes.md.
const MAY_STARVE_S: f64 = 1.0;
const STARVES: &str = "cpu-starved";
/// So that two cores are enough for all.
const RATE_MOST: f64 = 15.0;

/// Where a container runs: as podman does it, or in a group of runc's with `<uid>` and `<id>` in its path.
#[derive(Clone, Copy)]
enum Place {
    Podman,
    Group(&'static str),
}

/// Script, name (`None`: it has none), place.
const SERVICES: [(&str, Option<&str>, Place); 8] = [
    ("event-loop-starvation", Some("logins"), Place::Podman),
    ("healthy-context", Some("search"), Place::Podman),
    ("sync-child-process", Some("images"), Place::Group("/kubepods/pod<uid>/<id>")),
    ("stdout-backpressure", Some("orders"), Place::Group("/kubepods/burstable/pod<uid>/<id>")),
    ("healthy-idle", Some("spare"), Place::Group("/kubepods/besteffort/pod<uid>/<id>")),
    (
        "unhandled-rejections",
        Some("visits"),
        Place::Group(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<u_i_d>.slice/cri-containerd-<id>.scope",
        ),
    ),
    (
        "healthy-context",
        Some("catalogue"),
        Place::Group(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<u_i_d>.slice/crio-<id>.scope",
        ),
    ),
    ("healthy-idle", None, Place::Group("/kubepods.slice/kubepods-pod<u_i_d>.slice/docker-<id>.scope")),
];

/// Where the one that provokes what the others do not is, and with how many requests a second.
const CHECKOUT: (&str, f64) = ("/kubepods/pod5e9b1f0f-7c1d-4f6e-9a3b-00000000000f/<id>", 5.0);
const MEMORY_LIMIT_BYTES: u64 = 1 << 30;
/// More than this host has: it keeps account, and takes nothing.
const QUOTA_PROCESSORS: f64 = 4.0;

/// A service in its container, and what must be told of it.
struct Service {
    container: Container,
    script: &'static str,
    name: &'static str,
    pod_uid: Option<String>,
    load: Option<Load>,
    /// How long its main thread had waited for a processor when its load began.
    waited_before_s: f64,
}

impl Service {
    fn start(index: usize, podman: Option<&Podman>, runc: &Runc) -> Option<Self> {
        let (script, name, place) = SERVICES[index];
        let mut order = match name {
            Some(name) => Order::service(script, name),
            None => Order::nameless(script),
        };
        if script == "stdout-backpressure" {
            order.stdout = Some(slowly_read());
        }
        let uid = format!("5e9b1f0{index:x}-7c1d-4f6e-9a3b-{index:012x}");
        let (container, pod_uid) = match place {
            Place::Podman => (podman?.start(&order), None),
            Place::Group(path) => {
                let path = path.replace("<uid>", &uid).replace("<u_i_d>", &uid.replace('-', "_"));
                // Digits of every kind, and none of them zeros alone.
                let id = format!("{:016x}", 0x9d5c_13e8_7ab2_4f06_u64 + index as u64).repeat(4);
                (runc.start(&id, &path, order), Some(uid))
            }
        };
        // What OpenTelemetry's conventions prescribe for a Node that nobody has named.
        let name = name.unwrap_or("unknown_service:node");
        Some(Self { container, script, name, pod_uid, load: None, waited_before_s: 0.0 })
    }

    fn is_sick(&self) -> bool {
        !self.script.starts_with("healthy")
    }

    fn begin_load(&mut self, ready: &Value) {
        self.waited_before_s = self.waited_s();
        let rate = number(ready, "rate").min(RATE_MOST);
        if rate > 0.0 {
            // One connection: a request each turn, or two may be answered in one.
            let path = ready["path"].as_str().expect("it says what to ask for");
            self.load = Some(Load::start(number(ready, "port") as u16, path, rate, 1));
        }
    }

    /// How long its main thread was runnable and did not run, as the kernel tells.
    fn waited_s(&self) -> f64 {
        let path = format!("/proc/{0}/task/{0}/schedstat", self.container.pid);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let waited_ns = text.split(' ').nth(1).and_then(|word| word.parse::<f64>().ok());
        waited_ns.unwrap_or_else(|| panic!("{path}: {text}")) / 1e9
    }

    /// What may be told of it. On a machine that is busy with something else the processor is to blame, and told in place of
    /// what else is wrong.
    fn expected(&self) -> BTreeSet<String> {
        let starves = self.waited_s() >= MAY_STARVE_S;
        let modes = [self.is_sick().then_some(self.script), starves.then_some(STARVES)];
        modes.into_iter().flatten().map(str::to_owned).collect()
    }

    /// A selector of its series.
    fn of(&self, metric: &str, more: &str) -> String {
        format!("{metric}{{container_id=\"{}\"{more}}}", self.container.id)
    }
}

/// A pipe whose reader takes 8 KiB each 50 ms.
fn slowly_read() -> Stdio {
    let (mut reading, writing) = io::pipe().expect("a pipe can be made");
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(1..) = io::Read::read(&mut reading, &mut buffer) {
            observe_for(Duration::from_millis(50));
        }
    });
    OwnedFd::from(writing).into()
}

/// Every series of a container says the same of it, and what we know.
fn assert_identity(chain: &Chain, service: &Service, ready: &Value) {
    let Service { container, name, pod_uid, .. } = service;
    let uptime = service.of("process_uptime_seconds", "");
    chain.wait_for(&uptime);
    let pid = container.pid.to_string();
    // Node knows only the pid of its own namespace.
    let own_pid = number(ready, "pid").to_string();
    assert_ne!(pid, own_pid, "{name} has a pid namespace of its own");
    // Also those of its process that lack the id, were there any.
    let all = chain.ask(&format!("{{process_pid=\"{pid}\"}}"));
    assert!(all.len() > 20, "{name}: {} series", all.len());
    for (labels, _) in &all {
        assert_eq!(labels["container_id"], container.id.as_str(), "{labels}");
        assert_eq!(labels["service_name"], *name, "{labels}");
        assert_eq!(labels["process_vpid"], own_pid.as_str(), "{labels}");
        assert_eq!(labels["k8s_pod_uid"].as_str(), pod_uid.as_deref(), "{labels}");
    }
    let of_container = chain.ask(&service.of("", ""));
    assert_eq!(of_container.len(), all.len(), "no other process is said to be in the container of {name}");
}

/// Failure modes of a container that are told now, or were within the time.
fn findings(chain: &Chain, service: &Service, within_s: u64) -> BTreeSet<String> {
    let told = format!("max_over_time({}[{within_s}s]) == 1", service.of("nodeprobe_finding_active", ""));
    let told = chain.ask(&told);
    told.iter().filter_map(|(labels, _)| labels["nodeprobe_finding_id"].as_str().map(str::to_owned)).collect()
}

#[track_caller]
fn wait_for_finding(chain: &Chain, service: &Service) {
    let end = Instant::now() + ARRIVAL;
    while findings(chain, service, 5).is_disjoint(&service.expected()) {
        let told = findings(chain, service, 300);
        assert!(
            Instant::now() < end,
            "{} is not told of {}, but {told:?}; {}",
            service.script,
            service.name,
            chain.daemon.stderr()
        );
        observe_for(Duration::from_millis(200));
    }
}

fn containers_are_told_apart_behind_the_collector(node: &Node) {
    let of_cluster = [("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=test")];
    let Ok(mut chain) = Chain::with_collector_and_rules(&of_cluster).map_err(|reason| skip(&reason)) else {
        return;
    };
    let (image, around) = (Rc::new(Rootfs::with_services(node)), Rc::new(Slices::watch()));
    let Ok(runc) = Runc::with(Rc::clone(&image), &around).map_err(|reason| skip(&reason)) else { return };
    let podman = Podman::with(&image, &around).map_err(|reason| skip(&reason)).ok();

    let mut services: Vec<Service> =
        (0..SERVICES.len()).filter_map(|index| Service::start(index, podman.as_ref(), &runc)).collect();
    let readies: Vec<Value> =
        services.iter().map(|service| service.container.wait_for_nth("ready", 1)).collect();
    for (service, ready) in services.iter().zip(&readies) {
        assert_identity(&chain, service, ready);
    }
    // Starting is a stall, too, and no request's.
    let stalls = "nodeprobe_eventloop_stall_duration_seconds_count";
    let images = services.iter().position(|service| service.name == "images").expect("it runs");
    let stalls_before = chain.sum(&services[images].of(stalls, ""));

    for (service, ready) in services.iter_mut().zip(&readies) {
        service.begin_load(ready);
    }
    for service in services.iter().filter(|service| service.is_sick()) {
        wait_for_finding(&chain, service);
    }
    observe_for(WATCHED);
    for service in &services {
        let (told, expected) = (findings(&chain, service, 300), service.expected());
        let (before_s, waited_s) = (service.waited_before_s, service.waited_s());
        eprintln!(
            "  told of {}: {told:?}; it waited {before_s:.2} s for a processor before its load, {:.2} s since",
            service.name,
            waited_s - before_s
        );
        // One that starves waits in more places than its own; a healthy one has no place to wait in.
        let may_be_told_more = service.is_sick() && expected.contains(STARVES);
        let is_right = told.is_subset(&expected) || may_be_told_more;
        assert!(is_right, "{} is told {told:?}, it is {expected:?}", service.name);
    }
    for service in &mut services {
        service.load = None;
        // The blocked one has to be read for a while before it hears.
        let report = service.container.report();
        match service.name {
            "visits" => {
                let rejected = number(&report, "unhandled_rejections");
                assert!(rejected > 100.0, "{report}");
                let metric = service.of("nodeprobe_promise_unhandled_rejections_total", "");
                // Asked anew: it shares the host's network, where anybody may ask it for something.
                let container = RefCell::new(&mut service.container);
                chain.assert_arrives("unhandled rejections", &metric, || {
                    number(&container.borrow_mut().report(), "unhandled_rejections")
                });
            }
            "orders" => {
                let bytes = number(&report["blocked"], "bytes");
                assert!(bytes > 1e6, "{report}");
                let metric =
                    service.of("nodeprobe_stdio_io_bytes_total", ", nodeprobe_stdio_stream=\"stdout\"");
                chain.assert_arrives("bytes to stdout", &metric, || bytes);
            }
            "images" => {
                let turns = number(&report["turns"], "count");
                assert!(turns > 50.0, "{report}");
                let metric = service.of(stalls, "");
                chain.assert_arrives("stalls, with those of the start", &metric, || stalls_before + turns);
            }
            _ => {}
        }
    }
    let lost = chain.ask("nodeprobe_agent_events_lost_total > 0");
    assert!(lost.is_empty(), "{lost:?}");
    assert_every_expression_has_data(&chain, &runc);

    for service in services {
        let (name, id) = (service.name, service.container.id.clone());
        let left = service.container.remove();
        assert!(left.is_empty(), "groups of {name} are left: {left:?}");
        // Its last point arrives, and then no more.
        let fresh = format!("count_over_time(process_uptime_seconds{{container_id=\"{id}\"}}[5s])");
        eventually(&format!("the end of the series of {name}"), ARRIVAL, || {
            chain.ask(&fresh).is_empty().then_some(())
        });
    }
    chain.daemon.end();
}

/// Asks for all that boards and rules ask for. A checkout beside the others provokes what they do not: a worker, a full thread pool and
/// socket, deoptimisations, a lost context, a memory limit.
fn assert_every_expression_has_data(chain: &Chain, runc: &Runc) {
    let (path, rate) = CHECKOUT;
    let mut order = Order::service("checkout", "checkout");
    order.arguments = vec!["--max-old-space-size=320".to_owned(), "/app/checkout.js".to_owned()];
    // As its owner may say it; the others have the names of a host without the API of Kubernetes.
    let names = "k8s.namespace.name=shop,k8s.pod.name=checkout-1";
    order.environment.push(("OTEL_RESOURCE_ATTRIBUTES".to_owned(), names.to_owned()));
    order.stdout = Some(slowly_read());
    let checkout = runc.start(&"c4ec0a7f00d5e11e".repeat(4), path, order);
    let mut questions = Questions::of_boards_and_rules();
    if let Err(error) = memory_group::limit_around(checkout.pid, MEMORY_LIMIT_BYTES) {
        skip(&format!("the memory of a container cannot be limited: {error}"));
        questions.leave_out(&["nodeprobe_memory_limit_bytes"]);
    }
    if let Err(error) = cpu_quota::limit_around(checkout.pid, QUOTA_PROCESSORS) {
        skip(&format!("a container cannot get a quota of processors: {error}"));
        questions.leave_out(&["nodeprobe_cpu_quota_periods_total"]);
    }
    // Of this one not everything can be observed.
    let old = Node::of_major(16).map(|node| Workload::idle(&node));
    if let Err(reason) = &old {
        skip(reason);
        questions.leave_out(&["nodeprobe_signal_available"]);
    }
    let port = number(&checkout.wait_for_nth("ready", 1), "port") as u16;
    // Asks once and never reads.
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(client, "GET /export HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it can be asked");
    let load = Load::start(port, "/order", rate, 2);
    let prometheus = Database { name: "Prometheus", port: chain.prometheus.port(), has_rules: true };
    let empty = questions.unanswered(&[prometheus]);
    assert!(empty.is_empty(), "{} are empty:\n{}\n{}", empty.len(), empty.join("\n"), chain.daemon.stderr());
    let of_checkout = chain.ask(&format!("process_uptime_seconds{{container_id=\"{}\"}}", checkout.id));
    assert_eq!(of_checkout.len(), 1, "the checkout is told of with its container: {of_checkout:?}");
    drop((load, client, old));
    let left = checkout.remove();
    assert!(left.is_empty(), "groups of the checkout are left: {left:?}");
}

fn a_container_is_told_behind_rotel(node: &Node) {
    let Ok(mut chain) = Chain::with_rotel().map_err(|reason| skip(&reason)) else { return };
    let (image, around) = (Rc::new(Rootfs::with_services(node)), Rc::new(Slices::watch()));
    let Ok(runc) = Runc::with(Rc::clone(&image), &around).map_err(|reason| skip(&reason)) else { return };
    let visits = SERVICES.iter().position(|(_, name, _)| *name == Some("visits")).expect("there is one");
    let mut service = Service::start(visits, None, &runc).expect("it needs no podman");
    let ready = service.container.wait_for_nth("ready", 1);
    assert_identity(&chain, &service, &ready);
    service.begin_load(&ready);
    wait_for_finding(&chain, &service);
    service.load = None;
    let rejected = number(&service.container.report(), "unhandled_rejections");
    let metric = service.of("nodeprobe_promise_unhandled_rejections_total", "");
    chain.assert_arrives("unhandled rejections", &metric, || rejected);
    let left = service.container.remove();
    assert!(left.is_empty(), "groups are left: {left:?}");
    chain.daemon.end();
}

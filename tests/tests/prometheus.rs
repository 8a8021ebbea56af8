//! `nodeprobe run --prometheus` as a scraper sees it: a real agent, a real Node process, a real socket.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nodeprobe_tests::{
    Node, Workload,
    agent::Daemon,
    assert_within,
    collector::{Rotel, executable, free_port, workspace_file},
    held_thread::HeldThread,
    on_one_node,
    rotel_log::Metric,
    skip::skip,
    wait::{eventually, observe_for},
    workload::{duration_s, number},
};

on_one_node!(Node::of_major(24) => a_scrape_agrees_with_node_and_with_otlp);
on_one_node!(Node::of_major(22) => a_daemon_whose_main_thread_hangs_is_not_healthy);
on_one_node!(Node::of_major(20) => stalled_time_is_told_by_culprit);
on_one_node!(Node::of_major(22) => a_pure_scrape_target_tells_of_a_process_once_more_when_it_has_ended);

const PATIENCE: Duration = Duration::from_secs(20);
const STALLS: &str = "nodeprobe_eventloop_stall_duration_seconds";
/// With an export interval of a second.
const HANGS_AFTER: Duration = Duration::from_secs(30);
const STALL_TIME: &str = "nodeprobe_eventloop_stall_time_seconds_total";
const CULPRIT_TIME: &str = "nodeprobe_eventloop_stall_culprit_time_seconds_total";
const TEXT: &str = "text/plain;version=0.0.4";
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// The status and the body of a GET.
fn ask(port: u16, path: &str, accept: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: nodeprobe\r\nAccept: {accept}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Starts the daemon with its page on a free port, and waits until it is ready.
fn start(environment: &[(&str, &str)]) -> (Daemon, u16) {
    let port = free_port();
    let mut environment = environment.to_vec();
    let bare = port.to_string();
    environment.push(("NODEPROBE_PROMETHEUS", &bare));
    let daemon = Daemon::start(&environment);
    eventually("a sign of life", PATIENCE, || {
        ask(port, "/healthz", "").filter(|(status, _)| *status == 200).map(drop)
    });
    eventually(&format!("readiness; {}", daemon.stderr()), PATIENCE, || {
        let (status, body) = ask(port, "/readyz", "")?;
        assert!(status == 200 || (status == 503 && body.contains("not ready")), "{status}: {body}");
        (status == 200).then_some(())
    });
    (daemon, port)
}

fn scrape(port: u16, accept: &str) -> String {
    let (status, body) = ask(port, "/metrics", accept).expect("the page is served");
    assert_eq!(status, 200, "{body}");
    body
}

/// The sum over the series of a sample whose labels have all of `parts`; `None` without any.
fn sum(page: &str, sample: &str, parts: &[&str]) -> Option<f64> {
    let lines = page.lines().filter(|line| line.strip_prefix(sample).is_some_and(|l| l.starts_with('{')));
    let found = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    let values = found.map(|line| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok()));
    values.map(|value| value.expect("a sample has a value")).reduce(|a, b| a + b)
}

/// A service that blocks for 200 ms when told.
fn checkout(node: &Node) -> Workload {
    let plan = Workload::plan(node, "block.js").args(["main", "200", "1"]);
    let block = plan.env("OTEL_SERVICE_NAME", "checkout").start();
    block.wait_for("ready");
    block
}

/// Addresses of this host of which the daemon was not told.
fn foreign_addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::from([127, 0, 0, 2])];
    // Nothing is sent: it only tells by which address this host would.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket can be made");
    if socket.connect("192.0.2.1:9").is_ok() {
        addresses.extend(socket.local_addr().map(|address| address.ip()));
    }
    addresses
}

/// What `promtool check metrics` has against a page.
fn promtool(page: &str) {
    let Ok(promtool) = executable("NODEPROBE_TEST_PROMTOOL").map_err(|reason| skip(&reason)) else { return };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(page.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

fn a_scrape_agrees_with_node_and_with_otlp(node: &Node) {
    let rotel = Rotel::start().map_err(|reason| skip(&reason)).ok();
    let (mut service, idle) = (checkout(node), Workload::idle(node));
    let endpoint = rotel.as_ref().map(|rotel| format!("http://127.0.0.1:{}", rotel.http_port));
    let otlp = endpoint.as_deref().map(|endpoint| ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
    let otlp = otlp.unwrap_or(("OTEL_METRICS_EXPORTER", "none"));
    let (mut daemon, port) = start(&[otlp, ("OTEL_METRIC_EXPORT_INTERVAL", "1000")]);
    for address in foreign_addresses() {
        let refused = TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(2));
        assert_eq!(refused.map(drop).map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused), "{address}");
    }
    let mine = ["job=\"checkout\""];
    assert_eq!(sum(&scrape(port, TEXT), &format!("{STALLS}_count"), &mine), Some(0.0));
    service.go();
    let told = service.wait_for("block");
    let page = eventually(&format!("the stall; {}", daemon.stderr()), PATIENCE, || {
        let page = scrape(port, OPEN_METRICS);
        (sum(&page, &format!("{STALLS}_count"), &mine)? >= 1.0).then_some(page)
    });
    assert_eq!(sum(&page, &format!("{STALLS}_count"), &mine), Some(1.0));
    let took_s = number(&told, "duration_ms") / 1000.0;
    let sum_s = sum(&page, &format!("{STALLS}_sum"), &mine).expect("a count has a sum");
    assert_within(sum_s, took_s, 0.02, "seconds of the block");
    assert!(page.ends_with("# EOF\n") && page.contains("# TYPE target info\n"), "{page}");
    let pid = format!("process_pid=\"{}\"", idle.pid());
    let quiet = page.lines().find(|line| line.starts_with("target_info{") && line.contains(&pid));
    let quiet = quiet.and_then(|line| line.split([',', '{']).find(|label| label.starts_with("instance=")));
    let quiet = quiet.expect("the idle process has a target_info");
    assert_eq!(sum(&page, &format!("{STALLS}_count"), &[quiet]), Some(0.0), "the idle process");
    promtool(&scrape(port, TEXT));
    if let Some(rotel) = &rotel {
        let by_otlp = eventually("the stall by OTLP", PATIENCE, || stalls_by_otlp(rotel, service.pid()));
        // What scrapes have read is neither lost for OTLP nor counted twice.
        assert_eq!(stalls_by_cause(&page), by_otlp.0);
        assert_within(sum_s, by_otlp.1, 1e-6, "seconds of the block by OTLP");
    }
    daemon.end();
}

/// Stalls of the service by leading cause, those that led any.
fn stalls_by_cause(page: &str) -> BTreeMap<String, u64> {
    let count = format!("{STALLS}_count{{");
    let lines = page.lines().filter(|line| line.starts_with(&count) && line.contains("job=\"checkout\""));
    let causes = lines.filter_map(|line| {
        let (cause, rest) = line.split_once("nodeprobe_stall_cause=\"")?.1.split_once('"')?;
        Some((cause.to_owned(), rest.rsplit_once(' ')?.1.parse().ok()?))
    });
    causes.filter(|(_, count)| *count > 0).collect()
}

/// The same of the last export, and their sum in seconds; `None` while there are none.
fn stalls_by_otlp(rotel: &Rotel, pid: u32) -> Option<(BTreeMap<String, u64>, f64)> {
    let pid = pid.to_string();
    let of_service = |metric: &Metric| {
        metric.name == "nodeprobe.eventloop.stall.duration"
            && metric.resource.get("process.pid") == Some(&pid)
    };
    let last = rotel.received().into_iter().rfind(of_service)?;
    let causes = last.points.iter().filter_map(|point| {
        Some((
            point.attributes.get("nodeprobe.stall.cause")?.clone(),
            point.count.filter(|count| *count > 0)?,
        ))
    });
    let causes: BTreeMap<_, _> = causes.collect();
    let sum_s = last.points.iter().filter_map(|point| point.value).sum();
    (!causes.is_empty()).then_some((causes, sum_s))
}

/// Two services of which one function blocks, one on its main thread and one on a worker, and a busy one in good health.
fn stalled_time_is_told_by_culprit(node: &Node) {
    const BLOCKS: usize = 3;
    let rotel = Rotel::start().map_err(|reason| skip(&reason)).ok();
    let blocking = |kind: &'static str| {
        let plan = Workload::plan(node, "block.js").args([kind, "200", "3", "300"]);
        let workload = plan.env("OTEL_SERVICE_NAME", format!("blocks-{kind}")).start();
        workload.wait_for("ready");
        (kind, workload)
    };
    let services = ["main", "worker"].map(blocking);
    let healthy = Workload::plan(node, "healthy.js").env("OTEL_SERVICE_NAME", "healthy").start();
    healthy.wait_for("ready");
    let endpoint = rotel.as_ref().map(|rotel| format!("http://127.0.0.1:{}", rotel.http_port));
    let otlp = endpoint.as_deref().map(|endpoint| ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
    let otlp = otlp.unwrap_or(("OTEL_METRICS_EXPORTER", "none"));
    let (mut daemon, port) = start(&[otlp, ("OTEL_METRIC_EXPORT_INTERVAL", "1000")]);
    let file = workspace_file("tests/workloads/block.js").canonicalize().expect("the workload is there");
    let file = file.to_str().expect("its path is text");
    for (kind, mut service) in services {
        let job = format!("job=\"blocks-{kind}\"");
        assert_eq!(sum(&scrape(port, TEXT), CULPRIT_TIME, &[&job]), None, "nobody is to blame yet");
        service.go();
        let told = service.wait_for_nth("block", BLOCKS);
        let took_s = duration_s(&told);
        let labels = [
            job.clone(),
            format!("nodeprobe_thread_type=\"{kind}\""),
            "code_function_name=\"block\"".to_owned(),
            format!("code_file_path=\"{file}\""),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let page = eventually(&format!("all blocks of {kind}; {}", daemon.stderr()), PATIENCE, || {
            let page = scrape(port, TEXT);
            (sum(&page, CULPRIT_TIME, &labels)? > took_s - 0.1).then_some(page)
        });
        let blamed_s = sum(&page, CULPRIT_TIME, &labels).expect("it was just there");
        assert_within(blamed_s, took_s, 0.02 * BLOCKS as f64, &format!("seconds of the blocks of {kind}"));
        let (culprits_s, stalled_s) = (sum(&page, CULPRIT_TIME, &[&job]), sum(&page, STALL_TIME, &[&job]));
        assert!(
            culprits_s <= stalled_s.map(|stalled_s| stalled_s + 1e-6),
            "{culprits_s:?} of {stalled_s:?} s"
        );
        promtool(&page);
        if let Some(rotel) = &rotel {
            let by_otlp = eventually("the culprit by OTLP", PATIENCE, || {
                blamed_by_otlp(rotel, service.pid(), file).filter(|time_s| *time_s > took_s - 0.1)
            });
            assert_within(by_otlp, blamed_s, 1e-6, "seconds of the blocks by OTLP");
        }
    }
    // Of a machine that is busy with something else it knows by itself.
    let notes = healthy.notes("healthy");
    let longest_ms = notes.iter().map(|note| number(note, "longest_ms")).fold(0.0, f64::max);
    let of_healthy = sum(&scrape(port, TEXT), CULPRIT_TIME, &["job=\"healthy\""]);
    assert!(
        of_healthy.is_none() || longest_ms > 40.0,
        "{of_healthy:?} s, and the longest callback took {longest_ms} ms"
    );
    daemon.end();
}

/// Seconds of a process that the last export blames on `block` of a file.
fn blamed_by_otlp(rotel: &Rotel, pid: u32, file: &str) -> Option<f64> {
    let pid = pid.to_string();
    let of_service = |metric: &Metric| {
        metric.name == "nodeprobe.eventloop.stall.culprit.time"
            && metric.resource.get("process.pid") == Some(&pid)
    };
    let last = rotel.received().into_iter().rfind(of_service)?;
    let blamed = last.points.iter().find(|point| {
        let has = |key: &str, value: &str| point.attributes.get(key).is_some_and(|found| found == value);
        has("code.function.name", "block") && has("code.file.path", file)
    });
    blamed?.value
}

fn a_pure_scrape_target_tells_of_a_process_once_more_when_it_has_ended(node: &Node) {
    let mut service = checkout(node);
    let (mut daemon, port) = start(&[("OTEL_METRICS_EXPORTER", "none"), ("NODEPROBE_NODE_NAME", "node-7")]);
    let mine = ["job=\"checkout\""];
    let stalls = |page: &str| sum(page, &format!("{STALLS}_count"), &mine);
    assert_eq!(stalls(&scrape(port, TEXT)), Some(0.0));
    service.go();
    service.wait_for("block");
    assert!(service.end().success());
    // Scrapes of the same second share a snapshot.
    let mut pages = Vec::new();
    eventually("the end of the series", PATIENCE, || {
        let found = stalls(&scrape(port, TEXT));
        if pages.last() != Some(&found) {
            pages.push(found);
        }
        found.is_none().then_some(())
    });
    assert!(pages.contains(&Some(1.0)), "the last value was told: {pages:?}");
    let text = scrape(port, TEXT);
    // By these the alerts about agents tell nodes apart.
    let node = ["host_name=\"node-7\"", "k8s_node_name=\"node-7\""];
    for own in
        ["nodeprobe_agent_processes", "nodeprobe_agent_probes_attached", "nodeprobe_agent_events_lost_total"]
    {
        assert_eq!(sum(&text, own, &node), sum(&text, own, &[]), "the agent tells of itself: {text}");
    }
    assert!(sum(&text, "nodeprobe_agent_processes", &node).is_some(), "{text}");
    assert!(!text.contains("job=\"checkout\""), "not even target_info is left");
    daemon.end();
}

/// Also while it is scraped. A collector that takes everything and never answers is no hang.
fn a_daemon_whose_main_thread_hangs_is_not_healthy(node: &Node) {
    let _idle = Workload::idle(node);
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let endpoint = format!("http://{}", silent.local_addr().expect("it is bound"));
    let (mut daemon, port) =
        start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_METRIC_EXPORT_INTERVAL", "1000")]);
    let health = || ask(port, "/healthz", "").expect("health is told");
    // Longer than what is too long, and with every export failing.
    let well = Instant::now() + HANGS_AFTER + Duration::from_secs(5);
    while Instant::now() < well {
        assert_eq!(health(), (200, "ok\n".to_owned()), "{}", daemon.stderr());
        observe_for(Duration::from_secs(1));
    }
    assert!(daemon.stderr().contains("totals are kept"), "no export succeeds: {}", daemon.stderr());
    let held = HeldThread::main_of(daemon.pid());
    let (began, patience) = (Instant::now(), HANGS_AFTER + PATIENCE);
    let body = eventually("a daemon that is not healthy", patience, || {
        scrape(port, TEXT);
        observe_for(Duration::from_millis(500));
        let (status, body) = health();
        (status == 503).then_some(body)
    });
    assert!(began.elapsed() + Duration::from_secs(5) > HANGS_AFTER, "after {:?}", began.elapsed());
    assert!(body.contains("no reading has finished"), "{body}");
    drop(held);
    eventually("a daemon that has come back", PATIENCE, || (health().0 == 200).then_some(()));
    daemon.end();
}

//! The verdicts of `nodeprobe diagnose` on services that are sick in one known way, and on healthy ones. What each service
//! suffers from, and through whose fault, it says itself; see `workloads/failure-modes/README.md`.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nodeprobe_tests::{
    Node, Workload,
    boards::read,
    host_time::HostTime,
    load::Load,
    node::target_tmp,
    on_every_node,
    process::{OwnedProcess, describe},
    skip::skip,
    stdio::slow_pipe,
    watch::Watch,
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(
    services_that_wait_are_told_apart,
    a_full_thread_pool_is_told,
    lost_contexts_are_told_from_kept_and_from_none,
    starvation_and_a_leak_are_told_apart,
    microtasks_and_garbage_are_told_apart,
    shapes_are_told_from_a_bounded_cache,
    starts_are_told_apart,
    a_busy_service_is_healthy_and_one_without_a_processor_is_not
);

/// How long is watched: the findings have to be there within 15 s.
const WATCH: &str = "12s";
const READY: Duration = Duration::from_secs(40);
/// Findings promised from this version on.
const FIRST_MAJOR: u32 = 20;
/// A service may be said to starve if the kernel itself says it waited for a processor about as long as the threshold.
const MAY_STARVE: f64 = 0.07;
const STARVES: &str = "cpu-starved";

/// A service, its load, and what it says is wrong with it.
struct Service {
    name: &'static str,
    workload: Workload,
    ready: Value,
    load: Option<Load>,
    /// Asks once and never reads.
    reader: Option<TcpStream>,
    started: Instant,
    /// When what counts began.
    host_time: HostTime,
    /// It starts while nodeprobe looks.
    starts_watched: bool,
    _directory: TempDir,
    _competitors: Vec<OwnedProcess>,
}

impl Service {
    fn start(node: &Node, name: &'static str) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let plan = Workload::plan(node, &format!("failure-modes/{name}.js")).args([directory.path()]);
        let plan = match name {
            "heap-growth" | "healthy-cache" => plan.flag("--max-old-space-size=320"),
            "slow-startup" => {
                let install = Workload::plan(node, "failure-modes/slow-startup.js").args(["--install"]);
                let status = install.args([directory.path()]).start().wait(READY);
                assert!(status.success(), "its packages cannot be made: {}", describe(status));
                plan
            }
            // The reader of the logs is slow, or quick.
            "stdout-backpressure" | "healthy-logging" => {
                let pause =
                    if name == "healthy-logging" { Duration::ZERO } else { Duration::from_millis(50) };
                plan.stdout(slow_pipe(pause))
            }
            _ => plan,
        };
        let started = Instant::now();
        let workload = plan.start();
        let ready = workload.wait_for("ready");
        let pin = |pid: u32| {
            let pid = pid.to_string();
            let pinned =
                Command::new("taskset").args(["-acp", "0", &pid]).output().expect("taskset is there");
            assert!(pinned.status.success(), "{pinned:?}");
        };
        let competitors = if name == STARVES {
            pin(workload.pid());
            let spin = || OwnedProcess::spawn(Command::new("sh").args(["-c", "while :; do :; done"]));
            (0..2).map(|_| spin()).inspect(|competitor| pin(competitor.pid())).collect()
        } else {
            Vec::new()
        };
        Self {
            name,
            workload,
            ready,
            load: None,
            reader: None,
            started,
            host_time: HostTime::now(),
            starts_watched: false,
            _directory: directory,
            _competitors: competitors,
        }
    }

    fn begin_load(&mut self) {
        let rate = number(&self.ready, "rate");
        if rate > 0.0 {
            let port = number(&self.ready, "port") as u16;
            let path = self.ready["path"].as_str().expect("it says what to ask for");
            let connections = number(&self.ready, "connections") as usize;
            self.load = Some(Load::start(port, path, rate, connections.max(1)));
        }
        if self.name == "stream-overflow" || self.name == "healthy-download" {
            let port = number(&self.ready, "port") as u16;
            let mut reader = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            let path = self.ready["path"].as_str().expect("it says what to ask for");
            write!(reader, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it can be asked");
            if self.name == "healthy-download" {
                let mut slow = reader.try_clone().expect("a descriptor more");
                thread::spawn(move || {
                    let mut buffer = vec![0; 50_000];
                    while let Ok(1..) = slow.read(&mut buffer) {
                        thread::sleep(Duration::from_millis(100));
                    }
                });
            }
            self.reader = Some(reader);
        }
        // What comes now is what counts.
        self.host_time = HostTime::now();
        self.workload.say("report");
        self.workload.wait_for("report");
    }

    /// What Node and the kernel measured since the load began.
    fn report(&mut self) -> Value {
        self.workload.say("report");
        self.workload.wait_for_nth("report", 2).pop().expect("there are two")
    }

    /// What is wrong with the diagnosis of this service; `None` when it is right.
    fn judge(&mut self, diagnosis: &Value) -> Option<String> {
        let pid = self.workload.pid();
        let report = self.report();
        let process = diagnosis["processes"].as_array()?.iter().find(|process| process["pid"] == pid);
        let Some(process) = process else { return Some("it is not in the diagnosis".to_owned()) };
        let findings = process["findings"].as_array().expect("findings are a list");
        let mut starved = number(&report["since_last_report"], "run_delay_share");
        if self.starts_watched {
            // Its start is looked at as well.
            starved = starved.max(run_delay_share(pid, self.started));
        }
        // What the hypervisor takes away is a lack of processors as well, which the guest's scheduler does not see.
        starved = starved.max(HostTime::now().since(self.host_time).stolen_of_wanted());
        let is_healthy = self.ready["expect"].is_null();
        let wrong_of = |finding: &&Value| {
            // Of one that is sick a consequence may be told beside it.
            let is_loud = (finding["primary"] == true || is_healthy) && finding["severity"] != "info";
            let is_starving = finding["id"] == STARVES || finding["because_of"] == STARVES;
            let is_true = is_starving && starved >= MAY_STARVE;
            is_loud && finding["id"] != self.ready["expect"] && !is_true
        };
        let told: Vec<&Value> = findings.iter().filter(|finding| finding["severity"] != "info").collect();
        let ids: Vec<&str> = told.iter().filter_map(|finding| finding["id"].as_str()).collect();
        eprintln!("  {:<24} {:?}", self.name, ids);
        let context = || format!("{} of {process:#} while {report:#}", self.name);
        if let Some(wrong) = findings.iter().find(wrong_of) {
            return Some(format!("{} is found in {}", wrong["id"], context()));
        }
        let expected = self.ready["expect"].as_str()?;
        let Some(found) = told.iter().find(|finding| finding["id"] == expected && finding["primary"] == true)
        else {
            return Some(format!("{expected} is not found in {}", context()));
        };
        if let Some(reader) = &self.reader {
            let peer = reader.local_addr().expect("it is connected").to_string();
            if !found["summary"].as_str().is_some_and(|summary| summary.contains(&peer)) {
                return Some(format!("{peer} is not named in {}", context()));
            }
        }
        let (culprit, guilty) = (&found["culprit"], &self.ready["culprit"]);
        if guilty.is_null() {
            return None;
        }
        let mut is_right = guilty["package"].is_null() || culprit["package"] == guilty["package"];
        if let Some(functions) = guilty["functions"].as_array().filter(|functions| !functions.is_empty()) {
            // A function without a name inside of the guilty one is that one's as well.
            let is_inside = culprit["function"] == "(anonymous)";
            is_right &= functions.contains(&culprit["function"]) || is_inside;
            is_right &= culprit["script"] == guilty["script"];
            let lines = number(guilty, "first_line")..=number(guilty, "last_line");
            is_right &= culprit["line"].as_f64().is_some_and(|line| lines.contains(&line));
        }
        (!is_right).then(|| format!("{culprit} is blamed, not {guilty}, for {}", context()))
    }
}

#[test]
fn docs_have_a_command_for_every_service() {
    let accuracy = read("docs/accuracy.md");
    let commands = accuracy.lines().filter_map(|line| line.strip_prefix("$ cargo xtask test "));
    let commands: Vec<&str> = commands.collect();
    let rows: BTreeSet<&str> = accuracy
        .lines()
        .filter(|line| line.ends_with(" of 4 |"))
        .filter_map(|line| line.trim_matches(['|', ' ']).split(' ').next())
        .collect();
    // Each test of this file, with the services it names.
    let tests: Vec<&str> = include_str!("diagnose.rs").split("\nfn ").skip(1).collect();
    let mut measured = BTreeSet::new();
    for test in tests.iter().filter(|test| test.contains("\n    diagnose(node, ")) {
        let name = test.split('(').next().unwrap_or_default();
        assert!(commands.iter().any(|filter| name.contains(filter)), "docs/accuracy.md does not run {name}");
        measured.extend(test.split('"').filter(|text| rows.contains(text)));
    }
    assert_eq!(measured, rows, "services of which docs/accuracy.md says how often the verdict is right");
}

/// Share of the time since `started` for which the main thread of a process was ready to run and had no processor.
fn run_delay_share(pid: u32, started: Instant) -> f64 {
    let path = format!("/proc/{pid}/task/{pid}/schedstat");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let delay_ns: f64 =
        text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("a number");
    delay_ns / 1e9 / started.elapsed().as_secs_f64()
}

/// Diagnoses services that run beside each other. Those of `later` start while the agent watches.
#[track_caller]
fn diagnose(node: &Node, names: &[&'static str], later: &[&'static str]) {
    if node.major() < FIRST_MAJOR {
        return skip("verdicts are promised from Node.js 20 on");
    }
    let mut services: Vec<Service> = names.iter().map(|name| Service::start(node, name)).collect();
    let watch = Watch::diagnose(WATCH);
    for service in &mut services {
        service.begin_load();
    }
    for name in later {
        let mut service = Service::start(node, name);
        service.starts_watched = true;
        service.begin_load();
        services.push(service);
    }
    let diagnosis = watch.diagnosis();
    eprintln!("{}", node.label);
    let wrong: Vec<String> = services.iter_mut().filter_map(|service| service.judge(&diagnosis)).collect();
    assert!(wrong.is_empty(), "{}:\n{}", node.label, wrong.join("\n"));
}

fn services_that_wait_are_told_apart(node: &Node) {
    let waiting = [
        "sync-child-process",
        "sync-io",
        "stdout-backpressure",
        "stream-overflow",
        "unhandled-rejections",
        "healthy-download",
        "healthy-idle",
    ];
    diagnose(node, &waiting, &[]);
}

fn a_full_thread_pool_is_told(node: &Node) {
    diagnose(node, &["threadpool-saturation"], &[]);
}

fn lost_contexts_are_told_from_kept_and_from_none(node: &Node) {
    diagnose(node, &["async-context-loss", "healthy-context"], &[]);
}

fn starvation_and_a_leak_are_told_apart(node: &Node) {
    diagnose(node, &["event-loop-starvation", "heap-growth"], &[]);
}

fn microtasks_and_garbage_are_told_apart(node: &Node) {
    diagnose(node, &["microtask-congestion", "gc-pressure"], &[]);
}

fn shapes_are_told_from_a_bounded_cache(node: &Node) {
    diagnose(node, &["shape-churn", "healthy-cache"], &[]);
}

fn starts_are_told_apart(node: &Node) {
    diagnose(node, &["healthy-logging"], &["slow-startup", "healthy-startup"]);
}

fn a_busy_service_is_healthy_and_one_without_a_processor_is_not(node: &Node) {
    diagnose(node, &["healthy-busy"], &[]);
    diagnose(node, &["cpu-starved"], &[]);
}

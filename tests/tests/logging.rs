//! The share of the processor's time that goes into log lines, against Node's own profile of the same run.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Workload, load::Load, node::target_tmp, on_one_node, wait::observe_for, workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

// Three quarters of a minute each.
on_one_node!(Node::of_major(22) => console_takes_at_least_what_is_told);
on_one_node!(Node::of_major(24) => a_logger_of_its_own_takes_at_least_what_is_told);

/// Bar, a share.
const ERROR: f64 = 0.05;
/// In short turns a sample stands for 32 ms: of a share of a third 400 samples are needed to know it to 2.4 points.
const LOAD: Duration = Duration::from_secs(15);
/// Seconds between two reports: who writes has to be seen in each.
const INTERVAL: &str = "5";

/// Prints a measurement, be the test a success or not: the deviations are of interest.
fn tell(text: &str) {
    // Not eprint!: the test runner would swallow it.
    io::stderr().write_all(format!("  {text}\n").as_bytes()).expect("stderr can be written");
}

/// A frame of a profile: function and script.
type Called<'a> = (&'a str, &'a str);

/// The share of the time that Node's profiler saw the thread busy for which `is_logging` holds, of the frames innermost first.
fn profiled(directory: &Path, is_logging: impl Fn(&[Called<'_>]) -> bool) -> f64 {
    let entries = fs::read_dir(directory).expect("the directory exists");
    let path = entries.map(|entry| entry.expect("it can be read").path()).next().expect("there is a profile");
    let profile: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("it can be read")).expect("JSON");
    let nodes = profile["nodes"].as_array().expect("nodes");
    let by_id: HashMap<u64, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_u64()?, node))).collect();
    let mut parents = HashMap::new();
    for node in nodes {
        for child in node["children"].as_array().into_iter().flatten() {
            parents.insert(child.as_u64().expect("an id"), node["id"].as_u64().expect("an id"));
        }
    }
    let (mut busy, mut logging) = (0.0, 0.0);
    let samples = profile["samples"].as_array().expect("samples");
    for (id, delta) in samples.iter().zip(profile["timeDeltas"].as_array().expect("deltas").iter().skip(1)) {
        let mut frames = Vec::new();
        let mut next = id.as_u64();
        while let Some(node) = next.and_then(|id| by_id.get(&id)) {
            let called = &node["callFrame"];
            let text = |field: &str| called[field].as_str().unwrap_or("");
            frames.push((text("functionName"), text("url")));
            next = node["id"].as_u64().and_then(|id| parents.get(&id).copied());
        }
        if frames[0].0 == "(idle)" {
            continue;
        }
        let delta_us = delta.as_f64().unwrap_or(0.0);
        busy += delta_us;
        logging += if is_logging(&frames) { delta_us } else { 0.0 };
    }
    logging / busy
}

/// Runs a service under load and compares; the profile says what `is_logging`.
fn compare(
    node: &Node,
    name: &str,
    rate: f64,
    is_logging: impl Fn(&[Called<'_>]) -> bool,
) -> (f64, f64, Value) {
    let profiles = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let scratch = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let idle = Workload::idle(node);
    let agent = Agent::every(INTERVAL);
    agent.wait_for_process(idle.pid());
    let first = agent.mark();
    let (mut reading, writing) = io::pipe().expect("a pipe can be made");
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(1..) = reading.read(&mut buffer) {}
    });
    let mut service = Workload::plan(node, &format!("failure-modes/{name}.js"))
        .flag("--cpu-prof")
        .flag(&format!("--cpu-prof-dir={}", profiles.path().display()))
        .args([scratch.path()])
        .stdout(std::os::fd::OwnedFd::from(writing))
        .start();
    let ready = service.wait_for("ready");
    let path = ready["path"].as_str().expect("it says what to ask for");
    let load = Load::start(number(&ready, "port") as u16, path, rate, 8);
    observe_for(LOAD);
    drop(load);
    let reports = agent.reports_since(first);
    service.end();
    let of_service = || reports.iter().filter_map(|report| report.process(service.pid()));
    let sum =
        |field: &str| of_service().filter_map(|process| process["logging"][field].as_f64()).sum::<f64>();
    let told = sum("cpu_s") / sum("sampled_s");
    let truth = profiled(profiles.path(), is_logging);
    let seen_s = sum("sampled_s");
    tell(&format!("{name}, {}: {told:.3} of {seen_s:.2} s told, {truth:.3} in the profile", node.label));
    let most = of_service().max_by(|a, b| {
        let cpu_s = |process: &Value| process["logging"]["cpu_s"].as_f64().unwrap_or(0.0);
        cpu_s(a).total_cmp(&cpu_s(b))
    });
    let function = most.map_or(Value::Null, |process| process["logging"]["top_function"]["function"].clone());
    agent.end();
    (told, truth, function)
}

/// Whether Node's console was called by the innermost function of the application.
fn by_console(frames: &[Called<'_>]) -> bool {
    let of_node = frames.iter().take_while(|(_, url)| !url.starts_with("file:"));
    let scripts = ["node:internal/console", "node:internal/util/inspect", "node:console"];
    of_node.into_iter().any(|(_, url)| scripts.iter().any(|script| url.starts_with(script)))
}

fn console_takes_at_least_what_is_told(node: &Node) {
    let (told, truth, function) = compare(node, "healthy-logging", 800.0, by_console);
    // Not within it: told was 5 to 9 points less than the profile says.
    assert!(told < truth + ERROR, "{told} told, {truth} in the profile, {}", node.label);
    assert!(told > 0.1, "ten lines a request take their time: {told}");
    assert_eq!(function, "book");
    let (told, truth, _) = compare(node, "healthy-busy", 100.0, by_console);
    assert!(told < 0.01 && truth < 0.01, "{told}, {truth}");
}

fn a_logger_of_its_own_takes_at_least_what_is_told(node: &Node) {
    // It takes the time of its writes, which is no logging.
    let by_logger = |frames: &[Called<'_>]| {
        let is_of = |function: &str| frames.iter().any(|(name, _)| *name == function);
        is_of("logRequest") && !is_of("now")
    };
    let (told, truth, function) = compare(node, "stdout-backpressure", 2500.0, by_logger);
    // A lower bound: its own JavaScript, which makes the record, does not count.
    assert!(told < truth + ERROR, "{told} told, {truth} in the profile, {}", node.label);
    assert!(told > 0.1, "JSON of 160 articles takes its time: {told}");
    assert_eq!(function, "logRequest");
}

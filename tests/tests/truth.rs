//! Numbers and names of verdicts, against what Node and V8 say of themselves: when a server listened, how fast a heap grows, and
//! who allocates.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use nodeprobe_tests::{
    Node, Workload, assert_within,
    exec_trace::ExecTrace,
    load::Load,
    node::target_tmp,
    on_every_node, on_one_node,
    recording::{Recording, Taken},
    trace_gc::{self, Kind, median},
    wait::observe_for,
    watch::{Watch, finding},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(
    the_time_to_listen_is_that_of_node,
    the_slope_of_a_leak_is_that_of_v8,
    who_allocates_most_is_whom_v8_names
);
on_one_node!(Node::of_major(22) => a_shell_before_node_is_no_part_of_the_time_to_listen);
on_one_node!(Node::of_major(22) => a_start_after_a_shell_is_no_starvation);
on_one_node!(Node::of_major(22) => who_allocates_most_is_whom_v8_names_when_turns_are_great);

/// Bars.
const LISTEN_ERROR_S: f64 = 0.020;
const SLOPE_ERROR: f64 = 0.10;
/// How long a shell waits before it becomes Node.
const SHELL: Duration = Duration::from_millis(1500);
/// A watch that is interrupted.
const LONG: &str = "60s";
/// What is told next is in the report as well: none follows where none belongs.
const LATER: Duration = Duration::from_millis(1200);
/// V8 of Node 18 does not sample what dies.
const FIRST_MAJOR_WITH_SAMPLED_GARBAGE: u32 = 20;

/// Prints a measurement, be the test a success or not: the deviations are of interest.
fn tell(text: &str) {
    // Not eprint!: the test runner would swallow it.
    io::stderr().write_all(format!("  {text}\n").as_bytes()).expect("stderr can be written");
}

/// A process that listens some time after its start.
struct Listener(Workload);

impl Listener {
    fn start(node: &Node, spin_ms: &str, wait_ms: &str) -> Self {
        Self(Workload::plan(node, "listens.js").args([spin_ms, wait_ms]).start())
    }

    /// Behind a shell that waits for something and then becomes Node, as the entry points of containers do.
    fn start_after_a_shell(node: &Node, spin_ms: &str, wait_ms: &str) -> Self {
        let mut workload = Workload::plan(node, "listens.js").args([spin_ms, wait_ms]).start_gated();
        observe_for(SHELL);
        workload.go();
        Self(workload)
    }

    /// Compares with the time from the start of the program, which the kernel tells, to its first `listen`, which Node tells: it
    /// was made between two instants. Node's own clock begins a while after the program.
    #[track_caller]
    fn assert_told(&self, told_s: f64, execs: &ExecTrace, what: &str) {
        let (began_ms, first) = (execs.began_ms(self.0.pid()), self.0.wait_for("listening"));
        let before_node_ms = number(&self.0.wait_for("ready"), "origin_ms") - began_ms;
        assert!((0.0..1000.0).contains(&before_node_ms), "Node begins {before_node_ms} ms after its program");
        let [least_s, most_s] = ["begin_ms", "end_ms"].map(|at| (number(&first, at) - began_ms) / 1e3);
        let nearest_s = told_s.clamp(least_s, most_s);
        let error_ms = 1e3 * (told_s - nearest_s);
        tell(&format!("{what}: {told_s:.4} s told, {least_s:.4} to {most_s:.4} s true, {error_ms:+.1} ms"));
        assert_within(told_s, nearest_s, LISTEN_ERROR_S, what);
    }
}

/// The time that a recording tells of the first `listen` of a process.
fn listened_s(recording: &Recording, pid: u32) -> Option<f64> {
    let of_process =
        recording.notices.iter().filter(|notice| notice.pid == pid && notice.kind == "listening");
    of_process.map(|notice| notice.since_start_s).next()
}

fn the_time_to_listen_is_that_of_node(node: &Node) {
    let idle = Workload::idle(node);
    let execs = ExecTrace::start();
    let recorded = Watch::record(idle.pid());
    let watch = Watch::diagnose(LONG);
    // The one that starts slowly listens a while after its start-up: the two are told apart.
    let slow = Listener::start(node, "1100", "500");
    let quick = Listener::start(node, "0", "50");
    let never = Listener::start(node, "1100", "never");
    never.0.wait_for("ready");
    slow.0.wait_for("listening");
    observe_for(LATER);
    let diagnosis = watch.interrupt().diagnosis();
    let recording = recorded.interrupt().recording();

    let slow_start = |listener: &Listener| {
        let found = finding(&diagnosis, listener.0.pid(), "slow-startup");
        found.unwrap_or_else(|| panic!("no slow start in {diagnosis:#}"))
    };
    let told_s = number(&slow_start(&slow)["evidence"], "listening_s");
    slow.assert_told(told_s, &execs, &format!("listening_s, {}", node.label));
    assert_eq!(slow_start(&never)["evidence"]["listening_s"], Value::Null, "it never listened");
    assert_eq!(finding(&diagnosis, quick.0.pid(), "slow-startup"), None, "{}", node.label);

    for (listener, name) in [(&slow, "slow"), (&quick, "quick")] {
        let told_s = listened_s(&recording, listener.0.pid());
        let told_s = told_s.unwrap_or_else(|| panic!("no notice of {name}: {:?}", recording.notices));
        listener.assert_told(told_s, &execs, &format!("notice of the {name} one, {}", node.label));
    }
    for pid in [never.0.pid(), idle.pid()] {
        assert!(recording.pids.contains(&pid), "{pid} was not recorded");
        assert_eq!(listened_s(&recording, pid), None, "it never listened, {}", node.label);
    }
}

fn a_shell_before_node_is_no_part_of_the_time_to_listen(node: &Node) {
    let _idle = Workload::idle(node);
    let execs = ExecTrace::start();
    let watch = Watch::diagnose(LONG);
    let slow = Listener::start_after_a_shell(node, "1100", "300");
    slow.0.wait_for("listening");
    observe_for(LATER);
    let diagnosis = watch.interrupt().diagnosis();
    let found = finding(&diagnosis, slow.0.pid(), "slow-startup");
    let found = found.unwrap_or_else(|| panic!("no slow start in {diagnosis:#}"));
    let what = format!("listening_s after a shell, {}", node.label);
    slow.assert_told(number(&found["evidence"], "listening_s"), &execs, &what);
}

/// Loading modules keeps no request waiting, whatever was before Node.
fn a_start_after_a_shell_is_no_starvation(node: &Node) {
    let _idle = Workload::idle(node);
    let watch = Watch::diagnose(LONG);
    let slow = Listener::start_after_a_shell(node, "8000", "0");
    // A turn of so many seconds is one that holds requests up.
    observe_for(Duration::from_secs(3));
    let diagnosis = watch.interrupt().diagnosis();
    assert!(slow.0.notes("ready").is_empty(), "it has started before the end");
    let starved = finding(&diagnosis, slow.0.pid(), "event-loop-starvation");
    assert_eq!(starved, None, "{}", node.label);
}

/// A service with V8's own trace of its collections.
struct Traced {
    workload: Workload,
    directory: TempDir,
    load: Option<Load>,
}

impl Traced {
    fn start(node: &Node, script: &str, limit_mb: u32) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let trace = File::create(directory.path().join("trace")).expect("the trace can be made");
        let plan = Workload::plan(node, script).flag("--trace-gc");
        let plan = plan.flag(&format!("--max-old-space-size={limit_mb}"));
        let workload = plan.stdout(trace).start();
        Self { workload, directory, load: None }
    }

    fn begin_load(&mut self, rate: f64) {
        let ready = self.workload.wait_for("ready");
        let path = ready["path"].as_str().expect("it says what to ask for");
        self.load = Some(Load::start(number(&ready, "port") as u16, path, rate, 2));
    }

    /// Seconds, and bytes after each full collection.
    fn full_collections(&self) -> Vec<(f64, f64)> {
        let trace = fs::read_to_string(self.directory.path().join("trace")).expect("the trace is there");
        let pauses = trace_gc::parse(&trace);
        let full = pauses.iter().filter(|pause| pause.kind == Kind::Major);
        full.map(|pause| (pause.at_s, pause.heap_after_mb * f64::from(1 << 20))).collect()
    }
}

/// The median of the slopes between any two points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let pairs =
        points.iter().enumerate().flat_map(|(n, from)| points[n + 1..].iter().map(move |to| (from, to)));
    median(pairs.map(|(from, to)| (to.1 - from.1) / (to.0 - from.0)).collect()).expect("two collections")
}

fn the_slope_of_a_leak_is_that_of_v8(node: &Node) {
    /// Between the loads: collections fall at other places of the agent's seconds.
    const STEP: Duration = Duration::from_millis(330);
    let start = |script, limit_mb| Traced::start(node, script, limit_mb);
    let mut leaks: Vec<Traced> = (0..3).map(|_| start("failure-modes/heap-growth.js", 320)).collect();
    // As long as it watches unless told otherwise.
    let watch = Watch::diagnose("10s");
    // It fills while nodeprobe looks.
    let mut cache = start("failure-modes/healthy-cache.js", 140);
    // So many requests that it collects as often as the leaks.
    cache.begin_load(350.0);
    for leak in &mut leaks {
        leak.begin_load(100.0);
        observe_for(STEP);
    }
    let diagnosis = watch.diagnosis();
    let mut wrong = Vec::new();
    for leak in &leaks {
        let collections = leak.full_collections();
        let truth = slope(&collections);
        let found = finding(&diagnosis, leak.workload.pid(), "heap-growth");
        let found = found.unwrap_or_else(|| panic!("no growth of {collections:?} in {diagnosis:#}"));
        let told = number(&found["evidence"], "heap_slope_bytes_per_s");
        let error = told / truth - 1.0;
        let text = format!(
            "slope, {}: {:.2} MB/s told, {:.2} true, {:+.1} %",
            node.label,
            told / 1e6,
            truth / 1e6,
            100.0 * error
        );
        tell(&text);
        if error.abs() > SLOPE_ERROR {
            wrong.push(format!("{text}; {found:#} of {collections:?}"));
        }
        assert!(truth > 5e6, "the leak is none: {collections:?}");
    }
    let of_cache = cache.full_collections();
    assert!(of_cache.len() >= 4, "too few to be taken for a leak: {of_cache:?}");
    assert_eq!(finding(&diagnosis, cache.workload.pid(), "heap-growth"), None, "{of_cache:?}");
    assert!(wrong.is_empty(), "more than {SLOPE_ERROR} from the truth:\n{}", wrong.join("\n"));
}

/// How much each function of a script has to do with, by bytes or by samples.
type Shares = BTreeMap<String, f64>;

/// Out of a profile of V8: what Node and V8 allocate for a function of the application is that function's.
fn shares_of_v8(head: &Value, script: &str) -> Shares {
    fn walk(node: &Value, owner: Option<&str>, script: &str, bytes: &mut Shares) {
        let call = &node["callFrame"];
        let is_ours = call["url"].as_str().is_some_and(|url| url.trim_start_matches("file://") == script);
        let owner = if is_ours { call["functionName"].as_str() } else { owner };
        if let Some(owner) = owner {
            *bytes.entry(owner.to_owned()).or_default() += number(node, "selfSize");
        }
        for child in node["children"].as_array().expect("children are a list") {
            walk(child, owner, script, bytes);
        }
    }
    let mut bytes = Shares::new();
    walk(head, None, script, &mut bytes);
    bytes
}

/// Out of a recording, by the same rule.
fn shares_of_nodeprobe(recording: &Recording, pid: u32, script: &str) -> Shares {
    let mut samples = Shares::new();
    for taken in recording.taken.iter().filter(|taken| is_allocation(taken, pid)) {
        if let Some(frame) = taken.frames.iter().find(|frame| frame.script.as_deref() == Some(script)) {
            *samples.entry(frame.function.clone()).or_default() += taken.count as f64;
        }
    }
    samples
}

fn is_allocation(taken: &Taken, pid: u32) -> bool {
    taken.pid == pid && taken.occasion == "allocation"
}

/// Who has most.
#[track_caller]
fn leader(shares: &Shares) -> &str {
    shares.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("somebody allocates").0
}

/// Compares the leaders; `None`: nodeprobe names the same one. The shares are told: see `docs/accuracy.md`.
fn difference(told: &Shares, truth: &Shares, what: &str) -> Option<String> {
    let samples: f64 = told.values().sum();
    let percent = |shares: &Shares| -> String {
        let all: f64 = shares.values().sum();
        let parts = shares.iter().filter(|(_, part)| **part > all / 100.0);
        let parts: Vec<String> =
            parts.map(|(name, part)| format!("{name} {:.0} %", 100.0 * part / all)).collect();
        parts.join(", ")
    };
    tell(&format!("{what}: {samples} samples, {}; V8 {}", percent(told), percent(truth)));
    // Fewer say nothing.
    let is_right = samples >= 30.0 && leader(told) == leader(truth);
    (!is_right).then(|| format!("{what}: {told:?} of nodeprobe, {truth:?} of V8"))
}

/// A workload that allocates, under way.
fn allocating(node: &Node, mode: &str, flags: &[&str]) -> (Workload, String) {
    // What V8 puts into its old generation at once does not show (docs/node-versions.md). When it begins to do so differs from run
    // to run.
    let plan = Workload::plan(node, "allocators.js").flag("--no-allocation-site-pretenuring").args([mode]);
    let mut workload = flags.iter().fold(plan, |plan, flag| plan.flag(flag)).start();
    let script = workload.wait_for("ready")["script"].as_str().expect("a path").to_owned();
    workload.go();
    (workload, script)
}

/// So long that some 120 stacks are taken: a share of four fifths is told to 4 points (standard deviation).
fn record(listed: &Workload) -> Recording {
    let watch = Watch::record(listed.pid());
    observe_for(Duration::from_millis(7500));
    watch.interrupt().recording()
}

/// What V8's own sampling profiler sees from now on, garbage included. Not while nodeprobe looks: V8 then asks for memory oftener.
#[track_caller]
fn profile_of_garbage(workload: &mut Workload) -> Value {
    workload.say("profile");
    let profile = workload.wait_for("profile");
    assert_eq!(profile["error"], Value::Null, "{profile}");
    profile["head"].clone()
}

/// What `--heap-prof` has left: what was allocated and still lives.
#[track_caller]
fn profile_of_the_living(directory: &Path) -> Value {
    let files = fs::read_dir(directory).expect("the directory is there").filter_map(Result::ok);
    let paths: HashSet<_> = files.map(|file| file.path()).collect();
    assert_eq!(paths.len(), 1, "one profile of V8: {paths:?}");
    let text = fs::read(paths.iter().next().expect("it is one")).expect("it can be read");
    serde_json::from_slice::<Value>(&text).expect("it is JSON")["head"].take()
}

fn who_allocates_most_is_whom_v8_names(node: &Node) {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let idle = Workload::idle(node);
    let to = format!("--heap-prof-dir={}", directory.path().display());
    let (mut mixed, script) = allocating(node, "mixed", &[]);
    let (mut kept, _) = allocating(node, "kept", &["--heap-prof", &to, "--heap-prof-interval=65536"]);
    let recording = record(&idle);
    assert!(kept.end().success(), "V8 writes the profile at the end");
    let told = |workload: &Workload| shares_of_nodeprobe(&recording, workload.pid(), &script);
    let of_v8 = shares_of_v8(&profile_of_the_living(directory.path()), &script);
    let mut wrong = Vec::new();
    wrong.extend(difference(&told(&kept), &of_v8, &format!("kept, {}", node.label)));
    if node.major() >= FIRST_MAJOR_WITH_SAMPLED_GARBAGE {
        let of_v8 = shares_of_v8(&profile_of_garbage(&mut mixed), &script);
        let what = format!("mixed, {}", node.label);
        wrong.extend(difference(&told(&mixed), &of_v8, &what));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(recording.pids.contains(&idle.pid()), "the idle process was not recorded");
    let of_idle: Vec<&Taken> =
        recording.taken.iter().filter(|taken| is_allocation(taken, idle.pid())).collect();
    assert!(of_idle.is_empty(), "it allocates nothing: {of_idle:#?}");
}

/// A request that allocates many pages at once, and first calls who allocates little.
fn who_allocates_most_is_whom_v8_names_when_turns_are_great(node: &Node) {
    let (mut requests, script) = allocating(node, "requests", &[]);
    let recording = record(&requests);
    let told = shares_of_nodeprobe(&recording, requests.pid(), &script);
    let of_v8 = shares_of_v8(&profile_of_garbage(&mut requests), &script);
    let wrong = difference(&told, &of_v8, &format!("requests, {}", node.label));
    assert_eq!(wrong, None);
}

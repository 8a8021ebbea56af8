//! The start of a process: its phases, the modules it compiles and the packages that take the time, against Node's own clock, the
//! number of modules there are, and V8's own trace.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Report, Workload, assert_within,
    exec_trace::ExecTrace,
    node::target_tmp,
    on_every_node, on_one_node,
    watch::{Watch, finding},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(
    phases_and_modules_are_those_of_node,
    the_time_of_compilation_is_that_of_v8,
    packages_take_what_they_take
);
on_one_node!(Node::debian() => phases_and_modules_are_those_of_node_of_debian);
on_one_node!(Node::stripped(24) => phases_and_modules_are_those_of_node_stripped);

/// Bars.
const PHASE_ERROR_S: f64 = 0.020;
const COMPILE_ERROR: f64 = 0.05;
/// What else a compilation has in it (the making of a script, of a function), per module.
const COMPILE_BESIDES_S: f64 = 0.000_2;
/// Of the time of a package: some samples of 7.9 ms.
const PACKAGE_ERROR_S: f64 = 0.050;

/// How long until a start is over, and one more report.
const STEADY: Duration = Duration::from_secs(12);
const SHOWN: Duration = Duration::from_secs(5);

/// Prints a measurement, be the test a success or not: the deviations are of interest.
fn tell(text: &str) {
    // Not eprint!: the test runner would swallow it.
    io::stderr().write_all(format!("  {text}\n").as_bytes()).expect("stderr can be written");
}

/// A directory with modules of both kinds.
fn modules(commonjs: usize, esm: usize) -> TempDir {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let write = |name: String, text: String| {
        fs::write(directory.path().join(name), text).expect("a module can be written");
    };
    for number in 0..commonjs {
        write(format!("commonjs-{number}.js"), format!("exports.value = () => {number};\n"));
    }
    for number in 0..esm {
        write(format!("esm-{number}.mjs"), format!("export const value = () => {number};\n"));
    }
    directory
}

/// A source of some megabytes.
fn large(begin: &str) -> String {
    let function = |number: usize| {
        format!(
            "{begin}f{number} = function (a, b) {{ const x = [a, b, {number}]; return x.map((y) => y * 2 + {number}).join('-'); }};\n"
        )
    };
    (0..15_000).map(function).collect()
}

fn arguments(directory: &TempDir, counts: &[usize]) -> Vec<String> {
    let directory = directory.path().to_str().expect("the path is text").to_owned();
    std::iter::once(directory).chain(counts.iter().map(usize::to_string)).collect()
}

fn startup(report: &Report, pid: u32) -> Option<&Value> {
    report.process(pid).map(|process| &process["startup"]).filter(|startup| startup.is_object())
}

/// Modules that were compiled in all reports.
fn compiled(reports: &[Report], pid: u32, kind: &str) -> u64 {
    let of_process = reports.iter().filter_map(|report| report.process(pid));
    of_process.filter_map(|process| process["compile"][kind].as_u64()).sum()
}

/// A time since the program began, told and true: the truth lies between two instants of Node's.
#[track_caller]
fn assert_between(told_s: f64, least_s: f64, most_s: f64, what: &str) {
    let nearest_s = told_s.clamp(least_s, most_s);
    let error_ms = 1e3 * (told_s - nearest_s);
    tell(&format!("{what}: {told_s:.4} s told, {least_s:.4} to {most_s:.4} s true, {error_ms:+.1} ms"));
    assert_within(told_s, nearest_s, PHASE_ERROR_S, what);
}

fn phases_and_modules_are_those_of_node_of_debian(node: &Node) {
    phases_and_modules_are_those_of_node(node);
}

fn phases_and_modules_are_those_of_node_stripped(node: &Node) {
    phases_and_modules_are_those_of_node(node);
}

fn phases_and_modules_are_those_of_node(node: &Node) {
    const COMMONJS: usize = 60;
    const ESM: usize = 25;
    const LATER: usize = 7;
    let directory = modules(COMMONJS + LATER, ESM);
    let idle = Workload::idle(node);
    let execs = ExecTrace::start();
    let agent = Agent::observing([&idle]);
    let first = agent.mark();
    let start =
        |counts: &[usize]| Workload::plan(node, "modules.js").args(arguments(&directory, counts)).start();
    let mut loading = start(&[COMMONJS, ESM, LATER]);
    let small = start(&[0, 0]);
    let ready = loading.wait_for("ready");
    let pid = loading.pid();

    let steady = |pid| {
        agent.wait_for_after(first, "a steady state", STEADY, |report| {
            startup(report, pid).filter(|startup| !startup["steady_s"].is_null()).cloned()
        })
    };
    let told = steady(pid);
    let began_ms = execs.began_ms(pid);
    let at_s = |name: &str| (number(&ready, name) - began_ms) / 1e3;
    let in_node_s = |name: &str| (number(&ready, "origin_ms") + number(&ready, name) - began_ms) / 1e3;
    let what = |phase: &str| format!("{phase}, {}", node.label);
    // Between the two Node calls the function whose entry is seen.
    let bootstrap_s = in_node_s("bootstrap_ms");
    assert_between(
        number(&told, "environment_s"),
        in_node_s("environment_ms"),
        bootstrap_s,
        &what("environment"),
    );
    let loop_s = in_node_s("loop_ms");
    assert_between(number(&told, "first_turn_s"), loop_s, loop_s, &what("first turn"));
    let listening_s = at_s("listening_ms");
    assert_between(number(&told, "listening_s"), at_s("loaded_ms"), listening_s, &what("listening"));
    // The last module is compiled before it is loaded; a turn of 50 ms may come later.
    let steady_s = number(&told, "steady_s");
    let first_turn_s = number(&told, "first_turn_s");
    assert_between(steady_s, first_turn_s, listening_s.max(first_turn_s), &what("steady"));

    let counted = || {
        let reports = agent.reports_since(first);
        (compiled(&reports, pid, "commonjs"), compiled(&reports, pid, "esm"))
    };
    // The script itself is one, too.
    assert_eq!(counted(), (COMMONJS as u64 + 1, ESM as u64), "{}", node.label);
    assert_eq!(told["modules"], COMMONJS + ESM + 1, "{}", node.label);
    loading.go();
    loading.wait_for("later");
    agent.settle();
    assert_eq!(counted(), ((COMMONJS + LATER) as u64 + 1, ESM as u64), "{}", node.label);
    assert_eq!(steady(pid)["modules"], COMMONJS + ESM + 1, "what comes later is no part of the start");

    let control = steady(small.pid());
    assert_eq!(control["modules"], 1, "the script alone");
    for (name, most_s) in [("first_turn_s", 1.0), ("compile_s", 0.05)] {
        assert!(number(&control, name) < most_s, "{name} of a small start: {control}");
    }
    // It began before the agent.
    let reports = agent.end();
    assert!(reports.iter().all(|report| startup(report, idle.pid()).is_none()));
}

/// Seconds in V8's own events of scanning and compiling whole sources.
fn traced_s(directory: &Path) -> f64 {
    let read = |entry: io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.expect("the directory can be read").path()).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    };
    let entries = fs::read_dir(directory).expect("the directory exists");
    let traces: Vec<Value> = entries.filter_map(read).collect();
    let events = traces.iter().filter_map(|trace| trace["traceEvents"].as_array()).flatten();
    let whole = ["V8.ParseProgram", "V8.CompileEval", "V8.CompileScript"];
    let of_sources = events.filter(|event| whole.iter().any(|name| event["name"] == *name));
    let mut spans: Vec<(f64, f64)> =
        of_sources.filter_map(|event| Some((event["ts"].as_f64()?, event["dur"].as_f64()?))).collect();
    spans.sort_by(|a, b| a.partial_cmp(b).expect("times are numbers"));
    // Of modules of ECMAScript one of them encloses another.
    let mut covered_us = 0.0;
    let mut until_us = f64::MIN;
    for (begin_us, duration_us) in spans {
        let end_us = begin_us + duration_us;
        covered_us += (end_us - until_us.max(begin_us)).max(0.0);
        until_us = until_us.max(end_us);
    }
    covered_us / 1e6
}

fn the_time_of_compilation_is_that_of_v8(node: &Node) {
    let directory = modules(1, 1);
    let write = |name, text| fs::write(directory.path().join(name), text).expect("a module can be written");
    write("commonjs-0.js", large("exports."));
    write("esm-0.mjs", large("export const "));
    let traces = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let pattern = format!("--trace-event-file-pattern={}/trace", traces.path().display());
    let idle = Workload::idle(node);
    let agent = Agent::observing([&idle]);
    let first = agent.mark();
    let mut loading = Workload::plan(node, "modules.js")
        .flag("--trace-event-categories=disabled-by-default-v8.compile")
        .flag(&pattern)
        .args(arguments(&directory, &[1, 1]))
        .start();
    loading.wait_for("ready");
    agent.settle();
    assert!(loading.end().success());
    let reports = agent.reports_since(first);
    let of_process = reports.iter().filter_map(|report| report.process(loading.pid()));
    let told_s: f64 = of_process.filter_map(|process| process["compile"]["time_s"].as_f64()).sum();
    let true_s = traced_s(traces.path());
    tell(&format!(
        "compiled, {}: {told_s:.4} s told, {true_s:.4} s in V8's trace, {:+.1} %",
        node.label,
        100.0 * (told_s / true_s - 1.0)
    ));
    assert!(true_s > 0.05, "the modules are large");
    assert_within(told_s, true_s, COMPILE_ERROR * true_s + 3.0 * COMPILE_BESIDES_S, &node.label);
    agent.end();
}

/// A script that spins for so many milliseconds.
fn spin(ms: &str) -> String {
    format!("const end = Date.now() + {ms}; while (Date.now() < end);")
}

/// Packages that spin and sleep while they are loaded.
fn with_packages() -> TempDir {
    let directory = modules(0, 0);
    let package = |name: &str, text: &str| {
        let path = directory.path().join("node_modules").join(name);
        fs::create_dir_all(&path).expect("a package can be made");
        fs::write(path.join("index.js"), text).expect("a module can be written");
    };
    package("nested", &spin("200"));
    package("heavy", &format!("require('../nested'); {}", spin("400")));
    package("sleepy", "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);");
    directory
}

fn packages_take_what_they_take(node: &Node) {
    let directory = with_packages();
    let idle = Workload::idle(node);
    let agent = Agent::observing([&idle]);
    let watch = Watch::diagnose("60s");
    let first = agent.mark();
    let loading = Workload::plan(node, "modules.js").args(arguments(&directory, &[0, 0])).start();
    let taken = loading.wait_for("packages")["times"].clone();
    let packages = agent.wait_for_after(first, "the packages of a start", SHOWN, |report| {
        let packages = startup(report, loading.pid())?["packages"].as_array()?.clone();
        (!packages.is_empty()).then_some(packages)
    });
    let of = |name: &str| packages.iter().find(|package| package["name"] == name);
    let time_s = |name: &str, part: &str| of(name).map_or(0.0, |package| number(package, part));
    let (heavy_s, sleepy_s) = (number(&taken, "heavy") / 1e3, number(&taken, "sleepy") / 1e3);
    for (name, part, true_s) in [
        ("heavy", "cpu_s", heavy_s),
        ("nested", "cpu_s", 0.0),
        ("sleepy", "wait_s", sleepy_s),
        ("sleepy", "cpu_s", 0.0),
        ("application", "cpu_s", 0.15),
    ] {
        let told_s = time_s(name, part);
        tell(&format!("{part} of {name}, {}: {told_s:.3} s told, {true_s:.3} s true", node.label));
        assert_within(told_s, true_s, PACKAGE_ERROR_S + 0.1 * true_s, &format!("{part} of {name}"));
    }
    assert_eq!(packages[0]["name"], "heavy", "{packages:?}");
    agent.end();

    let diagnosis = watch.interrupt().diagnosis();
    let found = finding(&diagnosis, loading.pid(), "slow-startup");
    let evidence = &found.unwrap_or_else(|| panic!("no slow start in {diagnosis:#}"))["evidence"];
    // The script, two packages and what one of them requires.
    assert_eq!(evidence["modules"], 4.0);
    assert!((0.005..0.5).contains(&number(evidence, "environment_s")), "{evidence}");
}

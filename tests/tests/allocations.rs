//! Who allocates how many bytes, against functions that allocate a known number of them.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use nodeprobe_tests::{
    Node, Workload, on_every_node,
    wait::observe_for,
    watch::{Watch, process},
    workload::number,
};
use serde_json::Value;

on_every_node!(who_allocates_most_is_told_in_bytes);

/// Bars: of what all of them allocate, and of what one does, by what all do: shares are told by some 150 stacks, to 4 points
/// (standard deviation).
const SUM_ERROR: f64 = 0.10;
const ERROR: f64 = 0.15;
/// V8 has optimised them by then, and objects have the size that they are counted with.
const WARM: Duration = Duration::from_secs(2);
/// Most first.
const FUNCTIONS: [&str; 3] = ["buildPages", "readRows", "authorize"];

/// Bytes per second of each of [`FUNCTIONS`], between two notes.
fn allocated_per_s(from: &Value, to: &Value) -> [f64; 3] {
    let seconds = (number(to, "at_ms") - number(from, "at_ms")) / 1e3;
    FUNCTIONS.map(|name| (number(&to["bytes"], name) - number(&from["bytes"], name)) / seconds)
}

fn who_allocates_most_is_told_in_bytes(node: &Node) {
    let idle = Workload::idle(node);
    let plan = Workload::plan(node, "allocations.js").flag("--no-allocation-site-pretenuring");
    let mut workload = plan.start();
    workload.wait_for("ready");
    workload.go();
    observe_for(WARM);
    let watch = Watch::diagnose("15s");
    workload.say("count");
    workload.wait_for("count");
    let diagnosis = watch.diagnosis();
    workload.say("count");
    let notes = workload.wait_for_nth("count", 2);
    let truth = allocated_per_s(&notes[0], &notes[1]);

    let busy = process(&diagnosis, workload.pid());
    let window_s = number(busy, "window_s");
    let list = busy["allocations"].as_array().expect("it is observed");
    let names: Vec<&str> = list.iter().filter_map(|told| told["function"].as_str()).take(3).collect();
    assert_eq!(names, FUNCTIONS, "most first: {list:#?}");
    let per_s: Vec<f64> = list.iter().map(|told| number(told, "bytes") / window_s).collect();
    let all: f64 = truth.iter().sum();
    let sum = per_s.iter().sum::<f64>() / all - 1.0;
    let of_each: Vec<f64> = per_s.iter().zip(truth).map(|(told, truth)| (told - truth) / all).collect();
    let in_mb =
        |bytes: &[f64]| bytes.iter().map(|bytes| format!("{:.1}", bytes / 1e6)).collect::<Vec<_>>().join(" ");
    let text = format!(
        "allocations, {}: {} MB/s told, {} true; {:+.1} % in all, of each {} of all",
        node.label,
        in_mb(&per_s),
        in_mb(&truth),
        100.0 * sum,
        of_each.iter().map(|error| format!("{:+.0} %", 100.0 * error)).collect::<Vec<_>>().join(" "),
    );
    // Not eprint!: the test runner would swallow it.
    io::stderr().write_all(format!("  {text}\n").as_bytes()).expect("stderr can be written");
    assert!(sum.abs() <= SUM_ERROR && of_each.iter().all(|error| error.abs() <= ERROR), "{text}; {list:#?}");
    let shares: f64 = list.iter().map(|told| number(told, "ratio")).sum();
    assert!((0.9..=1.000_01).contains(&shares), "{shares} of all; {list:#?}");
    assert_eq!(
        process(&diagnosis, idle.pid())["allocations"],
        Value::Array(Vec::new()),
        "it allocates nothing"
    );
}

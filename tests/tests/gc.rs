//! GC pauses, against V8's own `--trace-gc`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    time::Duration,
};

use nodeprobe_tests::{
    Agent, EventStream, Node, Workload, assert_within,
    node::target_tmp,
    on_every_node, on_one_node,
    report::{assert_nothing_lost, assert_quiet, pauses},
    sched_trace::{History, SchedTrace},
    trace_gc::{self, Pause, median},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(pauses_of_the_main_thread_are_those_of_v8, pauses_of_a_worker_are_those_of_v8);
on_every_node!(top_counts_and_times_every_pause);
on_one_node!(Node::of_major(16) => pauses_of_node_16_are_those_of_v8);
on_one_node!(Node::stripped(24) => pauses_are_found_without_symbols);
on_one_node!(Node::debian() => pauses_in_debians_libnode_are_those_of_v8);

/// Bars: the median error of a pause, and the error of each heap size, which V8 prints with one decimal of a MB.
const MEDIAN_ERROR_S: f64 = 0.0001;
const HEAP_ERROR_MB: f64 = 0.1;
const MB: f64 = (1 << 20) as f64;
const RUN: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq)]
enum Heap {
    Known,
    /// V8 hides the functions that tell it, and the names are stripped.
    Unknown,
}

/// A run of the allocation workload under `--trace-gc`, gated so that its pid is known first.
struct Allocation {
    workload: Workload,
    directory: TempDir,
}

impl Allocation {
    fn prepare(node: &Node, place: &str) -> Self {
        Self::prepare_with(node, &[place, "60"])
    }

    fn prepare_with(node: &Node, args: &[&str]) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a directory can be made");
        let trace = File::create(directory.path().join("trace")).expect("the trace can be made");
        // On a machine with few processors, V8's helper threads take them from the thread that is measured.
        let plan = Workload::plan(node, "allocate.js").flag("--trace-gc").flag("--single-threaded-gc");
        Self { workload: plan.args(args.iter().copied()).stdout(trace).start_gated(), directory }
    }

    /// Runs to the end; returns its last note, which tells the thread that allocated, and what V8 traced.
    fn run(&mut self) -> (Value, Vec<Pause>) {
        self.workload.go();
        assert!(self.workload.wait(RUN).success(), "the workload failed");
        let trace = fs::read_to_string(self.directory.path().join("trace")).expect("the trace is there");
        (self.workload.wait_for("done"), trace_gc::parse(&trace))
    }
}

fn pauses_of_the_main_thread_are_those_of_v8(node: &Node) {
    compare_events(node, "main", Heap::Known);
}

fn pauses_of_a_worker_are_those_of_v8(node: &Node) {
    compare_events(node, "worker", Heap::Known);
}

fn pauses_of_node_16_are_those_of_v8(node: &Node) {
    compare_events(node, "main", Heap::Known);
}

fn pauses_are_found_without_symbols(node: &Node) {
    compare_events(node, "main", Heap::Unknown);
}

fn pauses_in_debians_libnode_are_those_of_v8(node: &Node) {
    compare_events(node, "main", Heap::Known);
    top_counts_and_times_every_pause(node);
}

fn compare_events(node: &Node, place: &str, heap: Heap) {
    // Another process of this build runs already: what follows is observed from its first instruction.
    let _idle = Workload::idle(node);
    let mut allocation = Allocation::prepare(node, place);
    let switches = SchedTrace::of(allocation.workload.pid());
    let events = EventStream::of(allocation.workload.pid());
    let (done, trace) = allocation.run();
    let tid = number(&done, "tid") as u32;
    let mut events = events.end("gc");
    events.sort_by(|a, b| number(a, "start_s").total_cmp(&number(b, "start_s")));
    let mut histories = BTreeMap::new();

    // The workload's own isolate is the one that collects most; a worker's main thread may collect at start-up.
    let isolate = busiest_isolate(&trace);
    for (thread_is_busiest, what) in [(true, "the allocating thread"), (false, "other threads")] {
        let what = format!("{what}, {place}, {}", node.label);
        let of_v8: Vec<&Pause> =
            trace.iter().filter(|pause| (pause.isolate == isolate) == thread_is_busiest).collect();
        let seen: Vec<&Value> =
            events.iter().filter(|event| (event["tid"] == tid) == thread_is_busiest).collect();
        let kinds_of_v8: Vec<&str> = of_v8.iter().map(|pause| pause.kind.name()).collect();
        let kinds_seen: Vec<&str> =
            seen.iter().map(|event| event["kind"].as_str().unwrap_or("none")).collect();
        assert_eq!(kinds_seen, kinds_of_v8, "kinds in order, {what}");
        for (event, pause) in seen.iter().zip(&of_v8) {
            compare_heap(event, pause, heap, &what);
        }
        let errors = seen.iter().zip(&of_v8).map(|(event, pause)| {
            let (begin_s, duration_s) = (number(event, "start_s"), number(event, "duration_s"));
            let tid = number(event, "tid") as u32;
            let history = histories.entry(tid).or_insert_with(|| switches.history(tid));
            let off_cpu_s = off_cpu_at_the_ends_s(history, begin_s * 1e3, (begin_s + duration_s) * 1e3);
            ((duration_s - pause.duration_s).abs() - off_cpu_s).max(0.0)
        });
        let errors: Vec<f64> = errors.collect();
        if let Some(error) = median(errors.clone()) {
            assert!(error <= MEDIAN_ERROR_S, "median error of pauses {error} s of {errors:?}, {what}");
        }
        if thread_is_busiest {
            assert!(
                kinds_of_v8.contains(&"minor") && kinds_of_v8.contains(&"major"),
                "too little garbage, {what}"
            );
        }
    }
}

fn compare_heap(event: &Value, pause: &Pause, heap: Heap, what: &str) {
    for (field, expected_mb) in
        [("heap_before_bytes", pause.heap_before_mb), ("heap_after_bytes", pause.heap_after_mb)]
    {
        if heap == Heap::Known {
            assert_within(
                number(event, field) / MB,
                expected_mb,
                HEAP_ERROR_MB,
                &format!("{field} in MB, {what}"),
            );
        } else {
            assert_eq!(event[field], Value::Null, "{field} cannot be known, {what}");
        }
    }
}

/// V8's clock and ours start and stop a few microseconds of work apart. A thread that is off the processor just there,
/// because another has it or because it waits for the safepoint, is so in one of the two pauses and not in the other.
fn off_cpu_at_the_ends_s(switches: &History, begin_ms: f64, end_ms: f64) -> f64 {
    const MARGIN_MS: f64 = 1.0;
    if end_ms - begin_ms < 2.0 * MARGIN_MS {
        return switches.off_cpu_near(f64::midpoint(begin_ms, end_ms), (end_ms - begin_ms) / 2.0 + MARGIN_MS)
            / 1e3;
    }
    (switches.off_cpu_near(begin_ms, MARGIN_MS) + switches.off_cpu_near(end_ms, MARGIN_MS)) / 1e3
}

fn busiest_isolate(trace: &[Pause]) -> String {
    let count = |isolate: &str| trace.iter().filter(|pause| pause.isolate == isolate).count();
    let busiest = trace.iter().max_by_key(|pause| count(&pause.isolate));
    busiest.expect("V8 traced no pause").isolate.clone()
}

fn top_counts_and_times_every_pause(node: &Node) {
    let idle = Workload::idle(node);
    let agent = Agent::observing([&idle]);
    let mut allocation = Allocation::prepare_with(node, &["main", "60", "observe"]);
    let pid = allocation.workload.pid();
    let switches = SchedTrace::of(pid);
    let first = agent.mark();
    let (done, trace) = allocation.run();
    let reports = agent.reports_since(first);
    let switches = switches.history(pid);
    let pauses_of_node = done["gc"].as_array().expect("the collections are listed");
    for kind in ["minor", "major"] {
        let of_v8: Vec<f64> =
            trace.iter().filter(|pause| pause.kind.name() == kind).map(|pause| pause.duration_s).collect();
        let seen = pauses(&reports, pid, kind);
        assert_eq!(seen.count, of_v8.len() as u64, "{kind} pauses, {}", node.label);
        let off_cpu_s: f64 = pauses_of_node
            .iter()
            .filter(|pause| pause["kind"] == kind)
            .map(|pause| off_cpu_at_the_ends_s(&switches, number(pause, "begin_ms"), number(pause, "end_ms")))
            .sum();
        // Twice the median's bar.
        let tolerance_s = 2.0 * MEDIAN_ERROR_S * of_v8.len() as f64 + off_cpu_s;
        let what = format!("time in {kind} pauses, {}", node.label);
        assert_within(seen.time_s, of_v8.iter().sum(), tolerance_s, &what);
    }
    assert_quiet(&reports, idle.pid());
    assert_nothing_lost(&reports);
    agent.end();
}

//! What is healthy stays silent.

use std::{io, time::Duration};

use nodeprobe_tests::{
    Agent, Node, Workload, on_every_node,
    report::{assert_no_culprit, assert_nothing_lost, assert_quiet, stalls_of_process, stdio},
    sched_trace::{SchedTrace, monotonic_ms},
    stdio::SleepyReader,
};

on_every_node!(idle_and_healthy_services_show_nothing);

/// Turns of this length are stalls.
const STALL_MS: f64 = 50.0;

fn idle_and_healthy_services_show_nothing(node: &Node) {
    const INTERVALS: usize = 5;
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    let healthy = Workload::plan(node, "healthy.js").stdout(writer).start();
    let _reader = SleepyReader::start(reader, Duration::ZERO);
    healthy.wait_for("healthy");
    let idle = Workload::idle(node);
    let switches = SchedTrace::of(healthy.pid());
    let agent = Agent::observing([&healthy, &idle]);
    let (first, begin_ms) = (agent.mark(), monotonic_ms());
    agent.wait_for_intervals(first, INTERVALS);
    let reports = agent.reports_since(first);
    assert_quiet(&reports, idle.pid());
    assert_no_culprit(&reports, idle.pid());
    let log = stdio(&reports, healthy.pid(), "stdout");
    assert_eq!((log.blocked_s, log.eagain), (0.0, 0), "{log:?}");
    // No turn is longer than the thread was awake. That is more than its few milliseconds of work only while others have the
    // processors.
    let awake_ms = switches.history(healthy.pid()).awake(begin_ms - 1e3, monotonic_ms());
    let possible: f64 = awake_ms.into_iter().map(|ms| (ms / STALL_MS).floor()).sum();
    let stalls = stalls_of_process(&reports, healthy.pid());
    assert!(stalls.count as f64 <= possible, "{stalls:?}, not {possible} at most, {}", node.label);
    if possible < 1.0 {
        assert_no_culprit(&reports, healthy.pid());
    }
    assert_nothing_lost(&reports);
    // Silence because nobody looked would pass as well.
    let turns = |report: &nodeprobe_tests::Report| report.main_loop(healthy.pid())?["turns"].as_u64();
    let turns: u64 = reports.iter().filter_map(turns).sum();
    assert!(turns >= 100 * INTERVALS as u64, "only {turns} turns of the healthy service, {}", node.label);
    assert!(log.writes >= 5 * INTERVALS as u64 && log.kinds == ["pipe"], "{log:?}, {}", node.label);
    agent.end();
}

//! What is healthy stays silent.

use std::{io, time::Duration};

use nodeprobe_tests::{
    Agent, Node, Workload, on_every_node,
    report::{assert_nothing_lost, assert_quiet, stdio},
    stdio::SleepyReader,
    workload::number,
};

on_every_node!(idle_and_healthy_services_show_nothing);

fn idle_and_healthy_services_show_nothing(node: &Node) {
    const INTERVALS: usize = 5;
    const WINDOWS: usize = 4;
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    let healthy = Workload::plan(node, "healthy.js").stdout(writer).start();
    let _reader = SleepyReader::start(reader, Duration::ZERO);
    healthy.wait_for("healthy");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&healthy, &idle]);
    // A service is a healthy control only for as long as Node itself says so: on a machine that was busy elsewhere the
    // window begins anew. What nodeprobe says plays no part in that.
    let mut longest_ms = f64::MAX;
    let mut reports = Vec::new();
    for _ in 0..WINDOWS {
        let first = agent.mark();
        let noted = healthy.notes("healthy").len();
        agent.wait_for_intervals(first, INTERVALS);
        reports = agent.reports_since(first);
        longest_ms = healthy
            .notes("healthy")
            .iter()
            .skip(noted.saturating_sub(1))
            .map(|note| number(note, "longest_ms"))
            .fold(0.0, f64::max);
        if longest_ms < 50.0 {
            break;
        }
    }
    assert!(
        longest_ms < 50.0,
        "the machine is too busy to tell: Node itself measured a callback of {longest_ms} ms in each of {WINDOWS} windows"
    );
    assert_quiet(&reports, idle.pid());
    assert_quiet(&reports, healthy.pid());
    assert_nothing_lost(&reports);
    // Silence because nobody looked would pass as well.
    let turns = |report: &nodeprobe_tests::Report| report.main_loop(healthy.pid())?["turns"].as_u64();
    let turns: u64 = reports.iter().filter_map(turns).sum();
    assert!(turns >= 100 * INTERVALS as u64, "only {turns} turns of the healthy service, {}", node.label);
    let log = stdio(&reports, healthy.pid(), "stdout");
    assert!(log.writes >= 5 * INTERVALS as u64 && log.kinds == ["pipe"], "{log:?}, {}", node.label);
    agent.end();
}

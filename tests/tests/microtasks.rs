//! Drains of the microtask queue, and the governor that decides for how long they are looked at.

use std::time::Duration;

use nodeprobe_tests::{
    Agent, Node, Report, Workload, on_every_node, on_one_node, report::assert_nothing_lost,
    wait::observe_for, workload::number,
};
use serde_json::Value;

on_every_node!(drains_are_those_of_node, a_storm_is_taken_out_and_said);
on_one_node!(Node::of_major(22) => a_small_budget_is_kept_by_windows);
on_one_node!(Node::of_major(24) => without_a_budget_nothing_is_looked_at);

/// Long enough for the first window of a process; those with few drains are looked at all the time after it.
const FIRST_WINDOW: Duration = Duration::from_secs(10);

fn of(reports: &[Report], pid: u32) -> impl Iterator<Item = (&Value, f64)> {
    reports.iter().filter_map(move |report| Some((&report.process(pid)?["microtasks"], report.interval_s())))
}

fn sum(reports: &[Report], pid: u32, value: impl Fn(&Value, f64) -> Option<f64>) -> f64 {
    of(reports, pid).filter_map(|(microtasks, interval_s)| value(microtasks, interval_s)).sum()
}

/// Time in drains that was seen.
fn time_s(microtasks: &Value, interval_s: f64) -> Option<f64> {
    Some(microtasks["time_ratio"].as_f64()? * microtasks["seen_ratio"].as_f64()? * interval_s)
}

fn wait_until_seen(agent: &Agent, pid: u32) {
    agent.wait_for("an interval in which drains were looked at all the time", FIRST_WINDOW, |report| {
        let process = report.process(pid)?;
        (process["microtasks"]["seen_ratio"].as_f64()? > 0.999).then_some(())
    });
}

fn why_not(report: &Report, pid: u32) -> Option<String> {
    report.process(pid)?.pointer("/signals/microtasks/unavailable")?.as_str().map(str::to_owned)
}

fn drains_are_those_of_node(node: &Node) {
    let mut workload = Workload::plan(node, "microtasks.js").start();
    workload.wait_for("ready");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    let pid = workload.pid();
    wait_until_seen(&agent, pid);
    let before = agent.mark();
    workload.say("drains 100 2");
    let few = workload.wait_for("drains");
    workload.say("drains 1 300");
    let one = workload.wait_for_nth("drains", 2).pop().expect("the second");
    let reports = agent.reports_since(before);
    let what = format!("{few}, {one}, {}", node.label);
    let drains = sum(&reports, pid, |microtasks, _| microtasks["drains"].as_f64());
    assert!((drains - 101.0).abs() < 0.5, "{drains} drains, {what}");
    let seen_s = sum(&reports, pid, time_s);
    let true_s = (number(&few, "total_ms") + number(&one, "total_ms")) / 1e3;
    assert!((seen_s / true_s - 1.0).abs() < 0.05, "{seen_s} s in drains, {what}");
    let longest_ms =
        of(&reports, pid).filter_map(|(m, _)| m["drain_max_s"].as_f64()).fold(0.0, f64::max) * 1e3;
    // A drain is its continuation and what V8 does around it.
    let longest_true = number(&one, "longest_ms");
    assert!(
        (longest_true - 0.1..longest_true * 1.05).contains(&longest_ms),
        "the longest took {longest_ms} ms, {what}"
    );
    let of_idle = sum(&reports, idle.pid(), |microtasks, _| microtasks["drains"].as_f64());
    assert!(of_idle < 0.5, "the idle process drained {of_idle} times");
    assert_nothing_lost(&reports);
    agent.end();
}

fn a_storm_is_taken_out_and_said(node: &Node) {
    const STORM: Duration = Duration::from_secs(6);
    let mut workload = Workload::plan(node, "microtasks.js").start();
    workload.wait_for("ready");
    let calm = Workload::plan(node, "microtasks.js").start();
    calm.wait_for("ready");
    let agent = Agent::observing([&workload, &calm]);
    let pid = workload.pid();
    wait_until_seen(&agent, pid);
    let before = agent.mark();
    workload.say(&format!("storm {}", STORM.as_millis()));
    let why = agent.wait_for_after(before, "the storm to be noticed", STORM, |report| why_not(report, pid));
    assert!(why.starts_with("taken out: ") && why.contains("--max-overhead"), "{why}, {}", node.label);
    let noticed = agent.mark();
    let storm = workload.wait_for_within("storm", 2 * STORM);
    let hits_per_s: f64 =
        why["taken out: ".len()..].split(' ').next().and_then(|n| n.parse().ok()).expect("a rate");
    // Two hits for each; it was slower while they were counted.
    let true_per_s = 2.0 * number(&storm, "count") / number(&storm, "ms") * 1e3;
    assert!((0.1..1.3).contains(&(hits_per_s / true_per_s)), "{why}, {storm}, {}", node.label);
    let rest = agent.reports_since(noticed);
    let seen =
        sum(&rest, pid, |microtasks, interval_s| Some(microtasks["seen_ratio"].as_f64()? * interval_s));
    assert!(seen < 0.1, "looked at for {seen} s more, {}", node.label);
    let reports = agent.reports_since(before);
    assert!(
        reports.iter().all(|report| why_not(report, calm.pid()).is_none()),
        "the calm process is not to blame"
    );
    let last = reports.last().and_then(|report| report.process(calm.pid())).expect("it runs");
    assert_eq!(last["microtasks"]["seen_ratio"].as_f64(), Some(1.0), "the calm process is looked at");
    agent.end();
}

fn a_small_budget_is_kept_by_windows(node: &Node) {
    const LOOKED: Duration = Duration::from_secs(25);
    let mut workload = Workload::plan(node, "microtasks.js").start();
    workload.wait_for("ready");
    let agent = Agent::with(&["--max-overhead", "0.1%"]);
    let pid = workload.pid();
    agent.wait_for_process(pid);
    // Turns of a millisecond and more, so with a budget of a thousandth they cannot be looked at all the time.
    workload.say("drains 28000 1");
    let before = agent.mark();
    observe_for(LOOKED);
    let reports = agent.reports_since(before);
    let length_s: f64 = of(&reports, pid).map(|(_, interval_s)| interval_s).sum();
    let seen_s =
        sum(&reports, pid, |microtasks, interval_s| Some(microtasks["seen_ratio"].as_f64()? * interval_s));
    assert!((0.025..0.9).contains(&(seen_s / length_s)), "looked at for {seen_s} of {length_s} s");
    let drains = sum(&reports, pid, |microtasks, _| microtasks["drains"].as_f64());
    let estimate_per_s = drains / seen_s;
    let done = workload.wait_for_within("drains", Duration::from_mins(1));
    let true_per_s = number(&done, "count") / number(&done, "elapsed_ms") * 1e3;
    assert!((estimate_per_s / true_per_s - 1.0).abs() < 0.1, "{estimate_per_s} drains/s, {done}");
    agent.end();
}

fn without_a_budget_nothing_is_looked_at(node: &Node) {
    let mut workload = Workload::plan(node, "microtasks.js").start();
    workload.wait_for("ready");
    let agent = Agent::with(&["--max-overhead", "0"]);
    let pid = workload.pid();
    let why = agent.wait_for("the reason", FIRST_WINDOW, |report| why_not(report, pid));
    assert_eq!(why, "switched off by --max-overhead 0");
    workload.say("drains 10 1");
    workload.wait_for("drains");
    let reports = agent.end();
    assert!(of(&reports, pid).all(|(microtasks, _)| microtasks["drains"].is_null()));
}

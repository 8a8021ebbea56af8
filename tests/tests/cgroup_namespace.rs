//! The agent in a cgroup namespace of its own, as unprivileged containers are where groups are of version 2: what is told of the
//! groups of others must not depend on it, and where it does it is said.

use std::time::Duration;

use nodeprobe_tests::{
    Agent, Node, Report, Workload, agent,
    agent::run,
    assert_within,
    cgroup_namespace::{CgroupNamespace, View},
    cpu_quota::CpuQuota,
    memory_group::MemoryGroup,
    on_one_node,
    skip::skip,
    workload::number,
};
use serde_json::Value;

on_one_node!(Node::of_major(22) => groups_of_others_are_found_from_a_namespace_of_ones_own);
on_one_node!(Node::of_major(22) => groups_that_are_not_shown_are_said_to_be_out_of_sight);

const MIB: f64 = 1_048_576.0;
const LIMIT_BYTES: u64 = 512 << 20;
/// Three semi-spaces, which V8's figure contains and that of the old generation does not (docs/node-versions.md).
const YOUNG_MIB: f64 = 48.0;
const SHOWN: Duration = Duration::from_secs(15);
const RUN: Duration = Duration::from_secs(30);

/// A service that was started in a group with a limit of memory, and `v8.getHeapStatistics().heap_size_limit` of it. The group comes
/// first: it has to outlive the service, also where a test fails.
fn limited(node: &Node, flag: &str) -> Result<(MemoryGroup, Workload, f64), String> {
    let mut workload = Workload::plan(node, "failure-modes/healthy-idle.js").flag(flag).start_gated();
    let group = MemoryGroup::of(workload.pid(), LIMIT_BYTES)
        .map_err(|error| format!("no cgroup with a limit of memory can be made: {error}"))?;
    workload.go();
    workload.wait_for("ready");
    workload.say("report");
    let heap_mib = number(&workload.wait_for("report"), "heap_size_limit") / MIB;
    Ok((group, workload, heap_mib))
}

/// A service that blocks for three seconds on [`Workload::go`], in a group with a quota.
fn throttled(node: &Node) -> Result<(CpuQuota, Workload), String> {
    let busy = Workload::plan(node, "block.js").args(["main", "300", "10", "0"]).start();
    busy.wait_for("ready");
    let quota = CpuQuota::of(busy.pid(), 0.2)
        .map_err(|error| format!("no cgroup with a quota can be made: {error}"))?;
    Ok((quota, busy))
}

/// The line about control groups of `nodeprobe check`, which must find the host fit.
#[track_caller]
fn check(namespace: &CgroupNamespace, view: View) -> Value {
    let mut command =
        agent::through(namespace.launcher(view), &agent::command(["check", "--format", "json"]));
    let output = run(&mut command, RUN);
    assert!(output.status.success(), "{}{}", output.stdout_text(), output.stderr_text());
    let report = output.json();
    let checks = report["checks"].as_array().expect("checks are a list");
    checks.iter().find(|check| check["name"] == "cgroup").expect("groups are looked at").clone()
}

fn heap_limit_mib(report: &Report, workload: &Workload) -> Option<f64> {
    Some(report.process(workload.pid())?["heap"]["limit_bytes"].as_f64()? / MIB)
}

fn groups_of_others_are_found_from_a_namespace_of_ones_own(node: &Node) {
    let namespace = match CgroupNamespace::make() {
        Ok(namespace) => namespace,
        Err(error) => return skip(&format!("no cgroup for the agent can be made: {error}")),
    };
    let (group, mut workload, of_v8_mib) = match limited(node, "--no-warnings") {
        Ok(limited) => limited,
        Err(reason) => return skip(&reason),
    };
    let (quota, mut busy) = match throttled(node) {
        Ok(throttled) => throttled,
        Err(reason) => return skip(&reason),
    };
    let idle = Workload::idle(node);
    assert_eq!(check(&namespace, View::Host)["status"], "ok");

    let agent = Agent::through(namespace.launcher(View::Host));
    for workload in [&workload, &busy, &idle] {
        agent.wait_for_process(workload.pid());
    }
    let limit = agent.wait_for("the limit of the group", SHOWN, |report| {
        report.process(workload.pid())?["memory_limit_bytes"].as_u64()
    });
    assert_eq!(limit, LIMIT_BYTES);
    let heap_mib = agent.wait_for("the limit of the heap", SHOWN, |report| heap_limit_mib(report, &workload));
    let young_mib = of_v8_mib - heap_mib;
    assert!((0.0..=YOUNG_MIB).contains(&young_mib), "V8 {of_v8_mib} MiB, we {heap_mib} MiB");

    let (first, before_s) = (agent.mark(), quota.account().throttled_s);
    busy.go();
    busy.wait_for_nth("block", 10);
    let reports = agent.reports_since(first);
    let true_s = quota.account().throttled_s - before_s;
    let throttled_s = |pid| -> f64 {
        let of_process = reports.iter().filter_map(|report| report.process(pid));
        of_process.filter_map(|process| process["cpu_throttled_s"].as_f64()).sum()
    };
    eprintln!("  throttled {:.3} s told, {true_s:.3} s true", throttled_s(busy.pid()));
    assert!(true_s > 1.0, "the quota was not used up: {true_s} s");
    assert_within(throttled_s(busy.pid()), true_s, 0.01, "seconds throttled");
    assert!(throttled_s(idle.pid()) < 0.1 * true_s, "another group is not throttled");
    for report in &reports {
        let elsewhere = report.process(idle.pid()).expect("it is listed");
        assert_ne!(elsewhere["memory_limit_bytes"], LIMIT_BYTES, "another group has another limit");
    }
    assert!(!agent.stderr().contains("/sys/fs/cgroup"), "{}", agent.stderr());
    agent.end();
    busy.end();
    workload.end();
    drop((quota, group));
}

fn groups_that_are_not_shown_are_said_to_be_out_of_sight(node: &Node) {
    const HEAP_MIB: f64 = 300.0;
    let namespace = match CgroupNamespace::make() {
        Ok(namespace) => namespace,
        Err(error) => return skip(&format!("no cgroup for the agent can be made: {error}")),
    };
    let (group, mut plain, _) = match limited(node, "--no-warnings") {
        Ok(limited) => limited,
        Err(reason) => return skip(&reason),
    };
    let (other_group, mut flagged, of_v8_mib) = match limited(node, "--max-old-space-size=300") {
        Ok(limited) => limited,
        Err(reason) => return skip(&reason),
    };
    assert!((0.0..=YOUNG_MIB).contains(&(of_v8_mib - HEAP_MIB)), "V8 {of_v8_mib} MiB");
    let line = check(&namespace, View::Own);
    assert_eq!(line["status"], "warn", "{line}");
    assert!(line["breaks"].as_str().is_some_and(|breaks| breaks.contains("memory limits")), "{line}");
    assert!(line["remedy"].as_str().is_some_and(|remedy| remedy.contains("/sys/fs/cgroup")), "{line}");

    let agent = Agent::through(namespace.launcher(View::Own));
    for workload in [&plain, &flagged] {
        agent.wait_for_process(workload.pid());
    }
    let heap_mib = agent.wait_for("the limit of the heap", SHOWN, |report| heap_limit_mib(report, &flagged));
    assert_within(heap_mib, HEAP_MIB, 0.0, "the flag decides, whatever the group");
    let first = agent.mark();
    agent.wait_for_intervals(first, 4);
    for report in agent.reports_since(first) {
        assert_eq!(heap_limit_mib(&report, &plain), None, "no flag decides, and the group is not known");
        for workload in [&plain, &flagged] {
            let process = report.process(workload.pid()).expect("it is listed");
            assert_eq!(process["memory_limit_bytes"], Value::Null);
            assert_eq!(process["cpu_throttled_s"], Value::Null);
        }
    }
    let said = agent.stderr().matches("/sys/fs/cgroup does not show their groups").count();
    assert_eq!(said, 1, "{}", agent.stderr());
    agent.end();
    for workload in [&mut plain, &mut flagged] {
        workload.end();
    }
    drop((group, other_group));
}

//! The memory of the container of a process that leaks: its limit, and when that is reached.

use std::time::Duration;

use nodeprobe_tests::{
    Agent, Node, Workload, assert_within,
    load::Load,
    memory_group::MemoryGroup,
    on_one_node,
    skip::skip,
    watch::{Watch, finding},
    workload::number,
};

on_one_node!(Node::of_major(22) => the_limit_of_the_container_comes_before_that_of_v8);

const LIMIT_BYTES: u64 = 512 << 20;
/// Between the reading of the agent, every 3 s, and that of the test.
const USED_ERROR_BYTES: f64 = 64.0 * 1_048_576.0;
const SHOWN: Duration = Duration::from_secs(15);

fn the_limit_of_the_container_comes_before_that_of_v8(node: &Node) {
    let plan = Workload::plan(node, "failure-modes/heap-growth.js").flag("--max-old-space-size=1024");
    let mut workload = plan.start();
    let ready = workload.wait_for("ready");
    let group = match MemoryGroup::of(workload.pid(), LIMIT_BYTES) {
        Ok(group) => group,
        Err(error) => return skip(&format!("no cgroup with a limit of memory can be made: {error}")),
    };
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    let watch = Watch::diagnose("10s");
    let path = ready["path"].as_str().expect("it says what to ask for");
    let load = Load::start(number(&ready, "port") as u16, path, 100.0, 2);
    let limit = agent.wait_for("the limit of the group", SHOWN, |report| {
        report.process(workload.pid())?["memory_limit_bytes"].as_u64()
    });
    assert_eq!(limit, LIMIT_BYTES);
    let elsewhere = agent.wait_for_process(idle.pid());
    assert_ne!(elsewhere.process(idle.pid()).expect("it is listed")["memory_limit_bytes"], LIMIT_BYTES);
    let diagnosis = watch.diagnosis();
    drop(load);
    let used_bytes = group.used_bytes();
    let found = finding(&diagnosis, workload.pid(), "heap-growth");
    let found = found.unwrap_or_else(|| panic!("no growth in {diagnosis:#}"));
    let of = |name: &str| number(&found["evidence"], name);
    eprintln!(
        "  used {:.0} MB told, {:.0} MB true; {:.1} s to the limit of the container, {:.1} s to that of V8; {}",
        of("memory_used_bytes") / 1e6,
        used_bytes / 1e6,
        of("time_to_memory_limit_s"),
        of("time_to_heap_limit_s"),
        found["summary"],
    );
    assert_within(of("memory_used_bytes"), used_bytes, USED_ERROR_BYTES, "memory of the group");
    assert_eq!(found["evidence"]["memory_limit_bytes"], LIMIT_BYTES as f64);
    assert_eq!(found["evidence"]["time_to_limit_s"], found["evidence"]["time_to_memory_limit_s"]);
    assert!(of("time_to_memory_limit_s") < of("time_to_heap_limit_s"), "{found:#}");
    assert!(of("outside_heap_bytes") > 0.0 && of("outside_heap_bytes") < of("rss_bytes"), "{found:#}");
    assert!(found["summary"].as_str().is_some_and(|summary| summary.contains("container")), "{found:#}");
    agent.end();
    workload.end();
    drop(group);
}

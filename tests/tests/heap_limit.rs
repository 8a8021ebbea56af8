//! The limit of V8's heap.

use std::time::Duration;

use nodeprobe_tests::{
    Agent, Node, Workload, memory_group::MemoryGroup, on_every_node, skip::skip, workload::number,
};

on_every_node!(the_heap_limit_is_that_of_v8);

/// What decides the limit of a heap: flags, `NODE_OPTIONS`, and the memory of the container, MiB.
type Settings = (&'static [&'static str], Option<&'static str>, Option<u64>);

fn the_heap_limit_is_that_of_v8(node: &Node) {
    const SETTINGS: [Settings; 8] = [
        (&["--no-warnings"], None, None),
        (&["--max-old-space-size=300"], None, None),
        (&[], Some("--max-old-space-size=300"), None),
        (&["--max_old_space_size=200"], Some("--max-old-space-size=300"), None),
        (&["--max-old-space-size=300", "--max-semi-space-size=8"], None, None),
        (&[], None, Some(256)),
        (&[], None, Some(1024)),
        (&[], None, Some(3072)),
    ];
    let mut running = Vec::new();
    for (flags, options, container_mib) in SETTINGS {
        let plan = Workload::plan(node, "failure-modes/healthy-startup.js");
        let plan = flags.iter().fold(plan, |plan, flag| plan.flag(flag));
        let plan = options.into_iter().fold(plan, |plan, options| plan.env("NODE_OPTIONS", options));
        let mut workload = plan.start_gated();
        let group = container_mib.map(|mib| MemoryGroup::of(workload.pid(), mib << 20));
        if let Some(Err(error)) = &group {
            skip(&format!("no cgroup with a limit of memory can be made: {error}"));
            continue;
        }
        workload.go();
        // Dropped in this order: a group can be removed when its process has ended.
        running.push((workload, group, (flags, options, container_mib)));
    }
    let of_v8 = running.iter_mut().map(|(workload, ..)| {
        workload.wait_for("ready");
        workload.say("report");
        number(&workload.wait_for("report"), "heap_size_limit") as u64
    });
    let of_v8: Vec<u64> = of_v8.collect();
    let agent = Agent::observing(running.iter().map(|(workload, ..)| workload));
    for ((workload, _, settings), of_v8) in running.iter().zip(of_v8) {
        let limit = agent.wait_for("the limit", Duration::from_secs(10), |report| {
            report.process(workload.pid())?["heap"]["limit_bytes"].as_u64()
        });
        let young = young_generation_mib(node.major(), *settings) << 20;
        assert_eq!(
            limit + young,
            of_v8,
            "we {limit}, the young generation {young}, {settings:?}, {}",
            node.label
        );
    }
    agent.end();
}

/// The part of V8's figure that is no part of ours: three semi-spaces, which a flag decides or the memory V8 finds
/// (docs/node-versions.md; taken from `heap_size_limit` in containers of 128 MiB to 6 GiB).
fn young_generation_mib(major: u32, (flags, _, container_mib): Settings) -> u64 {
    if let Some(flag) = flags.iter().find_map(|flag| flag.strip_prefix("--max-semi-space-size=")) {
        return 3 * flag.parse::<u64>().expect("a number");
    }
    // Before 20 it looks only at where a container sees its own group. A host that runs these tests has more than 4 GiB.
    let memory_mib = container_mib.filter(|_| major >= 20).unwrap_or(u64::MAX);
    let semi_space_mib = match major {
        ..=22 if memory_mib <= 512 => 1,
        24 if memory_mib <= 512 => 1,
        ..=22 => (memory_mib / 256).min(16),
        24 => (memory_mib / 64).min(64),
        _ => (memory_mib / 128).min(32),
    };
    3 * semi_space_mib.next_power_of_two()
}

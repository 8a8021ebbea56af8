//! The limit of V8's heap: where it is, and who reaches it.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Workload,
    memory_group::MemoryGroup,
    node::target_tmp,
    on_every_node, on_one_node,
    process::describe,
    recording::Recording,
    skip::skip,
    watch::{Watch, finding, process},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(
    the_heap_limit_is_that_of_v8,
    a_process_that_dies_of_a_full_heap_is_diagnosed,
    a_process_that_is_helped_at_its_limit_is_diagnosed
);
on_one_node!(Node::stripped(24) => a_stripped_process_that_dies_of_a_full_heap_is_diagnosed);

const LIMIT_BYTES: f64 = 64.0 * 1_048_576.0;

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
        ..=24 if memory_mib <= 512 => 1,
        ..=22 => (memory_mib / 256).min(16),
        24 => (memory_mib / 64).min(64),
        _ => (memory_mib / 128).min(32),
    };
    3 * semi_space_mib.next_power_of_two()
}

fn a_process_that_dies_of_a_full_heap_is_diagnosed(node: &Node) {
    // In 22 the compiler has moved the question whether anybody helps to where V8 would call, and nobody does here.
    let calls_for_help = node.major() != 22;
    let found = full_heap_beside_one_that_is_nearly_full(node, calls_for_help);
    assert_eq!(found["culprit"]["function"], "remember", "{found:#}");
}

/// `strip` takes the name of V8's call for help, and leaves that of Node's handler.
fn a_stripped_process_that_dies_of_a_full_heap_is_diagnosed(node: &Node) {
    full_heap_beside_one_that_is_nearly_full(node, false);
}

/// A leak ends in V8's `FATAL ERROR`, before which it may have called for help, while a cache stays below the limit of its heap.
/// Returns the finding.
#[track_caller]
fn full_heap_beside_one_that_is_nearly_full(node: &Node, calls_for_help: bool) -> Value {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let errors = directory.path().join("stderr");
    let plan =
        |what: &str| Workload::plan(node, "heap-limit.js").flag("--max-old-space-size=64").args([what]);
    let mut leak = plan("leak").stderr(File::create(&errors).expect("a file can be made")).start();
    let mut cache = plan("cache").start();
    for workload in [&leak, &cache] {
        workload.wait_for("ready");
    }
    let record = Watch::record(leak.pid());
    let watch = Watch::diagnose("10s");
    leak.go();
    let status = leak.wait(Duration::from_secs(9));
    // What V8 and Node say themselves.
    let last_words = fs::read_to_string(&errors).expect("its stderr can be read");
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{}: {last_words}", describe(status));
    let fatal = last_words.lines().filter(|line| line.starts_with("FATAL ERROR: "));
    let fatal: Vec<&str> = fatal.filter(|line| line.ends_with("JavaScript heap out of memory")).collect();
    assert_eq!(fatal.len(), 1, "{last_words}");
    let diagnosis = watch.diagnosis();
    let recording = record.interrupt().recording();

    let dead = process(&diagnosis, leak.pid());
    assert_eq!(dead["exited"], Value::Bool(true), "{dead:#}");
    let found = finding(&diagnosis, leak.pid(), "heap-growth");
    let found = found.unwrap_or_else(|| panic!("no full heap in {dead:#}"));
    assert_eq!((&found["severity"], &found["primary"]), (&"critical".into(), &true.into()), "{found:#}");
    assert_eq!(found["evidence"]["heap_limit_bytes"], LIMIT_BYTES, "{found:#}");
    assert!(found["summary"].as_str().is_some_and(|text| text.contains("ran out of memory")), "{found:#}");
    let mut notices = told(&recording, leak.pid());
    assert_eq!(notices.pop(), Some("out_of_memory"), "{}: {notices:?}", node.label);
    assert_eq!(!notices.is_empty(), calls_for_help, "{}: {notices:?}", node.label);
    assert!(notices.iter().all(|kind| *kind == "near_heap_limit"), "{}: {notices:?}", node.label);

    cache.say("report");
    let used = number(&cache.wait_for("report"), "used_heap_size") / LIMIT_BYTES;
    assert!((0.7..1.0).contains(&used), "the cache has filled {used} of its limit");
    let well = process(&diagnosis, cache.pid());
    assert_eq!(well["exited"], Value::Bool(false), "{well:#}");
    let loud = well["findings"].as_array().expect("a list").iter().find(|found| found["severity"] != "info");
    assert_eq!(loud, None, "the cache is said to be sick");
    assert_eq!(told(&recording, cache.pid()), Vec::<&str>::new());
    eprintln!("  {}: {}; the cache has filled {:.0} % of its limit", node.label, fatal[0], used * 100.0);
    found.clone()
}

/// Node helps with a heap snapshot and a greater limit, and the process lives on.
fn a_process_that_is_helped_at_its_limit_is_diagnosed(node: &Node) {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let path = directory.path().to_str().expect("our own path");
    let plan =
        Workload::plan(node, "heap-limit.js").args(["helped", path]).stderr(std::process::Stdio::null());
    // The less there is, the sooner it is written.
    let plan = plan.flag("--max-old-space-size=32").flag("--heapsnapshot-near-heap-limit=1");
    let mut workload = plan.flag(&format!("--diagnostic-dir={path}")).start();
    workload.wait_for("ready");
    let record = Watch::record(workload.pid());
    let watch = Watch::diagnose("12s");
    workload.go();
    // Node's own account of it.
    let helped = workload.wait_for("helped");
    let snapshot = directory.path().join(helped["snapshot"].as_str().expect("its name"));
    assert!(snapshot.is_file(), "{helped}");
    let diagnosis = watch.diagnosis();
    let notices = record.interrupt().recording();
    let notices = told(&notices, workload.pid());
    assert!(!notices.is_empty() && notices.iter().all(|kind| *kind == "near_heap_limit"), "{notices:?}");
    let found = finding(&diagnosis, workload.pid(), "heap-growth");
    let found = found.unwrap_or_else(|| panic!("no full heap in {diagnosis:#}"));
    assert_eq!((&found["severity"], &found["primary"]), (&"critical".into(), &true.into()), "{found:#}");
    assert_eq!(found["evidence"]["heap_limit_bytes"], LIMIT_BYTES / 2.0, "{found:#}");
    assert!(found["summary"].as_str().is_some_and(|text| text.contains("reached the limit")), "{found:#}");
    assert!(workload.end().success(), "it lives until it is told to end, {}", node.label);
}

/// What was told of a process at once.
fn told(recording: &Recording, pid: u32) -> Vec<&str> {
    let told = recording.notices.iter().filter(|notice| notice.pid == pid);
    told.map(|notice| notice.kind.as_str()).collect()
}

//! Processes and threads that come, go and become something else.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nodeprobe_tests::{
    Agent, Node, Report, Workload,
    agent::command,
    assert_within,
    code::changed_bytes,
    node::target_tmp,
    on_every_node, on_one_node,
    process::OwnedProcess,
    report::{assert_nothing_lost, assert_quiet, stalls, stalls_of_process},
    rootfs::Rootfs,
    skip::skip,
    wait::{eventually, observe_for},
    workload::duration_s,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(worker_threads_are_listed_while_they_live);
on_one_node!(Node::of_major(26) => busy_workers_that_ran_before_are_found);
on_one_node!(Node::of_major(22) => a_worker_that_never_sleeps_is_found_with_its_function);
on_one_node!(Node::of_major(24) => nothing_is_left_in_a_process_after_the_end);
on_one_node!(Node::of_major(22) => short_lived_processes_are_measured_or_counted_as_lost);
on_one_node!(Node::of_major(24) => each_cluster_worker_is_a_process_of_its_own);
on_one_node!(Node::of_major(26) => a_process_that_becomes_another_program_is_dropped);
on_one_node!(Node::of_major(26) => a_process_that_becomes_another_node_changes_its_version);
on_one_node!(Node::of_major(20) => a_process_in_other_namespaces_is_observed);
on_one_node!(Node::of_major(18) => a_process_older_than_the_agent_is_listed_with_its_age_and_name);
on_one_node!(Node::of_major(24) => node_is_known_by_its_content_not_by_its_name);

/// How long the agent may take to list what is new or to drop what is gone.
const NOTICE: Duration = Duration::from_secs(5);

fn worker_threads_are_listed_while_they_live(node: &Node) {
    let mut workload = Workload::plan(node, "workers.js").start();
    let pid = workload.pid();
    let tids = tids_of_workers(&workload);
    let agent = Agent::observing([&workload]);
    agent.wait_for(&format!("exactly the workers {tids:?}, {}", node.label), NOTICE, |report| {
        (workers(report, pid) == tids).then_some(())
    });
    workload.say("stop");
    workload.wait_for("stopped");
    let first = agent.mark();
    agent.wait_for_after(first, "the end of the workers", NOTICE, |report| {
        (report.process(pid).is_some() && workers(report, pid).is_empty()).then_some(())
    });
    agent.end();
}

/// Without samples a thread that runs at the moment does not tell what it is. These sleep for two fifths of the time.
fn busy_workers_that_ran_before_are_found(node: &Node) {
    let workload = Workload::plan(node, "workers.js").args(["150", "100", "104", "108"]).start();
    let pid = workload.pid();
    let tids = tids_of_workers(&workload);
    assert_eq!(tids.len(), 3);
    let agent = Agent::with(&["-d", "1", "--no-stacks"]);
    agent.wait_for_process(pid);
    agent.wait_for(&format!("the busy workers {tids:?}, {}", node.label), NOTICE, |report| {
        (workers(report, pid) == tids).then_some(())
    });
    agent.end();
}

/// Nor does it ever tell by itself: its loop does not turn.
fn a_worker_that_never_sleeps_is_found_with_its_function(node: &Node) {
    let workload = Workload::plan(node, "workers.js").args(["600000", "1"]).start();
    let pid = workload.pid();
    let tids = tids_of_workers(&workload);
    assert_eq!(tids.len(), 1);
    let state = || fs::read_to_string(format!("/proc/{pid}/task/{}/syscall", tids.first().expect("one")));
    eventually("the worker's endless turn", NOTICE, || (state().ok()?.trim() == "running").then_some(()));
    let agent = Agent::observing([&workload]);
    let turn =
        agent.wait_for(&format!("the culprit of the worker {tids:?}, {}", node.label), NOTICE, |report| {
            let worker = report.threads(pid).find(|thread| thread["kind"] == "worker")?;
            (!worker["event_loop"]["current_turn_culprit"].is_null()).then(|| worker.clone())
        });
    assert_eq!(turn["tid"].as_u64(), tids.first().copied());
    let culprit = &turn["event_loop"]["current_turn_culprit"];
    assert_eq!(culprit["function"], "work", "{turn}");
    assert!(culprit["script"].as_str().is_some_and(|script| script.ends_with("/workers.js")), "{turn}");
    agent.end();
}

/// As Node tells them.
fn tids_of_workers(workload: &Workload) -> BTreeSet<u64> {
    let ready = workload.wait_for("ready");
    ready["tids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// As the agent tells them.
fn workers(report: &Report, pid: u32) -> BTreeSet<u64> {
    let workers = report.threads(pid).filter(|thread| thread["kind"] == "worker");
    workers.filter_map(|thread| thread["tid"].as_u64()).collect()
}

/// Also when the agent ends while it takes out the probes of a window: a thread that is killed over that would leave them.
fn nothing_is_left_in_a_process_after_the_end(node: &Node) {
    const ENDS: u64 = 6;
    const NONE: [u64; 0] = [];
    let check = command(["check"]).output().expect("the agent runs");
    if !String::from_utf8_lossy(&check.stdout).contains("may be linked") {
        return skip("before Linux 6.10 probes go for seconds after the end");
    }
    let load = Workload::plan(node, "mixed-load.js").start();
    let changed = || changed_bytes(load.pid(), &node.binary);
    // An agent that was killed by the test before this one lets go within seconds.
    eventually("a host without probes (does another agent run?)", NOTICE, || {
        changed().is_empty().then_some(())
    });
    for number in 0..ENDS {
        let agent = Agent::every("0.2");
        agent.wait_for_process(load.pid());
        // Probes that many processes hit are in place for 250 ms at first, so some of the ends meet their going.
        observe_for(Duration::from_millis(60 * number));
        assert_ne!(changed(), NONE, "probes are breakpoints, and there are none, {}", node.label);
        agent.end();
        assert_eq!(changed(), NONE, "left after end {number}, {}", node.label);
    }
    let agent = Agent::observing([&load]);
    agent.kill();
    eventually("everything taken out after a kill", NOTICE, || changed().is_empty().then_some(()));
}

fn short_lived_processes_are_measured_or_counted_as_lost(node: &Node) {
    const PROCESSES: usize = 100;
    let idle = Workload::idle(node);
    let agent = Agent::observing([&idle]);
    let descriptors =
        || fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("the agent is alive").count();
    let descriptors_before = descriptors();
    let first = agent.mark();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/short-lived.js");
    let begin = Instant::now();
    let mut processes: Vec<OwnedProcess> = Vec::new();
    for number in 0..PROCESSES {
        // One each 100 ms, however long the previous ones took to start.
        thread::sleep((Duration::from_millis(100) * number as u32).saturating_sub(begin.elapsed()));
        let mut command = node.command();
        command.arg(&script).arg("50").stdin(Stdio::null());
        processes.push(OwnedProcess::spawn(&mut command));
    }
    for process in &mut processes {
        assert!(process.wait(Duration::from_secs(10)).success(), "a short-lived process failed");
    }
    let reports = agent.reports_since(first);
    let seen = |pid: u32| reports.iter().any(|report| report.threads(pid).next().is_some());
    let measured = processes.iter().filter(|process| seen(process.pid())).count();
    let lost: u64 = reports.iter().map(Report::lost).sum();
    assert!(
        measured as u64 + lost >= PROCESSES as u64,
        "{measured} of {PROCESSES} measured and {lost} counted as lost: some were neither"
    );
    // None leaks: two reports later nobody is listed, and the agent holds no more files than before.
    let after = agent.mark() + 1;
    let leaked = agent.wait_for_after(after, "a report after all has ended", NOTICE, |report| {
        let pids = report.pids();
        Some(processes.iter().map(OwnedProcess::pid).filter(|pid| pids.contains(pid)).collect::<Vec<_>>())
    });
    assert_eq!(leaked, Vec::<u32>::new(), "ended processes are still listed");
    let descriptors_after = descriptors();
    assert!(
        descriptors_after <= descriptors_before + 3,
        "{descriptors_before} files before, {descriptors_after} after"
    );
    assert_quiet(&reports, idle.pid());
    agent.end();
}

fn each_cluster_worker_is_a_process_of_its_own(node: &Node) {
    let mut cluster = Workload::plan(node, "cluster.js").args(["2"]).start();
    let ready = cluster.wait_for("ready");
    let workers: Vec<u32> =
        ready["workers"].as_array().into_iter().flatten().filter_map(|p| Some(p.as_u64()? as u32)).collect();
    let agent = Agent::observing([&cluster]);
    for worker in &workers {
        let report = agent.wait_for_process(*worker);
        assert!(report.main_loop(*worker).is_some(), "a cluster worker has a main thread: {}", report.value);
    }
    let first = agent.mark();
    cluster.go();
    let measured = cluster.wait_for("block");
    let reports = agent.reports_since(first);
    let blocked = stalls(&reports, workers[0], workers[0]);
    assert_eq!(blocked.count, 1, "stalls of the worker that blocked");
    assert_within(blocked.time_s, duration_s(&[measured]), 0.005, "the block of a cluster worker");
    for quiet in [cluster.pid(), workers[1]] {
        assert_eq!(stalls_of_process(&reports, quiet).count, 0, "stalls of process {quiet}");
    }
    assert_nothing_lost(&reports);
    agent.end();
}

fn a_process_that_becomes_another_program_is_dropped(node: &Node) {
    let mut workload = Workload::plan(node, "exec-into.js").args(["/bin/sleep", "60"]).start();
    let ready = workload.wait_for("ready");
    assert_eq!(ready["possible"], true, "process.execve is missing in {}", node.label);
    let agent = Agent::observing([&workload]);
    workload.go();
    workload.wait_for("exec");
    let first = agent.mark();
    let pid = workload.pid();
    agent.wait_for_after(first, "the end of the Node process", NOTICE, |report| {
        report.process(pid).is_none().then_some(())
    });
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the pid lives on as another program");
    let first = agent.mark();
    let back =
        agent.wait_for_after(first, "one more report", NOTICE, |report| Some(report.process(pid).is_some()));
    assert!(!back, "a process that is no Node any more came back");
    agent.end();
}

fn a_process_that_becomes_another_node_changes_its_version(node: &Node) {
    let Ok(other) = Node::of_major(20) else {
        return skip("no second version of Node");
    };
    let idle = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/idle.js");
    let mut workload = Workload::plan(node, "exec-into.js").args([other.binary.as_path(), &idle]).start();
    workload.wait_for("ready");
    let pid = workload.pid();
    let agent = Agent::start();
    let version = |report: &Report| report.process(pid)?["node_version"].as_str().map(str::to_owned);
    agent.wait_for("the first version", Duration::from_secs(20), |report| {
        (version(report)? == node.version).then_some(())
    });
    workload.go();
    agent.wait_for("the second version", NOTICE, |report| {
        (version(report)? == other.version && report.signal_is_ok(pid, "event_loop")).then_some(())
    });
    agent.end();
}

fn a_process_in_other_namespaces_is_observed(node: &Node) {
    let rootfs = Rootfs::with(node);
    let (mut process, pid) = rootfs.start("block.js", &["main", "200", "1"]);
    let oracle = |kind: &str| {
        let text = fs::read_to_string(rootfs.oracle()).unwrap_or_default();
        let notes = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        notes.into_iter().find(|note| note["type"] == kind)
    };
    let ready = eventually("the workload inside", Duration::from_secs(10), || oracle("ready"));
    assert_eq!(ready["pid"], 1, "the process is not in a pid namespace of its own");
    let agent = Agent::start();
    let listed = agent.wait_for_process(pid);
    let entry = listed.process(pid).expect("it was just listed");
    assert_eq!(entry["node_version"], node.version.as_str());
    assert_eq!(entry["signals"]["gc"], "ok", "files are opened through the process's own root: {entry}");
    let first = agent.mark();
    let stdin = process.child_mut().stdin.as_mut().expect("stdin is a pipe");
    stdin.write_all(b"go\n").expect("the workload reads its stdin");
    let measured = eventually("the block inside", Duration::from_secs(10), || oracle("block"));
    let stall = stalls(&agent.reports_since(first), pid, pid);
    assert_eq!(stall.count, 1, "stalls in the namespace");
    assert_within(stall.time_s, duration_s(&[measured]), 0.005, "a block in other namespaces");
    agent.end();
}

fn a_process_older_than_the_agent_is_listed_with_its_age_and_name(node: &Node) {
    let begin = Instant::now();
    let idle = Workload::idle(node);
    let package = Workload::plan(node, "shop-api/server.js").start();
    package.wait_for("ready");
    let relative = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/shop-api");
    let relative = Workload::plan_path(node, Path::new("server.js")).working_directory(&relative).start();
    relative.wait_for("ready");
    let agent = Agent::start();
    let report = agent.wait_for_process(idle.pid());
    let entry = report.process(idle.pid()).expect("it was just listed");
    let uptime_s = entry["uptime_s"].as_f64().expect("uptime_s is a number");
    assert!(uptime_s <= begin.elapsed().as_secs_f64() + 0.1, "older than itself: {uptime_s} s");
    let later = agent.wait_for("a report two seconds later", NOTICE, |later| {
        (later.end_s() > report.end_s() + 1.9).then(|| later.clone())
    });
    let grown_s =
        later.process(idle.pid()).and_then(|entry| entry["uptime_s"].as_f64()).unwrap_or(0.0) - uptime_s;
    assert_within(grown_s, later.end_s() - report.end_s(), 0.1, "growth of uptime_s");
    assert!(entry["name"].as_str().is_some_and(|name| name.contains("idle")), "name: {}", entry["name"]);
    assert_eq!(entry["node_version"], node.version.as_str());
    assert!(entry["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 20 << 20), "rss: {}", entry["rss_bytes"]);
    for workload in [&package, &relative] {
        let report = agent.wait_for_process(workload.pid());
        let entry = report.process(workload.pid()).expect("it was just listed");
        assert_eq!(entry["name"], "@example/shop-api", "the name is that of package.json");
    }
    agent.end();
}

fn node_is_known_by_its_content_not_by_its_name(node: &Node) {
    let directory = TempDir::new_in(target_tmp()).expect("a directory can be made");
    let (renamed, link) = (directory.path().join("my-app"), directory.path().join("linked"));
    fs::copy(&node.binary, &renamed).expect("node can be copied");
    std::os::unix::fs::symlink(&node.binary, &link).expect("a link can be made");
    let script = directory.path().join("node");
    fs::write(&script, "#!/bin/sh\nsleep 60\n").expect("a script can be written");
    Command::new("chmod").arg("+x").arg(&script).status().expect("chmod runs");
    let impostor = compile_impostor(directory.path());

    let nodes = [Workload::idle(&node.at(&renamed)), Workload::idle(&node.at(&link))];
    let others: Vec<OwnedProcess> = [Some(script), impostor]
        .into_iter()
        .flatten()
        .map(|path| OwnedProcess::spawn(&mut Command::new(path)))
        .collect();
    let agent = Agent::observing(&nodes);
    agent.settle();
    let pids = agent.wait_for_after(agent.mark(), "one more report", NOTICE, |report| Some(report.pids()));
    for other in &others {
        assert!(!pids.contains(&other.pid()), "process {} is called node but is none", other.pid());
    }
    agent.end();
}

/// A tiny static program by the name of Node that only sleeps; `None` without a C compiler.
fn compile_impostor(directory: &Path) -> Option<std::path::PathBuf> {
    let (source, program) = (directory.join("node.c"), directory.join("nodejs"));
    fs::write(&source, "#include <unistd.h>\nint main(void) { sleep(60); return 0; }\n")
        .expect("a file can be written");
    let status = Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source).status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

//! Utilization and stalls, against Node's own event-loop utilization and blocks of known length.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use nodeprobe_tests::{
    Agent, Node, Report, Workload, assert_within, on_every_node, on_one_node,
    report::{assert_nothing_lost, assert_quiet, stalls, stalls_of_process},
    wait::{eventually, observe_for},
    workload::{duration_s, number},
};
use serde_json::Value;

on_every_node!(
    utilization_is_that_of_node,
    a_block_of_200_ms_is_one_stall_of_its_thread,
    a_block_of_5_s_is_seen_while_it_lasts,
    exec_sync_is_blocked_time,
    an_exec_sync_under_way_is_no_idle_time,
    start_up_of_a_new_process_is_a_stall,
);
on_one_node!(Node::debian() => an_exec_sync_under_way_in_debians_libuv_is_no_idle_time);
on_one_node!(Node::of_major(22) => start_up_of_a_build_never_seen_before_is_a_stall);

/// Bar of the 200 ms and 5 s blocks.
const STALL_TOLERANCE_S: f64 = 0.005;
/// How long what has to come anyway may take.
const READY: Duration = Duration::from_secs(10);

fn utilization_is_that_of_node(node: &Node) {
    const INTERVALS: usize = 4;
    let load = Workload::plan(node, "mixed-load.js").start();
    load.wait_for("ready");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&load, &idle]);
    let first = agent.mark() + 1;
    agent.wait_for_intervals(first, INTERVALS);
    let reports = agent.reports_since(first);
    load.signal(libc::SIGTERM);
    let oracle = EluNotes::of(&load, reports.last().expect("there are reports").end_s());
    for report in &reports[..INTERVALS] {
        let (begin_s, end_s) = (report.end_s() - report.interval_s(), report.end_s());
        let expected = oracle.utilization(begin_s, end_s);
        assert!((0.3..0.8).contains(&expected), "the load is no mixed load: {expected}");
        assert_within(
            utilization(report, load.pid()),
            expected,
            0.01,
            &format!("utilization, {}", node.label),
        );
        let idle_utilization = utilization(report, idle.pid());
        assert!(idle_utilization < 0.05, "utilization of the idle process: {idle_utilization}");
    }
    agent.end();
}

#[track_caller]
fn utilization(report: &Report, pid: u32) -> f64 {
    let event_loop =
        report.main_loop(pid).unwrap_or_else(|| panic!("no main thread of {pid} in {}", report.value));
    event_loop["utilization"].as_f64().unwrap_or_else(|| panic!("no utilization in {event_loop}"))
}

/// Cumulative active and idle time at the begin and end of each callback: in between, the loop was either all busy
/// or all idle, so straight lines between the notes are the truth.
struct EluNotes(Vec<[f64; 3]>);

impl EluNotes {
    /// Reads the notes once they reach beyond `until_s`.
    fn of(load: &Workload, until_s: f64) -> Self {
        let read = || {
            let notes: Vec<_> = load.notes("elu").iter().map(Self::point).collect();
            notes.last().is_some_and(|[time_s, ..]| *time_s >= until_s).then_some(notes)
        };
        Self(eventually("the notes of the load", Duration::from_secs(10), read))
    }

    fn point(note: &Value) -> [f64; 3] {
        ["time_ms", "active_ms", "idle_ms"].map(|field| number(note, field) / 1e3)
    }

    fn utilization(&self, begin_s: f64, end_s: f64) -> f64 {
        let ([active_0, idle_0], [active_1, idle_1]) = (self.at(begin_s), self.at(end_s));
        (active_1 - active_0) / (active_1 - active_0 + idle_1 - idle_0)
    }

    /// [active, idle] at an instant.
    fn at(&self, time_s: f64) -> [f64; 2] {
        let after = self.0.partition_point(|[time, ..]| *time < time_s);
        assert!((1..self.0.len()).contains(&after), "the notes do not cover {time_s}");
        let ([t0, active_0, idle_0], [t1, active_1, idle_1]) = (self.0[after - 1], self.0[after]);
        let share = if t1 > t0 { (time_s - t0) / (t1 - t0) } else { 0.0 };
        [active_0 + share * (active_1 - active_0), idle_0 + share * (idle_1 - idle_0)]
    }
}

fn a_block_of_200_ms_is_one_stall_of_its_thread(node: &Node) {
    let idle = Workload::idle(node);
    let mut main = Workload::plan(node, "block.js").args(["main", "200", "1"]).start();
    let mut worker = Workload::plan(node, "block.js").args(["worker", "200", "1"]).start();
    main.wait_for("ready");
    worker.wait_for("ready");
    let agent = Agent::observing([&idle, &main, &worker]);
    let first = agent.mark();
    for workload in [&mut main, &mut worker] {
        let before = agent.mark();
        workload.go();
        let measured = workload.wait_for("block");
        let (pid, tid) = (workload.pid(), number(&measured, "tid") as u32);
        let reports = agent.reports_since(before);
        let what = format!("the block of thread {tid} of process {pid}, {}", node.label);
        let stall = stalls(&reports, pid, tid);
        assert_eq!(stall.count, 1, "stalls, {what}");
        assert_within(stall.time_s, duration_s(&[measured]), STALL_TOLERANCE_S, &what);
        assert_eq!(stalls_of_process(&reports, pid), stall, "another thread stalled too, {what}");
        let kind = if tid == pid { "main" } else { "worker" };
        let thread = reports.last().and_then(|report| report.thread(pid, tid)).expect("the thread is listed");
        assert_eq!(thread["kind"], kind, "{what}");
    }
    let reports = agent.reports_since(first);
    assert_quiet(&reports, idle.pid());
    assert_nothing_lost(&reports);
    agent.end();
}

fn a_block_of_5_s_is_seen_while_it_lasts(node: &Node) {
    let idle = Workload::idle(node);
    let mut block = Workload::plan(node, "block.js").args(["main", "5000", "1"]).start();
    block.wait_for("ready");
    let agent = Agent::observing([&idle, &block]);
    let first = agent.mark();
    block.go();
    let measured = block.wait_for("block");
    let [start_s, end_s] = ["start_ms", "end_ms"].map(|field| number(&measured, field) / 1e3);
    let reports = agent.reports_since(first);
    let current =
        |report: &Report, pid| report.main_loop(pid).and_then(|turns| turns["current_turn_s"].as_f64());

    let during: Vec<&Report> =
        reports.iter().filter(|report| (start_s + 0.01..end_s - 0.01).contains(&report.end_s())).collect();
    assert!(during.len() >= 4, "only {} reports during the block, {}", during.len(), node.label);
    for report in &during {
        let age_s = report.end_s() - start_s;
        let shown_s = current(report, block.pid())
            .unwrap_or_else(|| panic!("no current_turn_s {age_s} s into the block, {}", node.label));
        assert_within(shown_s, age_s, 0.05, &format!("age of the current turn, {}", node.label));
        assert_eq!(current(report, idle.pid()), None, "a current turn in the idle process");
        if report.end_s() - report.interval_s() > start_s {
            assert_within(
                utilization(report, block.pid()),
                1.0,
                0.01,
                "utilization in the middle of a block",
            );
        }
    }
    let shown: Vec<_> = during.iter().filter_map(|report| current(report, block.pid())).collect();
    assert!(shown.is_sorted_by(|earlier, later| earlier < later), "current_turn_s does not grow: {shown:?}");
    let visible_after_s = during[0].received_s - start_s;
    assert!(visible_after_s <= 1.5, "first visible {visible_after_s} s after its start, {}", node.label);

    let last = reports.last().expect("there are reports");
    assert_eq!(current(last, block.pid()), None, "a current turn after the block");
    let stall = stalls(&reports, block.pid(), block.pid());
    assert_eq!(stall.count, 1, "stalls, {}", node.label);
    assert_within(
        stall.time_s,
        duration_s(&[measured]),
        STALL_TOLERANCE_S,
        &format!("the 5 s block, {}", node.label),
    );
    assert_quiet(&reports, idle.pid());
    agent.end();
}

fn exec_sync_is_blocked_time(node: &Node) {
    let idle = Workload::idle(node);
    let mut exec = Workload::plan(node, "exec-sync.js").args(["sleep 0.3"]).start();
    exec.wait_for("ready");
    let agent = Agent::observing([&idle, &exec]);
    let first = agent.mark();
    exec.go();
    let measured = exec.wait_for("block");
    let reports = agent.reports_since(first);
    let stall = stalls(&reports, exec.pid(), exec.pid());
    assert_eq!(stall.count, 1, "stalls, {}", node.label);
    // Node's own figure: starting a shell takes some milliseconds that belong to the block.
    assert_within(stall.time_s, duration_s(&[measured]), 0.015, &format!("execSync, {}", node.label));
    assert!(stall.time_s >= 0.3, "the sleep alone takes longer: {stall:?}");
    let busy_s: f64 =
        reports.iter().map(|report| utilization(report, exec.pid()) * report.interval_s()).sum();
    assert!(busy_s >= 0.3, "the wait for the child was taken for idle time: {busy_s} s busy, {}", node.label);
    assert_quiet(&reports, idle.pid());
    agent.end();
}

/// The wait for the child is one for events, as that of an idle loop.
fn an_exec_sync_under_way_is_no_idle_time(node: &Node) {
    let idle = Workload::idle(node);
    let mut exec = Workload::plan(node, "exec-sync.js").args(["sleep 5"]).start();
    exec.wait_for("ready");
    let pid = exec.pid();
    // The descriptor that is waited on: the first argument of `epoll_wait`, `epoll_pwait` and `epoll_pwait2` (x86-64).
    let waits_on = || {
        let state = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        let mut words = state.split(' ');
        words.next().filter(|number| ["232", "281", "441"].contains(number))?;
        words.next().map(str::to_owned)
    };
    let own = eventually("the wait of the loop", READY, waits_on);
    exec.go();
    eventually("the wait for the child", READY, || waits_on().filter(|other| *other != own));
    // The shell has begun to sleep, and nothing wakes the thread.
    observe_for(Duration::from_millis(300));
    let agent = Agent::observing([&idle, &exec]);
    let listed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    agent.wait_for(&format!("the cause of the turn under way, {}", node.label), READY, |report| {
        (report.main_loop(pid)?["current_turn_cause"] == "child_process").then_some(())
    });
    let measured = exec.wait_for("block");
    let reports = agent.reports_since(0);
    let stall = stalls(&reports, pid, pid);
    assert_eq!(stall.count, 1, "stalls, {}", node.label);
    let seen_s = number(&measured, "end_ms") / 1e3 - listed.as_secs_f64();
    let possible = seen_s..duration_s(&[measured]) + STALL_TOLERANCE_S;
    assert!(possible.contains(&stall.time_s), "{stall:?}, but {possible:?} is possible, {}", node.label);
    assert_quiet(&reports, idle.pid());
    agent.end();
}

/// Its libuv is a file of its own.
fn an_exec_sync_under_way_in_debians_libuv_is_no_idle_time(node: &Node) {
    an_exec_sync_under_way_is_no_idle_time(node);
}

fn start_up_of_a_new_process_is_a_stall(node: &Node) {
    let idle = Workload::idle(node);
    let agent = Agent::observing([&idle]);
    let first = agent.mark();
    let spin = Workload::plan(node, "startup-spin.js").args(["1000"]).start();
    spin.wait_for("ready");
    agent.wait_for_process(spin.pid());
    let reports = agent.reports_since(first);
    let measured = spin.wait_for("block");
    let stall = stalls(&reports, spin.pid(), spin.pid());
    assert_eq!(stall.count, 1, "stalls, {}", node.label);
    let (spin_s, since_start_s) =
        (duration_s(std::slice::from_ref(&measured)), number(&measured, "since_process_start_ms") / 1e3);
    // Node's clock starts a little after exec; the turn ends a little after the note.
    let possible = spin_s - STALL_TOLERANCE_S..since_start_s + 0.1;
    assert!(possible.contains(&stall.time_s), "{stall:?}, but {possible:?} is possible, {}", node.label);
    assert_quiet(&reports, idle.pid());
    agent.end();
}

fn start_up_of_a_build_never_seen_before_is_a_stall(node: &Node) {
    let directory =
        tempfile::TempDir::new_in(nodeprobe_tests::node::target_tmp()).expect("a directory can be made");
    let copy = directory.path().join("node");
    fs::copy(&node.binary, &copy).expect("node can be copied");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&idle]);
    let first = agent.mark();
    let spin = Workload::plan(&node.at(&copy), "startup-spin.js").args(["1000"]).start();
    spin.wait_for("ready");
    agent.wait_for_process(spin.pid());
    let stall = stalls(&agent.reports_since(first), spin.pid(), spin.pid());
    assert_eq!(stall.count, 1, "stalls, {}", node.label);
    // Reading and attaching a build takes part of the first second, so the begin may be a lower bound.
    assert!(stall.time_s >= 0.5, "{stall:?}");
    agent.end();
}

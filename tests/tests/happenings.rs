//! What happens now and then, counted exactly: against Node's own events and V8's own trace.

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Workload,
    load::Load,
    node::target_tmp,
    on_every_node,
    report::{assert_nothing_lost, assert_quiet, sum},
    skip::skip,
    wait::observe_for,
    watch::{Watch, process},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(
    unhandled_rejections_are_those_of_node,
    handlers_that_come_late_are_those_of_node,
    handlers_that_come_late_in_a_worker_are_those_of_node,
    deoptimisations_are_those_of_v8,
    code_that_is_left_behind_its_loop_is_no_churn,
    a_process_that_dies_of_a_rejection_is_diagnosed
);

fn begin(workload: &Workload) -> Load {
    let ready = workload.wait_for("ready");
    let path = ready["path"].as_str().expect("it says what to ask for");
    Load::start(
        number(&ready, "port") as u16,
        path,
        number(&ready, "rate"),
        number(&ready, "connections") as usize,
    )
}

fn unhandled_rejections_are_those_of_node(node: &Node) {
    let mut workload = Workload::plan(node, "failure-modes/unhandled-rejections.js").start();
    workload.wait_for("ready");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    let load = begin(&workload);
    std::thread::sleep(Duration::from_secs(5));
    let answers = load.answers();
    drop(load);
    workload.say("report");
    let report = workload.wait_for("report");
    let reports = agent.reports_since(0);
    let expected = number(&report, "unhandled_rejections") as u64;
    assert!(expected >= answers && answers > 10, "{report}");
    assert_eq!(sum(&reports, workload.pid(), "/rejections/unhandled"), expected, "{}", node.label);
    assert_eq!(sum(&reports, idle.pid(), "/rejections/unhandled"), 0);
    assert_quiet(&reports, idle.pid());
    assert_nothing_lost(&reports);
    agent.end();
}

/// Promises get their handler in the callback that rejects them, in a microtask of it, in a later callback of the same turn, in a
/// later turn, or never.
fn handlers_that_come_late_are_those_of_node(node: &Node) {
    handlers_are_those_of_node(node, &[]);
}

fn handlers_that_come_late_in_a_worker_are_those_of_node(node: &Node) {
    handlers_are_those_of_node(node, &["worker"]);
}

fn handlers_are_those_of_node(node: &Node, arguments: &[&str]) {
    const ROUNDS: usize = 5;
    // Node says there that it could not note a rejection.
    let plan = Workload::plan(node, "late-handlers.js").args(arguments).stderr(Stdio::null());
    let mut workload = plan.start();
    workload.wait_for("ready");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    let mut reports = 0;
    let mut perform = |line, times| {
        for time in 1..=times {
            workload.say(line);
            workload.wait_for_nth(line, time);
        }
        workload.say("report");
        reports += 1;
        let report = workload.wait_for_nth("report", reports).remove(reports - 1);
        let of_node = |event| number(&report, event) as u64;
        let expected = (of_node("unhandledRejection"), of_node("rejectionHandled"));
        let told = agent.reports_since(0);
        let of = |pid, what| sum(&told, pid, &format!("/rejections/{what}"));
        let found = (of(workload.pid(), "unhandled"), of(workload.pid(), "handled_late"));
        assert_eq!(found, expected, "unhandled, handled later, after `{line}`, {}", node.label);
        assert_eq!((of(idle.pid(), "unhandled"), of(idle.pid(), "handled_late")), (0, 0));
        assert_nothing_lost(&told);
        expected
    };
    let first = perform("round", ROUNDS);
    assert!(first.0 > first.1 && first.1 > 100, "unhandled, handled later: {first:?}");
    let second = perform("same-turn", ROUNDS);
    assert!(second.1 - first.1 > 100, "handled in a later callback of the same turn: {second:?}");
    assert_eq!(perform("deep", 1), second, "Node tells nothing of what is handled at once");
    agent.end();
}

fn deoptimisations_are_those_of_v8(node: &Node) {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let path = directory.path().join("trace");
    let trace = File::create(&path).expect("the trace can be made");
    let idle = Workload::idle(node);
    // Observed from its first instruction, because the trace begins there.
    let agent = Agent::observing([&idle]);
    let plan = Workload::plan(node, "failure-modes/shape-churn.js").flag("--trace-deopt");
    let mut workload = plan.args([directory.path()]).stdout(trace).start();
    let load = begin(&workload);
    std::thread::sleep(Duration::from_secs(4));
    drop(load);
    workload.say("report");
    workload.wait_for("report");
    let reports = agent.reports_since(0);
    let (pid, text) = (workload.pid(), fs::read_to_string(&path).expect("the trace is there"));
    let expected = text.lines().filter(|line| line.starts_with("[bailout (kind: ")).count() as u64;
    let eager = sum(&reports, pid, "/deopts/eager");
    let seen = eager + sum(&reports, pid, "/deopts/lazy");
    assert!(expected > 20, "the workload keeps its code: {expected}");
    assert_eq!(seen, expected, "{}", node.label);
    let eager_of_v8 =
        text.lines().filter(|line| line.starts_with("[bailout (kind: deopt-eager")).count() as u64;
    assert_eq!(eager, eager_of_v8, "eager ones, {}", node.label);
    agent.end();
}

/// V8's own trace shows as many deoptimisations of one function as would be churn, were they not of such code.
fn code_that_is_left_behind_its_loop_is_no_churn(node: &Node) {
    if node.major() < 20 {
        return skip("verdicts are promised from Node.js 20 on");
    }
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let path = directory.path().join("trace");
    let trace = File::create(&path).expect("the trace can be made");
    let workload = Workload::plan(node, "loops.js").flag("--trace-deopt").stdout(trace).start();
    workload.wait_for("ready");
    let diagnosis = Watch::diagnose("10s").diagnosis();
    let text = fs::read_to_string(&path).expect("the trace is there");
    let left = text.lines().filter(|line| line.starts_with("[bailout") && line.contains("sumPage")).count();
    assert!(left > 80, "{left} of ten a second, {}", node.label);
    let findings = process(&diagnosis, workload.pid())["findings"].as_array().expect("findings").clone();
    assert!(findings.iter().all(|finding| finding["id"] != "shape-churn"), "{findings:?}, {}", node.label);
}

/// A process that is gone is diagnosed all the same, be it that its stacks were decoded before or not: its memory, which says
/// what a stack means, is gone within a millisecond or two.
fn a_process_that_dies_of_a_rejection_is_diagnosed(node: &Node) {
    const DIES: &str = concat!(
        "async function charge() { await null; throw new Error('declined'); }\n",
        "process.stdin.on('data', () => setTimeout(charge, 10));\n"
    );
    const WORKS: &str = "setInterval(() => { for (const end = Date.now() + 20; Date.now() < end;); }, 50);\n";
    let start = |name: &str, source: &str| {
        let script = target_tmp().join(name);
        fs::write(&script, source).expect("a script can be written");
        Workload::plan_path(node, &script).stderr(Stdio::null()).start()
    };
    let mut worked = start("dies-at-work.js", &format!("{DIES}{WORKS}"));
    let mut idle = start("dies-idle.js", DIES);
    let watch = Watch::diagnose("5s");
    for dying in [&mut worked, &mut idle] {
        observe_for(Duration::from_millis(1300));
        dying.say("die");
    }
    let diagnosis = watch.diagnosis();
    for dead in [worked, idle] {
        let process = process(&diagnosis, dead.pid());
        let finding = &process["findings"][0];
        assert_eq!(finding["id"], "unhandled-rejections", "{process:#}");
        assert_eq!(finding["severity"], "critical", "{process:#}");
        assert_eq!(finding["culprit"]["function"], "charge", "{process:#}");
        assert_eq!(process["exited"], Value::Bool(true), "{process:#}");
    }
}

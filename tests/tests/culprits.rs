//! Which function is to blame for a stall, against what the workload knows: V8's own stack inside the guilty function.

use std::{fmt::Write as _, process::Command, time::Duration};

use nodeprobe_tests::{
    Agent, Node, Report, Workload,
    node::target_tmp,
    on_every_node, on_one_node,
    report::{assert_no_culprit, assert_quiet},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(each_stall_names_its_culprit, a_wedge_names_its_culprit_while_it_lasts);
on_one_node!(Node::of_major(24) => a_wedge_of_half_a_minute_names_its_culprit_all_the_time);

/// How long the wedge of each version lasts.
const WEDGE_S: f64 = 6.0;
/// From here on the executed line is promised; before, the name.
const FIRST_MAJOR_WITH_LINES: u32 = 20;

/// The workload, the directory it lives on, and an idle process beside it.
struct Watched {
    agent: Agent,
    workload: Workload,
    idle: Workload,
    _directory: TempDir,
}

impl Watched {
    fn start(node: &Node) -> Self {
        Self::start_with(node, WEDGE_S)
    }

    fn start_with(node: &Node, wedge_s: f64) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let made =
            Command::new("mkfifo").arg(directory.path().join("fifo")).status().expect("mkfifo is there");
        assert!(made.success(), "mkfifo: {made}");
        let workload = Workload::plan(node, "culprits/culprits.js").args([directory.path()]);
        let workload = workload.args([(wedge_s * 1e3).to_string()]).start();
        workload.wait_for("ready");
        let idle = Workload::idle(node);
        let agent = Agent::observing([&workload, &idle]);
        Self { agent, workload, idle, _directory: directory }
    }
}

/// In what a culprit differs from the guilty function of a note; `None` when it is the one.
fn difference(culprit: &Value, guilty: &Value, with_line: bool) -> Option<String> {
    let mut found = String::new();
    let functions = guilty["functions"].as_array().expect("the note names functions");
    if !functions.contains(&culprit["function"]) {
        write!(found, "function {}, not {}; ", culprit["function"], guilty["functions"])
            .expect("a string grows");
    }
    for field in ["script", "package"] {
        if culprit[field] != guilty[field] {
            write!(found, "{field} {}, not {}; ", culprit[field], guilty[field]).expect("a string grows");
        }
    }
    let (first, last) = (number(guilty, "first_line"), number(guilty, "last_line"));
    if with_line && !culprit["line"].as_f64().is_some_and(|line| (first..=last).contains(&line)) {
        write!(found, "line {}, not in {first} to {last}; ", culprit["line"]).expect("a string grows");
    }
    (!found.is_empty()).then_some(found)
}

/// The culprit of the longest stall of a thread. On a machine that is busy elsewhere, the
/// turn that was asked for need not be the only one that takes long.
#[track_caller]
fn culprit_of_the_longest(reports: &[Report], pid: u32, tid: u32) -> Value {
    let stalls = reports.iter().filter_map(|report| Some(&report.thread(pid, tid)?["event_loop"]["stalls"]));
    let longest = stalls.max_by(|a, b| number(a, "time_s").total_cmp(&number(b, "time_s")));
    let longest = longest.unwrap_or_else(|| panic!("thread {tid} of {pid} is not listed"));
    assert!(number(longest, "time_s") > 0.3, "no stall of thread {tid}: {longest}");
    longest["top_culprit"].clone()
}

fn each_stall_names_its_culprit(node: &Node) {
    let mut watched = Watched::start(node);
    let pid = watched.workload.pid();
    let ready = watched.workload.wait_for("ready");
    let kinds: Vec<&str> =
        ready["kinds"].as_array().expect("kinds").iter().filter_map(Value::as_str).collect();
    assert!(kinds.len() >= 15, "{kinds:?}");
    let first = watched.agent.mark();
    let mut wrong = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let before = watched.agent.mark();
        watched.workload.say(kind);
        let guilty = watched.workload.wait_for_nth("turn", index + 1).pop().expect("there is one turn more");
        assert_eq!(guilty["kind"], *kind, "{guilty}");
        let reports = watched.agent.reports_since(before);
        let culprit = culprit_of_the_longest(&reports, pid, number(&guilty, "tid") as u32);
        let with_line = node.major() >= FIRST_MAJOR_WITH_LINES;
        wrong.extend(difference(&culprit, &guilty, with_line).map(|what| format!("{kind}: {what}")));
    }
    assert!(
        wrong.is_empty(),
        "{} of {} culprits are wrong, {}:\n{}",
        wrong.len(),
        kinds.len(),
        node.label,
        wrong.join("\n")
    );
    let reports = watched.agent.reports_since(first);
    assert_quiet(&reports, watched.idle.pid());
    assert_no_culprit(&reports, watched.idle.pid());
    watched.agent.end();
}

fn a_wedge_names_its_culprit_while_it_lasts(node: &Node) {
    wedge(node, WEDGE_S);
}

fn a_wedge_of_half_a_minute_names_its_culprit_all_the_time(node: &Node) {
    wedge(node, 30.0);
}

fn wedge(node: &Node, wedge_s: f64) {
    /// Bar.
    const VISIBLE_AFTER_S: f64 = 2.0;
    let mut watched = Watched::start_with(node, wedge_s);
    let (pid, first) = (watched.workload.pid(), watched.agent.mark());
    watched.workload.say("wedge");
    let wedge = watched.workload.wait_for("wedge");
    let start_s = number(&wedge, "start_ms") / 1e3;
    let (seen, event_loop) =
        watched.agent.wait_for_after(first, "the culprit of the wedge", Duration::from_secs(10), |report| {
            let event_loop = report.main_loop(pid)?;
            (!event_loop["current_turn_culprit"].is_null()).then(|| (report.clone(), event_loop.clone()))
        });
    let with_line = node.major() >= FIRST_MAJOR_WITH_LINES;
    let culprit = &event_loop["current_turn_culprit"];
    assert_eq!(difference(culprit, &wedge, with_line), None, "{event_loop}, {}", node.label);
    let after_s = seen.received_s - start_s;
    assert!((0.0..=VISIBLE_AFTER_S).contains(&after_s), "shown {after_s} s after its start, {}", node.label);
    assert!(
        event_loop["current_turn_s"].as_f64().is_some_and(|age_s| age_s < VISIBLE_AFTER_S),
        "{event_loop}"
    );

    let turn = watched.workload.wait_for_within("turn", Duration::from_secs_f64(wedge_s + 30.0));
    let reports = watched.agent.reports_since(first);
    let culprit = culprit_of_the_longest(&reports, pid, pid);
    assert_eq!(difference(&culprit, &turn, with_line), None, "after its end, {}", node.label);
    let meanwhile = reports
        .iter()
        .filter(|report| (start_s + VISIBLE_AFTER_S..start_s + wedge_s).contains(&report.received_s))
        .map(|report| &report.main_loop(pid).expect("the process is listed")["current_turn_culprit"]);
    let meanwhile: Vec<_> = meanwhile.map(|culprit| difference(culprit, &wedge, with_line)).collect();
    assert!(
        meanwhile.len() as f64 > (wedge_s - VISIBLE_AFTER_S) / 2.0,
        "{} reports meanwhile",
        meanwhile.len()
    );
    assert!(meanwhile.iter().all(Option::is_none), "{meanwhile:?}, {}", node.label);
    let last = reports.last().and_then(|report| report.main_loop(pid)).expect("the process is listed");
    assert_eq!(last["current_turn_culprit"], Value::Null, "it has ended");
    assert_no_culprit(&reports, watched.idle.pid());
    watched.agent.end();
}

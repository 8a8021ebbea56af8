//! The commands as a user types them: what they print, how they end, what they say when they cannot.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use nodeprobe_tests::{
    Node, Workload,
    agent::{self, Output, run},
    contract, on_every_node, on_one_node,
    process::{OwnedProcess, describe},
    report::running,
    wait::eventually,
    workload::number,
};
use serde_json::Value;

on_every_node!(ps_lists_every_signal_as_ok);
on_one_node!(Node::of_major(24) => batch_output_has_the_process_in_every_format);
on_one_node!(Node::of_major(24) => output_that_is_no_terminal_is_a_batch);
on_one_node!(Node::of_major(24) => a_reader_that_goes_away_ends_top_quietly);
on_one_node!(Node::of_major(24) => the_log_says_what_the_clock_of_samples_is);
on_one_node!(Node::of_major(22) => trace_prints_a_stall_when_it_has_ended_and_no_other);
on_one_node!(Node::of_major(20) => check_finds_this_host_fit);
on_one_node!(Node::of_major(20) => wrong_usage_ends_with_64_and_says_why);
on_one_node!(Node::of_major(20) => without_permission_the_remedy_is_named);
on_one_node!(Node::stripped(24) => ps_says_why_the_heap_of_a_stripped_build_is_unknown);

const RUN: Duration = Duration::from_secs(30);

fn nodeprobe(arguments: &[&str]) -> Output {
    run(&mut agent::command(arguments), RUN)
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}; stderr: {}", describe(output.status), output.stderr_text());
    assert!(!output.stderr_text().contains("panicked"), "{}", output.stderr_text());
}

/// A tick program that the verifier refuses would go unnoticed else: a clock on every processor takes over.
fn the_log_says_what_the_clock_of_samples_is(node: &Node) {
    let _observed = Workload::idle(node);
    let output = run(agent::command(["top", "-b", "-n", "1", "-d", "0.5"]).env("RUST_LOG", "info"), RUN);
    assert_success(&output);
    let log = output.stderr_text();
    let said = log.lines().find(|line| line.contains("stacks are sampled")).expect("the log says it");
    assert!(!said.contains("refused"), "{said}");
}

fn trace_prints_a_stall_when_it_has_ended_and_no_other(node: &Node) {
    let block = |ms| {
        let workload = Workload::plan(node, "block.js").args(["main", ms, "1"]).start();
        workload.wait_for("ready");
        workload
    };
    let (mut sick, mut short, mut other) = (block("200"), block("60"), block("200"));
    let output = tempfile::NamedTempFile::new().expect("a file can be made");
    let mut command = agent::command(["trace", "--format", "ndjson", "--min", "100ms"]);
    command.args(["--pid", &sick.pid().to_string(), "--pid", &short.pid().to_string()]);
    let mut trace = OwnedProcess::spawn(command.stdout(output.reopen().expect("the file can be opened")));
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(output.path()).expect("the file can be read");
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    };
    // Again and again, because what blocks before the probes are in place is not seen.
    let first = eventually("a line of trace", RUN, || {
        for workload in [&mut sick, &mut short, &mut other] {
            workload.go();
        }
        std::thread::sleep(Duration::from_millis(500));
        // The turn in which the probes were put in place says itself that it lasted longer than was seen of it.
        lines().into_iter().find(|line| line["lower_bound"] == false)
    });
    assert_eq!(
        (&first["pid"], &first["thread"]),
        (&Value::from(sick.pid()), &Value::from("main")),
        "{first}"
    );
    let blocks: Vec<f64> = sick.notes("block").iter().map(|note| number(note, "duration_ms") / 1e3).collect();
    let duration_s = number(&first, "duration_s");
    assert!(blocks.iter().any(|block_s| (block_s - duration_s).abs() < 0.005), "{first}, but {blocks:?}");
    let longest_s = blocks.iter().copied().fold(0.0, f64::max) + 0.005;
    assert!(
        lines().iter().all(|line| number(line, "duration_s") <= longest_s),
        "{:?}, but {blocks:?}",
        lines()
    );
    // It spins: it may have waited for a processor, but it never slept.
    let by_cause = &first["by_cause"];
    let awake_s = running(by_cause) + number(by_cause, "gc") + number(by_cause, "cpu_wait");
    assert!(awake_s > 0.95 * duration_s, "{first}");
    trace.signal(libc::SIGTERM);
    assert!(trace.wait(RUN).success());
    assert!(lines().iter().all(|line| line["pid"] == sick.pid()), "{:?}", lines());
}

/// A process in the output of `ps --format json`.
#[track_caller]
fn ps_entry(pid: u32) -> Value {
    let output = nodeprobe(&["ps", "--format", "json"]);
    assert_success(&output);
    let json = output.json();
    let mut processes = json["processes"].as_array().into_iter().flatten();
    processes
        .find(|process| process["pid"] == pid)
        .unwrap_or_else(|| panic!("{pid} is not in {json}"))
        .clone()
}

fn ps_lists_every_signal_as_ok(node: &Node) {
    let idle = Workload::idle(node);
    let entry = ps_entry(idle.pid());
    assert_eq!(entry["node_version"], node.version.as_str());
    assert!(entry["v8_version"].is_string(), "{entry}");
    for signal in ["event_loop", "stdio", "gc", "heap", "lifecycle", "sched"] {
        assert_eq!(entry["signals"][signal], "ok", "signal {signal}, {}", node.label);
    }
    let text = nodeprobe(&["ps"]);
    assert_success(&text);
    let line =
        text.stdout_text().lines().find(|line| line.contains(&idle.pid().to_string())).map(str::to_owned);
    assert!(line.as_ref().is_some_and(|line| line.contains(&node.version)), "{}", text.stdout_text());
}

fn ps_says_why_the_heap_of_a_stripped_build_is_unknown(node: &Node) {
    let idle = Workload::idle(node);
    let entry = ps_entry(idle.pid());
    for signal in ["event_loop", "stdio", "gc", "lifecycle"] {
        assert_eq!(entry["signals"][signal], "ok", "signal {signal}, {}", node.label);
    }
    let reason = entry["signals"]["heap"]["unavailable"].as_str().unwrap_or_default();
    assert!(!reason.is_empty(), "the heap of {} cannot be known: {entry}", node.label);
}

fn batch_output_has_the_process_in_every_format(node: &Node) {
    let idle = Workload::idle(node);
    let pid = idle.pid().to_string();
    for format in ["text", "json", "ndjson", "csv"] {
        let output = nodeprobe(&["top", "-b", "-n", "2", "-d", "0.5", "--format", format]);
        assert_success(&output);
        let text = output.stdout_text();
        assert!(text.contains(&pid), "{format}: {text}");
        match format {
            "ndjson" => {
                assert_eq!(text.lines().count(), 2, "two reports were asked for: {text}");
                for line in text.lines() {
                    let report = serde_json::from_str(line).expect("each line is JSON");
                    assert_eq!(contract::violations(&report), Vec::<String>::new(), "{line}");
                }
            }
            "json" => {
                let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
                let documents = documents.collect::<Result<Vec<_>, _>>().expect("a document per interval");
                assert_eq!(documents.len(), 2, "{text}");
            }
            "csv" => {
                let header = text.lines().next().unwrap_or_default();
                assert!(header.split(',').any(|column| column == "pid"), "{header}");
                assert!(text.lines().count() >= 2, "{text}");
            }
            _ => {}
        }
    }
}

fn output_that_is_no_terminal_is_a_batch(node: &Node) {
    let idle = Workload::idle(node);
    let output = nodeprobe(&["top", "-n", "1"]);
    assert_success(&output);
    assert!(output.stdout_text().contains(&idle.pid().to_string()), "{}", output.stdout_text());
    assert!(!output.stdout.contains(&0x1b), "escape codes without a terminal");
}

fn a_reader_that_goes_away_ends_top_quietly(node: &Node) {
    let _idle = Workload::idle(node);
    let top = agent::binary().expect("`live` has looked for the agent");
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" top -b -d 0.2 --format ndjson | head -n 1"]).arg(top).stdin(Stdio::null());
    let output = run(&mut shell, RUN);
    assert_success(&output);
    assert_eq!(output.stdout_text().lines().count(), 1);
}

fn check_finds_this_host_fit(_: &Node) {
    let text = nodeprobe(&["check"]);
    assert_eq!(text.status.code(), Some(0), "{}{}", text.stdout_text(), text.stderr_text());
    assert!(!text.stdout.is_empty(), "check says what it found");
    let json = nodeprobe(&["check", "--format", "json"]);
    assert_eq!(json.status.code(), Some(0));
    assert!(json.json().is_object() || json.json().is_array());
}

fn wrong_usage_ends_with_64_and_says_why(_: &Node) {
    let wrong: [&[&str]; 5] = [
        &["top", "--no-such-option"],
        &["no-such-command"],
        &["top", "-d", "0"],
        &["top", "-n", "many"],
        &["ps", "--format", "xml"],
    ];
    for arguments in wrong {
        let output = nodeprobe(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", output.stderr_text());
        assert!(output.stdout.is_empty(), "{arguments:?} prints to stdout: {}", output.stdout_text());
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
    assert!(nodeprobe(&["top", "--no-such-option"]).stderr_text().contains("--no-such-option"));
    for arguments in [["--help"], ["--version"]] {
        assert_success(&nodeprobe(&arguments));
    }
}

fn without_permission_the_remedy_is_named(_: &Node) {
    const NOBODY: u32 = 65534;
    // A copy where anyone may go: the build directory need not be such a place.
    let directory = tempfile::tempdir().expect("a directory can be made");
    let copy = directory.path().join("nodeprobe");
    fs::copy(agent::binary().expect("`live` has looked for the agent"), &copy)
        .expect("the agent can be copied");
    for path in [directory.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions can be set");
    }
    for arguments in [vec!["top", "-b", "-n", "1"], vec!["ps"], vec!["run"]] {
        let mut command = Command::new(&copy);
        command.args(&arguments).current_dir("/").stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
        let output = run(&mut command, RUN);
        let text = output.stderr_text();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}, {text}", describe(output.status));
        assert!(text.contains("sudo") || text.contains("CAP_"), "{arguments:?} names no remedy: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    let mut check = Command::new(&copy);
    check.arg("check").current_dir("/").stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
    assert_eq!(run(&mut check, RUN).status.code(), Some(1), "check as an ordinary user");
    // The same command as root works, so it was the permission.
    let as_root = nodeprobe(&["ps"]);
    assert!(matches!(as_root.status.code(), Some(0 | 3)), "{}", as_root.stderr_text());
}

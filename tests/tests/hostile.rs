//! Names made to harm terminals, logs and labels.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    time::Duration,
};

use nodeprobe_tests::{Agent, Node, Workload, agent, node::target_tmp, on_one_node};
use serde_json::Value;
use tempfile::TempDir;

on_one_node!(Node::of_major(22) => hostile_names_leave_no_control_characters_anywhere);

const RUN: Duration = Duration::from_secs(30);

fn hostile_names_leave_no_control_characters_anywhere(node: &Node) {
    let directory = TempDir::new_in(target_tmp()).expect("a directory can be made");
    let idle =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/idle.js")).expect("the workload is there");

    // A package, and a script, that are called by an escape sequence and a newline.
    let package = directory.path().join("package");
    fs::create_dir(&package).expect("a directory can be made");
    let manifest = serde_json::json!({"name": "evil\u{1b}[31m\u{7}\n\u{9b}2J", "version": "1.0\u{1b}[0m"});
    fs::write(package.join("package.json"), manifest.to_string()).expect("a file can be written");
    let named_by_package = package.join("index.js");
    let named_by_script = directory.path().join("red\u{1b}[31m\nnew line.js");
    for script in [&named_by_package, &named_by_script] {
        fs::write(script, &idle).expect("a script can be written");
    }
    // The kernel takes 128 KiB per argument and, by default, 2 MiB in all.
    let long: Vec<OsString> = (0..10).map(|_| OsString::from("x".repeat(105_000))).collect();
    let workloads = [
        Workload::plan(node, "hostile-title.js").start(),
        Workload::plan_path(node, &named_by_package).start(),
        Workload::plan_path(node, &named_by_script).start(),
        // Arguments only: Node itself cannot open a script whose path is not UTF-8.
        Workload::plan(node, "idle.js")
            .args([OsStr::from_bytes(b"invalid\xff\xfe\x80\x1b]0;owned\x07")])
            .start(),
        Workload::plan(node, "idle.js").args(&long).start(),
        Workload::plan(node, "idle.js")
            .env("OTEL_SERVICE_NAME", OsStr::from_bytes(b"name\x1b[31m\xff"))
            .start(),
    ];
    for workload in &workloads {
        workload.wait_for("ready");
    }
    let agent = Agent::observing(&workloads);
    for report in agent.end() {
        assert_no_control_characters(&report.value);
    }
    let commands: [&[&str]; 6] = [
        &["top", "-b", "-n", "1", "--format", "text"],
        &["top", "-b", "-n", "1", "--format", "csv"],
        &["top", "-b", "-n", "1", "--format", "json"],
        &["ps"],
        &["ps", "--format", "json"],
        &["check"],
    ];
    for arguments in commands {
        let output = agent::run(&mut agent::command(arguments), RUN);
        assert!(output.status.success(), "{arguments:?}: {}", output.stderr_text());
        for text in [&output.stdout, &output.stderr] {
            let text = std::str::from_utf8(text).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            let found = text.chars().find(|&c| is_harmful(c) && !matches!(c, '\n' | '\t'));
            assert_eq!(found, None, "{arguments:?} prints a control character: {text:?}");
        }
        if arguments[0] == "ps" && arguments.len() == 1 {
            let lines = output.stdout_text().lines().count();
            let most = agent::run(&mut agent::command(["ps", "--format", "json"]), RUN).json();
            let processes = most["processes"].as_array().map_or(0, Vec::len);
            assert!(lines <= processes * 2 + 5, "a name breaks lines: {}", output.stdout_text());
        }
    }
}

/// Control characters, and those that change the direction of what follows.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON escapes them, but whoever prints the value with `jq -r` gets them back.
fn assert_no_control_characters(value: &Value) {
    match value {
        Value::String(text) => {
            assert!(!text.chars().any(is_harmful), "{text:?}");
            assert!(text.len() <= 4096, "a string of {} bytes", text.len());
        }
        Value::Array(values) => values.iter().for_each(assert_no_control_characters),
        Value::Object(fields) => fields.values().for_each(assert_no_control_characters),
        _ => {}
    }
}

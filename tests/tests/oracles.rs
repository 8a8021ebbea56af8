//! The workloads and what they write down, without the agent: a test is only as good as its oracle.

use std::{fs, io, process::Stdio, time::Duration};

use nodeprobe_tests::{
    Node, Workload, assert_within,
    collector::{Rotel, VictoriaMetrics},
    node::{alone, target_tmp},
    rootfs::Rootfs,
    skip::skip,
    stdio::{SleepyReader, pseudo_terminal},
    trace_gc,
    wait::eventually,
    workload::number,
};

/// Every version that is there, 16 among them.
fn for_each_node(test: impl Fn(&Node)) {
    let _alone = alone();
    for major in [16, 18, 20, 22, 24, 26] {
        match Node::of_major(major) {
            Ok(node) => test(&node),
            Err(reason) => skip(&reason),
        }
    }
}

#[test]
fn the_mixed_load_notes_all_of_its_time_as_active_or_idle() {
    for_each_node(|node| {
        let load = Workload::plan(node, "mixed-load.js").start();
        eventually("notes of the load", Duration::from_secs(10), || {
            (load.notes("elu").len() > 100).then_some(())
        });
        load.signal(libc::SIGTERM);
        let notes = load.notes("elu");
        let (first, last) = (&notes[0], &notes[notes.len() - 1]);
        let [elapsed, active, idle] =
            ["time_ms", "active_ms", "idle_ms"].map(|field| number(last, field) - number(first, field));
        assert_within(active + idle, elapsed, 1.0, &format!("ms of active and idle time, {}", node.label));
        assert!((0.3..0.8).contains(&(active / elapsed)), "{} is no mixed load", active / elapsed);
    });
}

#[test]
fn a_block_takes_as_long_as_it_says() {
    for_each_node(|node| {
        for place in ["main", "worker"] {
            let mut workload = Workload::plan(node, "block.js").args([place, "50", "2", "10"]).start();
            workload.wait_for("ready");
            workload.go();
            for note in workload.wait_for_nth("block", 2) {
                assert!(number(&note, "duration_ms") >= 50.0, "{note}");
                let (start, end) = (number(&note, "start_ms"), number(&note, "end_ms"));
                assert_within(end - start, number(&note, "duration_ms"), 0.01, "ms of a block");
                let is_main = note["tid"] == workload.pid();
                assert_eq!(is_main, place == "main", "{note}, {}", node.label);
            }
            assert!(workload.end().success());
        }
    });
}

#[test]
fn a_gated_process_keeps_its_pid_and_traces_both_kinds_of_pauses() {
    for_each_node(|node| {
        let trace = tempfile::NamedTempFile::new_in(target_tmp()).expect("a file can be made");
        let file = trace.reopen().expect("the file can be opened again");
        let plan = Workload::plan(node, "allocate.js").flag("--trace-gc").args(["worker", "60"]).stdout(file);
        let mut workload = plan.start_gated();
        let pid = workload.pid();
        workload.go();
        assert!(workload.wait(Duration::from_mins(1)).success());
        assert_eq!(workload.wait_for("done")["pid"], pid);
        let text = fs::read_to_string(trace.path()).expect("the trace is there");
        let pauses = trace_gc::parse(&text);
        assert_eq!(pauses.len(), text.lines().count(), "every line is a pause: {text}");
        for kind in ["minor", "major"] {
            let count = pauses.iter().filter(|pause| pause.kind.name() == kind).count();
            assert!(count > 0, "no {kind} pause, {}", node.label);
        }
    });
}

#[test]
fn writers_block_as_long_as_their_readers_sleep() {
    const SLEEP: Duration = Duration::from_millis(300);
    for_each_node(|node| {
        let (terminal_ours, terminal) = pseudo_terminal();
        let (pipe_ours, pipe) = io::pipe().expect("a pipe can be made");
        let (async_ours, async_pipe) = io::pipe().expect("a pipe can be made");
        let start = |mode, stdout: Stdio| {
            let workload = Workload::plan(node, "stdout.js").args([mode, "32", "4096"]).stdout(stdout);
            let workload = workload.start();
            workload.wait_for("ready");
            workload
        };
        let mut cases = [
            (start("stream", terminal.into()), SleepyReader::start(terminal_ours, SLEEP), true),
            (start("sync", pipe.into()), SleepyReader::start(pipe_ours, SLEEP), true),
            (start("stream", async_pipe.into()), SleepyReader::start(async_ours, SLEEP), false),
        ];
        for (workload, ..) in &mut cases {
            workload.go();
        }
        for (mut workload, reader, blocks) in cases {
            let written = workload.wait_for("written");
            if blocks {
                workload.end();
                let notes = reader.notes();
                let (writing_s, asleep_s) =
                    (number(&written, "duration_ms") / 1e3, notes.asleep.as_secs_f64());
                // Whoever wakes up may have to wait for a processor.
                let possible = asleep_s - 0.02..=asleep_s + 0.2;
                assert!(possible.contains(&writing_s), "{writing_s} s, not {possible:?}, {}", node.label);
                assert_eq!(notes.bytes, 32 * 4096);
            } else {
                assert!(number(&written, "duration_ms") < 100.0, "{written}, {}", node.label);
                assert!(number(&written, "buffered_bytes") > 0.0, "{written}, {}", node.label);
            }
        }
    });
}

#[test]
fn a_process_in_a_root_file_system_of_its_own_is_found_from_outside() {
    let _alone = alone();
    let Ok(node) = Node::of_major(20).map_err(|reason| skip(&reason)) else { return };
    let rootfs = Rootfs::with(&node);
    let (_process, pid) = rootfs.start("idle.js", &[]);
    eventually("the workload inside", Duration::from_secs(10), || {
        fs::read_to_string(rootfs.oracle()).ok()?.contains(r#""pid":1}"#).then_some(())
    });
    let root = fs::read_link(format!("/proc/{pid}/root")).expect("the process lives");
    assert_eq!(root, rootfs.path(), "the process has a root of its own");
    let executable = fs::read_link(format!("/proc/{pid}/exe")).expect("the process lives");
    assert!(executable.ends_with("usr/local/bin/node"), "{}", executable.display());
}

#[test]
fn receivers_start_answer_and_come_back_on_the_same_port() {
    let _alone = alone();
    match Rotel::start() {
        Ok(mut rotel) => {
            let ports = (rotel.grpc_port, rotel.http_port);
            rotel.kill();
            rotel.restart();
            assert_eq!((rotel.grpc_port, rotel.http_port), ports);
            assert_eq!(rotel.received(), []);
        }
        Err(reason) => skip(&reason),
    }
    match VictoriaMetrics::start() {
        Ok(database) => {
            assert_eq!(database.value("vector(1) + 1"), Some(2.0));
            assert_eq!(database.series(), Vec::<serde_json::Value>::new());
        }
        Err(reason) => skip(&reason),
    }
}

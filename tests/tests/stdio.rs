//! Blocked writes to stdout and stderr, against readers that sleep for a known time.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Workload, on_every_node,
    report::{StdioTotals, assert_nothing_lost, assert_quiet, stdio},
    stdio::{SleepyReader, pseudo_terminal},
    wait::eventually,
    workload::number,
};

on_every_node!(blocked_writes_last_as_long_as_the_reader_sleeps);

const SLEEP: Duration = Duration::from_secs(2);
/// Bar of the blocked time.
const TOLERANCE_S: f64 = 0.020;

/// A workload whose reader sleeps, and what must be seen of it.
struct Case {
    name: &'static str,
    kind: &'static str,
    stream: &'static str,
    bytes: u64,
    blocks: bool,
    must_see_eagain: bool,
    workload: Workload,
    reader: Option<SleepyReader>,
}

/// How the writer goes about it: arguments of `stdout.js`.
struct Writing {
    mode: &'static str,
    chunks: u64,
    chunk_bytes: u64,
}

impl Case {
    fn start(
        node: &Node,
        (name, kind): (&'static str, &'static str),
        writing: &Writing,
        (ours, theirs): (Option<OwnedFd>, OwnedFd),
    ) -> Self {
        let Writing { mode, chunks, chunk_bytes } = writing;
        let arguments = [(*mode).to_owned(), chunks.to_string(), chunk_bytes.to_string()];
        let workload = Workload::plan(node, "stdout.js").args(arguments).stdout(theirs).start();
        workload.wait_for("ready");
        let reader = ours.map(|ours| SleepyReader::start(ours, SLEEP));
        let bytes = chunks * chunk_bytes;
        Self { name, kind, stream: "stdout", bytes, blocks: false, must_see_eagain: false, workload, reader }
    }

    fn blocking(self) -> Self {
        Self { blocks: true, ..self }
    }

    fn with_eagain(self) -> Self {
        Self { must_see_eagain: true, ..self }
    }

    fn check(mut self, totals: &StdioTotals, node: &Node) {
        let what = format!("{}, {}: {totals:?}", self.name, node.label);
        assert_eq!(totals.kinds, [self.kind], "{what}");
        assert_eq!(totals.bytes, self.bytes, "{what}");
        assert!(totals.writes > 0, "{what}");
        assert_eq!(totals.eagain > 0, self.must_see_eagain, "EAGAIN, {what}");
        let written = self.workload.wait_for("written");
        self.workload.end();
        let asleep_s = self.reader.map_or(0.0, |reader| {
            let notes = reader.notes();
            assert_eq!(notes.bytes, self.bytes, "bytes that arrived, {what}");
            notes.asleep.as_secs_f64()
        });
        if self.blocks {
            // The reader slept while the writer had to wait, and all of the waiting was in the writer's own time. The two
            // are a few milliseconds apart, unless one of them wakes up without a processor.
            let writing_s = number(&written, "duration_ms") / 1e3;
            let possible = asleep_s - TOLERANCE_S..=writing_s + TOLERANCE_S;
            assert!(possible.contains(&totals.blocked_s), "not blocked for {possible:?} s, {what}");
        } else if self.kind == "file" {
            assert!(totals.blocked_s < TOLERANCE_S, "{what}");
        } else {
            assert!(totals.blocked_s <= 0.0, "{what}");
        }
    }
}

fn blocked_writes_last_as_long_as_the_reader_sleeps(node: &Node) {
    let idle = Workload::idle(node);
    let (terminal_ours, terminal) = pseudo_terminal();
    let (sync_ours, sync_pipe) = pipe();
    let (stream_ours, stream_pipe) = pipe();
    let (socket_ours, socket) = UnixStream::pair().expect("a socket pair can be made");
    let file = tempfile::tempfile_in(nodeprobe_tests::node::target_tmp()).expect("a file can be made");
    let small = |mode| Writing { mode, chunks: 32, chunk_bytes: 4096 };
    // More than socket and pipe buffers hold together with what the kernel lends.
    let large = Writing { mode: "stream", chunks: 400, chunk_bytes: 4096 };
    let mut cases = vec![
        Case::start(node, ("terminal", "tty"), &small("stream"), (Some(terminal_ours), terminal)).blocking(),
        Case::start(node, ("blocking pipe", "pipe"), &small("sync"), (Some(sync_ours), sync_pipe)).blocking(),
        Case::start(node, ("async pipe", "pipe"), &large, (Some(stream_ours), stream_pipe)).with_eagain(),
        Case::start(node, ("socket", "socket"), &large, (Some(socket_ours.into()), socket.into()))
            .with_eagain(),
        Case::start(node, ("file", "file"), &small("stream"), (None, file.into())),
        stderr_to_a_file(node),
    ];
    let agent = Agent::observing(cases.iter().map(|case| &case.workload).chain([&idle]));
    let first = agent.mark();
    for case in &mut cases {
        case.workload.go();
    }
    let complete = || {
        let reports = agent.reports_since(first);
        let written = |case: &Case| stdio(&reports, case.workload.pid(), case.stream).bytes >= case.bytes;
        cases.iter().all(written).then_some(())
    };
    // Left to the checks below to explain if it never happens.
    let patience = Duration::from_secs(10);
    let end = std::time::Instant::now() + patience;
    eventually("all bytes or the end of patience", patience * 2, || {
        complete().or_else(|| (std::time::Instant::now() > end).then_some(()))
    });
    let reports = agent.reports_since(first);
    assert_quiet(&reports, idle.pid());
    assert_nothing_lost(&reports);
    for case in cases {
        let other = if case.stream == "stdout" { "stderr" } else { "stdout" };
        assert_eq!(stdio(&reports, case.workload.pid(), other).bytes, 0, "{other} of the {}", case.name);
        let totals = stdio(&reports, case.workload.pid(), case.stream);
        case.check(&totals, node);
    }
    agent.end();
}

fn stderr_to_a_file(node: &Node) -> Case {
    let file: File = tempfile::tempfile_in(nodeprobe_tests::node::target_tmp()).expect("a file can be made");
    let plan = Workload::plan(node, "stdout.js").args(["stream", "4", "1024", "stderr"]).stderr(file);
    let workload = plan.start();
    workload.wait_for("ready");
    Case {
        name: "stderr",
        kind: "file",
        stream: "stderr",
        bytes: 4096,
        blocks: false,
        must_see_eagain: false,
        workload,
        reader: None,
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    (reader.into(), writer.into())
}

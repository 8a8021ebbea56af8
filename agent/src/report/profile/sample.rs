//! Stacks made by hand, for tests of what shows or keeps them.

use std::sync::Arc;

use crate::{
    model::{Category, Culprit, Frame, FrameKind, Interval, Stack, StackTime, ThreadStacks},
    report::sample::{self, MS},
};

pub(crate) fn frame(kind: FrameKind, function: &str, script: Option<&str>, line: Option<u32>) -> Frame {
    Frame {
        kind,
        function: function.into(),
        script: script.map(Into::into),
        line,
        column: line.map(|line| line + 1),
        line_is_exact: true,
        package: script.filter(|script| script.contains("node_modules")).map(|_| "bcryptjs".into()),
    }
}

pub(crate) fn stack(frames: &[Frame]) -> Arc<Stack> {
    Arc::new(Stack { frames: frames.to_vec(), truncated: false, problem: None })
}

fn time(stack: &Arc<Stack>, category: Category, samples: u64, time_ns: u64) -> StackTime {
    StackTime { stack: Arc::clone(stack), category, samples, time_ns }
}

/// A second in which the main thread of process 301 spent 400 ms hashing (50 samples), slept 200 ms in `fsync` (1), could
/// once not be read for 8 ms, and its worker parsed for 80 ms (10). With a stall of 200 ms, and a turn under way.
pub(crate) fn interval(after_s: u64) -> Interval {
    let mut process = sample::sick(301);
    let login = frame(FrameKind::JavaScript, "login", Some("/srv/app/auth.js"), Some(7));
    let hash = frame(
        FrameKind::JavaScript,
        "hash;\nround",
        Some("/srv/app/node_modules/bcryptjs/index.js"),
        Some(42),
    );
    let tick = frame(
        FrameKind::NodeInternal,
        "processTicksAndRejections",
        Some("node:internal/process/task_queues"),
        Some(95),
    );
    let fsync = frame(FrameKind::Native, "fsync", None, None);
    let parse = frame(FrameKind::Builtin, "JSON.parse", None, None);
    let hashing = stack(&[hash, login.clone(), tick.clone()]);
    let syncing = stack(&[fsync, login.clone(), tick]);
    let parsing = Arc::new(Stack { frames: vec![parse, login], truncated: true, problem: None });
    let unread = Arc::new(Stack { problem: Some("no frame pointer"), ..Stack::default() });
    let culprit = Culprit {
        function: "hash;\nround".into(),
        script: Some("/srv/app/node_modules/bcryptjs/index.js".into()),
        line: Some(42),
        package: Some("bcryptjs".into()),
    };
    process.threads[0].current_turn_stack = Some(Arc::clone(&hashing));
    process.threads[0].current_turn_culprit = Some(culprit.clone());
    let mut stall = sample::stall(&process, after_s, 200 * MS);
    stall.stacks = vec![
        time(&hashing, Category::Application, 20, 160 * MS),
        time(&syncing, Category::Blocked, 1, 40 * MS),
    ];
    stall.culprit = Some(culprit);
    let long_pause = sample::long_pause(&process, after_s);
    let main = ThreadStacks {
        process: process.id,
        tid: 301,
        stacks: vec![
            time(&hashing, Category::Application, 50, 400 * MS),
            time(&syncing, Category::Blocked, 1, 200 * MS),
            time(&unread, Category::Unknown, 1, 8 * MS),
        ],
    };
    let worker = ThreadStacks {
        process: process.id,
        tid: 308,
        stacks: vec![time(&parsing, Category::Json, 10, 80 * MS)],
    };
    let mut interval = sample::interval(after_s, vec![process, sample::process(304, "@acme/mailer")]);
    interval.stalls = vec![stall];
    interval.pauses = vec![long_pause];
    interval.stacks = vec![main, worker];
    interval
}

//! One stall as a line: for `nodeprobe trace`, and its division also for the list of stalls in `top`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    document::{CulpritReport, is_observed, text},
    quantity::milliseconds,
    timestamp,
};
use crate::model::{Cause, Culprit, Frame, Process, Signal, Stack, Stall};

/// Smaller shares of a stall only take room.
const SHOWN_SHARE: f64 = 0.05;

/// `sync_io 70% (fsync), on_cpu 20%`: what took at least a twentieth of a stall, most first, and the system call of its
/// longest sleep.
pub fn division(stall: &Stall) -> String {
    let total_ns = stall.causes.total_ns().max(1) as f64;
    let mut shares: Vec<(Cause, f64)> =
        stall.causes.iter().map(|(cause, ns)| (cause, ns as f64 / total_ns)).collect();
    shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let show = |(cause, share): (Cause, f64)| {
        let sleep = stall.longest_sleep.as_ref().filter(|sleep| sleep.cause == cause);
        let syscall =
            sleep.and_then(|sleep| Some((sleep.syscall?, sleep.file.as_deref()))).map(|it| match it {
                (syscall, Some(file)) => format!(" ({syscall} {})", text(file)),
                (syscall, None) => format!(" ({syscall})"),
            });
        format!("{} {:.0}%{}", cause.name(), share * 100.0, syscall.unwrap_or_default())
    };
    let shown: Vec<String> =
        shares.into_iter().filter(|(_, share)| *share >= SHOWN_SHARE).map(show).collect();
    shown.join(", ")
}

/// `hash /srv/app/auth.js:42 [bcryptjs]`: who is to blame, as far as is known.
pub fn culprit(culprit: &Culprit) -> String {
    let Culprit { function, script, line, package } = culprit;
    let package = package.as_deref().map(|package| format!(" [{}]", text(package))).unwrap_or_default();
    format!("{}{package}", place(function, script.as_deref(), *line))
}

/// `function script:line`.
fn place(function: &str, script: Option<&str>, line: Option<u32>) -> String {
    let function = text(function);
    match (script.map(text), line) {
        (Some(script), Some(line)) => format!("{function} {script}:{line}"),
        (Some(script), None) => format!("{function} {script}"),
        (None, _) => function,
    }
}

/// The stack that the greatest part of the stall was spent in.
pub fn heaviest(stall: &Stall) -> Option<&Stack> {
    // Of equals the first: they are in order.
    stall.stacks.iter().rev().max_by_key(|stack| stack.time_ns).map(|stack| &*stack.stack)
}

/// One line of `trace --format ndjson`; `None` becomes `null` and means "not known".
#[derive(Debug, Serialize)]
pub struct StallLine {
    /// RFC 3339 in UTC with milliseconds, when the stall began.
    pub time: String,
    pub pid: u32,
    pub name: String,
    pub tid: u32,
    pub thread: &'static str,
    pub duration_s: f64,
    pub startup: bool,
    /// It was under way when nodeprobe was started: it lasted longer than `duration_s`.
    pub lower_bound: bool,
    /// Seconds by cause; they add up to `duration_s`.
    pub by_cause: Option<BTreeMap<&'static str, f64>>,
    pub longest_sleep: Option<SleepLine>,
    /// Who is to blame, as far as is known.
    pub culprit: Option<CulpritReport>,
    /// The stack that the greatest part was spent in, innermost frame first; empty when none was sampled.
    pub stack: Vec<FrameLine>,
    #[serde(skip)]
    division: String,
    #[serde(skip)]
    blamed: Option<String>,
    #[serde(skip)]
    remark: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct FrameLine {
    pub function: String,
    pub script: Option<String>,
    pub line: Option<u32>,
    pub kind: &'static str,
}

impl From<&Frame> for FrameLine {
    fn from(frame: &Frame) -> Self {
        Self {
            function: text(&frame.function),
            script: frame.script.as_deref().map(text),
            line: frame.line,
            kind: frame.kind.name(),
        }
    }
}

/// The longest sleep in a stall.
#[derive(Debug, Serialize)]
pub struct SleepLine {
    pub duration_s: f64,
    pub cause: &'static str,
    pub syscall: Option<&'static str>,
    /// The file it slept for.
    pub file: Option<String>,
}

impl StallLine {
    /// `process`: whose stall it is.
    pub fn new(stall: &Stall, process: &Process) -> Self {
        let observed = is_observed(&process.signals, Signal::Sched);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let by_cause = || stall.causes.iter().map(|(cause, ns)| (cause.name(), seconds(ns))).collect();
        let sleep = stall.longest_sleep.as_ref().filter(|_| observed);
        let stack = heaviest(stall);
        Self {
            time: timestamp::rfc3339(stall.began),
            pid: stall.process.pid,
            name: text(&process.identity.name),
            tid: stall.tid,
            thread: stall.thread.name(),
            duration_s: seconds(stall.duration_ns),
            startup: stall.startup,
            lower_bound: stall.lower_bound,
            by_cause: observed.then(by_cause),
            longest_sleep: sleep.map(|sleep| SleepLine {
                duration_s: seconds(sleep.duration_ns),
                cause: sleep.cause.name(),
                syscall: sleep.syscall,
                file: sleep.file.as_deref().map(text),
            }),
            culprit: stall.culprit.as_ref().map(CulpritReport::from),
            stack: stack.map(|stack| stack.frames.iter().map(FrameLine::from).collect()).unwrap_or_default(),
            division: if observed { division(stall) } else { "causes not observed".to_owned() },
            blamed: stall.culprit.as_ref().map(culprit),
            remark: stack.and_then(remark),
        }
    }

    /// For people: one line without its end, no escape codes.
    pub fn render(&self) -> String {
        let thread = if self.pid == self.tid {
            self.thread.to_owned()
        } else {
            format!("{} {}", self.thread, self.tid)
        };
        let at_least = if self.lower_bound { ">=" } else { "" };
        let startup = if self.startup { "  start-up" } else { "" };
        let duration = format!("{at_least}{} ms", milliseconds(self.duration_s));
        let culprit = self.blamed.as_ref().map(|blamed| format!("  culprit {blamed}")).unwrap_or_default();
        let Self { time, pid, name, division, .. } = self;
        format!("{time}  {pid:>7} {name}  {thread}  {duration:>11}{startup}  {division}{culprit}")
    }

    /// For people: the heaviest stack, a line per frame, each with its end; empty when no stack was sampled.
    pub fn render_stack(&self) -> String {
        let frame = |frame: &FrameLine| place(&frame.function, frame.script.as_deref(), frame.line);
        let frames = self.stack.iter().map(|line| format!("    {}\n", frame(line)));
        frames.chain(self.remark.iter().map(|remark| format!("    {remark}\n"))).collect()
    }
}

/// What a stack does not show.
fn remark(stack: &Stack) -> Option<String> {
    let problem = stack.problem.map(|problem| format!("({})", text(problem)));
    problem.or_else(|| stack.truncated.then(|| "(outer frames are missing)".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::{Category, FrameKind, StackTime},
        report::sample,
    };

    fn frame(kind: FrameKind, function: &str, script: Option<&str>, line: Option<u32>) -> Frame {
        Frame {
            kind,
            function: function.into(),
            script: script.map(Into::into),
            line,
            column: None,
            line_is_exact: true,
            package: None,
        }
    }

    fn blamed() -> (Stall, Process) {
        let process = sample::process(301, "checkout-api");
        let mut stall = sample::stall(&process, 0, 200 * sample::MS);
        let of = |frames: Vec<Frame>, time_ns: u64| StackTime {
            stack: Stack { frames, truncated: true, problem: None }.into(),
            category: Category::Application,
            samples: time_ns / (8 * sample::MS),
            time_ns,
        };
        let hash =
            frame(FrameKind::JavaScript, "hash", Some("/srv/app/node_modules/bcryptjs/index.js"), Some(42));
        let login = frame(FrameKind::JavaScript, "login", Some("/srv/app/auth.js"), Some(7));
        let parse = frame(FrameKind::Builtin, "JSON.parse", None, None);
        stall.stacks =
            vec![of(vec![hash, login.clone()], 160 * sample::MS), of(vec![parse, login], 16 * sample::MS)];
        stall.culprit = Some(Culprit {
            function: "hash".into(),
            script: Some("/srv/app/node_modules/bcryptjs/index.js".into()),
            line: Some(42),
            package: Some("bcryptjs".into()),
        });
        (stall, sample::listed(&process))
    }

    #[test]
    fn the_culprit_ends_the_line_and_the_stack_follows_below() {
        let (stall, process) = blamed();
        let line = StallLine::new(&stall, &process);
        let rendered = line.render();
        let end = "  culprit hash /srv/app/node_modules/bcryptjs/index.js:42 [bcryptjs]";
        assert!(rendered.ends_with(end), "{rendered}");
        assert_eq!(
            line.render_stack(),
            "    hash /srv/app/node_modules/bcryptjs/index.js:42\n    login /srv/app/auth.js:7\n    \
             (outer frames are missing)\n"
        );
    }

    #[test]
    fn json_has_the_culprit_and_the_heaviest_stack() {
        let (stall, process) = blamed();
        let line = serde_json::to_value(StallLine::new(&stall, &process)).unwrap();
        let script = "/srv/app/node_modules/bcryptjs/index.js";
        let expected = json!({ "function": "hash", "script": script, "line": 42, "package": "bcryptjs" });
        assert_eq!(line["culprit"], expected);
        assert_eq!(
            line["stack"],
            json!([
                { "function": "hash", "script": script, "line": 42, "kind": "javascript" },
                { "function": "login", "script": "/srv/app/auth.js", "line": 7, "kind": "javascript" },
            ])
        );
    }

    #[test]
    fn a_stall_without_samples_blames_nobody() {
        let process = sample::process(301, "checkout-api");
        let stall = sample::stall(&process, 0, 200 * sample::MS);
        let line = StallLine::new(&stall, &sample::listed(&process));
        assert!(!line.render().contains("culprit"));
        assert_eq!(line.render_stack(), "");
        let line = serde_json::to_value(line).unwrap();
        assert_eq!((&line["culprit"], &line["stack"]), (&json!(null), &json!([])));
    }

    #[test]
    fn names_of_functions_cannot_steer_the_terminal() {
        let (mut stall, process) = blamed();
        stall.culprit.as_mut().unwrap().function = "x\u{1b}[2J\ny".into();
        let rendered = StallLine::new(&stall, &process).render();
        assert!(rendered.contains("culprit x?[2J?y "), "{rendered}");
    }
}

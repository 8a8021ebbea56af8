//! Who logs, and what part of the processor's time goes into it.
//!
//! Formatting is what Node's console and `util.inspect` do ([`Category::Logging`]), what its inspector keeps of each line, what packages do that are there for logging, and
//! the JSON and the bytes that a function makes for its own `fs.writeSync`.
//!
//! Limits: of an application's own logger this is a lower bound, because the JavaScript in it does not count. One that hands its
//! line to an asynchronous stream does not show as one. A function that writes something else by `fs.writeSync` counts as logging as
//! far as it formats JSON for it.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::category;
use crate::model::{Category, Culprit, Frame, FrameKind, Stack, StackTime};

/// Packages whose purpose is logging.
const LOGGERS: [&str; 16] = [
    "bunyan",
    "consola",
    "debug",
    "log4js",
    "logform",
    "loglevel",
    "morgan",
    "npmlog",
    "pino",
    "pino-http",
    "pino-pretty",
    "roarr",
    "signale",
    "sonic-boom",
    "tslog",
    "winston",
];

/// What sampled stacks tell of logging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// On a processor, formatting and writing.
    pub cpu_ns: u64,
    /// On a processor at all.
    pub sampled_ns: u64,
    /// The function of the application that most of it was done for.
    pub culprit: Option<Culprit>,
}

impl Logging {
    /// `None`: nothing was sampled.
    pub fn ratio(&self) -> Option<f64> {
        (self.sampled_ns > 0).then(|| self.cpu_ns as f64 / self.sampled_ns as f64)
    }
}

/// What of the time on a processor the stacks of a thread spent with logging.
pub fn logging<'a>(stacks: impl Iterator<Item = &'a StackTime> + Clone) -> Logging {
    let writers: HashSet<_> = stacks.clone().filter_map(|time| writer(&time.stack)).collect();
    let mut logging = Logging::default();
    let mut by_function: Vec<(Culprit, u64)> = Vec::new();
    for time in stacks.filter(|time| time.category != Category::Blocked) {
        logging.sampled_ns = logging.sampled_ns.saturating_add(time.time_ns);
        if !is_logging(time, |function| writers.contains(&function)) {
            continue;
        }
        logging.cpu_ns = logging.cpu_ns.saturating_add(time.time_ns);
        if let Some(caller) = caller(&time.stack) {
            by_function.push((Culprit::of_frame(caller), time.time_ns));
        }
    }
    logging.culprit = Culprit::of_most(by_function.iter().map(|(culprit, ns)| (culprit, *ns)));
    logging
}

type Function<'a> = (&'a str, Option<&'a str>);

fn is_logging<'a>(time: &'a StackTime, is_writer: impl Fn(Function<'a>) -> bool) -> bool {
    // A collection is for all that was allocated; other machinery of V8 is for whoever runs.
    if time.category == Category::Gc {
        return false;
    }
    let is_of_loggers = || time.stack.frames.iter().any(is_of_a_logger);
    let is_of_console = || of_node(&time.stack).any(category::is_of_console);
    let is_for_a_write = || {
        let formats = match time.category {
            Category::Json => true,
            Category::NodeInternal | Category::Native => {
                of_node(&time.stack).any(|frame| has_script(frame, &["node:fs", "node:buffer"]))
            }
            _ => false,
        };
        formats && innermost(&time.stack).is_some_and(|frame| is_writer(function(frame)))
    };
    time.category == Category::Logging || is_of_console() || is_of_loggers() || is_for_a_write()
}

/// The function that calls `fs.writeSync` in this stack.
fn writer(stack: &Stack) -> Option<Function<'_>> {
    let writes = |frame: &Frame| &*frame.function == "writeSync" && has_script(frame, &["node:fs"]);
    of_node(stack).any(writes).then(|| innermost(stack).map(function)).flatten()
}

/// What a function of the application, or of a package, has called.
fn of_node(stack: &Stack) -> impl Iterator<Item = &Frame> {
    stack.frames.iter().take_while(|frame| frame.kind != FrameKind::JavaScript)
}

fn innermost(stack: &Stack) -> Option<&Frame> {
    stack.frames.iter().find(|frame| frame.kind == FrameKind::JavaScript)
}

/// For whom it is logged: the innermost function that is no logger's.
fn caller(stack: &Stack) -> Option<&Frame> {
    let mut scripts = stack.frames.iter().filter(|frame| frame.kind == FrameKind::JavaScript);
    scripts.find(|frame| !is_of_a_logger(frame))
}

fn is_of_a_logger(frame: &Frame) -> bool {
    frame.package.as_deref().is_some_and(|package| LOGGERS.contains(&package))
}

fn has_script(frame: &Frame, scripts: &[&str]) -> bool {
    frame.script.as_deref().is_some_and(|script| scripts.contains(&script))
}

fn function(frame: &Frame) -> Function<'_> {
    (&frame.function, frame.script.as_deref())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn frame(kind: FrameKind, function: &str, script: &str, package: Option<&str>) -> Frame {
        Frame {
            kind,
            function: function.into(),
            script: Some(script.into()),
            line: Some(7),
            column: None,
            line_is_exact: false,
            package: package.map(Into::into),
        }
    }

    fn application(function: &str) -> Frame {
        frame(FrameKind::JavaScript, function, "/srv/app.js", None)
    }

    fn node(function: &str, script: &str) -> Frame {
        frame(FrameKind::NodeInternal, function, script, None)
    }

    fn time(frames: Vec<Frame>, category: Category, time_ns: u64) -> StackTime {
        StackTime { stack: Arc::new(Stack { frames, ..Stack::default() }), category, samples: 1, time_ns }
    }

    #[test]
    fn console_and_loggers_count_for_whoever_calls_them() {
        let pino =
            frame(FrameKind::JavaScript, "asJson", "/srv/node_modules/pino/lib/tools.js", Some("pino"));
        let stacks = [
            time(
                vec![node("log", "node:internal/console/constructor"), application("book")],
                Category::Logging,
                20,
            ),
            time(
                vec![node("log", "node:internal/console/constructor"), application("book")],
                Category::IcMiss,
                10,
            ),
            time(vec![pino.clone(), application("order")], Category::Json, 50),
            time(vec![pino, application("order")], Category::Gc, 9),
            time(vec![application("price")], Category::Application, 11),
            time(vec![application("price")], Category::Blocked, 1000),
        ];
        let logging = logging(stacks.iter());
        assert_eq!((logging.cpu_ns, logging.sampled_ns), (80, 100));
        assert_eq!(&*logging.culprit.unwrap().function, "order");
    }

    #[test]
    fn json_counts_where_the_function_itself_writes() {
        let write =
            |category, ns| time(vec![node("writeSync", "node:fs"), application("logRequest")], category, ns);
        let json = |function| time(vec![application(function)], Category::Json, 40);
        let with_writes = [write(Category::Blocked, 500), write(Category::Native, 5), json("logRequest")];
        let found = logging(with_writes.iter());
        assert_eq!((found.cpu_ns, found.sampled_ns), (45, 45));
        assert_eq!(&*found.culprit.unwrap().function, "logRequest");
        // JSON of a response, and of one that writes nothing.
        for stacks in [vec![write(Category::Blocked, 500), json("reply")], vec![json("logRequest")]] {
            assert_eq!(logging(stacks.iter()).cpu_ns, 0);
        }
    }

    #[test]
    fn nothing_sampled_is_no_share() {
        assert_eq!(logging([].iter()).ratio(), None);
        assert_eq!(
            logging([time(vec![application("f")], Category::Application, 5)].iter()).ratio(),
            Some(0.0)
        );
    }
}

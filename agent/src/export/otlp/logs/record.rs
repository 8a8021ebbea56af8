//! One stall as a log record: an event `nodeprobe.eventloop.stall`, with the `code.*` attributes of the semantic
//! conventions for who is to blame.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
};

use crate::{
    model::{
        Cause, Process, Signal, Stack, Stall,
        catalog::{STALL_CAUSE, THREAD_TYPE},
    },
    report::{
        document::is_observed,
        quantity::milliseconds,
        stall::{culprit, division, heaviest},
    },
};

/// Name of the event.
const EVENT: &str = "nodeprobe.eventloop.stall";
/// A stack is cut, innermost frames first kept, before it is longer than this.
const LONGEST_STACK: usize = 8 << 10;

/// `suppressed`: stalls of the process before this one that have no record.
pub(super) fn of(stall: &Stall, process: &Process, now: SystemTime, suppressed: u64) -> LogRecord {
    let knows_causes = is_observed(&process.signals, Signal::Sched);
    let leading = stall.causes.leading().filter(|_| knows_causes).map_or(Cause::Unknown, |(cause, _)| cause);
    let mut attributes = vec![
        text(STALL_CAUSE.key, leading.name()),
        double("nodeprobe.stall.duration", stall.duration_ns as f64 / 1e9),
        text(THREAD_TYPE.key, stall.thread.name()),
        integer("thread.id", i64::from(stall.tid)),
    ];
    if stall.startup {
        attributes.push(boolean("nodeprobe.stall.startup"));
    }
    if stall.lower_bound {
        attributes.push(boolean("nodeprobe.stall.lower_bound"));
    }
    if let Some(culprit) = &stall.culprit {
        attributes.push(text("code.function.name", &culprit.function));
        attributes.extend(culprit.script.as_deref().map(|script| text("code.file.path", script)));
        attributes.extend(culprit.line.map(|line| integer("code.line.number", i64::from(line))));
        attributes.extend(culprit.package.as_deref().map(|package| text("nodeprobe.code.package", package)));
    }
    attributes.extend(heaviest(stall).and_then(stacktrace).map(|stack| text("code.stacktrace", &stack)));
    if suppressed > 0 {
        let suppressed = i64::try_from(suppressed).unwrap_or(i64::MAX);
        attributes.push(integer("nodeprobe.stall.suppressed", suppressed));
    }
    LogRecord {
        time_unix_nano: unix_nanos(stall.began),
        observed_time_unix_nano: unix_nanos(now),
        severity_number: SeverityNumber::Warn as i32,
        severity_text: "WARN".to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(sentence(stall, knows_causes))) }),
        attributes,
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    }
}

/// `The event loop of the main thread stood still for 182 ms: sync_io 70% (fsync), on_cpu 20%; hash /srv/auth.js:42.`
fn sentence(stall: &Stall, knows_causes: bool) -> String {
    let at_least = if stall.lower_bound { "at least " } else { "" };
    let mut sentence = format!(
        "The event loop of the {} thread stood still for {at_least}{} ms",
        stall.thread.name(),
        milliseconds(stall.duration_ns as f64 / 1e9)
    );
    if knows_causes {
        sentence = format!("{sentence}: {}", division(stall));
    }
    if let Some(blamed) = &stall.culprit {
        sentence = format!("{sentence}; {}", culprit(blamed));
    }
    sentence.push('.');
    sentence
}

/// As Node prints one, innermost frame first.
fn stacktrace(stack: &Stack) -> Option<String> {
    let mut lines = String::new();
    for frame in &stack.frames {
        let before = lines.len();
        let place = match (&frame.script, frame.line, frame.column) {
            (Some(script), Some(line), Some(column)) => format!(" ({script}:{line}:{column})"),
            (Some(script), Some(line), None) => format!(" ({script}:{line})"),
            (Some(script), None, _) => format!(" ({script})"),
            (None, ..) => String::new(),
        };
        // Writing to a String cannot fail.
        writeln!(lines, "    at {}{place}", frame.function).ok();
        if lines.len() > LONGEST_STACK {
            lines.truncate(before);
            break;
        }
    }
    Some(lines).filter(|lines| !lines.is_empty())
}

fn unix_nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn double(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn boolean(key: &str) -> KeyValue {
    attribute(key, Value::BoolValue(true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        model::StackTime,
        report::{profile, sample},
    };

    fn recorded(stall: &Stall, suppressed: u64) -> LogRecord {
        let process = sample::listed(&sample::process(301, "checkout-api"));
        of(stall, &process, sample::time(1), suppressed)
    }

    fn attributes(record: &LogRecord) -> BTreeMap<&str, String> {
        let shown = |value: &Value| match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let value = |a: &KeyValue| shown(a.value.as_ref().unwrap().value.as_ref().unwrap());
        record.attributes.iter().map(|a| (a.key.as_str(), value(a))).collect()
    }

    #[test]
    fn a_record_says_what_where_and_how_long() {
        let stall = &profile::sample::interval(0).stalls[0];
        let record = recorded(stall, 3);
        assert_eq!(record.event_name, "nodeprobe.eventloop.stall");
        assert_eq!(record.time_unix_nano, 1_795_465_864_250_000_000);
        assert_eq!(record.observed_time_unix_nano, 1_795_465_865_250_000_000);
        let Some(Value::StringValue(body)) = record.body.as_ref().and_then(|body| body.value.as_ref()) else {
            panic!("{record:?}")
        };
        assert_eq!(
            body,
            "The event loop of the main thread stood still for 200.0 ms: sync_io 70% (fsync), on_cpu 20%, gc 10%; \
             hash;?round /srv/app/node_modules/bcryptjs/index.js:42 [bcryptjs]."
        );
        let attributes = attributes(&record);
        for (key, expected) in [
            ("nodeprobe.stall.cause", "sync_io"),
            ("nodeprobe.stall.duration", "DoubleValue(0.2)"),
            ("nodeprobe.thread.type", "main"),
            ("thread.id", "301"),
            ("code.file.path", "/srv/app/node_modules/bcryptjs/index.js"),
            ("code.line.number", "42"),
            ("nodeprobe.code.package", "bcryptjs"),
            ("nodeprobe.stall.suppressed", "3"),
        ] {
            assert_eq!(attributes.get(key).map(String::as_str), Some(expected), "{key}");
        }
        let stack = &attributes["code.stacktrace"];
        assert!(stack.contains("    at login (/srv/app/auth.js:7:8)\n"), "{stack}");
        assert!(stack.ends_with("(node:internal/process/task_queues:95:96)\n"), "{stack}");
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let process = sample::process(301, "checkout-api");
        let record = recorded(&sample::stall(&process, 0, 60 * sample::MS), 0);
        let attributes = attributes(&record);
        let absent =
            |key: &&&str| key.starts_with("code.") || key.ends_with("suppressed") || key.ends_with("startup");
        assert_eq!(attributes.keys().find(absent), None);
    }

    #[test]
    fn a_long_stack_keeps_its_innermost_frames() {
        let mut stall = profile::sample::interval(0).stalls[0].clone();
        let script = format!("/{}", "x".repeat(200));
        let frames: Vec<_> = (0..500)
            .map(|number| {
                let (name, line) = (format!("f{number}"), Some(number));
                profile::sample::frame(crate::model::FrameKind::JavaScript, &name, Some(&script), line)
            })
            .collect();
        stall.stacks = vec![StackTime { stack: profile::sample::stack(&frames), ..stall.stacks[0].clone() }];
        let record = recorded(&stall, 0);
        let stack = &attributes(&record)["code.stacktrace"];
        assert!(stack.starts_with("    at f0 (") && stack.len() <= LONGEST_STACK && stack.ends_with(")\n"));
    }
}

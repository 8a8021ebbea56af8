//! The JSON contract of `nodeprobe top`: which fields are there and of which type. `null` means not known.

use serde_json::Value;

#[derive(Clone, Copy)]
enum Type {
    Text,
    Integer,
    Signed,
    /// A finite number, not negative.
    Number,
    /// A number in 0..=1.
    Ratio,
    Object,
    List,
}

/// Whether a field may be `null`.
#[derive(Clone, Copy, PartialEq)]
enum Null {
    Never,
    Allowed,
}

use Null::{Allowed, Never};
use Type::{Integer, List, Number, Object, Ratio, Signed, Text};

const REPORT: [(&str, Type, Null); 5] = [
    ("/time", Text, Never),
    ("/interval_s", Number, Never),
    ("/lost", Object, Never),
    ("/host/cpu_steal_ratio", Ratio, Allowed),
    ("/processes", List, Never),
];

const PROCESS: [(&str, Type, Null); 50] = [
    ("/pid", Integer, Never),
    ("/name", Text, Never),
    ("/node_version", Text, Allowed),
    ("/v8_version", Text, Allowed),
    ("/container_id", Text, Allowed),
    ("/uptime_s", Number, Never),
    ("/rss_bytes", Integer, Allowed),
    ("/cpu_ratio", Number, Allowed),
    ("/cpu_throttled_s", Number, Allowed),
    ("/cpu_periods", Integer, Allowed),
    ("/cpu_throttled_periods", Integer, Allowed),
    ("/run_delay_s", Number, Allowed),
    ("/nice", Signed, Allowed),
    ("/heap/used_bytes", Integer, Allowed),
    ("/heap/limit_bytes", Integer, Allowed),
    ("/heap/allocated_bytes", Integer, Allowed),
    ("/signals", Object, Never),
    ("/gc/time_ratio", Number, Allowed),
    ("/allocations", List, Allowed),
    ("/rejections/unhandled", Integer, Allowed),
    ("/rejections/handled_late", Integer, Allowed),
    ("/deopts/eager", Integer, Allowed),
    ("/deopts/lazy", Integer, Allowed),
    ("/thread_pool/tasks", Integer, Allowed),
    ("/thread_pool/wait_s", Number, Allowed),
    ("/thread_pool/waiting", Integer, Allowed),
    ("/thread_pool/by_type", Object, Allowed),
    ("/sockets/eagain", Integer, Allowed),
    ("/sockets/backlogs", List, Allowed),
    ("/microtasks/seen_ratio", Number, Allowed),
    ("/microtasks/drains", Integer, Allowed),
    ("/microtasks/drains_per_s", Number, Allowed),
    ("/microtasks/time_ratio", Number, Allowed),
    ("/microtasks/drain_max_s", Number, Allowed),
    ("/async_context/seen_ratio", Number, Allowed),
    ("/async_context/answers", Integer, Allowed),
    ("/async_context/with_context", Integer, Allowed),
    ("/async_context/without_context", Integer, Allowed),
    ("/stdio", Object, Never),
    ("/threads", List, Never),
    ("/startup", Object, Allowed),
    ("/compile/commonjs", Integer, Allowed),
    ("/compile/esm", Integer, Allowed),
    ("/compile/time_s", Number, Allowed),
    ("/logging/cpu_ratio", Ratio, Allowed),
    ("/logging/cpu_s", Number, Allowed),
    ("/logging/sampled_s", Number, Allowed),
    ("/logging/top_function", Object, Allowed),
    ("/memory_limit_bytes", Integer, Allowed),
    ("/memory_used_bytes", Integer, Allowed),
];

const STARTUP: [(&str, Type, Null); 7] = [
    ("/environment_s", Number, Allowed),
    ("/first_turn_s", Number, Allowed),
    ("/listening_s", Number, Allowed),
    ("/steady_s", Number, Allowed),
    ("/modules", Integer, Allowed),
    ("/compile_s", Number, Allowed),
    ("/packages", List, Never),
];

const PAUSES: [(&str, Type, Null); 5] = [
    ("/count", Integer, Allowed),
    ("/time_s", Number, Allowed),
    ("/p50_s", Number, Allowed),
    ("/p99_s", Number, Allowed),
    ("/max_s", Number, Allowed),
];

const STREAM: [(&str, Type, Null); 5] = [
    ("/kind", Text, Allowed),
    ("/bytes", Integer, Allowed),
    ("/writes", Integer, Allowed),
    ("/blocked_s", Number, Allowed),
    ("/eagain", Integer, Allowed),
];

const THREAD: [(&str, Type, Null); 16] = [
    ("/tid", Integer, Never),
    ("/kind", Text, Never),
    ("/event_loop/utilization", Ratio, Allowed),
    ("/event_loop/turns", Integer, Allowed),
    ("/event_loop/turn_p50_s", Number, Allowed),
    ("/event_loop/turn_p99_s", Number, Allowed),
    ("/event_loop/turn_max_s", Number, Allowed),
    ("/event_loop/current_turn_s", Number, Allowed),
    ("/event_loop/current_turn_cause", Text, Allowed),
    ("/event_loop/current_turn_culprit", Object, Allowed),
    ("/event_loop/stalls/top_culprit", Object, Allowed),
    ("/event_loop/stalls/by_cause/javascript", Number, Allowed),
    ("/event_loop/stalls/by_cause/on_cpu", Number, Allowed),
    ("/event_loop/stalls/count", Integer, Allowed),
    ("/event_loop/stalls/time_s", Number, Allowed),
    ("/event_loop/stalls/by_cause/unknown", Number, Allowed),
];

const CULPRIT: [(&str, Type, Null); 4] = [
    ("/function", Text, Never),
    ("/script", Text, Allowed),
    ("/line", Integer, Allowed),
    ("/package", Text, Allowed),
];

const ALLOCATION: [(&str, Type, Null); 2] = [("/ratio", Ratio, Never), ("/bytes", Integer, Allowed)];

/// Everything in which a report differs from the contract, as sentences; empty when it is kept.
pub fn violations(report: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(report, "report", &REPORT, &mut found);
    for (reason, count) in report["lost"].as_object().into_iter().flatten() {
        if !count.is_u64() {
            found.push(format!("report: lost/{reason} is {count}, no count"));
        }
    }
    for process in report["processes"].as_array().into_iter().flatten() {
        check_process(process, &mut found);
    }
    found
}

fn check_process(process: &Value, found: &mut Vec<String>) {
    let place = format!("process {}", process["pid"]);
    check(process, &place, &PROCESS, found);
    for (signal, state) in process["signals"].as_object().into_iter().flatten() {
        if state != "ok" && state["unavailable"].as_str().is_none_or(str::is_empty) {
            found.push(format!(
                "{place}: signal {signal} is {state}, neither \"ok\" nor unavailable with a reason"
            ));
        }
    }
    for kind in ["minor", "major"] {
        check(&process["gc"]["pauses"][kind], &format!("{place} gc {kind}"), &PAUSES, found);
    }
    for name in ["stdout", "stderr"] {
        let (stream, place) = (&process["stdio"][name], format!("{place} {name}"));
        check(stream, &place, &STREAM, found);
        if !matches!(stream["kind"].as_str(), None | Some("pipe" | "file" | "tty" | "socket")) {
            found.push(format!("{place}: unknown kind {}", stream["kind"]));
        }
    }
    for allocation in process["allocations"].as_array().into_iter().flatten() {
        let place = format!("{place} allocation");
        check(allocation, &place, &CULPRIT, found);
        check(allocation, &place, &ALLOCATION, found);
    }
    if process["startup"].is_object() {
        check(&process["startup"], &format!("{place} startup"), &STARTUP, found);
    }
    for thread in process["threads"].as_array().into_iter().flatten() {
        let place = format!("{place} thread {}", thread["tid"]);
        check(thread, &place, &THREAD, found);
        for culprit in ["/event_loop/current_turn_culprit", "/event_loop/stalls/top_culprit"] {
            if let Some(culprit) = thread.pointer(culprit).filter(|culprit| culprit.is_object()) {
                check(culprit, &format!("{place} culprit"), &CULPRIT, found);
            }
        }
        if !matches!(thread["kind"].as_str(), Some("main" | "worker")) {
            found.push(format!("{place}: unknown kind {}", thread["kind"]));
        }
    }
}

fn check(value: &Value, place: &str, fields: &[(&str, Type, Null)], found: &mut Vec<String>) {
    for (pointer, expected, null) in fields {
        match value.pointer(pointer) {
            None => found.push(format!("{place}: {pointer} is missing")),
            Some(Value::Null) if *null == Allowed => {}
            Some(value) if fits(value, *expected) => {}
            Some(value) => found.push(format!("{place}: {pointer} is {value}")),
        }
    }
}

fn fits(value: &Value, expected: Type) -> bool {
    match expected {
        Text => value.is_string(),
        Integer => value.is_u64(),
        Signed => value.is_i64(),
        Number => value.as_f64().is_some_and(|number| number >= 0.0),
        Ratio => value.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number)),
        Object => value.is_object(),
        List => value.is_array(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        let pauses = json!({"count": 0, "time_s": 0.0, "p50_s": null, "p99_s": null, "max_s": null});
        let stream = json!({"kind": "pipe", "bytes": 0, "writes": 0, "blocked_s": 0.0, "eagain": 0});
        let event_loop = json!({
            "utilization": 0.5, "turns": 10, "turn_p50_s": 0.001, "turn_p99_s": 0.001, "turn_max_s": 0.001,
            "current_turn_s": null, "current_turn_cause": null, "current_turn_culprit": null,
            "stalls": {"count": 1, "time_s": 0.1, "by_cause": {"javascript": 0.1, "on_cpu": 0.0, "unknown": 0.0},
                "top_culprit": {"function": "f", "script": "/srv/a.js", "line": 1, "package": null}}
        });
        let startup = json!({
            "environment_s": 0.04, "first_turn_s": 0.1, "listening_s": null, "steady_s": null, "modules": 1, "compile_s": 0.001,
            "packages": [{"name": "application", "cpu_s": 0.01, "wait_s": 0.0}]
        });
        json!({
            "time": "2026-11-23T20:38:48.613Z", "interval_s": 1.0, "lost": {"ring_full": 0},
            "host": {"cpu_steal_ratio": 0.01},
            "processes": [{
                "pid": 1, "name": "shop-api", "node_version": "24.21.0", "v8_version": null, "container_id": null,
                "uptime_s": 1.5, "rss_bytes": 1, "cpu_ratio": 0.1,
                "cpu_throttled_s": 0.0, "cpu_periods": 10, "cpu_throttled_periods": 0, "run_delay_s": 0.1, "nice": -5,
                "heap": {"used_bytes": null, "limit_bytes": null, "allocated_bytes": 1000},
                "allocations": [{"function": "f", "script": "/srv/a.js", "line": 1, "package": null, "ratio": 0.5, "bytes": 500}],
                "signals": {"event_loop": "ok", "heap": {"unavailable": "the build is stripped"}},
                "gc": {"time_ratio": 0.0, "pauses": {"minor": pauses, "major": pauses}},
                "rejections": {"unhandled": 0, "handled_late": 0}, "deopts": {"eager": 0, "lazy": null},
                "thread_pool": {"tasks": 1, "wait_s": 0.1, "wait_max_s": 0.1, "waiting": 0, "oldest_wait_s": null,
                    "by_type": {"fs": {"tasks": 1, "wait_s": 0.1, "busy_s": 0.0}}},
                "sockets": {"eagain": null, "backlogs": null},
                "microtasks": {"seen_ratio": 0.5, "drains": 1, "drains_per_s": 2.0, "time_ratio": 0.1, "drain_p50_s": 0.1,
                    "drain_p99_s": 0.1, "drain_max_s": 0.1},
                "async_context": {"seen_ratio": 1.0, "answers": 2, "with_context": 1, "without_context": 1},
                "stdio": {"stdout": stream, "stderr": stream},
                "threads": [{"tid": 1, "kind": "main", "event_loop": event_loop}],
                "startup": startup,
                "compile": {"commonjs": 1, "esm": 0, "time_s": 0.001},
                "logging": {"cpu_ratio": 0.1, "cpu_s": 0.1, "sampled_s": 1.0, "top_function": null},
                "memory_limit_bytes": null, "memory_used_bytes": null
            }]
        })
    }

    #[test]
    fn a_complete_report_is_accepted() {
        assert_eq!(violations(&report()), Vec::<String>::new());
    }

    #[test]
    fn each_defect_is_named() {
        let defects: [(&str, Value); 9] = [
            ("/processes/0/threads/0/event_loop/stalls/top_culprit/line", json!("1")),
            ("/processes/0/threads/0/event_loop/utilization", json!(1.5)),
            ("/processes/0/signals/heap", json!({"unavailable": ""})),
            ("/processes/0/stdio/stdout/kind", json!("fifo")),
            ("/processes/0/pid", Value::Null),
            ("/processes/0/allocations/0/ratio", Value::Null),
            ("/lost/ring_full", json!(-1)),
            ("/host/cpu_steal_ratio", json!(1.01)),
            ("/processes/0/nice", json!(0.5)),
        ];
        for (pointer, value) in defects {
            let mut report = report();
            *report.pointer_mut(pointer).unwrap() = value;
            assert_eq!(violations(&report).len(), 1, "{pointer}: {:?}", violations(&report));
        }
    }
}

//! Tests of the formats as their readers see them.

use std::io;

use serde_json::{Value, json};

use super::{Format, ListingFormat, Writer, json as to_json, ps, sample};
use crate::model::{CpuPeriods, HostCpu, Interval, Signal};

fn rendered(format: Format, intervals: &[Interval]) -> String {
    let mut out = Vec::new();
    let mut writer = Writer::new(format, &mut out);
    for interval in intervals {
        writer.write(interval).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn everything() -> Interval {
    let without_gc = sample::with_unavailable(
        sample::process(305, "legacy-worker"),
        Signal::Gc,
        "the GC entry points are in no symbol table of /usr/bin/node",
    );
    let mut silent = sample::process(306, "just-started");
    silent.threads.clear();
    silent.identity = std::sync::Arc::default();
    silent.rss_bytes = None;
    silent.stdout.kind = None;
    let mut interval = allocating();
    interval.processes.extend([sample::process(304, "@acme/mailer"), without_gc, silent]);
    interval
}

/// A process that allocates.
fn allocating() -> Interval {
    let mut sick = sample::sick(301);
    sick.allocated_bytes = Some(80 * sample::MIB);
    let allocations = sample::allocations(&sick);
    let mut interval = sample::interval(0, vec![sick]);
    interval.occasions.extend(allocations);
    interval
}

fn document(interval: &Interval) -> Value {
    serde_json::from_slice(&to_json(interval).unwrap()).unwrap()
}

#[test]
fn waits_for_a_processor_are_told_in_every_format_and_null_where_not_known() {
    let mut interval = sample::interval(0, vec![sample::process(301, "shop"), sample::process(302, "cart")]);
    interval.host_cpu = Some(HostCpu { busy_ns: 700, idle_ns: 200, stolen_ns: 100 });
    let [shop, cart] = interval.processes.as_mut_slice() else { unreachable!("there are two") };
    shop.cpu_periods = Some(CpuPeriods { elapsed: 10, throttled: 4 });
    (shop.run_delay_ns, shop.nice) = (Some(250 * sample::MS), Some(-5));
    (cart.cpu_periods, cart.run_delay_ns, cart.nice) = (None, None, None);
    let told = document(&interval);
    assert_eq!(told["host"]["cpu_steal_ratio"], 0.1);
    let fields = ["cpu_periods", "cpu_throttled_periods", "run_delay_s", "nice"];
    let of = |index: usize| fields.map(|field| told["processes"][index][field].clone());
    assert_eq!(of(0), [json!(10), json!(4), json!(0.25), json!(-5)]);
    assert_eq!(of(1), [const { Value::Null }; 4]);
    let csv = rendered(Format::Csv, std::slice::from_ref(&interval));
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let header = rows.headers().unwrap().clone();
    let row = rows.records().next().unwrap().unwrap();
    let cell = |name: &str| &row[header.iter().position(|column| column == name).unwrap()];
    assert_eq!(fields.map(cell), ["10", "4", "0.25", "-5"]);
    assert_eq!(cell("host_cpu_steal_ratio"), "0.1");
    interval.host_cpu = None;
    assert_eq!(document(&interval)["host"]["cpu_steal_ratio"], Value::Null);
}

/// The published schema, which allows fields it does not know.
fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/top-schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The schema with every object closed to fields it does not describe.
fn strict(mut schema: Value) -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if map.contains_key("properties") && !map.contains_key("additionalProperties") {
                    map.insert("additionalProperties".to_owned(), false.into());
                }
                map.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

fn errors(schema: &Value, document: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_is_a_valid_schema() {
    jsonschema::draft202012::meta::validate(&schema()).unwrap();
}

#[test]
fn every_document_is_what_the_schema_says_and_nothing_more() {
    let document = document(&everything());
    assert_eq!(errors(&schema(), &document), Vec::<String>::new());
    assert_eq!(errors(&strict(schema()), &document), Vec::<String>::new());
}

/// Every field of every object is renamed in turn; the schema has to miss each of them.
#[test]
fn a_renamed_field_violates_the_schema() {
    /// Paths of all fields but the keys of the open maps `lost` and `signals`.
    fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let path = format!("{path}/{key}");
                    if !matches!(key.as_str(), "lost" | "signals") {
                        fields(value, &path, found);
                    }
                    found.push(path);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    fields(item, &format!("{path}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let document = document(&allocating());
    let mut paths = Vec::new();
    fields(&document, "", &mut paths);
    // 5 of the interval, 1 of the host; 22 of the process, 3 heap, 1 + 2 × 6 allocations, 2 gc, 2 pauses, 2 × 5 pauses, 2 rejections, 2 deopts, 6 + 5 × 3 of the pool,
    // 2 sockets, 8 drains, 5 async contexts, 2 stdio, 2 × 5 streams; 2 more of the process, 7 of its start + 3 × 3 of packages, 3 compiled, 1 + 4 of logging, 2 of the memory of its group;
    // 2 threads × (3 + 9 + 4 stalls + 11 causes).
    assert_eq!(paths.len(), 6 + 109 + 28 + 54, "{paths:#?}");
    for path in paths {
        let mut renamed = document.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let object = renamed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let value = object.remove(key).unwrap();
        object.insert(format!("{key}_renamed"), value);
        assert!(!errors(&schema(), &renamed).is_empty(), "renaming {path} goes unnoticed");
    }
}

#[test]
fn who_allocates_has_a_share_and_its_bytes() {
    let interval = allocating();
    let (document, calm) = (document(&interval), document(&sample::interval(0, vec![sample::sick(301)])));
    let process = &document["processes"][0];
    assert_eq!(process["heap"]["allocated_bytes"], 80 * sample::MIB);
    let told = process["allocations"].as_array().unwrap().iter();
    let told: Vec<_> =
        told.map(|told| (told["function"].as_str(), told["line"].as_u64(), &told["bytes"])).collect();
    let bytes = [60, 20].map(|mib| Value::from(mib * sample::MIB));
    assert_eq!(
        told,
        [(Some("hashPassword"), Some(42), &bytes[0]), (Some("serializeCart"), Some(88), &bytes[1])]
    );
    assert_eq!(process["allocations"][0]["ratio"], 0.75);
    assert_eq!(calm["processes"][0]["allocations"], serde_json::json!([]));
    assert_eq!(calm["processes"][0]["heap"]["allocated_bytes"], Value::Null);
}

#[test]
fn values_are_those_of_the_interval() {
    let document = document(&sample::interval(0, vec![sample::sick(301)]));
    assert_eq!(document["time"], "2026-11-23T20:31:04.250Z");
    let process = &document["processes"][0];
    assert_eq!(process["signals"]["gc"], "ok");
    // 3 + 4 + 2 + 48 ms of pauses in one second.
    assert_eq!(process["gc"]["time_ratio"], 0.057);
    assert_eq!(process["gc"]["pauses"]["minor"]["count"], 3);
    assert_eq!(process["gc"]["pauses"]["major"]["max_s"], 0.048);
    assert_eq!(process["stdio"]["stdout"]["kind"], "tty");
    assert_eq!(process["stdio"]["stdout"]["blocked_s"], 0.214);
    assert_eq!(process["stdio"]["stderr"]["eagain"], 3);
    let event_loop = &process["threads"][0]["event_loop"];
    assert_eq!(event_loop["utilization"], 0.913);
    assert_eq!(event_loop["turns"], 100);
    assert_eq!(event_loop["turn_max_s"], 0.182);
    assert_eq!(event_loop["current_turn_s"], 0.012);
    assert_eq!(event_loop["current_turn_cause"], "on_cpu");
    let stalls = &event_loop["stalls"];
    assert_eq!((&stalls["count"], &stalls["time_s"]), (&json!(4), &json!(0.492)));
    let by_cause = stalls["by_cause"].as_object().unwrap();
    let total_s: f64 = by_cause.values().filter_map(Value::as_f64).sum();
    assert!((total_s - 0.492).abs() < 1e-9, "{by_cause:?}");
    assert_eq!((&by_cause["sync_io"], &by_cause["gc"]), (&json!(0.03), &json!(0.048)));
    // Buckets are 9 % wide.
    for (field, truth) in [("turn_p50_s", 0.002), ("turn_p99_s", 0.130)] {
        let value = event_loop[field].as_f64().unwrap();
        assert!((value / truth - 1.0).abs() < 0.09, "{field} is {value}");
    }
    assert_eq!(process["threads"][1]["kind"], "worker");
    assert_eq!(process["threads"][1]["event_loop"]["current_turn_s"], Value::Null);
}

#[test]
fn a_quiet_process_has_counts_of_zero_and_quantiles_of_null() {
    let document = document(&sample::interval(0, vec![sample::process(304, "mailer")]));
    let process = &document["processes"][0];
    let none = json!({ "count": 0, "time_s": 0.0, "p50_s": null, "p99_s": null, "max_s": null });
    assert_eq!(process["gc"]["pauses"], json!({ "minor": none, "major": none }));
    let event_loop = &process["threads"][0]["event_loop"];
    assert_eq!((&event_loop["stalls"]["count"], &event_loop["stalls"]["time_s"]), (&json!(0), &json!(0.0)));
    assert_eq!(event_loop["current_turn_cause"], Value::Null);
    assert_eq!(process["container_id"], Value::Null);
}

#[test]
fn a_signal_that_is_not_observed_reports_null_and_its_reason() {
    let process = sample::with_unavailable(sample::sick(301), Signal::Gc, "no symbols");
    let process = sample::with_unavailable(process, Signal::EventLoop, "no epoll");
    let process = sample::with_unavailable(process, Signal::Stdio, "no write");
    let document = document(&sample::interval(0, vec![process]));
    let process = &document["processes"][0];
    assert_eq!(process["signals"]["gc"], json!({ "unavailable": "no symbols" }));
    assert_eq!(process["signals"]["lifecycle"], "ok");
    assert_eq!(process["gc"]["time_ratio"], Value::Null);
    let unknown = json!({ "count": null, "time_s": null, "p50_s": null, "p99_s": null, "max_s": null });
    assert_eq!(process["gc"]["pauses"]["major"], unknown);
    // The kind comes from /proc and is known even so.
    let stdout = json!({ "kind": "tty", "bytes": null, "writes": null, "blocked_s": null, "eagain": null });
    assert_eq!(process["stdio"]["stdout"], stdout);
    assert_eq!(process["threads"][0]["event_loop"]["turns"], Value::Null);
    assert_eq!(process["threads"][0]["event_loop"]["stalls"]["count"], Value::Null);
}

#[test]
fn ndjson_is_one_line_per_interval_and_says_what_json_says() {
    let intervals = [everything(), sample::interval(1, Vec::new())];
    let lines = rendered(Format::Ndjson, &intervals);
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed, intervals.iter().map(document).collect::<Vec<_>>());
    let pretty = rendered(Format::Json, &intervals);
    let stream: Vec<Value> =
        serde_json::Deserializer::from_str(&pretty).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(stream, parsed);
}

#[test]
fn csv_has_one_header_and_one_row_per_thread() {
    let empty = sample::interval(0, Vec::new());
    let text = rendered(Format::Csv, &[empty, everything(), everything()]);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    // Two threads of the first process, one of the next two, none of the last, which has a row all the same.
    assert_eq!(rows.len(), 2 * (2 + 1 + 1 + 1));
    assert_eq!(&rows[0][column("gc_major_max_s")], "0.048");
    assert_eq!(&rows[1][column("tid")], "308");
    assert_eq!(&rows[1][column("thread_kind")], "worker");
    assert_eq!(&rows[2][column("name")], "@acme/mailer");
    assert_eq!(&rows[3][column("gc_minor_count")], "");
    assert_eq!(&rows[4][column("tid")], "");
    assert_eq!(text.matches("interval_s").count(), 1);
}

#[test]
fn the_text_table_is_aligned_and_free_of_escape_codes() {
    let text = rendered(Format::Text, &[everything()]);
    assert!(!text.contains('\u{1b}'));
    insta::assert_snapshot!(text);
}

#[test]
fn lost_events_are_named_in_the_text() {
    let mut interval = sample::interval(0, Vec::new());
    assert!(rendered(Format::Text, &[interval.clone()]).contains("lost events 0\n"));
    interval.lost.insert("ring_full", 12);
    assert!(rendered(Format::Text, &[interval]).contains("lost events 12\n  lost 12: ring_full\n"));
}

#[test]
fn hostile_names_stay_in_their_cell() {
    let hostile = format!("\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}{}\n\r\u{9b}1A", "x".repeat(10_000));
    let interval = sample::interval(0, vec![sample::process(1, &hostile), sample::process(2, "neighbour")]);
    for format in [Format::Text, Format::Csv, Format::Json, Format::Ndjson] {
        let text = rendered(format, std::slice::from_ref(&interval));
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert_eq!(text.chars().find(|c| harmful(*c)), None, "{format:?}");
        assert!(text.len() < 10_000, "{format:?}");
    }
    assert_eq!(rendered(Format::Text, &[interval]).lines().count(), 5);
}

#[test]
fn a_reader_that_has_gone_is_reported_as_a_broken_pipe() {
    let (reader, sink) = io::pipe().unwrap();
    let mut writer = Writer::new(Format::Ndjson, sink);
    writer.write(&sample::interval(0, Vec::new())).unwrap();
    drop(reader);
    let error = writer.write(&sample::interval(1, Vec::new())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn the_listing_names_every_signal_that_is_missing() {
    let interval = everything();
    let processes: Vec<_> = interval.processes.iter().map(sample::listed).collect();
    let mut text = Vec::new();
    ps(&processes, ListingFormat::Text, &mut text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap());

    let mut document = Vec::new();
    ps(&processes, ListingFormat::Json, &mut document).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["processes"][0]["signals"]["gc"], "ok");
    assert_eq!(
        document["processes"][2]["signals"]["gc"]["unavailable"],
        "the GC entry points are in no symbol table of /usr/bin/node"
    );
}

#[test]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = Writer::new(Format::Json, full).write(&everything()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_traced_stall_is_one_line_with_its_causes() {
    let process = sample::sick(301);
    let stall = sample::stall(&process, 0, 182 * sample::MS);
    let line = super::stall::StallLine::new(&stall, &sample::listed(&process));
    assert_eq!(
        line.render(),
        "2026-11-23T20:31:04.250Z      301 checkout-api  main     182.0 ms  sync_io 70% (fsync), on_cpu 20%, gc 10%"
    );
    let json = serde_json::to_value(&line).unwrap();
    assert_eq!(json["by_cause"]["sync_io"], 0.1274);
    assert_eq!(
        json["longest_sleep"],
        json!({ "duration_s": 0.091, "cause": "sync_io", "syscall": "fsync", "file": null })
    );
}

#[test]
fn a_traced_stall_says_when_its_causes_are_not_observed() {
    let process = sample::with_unavailable(sample::sick(301), Signal::Sched, "no tracepoint");
    let mut stall = sample::stall(&process, 0, 182 * sample::MS);
    (stall.tid, stall.startup, stall.lower_bound) = (308, true, true);
    stall.thread = crate::model::ThreadKind::Worker;
    let line = super::stall::StallLine::new(&stall, &sample::listed(&process));
    assert_eq!(
        line.render(),
        "2026-11-23T20:31:04.250Z      301 checkout-api  worker 308   >=182.0 ms  start-up  causes not observed"
    );
    let json = serde_json::to_value(&line).unwrap();
    assert_eq!((&json["by_cause"], &json["longest_sleep"]), (&Value::Null, &Value::Null));
}

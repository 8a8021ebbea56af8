#![expect(
    clippy::float_cmp,
    reason = "what is compared went through unchanged, or is a short binary fraction"
)]

use std::{collections::BTreeSet, time::SystemTime};

use super::*;
use crate::{
    export::{
        fixture::{MS, SECOND, at, blaming, process, snapshot, stall},
        otlp::{Overrides, config},
    },
    model::{
        Cause, Process, Stall, StreamKind, ThreadKind,
        catalog::{ALL, CULPRITS_MAX, most_series},
    },
};

fn page() -> Page {
    page_with(&Overrides::default())
}

fn page_with(overrides: &Overrides) -> Page {
    let host = config::HostFacts {
        name: Some("test-host".to_owned()),
        node: Some("test-node".to_owned()),
        ..config::HostFacts::default()
    };
    let resolved = config::resolve(&|_| None, overrides, host).unwrap();
    Page::new(&resolved.config, Arc::new(AgentCounters::default()))
}

fn scrape(page: &Page, time: SystemTime, processes: Vec<Process>) -> String {
    page.observe(&snapshot(time, processes));
    page.render(Format::Text)
}

/// The samples of a metric of which the labels have all of `parts`: labels and value.
fn samples<'a>(text: &'a str, name: &str, parts: &[&str]) -> Vec<(&'a str, f64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let pairs = lines.map(|line| line.rsplit_once("} ").unwrap());
    let wanted = pairs.filter(|(labels, _)| parts.iter().all(|part| labels.contains(part)));
    wanted.map(|(labels, value)| (labels, value.parse().unwrap())).collect()
}

fn value(text: &str, name: &str, parts: &[&str]) -> f64 {
    let found = samples(text, name, parts);
    assert_eq!(found.len(), 1, "{name} {parts:?}: {found:?}");
    found[0].1
}

/// The part of a line before its value.
fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

fn calling_itself_the_same(pid: u32, observed_s: u64) -> Process {
    let mut process = Process { observed_since: at(observed_s), ..process(pid) };
    let identity = Arc::make_mut(&mut process.identity);
    identity.service_name = "shop".to_owned();
    identity.service_instance_id = "1".to_owned();
    process
}

#[test]
fn every_metric_of_the_catalogue_is_on_the_page() {
    for format in Format::ALL {
        let page = page();
        page.observe(&blaming(at(60), vec![process(7)]));
        let text = page.render(format);
        for metric in ALL {
            let name = metric.prometheus_name();
            let sample = match metric.bounds_ns {
                [] => format!("\n{name}{{"),
                _ => format!("\n{name}_bucket{{"),
            };
            assert!(text.contains(&sample), "{name} is missing in {format:?}");
        }
    }
}

#[test]
fn a_process_and_the_agent_share_the_families_they_have_in_common() {
    let text = scrape(&page(), at(60), vec![process(7)]);
    assert_eq!(text.matches("# TYPE process_cpu_time_seconds_total ").count(), 1);
    assert_eq!(value(&text, "process_cpu_time_seconds_total", &["job=\"sales/shop-7\"", "\"user\""]), 7.0);
    assert_eq!(samples(&text, "process_cpu_time_seconds_total", &["job=\"nodeprobe\"", "\"user\""]).len(), 1);
    assert_eq!(value(&text, "nodeprobe_agent_events_lost_total", &["=\"ring_full\""]), 3.0);
    assert_eq!(value(&text, "nodeprobe_agent_processes", &[]), 1.0);
}

#[test]
fn the_resource_is_in_target_info_and_what_is_promoted_on_every_series() {
    let text = scrape(&page(), at(60), vec![process(7)]);
    let (info, one) = samples(&text, "target_info", &["job=\"sales/shop-7\""])[0];
    assert_eq!(one, 1.0);
    for label in ["instance=\"instance-7\"", "team=\"red\"", "process_pid=\"7\"", "host_name=\"test-host\""] {
        assert!(info.contains(label), "{label} is not in {info}");
    }
    assert!(!info.contains("service_name="), "job says it: {info}");
    let (labels, _) = samples(&text, "process_memory_usage_bytes", &["job=\"sales/shop-7\""])[0];
    let expected = "instance=\"instance-7\",job=\"sales/shop-7\",service_instance_id=\"instance-7\",\
                    service_name=\"shop-7\",service_namespace=\"sales\",service_version=\"1.2.3\"";
    assert_eq!(labels, expected);
}

#[test]
fn every_series_of_the_agent_names_its_host_and_node() {
    let text = scrape(&page(), at(60), vec![process(7)]);
    let of_agent: Vec<_> = series(&text).into_iter().filter(|s| s.contains("job=\"nodeprobe\"")).collect();
    assert!(of_agent.len() > 10, "{of_agent:?}");
    for series in of_agent {
        for label in ["host_name=\"test-host\"", "k8s_node_name=\"test-node\""] {
            assert_eq!(series.matches(label).count(), 1, "{label} in {series}");
        }
    }
}

#[test]
fn names_that_the_application_may_export_can_be_left_out_but_those_of_the_agent_stay() {
    let overrides = Overrides { semconv_metrics: Some("off".to_owned()), ..Overrides::default() };
    let text = scrape(&page_with(&overrides), at(60), vec![process(7)]);
    assert!(!text.contains("\nnodejs_") && !text.contains("\nv8js_"), "{text}");
    for (label, samples_of_it) in [("job=\"sales/shop-7\"", 0), ("job=\"nodeprobe\"", 1)] {
        assert_eq!(samples(&text, "process_memory_usage_bytes", &[label]).len(), samples_of_it, "{label}");
    }
    assert_eq!(samples(&text, "nodeprobe_heap_used_bytes", &["job=\"sales/shop-7\""]).len(), 1);
}

#[test]
fn a_process_that_ended_is_told_once_more_and_then_never() {
    let page = page();
    let of_seven = |text: &str| text.matches("shop-7\"").count();
    assert!(of_seven(&scrape(&page, at(60), vec![process(7), process(9)])) > 0);
    let mut last = process(7);
    last.exited = true;
    last.threads[0].busy_ns += SECOND;
    page.observe(&snapshot(at(75), vec![last, process(9)]));
    // The snapshots go on, whoever asks for them.
    page.observe(&snapshot(at(90), vec![process(9)]));
    let farewell = page.render(Format::Text);
    let busy = ["shop-7\"", "\"active\"", "\"main\""];
    assert_eq!(value(&farewell, "nodejs_eventloop_time_seconds_total", &busy), 4.0);
    let text = scrape(&page, at(105), vec![process(9)]);
    assert_eq!(of_seven(&text), 0, "{text}");
    assert!(text.contains("shop-9\""));
}

#[test]
fn last_values_that_nobody_scraped_are_given_up_after_five_minutes() {
    let page = page();
    page.observe(&snapshot(at(60), vec![Process { exited: true, ..process(7) }]));
    page.observe(&snapshot(at(60 + 299), vec![]));
    assert_eq!(page.lock().totals.processes().count(), 1);
    page.observe(&snapshot(at(60 + 301), vec![]));
    assert_eq!(page.lock().totals.processes().count(), 0);
}

#[test]
fn processes_that_call_themselves_the_same_are_told_apart_by_pid() {
    let page = page();
    let (young, old) = (calling_itself_the_same(7, 20), calling_itself_the_same(9, 10));
    let text = scrape(&page, at(60), vec![young.clone(), old]);
    let all: Vec<&str> = series(&text);
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "no series twice");
    let rss = samples(&text, "process_memory_usage_bytes", &["instance=\"1\""]);
    assert_eq!(rss.len(), 2);
    let marked: Vec<_> = rss.iter().filter(|(labels, _)| labels.contains("process_pid=")).collect();
    assert!(marked.len() == 1 && marked[0].0.contains("process_pid=\"7\""), "the older one keeps its series");
    // The label stays when the other process has gone: series do not change under their readers.
    page.observe(&snapshot(at(75), vec![young.clone()]));
    page.render(Format::Text);
    let text = scrape(&page, at(90), vec![young]);
    let rss = samples(&text, "process_memory_usage_bytes", &["instance=\"1\""]);
    assert!(rss.len() == 1 && rss[0].0.contains("process_pid=\"7\""), "{rss:?}");
}

#[test]
fn a_pid_that_was_given_again_has_one_set_of_series() {
    let page = page();
    let holder = calling_itself_the_same(9, 0);
    let first = Process { exited: true, ..calling_itself_the_same(7, 20) };
    let mut second = calling_itself_the_same(7, 30);
    second.id.start_ticks += 1;
    let text = scrape(&page, at(60), vec![holder, first, second]);
    let all = series(&text);
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "no series twice");
}

#[test]
fn utilization_is_that_between_two_scrapes() {
    let page = page();
    let name = "nodejs_eventloop_utilization_ratio";
    let main = ["shop-7\"", "\"main\""];
    assert_eq!(value(&scrape(&page, at(60), vec![process(7)]), name, &main), 0.75);
    let mut idle = process(7);
    idle.threads[0].idle_ns += 2 * SECOND;
    assert_eq!(value(&scrape(&page, at(62), vec![idle.clone()]), name, &main), 0.0);
    assert_eq!(samples(&scrape(&page, at(62), vec![idle]), name, &main).len(), 0, "no time passed");
}

/// A process as it comes to have every series there is: every kind of stream, stalls led by every cause, too many culprits.
fn with_everything(page: &Page, threads: &[ThreadKind]) -> usize {
    let mut subject = process(7);
    subject.threads.truncate(threads.len());
    // Connected to nothing that is known, and then to one kind after the other.
    let kinds = [StreamKind::File, StreamKind::Pipe, StreamKind::Tty, StreamKind::Socket].map(Some);
    for (kind, time_s) in [None].into_iter().chain(kinds).zip(60..) {
        for stream in [&mut subject.stdout, &mut subject.stderr] {
            stream.kind = kind;
            stream.writes += 1;
        }
        page.observe(&snapshot(at(time_s), vec![subject.clone()]));
    }
    let led_by = |thread, cause| Stall {
        causes: [(cause, 200 * MS)].into_iter().collect(),
        culprit: None,
        ..stall(&subject, thread, "")
    };
    let led = threads.iter().flat_map(|thread| Cause::ALL.map(|cause| led_by(*thread, cause)));
    let blamed = threads.iter().flat_map(|thread| {
        (0..=CULPRITS_MAX).map(|number| stall(&subject, *thread, &format!("handler{number}")))
    });
    let stalls = led.chain(blamed).collect();
    page.observe(&Snapshot { stalls, ..snapshot(at(70), vec![subject.clone()]) });
    let text = page.render(Format::Text);
    let all: Vec<&str> = series(&text).into_iter().filter(|series| series.contains("instance-7")).collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "no series twice");
    all.iter().filter(|series| !series.starts_with("target_info")).count()
}

#[test]
fn a_process_with_everything_has_as_many_series_as_is_documented() {
    let both = [ThreadKind::Main, ThreadKind::Worker];
    let counted = [&both[..1], &both[..]].map(|threads| with_everything(&page(), threads));
    assert_eq!(counted, [most_series(1), most_series(2)]);
    let [main, both] = counted;
    let documented = include_str!("../../../../../docs/metrics.md");
    let sentence = format!(
        "A process has at most {main} series in Prometheus, and {both} if it ever had worker threads"
    );
    assert!(documented.contains(&sentence), "{sentence}");
}

#[test]
fn a_culprit_has_labels_of_its_function_and_file_and_the_others_one_that_says_so() {
    let page = page();
    let name = "nodeprobe_eventloop_stall_culprit_time_seconds_total";
    page.observe(&snapshot(at(60), vec![process(7)]));
    assert_eq!(samples(&page.render(Format::Text), name, &[]).len(), 0, "nobody is to blame");
    page.observe(&blaming(at(61), vec![process(7)]));
    let blamed = [
        "shop-7\"",
        "nodeprobe_thread_type=\"main\"",
        "code_function_name=\"hash\"",
        "code_file_path=\"/srv/shop/auth.js\"",
    ];
    assert_eq!(value(&page.render(Format::Text), name, &blamed), 0.2);
    let hostile = |number| stall(&process(7), ThreadKind::Main, &format!("\"}} {number}\nup{{\\"));
    let stalls = (0..50).map(hostile).collect();
    page.observe(&Snapshot { stalls, ..snapshot(at(62), vec![process(7)]) });
    let text = page.render(Format::Text);
    assert_eq!(value(&text, name, &["code_function_name=\"\\\"} 7\u{fffd}up{\\\\\""]), 0.2);
    // One of the twenty is `hash`, so 31 of 50 are left.
    let (labels, rest) = samples(&text, name, &["otel_metric_overflow=\"true\""])[0];
    assert!((rest - 31.0 * 0.2).abs() < 1e-9 && !labels.contains("code_"), "{labels} {rest}");
    assert_eq!(samples(&text, name, &[]).len(), CULPRITS_MAX + 1);
}

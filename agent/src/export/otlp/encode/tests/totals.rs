//! What is added up, from one snapshot to the next and from one export to the next.

use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data};

use super::{
    CpuPeriods, Exporter, Process, State, StreamKind, Temporality, ThreadKind, attribute,
    fixture::{MS, SECOND, at, blaming, busy_thread, process, snapshot, stall, synchronous, thread, turns},
    labels, point, points,
};
use crate::model::{Snapshot, catalog::CULPRITS_MAX};

#[test]
fn cumulative_values_count_from_the_begin_of_observation() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    exporter.export_one(at(60), process(7), true);
    let mut later = process(7);
    later.threads[0].turns = turns(&[2 * MS, 30 * MS, 200 * MS, 5 * MS]);
    later.threads[0].busy_ns = 4 * SECOND;
    let encoded = exporter.export_one(at(75), later, true);
    let turns = point(&encoded, "nodeprobe.eventloop.iteration.duration", &["main"]);
    assert_eq!((turns.count, turns.start_s, turns.end_s, turns.max), (4, 10, 75, None));
    assert!((turns.value - 0.237).abs() < 1e-9);
    assert_eq!(turns.temporality, Some(AggregationTemporality::Cumulative));
    let active = point(&encoded, "nodejs.eventloop.time", &["main", "active"]);
    assert_eq!((active.value, active.start_s), (4.0, 10));
    // CPU time is that of the whole life of the process, and so is its start.
    let cpu = point(&encoded, "process.cpu.time", &["user"]);
    assert_eq!((cpu.value, cpu.start_s), (7.0, 0));
    assert_eq!(point(&encoded, "process.uptime", &[]).value, 75.0);
}

#[test]
fn answers_were_followed_on_a_process_no_longer_than_it_was_observed() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let followed = |exporter: &mut Exporter, seconds, seen_s, pids: &[u32]| -> Vec<f64> {
        let mut taken = snapshot(at(seconds), pids.iter().map(|pid| process(*pid)).collect());
        taken.answers_seen_ns = seen_s * SECOND;
        let encoded = exporter.export_snapshot(&taken, true);
        let told = encoded.iter().map(|one| point(one, "nodeprobe.async_context.observed.time", &[]).value);
        told.collect()
    };
    // Observed since 10 s, by an agent that had followed for 30 s before.
    assert_eq!(followed(&mut exporter, 15, 33, &[7]), [5.0]);
    assert_eq!(followed(&mut exporter, 20, 34, &[7]), [6.0]);
    assert_eq!(followed(&mut exporter, 40, 34, &[7]), [6.0]);
    assert_eq!(followed(&mut exporter, 60, 36, &[7]), [8.0]);
}

#[test]
fn counts_of_a_thread_that_ended_stay_in_the_sums_of_its_process() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    exporter.export_one(at(20), process(7), true);
    let mut ended = process(7);
    ended.threads[1].turns = turns(&[2 * MS, 30 * MS, 200 * MS, MS, MS]);
    ended.threads[1].exited = true;
    ended.threads[1].current_turn_ns = None;
    let at_end = exporter.export_one(at(30), ended.clone(), true);
    // Shown twice by mistake, it still counts once.
    exporter.export_one(at(35), ended.clone(), true);
    ended.threads.truncate(1);
    let after = exporter.export_one(at(40), ended.clone(), true);
    for name in ["nodeprobe.eventloop.iteration.duration", "nodeprobe.eventloop.stall.duration"] {
        let (end, after) = (point(&at_end, name, &["worker"]), point(&after, name, &["worker"]));
        assert_eq!((end.count, end.value), (after.count, after.value), "{name}");
    }
    assert_eq!(point(&after, "nodeprobe.eventloop.iteration.duration", &["worker"]).count, 5);
    assert_eq!(point(&after, "v8js.gc.duration", &["minor"]).count, 4);
    assert_eq!(point(&after, "nodejs.eventloop.time", &["worker", "idle"]).value, 1.0);
    assert_eq!(point(&after, "nodeprobe.eventloop.iteration.age", &["worker"]).value, 0.0);
    // A new worker with the same tid begins at zero and is added.
    let mut reused = busy_thread(8, ThreadKind::Worker);
    reused.observed_ns = 99;
    ended.threads.push(reused);
    let again = exporter.export_one(at(50), ended, true);
    assert_eq!(point(&again, "nodeprobe.eventloop.iteration.duration", &["worker"]).count, 5 + 3);
}

#[test]
fn threads_of_one_kind_are_summed_and_utilization_is_weighted_by_time() {
    let mut busy = thread(11, ThreadKind::Worker);
    (busy.busy_ns, busy.idle_ns) = (9 * SECOND, 0);
    let mut idle = thread(12, ThreadKind::Worker);
    (idle.busy_ns, idle.idle_ns) = (0, SECOND);
    let mut subject = process(7);
    subject.threads = vec![thread(7, ThreadKind::Main), busy, idle];
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let encoded = exporter.export_one(at(20), subject.clone(), true);
    assert_eq!(point(&encoded, "nodejs.eventloop.utilization", &["worker"]).value, 0.9);
    assert_eq!(points(&encoded, "nodejs.eventloop.utilization", &["main"]), []);
    assert_eq!(point(&encoded, "nodejs.eventloop.time", &["worker", "active"]).value, 9.0);
    // The next interval: only what came since.
    subject.threads[2].idle_ns += 3 * SECOND;
    subject.threads[1].busy_ns += SECOND;
    let encoded = exporter.export_one(at(30), subject, true);
    assert_eq!(point(&encoded, "nodejs.eventloop.utilization", &["worker"]).value, 0.25);
}

#[test]
fn waits_for_a_processor_count_since_the_begin_of_observation() {
    let value =
        |encoded: &_, name: &str, labels: &[&str]| points(encoded, name, labels).first().map(|p| p.value);
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let first = exporter.export_one(at(20), process(7), true);
    let wait = point(&first, "nodeprobe.cpu.wait.time", &[]);
    assert_eq!((wait.value, wait.start_s), (0.0, 10), "the 5 s were before it was observed");
    assert_eq!(point(&first, "nodeprobe.cpu.throttled.time", &[]).value, 3.0);
    let mut later = process(7);
    later.run_delay_ns = Some(7 * SECOND);
    later.cpu_throttled_ns = Some(4 * SECOND);
    later.cpu_periods = Some(CpuPeriods { elapsed: 150, throttled: 41 });
    let told = exporter.export_one(at(30), later.clone(), true);
    assert_eq!(value(&told, "nodeprobe.cpu.wait.time", &[]), Some(2.0));
    assert_eq!(value(&told, "nodeprobe.cpu.throttled.time", &[]), Some(4.0));
    assert_eq!(value(&told, "nodeprobe.cpu.quota.periods", &["throttled"]), Some(41.0));
    assert_eq!(value(&told, "nodeprobe.cpu.quota.periods", &["unthrottled"]), Some(109.0));
    // It has gone, and with it what tells of it.
    (later.run_delay_ns, later.cpu_throttled_ns, later.cpu_periods) = (None, None, None);
    let gone = exporter.export_one(at(40), later, true);
    for (name, labels) in [
        ("nodeprobe.cpu.wait.time", &[][..]),
        ("nodeprobe.cpu.throttled.time", &[]),
        ("nodeprobe.cpu.quota.periods", &["throttled"]),
    ] {
        assert_eq!(value(&gone, name, labels), value(&told, name, labels), "{name}");
    }
}

#[test]
fn waits_of_a_process_seen_from_its_start_count_from_there_and_without_a_quota_there_are_no_periods() {
    let mut young = process(7);
    young.started = young.observed_since;
    young.cpu_periods = Some(CpuPeriods::default());
    let encoded = Exporter::new(Temporality::Delta).export_one(at(20), young, true);
    assert_eq!(point(&encoded, "nodeprobe.cpu.wait.time", &[]).value, 5.0);
    assert_eq!(points(&encoded, "nodeprobe.cpu.quota.periods", &[]), []);
    let mut unknown = process(7);
    (unknown.run_delay_ns, unknown.cpu_throttled_ns, unknown.cpu_periods) = (None, None, None);
    let encoded = Exporter::new(Temporality::Cumulative).export_one(at(20), unknown, true);
    for name in ["nodeprobe.cpu.wait.time", "nodeprobe.cpu.throttled.time", "nodeprobe.cpu.quota.periods"] {
        assert_eq!(points(&encoded, name, &[]), [], "{name}");
    }
}

#[test]
fn delta_points_hold_what_came_since_the_last_accepted_export() {
    let mut exporter = Exporter::new(Temporality::Delta);
    let first = exporter.export_one(at(20), process(7), true);
    let stall = point(&first, "nodeprobe.eventloop.stall.duration", &["main"]);
    assert_eq!((stall.count, stall.start_s, stall.end_s), (1, 10, 20));
    assert_eq!(stall.temporality, Some(AggregationTemporality::Delta));
    assert_eq!(stall.max, Some(0.2), "the maximum of an interval is known");
    let quiet = exporter.export_one(at(35), process(7), true);
    let stall = point(&quiet, "nodeprobe.eventloop.stall.duration", &["main"]);
    assert_eq!((stall.count, stall.value, stall.start_s, stall.end_s), (0, 0.0, 20, 35));
    assert_eq!(stall.max, None);
    assert_eq!(point(&quiet, "nodeprobe.stdio.io", &["stdout"]).value, 0.0);
    // Sizes are no differences, whatever the preference.
    let heap = point(&quiet, "nodeprobe.heap.used", &[]);
    assert_eq!(heap.value, f64::from(40 << 20));
    assert_eq!(heap.temporality, Some(AggregationTemporality::Cumulative));
}

#[test]
fn a_delta_that_was_not_accepted_is_merged_into_the_next() {
    let mut exporter = Exporter::new(Temporality::Delta);
    exporter.export_one(at(20), process(7), true);
    let mut second = process(7);
    second.threads[0].stalls = turns(&[200 * MS, 900 * MS]);
    second.threads[0].stall_causes = synchronous(1100 * MS, 150 * MS);
    second.stdout.bytes += 100;
    exporter.export_one(at(35), second.clone(), false);
    second.threads[0].stalls = turns(&[200 * MS, 900 * MS, 60 * MS]);
    second.threads[0].stall_causes = synchronous(1160 * MS, 200 * MS);
    second.stdout.bytes += 11;
    let merged = exporter.export_one(at(50), second.clone(), true);
    let stalls = point(&merged, "nodeprobe.eventloop.stall.duration", &["main"]);
    assert_eq!((stalls.count, stalls.start_s, stalls.end_s, stalls.max), (2, 20, 50, Some(0.9)));
    assert!((stalls.value - 0.96).abs() < 1e-9);
    for (cause, expected_s) in [("on_cpu", 0.91), ("sync_io", 0.05), ("gc", 0.0)] {
        let time = point(&merged, "nodeprobe.eventloop.stall.time", &["main", cause]);
        assert!((time.value - expected_s).abs() < 1e-9, "{cause}: {time:?}");
    }
    assert_eq!(point(&merged, "nodeprobe.stdio.io", &["stdout"]).value, 111.0);
    let next = exporter.export_one(at(65), second, true);
    assert_eq!(point(&next, "nodeprobe.eventloop.stall.duration", &["main"]).count, 0);
}

#[test]
fn the_first_delta_of_cpu_time_leaves_out_what_was_spent_before_observation() {
    let mut late = process(7);
    let mut exporter = Exporter::new(Temporality::Delta);
    let first = exporter.export_one(at(20), late.clone(), true);
    assert_eq!(point(&first, "process.cpu.time", &["user"]).value, 0.0);
    late.cpu.as_mut().unwrap().user_ns += SECOND;
    let second = exporter.export_one(at(30), late, true);
    let cpu = point(&second, "process.cpu.time", &["user"]);
    assert_eq!((cpu.value, cpu.start_s, cpu.end_s), (1.0, 20, 30));
    // Observed from its start: all of it counts.
    let mut early = process(8);
    early.observed_since = at(0);
    let first = Exporter::new(Temporality::Delta).export_one(at(20), early, true);
    assert_eq!(point(&first, "process.cpu.time", &["user"]).value, 7.0);
}

#[test]
fn lowmemory_means_delta_histograms_and_cumulative_counters() {
    let mut exporter = Exporter::new(Temporality::LowMemory);
    exporter.export_one(at(20), process(7), true);
    let encoded = exporter.export_one(at(30), process(7), true);
    let stalls = point(&encoded, "nodeprobe.eventloop.stall.duration", &["main"]);
    assert_eq!((stalls.count, stalls.temporality), (0, Some(AggregationTemporality::Delta)));
    let time = point(&encoded, "nodeprobe.eventloop.stall.time", &["main", "sync_io"]);
    assert_eq!((time.value, time.start_s), (0.15, 10));
    assert_eq!(time.temporality, Some(AggregationTemporality::Cumulative));
}

#[test]
fn a_process_that_ended_is_exported_once_more_and_then_never() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    exporter.export(at(20), vec![process(7), process(100)], true);
    let mut ended = process(7);
    ended.exited = true;
    (ended.rss_bytes, ended.cpu) = (None, None);
    ended.threads[0].busy_ns += SECOND;
    let last = exporter.export(at(30), vec![ended, process(100)], true);
    assert_eq!(last.len(), 2);
    assert_eq!(point(&last[0], "nodejs.eventloop.time", &["main", "active"]).value, 4.0);
    assert_eq!(point(&last[0], "process.cpu.time", &["user"]).value, 7.0, "the last value known");
    let after = exporter.export(at(40), vec![process(100)], true);
    assert_eq!(after.len(), 1);
    assert_eq!(attribute(&after[0], "service.name").as_deref(), Some("shop-100"));
}

#[test]
fn the_last_point_waits_for_a_collector_that_accepts_it() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    exporter.export(at(20), vec![process(7)], true);
    let mut ended = process(7);
    ended.exited = true;
    exporter.export(at(30), vec![ended], false);
    let second_try = exporter.export(at(45), vec![], true);
    assert_eq!(point(&second_try[0], "process.uptime", &[]).end_s, 30, "with the time it was read at");
    assert!(exporter.export(at(60), vec![], true).is_empty());
}

#[test]
fn a_process_that_left_without_a_farewell_is_exported_once_more() {
    let mut exporter = Exporter::new(Temporality::Delta);
    exporter.export(at(20), vec![process(7)], false);
    assert_eq!(exporter.export(at(30), vec![], true).len(), 1);
    assert!(exporter.export(at(40), vec![], true).is_empty());
}

#[test]
fn a_pid_that_comes_back_is_another_resource_with_its_own_sums() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let mut ended = process(7);
    ended.exited = true;
    exporter.export(at(20), vec![ended], false);
    let mut second = process(7);
    second.id.start_ticks = 5000;
    second.observed_since = at(25);
    let both = exporter.export(at(30), vec![second], true);
    let starts: Vec<u64> =
        both.iter().map(|r| point(r, "nodeprobe.eventloop.stall.duration", &["main"]).start_s).collect();
    assert_eq!(starts, [10, 25]);
    assert_eq!(point(&both[1], "nodeprobe.eventloop.stall.duration", &["main"]).count, 1);
}

#[test]
fn ended_processes_that_no_collector_takes_are_bounded() {
    let mut state = State::new(Temporality::Cumulative);
    let ended = (1..=1200).map(|pid| Process { exited: true, ..process(pid) }).collect();
    assert_eq!(state.observe(&snapshot(at(30), ended)), 1200 - 1024);
    assert_eq!(state.processes().count(), 1024);
}

#[test]
fn bytes_belong_to_what_the_stream_was_when_they_were_written() {
    let mut exporter = Exporter::new(Temporality::Cumulative);
    let mut subject = process(7);
    exporter.export_one(at(20), subject.clone(), true);
    subject.stdout.kind = Some(StreamKind::File);
    subject.stdout.bytes += 10;
    let moved = exporter.export_one(at(30), subject.clone(), true);
    assert_eq!(point(&moved, "nodeprobe.stdio.io", &["stdout", "pipe"]).value, 4096.0);
    assert_eq!(point(&moved, "nodeprobe.stdio.io", &["stdout", "file"]).value, 10.0);
    subject.stdout.kind = None;
    subject.stdout.bytes += 1;
    let closed = exporter.export_one(at(40), subject, true);
    assert_eq!(point(&closed, "nodeprobe.stdio.io", &["stdout", "file"]).value, 11.0);
    assert_eq!(points(&closed, "nodeprobe.stdio.io", &["unknown"]), []);
}

#[test]
fn stalled_time_is_told_by_culprit_for_as_long_as_the_process_lives() {
    const NAME: &str = "nodeprobe.eventloop.stall.culprit.time";
    let mut exporter = Exporter::new(Temporality::Cumulative);
    assert_eq!(points(&exporter.export_one(at(20), process(7), true), NAME, &[]), [], "nobody is to blame");
    let blamed = exporter.export_snapshot(&blaming(at(30), vec![process(7), process(100)]), true);
    let wanted = ["main", "hash", "/srv/shop/auth.js"];
    for of_one in &blamed {
        let time = point(of_one, NAME, &wanted);
        assert_eq!((time.value, time.start_s, time.end_s), (0.2, 10, 30), "its own stall, and no other's");
        assert_eq!(time.temporality, Some(AggregationTemporality::Cumulative));
    }
    let ended = Process { exited: true, ..process(7) };
    let last = exporter.export(at(40), vec![ended], true);
    assert_eq!(point(&last[0], NAME, &wanted).value, 0.2);
}

#[test]
fn culprits_beyond_the_limit_are_one_series_that_says_so() {
    const NAME: &str = "nodeprobe.eventloop.stall.culprit.time";
    let mut exporter = Exporter::new(Temporality::Delta);
    let of = |number: usize| stall(&process(7), ThreadKind::Main, &format!("handler{number}"));
    let stalls = (0..=CULPRITS_MAX + 4).map(of).collect();
    let snapshot_of = |time, stalls| Snapshot { stalls, ..snapshot(time, vec![process(7)]) };
    let first = exporter.export_snapshot(&snapshot_of(at(20), stalls), true).remove(0);
    assert_eq!(points(&first, NAME, &[]).len(), CULPRITS_MAX + 1);
    // A boolean and nothing else, as in every SDK.
    let overflow = |of: &_| point(of, NAME, &["Some(BoolValue(true))"]).value;
    assert_eq!(overflow(&first), 1.0, "five of 200 ms");
    let metric = first.scope_metrics[0].metrics.iter().find(|metric| metric.name == NAME).unwrap();
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    let keys: Vec<_> = sum.data_points.iter().map(|point| labels(&point.attributes)).collect();
    assert_eq!(
        keys.iter().filter(|labels| labels[0].0 == "otel.metric.overflow" && labels.len() == 1).count(),
        1
    );
    // In each interval the same ones have a series of their own, or a process would have any number in a day.
    let second =
        exporter.export_snapshot(&snapshot_of(at(35), vec![of(3), of(CULPRITS_MAX + 9)]), true).remove(0);
    assert_eq!(points(&second, NAME, &[]).len(), CULPRITS_MAX + 1);
    assert_eq!(
        (point(&second, NAME, &["handler3"]).value, point(&second, NAME, &["handler4"]).value),
        (0.2, 0.0)
    );
    assert_eq!(overflow(&second), 0.2);
}

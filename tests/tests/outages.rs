//! A Collector that is away for ten minutes costs the agent no memory, and nobody a total.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use nodeprobe_tests::{
    Node, Workload, assert_within,
    chain::{ARRIVAL, Chain},
    load::Load,
    node::target_tmp,
    on_one_node,
    resources::{Resources, median},
    skip::skip,
    trace_gc,
    wait::{eventually, observe_for},
    workload::{duration_s, number},
};
use tempfile::TempDir;

on_one_node!(Node::of_major(24) => a_collector_that_is_away_for_ten_minutes_costs_neither_memory_nor_totals);

const SECOND: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(30);
/// Blocks of a second are stalls; a turn that waits for a processor of a busy machine is none.
const STALL_THRESHOLD: &str = "800ms";
const BLOCK_MS: &str = "1000";
/// How long the Collector is away.
const OUTAGE: Duration = Duration::from_mins(10);
/// In which the agent gets to know the processes, and then how far its memory wanders while everything works.
const WARM_UP: Duration = Duration::from_secs(75);
const QUIET: Duration = Duration::from_mins(1);
const BLOCK_EVERY: Duration = Duration::from_secs(5);
const PASSER_EVERY: Duration = Duration::from_mins(1);
/// Of what an export holds only the totals may be kept. An export of these processes is more than 20 kB, and there are 600 in the
/// outage: keeping them would be 12 MB. The last values of ten processes that ended are kept, and processes of others that begin
/// on this host meanwhile are observed: this is a third of it.
const GROWTH_KIB: u64 = 4096;
/// From the second minute of the outage to the last one: what grows with time is none of a beginning.
const LATE_GROWTH_KIB: u64 = 2048;
const VISITS_PER_S: f64 = 20.0;

/// A name that no other test on this host gives.
fn named(service: &str) -> String {
    format!("{service}-{}", std::process::id())
}

/// A metric of a service.
fn of(metric: &str, service: &str) -> String {
    format!("{metric}{{service_name=\"{}\"}}", named(service))
}

/// Processes whose work is known, during an outage.
struct Service {
    blocks: Workload,
    visits: Workload,
    _load: Load,
    passers: Vec<Workload>,
    next_block: Instant,
    next_passer: Option<Instant>,
}

impl Service {
    fn start(node: &Node, trace: &Path) -> Self {
        let blocks = Workload::plan(node, "block.js").args(["main", BLOCK_MS, "1"]);
        let blocks = blocks.env("OTEL_SERVICE_NAME", named("blocks")).start();
        let visits = Workload::plan(node, "failure-modes/unhandled-rejections.js").flag("--trace-gc");
        let visits = visits
            .env("OTEL_SERVICE_NAME", named("visits"))
            .stdout(File::create(trace).expect("a file can be made"))
            .start();
        blocks.wait_for("ready");
        let port = number(&visits.wait_for("ready"), "port") as u16;
        let load = Load::start(port, "/page", VISITS_PER_S, 1);
        Self {
            blocks,
            visits,
            _load: load,
            passers: Vec::new(),
            next_block: Instant::now(),
            next_passer: None,
        }
    }

    /// Does what is due.
    fn go_on(&mut self, node: &Node) {
        let now = Instant::now();
        if now >= self.next_block {
            self.next_block = now + BLOCK_EVERY;
            self.blocks.go();
        }
        if self.next_passer.is_some_and(|next| now >= next) {
            self.next_passer = Some(now + PASSER_EVERY);
            let passer = Workload::plan(node, "short-lived.js").args(["2000"]);
            self.passers.push(passer.env("OTEL_SERVICE_NAME", named("passers")).start());
        }
    }
}

/// Samples of the agent's memory each second for a while, in which the service goes on.
fn watched(
    chain: &Chain,
    service: &mut Service,
    node: &Node,
    duration: Duration,
    what: &str,
) -> Vec<Resources> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    let mut progress = began + PROGRESS;
    while began.elapsed() < duration {
        service.go_on(node);
        let now = chain.resources();
        samples.push(now);
        if Instant::now() >= progress {
            progress += PROGRESS;
            let Resources { rss_kib, anonymous_kib, descriptors, threads } = now;
            let elapsed = began.elapsed().as_secs();
            eprintln!(
                "  {what} {elapsed} s: RSS {rss_kib} KiB, anonymous {anonymous_kib} KiB, {descriptors} descriptors, {threads} threads"
            );
        }
        observe_for(SECOND);
    }
    samples
}

fn a_collector_that_is_away_for_ten_minutes_costs_neither_memory_nor_totals(node: &Node) {
    let settings = [("NODEPROBE_STALL_THRESHOLD", STALL_THRESHOLD)];
    let Ok(mut chain) = Chain::with_collector(&settings).map_err(|reason| skip(&reason)) else { return };
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let trace = directory.path().join("trace");
    // What starts after it is observed from its first instruction on.
    let _known = Workload::idle(node);
    chain.wait_for("process_uptime_seconds{service_name=\"idle\"}");
    let mut service = Service::start(node, &trace);
    // Its first block comes with the others: until here only the start can have been a stall.
    service.next_block += ARRIVAL * 60;
    chain.wait_for(&of("process_uptime_seconds", "blocks"));
    chain.wait_for(&format!("{} > 40", of("nodeprobe_promise_unhandled_rejections_total", "visits")));
    let stalls = of("nodeprobe_eventloop_stall_duration_seconds_count", "blocks");
    let stalled = of("nodeprobe_eventloop_stall_duration_seconds_sum", "blocks");
    let (stalls_before, stalled_before) = (chain.sum(&stalls), chain.sum(&stalled));
    service.next_block = Instant::now();

    watched(&chain, &mut service, node, WARM_UP, "warming up");
    let before = watched(&chain, &mut service, node, QUIET, "with the Collector");
    let (log_before, blocks_before) = (chain.daemon.stderr(), service.blocks.notes("block").len());
    chain.receiver.kill();
    service.next_passer = Some(Instant::now());
    let during = watched(&chain, &mut service, node, OUTAGE, "without the Collector");
    let log = chain.daemon.stderr()[log_before.len()..].to_owned();
    eprintln!("  the log of the outage:\n{log}");
    service.next_passer = None;
    let passed = service.passers.len();
    chain.receiver.restart();
    eventually(&format!("word of the Collector's return; {}", chain.daemon.stderr()), ARRIVAL, || {
        chain.daemon.stderr().contains("accepts exports again").then_some(())
    });

    // Told when it begins, and not each second.
    let port = chain.receiver.grpc_port().to_string();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(&port)).collect();
    assert_eq!(told.len(), 1, "lines about the Collector in {OUTAGE:?}: {log}");
    let complaints = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    assert_eq!(complaints.count(), 1, "the log floods: {log}");

    let Service { blocks, mut visits, _load: load, mut passers, .. } = service;
    drop(load);
    for passer in &mut passers {
        assert!(passer.wait(ARRIVAL).success(), "a process that passed failed");
    }
    let blocked = blocks.notes("block");
    assert!(blocked.len() - blocks_before > 60, "{} blocks in the outage", blocked.len() - blocks_before);
    chain.assert_arrives("stalls, with those of the start", &stalls, || {
        stalls_before + blocks.notes("block").len() as f64
    });
    // A turn begins a little before its block and ends a little after it.
    let (told_s, true_s) = (chain.sum(&stalled) - stalled_before, duration_s(&blocks.notes("block")));
    eprintln!("  seconds in stalls: {true_s:.3} by Node, {told_s:.3} in Prometheus");
    assert_within(told_s, true_s, 0.05 * true_s, "seconds in stalls");
    visits.say("report");
    let rejected = number(&visits.wait_for("report"), "unhandled_rejections");
    let rejections = of("nodeprobe_promise_unhandled_rejections_total", "visits");
    assert!(rejected > 0.5 * VISITS_PER_S * OUTAGE.as_secs_f64(), "{rejected} rejections only");
    chain.assert_arrives("unhandled rejections", &rejections, || rejected);
    let collections = of("v8js_gc_duration_seconds_count", "visits");
    chain.assert_arrives("collections, by --trace-gc", &collections, || {
        trace_gc::parse(&fs::read_to_string(&trace).expect("the trace is there")).len() as f64
    });
    // Processes that began and ended while nobody took their values.
    let passers = of("process_uptime_seconds", "passers");
    let passers = format!("count(count by (service_instance_id) (last_over_time({passers}[20m])))");
    chain.assert_arrives("processes that began and ended meanwhile", &passers, || passed as f64);
    // What it said before the outage is too long ago for Prometheus, and it tells of itself in an export of its own.
    let failed = "nodeprobe_agent_exports_total{nodeprobe_export_outcome=\"failure\"} > 20";
    chain.wait_for(failed);
    // Others may run on this host, and be lost in their own ways.
    let reasons = "nodeprobe_lost_reason=~\"ring_full|thread_table_full|exit_not_exported\"";
    let lost = chain.ask(&format!("nodeprobe_agent_events_lost_total{{{reasons}}} > 0"));
    assert!(lost.is_empty(), "{lost:?}");

    // The last, so that the rest is known when this fails.
    for (what, of) in [
        ("RSS", (|sample| sample.rss_kib) as fn(&Resources) -> u64),
        ("anonymous memory", |sample: &Resources| sample.anonymous_kib),
    ] {
        let numbers = |samples: &[Resources]| samples.iter().map(of).collect::<Vec<_>>();
        let (least, most) = (numbers(&before).into_iter().min(), numbers(&before).into_iter().max());
        let noise = most.expect("a minute of samples") - least.expect("a minute of samples");
        let late = &during[during.len() - before.len().min(during.len())..];
        let (from, to) = (median(numbers(&before)), median(numbers(late)));
        let second = median(numbers(&during[during.len() / 10..during.len() / 5]));
        let peak = numbers(&during).into_iter().max().expect("samples");
        eprintln!(
            "  {what}: {from} KiB before (within {noise}), {to} KiB in the last minute, {peak} KiB at most"
        );
        assert!(
            to <= second + LATE_GROWTH_KIB,
            "{what} grew from {second} KiB in the second minute to {to} KiB"
        );
        assert!(
            to <= from + noise + GROWTH_KIB,
            "{what} grew from {from} to {to} KiB; within {noise} before"
        );
    }
    // Probes are taken out in threads that come and go.
    let threads = |samples: &[Resources]| samples.iter().map(|sample| sample.threads).collect::<Vec<_>>();
    let (few, many) =
        (threads(&during[during.len() / 2..]).into_iter().min(), threads(&before).into_iter().max());
    assert!(few <= many, "threads: {few:?} at least in the second half, {many:?} at most before");
    chain.daemon.end();
}

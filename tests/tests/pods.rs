//! Three hundred pods that come and go in a minute leave nothing behind: neither in the agent and its maps, nor in its exports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nodeprobe_tests::{
    Node, Workload, bpf_maps,
    chain::{ARRIVAL, Chain},
    containers::groups::Slices,
    node::target_tmp,
    on_one_node,
    oracle::Oracle,
    pods::{Name, Pod},
    prometheus::query,
    skip::skip,
    wait::{eventually, observe_for},
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_one_node!(Node::of_major(22) => three_hundred_pods_in_a_minute_leave_nothing_behind);

const SECOND: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(10);
const PODS: usize = 300;
const PODS_FOR: Duration = Duration::from_mins(1);
/// With as many before it the agent gets to know what it meets again and again, and its allocator how much it takes at once.
const WARM_UP_PODS: usize = 300;
/// How long one lives, in seconds, by its number.
const LIVES_S: std::ops::RangeInclusive<usize> = 3..=10;
/// Prometheus looks back so far for series that are fed.
const FRESH: &str = "[15s]";
/// A pod that has gone may be told so long: that look, its last export and the way of it.
const AFTERGLOW: Duration = Duration::from_secs(25);
/// A minute of them may last 75 s on a machine that others use as well.
const RATE_LEAST_PER_MIN: f64 = 240.0;
/// With 5 a second that live 6.5 s on average there are 32 at a time.
const ALIVE_LEAST: usize = 20;
/// Of a process that starts, sleeps and ends there are some 200. With those of pods that have gone it would soon be more.
const SERIES_PER_POD: usize = 260;
/// How much more than before the agent may keep per pod. What it keeps of a process while it is there is some hundred KiB, of one
/// line of text to remember it by, 200 B; this is between the two, and 1.2 MiB in all.
const KEPT_KIB_PER_POD: f64 = 4.0;

/// What they are called: a name that no other test on this host gives.
fn visitors() -> String {
    format!("visitors-{}", std::process::id())
}

/// Pods that come and go.
struct Crowd<'a> {
    node: &'a Node,
    around: &'a Slices,
    oracle: &'a Oracle,
    alive: Vec<Pod>,
    spans: Vec<Span>,
    begun: usize,
}

/// From when to when a pod was there.
struct Span {
    pid: u32,
    began: Instant,
    ended: Option<Instant>,
}

/// What was seen of them.
struct Seen {
    rate_per_min: f64,
    most_alive: usize,
    most_told: usize,
    most_series: usize,
}

/// What Prometheus was being fed at some time between two instants.
struct Look {
    from: Instant,
    to: Instant,
    pods: usize,
    series: usize,
}

impl Crowd<'_> {
    /// Lets `count` pods begin, evenly over `duration`, and all of them end.
    fn pass(&mut self, chain: &Chain, count: usize, duration: Duration) -> Seen {
        let (first, began) = (self.begun, Instant::now());
        let interval = duration.div_f64(count as f64);
        let mut progress = began;
        let mut most_alive = 0;
        let (port, ended) = (chain.prometheus.port(), AtomicBool::new(false));
        let looks = thread::scope(|scope| {
            // In a thread of its own: an answer may take longer than until the next pod is due.
            let looks = scope.spawn(|| looks(port, &ended));
            while self.begun < first + count || !self.alive.is_empty() {
                let due = began + interval.mul_f64((self.begun - first) as f64);
                if self.begun < first + count && Instant::now() >= due {
                    self.begin();
                    continue;
                }
                self.take_leave();
                most_alive = most_alive.max(self.alive.len());
                if Instant::now() >= progress {
                    progress += PROGRESS;
                    let (passed, alive) = (self.begun - first, self.alive.len());
                    eprintln!(
                        "  {passed} of {count} pods after {} s, {alive} alive",
                        began.elapsed().as_secs()
                    );
                }
                observe_for(Duration::from_millis(20));
            }
            ended.store(true, Ordering::Relaxed);
            looks.join().expect("Prometheus answers")
        });
        for look in &looks {
            // No more pods are told than there are, or were just now.
            let there = self.spans.iter().filter(|Span { began, ended, .. }| {
                *began <= look.to && ended.is_none_or(|ended| ended + AFTERGLOW >= look.from)
            });
            let there = there.count();
            assert!(look.pods <= there, "{} pods are told, {there} are there or were until now", look.pods);
        }
        assert!(looks.iter().any(|look| look.pods > 0), "Prometheus was behind in all {} looks", looks.len());
        // By Node's own clock: when it ran its first line.
        let born = self.oracle.notes("born");
        let born: Vec<f64> = born[born.len() - count..].iter().map(|note| number(note, "at_ms")).collect();
        let (least, most) = born.iter().fold((f64::MAX, 0.0_f64), |(a, b), at| (a.min(*at), b.max(*at)));
        Seen {
            rate_per_min: (count - 1) as f64 / (most - least) * 60e3,
            most_alive,
            most_told: looks.iter().map(|look| look.pods).max().unwrap_or(0),
            most_series: looks.iter().map(|look| look.series).max().unwrap_or(0),
        }
    }

    fn begin(&mut self) {
        let life = LIVES_S.clone().nth(self.begun % LIVES_S.count()).unwrap_or(3);
        let life = Duration::from_secs(life as u64);
        let pod = Pod::start(self.node, self.around, self.begun, &visitors(), life, self.oracle);
        self.spans.push(Span { pid: pod.pid(), began: pod.began, ended: None });
        self.alive.push(pod);
        self.begun += 1;
    }

    fn take_leave(&mut self) {
        let mut ended = Vec::new();
        for index in (0..self.alive.len()).rev() {
            if self.alive[index].has_ended() {
                ended.push(self.alive.remove(index));
            }
        }
        for pod in ended {
            let span = self.spans.iter_mut().find(|span| span.pid == pod.pid() && span.ended.is_none());
            span.expect("it was noted").ended = Some(Instant::now());
        }
    }
}

/// Asks each second or so.
fn looks(port: u16, ended: &AtomicBool) -> Vec<Look> {
    let ask = |expression: &str| {
        let found = query(port, expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        found.first().map_or(0, |(_, value)| *value as usize)
    };
    let told = format!(
        "count(count by (container_id) (last_over_time(process_uptime_seconds{{service_name=\"{}\"}}{FRESH})))",
        visitors()
    );
    let mut looks = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let from = Instant::now();
        let (pods, to) = (ask(&told), Instant::now());
        looks.push(Look { from, to, pods, series: ask(&fed(&visitors())) });
        observe_for(SECOND);
    }
    looks
}

/// Asks how many series of a service Prometheus is being fed.
fn fed(service: &str) -> String {
    format!("count(last_over_time({{service_name=\"{service}\"}}{FRESH}))")
}

fn series(chain: &Chain, service: &str) -> f64 {
    chain.sum(&fed(service))
}

/// How many processes the agent observes: others may run on this host.
fn observed(chain: &Chain) -> f64 {
    chain.sum("nodeprobe_agent_processes")
}

fn three_hundred_pods_in_a_minute_leave_nothing_behind(node: &Node) {
    let Ok(mut chain) = Chain::with_collector(&[]).map_err(|reason| skip(&reason)) else { return };
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let oracle = Oracle::at(directory.path().join("born.jsonl"));
    let idle = Workload::idle(node);
    chain.wait_for("process_uptime_seconds{service_name=\"idle\"}");
    let around = Slices::watch();
    let mut crowd =
        Crowd { node, around: &around, oracle: &oracle, alive: Vec::new(), spans: Vec::new(), begun: 0 };
    crowd.pass(&chain, WARM_UP_PODS, PODS_FOR.mul_f64(WARM_UP_PODS as f64 / PODS as f64));
    let settled = |what: &str| {
        eventually(&format!("the end of all series of pods {what}"), ARRIVAL, || {
            (series(&chain, &visitors()) == 0.0).then_some(())
        });
        observe_for(Duration::from_secs(5));
        (chain.resources(), bpf_maps::fill(chain.daemon.pid()), observed(&chain), series(&chain, "idle"))
    };
    let (before, maps_before, observed_before, idle_before) = settled("that warmed up");
    let seen = crowd.pass(&chain, PODS, PODS_FOR);
    let Seen { rate_per_min, most_alive, most_told, most_series } = seen;
    eprintln!(
        "  {PODS} pods, {rate_per_min:.0} a minute, {most_alive} at once; told at most {most_told} at once, {most_series} series"
    );
    assert!(rate_per_min >= RATE_LEAST_PER_MIN, "{rate_per_min:.0} pods a minute");
    assert!(most_alive >= ALIVE_LEAST, "{most_alive} pods at once");
    // Half of those that are there at once: the same that is asked of all below.
    assert!(most_told >= most_alive / 2, "{most_told} of {most_alive} pods are told at once");
    assert!(most_series <= SERIES_PER_POD * most_told, "{most_series} series of {most_told} pods");

    // Who they were: each is told, or counted as lost. The last of them may be on the way still.
    let (mut missing, mut lost) = account(&chain, &crowd);
    let end = Instant::now() + ARRIVAL;
    while missing.len() as f64 > of_processes(&lost) && Instant::now() < end {
        observe_for(SECOND);
        (missing, lost) = account(&chain, &crowd);
    }
    let count = missing.len();
    eprintln!("  {count} of {} are not told; lost, as the agent tells: {lost:?}", crowd.begun);
    missing.truncate(20);
    assert!(count as f64 <= of_processes(&lost), "{count} are not told, lost: {lost:?}:{}", missing.concat());
    assert!(count < crowd.begun / 2, "{count} of {} are not told:{}", crowd.begun, missing.concat());

    let (after, maps_after, ..) = settled("that came and went");
    eventually("as many observed processes as before", 2 * ARRIVAL, || {
        (observed(&chain) <= observed_before).then_some(())
    });
    eprintln!(
        "  before: {before:?}\n  after:  {after:?}\n  maps before: {maps_before:?}\n  maps after:  {maps_after:?}"
    );
    // A stall of a new cause or a collection of the other kind is a series more.
    assert!(series(&chain, "idle") <= 1.5 * idle_before, "series of the one that stayed");
    let left = || {
        let fill = bpf_maps::fill(chain.daemon.pid());
        fill.into_iter().filter(|(name, entries)| *entries > maps_before[name]).collect::<BTreeMap<_, _>>()
    };
    eventually(&format!("maps as empty as before: {:?}", left()), ARRIVAL, || {
        left().is_empty().then_some(())
    });
    // Probes are taken out in threads that come and go, and others on this host may come and go as well.
    eventually(&format!("descriptors and threads as before: {before:?}, {after:?}"), ARRIVAL, || {
        let now = chain.resources();
        (now.descriptors <= before.descriptors && now.threads <= before.threads).then_some(())
    });
    let after = chain.resources();
    let most_kib = before.anonymous_kib as f64 + KEPT_KIB_PER_POD * PODS as f64;
    assert!(after.anonymous_kib as f64 <= most_kib, "memory: {before:?}, {after:?}");
    assert_eq!(idle.oracle().len(), 1, "the idle process was disturbed");
    chain.daemon.end();
}

/// Pods of which no series says container and pod, with what the agent logged of them; and what it counts as lost, by reason.
fn account(chain: &Chain, crowd: &Crowd<'_>) -> (Vec<String>, BTreeMap<String, f64>) {
    let all = format!(
        "count by (container_id, k8s_pod_uid) (last_over_time(process_uptime_seconds{{service_name=\"{}\"}}[10m]))",
        visitors()
    );
    let text = |labels: &Value, name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    let pair = |labels: &Value| (text(labels, "container_id"), text(labels, "k8s_pod_uid"));
    let told: BTreeSet<(String, String)> = chain.ask(&all).iter().map(|(labels, _)| pair(labels)).collect();
    let lost = chain.ask("nodeprobe_agent_events_lost_total > 0").into_iter();
    let lost = lost.map(|(labels, value)| (text(&labels, "nodeprobe_lost_reason"), value)).collect();
    let log = chain.daemon.stderr();
    let mut missing = Vec::new();
    for (index, span) in crowd.spans.iter().enumerate() {
        let Name { uid, container_id } = Name::numbered(index);
        let line = format!("target.pid={} ", span.pid);
        let line = log.lines().find(|logged| logged.contains(&line)).unwrap_or("the agent never met it");
        let entry = format!("\n  {container_id} began {:.1?} ago: {line}", span.began.elapsed());
        if !told.contains(&(container_id, uid)) {
            missing.push(entry);
        }
    }
    let strangers = told.len() + missing.len() - crowd.spans.len();
    assert_eq!(strangers, 0, "a container or pod is told that there was not: {told:?}");
    (missing, lost)
}

/// Processes among the losses.
fn of_processes(lost: &BTreeMap<String, f64>) -> f64 {
    ["process_missed", "process_unidentified"].iter().filter_map(|reason| lost.get(*reason)).sum()
}

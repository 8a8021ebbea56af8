//! What stalls were spent with, against the kernel's own trace of the thread and against Node's account of its pauses.

use std::{fs, io, os::fd::OwnedFd, path::Path, process::Command, time::Duration};

use nodeprobe_tests::{
    Agent, Node, Report, Workload, assert_within,
    cpu_quota::{CpuQuota, QuotaAccount},
    host_time::HostTime,
    node::target_tmp,
    on_every_node, on_one_node,
    process::OwnedProcess,
    report::{RUNNING, running},
    sched_trace::{History, SchedTrace, Spent, monotonic_ms},
    skip::skip,
    stdio::SleepyReader,
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_every_node!(each_stall_is_spent_with_what_it_was_spent_with, running_code_is_told_by_its_kind);
on_one_node!(Node::of_major(20) => a_service_that_hangs_already_is_not_said_to_run);
on_one_node!(Node::of_major(22) => a_thread_without_a_processor_waits_for_one);
on_one_node!(Node::of_major(24) => causes_are_the_same_where_the_kernel_does_not_describe_its_types);
on_one_node!(Node::of_major(24) => a_thread_whose_quota_is_used_up_waits_for_a_processor);
on_one_node!(Node::of_major(24) => nice_and_steal_are_those_that_the_kernel_tells);

/// Bar of each share: five points.
const TOLERANCE: f64 = 0.05;

/// What Node and the kernel wrote down about one turn, as shares of its duration.
struct Truth {
    ran: f64,
    /// Ready to run without a processor.
    waited: f64,
    slept: f64,
    /// In collections, without the time they waited for a processor.
    in_gc: f64,
    /// Running in the calls that the turn was made for, without the collections.
    in_calls: f64,
    /// What the trace does not tell: each of the others may be that much more.
    unknown: f64,
}

impl Truth {
    fn of(turn: &Value, history: &History) -> Self {
        let span = |note| (number(note, "begin_ms"), number(note, "end_ms"));
        let spent = |(begin_ms, end_ms)| history.spent(begin_ms, end_ms);
        let (begin_ms, end_ms) = span(turn);
        let share = |ms: f64| ms / (end_ms - begin_ms);
        let all = spent((begin_ms, end_ms));
        let sum = |list: &str, of: fn(Spent) -> f64| -> f64 {
            turn[list].as_array().expect("a list").iter().map(|note| of(spent(span(note)))).sum()
        };
        let in_gc = sum("gc", |pause| pause.ran + pause.slept);
        Self {
            ran: share(all.ran),
            waited: share(all.waited),
            slept: share(all.slept),
            in_gc: share(in_gc),
            in_calls: share(sum("calls", |call| call.ran) - in_gc),
            unknown: share(all.unknown),
        }
    }
}

/// A workload and the agent that watches it.
struct Watched {
    agent: Agent,
    workload: Workload,
    trace: SchedTrace,
    _directory: TempDir,
}

impl Watched {
    fn start(node: &Node, stdout: Option<OwnedFd>) -> Self {
        Self::by(Agent::start, node, stdout)
    }

    fn by(agent: impl FnOnce() -> Agent, node: &Node, stdout: Option<OwnedFd>) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let fifo = directory.path().join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there");
        assert!(made.success(), "mkfifo {}: {made}", fifo.display());
        // Node's pauses include the time for which V8's own helper threads take the processor away. And it tells nothing of the
        // marking and sweeping that V8 does between pauses when the old generation has grown. And once it has learned what
        // survives, it makes that in the old generation at once: then a turn of 400 ms is collected for 9 to 50 % of it, and
        // without that for 53 to 87 % (Node.js 18 to 26).
        let mut plan = Workload::plan(node, "causes.js")
            .flag("--single-threaded-gc")
            .flag("--no-allocation-site-pretenuring")
            .flag("--initial-old-space-size=2048")
            .args([directory.path()]);
        if let Some(stdout) = stdout {
            plan = plan.stdout(stdout);
        }
        let workload = plan.start();
        workload.wait_for("ready");
        let trace = SchedTrace::of(workload.pid());
        let agent = agent();
        agent.wait_for_process(workload.pid());
        Self { agent, workload, trace, _directory: directory }
    }

    /// Has one turn spent in a way and returns the shares that nodeprobe tells, and those that are true.
    fn turn(&mut self, kind: &str) -> (Value, Truth) {
        let (before, turns) = (self.agent.mark(), self.workload.notes("turn").len());
        self.workload.say(kind);
        let turn = self.workload.wait_for_nth("turn", turns + 1).pop().expect("there is one turn more");
        let shares = shares(&self.agent.reports_since(before), self.workload.pid());
        (shares, Truth::of(&turn, &self.trace.history(self.workload.pid())))
    }
}

/// `by_cause` over all reports, divided by the stalled time.
fn shares(reports: &[Report], pid: u32) -> Value {
    let mut sums = serde_json::Map::new();
    let mut time_s = 0.0;
    for event_loop in reports.iter().filter_map(|report| report.main_loop(pid)) {
        time_s += event_loop["stalls"]["time_s"].as_f64().expect("stalls are observed");
        for (cause, value) in event_loop["stalls"]["by_cause"].as_object().expect("causes are observed") {
            let sum = sums.entry(cause.clone()).or_insert(Value::from(0.0));
            *sum = Value::from(sum.as_f64().unwrap_or(0.0) + value.as_f64().expect("a number"));
        }
    }
    assert!(time_s > 0.3, "{time_s} s stalled");
    sums.into_iter().map(|(cause, sum)| (cause, Value::from(sum.as_f64().unwrap_or(0.0) / time_s))).collect()
}

#[track_caller]
fn assert_share(shares: &Value, cause: &str, expected: f64, truth: &Truth, what: &str) {
    let tolerance = TOLERANCE + truth.unknown;
    assert_within(share(shares, cause), expected, tolerance, &format!("{cause}, {what}: {shares}"));
}

/// Of a cause, or of all that run code where the kind of code does not matter.
#[track_caller]
fn share(shares: &Value, cause: &str) -> f64 {
    if cause == "running" { running(shares) } else { number(shares, cause) }
}

/// The cause with the greatest share; those that run code count as one.
fn leading(shares: &Value) -> &str {
    let causes = shares.as_object().expect("causes").iter().map(|(cause, share)| (cause.as_str(), share));
    let others = causes.filter(|(cause, _)| !RUNNING.contains(cause));
    let others = others.map(|(cause, share)| (cause, share.as_f64().expect("shares are numbers")));
    let (cause, _) = others
        .chain([("running", running(shares))])
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .expect("there are causes");
    cause
}

/// What has most of the time leads. On a disk that is quicker than the code that waits for it, or on a machine that is
/// busy elsewhere, that need not be what the turn was made for.
#[track_caller]
fn assert_leading(shares: &Value, cause: &str, expected: f64, what: &str) {
    if expected > 0.5 + TOLERANCE {
        assert_eq!(leading(shares), cause, "{what}: {shares}");
    }
}

fn each_stall_is_spent_with_what_it_was_spent_with(node: &Node) {
    let (reading, writing) = io::pipe().expect("a pipe can be made");
    let reader = SleepyReader::start(reading, Duration::from_millis(400));
    let mut watched = Watched::start(node, Some(writing.into()));
    for (kind, cause) in [
        ("cpu", "running"),
        ("fsync", "sync_io"),
        ("fifo", "sync_io"),
        ("exec-sync", "child_process"),
        ("lock", "lock"),
        ("stdout", "stdio_write"),
    ] {
        let (shares, truth) = watched.turn(kind);
        let what = format!("{kind}, {}", node.label);
        assert_share(&shares, "cpu_wait", truth.waited, &truth, &what);
        let expected = match cause {
            "running" => truth.ran - truth.in_gc,
            // Copying into the pipe is part of the write.
            "stdio_write" => 1.0 - truth.waited,
            _ => truth.slept,
        };
        assert_share(&shares, cause, expected, &truth, &what);
        assert_leading(&shares, cause, expected, &what);
    }
    let (shares, truth) = watched.turn("gc");
    let what = format!("gc, {}", node.label);
    assert!(truth.in_gc > 0.1 * (1.0 - truth.waited), "the workload collects too little: {}", truth.in_gc);
    assert_share(&shares, "gc", truth.in_gc, &truth, &what);
    assert_share(&shares, "cpu_wait", truth.waited, &truth, &what);
    watched.workload.end();
    reader.notes();
    watched.agent.end();
}

fn running_code_is_told_by_its_kind(node: &Node) {
    let mut watched = Watched::start(node, None);
    for (kind, cause) in
        [("javascript", "javascript"), ("scrypt", "native"), ("deflate", "native"), ("compile", "compile")]
    {
        let (shares, truth) = watched.turn(kind);
        let what = format!("{kind}, {}", node.label);
        let expected = if kind == "javascript" { truth.ran - truth.in_gc } else { truth.in_calls };
        assert_share(&shares, cause, expected, &truth, &what);
        assert_share(&shares, "running", truth.ran - truth.in_gc, &truth, &what);
        if expected > 0.5 + TOLERANCE {
            let greatest =
                RUNNING.into_iter().max_by(|a, b| number(&shares, a).total_cmp(&number(&shares, b)));
            assert_eq!(greatest, Some(cause), "{what}: {shares}");
        }
    }
    watched.workload.end();
    watched.agent.end();
}

fn a_service_that_hangs_already_is_not_said_to_run(node: &Node) {
    let mut hanging = Workload::plan(node, "causes.js").start();
    let spinning = Workload::plan(node, "startup-spin.js").args(["30000"]).start();
    let trace = SchedTrace::of(spinning.pid());
    hanging.wait_for("ready");
    hanging.say("hang");
    hanging.wait_for("hanging");
    let begin_ms = monotonic_ms();
    let agent = Agent::start();
    let cause = |workload: &Workload| {
        agent.wait_for("the turn that began before the agent", Duration::from_secs(20), |report| {
            report.main_loop(workload.pid())?["current_turn_cause"].as_str().map(str::to_owned)
        })
    };
    assert_eq!(cause(&hanging), "lock");
    let seen = cause(&spinning);
    let spent = trace.history(spinning.pid()).spent(begin_ms, monotonic_ms());
    // Whoever shares the processors with it may have had the greater part.
    let may_wait = spent.waited > 0.4 * (spent.ran + spent.waited);
    assert!(RUNNING.contains(&seen.as_str()) || may_wait && seen == "cpu_wait", "{seen}, but {spent:?}");
    agent.end();
}

fn a_thread_without_a_processor_waits_for_one(node: &Node) {
    let mut watched = Watched::start(node, None);
    waits_beside_competitors(&mut watched);
    watched.agent.end();
}

/// One turn on a processor that two others want, and one when they have gone.
fn waits_beside_competitors(watched: &mut Watched) {
    let pin = |pid: u32| {
        let status =
            Command::new("taskset").args(["-pc", "0", &pid.to_string()]).output().expect("taskset is there");
        assert!(status.status.success(), "{status:?}");
    };
    pin(watched.workload.pid());
    let competitors: Vec<OwnedProcess> = (0..2)
        .map(|_| OwnedProcess::spawn(Command::new("sh").args(["-c", "while :; do :; done"])))
        .inspect(|competitor| pin(competitor.pid()))
        .collect();
    let (shares, truth) = watched.turn("cpu");
    drop(competitors);
    assert!(truth.ran < 0.6, "the competitors left it {} of the processor", truth.ran);
    assert_share(&shares, "cpu_wait", truth.waited, &truth, "two competitors");
    let (shares, truth) = watched.turn("cpu");
    assert_share(&shares, "cpu_wait", truth.waited, &truth, "the competitors have gone");
}

/// There the scheduler's events come by tracepoints with a format, else as the kernel itself passes them.
fn causes_are_the_same_where_the_kernel_does_not_describe_its_types(node: &Node) {
    const OTHER_WAY: &str = "taken by tracepoints with a format";
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("this kernel does not describe its types");
    }
    if kernel_version() < (5, 18) {
        return skip(
            "before Linux 5.18 the scheduler's events are taken by tracepoints with a format anyway",
        );
    }
    let usual = Watched::by(|| Agent::telling_its_ways(true), node, None);
    assert!(!usual.agent.stderr().contains(OTHER_WAY), "{}", usual.agent.stderr());
    usual.agent.end();
    let mut watched = Watched::by(|| Agent::telling_its_ways(false), node, None);
    assert!(watched.agent.stderr().contains(OTHER_WAY), "{}", watched.agent.stderr());
    for (kind, cause) in [("fifo", "sync_io"), ("lock", "lock")] {
        let (shares, truth) = watched.turn(kind);
        assert_share(&shares, cause, truth.slept, &truth, kind);
        assert_share(&shares, "cpu_wait", truth.waited, &truth, kind);
    }
    waits_beside_competitors(&mut watched);
    watched.agent.end();
}

/// Major and minor number.
fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel tells its version");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    let mut next = || numbers.next().unwrap_or_else(|| panic!("not a version: {release}"));
    (next(), next())
}

fn a_thread_whose_quota_is_used_up_waits_for_a_processor(node: &Node) {
    let mut watched = Watched::start(node, None);
    let quota = match CpuQuota::of(watched.workload.pid(), 0.2) {
        Ok(quota) => quota,
        Err(error) => return skip(&format!("no cgroup with a quota can be made: {error}")),
    };
    let pid = watched.workload.pid();
    // What the group was before it was seen there does not count.
    watched.agent.settle();
    let (before, first) = (quota.account(), watched.agent.mark());
    let (shares, truth) = watched.turn("cpu");
    assert!(truth.ran < 0.5, "the quota left it {} of a processor", truth.ran);
    assert_share(&shares, "cpu_wait", truth.waited, &truth, "quota of a fifth");
    assert_eq!(leading(&shares), "cpu_wait", "{shares}");
    let told = quota_told(&watched.agent.reports_since(first), pid);
    let truth = quota.account().since(before);
    assert!(truth.throttled_s > 0.1 && truth.throttled_periods > 1.0, "{truth:?}: the quota did nothing");
    // It sleeps before and after, so both counts begin and end at rest.
    assert_within(told.throttled_s, truth.throttled_s, 0.01, "time throttled");
    assert_within(told.throttled_periods, truth.throttled_periods, 1.0, "periods throttled");
    assert_within(told.periods, truth.periods, 2.0, "periods of the quota");
    watched.workload.end();
    watched.agent.end();
    drop(quota);
}

/// What was told of its quota.
fn quota_told(reports: &[Report], pid: u32) -> QuotaAccount {
    let processes: Vec<&Value> = reports.iter().filter_map(|report| report.process(pid)).collect();
    let sum = |field: &str| processes.iter().map(|process| number(process, field)).sum();
    QuotaAccount {
        throttled_s: sum("cpu_throttled_s"),
        throttled_periods: sum("cpu_throttled_periods"),
        periods: sum("cpu_periods"),
    }
}

fn nice_and_steal_are_those_that_the_kernel_tells(node: &Node) {
    let mut usual = Workload::plan(node, "causes.js").start();
    let mut patient = Workload::plan(node, "causes.js").start();
    for workload in [&usual, &patient] {
        workload.wait_for("ready");
    }
    let own = nice(std::process::id());
    let set = own.clamp(-20, 14) + 5;
    // SAFETY: the call takes numbers only; the process is a child of this one.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, patient.pid(), set) };
    assert_eq!(done, 0, "a process can be made patient: {}", io::Error::last_os_error());
    let agent = Agent::observing([&usual, &patient]);
    agent.settle();
    let (first, before) = (agent.mark(), HostTime::now());
    agent.wait_for_intervals(first, 8);
    let reports = agent.reports_since(first);
    let truth = HostTime::now().since(before);
    for report in &reports {
        let told = |workload: &Workload| number(report.process(workload.pid()).expect("it is there"), "nice");
        assert_eq!((told(&usual), told(&patient)), (f64::from(own), f64::from(set)));
    }
    // Groups without a quota have no periods, those without the controller no account.
    for process in reports.iter().filter_map(|report| report.process(usual.pid())) {
        assert!(!process["cpu_throttled_periods"].as_f64().is_some_and(|periods| periods > 0.0), "{process}");
    }
    let seconds = |report: &Report| number(&report.value, "interval_s");
    let all_s: f64 = reports.iter().map(seconds).sum();
    let stolen_s: f64 =
        reports.iter().map(|report| number(&report.value["host"], "cpu_steal_ratio") * seconds(report)).sum();
    // The two spans differ by up to an interval of the eight at each end.
    let tolerance = 0.01 + truth.steal_share() / 4.0;
    assert_within(stolen_s / all_s, truth.steal_share(), tolerance, &format!("steal, {truth:?}"));
    agent.end();
    usual.end();
    patient.end();
}

/// Of the main thread of a process, as `ps` has it.
fn nice(pid: u32) -> i32 {
    let output =
        Command::new("ps").args(["-o", "ni=", "-p", &pid.to_string()]).output().expect("ps is there");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

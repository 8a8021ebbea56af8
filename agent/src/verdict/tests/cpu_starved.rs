//! Who keeps a process off the processors: neighbours, its quota, the hypervisor.

use std::collections::BTreeMap;

use super::{judged, modes};
use crate::{
    model::{CpuPeriods, HostCpu},
    report::sample::MS,
    verdict::{Finding, Mode, Severity},
};

#[test]
fn waiting_for_a_processor_is_starvation_by_neighbours_or_by_the_quota() {
    let neighbours = judged(10, |_, process, _| process.run_delay_ns = Some(400 * MS));
    assert_eq!((neighbours[0].mode, neighbours[0].severity), (Mode::CpuStarved, Severity::Critical));
    let quota = judged(10, |_, process, _| {
        process.cpu_throttled_ns = Some(100 * MS);
        process.run_delay_ns = Some(80 * MS);
    });
    assert_eq!((quota[0].mode, quota[0].severity), (Mode::CpuStarved, Severity::Warning));
    assert!(quota[0].summary.contains("quota"), "{}", quota[0].summary);
}

fn evidence(finding: &Finding) -> BTreeMap<&'static str, f64> {
    finding.evidence.iter().copied().collect()
}

#[test]
fn starvation_is_told_with_the_periods_of_the_quota_and_a_nice_that_is_not_0() {
    let quota = judged(10, |_, process, _| {
        process.cpu_throttled_ns = Some(100 * MS);
        process.cpu_periods = Some(CpuPeriods { elapsed: 10, throttled: 2 });
        process.run_delay_ns = Some(80 * MS);
    });
    let told = evidence(&quota[0]);
    assert_eq!((told["throttled_periods"], told["quota_periods"]), (20.0, 100.0));
    assert_eq!((told.get("nice"), told["steal_ratio"]), (None, 0.0));
    let patient = |nice: i8| {
        judged(10, move |_, process, _| {
            (process.run_delay_ns, process.nice) = (Some(400 * MS), Some(nice));
        })
    };
    let [positive, negative] = [patient(10), patient(-5)];
    assert!(positive[0].summary.contains("it runs at nice 10"), "{}", positive[0].summary);
    assert!(!negative[0].summary.contains("nice"), "{}", negative[0].summary);
    assert_eq!((evidence(&positive[0])["nice"], evidence(&negative[0])["nice"]), (10.0, -5.0));
    assert!(!evidence(&positive[0]).contains_key("quota_periods"), "it has none");
    assert_eq!(judged(10, |_, process, _| process.nice = Some(19)), [], "being patient alone is no harm");
}

/// Two processors that are wanted for `wanted` of a second in all, of which `stolen` was stolen, and a loop that is in turns
/// for `turns_ms` of it and gets `cpu_ms`.
fn on_a_host(wanted_ms: u64, stolen_ms: u64, turns_ms: u64, cpu_ms: u64) -> Vec<Finding> {
    judged(10, move |_, process, interval| {
        let (busy_ns, idle_ns) = ((wanted_ms - stolen_ms) * MS, (2000 - wanted_ms) * MS);
        interval.host_cpu = Some(HostCpu { busy_ns, idle_ns, stolen_ns: stolen_ms * MS });
        process.threads[0].busy_ns = turns_ms * MS;
        process.threads[0].idle_ns = (1000 - turns_ms) * MS;
        process.cpu_ratio = Some(cpu_ms as f64 / 1e3);
    })
}

#[test]
fn a_hypervisor_that_takes_the_processor_away_starves_whoever_is_busy() {
    let starved = on_a_host(1000, 400, 900, 540);
    assert_eq!(modes(&starved), [(Mode::CpuStarved, true)]);
    assert_eq!(starved[0].severity, Severity::Critical);
    let expected =
        "the hypervisor took 20 % of the processors' time away (steal): about 36 % of the main thread's time";
    assert_eq!(starved[0].summary, expected);
    let told = evidence(&starved[0]);
    assert!(
        (told["steal_ratio"] - 0.2).abs() < 1e-9 && (told["stolen_ratio"] - 0.36).abs() < 1e-9,
        "{told:?}"
    );
    assert_eq!(on_a_host(1000, 150, 900, 800)[0].severity, Severity::Warning);
    for (what, findings) in [
        ("little of it", on_a_host(1000, 60, 900, 850)),
        ("a loop that is idle", on_a_host(1000, 400, 50, 30)),
        ("a loop that sleeps in its turns", on_a_host(1000, 400, 900, 20)),
        ("a host that is idle", on_a_host(0, 0, 900, 900)),
    ] {
        assert_eq!(findings, [], "{what}");
    }
    assert_eq!(judged(10, |_, _, interval| interval.host_cpu = None), [], "a host that does not tell");
}

#[test]
fn steal_is_told_beside_the_wait_that_it_makes_longer() {
    let waiting = |stolen_ms: u64| {
        judged(10, move |_, process, interval| {
            process.run_delay_ns = Some(400 * MS);
            let (busy_ns, stolen_ns) = ((2000 - stolen_ms) * MS, stolen_ms * MS);
            interval.host_cpu = Some(HostCpu { busy_ns, idle_ns: 0, stolen_ns });
        })
    };
    let [little, much] = [waiting(20), waiting(600)];
    assert!(!little[0].summary.contains("hypervisor"), "{}", little[0].summary);
    assert!(much[0].summary.ends_with("; the hypervisor took 30 % of the processors' time away"));
}

#[test]
fn a_wait_among_processes_that_start_is_no_starvation() {
    let begin = |seconds: u64| {
        judged(seconds, |second, process, _| {
            process.run_delay_ns = Some(if second < 2 { 300 * MS } else { 20 * MS });
            process.cpu_throttled_ns = Some(if second < 2 { 200 * MS } else { 0 });
        })
    };
    for seconds in 1..12 {
        assert_eq!(begin(seconds), [], "{seconds} s");
    }
}

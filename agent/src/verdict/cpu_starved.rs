//! The loop could run, and nobody lets it.

use super::{
    Finding, History, Mode, percent,
    thresholds::{RUN_DELAY, RUN_DELAY_LEAST_S, STOLEN, STOLEN_LEAST_S, THROTTLED, THROTTLED_LEAST_S},
};
use crate::model::HostCpu;

const MODE: Mode = Mode::CpuStarved;

pub(super) fn check(history: &History) -> Option<Finding> {
    let (delayed, throttled, stolen) = (history.run_delay(), history.throttled(), history.stolen());
    let is_much = |share: &f64, least_s: f64| share * history.window_s() >= least_s;
    let by_delay = delayed
        .filter(|share| is_much(share, RUN_DELAY_LEAST_S))
        .and_then(|share| RUN_DELAY.severity(share, MODE, history));
    // The quota is the group's: it may stop others in it while this thread sleeps.
    let waits = delayed.is_none_or(|share| share >= THROTTLED.warning);
    let by_quota = throttled
        .filter(|share| waits && is_much(share, THROTTLED_LEAST_S))
        .and_then(|share| THROTTLED.severity(share, MODE, history));
    let by_steal = stolen
        .filter(|share| is_much(share, STOLEN_LEAST_S))
        .and_then(|share| STOLEN.severity(share, MODE, history));
    let severity = by_quota.max(by_delay).max(by_steal)?;
    let host = history.host_cpu();
    let steal = host.and_then(HostCpu::steal_ratio);
    let summary = if by_quota == Some(severity) {
        format!(
            "the CPU quota of its cgroup was used up for {} of the time",
            percent(throttled.unwrap_or(0.0))
        )
    } else if by_delay == Some(severity) {
        let nice = history.nice().filter(|nice| *nice > 0);
        let nice = nice.map(|nice| format!("; it runs at nice {nice}")).unwrap_or_default();
        // Whoever waits behind another waits for what is stolen of that one's time, too.
        let stolen = host.and_then(HostCpu::stolen_of_wanted).filter(|share| *share >= STOLEN.warning);
        let stolen = stolen
            .and(steal)
            .map(|share| format!("; the hypervisor took {} of the processors' time away", percent(share)));
        format!(
            "the main thread was ready to run and had no processor for {} of the time{nice}{}",
            percent(delayed.unwrap_or(0.0)),
            stolen.unwrap_or_default()
        )
    } else {
        format!(
            "the hypervisor took {} of the processors' time away (steal): about {} of the main thread's time",
            percent(steal.unwrap_or(0.0)),
            percent(stolen.unwrap_or(0.0))
        )
    };
    let periods = history.cpu_periods().filter(|periods| periods.elapsed > 0);
    let known = [
        ("run_delay_ratio", delayed),
        ("throttled_ratio", throttled),
        ("throttled_periods", periods.map(|periods| periods.throttled as f64)),
        ("quota_periods", periods.map(|periods| periods.elapsed as f64)),
        ("steal_ratio", steal),
        ("stolen_ratio", stolen.filter(|share| *share > 0.0)),
        ("nice", history.nice().filter(|nice| *nice != 0).map(f64::from)),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Some(Finding::new(MODE, severity, history, summary).with(known))
}

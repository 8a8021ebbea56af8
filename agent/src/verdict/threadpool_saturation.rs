//! libuv has four threads for files, DNS, crypto and zlib: what finds them all busy waits in line.

use nodeprobe_ebpf::thread::POOL_KINDS;

use super::{
    Finding, History, Mode, duration,
    thresholds::{POOL_TASKS_LEAST, POOL_WAIT_S, POOL_WEDGED_S},
};
use crate::model::{
    Occasion, Stack,
    queue::{POOL_NAMES, kind_of_work},
};

const MODE: Mode = Mode::ThreadpoolSaturation;

pub(super) fn check(history: &History) -> Option<Finding> {
    let pool = history.pool();
    let (tasks, waited_s) = (pool.tasks(), pool.waited_ns() as f64 / 1e9);
    let mean_s = if tasks > 0 { waited_s / tasks as f64 } else { 0.0 };
    let oldest_s = pool.oldest_wait_ns as f64 / 1e9;
    let by_waits = POOL_WAIT_S.severity(mean_s, MODE, history).filter(|_| tasks >= POOL_TASKS_LEAST);
    let by_wedge = POOL_WEDGED_S.severity(oldest_s, MODE, history);
    let severity = by_waits.max(by_wedge)?;
    // Not what waits most often is to blame, but what the threads are busy with.
    let busiest = (0..POOL_KINDS)
        .max_by_key(|kind| pool.kinds[*kind].busy_ns)
        .filter(|kind| pool.kinds[*kind].busy_ns > 0);
    let busy = busiest.map(|kind| format!(", which are busy with {}", POOL_NAMES[kind])).unwrap_or_default();
    let summary = if by_waits >= by_wedge {
        format!(
            "work waits {} on average, up to {}, for one of libuv's threads{busy}",
            duration(mean_s),
            duration(pool.max_wait_ns.unwrap_or(0) as f64 / 1e9),
        )
    } else {
        format!(
            "all of libuv's threads are busy: {} tasks wait, the first for {}",
            pool.waiting,
            duration(oldest_s)
        )
    };
    let finding = Finding::new(MODE, severity, history, summary).with([
        ("tasks", tasks as f64),
        ("wait_mean_s", mean_s),
        ("wait_max_s", pool.max_wait_ns.unwrap_or(0) as f64 / 1e9),
        ("queue_length_mean", history.share(pool.waited_ns())),
        ("waiting", pool.waiting as f64),
        ("oldest_wait_s", oldest_s),
    ]);
    let hands_in = |stack: &Stack| busiest.is_none_or(|kind| kind_of_work(stack) == kind);
    let culprit = history.blamed_where(Occasion::PoolWork, hands_in).map(|(culprit, _)| culprit);
    let busy_threads = busiest.map(|kind| ("busy_threads_mean", history.share(pool.kinds[kind].busy_ns)));
    Some(finding.with(busy_threads).blaming(culprit))
}

//! From where on something is wrong: the one table, the same as in `docs/failure-modes.md`.
//!
//! Shares are of the observed wall time of the main thread in the window.

use super::{History, Mode, Severity};

/// Warning and critical.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub warning: f64,
    pub critical: f64,
}

const fn at(warning: f64, critical: f64) -> Threshold {
    Threshold { warning, critical }
}

/// A finding stays until its value has fallen below this part of the threshold that it came with.
pub const STAYS_ABOVE: f64 = 0.7;

/// Share of the time in stalls that ran code.
pub const STALLED: Threshold = at(0.05, 0.20);
/// Fewer say nothing of a service.
pub const STALLS_LEAST: usize = 2;
/// Age of a turn under way, seconds.
pub const TURN_UNDER_WAY_S: Threshold = at(1.0, 5.0);
/// Of the samples of stalls, those below a microtask drain, and those in the machinery of promises itself.
pub const UNDER_MICROTASKS: f64 = 0.8;
pub const IN_MICROTASK_MACHINERY: f64 = 0.15;
/// Full collections between which the heap must have grown.
pub const HEAP_COLLECTIONS_LEAST: usize = 4;
/// Three collections are enough if they are so many seconds apart, and the heap has grown by this share of its size as fast between the
/// last two as between the first. Where collecting is quick, V8 lets a heap double before the next one: at 11 MB a second four took it
/// 11.5 s on such a machine (Node.js 22).
pub const HEAP_COLLECTIONS_FEW_S: f64 = 5.0;
pub const HEAP_GROWTH_OF_FEW: f64 = 0.5;
pub const HEAP_STEADINESS_OF_FEW: f64 = 0.75;
/// Growth of the heap over the collections that are remembered, by its size.
pub const HEAP_GROWTH: f64 = 0.10;
/// Time to the limit of the heap, seconds; the less, the worse.
pub const HEAP_TIME_TO_LIMIT_S: Threshold = at(6.0 * 3600.0, 15.0 * 60.0);
/// Share of the time blocked in writes to stdout and stderr.
pub const STDIO_BLOCKED: Threshold = at(0.01, 0.10);
/// Refused writes per second.
pub const STDIO_REFUSED_PER_S: f64 = 1.0;
/// Unhandled rejections per second that are critical; one alone is a warning.
pub const REJECTIONS_PER_S_CRITICAL: f64 = 1.0;
/// Share of samples on the processor in misses of inline caches, of a loop that runs for at least that share of the time.
pub const IC_MISSES: Threshold = at(0.10, 0.30);
pub const IC_MISSES_BUSY_LEAST: f64 = 0.20;
/// Deoptimisations of one function in the window, and per second, but those of code that V8 made to be entered in a running loop.
/// It is left at the loop's end, once per call of the function: 4 per second of a function of 120 ms at 4 calls (Node.js 24), which
/// is no harm.
pub const DEOPTS_LEAST: f64 = 5.0;
pub const DEOPTS_PER_S: f64 = 5.0;
/// They must go on, in so many intervals and into the later half of the window: code that warms up is thrown away a few times,
/// since V8 12 (Maglev) also to enter a running loop in better code.
pub const DEOPTS_INTERVALS_LEAST: usize = 4;
/// From the first line of JavaScript to the first wait of the loop, seconds.
pub const STARTUP_S: Threshold = at(1.0, 5.0);
/// Share of the time in pauses of the garbage collector, less the share that the thread was without a processor.
pub const GC: Threshold = at(0.10, 0.25);
/// Pauses of that length, seconds, and how many of them.
pub const GC_LONG_PAUSE_S: f64 = 0.1;
pub const GC_LONG_PAUSES: u64 = 2;
/// Share of the time without a processor, and stopped by the quota of the cgroup.
pub const RUN_DELAY: Threshold = at(0.10, 0.30);
pub const THROTTLED: Threshold = at(0.05, 0.20);
/// Share of the time of the main thread that its host's hypervisor took away, estimated: to a thread on such a processor it is as if it
/// had none, so the numbers are those of [`RUN_DELAY`]. A host that shares its processors shows some hundredths all day.
pub const STOLEN: Threshold = at(0.10, 0.30);
/// .. of at least so many seconds, as ten have at the thresholds: the window is short while a process is young to us, and a few that start
/// beside it are enough for a tenth of it.
pub const RUN_DELAY_LEAST_S: f64 = 1.0;
pub const THROTTLED_LEAST_S: f64 = 0.5;
pub const STOLEN_LEAST_S: f64 = 1.0;
/// Share of the time in stalls waiting for a child process, and in system calls on files and sockets.
pub const CHILD_PROCESS: Threshold = at(0.01, 0.10);
pub const SYNC_IO: Threshold = at(0.02, 0.20);

/// Mean wait for a thread of libuv's pool, seconds, of at least so many tasks. A pool with an idle thread takes work within 0.1 ms.
pub const POOL_WAIT_S: Threshold = at(0.02, 0.2);
pub const POOL_TASKS_LEAST: u64 = 10;
/// Age of work that waits for it, seconds: then its threads hang.
pub const POOL_WEDGED_S: Threshold = at(1.0, 5.0);
/// Share of the answers with a context that lost it, and how many they are at least. Fewer are told as a mere remark.
pub const CONTEXTS_LOST: f64 = 0.05;
pub const CONTEXTS_LOST_LEAST: f64 = 10.0;
/// A socket that was full for so long, seconds, and
pub const BACKLOG_S: f64 = 2.0;
/// .. growth of memory outside of the heap, bytes per second, of at least so many bytes in at least so many seconds. Right after its
/// start a process grows in any case.
pub const OUTSIDE_HEAP_PER_S: Threshold = at(1_048_576.0, 20_971_520.0);
pub const OUTSIDE_HEAP_LEAST: f64 = 16_777_216.0;
pub const OUTSIDE_HEAP_FOR_S: f64 = 5.0;
pub const OUTSIDE_HEAP_FROM_S: f64 = 5.0;

impl Threshold {
    /// How bad `value` is for `mode`; `None`: it is well. A mode that was found before needs less to stay.
    pub(super) fn severity(self, value: f64, mode: Mode, history: &History) -> Option<Severity> {
        let warning = limit(self.warning, mode, history);
        if value >= self.critical {
            Some(Severity::Critical)
        } else if value >= warning {
            Some(Severity::Warning)
        } else {
            None
        }
    }
}

/// The value from which `mode` is found.
pub(super) fn limit(threshold: f64, mode: Mode, history: &History) -> f64 {
    if history.active.contains(&mode) { threshold * STAYS_ABOVE } else { threshold }
}

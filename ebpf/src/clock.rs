//! When the stack of who runs is looked at: at the kernel's own tick, or where that cannot be used by a clock on every
//! processor.
//!
//! A clock of our own interrupts idle processors as well, 126 times a second. A virtual machine whose idle processors wait for
//! work awake (`haltpoll`) then lets them fall asleep earlier, and whoever wakes them pays for it: a Node.js server whose client
//! is on the other processor took 1.7 % more for each request, its own processor's clock 0.3 % (Linux 6.18, docs/overhead.md). The tick
//! comes anyway, and hardly ever on an idle processor.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{map, perf_event, tracepoint},
    maps::PerCpuArray,
    programs::{PerfEventContext, TracePointContext},
};
use nodeprobe_ebpf::{
    part::SYSCALL_UNKNOWN,
    sample::{SAMPLE_ON_CPU, SAMPLE_PERIOD_NS, SAMPLE_YOUNG, YOUNG_EVERY},
    thread::STATE_WAIT,
};

use crate::{maps, sampler, target};

/// When the last tick was seen, of each processor; `CLOCK_MONOTONIC`. The agent looks there whether ticks are seen at all.
#[map]
static TICK_SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// `timer:hrtimer_expire_entry`: a timer of this processor has expired, and the first to do so when a tick begins is the tick's.
#[tracepoint]
pub(crate) fn sample_tick(_ctx: TracePointContext) -> u32 {
    let now_ns = target::now_ns();
    let Some(tick) = maps::tick() else { return 0 };
    let Some(number) = tick.number(now_ns) else { return 0 };
    let Some(seen_ns) = TICK_SEEN.get_ptr_mut(0) else { return 0 };
    // SAFETY: a valid map value of this processor alone. Some timers expire with interrupts on, but the kernel skips a program of a
    // tracepoint that would interrupt another (`bpf_prog_active`); so `sampler` has its scratch to itself as well.
    let seen_ns = unsafe { &mut *seen_ns };
    if now_ns - *seen_ns <= tick.lateness_ns() {
        return 0;
    }
    *seen_ns = now_ns;
    if tick.is_sampled(number) {
        sample_current(now_ns);
    }
    0
}

/// The clock of a processor, [`SAMPLE_PERIOD_NS`].
#[perf_event]
pub(crate) fn sample(_ctx: PerfEventContext) -> u32 {
    sample_current(target::now_ns());
    0
}

/// The stack of who runs, if it is a loop thread in a turn.
#[inline(always)]
fn sample_current(now_ns: u64) {
    // The idle thread.
    if bpf_get_current_pid_tgid() == 0 {
        return;
    }
    if let Some(thread) = target::current()
        && thread.state != STATE_WAIT
    {
        let mut flags = SAMPLE_ON_CPU;
        if now_ns - thread.since_ns < SAMPLE_PERIOD_NS {
            thread.young_ticks = thread.young_ticks.wrapping_add(1);
            if thread.young_ticks % YOUNG_EVERY != 0 {
                return;
            }
            flags |= SAMPLE_YOUNG;
        }
        sampler::take(thread, flags, now_ns, SYSCALL_UNKNOWN, -1);
    }
}

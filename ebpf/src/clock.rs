//! When the stack of who runs is looked at: in a long turn at the kernel's own tick, in a young one by a slow clock on every
//! processor. Where the tick cannot be used, a clock that is four times as fast looks at both.
//!
//! A clock of our own interrupts idle processors as well. A virtual machine whose idle processors wait for work awake
//! (`haltpoll`) then lets them fall asleep earlier, and whoever wakes them pays for it: a Node.js server whose client
//! is on the other processor took 1.7 % more for each request at 126 interrupts a second, and 0.5 % at 32 (Linux 6.18,
//! docs/overhead.md). The tick comes anyway, and hardly ever on an idle processor.
//!
//! But the tick is always at the same place of its 4 ms. Work of 0.1 ms that comes each 0.625 ms is met at five places then, and
//! what happens to be there was told to take 78 % of it instead of 48. Of a longer turn at
//! most one tick is too much or too few.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_perf_event_data,
    helpers::bpf_get_current_pid_tgid,
    macros::{map, perf_event, tracepoint},
    maps::{LruHashMap, PerCpuArray},
    programs::{PerfEventContext, TracePointContext},
};
use nodeprobe_ebpf::{
    ThreadRecord,
    part::SYSCALL_UNKNOWN,
    sample::{SAMPLE_ON_CPU, SAMPLE_PERIOD_NS, SAMPLE_YOUNG, YOUNG_EVERY},
    thread::STATE_WAIT,
};

use crate::{maps, registers, sampler, target};

/// When the last tick was seen, of each processor; `CLOCK_MONOTONIC`. The agent looks there whether ticks are seen at all.
#[map]
static TICK_SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Stack pointers by id of threads that run and of which the agent does not know whether they are workers; 0 = not met yet. The agent asks,
/// and forgets; the oldest go where a process ended in between.
#[map]
static STACK_POINTERS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// `timer:hrtimer_expire_entry`: a timer of this processor has expired, and the first to do so when a tick begins is the tick's.
#[tracepoint]
pub(crate) fn sample_tick(_ctx: TracePointContext) -> u32 {
    let now_ns = target::now_ns();
    let Some(tick) = maps::tick() else { return 0 };
    let Some(number) = tick.number(now_ns) else { return 0 };
    let Some(seen_ns) = TICK_SEEN.get_ptr_mut(0) else { return 0 };
    // SAFETY: a valid map value of this processor alone. Some timers expire with interrupts on, but the kernel skips a program of a
    // tracepoint or performance event that would interrupt another (`bpf_prog_active`).
    let seen_ns = unsafe { &mut *seen_ns };
    if now_ns - *seen_ns <= tick.lateness_ns() {
        return 0;
    }
    *seen_ns = now_ns;
    if tick.is_sampled(number) {
        sample_current(now_ns, |_, is_young| !is_young);
    }
    0
}

/// The clock of a processor: its period is [`SAMPLE_PERIOD_NS`], or beside the tick so many of them that every young turn it meets
/// is one to look at.
#[perf_event]
pub(crate) fn sample(ctx: PerfEventContext) -> u32 {
    let data = ctx.as_ptr().cast::<bpf_perf_event_data>();
    // SAFETY: the context of a program of this type; the verifier checks the access, which must be one whole load.
    let period_ns = unsafe { core::ptr::read_volatile(&raw const (*data).sample_period) };
    sample_current(target::now_ns(), |thread, is_young| {
        if period_ns > SAMPLE_PERIOD_NS {
            return is_young;
        }
        if is_young {
            thread.young_ticks = thread.young_ticks.wrapping_add(1);
        }
        !is_young || thread.young_ticks % YOUNG_EVERY == 0
    });
    0
}

/// The stack of who runs, if it is a loop thread in a turn, and `is_wanted` of it and whether the turn is young.
#[inline(always)]
fn sample_current(now_ns: u64, is_wanted: impl FnOnce(&mut ThreadRecord, bool) -> bool) {
    let pid_tgid = bpf_get_current_pid_tgid();
    // The idle thread.
    if pid_tgid == 0 {
        return;
    }
    let Some(thread) = target::current() else {
        if let Some(stack_pointer) = STACK_POINTERS.get_ptr_mut(pid_tgid as u32) {
            // SAFETY: the memory of the table is there from its start to its end, and any value is valid. An entry that the agent replaces at
            // this very moment may be another thread's by then, whose next sample writes over it.
            unsafe { *stack_pointer = registers::sp() };
        }
        return;
    };
    if thread.state != STATE_WAIT {
        let is_young = now_ns - thread.since_ns < SAMPLE_PERIOD_NS;
        if is_wanted(thread, is_young) {
            let flags = if is_young { SAMPLE_ON_CPU | SAMPLE_YOUNG } else { SAMPLE_ON_CPU };
            sampler::take(thread, flags, now_ns, SYSCALL_UNKNOWN, -1);
        }
    }
}

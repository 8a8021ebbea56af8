//! Off and on the processor: how a turn divides into running, waiting for a processor and being asleep, and where.
//!
//! Every switch and every waking of the host passes here, so the look-up of the thread is all that most of them cost.
//! A record is written by its own thread when it leaves, and by whoever wakes it or gives way to it afterwards; the
//! scheduler orders these, so there is still one writer at a time. Where the kernel preempts programs of uprobes, a switch can
//! come in the middle of a change of theirs; each touches fields of its own, and a reader may then see half of that one.
//!
//! A waking can be told within an interrupt, in the middle of any program that runs with interrupts on; what the kernel passes
//! itself is not held back then, as tracepoints with a format are (`bpf_prog_active`). So it may touch the record of the
//! thread that is woken, which does not run, the ring and the counters of losses, and may change no hash map.

use aya_ebpf::{
    EbpfContext as _, Global,
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map, tracepoint},
    maps::Array,
    programs::{BtfTracePointContext, TracePointContext},
};
use nodeprobe_ebpf::{
    Event, EventKind, ThreadRecord,
    event::{EVENT_VALUES, SLEPT_SYSCALL, SLEPT_TURN_START},
    part::{
        PART_ASLEEP, PART_CPU_WAIT, PART_GC, PART_STDIO_WRITE, PART_SYNC_IO, PARTS, SYSCALL_UNKNOWN,
        SYSCALLS_LEN,
    },
    switch::{SWITCH_MISREAD, SWITCH_READ_RIGHT},
    thread::STATE_WAIT,
};

use crate::{emit, maps::SYSCALL_PARTS, registers, sampler, stdio, target};

/// Offsets in the format of `sched:sched_switch`. Some distributions' kernels have others; the agent compares them with
/// the format file (`SCHED_FORMATS` in `bpf/attach.rs`) before it attaches.
const PREV_PID: usize = 24;
const PREV_STATE: usize = 32;
const NEXT_PID: usize = 56;
/// `sched:sched_wakeup`.
const WOKEN_PID: usize = 24;

/// Bits of `prev_state` that mean asleep; none of them: still ready to run. Above them is the mark of a preemption.
const ASLEEP: u64 = 0xff;

/// Of the thread that a processor runs when there is nothing to run.
const IDLE_PID: u32 = 0;
/// An idle processor takes 10 to 30 µs to run a thread that was woken (measured in a virtual machine). A wait on an idle
/// processor that is far longer is that of a cgroup whose quota is used up.
const IDLE_EXIT_NS: u64 = 1_000_000;
/// Shorter sleeps are not worth an event each.
const TOLD_SLEEP_NS: u64 = 1_000_000;

#[inline(always)]
fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: the context holds the fields at these constant offsets; the verifier checks the bound.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(offset).cast::<T>()) }
}

/// Where `task_struct` has the thread id, by the kernel's own description of its types. 0: not known.
#[unsafe(no_mangle)]
static TASK_PID_OFFSET: Global<u64> = Global::new(0);

/// `SWITCH_*` of the switches so far; 0: there was none. The agent looks there after it has attached.
#[map]
static SWITCHES_READ: Array<u64> = Array::with_max_entries(1, 0);

#[inline(always)]
fn note(read: u64) {
    if let Some(noted) = SWITCHES_READ.get_ptr_mut(0) {
        // SAFETY: a valid aligned word that is read and written whole. All switches of the host share it, so it is hardly ever written.
        unsafe {
            if core::ptr::read_volatile(noted) < read {
                core::ptr::write_volatile(noted, read);
            }
        }
    }
}

/// The thread id of a kernel task.
#[inline(always)]
fn pid_of(task: u64) -> u32 {
    let field = task.wrapping_add(TASK_PID_OFFSET.load()) as *const u32;
    // SAFETY: a task that is being switched or woken exists; the verifier knows its type and that this field is within it.
    unsafe { core::ptr::read_volatile(field) }
}

/// `sched_switch` with what the kernel itself passes: `(preempt, prev, next, prev_state)`, the last of them since Linux 5.18; before,
/// the program is refused. The kernel else writes each event down for us first: 0.06 µs more for a switch and a waking.
#[btf_tracepoint(function = "sched_switch")]
pub(crate) fn sched_switch_raw(ctx: BtfTracePointContext) -> i32 {
    let (preempt, prev, next, prev_state) =
        (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u64>(2), ctx.arg::<u64>(3));
    let prev_pid = bpf_get_current_pid_tgid() as u32;
    // Neither the order of arguments nor the place of the id is ABI.
    if pid_of(prev) != prev_pid {
        note(SWITCH_MISREAD);
        return 0;
    }
    note(SWITCH_READ_RIGHT);
    // A bool and an `unsigned int`.
    leaves(prev_pid, preempt & 0xff != 0 || prev_state as u32 == 0);
    enters(pid_of(next), prev_pid);
    0
}

/// `sched_wakeup` with what the kernel itself passes: `(task)`.
#[btf_tracepoint(function = "sched_wakeup")]
pub(crate) fn sched_wakeup_raw(ctx: BtfTracePointContext) -> i32 {
    wakes(pid_of(ctx.arg(0)));
    0
}

/// `sched:sched_switch`, where the other is refused. Refused before Linux 5.15, which does not tell in which system
/// call a thread sleeps.
#[tracepoint]
pub(crate) fn sched_switch(ctx: TracePointContext) -> u32 {
    let (prev_pid, next_pid) = (field::<u32>(&ctx, PREV_PID), field::<u32>(&ctx, NEXT_PID));
    leaves(prev_pid, field::<u64>(&ctx, PREV_STATE) & ASLEEP == 0);
    enters(next_pid, prev_pid);
    0
}

/// `sched:sched_wakeup`.
#[tracepoint]
pub(crate) fn sched_wakeup(ctx: TracePointContext) -> u32 {
    wakes(field(&ctx, WOKEN_PID));
    0
}

/// The switch has not happened yet: the current thread is the one that leaves.
#[inline(always)]
fn leaves(prev_pid: u32, is_ready: bool) {
    // One side of most switches of a service is the idle thread, which need not be looked up.
    if prev_pid != IDLE_PID
        && let Some(thread) = target::current()
        && thread.state != STATE_WAIT
    {
        leave(thread, is_ready);
    }
}

/// `next_pid` gets the processor on which `prev_pid` ran.
#[inline(always)]
fn enters(next_pid: u32, prev_pid: u32) {
    if next_pid != IDLE_PID
        && let Some(thread) = target::by_tid(next_pid)
        && thread.off_cpu_since_ns != 0
    {
        let now = target::now_ns();
        // Nobody was in the way on a processor that was idle; it had to leave its sleep first.
        let was_idle = prev_pid == IDLE_PID && now - thread.off_cpu_since_ns < IDLE_EXIT_NS;
        let part =
            if thread.off_cpu_woken != 0 && !was_idle { PART_CPU_WAIT as u32 } else { thread.off_cpu_part };
        credit(thread, part, now, 0);
    }
}

/// From here on the thread waits for a processor.
#[inline(always)]
fn wakes(woken_pid: u32) {
    if let Some(thread) = target::by_tid(woken_pid)
        && thread.off_cpu_since_ns != 0
        && thread.off_cpu_woken == 0
    {
        let now = target::now_ns();
        credit(thread, thread.off_cpu_part, now, now);
    }
}

#[inline(always)]
fn leave(thread: &mut ThreadRecord, is_ready: bool) {
    let (part, syscall) = if is_ready { (PART_CPU_WAIT as u32, SYSCALL_UNKNOWN) } else { sleep_of(thread) };
    let now = target::now_ns();
    target::begin_change(&mut thread.seq_end);
    thread.off_cpu_part = part;
    thread.off_cpu_syscall = syscall;
    thread.off_cpu_woken = is_ready.into();
    thread.off_cpu_since_ns = now;
    target::end_change(&mut thread.seq_begin, thread.seq_end);
    if !is_ready {
        sampler::asleep(thread, now);
    }
}

/// The part that a sleep of the current thread belongs to, and its system call.
#[inline(always)]
fn sleep_of(thread: &mut ThreadRecord) -> (u32, u32) {
    let syscall = registers::syscall_number();
    let part = if syscall < SYSCALLS_LEN {
        SYSCALL_PARTS.get(syscall).copied().unwrap_or(PART_ASLEEP as u32)
    } else {
        PART_ASLEEP as u32
    };
    if part == PART_STDIO_WRITE as u32 {
        stdio::sleep_in_write(thread, registers::first_argument() as u32);
    }
    let part = if thread.gc_active != 0 {
        PART_GC as u32
    } else if thread.write_start_ns != 0 {
        PART_STDIO_WRITE as u32
    } else if part == PART_STDIO_WRITE as u32 {
        // To another file.
        PART_SYNC_IO as u32
    } else {
        part
    };
    (part, syscall)
}

/// Adds the time off the processor up to now to a part. `still_off_ns`: 0 when the thread runs again, else now: it was
/// woken and waits.
#[inline(always)]
fn credit(thread: &mut ThreadRecord, part: u32, now_ns: u64, still_off_ns: u64) {
    let duration_ns = now_ns - thread.off_cpu_since_ns;
    if part != PART_CPU_WAIT as u32
        && thread.off_cpu_since_ns == thread.blocked_sample_ns
        && duration_ns >= TOLD_SLEEP_NS
    {
        tell_sleep(thread, part, duration_ns);
    }
    target::begin_change(&mut thread.seq_end);
    add(&mut thread.turn_parts_ns, part as usize, duration_ns);
    if part != PART_CPU_WAIT as u32 && part != PART_GC as u32 && duration_ns > thread.longest_sleep_ns {
        thread.longest_sleep_ns = duration_ns;
        thread.longest_sleep_syscall = thread.off_cpu_syscall;
        thread.longest_sleep_part = part;
    }
    thread.off_cpu_since_ns = still_off_ns;
    thread.off_cpu_woken = (still_off_ns != 0).into();
    target::end_change(&mut thread.seq_begin, thread.seq_end);
}

/// A sampled sleep has ended: what its stack stands for.
#[inline(always)]
fn tell_sleep(thread: &ThreadRecord, part: u32, duration_ns: u64) {
    let mut values = [0; EVENT_VALUES];
    values[SLEPT_TURN_START] = thread.since_ns;
    values[SLEPT_SYSCALL] = thread.off_cpu_syscall.into();
    emit::send(&Event {
        kind: EventKind::Slept as u32,
        detail: part,
        tgid: thread.tgid,
        tid: thread.tid,
        start_ns: thread.off_cpu_since_ns,
        duration_ns,
        values,
    });
}

#[inline(always)]
fn add(parts_ns: &mut [u64; PARTS], part: usize, duration_ns: u64) {
    if part < PARTS {
        parts_ns[part] += duration_ns;
    }
}

/// Time already counted while the bracket around a collection or a write was open: waiting for a processor, and
/// asleep inside. Taken at its begin and handed to [`close_bracket`] at its end.
#[inline(always)]
pub(crate) fn open_bracket(thread: &ThreadRecord, part: usize) -> u64 {
    thread.turn_parts_ns[PART_CPU_WAIT] + thread.turn_parts_ns[part]
}

/// Adds to `part` what of the bracket's time is not counted yet: it ran.
#[inline(always)]
pub(crate) fn close_bracket(thread: &mut ThreadRecord, part: usize, opened_ns: u64, duration_ns: u64) {
    let counted_ns = open_bracket(thread, part) - opened_ns;
    if duration_ns > counted_ns {
        thread.turn_parts_ns[part] += duration_ns - counted_ns;
    }
}

/// A new turn begins.
#[inline(always)]
pub(crate) fn reset(thread: &mut ThreadRecord) {
    thread.turn_parts_ns = [0; PARTS];
    thread.longest_sleep_ns = 0;
    thread.longest_sleep_syscall = SYSCALL_UNKNOWN;
    thread.blocked_samples = 0;
    // No write outlives its turn; one whose return was missed must not take the sleeps of all later ones.
    thread.write_start_ns = 0;
}

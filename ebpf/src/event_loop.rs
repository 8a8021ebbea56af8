//! Turns of the event loop: from the return of `epoll_wait` to the next entry of it on the same epoll instance.
//!
//! The hot path is two tracepoints per turn. `uv__io_poll` is not probed at all: `SpinEventLoop` and `uv_run` are
//! entered once per loop, not once per turn, and tell which epoll instance is the loop's own. A wait on any other
//! (the private loop of `execSync`) leaves the turn open: blocked time.

use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{tracepoint, uprobe},
    programs::{ProbeContext, TracePointContext},
};
use nodeprobe_ebpf::{
    Event, EventKind, ThreadRecord,
    event::{EVENT_VALUES, SLEEP_NS, SLEEP_PART, SLEEP_SYSCALL, STALL_LOWER_BOUND, STALL_STARTUP},
    histogram::TURN_BOUNDS_NS,
    part::PARTS,
    thread::{
        FLAG_ATTACHED_LATE, FLAG_EMPTY_WAIT, FLAG_EPFD_CONFIRMED, FLAG_FROM_START, FLAG_LOOP_EXPECTED,
        FLAG_LOOPED, REPOLL_NS, STATE_TURN, STATE_UNKNOWN, STATE_WAIT,
    },
};

use crate::{emit, gc, lifecycle, maps, rejections, sched, target};

/// Arguments of a `syscalls:sys_enter_*` tracepoint start at byte 16, one machine word each; `ret` of
/// `sys_exit_*` is there too. The format has been the same on all 64-bit kernels since 3.5.
const ARGS: usize = 16;

/// `uv_loop_t.backend_fd`; the agent has compared it with the code of `uv_backend_fd` in this very binary.
const UV_LOOP_BACKEND_FD: usize = 64;

#[inline(always)]
pub(crate) fn word(ctx: &TracePointContext, index: usize) -> u64 {
    use aya_ebpf::EbpfContext as _;
    // SAFETY: the tracepoint's context holds the words at these constant offsets; the verifier checks the bound.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(ARGS + index * 8).cast::<u64>()) }
}

/// `epoll_wait`, `epoll_pwait`, `epoll_pwait2`: `(epfd, events, maxevents, timeout)`.
#[tracepoint]
pub(crate) fn epoll_enter(ctx: TracePointContext) -> u32 {
    if let Some(thread) = target::current() {
        let epfd = word(&ctx, 0) as i32;
        if thread.epfd != epfd && !adopt(thread, epfd) {
            if thread.state == STATE_UNKNOWN {
                // A nested loop waits inside a turn.
                thread.state = STATE_TURN;
            }
            return 0;
        }
        let now = target::now_ns();
        target::begin_change(&mut thread.seq_end);
        let timeout_ms = word(&ctx, 3) as i32;
        if is_repoll(thread, timeout_ms, now) {
            thread.busy_ns += now - thread.since_ns;
        } else if thread.state != STATE_WAIT {
            end_turn(thread, now);
        }
        if thread.flags & FLAG_LOOPED == 0 {
            lifecycle::first_wait(thread, now);
        }
        thread.state = STATE_WAIT;
        thread.since_ns = now;
        thread.wait_timeout_ms = timeout_ms;
        thread.flags = (thread.flags | FLAG_LOOPED) & !(FLAG_ATTACHED_LATE | FLAG_EMPTY_WAIT);
        target::end_change(&mut thread.seq_begin, thread.seq_end);
    }
    0
}

/// The return of the same calls.
#[tracepoint]
pub(crate) fn epoll_exit(ctx: TracePointContext) -> u32 {
    if let Some(thread) = target::current() {
        if thread.state == STATE_TURN {
            // The wait of a nested loop: the turn goes on.
            return 0;
        }
        let now = target::now_ns();
        target::begin_change(&mut thread.seq_end);
        thread.idle_ns += now - thread.since_ns;
        thread.since_ns = now;
        if word(&ctx, 0) as i64 <= 0 {
            thread.flags |= FLAG_EMPTY_WAIT;
        }
        thread.state = STATE_TURN;
        thread.flags &= !FLAG_ATTACHED_LATE;
        sched::reset(thread);
        target::end_change(&mut thread.seq_begin, thread.seq_end);
    }
    0
}

/// Whether a wait on `epfd` is a wait of the thread's own loop, and if it is, remembers it. A guess gives way to
/// a later one, because every nested loop that begins under observation is announced by `uv_run`.
#[inline(always)]
fn adopt(thread: &mut ThreadRecord, epfd: i32) -> bool {
    if thread.flags & FLAG_EPFD_CONFIRMED != 0 || thread.nested_epfd == epfd {
        return false;
    }
    thread.epfd = epfd;
    true
}

/// Whether libuv polls a second time inside one `uv__io_poll`; see `REPOLL_NS`. Two polls with timeout 0 in a row
/// are turns: so a loop looks that runs `setImmediate` callbacks.
#[inline(always)]
fn is_repoll(thread: &ThreadRecord, timeout_ms: i32, now_ns: u64) -> bool {
    thread.state == STATE_TURN
        && thread.flags & FLAG_EMPTY_WAIT != 0
        && (timeout_ms != 0 || thread.wait_timeout_ms != 0)
        && now_ns - thread.since_ns < REPOLL_NS
}

/// Ends the turn under way; the caller has opened the change.
#[inline(always)]
pub(crate) fn end_turn(thread: &mut ThreadRecord, now_ns: u64) {
    gc::abandon(thread);
    rejections::end_turn(thread);
    let duration_ns = now_ns - thread.since_ns;
    thread.busy_ns += duration_ns;
    let epoch = maps::epoch();
    thread.turns.record(duration_ns, &TURN_BOUNDS_NS, epoch);
    if duration_ns >= maps::stall_threshold_ns() {
        thread.stalls.record(duration_ns, &TURN_BOUNDS_NS, epoch);
        lifecycle::started_with(thread, thread.since_ns, now_ns);
        let startup = thread.flags & (FLAG_FROM_START | FLAG_LOOPED) == FLAG_FROM_START;
        let late = thread.flags & FLAG_ATTACHED_LATE != 0;
        let mut values = [0; EVENT_VALUES];
        for part in 0..PARTS {
            thread.stall_parts_ns[part] += thread.turn_parts_ns[part];
            values[part] = thread.turn_parts_ns[part];
        }
        values[SLEEP_NS] = thread.longest_sleep_ns;
        values[SLEEP_SYSCALL] = thread.longest_sleep_syscall.into();
        values[SLEEP_PART] = thread.longest_sleep_part.into();
        emit::send(&Event {
            kind: EventKind::Stall as u32,
            detail: u32::from(startup) * STALL_STARTUP | u32::from(late) * STALL_LOWER_BOUND,
            tgid: thread.tgid,
            tid: thread.tid,
            start_ns: thread.since_ns,
            duration_ns,
            values,
        });
    }
}

/// `node::LoadEnvironment`: from here on the script runs, for the first time and without a turn of the loop.
#[uprobe]
pub(crate) fn load_environment(_ctx: ProbeContext) -> u32 {
    if let Some(thread) = target::observe_current(FLAG_FROM_START) {
        // The making of the environment before it is Node's own start, not the application's.
        if thread.flags & (FLAG_FROM_START | FLAG_LOOPED) == FLAG_FROM_START && thread.state != STATE_WAIT {
            let now = target::now_ns();
            target::begin_change(&mut thread.seq_end);
            thread.state = STATE_TURN;
            thread.observed_ns = now;
            thread.since_ns = now;
            if thread.environment_ns == 0 {
                thread.environment_ns = now;
            }
            sched::reset(thread);
            target::end_change(&mut thread.seq_begin, thread.seq_end);
        }
    }
    0
}

/// `node::SpinEventLoop` and `SpinEventLoopInternal`: the next `uv_run` of this thread is its own loop.
#[uprobe]
pub(crate) fn spin_event_loop(_ctx: ProbeContext) -> u32 {
    if let Some(thread) = target::observe_current(0) {
        thread.flags |= FLAG_LOOP_EXPECTED;
    }
    0
}

/// `uv_run(uv_loop_t*, uv_run_mode)`: of the loop itself or of a nested one.
#[uprobe]
pub(crate) fn uv_run(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let Some(uv_loop) = ctx.arg::<u64>(0) else { return 0 };
    let field = (uv_loop as usize + UV_LOOP_BACKEND_FD) as *const i32;
    // SAFETY: the helper checks the address; a failed read leaves the guess in place.
    let Ok(epfd) = (unsafe { bpf_probe_read_user(field) }) else { return 0 };
    if thread.flags & FLAG_LOOP_EXPECTED != 0 {
        thread.flags = (thread.flags | FLAG_EPFD_CONFIRMED) & !FLAG_LOOP_EXPECTED;
        thread.epfd = epfd;
    } else if thread.epfd != epfd {
        thread.nested_epfd = epfd;
    }
    0
}

/// `node::worker::Worker::Run`, on the worker's own thread.
#[uprobe]
pub(crate) fn worker_run(_ctx: ProbeContext) -> u32 {
    let _ = target::observe_current(FLAG_FROM_START);
    0
}

/// Closes the state of a thread that ends.
#[inline(always)]
pub(crate) fn close(thread: &mut ThreadRecord, now_ns: u64) {
    match thread.state {
        STATE_WAIT => thread.idle_ns += now_ns - thread.since_ns,
        // A wait returns before its thread can end, so with no return seen there was none.
        _ => end_turn(thread, now_ns),
    }
}

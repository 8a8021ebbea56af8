//! Processes and loop threads that begin and end.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext};
use nodeprobe_ebpf::{
    Event, EventKind, ThreadRecord,
    event::EVENT_VALUES,
    thread::{FLAG_EXITED, START_MAX_NS, START_NEVER_STEADY, START_QUIET_NS, START_STEADY},
};

use crate::{emit, event_loop, stdio, target};

/// `sched:sched_process_exec`, in the new program. Every process: which of them are Node, the agent finds out.
#[tracepoint]
pub(crate) fn process_exec(_ctx: TracePointContext) -> u32 {
    let now = target::now_ns();
    if let Some(thread) = target::current() {
        // The old program was a Node process; its main thread has become another program's.
        end(thread, now);
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    emit::send(&Event {
        kind: EventKind::Exec as u32,
        detail: 0,
        tgid,
        tid: tgid,
        start_ns: now,
        duration_ns: 0,
        values: [0; EVENT_VALUES],
    });
    0
}

/// `sched:sched_process_exit`, for every thread.
#[tracepoint]
pub(crate) fn thread_exit(_ctx: TracePointContext) -> u32 {
    if let Some(thread) = target::current() {
        end(thread, target::now_ns());
    }
    0
}

/// `syscalls:sys_exit_listen`: a server that has begun to listen is what its start-up was for.
#[tracepoint]
pub(crate) fn listen_exit(ctx: TracePointContext) -> u32 {
    if event_loop::word(&ctx, 0) == 0
        && let Some(thread) = target::current()
    {
        let now = target::now_ns();
        if thread.listening_ns == 0 {
            thread.listening_ns = now;
        }
        emit::thread_event(EventKind::Listening, thread, now);
    }
    0
}

/// Something of the kind that a start consists of, from `begin_ns` to `end_ns`. Where it follows soon upon what is known of the
/// start, it is part of it.
#[inline(always)]
pub(crate) fn started_with(thread: &mut ThreadRecord, begin_ns: u64, end_ns: u64) {
    if thread.start_over != 0 {
        return;
    }
    if thread.first_wait_ns != 0 {
        if begin_ns > thread.start_end_ns + START_QUIET_NS {
            thread.start_over = START_STEADY;
            return;
        }
        if end_ns > thread.first_wait_ns + START_MAX_NS {
            thread.start_over = START_NEVER_STEADY;
            return;
        }
        thread.start_end_ns = end_ns;
    }
    thread.start_modules = thread.modules.iter().sum();
    thread.start_module_ns = thread.module_ns.iter().sum();
}

/// The loop of a thread waits for the first time.
#[inline(always)]
pub(crate) fn first_wait(thread: &mut ThreadRecord, now_ns: u64) {
    if thread.environment_ns != 0 {
        thread.first_wait_ns = now_ns;
        thread.start_end_ns = now_ns;
    }
}

/// Closes the record and leaves it for the agent, which reads the last values and then removes it.
#[inline(always)]
fn end(thread: &mut ThreadRecord, now_ns: u64) {
    target::begin_change(&mut thread.seq_end);
    event_loop::close(thread, now_ns);
    stdio::end_write(thread);
    thread.flags |= FLAG_EXITED;
    thread.exit_ns = now_ns;
    target::end_change(&mut thread.seq_begin, thread.seq_end);
    emit::thread_event(EventKind::ThreadExit, thread, now_ns);
}

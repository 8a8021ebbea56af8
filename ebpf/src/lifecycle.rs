//! Processes and loop threads that begin and end.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext};
use nodeprobe_ebpf::{Event, EventKind, ThreadRecord, event::EVENT_VALUES, thread::FLAG_EXITED};

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
        emit::thread_event(EventKind::Listening, thread, target::now_ns());
    }
    0
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

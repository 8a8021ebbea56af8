//! Which thread is this, and is it a loop thread? The filter in front of every program.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_ns};
use nodeprobe_ebpf::{
    DropReason, EventKind, ThreadRecord,
    thread::{FLAG_EXITED, KIND_MAIN, KIND_WORKER, STATE_TURN},
};

use crate::{
    emit,
    maps::{FRESH_THREAD, THREADS},
    sched,
};

#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail. It reads CLOCK_MONOTONIC, as the agent does.
    unsafe { bpf_ktime_get_ns() }
}

/// The record of the current thread if it is a live loop thread.
///
/// The reference is exclusive but for the scheduler's programs, which write fields of their own (`sched`): a record is
/// else written by its own thread only.
#[inline(always)]
pub(crate) fn current() -> Option<&'static mut ThreadRecord> {
    by_tid(bpf_get_current_pid_tgid() as u32)
}

/// The record of another thread if it is a live loop thread. For the scheduler's programs, which run when that thread does
/// not, and for `thread_pool`, whose fields no other program touches.
#[inline(always)]
pub(crate) fn by_tid(tid: u32) -> Option<&'static mut ThreadRecord> {
    let record = THREADS.get_ptr_mut(tid)?;
    // SAFETY: the map value stays valid while the program runs (RCU); see above for exclusiveness.
    let record = unsafe { &mut *record };
    (record.flags & FLAG_EXITED == 0).then_some(record)
}

/// `main` for the first thread of a process, else `worker`. Only for threads that are known to run a loop.
#[inline(always)]
pub(crate) fn kind_of_current() -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    if (pid_tgid >> 32) as u32 == pid_tgid as u32 { KIND_MAIN } else { KIND_WORKER }
}

/// The record of the current thread, which is made if it is not there: the caller knows that it runs a loop.
/// A new one begins in a turn.
#[inline(always)]
pub(crate) fn observe_current(flags: u32) -> Option<&'static mut ThreadRecord> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    if let Some(record) = THREADS.get_ptr_mut(tid) {
        // SAFETY: as in `current`.
        let record = unsafe { &mut *record };
        if record.flags & FLAG_EXITED == 0 && record.tgid == tgid {
            return Some(record);
        }
        emit::lost(DropReason::ThreadReused);
    }
    let fresh = FRESH_THREAD.get(0)?;
    if THREADS.insert(tid, fresh, 0).is_err() {
        emit::lost(DropReason::ThreadTableFull);
        return None;
    }
    let record = THREADS.get_ptr_mut(tid)?;
    // SAFETY: as in `current`.
    let record = unsafe { &mut *record };
    let now = now_ns();
    record.tgid = tgid;
    record.tid = tid;
    record.kind = kind_of_current();
    record.flags = flags;
    record.state = STATE_TURN;
    record.epfd = -1;
    record.nested_epfd = -1;
    record.tty_fds = [-1; 2];
    record.observed_ns = now;
    record.since_ns = now;
    sched::reset(record);
    emit::thread_event(EventKind::ThreadStart, record, now);
    Some(record)
}

/// Opens a change of a record; see `ThreadRecord::seq_begin`.
#[inline(always)]
pub(crate) fn begin_change(seq_end: &mut u64) {
    let next = *seq_end + 1;
    // SAFETY: a plain store through a valid reference; volatile keeps it in front of the change.
    unsafe { core::ptr::write_volatile(seq_end, next) };
}

/// Closes a change of a record.
#[inline(always)]
pub(crate) fn end_change(seq_begin: &mut u64, seq_end: u64) {
    // SAFETY: a plain store through a valid reference; volatile keeps it behind the change.
    unsafe { core::ptr::write_volatile(seq_begin, seq_end) };
}

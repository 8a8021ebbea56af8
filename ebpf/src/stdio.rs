//! Writes of loop threads to stdout and stderr: bytes, calls, blocked time, `EAGAIN`.
//!
//! Only the loop's own thread counts: a write in the thread pool blocks nobody. What kind of file the descriptor
//! is, the agent asks `/proc`.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext};
use nodeprobe_ebpf::{
    DropReason, StdioKey, StdioRecord, ThreadRecord,
    histogram::STDIO_BOUNDS_NS,
    part::PART_STDIO_WRITE,
    stdio_record::{BLOCKED_NS, TTY_FDS_LEN},
};

use crate::{
    emit,
    event_loop::word,
    maps::{self, FRESH_STDIO, STDIO, TTY_FDS, WRITERS, WRITERS_LEN},
    registers, sched, sockets, target,
};

const EAGAIN: i64 = 11;

/// `dup3` of a terminal that libuv has opened anew onto stdout or stderr: `uv_tty_init` alone does it with this flag.
const O_CLOEXEC: u32 = 0o2_000_000;

/// The return of `write` and `writev`: `(fd, ...)`. All but a few calls on a host are for other descriptors, so the way
/// out for them is the hot path; and their entry is not traced at all. Two tracepoints cost a busy HTTP server twice the
/// time of one, and the entry would only tell how long the kernel copied: a write that blocks is asleep, and that the
/// scheduler's program sees ([`sleep_in_write`]).
#[tracepoint]
pub(crate) fn write_return(ctx: TracePointContext) -> u32 {
    let fd = registers::first_argument() as u32;
    if fd != 1 && fd != 2 && !is_some_terminal(fd) {
        if word(&ctx, 0) as i64 == -EAGAIN {
            sockets::refused(fd);
        }
        return 0;
    }
    let Some(thread) = target::current() else { return 0 };
    let Some(stream) = stream_number(thread, fd) else { return 0 };
    thread.write_fd = stream;
    let duration_ns = if thread.write_start_ns != 0 { target::now_ns() - thread.write_start_ns } else { 0 };
    end_of_write(&ctx, thread, duration_ns);
    0
}

/// The current thread falls asleep in `write` or `writev` to `fd`.
#[inline(always)]
pub(crate) fn sleep_in_write(thread: &mut ThreadRecord, fd: u32) {
    if thread.write_start_ns == 0
        && let Some(stream) = stream_number(thread, fd)
    {
        thread.write_fd = stream;
        thread.write_opened_ns = sched::open_bracket(thread, PART_STDIO_WRITE);
        thread.write_start_ns = target::now_ns();
    }
}

/// 1 stdout, 2 stderr, also by another descriptor of its terminal; `None` for all others.
#[inline(always)]
fn stream_number(thread: &ThreadRecord, fd: u32) -> Option<u32> {
    if fd == 1 || fd as i32 == thread.tty_fds[0] {
        Some(1)
    } else if fd == 2 || fd as i32 == thread.tty_fds[1] {
        Some(2)
    } else {
        None
    }
}

/// `write` and `writev` where the return does not tell the descriptor (before Linux 5.15) or sleeps are not seen.
#[tracepoint]
pub(crate) fn write_enter(ctx: TracePointContext) -> u32 {
    let fd = word(&ctx, 0) as u32;
    if fd != 1 && fd != 2 && !is_some_terminal(fd) {
        return 0;
    }
    let Some(thread) = target::current() else { return 0 };
    let Some(stream) = stream_number(thread, fd) else { return 0 };
    thread.write_fd = stream;
    thread.write_opened_ns = sched::open_bracket(thread, PART_STDIO_WRITE);
    thread.write_start_ns = target::now_ns();
    announce_write(thread.tid);
    0
}

#[inline(always)]
fn is_some_terminal(fd: u32) -> bool {
    let slot = if fd < TTY_FDS_LEN { fd } else { TTY_FDS_LEN - 1 };
    TTY_FDS.get(slot).is_some_and(|marked| *marked != 0)
}

/// An entry of `WRITERS` that two threads wanted at once: from then on their returns are looked up.
const SHARED: u32 = u32::MAX;

#[inline(always)]
fn writer_slot(tid: u32) -> Option<&'static mut u32> {
    // SAFETY: array values live as long as the program; aligned u32s that are read and written whole.
    WRITERS.get_ptr_mut(tid % WRITERS_LEN).map(|slot| unsafe { &mut *slot })
}

#[inline(always)]
fn announce_write(tid: u32) {
    if let Some(slot) = writer_slot(tid)
        && *slot != tid
    {
        *slot = if *slot == 0 { tid } else { SHARED };
    }
}

/// `dup3`: `(oldfd, newfd, flags)`.
#[tracepoint]
pub(crate) fn dup_enter(ctx: TracePointContext) -> u32 {
    let (from, onto, flags) = (word(&ctx, 0) as u32, word(&ctx, 1) as u32, word(&ctx, 2) as u32);
    if (onto != 1 && onto != 2) || from <= 2 || flags != O_CLOEXEC {
        return 0;
    }
    if let Some(thread) = target::current() {
        if onto == 1 {
            thread.tty_fds[0] = from as i32;
        } else {
            thread.tty_fds[1] = from as i32;
        }
        let slot = if from < TTY_FDS_LEN { from } else { TTY_FDS_LEN - 1 };
        if let Some(marked) = TTY_FDS.get_ptr_mut(slot) {
            // SAFETY: a valid aligned slot that only ever becomes 1.
            unsafe { core::ptr::write_volatile(marked, 1) };
        }
    }
    0
}

/// The return that belongs to [`write_enter`].
#[tracepoint]
pub(crate) fn write_exit(ctx: TracePointContext) -> u32 {
    let tid = bpf_get_current_pid_tgid() as u32;
    if writer_slot(tid).is_none_or(|slot| *slot != tid && *slot != SHARED) {
        return 0;
    }
    if let Some(thread) = target::current()
        && thread.write_start_ns != 0
    {
        let duration_ns = target::now_ns() - thread.write_start_ns;
        end_of_write(&ctx, thread, duration_ns);
    }
    0
}

#[inline(always)]
fn end_of_write(ctx: &TracePointContext, thread: &mut ThreadRecord, duration_ns: u64) {
    // What V8 prints in a collection (`--trace-gc`) is time of the collection.
    if thread.write_start_ns != 0 && thread.gc_active == 0 {
        sched::close_bracket(thread, PART_STDIO_WRITE, thread.write_opened_ns, duration_ns);
    }
    end_write(thread);
    if let Some(stream) = stream_of(thread) {
        count(stream, word(ctx, 0) as i64, duration_ns);
    }
}

/// Closes the write under way, if there is one; also for a thread that was killed in it.
#[inline(always)]
pub(crate) fn end_write(thread: &mut ThreadRecord) {
    if thread.write_start_ns != 0 {
        thread.write_start_ns = 0;
        if let Some(slot) = writer_slot(thread.tid)
            && *slot == thread.tid
        {
            *slot = 0;
        }
    }
}

/// The counters of the stream that `thread` has just written to.
#[inline(always)]
fn stream_of(thread: &ThreadRecord) -> Option<&'static mut StdioRecord> {
    let key = StdioKey { tid: thread.tid, fd: thread.write_fd };
    if let Some(stream) = STDIO.get_ptr_mut(key) {
        // SAFETY: valid while the program runs (RCU); the thread is the only writer of its key.
        let stream = unsafe { &mut *stream };
        if stream.tgid == thread.tgid {
            return Some(stream);
        }
    }
    if STDIO.insert(key, FRESH_STDIO.get(0)?, 0).is_err() {
        emit::lost(DropReason::StdioTableFull);
        return None;
    }
    // SAFETY: as above.
    let stream = unsafe { &mut *STDIO.get_ptr_mut(key)? };
    stream.tgid = thread.tgid;
    Some(stream)
}

#[inline(always)]
fn count(stream: &mut StdioRecord, result: i64, duration_ns: u64) {
    target::begin_change(&mut stream.seq_end);
    stream.durations.record(duration_ns, &STDIO_BOUNDS_NS, maps::epoch());
    if result >= 0 {
        stream.bytes += result as u64;
        stream.writes += 1;
        if duration_ns >= BLOCKED_NS {
            stream.blocked_ns += duration_ns;
        }
    } else if result == -EAGAIN {
        stream.eagain += 1;
    }
    target::end_change(&mut stream.seq_begin, stream.seq_end);
}

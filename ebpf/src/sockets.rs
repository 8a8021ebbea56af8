//! Writes that a full socket refuses: its peer reads more slowly than the process writes, or not at all.
//!
//! Only refusals are looked at, so that the writes that succeed, nearly all, pay for one comparison. How much waits in the
//! socket, for whom, and whether it drains again, the agent asks `/proc`.
//!
//! Node tries to write first, and gives what the socket has not taken to `uv_write2`, which puts it into the queue of the stream
//! and tries once more: a write that was taken in part is refused there. How much the queue has, the agent reads in the stream.

use nodeprobe_ebpf::{DropReason, SocketKey, SocketRecord};

use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{map, uprobe},
    maps::HashMap,
    programs::ProbeContext,
};

use crate::{emit, target};

/// Sockets that have refused a write, until the agent finds them drained or their process gone.
#[map]
static SOCKETS: HashMap<SocketKey, SocketRecord> = HashMap::with_max_entries(4096, 0);

/// `uv_stream_t.io_watcher.fd`: the same in every libuv 1.x on 64-bit Linux, whose ABI is stable.
const STREAM_FD: u64 = 184;

/// `write` or `writev` to `fd`, which is neither stdout nor stderr, returned `EAGAIN`.
#[inline(always)]
pub(crate) fn refused(fd: u32) {
    let Some(thread) = target::current() else { return };
    thread.sockets_refused += 1;
    let key = SocketKey { tgid: thread.tgid, fd };
    if SOCKETS.get_ptr(key).is_none() {
        let stream = if thread.stream_fd == fd { thread.stream } else { 0 };
        let record = SocketRecord { since_ns: target::now_ns(), stream };
        if SOCKETS.insert(key, record, 0).is_err() {
            emit::lost(DropReason::SocketTableFull);
        }
    }
}

/// `uv_write2(uv_write_t*, uv_stream_t*, ...)`, before it tries to write.
#[uprobe]
pub(crate) fn stream_write(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let Some(stream) = ctx.arg::<u64>(1) else { return 0 };
    // SAFETY: the helper checks the address.
    let Ok(fd) = (unsafe { bpf_probe_read_user(stream.wrapping_add(STREAM_FD) as *const u32) }) else {
        return 0;
    };
    (thread.stream, thread.stream_fd) = (stream, fd);
    // The first refusal came before this, and a descriptor can be that of another stream by now.
    if let Some(record) = SOCKETS.get_ptr_mut(SocketKey { tgid: thread.tgid, fd }) {
        // SAFETY: map values live as long as the program; only the loop thread that owns the stream writes this field.
        unsafe { (*record).stream = stream };
    }
    0
}

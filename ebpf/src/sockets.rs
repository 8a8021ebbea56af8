//! Writes that a full socket refuses: its peer reads more slowly than the process writes, or not at all.
//!
//! Only refusals are looked at, so that the writes that succeed, nearly all, pay for one comparison. How much waits in the
//! socket, for whom, and whether it drains again, the agent asks `/proc`.

use nodeprobe_ebpf::{DropReason, SocketKey, SocketRecord};

use aya_ebpf::{macros::map, maps::HashMap};

use crate::{emit, target};

/// Sockets that have refused a write, until the agent finds them drained or their process gone.
#[map]
static SOCKETS: HashMap<SocketKey, SocketRecord> = HashMap::with_max_entries(4096, 0);

/// `write` or `writev` to `fd`, which is neither stdout nor stderr, returned `EAGAIN`.
#[inline(always)]
pub(crate) fn refused(fd: u32) {
    let Some(thread) = target::current() else { return };
    thread.sockets_refused += 1;
    let key = SocketKey { tgid: thread.tgid, fd };
    if SOCKETS.get_ptr(key).is_none() {
        let record = SocketRecord { since_ns: target::now_ns() };
        if SOCKETS.insert(key, record, 0).is_err() {
            emit::lost(DropReason::SocketTableFull);
        }
    }
}

//! Writes that a full socket refuses: its peer reads more slowly than the process writes, or not at all.
//!
//! Only refusals are looked at, so that the writes that succeed, nearly all, pay for one comparison. How much waits in the
//! socket, for whom, and whether it drains again, the agent asks `/proc`.

use nodeprobe_ebpf::{SocketKey, SocketRecord};

use aya_ebpf::{macros::map, maps::LruHashMap};

use crate::target;

/// Sockets that have refused a write, until the agent finds them drained.
#[map]
static SOCKETS: LruHashMap<SocketKey, SocketRecord> = LruHashMap::with_max_entries(1024, 0);

/// `write` or `writev` to `fd`, which is neither stdout nor stderr, returned `EAGAIN`.
#[inline(always)]
pub(crate) fn refused(fd: u32) {
    let Some(thread) = target::current() else { return };
    thread.sockets_refused += 1;
    let key = SocketKey { tgid: thread.tgid, fd };
    if SOCKETS.get_ptr(key).is_none() {
        let record = SocketRecord { since_ns: target::now_ns() };
        // It refuses nothing: the entry that was used longest ago makes room.
        SOCKETS.insert(key, record, 0).ok();
    }
}

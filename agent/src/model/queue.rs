//! What waits: work for a thread of libuv's pool, data for the reader at the other end of a socket.

use std::sync::Arc;

use nodeprobe_ebpf::thread::{POOL_CRYPTO, POOL_DNS, POOL_FS, POOL_KINDS, POOL_OTHER, POOL_ZLIB};

use super::{Frame, FrameKind, Stack};

/// Kinds of work by their place in [`Pool::kinds`].
pub const POOL_NAMES: [&str; POOL_KINDS] = {
    let mut names = [""; POOL_KINDS];
    names[POOL_FS] = "fs";
    names[POOL_DNS] = "dns";
    names[POOL_CRYPTO] = "crypto";
    names[POOL_ZLIB] = "zlib";
    names[POOL_OTHER] = "other";
    names
};

/// libuv's pool of threads, as far as loops have handed work to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// By kind of work.
    pub kinds: [PoolWork; POOL_KINDS],
    /// The longest wait of what was begun in the interval; `None`: nothing was.
    pub max_wait_ns: Option<u64>,
    /// Work that waits at this moment, and for how long the first of it has.
    pub waiting: u64,
    pub oldest_wait_ns: u64,
}

/// Work that a thread of the pool has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolWork {
    pub tasks: u64,
    /// How long it had waited, summed.
    pub waited_ns: u64,
    /// For how long threads were busy with such work while other work waited for them, summed.
    pub busy_ns: u64,
}

impl Pool {
    pub fn tasks(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.tasks).sum()
    }

    pub fn waited_ns(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.waited_ns).sum()
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let mut since = self;
        for (kind, before) in since.kinds.iter_mut().zip(earlier.kinds) {
            kind.tasks = kind.tasks.saturating_sub(before.tasks);
            kind.waited_ns = kind.waited_ns.saturating_sub(before.waited_ns);
            kind.busy_ns = kind.busy_ns.saturating_sub(before.busy_ns);
        }
        since
    }

    /// Takes in what another loop of the same process has handed to the one pool.
    pub fn merge(&mut self, other: Self) {
        for (kind, more) in self.kinds.iter_mut().zip(other.kinds) {
            kind.tasks += more.tasks;
            kind.waited_ns += more.waited_ns;
            kind.busy_ns += more.busy_ns;
        }
        self.max_wait_ns = self.max_wait_ns.max(other.max_wait_ns);
        self.waiting += other.waiting;
        self.oldest_wait_ns = self.oldest_wait_ns.max(other.oldest_wait_ns);
    }
}

/// The kind of work that is handed in where this stack was taken: by native functions of libuv and Node, or by the scripts of Node
/// that call them. A probe at the entry of a function does not see its immediate caller.
pub fn kind_of_work(stack: &Stack) -> usize {
    let mut of_node = stack.frames.iter().take_while(|frame| frame.kind != FrameKind::JavaScript);
    of_node.find_map(kind_of_frame).unwrap_or(POOL_OTHER)
}

fn kind_of_frame(frame: &Frame) -> Option<usize> {
    let (function, script) = (&*frame.function, frame.script.as_deref().unwrap_or(""));
    let named = |functions: &[&str], scripts: &[&str]| {
        functions.iter().any(|part| function.contains(part))
            || scripts.iter().any(|begin| script.starts_with(begin))
    };
    if named(&["uv_getaddrinfo", "uv_getnameinfo"], &["node:dns", "node:internal/dns"]) {
        Some(POOL_DNS)
    } else if named(&["uv_fs_"], &["node:fs", "node:internal/fs"]) {
        Some(POOL_FS)
    } else if named(&["node::crypto::"], &["node:crypto", "node:internal/crypto"]) {
        Some(POOL_CRYPTO)
    } else if named(&["CompressionStream", "ZlibStream"], &["node:zlib"]) {
        Some(POOL_ZLIB)
    } else {
        None
    }
}

/// A socket that has refused a write and is not drained yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub fd: u32,
    /// Address and port of the other end; `None`: it is no TCP socket, or could not be looked at.
    pub peer: Option<Arc<str>>,
    /// What waits in the kernel.
    pub queued_bytes: Option<u64>,
    /// What waits in libuv's queue of the stream; `None`: it could not be looked at. What JavaScript keeps until that is empty comes
    /// on top of both.
    pub libuv_queued_bytes: Option<u64>,
    /// Since the first refusal.
    pub age_ns: u64,
}

impl Backlog {
    /// What is known to wait, in the kernel and in libuv; `None`: nothing is known.
    pub fn known_bytes(&self) -> Option<u64> {
        self.queued_bytes
            .map(|bytes| bytes + self.libuv_queued_bytes.unwrap_or(0))
            .or(self.libuv_queued_bytes)
    }
}

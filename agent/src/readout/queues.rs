//! Reads what waits: work for libuv's pool of threads, data in sockets.

use std::collections::HashMap;

use aya::maps::{self, MapData};
use nodeprobe_ebpf::{PoolThread, PoolWork, PoolWorkKey, SocketKey, SocketRecord};

use super::maps::Wire;

// SAFETY: the contract's `wire_record!` asserts that these have no padding, and all fields are integers, so every
// bit pattern is valid.
unsafe impl aya::Pod for Wire<PoolWorkKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<PoolWork> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<PoolThread> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SocketKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SocketRecord> {}

/// Work that was handed in by one thread, by process and thread.
pub type PoolWaiting = HashMap<(u32, u32), Vec<PoolWork>>;

/// The maps of what waits.
pub struct Queues {
    pool: maps::HashMap<MapData, Wire<PoolWorkKey>, Wire<PoolWork>>,
    pool_threads: maps::HashMap<MapData, u32, Wire<PoolThread>>,
    sockets: maps::HashMap<MapData, Wire<SocketKey>, Wire<SocketRecord>>,
}

impl Queues {
    pub(crate) fn new(
        pool: maps::HashMap<MapData, Wire<PoolWorkKey>, Wire<PoolWork>>,
        pool_threads: maps::HashMap<MapData, u32, Wire<PoolThread>>,
        sockets: maps::HashMap<MapData, Wire<SocketKey>, Wire<SocketRecord>>,
    ) -> Self {
        Self { pool, pool_threads, sockets }
    }

    /// Work that waits. What `is_over` says of is removed: its process has ended, or it was cancelled.
    pub fn pool(&mut self, is_over: impl Fn(u32, &PoolWork) -> bool) -> PoolWaiting {
        let mut waiting = PoolWaiting::new();
        let mut over = Vec::new();
        for (Wire(key), Wire(work)) in self.pool.iter().filter_map(Result::ok) {
            if is_over(key.tgid, &work) {
                over.push(key);
            } else {
                waiting.entry((key.tgid, work.tid)).or_default().push(work);
            }
        }
        for key in over {
            // Absent is as good as removed.
            drop(self.pool.remove(&Wire(key)));
        }
        waiting
    }

    /// Forgets threads of pools whose process is not among the `living`.
    pub fn sweep_pool_threads(&mut self, living: impl Fn(u32) -> bool) {
        let threads = self.pool_threads.iter().filter_map(Result::ok);
        let over: Vec<u32> =
            threads.filter(|(_, thread)| !living(thread.0.tgid)).map(|(tid, _)| tid).collect();
        for tid in over {
            // Absent is as good as removed.
            drop(self.pool_threads.remove(&tid));
        }
    }

    /// By process: descriptors of sockets that have refused a write, with what is known of them. Those of processes that are not
    /// among the `living` are forgotten.
    pub fn sockets(&mut self, living: impl Fn(u32) -> bool) -> HashMap<u32, Vec<(u32, SocketRecord)>> {
        let mut refused: HashMap<u32, Vec<(u32, SocketRecord)>> = HashMap::new();
        for (Wire(key), Wire(record)) in self.sockets.iter().filter_map(Result::ok) {
            refused.entry(key.tgid).or_default().push((key.fd, record));
        }
        refused.retain(|tgid, sockets| {
            let lives = living(*tgid);
            if !lives {
                for (fd, _) in sockets {
                    drop(self.sockets.remove(&Wire(SocketKey { tgid: *tgid, fd: *fd })));
                }
            }
            lives
        });
        refused
    }

    /// Forgets a socket that has drained: its next refusal begins anew.
    pub fn drained(&mut self, tgid: u32, fd: u32) {
        // Absent is as good as removed.
        drop(self.sockets.remove(&Wire(SocketKey { tgid, fd })));
    }
}

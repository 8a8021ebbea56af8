//! Reads what waits: work for libuv's pool of threads, data in sockets.

use std::collections::HashMap;

use aya::maps::{self, MapData};
use nodeprobe_ebpf::{PoolWork, PoolWorkKey, SocketKey, SocketRecord};

use super::maps::Wire;

// SAFETY: the contract's `wire_record!` asserts that these have no padding, and all fields are integers, so every
// bit pattern is valid.
unsafe impl aya::Pod for Wire<PoolWorkKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<PoolWork> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SocketKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<SocketRecord> {}

/// The maps of what waits.
pub struct Queues {
    pool: maps::HashMap<MapData, Wire<PoolWorkKey>, Wire<PoolWork>>,
    sockets: maps::HashMap<MapData, Wire<SocketKey>, Wire<SocketRecord>>,
}

impl Queues {
    pub(crate) fn new(
        pool: maps::HashMap<MapData, Wire<PoolWorkKey>, Wire<PoolWork>>,
        sockets: maps::HashMap<MapData, Wire<SocketKey>, Wire<SocketRecord>>,
    ) -> Self {
        Self { pool, sockets }
    }

    /// By thread that handed it in: since when each piece of work waits, `CLOCK_MONOTONIC`.
    pub fn pool(&self) -> HashMap<u32, Vec<u64>> {
        let mut waiting: HashMap<u32, Vec<u64>> = HashMap::new();
        for (_, Wire(work)) in self.pool.iter().filter_map(Result::ok) {
            waiting.entry(work.tid).or_default().push(work.submitted_ns);
        }
        waiting
    }

    /// By process: descriptors of sockets that have refused a write, and since when, `CLOCK_MONOTONIC`.
    pub fn sockets(&self) -> HashMap<u32, Vec<(u32, u64)>> {
        let mut refused: HashMap<u32, Vec<(u32, u64)>> = HashMap::new();
        for (Wire(key), Wire(record)) in self.sockets.iter().filter_map(Result::ok) {
            refused.entry(key.tgid).or_default().push((key.fd, record.since_ns));
        }
        refused
    }

    /// Forgets a socket that has drained: its next refusal begins anew.
    pub fn drained(&mut self, tgid: u32, fd: u32) {
        // Absent is as good as removed.
        drop(self.sockets.remove(&Wire(SocketKey { tgid, fd })));
    }
}

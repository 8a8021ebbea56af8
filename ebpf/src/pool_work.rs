//! Work in the queue of libuv's pool of threads.

use crate::wire_record;

wire_record! {
    /// One piece of work: where its `struct uv__work` is in the memory of its process.
    pub struct PoolWorkKey {
        pub work: u64,
        pub tgid: u32,
        pub reserved: u32,
    }
}

wire_record! {
    /// Since when it waits, and which thread handed it in.
    pub struct PoolWork {
        /// `CLOCK_MONOTONIC`.
        pub submitted_ns: u64,
        pub tid: u32,
        /// `thread::LANE_*`.
        pub lane: u32,
    }
}

wire_record! {
    /// What a thread of the pool has begun last.
    pub struct PoolThread {
        pub begun_ns: u64,
        pub tgid: u32,
        /// `thread::POOL_*`.
        pub kind: u32,
    }
}

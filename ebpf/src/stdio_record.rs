//! Writes of loop threads to stdout and stderr.

use crate::{Histogram, wire_record};

/// A successful write that took at least this long was blocked, and all of its time counts as blocked. Below
/// it lies what copying 64 KiB into a pipe costs, also on a slow host.
pub const BLOCKED_NS: u64 = 1_000_000;

/// Entries of the map `TTY_FDS`, by descriptor number; the last one stands for all higher numbers.
pub const TTY_FDS_LEN: u32 = 1024;

wire_record! {
    /// One writer per key: the thread itself.
    pub struct StdioKey {
        pub tid: u32,
        /// 1 stdout, 2 stderr.
        pub fd: u32,
    }
}

wire_record! {
    /// Cumulative counters of one stream of one thread.
    pub struct StdioRecord {
        pub seq_begin: u64,
        pub tgid: u32,
        pub reserved: u32,
        pub bytes: u64,
        /// Calls that wrote something.
        pub writes: u64,
        /// Calls that returned `EAGAIN`: the reader is slower than the writer, and data waits in the process.
        pub eagain: u64,
        /// Time in calls of at least [`BLOCKED_NS`], nanoseconds.
        pub blocked_ns: u64,
        /// Duration of every call.
        pub durations: Histogram,
        pub seq_end: u64,
    }
}

//! Why something that happened was not recorded. Every loss is counted under one of these.

/// A reason for loss; the discriminant is the index into the `DROPS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DropReason {
    /// The ring buffer was full: a stall, a long GC pause or a life-cycle event was not told one by one.
    RingFull = 0,
    /// The table of loop threads was full: a thread is not observed at all.
    ThreadTableFull = 1,
    /// The table of stdio counters was full: writes of a thread were not counted.
    StdioTableFull = 2,
    /// A GC began while an earlier one had not been seen to end: the earlier pause is not counted.
    GcUnmatched = 3,
    /// A thread id came back before the agent had read the last values of its former owner.
    ThreadReused = 4,
    /// Half of the ring buffer was full: a stack was not told.
    SampleRingFull = 5,
    /// Too much work waited for libuv's threads: a piece of it is not counted.
    PoolTableFull = 6,
    /// Too many sockets were full: one is not told.
    SocketTableFull = 7,
}

impl DropReason {
    pub const COUNT: u32 = 8;
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::RingFull,
        Self::ThreadTableFull,
        Self::StdioTableFull,
        Self::GcUnmatched,
        Self::ThreadReused,
        Self::SampleRingFull,
        Self::PoolTableFull,
        Self::SocketTableFull,
    ];

    /// The name under which the loss is exported and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ThreadTableFull => "thread_table_full",
            Self::StdioTableFull => "stdio_table_full",
            Self::GcUnmatched => "gc_unmatched",
            Self::ThreadReused => "thread_reused",
            Self::SampleRingFull => "sample_ring_full",
            Self::PoolTableFull => "pool_table_full",
            Self::SocketTableFull => "socket_table_full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_map_slots_in_order() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}

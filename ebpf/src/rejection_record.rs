//! Where Node notes that rejected promises of a loop thread wait to be dealt with.

use crate::wire_record;

wire_record! {
    /// Of one loop thread: made by it when a promise is rejected for the first time, completed by the agent.
    pub struct RejectionRecord {
        pub tgid: u32,
        /// Non-zero: the note was seen set while a promise waited, so it is of this thread and in use.
        pub was_set: u32,
        /// That of the `ThreadRecord`: tells a former thread of the same number.
        pub observed_ns: u64,
        /// A stack pointer of the thread: the frames of its loop are above.
        pub sp: u64,
        /// The address of `has_rejection_to_warn` of Node's `TickInfo`, a byte; 0 = not known. Node sets it at each rejection, and clears
        /// it once it has told of those that have no handler by then.
        pub note: u64,
    }
}

//! Whether the program that gets switches as the kernel passes them reads them right.

/// The task that leaves has the id of the thread that runs.
pub const SWITCH_READ_RIGHT: u64 = 1;
/// It has not, at least once: the arguments, or the place of the id, are others than expected.
pub const SWITCH_MISREAD: u64 = 2;

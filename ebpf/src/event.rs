//! What crosses the ring buffer: only things that need a story of their own.

use crate::{part::PARTS, wire_record};

/// What an [`Event`] tells. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A process called `execve` with success. Any process: whether it is Node is decided in user space.
    Exec = 1,
    /// A loop thread was seen for the first time. `detail`: `thread::KIND_*`.
    ThreadStart = 2,
    /// A loop thread ended; its record holds the last values. `detail`: `thread::KIND_*`.
    ThreadExit = 3,
    /// A turn took at least the stall threshold. `detail`: `STALL_*` flags; `values`: nanoseconds by `part::PART_*`,
    /// then those of the longest sleep ([`SLEEP_NS`]), its system call and its part ([`SLEEP_SYSCALL`], [`SLEEP_PART`]).
    Stall = 4,
    /// A GC pause took at least the threshold. `detail`: `thread::GC_*`; `values`: heap bytes before, after
    /// (0 = not known).
    GcPause = 5,
    /// A stack; its record is a [`crate::SampleHeader`] with what follows it, not an [`Event`].
    Sample = 6,
    /// A sleep inside a turn whose stack was sampled when it began has ended. `detail`: its `part::PART_*`; `start_ns`: that of
    /// the sample; `values`: when the turn began, the system call.
    Slept = 7,
    /// Node has told of rejected promises that nobody handles, or their turn has ended. `detail`: how many; `start_ns`: when the turn began; `values`: the
    /// slots of those with a sample, a bit each, and the number of slots without.
    Rejected = 8,
    /// Node was handed an exception that nobody caught. `detail`: 1 if it is the reason of a rejected promise.
    Uncaught = 9,
    /// V8 is at the limit of its heap. `detail`: `HEAP_*`.
    HeapLimit = 10,
    /// A socket listens from now on.
    Listening = 11,
}

/// [`EventKind::HeapLimit`]: V8 asks for permission to go beyond.
pub const HEAP_NEAR_LIMIT: u32 = 1;
/// [`EventKind::HeapLimit`]: V8 gives up; Node ends the process.
pub const HEAP_OUT_OF_MEMORY: u32 = 2;

impl TryFrom<u32> for EventKind {
    type Error = u32;

    fn try_from(value: u32) -> Result<Self, u32> {
        Ok(match value {
            1 => Self::Exec,
            2 => Self::ThreadStart,
            3 => Self::ThreadExit,
            4 => Self::Stall,
            5 => Self::GcPause,
            6 => Self::Sample,
            7 => Self::Slept,
            8 => Self::Rejected,
            9 => Self::Uncaught,
            10 => Self::HeapLimit,
            11 => Self::Listening,
            other => return Err(other),
        })
    }
}

/// [`EventKind::Stall`]: the turn is the start-up, from the first line of the script to the first wait.
pub const STALL_STARTUP: u32 = 1;
/// [`EventKind::Stall`]: the turn was under way when the agent attached; its duration is a lower bound.
pub const STALL_LOWER_BOUND: u32 = 2;

/// Index in [`Event::values`] of a stall.
pub const SLEEP_NS: usize = PARTS;
/// Index in [`Event::values`] of a stall.
pub const SLEEP_SYSCALL: usize = PARTS + 1;
/// Index in [`Event::values`] of a stall.
pub const SLEEP_PART: usize = PARTS + 2;
/// Index in [`Event::values`] of [`EventKind::Slept`].
pub const SLEPT_TURN_START: usize = 0;
/// Index in [`Event::values`] of [`EventKind::Slept`].
pub const SLEPT_SYSCALL: usize = 1;
pub const EVENT_VALUES: usize = PARTS + 3;

wire_record! {
    /// One event. Times are `CLOCK_MONOTONIC` nanoseconds.
    pub struct Event {
        /// An [`EventKind`].
        pub kind: u32,
        pub detail: u32,
        pub tgid: u32,
        pub tid: u32,
        pub start_ns: u64,
        pub duration_ns: u64,
        pub values: [u64; EVENT_VALUES],
    }
}

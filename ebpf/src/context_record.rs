//! Where a loop thread keeps the async context of what it executes, and how its answers to HTTP requests fared by it.

use crate::wire_record;

/// Not known yet where the thread keeps its context: the agent is asked to find it by [`ContextRecord::sp`].
pub const CONTEXT_UNKNOWN: u32 = 0;
/// V8 keeps the context itself, an `AsyncContextFrame`, in a word of the isolate.
pub const CONTEXT_FRAMES: u32 = 1;
/// Node follows contexts along async ids.
pub const CONTEXT_IDS: u32 = 2;

/// Nothing was written in the callback that read the request, or nothing with a context.
pub const HAD_NONE: u32 = 0;
/// Something was written there: in `CONTEXT_FRAMES` with a context.
pub const HAD_CONTEXT: u32 = 1;
/// The same, and its stack was taken, which tells whether it was written within `AsyncLocalStorage.run`.
pub const HAD_SAMPLE: u32 = 2;

wire_record! {
    /// Of one loop thread, written by that thread; the addresses by the agent, once, before which the thread counts nothing.
    pub struct ContextRecord {
        pub tgid: u32,
        /// `CONTEXT_*`.
        pub mode: u32,
        /// That of the `ThreadRecord`: tells a former thread of the same number.
        pub observed_ns: u64,
        /// A stack pointer of the thread: the frames of its loop are above.
        pub sp: u64,
        /// Where Node keeps async ids: that of the execution, of its trigger, the last that was given out. Doubles, of which none is
        /// negative, so that their bits compare as they do.
        pub ids: u64,
        /// Where Node counts its async hooks, by kind.
        pub hooks: u64,
        /// Where V8 keeps the frame, and what stands there when there is none, `undefined`; `CONTEXT_FRAMES` only.
        pub frame: u64,
        pub no_frame: u64,

        /// Of the last read that the loop itself made: the window and the turn it was in, and its descriptor.
        pub window: u64,
        pub turn_ns: u64,
        pub read_fd: u32,
        /// Non-zero: what it read was the begin of a request.
        pub read_is_request: u32,

        /// How often the programs ran for this thread.
        pub reads: u64,
        pub writes: u64,
        /// Writes with a context; in `CONTEXT_IDS` answers while hooks were in use.
        pub used: u64,
        /// Answers with a context; those without, of requests that had one (`CONTEXT_FRAMES`) or may have had one (`CONTEXT_IDS`); and
        /// those of whose request none was seen.
        pub kept: u64,
        pub lost: u64,
        pub none: u64,

        /// Since when so many stacks were taken of answers, and of requests.
        pub answer_sample_ns: u64,
        pub request_sample_ns: u64,
        pub answer_samples: u32,
        pub request_samples: u32,
    }
}

wire_record! {
    /// An HTTP request that was read and is not answered.
    pub struct ContextRequest {
        /// When what was attached; see `CONTEXT_WINDOW`.
        pub window: u64,
        /// The last async id given out before it was read.
        pub last_id: u64,
        /// `HAD_*`.
        pub had: u32,
        pub reserved: u32,
    }
}

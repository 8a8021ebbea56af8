//! What crosses the ring buffer for one stack: a header, frames, and where frame pointers led nowhere a piece of the
//! stack itself.

use crate::{
    walk::{MAX_FRAMES, RawFrame},
    wire_record,
};

/// The thread ran on a processor.
pub const SAMPLE_ON_CPU: u32 = 1;
/// The thread is about to sleep, for a time that [`crate::EventKind::Slept`] tells.
pub const SAMPLE_BLOCKED: u32 = 2;
/// In a collection.
pub const SAMPLE_IN_GC: u32 = 4;
/// In a write to stdout or stderr.
pub const SAMPLE_IN_WRITE: u32 = 8;
/// In a turn younger than [`SAMPLE_PERIOD_NS`]: stands for [`YOUNG_EVERY`] periods.
pub const SAMPLE_YOUNG: u32 = 16;

/// Not by the clock and not asleep: a promise was rejected without a handler. `descriptor` is its slot in
/// [`crate::thread::ThreadRecord::rejected`]; -1 = none was free.
pub const SAMPLE_REJECTION: u32 = 32;
/// Optimised code is about to be left for good; `descriptor` is the `DeoptimizeKind`.
pub const SAMPLE_DEOPT: u32 = 64;
/// A page of the young generation is full, or a collection begins; `descriptor` is how many pages the sample stands for.
pub const SAMPLE_ALLOCATION: u32 = 128;
/// Work is handed to libuv's pool of threads, where work has had to wait.
pub const SAMPLE_POOL: u32 = 256;
/// A request is answered by a callback without its async context. `descriptor` is that of the request if a stack was taken when it
/// was read ([`SAMPLE_REQUEST`]), which tells whether it had one; else -1, and it had.
pub const SAMPLE_CONTEXT: u32 = 512;
/// Something is written in the callback that has read the request of `descriptor`.
pub const SAMPLE_REQUEST: u32 = 1024;

/// Time between two samples of a processor, nanoseconds: 126 per second, six in a stall of 50 ms. Not a divisor of the
/// periods that timers of applications have.
pub const SAMPLE_PERIOD_NS: u64 = 7_919_000;
/// In a turn's first period, a stack is taken once in so many periods of sampling. A busy server with short turns has hardly
/// others, and the agent would decode stacks of turns that nobody asks about. A stall of 50 ms still has five later ones.
pub const YOUNG_EVERY: u32 = 4;

/// A piece of the stack comes with a sample of at most this many frames, none of them JavaScript.
pub const IMAGE_FRAMES: usize = 6;
/// Its greatest length, bytes. Frames of OpenSSL and libuv below JavaScript fit in: that of `uv__io_poll` has 12 KiB.
pub const IMAGE_BYTES: usize = 24 << 10;

wire_record! {
    /// Followed by `frames` times [`RawFrame`], or, when `image_bytes` is not 0, by [`IMAGE_FRAMES`] of them and then as
    /// many bytes of stack from `sp` on.
    pub struct SampleHeader {
        /// `EventKind::Sample`.
        pub kind: u32,
        /// `SAMPLE_*`.
        pub flags: u32,
        pub tgid: u32,
        pub tid: u32,
        /// `CLOCK_MONOTONIC`. Of a blocked one: when the sleep began.
        pub time_ns: u64,
        /// When the turn began: the same in `EventKind::Stall`.
        pub turn_start_ns: u64,
        pub pc: u64,
        pub sp: u64,
        pub fp: u64,
        /// The system call that a blocked one sleeps in; `part::SYSCALL_UNKNOWN` for others.
        pub syscall: u32,
        /// The first argument of that call, which is a descriptor for many.
        pub descriptor: i32,
        pub frames: u32,
        pub image_bytes: u32,
        /// Where optimised code is left ([`SAMPLE_DEOPT`]): no frame has it, for the stub that leads on makes none. 0 for others.
        pub left_pc: u64,
    }
}

const FRAME_BYTES: usize = size_of::<RawFrame>();
/// What follows the header at most.
pub const PAYLOAD_BYTES: usize = if MAX_FRAMES * FRAME_BYTES > IMAGE_FRAMES * FRAME_BYTES + IMAGE_BYTES {
    MAX_FRAMES * FRAME_BYTES
} else {
    IMAGE_FRAMES * FRAME_BYTES + IMAGE_BYTES
};

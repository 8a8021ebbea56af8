//! The state record of one loop thread, written by that thread, and by the scheduler's programs while it does not run.

use crate::{
    Histogram,
    part::{PARTS, SYSCALL_UNKNOWN},
    wire_record,
};

pub const KIND_MAIN: u32 = 1;
pub const KIND_WORKER: u32 = 2;

/// No epoll call of the loop was seen since [`ThreadRecord::since_ns`]: in a turn or in a wait, not known which.
/// The next call decides, and then all the time since belongs to the one or the other.
pub const STATE_UNKNOWN: u32 = 0;
/// JavaScript or native code runs; the loop does not turn.
pub const STATE_TURN: u32 = 1;
/// In `epoll_wait` on the loop's own epfd.
pub const STATE_WAIT: u32 = 2;

/// The thread ended; the values are the last.
pub const FLAG_EXITED: u32 = 1;
/// The loop has waited at least once: start-up is over.
pub const FLAG_LOOPED: u32 = 2;
/// `SpinEventLoop` was entered: the next `uv_run` is the loop's own.
pub const FLAG_LOOP_EXPECTED: u32 = 4;
/// [`ThreadRecord::epfd`] was read from the loop, not guessed from the first wait.
pub const FLAG_EPFD_CONFIRMED: u32 = 8;
/// The thread was observed from its first line of JavaScript.
pub const FLAG_FROM_START: u32 = 16;
/// [`ThreadRecord::since_ns`] is when the agent attached; the present turn began earlier.
pub const FLAG_ATTACHED_LATE: u32 = 32;
/// The last wait ended with nothing to do.
pub const FLAG_EMPTY_WAIT: u32 = 64;

pub const GC_UNKNOWN: u32 = 0;
pub const GC_MINOR: u32 = 1;
pub const GC_MAJOR: u32 = 2;
/// Index of a kind in [`ThreadRecord::gc`] is kind - 1.
pub const GC_KINDS: usize = 2;

/// Rejected promises of one turn that are told apart.
pub const REJECTED_SLOTS: usize = 8;
/// [`ThreadRecord::rejected_last`]: it had no slot; the last report was of no rejection, or is dealt with.
pub const REJECTED_WITHOUT_SLOT: i32 = -1;
pub const REJECTED_NOT: i32 = -2;
/// Kinds of [`ThreadRecord::deopts`]: at the instruction that met what it was not compiled for; or later, because something
/// that the code relied on had changed elsewhere.
pub const DEOPT_EAGER: usize = 0;
pub const DEOPT_LAZY: usize = 1;
pub const DEOPT_KINDS: usize = 2;

/// Kinds of work in libuv's pool of threads: indices of [`ThreadRecord::pool_begun`].
pub const POOL_FS: usize = 0;
pub const POOL_DNS: usize = 1;
pub const POOL_CRYPTO: usize = 2;
pub const POOL_ZLIB: usize = 3;
/// Of addons, and all that Node does not name.
pub const POOL_OTHER: usize = 4;
pub const POOL_KINDS: usize = 5;
/// libuv's pool takes work in its order, but look-ups of names have a queue of their own, for half of the threads.
pub const LANE_FAST: usize = 0;
pub const LANE_SLOW: usize = 1;
pub const LANES: usize = 2;
/// Kinds of modules: indices of [`ThreadRecord::modules`].
pub const MODULE_COMMONJS: usize = 0;
pub const MODULE_ESM: usize = 1;
pub const MODULE_KINDS: usize = 2;
/// A start is over when nothing of it has followed for so long ..
pub const START_QUIET_NS: u64 = 5_000_000_000;
/// .. and has to be within this time from the first wait of the loop: a service that is busy from the start on never gets there.
pub const START_MAX_NS: u64 = 30_000_000_000;
/// [`ThreadRecord::start_over`]: the last event of the start is known.
pub const START_STEADY: u32 = 1;
/// [`ThreadRecord::start_over`]: events like those of the start went on.
pub const START_NEVER_STEADY: u32 = 2;

/// From here on work is said to wait: a pool with an idle thread takes it within 0.1 ms.
pub const POOL_WAIT_LONG_NS: u64 = 10_000_000;

/// `uv__io_poll` polls twice in two cases: since libuv 1.45 first with timeout 0 and, if nothing is ready, with the
/// real one (Node keeps the idle-time metric on), and again after waking before a timer was due. Between the two
/// calls it only updates its clock; such a gap is no turn of the loop. One that took longer ran something and counts.
pub const REPOLL_NS: u64 = 10_000;

wire_record! {
    /// Everything about one loop thread. `seq_end` is moved before a change and `seq_begin` after it; a reader
    /// copies upwards, so equal numbers mean that nothing changed while it copied.
    pub struct ThreadRecord {
        pub seq_begin: u64,
        pub tgid: u32,
        pub tid: u32,
        /// `KIND_*`.
        pub kind: u32,
        /// `FLAG_*`.
        pub flags: u32,
        /// `STATE_*`.
        pub state: u32,
        /// The epoll instance of the thread's own loop; -1 = not known yet.
        pub epfd: i32,
        /// The epoll instance of a nested loop (`spawnSync`), so that it is not taken for the loop's own; -1 = none.
        pub nested_epfd: i32,
        /// What the wait under way was allowed to last, milliseconds; -1 = without end.
        pub wait_timeout_ms: i32,
        /// Further descriptors of the terminals behind stdout and stderr; -1 = none. libuv opens a terminal anew, writes
        /// to the new descriptor, and puts a copy of it in the place of the old one.
        pub tty_fds: [i32; 2],
        /// When the thread was first observed.
        pub observed_ns: u64,
        /// When the present state began.
        pub since_ns: u64,
        /// When the thread ended; 0 = it runs.
        pub exit_ns: u64,
        pub busy_ns: u64,
        pub idle_ns: u64,

        /// Wall time of the turn under way by `PART_*`, as far as it was spent off the processor or in a bracket that
        /// is closed. The rest of the turn the thread ran.
        pub turn_parts_ns: [u64; PARTS],
        /// The same, summed over all stalls.
        pub stall_parts_ns: [u64; PARTS],
        /// Since when the thread has been off the processor in this turn; 0 = it runs, or its loop waits.
        pub off_cpu_since_ns: u64,
        /// The `PART_*` that this time belongs to.
        pub off_cpu_part: u32,
        /// The system call that the thread sleeps in, or last slept in.
        pub off_cpu_syscall: u32,
        /// The longest sleep of the turn under way.
        pub longest_sleep_ns: u64,
        pub longest_sleep_syscall: u32,
        /// The `PART_*` it belongs to; never GC, which names no call of its own.
        pub longest_sleep_part: u32,
        /// Non-zero: the thread has been woken since, and waits for a processor.
        pub off_cpu_woken: u32,
        /// Of the write under way, or the last one: 1 stdout, 2 stderr.
        pub write_fd: u32,

        /// When the last sleep began whose stack was sampled.
        pub blocked_sample_ns: u64,
        /// How many sleeps of the turn under way have been sampled.
        pub blocked_samples: u32,
        /// Ticks of the sampling clock in young turns (`sample::YOUNG_EVERY`), where it is alone.
        pub young_ticks: u32,
        pub write_start_ns: u64,
        /// See `sched::open_bracket`.
        pub write_opened_ns: u64,
        /// The same for a collection.
        pub gc_opened_ns: u64,

        pub gc_active: u32,
        /// Collections begun inside the one under way, whose ends must not be taken for its own.
        pub gc_depth: u32,
        pub gc_kind: u32,
        /// The `AllocationSpace` argument, for builds in which the collectors themselves have no symbol.
        pub gc_space: u32,
        /// Stack pointer at the entry of `CollectGarbage`; at its `ret` it is the same again. Tells a nested or
        /// doubly probed call from the outermost one.
        pub gc_sp: u64,
        /// The same of the last begin, and of the last end inside: a second attachment to one file hits twice.
        pub gc_begin_sp: u64,
        pub gc_stop_sp: u64,
        pub gc_start_ns: u64,
        /// Heap used before and after the collection; 0 = not known.
        pub gc_before_bytes: u64,
        pub gc_after_bytes: u64,
        /// Heap used when it was last seen; 0 = never.
        pub heap_used_bytes: u64,
        /// Heap before and after the last pause of each kind.
        pub last_gc_before_bytes: [u64; GC_KINDS],
        pub last_gc_after_bytes: [u64; GC_KINDS],
        /// When it ended.
        pub last_gc_end_ns: [u64; GC_KINDS],
        /// Heap after the last pause of any kind; 0 = not known.
        pub collected_to_bytes: u64,
        /// What was allocated between pauses: by how much the heap before each was greater than after the one before it.
        pub allocated_bytes: u64,

        /// Promises that were rejected without a handler in the turn under way, have none yet, and of which Node has not told: their
        /// addresses; 0 = free.
        pub rejected: [u64; REJECTED_SLOTS],
        /// How many those are, with those for which there was no slot; 0 in nearly every turn.
        pub rejected_open: u32,
        /// A collection has run since, so addresses no longer tell which promise is which.
        pub rejected_moved: u32,
        /// Of which slots the stack was taken, a bit each.
        pub rejected_sampled: u32,
        /// Stacks taken since `rejection_sample_ns`.
        pub rejection_samples: u32,
        /// The stack pointer at the last report of a rejection.
        pub rejected_sp: u64,
        /// Where that went: a slot, or `REJECTED_*`.
        pub rejected_last: i32,
        /// Rejections of the turn under way that Node does not know of, whose handlers tell it nothing either.
        pub rejected_untold: u32,
        /// Promises that had no handler when Node told of them: of each it emitted `unhandledRejection`.
        pub rejections: u64,
        /// Handlers that came after that.
        pub rejections_handled_late: u64,
        /// By `DEOPT_*`.
        pub deopts: [u64; DEOPT_KINDS],
        /// Work that this loop handed to the pool of threads and that was begun, and for how long it had waited, by `POOL_*`. Written
        /// by the threads of the pool, each whole and on its own.
        pub pool_begun: [u64; POOL_KINDS],
        pub pool_waited_ns: [u64; POOL_KINDS],
        /// For how long threads of the pool were busy with each kind while work of this loop waited for them.
        pub pool_busy_ns: [u64; POOL_KINDS],
        /// The longest wait in the reading interval `pool_max_epoch`.
        pub pool_max_wait_ns: u64,
        pub pool_max_epoch: u64,
        /// The wait of what was begun last.
        pub pool_last_wait_ns: u64,
        /// Since when that had waited, by `LANE_*`. What waits in the same lane since before that was cancelled.
        pub pool_last_submitted_ns: [u64; LANES],
        pub pool_sample_ns: u64,
        /// Stacks taken since then.
        pub pool_samples: u32,
        pub reserved: u32,
        /// When the drain of the microtask queue under way began, 0 = none, and the window in which it did (`DutyRecord`).
        pub drain_since_ns: u64,
        pub drain_window: u64,
        /// Writes to other descriptors than stdout and stderr that returned `EAGAIN`.
        pub sockets_refused: u64,
        /// The `uv_stream_t` that was last given to `uv_write2`, and its descriptor.
        pub stream: u64,
        pub stream_fd: u32,
        pub stream_padding: u32,
        /// When the last stack of each was taken, of rejections the first of a burst: these are bounded in number.
        pub rejection_sample_ns: u64,
        pub deopt_sample_ns: u64,
        pub allocation_sample_ns: u64,
        /// Of so many pages of the young generation one is sampled, at random.
        pub allocation_stride: u32,
        /// No page has been set aside for allocating since the last collection.
        pub allocation_begins: u32,
        /// Where and when a program of `rejections` or `deopts` ended last: a second attachment to one file hits again at once.
        pub hit_sp: u64,
        pub hit_ns: u64,

        /// Modules that were compiled, and for how long, by `MODULE_*`.
        pub modules: [u64; MODULE_KINDS],
        pub module_ns: [u64; MODULE_KINDS],
        /// Of the compilation under way; 0 = none is.
        pub compile_start_ns: u64,
        pub compile_sp: u64,
        pub compile_kind: u32,
        /// 0 while the start may go on, then `START_*`.
        pub start_over: u32,
        /// When the script began (`node::LoadEnvironment`); 0 = not seen.
        pub environment_ns: u64,
        /// When the loop waited for the first time, of a thread that was seen from its script's begin on; 0 = not yet.
        pub first_wait_ns: u64,
        /// When the first socket listened; 0 = none.
        pub listening_ns: u64,
        /// When the last event of the start ended: the first turn, a later one of at least the stall threshold, the compilation of
        /// a module; 0 before the first wait.
        pub start_end_ns: u64,
        /// Modules that were compiled by then, and for how long.
        pub start_modules: u64,
        pub start_module_ns: u64,

        pub turns: Histogram,
        pub stalls: Histogram,
        pub gc: [Histogram; GC_KINDS],
        /// Those that were seen from begin to end.
        pub drains: Histogram,
        pub seq_end: u64,
    }
}

impl ThreadRecord {
    pub const ZERO: Self = Self {
        seq_begin: 0,
        tgid: 0,
        tid: 0,
        kind: 0,
        flags: 0,
        state: STATE_UNKNOWN,
        epfd: -1,
        nested_epfd: -1,
        wait_timeout_ms: 0,
        tty_fds: [-1; 2],
        observed_ns: 0,
        since_ns: 0,
        exit_ns: 0,
        busy_ns: 0,
        idle_ns: 0,
        turn_parts_ns: [0; PARTS],
        stall_parts_ns: [0; PARTS],
        off_cpu_since_ns: 0,
        off_cpu_part: 0,
        off_cpu_syscall: SYSCALL_UNKNOWN,
        longest_sleep_ns: 0,
        longest_sleep_syscall: SYSCALL_UNKNOWN,
        longest_sleep_part: 0,
        off_cpu_woken: 0,
        blocked_sample_ns: 0,
        blocked_samples: 0,
        young_ticks: 0,
        write_start_ns: 0,
        write_opened_ns: 0,
        gc_opened_ns: 0,
        write_fd: 0,
        gc_active: 0,
        gc_depth: 0,
        gc_kind: GC_UNKNOWN,
        gc_space: 0,
        gc_sp: 0,
        gc_begin_sp: 0,
        gc_stop_sp: 0,
        gc_start_ns: 0,
        gc_before_bytes: 0,
        gc_after_bytes: 0,
        heap_used_bytes: 0,
        last_gc_before_bytes: [0; GC_KINDS],
        last_gc_after_bytes: [0; GC_KINDS],
        last_gc_end_ns: [0; GC_KINDS],
        collected_to_bytes: 0,
        allocated_bytes: 0,
        rejected: [0; REJECTED_SLOTS],
        rejected_open: 0,
        rejected_moved: 0,
        rejected_sampled: 0,
        rejection_samples: 0,
        rejected_sp: 0,
        rejected_last: REJECTED_NOT,
        rejected_untold: 0,
        rejections: 0,
        rejections_handled_late: 0,
        deopts: [0; DEOPT_KINDS],
        drain_since_ns: 0,
        drain_window: 0,
        sockets_refused: 0,
        stream: 0,
        stream_fd: 0,
        stream_padding: 0,
        pool_begun: [0; POOL_KINDS],
        pool_waited_ns: [0; POOL_KINDS],
        pool_busy_ns: [0; POOL_KINDS],
        pool_max_wait_ns: 0,
        pool_max_epoch: 0,
        pool_last_wait_ns: 0,
        pool_last_submitted_ns: [0; LANES],
        pool_sample_ns: 0,
        pool_samples: 0,
        reserved: 0,
        rejection_sample_ns: 0,
        deopt_sample_ns: 0,
        allocation_sample_ns: 0,
        allocation_stride: 0,
        allocation_begins: 0,
        hit_sp: 0,
        hit_ns: 0,
        modules: [0; MODULE_KINDS],
        module_ns: [0; MODULE_KINDS],
        compile_start_ns: 0,
        compile_sp: 0,
        compile_kind: 0,
        start_over: 0,
        environment_ns: 0,
        first_wait_ns: 0,
        listening_ns: 0,
        start_end_ns: 0,
        start_modules: 0,
        start_module_ns: 0,
        turns: Histogram::ZERO,
        stalls: Histogram::ZERO,
        gc: [Histogram::ZERO; GC_KINDS],
        drains: Histogram::ZERO,
        seq_end: 0,
    };
}

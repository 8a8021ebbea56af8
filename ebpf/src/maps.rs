//! Every map, and the settings that user space writes before the programs are loaded.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use nodeprobe_ebpf::{
    DropReason, StdioKey, StdioRecord, ThreadRecord, part::SYSCALLS_LEN, stdio_record::TTY_FDS_LEN,
    tick::Tick,
};

/// Turns of at least this many nanoseconds are stalls.
#[unsafe(no_mangle)]
static STALL_THRESHOLD_NS: Global<u64> = Global::new(50_000_000);
/// GC pauses of at least this many nanoseconds are told one by one.
#[unsafe(no_mangle)]
static GC_EVENT_THRESHOLD_NS: Global<u64> = Global::new(10_000_000);

/// 0: no stack is sampled.
#[unsafe(no_mangle)]
static SAMPLE_STACKS: Global<u32> = Global::new(1);
/// How long a tick of this kernel is, nanoseconds. 0: it is not looked at.
#[unsafe(no_mangle)]
static TICK_NS: Global<u64> = Global::new(0);

/// Loop threads by thread id. Preallocated: allocation inside tracing programs makes kernels before 6.1 warn.
/// The agent sets the size.
#[map]
pub(crate) static THREADS: HashMap<u32, ThreadRecord> = HashMap::with_max_entries(1024, 0);

/// Counters of stdout and stderr by thread.
#[map]
pub(crate) static STDIO: HashMap<StdioKey, StdioRecord> = HashMap::with_max_entries(1024, 0);

/// Zeroed records to insert: they are larger than the 512 bytes of stack.
#[map]
pub(crate) static FRESH_THREAD: Array<ThreadRecord> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static FRESH_STDIO: Array<StdioRecord> = Array::with_max_entries(1, 0);

/// Number of the reading interval under way, moved on by the agent; see `Histogram::max_epoch`.
#[map]
pub(crate) static EPOCH: Array<u64> = Array::with_max_entries(1, 0);

/// Non-zero for descriptor numbers that are the terminal of some thread (`ThreadRecord::tty_fds`); the last entry
/// stands for all higher ones. Spares every write to a socket the look-up of its thread.
#[map]
pub(crate) static TTY_FDS: Array<u64> = Array::with_max_entries(TTY_FDS_LEN, 0);

/// Threads inside a write to stdout or stderr, by the low bits of their id: the return of any other write on the host
/// needs no look-up in the large table.
#[map]
pub(crate) static WRITERS: Array<u32> = Array::with_max_entries(WRITERS_LEN, 0);
pub(crate) const WRITERS_LEN: u32 = 4096;

/// The part of a turn (`part::PART_*`) that a sleep in each system call belongs to. The agent fills it in: it knows the
/// numbers of its architecture.
#[map]
pub(crate) static SYSCALL_PARTS: Array<u32> = Array::with_max_entries(SYSCALLS_LEN, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
/// Half of it for samples: a second of one processor with a piece of stack each, many seconds of samples without.
pub(crate) const EVENTS_BYTES: u32 = 4 << 20;

/// Loss by `DropReason`.
#[map]
pub(crate) static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DropReason::COUNT, 0);

pub(crate) fn stall_threshold_ns() -> u64 {
    STALL_THRESHOLD_NS.load()
}

pub(crate) fn gc_event_threshold_ns() -> u64 {
    GC_EVENT_THRESHOLD_NS.load()
}

pub(crate) fn sample_stacks() -> bool {
    SAMPLE_STACKS.load() != 0
}

#[inline(always)]
pub(crate) fn tick() -> Option<Tick> {
    Tick::new(TICK_NS.load())
}

#[inline(always)]
pub(crate) fn epoch() -> u64 {
    EPOCH.get(0).copied().unwrap_or(0)
}

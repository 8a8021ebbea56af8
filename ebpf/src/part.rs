//! How the wall time of a turn divides. What no part took, the thread spent on a processor.

/// In a garbage collection, without the time it waited for a processor.
pub const PART_GC: usize = 0;
/// In a write to stdout or stderr, without the time it waited for a processor.
pub const PART_STDIO_WRITE: usize = 1;
/// Asleep in a system call on files: `read`, `fsync`, `open`.
pub const PART_SYNC_IO: usize = 2;
/// Asleep until a child has started or ended: `execSync`, `spawnSync`.
pub const PART_CHILD_PROCESS: usize = 3;
/// Asleep in `futex`: `Atomics.wait`, a mutex.
pub const PART_LOCK: usize = 4;
/// Ready to run, and another thread had the processor, or the cgroup's quota was used up.
pub const PART_CPU_WAIT: usize = 5;
/// Asleep elsewhere, or not known where.
pub const PART_ASLEEP: usize = 6;
pub const PARTS: usize = 7;

/// Length of the table from system call to part. There, [`PART_STDIO_WRITE`] means: if it is to stdout or stderr. Numbers of all 64-bit architectures are below.
pub const SYSCALLS_LEN: u32 = 512;
/// Asleep outside of any system call (a page fault), or in one that could not be told.
pub const SYSCALL_UNKNOWN: u32 = u32::MAX;

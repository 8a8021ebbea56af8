//! System calls that a thread can sleep in: their names, and which part of a turn such a sleep belongs to.
//!
//! A sleep in a call that is not on the list, or that does not say what is waited for (network, timers, `poll`), is
//! `unknown`, with the name of the call where it is here.

use nodeprobe_ebpf::part::{PART_ASLEEP, PART_CHILD_PROCESS, PART_LOCK, PART_STDIO_WRITE, PART_SYNC_IO};

/// Number, name and `PART_*`.
const SYSCALLS: &[(libc::c_long, &str, usize)] = &[
    (libc::SYS_read, "read", PART_SYNC_IO),
    (libc::SYS_readv, "readv", PART_SYNC_IO),
    (libc::SYS_pread64, "pread64", PART_SYNC_IO),
    (libc::SYS_preadv, "preadv", PART_SYNC_IO),
    (libc::SYS_preadv2, "preadv2", PART_SYNC_IO),
    (libc::SYS_write, "write", PART_STDIO_WRITE),
    (libc::SYS_writev, "writev", PART_STDIO_WRITE),
    (libc::SYS_pwrite64, "pwrite64", PART_SYNC_IO),
    (libc::SYS_pwritev, "pwritev", PART_SYNC_IO),
    (libc::SYS_pwritev2, "pwritev2", PART_SYNC_IO),
    (libc::SYS_fsync, "fsync", PART_SYNC_IO),
    (libc::SYS_fdatasync, "fdatasync", PART_SYNC_IO),
    (libc::SYS_sync, "sync", PART_SYNC_IO),
    (libc::SYS_syncfs, "syncfs", PART_SYNC_IO),
    (libc::SYS_msync, "msync", PART_SYNC_IO),
    (libc::SYS_openat, "openat", PART_SYNC_IO),
    (libc::SYS_openat2, "openat2", PART_SYNC_IO),
    (libc::SYS_close, "close", PART_SYNC_IO),
    (libc::SYS_fstat, "fstat", PART_SYNC_IO),
    (libc::SYS_newfstatat, "newfstatat", PART_SYNC_IO),
    (libc::SYS_statx, "statx", PART_SYNC_IO),
    (libc::SYS_statfs, "statfs", PART_SYNC_IO),
    (libc::SYS_faccessat, "faccessat", PART_SYNC_IO),
    (libc::SYS_faccessat2, "faccessat2", PART_SYNC_IO),
    (libc::SYS_getdents64, "getdents64", PART_SYNC_IO),
    (libc::SYS_readlinkat, "readlinkat", PART_SYNC_IO),
    (libc::SYS_unlinkat, "unlinkat", PART_SYNC_IO),
    (libc::SYS_renameat2, "renameat2", PART_SYNC_IO),
    (libc::SYS_mkdirat, "mkdirat", PART_SYNC_IO),
    (libc::SYS_linkat, "linkat", PART_SYNC_IO),
    (libc::SYS_symlinkat, "symlinkat", PART_SYNC_IO),
    (libc::SYS_fchmodat, "fchmodat", PART_SYNC_IO),
    (libc::SYS_fchownat, "fchownat", PART_SYNC_IO),
    (libc::SYS_fchmod, "fchmod", PART_SYNC_IO),
    (libc::SYS_fchown, "fchown", PART_SYNC_IO),
    (libc::SYS_utimensat, "utimensat", PART_SYNC_IO),
    (libc::SYS_truncate, "truncate", PART_SYNC_IO),
    (libc::SYS_ftruncate, "ftruncate", PART_SYNC_IO),
    (libc::SYS_fallocate, "fallocate", PART_SYNC_IO),
    (libc::SYS_flock, "flock", PART_SYNC_IO),
    (libc::SYS_fcntl, "fcntl", PART_SYNC_IO),
    (libc::SYS_sendfile, "sendfile", PART_SYNC_IO),
    (libc::SYS_copy_file_range, "copy_file_range", PART_SYNC_IO),
    (libc::SYS_wait4, "wait4", PART_CHILD_PROCESS),
    (libc::SYS_waitid, "waitid", PART_CHILD_PROCESS),
    (libc::SYS_clone, "clone", PART_CHILD_PROCESS),
    (libc::SYS_clone3, "clone3", PART_CHILD_PROCESS),
    // Within a turn only the private loop of spawnSync waits for events.
    (libc::SYS_epoll_pwait, "epoll_pwait", PART_CHILD_PROCESS),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", PART_CHILD_PROCESS),
    (libc::SYS_futex, "futex", PART_LOCK),
    (libc::SYS_ppoll, "ppoll", PART_ASLEEP),
    (libc::SYS_pselect6, "pselect6", PART_ASLEEP),
    (libc::SYS_nanosleep, "nanosleep", PART_ASLEEP),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", PART_ASLEEP),
    (libc::SYS_connect, "connect", PART_ASLEEP),
    (libc::SYS_accept4, "accept4", PART_ASLEEP),
    (libc::SYS_recvfrom, "recvfrom", PART_ASLEEP),
    (libc::SYS_recvmsg, "recvmsg", PART_ASLEEP),
    (libc::SYS_sendto, "sendto", PART_ASLEEP),
    (libc::SYS_sendmsg, "sendmsg", PART_ASLEEP),
    (libc::SYS_mmap, "mmap", PART_ASLEEP),
    (libc::SYS_munmap, "munmap", PART_ASLEEP),
    (libc::SYS_mprotect, "mprotect", PART_ASLEEP),
    (libc::SYS_madvise, "madvise", PART_ASLEEP),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, "stat", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, "lstat", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, "access", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, "readlink", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, "chown", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, "lchown", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir", PART_SYNC_IO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, "fork", PART_CHILD_PROCESS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, "vfork", PART_CHILD_PROCESS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", PART_CHILD_PROCESS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", PART_ASLEEP),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", PART_ASLEEP),
];

/// What the name of a system call is told by; `None` for one that is not on the list.
pub fn name(number: u32) -> Option<&'static str> {
    SYSCALLS.iter().find(|(known, ..)| *known == libc::c_long::from(number)).map(|(_, name, _)| *name)
}

/// Whether the first argument of a system call is the descriptor of the file it works on.
pub fn takes_descriptor(number: u32) -> bool {
    const TAKE: [&str; 22] = [
        "read",
        "readv",
        "pread64",
        "preadv",
        "preadv2",
        "write",
        "writev",
        "pwrite64",
        "pwritev",
        "pwritev2",
        "fsync",
        "fdatasync",
        "syncfs",
        "close",
        "fstat",
        "getdents64",
        "fchmod",
        "fchown",
        "ftruncate",
        "fallocate",
        "flock",
        "fcntl",
    ];
    name(number).is_some_and(|name| TAKE.contains(&name))
}

/// The part of a turn (`PART_*`) that a sleep in a system call belongs to. `PART_STDIO_WRITE`: if it is to stdout or stderr.
pub fn part(number: u32) -> usize {
    let known = SYSCALLS.iter().find(|(known, ..)| *known == libc::c_long::from(number));
    known.map_or(PART_ASLEEP, |(.., part)| *part)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nodeprobe_ebpf::part::SYSCALLS_LEN;

    use super::*;

    #[test]
    fn every_number_is_listed_once_and_fits_the_table_of_the_kernel_side() {
        let numbers: BTreeSet<_> = SYSCALLS.iter().map(|(number, ..)| *number).collect();
        assert_eq!(numbers.len(), SYSCALLS.len());
        assert!(numbers.iter().all(|number| *number < libc::c_long::from(SYSCALLS_LEN)));
    }

    #[test]
    fn a_sleep_belongs_to_the_part_of_its_call() {
        let of = |number: libc::c_long| part(u32::try_from(number).unwrap());
        assert_eq!(of(libc::SYS_fsync), PART_SYNC_IO);
        assert_eq!(of(libc::SYS_futex), PART_LOCK);
        assert_eq!(of(libc::SYS_getpid), PART_ASLEEP);
        assert_eq!(name(libc::SYS_fdatasync as u32), Some("fdatasync"));
        assert_eq!(name(u32::MAX), None);
    }
}

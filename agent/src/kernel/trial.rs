//! Trying a system call is the only sure way to know whether it is allowed: user namespaces, seccomp filters,
//! security modules, distribution patches and backports do not show in any file.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// What came of trying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    #[default]
    NotTried,
    Works,
    /// With this error number.
    Failed(i32),
}

impl Trial {
    /// The kernel, a filter or a security module says no.
    pub fn is_refused(self) -> bool {
        matches!(self, Self::Failed(libc::EPERM | libc::EACCES))
    }
}

/// `BPF_MAP_CREATE` and `BPF_MAP_TYPE_ARRAY` of include/uapi/linux/bpf.h.
const MAP_CREATE: i32 = 0;
const MAP_TYPE_ARRAY: u32 = 2;

/// Creates an array of one word and lets it go at once.
pub(super) fn create_bpf_map() -> Trial {
    // The beginning of `union bpf_attr`: map_type, key_size, value_size, max_entries. The kernel takes the rest,
    // which is not given, for zero.
    let attr: [u32; 4] = [MAP_TYPE_ARRAY, 4, 4, 1];
    // SAFETY: `attr` is readable for the size given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, attr.as_ptr(), size_of_val(&attr)) };
    if fd < 0 {
        return failed();
    }
    // SAFETY: a descriptor the kernel has just returned; dropping it frees the map.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Trial::Works
}

/// Opens a uprobe on a file that does not exist: the kernel asks for permission before it looks for the file
/// (kernel/events/core.c, `perf_uprobe_event_init`), so ENOENT means that it would be allowed.
pub(super) fn open_uprobe(pmu_type: u32) -> Trial {
    // `struct perf_event_attr` up to config2 (PERF_ATTR_SIZE_VER1): type and size, config, …, flags at 5,
    // config1 (uprobe_path) at 7, config2 (probe_offset) at 8.
    let mut attr = [0u64; 9];
    let path = c"/proc/self/no-such-executable";
    let size = size_of_val(&attr) as u64;
    attr[0] = u64::from(pmu_type) | (size << 32);
    attr[5] = 1; // disabled
    attr[7] = path.as_ptr() as u64;
    let (this_process, any_cpu, no_group, close_on_exec) = (0, -1, -1, 8);
    // SAFETY: `attr` and `path` are readable and outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attr.as_ptr(),
            this_process,
            any_cpu,
            no_group,
            close_on_exec,
        )
    };
    if fd >= 0 {
        // SAFETY: a descriptor the kernel has just returned.
        drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        return Trial::Works;
    }
    match failed() {
        Trial::Failed(libc::ENOENT) => Trial::Works,
        other => other,
    }
}

fn failed() -> Trial {
    Trial::Failed(io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

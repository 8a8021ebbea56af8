//! Trying a system call is the only sure way to know whether it is allowed: user namespaces, seccomp filters,
//! security modules, distribution patches and backports do not show in any file.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
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

/// Whether the kernel has links of many probes (`BPF_TRACE_UPROBE_MULTI`, Linux 6.6) whose filter by process is one (46ba0e49b642, Linux
/// 6.10 and some stable ones): before it, only hits of the thread that was named counted. Asked as libbpf asks
/// (`probe_uprobe_multi_link`): a directory is no file with code, and a process -1 is refused before that is seen, but only by a kernel
/// that looks at it.
pub(crate) fn link_uprobes() -> Trial {
    let Ok(program) = load_for_links() else { return failed() };
    match (link_to_directory(&program, 0), link_to_directory(&program, u32::MAX)) {
        (Trial::Failed(libc::EBADF), Trial::Failed(libc::EINVAL)) => Trial::Works,
        (Trial::Failed(libc::EBADF), _) => Trial::Failed(libc::EOPNOTSUPP),
        (other, _) => other,
    }
}

/// `BPF_PROG_LOAD`, `BPF_LINK_CREATE`, `BPF_PROG_TYPE_KPROBE` and `BPF_TRACE_UPROBE_MULTI` of include/uapi/linux/bpf.h.
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const PROG_TYPE_KPROBE: u64 = 2;
const TRACE_UPROBE_MULTI: u64 = 48;

/// A program that returns 0.
fn load_for_links() -> io::Result<OwnedFd> {
    // mov r0, 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    // `union bpf_attr` up to expected_attach_type: type and number of instructions, instructions, license, …
    let mut attr = [0u64; 9];
    attr[0] = PROG_TYPE_KPROBE | (instructions.len() as u64) << 32;
    attr[1] = instructions.as_ptr() as u64;
    attr[2] = c"GPL".as_ptr() as u64;
    attr[8] = TRACE_UPROBE_MULTI << 32;
    // SAFETY: `attr` is readable for the size given, and what it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, attr.as_ptr(), size_of_val(&attr)) };
    // SAFETY: a descriptor the kernel has just returned.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }) }
}

fn link_to_directory(program: &OwnedFd, pid: u32) -> Trial {
    let offset = 0u64;
    // prog_fd and target_fd, attach_type and flags, path, offsets, ref_ctr_offsets, cookies, cnt and flags, pid.
    let mut attr = [0u64; 8];
    attr[0] = u64::from(program.as_raw_fd().cast_unsigned());
    attr[1] = TRACE_UPROBE_MULTI;
    attr[2] = c"/".as_ptr() as u64;
    attr[3] = (&raw const offset) as u64;
    attr[6] = 1;
    attr[7] = pid.into();
    // SAFETY: as above.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, attr.as_ptr(), size_of_val(&attr)) };
    if fd < 0 {
        return failed();
    }
    // SAFETY: a descriptor the kernel has just returned.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Trial::Works
}

fn failed() -> Trial {
    Trial::Failed(io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

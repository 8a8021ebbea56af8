//! Where the kernel's tracepoints are described.

use std::{
    ffi::CStr,
    io,
    path::{Path, PathBuf},
};

use super::read_text;

/// Where it belongs, and where kernels before 4.1 had it. aya looks in these two places only.
const PLACES: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// What of tracefs there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tracefs {
    At(PathBuf),
    /// Mounted, but this process may not look into it.
    Denied(PathBuf),
    /// The kernel has it and it is not mounted where it belongs; perhaps at another place.
    Unmounted {
        elsewhere: Option<PathBuf>,
    },
    /// The kernel was built without.
    #[default]
    Unsupported,
}

/// Why tracefs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TracefsError {
    #[error(
        "tracefs is not mounted and this process may not mount it: run `sudo mount -t tracefs tracefs /sys/kernel/tracing`, or run nodeprobe as root"
    )]
    NotAllowed(#[source] io::Error),
    #[error(
        "tracefs is mounted at {0} but not readable: run nodeprobe as root, or grant CAP_DAC_READ_SEARCH"
    )]
    Denied(PathBuf),
    #[error("this kernel has no tracefs: boot one built with CONFIG_FTRACE=y and CONFIG_TRACEPOINTS=y")]
    Unsupported,
    #[error(
        "tracefs cannot be mounted: run `sudo mount -t tracefs tracefs /sys/kernel/tracing`, in a container mount it from the host"
    )]
    Mount(#[source] io::Error),
    #[error(
        "tracefs has to be mounted before the process has {0} threads: call `tracefs::ensure` first in `main`"
    )]
    TooLate(usize),
}

/// Looks for tracefs below `root` (`/`).
pub fn find(root: &Path) -> Tracefs {
    for place in PLACES {
        let path = root.join(place);
        match std::fs::read_dir(path.join("events")) {
            Ok(_) => return Tracefs::At(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_mounted(root, place) => {
                return Tracefs::Denied(path);
            }
            // Not there: an empty directory marks the place.
            Err(_) => {}
        }
    }
    let supported = read_text(&root.join("proc/filesystems"))
        .is_some_and(|list| list.lines().any(|line| line.split_ascii_whitespace().last() == Some("tracefs")));
    if supported {
        Tracefs::Unmounted { elsewhere: mounts(root).into_iter().next() }
    } else {
        Tracefs::Unsupported
    }
}

/// How a tracepoint lays out its fields, in the words of its `format` file.
///
/// # Errors
/// tracefs cannot be had, or the kernel has no such tracepoint.
pub fn format(root: &Path, category: &str, name: &str) -> io::Result<String> {
    let Tracefs::At(place) = find(root) else { return Err(io::Error::other("there is no tracefs")) };
    std::fs::read_to_string(place.join("events").join(category).join(name).join("format"))
}

/// The byte at which a field begins; `None` when there is no such field.
pub fn field_offset(format: &str, field: &str) -> Option<u32> {
    // `	field:char prev_comm[16];	offset:8;	size:16;	signed:0;`
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration.rsplit(' ').next()?.split('[').next()?;
        let offset = rest.trim().strip_prefix("offset:")?.split(';').next()?;
        (name == field).then(|| offset.parse().ok())?
    })
}

fn is_mounted(root: &Path, place: &str) -> bool {
    mounts(root).iter().any(|mount| mount.strip_prefix("/").is_ok_and(|mount| mount == Path::new(place)))
}

/// Every place it is mounted at. A space in a path is `\040` there: such a path is of no use to the reader.
fn mounts(root: &Path) -> Vec<PathBuf> {
    let text = read_text(&root.join("proc/self/mounts")).or_else(|| read_text(&root.join("proc/mounts")));
    text.unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (_device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "tracefs").then(|| PathBuf::from(place))
        })
        .collect()
}

/// Finds tracefs, or mounts it where only this process and its children see it. Call it first in `main`: a mount
/// namespace is of a thread, and threads started before would not see the mount.
///
/// # Errors
/// Each with the command that helps.
pub fn ensure() -> Result<PathBuf, TracefsError> {
    match find(Path::new("/")) {
        Tracefs::At(path) => Ok(path),
        Tracefs::Denied(path) => Err(TracefsError::Denied(path)),
        Tracefs::Unsupported => Err(TracefsError::Unsupported),
        Tracefs::Unmounted { .. } => mount_privately(),
    }
}

fn mount_privately() -> Result<PathBuf, TracefsError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(TracefsError::TooLate(threads));
    }
    let classified = |error: io::Error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TracefsError::NotAllowed(error),
        Some(libc::ENODEV) => TracefsError::Unsupported,
        _ => TracefsError::Mount(error),
    };
    // SAFETY: the process has one thread, so nobody else relies on the old namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).map_err(classified)?;
    // Slave, not private: what is mounted here stays here, and what the host mounts or unmounts later still
    // happens here too. A private copy would keep the host's file systems busy for as long as the agent runs.
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_SLAVE).map_err(classified)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(c"tracefs", c"/sys/kernel/tracing", Some(c"tracefs"), flags).map_err(classified)?;
    match find(Path::new("/")) {
        Tracefs::At(path) => Ok(path),
        // Under lockdown it can be mounted and is empty.
        _ => Err(TracefsError::Mount(io::Error::other("the mounted tracefs has no events"))),
    }
}

fn mount(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> io::Result<()> {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all strings end in NUL and outlive the call; without data there is nothing else to read.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, std::ptr::null()) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_the_format_says() {
        // Of Linux 6.18, and the same with the longer common part of RHEL 9.
        let format = "name: sched_switch\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            \tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
            \tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;\n";
        let offset = |field| field_offset(format, field);
        assert_eq!(
            (offset("prev_comm"), offset("prev_pid"), offset("prev_state")),
            (Some(8), Some(24), Some(32))
        );
        assert_eq!((offset("pid"), offset("next_pid"), field_offset("", "pid")), (None, None, None));
    }

    fn root(directories: &[&str], files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        for directory in directories {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for (path, text) in files {
            std::fs::write(root.path().join(path), text).unwrap();
        }
        root
    }

    #[test]
    fn a_mounted_tracefs_is_found_in_both_places() {
        for place in PLACES {
            let root = root(&["sys/kernel/tracing", &format!("{place}/events")], &[]);
            assert_eq!(find(root.path()), Tracefs::At(root.path().join(place)));
        }
    }

    #[test]
    fn an_empty_mount_point_is_not_mounted() {
        let filesystems = ("proc/filesystems", "nodev\tsysfs\nnodev\ttracefs\n\text4\n");
        let empty = root(&["sys/kernel/tracing"], &[filesystems]);
        assert_eq!(find(empty.path()), Tracefs::Unmounted { elsewhere: None });
        let mounts = ("proc/mounts", "proc /proc proc rw 0 0\ntracefs /mnt/trace tracefs rw 0 0\n");
        let elsewhere = root(&["sys/kernel/tracing"], &[filesystems, mounts]);
        assert_eq!(find(elsewhere.path()), Tracefs::Unmounted { elsewhere: Some("/mnt/trace".into()) });
    }

    #[test]
    fn a_kernel_without_tracefs_says_so() {
        let root = root(&[], &[("proc/filesystems", "nodev\tsysfs\n")]);
        assert_eq!(find(root.path()), Tracefs::Unsupported);
    }

    /// Runs `child` in a fork, which has one thread where a test has several, and returns what it says.
    fn said_by_a_fork(child: impl FnOnce() -> String) -> String {
        use std::io::{Read as _, Write as _};
        let (mut hear, mut say) = io::pipe().unwrap();
        // SAFETY: the child takes no lock but those of malloc, which glibc keeps usable, and leaves by _exit.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", io::Error::last_os_error());
        if pid == 0 {
            say.write_all(child().as_bytes()).ok();
            // SAFETY: nothing of the parent's runs on the way out.
            unsafe { libc::_exit(0) };
        }
        drop(say);
        let mut said = String::new();
        hear.read_to_string(&mut said).unwrap();
        // SAFETY: the child is ours and is waited for once.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        said
    }

    #[test]
    fn a_private_mount_is_seen_by_nobody_else() {
        let mounted = || match mount_privately() {
            Ok(path) if path.join("events/sched/sched_switch/id").exists() => "it sees tracefs".to_owned(),
            Ok(_) => "tracefs has no events".to_owned(),
            Err(error) => error.to_string(),
        };
        // A host as systemd makes it: what is mounted shows in every namespace, unless that is prevented.
        let host = || {
            // SAFETY: this fork has one thread.
            let unshared = check(unsafe { libc::unshare(libc::CLONE_NEWNS) });
            let all = |how| mount(c"none", c"/", None, libc::MS_REC | how);
            let alone = unshared.and_then(|()| all(libc::MS_PRIVATE)).map(|()| {
                // Most hosts have it mounted; this one is to have none.
                // SAFETY: the path is a C string.
                while unsafe { libc::umount2(c"/sys/kernel/tracing".as_ptr(), libc::MNT_DETACH) } == 0 {}
            });
            if let Err(error) = alone.and_then(|()| all(libc::MS_SHARED)) {
                return format!("skipped: {error}");
            }
            let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let before = mounts();
            // What had spread to the host would stay after the end of the inner fork.
            let said = said_by_a_fork(mounted);
            format!("{said}, the host {}", if mounts() == before { "does not" } else { "does" })
        };
        let said = said_by_a_fork(host);
        if said.starts_with("skipped: ") {
            eprintln!("{said}");
        } else {
            assert_eq!(said, "it sees tracefs, the host does not");
        }
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        let other = std::thread::spawn(std::thread::park);
        let refused = mount_privately();
        other.thread().unpark();
        other.join().unwrap();
        assert!(matches!(refused, Err(TracefsError::TooLate(2..))), "{refused:?}");
    }
}

//! The `…at` family of system calls: every path is looked up from a directory that is held open.

use std::{
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::OpenOptionsExt as _,
        },
    },
    path::{Component, Path, PathBuf},
};

/// Deepest path the fallback for `openat2` follows.
const COMPONENTS_MAX: usize = 128;

pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)?;
    Ok(file.into())
}

/// For reading. Never waits for the writer of a FIFO, never makes a terminal ours.
pub(super) fn open_file(dir: impl AsFd, path: &Path) -> io::Result<File> {
    let fd = openat(dir.as_fd(), path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    Ok(File::from(fd))
}

pub(super) fn openat(dir: BorrowedFd<'_>, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `dir` is open for the length of the call and `path` is a C string; the kernel checks the rest.
    let fd = unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC) };
    owned(i64::from(fd))
}

/// What `path` leads to, links followed; does not open it.
pub(super) fn stat(dir: impl AsFd, path: &Path) -> io::Result<libc::stat> {
    let path = c_path(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: as in `openat`; `stat` is a valid place for the result.
    let result = unsafe { libc::fstatat(dir.as_fd().as_raw_fd(), path.as_ptr(), stat.as_mut_ptr(), 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fstatat has succeeded, so it has filled the structure.
    Ok(unsafe { stat.assume_init() })
}

/// Where a link points to; an empty `path` reads what `dir` itself is.
pub(super) fn read_link(dir: impl AsFd, path: &Path) -> io::Result<PathBuf> {
    let path = c_path(path)?;
    // PATH_MAX is what d_path can write; a longer target does not exist.
    let mut target = vec![0u8; 4096];
    // SAFETY: as in `openat`; the length is that of the buffer.
    let length = unsafe {
        libc::readlinkat(dir.as_fd().as_raw_fd(), path.as_ptr(), target.as_mut_ptr().cast(), target.len())
    };
    let length = usize::try_from(length).map_err(|_negative| io::Error::last_os_error())?;
    target.truncate(length);
    Ok(PathBuf::from(OsString::from_vec(target)))
}

pub(super) fn list(dir: impl AsFd, path: &Path) -> io::Result<Vec<OsString>> {
    let fd = openat(dir.as_fd(), path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    // The standard library has no fdopendir; through /proc/self it is the same directory.
    std::fs::read_dir(magic_link(&fd))?.map(|entry| Ok(entry?.file_name())).collect()
}

/// The name under which the kernel gives the file of an open descriptor.
pub(super) fn magic_link(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Looks `path` up as a process would whose root directory is `root`: absolute links and `..` stay inside.
/// Returns an `O_PATH` descriptor; nothing is opened yet, so that a device or FIFO notices nothing.
pub(super) fn resolve_in_root(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    match openat2_in_root(root.as_fd(), path) {
        // Linux before 5.6, or a seccomp filter that does not know the call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            walk_in_root(root.as_fd(), path)
        }
        result => result,
    }
}

pub(super) fn openat2_in_root(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: all-zero is a valid `open_how`; it cannot be built otherwise.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: `root` is open, `path` is a C string, `how` is of the size given.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    owned(fd)
}

/// Component by component and without following any link: less is found than by `openat2`, nothing outside.
pub(super) fn walk_in_root(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut visited: Vec<OwnedFd> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if visited.len() < COMPONENTS_MAX => {
                let dir = visited.last().map_or(root, AsFd::as_fd);
                let fd = openat(dir, Path::new(name), libc::O_PATH | libc::O_NOFOLLOW)?;
                if kind(&fd)? == libc::S_IFLNK {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                visited.push(fd);
            }
            Component::Normal(_) => return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
            Component::ParentDir => {
                visited.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    visited.pop().map_or_else(|| root.try_clone_to_owned(), Ok)
}

/// The `S_IFMT` bits of an open descriptor.
pub(super) fn kind(fd: &OwnedFd) -> io::Result<libc::mode_t> {
    Ok(stat_fd(fd)?.st_mode & libc::S_IFMT)
}

pub(super) fn stat_fd(fd: &OwnedFd) -> io::Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fd` is open and `stat` is a valid place for the result.
    if unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fstat has succeeded, so it has filled the structure.
    Ok(unsafe { stat.assume_init() })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|nul| io::Error::new(io::ErrorKind::InvalidInput, nul))
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor the kernel has just returned; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

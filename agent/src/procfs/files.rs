//! Files of a process: its executable and libraries, its directories, its descriptors, and what lies below its
//! root directory. Nothing is ever opened outside that root, and nothing but regular files.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use super::{Error, Mapping, ProcessDir, SMALL_FILE_MAX_BYTES, at, os_string};
use crate::model::StreamKind;

/// What the kernel appends to the path of a file that has no name any more.
const DELETED: &[u8] = b" (deleted)";

/// Where one of the links of `/proc/PID` points, as the process itself would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Hostile bytes are possible: clean it before it is shown.
    pub path: PathBuf,
    /// The file was removed or replaced; the process still has it.
    pub deleted: bool,
}

impl ProcessDir {
    /// Path of the executable.
    ///
    /// # Errors
    /// [`Error::Gone`], for kernel threads and zombies too.
    pub fn exe(&self) -> Result<Link, Error> {
        self.link("exe")
    }

    /// What a descriptor leads to: a path, or what the kernel calls it (`pipe:[1234]`).
    ///
    /// # Errors
    /// [`Error::Gone`], also when it is closed; [`Error::Denied`].
    pub fn descriptor(&self, fd: u32) -> Result<Link, Error> {
        self.link_of("fd", &format!("fd/{fd}"))
    }

    /// Working directory.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn cwd(&self) -> Result<Link, Error> {
        self.link("cwd")
    }

    /// Opens the executable itself, by whatever name and even without one.
    ///
    /// # Errors
    /// [`Error::Gone`], for kernel threads and zombies too.
    pub fn open_exe(&self) -> Result<File, Error> {
        self.open("exe")
    }

    /// Opens a mapped file. `map_files` gives the very file, deleted or not, but asks for
    /// `CAP_CHECKPOINT_RESTORE`; else the path is looked up below the process's root and must still lead to the
    /// device and inode that were mapped.
    ///
    /// # Errors
    /// [`Error::Replaced`] if it does not; [`Error::Gone`] if the mapping or the process is no more.
    pub fn open_mapped(&self, mapping: &Mapping) -> Result<File, Error> {
        let range = format!("map_files/{:x}-{:x}", mapping.range.start, mapping.range.end);
        let by_range = at::openat(std::os::fd::AsFd::as_fd(&self.dir), Path::new(&range), libc::O_PATH);
        if let Ok(fd) = by_range
            && let Ok(file) = reopen_regular(&fd)
        {
            return Ok(file);
        }
        let what = "a mapped file";
        let replaced = || Error::Replaced {
            pid: self.pid(),
            path: crate::clean::clean(mapping.path.as_os_str().as_bytes(), crate::clean::PATH_MAX_CHARS),
        };
        let file = match self.resolve(&mapping.path).and_then(|fd| reopen_regular(&fd)) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Err(replaced()),
            Err(error) => return Err(Error::new(self.pid(), what, error)),
        };
        let metadata = file.metadata().map_err(|source| Error::new(self.pid(), what, source))?;
        let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
        // btrfs maps files under another device number than stat tells: there it takes map_files.
        if (device, metadata.ino()) == (mapping.device, mapping.inode) { Ok(file) } else { Err(replaced()) }
    }

    /// Another descriptor of the same open terminal as `fd`, if `fd` is a terminal and there is one: libuv opens a
    /// terminal anew and keeps using the new descriptor. Compared by `kcmp(2)`; where the kernel has no such call the
    /// answer is `None`.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn terminal_alias(&self, fd: u32) -> Result<Option<u32>, Error> {
        const KCMP_FILE: libc::c_long = 0;
        if self.stream_kind(fd)? != Some(StreamKind::Tty) {
            return Ok(None);
        }
        let pid = libc::c_long::from(self.pid());
        let mut others = self.descriptors()?;
        others.sort_unstable();
        Ok(others.into_iter().find(|&other| {
            // SAFETY: the call takes numbers only and changes nothing.
            other > 2
                && unsafe {
                    libc::syscall(
                        libc::SYS_kcmp,
                        pid,
                        pid,
                        KCMP_FILE,
                        libc::c_long::from(fd),
                        libc::c_long::from(other),
                    )
                } == 0
        }))
    }

    /// Opens a regular file by its path below the process's root directory. `Ok(None)`: there is no such file, or it is
    /// of another kind. Whatever the path holds, no FIFO, device or socket is opened.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open_in_root(&self, path: &Path) -> io::Result<Option<File>> {
        match self.resolve(path).and_then(|fd| reopen_regular(&fd)) {
            Ok(file) => Ok(Some(file)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::EXDEV) => {
                    Ok(None)
                }
                None if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Reads a regular file of at most `limit_bytes`, found as by [`Self::open_in_root`]. `Ok(None)` also if it is
    /// larger.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read_in_root(&self, path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open_in_root(path)? else { return Ok(None) };
        if file.metadata()?.len() > limit_bytes {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        // The size may have been a lie (a file that grows, a procfs): the limit holds for what is read.
        file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit_bytes).then_some(bytes))
    }

    /// The path below the process's root that `path` leads to once every link is followed; `None` if to nothing.
    pub fn real_path(&self, path: &Path) -> Option<PathBuf> {
        let fd = self.resolve(path).ok()?;
        let real = std::fs::read_link(at::magic_link(&fd)).ok()?;
        let root = std::fs::read_link(at::magic_link(&self.root().ok()?)).ok()?;
        // The kernel writes the path as seen from the root of the mount namespace; a chroot is a prefix of it.
        Some(Path::new("/").join(real.strip_prefix(&root).unwrap_or(&real)))
    }

    /// What the descriptor `fd` is, by the rules of libuv's `uv_guess_handle` (src/unix/tty.c), where a terminal
    /// is told by its device number instead of `isatty`: opening it could change it. `None`: closed, or of a
    /// kind that libuv does not stream to.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn stream_kind(&self, fd: u32) -> Result<Option<StreamKind>, Error> {
        let stat = match at::stat(&self.dir, Path::new(&format!("fd/{fd}"))) {
            Ok(stat) => stat,
            Err(source) => {
                let error = Error::new(self.pid(), "fd", source);
                return if error.is_gone() { Ok(None) } else { Err(error) };
            }
        };
        Ok(match stat.st_mode & libc::S_IFMT {
            libc::S_IFCHR if self.is_tty(stat.st_rdev) => Some(StreamKind::Tty),
            libc::S_IFCHR | libc::S_IFREG => Some(StreamKind::File),
            libc::S_IFIFO => Some(StreamKind::Pipe),
            libc::S_IFSOCK => Some(StreamKind::Socket),
            _ => None,
        })
    }

    /// The majors of consoles (4, 5) and pseudo-terminals (136 to 143) are fixed; those of serial and
    /// hypervisor consoles are in `/proc/tty/drivers`.
    pub(super) fn is_tty(&self, device: libc::dev_t) -> bool {
        let major = libc::major(device);
        if matches!(major, 4 | 5 | 136..=143) {
            return true;
        }
        let mut drivers = String::new();
        let read = File::open(&self.tty_drivers)
            .and_then(|file| file.take(SMALL_FILE_MAX_BYTES).read_to_string(&mut drivers));
        // Lines end in: major, range of minors, type.
        read.is_ok()
            && drivers.lines().any(|line| {
                line.split_ascii_whitespace().rev().nth(2).and_then(|field| field.parse().ok()) == Some(major)
            })
    }

    /// The process's root directory.
    fn root(&self) -> io::Result<OwnedFd> {
        at::openat(std::os::fd::AsFd::as_fd(&self.dir), Path::new("root"), libc::O_PATH | libc::O_DIRECTORY)
    }

    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        at::resolve_in_root(self.root()?, path)
    }

    fn link(&self, what: &'static str) -> Result<Link, Error> {
        self.link_of(what, what)
    }

    /// `what`: for the error.
    fn link_of(&self, what: &'static str, name: &str) -> Result<Link, Error> {
        let read = |name| at::read_link(&self.dir, Path::new(name));
        let target = read(name).map_err(|source| Error::new(self.pid(), what, source))?;
        let bytes = target.as_os_str().as_bytes();
        let (path, deleted) = match bytes.strip_suffix(DELETED) {
            Some(path) => (PathBuf::from(os_string(path)), true),
            None => (target, false),
        };
        // Of a process in a chroot the kernel writes the whole path.
        let path = match read("root").ok().and_then(|root| Some(path.strip_prefix(root).ok()?.to_owned())) {
            Some(inside) => Path::new("/").join(inside),
            None => path,
        };
        Ok(Link { path, deleted })
    }
}

/// Opens for reading what an `O_PATH` descriptor stands for, if it is a regular file.
fn reopen_regular(fd: &OwnedFd) -> io::Result<File> {
    if at::kind(fd)? != libc::S_IFREG {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    File::open(at::magic_link(fd))
}

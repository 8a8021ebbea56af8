//! What `/proc` tells about processes. The root directory is an argument; everything read is bounded and taken
//! for hostile; a process that has ended meanwhile is [`Error::Gone`], which is no failure.
//!
//! A [`ProcessDir`] holds its directory open, so that all facts read through one are of the same process: after
//! its end the kernel answers ESRCH, even if the pid is in use again. An exec does change the facts.
//!
//! Limit: a file system that hangs (NFS without its server) below the root of a process hangs its reader, too.
//! Identify processes on a thread that may wait.

mod at;
mod cgroup_namespace;
pub mod cgroups;
mod files;
mod host;
#[cfg(test)]
pub(crate) mod live;
mod maps;
mod net;
mod stack;
mod stat;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::model::HostCpu;

pub(crate) use self::stat::field;
pub use self::{
    files::Link,
    maps::{Mapping, is_node_library},
    net::{TcpSocket, socket_inode},
    stack::{OnStack, ThreadState},
    stat::{Stat, Status},
};

/// Longest command line that is looked at. Arguments may sum up to a quarter of the stack limit (2 MiB).
pub const CMDLINE_MAX_BYTES: usize = 64 << 10;
/// Largest environment that is searched.
const ENVIRON_MAX_BYTES: u64 = 256 << 10;
/// For files the kernel writes in a fixed form: `stat`, `status`, `cgroup`, `comm`, `syscall`.
const SMALL_FILE_MAX_BYTES: u64 = 64 << 10;

/// Why a fact about a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process or thread has ended, or (a kernel thread, a zombie) has no such thing. Expected at any time.
    #[error("the process has ended")]
    Gone,
    #[error(
        "no permission to read {what} of process {pid}: it takes CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and every capability the process has itself"
    )]
    Denied { pid: u32, what: &'static str },
    #[error("{what} of process {pid} is not what the kernel writes")]
    Malformed { pid: u32, what: &'static str },
    #[error("{path} in process {pid} is no longer the file that was mapped")]
    Replaced { pid: u32, path: String },
    #[error("cannot read {what} of process {pid}")]
    Io { pid: u32, what: &'static str, source: io::Error },
}

impl Error {
    /// Whether this says only that there is nothing to observe any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }

    fn new(pid: u32, what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::Gone,
            Some(libc::EACCES | libc::EPERM) => Self::Denied { pid, what },
            _ => Self::Io { pid, what, source },
        }
    }
}

/// A mounted procfs.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

impl Default for Procfs {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl Procfs {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All processes there are, kernel threads included, in ascending order.
    ///
    /// # Errors
    /// If the procfs cannot be listed at all.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids: Vec<u32> =
            std::fs::read_dir(&self.root)?.filter_map(|entry| number(&entry.ok()?.file_name())).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// What the host's processors did since its boot; `None`: it does not tell.
    pub fn host_cpu(&self) -> Option<HostCpu> {
        let mut bytes = Vec::new();
        let file = File::open(self.root.join("stat")).ok()?;
        file.take(SMALL_FILE_MAX_BYTES).read_to_end(&mut bytes).ok()?;
        host::cpu(&bytes)
    }

    /// # Errors
    /// [`Error::Gone`] if there is no such process.
    pub fn process(&self, pid: u32) -> Result<ProcessDir, Error> {
        let dir = at::open_dir(&self.root.join(pid.to_string()))
            .map_err(|source| Error::new(pid, "the directory", source))?;
        Ok(ProcessDir { pid, dir, tty_drivers: self.root.join("tty/drivers") })
    }
}

/// One process, for as long as it lives.
#[derive(Debug)]
pub struct ProcessDir {
    pid: u32,
    /// `O_PATH`; pins the kernel's `struct pid`, not the process.
    dir: OwnedFd,
    tty_drivers: PathBuf,
}

/// The arguments of a process as far as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// Raw bytes. The last one may be cut.
    pub args: Vec<Vec<u8>>,
    /// There was more than the limit.
    pub truncated: bool,
}

impl ProcessDir {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// # Errors
    /// [`Error::Gone`] after the process was reaped.
    pub fn stat(&self) -> Result<Stat, Error> {
        let bytes = self.read("stat", SMALL_FILE_MAX_BYTES)?;
        Stat::parse(&bytes).ok_or(Error::Malformed { pid: self.pid, what: "stat" })
    }

    /// # Errors
    /// As [`Self::stat`].
    pub fn status(&self) -> Result<Status, Error> {
        let bytes = self.read("status", SMALL_FILE_MAX_BYTES)?;
        Status::parse(&bytes).ok_or(Error::Malformed { pid: self.pid, what: "status" })
    }

    /// The arguments, at most `limit_bytes` of them ([`CMDLINE_MAX_BYTES`]). The process can rewrite them
    /// (`process.title`): never take them for certain. Empty for kernel threads and zombies.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn cmdline(&self, limit_bytes: usize) -> Result<Cmdline, Error> {
        let mut bytes = self.read("cmdline", limit_bytes as u64 + 1)?;
        let truncated = bytes.len() > limit_bytes;
        bytes.truncate(limit_bytes);
        // Each argument ends in NUL; a rewritten area is padded with them.
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let padded = bytes.len() > end + 1;
        if end == 0 && !padded {
            return Ok(Cmdline { args: Vec::new(), truncated });
        }
        let args = bytes[..end].split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
        Ok(Cmdline { args, truncated })
    }

    /// The values of the variables `names` in the environment the process was started with, in the same order.
    /// Of a variable set twice the first counts, as for `getenv`. Nothing else of the environment is kept: it
    /// holds secrets.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn environ<const N: usize>(&self, names: [&str; N]) -> Result<[Option<Vec<u8>>; N], Error> {
        let what = "environ";
        let file = self.open(what)?;
        let mut reader = BufReader::new(file.take(ENVIRON_MAX_BYTES));
        let mut values = [const { None }; N];
        let mut entry = Vec::new();
        loop {
            entry.clear();
            reader.read_until(0, &mut entry).map_err(|source| Error::new(self.pid, what, source))?;
            // Without its NUL it is the end, or an entry the limit has cut: half a value would be a wrong one.
            if entry.pop() != Some(0) {
                return Ok(values);
            }
            for (name, value) in names.iter().zip(&mut values) {
                let found = entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
                if let (None, Some(found)) = (&value, found) {
                    *value = Some(found.to_vec());
                }
            }
        }
    }

    /// The contents of `cgroup`, for [`crate::cgroup::container_id`].
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn cgroup(&self) -> Result<Vec<u8>, Error> {
        self.read("cgroup", SMALL_FILE_MAX_BYTES)
    }

    /// Threads of the process, in ascending order.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn thread_ids(&self) -> Result<Vec<u32>, Error> {
        let names = at::list(&self.dir, Path::new("task")).map_err(|e| Error::new(self.pid, "task", e))?;
        let mut tids: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
        if tids.is_empty() {
            return Err(Error::Gone);
        }
        tids.sort_unstable();
        Ok(tids)
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn descriptors(&self) -> Result<Vec<u32>, Error> {
        let names = at::list(&self.dir, Path::new("fd")).map_err(|e| Error::new(self.pid, "fd", e))?;
        Ok(names.iter().filter_map(|name| number(name)).collect())
    }

    /// The name of a thread, cleaned; the kernel keeps 15 bytes of it.
    ///
    /// # Errors
    /// [`Error::Gone`] if the thread has ended.
    pub fn thread_name(&self, tid: u32) -> Result<String, Error> {
        let bytes = self.read_at(&format!("task/{tid}/comm"), "comm", SMALL_FILE_MAX_BYTES)?;
        Ok(crate::clean::clean(bytes.strip_suffix(b"\n").unwrap_or(&bytes), 64))
    }

    /// For how long the main thread was ready to run and had no processor, nanoseconds: the second field of `schedstat`.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Malformed`] also on kernels without scheduler statistics.
    pub fn run_delay_ns(&self) -> Result<u64, Error> {
        let malformed = || Error::Malformed { pid: self.pid, what: "schedstat" };
        let text =
            self.read_at(&format!("task/{}/schedstat", self.pid), "schedstat", SMALL_FILE_MAX_BYTES)?;
        let text = std::str::from_utf8(&text).ok().ok_or_else(malformed)?;
        text.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).ok_or_else(malformed)
    }

    fn open(&self, what: &'static str) -> Result<File, Error> {
        self.open_at(what, what)
    }

    fn open_at(&self, path: &str, what: &'static str) -> Result<File, Error> {
        at::open_file(&self.dir, Path::new(path)).map_err(|source| Error::new(self.pid, what, source))
    }

    fn read(&self, what: &'static str, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.read_at(what, what, limit_bytes)
    }

    fn read_at(&self, path: &str, what: &'static str, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let file = self.open_at(path, what)?;
        let mut bytes = Vec::new();
        file.take(limit_bytes)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::new(self.pid, what, source))?;
        Ok(bytes)
    }
}

/// Memory of the machine, bytes.
pub fn memory_bytes() -> Option<u64> {
    // SAFETY: plain queries without pointers.
    let (pages, page_bytes) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).ok()?.checked_mul(u64::try_from(page_bytes).ok()?)
}

/// Wall clock when the kernel's boot clock stood at zero. Read it once: a clock that is set later would move the
/// start of every process.
pub fn boot_time() -> SystemTime {
    let mut boottime = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `boottime` is a valid place for the result; the clock exists since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut boottime) };
    SystemTime::now() - Duration::new(boottime.tv_sec as u64, boottime.tv_nsec as u32)
}

/// Wall clock at the start of a process, to 10 ms: `start_ticks` counts from boot, sleep included.
pub fn started_at(boot: SystemTime, start_ticks: u64) -> SystemTime {
    // A value that does not fit is no start time; boot is the nearest truth.
    boot.checked_add(Duration::from_nanos(stat::ticks_to_ns(start_ticks))).unwrap_or(boot)
}

fn number(name: &OsStr) -> Option<u32> {
    std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()
}

fn os_string(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

#[cfg(test)]
mod tests;

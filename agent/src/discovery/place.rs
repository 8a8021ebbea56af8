//! Where the code of a file lies in a process, and what its own loop is there.

use std::{fs::File, ops::Range, os::unix::fs::MetadataExt as _};

use crate::{
    binary::FileOffset,
    plan::Plan,
    procfs::{self, ProcessDir},
};

/// A file as `/proc/PID/maps` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The addresses of a piece of its code in the process; `None`: it is not mapped there as a whole.
    ///
    /// # Errors
    /// Those of reading the process's maps.
    pub(super) fn addresses(
        &self,
        process: &ProcessDir,
        code: &Range<FileOffset>,
    ) -> Result<Option<Range<u64>>, procfs::Error> {
        let (start, end) = (code.start.0, code.end.0);
        let mappings = process.mappings(|mapping| {
            mapping.executable
                && mapping.inode == self.inode
                && mapping.offset_bytes <= start
                && end - mapping.offset_bytes <= mapping.range.end - mapping.range.start
        })?;
        let base = mappings.first().map(|mapping| mapping.range.start - mapping.offset_bytes);
        Ok(base.map(|base| base + start..base + end))
    }
}

/// The epoll descriptor of libuv's default loop if the thread `pid` has children; `None`: not known. In the `node` command it is that of
/// the main thread's own loop, whose wait on another one is that of the private loop of `spawnSync`.
///
/// A program that embeds Node may give it another loop. Where it has begun the default one as well and has a child, an idle wait would be
/// taken for a turn; without a child there is nothing that `spawnSync` could wait for.
pub(super) fn main_epfd(process: &ProcessDir, plan: &Plan, files: &[FileIdentity]) -> Option<i32> {
    if !process.has_children().unwrap_or(false) {
        return None;
    }
    let (pointer, offset) = plan.default_loop.zip(plan.backend_fd_offset)?;
    let function = pointer.function..FileOffset(pointer.function.0 + 1);
    let function = files.get(pointer.file)?.addresses(process, &function).ok()??;
    let pointer = function.start.checked_add_signed(pointer.distance_bytes)?;
    let uv_loop = u64::from_ne_bytes(process.memory(pointer)?);
    let epfd = i32::from_ne_bytes(process.memory(uv_loop.checked_add(offset.into())?)?);
    // Whatever was read, it has to be what it is taken for. A loop that was closed has -1.
    let link = process.descriptor(u32::try_from(epfd).ok()?).ok()?;
    (link.path.as_os_str() == "anon_inode:[eventpoll]").then_some(epfd)
}

//! Workers of processes that ran before the agent: by the stacks of their threads.

use std::{fs::File, os::unix::fs::MetadataExt as _};

use crate::{
    plan::Plan,
    procfs::{self, ProcessDir, ThreadState},
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
}

/// Threads that are inside `Worker::Run`, and whether some could not be asked.
pub(super) fn workers(
    process: &ProcessDir,
    plan: &Plan,
    files: &[FileIdentity],
) -> Result<(Vec<u32>, bool), procfs::Error> {
    let Some(code) = &plan.worker_run else { return Ok((Vec::new(), false)) };
    let Some(file) = files.get(code.file) else { return Ok((Vec::new(), false)) };
    let (start, end) = (code.range.start.0, code.range.end.0);
    let mappings = process.mappings(|mapping| {
        mapping.executable
            && mapping.inode == file.inode
            && mapping.offset_bytes <= start
            && end - mapping.offset_bytes <= mapping.range.end - mapping.range.start
    })?;
    let Some(mapping) = mappings.first() else { return Ok((Vec::new(), false)) };
    let base = mapping.range.start - mapping.offset_bytes;
    let range = base + start..base + end;
    let mut found = Vec::new();
    let mut unknown = false;
    for tid in process.thread_ids()? {
        if tid == process.pid() {
            continue;
        }
        match process.thread_runs(tid, &range) {
            Ok(Some(true)) => found.push(tid),
            Ok(Some(false)) => {}
            Ok(None) => unknown |= process.thread_state(tid).is_ok_and(|state| state == ThreadState::Running),
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((found, unknown))
}

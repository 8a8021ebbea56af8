//! The cgroup of a process, as far as it limits its share of processors and its memory.

use std::{fs::File, io::Read as _, path::Path};

use super::{ProcessDir, SMALL_FILE_MAX_BYTES};
use crate::cgroup;

/// Where the hierarchies are mounted on every distribution.
const ROOT: &str = "/sys/fs/cgroup";

/// For how long the process's group was kept off all processors because its quota was used up, nanoseconds; `None`: the
/// hierarchy is not mounted here, or the group has no account of it.
pub fn throttled_ns(process: &ProcessDir) -> Option<u64> {
    let paths = cgroup::cpu_stat_paths(&process.cgroup().ok()?);
    paths.iter().find_map(|path| {
        let mut text = String::new();
        let file = File::open(Path::new(ROOT).join(path)).ok()?;
        file.take(SMALL_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
        cgroup::throttled_ns(&text)
    })
}

/// How much memory the process's group allows, bytes; `Some(None)`: as much as there is; `None`: not known here.
pub fn memory_limit_bytes(process: &ProcessDir) -> Option<Option<u64>> {
    let (paths, is_root) = cgroup::memory_limit_paths(&process.cgroup().ok()?)?;
    let read = |path: &String| {
        let mut text = String::new();
        let file = File::open(Path::new(ROOT).join(path)).ok()?;
        file.take(SMALL_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let texts: Vec<String> = paths.iter().filter_map(read).collect();
    if texts.is_empty() && !is_root {
        return None;
    }
    // Without a limit version 2 says `max`, and version 1 a number that no machine has.
    Some(texts.iter().filter_map(|text| text.trim().parse().ok()).min())
}

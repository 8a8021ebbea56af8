//! The cgroup of a process, as far as it limits its share of processors and its memory.

use std::{fs::File, io::Read as _, path::Path};

use super::{ProcessDir, SMALL_FILE_MAX_BYTES};
use crate::{cgroup, model::GroupMemory};

/// Where the hierarchies are mounted on every distribution.
const ROOT: &str = "/sys/fs/cgroup";
/// No machine has so much.
const UNLIMITED_BYTES: u64 = 1 << 60;

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

/// The memory of the group around the process that has the least limit; `None`: no group is limited, or none can be looked at.
pub fn memory(process: &ProcessDir) -> Option<GroupMemory> {
    let groups = cgroup::memory_groups(&process.cgroup().ok()?)?;
    let read = |directory: &str, file: &str| {
        let mut text = String::new();
        let file = File::open(Path::new(ROOT).join(directory).join(file)).ok()?;
        file.take(SMALL_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let limits = groups.directories.iter().filter_map(|directory| {
        let limit_bytes = read(directory, groups.limit)?.trim().parse().ok()?;
        // Without a limit version 2 says `max`, and version 1 a number that no machine has.
        (limit_bytes < UNLIMITED_BYTES).then_some((limit_bytes, directory))
    });
    let (limit_bytes, directory) = limits.min()?;
    let account = read(directory, groups.account).unwrap_or_default();
    let used_bytes = read(directory, groups.usage)
        .and_then(|usage| cgroup::working_set_bytes(&usage, &account, groups.droppable));
    Some(GroupMemory { limit_bytes, used_bytes })
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

//! The cgroup of a process, as far as it limits its share of processors and its memory.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    sync::{Arc, Once},
};

use super::{ProcessDir, SMALL_FILE_MAX_BYTES, cgroup_namespace};
use crate::{
    cgroup::{self, QuotaAccount, namespace::Roots},
    model::GroupMemory,
};

/// Where the hierarchies are mounted on every distribution.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// No machine has so much.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Whether the group of a process can be looked at; `None`: the process is not known.
pub fn is_in_sight(process: &ProcessDir) -> Option<bool> {
    Some(!cgroup::is_out_of_sight(&process.cgroup().ok()?, &cgroup_namespace::roots()))
}

/// The groups of a process, and from where they are to be understood.
fn groups(process: &ProcessDir) -> Option<(Vec<u8>, Arc<Roots>)> {
    static SAID: Once = Once::new();
    let (groups, roots) = (process.cgroup().ok()?, cgroup_namespace::roots());
    if cgroup::is_out_of_sight(&groups, &roots) {
        SAID.call_once(|| {
            tracing::warn!(
                "memory limits and CPU throttling of other containers cannot be told: {ROOT} does not show their groups; `nodeprobe check` says what to do"
            );
        });
    }
    Some((groups, roots))
}

/// What its quota has cost the process's group since the group was made; `None`: the hierarchy is not mounted here, or the group
/// has no account of it.
pub fn quota_account(process: &ProcessDir) -> Option<QuotaAccount> {
    let (groups, roots) = groups(process)?;
    let paths = cgroup::cpu_stat_paths(&groups, &roots);
    paths.into_iter().find_map(|path| {
        let mut text = String::new();
        let file = File::open(Path::new(ROOT).join(&path)).ok()?;
        file.take(SMALL_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
        QuotaAccount::parse(path, &text)
    })
}

/// The memory of the group around the process that has the least limit; `None`: no group is limited, or none can be looked at.
pub fn memory(process: &ProcessDir) -> Option<GroupMemory> {
    let (groups, roots) = groups(process)?;
    let groups = cgroup::memory_groups(&groups, &roots)?;
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
    let (groups, roots) = groups(process)?;
    let (paths, is_root) = cgroup::memory_limit_paths(&groups, &roots)?;
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

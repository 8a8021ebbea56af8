//! Groups that runtimes and the kubelet leave behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::cgroup::hierarchies;

/// The groups that container runtimes and the kubelet make around those of containers, and leave there.
const AROUND: [&str; 5] = [
    "kubepods/burstable",
    "kubepods/besteffort",
    "kubepods.slice/kubepods-burstable.slice",
    "kubepods.slice/kubepods-besteffort.slice",
    "libpod_parent/conmon",
];

/// Removes, when it is dropped, the groups around those of containers that were not there before.
pub struct Slices(#[expect(dead_code, reason = "kept to be dropped")] NewGroups);

impl Slices {
    /// Must live longer than the containers.
    pub fn watch() -> Self {
        Self(NewGroups(AROUND.iter().flat_map(|path| missing(path)).collect()))
    }
}

/// Removes, when it is dropped, directories of a group that were not there before.
pub struct NewGroups(Vec<PathBuf>);

impl NewGroups {
    /// Remembers what there is not yet of a path such as `/kubepods/burstable/pod<uid>/<id>`.
    pub fn watch(path: &str) -> Self {
        Self(missing(path))
    }

    /// Takes over a group that somebody else made for the test.
    pub fn of(path: &str) -> Self {
        Self(hierarchies().into_iter().map(|hierarchy| hierarchy.join(path)).collect())
    }

    /// Those that are there now.
    pub fn left(&self) -> Vec<&Path> {
        self.0.iter().map(PathBuf::as_path).filter(|directory| directory.exists()).collect()
    }
}

impl Drop for NewGroups {
    fn drop(&mut self) {
        // The innermost first. One that somebody else uses by now stays: the kernel removes none that is not empty.
        for directory in self.0.iter().rev() {
            drop(fs::remove_dir(directory));
        }
    }
}

/// The directories of a group that do not exist, the outermost first.
fn missing(path: &str) -> Vec<PathBuf> {
    let mut missing = Vec::new();
    for mut directory in hierarchies() {
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            directory.push(segment);
            if !directory.exists() {
                missing.push(directory.clone());
            }
        }
    }
    missing
}

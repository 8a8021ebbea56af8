//! Mounts that probes hold on to: the kernel keeps the path through which a uprobe was attached, and with it the mount of a container.

use std::fs::File;

use super::{
    Discovery,
    file_key::{FileKey, FileUse},
};

impl Discovery {
    /// Lets go of the mounts of containers that have ended, where others use the same files.
    pub(super) fn leave_ended_mounts(&mut self) {
        for key in self.images.on_ended_mounts() {
            let uses_it = |files: &[FileUse]| files.iter().any(|used| used.key == key);
            let mut users = self.users.iter().filter(|(_, files)| uses_it(files));
            if let Some(file) = users.find_map(|(pid, _)| self.open(*pid, key)) {
                self.images.move_to(&file, &self.kernel);
            }
        }
    }

    /// A file of a process: its executable, or a library with a part of Node in it.
    fn open(&self, pid: u32, key: FileKey) -> Option<File> {
        let is_it = |file: &File| FileUse::of(file).is_ok_and(|used| used.key == key);
        let process = self.procfs.process(pid).ok()?;
        if let Some(executable) = process.open_exe().ok().filter(is_it) {
            return Some(executable);
        }
        let mappings = process.node_libraries().ok()?;
        mappings.iter().filter_map(|mapping| process.open_mapped(mapping).ok()).find(is_it)
    }
}

//! Which files are the same one to the kernel's uprobes.
//!
//! Containers of one image see its files each through an overlay mount of their own, with a device number of its own. A uprobe is
//! put into the file below, which they share (`d_real_inode` in `kernel/trace/trace_uprobe.c`): whoever attaches once for each mount
//! has a program run as often as there are containers, for every hit in every one of them.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
};

/// Tells a file from others and from its own later contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    place: Place,
    inode: u64,
    size_bytes: u64,
    modified_ns: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Device(u64),
    /// The device is that of the mount. The inode number and the time of the last change of the inode, to the nanosecond, are those of
    /// the file below (`ovl_getattr`), and together with size and time of writing no other file has them.
    Overlay {
        changed_ns: i64,
    },
}

impl FileKey {
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether `other` is the same file with other contents: written in place. Not known on an overlay, where the first write makes
    /// another file of it.
    pub(super) fn is_rewritten(&self, other: &Self) -> bool {
        let is_on_device = matches!(self.place, Place::Device(_));
        is_on_device && self.place == other.place && self.inode == other.inode && self != other
    }
}

/// A file as a process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileUse {
    pub(super) key: FileKey,
    /// The device: of the file, or of the overlay mount through which it was opened.
    pub(super) mount: u64,
}

impl FileUse {
    /// # Errors
    /// The kernel does not tell of the file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
        let place = if is_on_overlay(file)? {
            Place::Overlay { changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()) }
        } else {
            Place::Device(metadata.dev())
        };
        let key = FileKey {
            place,
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        };
        Ok(Self { key, mount: metadata.dev() })
    }
}

fn is_on_overlay(file: &File) -> io::Result<bool> {
    let mut answer = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open and the buffer has the size that the call fills.
    if unsafe { libc::fstatfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid value, and the call has filled it.
    Ok(unsafe { answer.assume_init() }.f_type == libc::OVERLAYFS_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(place: Place, size_bytes: u64) -> FileKey {
        FileKey { place, inode: 7, size_bytes, modified_ns: 1 }
    }

    #[test]
    fn a_file_on_a_disk_that_was_written_in_place_is_told() {
        let disk = |device, size_bytes| key(Place::Device(device), size_bytes);
        assert!(disk(1, 10).is_rewritten(&disk(1, 11)));
        assert!(!disk(1, 10).is_rewritten(&disk(1, 10)), "the same");
        assert!(!disk(1, 10).is_rewritten(&disk(2, 11)), "another disk");
    }

    #[test]
    fn files_of_two_images_with_one_inode_number_are_two_files() {
        let overlay = |changed_ns, size_bytes| key(Place::Overlay { changed_ns }, size_bytes);
        assert_ne!(overlay(1, 10), overlay(2, 10));
        // Their layers may lie on two disks: the probes of one must stay when the other is met.
        assert!(!overlay(1, 10).is_rewritten(&overlay(2, 11)));
        assert!(!overlay(1, 10).is_rewritten(&key(Place::Device(1), 11)));
    }

    #[test]
    fn one_file_opened_twice_is_one() {
        let open = || FileUse::of(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(open(), open());
        assert_ne!(open(), FileUse::of(&File::open("/bin/sh").unwrap()).unwrap());
    }
}

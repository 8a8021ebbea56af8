//! `/proc/PID/maps`, see `proc_pid_maps(5)`.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{Error, ProcessDir, os_string};

/// Read at most this much of the file: four times what 65 530 mappings (the default of `vm.max_map_count`) with
/// ordinary paths take.
const MAPS_MAX_BYTES: u64 = 32 << 20;

/// One line: a range of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Virtual addresses.
    pub range: Range<u64>,
    pub executable: bool,
    /// Where in the file the range begins.
    pub offset_bytes: u64,
    /// Major and minor number; zeros without a file.
    pub device: (u32, u32),
    /// Zero without a file.
    pub inode: u64,
    /// As the process sees it, ` (deleted)` taken off; a name in brackets, or empty, without a file.
    pub path: PathBuf,
    pub deleted: bool,
}

impl ProcessDir {
    /// The mappings that `keep` accepts, by ascending address.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn mappings(&self, mut keep: impl FnMut(&Mapping) -> bool) -> Result<Vec<Mapping>, Error> {
        let mut reader = BufReader::new(self.open("maps")?.take(MAPS_MAX_BYTES));
        let mut kept = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(|source| Error::new(self.pid(), "maps", source))?;
            // The kernel ends each line; what has no end was cut by the limit.
            if line.pop() != Some(b'\n') {
                return Ok(kept);
            }
            kept.extend(Mapping::parse(&line).filter(&mut keep));
        }
    }

    /// The shared libraries that hold Node.js and libuv where the executable does not (Debian): one mapping per
    /// file, the executable one.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn node_libraries(&self) -> Result<Vec<Mapping>, Error> {
        let mut libraries = self
            .mappings(|mapping| mapping.executable && mapping.inode != 0 && is_node_library(&mapping.path))?;
        libraries.dedup_by_key(|mapping| (mapping.device, mapping.inode));
        Ok(libraries)
    }
}

/// Whether the file name is `libnode.so*` or `libuv.so*`.
pub fn is_node_library(path: &Path) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    [&b"libnode.so"[..], b"libuv.so"]
        .iter()
        .any(|base| name.strip_prefix(*base).is_some_and(|version| version.is_empty() || version[0] == b'.'))
}

impl Mapping {
    /// `address-address perms offset major:minor inode   path`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut next = || {
            let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            rest = after.strip_prefix(b" ").unwrap_or(after);
            std::str::from_utf8(field).ok()
        };
        let (start, end) = next()?.split_once('-')?;
        let permissions = next()?;
        let offset = next()?;
        let (major, minor) = next()?.split_once(':')?;
        let inode = next()?;
        let path = rest.trim_ascii_start();
        let (path, deleted) = match path.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        Some(Self {
            range: u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?,
            executable: permissions.as_bytes().get(2) == Some(&b'x'),
            offset_bytes: u64::from_str_radix(offset, 16).ok()?,
            device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
            inode: inode.parse().ok()?,
            path: unescape(path),
            deleted,
        })
    }
}

/// The kernel writes a newline in a path as `\012` (and nothing else so, not even a backslash).
fn unescape(path: &[u8]) -> PathBuf {
    let mut unescaped = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memmem::find(rest, b"\\012") {
        unescaped.extend_from_slice(&rest[..at]);
        unescaped.push(b'\n');
        rest = &rest[at + 4..];
    }
    unescaped.extend_from_slice(rest);
    PathBuf::from(os_string(&unescaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_file_is_read_to_the_last_field() {
        let line = b"7f1c2e600000-7f1c2f8a1000 r-xp 0073a000 fe:1a 861994                     \
            /usr/lib/x86_64-linux-gnu/libnode.so.108 (deleted)";
        assert_eq!(
            Mapping::parse(line).unwrap(),
            Mapping {
                range: 0x7f1c_2e60_0000..0x7f1c_2f8a_1000,
                executable: true,
                offset_bytes: 0x0073_a000,
                device: (254, 26),
                inode: 861_994,
                path: "/usr/lib/x86_64-linux-gnu/libnode.so.108".into(),
                deleted: true,
            }
        );
    }

    #[test]
    fn memory_without_a_file_has_inode_zero() {
        let anonymous = Mapping::parse(b"3193d000-319d5000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.inode, anonymous.path.as_os_str().len(), anonymous.executable), (0, 0, false));
        let stack = Mapping::parse(b"7ffc0-7ffd0 rw-p 00000000 00:00 0                [stack]").unwrap();
        assert_eq!(stack.path, Path::new("[stack]"));
    }

    #[test]
    fn hostile_paths_stay_one_path() {
        let path = |line: &[u8]| Mapping::parse(line).unwrap().path.into_os_string().into_encoded_bytes();
        assert_eq!(path(b"1-2 r-xp 0 0:1 7 /a b  c/libuv.so.1"), b"/a b  c/libuv.so.1");
        assert_eq!(path(b"1-2 r-xp 0 0:1 7 /a\\012b\\012"), b"/a\nb\n");
        assert_eq!(path(b"1-2 r-xp 0 0:1 7 /\xff\x1b[2J"), b"/\xff\x1b[2J");
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for line in [
            &b""[..],
            b" ",
            b"x-y",
            b"1-2",
            b"1-2 r-xp",
            b"1-2 r-xp 0 0 0",
            b"1-2 r-xp 0 0:0 x",
            b"\xff-\xff",
        ] {
            assert_eq!(Mapping::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn node_libraries_are_known_by_file_name() {
        for path in ["/usr/lib/libnode.so.108", "/libnode.so", "/opt/x/libuv.so.1.0.0"] {
            assert!(is_node_library(Path::new(path)), "{path}");
        }
        for path in ["/usr/lib/libnode.sound", "/libnode.so.1/x", "/mylibuv.so.1", "", "[stack]", "/libuv.a"]
        {
            assert!(!is_node_library(Path::new(path)), "{path}");
        }
    }
}

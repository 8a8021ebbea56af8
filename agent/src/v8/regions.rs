//! What kind of code an address of a process is in.

use std::{
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    binary::{CodeSegment, FileOffset, VirtualAddress},
    procfs::Mapping,
};

/// An address that is not known makes the mappings be read anew, this often at most: V8 makes its code space executable
/// page by page, and each process has some hundred lines of mappings.
const REFRESH_INTERVAL: Duration = Duration::from_millis(250);

/// What an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Code that V8 made, with the mapping around it.
    Generated(Range<u64>),
    /// One of V8's builtins, at the address the linker gave it.
    Builtin(VirtualAddress),
    /// The file that V8 is in, outside its builtins; or inside, when they are not known (`builtins_known`).
    V8(VirtualAddress),
    /// Another file, or nothing that is executable.
    Elsewhere,
}

/// The file of a process that V8 is in.
#[derive(Clone, Debug)]
pub struct V8File {
    /// As `/proc/PID/maps` tells them.
    pub device: (u32, u32),
    pub inode: u64,
    pub segments: Vec<CodeSegment>,
    /// V8's builtins, where the file says.
    pub builtins: Option<Range<VirtualAddress>>,
}

/// The executable mappings of a process.
pub(super) struct Regions {
    file: V8File,
    mappings: Vec<Executable>,
    read_at: Option<Instant>,
}

struct Executable {
    range: Range<u64>,
    kind: Kind,
}

enum Kind {
    Generated,
    /// With the offset in the file.
    V8 {
        offset_bytes: u64,
    },
    Elsewhere,
}

impl Regions {
    pub(super) fn new(file: V8File) -> Self {
        Self { file, mappings: Vec::new(), read_at: None }
    }

    /// Whether the range of V8's builtins is known.
    pub(super) fn builtins_known(&self) -> bool {
        self.file.builtins.is_some()
    }

    /// Whether an address that is not known may be worth another look at the mappings.
    pub(super) fn may_refresh(&self, now: Instant) -> bool {
        self.read_at.is_none_or(|read_at| now.duration_since(read_at) >= REFRESH_INTERVAL)
    }

    /// Takes the executable mappings of the process, by ascending address.
    pub(super) fn refresh(&mut self, mappings: &[Mapping], now: Instant) {
        self.read_at = Some(now);
        self.mappings.clear();
        self.mappings.extend(mappings.iter().map(|mapping| {
            let is_v8 = (mapping.device, mapping.inode) == (self.file.device, self.file.inode);
            let kind = if is_v8 {
                Kind::V8 { offset_bytes: mapping.offset_bytes }
            } else if mapping.inode == 0 && is_anonymous(&mapping.path) {
                Kind::Generated
            } else {
                Kind::Elsewhere
            };
            Executable { range: mapping.range.clone(), kind }
        }));
        // V8 copies its builtins next to its code, as another mapping of the same pages of the file: of a stripped binary
        // that tells where they are.
        if self.file.builtins.is_none() {
            self.file.builtins = self.builtins_by_copy(mappings);
        }
    }

    fn builtins_by_copy(&self, mappings: &[Mapping]) -> Option<Range<VirtualAddress>> {
        let mut of_file = mappings
            .iter()
            .filter(|mapping| (mapping.device, mapping.inode) == (self.file.device, self.file.inode));
        let covers = |outer: &Mapping, inner: &Mapping| {
            let (begin, end) =
                (inner.offset_bytes, inner.offset_bytes + (inner.range.end - inner.range.start));
            outer.range != inner.range
                && outer.offset_bytes <= begin
                && outer.offset_bytes + (outer.range.end - outer.range.start) >= end
        };
        let copy = of_file.find(|inner| {
            mappings.iter().any(|outer| {
                (outer.device, outer.inode) == (inner.device, inner.inode) && covers(outer, inner)
            })
        })?;
        let begin = self.address(copy.offset_bytes)?;
        Some(begin..VirtualAddress(begin.0.checked_add(copy.range.end - copy.range.start)?))
    }

    /// The link-time address of a byte of the file.
    fn address(&self, offset_bytes: u64) -> Option<VirtualAddress> {
        self.file.segments.iter().find_map(|segment| segment.address(FileOffset(offset_bytes)))
    }

    /// `None`: no executable mapping that is known.
    pub(super) fn place(&self, pc: u64) -> Option<Place> {
        let after = self.mappings.partition_point(|mapping| mapping.range.start <= pc);
        let mapping =
            self.mappings.get(after.checked_sub(1)?).filter(|mapping| mapping.range.contains(&pc))?;
        Some(match mapping.kind {
            Kind::Generated => Place::Generated(mapping.range.clone()),
            Kind::Elsewhere => Place::Elsewhere,
            Kind::V8 { offset_bytes } => {
                let offset = offset_bytes.checked_add(pc - mapping.range.start)?;
                match self.address(offset) {
                    Some(address) if self.file.builtins.as_ref().is_some_and(|b| b.contains(&address)) => {
                        Place::Builtin(address)
                    }
                    Some(address) => Place::V8(address),
                    None => Place::Elsewhere,
                }
            }
        })
    }
}

/// Memory without a file; some kernels show the name that V8 gives it.
fn is_anonymous(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    path.is_empty() || path.starts_with(b"[anon")
}

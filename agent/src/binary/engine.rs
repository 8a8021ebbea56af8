//! What a file tells of V8 for reading its heap and its stacks: the metadata for debuggers, where its builtins are, how
//! long its bytecodes are.

use std::{collections::BTreeMap, ops::Range};

use super::{
    FileOffset, VirtualAddress,
    elf::Elf,
    symbols::{Found, Meaning},
};

/// Read at once; the integers stand next to each other.
const WINDOW_BYTES: u64 = 4096;
/// The largest Node build has 636.
const MAX_BYTECODE_SIZES_BYTES: u64 = 1024;
/// The largest Node build has 2.1 MB.
const MAX_BUILTINS_BYTES: u64 = 64 << 20;

/// A part of a file that is loaded as code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSegment {
    pub offset: FileOffset,
    pub address: VirtualAddress,
    pub size_bytes: u64,
}

impl CodeSegment {
    /// The address of the byte at `offset` of the file, if the segment holds it.
    pub fn address(&self, offset: FileOffset) -> Option<VirtualAddress> {
        let position = offset.0.checked_sub(self.offset.0).filter(|position| *position < self.size_bytes)?;
        self.address.0.checked_add(position).map(VirtualAddress)
    }
}

/// What V8 says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// The integers `v8dbg_*`, by name without the prefix.
    pub metadata: BTreeMap<Box<str>, i32>,
    /// The machine code of V8's builtins. `None`: a stripped file does not tell.
    pub builtins: Option<Range<VirtualAddress>>,
    /// V8's `kBytecodeSizes`: bytes per bytecode, for each of three operand scales. `None`: a stripped file of Node.js 24
    /// or later does not tell.
    pub bytecode_sizes: Option<Box<[u8]>>,
    pub code_segments: Vec<CodeSegment>,
}

/// Everything that is there; what is missing or contradicts itself is `None`.
pub(super) fn engine(elf: &Elf<'_>, found: &Found) -> Engine {
    if found.metadata().is_empty() {
        return Engine::default();
    }
    Engine {
        metadata: metadata(elf, found.metadata()),
        builtins: builtins(elf, found),
        bytecode_sizes: bytecode_sizes(elf, found),
        code_segments: elf
            .code_segments()
            .map(|(offset, address, size_bytes)| CodeSegment { offset, address, size_bytes })
            .collect(),
    }
}

fn metadata(elf: &Elf<'_>, addresses: &BTreeMap<Box<str>, VirtualAddress>) -> BTreeMap<Box<str>, i32> {
    let mut by_address: Vec<_> = addresses.iter().map(|(name, address)| (*address, name)).collect();
    by_address.sort_unstable();
    let mut window = (VirtualAddress(0), Vec::new());
    let mut values = BTreeMap::new();
    for (address, name) in by_address {
        let mut value = integer(&window, address);
        if value.is_none() {
            // What has no bytes in the file is zero in memory.
            let bytes = elf.read_rest(address, WINDOW_BYTES, "V8's metadata").unwrap_or_default();
            window = (address, bytes);
            value = integer(&window, address);
        }
        values.insert(name.clone(), value.unwrap_or(0));
    }
    values
}

fn integer((start, bytes): &(VirtualAddress, Vec<u8>), address: VirtualAddress) -> Option<i32> {
    let at = usize::try_from(address.0.checked_sub(start.0)?).ok()?;
    Some(i32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn builtins(elf: &Elf<'_>, found: &Found) -> Option<Range<VirtualAddress>> {
    let is_code = |address: &VirtualAddress| elf.executable_offset(*address).is_some();
    let start = found.all(Meaning::BuiltinsCode).iter().map(|code| code.address).find(is_code)?;
    let mut size = [0; 4];
    elf.read_at(found.first_address(Meaning::BuiltinsSize)?, &mut size, "the size of V8's builtins").ok()?;
    let size = u64::from(u32::from_le_bytes(size));
    let end = VirtualAddress(start.0.checked_add(size)?);
    (1..MAX_BUILTINS_BYTES).contains(&size).then_some(start..end)
}

fn bytecode_sizes(elf: &Elf<'_>, found: &Found) -> Option<Box<[u8]>> {
    let table = found.all(Meaning::BytecodeSizes).first()?;
    if table.size_bytes > MAX_BYTECODE_SIZES_BYTES {
        return None;
    }
    let mut bytes = vec![0; table.size_bytes as usize];
    elf.read_at(table.address, &mut bytes, "V8's bytecode sizes").ok()?;
    Some(bytes.into())
}

//! Which function of a file an instruction belongs to.
//!
//! A table holds twelve bytes for each function and no name: names are read from the file one by one, because few are
//! ever asked for and all of them take 19 MB. Built for the file offsets that mappings tell, so it needs no load address.

use std::fs::File;

use object::{LittleEndian as Le, elf, elf::Sym64};

use super::{
    BinaryError, FileOffset, VirtualAddress,
    elf::{Elf, Region, SymbolTable, pods},
};

const WHAT: &str = "the symbol table";
/// Symbols read at once.
const CHUNK_SYMBOLS: u64 = 8192;
/// The largest Node build has 168 000 symbols.
const MAX_SYMBOLS: u64 = 1 << 20;
/// Template code has names of several KiB; the begin of one tells the function.
const MAX_NAME_BYTES: u64 = 4096;
/// An assembler's function may lack a size: it ends at the next one, and not further away than this.
const SIZELESS_MAX_BYTES: u32 = 4096;
/// Functions may contain others (labels typed as functions); how many to step back to find the one around.
const NESTED_MAX: usize = 8;

/// Functions of one file by file offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionTable {
    /// By ascending offset, one for each.
    functions: Vec<Function>,
    names: Region,
}

/// Names a function of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionIndex(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    /// Where it begins in the file. Node is 120 MB; what lies beyond 4 GiB is left out.
    offset: u32,
    /// Zero: not known.
    size_bytes: u32,
    /// Position of its name in the string table.
    name: u32,
}

impl FunctionTable {
    /// Reads the full symbol table, or what is exported where that is all there is. `Ok(None)`: neither is there.
    ///
    /// # Errors
    /// As [`super::analyze`].
    pub fn read(file: &File) -> Result<Option<Self>, BinaryError> {
        let elf = Elf::open(file)?;
        let sections = elf.sections()?;
        // Linkers put into the full table what they export, too.
        let Some(table) = sections.symtab.or(sections.dynsym) else { return Ok(None) };
        Ok(Some(Self { functions: functions(&elf, table)?, names: table.strings }))
    }

    /// The function that the instruction at `offset` belongs to.
    pub fn find(&self, FileOffset(offset): FileOffset) -> Option<FunctionIndex> {
        let offset = u32::try_from(offset).ok()?;
        let after = self.functions.partition_point(|function| function.offset <= offset);
        let begin = after.saturating_sub(NESTED_MAX);
        let at = (begin..after).rev().find(|&at| {
            let function = self.functions[at];
            let size_bytes = match function.size_bytes {
                // The next function ends it: if `offset` lay beyond, that one would be the last before it.
                0 if at + 1 == after => SIZELESS_MAX_BYTES,
                size_bytes => size_bytes,
            };
            offset - function.offset < size_bytes
        })?;
        Some(FunctionIndex(at as u32))
    }

    /// The symbol of a function, as it stands in `file`, which must be the one the table was read from. Raw bytes; a
    /// name longer than 4 KiB is cut.
    ///
    /// # Errors
    /// [`BinaryError::Read`]; [`BinaryError::Truncated`] if the file has changed.
    pub fn name(&self, file: &File, index: FunctionIndex) -> Result<Vec<u8>, BinaryError> {
        const WHAT: &str = "the name of a function";
        let function = self.functions.get(index.0 as usize).ok_or(BinaryError::Malformed { what: WHAT })?;
        let left = self.names.size.saturating_sub(u64::from(function.name));
        let offset = self
            .names
            .offset
            .checked_add(u64::from(function.name))
            .ok_or(BinaryError::Malformed { what: WHAT })?;
        // Nearly all names are short: a small read first.
        let mut name = Vec::new();
        for limit in [256, MAX_NAME_BYTES] {
            name.resize(left.min(limit) as usize, 0);
            super::elf::read_exact(file, &mut name, offset, WHAT)?;
            if let Some(end) = memchr::memchr(0, &name) {
                name.truncate(end);
                break;
            }
        }
        Ok(name)
    }

    /// Memory the table takes, bytes.
    pub fn size_bytes(&self) -> usize {
        self.functions.capacity() * size_of::<Function>()
    }
}

fn functions(elf: &Elf<'_>, table: SymbolTable) -> Result<Vec<Function>, BinaryError> {
    let entry = size_of::<Sym64<Le>>() as u64;
    let count = table.symbols.size / entry;
    if count > MAX_SYMBOLS {
        let limit = MAX_SYMBOLS * entry;
        return Err(BinaryError::TooLarge { what: WHAT, size: table.symbols.size, limit });
    }
    let symbols = Region { offset: table.symbols.offset, size: count * entry };
    let mut functions = Vec::new();
    elf.windows(symbols, CHUNK_SYMBOLS * entry, 0, WHAT, |_, bytes| {
        functions.extend(pods::<Sym64<Le>>(bytes).filter_map(|symbol| function(elf, symbol)));
        false
    })?;
    // Of several names of one place the one that tells the size, then the first in the table of names.
    functions.sort_unstable_by_key(|function: &Function| {
        (function.offset, std::cmp::Reverse(function.size_bytes), function.name)
    });
    functions.dedup_by_key(|function| function.offset);
    functions.shrink_to_fit();
    Ok(functions)
}

fn function(elf: &Elf<'_>, symbol: &Sym64<Le>) -> Option<Function> {
    let is_function = matches!(symbol.st_info & 0xf, elf::STT_FUNC | elf::STT_GNU_IFUNC);
    if !is_function || symbol.st_shndx.get(Le) == elf::SHN_UNDEF || symbol.st_name.get(Le) == 0 {
        return None;
    }
    let FileOffset(offset) = elf.executable_offset(VirtualAddress(symbol.st_value.get(Le)))?;
    Some(Function {
        offset: u32::try_from(offset).ok()?,
        size_bytes: u32::try_from(symbol.st_size.get(Le)).unwrap_or(u32::MAX),
        name: symbol.st_name.get(Le),
    })
}

#[cfg(test)]
impl FunctionIndex {
    pub(crate) fn for_test(index: u32) -> Self {
        Self(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(functions: &[(u32, u32)]) -> FunctionTable {
        let functions =
            functions.iter().map(|&(offset, size_bytes)| Function { offset, size_bytes, name: 0 }).collect();
        FunctionTable { functions, names: Region { offset: 0, size: 0 } }
    }

    fn find(table: &FunctionTable, offset: u64) -> Option<u32> {
        table.find(FileOffset(offset)).map(|FunctionIndex(index)| index)
    }

    #[test]
    fn an_instruction_belongs_to_the_function_that_spans_it() {
        assert_eq!(find(&table(&[]), 1), None);
        let table = table(&[(0x100, 0x10), (0x200, 0x10)]);
        assert_eq!(
            [0, 0xff, 0x100, 0x10f, 0x110, 0x1ff, 0x20f, 0x210, u64::MAX].map(|offset| find(&table, offset)),
            [None, None, Some(0), Some(0), None, None, Some(1), None, None]
        );
    }

    #[test]
    fn a_function_around_another_goes_on_behind_it() {
        let table = table(&[(0x100, 0x100), (0x140, 0x10)]);
        assert_eq!(
            [0x13f, 0x140, 0x150, 0x1ff].map(|offset| find(&table, offset)),
            [Some(0), Some(1), Some(0), Some(0)]
        );
    }

    #[test]
    fn a_function_without_size_ends_at_the_next_one() {
        let (two, one) = (table(&[(0x100, 0), (0x200, 8)]), table(&[(0x100, 0)]));
        assert_eq!([0x1ff, 0x200, 0x208].map(|offset| find(&two, offset)), [Some(0), Some(1), None]);
        assert_eq!(find(&one, 0x100 + u64::from(SIZELESS_MAX_BYTES)), None, "not for ever");
    }

    #[test]
    fn names_come_from_the_file_and_a_changed_file_is_an_error() {
        let file = File::open("/proc/self/exe").unwrap();
        let table = FunctionTable::read(&file).unwrap().unwrap();
        let index = (0..table.functions.len() as u32)
            .map(FunctionIndex)
            .find(|&index| table.name(&file, index).unwrap() == b"_start")
            .expect("every executable has `_start`");
        let offset = FileOffset(u64::from(table.functions[index.0 as usize].offset));
        assert_eq!(table.find(offset), Some(index));
        let empty = tempfile::tempfile().unwrap();
        assert!(matches!(table.name(&empty, index), Err(BinaryError::Truncated { .. })));
        assert!(matches!(FunctionTable::read(&empty), Err(BinaryError::NotElf)));
        assert!(table.name(&file, FunctionIndex(u32::MAX)).is_err());
    }
}

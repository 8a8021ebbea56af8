//! The dynamic linker's view of a file: needed libraries, and exported symbols by hash.

use object::{
    LittleEndian as Le, elf,
    elf::{Dyn64, GnuHashHeader, Sym64},
};

use super::{Elf, MAX_NAME_BYTES, pod_of, pods};
use crate::binary::{BinaryError, VirtualAddress};

const MAX_DYNAMIC_ENTRIES: u64 = 1024;
const MAX_NEEDED: usize = 128;
/// The average chain of a linker's hash table is shorter than ten.
const MAX_CHAIN: u32 = 4096;

/// What the dynamic linker reads, and therefore what a process cannot run without.
#[derive(Debug, Default)]
pub(in crate::binary) struct Dynamic {
    /// Names of the shared libraries (`DT_NEEDED`), cleaned for display.
    pub(in crate::binary) needed: Vec<String>,
    strings: u64,
    symbols: u64,
    gnu_hash: Option<u64>,
    hash: Option<u64>,
}

impl Elf<'_> {
    /// What the dynamic linker would read; empty for a static executable.
    pub(in crate::binary) fn dynamic(&self) -> Result<Dynamic, BinaryError> {
        const WHAT: &str = "the dynamic section";
        let Some(region) = self.dynamic else { return Ok(Dynamic::default()) };
        let bytes = self.read(region, MAX_DYNAMIC_ENTRIES * size_of::<Dyn64<Le>>() as u64, WHAT)?;
        let mut dynamic = Dynamic::default();
        let mut needed = Vec::new();
        for entry in pods::<Dyn64<Le>>(&bytes) {
            let value = entry.d_val.get(Le);
            match entry.d_tag.get(Le) {
                elf::DT_NULL => break,
                elf::DT_NEEDED if needed.len() < MAX_NEEDED => needed.push(value),
                elf::DT_STRTAB => dynamic.strings = value,
                elf::DT_SYMTAB => dynamic.symbols = value,
                elf::DT_GNU_HASH => dynamic.gnu_hash = Some(value),
                elf::DT_HASH => dynamic.hash = Some(value),
                _ => {}
            }
        }
        for offset in needed {
            let name = self.string(dynamic.strings, offset)?;
            dynamic.needed.push(String::from_utf8_lossy(&name).replace(char::is_control, "\u{fffd}"));
        }
        Ok(dynamic)
    }

    /// The string at `offset` of the table at the address `table`.
    fn string(&self, table: u64, offset: u64) -> Result<Vec<u8>, BinaryError> {
        const WHAT: &str = "the dynamic string table";
        let address = table.checked_add(offset).ok_or(BinaryError::Malformed { what: WHAT })?;
        let mut bytes = self.read_rest(VirtualAddress(address), MAX_NAME_BYTES, WHAT)?;
        let end = memchr::memchr(0, &bytes).ok_or(BinaryError::Malformed { what: WHAT })?;
        bytes.truncate(end);
        Ok(bytes)
    }

    /// Whether the file defines and exports `name`, answered by the dynamic linker's hash table: a few reads of
    /// some bytes each.
    pub(in crate::binary) fn exports(&self, dynamic: &Dynamic, name: &str) -> Result<bool, BinaryError> {
        if let Some(table) = dynamic.gnu_hash {
            self.exports_by_gnu_hash(dynamic, table, name)
        } else if let Some(table) = dynamic.hash {
            self.exports_by_hash(dynamic, table, name)
        } else {
            Ok(false)
        }
    }

    fn exports_by_gnu_hash(&self, dynamic: &Dynamic, table: u64, name: &str) -> Result<bool, BinaryError> {
        const WHAT: &str = "the symbol hash table";
        let malformed = || BinaryError::Malformed { what: WHAT };
        let mut header = [0; size_of::<GnuHashHeader<Le>>()];
        self.read_at(VirtualAddress(table), &mut header, WHAT)?;
        let header: &GnuHashHeader<Le> = pod_of(&header, WHAT)?;
        let (buckets, bloom) = (header.bucket_count.get(Le), header.bloom_count.get(Le));
        let first_symbol = header.symbol_base.get(Le);
        if buckets == 0 {
            return Ok(false);
        }
        let hash = elf::gnu_hash(name.as_bytes());
        let bucket_table = table
            .checked_add(size_of::<GnuHashHeader<Le>>() as u64 + u64::from(bloom) * 8)
            .ok_or_else(malformed)?;
        let chain_table = bucket_table.checked_add(u64::from(buckets) * 4).ok_or_else(malformed)?;
        let mut index = self.word(bucket_table, hash % buckets, WHAT)?;
        if index < first_symbol {
            return Ok(false);
        }
        for _ in 0..MAX_CHAIN {
            let entry = self.word(chain_table, index - first_symbol, WHAT)?;
            if entry | 1 == hash | 1 && self.symbol_is(dynamic, index, name)? {
                return Ok(true);
            }
            if entry & 1 == 1 {
                return Ok(false);
            }
            index = index.checked_add(1).ok_or_else(malformed)?;
        }
        Err(malformed())
    }

    fn exports_by_hash(&self, dynamic: &Dynamic, table: u64, name: &str) -> Result<bool, BinaryError> {
        const WHAT: &str = "the symbol hash table";
        let buckets = self.word(table, 0, WHAT)?;
        if buckets == 0 {
            return Ok(false);
        }
        let mut index = self.word(table, 2u32.saturating_add(elf::hash(name.as_bytes()) % buckets), WHAT)?;
        for _ in 0..MAX_CHAIN {
            if index == 0 {
                return Ok(false);
            }
            if self.symbol_is(dynamic, index, name)? {
                return Ok(true);
            }
            index = self.word(table, 2u32.saturating_add(buckets).saturating_add(index), WHAT)?;
        }
        Err(BinaryError::Malformed { what: WHAT })
    }

    /// The 32-bit word number `index` of the array at the address `table`.
    fn word(&self, table: u64, index: u32, what: &'static str) -> Result<u32, BinaryError> {
        let address = table.checked_add(u64::from(index) * 4).ok_or(BinaryError::Malformed { what })?;
        let mut bytes = [0; 4];
        self.read_at(VirtualAddress(address), &mut bytes, what)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn symbol_is(&self, dynamic: &Dynamic, index: u32, name: &str) -> Result<bool, BinaryError> {
        const WHAT: &str = "the dynamic symbols";
        let address = dynamic
            .symbols
            .checked_add(u64::from(index) * size_of::<Sym64<Le>>() as u64)
            .ok_or(BinaryError::Malformed { what: WHAT })?;
        let mut bytes = [0; size_of::<Sym64<Le>>()];
        self.read_at(VirtualAddress(address), &mut bytes, WHAT)?;
        let symbol: &Sym64<Le> = pod_of(&bytes, WHAT)?;
        if symbol.st_shndx.get(Le) == elf::SHN_UNDEF {
            return Ok(false);
        }
        Ok(self.string(dynamic.strings, u64::from(symbol.st_name.get(Le)))? == name.as_bytes())
    }
}

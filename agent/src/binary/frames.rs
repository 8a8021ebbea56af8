//! Ranges of functions by the unwind table, for code without symbols or without symbol sizes.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EhFrameOffset, LittleEndian, UnwindSection};

use super::{BinaryError, VirtualAddress, elf::Elf};

/// The largest Node build has 1 MB.
const MAX_HEADER_BYTES: u64 = 4 << 20;
/// The largest Node build has 5.4 MB; what follows `.eh_frame` in its segment is cut off here.
const MAX_FRAME_BYTES: u64 = 16 << 20;

/// `.eh_frame_hdr` (a table sorted by function) and `.eh_frame` (their ranges).
pub(super) struct Frames {
    header: Vec<u8>,
    entries: Vec<u8>,
    entries_address: u64,
    bases: BaseAddresses,
}

impl Frames {
    /// `None`: the file has no unwind table.
    pub(super) fn read(elf: &Elf<'_>) -> Result<Option<Self>, BinaryError> {
        const WHAT: &str = "the unwind table";
        let Some((address, size)) = elf.eh_frame_hdr else { return Ok(None) };
        let header = elf.read_rest(address, size.min(MAX_HEADER_BYTES), WHAT)?;
        // Third byte: how the number of entries is stored. All linkers write 32 bits; a larger number would
        // overflow the table size that gimli computes in its search.
        if header.get(2) != Some(&gimli::DW_EH_PE_udata4.0) {
            return Err(BinaryError::Malformed { what: WHAT });
        }
        let bases = BaseAddresses::default().set_eh_frame_hdr(address.0);
        let entries_address = EhFrameHdr::new(&header, LittleEndian)
            .parse(&bases, 8)
            .and_then(|parsed| parsed.eh_frame_ptr().direct())
            .map_err(|source| BinaryError::Unwind { source })?;
        let entries = elf.read_rest(VirtualAddress(entries_address), MAX_FRAME_BYTES, WHAT)?;
        let bases = bases.set_eh_frame(entries_address);
        Ok(Some(Self { header, entries, entries_address, bases }))
    }

    /// The addresses of the function that contains `address`.
    pub(super) fn function_at(&self, VirtualAddress(address): VirtualAddress) -> Option<Range<u64>> {
        let header = EhFrameHdr::new(&self.header, LittleEndian).parse(&self.bases, 8).ok()?;
        let entry = header.table()?.lookup(address, &self.bases).ok()?.direct().ok()?;
        let offset = usize::try_from(entry.checked_sub(self.entries_address)?).ok()?;
        let frames = EhFrame::new(&self.entries, LittleEndian);
        let entry =
            frames.fde_from_offset(&self.bases, EhFrameOffset(offset), EhFrame::cie_from_offset).ok()?;
        let start = entry.initial_address();
        let range = start..start.checked_add(entry.len())?;
        range.contains(&address).then_some(range)
    }
}

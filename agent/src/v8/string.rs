//! Strings on V8's heap, in all their forms. A string can be a tree of pieces, of any depth and with cycles if memory
//! lies: what is followed is counted.

use super::{
    heap::{Heap, is_pointer, small_integer},
    layout::HEAP_OBJECT_TAG,
    memory::Memory,
};

/// Pieces followed of a name; those of V8's own parser are flat.
const NAME_PIECES_MAX: usize = 64;
/// Pieces followed of a source. Node.js hands sources over flat; `new Function` and `eval` may not.
const SOURCE_PIECES_MAX: usize = 4096;
/// Read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Instance types of strings (checked by `Layout`): the lowest three bits tell the form, the next the width of characters.
const FORM_MASK: u16 = 7;
const SEQUENTIAL: u16 = 0;
const CONS: u16 = 1;
const EXTERNAL: u16 = 2;
const SLICED: u16 = 3;
const THIN: u16 = 5;
const ONE_BYTE: u16 = 8;
/// An external string whose characters V8 does not keep the address of.
const UNCACHED: u16 = 16;

/// Characters as they lie in memory, one piece at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Units<'a> {
    /// Latin-1.
    OneByte(&'a [u8]),
    /// UTF-16, little-endian.
    TwoByte(&'a [u8]),
}

/// A part of a string that is still to be read.
struct Part {
    string: u64,
    from: u32,
    to: u32,
}

impl<M: Memory> Heap<M> {
    /// Whether there is a string at `pointer`, and its length in UTF-16 units.
    pub(super) fn string_length(&mut self, pointer: u64) -> Option<u32> {
        let [_, second] = self.object::<2>(pointer, |layout, found| found < layout.types.first_non_string)?;
        Some((second >> 32) as u32)
    }

    /// A name or path: at most `max_units` of it, not cleaned.
    pub(super) fn text(&mut self, pointer: u64, max_units: u32) -> Option<String> {
        self.slice(pointer, 0, max_units)
    }

    /// The units `from..to`, as far as there are any.
    pub(super) fn slice(&mut self, pointer: u64, from: u32, to: u32) -> Option<String> {
        let length = self.string_length(pointer)?;
        let part = Part { string: pointer, from: from.min(length), to: to.min(length) };
        let mut text = String::new();
        self.visit(part, NAME_PIECES_MAX, &mut |units| match units {
            Units::OneByte(bytes) => text.extend(bytes.iter().map(|byte| char::from(*byte))),
            Units::TwoByte(bytes) => {
                let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                text.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
            }
        })?;
        Some(text)
    }

    /// All characters of a string of at most `max_units`.
    pub(super) fn source(
        &mut self,
        pointer: u64,
        max_units: u32,
        visit: &mut dyn FnMut(Units<'_>),
    ) -> Option<()> {
        let length = self.string_length(pointer).filter(|length| *length <= max_units)?;
        self.visit(Part { string: pointer, from: 0, to: length }, SOURCE_PIECES_MAX, visit)
    }

    fn visit(&mut self, root: Part, max_pieces: usize, visit: &mut dyn FnMut(Units<'_>)) -> Option<()> {
        let mut parts = vec![root];
        let mut pieces = 0;
        while let Some(Part { string, from, to }) = parts.pop() {
            if from >= to {
                continue;
            }
            pieces += 1;
            if pieces > max_pieces {
                return None;
            }
            let (words, instance_type) = self.any_object::<4>(string)?;
            let length = (words[1] >> 32) as u32;
            if instance_type >= self.layout.types.first_non_string || to > length {
                return None;
            }
            match instance_type & FORM_MASK {
                SEQUENTIAL => {
                    self.characters(string - HEAP_OBJECT_TAG + 16, instance_type, from, to, visit)?;
                }
                EXTERNAL if instance_type & UNCACHED == 0 => {
                    self.characters(words[3], instance_type, from, to, visit)?;
                }
                CONS => {
                    let first_length = self.string_length(words[2]).filter(|first| *first <= length)?;
                    parts.push(Part {
                        string: words[3],
                        from: from.saturating_sub(first_length),
                        to: to.saturating_sub(first_length),
                    });
                    parts.push(Part { string: words[2], from, to: to.min(first_length) });
                }
                SLICED => {
                    let offset = u32::try_from(small_integer(words[3])?).ok()?;
                    let (from, to) = (from.checked_add(offset)?, to.checked_add(offset)?);
                    parts.push(Part { string: words[2], from, to });
                }
                THIN if is_pointer(words[2]) => parts.push(Part { string: words[2], from, to }),
                _ => return None,
            }
        }
        Some(())
    }

    fn characters(
        &self,
        address: u64,
        instance_type: u16,
        from: u32,
        to: u32,
        visit: &mut dyn FnMut(Units<'_>),
    ) -> Option<()> {
        let one_byte = instance_type & ONE_BYTE != 0;
        let width = if one_byte { 1 } else { 2 };
        let mut at = address.checked_add(u64::from(from) * width)?;
        let end = address.checked_add(u64::from(to) * width)?;
        let mut buffer = vec![0; CHUNK_BYTES.min((end - at) as usize)];
        while at < end {
            let chunk = &mut buffer[..CHUNK_BYTES.min((end - at) as usize)];
            if !self.memory.read(at, chunk) {
                return None;
            }
            visit(if one_byte { Units::OneByte(chunk) } else { Units::TwoByte(chunk) });
            at += chunk.len() as u64;
        }
        Some(())
    }
}

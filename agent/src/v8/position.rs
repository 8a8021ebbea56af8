//! V8's compressed tables: source positions of bytecode and machine code (`source-position-table.cc`), and the lengths
//! of machine code per bytecode that baseline code comes with (`bytecode-offset-iterator.h`).
//!
//! Architecture invariant: pure; any bytes give a position or none, in time proportional to their length.

#![forbid(unsafe_code)]

use super::layout::BytecodeSizes;

/// Where in a script, and in which function that was compiled into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourcePosition {
    /// In UTF-16 units from the begin of the script.
    pub(super) script_offset: u32,
    /// 0: the function itself; else 1 + index of the table of inlining positions.
    pub(super) inlining_id: u16,
}

impl SourcePosition {
    /// Unpacks V8's 64-bit form: bit 0 tells positions in V8's own source, bits 1 to 30 are the offset + 1, bits 31 to
    /// 46 the inlining id (`source-position.h`).
    pub(super) fn unpack(value: i64) -> Option<Self> {
        let value = u64::try_from(value).ok()?;
        if value & 1 == 1 {
            return None;
        }
        let script_offset = ((value >> 1) & 0x3fff_ffff) as u32;
        Some(Self { script_offset: script_offset.checked_sub(1)?, inlining_id: (value >> 31) as u16 })
    }
}

/// How the first number of an entry tells the distance from the entry before, and what kind of position it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryFormat {
    /// A signed number; `-1 - distance` for the position of an expression instead of a statement.
    Signed,
    /// Two bits of flags below the distance (V8 14, as measured).
    Flags,
}

/// The position of the instruction or bytecode at `offset` from the first one: that of the last entry at or before it.
///
/// `length` is that of the code. A table that goes beyond it is in another format, or none.
pub(super) fn source_position(
    table: &[u8],
    format: EntryFormat,
    length: u32,
    offset: u32,
) -> Option<SourcePosition> {
    let mut bytes = Bytes(table);
    // The first entry counts from V8's `kFunctionEntryBytecodeOffset`.
    let mut code: i64 = -1;
    let mut source: i64 = 0;
    let mut found = None;
    while !bytes.0.is_empty() {
        let distance = match format {
            EntryFormat::Signed => match bytes.signed()? {
                distance @ 0.. => distance,
                negative => -(negative.checked_add(1)?),
            },
            EntryFormat::Flags => (bytes.unsigned()? >> 2).cast_signed(),
        };
        code = code.checked_add(distance)?;
        if code > i64::from(length) {
            return None;
        }
        source = source.checked_add(bytes.signed()?)?;
        if code <= i64::from(offset) {
            found = Some(source);
        }
    }
    SourcePosition::unpack(found?)
}

/// The bytecode that the machine code at `offset` from the begin of baseline code belongs to; `None` in the prologue.
///
/// The table holds the length of the prologue, then that of each bytecode's code.
pub(super) fn baseline_bytecode_offset(
    table: &[u8],
    bytecode: &[u8],
    sizes: &BytecodeSizes,
    offset: u32,
) -> Option<u32> {
    let mut bytes = Bytes(table);
    let mut end = bytes.unsigned()?;
    if u64::from(offset) < end {
        return None;
    }
    let mut at = 0;
    loop {
        end = end.checked_add(bytes.unsigned()?)?;
        if u64::from(offset) < end {
            return u32::try_from(at).ok().filter(|_| at < bytecode.len());
        }
        at += sizes.size(bytecode.get(at..)?)?;
    }
}

/// Numbers of 7 bits per byte, low bits first (`vlq.h`).
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The lowest bit is the sign.
    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table as V8 writes it: code offset, source position, statement or not.
    fn encode(format: EntryFormat, entries: &[(i64, i64, bool)]) -> Vec<u8> {
        let (mut code, mut source, mut bytes) = (-1, 0, Vec::new());
        for (at, position, statement) in entries {
            let distance = at - code;
            match format {
                EntryFormat::Signed => {
                    put_signed(&mut bytes, if *statement { distance } else { -distance - 1 });
                }
                EntryFormat::Flags => {
                    put(&mut bytes, distance.cast_unsigned() << 2 | 2 | u64::from(*statement));
                }
            }
            put_signed(&mut bytes, position - source);
            (code, source) = (*at, *position);
        }
        bytes
    }

    fn put_signed(bytes: &mut Vec<u8>, value: i64) {
        put(bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn put(bytes: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }

    fn packed(script_offset: i64, inlining_id: i64) -> i64 {
        (script_offset + 1) << 1 | inlining_id << 31
    }

    const FORMATS: [EntryFormat; 2] = [EntryFormat::Signed, EntryFormat::Flags];

    #[test]
    fn a_position_holds_from_its_entry_to_the_next() {
        for format in FORMATS {
            let entries = [(0, packed(10, 0), true), (7, packed(300, 0), false), (9, packed(4, 2), true)];
            let table = encode(format, &entries);
            let at = |offset| source_position(&table, format, 20, offset);
            let position = |offset| at(offset).map(|found| (found.script_offset, found.inlining_id));
            assert_eq!(position(0), Some((10, 0)));
            assert_eq!(position(6), Some((10, 0)));
            assert_eq!(position(7), Some((300, 0)));
            assert_eq!(position(8), Some((300, 0)));
            assert_eq!(position(9), Some((4, 2)));
            assert_eq!(position(u32::MAX), Some((4, 2)));
        }
    }

    #[test]
    fn before_the_first_entry_there_is_no_position() {
        for format in FORMATS {
            assert_eq!(source_position(&encode(format, &[(5, packed(10, 0), true)]), format, 20, 4), None);
            assert_eq!(source_position(&[], format, 20, 0), None);
        }
    }

    #[test]
    fn tables_recorded_of_the_same_function_tell_the_same_in_both_formats() {
        // The same method in Node.js 24.21 and 26.10, 39 bytes of bytecode.
        let signed = [1, 216, 188, 1, 2, 156, 1, 11, 20, 10, 104, 17, 16, 23, 56, 8, 28, 5, 56, 6, 36];
        let flags = [2, 216, 188, 1, 7, 156, 1, 22, 20, 23, 104, 34, 16, 46, 56, 19, 28, 10, 56, 15, 36];
        for offset in 0..39 {
            let position = source_position(&signed, EntryFormat::Signed, 39, offset);
            assert!(position.is_some(), "{offset}");
            assert_eq!(position, source_position(&flags, EntryFormat::Flags, 39, offset), "{offset}");
        }
    }

    #[test]
    fn a_table_in_another_format_leads_beyond_the_code_and_tells_nothing() {
        let flags = [2, 216, 188, 1, 7, 156, 1, 22, 20, 23, 104, 34, 16, 46, 56, 19, 28, 10, 56, 15, 36];
        assert_eq!(source_position(&flags, EntryFormat::Signed, 39, 1), None);
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang() {
        let mut random = fastrand::Rng::with_seed(7);
        let sizes = BytecodeSizes::new(&[1; 600]).unwrap();
        for _ in 0..20_000 {
            let mut table = vec![0; random.usize(..64)];
            random.fill(&mut table);
            let mut bytecode = vec![0; random.usize(..64)];
            random.fill(&mut bytecode);
            let offset = random.u32(..);
            for format in FORMATS {
                source_position(&table, format, u32::MAX, offset);
                source_position(&table, format, offset, offset & 0x3f);
            }
            baseline_bytecode_offset(&table, &bytecode, &sizes, offset & 0xff);
        }
        for format in FORMATS {
            assert_eq!(source_position(&[0x80; 64], format, 9, 1), None);
            assert_eq!(source_position(&[0xff; 64], format, 9, 1), None);
        }
    }

    #[test]
    fn baseline_code_is_counted_in_bytecodes_with_their_prefixes() {
        let mut sizes = vec![1u8; 600];
        sizes[20] = 3;
        sizes[200 + 20] = 5;
        let sizes = BytecodeSizes::new(&sizes).unwrap();
        // One of three bytes, a wide one of 1 + 5, one of one byte.
        let bytecode = [20, 0, 0, 0, 20, 0, 0, 0, 0, 30];
        let mut table = Vec::new();
        for length in [16, 8, 200, 4] {
            put(&mut table, length);
        }
        let at = |offset| baseline_bytecode_offset(&table, &bytecode, &sizes, offset);
        assert_eq!(at(15), None);
        assert_eq!(at(16), Some(0));
        assert_eq!(at(23), Some(0));
        assert_eq!(at(24), Some(3));
        assert_eq!(at(223), Some(3));
        assert_eq!(at(224), Some(9));
        assert_eq!(at(228), None);
    }

    #[test]
    fn positions_in_the_source_of_v8_itself_are_none() {
        assert_eq!(SourcePosition::unpack(packed(10, 0) | 1), None);
        assert_eq!(SourcePosition::unpack(0), None);
        assert_eq!(SourcePosition::unpack(-1), None);
    }
}

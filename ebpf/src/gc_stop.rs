//! What the program at the end of a collection is told about its file: the attach cookie of the probe `gc_stop`.

use crate::thread::{GC_MAJOR, GC_MINOR};

/// Where V8 keeps the sizes could not be decoded, as in Debian's `libnode`, whose calls go through its linkage table.
pub const SIZES_UNKNOWN: u64 = 0;

/// Flag: the second argument tells the kind of the collection, [`kind`]. Node.js 22 and later; needed where V8's functions for the kinds
/// have no symbols.
pub const KIND_IN_ARGUMENT: u64 = 1 << 32;

/// Offsets of the heap used before and after in V8's `GCTracer`, bytes.
pub const fn cookie(before: u16, after: u16) -> u64 {
    before as u64 | (after as u64) << 16
}

/// The two offsets again. `None`: [`SIZES_UNKNOWN`].
pub const fn offsets(cookie: u64) -> Option<(u16, u16)> {
    if cookie as u32 as u64 == SIZES_UNKNOWN { None } else { Some((cookie as u16, (cookie >> 16) as u16)) }
}

/// The kind that `GarbageCollector`, of which the argument has the lowest byte, stands for: scavenger, mark-compactor, minor
/// mark-sweeper (V8's `src/common/globals.h`; 0 and 1 were seen on Node.js 16 to 26).
pub const fn kind(collector: u64) -> u32 {
    match collector as u8 {
        0 | 2 => GC_MINOR,
        _ => GC_MAJOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_gives_back_its_offsets() {
        assert_eq!(offsets(cookie(0x38, 0x1040)), Some((0x38, 0x1040)));
        assert_eq!(offsets(SIZES_UNKNOWN), None);
        assert_eq!(offsets(SIZES_UNKNOWN | KIND_IN_ARGUMENT), None);
        assert_eq!(offsets(cookie(0x38, 0x40) | KIND_IN_ARGUMENT), Some((0x38, 0x40)));
    }

    #[test]
    fn the_upper_bytes_of_the_argument_say_nothing() {
        assert_eq!([0, 1, 2].map(kind), [GC_MINOR, GC_MAJOR, GC_MINOR]);
        assert_eq!(kind(0xffff_ff00), GC_MINOR);
    }
}

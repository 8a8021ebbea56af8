//! What the program at the end of a collection is told about its file: the attach cookie of the probe `gc_stop`.

/// Where V8 keeps the sizes could not be decoded, as in Debian's `libnode`, whose calls go through its linkage table.
pub const SIZES_UNKNOWN: u64 = 0;

/// Offsets of the heap used before and after in V8's `GCTracer`, bytes.
pub const fn cookie(before: u16, after: u16) -> u64 {
    before as u64 | (after as u64) << 16
}

/// The two offsets again. `None`: [`SIZES_UNKNOWN`].
pub const fn offsets(cookie: u64) -> Option<(u16, u16)> {
    if cookie == SIZES_UNKNOWN { None } else { Some((cookie as u16, (cookie >> 16) as u16)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_gives_back_its_offsets() {
        assert_eq!(offsets(cookie(0x38, 0x1040)), Some((0x38, 0x1040)));
        assert_eq!(offsets(SIZES_UNKNOWN), None);
    }
}

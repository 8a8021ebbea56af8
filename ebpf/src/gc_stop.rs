//! What the program at the end of a collection is told about its file: the attach cookie of the probe `gc_stop`.

/// Offsets of the heap used before and after in V8's `GCTracer`, bytes.
pub const fn cookie(before: u16, after: u16) -> u64 {
    before as u64 | (after as u64) << 16
}

/// The two offsets again.
pub const fn offsets(cookie: u64) -> (u16, u16) {
    (cookie as u16, (cookie >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_gives_back_its_offsets() {
        assert_eq!(offsets(cookie(0x38, 0x1040)), (0x38, 0x1040));
    }
}

//! Counters that several threads add to at the same time.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// The target has this one atomic operation, so `AtomicU64` does not offer it.
#[inline(always)]
pub(crate) fn add(counter: &mut u64, value: u64) {
    // SAFETY: an aligned field of a map value, which is written by this function only.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, value) };
}

//! The walk along frame pointers, from the innermost frame outwards. One source for both sides: in the kernel it reads
//! the memory of the current thread, in user space that of another process or a recorded image.
//!
//! V8 keeps a frame pointer in every frame it makes: interpreter, baseline, optimised code and builtins; Node and V8
//! themselves are compiled with them. Of each frame the words are noted from which user space tells what it is: of a
//! JavaScript frame the function stands at fp-16, of a stub frame a marker at fp-8 (`v8dbg_off_fp_*`; the same on V8 8.4 to
//! 14.6, x86-64 and arm64). Nothing is decided here, so nothing here depends on the version of V8.
//!
//! Limits: code without frame pointers (OpenSSL's assembly, parts of libc, Debian's libuv) ends the walk early.

use crate::wire_record;

/// Frames of one walk at most.
pub const MAX_FRAMES: usize = 96;

/// A caller's frame further away than this is no caller.
const MAX_FRAME_BYTES: u64 = 1 << 20;

wire_record! {
    /// One frame as it stands on the stack; words that could not be read are 0.
    pub struct RawFrame {
        /// The instruction being executed, or the return address into this frame's code.
        pub pc: u64,
        /// At fp-8: a tagged context in a JavaScript frame, twice the frame type in a stub frame.
        pub marker: u64,
        /// At offsets 24 and 32 of the object at fp-16: one of them is `JSFunction.shared`, which one V8's version tells.
        /// Read at once, because the function moves when it is young; what it points to does not.
        pub shared: [u64; 2],
        /// At fp-32: the bytecode array of an interpreted or baseline frame.
        pub bytecode: u64,
        /// At fp-40: the bytecode offset of an interpreted frame.
        pub bytecode_offset: u64,
    }
}

impl RawFrame {
    pub const ZERO: Self = Self { pc: 0, marker: 0, shared: [0; 2], bytecode: 0, bytecode_offset: 0 };

    /// Whether it looks like a frame of JavaScript: a context, and a function that could be read. Native frames can look
    /// so by chance.
    #[inline(always)]
    pub fn may_be_javascript(&self) -> bool {
        self.marker & 3 == 1 && (self.shared[0] & 3 == 1 || self.shared[1] & 3 == 1)
    }
}

/// Where the words of a stack come from.
pub trait Memory {
    /// `N` consecutive 64-bit words; `None` when they cannot be read.
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]>;
}

/// Walks from the registers of a thread and hands every frame to `emit` with its index. Returns their number.
///
/// Ends at [`MAX_FRAMES`], at a frame that is not above the one before, and at what cannot be read.
#[inline(always)]
pub fn walk(memory: &impl Memory, pc: u64, fp: u64, mut emit: impl FnMut(usize, RawFrame)) -> usize {
    let (mut pc, mut fp) = (pc, fp);
    let mut count = 0;
    while count < MAX_FRAMES {
        let mut frame = RawFrame { pc, ..RawFrame::ZERO };
        // fp-40 to fp+8.
        let words = if fp.is_multiple_of(8) { memory.words::<7>(fp.wrapping_sub(40)) } else { None };
        let Some([offset, bytecode, _, function, marker, caller_fp, return_address]) = words else {
            emit(count, frame);
            return count + 1;
        };
        frame.marker = marker;
        if marker & 3 == 1 && function & 3 == 1 {
            frame.bytecode = bytecode;
            frame.bytecode_offset = offset;
            if let Some(shared) = memory.words::<2>(function.wrapping_sub(1).wrapping_add(24)) {
                frame.shared = shared;
            }
        }
        emit(count, frame);
        count += 1;
        if return_address == 0 || caller_fp <= fp || caller_fp - fp > MAX_FRAME_BYTES {
            break;
        }
        pc = return_address;
        fp = caller_fp;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack that begins at an address.
    struct Image<'a> {
        base: u64,
        words: &'a [u64],
    }

    impl Memory for Image<'_> {
        fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
            let at = usize::try_from(address.checked_sub(self.base)? / 8).ok()?;
            self.words.get(at..at.checked_add(N)?)?.try_into().ok()
        }
    }

    fn frames(image: &Image<'_>, pc: u64, fp: u64) -> ([RawFrame; MAX_FRAMES], usize) {
        let mut frames = [RawFrame::ZERO; MAX_FRAMES];
        let count = walk(image, pc, fp, |index, frame| frames[index] = frame);
        (frames, count)
    }

    /// A JavaScript frame above a native one; the function object lies in the same image.
    #[rustfmt::skip]
    const STACK: [u64; 20] = [
        // The function object at 0x1000: map, two fields, then offsets 24 and 32.
        0, 0, 0, 0x71, 0x81,
        // The native frame: five words of no meaning, then saved fp and return address at 0x1050.
        0, 0, 0, 0, 0, 0x1088, 0xaaaa,
        // The JavaScript frame at 0x1088: offset, bytecode, argument count, function, context.
        0x39_0000_0000, 0x91, 0, 0x1001, 0x2001, 0, 0xbbbb,
        0,
    ];

    #[test]
    fn a_javascript_frame_gives_its_function_and_position() {
        let (frames, count) = frames(&Image { base: 0x1000, words: &STACK }, 0x9999, 0x1050);
        assert_eq!(count, 2);
        assert_eq!((frames[0].pc, frames[0].may_be_javascript()), (0x9999, false));
        let javascript = frames[1];
        assert_eq!((javascript.pc, javascript.marker, javascript.shared), (0xaaaa, 0x2001, [0x71, 0x81]));
        assert_eq!((javascript.bytecode, javascript.bytecode_offset >> 32), (0x91, 0x39));
        assert!(javascript.may_be_javascript());
    }

    #[test]
    fn a_cycle_or_a_caller_below_ends_the_walk() {
        for caller in [0x1028, 0x1000, 0] {
            let words = [0, 0, 0, 0, 0, caller, 0xaaaa];
            assert_eq!(frames(&Image { base: 0x1000, words: &words }, 1, 0x1028).1, 1);
        }
    }

    #[test]
    fn a_frame_pointer_that_cannot_be_read_leaves_the_innermost_pc() {
        for fp in [0, 0x1029, u64::MAX, 8] {
            let (frames, count) = frames(&Image { base: 0x1000, words: &STACK }, 0x9999, fp);
            assert_eq!((count, frames[0].pc), (1, 0x9999));
        }
    }

    #[test]
    fn a_chain_without_end_ends_at_the_limit() {
        struct Endless;
        impl Memory for Endless {
            fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
                let mut words = [1; N];
                if N == 7 {
                    words[5] = address + 40 + 64;
                }
                Some(words)
            }
        }
        assert_eq!(walk(&Endless, 1, 0x1000, |_, _| {}), MAX_FRAMES);
    }
}

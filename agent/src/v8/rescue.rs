//! Stacks whose innermost code has no frame pointer (OpenSSL's assembly, parts of libc, Debian's libuv): somewhere above
//! the stack pointer there is a frame that continues them. Looked for in a copy of the stack that was made when the
//! thread was there; its memory has moved on since.

use nodeprobe_ebpf::{
    RawFrame,
    walk::{self, walk},
};

use super::{Decoded, Frame, RawStack, decode::Decoder, memory::Memory, regions::Place};

/// A caller's frame is not further away: frames of native code are small, but for buffers on the stack.
const FRAME_MAX_BYTES: u64 = 128 << 10;
/// The thread's stack is not larger: addresses within are on it and not on the heap.
const STACK_MAX_BYTES: u64 = 16 << 20;
/// A walk with fewer frames proves nothing.
const FRAMES_MIN: usize = 5;
/// Walks that are tried.
const WALKS_MAX: usize = 128;

/// The copy of a stack, and the heap of the process.
struct Stack<'a, M> {
    stack: &'a RawStack<'a>,
    memory: &'a M,
}

impl<M: Memory> walk::Memory for Stack<'_, M> {
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        match address.checked_sub(self.stack.sp) {
            Some(offset) if offset < STACK_MAX_BYTES => {
                let at = usize::try_from(offset).ok()?;
                let bytes = self.stack.image.get(at..at.checked_add(N * 8)?)?;
                let mut words = [0; N];
                for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                    *word = u64::from_le_bytes(bytes.try_into().ok()?);
                }
                Some(words)
            }
            _ => self.memory.words(address),
        }
    }
}

/// The first place from which a walk reaches JavaScript.
pub(super) fn decode<M: Memory>(decoder: &mut Decoder<M>, stack: &RawStack<'_>) -> Option<Decoded> {
    let words: Vec<u64> = stack
        .image
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
        .collect();
    let mut walk_count = 0;
    for (index, pair) in words.windows(2).enumerate() {
        let address = stack.sp.checked_add(8 * index as u64)?;
        let &[fp, pc] = pair else { continue };
        let is_frame = fp > address && fp - address < FRAME_MAX_BYTES && fp.is_multiple_of(8);
        if !is_frame || decoder.regions.place(pc).is_none() {
            continue;
        }
        walk_count += 1;
        if walk_count > WALKS_MAX {
            break;
        }
        let outer = raw_frames(decoder, stack, pc, fp);
        if outer.len() < FRAMES_MIN || !outer.iter().any(RawFrame::may_be_javascript) {
            continue;
        }
        let mut found = decoder.frames(&outer, None);
        if found.javascript().next().is_none() {
            continue;
        }
        // The pair lies where the frame pointer of a further frame points to: that of whoever called the code without
        // one. The return address into it is below.
        let inner = words.get(..index)?.iter().find(|word| is_of_v8(decoder, **word));
        if let Some(return_address) = inner {
            let frames = raw_frames(decoder, stack, *return_address, address);
            if frames.first().is_some_and(|frame| decoder.is_consistent(frame)) {
                found = decoder.frames(&frames, None);
            }
        }
        let leaf = match decoder.regions.place(stack.pc) {
            Some(Place::V8(address) | Place::Builtin(address)) => Some(address),
            _ => None,
        };
        found.frames.insert(0, Frame::Native { pc: stack.pc, address: leaf });
        found.rescued = true;
        return Some(found);
    }
    None
}

fn raw_frames<M: Memory>(decoder: &Decoder<M>, stack: &RawStack<'_>, pc: u64, fp: u64) -> Vec<RawFrame> {
    let memory = Stack { stack, memory: &decoder.heap.memory };
    let mut frames = Vec::new();
    walk(&memory, pc, fp, |_, frame| frames.push(frame));
    frames
}

fn is_of_v8<M: Memory>(decoder: &Decoder<M>, pc: u64) -> bool {
    matches!(decoder.regions.place(pc), Some(Place::Generated(_) | Place::Builtin(_)))
}

//! The functions of a collection in builds whose V8 internals have no symbols: each is found in the code of one that calls it.

use iced_x86::{Mnemonic, OpKind, Register};

use super::{
    super::{Architecture, VirtualAddress},
    aarch64_branch, aarch64_instructions, x86_instructions, x86_target,
};

/// Decodes the address of `Heap::CollectGarbage` from the code of the exported
/// `v8::Isolate::RequestGarbageCollectionForTesting(GarbageCollectionType)`, a thin wrapper: its minor branch
/// ends in `heap()->CollectGarbage(NEW_SPACE, kTesting, kGCCallbackFlagForced)`, its full branch in
/// `heap()->PreciseCollectAllGarbage(..)`, both as tail jumps.
///
/// The result is a candidate: the caller checks that it is the start of a function.
pub(in super::super) fn decode_collect_garbage(
    architecture: Architecture,
    code: &[u8],
    start: VirtualAddress,
) -> Option<VirtualAddress> {
    let own = start.0..start.0.checked_add(code.len() as u64)?;
    match architecture {
        Architecture::X86_64 => {
            // The order of the two branches differs between compilers (GCC builds end with this one, clang
            // builds begin with it), so the anchor is the argument: `mov $1,%esi`, NEW_SPACE since V8 11.
            const MAX_DISTANCE_BYTES: u64 = 48;
            let mut anchor = None;
            for instruction in x86_instructions(code, start) {
                match instruction.mnemonic() {
                    Mnemonic::INVALID => return None,
                    Mnemonic::Mov
                        if instruction.op0_register() == Register::ESI
                            && instruction.op1_kind() == OpKind::Immediate32 =>
                    {
                        anchor = (instruction.immediate32() == 1).then_some(instruction.ip());
                    }
                    Mnemonic::Jmp | Mnemonic::Call => {
                        let near =
                            anchor.is_some_and(|anchor| instruction.ip() - anchor <= MAX_DISTANCE_BYTES);
                        let target = x86_target(&instruction).filter(|target| !own.contains(target));
                        if let Some(target) = target.filter(|_| near) {
                            return Some(VirtualAddress(target));
                        }
                        anchor = None;
                    }
                    _ => {}
                }
            }
            None
        }
        Architecture::Aarch64 => {
            // The argument register may hold 1 already, so there is no anchor, and the order of the branches
            // differs between compilers. But the full branch must set the second argument to 0.
            let mut minor = None;
            let mut full = None;
            let mut second_argument_is_zero = false;
            for (address, word) in aarch64_instructions(code, start) {
                if let Some(target) = aarch64_branch(address, word).filter(|target| !own.contains(target)) {
                    let branch = if second_argument_is_zero { &mut full } else { &mut minor };
                    if branch.replace(target).is_some() {
                        return None;
                    }
                }
                second_argument_is_zero = match word {
                    // `mov w1, #0`, `mov w1, wzr`, `mov x1, xzr`.
                    0x5280_0001 | 0x2a1f_03e1 | 0xaa1f_03e1 => true,
                    _ => second_argument_is_zero && !aarch64_ends_block(word),
                };
            }
            full.and(minor).map(VirtualAddress)
        }
    }
}

/// Decodes the address of `GCTracer::StopObservablePause` from the code of what `Heap::CollectGarbage` has done at the safepoint:
///
/// ```text
/// tracer()->StartObservablePause(base::TimeTicks::Now());           // the time is the second argument
/// ..
/// tracer()->StopObservablePause(collector, base::TimeTicks::Now()); // the third
/// ```
///
/// The time goes straight from the result of `now` into the argument (GCC builds of Node.js 24, clang builds of 26). What is asked
/// with the time as third argument first, after a call with it as second, is the end of the pause. Not on aarch64.
///
/// The result is a candidate: the caller checks that it is the start of a function.
pub(in super::super) fn end_of_observable_pause(
    architecture: Architecture,
    code: &[u8],
    start: VirtualAddress,
    now: VirtualAddress,
) -> Option<VirtualAddress> {
    /// The other arguments are loaded in between.
    const MAX_DISTANCE: usize = 4;
    if architecture != Architecture::X86_64 {
        return None;
    }
    let mut has_begun = false;
    // Instructions since the call of `now`, and the argument that holds its result.
    let mut since_now: Option<(usize, Register)> = None;
    for instruction in x86_instructions(code, start) {
        match instruction.mnemonic() {
            Mnemonic::INVALID => return None,
            Mnemonic::Call if x86_target(&instruction) == Some(now.0) => {
                since_now = Some((0, Register::None));
            }
            Mnemonic::Call => {
                let time = since_now.take().map(|(_, time)| time);
                let target = x86_target(&instruction);
                match time {
                    Some(Register::RSI) if target.is_some() => has_begun = true,
                    Some(Register::RDX) if has_begun => return target.map(VirtualAddress),
                    _ => {}
                }
            }
            Mnemonic::Mov if instruction.op1_register() == Register::RAX => {
                since_now = since_now
                    .filter(|(distance, _)| *distance < MAX_DISTANCE)
                    .map(|(distance, _)| (distance + 1, instruction.op0_register()));
            }
            Mnemonic::Mov if whole(instruction.op0_register()) != Register::RAX => {
                let written = whole(instruction.op0_register());
                since_now = since_now
                    .filter(|(distance, time)| *distance < MAX_DISTANCE && written != *time)
                    .map(|(distance, time)| (distance + 1, time));
            }
            // Arithmetic on it, a branch: no time that is handed on.
            _ => since_now = None,
        }
    }
    None
}

/// Writing the lower half of one of these overwrites all of it.
fn whole(register: Register) -> Register {
    match register {
        Register::EAX => Register::RAX,
        Register::ESI => Register::RSI,
        Register::EDX => Register::RDX,
        other => other,
    }
}

/// Branches with and without link and condition, `cbz`, `cbnz`, `tbz`, `tbnz`; `ret` and other indirect ones.
fn aarch64_ends_block(word: u32) -> bool {
    word & 0x7c00_0000 == 0x1400_0000
        || word & 0xff00_0000 == 0x5400_0000
        || word & 0x7c00_0000 == 0x3400_0000
        || word & 0xfe00_0000 == 0xd600_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: VirtualAddress = VirtualAddress(0x1000);

    #[test]
    fn on_aarch64_the_collection_is_the_jump_without_a_zero_argument_in_either_order() {
        let decode = |words: &[u32]| {
            let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            decode_collect_garbage(Architecture::Aarch64, &code, START).map(|target| target.0)
        };
        // b +0x400 from the second, b +0x800 from the last word.
        let (near, far) = (0x1400_0100, 0x1400_0200);
        let (zero, other) = (0x5280_0001, 0x5280_0083); // mov w1, #0; mov w3, #4
        assert_eq!(decode(&[zero, near, other, far]), Some(0x100c + 0x800));
        assert_eq!(decode(&[other, near, zero, far]), Some(0x1004 + 0x400));
        assert_eq!(decode(&[other, near, other, far]), None);
        assert_eq!(decode(&[zero, near]), None);
    }

    #[test]
    fn the_end_of_the_pause_is_what_is_told_the_time_third() {
        const NOW: VirtualAddress = VirtualAddress(0x2000);
        const SECOND: [u8; 6] = [0x48, 0x89, 0xc6, 0x48, 0x89, 0xdf]; // mov %rax,%rsi; mov %rbx,%rdi
        // mov 0x8(%r14),%esi; mov %rax,%rdx; mov %r12,%rdi
        const THIRD: [u8; 10] = [0x41, 0x8b, 0x76, 0x08, 0x48, 0x89, 0xc2, 0x4c, 0x89, 0xe7];
        let call = |at: u64, target: u64| {
            let distance = target.wrapping_sub(at + 5) as u32;
            [&[0xe8][..], &distance.to_le_bytes()].concat()
        };
        let decode = |parts: &[&[u8]], calls: &[u64]| {
            let mut code = Vec::new();
            let mut calls = calls.iter();
            for part in parts {
                code.extend_from_slice(part);
                if let Some(target) = calls.next() {
                    code.extend(call(START.0 + code.len() as u64, *target));
                }
            }
            let end = |architecture| end_of_observable_pause(architecture, &code, START, NOW);
            assert_eq!(end(Architecture::Aarch64), None);
            end(Architecture::X86_64).map(|target| target.0)
        };
        let (begin, end, other) = (0x3000, 0x4000, 0x5000);
        // As in Node 24: Now, Start, Now, Stop, Now, RecomputeLimits.
        let node_24 = [NOW.0, begin, NOW.0, end, NOW.0, other];
        assert_eq!(decode(&[&[], &SECOND, &[], &THIRD, &[], &THIRD, &[0xc3]], &node_24), Some(end));
        assert_eq!(decode(&[&[], &THIRD, &[0xc3]], &[NOW.0, end]), None, "no pause has begun");
        // sub %r15,%rax; mov %r12,%rdi; mov %rax,%rsi: a duration for a histogram.
        let duration: &[u8] = &[0x4c, 0x29, 0xf8, 0x4c, 0x89, 0xe7, 0x48, 0x89, 0xc6];
        assert_eq!(decode(&[&[], duration, &[], &THIRD, &[0xc3]], &[NOW.0, other, NOW.0, end]), None);
        // mov %rax,%rdx; mov %rcx,%rdx: another value by then.
        let overwritten: &[u8] = &[0x48, 0x89, 0xc2, 0x48, 0x89, 0xca];
        let calls = [NOW.0, begin, NOW.0, end];
        assert_eq!(decode(&[&[], &SECOND, &[], overwritten, &[0xc3]], &calls), None);
        // mov %rax,%rsi; mov 0x8(%r14),%esi: the same of its lower half.
        let lower_half: &[u8] = &[0x48, 0x89, 0xc6, 0x41, 0x8b, 0x76, 0x08];
        assert_eq!(decode(&[&[], lower_half, &[], &THIRD, &[0xc3]], &calls), None);
        // mov %rax,%rdx; call *%rcx: who that is cannot be known.
        assert_eq!(decode(&[&[], &SECOND, &[], &[0x48, 0x89, 0xc2, 0xff, 0xd1], &[0xc3]], &calls[..3]), None);
    }
}

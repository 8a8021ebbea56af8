//! What a few machine instructions say: how a function begins, where it ends, what it calls.
//! x86-64 is decoded by `iced-x86`; on aarch64 every instruction has four bytes and a mask is enough.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction as X86, Mnemonic, OpKind};

use super::{Architecture, Instruction, VirtualAddress};

mod collection;
mod fields;

pub(super) use collection::{decode_collect_garbage, end_of_observable_pause};
pub(super) use fields::{double_behind_field, field_in_handle, loaded_global, returned_field, stored_result};

/// The probed functions have one to three.
const MAX_EXITS: usize = 64;

/// A place where a function is left for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) address: VirtualAddress,
    pub(super) instruction: Instruction,
}

/// Classifies the first instruction of a function.
pub(super) fn first_instruction(architecture: Architecture, code: &[u8]) -> Instruction {
    match (architecture, code) {
        // `push` of one of the eight old registers, or of r8 to r15. These are the forms the kernel emulates
        // (arch/x86/kernel/uprobes.c, push_setup_xol_ops); all others are executed out of line.
        (Architecture::X86_64, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..]) => Instruction::Push,
        _ => Instruction::Other,
    }
}

/// All returns of the function whose code this is, and the direct jumps that leave it for another function.
/// Jumps into `own_parts` (the function's other ranges, like its `.cold` clone) do not leave it.
///
/// Indirect jumps are taken for jump tables: no examined build leaves the probed functions by one.
/// `None`: the bytes are not instructions or have more than [`MAX_EXITS`] exits, so nothing is known.
pub(super) fn exits(
    architecture: Architecture,
    code: &[u8],
    start: VirtualAddress,
    own_parts: &[Range<u64>],
) -> Option<Vec<Exit>> {
    let own = start.0..start.0.checked_add(code.len() as u64)?;
    let leaves = |target: u64| !own.contains(&target) && !own_parts.iter().any(|part| part.contains(&target));
    let mut exits = Vec::new();
    match architecture {
        Architecture::X86_64 => {
            for instruction in x86_instructions(code, start) {
                let kind = match instruction.mnemonic() {
                    Mnemonic::INVALID => return None,
                    Mnemonic::Ret => Instruction::Return,
                    Mnemonic::Jmp if x86_target(&instruction).is_some_and(leaves) => Instruction::TailJump,
                    _ => continue,
                };
                exits.push(Exit { address: VirtualAddress(instruction.ip()), instruction: kind });
            }
        }
        Architecture::Aarch64 => {
            for (address, word) in aarch64_instructions(code, start) {
                // `ret x30`, and the variants that authenticate the return address.
                let kind = match word {
                    0xd65f_03c0 | 0xd65f_0bff | 0xd65f_0fff => Instruction::Return,
                    _ if aarch64_branch(address, word).is_some_and(leaves) => Instruction::TailJump,
                    _ => continue,
                };
                exits.push(Exit { address: VirtualAddress(address), instruction: kind });
            }
        }
    }
    (exits.len() <= MAX_EXITS).then_some(exits)
}

/// Whether the code calls a function directly, or ends in a jump to it.
pub(super) fn calls(
    architecture: Architecture,
    code: &[u8],
    start: VirtualAddress,
    callee: VirtualAddress,
) -> bool {
    match architecture {
        Architecture::X86_64 => x86_instructions(code, start).any(|instruction| {
            matches!(instruction.mnemonic(), Mnemonic::Call | Mnemonic::Jmp)
                && x86_target(&instruction) == Some(callee.0)
        }),
        Architecture::Aarch64 => aarch64_instructions(code, start)
            // `bl` is `b` with the highest bit set.
            .any(|(address, word)| aarch64_branch(address, word & 0x7fff_ffff) == Some(callee.0)),
    }
}

/// What the code calls directly, by ascending address. Not on aarch64.
pub(super) fn callees(architecture: Architecture, code: &[u8], start: VirtualAddress) -> Vec<VirtualAddress> {
    if architecture != Architecture::X86_64 {
        return Vec::new();
    }
    let calls = x86_instructions(code, start).filter(|instruction| instruction.mnemonic() == Mnemonic::Call);
    let mut callees: Vec<_> =
        calls.filter_map(|instruction| x86_target(&instruction)).map(VirtualAddress).collect();
    callees.sort_unstable();
    callees.dedup();
    callees
}

/// Decodes from the first byte on. A linear sweep is right for compiled C++: jump tables are in `.rodata`.
fn x86_instructions(code: &[u8], start: VirtualAddress) -> impl Iterator<Item = X86> {
    let mut decoder = Decoder::with_ip(64, code, start.0, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

/// Target of a direct jump or call.
fn x86_target(instruction: &X86) -> Option<u64> {
    (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch64())
}

fn aarch64_instructions(code: &[u8], start: VirtualAddress) -> impl Iterator<Item = (u64, u32)> {
    code.chunks_exact(4)
        .zip((start.0..).step_by(4))
        .map(|(bytes, address)| (address, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}

/// Target of an unconditional `b`: 26 bits of signed distance in units of four bytes.
fn aarch64_branch(address: u64, word: u32) -> Option<u64> {
    let distance = i64::from((word << 6).cast_signed() >> 6) * 4;
    (word >> 26 == 0b00_0101).then(|| address.wrapping_add_signed(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: VirtualAddress = VirtualAddress(0x1000);

    fn x86_exits(code: &[u8], own_parts: &[Range<u64>]) -> Option<Vec<(u64, Instruction)>> {
        let exits = exits(Architecture::X86_64, code, START, own_parts)?;
        Some(exits.into_iter().map(|exit| (exit.address.0, exit.instruction)).collect())
    }

    #[test]
    fn a_jump_out_of_the_function_is_an_exit_and_one_inside_or_to_its_cold_part_is_not() {
        // 1000: jmp 1004; 1002: nop; nop; 1004: jmp 2000; 1009: ret
        let code = [0xeb, 0x02, 0x90, 0x90, 0xe9, 0xf7, 0x0f, 0x00, 0x00, 0xc3];
        let returns = (0x1009, Instruction::Return);
        assert_eq!(x86_exits(&code, &[]), Some(vec![(0x1004, Instruction::TailJump), returns]));
        let cold = 0x2000..0x2010;
        assert_eq!(x86_exits(&code, std::slice::from_ref(&cold)), Some(vec![returns]));
    }

    #[test]
    fn the_byte_of_a_return_inside_another_instruction_is_no_exit() {
        // mov $0xc3c3c3c3,%eax; repz ret
        assert_eq!(
            x86_exits(&[0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xf3, 0xc3], &[]),
            Some(vec![(0x1005, Instruction::Return)])
        );
    }

    #[test]
    fn bytes_that_are_no_instructions_have_no_known_exits() {
        // 0x06 (push %es) does not exist in 64-bit mode.
        assert_eq!(x86_exits(&[0x90, 0x06, 0xc3], &[]), None);
        assert_eq!(x86_exits(&[0xc3; 65], &[]), None, "more exits than any probed function has");
    }

    #[test]
    fn only_emulated_forms_count_as_push() {
        let first = |code: &[u8]| first_instruction(Architecture::X86_64, code);
        assert_eq!(first(&[0x55, 0x48]), Instruction::Push); // push %rbp
        assert_eq!(first(&[0x41, 0x57]), Instruction::Push); // push %r15
        assert_eq!(first(&[0x41, 0x89]), Instruction::Other); // mov %..,%r..d
        assert_eq!(first(&[0x80, 0x7f]), Instruction::Other); // cmpb $..,..(%rdi), as InternalCallbackScope::Close begins
        assert_eq!(first(&[]), Instruction::Other);
    }

    #[test]
    fn a_direct_call_is_found_and_a_call_of_another_function_is_not() {
        let callee = VirtualAddress(0x2000);
        // nop; call 2000; ret
        let code = [0x90, 0xe8, 0xfa, 0x0f, 0x00, 0x00, 0xc3];
        assert!(calls(Architecture::X86_64, &code, START, callee));
        assert!(!calls(Architecture::X86_64, &code, START, VirtualAddress(0x2001)));
        assert!(!calls(Architecture::X86_64, &[0x90, 0xff, 0xd0, 0xc3], START, callee), "call *%rax");
        // bl +0x1000
        assert!(calls(Architecture::Aarch64, &0x9400_0400_u32.to_le_bytes(), START, callee));
        assert!(!calls(Architecture::Aarch64, &0x9400_0401_u32.to_le_bytes(), START, callee));
    }
}

//! What a few machine instructions say: how a function begins, where it ends, what it calls.
//! x86-64 is decoded by `iced-x86`; on aarch64 every instruction has four bytes and a mask is enough.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction as X86, Mnemonic, OpKind, Register};

use super::{Architecture, Instruction, VirtualAddress};

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

/// Displacement of the only field that `uv_backend_fd(const uv_loop_t*)` reads: `return loop->backend_fd`.
pub(super) fn returned_field(architecture: Architecture, code: &[u8]) -> Option<u32> {
    match architecture {
        Architecture::X86_64 => {
            for instruction in x86_instructions(code, VirtualAddress(0)) {
                match instruction.mnemonic() {
                    // `mov disp(%rdi),%eax`
                    Mnemonic::Mov
                        if instruction.op0_register() == Register::EAX
                            && instruction.op1_kind() == OpKind::Memory
                            && instruction.memory_base() == Register::RDI
                            && instruction.memory_index() == Register::None =>
                    {
                        return u32::try_from(instruction.memory_displacement64()).ok();
                    }
                    // Frame set-up of builds with frame pointers, and the marker of indirect branch tracking.
                    Mnemonic::Push | Mnemonic::Endbr64 => {}
                    Mnemonic::Mov if instruction.op0_register() == Register::RBP => {}
                    _ => return None,
                }
            }
            None
        }
        // `ldr w0, [x0, #imm]`: immediate in units of four bytes in bits 21..10.
        Architecture::Aarch64 => aarch64_instructions(code, VirtualAddress(0))
            .take(4)
            .find(|(_, word)| word & 0xffc0_03ff == 0xb940_0000)
            .map(|(_, word)| ((word >> 10) & 0xfff) * 4),
    }
}

/// Displacement of the field of `this` in which a method stores what its only call of `callee` returns.
///
/// Only the shape that compilers give it is accepted: `this` is copied to a register that calls preserve, and the result is
/// stored through that register before anything else is called. Not on aarch64.
pub(super) fn stored_result(
    architecture: Architecture,
    code: &[u8],
    start: VirtualAddress,
    callee: VirtualAddress,
) -> Option<u16> {
    /// `lea` of an argument for the next call may stand in between.
    const MAX_DISTANCE: usize = 3;
    /// Objects with a virtual function or two begin with pointers, and no tracer is larger than some KiB.
    const PLAUSIBLE: Range<u64> = 8..4096;
    if architecture != Architecture::X86_64 {
        return None;
    }
    let mut this = None;
    let mut instructions = x86_instructions(code, start);
    let mut found = None;
    while let Some(instruction) = instructions.next() {
        match instruction.mnemonic() {
            Mnemonic::INVALID => return None,
            Mnemonic::Mov if this.is_none() && instruction.op1_register() == Register::RDI => {
                this = Some(instruction.op0_register()).filter(|register| PRESERVED.contains(register));
            }
            Mnemonic::Call if x86_target(&instruction) == Some(callee.0) => {
                let is_store = |next: &X86| {
                    next.mnemonic() == Mnemonic::Mov
                        && next.op0_kind() == OpKind::Memory
                        && next.op1_register() == Register::RAX
                };
                let mut next = instructions
                    .by_ref()
                    .take(MAX_DISTANCE)
                    .take_while(|next| next.mnemonic() != Mnemonic::Call);
                let store = next.find(is_store)?;
                let displacement = store.memory_displacement64();
                let is_field = Some(store.memory_base()) == this
                    && store.memory_index() == Register::None
                    && PLAUSIBLE.contains(&displacement);
                if !is_field || found.replace(displacement as u16).is_some() {
                    return None;
                }
            }
            _ => {}
        }
    }
    found
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

/// Displacement of the pointer through which `AsyncHooksGetExecutionAsyncId` reads the double that it returns:
/// `mov disp(%env),%rax; movsd (%rax),%xmm0`, with nothing but the epilogue in between. Not on aarch64.
pub(super) fn double_behind_field(architecture: Architecture, code: &[u8]) -> Option<u32> {
    /// `node::Environment` has some KiB.
    const PLAUSIBLE: Range<u64> = 8..16_384;
    if architecture != Architecture::X86_64 {
        return None;
    }
    let mut pointer = None;
    let mut found = None;
    for instruction in x86_instructions(code, VirtualAddress(0)) {
        let is_load = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None;
        match instruction.mnemonic() {
            Mnemonic::INVALID => return None,
            _ if is_load && instruction.op0_register() == Register::RAX => {
                let displacement = instruction.memory_displacement64();
                pointer = Some(displacement).filter(|displacement| PLAUSIBLE.contains(displacement));
            }
            Mnemonic::Movsd
                if instruction.op0_register() == Register::XMM0
                    && instruction.op1_kind() == OpKind::Memory
                    && instruction.memory_base() == Register::RAX =>
            {
                let is_first = instruction.memory_displacement64() == 0;
                let displacement = pointer.filter(|_| is_first)? as u32;
                if found.replace(displacement).is_some_and(|before| before != displacement) {
                    return None;
                }
            }
            // Registers that the function has saved are restored between the two.
            Mnemonic::Mov if is_load && instruction.memory_base() == Register::RBP => {}
            Mnemonic::Pop => {}
            _ => pointer = None,
        }
    }
    found
}

/// Displacement of the field of `this` that a method hands out in a handle: it is loaded into a register, which is stored where the
/// handle points to, after the loads of the handle's own place from the same object. Not on aarch64.
pub(super) fn field_in_handle(architecture: Architecture, code: &[u8]) -> Option<u32> {
    if architecture != Architecture::X86_64 {
        return None;
    }
    let mut fields: Vec<(Register, u64)> = Vec::new();
    for instruction in x86_instructions(code, VirtualAddress(0)) {
        if instruction.mnemonic() != Mnemonic::Mov {
            if instruction.mnemonic() == Mnemonic::INVALID || instruction.mnemonic() == Mnemonic::Call {
                return None;
            }
            continue;
        }
        let has_index = instruction.memory_index() != Register::None;
        if instruction.op1_kind() == OpKind::Memory
            && instruction.memory_base() == Register::RDI
            && !has_index
        {
            fields.retain(|(register, _)| *register != instruction.op0_register());
            fields.push((instruction.op0_register(), instruction.memory_displacement64()));
        } else if instruction.op0_kind() == OpKind::Memory
            && instruction.memory_base() == Register::RAX
            && !has_index
            && instruction.memory_displacement64() == 0
        {
            let stored = instruction.op1_register();
            let (_, displacement) = fields.iter().find(|(register, _)| *register == stored)?;
            return u32::try_from(*displacement).ok();
        } else if instruction.op0_kind() == OpKind::Register && instruction.op0_register() != Register::RBP {
            fields.retain(|(register, _)| *register != instruction.op0_register());
        }
    }
    None
}

/// Registers of x86-64 that keep their value over calls.
const PRESERVED: [Register; 5] = [Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];

/// Decodes the address of `Heap::CollectGarbage` from the code of the exported
/// `v8::Isolate::RequestGarbageCollectionForTesting(GarbageCollectionType)`, a thin wrapper: its minor branch
/// ends in `heap()->CollectGarbage(NEW_SPACE, kTesting, kGCCallbackFlagForced)`, its full branch in
/// `heap()->PreciseCollectAllGarbage(..)`, both as tail jumps.
///
/// The result is a candidate: the caller checks that it is the start of a function.
pub(super) fn decode_collect_garbage(
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
    fn the_descriptor_field_is_read_with_and_without_a_frame_pointer() {
        let field = |code: &[u8]| returned_field(Architecture::X86_64, code);
        // mov 0x40(%rdi),%eax; ret (GCC)
        assert_eq!(field(&[0x8b, 0x47, 0x40, 0xc3]), Some(64));
        // push %rbp; mov %rsp,%rbp; mov 0x40(%rdi),%eax; pop %rbp; ret (clang)
        assert_eq!(field(&[0x55, 0x48, 0x89, 0xe5, 0x8b, 0x47, 0x40, 0x5d, 0xc3]), Some(64));
        // mov 0x40(%rsi),%eax; ret, and xor %eax,%eax; ret
        assert_eq!(field(&[0x8b, 0x46, 0x40, 0xc3]), None);
        assert_eq!(field(&[0x31, 0xc0, 0xc3]), None);
        // ldr w0, [x0, #64]; ret
        let code = [0x00, 0x40, 0x40, 0xb9, 0xc0, 0x03, 0x5f, 0xd6];
        assert_eq!(returned_field(Architecture::Aarch64, &code), Some(64));
    }

    #[test]
    fn a_result_is_found_in_the_field_of_this_it_is_stored_in_and_nowhere_else() {
        let callee = VirtualAddress(0x2000);
        // push %rbp; mov %rsp,%rbp; push %rbx; mov %rdi,%rbx; mov (%rdi),%rdi; call 2000
        let begin =
            [0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x89, 0xfb, 0x48, 0x8b, 0x3f, 0xe8, 0xf0, 0x0f, 0x00, 0x00];
        let stored = |rest: &[u8], architecture| {
            stored_result(architecture, &[&begin[..], rest].concat(), START, callee)
        };
        let on_x86 = |rest: &[u8]| stored(rest, Architecture::X86_64);
        // lea -0x30(%rbp),%rdi; mov %rax,0x40(%rbx); ret
        let good = [0x48, 0x8d, 0x7d, 0xd0, 0x48, 0x89, 0x43, 0x40, 0xc3];
        assert_eq!(on_x86(&good), Some(0x40));
        assert_eq!(stored(&good, Architecture::Aarch64), None);
        assert_eq!(on_x86(&[0x48, 0x89, 0x41, 0x40, 0xc3]), None, "mov %rax,0x40(%rcx): not this");
        assert_eq!(on_x86(&[0x48, 0x89, 0x03, 0xc3]), None, "mov %rax,(%rbx): the first field is a pointer");
        assert_eq!(on_x86(&[0xc3]), None, "not stored");
        // call 3000 in between: the result is another's.
        assert_eq!(on_x86(&[0xe8, 0xeb, 0x1f, 0x00, 0x00, 0x48, 0x89, 0x43, 0x40, 0xc3]), None);
        // mov %rax,0x40(%rbx); call 2000; mov %rax,0x48(%rbx): which of the two?
        let twice = [0x48, 0x89, 0x43, 0x40, 0xe8, 0xe7, 0x0f, 0x00, 0x00, 0x48, 0x89, 0x43, 0x48, 0xc3];
        assert_eq!(on_x86(&twice), None);
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

    #[test]
    fn the_pointer_to_async_ids_is_read_where_the_double_comes_from() {
        let on_x86 = |code: &[u8]| double_behind_field(Architecture::X86_64, code);
        // Node 20: mov 0x10f(%rax),%r12 .. mov 0x480(%r12),%rax; mov -0x8(%rbp),%r12; movsd (%rax),%xmm0; leave; ret
        let gcc = [
            0x4c, 0x8b, 0xa0, 0x0f, 0x01, 0x00, 0x00, 0x49, 0x8b, 0x84, 0x24, 0x80, 0x04, 0x00, 0x00, 0x4c,
            0x8b, 0x65, 0xf8, 0xf2, 0x0f, 0x10, 0x00, 0xc9, 0xc3,
        ];
        assert_eq!(on_x86(&gcc), Some(0x480));
        assert_eq!(double_behind_field(Architecture::Aarch64, &gcc), None);
        // Node 26: test %rax,%rax; je; mov 0x480(%rax),%rax; movsd (%rax),%xmm0; pop %rbp; ret
        let clang = [
            0x48, 0x85, 0xc0, 0x74, 0x0d, 0x48, 0x8b, 0x80, 0x80, 0x04, 0x00, 0x00, 0xf2, 0x0f, 0x10, 0x00,
            0x5d, 0xc3,
        ];
        assert_eq!(on_x86(&clang), Some(0x480));
        // movsd 0x8(%rax),%xmm0 is another element, movsd (%rax) after a call another's result.
        assert_eq!(on_x86(&[0x48, 0x8b, 0x80, 0x80, 0x04, 0, 0, 0xf2, 0x0f, 0x10, 0x40, 0x08, 0xc3]), None);
        assert_eq!(
            on_x86(&[0x48, 0x8b, 0x80, 0x80, 0x04, 0, 0, 0xe8, 0, 0, 0, 0, 0xf2, 0x0f, 0x10, 0x00, 0xc3]),
            None
        );
        assert_eq!(on_x86(&[0xc3]), None);
    }

    #[test]
    fn the_context_is_what_the_handle_is_filled_with() {
        let on_x86 = |code: &[u8]| field_in_handle(Architecture::X86_64, code);
        // Node 24: mov 0x278(%rdi),%r12; mov 0x230(%rdi),%rax; cmp 0x238(%rdi),%rax; je; lea 0x8(%rax),%rdx;
        // mov %rdx,0x230(%rdi); mov %r12,(%rax)
        let gcc = [
            0x4c, 0x8b, 0xa7, 0x78, 0x02, 0x00, 0x00, 0x48, 0x8b, 0x87, 0x30, 0x02, 0x00, 0x00, 0x48, 0x3b,
            0x87, 0x38, 0x02, 0x00, 0x00, 0x74, 0x17, 0x48, 0x8d, 0x50, 0x08, 0x48, 0x89, 0x97, 0x30, 0x02,
            0x00, 0x00, 0x4c, 0x89, 0x20,
        ];
        assert_eq!(on_x86(&gcc), Some(0x278));
        assert_eq!(field_in_handle(Architecture::Aarch64, &gcc), None);
        // Node 26: mov 0x230(%rdi),%rax; mov 0x2a8(%rdi),%rcx; cmp; je; lea; mov %rdx,0x230(%rdi); mov %rcx,(%rax)
        let clang = [
            0x48, 0x8b, 0x87, 0x30, 0x02, 0x00, 0x00, 0x48, 0x8b, 0x8f, 0xa8, 0x02, 0x00, 0x00, 0x48, 0x3b,
            0x87, 0x38, 0x02, 0x00, 0x00, 0x74, 0x10, 0x48, 0x8d, 0x50, 0x08, 0x48, 0x89, 0x97, 0x30, 0x02,
            0x00, 0x00, 0x48, 0x89, 0x08,
        ];
        assert_eq!(on_x86(&clang), Some(0x2a8));
        // The register holds something else by then: mov 0x278(%rdi),%r12; mov %rsi,%r12; mov %r12,(%rax).
        let other = [0x4c, 0x8b, 0xa7, 0x78, 0x02, 0, 0, 0x49, 0x89, 0xf4, 0x4c, 0x89, 0x20];
        assert_eq!(on_x86(&other), None);
        assert_eq!(on_x86(&[0xc3]), None);
    }

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
}

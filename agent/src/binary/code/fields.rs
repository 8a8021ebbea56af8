//! Where V8, Node and libuv keep a field, as a method of theirs that reads or writes it says.

use std::ops::Range;

use iced_x86::{Instruction as X86, MemorySize, Mnemonic, OpKind, Register};

use super::{
    super::{Architecture, VirtualAddress},
    aarch64_instructions, x86_instructions, x86_target,
};

/// Registers of x86-64 that keep their value over calls.
const PRESERVED: [Register; 5] = [Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];

/// Displacement of the only field that `uv_backend_fd(const uv_loop_t*)` reads: `return loop->backend_fd`.
pub(in super::super) fn returned_field(architecture: Architecture, code: &[u8]) -> Option<u32> {
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

/// The global that a function loads first: `uv_default_loop()` the pointer that it returns once there is a loop. Not on aarch64.
pub(in super::super) fn loaded_global(
    architecture: Architecture,
    code: &[u8],
    start: VirtualAddress,
) -> Option<VirtualAddress> {
    if architecture != Architecture::X86_64 {
        return None;
    }
    let load = x86_instructions(code, start).find(|instruction| instruction.op1_kind() == OpKind::Memory)?;
    let is_pointer = load.mnemonic() == Mnemonic::Mov
        && load.is_ip_rel_memory_operand()
        && load.memory_size() == MemorySize::UInt64;
    is_pointer.then(|| VirtualAddress(load.ip_rel_memory_address()))
}

/// Displacement of the field of `this` in which a method stores what its only call of `callee` returns.
///
/// Only the shape that compilers give it is accepted: `this` is copied to a register that calls preserve, and the result is
/// stored through that register before anything else is called. Not on aarch64.
pub(in super::super) fn stored_result(
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

/// Displacement of the pointer through which `AsyncHooksGetExecutionAsyncId` reads the double that it returns:
/// `mov disp(%env),%rax; movsd (%rax),%xmm0`, with nothing but the epilogue in between. Not on aarch64.
pub(in super::super) fn double_behind_field(architecture: Architecture, code: &[u8]) -> Option<u32> {
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
pub(in super::super) fn field_in_handle(architecture: Architecture, code: &[u8]) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const START: VirtualAddress = VirtualAddress(0x1000);

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
}

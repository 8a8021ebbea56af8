//! The user's registers of the current thread while it is in a system call. On x86-64 they are what `ptrace` shows, which is
//! ABI; on aarch64 two fields behind that are used, whose place has not changed since 4.14.
//!
//! `bpf_task_pt_regs` exists since Linux 5.15; a program that calls it is refused before.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    programs::ProbeContext,
};

/// Of `orig_ax`, and of `syscallno`.
#[cfg(bpf_target_arch = "x86_64")]
const SYSCALL_NUMBER: usize = 120;
#[cfg(bpf_target_arch = "aarch64")]
const SYSCALL_NUMBER: usize = 280;
/// Of `di`, and of `orig_x0`: the return value overwrites `x0`.
#[cfg(bpf_target_arch = "x86_64")]
const FIRST_ARGUMENT: usize = 112;
#[cfg(bpf_target_arch = "aarch64")]
const FIRST_ARGUMENT: usize = 272;

/// Of `si`, and of `regs[1]`.
#[cfg(bpf_target_arch = "x86_64")]
const SECOND_ARGUMENT: usize = 104;
#[cfg(bpf_target_arch = "aarch64")]
const SECOND_ARGUMENT: usize = 8;

#[cfg(bpf_target_arch = "x86_64")]
const PC_SP_FP: [usize; 3] = [128, 152, 32];
#[cfg(bpf_target_arch = "aarch64")]
const PC_SP_FP: [usize; 3] = [256, 248, 232];

/// Where a walk begins.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
}

/// Where a uprobe hit. From the program's own context, so on every kernel.
#[inline(always)]
pub(crate) fn of_probe(ctx: &ProbeContext) -> Registers {
    // SAFETY: the context of a uprobe is the register set of the probed thread.
    let registers = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "x86_64")]
    return Registers { pc: registers.rip, sp: registers.rsp, fp: registers.rbp };
    #[cfg(bpf_target_arch = "aarch64")]
    return Registers { pc: registers.pc, sp: registers.sp, fp: registers.regs[29] };
}

/// The instruction in user space that runs, or called the kernel.
#[inline(always)]
pub(crate) fn pc() -> u64 {
    read::<u64>(PC_SP_FP[0])
}

#[inline(always)]
pub(crate) fn sp() -> u64 {
    read::<u64>(PC_SP_FP[1])
}

#[inline(always)]
pub(crate) fn fp() -> u64 {
    read::<u64>(PC_SP_FP[2])
}

/// The number of the system call; -1 outside of any, as in a page fault.
#[inline(always)]
pub(crate) fn syscall_number() -> u32 {
    // `syscallno` of aarch64 has 32 bits, and the verifier refuses to read beyond it.
    read::<u32>(SYSCALL_NUMBER)
}

/// What the system call was given first, unchanged also at its return.
#[inline(always)]
pub(crate) fn first_argument() -> u64 {
    read::<u64>(FIRST_ARGUMENT)
}

/// What it was given second, unchanged as well.
#[inline(always)]
pub(crate) fn second_argument() -> u64 {
    read::<u64>(SECOND_ARGUMENT)
}

/// Where a walk begins, in a tracepoint of a system call.
#[inline(always)]
pub(crate) fn of_syscall() -> Registers {
    Registers { pc: pc(), sp: sp(), fp: fp() }
}

#[inline(always)]
fn read<T: Copy>(offset: usize) -> T {
    // SAFETY: both helpers always succeed on the current thread; the verifier knows the type of what they return.
    unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8;
        core::ptr::read_volatile(registers.add(offset).cast::<T>())
    }
}

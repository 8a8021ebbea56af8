//! Deoptimisations: optimised code met what it was not compiled for and is thrown away.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use nodeprobe_ebpf::thread::{DEOPT_EAGER, DEOPT_LAZY};

use crate::{
    registers,
    rejections::{dealt_with, is_repeat},
    sampler, target,
};

/// Stacks are taken at most this often per thread; the count is complete.
const SAMPLE_INTERVAL_NS: u64 = 5_000_000;

/// The constructor of `v8::internal::Deoptimizer(Isolate*, JSFunction, DeoptimizeKind, Address from, int)`. The frame of the
/// function that is left is the innermost one of JavaScript.
#[uprobe]
pub(crate) fn deopt(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let registers = registers::of_probe(&ctx);
    if is_repeat(thread, registers.sp) {
        return 0;
    }
    // The constructor is handed `this` first.
    let kind = ctx.arg::<u64>(3).unwrap_or(0) as u32 & 0xff;
    let left_pc = ctx.arg::<u64>(4).unwrap_or(0);
    let index = if kind == 0 { DEOPT_EAGER } else { DEOPT_LAZY };
    thread.deopts[index] += 1;
    let now = target::now_ns();
    if now - thread.deopt_sample_ns >= SAMPLE_INTERVAL_NS {
        thread.deopt_sample_ns = now;
        sampler::deopt(thread, registers, now, (kind, left_pc));
    }
    dealt_with(thread, registers.sp);
    0
}

//! The programs. One file per signal; `maps`, `target` and `emit` are what they share. Records, buckets and
//! reasons for loss are in the library of this package, which the agent links too.
//!
//! Architecture invariant: no kernel structure is walked. Tracepoint formats, helpers, the register set of the ABI,
//! user memory, and of a task its id (`sched`), at the place that the running kernel tells: so the same object loads on every
//! kernel from 5.8 on without CO-RE.
//!
//! Architecture invariant: every handler can run twice for one hit. Containers of one image show the same
//! executable under several device numbers (overlayfs), the kernel resolves them to one inode, and then two
//! attachments fire for one call.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// One atomic addition; see `counter`. The compiler for this target takes unstable features anyway (build.rs).
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), allow(internal_features))]

#[cfg(target_arch = "bpf")]
mod async_context;
#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod compile;
#[cfg(target_arch = "bpf")]
mod counter;
#[cfg(target_arch = "bpf")]
mod deopts;
#[cfg(target_arch = "bpf")]
mod duty;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod event_loop;
#[cfg(target_arch = "bpf")]
mod gc;
#[cfg(target_arch = "bpf")]
mod lifecycle;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod microtasks;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod rejections;
#[cfg(target_arch = "bpf")]
mod sampler;
#[cfg(target_arch = "bpf")]
mod sched;
#[cfg(target_arch = "bpf")]
mod sockets;
#[cfg(target_arch = "bpf")]
mod stdio;
#[cfg(target_arch = "bpf")]
mod target;
#[cfg(target_arch = "bpf")]
mod thread_pool;

/// Some helpers are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(all(target_arch = "bpf", not(test)))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an endless loop, so a program that could panic does not load.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

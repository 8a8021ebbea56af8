//! What one hit of a probe costs on this host, measured when the agent starts.
//!
//! A hit is a trap, the kernel's way to the program, the program, and the instruction that the probe replaced: emulated, or
//! executed out of line with a second trap. The latter differs tenfold between machines (virtual ones are slow at it), so it
//! is measured with both kinds of instruction, on two functions of our own that do nothing. A tracepoint is measured on a
//! system call of our own.

use std::{fs::File, io::Read as _, num::NonZeroU32, time::Instant};

use crate::{
    binary::Instruction,
    bpf::{HookTarget, Kernel},
    procfs::Procfs,
};

/// Nanoseconds per hit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Of a probe on an instruction that the kernel emulates.
    pub emulated_ns: f64,
    /// Of one on any other.
    pub stepped_ns: f64,
    /// Of a tracepoint at the return of a system call.
    pub traced_ns: f64,
}

impl Costs {
    /// Where it cannot be measured: more than was measured on any machine.
    const ASSUMED: Self = Self { emulated_ns: 4_000.0, stepped_ns: 40_000.0, traced_ns: 3_000.0 };

    /// Of a probe on this instruction.
    pub const fn of(self, instruction: Instruction) -> f64 {
        match instruction {
            Instruction::Push => self.emulated_ns,
            Instruction::Other | Instruction::Return | Instruction::TailJump => self.stepped_ns,
        }
    }
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".global nodeprobe_calibrate_emulated",
    ".global nodeprobe_calibrate_stepped",
    "nodeprobe_calibrate_emulated:",
    "push rbp",
    "pop rbp",
    "ret",
    "nodeprobe_calibrate_stepped:",
    "mov eax, edi",
    "ret",
);
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".global nodeprobe_calibrate_emulated",
    ".global nodeprobe_calibrate_stepped",
    "nodeprobe_calibrate_emulated:",
    "nop",
    "ret",
    "nodeprobe_calibrate_stepped:",
    "mov w1, w0",
    "ret",
);

unsafe extern "C" {
    fn nodeprobe_calibrate_emulated();
    fn nodeprobe_calibrate_stepped();
}

/// Calls per measurement: half a millisecond with emulated probes.
const CALLS: u32 = 400;
/// The fastest of these is the one that nothing disturbed.
const MEASUREMENTS: usize = 7;

/// What a program of a loop thread does beyond leaving at once, where it reads the memory of its process, in hits of one that leaves.
/// Measured: 73 ns for one that leaves; 460 and 560 ns for the two programs by the kernel's own account
/// (`kernel.bpf_stats_enabled`), to which the way to them comes.
const READING: f64 = 8.0;

/// A service has other things in its caches than a loop that does nothing but hit a probe. Measured on a server that renders a page:
/// 1.35 µs for a hit that takes 0.55 µs in such a loop.
const IN_A_SERVICE: f64 = 2.5;

/// Measures all. What cannot be measured is assumed, and the log says so.
pub fn measure(kernel: &mut Kernel, procfs: &Procfs) -> Costs {
    let told = |measured: Result<f64, String>, assumed_ns: f64, what| match measured {
        Ok(ns) => {
            tracing::info!(what, ns, "a hit of a probe was measured");
            ns
        }
        Err(reason) => {
            tracing::warn!(what, assumed_ns, reason, "the cost of a probe cannot be measured; it is assumed");
            assumed_ns
        }
    };
    let hit = |kernel: &mut Kernel, function: unsafe extern "C" fn()| {
        hit_ns(kernel, procfs, function).map(|ns| IN_A_SERVICE * ns)
    };
    let emulated = hit(kernel, nodeprobe_calibrate_emulated);
    let stepped = hit(kernel, nodeprobe_calibrate_stepped);
    let traced = traced_ns(kernel).map(|ns| READING * ns);
    Costs {
        emulated_ns: told(emulated, Costs::ASSUMED.emulated_ns, "emulated"),
        stepped_ns: told(stepped, Costs::ASSUMED.stepped_ns, "executed out of line"),
        traced_ns: told(traced, Costs::ASSUMED.traced_ns, "tracepoint"),
    }
}

/// By reading nothing from a device that has nothing.
fn traced_ns(kernel: &mut Kernel) -> Result<f64, String> {
    let mut nothing = File::open("/dev/null").map_err(|error| error.to_string())?;
    let mut read = || {
        // Neither what it reads nor whether it can is of interest.
        drop(nothing.read(&mut [0]));
    };
    let without_ns = fastest_ns(&mut read);
    let attached = kernel.attach_async_context()?;
    let with_ns = fastest_ns(&mut read);
    attached.detach_aside().wait();
    if with_ns <= without_ns { Err("it was not hit".to_owned()) } else { Ok(with_ns - without_ns) }
}

fn hit_ns(kernel: &mut Kernel, procfs: &Procfs, function: unsafe extern "C" fn()) -> Result<f64, String> {
    let pid = std::process::id();
    let address = function as usize as u64;
    let mappings = procfs.process(pid).and_then(|process| {
        process.mappings(|mapping| mapping.executable && mapping.range.contains(&address))
    });
    let mapping = mappings.map_err(|error| error.to_string())?.pop().ok_or("our own code is not mapped")?;
    let file = File::open("/proc/self/exe").map_err(|error| error.to_string())?;
    let target = HookTarget {
        program: "calibration",
        file_offset: address - mapping.range.start + mapping.offset_bytes,
        cookie: None,
    };
    // SAFETY: the functions above return at once and keep to the calling convention.
    let mut call = || unsafe { function() };
    let without_ns = fastest_ns(&mut call);
    let (attached, mut failed) =
        kernel.attach_process(&file, [target], NonZeroU32::new(pid).ok_or("no process id")?);
    if let Some((_, reason)) = failed.pop() {
        return Err(reason);
    }
    let with_ns = fastest_ns(&mut call);
    drop(attached);
    if with_ns <= 2.0 * without_ns { Err("it was not hit".to_owned()) } else { Ok(with_ns - without_ns) }
}

/// Of one call.
fn fastest_ns(call: &mut impl FnMut()) -> f64 {
    let measurements = (0..MEASUREMENTS).map(|_| {
        let begin = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        begin.elapsed().as_nanos() as f64 / f64::from(CALLS)
    });
    measurements.fold(f64::MAX, f64::min)
}

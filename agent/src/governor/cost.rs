//! What one hit of a probe costs on this host, measured when the agent starts.
//!
//! A hit is a trap, the kernel's way to the program, the program, and the instruction that the probe replaced: emulated, or
//! executed out of line with a second trap. The latter differs tenfold between machines (virtual ones are slow at it), so it
//! is measured with both kinds of instruction, on two functions of our own that do nothing.

use std::{fs::File, num::NonZeroU32, time::Instant};

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
}

impl Costs {
    /// Where it cannot be measured: more than was measured on any machine.
    const ASSUMED: Self = Self { emulated_ns: 3_000.0, stepped_ns: 20_000.0 };

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

/// Measures both. What cannot be measured is assumed, and the log says so.
pub fn measure(kernel: &mut Kernel, procfs: &Procfs) -> Costs {
    let mut measure = |function, assumed_ns, what| match hit_ns(kernel, procfs, function) {
        Ok(ns) => {
            tracing::info!(what, ns, "a hit of a probe was measured");
            ns
        }
        Err(reason) => {
            tracing::warn!(what, assumed_ns, reason, "the cost of a probe cannot be measured; it is assumed");
            assumed_ns
        }
    };
    Costs {
        emulated_ns: measure(nodeprobe_calibrate_emulated, Costs::ASSUMED.emulated_ns, "emulated"),
        stepped_ns: measure(nodeprobe_calibrate_stepped, Costs::ASSUMED.stepped_ns, "executed out of line"),
    }
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
    let without_ns = fastest_ns(function);
    let (attached, mut failed) =
        kernel.attach_process(&file, [target], NonZeroU32::new(pid).ok_or("no process id")?);
    if let Some((_, reason)) = failed.pop() {
        return Err(reason);
    }
    let with_ns = fastest_ns(function);
    // Taking it out waits for the kernel, and nothing depends on it.
    drop(std::thread::Builder::new().spawn(move || drop(attached)));
    if with_ns <= 2.0 * without_ns { Err("it was not hit".to_owned()) } else { Ok(with_ns - without_ns) }
}

/// Of one call.
fn fastest_ns(function: unsafe extern "C" fn()) -> f64 {
    let measurements = (0..MEASUREMENTS).map(|_| {
        let begin = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: the function above returns at once and keeps to the calling convention.
            unsafe { function() };
        }
        begin.elapsed().as_nanos() as f64 / f64::from(CALLS)
    });
    measurements.fold(f64::MAX, f64::min)
}

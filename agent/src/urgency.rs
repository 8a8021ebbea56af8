//! When the threads of the agent get a processor: the reader of the ring buffer at once, because it has next to nothing to do;
//! decoding when nobody else wants one, because it comes in bursts that a busy service would feel in its latency. But when a
//! promise was rejected, decoding has to hurry: if the process dies of it, what its stacks mean is gone within 1 to 10 ms, and a
//! thread that is woken on the processor of one that runs may wait for 4 ms there (measured on Linux 6.18).

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Of decoding, which takes 0.1 ms a stack: among threads that want a processor it gets a third of what each other gets. Less
/// would let it sit on the collector's lock for long.
const DECODER_NICE: i32 = 5;
/// The shortest slice that the kernel takes. Since Linux 6.12 a thread with a shorter one takes the processor from whoever runs
/// when it is woken, and uses no more of it in all; earlier kernels ignore it.
const SHORT_SLICE_NS: u64 = 100_000;

/// How urgent decoding is.
#[derive(Debug, Default)]
pub struct Urgency {
    /// Of the thread that decodes; 0: it has not begun.
    tid: AtomicI32,
    /// What has been handed to it and is not decoded yet.
    urgent: AtomicUsize,
}

impl Urgency {
    /// To be called by the thread that decodes.
    pub fn begin(&self) {
        // SAFETY: takes nothing and cannot fail.
        self.tid.store(unsafe { libc::gettid() }, Ordering::Relaxed);
        set(0, libc::SCHED_BATCH, decoder_nice(), 0);
    }

    /// What is handed to the decoder next cannot wait.
    pub fn hurry(&self) {
        let tid = self.tid.load(Ordering::Relaxed);
        if self.urgent.fetch_add(1, Ordering::Relaxed) == 0 && tid != 0 {
            set(tid, libc::SCHED_OTHER, decoder_nice(), SHORT_SLICE_NS);
        }
    }

    /// To be called by the thread that decodes when it has decoded one that was urgent.
    pub fn relax(&self) {
        if self.urgent.fetch_sub(1, Ordering::Relaxed) == 1 {
            set(0, libc::SCHED_BATCH, decoder_nice(), 0);
        }
    }
}

/// Makes the present thread one that gets a processor as soon as it wants one.
pub fn prompt() {
    set(0, libc::SCHED_OTHER, nice(), SHORT_SLICE_NS);
}

/// The niceness of the present thread, which the user may have chosen.
fn nice() -> i32 {
    // SAFETY: takes numbers and reads; 0 is the present thread.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Neither the ring buffer's thread nor the decoder is ever made less nice than the user wanted.
fn decoder_nice() -> i32 {
    nice().max(DECODER_NICE)
}

/// Sets the policy of a thread (0: the present one). A refusal leaves things as they were: then samples wait, and nothing breaks.
fn set(tid: i32, policy: i32, nice: i32, slice_ns: u64) {
    let attributes = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: policy.unsigned_abs(),
        nice,
        runtime_ns: slice_ns,
        ..SchedAttr::default()
    };
    // SAFETY: the kernel reads `size` bytes of a valid struct and changes no memory of ours.
    unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attributes, 0) };
}

/// `struct sched_attr` of `linux/sched/types.h`, its first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: takes a number; 0 is the present thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn decoding_waits_for_others_but_for_what_is_urgent() {
        std::thread::spawn(|| {
            let urgency = Urgency::default();
            urgency.begin();
            assert_eq!(policy(), libc::SCHED_BATCH);
            urgency.hurry();
            urgency.hurry();
            urgency.relax();
            assert_eq!(policy(), libc::SCHED_OTHER);
            urgency.relax();
            assert_eq!(policy(), libc::SCHED_BATCH);
        })
        .join()
        .unwrap();
    }
}

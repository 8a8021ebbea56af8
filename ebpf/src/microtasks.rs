//! Drains of the microtask queue: how long V8 runs promise continuations without a look at anything else.
//!
//! Two hits for every drain, some per request, so these programs are attached in windows; see `duty`.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use nodeprobe_ebpf::{duty_record::DUTY_MICROTASKS, histogram::DRAIN_BOUNDS_NS};

use crate::{duty, maps, target};

/// `v8::internal::Execution::TryRunMicrotasks`, which `MicrotaskQueue::RunMicrotasks` calls unless the queue is empty.
#[uprobe]
pub(crate) fn drain_begin(_ctx: ProbeContext) -> u32 {
    let Some(window) = duty::window(DUTY_MICROTASKS) else { return 0 };
    if let Some(thread) = target::current() {
        thread.drain_window = window;
        thread.drain_since_ns = target::now_ns();
    }
    0
}

/// What `RunMicrotasks` calls at its end, whether the queue was empty or not.
#[uprobe]
pub(crate) fn drain_end(_ctx: ProbeContext) -> u32 {
    let Some(window) = duty::window(DUTY_MICROTASKS) else { return 0 };
    let Some(thread) = target::current() else { return 0 };
    let since_ns = thread.drain_since_ns;
    if since_ns == 0 {
        return 0;
    }
    thread.drain_since_ns = 0;
    if thread.drain_window != window {
        // It began in another window, and this is not its end.
        return 0;
    }
    let duration_ns = target::now_ns() - since_ns;
    let epoch = maps::epoch();
    target::begin_change(&mut thread.seq_end);
    thread.drains.record(duration_ns, &DRAIN_BOUNDS_NS, epoch);
    target::end_change(&mut thread.seq_begin, thread.seq_end);
    0
}

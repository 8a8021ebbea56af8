//! The only file that touches the ring buffer and the loss counters.

use nodeprobe_ebpf::{DropReason, Event, EventKind, ThreadRecord, event::EVENT_VALUES};

use crate::maps::{DROPS, EVENTS};

/// Counts one loss.
#[inline(always)]
pub(crate) fn lost(reason: DropReason) {
    if let Some(counter) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: the slot belongs to this CPU, and tracing programs do not nest on one CPU while it is held.
        unsafe { *counter += 1 };
    }
}

/// Sends one event, or counts that it could not be sent.
#[inline(always)]
pub(crate) fn send(event: &Event) {
    if EVENTS.output::<Event>(event, 0).is_err() {
        lost(DropReason::RingFull);
    }
}

/// An event about a loop thread that took no time.
#[inline(always)]
pub(crate) fn thread_event(kind: EventKind, thread: &ThreadRecord, now_ns: u64) {
    send(&Event {
        kind: kind as u32,
        detail: thread.kind,
        tgid: thread.tgid,
        tid: thread.tid,
        start_ns: now_ns,
        duration_ns: 0,
        values: [0; EVENT_VALUES],
    });
}

//! The only file that touches the ring buffer and the loss counters.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ringbuf_output,
};
use nodeprobe_ebpf::{DropReason, Event, EventKind, ThreadRecord, event::EVENT_VALUES};

use crate::{
    counter,
    maps::{DROPS, EVENTS, EVENTS_BYTES},
};

const EXEC: u32 = EventKind::Exec as u32;
const THREAD_START: u32 = EventKind::ThreadStart as u32;
const SLEPT: u32 = EventKind::Slept as u32;
const UNCAUGHT: u32 = EventKind::Uncaught as u32;
const HEAP_LIMIT: u32 = EventKind::HeapLimit as u32;

/// Counts one loss.
#[inline(always)]
pub(crate) fn lost(reason: DropReason) {
    if let Some(counter) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: a valid map value. The slot belongs to this processor, but a waking that is told in an interrupt may count here
        // in the middle of another program.
        counter::add(unsafe { &mut *counter }, 1);
    }
}

/// Sends one event, or counts that it could not be sent.
#[inline(always)]
pub(crate) fn send(event: &Event) {
    // The kernel wakes a reader only for a record that is the first unread one, and samples before it may have woken nobody.
    // A process that is announced late may have ended, and one that is about to die takes with it what its stacks mean; the end
    // of a sleep can wait for the end of its stall.
    let wake = match event.kind {
        EXEC | THREAD_START | UNCAUGHT | HEAP_LIMIT => BPF_RB_FORCE_WAKEUP,
        SLEPT => BPF_RB_NO_WAKEUP,
        _ => 0,
    };
    if EVENTS.output::<Event>(event, wake.into()).is_err() {
        lost(DropReason::RingFull);
    }
}

/// Sends `len` bytes of a sample. `false`: the ring buffer is half full. The other half is for events, which are few and each
/// worth more.
#[inline(always)]
pub(crate) fn send_sample(record: *const u8, len: u64, flags: u64) -> bool {
    if EVENTS.query(BPF_RB_AVAIL_DATA.into()) > EVENTS_BYTES as u64 / 2 {
        return false;
    }
    let ring = core::ptr::addr_of!(EVENTS).cast_mut().cast();
    // SAFETY: the map's own definition, which `RingBuf` is a transparent wrapper of; `record` holds `len` bytes, which the
    // verifier checks.
    unsafe { bpf_ringbuf_output(ring, record.cast_mut().cast(), len, flags) == 0 }
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

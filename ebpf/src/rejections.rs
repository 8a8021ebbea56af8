//! Promises that are rejected while nobody handles them, exceptions that nobody catches, and a heap at its limit.
//!
//! V8 tells Node of every rejection without a handler, and again when a handler comes: `await` in a `try` block does both
//! within microseconds. Node tells of what has no handler when a callback and its microtasks are done, and clears a note then that
//! it has set at the rejection. So what is open when the note is found cleared counts, and what is left at the end of the turn.
//!
//! Limits: a handler that the listener to `unhandledRejection` itself adds comes while the note is set, and looks like one in time.
//! So does one in a later callback of the same turn where the place of the note is not known: on aarch64, and in the millisecond
//! after the first rejection of a thread.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_probe_read_user,
    macros::{map, uprobe},
    maps::HashMap,
    programs::ProbeContext,
};
use nodeprobe_ebpf::{
    Event, EventKind, RejectionRecord, ThreadRecord,
    event::{EVENT_VALUES, HEAP_NEAR_LIMIT, HEAP_OUT_OF_MEMORY},
    sample::SAMPLE_REJECTION,
    thread::REJECTED_SLOTS,
};

use crate::{
    emit,
    registers::{self, Registers},
    sampler, target,
};

/// Values of `v8::PromiseRejectEvent`.
const REJECT_WITH_NO_HANDLER: u32 = 0;
const HANDLER_ADDED_AFTER_REJECT: u32 = 1;

/// So many stacks of rejections are taken in this time per thread: what a `try` block catches comes by here as well, and of a
/// chain of promises that fails it is often the last one that nobody handles.
const SAMPLE_INTERVAL_NS: u64 = 20_000_000;
const SAMPLE_BURST: u32 = 8;
/// Two attachments to one file run one after the other within this time. No two calls of these functions come so close: the
/// trap alone takes longer.
const REPEAT_NS: u64 = 700;

/// By thread. The agent sets the size, and removes those of threads that have ended.
#[map]
static REJECTIONS: HashMap<u32, RejectionRecord> = HashMap::with_max_entries(1024, 0);

/// Whether the hit at `sp` has been dealt with by an earlier attachment to the same place.
#[inline(always)]
pub(crate) fn is_repeat(thread: &ThreadRecord, sp: u64) -> bool {
    thread.hit_sp == sp && target::now_ns() - thread.hit_ns < REPEAT_NS
}

/// To be called last: see [`is_repeat`].
#[inline(always)]
pub(crate) fn dealt_with(thread: &mut ThreadRecord, sp: u64) {
    thread.hit_sp = sp;
    thread.hit_ns = target::now_ns();
}

/// `node::PromiseRejectCallback(v8::PromiseRejectMessage)`: a struct of promise, event and value by value, on x86-64 above
/// the return address, elsewhere behind the pointer in the first register.
#[uprobe]
pub(crate) fn promise_reject(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let registers = registers::of_probe(&ctx);
    let sp = registers.sp;
    if is_repeat(thread, sp) {
        return 0;
    }
    // SAFETY: the helper checks the address.
    let read = unsafe { bpf_probe_read_user(message(&ctx, sp) as *const [u64; 2]) };
    let Ok([handle, event]) = read else { return 0 };
    // SAFETY: as above. A handle points to where the collector keeps the promise's address.
    let promise = unsafe { bpf_probe_read_user(handle as *const u64) }.unwrap_or(0);
    let note = note(thread, sp);
    if thread.rejected_open != 0 && is_cleared(note) {
        target::begin_change(&mut thread.seq_end);
        count_unhandled(thread);
        target::end_change(&mut thread.seq_begin, thread.seq_end);
    }
    match event as u32 {
        REJECT_WITH_NO_HANDLER => rejected(thread, registers, promise),
        HANDLER_ADDED_AFTER_REJECT => handled(thread, promise),
        _ => {}
    }
    dealt_with(thread, sp);
    0
}

/// Where the `PromiseRejectMessage` is.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn message(_ctx: &ProbeContext, sp: u64) -> u64 {
    sp.wrapping_add(8)
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn message(ctx: &ProbeContext, _sp: u64) -> u64 {
    ctx.arg::<u64>(0).unwrap_or(0)
}

/// Where Node's note is; 0 = not known yet. The first time the agent is asked for it.
#[inline(always)]
fn note(thread: &ThreadRecord, sp: u64) -> u64 {
    if let Some(record) = REJECTIONS.get_ptr_mut(thread.tid) {
        // SAFETY: valid while the program runs (RCU); its thread alone writes it until the agent has completed it.
        let record = unsafe { &mut *record };
        if record.observed_ns == thread.observed_ns {
            if record.note == 0 && sp > record.sp {
                // The nearer to the loop, the better.
                record.sp = sp;
            }
            return record.note;
        }
    }
    let record =
        RejectionRecord { tgid: thread.tgid, padding: 0, observed_ns: thread.observed_ns, sp, note: 0 };
    // There are as many places as for threads.
    REJECTIONS.insert(thread.tid, record, 0).ok();
    0
}

#[inline(always)]
fn is_cleared(note: u64) -> bool {
    // SAFETY: the helper checks the address.
    note != 0 && unsafe { bpf_probe_read_user(note as *const u8) } == Ok(0)
}

#[inline(always)]
fn rejected(thread: &mut ThreadRecord, registers: Registers, promise: u64) {
    if thread.rejected_open == 0 {
        // Of an earlier turn.
        thread.rejected_moved = 0;
    }
    thread.rejected_open += 1;
    let mut slot = -1;
    for index in 0..REJECTED_SLOTS {
        if slot < 0 && thread.rejected[index] == 0 && promise != 0 {
            thread.rejected[index] = promise;
            slot = index as i32;
        }
    }
    let now = target::now_ns();
    if now - thread.rejection_sample_ns >= SAMPLE_INTERVAL_NS {
        thread.rejection_sample_ns = now;
        thread.rejection_samples = 0;
    }
    if thread.rejection_samples < SAMPLE_BURST {
        thread.rejection_samples += 1;
        // The process may die of it, within a millisecond: the agent is woken for the first one of a burst.
        let wake = if thread.rejection_samples == 1 { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
        if sampler::occasion(thread, registers, SAMPLE_REJECTION, now, slot, wake) && slot >= 0 {
            thread.rejected_sampled |= 1 << (slot & 31);
        }
    }
}

#[inline(always)]
fn handled(thread: &mut ThreadRecord, promise: u64) {
    let (mut found, mut some, mut with_slot) = (false, REJECTED_SLOTS, 0);
    for index in 0..REJECTED_SLOTS {
        if thread.rejected[index] != 0 {
            with_slot += 1;
            if thread.rejected[index] == promise && !found {
                free(thread, index);
                found = true;
            } else {
                some = index;
            }
        }
    }
    if !found && thread.rejected_open <= with_slot {
        if thread.rejected_moved == 0 || some >= REJECTED_SLOTS {
            thread.rejections_handled_late += 1;
            return;
        }
        free(thread, some);
    }
    // It is the one that was found, or one without a slot, or some one whose address has changed.
    thread.rejected_open -= 1;
}

#[inline(always)]
fn free(thread: &mut ThreadRecord, slot: usize) {
    thread.rejected[slot] = 0;
    thread.rejected_sampled &= !(1 << slot);
}

/// Node has told of what is open, or the turn ends; the caller has opened the change.
#[inline(always)]
pub(crate) fn count_unhandled(thread: &mut ThreadRecord) {
    let count = thread.rejected_open;
    if count == 0 {
        return;
    }
    thread.rejected_open = 0;
    let mut slots = 0;
    for index in 0..REJECTED_SLOTS {
        if thread.rejected[index] != 0 {
            thread.rejected[index] = 0;
            slots |= 1 << index;
        }
    }
    // Of a slot without its own sample an earlier promise's may be known.
    let unsampled = slots & !u64::from(thread.rejected_sampled);
    thread.rejected_sampled = 0;
    thread.rejections += u64::from(count);
    let mut values = [0; EVENT_VALUES];
    values[0] = slots & !unsampled;
    values[1] = unsampled.count_ones().into();
    tell(thread, EventKind::Rejected, count, thread.since_ns, values);
}

/// `node::errors::TriggerUncaughtException(Isolate*, Local<Value>, Local<Message>, bool from_promise)`.
#[uprobe]
pub(crate) fn uncaught_exception(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let sp = registers::of_probe(&ctx).sp;
    if !is_repeat(thread, sp) {
        let from_promise = ctx.arg::<u64>(3).unwrap_or(0) as u32 & 1;
        tell(thread, EventKind::Uncaught, from_promise, target::now_ns(), [0; EVENT_VALUES]);
        dealt_with(thread, sp);
    }
    0
}

/// `node::OOMErrorHandler`.
#[uprobe]
pub(crate) fn out_of_memory(_ctx: ProbeContext) -> u32 {
    heap_limit(HEAP_OUT_OF_MEMORY)
}

/// `v8::internal::Heap::InvokeNearHeapLimitCallback`.
#[uprobe]
pub(crate) fn near_heap_limit(_ctx: ProbeContext) -> u32 {
    heap_limit(HEAP_NEAR_LIMIT)
}

#[inline(always)]
fn heap_limit(detail: u32) -> u32 {
    if let Some(thread) = target::current() {
        tell(thread, EventKind::HeapLimit, detail, target::now_ns(), [0; EVENT_VALUES]);
    }
    0
}

#[inline(always)]
fn tell(thread: &ThreadRecord, kind: EventKind, detail: u32, start_ns: u64, values: [u64; EVENT_VALUES]) {
    emit::send(&Event {
        kind: kind as u32,
        detail,
        tgid: thread.tgid,
        tid: thread.tid,
        start_ns,
        duration_ns: 0,
        values,
    });
}

//! Promises that are rejected while nobody handles them, exceptions that nobody catches, and a heap at its limit.
//!
//! V8 tells Node of every rejection without a handler, and again when a handler comes: `await` in a `try` block does both
//! within microseconds. Node tells of what has no handler when a callback and its microtasks are done, and clears a note then that
//! it has set at the rejection. So what is open when the note is found cleared counts, and what is left at the end of the turn.
//!
//! Near the end of the stack Node fails to set the note, says so, and never tells of that promise: it is taken back.
//!
//! Limits: a handler that the listener to `unhandledRejection` adds, itself or in what it puts off to a tick or a microtask, comes
//! while the note is set, and looks like one in time. So does one in a later callback of the same turn where the place of the note is
//! not known (yet), or was not seen set before.

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
    thread::{REJECTED_NOT, REJECTED_SLOTS, REJECTED_WITHOUT_SLOT},
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
/// The frame of `PromiseRejectCallback` and the call from there are smaller by far.
const CALLEE_BYTES: u64 = 4096;

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
    let has_told = has_told(thread, sp);
    if thread.rejected_open != 0 && has_told {
        target::begin_change(&mut thread.seq_end);
        count_unhandled(thread);
        target::end_change(&mut thread.seq_begin, thread.seq_end);
    }
    (thread.rejected_sp, thread.rejected_last) = (sp, REJECTED_NOT);
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

/// Whether Node's note is clear: then it has told of what is open. The first time the agent is asked where the note is.
#[inline(always)]
fn has_told(thread: &ThreadRecord, sp: u64) -> bool {
    if let Some(record) = REJECTIONS.get_ptr_mut(thread.tid) {
        // SAFETY: valid while the program runs (RCU); its thread alone writes it, but for the agent that completes it.
        let record = unsafe { &mut *record };
        if record.observed_ns == thread.observed_ns {
            if record.note == 0 {
                // The nearer to the loop, the better.
                record.sp = if sp > record.sp { sp } else { record.sp };
                return false;
            }
            // SAFETY: the helper checks the address.
            let note = unsafe { bpf_probe_read_user(record.note as *const u8) };
            if note != Ok(0) {
                record.was_set |= u32::from(note.is_ok() && thread.rejected_open != 0);
                return false;
            }
            // What was found on the stack may be of an environment that is gone, or of another thread: one that stays clear would
            // tell of each rejection that it is unhandled.
            return record.was_set != 0;
        }
    }
    let record =
        RejectionRecord { tgid: thread.tgid, was_set: 0, observed_ns: thread.observed_ns, sp, note: 0 };
    // Where it does not fit the end of the turn decides.
    REJECTIONS.insert(thread.tid, record, 0).ok();
    false
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
    thread.rejected_last = if slot < 0 { REJECTED_WITHOUT_SLOT } else { slot };
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
            if thread.rejected_untold != 0 {
                thread.rejected_untold -= 1;
            } else {
                thread.rejections_handled_late += 1;
            }
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

/// `node::PrintCaughtException`, which `PromiseRejectCallback` calls where JavaScript could not be told: Node knows nothing of that
/// rejection, and will not of its handler.
#[uprobe]
pub(crate) fn reject_failed(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let (sp, last) = (registers::of_probe(&ctx).sp, thread.rejected_last);
    // Others call it, too.
    if last == REJECTED_NOT || thread.rejected_sp.wrapping_sub(sp) > CALLEE_BYTES {
        return 0;
    }
    thread.rejected_last = REJECTED_NOT;
    if thread.rejected_open != 0 {
        thread.rejected_open -= 1;
        thread.rejected_untold += 1;
        if last >= 0 {
            free(thread, last as usize & (REJECTED_SLOTS - 1));
        }
    }
    0
}

/// The turn ends; the caller has opened the change.
#[inline(always)]
pub(crate) fn end_turn(thread: &mut ThreadRecord) {
    if thread.rejected_untold != 0 {
        thread.rejected_untold = 0;
    }
    count_unhandled(thread);
}

/// Node has told of what is open, or does so now; the caller has opened the change.
#[inline(always)]
fn count_unhandled(thread: &mut ThreadRecord) {
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

//! GC pauses: from the entry of `Heap::CollectGarbage` to where V8 stops its own clock, or to the `ret` where that place is
//! not known: the time for which JavaScript stands still.
//! Steps of incremental marking are work between pauses and are not counted.
//!
//! No uretprobe: they killed processes under seccomp on kernels 6.11 to 6.13. The function is rare, so its return
//! instructions carry plain uprobes; the agent finds them by decoding.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{
        bpf_probe_read_user,
        generated::{bpf_get_attach_cookie, bpf_get_prandom_u32},
    },
    macros::uprobe,
    programs::ProbeContext,
};
use nodeprobe_ebpf::{
    DropReason, Event, EventKind, ThreadRecord,
    duty_record::DUTY_PAGES,
    event::EVENT_VALUES,
    gc_stop,
    histogram::GC_BOUNDS_NS,
    part::PART_GC,
    sample::SAMPLE_ALLOCATION,
    thread::{FLAG_FROM_START, GC_KINDS, GC_MAJOR, GC_MINOR, GC_UNKNOWN, KIND_MAIN},
};

use crate::{duty, emit, maps, registers, sampler, sched, target};

/// Who allocates is sampled when a page of the young generation is full, some 20 times a second and thread. A busy HTTP server
/// fills hundreds of pages a second, and each stack takes the agent 0.1 ms. Each page has the same chance and the sample the weight
/// of all it stands for: at most one in a time would always show who allocates first in a turn.
const ALLOCATION_SAMPLE_INTERVAL_NS: u64 = 50_000_000;
const ALLOCATION_STRIDE_MAX: u32 = 4096;

/// `AllocationSpace` from V8 11 on. The agent relies on it only there; before, the numbers were others.
const NEW_SPACE: u32 = 1;

#[inline(always)]
fn stack_pointer(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context of a uprobe is the register set of the probed thread.
    let registers = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "x86_64")]
    return registers.rsp;
    #[cfg(bpf_target_arch = "aarch64")]
    return registers.sp;
}

/// `Heap::CollectGarbage(Heap*, AllocationSpace, GarbageCollectionReason, ...)`.
#[uprobe]
pub(crate) fn gc_start(ctx: ProbeContext) -> u32 {
    let thread = match target::current() {
        Some(thread) => thread,
        // Addons run isolates on threads of their own, which have no loop; a worker is known from `Worker::Run`.
        None if target::kind_of_current() != KIND_MAIN => return 0,
        None => match target::observe_current(FLAG_FROM_START) {
            Some(thread) => thread,
            None => return 0,
        },
    };
    let sp = stack_pointer(&ctx);
    if thread.gc_active != 0 {
        if sp <= thread.gc_sp {
            // A call from inside the collection (deeper in the stack), or the same hit once more.
            if sp != thread.gc_begin_sp {
                thread.gc_begin_sp = sp;
                thread.gc_depth += 1;
                thread.gc_stop_sp = 0;
            }
            return 0;
        }
        // Higher in the stack than the open one: that frame is gone and its end was not seen.
        abandon(thread);
    }
    thread.gc_active = 1;
    thread.gc_depth = 0;
    thread.gc_sp = sp;
    thread.gc_begin_sp = sp;
    thread.gc_stop_sp = 0;
    thread.gc_kind = GC_UNKNOWN;
    thread.gc_space = ctx.arg::<u64>(1).unwrap_or(0) as u32 & 0xff;
    thread.gc_before_bytes = 0;
    thread.gc_after_bytes = 0;
    if !duty::is_open(DUTY_PAGES) {
        // Pages are looked at in windows only, and stripped builds do not tell of them.
        sample_allocation(&ctx, thread);
    }
    // What the sample took is no time of V8.
    thread.gc_opened_ns = sched::open_bracket(thread, PART_GC);
    thread.gc_start_ns = target::now_ns();
    0
}

/// `EnsureAllocation` of the young generation: what was set aside for allocating is used up, mostly a page of 256 KiB. The
/// begins of collections alone would not do: V8 mostly collects in a task of its own, before the generation is full, and who
/// allocated does not stand on the stack then.
///
/// Attached in windows, see `duty`: a server that renders pages used up 6,600 a second (1.7 GB), which took it 1.1 % of a processor.
#[uprobe]
pub(crate) fn new_page(ctx: ProbeContext) -> u32 {
    if duty::window(DUTY_PAGES).is_none() {
        return 0;
    }
    // Survivors of a collection fill pages, too.
    if let Some(thread) = target::current()
        && thread.gc_active == 0
    {
        // Since V8 12 a collection leaves nothing that is set aside, so whoever allocates first after it comes here, having used
        // up nothing: in a young generation of 2 MiB that was a tenth of all stacks. Before, one page in a collection is lost.
        if core::mem::take(&mut thread.allocation_begins) == 0 {
            sample_allocation(&ctx, thread);
        }
    }
    0
}

#[inline(always)]
fn sample_allocation(ctx: &ProbeContext, thread: &mut ThreadRecord) {
    let stride = if thread.allocation_stride == 0 { 1 } else { thread.allocation_stride };
    // SAFETY: the helper takes nothing and cannot fail.
    let is_drawn = unsafe { bpf_get_prandom_u32() } % stride == 0;
    let now = target::now_ns();
    let since_ns = now - thread.allocation_sample_ns;
    if !is_drawn {
        // Step by step, once in such a time: a stride that falls within one turn gives its last pages all the weight.
        if since_ns > 2 * ALLOCATION_SAMPLE_INTERVAL_NS {
            thread.allocation_sample_ns = now;
            thread.allocation_stride = stride / 2;
        }
        return;
    }
    thread.allocation_sample_ns = now;
    // The chance of a page depends on those before it only, so the weights come out right whatever the stride.
    if since_ns < ALLOCATION_SAMPLE_INTERVAL_NS && stride < ALLOCATION_STRIDE_MAX {
        thread.allocation_stride = stride * 2;
    } else if since_ns > 2 * ALLOCATION_SAMPLE_INTERVAL_NS {
        thread.allocation_stride = stride / 2;
    }
    let registers = registers::of_probe(ctx);
    sampler::occasion(thread, registers, SAMPLE_ALLOCATION, now, stride as i32, BPF_RB_NO_WAKEUP);
}

/// `Heap::Scavenge`, and the other young-generation collectors of some versions.
#[uprobe]
pub(crate) fn gc_minor(_ctx: ProbeContext) -> u32 {
    set_kind(GC_MINOR)
}

/// `Heap::MarkCompact`.
#[uprobe]
pub(crate) fn gc_major(_ctx: ProbeContext) -> u32 {
    set_kind(GC_MAJOR)
}

#[inline(always)]
fn set_kind(kind: u32) -> u32 {
    if let Some(thread) = target::current()
        && thread.gc_active != 0
    {
        thread.gc_kind = kind;
    }
    0
}

/// Each `ret` of `Heap::SizeOfObjects`: the first inside a collection is the heap before, the last the heap after.
#[uprobe]
pub(crate) fn heap_size(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let Some(bytes) = return_value(&ctx) else { return 0 };
    if thread.gc_active != 0 {
        if thread.gc_before_bytes == 0 {
            thread.gc_before_bytes = bytes;
        }
        thread.gc_after_bytes = bytes;
    } else {
        thread.heap_used_bytes = bytes;
    }
    0
}

#[inline(always)]
fn return_value(ctx: &ProbeContext) -> Option<u64> {
    // SAFETY: as in `stack_pointer`.
    let registers = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "x86_64")]
    return Some(registers.rax);
    #[cfg(bpf_target_arch = "aarch64")]
    return Some(registers.regs[0]);
}

/// Each way out of `Heap::CollectGarbage`.
#[uprobe]
pub(crate) fn gc_end(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    if thread.gc_active == 0 || stack_pointer(&ctx) != thread.gc_sp {
        return 0;
    }
    thread.gc_active = 0;
    let duration_ns = target::now_ns() - thread.gc_start_ns;
    finish(thread, kind_of(thread), duration_ns);
    0
}

/// Entry of `GCTracer::StopObservablePause(GCTracer*, ...)`: V8 has noted both heap sizes in its tracer by now. One
/// emulated instruction, where the returns of `SizeOfObjects` and `CollectGarbage` are three that are not: 1.5 µs in
/// place of some 35, in pauses of which the shortest take 100.
#[uprobe]
pub(crate) fn gc_stop(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let sp = stack_pointer(&ctx);
    if thread.gc_active == 0 || sp == thread.gc_stop_sp {
        return 0;
    }
    thread.gc_stop_sp = sp;
    if thread.gc_depth > 0 {
        // V8 collects again while it prepares a collection: one pause, which goes on.
        thread.gc_depth -= 1;
        return 0;
    }
    let now = target::now_ns();
    // SAFETY: the helper only reads the context of this very program.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    if cookie & gc_stop::KIND_IN_ARGUMENT != 0 {
        thread.gc_kind = gc_stop::kind(ctx.arg::<u64>(1).unwrap_or(0));
    }
    // Else the returns of `SizeOfObjects` told them, the last of which was in `StopInSafepoint`, before.
    if let Some((before, after)) = gc_stop::offsets(cookie) {
        let tracer = ctx.arg::<u64>(0).unwrap_or(0);
        thread.gc_before_bytes = tracer_field(tracer, before);
        thread.gc_after_bytes = tracer_field(tracer, after);
    }
    thread.gc_active = 0;
    let duration_ns = now - thread.gc_start_ns;
    finish(thread, kind_of(thread), duration_ns);
    0
}

/// 0 = not known, as everywhere in the record.
#[inline(always)]
fn tracer_field(tracer: u64, offset: u16) -> u64 {
    let field = (tracer as usize).wrapping_add(offset.into()) as *const u64;
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(field) }.unwrap_or(0)
}

/// A collection whose end was not seen ends with its turn at the latest: nothing is known of it.
#[inline(always)]
pub(crate) fn abandon(thread: &mut ThreadRecord) {
    if thread.gc_active != 0 {
        thread.gc_active = 0;
        thread.collected_to_bytes = 0;
        emit::lost(DropReason::GcUnmatched);
    }
}

#[inline(always)]
fn kind_of(thread: &ThreadRecord) -> u32 {
    match thread.gc_kind {
        GC_UNKNOWN if thread.gc_space == NEW_SPACE => GC_MINOR,
        GC_UNKNOWN => GC_MAJOR,
        kind => kind,
    }
}

#[inline(always)]
fn finish(thread: &mut ThreadRecord, kind: u32, duration_ns: u64) {
    let (before, after) = (thread.gc_before_bytes, thread.gc_after_bytes);
    // Hidden from the optimiser, which knows that the kind is 1 or 2 and would leave out the bound the verifier
    // asks for.
    let index = core::hint::black_box(kind as usize).wrapping_sub(1);
    if index >= GC_KINDS {
        return;
    }
    target::begin_change(&mut thread.seq_end);
    sched::close_bracket(thread, PART_GC, thread.gc_opened_ns, duration_ns);
    thread.gc[index].record(duration_ns, &GC_BOUNDS_NS, maps::epoch());
    thread.last_gc_before_bytes[index] = before;
    thread.last_gc_after_bytes[index] = after;
    thread.last_gc_end_ns[index] = thread.gc_start_ns + duration_ns;
    if before != 0 && thread.collected_to_bytes != 0 {
        // Less is there where V8 has given back what it had not used, or swept in between.
        thread.allocated_bytes += before.saturating_sub(thread.collected_to_bytes);
    }
    thread.collected_to_bytes = after;
    thread.allocation_begins = 1;
    if after != 0 {
        thread.heap_used_bytes = after;
    }
    thread.rejected_moved = 1;
    target::end_change(&mut thread.seq_begin, thread.seq_end);
    if duration_ns >= maps::gc_event_threshold_ns() {
        let mut values = [0; EVENT_VALUES];
        values[0] = before;
        values[1] = after;
        emit::send(&Event {
            kind: EventKind::GcPause as u32,
            detail: kind,
            tgid: thread.tgid,
            tid: thread.tid,
            start_ns: thread.gc_start_ns,
            duration_ns,
            values,
        });
    }
}

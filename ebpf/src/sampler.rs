//! Stacks: of loop threads that run while a turn is under way (`clock` tells when), and of those that fall asleep in one.
//!
//! The registers are those of user space also when the clock ticks inside a system call, so there is one way to begin a
//! walk. What a frame means, user space finds out (`walk`).

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_probe_read_user, generated},
    macros::map,
    maps::PerCpuArray,
};
use nodeprobe_ebpf::{
    DropReason, EventKind, RawFrame, SampleHeader, ThreadRecord,
    part::SYSCALL_UNKNOWN,
    sample::{
        IMAGE_BYTES, IMAGE_FRAMES, PAYLOAD_BYTES, SAMPLE_BLOCKED, SAMPLE_DEOPT, SAMPLE_IN_GC, SAMPLE_IN_WRITE,
    },
    walk::{self, MAX_FRAMES, Memory},
};

use crate::{
    emit, maps,
    registers::{self, Registers},
    target,
};

/// A record under construction; too large for the stack.
#[repr(C)]
struct Scratch {
    header: SampleHeader,
    payload: [u64; PAYLOAD_BYTES / 8],
}

/// One for each processor: of tick, clock and switch none can interrupt another's program there. A switch happens with interrupts off,
/// and never within the program of a tick or a clock, which runs with preemption off; of these two the kernel skips the program that
/// would interrupt the other's (`bpf_prog_active`).
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The agent need not hurry for a sample of a turn that is younger: only a stall is worth waking it for.
const HURRY_NS: u64 = 20_000_000;
/// So many sleeps of a turn are sampled at once: the long one of `execSync` begins right after the short one in which the
/// child is made.
const BLOCKED_BURST: u32 = 16;
/// Further ones are sampled at most this often per thread.
const BLOCKED_INTERVAL_NS: u64 = 1_000_000;

/// As [`Scratch`], for programs of uprobes, which others can interrupt and which need no image.
#[repr(C)]
struct OccasionScratch {
    /// Not 0: in use. One that was interrupted finds another there when it goes on.
    owner: u64,
    header: SampleHeader,
    frames: [u64; MAX_FRAMES * FRAME_WORDS],
}

#[map]
static OCCASION_SCRATCH: PerCpuArray<OccasionScratch> = PerCpuArray::with_max_entries(1, 0);

const FRAME_WORDS: usize = size_of::<RawFrame>() / 8;
const HEADER_BYTES: u64 = size_of::<SampleHeader>() as u64;
const FRAME_BYTES: u64 = size_of::<RawFrame>() as u64;

/// Memory of the current thread.
struct User;

impl Memory for User {
    #[inline(always)]
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        // SAFETY: the helper checks the address, and does not wait for pages that are not there.
        unsafe { bpf_probe_read_user(address as *const [u64; N]) }.ok()
    }
}

/// The current thread falls asleep in a turn at `now_ns`.
#[inline(always)]
pub(crate) fn asleep(thread: &mut ThreadRecord, now_ns: u64) {
    // A collection sleeps often, and each time for its helpers; who allocates, the clock shows.
    if maps::sample_stacks()
        && thread.gc_active == 0
        && (thread.blocked_samples < BLOCKED_BURST
            || now_ns - thread.blocked_sample_ns >= BLOCKED_INTERVAL_NS)
    {
        thread.blocked_samples += 1;
        thread.blocked_sample_ns = now_ns;
        take(thread, SAMPLE_BLOCKED, now_ns, thread.off_cpu_syscall, registers::first_argument() as i32);
    }
}

/// The stack of the current thread where a uprobe hit, because something happened there that is worth a name. `wake`: `BPF_RB_*`.
/// `true`: it is told.
#[inline(always)]
pub(crate) fn occasion(
    thread: &ThreadRecord,
    registers: Registers,
    flags: u32,
    now_ns: u64,
    detail: i32,
    wake: u32,
) -> bool {
    taken_for(thread, registers, (flags, detail, 0), now_ns, wake)
}

/// The same of a function whose optimised code is left at `left_pc`; `kind` is a `DeoptimizeKind`.
#[inline(always)]
pub(crate) fn deopt(
    thread: &ThreadRecord,
    registers: Registers,
    now_ns: u64,
    (kind, left_pc): (u32, u64),
) -> bool {
    taken_for(thread, registers, (SAMPLE_DEOPT, kind as i32, left_pc), now_ns, BPF_RB_NO_WAKEUP)
}

#[inline(always)]
fn taken_for(
    thread: &ThreadRecord,
    registers: Registers,
    (flags, detail, left_pc): (u32, i32, u64),
    now_ns: u64,
    wake: u32,
) -> bool {
    if !maps::sample_stacks() {
        return false;
    }
    let Some(scratch) = OCCASION_SCRATCH.get_ptr_mut(0) else { return false };
    // SAFETY: a valid map value of this processor. Another thread's program may write to it in between, which shows below.
    let scratch = unsafe { &mut *scratch };
    let owner = u64::from(thread.tid) << 32 | now_ns & 0xffff_ffff;
    // SAFETY: plain stores and loads through valid references; volatile, because the compiler knows of no other writer.
    unsafe {
        if core::ptr::read_volatile(&raw const scratch.owner) != 0 {
            // This one has interrupted another, which must not find its frames changed.
            return false;
        }
        core::ptr::write_volatile(&raw mut scratch.owner, owner);
    }
    let Registers { pc, sp, fp } = registers;
    let frames = &mut scratch.frames;
    let count = walk::walk(&User, pc, fp, |index, frame| put(frames, index, frame)).min(MAX_FRAMES);
    scratch.header = SampleHeader {
        kind: EventKind::Sample as u32,
        flags,
        tgid: thread.tgid,
        tid: thread.tid,
        time_ns: now_ns,
        turn_start_ns: thread.since_ns,
        pc,
        sp,
        fp,
        syscall: SYSCALL_UNKNOWN,
        descriptor: detail,
        frames: count as u32,
        image_bytes: 0,
        left_pc,
    };
    // SAFETY: as above.
    let is_whole = unsafe { core::ptr::read_volatile(&raw const scratch.owner) } == owner;
    let bytes = HEADER_BYTES + count as u64 * FRAME_BYTES;
    let record = core::ptr::from_ref(&scratch.header).cast();
    let is_told = is_whole && emit::send_sample(record, bytes, wake.into());
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut scratch.owner, 0) };
    if !is_told {
        emit::lost(DropReason::SampleRingFull);
    }
    is_told
}

#[inline(always)]
fn put<const N: usize>(payload: &mut [u64; N], index: usize, frame: RawFrame) {
    if index < MAX_FRAMES {
        let at = index * FRAME_WORDS;
        payload[at] = frame.pc;
        payload[at + 1] = frame.marker;
        payload[at + 2] = frame.shared[0];
        payload[at + 3] = frame.shared[1];
        payload[at + 4] = frame.bytecode;
        payload[at + 5] = frame.bytecode_offset;
    }
}

/// The stack of the current thread, from where it left user space.
#[inline(always)]
pub(crate) fn take(thread: &ThreadRecord, flags: u32, now_ns: u64, syscall: u32, descriptor: i32) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: a valid map value of this processor alone; see `SCRATCH`.
    let scratch = unsafe { &mut *scratch };
    let (pc, sp, fp) = (registers::pc(), registers::sp(), registers::fp());
    let payload = &mut scratch.payload;
    let mut javascript = false;
    let count = walk::walk(&User, pc, fp, |index, frame| {
        javascript |= frame.may_be_javascript();
        put(payload, index, frame);
    });
    let image_bytes =
        if javascript || count > IMAGE_FRAMES { 0 } else { copy_stack(&mut scratch.payload, sp) };
    let in_gc = if thread.gc_active != 0 { SAMPLE_IN_GC } else { 0 };
    let in_write = if thread.write_start_ns != 0 { SAMPLE_IN_WRITE } else { 0 };
    scratch.header = SampleHeader {
        kind: EventKind::Sample as u32,
        flags: flags | in_gc | in_write,
        tgid: thread.tgid,
        tid: thread.tid,
        time_ns: now_ns,
        turn_start_ns: thread.since_ns,
        pc,
        sp,
        fp,
        syscall,
        descriptor,
        frames: count as u32,
        image_bytes: image_bytes as u32,
        left_pc: 0,
    };
    let payload_bytes = if image_bytes != 0 {
        IMAGE_FRAMES as u64 * FRAME_BYTES + image_bytes
    } else {
        count as u64 * FRAME_BYTES
    };
    if payload_bytes > PAYLOAD_BYTES as u64 {
        return;
    }
    let wake = if now_ns - thread.since_ns < HURRY_NS { u64::from(BPF_RB_NO_WAKEUP) } else { 0 };
    if !emit::send_sample(core::ptr::from_ref(scratch).cast(), HEADER_BYTES + payload_bytes, wake) {
        emit::lost(DropReason::SampleRingFull);
    }
}

/// Copies the stack behind the frames, as much of it as there is; 0 when nothing can be read. A read fails as a whole where
/// the stack ends within, so it is made in pieces: the frames that are looked for may lie in the last one, behind the 12 KiB
/// of events in the frame of `uv__io_poll`.
#[inline(always)]
fn copy_stack(payload: &mut [u64; PAYLOAD_BYTES / 8], sp: u64) -> u64 {
    const PIECE_BYTES: u32 = 4096;
    let mut copied_bytes = 0;
    while copied_bytes <= IMAGE_BYTES as u32 - PIECE_BYTES {
        if !copy_piece(payload, sp, copied_bytes, PIECE_BYTES) {
            break;
        }
        copied_bytes += PIECE_BYTES;
    }
    let mut piece_bytes = PIECE_BYTES / 2;
    for _ in 0..4 {
        if copied_bytes > IMAGE_BYTES as u32 - PIECE_BYTES {
            break;
        }
        if copy_piece(payload, sp, copied_bytes, piece_bytes) {
            copied_bytes += piece_bytes;
        }
        piece_bytes /= 2;
    }
    copied_bytes.into()
}

/// The caller sees to it that the piece fits in.
#[inline(always)]
fn copy_piece(payload: &mut [u64; PAYLOAD_BYTES / 8], sp: u64, at_bytes: u32, len_bytes: u32) -> bool {
    // SAFETY: `IMAGE_BYTES` fit behind the frames; the helper checks the address it reads from.
    unsafe {
        let to =
            payload.as_mut_ptr().cast::<u8>().add(IMAGE_FRAMES * size_of::<RawFrame>() + at_bytes as usize);
        let from = sp.wrapping_add(at_bytes.into()) as *const _;
        generated::bpf_probe_read_user(to.cast(), len_bytes, from) == 0
    }
}

//! libuv's pool of threads: how long work waits there until one of them takes it.
//!
//! Work is handed in on the loop's thread and begun on another one of the process, so both meet in a map; the counters are
//! those of the loop that handed it in. The pool is one queue for all loops of a process.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::{map, uprobe},
    maps::HashMap,
    programs::ProbeContext,
};
use nodeprobe_ebpf::{
    DropReason, PoolThread, PoolWork, PoolWorkKey,
    sample::SAMPLE_POOL,
    thread::{
        LANE_FAST, LANE_SLOW, LANES, POOL_CRYPTO, POOL_DNS, POOL_FS, POOL_KINDS, POOL_OTHER,
        POOL_WAIT_LONG_NS, POOL_ZLIB,
    },
};

use crate::{counter, emit, maps, registers, sampler, target};

/// Work that waits. Cancelled work never begins: the agent removes it, and what a process leaves behind. No LRU map: before Linux
/// 6.17 those give up live entries on hosts with many processors, and always the oldest, which is what begins next.
#[map]
static POOL_WORK: HashMap<PoolWorkKey, PoolWork> = HashMap::with_max_entries(16_384, 0);

/// What each thread of a pool has begun last, by its thread id. The agent removes those of processes that have ended.
#[map]
static POOL_THREADS: HashMap<u32, PoolThread> = HashMap::with_max_entries(4096, 0);

/// So many stacks of who hands in work are taken in this time per thread, and only while work has to wait.
const SAMPLE_INTERVAL_NS: u64 = 50_000_000;
const SAMPLE_BURST: u32 = 8;
/// What waited for less may have found an idle thread, which was busy with nothing before.
const WAITED_NS: u64 = 1_000_000;

/// `UV__WORK_SLOW_IO` of `enum uv__work_kind`.
const UV_WORK_SLOW_IO: u32 = 2;
/// `uv_work_t.work_req`.
const WORK_IN_REQUEST: u64 = 88;
/// `ThreadPoolWork::type_` of Node stands behind the `uv_work_t` that its `uv__work` is the last part of: libuv has had that
/// shape since 1.0, Node that member since 18.9. What stands there in work of addons is no such word.
const WORK_TYPE: u64 = 40;

/// `uv__work_submit(uv_loop_t*, struct uv__work*, enum uv__work_kind, work, done)`, on the loop's thread.
#[uprobe]
pub(crate) fn pool_submit(ctx: ProbeContext) -> u32 {
    let slow = ctx.arg::<u64>(2).unwrap_or(0) as u32 == UV_WORK_SLOW_IO;
    let lane = if slow { LANE_SLOW } else { LANE_FAST };
    ctx.arg::<u64>(1).map_or(0, |work| submitted(&ctx, work, lane))
}

/// `uv_queue_work(uv_loop_t*, uv_work_t*, work, after)`, into which compilers put a copy of the other.
#[uprobe]
pub(crate) fn pool_queue(ctx: ProbeContext) -> u32 {
    ctx.arg::<u64>(1).map_or(0, |request| submitted(&ctx, request.wrapping_add(WORK_IN_REQUEST), LANE_FAST))
}

#[inline(always)]
fn submitted(ctx: &ProbeContext, work: u64, lane: usize) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let now = target::now_ns();
    let key = PoolWorkKey { work, tgid: thread.tgid, reserved: 0 };
    let waiting = PoolWork { submitted_ns: now, tid: thread.tid, lane: lane as u32 };
    if POOL_WORK.insert(key, waiting, 0).is_err() {
        emit::lost(DropReason::PoolTableFull);
    }
    if thread.pool_last_wait_ns < POOL_WAIT_LONG_NS {
        return 0;
    }
    if now - thread.pool_sample_ns >= SAMPLE_INTERVAL_NS {
        thread.pool_sample_ns = now;
        thread.pool_samples = 0;
    }
    if thread.pool_samples < SAMPLE_BURST {
        thread.pool_samples += 1;
        sampler::occasion(thread, registers::of_probe(ctx), SAMPLE_POOL, now, 0, BPF_RB_NO_WAKEUP);
    }
    0
}

/// `uv__fs_work(struct uv__work*)`. Synchronous calls of `fs` come by here on the loop's thread, without having waited.
#[uprobe]
pub(crate) fn pool_fs(ctx: ProbeContext) -> u32 {
    begun(&ctx, |_| POOL_FS)
}

/// `uv__getaddrinfo_work` and `uv__getnameinfo_work`.
#[uprobe]
pub(crate) fn pool_dns(ctx: ProbeContext) -> u32 {
    begun(&ctx, |_| POOL_DNS)
}

/// `uv__queue_work(struct uv__work*)`: all that was handed in by `uv_queue_work`.
#[uprobe]
pub(crate) fn pool_work(ctx: ProbeContext) -> u32 {
    begun(&ctx, kind_of_work)
}

#[inline(always)]
fn kind_of_work(work: u64) -> usize {
    const CRYPTO: u64 = u64::from_le_bytes(*b"crypto\0\0") & 0x00ff_ffff_ffff_ffff;
    const ZLIB: u64 = u64::from_le_bytes(*b"zlib\0\0\0\0") & 0x0000_00ff_ffff_ffff;
    // SAFETY: the helper checks the address.
    let read = |address: u64| unsafe { bpf_probe_read_user(address as *const u64) }.unwrap_or(0);
    // With the zero that ends it; what follows belongs to the next string.
    let word = u64::from_le(read(read(work.wrapping_add(WORK_TYPE))));
    if word & 0x00ff_ffff_ffff_ffff == CRYPTO {
        POOL_CRYPTO
    } else if word & 0x0000_00ff_ffff_ffff == ZLIB {
        POOL_ZLIB
    } else {
        POOL_OTHER
    }
}

#[inline(always)]
fn begun(ctx: &ProbeContext, kind: impl Fn(u64) -> usize) -> u32 {
    let Some(work) = ctx.arg::<u64>(0) else { return 0 };
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, worker) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let key = PoolWorkKey { work, tgid, reserved: 0 };
    // SAFETY: the value is copied at once; a wrong one could only come from another work at the same address.
    let Some(PoolWork { submitted_ns, tid, lane }) = (unsafe { POOL_WORK.get(key) }).copied() else {
        return 0;
    };
    // A second attachment to the same place finds nothing.
    if POOL_WORK.remove(key).is_err() {
        return 0;
    }
    let Some(thread) = target::by_tid(tid) else { return 0 };
    let now = target::now_ns();
    let waited_ns = now - submitted_ns;
    let kind = kind(work);
    // This thread was busy with what it began before, for as long as work waited for it.
    if waited_ns >= WAITED_NS
        // SAFETY: the value is copied at once; this thread alone writes it.
        && let Some(before) = (unsafe { POOL_THREADS.get(worker) }).copied()
        && (before.kind as usize) < POOL_KINDS
        && before.tgid == tgid
    {
        // It may have been idle before this work came.
        let busy_ns = now - before.begun_ns;
        counter::add(
            &mut thread.pool_busy_ns[before.kind as usize],
            if busy_ns < waited_ns { busy_ns } else { waited_ns },
        );
    }
    // Where it is full, what the threads are busy with is told for those that are in it.
    POOL_THREADS.insert(worker, PoolThread { begun_ns: now, tgid, kind: kind as u32 }, 0).ok();
    if kind < POOL_KINDS {
        counter::add(&mut thread.pool_begun[kind], 1);
        counter::add(&mut thread.pool_waited_ns[kind], waited_ns);
    }
    thread.pool_last_wait_ns = waited_ns;
    let lane = lane as usize;
    if lane < LANES {
        thread.pool_last_submitted_ns[lane] = submitted_ns;
    }
    // Two threads of the pool may do this at once: then the lesser of two long waits can be told for the greater.
    let epoch = maps::epoch();
    if thread.pool_max_epoch != epoch {
        thread.pool_max_epoch = epoch;
        thread.pool_max_wait_ns = waited_ns;
    } else if waited_ns > thread.pool_max_wait_ns {
        thread.pool_max_wait_ns = waited_ns;
    }
    0
}

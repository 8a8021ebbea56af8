//! Answers to HTTP requests, and whether the callback that answers has an async context (`AsyncLocalStorage`).
//!
//! A request is read by the loop itself; what it says in the callback of that read tells nothing of contexts. An answer by a later
//! callback does: with contexts that V8 keeps (`CONTEXT_FRAMES`) there is one or not, and one that is gone had been there if
//! something else was written with it in the first callback. With contexts that follow async ids (`CONTEXT_IDS`), a callback of a
//! resource that is older than the request has none of the request's; that there was one shows on the stack of what is written in
//! the first callback.
//!
//! Every HTTP request comes by here, so the programs are attached for a while only, together. Nothing is remembered from one such
//! window to the next: `CONTEXT_WINDOW` has another number then.
//!
//! Limits: HTTP/1 without TLS; what is answered in the turn of its read is passed over.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::bpf_probe_read_user,
    macros::{map, tracepoint},
    maps::{Array, HashMap, LruHashMap},
    programs::TracePointContext,
};
use nodeprobe_ebpf::{
    ContextRecord, ContextRequest, SocketKey, ThreadRecord,
    context_record::{CONTEXT_FRAMES, CONTEXT_IDS, CONTEXT_UNKNOWN, HAD_CONTEXT, HAD_NONE, HAD_SAMPLE},
    sample::{SAMPLE_CONTEXT, SAMPLE_REQUEST},
};

use crate::{event_loop::word, registers, sampler, target};

/// By thread. The agent sets the size, and removes those of threads that have ended.
#[map]
static CONTEXTS: HashMap<u32, ContextRecord> = HashMap::with_max_entries(1024, 0);

/// Requests that are not answered. One that is given up early is an answer less, so the kernel may choose which.
#[map]
static CONTEXT_REQUESTS: LruHashMap<SocketKey, ContextRequest> = LruHashMap::with_max_entries(16_384, 0);

/// Which time it is that the programs are attached; the agent counts it up right before.
#[map]
static CONTEXT_WINDOW: Array<u64> = Array::with_max_entries(1, 0);

#[map]
static FRESH_CONTEXT: Array<ContextRecord> = Array::with_max_entries(1, 0);

/// So many stacks are taken in this time per thread.
const SAMPLE_INTERVAL_NS: u64 = 100_000_000;
const SAMPLE_BURST: u32 = 4;

/// A request may come in pieces; of the first one this much is looked at.
const REQUEST_LEAST_BYTES: i64 = 4;
const METHODS: [u32; 7] = [
    u32::from_le_bytes(*b"GET "),
    u32::from_le_bytes(*b"POST"),
    u32::from_le_bytes(*b"PUT "),
    u32::from_le_bytes(*b"PATC"),
    u32::from_le_bytes(*b"DELE"),
    u32::from_le_bytes(*b"HEAD"),
    u32::from_le_bytes(*b"OPTI"),
];
const HTTP_1: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
const SEVEN_BYTES: u64 = 0x00ff_ffff_ffff_ffff;
/// Of `HTTP/1.1 100 Continue` and the like, after which the answer is yet to come.
const INFORMATIONAL: u8 = b'1';

#[cfg(bpf_target_arch = "x86_64")]
const WRITEV: u32 = 20;
#[cfg(bpf_target_arch = "aarch64")]
const WRITEV: u32 = 66;

#[inline(always)]
fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

#[inline(always)]
fn window() -> u64 {
    CONTEXT_WINDOW.get(0).copied().unwrap_or(0)
}

#[inline(always)]
fn of_thread(thread: &ThreadRecord) -> Option<&'static mut ContextRecord> {
    let record = CONTEXTS.get_ptr_mut(thread.tid)?;
    // SAFETY: valid while the program runs (RCU); its thread alone writes it once the agent has filled it in.
    let record = unsafe { &mut *record };
    (record.observed_ns == thread.observed_ns).then_some(record)
}

/// The return of `read`: `(fd, buffer, ...)`.
#[tracepoint]
pub(crate) fn context_read(ctx: TracePointContext) -> u32 {
    let bytes = word(&ctx, 0) as i64;
    if bytes <= 0 {
        return 0;
    }
    let Some(thread) = target::current() else { return 0 };
    let Some(context) = of_thread(thread) else { return ask(thread) };
    context.reads += 1;
    if context.mode == CONTEXT_UNKNOWN {
        // The nearer to the loop, the better: the first read may have been deep in the start of a script.
        let sp = registers::sp();
        if sp > context.sp {
            context.sp = sp;
        }
        return 0;
    }
    let Some([executing, _, last_id]) = read::<[u64; 3]>(context.ids) else { return 0 };
    if executing != 0 {
        // Not the loop reads, but a callback: `fs.readSync`.
        return 0;
    }
    let fd = registers::first_argument() as u32;
    let is_request = bytes >= REQUEST_LEAST_BYTES
        && read::<u32>(registers::second_argument()).is_some_and(|begin| METHODS.contains(&begin));
    let window = window();
    context.window = window;
    context.turn_ns = thread.since_ns;
    context.read_fd = fd;
    context.read_is_request = is_request.into();
    if is_request {
        let request = ContextRequest { window, last_id, had: HAD_NONE, reserved: 0 };
        // Where it does not fit the answer does not count.
        CONTEXT_REQUESTS.insert(SocketKey { tgid: thread.tgid, fd }, request, 0).ok();
    }
    0
}

/// Asks the agent to find out where a thread keeps its context.
#[inline(always)]
fn ask(thread: &ThreadRecord) -> u32 {
    let Some(fresh) = FRESH_CONTEXT.get(0) else { return 0 };
    // There are as many places as for threads.
    if CONTEXTS.insert(thread.tid, fresh, 0).is_ok()
        && let Some(record) = CONTEXTS.get_ptr_mut(thread.tid)
    {
        // SAFETY: as in `of_thread`.
        let record = unsafe { &mut *record };
        record.tgid = thread.tgid;
        record.observed_ns = thread.observed_ns;
        record.sp = registers::sp();
    }
    0
}

/// The return of `write` and `writev`: `(fd, buffer, ...)`, `(fd, buffers, ...)`. Also of one that was refused: it was tried.
#[tracepoint]
pub(crate) fn context_write(_ctx: TracePointContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    let Some(context) = of_thread(thread) else { return 0 };
    context.writes += 1;
    if context.mode == CONTEXT_UNKNOWN {
        return 0;
    }
    let has_store = context.mode == CONTEXT_FRAMES && has_store(context);
    context.used += u64::from(has_store);
    let window = window();
    let is_read_of_turn = context.turn_ns == thread.since_ns && context.window == window;
    let fd = registers::first_argument() as u32;
    let key = SocketKey { tgid: thread.tgid, fd };
    // SAFETY: the value is copied at once; threads of a process share no server socket.
    let request = unsafe { CONTEXT_REQUESTS.get(key) }.copied().filter(|request| request.window == window);
    let Some(request) = request.filter(|_| begins_answer()) else {
        // Also in the callback of a later piece of the request.
        if is_read_of_turn && (has_store || context.mode == CONTEXT_IDS) {
            wrote(thread, context);
        }
        return 0;
    };
    // Absent is as good as removed.
    CONTEXT_REQUESTS.remove(key).ok();
    // In the callback of its own read, or of another request's, whose context that may be.
    if is_read_of_turn && (context.read_is_request != 0 || context.read_fd == fd) {
        return 0;
    }
    if answered(context, &request, has_store) {
        let now = target::now_ns();
        // In `CONTEXT_IDS` a stack tells something only together with that of the request.
        let is_known = context.mode == CONTEXT_FRAMES || request.had == HAD_SAMPLE;
        if is_known && may_sample(&mut context.answer_sample_ns, &mut context.answer_samples, now) {
            let detail = if context.mode == CONTEXT_FRAMES { -1 } else { fd as i32 };
            sampler::occasion(thread, registers::of_syscall(), SAMPLE_CONTEXT, now, detail, BPF_RB_NO_WAKEUP);
        }
    }
    0
}

#[inline(always)]
fn may_sample(since_ns: &mut u64, samples: &mut u32, now: u64) -> bool {
    if now - *since_ns >= SAMPLE_INTERVAL_NS {
        *since_ns = now;
        *samples = 0;
    }
    *samples += 1;
    *samples <= SAMPLE_BURST
}

/// Something is written in the callback of a request, with a context or where that shows on the stack.
#[inline(always)]
fn wrote(thread: &ThreadRecord, context: &mut ContextRecord) {
    let key = SocketKey { tgid: thread.tgid, fd: context.read_fd };
    let Some(request) = CONTEXT_REQUESTS.get_ptr_mut(key) else { return };
    // SAFETY: a map value that is valid while the program runs (RCU); its thread alone writes it.
    let request = unsafe { &mut *request };
    if request.had != HAD_NONE || request.window != context.window {
        return;
    }
    request.had = HAD_CONTEXT;
    if context.mode == CONTEXT_IDS && uses_hooks(context) {
        let now = target::now_ns();
        if may_sample(&mut context.request_sample_ns, &mut context.request_samples, now)
            && sampler::occasion(
                thread,
                registers::of_syscall(),
                SAMPLE_REQUEST,
                now,
                key.fd as i32,
                BPF_RB_NO_WAKEUP,
            )
        {
            request.had = HAD_SAMPLE;
        }
    }
}

/// Whether the frame that V8 keeps holds anything: after `AsyncLocalStorage.run` Node leaves one behind whose stores are undefined. A
/// frame is a `Map` from storages to stores. One of more than four storages, which has a table of another shape, is taken to.
#[inline(always)]
fn has_store(context: &ContextRecord) -> bool {
    const TAG: u64 = 1;
    /// In a `Map`, its table.
    const TABLE: u64 = 24;
    /// In the smallest table, behind map, length and two counts: the number of its buckets, a small integer, which is 2. After those come
    /// four entries of key, value and the next one.
    const BUCKETS: usize = 4;
    const TWO: u64 = 2 << 32;
    const VALUES: [usize; 4] = [8, 11, 14, 17];
    let Some(frame) = read::<u64>(context.frame) else { return false };
    if frame == context.no_frame {
        return false;
    }
    let table = read::<u64>(frame.wrapping_sub(TAG).wrapping_add(TABLE)).unwrap_or(0);
    read::<[u64; 18]>(table.wrapping_sub(TAG)).is_none_or(|words| {
        words[BUCKETS] != TWO || VALUES.iter().any(|index| words[*index] != context.no_frame)
    })
}

/// Whether something follows async ids: `AsyncLocalStorage` does so once it was used.
#[inline(always)]
fn uses_hooks(context: &ContextRecord) -> bool {
    read::<u32>(context.hooks).is_some_and(|count| count != 0)
}

/// Whether the write that returns is the begin of a final answer.
#[inline(always)]
fn begins_answer() -> bool {
    let mut buffer = registers::second_argument();
    if registers::syscall_number() == WRITEV {
        // `iov_base` of the first one.
        buffer = read::<u64>(buffer).unwrap_or(0);
    }
    read::<u64>(buffer).is_some_and(|begin| begin & SEVEN_BYTES == HTTP_1)
        && read::<u8>(buffer.wrapping_add(9)).is_some_and(|status| status != INFORMATIONAL)
}

/// Counts an answer; `true`: its context is lost.
#[inline(always)]
fn answered(context: &mut ContextRecord, request: &ContextRequest, has_store: bool) -> bool {
    let has_context = if context.mode == CONTEXT_FRAMES {
        has_store
    } else {
        if !uses_hooks(context) {
            context.none += 1;
            return false;
        }
        let executing = read::<u64>(context.ids).unwrap_or(0);
        if executing == 0 {
            // Outside of any callback.
            return false;
        }
        context.used += 1;
        executing > request.last_id
    };
    if has_context {
        context.kept += 1;
    } else if request.had == HAD_NONE {
        context.none += 1;
    } else {
        context.lost += 1;
        return true;
    }
    false
}

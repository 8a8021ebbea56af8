//! Which probes go into the files of one process, and which signals that makes available.
//!
//! Architecture invariant: no I/O and no clock in here.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Range};

use nodeprobe_ebpf::gc_stop;

use crate::{
    binary::{Binary, DefaultLoop, Engine, FileOffset, Hook, Instruction, Roles, Rule},
    model::{Availability, Signal},
    v8::{ContextLayout, FrameLayout, Layout},
};

/// What to attach for one process, and what it will be able to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Only points of signals that are available, in the order in which they are to be attached.
    pub points: Vec<ProbePoint>,
    /// Every signal of [`Signal::ALL`].
    pub signals: BTreeMap<Signal, Availability>,
    /// How GC pauses divide into minor and major; `None` when the signal is unavailable.
    pub gc_kind: Option<GcKindSource>,
    /// Where `uv_loop_t` keeps its epoll descriptor, bytes.
    pub backend_fd_offset: Option<u32>,
    /// Where libuv keeps the address of the main thread's loop.
    pub default_loop: Option<LoopPointer>,
    /// Probes around drains of the microtask queue, which are in place for some of the time only; `None`: the signal is unavailable.
    pub microtasks: Option<WindowedProbes>,
    /// The probe where a page of the young generation is used up, in place for some of the time only: more stacks of who allocates; the
    /// begins of collections give some as well.
    pub pages: Option<WindowedProbes>,
    /// The code of `Worker::Run`, to tell workers that run already by the return addresses on their stacks.
    pub worker_run: Option<CodeRange>,
    /// Where async contexts are kept; with frames where this V8 could keep them so.
    pub async_context: Option<ContextLayout>,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePoint {
    pub hook: Hook,
    /// Index into the files given to [`plan`].
    pub file: usize,
    pub offset: FileOffset,
    pub rule: Rule,
    /// What the program is told about this file.
    pub cookie: Option<u64>,
}

/// Probes that the governor puts in and takes out, all in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowedProbes {
    /// Index into the files given to [`plan`].
    pub file: usize,
    pub points: Vec<(Hook, FileOffset)>,
    /// Of those they replace the one that is the most expensive to probe.
    pub instruction: Instruction,
}

/// A piece of code in one of the files given to [`plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRange {
    pub file: usize,
    pub range: Range<FileOffset>,
}

/// [`crate::binary::DefaultLoop`] in one of the files given to [`plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopPointer {
    pub file: usize,
    pub function: FileOffset,
    pub distance_bytes: i64,
}

/// What tells a minor collection from a major one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcKindSource {
    /// The collection's own function is entered inside the pause.
    Functions,
    /// The collector, second argument of `GCTracer::StopObservablePause`, by which the pause ends.
    EndOfPause,
    /// The space asked for, second argument of `Heap::CollectGarbage`: 1 is the new space, 2 the old one. V8 may
    /// collect more than it was asked for, then a major collection is taken for a minor one: 2 of 19 major ones of an
    /// allocating script on a loaded machine, whose incremental marking waited to be finalized.
    RequestedSpace,
}

/// `AllocationSpace` has had these values since V8 11 (Node 20); before, they were others.
const FIRST_V8_WITH_KNOWN_SPACES: u32 = 11;

/// `StopObservablePause` has been told the collector since V8 12 (Node 22); Node 20's takes nothing.
const FIRST_V8_THAT_TELLS_COLLECTOR: u32 = 12;

/// Plans for the files of one process in the order of the dynamic linker: executable, `libnode`, `libuv`. Each
/// component is taken from the first file that has it, because that copy's symbols win.
///
/// `has_cookies`: the kernel hands programs a number per probe (5.15 and later).
pub fn plan(files: &[&Binary], has_cookies: bool) -> Plan {
    let node = component(files, |has| has.node);
    let v8 = v8(files);
    let libuv = component(files, |has| has.libuv);
    let event_loop = event_loop(node, libuv);
    // With cookies alone: the program that runs there has to be told of the file.
    let stop = v8.filter(|(_, binary)| has_cookies && !binary.points(Hook::GcStop).is_empty());
    let gc = gc(v8, stop.is_some());
    let heap = heap(v8, &gc);

    let mut points = Vec::new();
    // Known whatever else is missing: starting and ending workers belong to `lifecycle`.
    add_points(&mut points, node, &[Hook::WorkerRun]);
    if event_loop.is_ok() {
        add_points(&mut points, node, &[Hook::LoadEnvironment, Hook::SpinEventLoop]);
        add_points(&mut points, libuv, &[Hook::UvRun]);
    }
    if let Ok(kind) = gc {
        // The begin last, so that no pause is begun whose kind, heap or end is missed.
        let sizes = stop.and_then(|(_, binary)| binary.gc_sizes);
        let tells_kind = if kind == GcKindSource::EndOfPause { gc_stop::KIND_IN_ARGUMENT } else { 0 };
        add_points(&mut points, v8, &[if stop.is_some() { Hook::GcStop } else { Hook::GcEnd }]);
        for point in points.iter_mut().filter(|point| point.hook == Hook::GcStop) {
            let known = sizes.map(|sizes| gc_stop::cookie(sizes.before, sizes.after));
            point.cookie = Some(known.unwrap_or(gc_stop::SIZES_UNKNOWN) | tells_kind);
        }
        if kind == GcKindSource::Functions {
            add_points(&mut points, v8, &[Hook::GcMinor, Hook::GcMajor]);
        }
        if heap.is_ok() && sizes.is_none() {
            add_points(&mut points, v8, &[Hook::HeapSize]);
        }
        add_points(&mut points, v8, &[Hook::GcStart]);
    }
    let (rejections, deopts, thread_pool) = (rejections(node), deopts(v8), thread_pool(libuv));
    let microtasks = microtasks(v8);
    let async_context = async_context(node, v8);
    let compile = compile(v8);
    if rejections.is_ok() {
        add_points(&mut points, node, &[Hook::PromiseReject, Hook::RejectFailed]);
    }
    if deopts.is_ok() {
        add_points(&mut points, v8, &[Hook::Deopt]);
    }
    if thread_pool.is_ok() {
        // Work that was not seen to be handed in does not count when it is begun.
        add_points(&mut points, libuv, &POOL_BEGINS);
        add_points(&mut points, libuv, &POOL_SUBMITS);
    }
    if compile.is_ok() {
        add_points(&mut points, v8, &[Hook::CompileEnd, Hook::CompileFunction, Hook::CompileModule]);
    }
    // How much waits in libuv; without the probe that alone is not known.
    if node.is_some_and(|(_, node)| tries_to_write_first(node)) {
        add_points(&mut points, libuv, &[Hook::StreamWrite]);
    }
    // How a process ends.
    add_points(&mut points, node, &[Hook::UncaughtException, Hook::OutOfMemory]);
    add_points(&mut points, v8, &[Hook::NearHeapLimit]);
    let signals = Signal::ALL.map(|signal| {
        let availability = match signal {
            Signal::EventLoop => availability(event_loop.as_ref().err()),
            Signal::Gc => availability(gc.as_ref().err()),
            Signal::Heap => availability(heap.as_ref().err()),
            // Tracepoints only.
            Signal::Stdio | Signal::Sched | Signal::Sockets => Availability::Ok,
            Signal::Lifecycle => availability(ends(node).err().as_ref()),
            Signal::Sample => availability(layout(v8).err().as_ref()),
            Signal::Rejections => availability(rejections.as_ref().err()),
            Signal::Deopts => availability(deopts.as_ref().err()),
            Signal::ThreadPool => availability(thread_pool.as_ref().err()),
            Signal::Microtasks => availability(microtasks.as_ref().err()),
            Signal::AsyncContext => availability(async_context.as_ref().err()),
            Signal::Compile => availability(compile.as_ref().err()),
        };
        (signal, availability)
    });
    Plan {
        points,
        signals: signals.into(),
        gc_kind: gc.ok(),
        backend_fd_offset: event_loop.ok(),
        default_loop: libuv.and_then(|(file, binary)| {
            let DefaultLoop { function, distance_bytes } = binary.default_loop?;
            Some(LoopPointer { file, function, distance_bytes })
        }),
        microtasks: microtasks.ok(),
        pages: v8.and_then(|(file, v8)| windowed(file, v8, &[Hook::NewPage])),
        worker_run: node.and_then(|(file, binary)| Some(CodeRange { file, range: binary.worker_run()? })),
        async_context: async_context.ok(),
    }
}

/// Where the V8 among the files keeps what a stack is decoded with.
///
/// # Errors
/// A sentence: there is no V8, or its layout is not known.
pub fn layout(v8: Component<'_>) -> Result<Layout, String> {
    let (_, binary) = v8.ok_or("no V8 symbols in the executable or a mapped libnode.so")?;
    let version = binary.v8_version.ok_or("the version of V8 is not known")?;
    let Engine { metadata, bytecode_sizes, .. } = &binary.engine;
    Layout::new(metadata, version, bytecode_sizes.as_deref())
        .map_err(|error| format!("stacks cannot be decoded: {error}"))
}

/// The V8 among the files, with its place there.
pub fn v8<'files>(files: &[&'files Binary]) -> Component<'files> {
    component(files, |has| has.v8)
}

/// One of the files, with its place among them.
pub type Component<'files> = Option<(usize, &'files Binary)>;

fn component<'files>(files: &[&'files Binary], has: impl Fn(Roles) -> bool) -> Component<'files> {
    files.iter().copied().enumerate().find(|(_, binary)| has(binary.has))
}

fn add_points(points: &mut Vec<ProbePoint>, component: Component<'_>, hooks: &[Hook]) {
    let Some((file, binary)) = component else { return };
    for hook in hooks {
        points.extend(binary.points(*hook).iter().map(|point| ProbePoint {
            hook: *hook,
            file,
            offset: point.offset,
            rule: point.rule,
            cookie: None,
        }));
    }
}

/// The offset of the epoll descriptor, or why loops cannot be told from other users of epoll.
fn event_loop(node: Component<'_>, libuv: Component<'_>) -> Result<u32, String> {
    let Some((_, node)) = node else {
        return Err("no Node symbols in the executable or a mapped libnode.so".to_owned());
    };
    let Some((_, libuv)) = libuv else {
        return Err("uv_run is neither in the executable nor in a mapped libuv.so".to_owned());
    };
    if libuv.points(Hook::UvRun).is_empty() {
        return Err(because("uv_run cannot be probed", libuv, Hook::UvRun));
    }
    if node.points(Hook::LoadEnvironment).is_empty() && node.points(Hook::SpinEventLoop).is_empty() {
        return Err(because("Node's event loop cannot be told from others", node, Hook::SpinEventLoop));
    }
    libuv.backend_fd_offset.ok_or_else(|| {
        "this libuv keeps its epoll descriptor in an unknown place (uv_backend_fd has an unknown shape)"
            .to_owned()
    })
}

fn gc(v8: Component<'_>, stops: bool) -> Result<GcKindSource, String> {
    let Some((_, v8)) = v8 else {
        return Err("no V8 symbols in the executable or a mapped libnode.so".to_owned());
    };
    for (hook, what) in [
        (Hook::GcStart, "the begin of a collection (Heap::CollectGarbage) cannot be found"),
        (Hook::GcEnd, "the end of a collection (an exit of Heap::CollectGarbage) cannot be found"),
    ] {
        if v8.points(hook).is_empty() {
            return Err(because(what, v8, hook));
        }
    }
    if !v8.points(Hook::GcMinor).is_empty() && !v8.points(Hook::GcMajor).is_empty() {
        return Ok(GcKindSource::Functions);
    }
    match v8.v8_version {
        Some(version) if stops && version.major >= FIRST_V8_THAT_TELLS_COLLECTOR => {
            Ok(GcKindSource::EndOfPause)
        }
        Some(version) if version.major >= FIRST_V8_WITH_KNOWN_SPACES => Ok(GcKindSource::RequestedSpace),
        Some(version) => Err(format!(
            "minor and major collections of V8 {version} cannot be told apart without the symbols of both"
        )),
        None => Err("minor and major collections cannot be told apart: the V8 version is unknown".to_owned()),
    }
}

fn heap(v8: Component<'_>, gc: &Result<GcKindSource, String>) -> Result<(), String> {
    // The size is read when V8 itself asks for it around a collection.
    if let Err(reason) = gc {
        return Err(reason.clone());
    }
    match v8 {
        Some((_, v8)) if v8.points(Hook::HeapSize).is_empty() => {
            if v8.points(Hook::GcStart).iter().all(|point| point.rule == Rule::Decoded) {
                return Err(
                    "this Node is stripped, and since version 24 V8 hides the functions that know the \
                            heap size from all but the full symbol table"
                        .to_owned(),
                );
            }
            Err(because("the heap size (Heap::SizeOfObjects) cannot be read", v8, Hook::HeapSize))
        }
        _ => Ok(()),
    }
}

fn rejections(node: Component<'_>) -> Result<(), String> {
    match node {
        None => Err("no Node symbols in the executable or a mapped libnode.so".to_owned()),
        Some((_, node)) if node.points(Hook::PromiseReject).is_empty() => Err(because(
            "rejected promises (node::PromiseRejectCallback) cannot be probed",
            node,
            Hook::PromiseReject,
        )),
        Some(_) => Ok(()),
    }
}

/// Whether the agent is told what a process ends of. A heap at its limit is told by `Heap::InvokeNearHeapLimitCallback` as well, just
/// before; stripped builds hide that one, and all known ones export these.
fn ends(node: Component<'_>) -> Result<(), String> {
    // The files of Node are missing as a whole, which the other signals say.
    let Some((_, node)) = node else { return Ok(()) };
    for (hook, what) in [
        (
            Hook::OutOfMemory,
            "that a process ends of a full heap is not told (node::OOMErrorHandler cannot be probed)",
        ),
        (
            Hook::UncaughtException,
            "that a process ends of an exception is not told (node::errors::TriggerUncaughtException cannot be probed)",
        ),
    ] {
        if node.points(hook).is_empty() {
            return Err(because(what, node, hook));
        }
    }
    Ok(())
}

/// Whether only what a socket has not taken at once reaches `uv_write2`. In the libuv of the first Node 16 `uv_try_write` went through
/// it as well, so that every answer to a request would hit the probe.
fn tries_to_write_first(node: &Binary) -> bool {
    const FIRST: u32 = 18;
    let major = node.node_version.as_deref().and_then(|version| version.split('.').next()?.parse().ok());
    major.is_some_and(|major: u32| major >= FIRST)
}

fn deopts(v8: Component<'_>) -> Result<(), String> {
    match v8 {
        None => Err("no V8 symbols in the executable or a mapped libnode.so".to_owned()),
        Some((_, v8)) if v8.points(Hook::Deopt).is_empty() => {
            Err(because("deoptimisations (v8::internal::Deoptimizer) cannot be probed", v8, Hook::Deopt))
        }
        Some(_) => Ok(()),
    }
}

fn microtasks(v8: Component<'_>) -> Result<WindowedProbes, String> {
    let Some((file, v8)) = v8 else {
        return Err("no V8 symbols in the executable or a mapped libnode.so".to_owned());
    };
    let what = "drains of the microtask queue (v8::internal::MicrotaskQueue::RunMicrotasks) cannot be probed";
    let hooks = [Hook::DrainBegin, Hook::DrainEnd];
    if let Some(missing) = hooks.into_iter().find(|hook| v8.points(*hook).is_empty()) {
        return Err(because(what, v8, missing));
    }
    windowed(file, v8, &hooks).ok_or_else(|| what.to_owned())
}

/// `None`: there is no place for any of them.
fn windowed(file: usize, v8: &Binary, hooks: &[Hook]) -> Option<WindowedProbes> {
    let points = hooks.iter().flat_map(|hook| v8.points(*hook).iter().map(move |point| (*hook, point)));
    let is_emulated = points.clone().all(|(_, point)| point.instruction == Instruction::Push);
    let points: Vec<_> = points.map(|(hook, point)| (hook, point.offset)).collect();
    let instruction = if is_emulated { Instruction::Push } else { Instruction::Other };
    (!points.is_empty()).then_some(WindowedProbes { file, points, instruction })
}

/// Where work is handed to libuv's pool of threads.
const POOL_SUBMITS: [Hook; 2] = [Hook::PoolSubmit, Hook::PoolQueue];
/// Where a thread of libuv's pool begins work of each kind.
const POOL_BEGINS: [Hook; 3] = [Hook::PoolFs, Hook::PoolDns, Hook::PoolWork];

fn thread_pool(libuv: Component<'_>) -> Result<(), String> {
    let Some((_, libuv)) = libuv else {
        return Err("uv_run is neither in the executable nor in a mapped libuv.so".to_owned());
    };
    let missing = POOL_BEGINS.into_iter().chain(POOL_SUBMITS).find(|hook| libuv.points(*hook).is_empty());
    missing.map_or(Ok(()), |hook| {
        Err(because(
            "the queue of libuv's threads (uv__work_submit and others) cannot be probed",
            libuv,
            hook,
        ))
    })
}

/// Frames are absent from what is returned where V8 has none or hides them.
fn async_context(node: Component<'_>, v8: Component<'_>) -> Result<ContextLayout, String> {
    let Some((_, node)) = node else {
        return Err("no Node symbols in the executable or a mapped libnode.so".to_owned());
    };
    let ids_offset = node.async_ids_offset.ok_or(
        "this Node keeps its async ids in an unknown place (AsyncHooksGetExecutionAsyncId is missing or has an unknown shape)",
    )?;
    let frame = v8.and_then(|(_, v8)| {
        let oddball_type = *v8.engine.metadata.get("type_Oddball__ODDBALL_TYPE")?;
        Some(FrameLayout {
            offset: v8.context_frame_offset?,
            oddball_type: u16::try_from(oddball_type).ok()?,
        })
    });
    Ok(ContextLayout { ids_offset, frame })
}

fn compile(v8: Component<'_>) -> Result<(), String> {
    let Some((_, v8)) = v8 else {
        return Err("no V8 symbols in the executable or a mapped libnode.so".to_owned());
    };
    let hooks = [Hook::CompileFunction, Hook::CompileModule, Hook::CompileEnd];
    hooks.into_iter().find(|hook| v8.points(*hook).is_empty()).map_or(Ok(()), |hook| {
        Err(because("the compilation of modules (v8::ScriptCompiler) cannot be probed", v8, hook))
    })
}

/// `what`, with the reason the analysis gave.
fn because(what: &str, binary: &Binary, hook: Hook) -> String {
    match binary.missing.get(&hook) {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    }
}

fn availability(reason: Option<&String>) -> Availability {
    reason.map_or(Availability::Ok, |reason| Availability::Unavailable(reason.as_str().into()))
}

#[cfg(test)]
mod tests;

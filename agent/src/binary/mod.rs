//! What is true of one ELF file: which Node, V8 and libuv it holds and where a probe of each kind goes.
//!
//! [`quick_kind`] turns away in microseconds what is no Node; [`analyze`] does the work and is worth caching by
//! build id. Both take an open file and trust nothing in it. Nothing here attaches or reads memory.
//!
//! Limits: Node is recognised by the symbols it exports for native addons. A fully static build exports none and
//! is taken for any other program.

mod code;
mod elf;
mod engine;
mod error;
mod frames;
mod functions;
mod summary;
mod survey;
mod symbols;
#[cfg(test)]
mod tests;
mod version;

use std::{collections::BTreeMap, fs::File, ops::Range};

pub use engine::{CodeSegment, Engine};
pub use error::BinaryError;
pub use functions::{FunctionIndex, FunctionTable};
pub use summary::summary;
pub use version::V8Version;

use self::{
    elf::Elf,
    survey::Survey,
    symbols::{Found, Meaning, NODE_EXPORTS},
};

/// An address as the linker assigned it (before the loader moved the file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress(pub u64);

/// A position in the file: what a uprobe is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(pub u64);

/// Instruction sets that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// A place in Node, V8 or libuv that a probe program is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Entry of `node::LoadEnvironment`, which runs the start-up code of the main script.
    LoadEnvironment,
    /// Entry of `node::SpinEventLoop` and `node::SpinEventLoopInternal`.
    SpinEventLoop,
    /// Entry of `uv_run`.
    UvRun,
    /// Entry of `node::worker::Worker::Run`: the body of a worker thread.
    WorkerRun,
    /// Entry of `v8::internal::Heap::CollectGarbage`: JavaScript of this isolate stands still from here ..
    GcStart,
    /// .. to here: every instruction by which that function is left.
    GcEnd,
    /// Entry of `v8::internal::GCTracer::StopObservablePause`, where V8's own measurement of the pause ends. Cheaper than
    /// [`Hook::GcEnd`] and [`Hook::HeapSize`] together by a factor of ten; Node.js 18 and later, and only with
    /// [`Binary::gc_sizes`].
    GcStop,
    /// Entry of a minor collection (young generation) inside the pause.
    GcMinor,
    /// Entry of a major collection (mark-compact) inside the pause.
    GcMajor,
    /// The returns of `v8::internal::Heap::SizeOfObjects`; the return register holds the heap used, in bytes.
    HeapSize,
    /// Entry of `EnsureAllocation` of V8's young generation: what it had set aside for allocating, a page, is used up.
    NewPage,
    /// Entry of `node::PromiseRejectCallback`: a promise was rejected without a handler, or got one after that.
    PromiseReject,
    /// Entry of `node::PrintCaughtException`: among others, JavaScript could not be told of a rejection.
    RejectFailed,
    /// Entry of `node::errors::TriggerUncaughtException`.
    UncaughtException,
    /// Entry of `node::OOMErrorHandler`: the process is about to end because its heap is full.
    OutOfMemory,
    /// Entry of `v8::internal::Heap::InvokeNearHeapLimitCallback`.
    NearHeapLimit,
    /// Entry of the constructor of `v8::internal::Deoptimizer`.
    Deopt,
    /// Entry of `v8::internal::Execution::TryRunMicrotasks`: a queue of microtasks that is not empty begins to be drained, and ..
    DrainBegin,
    /// .. entry of what `MicrotaskQueue::RunMicrotasks` calls at its end.
    DrainEnd,
    /// Entry of `uv__work_submit`: work is handed to libuv's pool of threads.
    PoolSubmit,
    /// Entry of `uv_queue_work`, the other way to do so.
    PoolQueue,
    /// Entry of `uv__fs_work`, on a thread of the pool that begins such work.
    PoolFs,
    /// Entries of `uv__getaddrinfo_work` and `uv__getnameinfo_work`.
    PoolDns,
    /// Entry of `uv__queue_work`, which begins all other work.
    PoolWork,
    /// Entry of what compiles functions with a source of their own in `v8::ScriptCompiler`: `CommonJS` modules are such.
    CompileFunction,
    /// Entry of `v8::ScriptCompiler::CompileModule`: modules of ECMAScript.
    CompileModule,
    /// Every instruction by which one of the two is left.
    CompileEnd,
    /// Entry of `uv_write2`: a stream was given what its socket has not taken at once.
    StreamWrite,
}

impl Hook {
    pub const ALL: [Self; 28] = [
        Self::LoadEnvironment,
        Self::SpinEventLoop,
        Self::UvRun,
        Self::WorkerRun,
        Self::GcStart,
        Self::GcEnd,
        Self::GcStop,
        Self::GcMinor,
        Self::GcMajor,
        Self::HeapSize,
        Self::NewPage,
        Self::PromiseReject,
        Self::UncaughtException,
        Self::OutOfMemory,
        Self::NearHeapLimit,
        Self::Deopt,
        Self::DrainBegin,
        Self::DrainEnd,
        Self::PoolSubmit,
        Self::PoolQueue,
        Self::PoolFs,
        Self::PoolDns,
        Self::PoolWork,
        Self::CompileFunction,
        Self::CompileModule,
        Self::CompileEnd,
        Self::StreamWrite,
        Self::RejectFailed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::LoadEnvironment => "load_environment",
            Self::SpinEventLoop => "spin_event_loop",
            Self::UvRun => "uv_run",
            Self::WorkerRun => "worker_run",
            Self::GcStart => "gc_start",
            Self::GcEnd => "gc_end",
            Self::GcStop => "gc_stop",
            Self::GcMinor => "gc_minor",
            Self::GcMajor => "gc_major",
            Self::HeapSize => "heap_size",
            Self::NewPage => "new_page",
            Self::PromiseReject => "promise_reject",
            Self::RejectFailed => "reject_failed",
            Self::UncaughtException => "uncaught_exception",
            Self::OutOfMemory => "out_of_memory",
            Self::NearHeapLimit => "near_heap_limit",
            Self::Deopt => "deopt",
            Self::DrainBegin => "drain_begin",
            Self::DrainEnd => "drain_end",
            Self::PoolSubmit => "pool_submit",
            Self::PoolQueue => "pool_queue",
            Self::PoolFs => "pool_fs",
            Self::PoolDns => "pool_dns",
            Self::PoolWork => "pool_work",
            Self::CompileFunction => "compile_function",
            Self::CompileModule => "compile_module",
            Self::CompileEnd => "compile_end",
            Self::StreamWrite => "stream_write",
        }
    }
}

/// How a place was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Exported symbol; survives `strip`.
    Dynsym,
    /// Symbol of the full table, which `strip` removes.
    Symtab,
    /// No symbol: decoded from an exported function that calls it.
    Decoded,
}

impl Rule {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dynsym => "dynsym",
            Self::Symtab => "symtab",
            Self::Decoded => "decoded",
        }
    }
}

/// The instruction a probe replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// First instruction of a function, emulated by the kernel on x86-64: about 1 µs per hit.
    Push,
    /// First instruction of a function, executed out of line: about 13 µs per hit on x86-64. On aarch64 every
    /// first instruction is this.
    Other,
    /// Leaves the function; the return register holds its value.
    Return,
    /// Leaves the function by jumping to another one, which will return in its place.
    TailJump,
}

/// One place for one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub address: VirtualAddress,
    pub offset: FileOffset,
    pub rule: Rule,
    pub instruction: Instruction,
    /// Size of the function that contains the place. `None`: neither symbol nor unwind table tells.
    pub function_size_bytes: Option<u64>,
}

/// Which components are in the file itself, as opposed to a library it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub node: bool,
    pub v8: bool,
    pub libuv: bool,
}

/// What is true of one ELF file.
#[derive(Clone, Debug)]
pub struct Binary {
    /// Lower-case hexadecimal.
    pub build_id: Option<String>,
    pub architecture: Architecture,
    /// Without the leading `v`.
    pub node_version: Option<String>,
    pub v8_version: Option<V8Version>,
    /// The full symbol table is missing.
    pub stripped: bool,
    pub has: Roles,
    /// Names of the shared libraries the file asks for, cleaned for display.
    pub needed: Vec<String>,
    pub points: BTreeMap<Hook, Vec<Point>>,
    /// For hooks of components that are in the file but have no point: why, as half a sentence.
    pub missing: BTreeMap<Hook, String>,
    /// Where `uv_loop_t` keeps its epoll descriptor, as `uv_backend_fd` of this very file reads it.
    pub backend_fd_offset: Option<u32>,
    /// Where libuv keeps the address of its default loop; `None`: not known.
    pub default_loop: Option<DefaultLoop>,
    /// Where V8 keeps the heap sizes around a collection; `None`: not known.
    pub gc_sizes: Option<GcSizes>,
    /// Where `node::Environment` keeps the address of its async ids, as `AsyncHooksGetExecutionAsyncId` of this very file reads it.
    pub async_ids_offset: Option<u32>,
    /// Where `v8::Isolate` keeps the async context of what it executes, as `GetContinuationPreservedEmbedderData` of this very file
    /// reads it; Node 22 and later.
    pub context_frame_offset: Option<u32>,
    /// What V8 says of itself to debuggers; empty without V8.
    pub engine: Engine,
}

/// The pointer that `uv_default_loop` of this very file returns: bytes from the begin of that function in memory, since all segments of
/// a file are moved by the same distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultLoop {
    pub function: FileOffset,
    pub distance_bytes: i64,
}

/// Offsets in `v8::internal::GCTracer`, bytes, at which the heap used before and after the collection stand when
/// `StopObservablePause` is entered, as the code of this very file writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcSizes {
    pub before: u16,
    pub after: u16,
}

impl Binary {
    /// The points of a hook; empty when there are none.
    pub fn points(&self, hook: Hook) -> &[Point] {
        self.points.get(&hook).map_or(&[], Vec::as_slice)
    }

    /// The code of `Worker::Run` in the file: a return address inside it, on a thread's stack, tells a worker.
    pub fn worker_run(&self) -> Option<Range<FileOffset>> {
        let point = self.points(Hook::WorkerRun).first()?;
        let end = point.offset.0.checked_add(point.function_size_bytes?)?;
        Some(point.offset..FileOffset(end))
    }
}

/// Whether an executable is Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    NotNode,
    Node,
    /// Node lives in a shared library, `needs` being its name (Debian: `libnode.so.108`).
    NodeStub {
        needs: String,
    },
}

/// Tells Node from any other executable by a handful of small reads.
///
/// Files that are no ELF or are for a machine nodeprobe does not know are [`Kind::NotNode`].
///
/// # Errors
/// The file cannot be read, or its headers contradict themselves.
pub fn quick_kind(file: &File) -> Result<Kind, BinaryError> {
    let elf = match Elf::open(file) {
        Err(BinaryError::NotElf | BinaryError::Unsupported { .. }) => return Ok(Kind::NotNode),
        other => other?,
    };
    let dynamic = elf.dynamic()?;
    for name in NODE_EXPORTS {
        if elf.exports(&dynamic, name)? {
            return Ok(Kind::Node);
        }
    }
    let needs = dynamic.needed.into_iter().find(|name| name.starts_with("libnode.so"));
    Ok(needs.map_or(Kind::NotNode, |needs| Kind::NodeStub { needs }))
}

/// The build id alone, by a few small reads; `None`: the file has none.
///
/// # Errors
/// As [`analyze`].
pub fn build_id(file: &File) -> Result<Option<String>, BinaryError> {
    Elf::open(file)?.build_id()
}

/// Reads everything nodeprobe wants to know of a file. Works on Node itself, `libnode.so` and `libuv.so`.
///
/// # Errors
/// The file is no ELF file, is for an unknown machine, is truncated or contradicts itself, or claims sizes beyond
/// what any Node build comes near. What is merely absent is no error, see [`Binary::missing`].
pub fn analyze(file: &File) -> Result<Binary, BinaryError> {
    let elf = Elf::open(file)?;
    let dynamic = elf.dynamic()?;
    let sections = elf.sections()?;
    let found = Found::read(&elf, &sections)?;
    let has = Roles {
        node: found.has(Meaning::NodeStart) || found.has(Meaning::WorkerRun),
        v8: found.has(Meaning::VersionMajor),
        libuv: found.has(Meaning::UvRun),
    };
    let v8_version = version::v8_version(
        &elf,
        [Meaning::VersionMajor, Meaning::VersionMinor, Meaning::VersionBuild, Meaning::VersionPatch]
            .map(|part| found.first_address(part)),
    );
    // Only Node says its version, and searching for it costs most of the time.
    let node_version = if has.node { version::node_version(&elf, &sections)? } else { None };
    let Survey {
        points,
        missing,
        backend_fd_offset,
        default_loop,
        gc_sizes,
        async_ids_offset,
        context_frame_offset,
    } = survey::survey(&elf, &found, has);
    let engine = engine::engine(&elf, &found);
    Ok(Binary {
        build_id: elf.build_id()?,
        architecture: elf.architecture,
        node_version,
        v8_version,
        stripped: sections.symtab.is_none(),
        has,
        needed: dynamic.needed,
        points,
        missing,
        backend_fd_offset,
        default_loop,
        gc_sizes,
        async_ids_offset,
        context_frame_offset,
        engine,
    })
}

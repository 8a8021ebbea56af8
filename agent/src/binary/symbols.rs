//! Which symbols nodeprobe looks for. Mangled names; versions in which each exists are in
//! `docs/node-versions.md`.

use std::collections::BTreeMap;

use super::{
    BinaryError, Rule, VirtualAddress,
    elf::{Elf, Sections, Symbol, SymbolTable},
};

/// What a symbol means to nodeprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Meaning {
    NodeStart,
    LoadEnvironment,
    SpinEventLoop,
    WorkerRun,
    UvRun,
    UvBackendFd,
    UvDefaultLoop,
    ExecutionAsyncId,
    ContinuationData,
    CollectGarbage,
    MinorCollection,
    MajorCollection,
    SizeOfObjects,
    StartInSafepoint,
    StopInSafepoint,
    StopObservablePause,
    TimeTicksNow,
    RequestGarbageCollection,
    NewPage,
    PromiseReject,
    PrintCaughtException,
    UncaughtException,
    OutOfMemory,
    NearHeapLimit,
    Deoptimizer,
    RunMicrotasks,
    TryRunMicrotasks,
    MicrotasksCompleted,
    SuppressMicrotasksEnd,
    StreamWrite,
    PoolSubmit,
    PoolQueue,
    PoolFs,
    PoolDns,
    PoolWork,
    CompileFunction,
    CompileFunctionInternal,
    CompileFunctionInContext,
    CompileModule,
    VersionMajor,
    VersionMinor,
    VersionBuild,
    VersionPatch,
    /// V8's `Bytecodes::kBytecodeSizes`.
    BytecodeSizes,
    /// The machine code of V8's builtins, and its length.
    BuiltinsCode,
    BuiltinsSize,
}

enum Name {
    /// The whole name, or the name of one of its clones.
    Exact(&'static str),
    /// The mangled name up to the end of the function's own name, so all overloads; and their clones.
    Overloads(&'static str),
}

use Name::{Exact, Overloads};

/// Any of these makes a file Node. All are exported by official, stripped and Debian builds alike.
pub(super) const NODE_EXPORTS: [&str; 2] = ["_ZN4node5StartEiPPc", "_ZN4node6worker6Worker3RunEv"];

const WANTED: [(Name, Meaning); 55] = [
    (Exact("_ZN4node5StartEiPPc"), Meaning::NodeStart),
    (Overloads("_ZN4node15LoadEnvironmentE"), Meaning::LoadEnvironment),
    (Overloads("_ZN4node13SpinEventLoopE"), Meaning::SpinEventLoop),
    (Overloads("_ZN4node21SpinEventLoopInternalE"), Meaning::SpinEventLoop),
    (Exact("_ZN4node6worker6Worker3RunEv"), Meaning::WorkerRun),
    (Exact("uv_run"), Meaning::UvRun),
    (Exact("uv_backend_fd"), Meaning::UvBackendFd),
    (Exact("uv_default_loop"), Meaning::UvDefaultLoop),
    // By isolate, in every version; by context as well since Node 22.
    (Exact("_ZN4node29AsyncHooksGetExecutionAsyncIdEPN2v87IsolateE"), Meaning::ExecutionAsyncId),
    // Of the isolate since V8 12; before, of the context.
    (Exact("_ZN2v87Isolate36GetContinuationPreservedEmbedderDataEv"), Meaning::ContinuationData),
    (Exact("_ZN2v87Isolate38GetContinuationPreservedEmbedderDataV2Ev"), Meaning::ContinuationData),
    (Overloads("_ZN2v88internal4Heap14CollectGarbageE"), Meaning::CollectGarbage),
    (Exact("_ZN2v88internal4Heap8ScavengeEv"), Meaning::MinorCollection),
    (Exact("_ZN2v88internal4Heap14MinorMarkSweepEv"), Meaning::MinorCollection),
    (Exact("_ZN2v88internal4Heap16MinorMarkCompactEv"), Meaning::MinorCollection),
    (Exact("_ZN2v88internal4Heap11MarkCompactEv"), Meaning::MajorCollection),
    (Exact("_ZN2v88internal4Heap13SizeOfObjectsEv"), Meaning::SizeOfObjects),
    (Overloads("_ZN2v88internal8GCTracer16StartInSafepointE"), Meaning::StartInSafepoint),
    (Overloads("_ZN2v88internal8GCTracer15StopInSafepointE"), Meaning::StopInSafepoint),
    (Overloads("_ZN2v88internal8GCTracer19StopObservablePauseE"), Meaning::StopObservablePause),
    (Exact("_ZN2v84base9TimeTicks3NowEv"), Meaning::TimeTicksNow),
    (
        Exact("_ZN2v87Isolate34RequestGarbageCollectionForTestingENS0_21GarbageCollectionTypeE"),
        Meaning::RequestGarbageCollection,
    ),
    (Overloads("_ZN2v88internal8NewSpace16EnsureAllocationE"), Meaning::NewPage),
    (Overloads("_ZN2v88internal17SemiSpaceNewSpace16EnsureAllocationE"), Meaning::NewPage),
    (Overloads("_ZN2v88internal32SemiSpaceNewSpaceAllocatorPolicy16EnsureAllocationE"), Meaning::NewPage),
    (Exact("_ZN4node21PromiseRejectCallbackEN2v820PromiseRejectMessageE"), Meaning::PromiseReject),
    (
        Exact("_ZN4node20PrintCaughtExceptionEPN2v87IsolateENS0_5LocalINS0_7ContextEEERKNS0_8TryCatchE"),
        Meaning::PrintCaughtException,
    ),
    // An overload without the flag calls this one.
    (
        Exact(
            "_ZN4node6errors24TriggerUncaughtExceptionEPN2v87IsolateENS1_5LocalINS1_5ValueEEENS4_INS1_7MessageEEEb",
        ),
        Meaning::UncaughtException,
    ),
    (Overloads("_ZN4node15OOMErrorHandlerE"), Meaning::OutOfMemory),
    (Overloads("_ZN2v88internal4Heap27InvokeNearHeapLimitCallbackE"), Meaning::NearHeapLimit),
    // Of the two names of a constructor the other is an alias.
    (Overloads("_ZN2v88internal11DeoptimizerC2E"), Meaning::Deoptimizer),
    (Overloads("_ZN2v88internal14MicrotaskQueue13RunMicrotasksE"), Meaning::RunMicrotasks),
    (Overloads("_ZN2v88internal9Execution16TryRunMicrotasksE"), Meaning::TryRunMicrotasks),
    // It is `const` before V8 13.
    (Overloads("_ZNK2v88internal14MicrotaskQueue11OnCompletedE"), Meaning::MicrotasksCompleted),
    (Overloads("_ZN2v88internal14MicrotaskQueue11OnCompletedE"), Meaning::MicrotasksCompleted),
    // Of the two names of a destructor the other is an alias.
    (Exact("_ZN2v87Isolate31SuppressMicrotaskExecutionScopeD1Ev"), Meaning::SuppressMicrotasksEnd),
    (Exact("uv_write2"), Meaning::StreamWrite),
    (Exact("uv__work_submit"), Meaning::PoolSubmit),
    (Exact("uv_queue_work"), Meaning::PoolQueue),
    (Exact("uv__fs_work"), Meaning::PoolFs),
    (Exact("uv__getaddrinfo_work"), Meaning::PoolDns),
    (Exact("uv__getnameinfo_work"), Meaning::PoolDns),
    (Exact("uv__queue_work"), Meaning::PoolWork),
    (Overloads("_ZN2v814ScriptCompiler15CompileFunctionE"), Meaning::CompileFunction),
    (Overloads("_ZN2v814ScriptCompiler23CompileFunctionInternalE"), Meaning::CompileFunctionInternal),
    (Overloads("_ZN2v814ScriptCompiler24CompileFunctionInContextE"), Meaning::CompileFunctionInContext),
    // The overload for sources that come as a stream has no user in Node.
    (
        Exact(
            "_ZN2v814ScriptCompiler13CompileModuleEPNS_7IsolateEPNS0_6SourceENS0_14CompileOptionsENS0_13NoCacheReasonE",
        ),
        Meaning::CompileModule,
    ),
    (Exact("_ZN2v88internal7Version6major_E"), Meaning::VersionMajor),
    (Exact("_ZN2v88internal7Version6minor_E"), Meaning::VersionMinor),
    (Exact("_ZN2v88internal7Version6build_E"), Meaning::VersionBuild),
    (Exact("_ZN2v88internal7Version6patch_E"), Meaning::VersionPatch),
    (Exact("_ZN2v88internal11interpreter9Bytecodes14kBytecodeSizesE"), Meaning::BytecodeSizes),
    // Before V8 11 the third name is that of a pointer to the first. Of names with a common begin the longer come first.
    (Exact("v8_Default_embedded_blob_code_data_"), Meaning::BuiltinsCode),
    (Exact("v8_Default_embedded_blob_code_size_"), Meaning::BuiltinsSize),
    (Exact("v8_Default_embedded_blob_code_"), Meaning::BuiltinsCode),
];

/// V8 describes itself to debuggers in integers whose names begin so.
const METADATA_PREFIX: &[u8] = b"v8dbg_";
/// The builds examined have 457 to 531.
const MAX_METADATA: usize = 4096;

/// More clones of one function than this are not looked at.
const MAX_CANDIDATES: usize = 64;

impl Meaning {
    const fn is_data(self) -> bool {
        matches!(
            self,
            Self::VersionMajor
                | Self::VersionMinor
                | Self::VersionBuild
                | Self::VersionPatch
                | Self::BytecodeSizes
                | Self::BuiltinsCode
                | Self::BuiltinsSize
        )
    }
}

/// One function or datum, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: VirtualAddress,
    /// Zero: not known.
    pub(super) size_bytes: u64,
    pub(super) rule: Rule,
}

/// Everything found, by meaning, without duplicates of address.
#[derive(Debug, Default)]
pub(super) struct Found {
    candidates: BTreeMap<Meaning, Vec<Candidate>>,
    /// The parts of functions that the compiler moved away because they are never or rarely executed.
    cold: BTreeMap<Meaning, Vec<Candidate>>,
    /// Where V8's metadata stand, by name without the prefix.
    metadata: BTreeMap<Box<str>, VirtualAddress>,
}

impl Found {
    pub(super) fn read(elf: &Elf<'_>, sections: &Sections) -> Result<Self, BinaryError> {
        let mut found = Self::default();
        // First the table that survives `strip`, so that the rule named is the more durable one.
        if let Some(table) = sections.dynsym {
            found.scan(elf, table, Rule::Dynsym)?;
        }
        if let Some(table) = sections.symtab {
            found.scan(elf, table, Rule::Symtab)?;
        }
        Ok(found)
    }

    pub(super) fn all(&self, meaning: Meaning) -> &[Candidate] {
        self.candidates.get(&meaning).map_or(&[], Vec::as_slice)
    }

    pub(super) fn cold_parts(&self, meaning: Meaning) -> &[Candidate] {
        self.cold.get(&meaning).map_or(&[], Vec::as_slice)
    }

    pub(super) fn first_address(&self, meaning: Meaning) -> Option<VirtualAddress> {
        self.all(meaning).first().map(|candidate| candidate.address)
    }

    pub(super) fn has(&self, meaning: Meaning) -> bool {
        !self.all(meaning).is_empty()
    }

    pub(super) fn metadata(&self) -> &BTreeMap<Box<str>, VirtualAddress> {
        &self.metadata
    }

    fn scan(&mut self, elf: &Elf<'_>, table: SymbolTable, rule: Rule) -> Result<(), BinaryError> {
        elf.symbols(
            table,
            |name| meaning_of_prefix(name).is_some() || name.starts_with(METADATA_PREFIX),
            |name, symbol| self.add(name, symbol, rule),
        )
    }

    fn add(&mut self, name: &[u8], symbol: Symbol, rule: Rule) {
        if let Some(name) = name.strip_prefix(METADATA_PREFIX) {
            // The linker appends a version after `@`.
            let name = name.split(|byte| *byte == b'@').next().unwrap_or_default();
            if let Ok(name) = std::str::from_utf8(name)
                && self.metadata.len() < MAX_METADATA
                && !symbol.is_function
            {
                self.metadata.entry(name.into()).or_insert(symbol.address);
            }
            return;
        }
        let Some((meaning, part)) = classify(name) else { return };
        if symbol.is_function == meaning.is_data() {
            return;
        }
        let map = match part {
            Part::Whole => &mut self.candidates,
            Part::Cold => &mut self.cold,
        };
        let candidates = map.entry(meaning).or_default();
        if let Some(known) = candidates.iter_mut().find(|candidate| candidate.address == symbol.address) {
            // Aliases of one address may differ in whether they tell the size.
            known.size_bytes = known.size_bytes.max(symbol.size_bytes);
        } else if candidates.len() < MAX_CANDIDATES {
            candidates.push(Candidate { address: symbol.address, size_bytes: symbol.size_bytes, rule });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Cold,
}

/// Quick test on the begin of a name. What it accepts, [`classify`] judges.
fn meaning_of_prefix(name: &[u8]) -> Option<(&'static Name, Meaning)> {
    if ![&b"_ZN"[..], b"uv_", b"v8_"].iter().any(|begin| name.starts_with(begin)) {
        return None;
    }
    WANTED.iter().find_map(|(wanted, meaning)| {
        let (Exact(text) | Overloads(text)) = wanted;
        name.starts_with(text.as_bytes()).then_some((wanted, *meaning))
    })
}

/// Compilers name clones `name.part.0`, `name.constprop.1307`, `name.isra.0`, `name.cold`, `name.cold.325`; the
/// linker appends a version after `@`.
fn classify(name: &[u8]) -> Option<(Meaning, Part)> {
    let name = name.split(|byte| *byte == b'@').next().unwrap_or_default();
    let (wanted, meaning) = meaning_of_prefix(name)?;
    let mut parts = name.split(|byte| *byte == b'.');
    let plain = parts.next().unwrap_or_default();
    if let Exact(text) = wanted
        && plain != text.as_bytes()
    {
        return None;
    }
    let part = if parts.any(|part| part == b"cold") { Part::Cold } else { Part::Whole };
    Some((meaning, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_that_run_are_taken_and_cold_parts_are_told_apart() {
        let name = "_ZN2v88internal4Heap14CollectGarbageENS0_15AllocationSpaceE";
        for clone in ["", ".part.0", ".constprop.1307", ".part.0.constprop.2", "@@LIBNODE_108"] {
            assert_eq!(
                classify(format!("{name}{clone}").as_bytes()),
                Some((Meaning::CollectGarbage, Part::Whole)),
                "{clone}"
            );
        }
        for clone in [".cold", ".cold.325", ".part.0.cold"] {
            assert_eq!(
                classify(format!("{name}{clone}").as_bytes()),
                Some((Meaning::CollectGarbage, Part::Cold)),
                "{clone}"
            );
        }
    }

    #[test]
    fn similar_names_are_not_taken() {
        for name in [
            "",
            "uv_running",
            "uv_run_x",
            "xuv_run",
            // A lambda inside the function, and a static variable of it.
            "_ZZN2v88internal4Heap14CollectGarbageENS0_15AllocationSpaceEENKUlvE_clEv",
            "_ZN2v88internal4Heap24PreciseCollectAllGarbageEi",
            "_ZN2v88internal4Heap28CollectGarbageOnMemoryPressureEv",
            "_ZN2v88internal4Heap8ScavengeEvE",
            "_ZN2v87Isolate34RequestGarbageCollectionForTestingENS0_21GarbageCollectionTypeEN5cppgc18EmbedderStackStateE",
        ] {
            assert_eq!(classify(name.as_bytes()), None, "{name}");
        }
    }
}

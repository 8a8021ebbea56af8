//! From symbols to points: entries, exits, and what must be decoded.

use std::{cell::OnceCell, collections::BTreeMap, ops::Range};

use super::{
    Architecture, DefaultLoop, FileOffset, GcSizes, Hook, Instruction, Point, Roles, Rule, VirtualAddress,
    code::{self, Exit},
    elf::Elf,
    frames::Frames,
    symbols::{Candidate, Found, Meaning},
};

/// The largest function nodeprobe decodes; the largest there is has 6 KiB.
const MAX_FUNCTION_BYTES: u64 = 64 << 10;

/// A function with a known range.
#[derive(Clone, Copy)]
struct Function {
    address: VirtualAddress,
    offset: FileOffset,
    size_bytes: Option<u64>,
    rule: Rule,
}

/// The points of a file, and why there are none; see [`super::Binary`].
pub(super) struct Survey {
    pub(super) points: BTreeMap<Hook, Vec<Point>>,
    pub(super) missing: BTreeMap<Hook, String>,
    pub(super) backend_fd_offset: Option<u32>,
    pub(super) default_loop: Option<DefaultLoop>,
    pub(super) gc_sizes: Option<GcSizes>,
    pub(super) async_ids_offset: Option<u32>,
    pub(super) context_frame_offset: Option<u32>,
}

/// Surveys the components that the file has.
pub(super) fn survey(elf: &Elf<'_>, found: &Found, has: Roles) -> Survey {
    let mut surveyor =
        Surveyor { elf, found, frames: OnceCell::new(), points: BTreeMap::new(), missing: BTreeMap::new() };
    surveyor.run(has);
    let backend_fd_offset = surveyor.backend_fd_offset();
    let default_loop = surveyor.default_loop();
    let gc_sizes = surveyor.gc_sizes();
    let async_ids_offset = surveyor.async_ids_offset();
    let context_frame_offset = surveyor.context_frame_offset();
    let Surveyor { points, missing, .. } = surveyor;
    Survey {
        points,
        missing,
        backend_fd_offset,
        default_loop,
        gc_sizes,
        async_ids_offset,
        context_frame_offset,
    }
}

struct Surveyor<'elf> {
    elf: &'elf Elf<'elf>,
    found: &'elf Found,
    /// Read when first needed: the symbols of official builds all tell their size. `None`: there is none.
    frames: OnceCell<Option<Frames>>,
    points: BTreeMap<Hook, Vec<Point>>,
    missing: BTreeMap<Hook, String>,
}

impl Surveyor<'_> {
    fn run(&mut self, has: Roles) {
        let mut entries = Vec::new();
        if has.node {
            entries.extend([
                (Hook::LoadEnvironment, Meaning::LoadEnvironment),
                (Hook::SpinEventLoop, Meaning::SpinEventLoop),
                (Hook::WorkerRun, Meaning::WorkerRun),
                (Hook::PromiseReject, Meaning::PromiseReject),
                (Hook::RejectFailed, Meaning::PrintCaughtException),
                (Hook::UncaughtException, Meaning::UncaughtException),
                (Hook::OutOfMemory, Meaning::OutOfMemory),
            ]);
        }
        if has.libuv {
            entries.extend([
                (Hook::UvRun, Meaning::UvRun),
                (Hook::StreamWrite, Meaning::StreamWrite),
                (Hook::PoolSubmit, Meaning::PoolSubmit),
                (Hook::PoolQueue, Meaning::PoolQueue),
                (Hook::PoolFs, Meaning::PoolFs),
                (Hook::PoolDns, Meaning::PoolDns),
                (Hook::PoolWork, Meaning::PoolWork),
            ]);
        }
        if has.v8 {
            entries.extend([
                (Hook::GcMinor, Meaning::MinorCollection),
                (Hook::GcMajor, Meaning::MajorCollection),
                (Hook::NearHeapLimit, Meaning::NearHeapLimit),
                (Hook::Deopt, Meaning::Deoptimizer),
            ]);
            self.survey_gc();
            self.survey_heap_size();
            self.survey_microtasks();
            self.survey_compile();
            // At 13 µs for each quarter of a megabyte a slow one would be felt.
            let pages = self.functions(Meaning::NewPage);
            let pages = pages.iter().filter_map(|function| self.entry(function));
            let pages: Vec<Point> = pages.filter(|point| point.instruction == Instruction::Push).collect();
            if !pages.is_empty() {
                self.points.insert(Hook::NewPage, pages);
            }
        }
        for (hook, meaning) in entries {
            let functions = self.functions(meaning);
            self.add_entries(hook, &functions);
        }
    }

    fn survey_gc(&mut self) {
        let mut functions = self.functions(Meaning::CollectGarbage);
        if functions.is_empty() {
            match self.decode_gc() {
                Ok(function) => functions.push(function),
                Err(reason) => {
                    self.missing.insert(Hook::GcStart, reason.to_owned());
                    self.missing.insert(Hook::GcEnd, reason.to_owned());
                    return;
                }
            }
        }
        self.add_entries(Hook::GcStart, &functions);
        // Not missed where it is absent: it only is the better way.
        let mut stops = self.functions(Meaning::StopObservablePause);
        if stops.is_empty()
            && let [function] = functions.as_slice()
        {
            stops.extend(self.decode_gc_stop(function));
        }
        let stops: Vec<Point> = stops.iter().filter_map(|function| self.entry(function)).collect();
        if !stops.is_empty() {
            self.points.insert(Hook::GcStop, stops);
        }
        match self.exits(&functions, Meaning::CollectGarbage) {
            Ok(points) => {
                self.points.insert(Hook::GcEnd, points);
            }
            Err(reason) => {
                self.missing.insert(Hook::GcEnd, reason.to_owned());
            }
        }
    }

    fn survey_heap_size(&mut self) {
        let functions = self.functions(Meaning::SizeOfObjects);
        let result = if functions.is_empty() {
            Err("the symbol is not in the file")
        } else {
            self.exits(&functions, Meaning::SizeOfObjects)
        };
        let reason = match result {
            Ok(points) if points.iter().all(|point| point.instruction == Instruction::Return) => {
                self.points.insert(Hook::HeapSize, points);
                return;
            }
            // One exit less would make "the last value seen" a wrong one.
            Ok(_) => "the function leaves by a jump, where its result is not known yet",
            Err(reason) => reason,
        };
        self.missing.insert(Hook::HeapSize, reason.to_owned());
    }

    /// The drain ends where `RunMicrotasks` calls `OnCompleted`; where the compiler has put that into it (clang, Node.js 26), where
    /// the scope that it opens is closed.
    fn survey_microtasks(&mut self) {
        let begins = self.functions(Meaning::TryRunMicrotasks);
        self.add_entries(Hook::DrainBegin, &begins);
        let bodies = self.functions(Meaning::RunMicrotasks);
        let called = |callee: &Function| bodies.iter().any(|body| self.calls(body, callee.address));
        let ends =
            [Meaning::MicrotasksCompleted, Meaning::SuppressMicrotasksEnd].into_iter().find_map(|meaning| {
                let ends: Vec<Function> = self.functions(meaning).into_iter().filter(called).collect();
                (!ends.is_empty()).then_some(ends)
            });
        if let Some(ends) = ends {
            self.add_entries(Hook::DrainEnd, &ends);
        } else {
            let reason = "what is called at its end has no symbol in the file";
            self.missing.insert(Hook::DrainEnd, reason.to_owned());
        }
    }

    fn calls(&self, function: &Function, callee: VirtualAddress) -> bool {
        let Some(size) = function.size_bytes else { return false };
        let Ok(code) = self.elf.code(function.address, size, MAX_FUNCTION_BYTES) else { return false };
        code::calls(self.elf.architecture, &code, function.address, callee)
    }

    fn survey_compile(&mut self) {
        // What Node calls leads to the first of these that there is: Node 18 to 22 have the first, 16 the second, 24 and newer
        // the last alone.
        let functions =
            [Meaning::CompileFunctionInternal, Meaning::CompileFunctionInContext, Meaning::CompileFunction];
        let function = functions.into_iter().find(|meaning| !self.functions(*meaning).is_empty());
        let function = function.unwrap_or(Meaning::CompileFunction);
        let mut ends = Vec::new();
        for (hook, meaning) in
            [(Hook::CompileFunction, function), (Hook::CompileModule, Meaning::CompileModule)]
        {
            let functions = self.functions(meaning);
            self.add_entries(hook, &functions);
            match self.exits(&functions, meaning) {
                Ok(points) => ends.extend(points),
                Err(reason) => {
                    self.missing.insert(Hook::CompileEnd, reason.to_owned());
                }
            }
        }
        // Half of the ends would count half of the modules.
        if !self.missing.contains_key(&Hook::CompileEnd) && !ends.is_empty() {
            self.points.insert(Hook::CompileEnd, ends);
        }
    }

    fn add_entries(&mut self, hook: Hook, functions: &[Function]) {
        let points: Vec<Point> = functions.iter().filter_map(|function| self.entry(function)).collect();
        if points.is_empty() {
            self.missing.insert(hook, "the symbol is not in the file".to_owned());
        } else {
            self.points.insert(hook, points);
        }
    }

    fn entry(&self, function: &Function) -> Option<Point> {
        // The longest `push` has two bytes.
        let mut code = [0; 2];
        self.elf.read_at(function.address, &mut code, "the begin of a function").ok()?;
        Some(Point {
            address: function.address,
            offset: function.offset,
            rule: function.rule,
            instruction: code::first_instruction(self.elf.architecture, &code),
            function_size_bytes: function.size_bytes,
        })
    }

    /// The functions of a meaning that are code, by ascending address. Others cannot be probed and are left out.
    fn functions(&self, meaning: Meaning) -> Vec<Function> {
        let mut functions: Vec<Function> = self
            .found
            .all(meaning)
            .iter()
            .filter_map(|candidate| {
                Some(Function {
                    address: candidate.address,
                    offset: self.elf.executable_offset(candidate.address)?,
                    size_bytes: self.size_of(candidate),
                    rule: candidate.rule,
                })
            })
            .collect();
        functions.sort_unstable_by_key(|function| function.address);
        functions
    }

    /// `None`: not known, or a lie, because the function would leave its segment.
    fn size_of(&self, candidate: &Candidate) -> Option<u64> {
        let start = candidate.address.0;
        let size = if candidate.size_bytes > 0 {
            candidate.size_bytes
        } else {
            let range = self.frames()?.function_at(candidate.address)?;
            (range.start == start).then_some(range.end - range.start)?
        };
        let last = VirtualAddress(start.checked_add(size.checked_sub(1)?)?);
        let distance =
            self.elf.executable_offset(last)?.0.checked_sub(self.elf.executable_offset(candidate.address)?.0);
        (distance == Some(size - 1)).then_some(size)
    }

    fn frames(&self) -> Option<&Frames> {
        // An unwind table that cannot be read is as good as none: it only fills gaps.
        self.frames.get_or_init(|| Frames::read(self.elf).ok().flatten()).as_ref()
    }

    /// All exits of all clones, by ascending address.
    fn exits(&self, functions: &[Function], meaning: Meaning) -> Result<Vec<Point>, &'static str> {
        let cold: Vec<Function> = self
            .found
            .cold_parts(meaning)
            .iter()
            .filter_map(|part| {
                Some(Function {
                    address: part.address,
                    offset: self.elf.executable_offset(part.address)?,
                    size_bytes: Some(part.size_bytes).filter(|size| *size > 0),
                    rule: part.rule,
                })
            })
            .collect();
        let parts: Vec<Range<u64>> = functions
            .iter()
            .chain(&cold)
            .filter_map(|part| Some(part.address.0..part.address.0.checked_add(part.size_bytes?)?))
            .collect();
        let mut points = Vec::new();
        for function in functions {
            let exits = self.exits_of(function, &parts)?;
            if exits.is_empty() {
                return Err("the function never returns");
            }
            points.extend(exits);
        }
        for part in cold.iter().filter(|part| part.size_bytes.is_some()) {
            points.extend(self.exits_of(part, &parts)?);
        }
        points.sort_unstable_by_key(|point: &Point| point.address);
        points.dedup_by_key(|point| point.address);
        Ok(points)
    }

    fn exits_of(&self, function: &Function, parts: &[Range<u64>]) -> Result<Vec<Point>, &'static str> {
        let size = function.size_bytes.ok_or("the size of the function is not known")?;
        let code = self
            .elf
            .code(function.address, size, MAX_FUNCTION_BYTES)
            .ok()
            .ok_or("the instructions of the function cannot be read")?;
        let exits = code::exits(self.elf.architecture, &code, function.address, parts)
            .ok_or("the instructions of the function cannot be decoded")?;
        exits
            .into_iter()
            .map(|Exit { address, instruction }| {
                let offset = self.elf.executable_offset(address).ok_or("an exit lies outside the code")?;
                let function_size_bytes = function.size_bytes;
                Ok(Point { address, offset, rule: function.rule, instruction, function_size_bytes })
            })
            .collect()
    }

    /// `Heap::CollectGarbage` of builds whose V8 internals have no symbols (Node 24 and later, stripped).
    fn decode_gc(&self) -> Result<Function, &'static str> {
        const DOUBT: &str = "what its exported caller calls does not look like a function";
        let wrapper = *self
            .functions(Meaning::RequestGarbageCollection)
            .first()
            .ok_or("neither its symbol nor that of an exported caller is in the file")?;
        let size = wrapper.size_bytes.ok_or("the size of its exported caller is not known")?;
        let code = self
            .elf
            .code(wrapper.address, size, MAX_FUNCTION_BYTES)
            .ok()
            .ok_or("its exported caller cannot be read")?;
        let address = code::decode_collect_garbage(self.elf.architecture, &code, wrapper.address)
            .ok_or("its symbol is not in the file and its exported caller has an unknown shape")?;
        self.decoded(address).ok_or(DOUBT)
    }

    /// `GCTracer::StopObservablePause` of such builds, through what the collection does at its safepoint.
    fn decode_gc_stop(&self, collect_garbage: &Function) -> Option<Function> {
        let now = self.functions(Meaning::TimeTicksNow).first()?.address;
        let code = |function: &Function| {
            self.elf.code(function.address, function.size_bytes?, MAX_FUNCTION_BYTES).ok()
        };
        let callees = code::callees(self.elf.architecture, &code(collect_garbage)?, collect_garbage.address);
        let mut found = callees.into_iter().filter_map(|callee| {
            let callee = self.decoded(callee)?;
            code::end_of_observable_pause(self.elf.architecture, &code(&callee)?, callee.address, now)
        });
        let stop = found.next()?;
        // Two that look like it: which of them is it?
        if found.next().is_some() { None } else { self.decoded(stop) }
    }

    /// The function that a decoded address is the begin of. A stub of the procedure linkage table, or a wrong guess, is no function
    /// of the unwind table that begins by saving the frame pointer.
    fn decoded(&self, address: VirtualAddress) -> Option<Function> {
        let offset = self.elf.executable_offset(address)?;
        let range = self.frames()?.function_at(address)?;
        let function =
            Function { address, offset, size_bytes: Some(range.end - range.start), rule: Rule::Decoded };
        let begins_with_push = self.elf.architecture == Architecture::Aarch64
            || self.entry(&function).is_some_and(|point| point.instruction == Instruction::Push);
        (range.start == address.0 && begins_with_push).then_some(function)
    }

    /// `GCTracer::StartInSafepoint` and `StopInSafepoint` each ask for the size of the heap and store it in their own
    /// object.
    fn gc_sizes(&self) -> Option<GcSizes> {
        let size_of_objects = self.functions(Meaning::SizeOfObjects).first()?.address;
        let stored = |meaning| {
            let functions = self.functions(meaning);
            let [function] = functions.as_slice() else { return None };
            let code = self.elf.code(function.address, function.size_bytes?, MAX_FUNCTION_BYTES).ok()?;
            code::stored_result(self.elf.architecture, &code, function.address, size_of_objects)
        };
        Some(GcSizes { before: stored(Meaning::StartInSafepoint)?, after: stored(Meaning::StopInSafepoint)? })
    }

    fn async_ids_offset(&self) -> Option<u32> {
        let function = *self.functions(Meaning::ExecutionAsyncId).first()?;
        let code = self.elf.code(function.address, function.size_bytes?, MAX_FUNCTION_BYTES).ok()?;
        code::double_behind_field(self.elf.architecture, &code)
    }

    /// All that read it must agree.
    fn context_frame_offset(&self) -> Option<u32> {
        let mut offsets = self.functions(Meaning::ContinuationData).into_iter().map(|function| {
            let code = self.elf.code(function.address, function.size_bytes?, MAX_FUNCTION_BYTES).ok()?;
            code::field_in_handle(self.elf.architecture, &code)
        });
        let first = offsets.next()??;
        offsets.all(|offset| offset == Some(first)).then_some(first)
    }

    fn default_loop(&self) -> Option<DefaultLoop> {
        let function = *self.functions(Meaning::UvDefaultLoop).first()?;
        let code = self.elf.code(function.address, function.size_bytes?, MAX_FUNCTION_BYTES).ok()?;
        let pointer = code::loaded_global(self.elf.architecture, &code, function.address)?;
        let distance_bytes = pointer.0.checked_signed_diff(function.address.0)?;
        Some(DefaultLoop { function: function.offset, distance_bytes })
    }

    fn backend_fd_offset(&self) -> Option<u32> {
        let function = *self.functions(Meaning::UvBackendFd).first()?;
        let code = self.elf.code(function.address, function.size_bytes?, MAX_FUNCTION_BYTES).ok()?;
        code::returned_field(self.elf.architecture, &code)
    }
}

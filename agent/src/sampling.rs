//! From a raw sample to a stack with names: what V8's memory tells of JavaScript frames, symbols of native ones, original
//! lines of compiled sources, packages, and what the stack was busy with.
//!
//! Runs as soon as the sample is there, because what a stack means is in the memory of the process and moves there.
//! The collector is locked only to look up the process and to hand over the result.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, TryLockError},
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{
    part::SYSCALL_UNKNOWN,
    sample::{
        SAMPLE_ALLOCATION, SAMPLE_BLOCKED, SAMPLE_CONTEXT, SAMPLE_DEOPT, SAMPLE_IN_GC, SAMPLE_IN_WRITE,
        SAMPLE_POOL, SAMPLE_REJECTION, SAMPLE_REQUEST, SAMPLE_YOUNG, YOUNG_EVERY,
    },
};

use crate::{
    agent::lock,
    clean::clean,
    collector::Collector,
    model::{Category, Frame, FrameKind, ProcessId, Stack},
    procfs::{ProcessDir, Procfs},
    readout::RawSample,
    stack::{Situation, SourceMaps, Symbolizer, classify, package_of, source_map::Position},
    stall::{Sampled, WhileSampled},
    syscalls,
    target::StackSource,
    v8::{self, RawStack, StackReader},
};

/// Samples that wait for their process to be registered, at most.
const WAITING_MAX: usize = 256;
/// How long they wait. Discovery takes some milliseconds, also for a build never seen before.
const WAITING_FOR: Duration = Duration::from_millis(500);
/// Distinct stacks that are remembered of one process, so that equal ones are one in memory.
const STACKS_MAX: usize = 2048;
/// How often processes that have ended are forgotten. Each holds two descriptors.
const FORGET_EVERY: Duration = Duration::from_millis(500);
/// Processes that are opened at a time without having been sampled.
const OPENED_EARLY_MAX: usize = 64;
/// A longer link to a source map, which then is the map itself, is not read.
const MAP_MAX_UNITS: u32 = 16 << 20;
/// A path behind a descriptor is cut after so many characters.
const PATH_MAX_CHARS: usize = 512;

/// Flags of samples that were not taken by the clock or before a sleep.
const OCCASIONS: u32 =
    SAMPLE_REJECTION | SAMPLE_DEOPT | SAMPLE_ALLOCATION | SAMPLE_POOL | SAMPLE_CONTEXT | SAMPLE_REQUEST;

/// Decodes samples of all processes.
pub struct Decoder {
    procfs: Procfs,
    processes: HashMap<u32, Observed>,
    symbols: Symbolizer,
    source_maps: SourceMaps,
    waiting: VecDeque<(Instant, Box<RawSample>)>,
    /// `Targets::registered` when processes were opened last.
    registered: u64,
    forgotten: Instant,
}

/// What is said of a stack without any function of a script, of which outer frames are missing.
const NO_SCRIPT: &str = "frame pointers lead to no function of a script";

/// What is remembered of one process.
struct Observed {
    id: ProcessId,
    source: StackSource,
    /// For files that its scripts tell of.
    process: ProcessDir,
    reader: StackReader,
    stacks: HashSet<Arc<Stack>>,
}

impl Observed {
    /// `None`: the process has ended.
    fn new(id: ProcessId, source: &StackSource, procfs: &Procfs) -> Option<Self> {
        let open = || procfs.process(id.pid).ok();
        let StackSource { layout, file } = source.clone();
        let reader = StackReader::new(open()?, layout, file);
        Some(Self { id, source: source.clone(), process: open()?, reader, stacks: HashSet::new() })
    }

    /// Whether it is still this process, and the same program: `exec` keeps the id.
    fn is(&self, id: ProcessId, source: &StackSource) -> bool {
        self.id == id && self.source.is_same(source)
    }

    /// The same stack as one seen before, where there is one.
    fn intern(&mut self, stack: Stack) -> Arc<Stack> {
        if let Some(known) = self.stacks.get(&stack) {
            return Arc::clone(known);
        }
        if self.stacks.len() >= STACKS_MAX {
            self.stacks.clear();
        }
        let stack = Arc::new(stack);
        self.stacks.insert(Arc::clone(&stack));
        stack
    }
}

impl Decoder {
    pub fn new(procfs: Procfs) -> Self {
        Self {
            symbols: Symbolizer::new(procfs.clone()),
            source_maps: SourceMaps::new(),
            procfs,
            processes: HashMap::new(),
            waiting: VecDeque::new(),
            registered: 0,
            forgotten: Instant::now(),
        }
    }

    /// Takes in one sample and hands what it means to the collector.
    pub fn sampled(&mut self, sample: Box<RawSample>, shared: &Mutex<Collector>) {
        // The memory first: a process that is about to die takes it along in a millisecond or two, and a snapshot may hold the
        // lock for as long.
        let pid = sample.header.tgid;
        let known = self.processes.get(&pid).map(|observed| (observed.id, observed.source.clone()));
        let early = known.and_then(|(id, source)| Some((id, self.decode(id, &source, &sample)?, source)));
        let Some((id, source)) = lookup(shared, pid, early.as_ref().map(|(id, ..)| *id)) else {
            // It has just begun; discovery is about to register it.
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back((Instant::now(), sample));
            }
            return;
        };
        // Without a source the signal is not available, and `ps` says why.
        let Some(source) = source else { return };
        let early = early.filter(|(of, _, with)| *of == id && with.is_same(&source));
        let Some(sampled) =
            early.map(|(_, sampled, _)| sampled).or_else(|| self.decode(id, &source, &sample))
        else {
            return;
        };
        let header = &sample.header;
        let in_loop_code = header.left_pc != 0
            && self.processes.get_mut(&pid).is_some_and(|seen| seen.reader.is_in_loop_code(header.left_pc));
        let mut shared = lock(shared);
        if header.flags & OCCASIONS == 0 {
            shared.sampling.sample(header.tid, header.turn_start_ns, sampled);
        } else {
            let of = (id, header.tid);
            let taken = (header.flags, header.descriptor);
            shared.occasions.sample(of, taken, header.turn_start_ns, (sampled.stack, in_loop_code));
        }
    }

    /// Looks again at samples whose process was not known, opens processes that have been registered, and forgets those that
    /// have ended. To be called often.
    pub fn housekeeping(&mut self, shared: &Mutex<Collector>) {
        self.open_registered(shared);
        for _ in 0..self.waiting.len() {
            let Some((since, sample)) = self.waiting.pop_front() else { break };
            if lookup(shared, sample.header.tgid, None).is_some() {
                self.sampled(sample, shared);
            } else if since.elapsed() < WAITING_FOR {
                self.waiting.push_back((since, sample));
            }
        }
        if self.forgotten.elapsed() >= FORGET_EVERY {
            self.forgotten = Instant::now();
            let shared = lock(shared);
            let (symbols, source_maps) = (&mut self.symbols, &mut self.source_maps);
            self.processes.retain(|pid, observed| {
                let lives = shared.targets.get(*pid).is_some_and(|target| target.id == observed.id);
                if !lives {
                    symbols.forget(observed.id);
                    source_maps.forget(observed.id);
                }
                lives
            });
        }
    }

    /// Makes ready for processes before their first sample, which may be of their death. A lock that is held is left for the next
    /// time.
    fn open_registered(&mut self, shared: &Mutex<Collector>) {
        let shared = match shared.try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let registered = shared.targets.registered();
        if registered == self.registered {
            return;
        }
        let new = shared.targets.live().filter(|target| !self.processes.contains_key(&target.id.pid));
        let new: Vec<_> = new
            .filter_map(|target| Some((target.id, target.stacks.clone()?)))
            .take(OPENED_EARLY_MAX)
            .collect();
        drop(shared);
        if new.len() < OPENED_EARLY_MAX {
            self.registered = registered;
        }
        for (id, source) in new {
            if let Some(observed) = Observed::new(id, &source, &self.procfs) {
                self.processes.insert(id.pid, observed);
            }
        }
    }

    /// `None`: the process has ended.
    fn decode(&mut self, id: ProcessId, source: &StackSource, sample: &RawSample) -> Option<Sampled> {
        let header = &sample.header;
        let has = |flag: u32| header.flags & flag != 0;
        let situation = Situation {
            in_gc: has(SAMPLE_IN_GC),
            in_write: has(SAMPLE_IN_WRITE),
            blocked: has(SAMPLE_BLOCKED),
        };
        let (stack, category) = self.stack(id, source, sample, situation)?;
        Some(Sampled {
            stack,
            category,
            time_ns: header.time_ns,
            sampled_while: match situation {
                Situation { blocked: true, .. } => WhileSampled::FallingAsleep,
                Situation { in_gc: true, .. } => WhileSampled::Collecting,
                Situation { in_write: true, .. } => WhileSampled::Writing,
                _ => WhileSampled::Running,
            },
            ticks: if has(SAMPLE_YOUNG) { YOUNG_EVERY.into() } else { 1 },
            file: self.file(header.tgid, header.syscall, header.descriptor),
        })
    }

    fn stack(
        &mut self,
        id: ProcessId,
        source: &StackSource,
        sample: &RawSample,
        situation: Situation,
    ) -> Option<(Arc<Stack>, Category)> {
        let is_same = self.processes.get(&id.pid).is_some_and(|observed| observed.is(id, source));
        if !is_same {
            self.symbols.forget(id);
            self.source_maps.forget(id);
            self.processes.insert(id.pid, Observed::new(id, source, &self.procfs)?);
        }
        let observed = self.processes.get_mut(&id.pid)?;
        let header = &sample.header;
        let raw = RawStack {
            pc: header.pc,
            sp: header.sp,
            fp: header.fp,
            frames: &sample.frames,
            image: &sample.image,
        };
        let decoded = observed.reader.read(&raw);
        // A return address may lie behind the last instruction of its function.
        let addresses: Vec<u64> = decoded.frames.iter().filter_map(address).collect();
        let addresses: Vec<u64> =
            addresses.iter().map(|&pc| if pc == header.pc { pc } else { pc.saturating_sub(1) }).collect();
        let mut names = self.symbols.names(id, &addresses).into_iter();
        let (maps, Observed { process, reader, .. }) = (&mut self.source_maps, &mut *observed);
        let name = |frame: &v8::Frame| address(frame).and_then(|_| names.next().flatten());
        let frames = frames(decoded.frames, name, |function| javascript(maps, id, process, reader, function));
        let has_script =
            frames.iter().any(|frame| matches!(frame.kind, FrameKind::JavaScript | FrameKind::NodeInternal));
        let problem = (!has_script && decoded.truncated).then_some(NO_SCRIPT);
        let stack = Stack { frames, truncated: decoded.truncated, problem };
        let category = classify(&stack, situation);
        Some((observed.intern(stack), category))
    }

    /// What the descriptor that a thread falls asleep with leads to.
    fn file(&self, pid: u32, syscall: u32, descriptor: i32) -> Option<Arc<str>> {
        if syscall == SYSCALL_UNKNOWN || !syscalls::takes_descriptor(syscall) {
            return None;
        }
        let link = self.procfs.process(pid).ok()?.descriptor(u32::try_from(descriptor).ok()?).ok()?;
        Some(clean(link.path.as_os_str().as_encoded_bytes(), PATH_MAX_CHARS).into())
    }
}

/// The process of a sample; `None`: it is not registered. One that has ended is meant only if memory of just this one was `read`:
/// the pid may be another's by now.
fn lookup(
    shared: &Mutex<Collector>,
    pid: u32,
    read: Option<ProcessId>,
) -> Option<(ProcessId, Option<StackSource>)> {
    let shared = lock(shared);
    let ended = || shared.targets.find(pid).filter(|target| Some(target.id) == read);
    let target = shared.targets.get(pid).or_else(ended)?;
    Some((target.id, target.stacks.clone()))
}

/// Of a frame that a symbol names.
fn address(frame: &v8::Frame) -> Option<u64> {
    match frame {
        v8::Frame::JavaScript(_) | v8::Frame::Generated { .. } => None,
        v8::Frame::Builtin { pc, .. } | v8::Frame::Native { pc, .. } => Some(*pc),
    }
}

/// Frames with names. Stubs of V8 that only lead from one function to the next are left out.
fn frames(
    decoded: Vec<v8::Frame>,
    mut name: impl FnMut(&v8::Frame) -> Option<Arc<str>>,
    mut javascript: impl FnMut(&v8::JavaScript) -> Frame,
) -> Vec<Frame> {
    let mut frames = Vec::with_capacity(decoded.len());
    for frame in decoded {
        let symbol = name(&frame);
        frames.push(match frame {
            v8::Frame::JavaScript(function) => javascript(&function),
            v8::Frame::Builtin { name, .. } => unnamed(FrameKind::Builtin, symbol.or(name)),
            v8::Frame::Native { .. } => unnamed(FrameKind::Native, symbol),
            v8::Frame::Generated { .. } => unnamed(FrameKind::Builtin, Some("(generated code)".into())),
        });
    }
    frames
}

fn unnamed(kind: FrameKind, function: Option<Arc<str>>) -> Frame {
    Frame {
        kind,
        function: function.unwrap_or_else(|| "(unknown)".into()),
        script: None,
        line: None,
        column: None,
        line_is_exact: false,
        package: None,
    }
}

/// A function of a script, at its original place where a source map tells.
fn javascript(
    maps: &mut SourceMaps,
    id: ProcessId,
    process: &ProcessDir,
    reader: &mut StackReader,
    function: &v8::JavaScript,
) -> Frame {
    let place = function.position.or(function.start);
    let mut frame = Frame {
        kind: FrameKind::JavaScript,
        function: function.function.clone().unwrap_or_else(|| "(anonymous)".into()),
        script: function.script.clone(),
        line: place.map(|place| place.line),
        column: function.position.map(|place| place.column),
        line_is_exact: function.position.is_some(),
        package: None,
    };
    let Some(script) = &function.script else { return frame };
    if script.starts_with("node:") {
        frame.kind = FrameKind::NodeInternal;
        return frame;
    }
    // What ts-node and its like compile in memory has its map in V8 only, as a link that holds it.
    let is_asked = function.source_map_url.is_none() && !maps.knows(id, script);
    let long_url = is_asked.then(|| reader.source_map_url(function.script_ref, MAP_MAX_UNITS)).flatten();
    let url = function.source_map_url.as_deref().or(long_url.as_deref());
    let mut original = |line, column| maps.original(id, process, script, url, Position { line, column });
    if let Some(place) = place
        && let Some(found) = original(place.line, place.column)
    {
        frame.script = Some(found.source);
        frame.line = Some(found.line);
        frame.column = frame.column.map(|_| found.column);
        // A function begins at its parameters for V8; its name, or the variable it is the value of, stands in front.
        if let (Some(_), Some(start)) = (&function.function, function.start)
            && let Some(name) =
                original(start.line, start.column.saturating_sub(1)).and_then(|found| found.name)
        {
            frame.function = name;
        }
    }
    frame.package = frame.script.as_deref().and_then(package_of).map(Into::into);
    frame
}

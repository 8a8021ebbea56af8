//! Loads the programs. One that the kernel refuses costs its own signal only.

use std::{
    collections::{BTreeMap, HashMap as HashMapOf},
    io,
    num::NonZero,
    os::fd::OwnedFd,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, BtfError, Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{PerfEvent, Program, ProgramError, TracePoint, UProbe},
};
use nodeprobe_ebpf::{
    ContextRecord, DutyRecord, PoolThread, PoolWork, PoolWorkKey, RejectionRecord, SocketKey, SocketRecord,
    StdioKey, StdioRecord, ThreadRecord, part::SYSCALLS_LEN, tick::Tick,
};

use super::{
    multi::MultiPrograms,
    sched::{RAW_TRACEPOINTS, load_raw},
};
use crate::{
    governor::Budget,
    kernel::{btf, tick},
    readout::{
        Maps,
        duty::DutyTable,
        maps::Wire,
        questions::{Asked, Questions},
        queues::Queues,
        ring::Ring,
        stack_pointers::StackPointers,
    },
    syscalls,
};

/// The object that build.rs compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nodeprobe-ebpf"));

/// What user space decides about the programs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Turns of at least this length are stalls, nanoseconds.
    pub stall_threshold_ns: u64,
    /// GC pauses of at least this length are told one by one, nanoseconds.
    pub gc_event_threshold_ns: u64,
    /// Loop threads that can be observed at once. Each costs 14 KiB of kernel memory, allocated at the start.
    pub max_threads: u32,
    /// Whether stacks are sampled.
    pub stacks: bool,
    /// What probes that are hit often may cost.
    pub budget: Budget,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stall_threshold_ns: 50_000_000,
            gc_event_threshold_ns: 10_000_000,
            max_threads: 1024,
            stacks: true,
            budget: Budget { overhead: 0.01 },
        }
    }
}

/// Why nothing at all can be observed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the kernel refused the eBPF maps or the object as a whole")]
    Object(#[source] Box<aya::EbpfError>),
    #[error(
        "the embedded eBPF object has no map `{name}` of the expected kind; this build of nodeprobe is broken"
    )]
    Map { name: &'static str },
    #[error("none of the eBPF programs was accepted by the kernel; the first refusal was for `{name}`")]
    NoProgram {
        name: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
}

impl LoadError {
    /// Whether the remedy is a permission.
    pub fn is_permission(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = source {
            if let Some(io_error) = error.downcast_ref::<io::Error>()
                && matches!(io_error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
            {
                return true;
            }
            source = error.source();
        }
        false
    }
}

/// The loaded programs. Dropping it detaches and unloads everything.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    /// Programs that the kernel refused, with its words.
    pub(super) refused: BTreeMap<&'static str, String>,
    /// Programs that were loaded for links of many places, which then are not loaded in `ebpf`.
    pub(super) multi: BTreeMap<&'static str, OwnedFd>,
    pub(super) stacks: bool,
    /// The kernel's tick if it can be the clock of samples; else the reason.
    pub(super) tick: Result<Tick, String>,
    /// When each processor has seen its last tick, `CLOCK_MONOTONIC`.
    pub(super) tick_seen: PerCpuArray<MapData, u64>,
    /// Where `task_struct` has the thread id; else why that is not known.
    pub(super) task_pid_offset: Result<u64, String>,
    /// Whether switches are read right, `SWITCH_*`.
    pub(super) switches_read: Array<MapData, u64>,
    /// Which time it is that the programs of `async_context` are attached.
    pub(super) context_window: Array<MapData, u64>,
    pub(super) windows: u64,
}

/// The programs and the reading ends of their maps.
pub struct Handles {
    pub kernel: Kernel,
    pub maps: Maps,
    pub ring: Ring,
    pub duty: DutyTable,
    pub stack_pointers: StackPointers,
}

pub(super) const TRACEPOINT_PROGRAMS: [&str; 13] = [
    "epoll_exit",
    "epoll_enter",
    "write_exit",
    "write_enter",
    "write_return",
    "dup_enter",
    "process_exec",
    "thread_exit",
    "listen_exit",
    "sched_switch",
    "sched_wakeup",
    "context_read",
    "context_write",
];
pub(super) const UPROBE_PROGRAMS: [&str; 29] = [
    "load_environment",
    "spin_event_loop",
    "uv_run",
    "worker_run",
    "gc_start",
    "gc_end",
    "gc_stop",
    "gc_minor",
    "gc_major",
    "heap_size",
    "new_page",
    "promise_reject",
    "uncaught_exception",
    "reject_failed",
    "out_of_memory",
    "near_heap_limit",
    "deopt",
    "drain_begin",
    "drain_end",
    "calibration",
    "stream_write",
    "pool_submit",
    "pool_queue",
    "pool_fs",
    "pool_dns",
    "pool_work",
    "compile_function",
    "compile_module",
    "compile_end",
];

/// The programs that sample stacks: at the kernel's tick, where it can be used, and by a clock of our own.
pub(super) const TICK_PROGRAM: &str = "sample_tick";
pub(super) const CLOCK_PROGRAM: &str = "sample";

impl Kernel {
    /// Loads maps and programs and hands out the reading ends.
    ///
    /// # Errors
    /// When the kernel refuses the maps or every single program; the cause names the system call.
    pub fn load(settings: &Settings) -> Result<Handles, LoadError> {
        let tick = tick::of_host(Path::new("/"));
        let task_pid_offset = btf::member_offset(Path::new("/"), "task_struct", "pid").map(u64::from);
        let btf = Btf::from_sys_fs();
        let mut ebpf = EbpfLoader::new()
            .btf(btf.as_ref().ok())
            .override_global("STALL_THRESHOLD_NS", &settings.stall_threshold_ns, true)
            .override_global("SAMPLE_STACKS", &u32::from(settings.stacks), true)
            .override_global("TICK_NS", &tick.as_ref().map_or(0, |tick| tick.length_ns()), true)
            .override_global("GC_EVENT_THRESHOLD_NS", &settings.gc_event_threshold_ns, true)
            .override_global("TASK_PID_OFFSET", task_pid_offset.as_ref().unwrap_or(&0), true)
            .map_max_entries("THREADS", settings.max_threads)
            .map_max_entries("STDIO", settings.max_threads.saturating_mul(2))
            .map_max_entries("CONTEXTS", settings.max_threads)
            .map_max_entries("REJECTIONS", settings.max_threads)
            .load(OBJECT)
            .map_err(|error| LoadError::Object(Box::new(error)))?;
        let programs = MultiPrograms::new(OBJECT, &ebpf).unwrap_or_else(|reason| {
            tracing::warn!(reason, "probes are attached one by one");
            None
        });
        let samplers: &[_] = if tick.is_ok() { &[TICK_PROGRAM, CLOCK_PROGRAM] } else { &[CLOCK_PROGRAM] };
        let mut refused = BTreeMap::new();
        let mut multi = BTreeMap::new();
        let mut first = None;
        for (name, loaded) in load_programs(&mut ebpf, programs.as_ref(), samplers, &btf) {
            match loaded {
                Loaded::Alone(Ok(())) | Loaded::Raw(Ok(())) => {}
                Loaded::Alone(Err(error)) => {
                    refused.insert(name, chain(&error));
                    first.get_or_insert((name, error));
                }
                Loaded::Multi(Ok(program)) => {
                    multi.insert(name, program);
                }
                Loaded::Raw(Err(error)) | Loaded::Multi(Err(error)) => {
                    refused.insert(name, shortened(&error));
                }
            }
        }
        if let Some((name, source)) = first
            && refused.len()
                == TRACEPOINT_PROGRAMS.len() + RAW_TRACEPOINTS.len() + UPROBE_PROGRAMS.len() + samplers.len()
        {
            return Err(LoadError::NoProgram { name, source: Box::new(source) });
        }
        fill_syscall_parts(&mut ebpf)?;
        let maps = Maps::new(
            take(&mut ebpf, "THREADS", HashMap::<_, u32, Wire<ThreadRecord>>::try_from)?,
            take(&mut ebpf, "STDIO", HashMap::<_, Wire<StdioKey>, Wire<StdioRecord>>::try_from)?,
            take(&mut ebpf, "EPOCH", Array::<_, u64>::try_from)?,
            take(&mut ebpf, "DROPS", PerCpuArray::<_, u64>::try_from)?,
            take(&mut ebpf, "TTY_FDS", Array::<_, u64>::try_from)?,
            Queues::new(
                take(&mut ebpf, "POOL_WORK", HashMap::<_, Wire<PoolWorkKey>, Wire<PoolWork>>::try_from)?,
                take(&mut ebpf, "POOL_THREADS", HashMap::<_, u32, Wire<PoolThread>>::try_from)?,
                take(&mut ebpf, "SOCKETS", HashMap::<_, Wire<SocketKey>, Wire<SocketRecord>>::try_from)?,
            ),
            Questions {
                contexts: Asked::new(take(
                    &mut ebpf,
                    "CONTEXTS",
                    HashMap::<_, u32, Wire<ContextRecord>>::try_from,
                )?),
                rejections: Asked::new(take(
                    &mut ebpf,
                    "REJECTIONS",
                    HashMap::<_, u32, Wire<RejectionRecord>>::try_from,
                )?),
            },
        );
        let ring = Ring::new(take(&mut ebpf, "EVENTS", RingBuf::try_from)?);
        let duty = DutyTable::new(take(&mut ebpf, "DUTY", HashMap::<_, u32, Wire<DutyRecord>>::try_from)?);
        let stack_pointers =
            StackPointers::new(take(&mut ebpf, "STACK_POINTERS", HashMap::<_, u32, u64>::try_from)?);
        let context_window = take(&mut ebpf, "CONTEXT_WINDOW", Array::<_, u64>::try_from)?;
        let switches_read = take(&mut ebpf, "SWITCHES_READ", Array::<_, u64>::try_from)?;
        let tick_seen = take(&mut ebpf, "TICK_SEEN", PerCpuArray::<_, u64>::try_from)?;
        let stacks = settings.stacks;
        let kernel = Self {
            ebpf,
            refused,
            multi,
            stacks,
            tick,
            tick_seen,
            task_pid_offset,
            switches_read,
            context_window,
            windows: 0,
        };
        Ok(Handles { kernel, maps, ring, duty, stack_pointers })
    }
}

fn fill_syscall_parts(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    const NAME: &str = "SYSCALL_PARTS";
    let mut table = take(ebpf, NAME, Array::<_, u32>::try_from)?;
    for number in 0..SYSCALLS_LEN {
        if let Err(error) = table.set(number, syscalls::part(number) as u32, 0) {
            return Err(LoadError::Object(Box::new(error.into())));
        }
    }
    Ok(())
}

fn take<T, E>(
    ebpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(aya::maps::Map) -> Result<T, E>,
) -> Result<T, LoadError> {
    ebpf.take_map(name).and_then(|map| convert(map).ok()).ok_or(LoadError::Map { name })
}

/// What came of loading a program.
enum Loaded {
    /// By aya.
    Alone(Result<(), ProgramError>),
    /// With the kernel's types.
    Raw(Result<(), String>),
    /// For links of many places.
    Multi(Result<OwnedFd, String>),
}

/// Loads all programs, on as many processors as there are: nearly all of the time that the agent takes to start is the verifier's,
/// which looks at each program alone. Results are in the order of the names. Those of uprobes are taken from `multi`, if it is there.
fn load_programs(
    ebpf: &mut Ebpf,
    multi: Option<&MultiPrograms>,
    samplers: &[&'static str],
    btf: &Result<Btf, BtfError>,
) -> Vec<(&'static str, Loaded)> {
    const THREADS_MAX: usize = 4;
    // The costliest first, or one thread would still be at it when the others are done.
    let raw = RAW_TRACEPOINTS.map(|(name, _)| name);
    let names = samplers.iter().copied().chain(raw).chain(TRACEPOINT_PROGRAMS).chain(UPROBE_PROGRAMS);
    let mut programs: HashMapOf<String, &mut Program> =
        ebpf.programs_mut().map(|(name, program)| (name.to_owned(), program)).collect();
    let waiting = names.enumerate().map(|(position, name)| (position, name, programs.remove(name)));
    let waiting = Mutex::new(waiting.collect::<Vec<_>>().into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let load = |name, program: Option<&mut Program>| match (multi, program) {
        (Some(multi), Some(Program::UProbe(_))) => Loaded::Multi(multi.load(name)),
        (_, Some(Program::BtfTracePoint(program))) => Loaded::Raw(load_raw(program, name, btf)),
        (_, Some(program)) => Loaded::Alone(load_program(program)),
        (_, None) => Loaded::Alone(Err(ProgramError::NotLoaded)),
    };
    let work = || {
        let mut loaded = Vec::new();
        while let Some((position, name, program)) = next() {
            loaded.push((position, name, load(name, program)));
        }
        loaded
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let mut loaded = thread::scope(|scope| {
        // This thread works, too, so it does not matter if no other can be started.
        let others: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut loaded = work();
        loaded.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_default()));
        loaded
    });
    loaded.sort_by_key(|(position, ..)| *position);
    loaded.into_iter().map(|(_, name, result)| (name, result)).collect()
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::TracePoint(program) => program.load(),
        Program::UProbe(program) => program.load(),
        Program::PerfEvent(program) => program.load(),
        _ => Err(ProgramError::NotLoaded),
    }
}

/// An error and its causes in one line; see [`shortened`].
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    shortened(&text)
}

/// Of the verifier's log, which can have megabytes, only the line that names the fault is kept.
fn shortened(text: &str) -> String {
    let Some((before, log)) = text.split_once("Verifier output:") else { return text.to_owned() };
    let fault = log.lines().rev().skip_while(|line| !line.contains("verification time")).nth(1);
    let fault = fault.or_else(|| log.lines().rev().find(|line| !line.trim().is_empty())).unwrap_or_default();
    format!("{} the verifier says: {}", before.trim_end(), fault.trim())
}

pub(super) fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut TracePoint> {
    match ebpf.program_mut(name) {
        Some(Program::TracePoint(program)) => Some(program),
        _ => None,
    }
}

pub(super) fn perf_event(ebpf: &mut Ebpf) -> Option<&mut PerfEvent> {
    match ebpf.program_mut(CLOCK_PROGRAM) {
        Some(Program::PerfEvent(program)) => Some(program),
        _ => None,
    }
}

pub(super) fn uprobe<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut UProbe> {
    match ebpf.program_mut(name) {
        Some(Program::UProbe(program)) => Some(program),
        _ => None,
    }
}

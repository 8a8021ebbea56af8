//! The control lane: which processes are Node, and what can be observed of each.
//!
//! Processes that run already are found by a look at `/proc`. Later ones announce themselves: `exec` is a
//! tracepoint, and in a file whose probes are in place the first line of JavaScript is one too. So there is no
//! polling and no gap, but for the first process of a file never seen before, which runs while its file is
//! analysed; its start-up is timed from `exec`. Only threads that ran already are looked at until each is known.

mod file_key;
mod images;
mod mounts;
mod place;
mod threads;
mod workers;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};

use nodeprobe_ebpf::{
    DropReason,
    duty_record::{DUTY_MICROTASKS, DUTY_PAGES},
};

use self::{
    file_key::FileUse,
    images::{Executable, Images, Prepared, V8Image},
    workers::Search,
};
use crate::{
    agent::lock,
    binary::{FileOffset, Hook},
    bpf::{HookTarget, Kernel},
    collector::{self, Collector, monotonic_ns},
    governor::windows::Governed,
    identity::{Host, Versions, identify, uses_context_frames},
    model::{Availability, ProcessId, Signal, catalog::LOST_PROCESS_MISSED},
    plan::Plan,
    procfs::{self, ProcessDir, Procfs},
    readout::stack_pointers::StackPointers,
    target::{StackSource, Target},
    v8::{ContextLayout, V8File},
};

/// What the ring buffer asks discovery for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A process has become another program.
    Exec { pid: u32, exec_ns: u64 },
    /// A thread of this process runs JavaScript.
    LoopThread { pid: u32 },
}

/// Uprobes attached at the moment, for the agent's own metrics.
#[derive(Debug, Default)]
pub struct ProbeCount(AtomicU64);

impl ProbeCount {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits between looks for the libraries of a Debian-like Node: the dynamic linker maps them some milliseconds
/// after `exec`. A program that has not mapped them after the last look does not run Node.
const LIBRARY_WAITS_MS: [u64; 7] = [2, 4, 8, 16, 32, 64, 128];

/// How often files are looked through for those that nobody uses any more.
const FILES_CHECK: Duration = Duration::from_secs(30);

/// Something to look at again.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Retry {
    Libraries { pid: u32, exec_ns: Option<u64>, attempt: usize },
    Workers(ProcessId),
}

/// Finds processes, prepares their files and registers them with the collector.
pub struct Discovery {
    procfs: Procfs,
    kernel: Arc<Mutex<Kernel>>,
    kernel_signals: BTreeMap<Signal, Availability>,
    shared: Arc<Mutex<Collector>>,
    probes: Arc<ProbeCount>,
    governor: mpsc::Sender<Governed>,
    images: Images,
    host: Host,
    boot: SystemTime,
    retries: BinaryHeap<Reverse<(Instant, Retry)>>,
    /// Events that were lost when the last full look was taken.
    ring_full_seen: u64,
    /// By process whose workers are still to be told.
    searches: BTreeMap<ProcessId, Search>,
    stack_pointers: StackPointers,
    random: fastrand::Rng,
    /// Files by process that runs them.
    users: BTreeMap<u32, Vec<FileUse>>,
    files_checked: Instant,
}

impl Discovery {
    pub fn new(
        procfs: Procfs,
        kernel: Arc<Mutex<Kernel>>,
        kernel_signals: BTreeMap<Signal, Availability>,
        shared: Arc<Mutex<Collector>>,
        probes: Arc<ProbeCount>,
        governor: mpsc::Sender<Governed>,
        stack_pointers: StackPointers,
    ) -> Self {
        Self {
            procfs,
            kernel,
            kernel_signals,
            shared,
            probes,
            governor,
            images: Images::default(),
            host: Host::read(Path::new("/")),
            boot: procfs::boot_time(),
            retries: BinaryHeap::new(),
            ring_full_seen: 0,
            searches: BTreeMap::new(),
            random: fastrand::Rng::new(),
            stack_pointers,
            users: BTreeMap::new(),
            files_checked: Instant::now(),
        }
    }

    /// Looks at every process of the host.
    pub fn scan(&mut self) {
        match self.procfs.pids() {
            Ok(pids) => {
                for pid in pids {
                    self.consider(pid, None, 0);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the processes of this host cannot be listed: is /proc mounted?");
            }
        }
    }

    /// Answers one request of the ring buffer.
    pub fn request(&mut self, request: Request) {
        match request {
            Request::Exec { pid, exec_ns } => {
                // A late report of the program that is known already is no news.
                if lock(&self.shared).targets.get(pid).is_some_and(|target| target.looked_at_ns >= exec_ns) {
                    return;
                }
                // Whatever the process was before, it has ended.
                lock(&self.shared).targets.end(pid);
                self.searches.retain(|id, _| id.pid != pid);
                self.consider(pid, Some(exec_ns), 0);
            }
            Request::LoopThread { pid } => {
                if lock(&self.shared).targets.get(pid).is_none() {
                    self.consider(pid, None, 0);
                }
            }
        }
    }

    /// Time until something is to be looked at again.
    pub fn next_retry(&self) -> Duration {
        let due = self.retries.peek().map(|Reverse((due, _))| *due);
        due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()))
    }

    /// Does what has become due.
    pub fn housekeeping(&mut self) {
        while let Some(Reverse((due, _))) = self.retries.peek() {
            if *due > Instant::now() {
                break;
            }
            let Some(Reverse((_, retry))) = self.retries.pop() else { break };
            match retry {
                Retry::Libraries { pid, exec_ns, attempt } => self.consider(pid, exec_ns, attempt),
                Retry::Workers(id) => self.find_workers(id),
            }
        }
        if self.files_checked.elapsed() >= FILES_CHECK {
            self.files_checked = Instant::now();
            let shared = lock(&self.shared);
            self.users.retain(|pid, _| shared.targets.get(*pid).is_some());
            drop(shared);
            for files in self.users.values() {
                self.images.touch(files);
            }
            self.images.forget_unused();
            self.leave_ended_mounts();
            self.probes.0.store(self.images.probes(), Ordering::Relaxed);
        }
        let ring_full = lock(&self.shared).losses().get(DropReason::RingFull.name()).copied().unwrap_or(0);
        if ring_full > self.ring_full_seen {
            // The lost events may have been announcements of processes.
            self.ring_full_seen = ring_full;
            self.scan();
        }
    }

    /// Registers a process if it is Node and not registered yet.
    fn consider(&mut self, pid: u32, exec_ns: Option<u64>, attempt: usize) {
        let Ok(process) = self.procfs.process(pid) else { return };
        match self.try_consider(&process, exec_ns, attempt) {
            Ok(()) => {}
            Err(error) if error.is_gone() => {
                tracing::debug!(target.pid = pid, "the process ended while it was looked at");
            }
            Err(error) => tracing::debug!(target.pid = pid, %error, "the process cannot be looked at"),
        }
        self.probes.0.store(self.images.probes(), Ordering::Relaxed);
    }

    fn try_consider(
        &mut self,
        process: &ProcessDir,
        exec_ns: Option<u64>,
        attempt: usize,
    ) -> Result<(), procfs::Error> {
        let looked_at_ns = monotonic_ns();
        let pid = process.pid();
        let stat = process.stat()?;
        if stat.kernel_thread || stat.is_zombie() {
            return Ok(());
        }
        let id = ProcessId { pid, start_ticks: stat.start_ticks };
        if lock(&self.shared).targets.get(pid).is_some_and(|target| target.id == id) {
            return Ok(());
        }
        let executable = process.open_exe()?;
        let files = match self.images.classify(&executable) {
            Ok(Executable::NotNode) => return Ok(()),
            Ok(Executable::Node) => vec![executable],
            Ok(Executable::Stub) => {
                let Some(libraries) = self.libraries(process, exec_ns, attempt)? else { return Ok(()) };
                let mut files = vec![executable];
                files.extend(libraries);
                files
            }
            Err(error) => {
                if self.images.mark_broken(&executable, &error.to_string()) {
                    tracing::warn!(target.pid = pid, %error, "the executable cannot be analysed; the process is not observed");
                }
                return Ok(());
            }
        };
        if self.images.is_broken(&files) {
            return Ok(());
        }
        // Probes that came after the program had begun may have come too late for it.
        let attached_ns = self.images.attached_since(&files);
        let from_start = exec_ns.zip(attached_ns).is_some_and(|(exec_ns, attached_ns)| attached_ns < exec_ns);
        let Prepared { plan, node: binary, v8 } = match self.images.prepare(&files, &self.kernel) {
            Ok(prepared) => prepared,
            Err(error) => {
                if self.images.mark_broken(&files[0], &error.to_string()) {
                    tracing::warn!(target.pid = pid, %error, "the Node binary cannot be analysed; its processes are not observed");
                }
                lock(&self.shared).lost(LOST_PROCESS_MISSED);
                return Ok(());
            }
        };
        let versions = Versions {
            node: binary.node_version.clone(),
            v8: binary.v8_version.as_ref().map(ToString::to_string),
        };
        let identity = match identify(process, &self.host, versions) {
            Ok(identity) => identity,
            Err(error) => {
                // Its first instructions ran before the probes were there, so nothing else will tell of it.
                if !from_start && exec_ns.is_some() {
                    lock(&self.shared).lost(LOST_PROCESS_MISSED);
                }
                return Err(error);
            }
        };
        let mut signals = plan.signals.clone();
        let async_context = plan.async_context.and_then(|layout| {
            if !uses_context_frames(process, binary.node_version.as_deref()) {
                return Some(ContextLayout { frame: None, ..layout });
            }
            if layout.frame.is_none() {
                let text = "where this V8 keeps async contexts is not known (GetContinuationPreservedEmbedderData is missing or has an unknown shape)";
                signals.insert(Signal::AsyncContext, Availability::Unavailable(text.into()));
            }
            layout.frame.map(|_| layout)
        });
        for (signal, availability) in &self.kernel_signals {
            if *availability != Availability::Ok {
                signals.insert(*signal, availability.clone());
            }
        }
        // What ran under this pid before its exec, a shell say, is no part of it; and the kernel's own account has ticks of 10 ms.
        let started =
            exec_ns.map_or_else(|| procfs::started_at(self.boot, stat.start_ticks), collector::wall_clock);
        let observed_since =
            if exec_ns.is_some() { started.max(SystemTime::UNIX_EPOCH) } else { SystemTime::now() };
        tracing::info!(
            target.pid = pid,
            name = identity.name,
            node = binary.node_version.as_deref().unwrap_or("unknown"),
            "observing a process"
        );
        let mut target = Target::new(id, identity, Arc::new(signals), started, observed_since, from_start);
        // From here on what its quota costs it counts, before the first snapshot.
        target.quota_cost.add(procfs::cgroups::quota_account(process));
        target.looked_at_ns = looked_at_ns;
        target.begin_ns = exec_ns.unwrap_or(0);
        target.async_context = async_context;
        // The note alone misleads: Node may fail to set it.
        let is_told_of_failures = plan.points.iter().any(|point| point.hook == Hook::RejectFailed);
        target.rejection_ids_offset =
            plan.async_context.filter(|_| is_told_of_failures).map(|layout| layout.ids_offset);
        target.stacks = v8.and_then(|v8| stack_source(process, &files, v8));
        self.users.insert(pid, files.iter().filter_map(|file| FileUse::of(file).ok()).collect());
        lock(&self.shared).targets.add(target);
        for governed in governed(id, &files, &plan) {
            // The governor ends only together with this thread.
            self.governor.send(governed).ok();
        }
        if !from_start {
            self.register_earlier(process, id, exec_ns, &plan, &files);
        }
        Ok(())
    }

    /// The mapped libraries of a Node whose executable is a stub; `None`: not mapped yet, a later look is arranged.
    fn libraries(
        &mut self,
        process: &ProcessDir,
        exec_ns: Option<u64>,
        attempt: usize,
    ) -> Result<Option<Vec<File>>, procfs::Error> {
        let mappings = process.node_libraries()?;
        let has = |prefix: &str| {
            mappings
                .iter()
                .any(|m| m.path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        };
        // libuv is mapped after libnode, which asks for it; a libnode with libuv inside never maps one.
        let patient = attempt < LIBRARY_WAITS_MS.len();
        if patient && !(has("libnode.so") && has("libuv.so")) {
            let due = Instant::now() + Duration::from_millis(LIBRARY_WAITS_MS[attempt]);
            let retry = Retry::Libraries { pid: process.pid(), exec_ns, attempt: attempt + 1 };
            self.retries.push(Reverse((due, retry)));
            return Ok(None);
        }
        if mappings.is_empty() {
            return Ok(None);
        }
        mappings.iter().map(|mapping| process.open_mapped(mapping)).collect::<Result<_, _>>().map(Some)
    }
}

/// The probes of a process that are in place for some of the time only.
fn governed(id: ProcessId, files: &[File], plan: &Plan) -> Vec<Governed> {
    let groups = [
        (DUTY_MICROTASKS, Some(Signal::Microtasks), &plan.microtasks),
        // Who allocates is told by the begins of collections, too.
        (DUTY_PAGES, None, &plan.pages),
    ];
    let governed = groups.into_iter().filter_map(|(group, signal, probes)| {
        let probes = probes.as_ref()?;
        let target = |(hook, offset): &(Hook, FileOffset)| HookTarget {
            program: hook.name(),
            file_offset: offset.0,
            cookie: None,
        };
        Some(Governed {
            id,
            group,
            signal,
            file: files.get(probes.file)?.try_clone().ok()?,
            targets: probes.points.iter().map(target).collect(),
            instruction: probes.instruction,
        })
    });
    governed.collect()
}

/// What the stacks of a process are decoded with; `None`: the file of V8 is not mapped.
fn stack_source(process: &ProcessDir, files: &[File], v8: V8Image) -> Option<StackSource> {
    let V8Image { layout, binary, file } = v8;
    let inode = files.get(file)?.metadata().ok()?.ino();
    let executable = process.exe().ok()?.path;
    let mappings = process.mappings(|mapping| mapping.executable && mapping.inode != 0).ok()?;
    // Of files on overlayfs some kernels tell another inode in `maps` than to who opens them.
    let mapping = mappings.iter().find(|mapping| mapping.inode == inode).or_else(|| {
        let is_v8 = |mapping: &&procfs::Mapping| {
            if file == 0 { mapping.path == executable } else { procfs::is_node_library(&mapping.path) }
        };
        mappings.iter().find(is_v8)
    })?;
    let file = V8File {
        device: mapping.device,
        inode: mapping.inode,
        segments: binary.engine.code_segments.clone(),
        builtins: binary.engine.builtins.clone(),
    };
    Some(StackSource { layout, file })
}

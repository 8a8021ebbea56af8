//! Files that processes run: what is known of each, and the probes in it. A file is analysed and attached once,
//! however many processes map it.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::file_key::{FileKey, FileUse};
use crate::{
    binary::{self, Binary, BinaryError, Hook, Kind},
    bpf::{Attached, HookTarget, Kernel},
    collector::monotonic_ns,
    governor::windows::lock_kernel,
    model::{Availability, Signal},
    plan::{Plan, layout, plan, v8},
    v8::Layout,
};

/// Files kept at most. One that no process uses any more makes room; its probes go with it.
const FILES_MAX: usize = 256;
/// Probes stay in a file for so long after the last look at a process that runs it.
const UNUSED_FOR: Duration = Duration::from_mins(10);
/// Holds the program headers of any file the linkers in use make: 64 bytes and 56 for each of a dozen.
const HEAD_BYTES: usize = 2048;
/// Executables that are not Node are only remembered by key; more than this and the memory starts anew.
const NOT_NODE_MAX: usize = 16 * 1024;

/// What makes a copy of a file the same to us. The build id alone does not: tools that append to an executable or move
/// its parts (single-executable applications, patchelf) keep it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Contents {
    build_id: String,
    size_bytes: u64,
    /// ELF header and program headers, which say what lies where.
    head: Vec<u8>,
}

impl Contents {
    /// `None`: the file has no build id or cannot be read; it is then analysed for itself.
    fn of(file: &File, size_bytes: u64) -> Option<Self> {
        let build_id = binary::build_id(file).ok().flatten()?;
        let mut head = vec![0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).ok()?;
        Some(Self { build_id, size_bytes, head })
    }
}

/// The files of a process, analysed, with their probes in place.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    /// The file that Node is in.
    pub(super) node: Arc<Binary>,
    /// `None`: there is no V8, or its stacks cannot be decoded.
    pub(super) v8: Option<V8Image>,
}

/// The file that V8 is in.
pub(super) struct V8Image {
    pub(super) layout: Arc<Layout>,
    pub(super) binary: Arc<Binary>,
    /// Index into the files.
    pub(super) file: usize,
}

/// A file with a part of Node in it.
struct Image {
    binary: Arc<Binary>,
    /// How the V8 in it lays out its objects, once asked for; `None`: not known.
    layout: OnceCell<Option<Arc<Layout>>>,
    attached: Attached,
    /// Offsets that carry a probe already, and those that were refused, with the kernel's words.
    probed: HashMap<HookTarget, Result<(), String>>,
    /// `CLOCK_MONOTONIC` when the probes were all in place.
    attached_ns: Option<u64>,
    last_used: Instant,
    /// Through which the probes were attached. The kernel keeps it from being unmounted for good as long as they are there.
    mount: u64,
    mount_last_used: Instant,
}

impl Image {
    fn layout(&self, binary: &Binary) -> Option<Arc<Layout>> {
        self.layout.get_or_init(|| layout(Some((0, binary))).ok().map(Arc::new)).clone()
    }

    /// Attaches those of the targets that were not tried before, all at once.
    fn probe(&mut self, file: &File, targets: impl Iterator<Item = HookTarget>, kernel: &Mutex<Kernel>) {
        let mut new: Vec<HookTarget> = Vec::new();
        for target in targets {
            // A place that were named twice would be hit twice.
            if !self.probed.contains_key(&target) && !new.contains(&target) {
                new.push(target);
            }
        }
        if new.is_empty() {
            return;
        }
        let (attached, failed) = lock_kernel(kernel).attach_file(file, new.iter().copied());
        self.attached.merge(attached);
        self.probed.extend(new.into_iter().map(|target| (target, Ok(()))));
        self.probed.extend(failed.into_iter().map(|(target, reason)| (target, Err(reason))));
    }
}

/// What an executable is.
#[derive(Clone, Debug)]
pub(super) enum Executable {
    NotNode,
    Node,
    /// Node is in a library that the dynamic linker maps.
    Stub,
}

/// The files known so far.
#[derive(Default)]
pub(super) struct Images {
    by_key: HashMap<FileKey, Image>,
    kinds: HashMap<FileKey, Kind>,
    /// Analyses by build id: a copy of a known file need not be read again.
    by_contents: HashMap<Contents, Arc<Binary>>,
    /// Files that cannot be analysed, so that they are complained about once.
    broken: HashMap<FileKey, String>,
    /// Asked for once. The governor has the lock of the kernel's side while it attaches to a process, which takes tenths of a
    /// second where processes come and go: whoever waited for it with each process would not see the short-lived ones in time.
    accepts_gc_stop: OnceCell<bool>,
}

impl Images {
    /// Whether an executable is Node, by its contents alone.
    ///
    /// # Errors
    /// The file is broken; told once per file, afterwards it counts as not Node.
    pub(super) fn classify(&mut self, file: &File) -> Result<Executable, BinaryError> {
        let key = file_use(file)?.key;
        let kind = if let Some(kind) = self.kinds.get(&key) {
            kind.clone()
        } else {
            if self.kinds.len() >= NOT_NODE_MAX {
                self.kinds.retain(|_, kind| *kind != Kind::NotNode);
            }
            let result = binary::quick_kind(file);
            self.kinds.insert(key, result.as_ref().map_or(Kind::NotNode, Clone::clone));
            result?
        };
        Ok(match kind {
            Kind::NotNode => Executable::NotNode,
            Kind::Node => Executable::Node,
            Kind::NodeStub { .. } => Executable::Stub,
        })
    }

    /// Since when the probes of all these files are in place, `CLOCK_MONOTONIC`.
    pub(super) fn attached_since(&self, files: &[File]) -> Option<u64> {
        let since = |file: &File| self.by_key.get(&FileUse::of(file).ok()?.key)?.attached_ns;
        files.iter().map(since).try_fold(0, |latest, since| Some(latest.max(since?)))
    }

    /// Whether one of these files could not be analysed before.
    pub(super) fn is_broken(&self, files: &[File]) -> bool {
        let broken = |file: &File| FileUse::of(file).is_ok_and(|used| self.broken.contains_key(&used.key));
        files.iter().any(broken)
    }

    /// Notes that these files are in use.
    pub(super) fn touch(&mut self, files: &[FileUse]) {
        let now = Instant::now();
        for used in files {
            let Some(image) = self.by_key.get_mut(&used.key) else { continue };
            image.last_used = now;
            if image.mount == used.mount {
                image.mount_last_used = now;
            }
        }
    }

    /// Files whose probes were attached through the mount of a container that has ended, while other containers use them.
    pub(super) fn on_ended_mounts(&self) -> Vec<FileKey> {
        let has_ended = |image: &&Image| image.mount_last_used.elapsed() >= UNUSED_FOR;
        let ended = self.by_key.iter().filter(|(_, image)| has_ended(image));
        ended.map(|(key, _)| *key).collect()
    }

    /// Attaches the probes through `file`, on the mount of a container that lives, before it takes out those that hold on to an ended
    /// one: what was written in that container stays on the disk as long as its mount is there. Programs bear two hits at once.
    pub(super) fn move_to(&mut self, file: &File, kernel: &Mutex<Kernel>) {
        let Ok(used) = FileUse::of(file) else { return };
        let Some(image) = self.by_key.get_mut(&used.key) else { return };
        let targets: Vec<HookTarget> =
            image.probed.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(target, _)| *target).collect();
        let (attached, failed) = lock_kernel(kernel).attach_file(file, targets);
        // Not tried again before the same time has passed.
        image.mount_last_used = Instant::now();
        if let Some((target, reason)) = failed.first() {
            tracing::warn!(
                program = target.program,
                reason,
                "probes stay on the mount of a container that has ended"
            );
            return;
        }
        image.attached = attached;
        image.mount = used.mount;
    }

    /// Takes the probes out of files that no process has used for a while: whoever then writes into such a file in
    /// place must not find breakpoints in it.
    pub(super) fn forget_unused(&mut self) {
        self.by_key.retain(|_, image| image.last_used.elapsed() < UNUSED_FOR);
        self.forget_contents();
    }

    fn forget_contents(&mut self) {
        let images = &self.by_key;
        self.by_contents.retain(|_, binary| images.values().any(|image| Arc::ptr_eq(&image.binary, binary)));
    }

    /// Analyses what is new among the files of a process, attaches what its plan asks for, and returns the plan
    /// with the signals as they are after attaching.
    ///
    /// # Errors
    /// One of the files cannot be analysed.
    pub(super) fn prepare(
        &mut self,
        files: &[File],
        kernel: &Mutex<Kernel>,
    ) -> Result<Prepared, BinaryError> {
        let mut keys = Vec::with_capacity(files.len());
        for file in files {
            keys.push(self.analyze(file)?);
        }
        let binaries: Vec<Arc<Binary>> = keys
            .iter()
            .filter_map(|key| self.by_key.get(key))
            .map(|image| Arc::clone(&image.binary))
            .collect();
        let references: Vec<&Binary> = binaries.iter().map(AsRef::as_ref).collect();
        let accepts_gc_stop =
            *self.accepts_gc_stop.get_or_init(|| lock_kernel(kernel).accepts(Hook::GcStop.name()));
        let mut plan = plan(&references, accepts_gc_stop);
        let mut refused: BTreeMap<Hook, String> = BTreeMap::new();
        for (index, (file, key)) in files.iter().zip(&keys).enumerate() {
            let Some(image) = self.by_key.get_mut(key) else { continue };
            let points = plan.points.iter().filter(|point| point.file == index);
            let wanted: Vec<(Hook, HookTarget)> = points
                .map(|point| {
                    let (program, file_offset) = (point.hook.name(), point.offset.0);
                    (point.hook, HookTarget { program, file_offset, cookie: point.cookie })
                })
                .collect();
            image.probe(file, wanted.iter().map(|(_, target)| *target), kernel);
            for (hook, target) in wanted {
                if let Some(Err(reason)) = image.probed.get(&target) {
                    refused.insert(hook, reason.clone());
                }
            }
            image.attached_ns.get_or_insert_with(monotonic_ns);
        }
        for (hook, reason) in refused {
            tracing::warn!(hook = hook.name(), reason, "probe was not attached");
            degrade(&mut plan.signals, hook, &reason);
        }
        let node = binaries.iter().find(|binary| binary.has.node).or(binaries.first());
        let node = node.cloned().ok_or(BinaryError::NotElf)?;
        let v8 = v8(&references).map(|(index, _)| index);
        let v8 = v8.and_then(|index| {
            let layout = self.by_key.get(&keys[index])?.layout(&binaries[index])?;
            Some(V8Image { layout, binary: Arc::clone(&binaries[index]), file: index })
        });
        Ok(Prepared { plan, node, v8 })
    }

    fn analyze(&mut self, file: &File) -> Result<FileKey, BinaryError> {
        let used = file_use(file)?;
        let key = used.key;
        if self.by_key.contains_key(&key) {
            self.touch(&[used]);
            return Ok(key);
        }
        // Written anew in place: the old probes are at the old offsets.
        self.by_key.retain(|known, _| !known.is_rewritten(&key));
        let contents = Contents::of(file, key.size_bytes());
        let known = contents.as_ref().and_then(|contents| self.by_contents.get(contents).cloned());
        let binary = match known {
            Some(binary) => binary,
            None => Arc::new(binary::analyze(file)?),
        };
        if let Some(contents) = contents {
            self.by_contents.insert(contents, Arc::clone(&binary));
        }
        self.make_room();
        let image = Image {
            binary,
            layout: OnceCell::new(),
            attached: Attached::default(),
            probed: HashMap::new(),
            attached_ns: None,
            last_used: Instant::now(),
            mount: used.mount,
            mount_last_used: Instant::now(),
        };
        self.by_key.insert(key, image);
        Ok(key)
    }

    /// Drops the file that was asked for longest ago when there are too many.
    fn make_room(&mut self) {
        if self.by_key.len() < FILES_MAX {
            return;
        }
        let oldest = self.by_key.iter().min_by_key(|(_, image)| image.last_used).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.by_key.remove(&key);
            self.forget_contents();
        }
    }

    /// Remembers that a file cannot be analysed. `true` when it is news.
    pub(super) fn mark_broken(&mut self, file: &File, reason: &str) -> bool {
        let Ok(used) = FileUse::of(file) else { return false };
        self.broken.len() < NOT_NODE_MAX && self.broken.insert(used.key, reason.to_owned()).is_none()
    }

    /// Uprobes attached at the moment.
    pub(super) fn probes(&self) -> u64 {
        self.by_key.values().map(|image| image.attached.len() as u64).sum()
    }
}

fn file_use(file: &File) -> Result<FileUse, BinaryError> {
    FileUse::of(file).map_err(|source| BinaryError::Read { what: "the file's size and inode", source })
}

/// What a refused probe costs.
fn degrade(signals: &mut BTreeMap<Signal, Availability>, hook: Hook, reason: &str) {
    let signal = match hook {
        Hook::LoadEnvironment | Hook::SpinEventLoop | Hook::UvRun => Signal::EventLoop,
        Hook::WorkerRun | Hook::UncaughtException | Hook::OutOfMemory | Hook::NearHeapLimit => {
            Signal::Lifecycle
        }
        Hook::GcStart | Hook::GcEnd | Hook::GcStop | Hook::GcMinor | Hook::GcMajor => Signal::Gc,
        Hook::HeapSize => Signal::Heap,
        Hook::PromiseReject | Hook::RejectFailed => Signal::Rejections,
        Hook::Deopt => Signal::Deopts,
        Hook::DrainBegin | Hook::DrainEnd => Signal::Microtasks,
        Hook::PoolSubmit | Hook::PoolQueue | Hook::PoolFs | Hook::PoolDns | Hook::PoolWork => {
            Signal::ThreadPool
        }
        Hook::CompileFunction | Hook::CompileModule | Hook::CompileEnd => Signal::Compile,
        // They stand for no signal: who allocates the begins of collections tell as well, and that a socket is full its refusals.
        Hook::NewPage | Hook::StreamWrite => return,
    };
    let sentence = format!("the kernel refused the probe `{}`: {reason}", hook.name());
    signals.insert(signal, Availability::Unavailable(sentence.into()));
}

//! Which probes go into the files of one process, and which signals that makes available.
//!
//! Architecture invariant: no I/O and no clock in here.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Range};

use nodeprobe_ebpf::gc_stop;

use crate::{
    binary::{Binary, Engine, FileOffset, Hook, Roles, Rule},
    model::{Availability, Signal},
    v8::Layout,
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
    /// The code of `Worker::Run`, to tell workers that run already by the return addresses on their stacks.
    pub worker_run: Option<CodeRange>,
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

/// A piece of code in one of the files given to [`plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRange {
    pub file: usize,
    pub range: Range<FileOffset>,
}

/// What tells a minor collection from a major one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcKindSource {
    /// The collection's own function is entered inside the pause.
    Functions,
    /// The space asked for, second argument of `Heap::CollectGarbage`: 1 is the new space, 2 the old one. V8 may
    /// collect more than it was asked for, then a major collection is taken for a minor one: 2 of 19 major ones of an
    /// allocating script on a loaded machine, whose incremental marking waited to be finalized.
    RequestedSpace,
}

/// `AllocationSpace` has had these values since V8 11 (Node 20); before, they were others.
const FIRST_V8_WITH_KNOWN_SPACES: u32 = 11;

/// Plans for the files of one process in the order of the dynamic linker: executable, `libnode`, `libuv`. Each
/// component is taken from the first file that has it, because that copy's symbols win.
///
/// `has_cookies`: the kernel hands programs a number per probe (5.15 and later).
pub fn plan(files: &[&Binary], has_cookies: bool) -> Plan {
    let node = component(files, |has| has.node);
    let v8 = v8(files);
    let libuv = component(files, |has| has.libuv);
    let event_loop = event_loop(node, libuv);
    let gc = gc(v8);
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
        let sizes = v8.filter(|(_, binary)| has_cookies && !binary.points(Hook::GcStop).is_empty());
        let sizes = sizes.and_then(|(_, binary)| binary.gc_sizes);
        add_points(&mut points, v8, &[if sizes.is_some() { Hook::GcStop } else { Hook::GcEnd }]);
        for point in points.iter_mut().filter(|point| point.hook == Hook::GcStop) {
            point.cookie = sizes.map(|sizes| gc_stop::cookie(sizes.before, sizes.after));
        }
        if kind == GcKindSource::Functions {
            add_points(&mut points, v8, &[Hook::GcMinor, Hook::GcMajor]);
        }
        if heap.is_ok() && sizes.is_none() {
            add_points(&mut points, v8, &[Hook::HeapSize]);
        }
        add_points(&mut points, v8, &[Hook::GcStart]);
    }
    // More stacks of who allocates; the begins of collections give some as well.
    add_points(&mut points, v8, &[Hook::NewPage]);
    let (rejections, deopts, thread_pool) = (rejections(node), deopts(v8), thread_pool(libuv));
    if rejections.is_ok() {
        add_points(&mut points, node, &[Hook::PromiseReject]);
    }
    if deopts.is_ok() {
        add_points(&mut points, v8, &[Hook::Deopt]);
    }
    if thread_pool.is_ok() {
        // Work that was not seen to be handed in does not count when it is begun.
        add_points(&mut points, libuv, &POOL_BEGINS);
        add_points(&mut points, libuv, &POOL_SUBMITS);
    }
    // How a process ends; what of it has no symbol is told by its exit alone.
    add_points(&mut points, node, &[Hook::UncaughtException, Hook::OutOfMemory]);
    add_points(&mut points, v8, &[Hook::NearHeapLimit]);
    let signals = Signal::ALL.map(|signal| {
        let availability = match signal {
            Signal::EventLoop => availability(event_loop.as_ref().err()),
            Signal::Gc => availability(gc.as_ref().err()),
            Signal::Heap => availability(heap.as_ref().err()),
            // Tracepoints only.
            Signal::Stdio | Signal::Lifecycle | Signal::Sched | Signal::Sockets => Availability::Ok,
            Signal::Sample => availability(layout(v8).err().as_ref()),
            Signal::Rejections => availability(rejections.as_ref().err()),
            Signal::Deopts => availability(deopts.as_ref().err()),
            Signal::ThreadPool => availability(thread_pool.as_ref().err()),
        };
        (signal, availability)
    });
    Plan {
        points,
        signals: signals.into(),
        gc_kind: gc.ok(),
        backend_fd_offset: event_loop.ok(),
        worker_run: node.and_then(|(file, binary)| Some(CodeRange { file, range: binary.worker_run()? })),
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

fn gc(v8: Component<'_>) -> Result<GcKindSource, String> {
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

fn deopts(v8: Component<'_>) -> Result<(), String> {
    match v8 {
        None => Err("no V8 symbols in the executable or a mapped libnode.so".to_owned()),
        Some((_, v8)) if v8.points(Hook::Deopt).is_empty() => {
            Err(because("deoptimisations (v8::internal::Deoptimizer) cannot be probed", v8, Hook::Deopt))
        }
        Some(_) => Ok(()),
    }
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
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::binary::{Architecture, GcSizes, Instruction, Point, V8Version, VirtualAddress};

    fn v8(major: u32) -> V8Version {
        V8Version { major, minor: 6, build: 233, patch: 17 }
    }

    /// An official build: one point per hook, at offset 0x100, 0x200 and so on in the order of [`Hook::ALL`].
    fn official(v8_major: u32) -> Binary {
        let point = |position: usize| {
            let offset = (position as u64 + 1) * 0x100;
            Point {
                address: VirtualAddress(0x40_0000 + offset),
                offset: FileOffset(offset),
                rule: Rule::Dynsym,
                instruction: Instruction::Push,
                function_size_bytes: Some(0x80),
            }
        };
        Binary {
            build_id: None,
            architecture: Architecture::X86_64,
            node_version: None,
            v8_version: Some(v8(v8_major)),
            stripped: false,
            has: Roles { node: true, v8: true, libuv: true },
            needed: Vec::new(),
            points: Hook::ALL.into_iter().enumerate().map(|(n, hook)| (hook, vec![point(n)])).collect(),
            missing: BTreeMap::new(),
            backend_fd_offset: Some(64),
            gc_sizes: None,
            engine: Engine::default(),
        }
    }

    fn without(mut binary: Binary, hooks: &[Hook]) -> Binary {
        for hook in hooks {
            binary.points.remove(hook);
            binary.missing.insert(*hook, "the symbol is not in the file".to_owned());
        }
        binary
    }

    fn only(mut binary: Binary, has: Roles, hooks: &[Hook]) -> Binary {
        binary.has = has;
        binary.points.retain(|hook, _| hooks.contains(hook));
        binary
    }

    fn stripped_24() -> Binary {
        let mut binary = without(
            official(13),
            &[Hook::GcMinor, Hook::GcMajor, Hook::HeapSize, Hook::NewPage, Hook::NearHeapLimit, Hook::Deopt],
        );
        binary.stripped = true;
        for hook in [Hook::GcStart, Hook::GcEnd] {
            binary.points.get_mut(&hook).unwrap()[0].rule = Rule::Decoded;
        }
        binary
    }

    fn in_words(plan: &Plan) -> String {
        let Plan { points, signals, gc_kind, backend_fd_offset, worker_run } = plan;
        let mut lines: Vec<String> = points
            .iter()
            .map(|ProbePoint { hook, file, offset, rule, cookie }| {
                let cookie = cookie.map(|cookie| format!(" {cookie:#x}")).unwrap_or_default();
                format!("{} file {file} {:#x} {}{cookie}", hook.name(), offset.0, rule.name())
            })
            .collect();
        lines.extend(signals.iter().map(|(signal, availability)| match availability {
            Availability::Ok => format!("{}: ok", signal.name()),
            Availability::Unavailable(reason) => format!("{}: {reason}", signal.name()),
        }));
        let worker_run = worker_run
            .as_ref()
            .map(|code| format!("file {} {:#x}..{:#x}", code.file, code.range.start.0, code.range.end.0));
        lines.push(format!("{gc_kind:?} {backend_fd_offset:?} {worker_run:?}"));
        lines.join("\n")
    }

    #[test]
    fn an_official_build_has_every_signal_from_one_file() {
        assert_snapshot!(in_words(&plan(&[&official(10)], true)), @r#"
        worker_run file 0 0x400 dynsym
        load_environment file 0 0x100 dynsym
        spin_event_loop file 0 0x200 dynsym
        uv_run file 0 0x300 dynsym
        gc_end file 0 0x600 dynsym
        gc_minor file 0 0x800 dynsym
        gc_major file 0 0x900 dynsym
        heap_size file 0 0xa00 dynsym
        gc_start file 0 0x500 dynsym
        new_page file 0 0xb00 dynsym
        promise_reject file 0 0xc00 dynsym
        deopt file 0 0x1000 dynsym
        pool_fs file 0 0x1300 dynsym
        pool_dns file 0 0x1400 dynsym
        pool_work file 0 0x1500 dynsym
        pool_submit file 0 0x1100 dynsym
        pool_queue file 0 0x1200 dynsym
        uncaught_exception file 0 0xd00 dynsym
        out_of_memory file 0 0xe00 dynsym
        near_heap_limit file 0 0xf00 dynsym
        event_loop: ok
        stdio: ok
        gc: ok
        heap: ok
        lifecycle: ok
        sched: ok
        sample: stacks cannot be decoded: the binary has no debugging metadata of V8 (`v8dbg_*`)
        rejections: ok
        deopts: ok
        thread_pool: ok
        sockets: ok
        Some(Functions) Some(64) Some("file 0 0x400..0x480")
        "#);
    }

    #[test]
    fn where_v8_keeps_the_heap_sizes_is_known_one_cheap_probe_ends_the_pause() {
        let mut binary = official(10);
        binary.gc_sizes = Some(GcSizes { before: 0x38, after: 0x40 });
        let hooks = |plan: &Plan| -> Vec<(Hook, Option<u64>)> {
            let of_gc = |point: &&ProbePoint| (Hook::GcStart..=Hook::HeapSize).contains(&point.hook);
            plan.points.iter().filter(of_gc).map(|point| (point.hook, point.cookie)).collect()
        };
        let expected = [
            (Hook::GcStop, Some(gc_stop::cookie(0x38, 0x40))),
            (Hook::GcMinor, None),
            (Hook::GcMajor, None),
            (Hook::GcStart, None),
        ];
        let cheap = plan(&[&binary], true);
        assert_eq!(hooks(&cheap), expected);
        let before_5_15 = plan(&[&binary], false);
        assert!(before_5_15.points.iter().any(|point| point.hook == Hook::HeapSize));
        assert!(before_5_15.points.iter().all(|point| point.hook != Hook::GcStop));
        assert_eq!(cheap.signals, before_5_15.signals);
    }

    #[test]
    fn a_stripped_node_24_has_collections_by_space_and_no_heap() {
        assert_snapshot!(in_words(&plan(&[&stripped_24()], true)), @r#"
        worker_run file 0 0x400 dynsym
        load_environment file 0 0x100 dynsym
        spin_event_loop file 0 0x200 dynsym
        uv_run file 0 0x300 dynsym
        gc_end file 0 0x600 decoded
        gc_start file 0 0x500 decoded
        promise_reject file 0 0xc00 dynsym
        pool_fs file 0 0x1300 dynsym
        pool_dns file 0 0x1400 dynsym
        pool_work file 0 0x1500 dynsym
        pool_submit file 0 0x1100 dynsym
        pool_queue file 0 0x1200 dynsym
        uncaught_exception file 0 0xd00 dynsym
        out_of_memory file 0 0xe00 dynsym
        event_loop: ok
        stdio: ok
        gc: ok
        heap: this Node is stripped, and since version 24 V8 hides the functions that know the heap size from all but the full symbol table
        lifecycle: ok
        sched: ok
        sample: stacks cannot be decoded: the binary has no debugging metadata of V8 (`v8dbg_*`)
        rejections: ok
        deopts: deoptimisations (v8::internal::Deoptimizer) cannot be probed: the symbol is not in the file
        thread_pool: ok
        sockets: ok
        Some(RequestedSpace) Some(64) Some("file 0 0x400..0x480")
        "#);
    }

    #[test]
    fn debian_takes_each_component_from_its_own_file() {
        let stub = only(official(10), Roles::default(), &[]);
        let node = Roles { node: true, v8: true, libuv: false };
        let hooks: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| *hook != Hook::UvRun).collect();
        let libnode = only(official(10), node, &hooks);
        let libuv = only(official(10), Roles { libuv: true, ..Roles::default() }, &[Hook::UvRun]);
        assert_snapshot!(in_words(&plan(&[&stub, &libnode, &libuv], true)), @r#"
        worker_run file 1 0x400 dynsym
        load_environment file 1 0x100 dynsym
        spin_event_loop file 1 0x200 dynsym
        uv_run file 2 0x300 dynsym
        gc_end file 1 0x600 dynsym
        gc_minor file 1 0x800 dynsym
        gc_major file 1 0x900 dynsym
        heap_size file 1 0xa00 dynsym
        gc_start file 1 0x500 dynsym
        new_page file 1 0xb00 dynsym
        promise_reject file 1 0xc00 dynsym
        deopt file 1 0x1000 dynsym
        uncaught_exception file 1 0xd00 dynsym
        out_of_memory file 1 0xe00 dynsym
        near_heap_limit file 1 0xf00 dynsym
        event_loop: ok
        stdio: ok
        gc: ok
        heap: ok
        lifecycle: ok
        sched: ok
        sample: stacks cannot be decoded: the binary has no debugging metadata of V8 (`v8dbg_*`)
        rejections: ok
        deopts: ok
        thread_pool: the queue of libuv's threads (uv__work_submit and others) cannot be probed
        sockets: ok
        Some(Functions) Some(64) Some("file 1 0x400..0x480")
        "#);
    }

    #[test]
    fn a_second_libuv_of_an_addon_is_not_probed() {
        let libuv = only(official(10), Roles { libuv: true, ..Roles::default() }, &[Hook::UvRun]);
        assert_eq!(plan(&[&official(10), &libuv], true), plan(&[&official(10)], true));
    }

    #[test]
    fn without_libuv_there_is_no_event_loop_but_there_are_collections() {
        let binary = only(official(10), Roles { node: true, v8: true, libuv: false }, &Hook::ALL);
        assert_snapshot!(in_words(&plan(&[&binary], true)), @r#"
        worker_run file 0 0x400 dynsym
        gc_end file 0 0x600 dynsym
        gc_minor file 0 0x800 dynsym
        gc_major file 0 0x900 dynsym
        heap_size file 0 0xa00 dynsym
        gc_start file 0 0x500 dynsym
        new_page file 0 0xb00 dynsym
        promise_reject file 0 0xc00 dynsym
        deopt file 0 0x1000 dynsym
        uncaught_exception file 0 0xd00 dynsym
        out_of_memory file 0 0xe00 dynsym
        near_heap_limit file 0 0xf00 dynsym
        event_loop: uv_run is neither in the executable nor in a mapped libuv.so
        stdio: ok
        gc: ok
        heap: ok
        lifecycle: ok
        sched: ok
        sample: stacks cannot be decoded: the binary has no debugging metadata of V8 (`v8dbg_*`)
        rejections: ok
        deopts: ok
        thread_pool: uv_run is neither in the executable nor in a mapped libuv.so
        sockets: ok
        Some(Functions) None Some("file 0 0x400..0x480")
        "#);
    }

    #[test]
    fn one_of_the_two_functions_that_enter_the_loop_is_enough() {
        for hook in [Hook::LoadEnvironment, Hook::SpinEventLoop] {
            let plan = plan(&[&without(official(10), &[hook])], true);
            assert_eq!(plan.signals[&Signal::EventLoop], Availability::Ok, "without {}", hook.name());
        }
        let plan = plan(&[&without(official(10), &[Hook::LoadEnvironment, Hook::SpinEventLoop])], true);
        assert_ne!(plan.signals[&Signal::EventLoop], Availability::Ok);
    }

    #[test]
    fn an_unknown_place_of_the_epoll_descriptor_costs_the_event_loop() {
        let mut binary = official(10);
        binary.backend_fd_offset = None;
        let plan = plan(&[&binary], true);
        assert_eq!(
            plan.signals[&Signal::EventLoop],
            Availability::Unavailable(
                "this libuv keeps its epoll descriptor in an unknown place (uv_backend_fd has an unknown shape)"
                    .into()
            )
        );
        assert!(plan.points.iter().all(|point| point.hook != Hook::UvRun), "half of it is attached");
    }

    #[test]
    fn half_a_pair_of_collection_probes_is_never_attached() {
        for hook in [Hook::GcStart, Hook::GcEnd] {
            let plan = plan(&[&without(official(10), &[hook])], true);
            assert!(plan.points.iter().all(|point| {
                !matches!(
                    point.hook,
                    Hook::GcStart | Hook::GcEnd | Hook::GcMinor | Hook::GcMajor | Hook::HeapSize
                )
            }));
            for signal in [Signal::Gc, Signal::Heap] {
                assert_ne!(plan.signals[&signal], Availability::Ok, "{}", signal.name());
            }
        }
    }

    #[test]
    fn before_v8_11_the_space_does_not_tell_the_kind() {
        let without_kinds = |major| plan(&[&without(official(major), &[Hook::GcMinor])], true);
        assert_eq!(without_kinds(11).gc_kind, Some(GcKindSource::RequestedSpace));
        assert_eq!(without_kinds(10).gc_kind, None);
        assert_eq!(
            without_kinds(10).signals[&Signal::Gc],
            Availability::Unavailable(
                "minor and major collections of V8 10.6.233.17 cannot be told apart without the symbols of both"
                    .into()
            )
        );
    }

    #[test]
    fn what_is_no_node_has_only_the_signals_of_tracepoints() {
        let binary = only(official(10), Roles::default(), &[]);
        assert_snapshot!(in_words(&plan(&[&binary], true)), @r"
        event_loop: no Node symbols in the executable or a mapped libnode.so
        stdio: ok
        gc: no V8 symbols in the executable or a mapped libnode.so
        heap: no V8 symbols in the executable or a mapped libnode.so
        lifecycle: ok
        sched: ok
        sample: no V8 symbols in the executable or a mapped libnode.so
        rejections: no Node symbols in the executable or a mapped libnode.so
        deopts: no V8 symbols in the executable or a mapped libnode.so
        thread_pool: uv_run is neither in the executable nor in a mapped libuv.so
        sockets: ok
        None None None
        ");
        assert_eq!(plan(&[], true), plan(&[&binary], true));
    }
}

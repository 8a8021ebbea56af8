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
        node_version: Some("24.21.0".to_owned()),
        v8_version: Some(v8(v8_major)),
        stripped: false,
        has: Roles { node: true, v8: true, libuv: true },
        needed: Vec::new(),
        points: Hook::ALL.into_iter().enumerate().map(|(n, hook)| (hook, vec![point(n)])).collect(),
        missing: BTreeMap::new(),
        backend_fd_offset: Some(64),
        default_loop: Some(DefaultLoop { function: FileOffset(0x80), distance_bytes: 0x1000 }),
        gc_sizes: Some(GcSizes { before: 0x38, after: 0x40 }),
        async_ids_offset: Some(0x488),
        context_frame_offset: Some(0x278),
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
        &[
            Hook::GcMinor,
            Hook::GcMajor,
            Hook::HeapSize,
            Hook::NewPage,
            Hook::NearHeapLimit,
            Hook::Deopt,
            Hook::DrainBegin,
            Hook::DrainEnd,
        ],
    );
    binary.stripped = true;
    binary.gc_sizes = None;
    for hook in [Hook::GcStart, Hook::GcEnd, Hook::GcStop] {
        binary.points.get_mut(&hook).unwrap()[0].rule = Rule::Decoded;
    }
    binary
}

fn in_words(plan: &Plan) -> String {
    let Plan {
        points,
        signals,
        gc_kind,
        backend_fd_offset,
        default_loop,
        worker_run,
        microtasks,
        pages,
        async_context: _,
    } = plan;
    let mut lines: Vec<String> = points
        .iter()
        .map(|ProbePoint { hook, file, offset, rule, cookie }| {
            let cookie = cookie.map(|cookie| format!(" {cookie:#x}")).unwrap_or_default();
            format!("{} file {file} {:#x} {}{cookie}", hook.name(), offset.0, rule.name())
        })
        .collect();
    let windowed = microtasks
        .iter()
        .chain(pages)
        .flat_map(|probes| probes.points.iter().map(move |point| (probes, point)));
    lines.extend(windowed.map(|(probes, (hook, offset))| {
        format!("{} file {} {:#x} in windows, {:?}", hook.name(), probes.file, offset.0, probes.instruction)
    }));
    lines.extend(signals.iter().map(|(signal, availability)| match availability {
        Availability::Ok => format!("{}: ok", signal.name()),
        Availability::Unavailable(reason) => format!("{}: {reason}", signal.name()),
    }));
    let worker_run = worker_run
        .as_ref()
        .map(|code| format!("file {} {:#x}..{:#x}", code.file, code.range.start.0, code.range.end.0));
    lines.push(format!(
        "{gc_kind:?} {backend_fd_offset:?} {worker_run:?} {:?}",
        default_loop.map(|pointer| pointer.file)
    ));
    lines.join("\n")
}

#[test]
fn an_official_build_has_every_signal_from_one_file() {
    assert_snapshot!(in_words(&plan(&[&official(10)], true)), @r#"
    worker_run file 0 0x400 dynsym
    load_environment file 0 0x100 dynsym
    spin_event_loop file 0 0x200 dynsym
    uv_run file 0 0x300 dynsym
    gc_stop file 0 0x700 dynsym 0x400038
    gc_minor file 0 0x800 dynsym
    gc_major file 0 0x900 dynsym
    gc_start file 0 0x500 dynsym
    promise_reject file 0 0xc00 dynsym
    reject_failed file 0 0x1c00 dynsym
    deopt file 0 0x1000 dynsym
    pool_fs file 0 0x1500 dynsym
    pool_dns file 0 0x1600 dynsym
    pool_work file 0 0x1700 dynsym
    pool_submit file 0 0x1300 dynsym
    pool_queue file 0 0x1400 dynsym
    compile_end file 0 0x1a00 dynsym
    compile_function file 0 0x1800 dynsym
    compile_module file 0 0x1900 dynsym
    stream_write file 0 0x1b00 dynsym
    uncaught_exception file 0 0xd00 dynsym
    out_of_memory file 0 0xe00 dynsym
    near_heap_limit file 0 0xf00 dynsym
    drain_begin file 0 0x1100 in windows, Push
    drain_end file 0 0x1200 in windows, Push
    new_page file 0 0xb00 in windows, Push
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
    microtasks: ok
    async_context: ok
    compile: ok
    Some(Functions) Some(64) Some("file 0 0x400..0x480") Some(0)
    "#);
}

#[test]
fn where_v8_keeps_the_heap_sizes_is_known_one_cheap_probe_ends_the_pause() {
    let mut binary = official(10);
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

    binary.gc_sizes = None;
    let of_debian = plan(&[&binary], true);
    assert_eq!(hooks(&of_debian)[0], (Hook::GcStop, Some(gc_stop::SIZES_UNKNOWN)));
    assert!(hooks(&of_debian).contains(&(Hook::HeapSize, None)));
    assert_eq!(cheap.signals, of_debian.signals);
}

#[test]
fn a_stripped_node_24_is_told_the_kind_at_the_end_of_a_pause_and_has_no_heap() {
    assert_snapshot!(in_words(&plan(&[&stripped_24()], true)), @r#"
    worker_run file 0 0x400 dynsym
    load_environment file 0 0x100 dynsym
    spin_event_loop file 0 0x200 dynsym
    uv_run file 0 0x300 dynsym
    gc_stop file 0 0x700 decoded 0x100000000
    gc_start file 0 0x500 decoded
    promise_reject file 0 0xc00 dynsym
    reject_failed file 0 0x1c00 dynsym
    pool_fs file 0 0x1500 dynsym
    pool_dns file 0 0x1600 dynsym
    pool_work file 0 0x1700 dynsym
    pool_submit file 0 0x1300 dynsym
    pool_queue file 0 0x1400 dynsym
    compile_end file 0 0x1a00 dynsym
    compile_function file 0 0x1800 dynsym
    compile_module file 0 0x1900 dynsym
    stream_write file 0 0x1b00 dynsym
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
    microtasks: drains of the microtask queue (v8::internal::MicrotaskQueue::RunMicrotasks) cannot be probed: the symbol is not in the file
    async_context: ok
    compile: ok
    Some(EndOfPause) Some(64) Some("file 0 0x400..0x480") Some(0)
    "#);
}

#[test]
fn debian_takes_each_component_from_its_own_file() {
    let stub = only(official(10), Roles::default(), &[]);
    let node = Roles { node: true, v8: true, libuv: false };
    let hooks: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| *hook != Hook::UvRun).collect();
    let mut libnode = only(official(10), node, &hooks);
    libnode.gc_sizes = None;
    let libuv = only(official(10), Roles { libuv: true, ..Roles::default() }, &[Hook::UvRun]);
    assert_snapshot!(in_words(&plan(&[&stub, &libnode, &libuv], true)), @r#"
    worker_run file 1 0x400 dynsym
    load_environment file 1 0x100 dynsym
    spin_event_loop file 1 0x200 dynsym
    uv_run file 2 0x300 dynsym
    gc_stop file 1 0x700 dynsym 0x0
    gc_minor file 1 0x800 dynsym
    gc_major file 1 0x900 dynsym
    heap_size file 1 0xa00 dynsym
    gc_start file 1 0x500 dynsym
    promise_reject file 1 0xc00 dynsym
    reject_failed file 1 0x1c00 dynsym
    deopt file 1 0x1000 dynsym
    compile_end file 1 0x1a00 dynsym
    compile_function file 1 0x1800 dynsym
    compile_module file 1 0x1900 dynsym
    uncaught_exception file 1 0xd00 dynsym
    out_of_memory file 1 0xe00 dynsym
    near_heap_limit file 1 0xf00 dynsym
    drain_begin file 1 0x1100 in windows, Push
    drain_end file 1 0x1200 in windows, Push
    new_page file 1 0xb00 in windows, Push
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
    microtasks: ok
    async_context: ok
    compile: ok
    Some(Functions) Some(64) Some("file 1 0x400..0x480") Some(2)
    "#);
}

#[test]
fn a_libuv_that_writes_everything_through_its_queue_is_not_asked_what_waits() {
    let asked = |version: Option<&str>| {
        let binary = Binary { node_version: version.map(str::to_owned), ..official(10) };
        plan(&[&binary], true).points.iter().any(|point| point.hook == Hook::StreamWrite)
    };
    assert_eq!([Some("16.0.0"), Some("16.20.2"), Some("x"), None].map(asked), [false; 4]);
    assert_eq!([Some("18.0.0"), Some("26.10.0")].map(asked), [true; 2]);
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
    gc_stop file 0 0x700 dynsym 0x400038
    gc_minor file 0 0x800 dynsym
    gc_major file 0 0x900 dynsym
    gc_start file 0 0x500 dynsym
    promise_reject file 0 0xc00 dynsym
    reject_failed file 0 0x1c00 dynsym
    deopt file 0 0x1000 dynsym
    compile_end file 0 0x1a00 dynsym
    compile_function file 0 0x1800 dynsym
    compile_module file 0 0x1900 dynsym
    uncaught_exception file 0 0xd00 dynsym
    out_of_memory file 0 0xe00 dynsym
    near_heap_limit file 0 0xf00 dynsym
    drain_begin file 0 0x1100 in windows, Push
    drain_end file 0 0x1200 in windows, Push
    new_page file 0 0xb00 in windows, Push
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
    microtasks: ok
    async_context: ok
    compile: ok
    Some(Functions) None Some("file 0 0x400..0x480") None
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
fn an_end_that_cannot_be_told_costs_lifecycle_and_a_call_for_help_does_not() {
    let lifecycle = |hook| plan(&[&without(official(10), &[hook])], true).signals[&Signal::Lifecycle].clone();
    assert_eq!(lifecycle(Hook::NearHeapLimit), Availability::Ok, "the handler tells that the heap is full");
    assert_eq!(
        lifecycle(Hook::OutOfMemory),
        Availability::Unavailable(
            "that a process ends of a full heap is not told (node::OOMErrorHandler cannot be probed): \
             the symbol is not in the file"
                .into()
        )
    );
    assert_ne!(lifecycle(Hook::UncaughtException), Availability::Ok);
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
    assert_eq!(without_kinds(12).gc_kind, Some(GcKindSource::EndOfPause));
    let before_5_15 = plan(&[&without(official(12), &[Hook::GcMinor])], false);
    assert_eq!(before_5_15.gc_kind, Some(GcKindSource::RequestedSpace));
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
    microtasks: no V8 symbols in the executable or a mapped libnode.so
    async_context: no Node symbols in the executable or a mapped libnode.so
    compile: no V8 symbols in the executable or a mapped libnode.so
    None None None None
    ");
    assert_eq!(plan(&[], true), plan(&[&binary], true));
}

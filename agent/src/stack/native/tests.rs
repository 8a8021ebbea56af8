use std::{io::Write as _, process::Command};

use super::*;
use crate::procfs::live::{Running, nodes};

fn id(dir: &ProcessDir) -> ProcessId {
    ProcessId { pid: dir.pid(), start_ticks: dir.stat().unwrap().start_ticks }
}

fn this_process() -> ProcessId {
    id(&Procfs::default().process(std::process::id()).unwrap())
}

#[inline(never)]
fn a_function_to_be_found() -> u64 {
    std::hint::black_box(1)
}

#[test]
fn functions_of_the_executable_and_of_libraries_are_named() {
    let mut symbolizer = Symbolizer::new(Procfs::default());
    let here = a_function_to_be_found as fn() -> u64 as usize as u64;
    let libc = libc::getpid as unsafe extern "C" fn() -> i32 as usize as u64;
    let names = symbolizer.names(this_process(), &[here, here + 1, libc]);
    let [Some(first), Some(second), Some(third)] = &names[..] else { panic!("{names:?}") };
    assert!(first.contains("a_function_to_be_found"), "{first}");
    assert!(Arc::ptr_eq(first, second), "one string for a function");
    assert!(third.ends_with("getpid"), "{third}");
    assert_eq!(a_function_to_be_found(), 1);
    // The second time nothing is opened: a procfs that is not there does no harm.
    symbolizer.procfs = Procfs::new("/nonexistent");
    assert_eq!(symbolizer.names(this_process(), &[here, here + 1, libc]), names);
}

#[test]
fn what_is_in_no_file_has_no_name() {
    let mut symbolizer = Symbolizer::new(Procfs::default());
    let vdso = Procfs::default()
        .process(std::process::id())
        .unwrap()
        .mappings(|mapping| mapping.path.as_os_str() == "[vdso]")
        .unwrap();
    let names = symbolizer.names(this_process(), &[0, u64::MAX, vdso[0].range.start]);
    assert_eq!(names, [None, None, Some(Arc::from("[vdso]"))]);
    let other = ProcessId { start_ticks: 1, ..this_process() };
    assert_eq!(symbolizer.names(other, &[vdso[0].range.start]), [None], "another process with this pid");
    assert_eq!(symbolizer.names(this_process(), &[]), []);
}

#[test]
fn a_file_without_symbols_or_with_broken_ones_gives_its_own_name() {
    let mut file = tempfile::NamedTempFile::with_prefix("broken\x1b[2J").unwrap();
    file.write_all(b"\x7fELF\x02\x01\x01").unwrap();
    file.write_all(&[0xff; 8192]).unwrap();
    let symbols = Symbols::read(file.as_file(), &HashMap::new());
    assert!(symbols.table.is_none());
    let mapping = Mapping {
        range: 0x1000..0x3000,
        executable: true,
        offset_bytes: 0,
        device: (0, 0),
        inode: 7,
        path: file.path().into(),
        deleted: false,
    };
    let label = Mapped::new(mapping).label.unwrap();
    assert!(label.starts_with("[broken\u{fffd}[2J"), "{label}");
}

#[test]
fn equal_tables_are_kept_once() {
    let file = File::open("/proc/self/exe").unwrap();
    let first = Symbols::read(&file, &HashMap::new());
    let file_id = |inode| FileId { device: 1, inode, size_bytes: 2, modified_s: 3, modified_ns: 4 };
    let mut symbolizer = Symbolizer::new(Procfs::default());
    symbolizer.files.insert(file_id(1), first);
    let one = symbolizer.tables_bytes();
    let second = Symbols::read(&file, &symbolizer.files);
    symbolizer.files.insert(file_id(2), second);
    assert!(one > 12 && symbolizer.tables_bytes() <= one, "{one}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut symbolizer = Symbolizer::new(Procfs::default());
    for inode in 0..=FILES_MAX as u64 {
        let names = (0..600).map(|index| (FunctionIndex::for_test(index), Arc::from("x"))).collect();
        let id = FileId { device: 1, inode, size_bytes: 2, modified_s: 3, modified_ns: 4 };
        symbolizer.files.insert(id, Symbols { table: None, names, used: inode });
    }
    symbolizer.make_room();
    assert_eq!(symbolizer.files.len(), FILES_MAX);
    assert!(!symbolizer.files.keys().any(|id| id.inode == 0), "the one not used for longest goes first");
    assert!(symbolizer.files.values().all(|symbols| symbols.names.is_empty()));
}

/// V8 maps the pages of its builtins a second time close to the code it compiles. Both must have the same names.
#[test]
fn builtins_that_v8_has_mapped_again_are_named() {
    let test = "builtins_that_v8_has_mapped_again_are_named";
    let mut remapped = 0;
    for node in nodes(test) {
        let script = "console.log('ready'); setInterval(() => {}, 1e6)";
        let running = Running::start_and_wait(Command::new(&node).args(["-e", script]));
        let dir = running.dir();
        let node = node.canonicalize().unwrap();
        let mappings = dir.mappings(|mapping| mapping.executable && mapping.path == node).unwrap();
        let mut symbolizer = Symbolizer::new(Procfs::default());
        let offsets = |mapping: &Mapping| {
            mapping.offset_bytes..mapping.offset_bytes + (mapping.range.end - mapping.range.start)
        };
        for copy in &mappings {
            let Some(original) = mappings.iter().find(|other| {
                *other != copy
                    && offsets(other).contains(&offsets(copy).start)
                    && offsets(other).end >= offsets(copy).end
            }) else {
                continue;
            };
            remapped += 1;
            let size = copy.range.end - copy.range.start;
            let steps = (0..2000).map(|step| size / 2000 * step);
            let there: Vec<u64> = steps.clone().map(|step| copy.range.start + step).collect();
            let distance = copy.offset_bytes - original.offset_bytes;
            let here: Vec<u64> = steps.map(|step| original.range.start + distance + step).collect();
            let names = symbolizer.names(id(&dir), &there);
            assert_eq!(names, symbolizer.names(id(&dir), &here), "{}", node.display());
            let builtins = names.iter().flatten().filter(|name| name.starts_with("Builtins_")).count();
            assert!(builtins > 1800, "{builtins} of 2000 in {}", node.display());
        }
        let kept = symbolizer.size_bytes();
        assert!(kept < 4 << 20, "{kept} bytes for {}", node.display());
    }
    assert!(remapped > 0 || std::env::var_os("NODEPROBE_TEST_NODES").is_none());
}

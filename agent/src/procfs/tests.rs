//! Against a tree that looks like /proc, and against real processes.

use std::{
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    live::{Running, nodes},
    *,
};
use crate::model::StreamKind;

/// A tree like `/proc` with one process 42, whose root directory is `rootfs` beside it.
fn fixture() -> (TempDir, ProcessDir) {
    let dir = tempfile::tempdir().unwrap();
    let process = dir.path().join("42");
    std::fs::create_dir_all(process.join("fd")).unwrap();
    std::fs::create_dir_all(process.join("map_files")).unwrap();
    std::fs::create_dir_all(process.join("task/42")).unwrap();
    std::fs::create_dir_all(dir.path().join("rootfs/app")).unwrap();
    symlink(dir.path().join("rootfs"), process.join("root")).unwrap();
    let opened = Procfs::new(dir.path()).process(42).unwrap();
    (dir, opened)
}

fn write(dir: &TempDir, path: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.path().join(path), bytes).unwrap();
}

fn eventually<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "waited 10 s in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn only_numeric_entries_are_processes() {
    let (dir, _) = fixture();
    for name in ["7", "1000000", "self", "4x", "-1", "99999999999"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    assert_eq!(Procfs::new(dir.path()).pids().unwrap(), [7, 42, 1_000_000]);
}

#[test]
fn a_process_that_is_not_there_is_gone() {
    let (dir, process) = fixture();
    assert!(Procfs::new(dir.path()).process(43).unwrap_err().is_gone());
    assert!(process.stat().unwrap_err().is_gone());
    assert!(process.exe().unwrap_err().is_gone());
    assert!(process.cmdline(100).unwrap_err().is_gone());
    assert_eq!(process.stream_kind(1).unwrap(), None);
}

#[test]
fn a_command_line_is_split_at_its_nul_bytes() {
    let (dir, process) = fixture();
    let args = |bytes: &[u8]| {
        write(&dir, "42/cmdline", bytes);
        let args = process.cmdline(64).unwrap().args;
        args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(args(b"node\0--inspect\0a b.js\0"), ["node", "--inspect", "a b.js"]);
    assert_eq!(args(b"node\0\0x\0"), ["node", "", "x"]);
    assert_eq!(args(b"next-server (v15)\0\0\0\0\0"), ["next-server (v15)"]);
    assert_eq!(args(b"no nul"), ["no nul"]);
    assert_eq!(args(b"\xff\xfe\0"), ["\u{fffd}\u{fffd}"]);
    assert!(args(b"").is_empty());
}

#[test]
fn a_long_command_line_is_cut_at_the_limit() {
    let (dir, process) = fixture();
    write(&dir, "42/cmdline", [b"node\0".to_vec(), vec![b'x'; 1 << 20]].concat());
    let cmdline = process.cmdline(CMDLINE_MAX_BYTES).unwrap();
    assert_eq!((cmdline.args.len(), cmdline.args[1].len()), (2, CMDLINE_MAX_BYTES - 5));
    assert!(cmdline.truncated);
    write(&dir, "42/cmdline", b"node\0a.js\0");
    assert!(!process.cmdline(10).unwrap().truncated);
    assert!(process.cmdline(9).unwrap().truncated);
}

#[test]
fn only_the_variables_asked_for_are_taken() {
    let (dir, process) = fixture();
    let environ = |bytes: &[u8]| {
        write(&dir, "42/environ", bytes);
        process.environ(["A", "B"]).unwrap().map(|v| v.map(|v| String::from_utf8_lossy(&v).into_owned()))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(environ(b"SECRET=x\0A=1=2\0B=\0"), [some("1=2"), some("")]);
    assert_eq!(environ(b"AA=1\0A\0XA=2\0"), [None, None]);
    assert_eq!(environ(b"A=first\0A=second\0"), [some("first"), None]);
    // Beyond the limit, or cut by it.
    let padding = [b"P=".to_vec(), vec![b'x'; (ENVIRON_MAX_BYTES - 6) as usize]].concat();
    assert_eq!(environ(&[&padding[..], b"\0A=1\0"].concat()), [None, None]);
    assert_eq!(environ(&[b"B=1\0", &padding[..], b"\0A=1\0"].concat()), [None, some("1")]);
}

#[test]
fn a_replaced_executable_is_told_from_a_present_one() {
    let (dir, process) = fixture();
    symlink("/usr/bin/node (deleted)", dir.path().join("42/exe")).unwrap();
    assert_eq!(process.exe().unwrap(), Link { path: "/usr/bin/node".into(), deleted: true });
    symlink("/srv/app", dir.path().join("42/cwd")).unwrap();
    assert_eq!(process.cwd().unwrap(), Link { path: "/srv/app".into(), deleted: false });
}

#[test]
fn paths_in_a_chroot_are_those_the_process_sees() {
    let (dir, process) = fixture();
    symlink(dir.path().join("rootfs/app"), dir.path().join("42/cwd")).unwrap();
    assert_eq!(process.cwd().unwrap().path, Path::new("/app"));
}

#[test]
fn stream_kinds_are_those_of_libuv() {
    let (dir, process) = fixture();
    let kind = |target: &Path| {
        let link = dir.path().join("42/fd/1");
        std::fs::remove_file(&link).ok();
        symlink(target, &link).unwrap();
        process.stream_kind(1).unwrap()
    };
    assert_eq!(kind(Path::new("/dev/null")), Some(StreamKind::File));
    assert_eq!(kind(Path::new("/dev/tty")), Some(StreamKind::Tty));
    assert_eq!(kind(Path::new("/dev/ptmx")), Some(StreamKind::Tty));
    write(&dir, "out.log", "");
    assert_eq!(kind(&dir.path().join("out.log")), Some(StreamKind::File));
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert_eq!(kind(&fifo), Some(StreamKind::Pipe));
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(kind(&socket), Some(StreamKind::Socket));
    assert_eq!(kind(dir.path()), None);
}

#[test]
fn serial_and_hypervisor_consoles_are_terminals_by_the_list_of_drivers() {
    let (dir, process) = fixture();
    std::fs::create_dir(dir.path().join("tty")).unwrap();
    write(&dir, "tty/drivers", "hvc                  /dev/hvc      229 0-7 system\nmalformed\n");
    assert!(process.is_tty(libc::makedev(229, 1)));
    assert!(process.is_tty(libc::makedev(136, 3)));
    assert!(!process.is_tty(libc::makedev(1, 3)));
}

#[test]
fn real_streams_of_a_real_process_are_recognised() {
    let sleep = Running::start(
        Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()),
    );
    let dir = sleep.dir();
    assert_eq!(dir.stream_kind(0).unwrap(), Some(StreamKind::File));
    assert_eq!(dir.stream_kind(1).unwrap(), Some(StreamKind::Pipe));
    assert_eq!(dir.stream_kind(63).unwrap(), None);
}

#[test]
fn nothing_outside_the_root_is_read() {
    let (dir, process) = fixture();
    write(&dir, "outside", "secret");
    write(&dir, "rootfs/app/inside", "public");
    let app = dir.path().join("rootfs/app");
    symlink(dir.path().join("outside"), app.join("absolute")).unwrap();
    symlink("../../outside", app.join("relative")).unwrap();
    symlink("../../..", app.join("up")).unwrap();
    symlink("/app/inside", app.join("good")).unwrap();
    symlink("loop", app.join("loop")).unwrap();
    let read = |path: &str| process.read_in_root(Path::new(path), 100).unwrap();
    assert_eq!(read("/app/inside").as_deref(), Some(&b"public"[..]));
    assert_eq!(read("/../app/./inside").as_deref(), Some(&b"public"[..]));
    assert_eq!(read("/app/good").as_deref(), Some(&b"public"[..]));
    for path in ["/app/absolute", "/app/relative", "/app/up/outside", "/../outside", "/app/loop", "/app/none"]
    {
        assert_eq!(read(path), None, "{path}");
    }
    assert_eq!(read("/app/in\0side"), None);
    assert_eq!(read(&"/x".repeat(5000)), None);
    assert_eq!(process.real_path(Path::new("/app/good")).unwrap(), Path::new("/app/inside"));
}

#[test]
fn without_openat2_even_less_is_read() {
    use std::os::fd::AsFd as _;
    let (dir, _) = fixture();
    write(&dir, "outside", "secret");
    write(&dir, "rootfs/app/inside", "public");
    let app = dir.path().join("rootfs/app");
    symlink("../../outside", app.join("relative")).unwrap();
    symlink("..", app.join("up")).unwrap();
    symlink("inside", app.join("good")).unwrap();
    let root = at::open_dir(&dir.path().join("rootfs")).unwrap();
    let walk = |path: &str| at::walk_in_root(root.as_fd(), Path::new(path));
    let by_kernel = |path: &str| at::openat2_in_root(root.as_fd(), Path::new(path));
    for path in ["/app/inside", "app/inside", "/../../app/../app/inside", "/"] {
        let inode = |fd: OwnedFd| at::stat_fd(&fd).unwrap().st_ino;
        assert_eq!(inode(walk(path).unwrap()), inode(by_kernel(path).unwrap()), "{path}");
    }
    for path in ["/app/relative", "/app/up/app/inside", "/app/good", "/../outside", "/app/inside/x"] {
        assert!(walk(path).is_err(), "{path}");
    }
    assert!(walk(&"/a".repeat(1000)).is_err());
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let (dir, process) = fixture();
    let app = dir.path().join("rootfs/app");
    assert!(Command::new("mkfifo").arg(app.join("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(app.join("socket")).unwrap();
    File::create(app.join("huge")).unwrap().set_len(1 << 40).unwrap();
    write(&dir, "rootfs/app/fits", [b'x'; 100]);
    write(&dir, "rootfs/app/over", [b'x'; 101]);
    // Opening the FIFO would wait for a writer: this test would not end.
    for path in ["/app/fifo", "/app/socket", "/app/huge", "/app/over", "/app"] {
        assert_eq!(process.read_in_root(Path::new(path), 100).unwrap(), None, "{path}");
    }
    assert_eq!(process.read_in_root(Path::new("/app/fits"), 100).unwrap().unwrap().len(), 100);
}

#[test]
fn a_mapped_file_is_opened_only_if_it_is_still_the_one() {
    let (dir, process) = fixture();
    write(&dir, "rootfs/libuv.so.1", "first");
    let metadata = std::fs::metadata(dir.path().join("rootfs/libuv.so.1")).unwrap();
    let device = std::os::unix::fs::MetadataExt::dev(&metadata);
    let mapping = Mapping {
        range: 0x1000..0x2000,
        executable: true,
        offset_bytes: 0,
        device: (libc::major(device), libc::minor(device)),
        inode: std::os::unix::fs::MetadataExt::ino(&metadata),
        path: "/libuv.so.1".into(),
        deleted: false,
    };
    assert!(process.open_mapped(&mapping).is_ok());
    // An upgrade renames a new file over it.
    write(&dir, "new", "second");
    std::fs::rename(dir.path().join("new"), dir.path().join("rootfs/libuv.so.1")).unwrap();
    assert!(matches!(process.open_mapped(&mapping), Err(Error::Replaced { pid: 42, .. })));
}

#[test]
fn a_deleted_library_is_opened_through_its_mapping() {
    // A private copy of the C library, mapped by a process that outlives the file.
    let dir = tempfile::tempdir().unwrap();
    let own = Procfs::default().process(std::process::id()).unwrap();
    let libc_path = own
        .mappings(|m| {
            m.executable && m.path.file_name().is_some_and(|n| n.as_bytes().starts_with(b"libc.so"))
        })
        .unwrap();
    let Some(libc_path) = libc_path.first().map(|m| m.path.clone()) else {
        eprintln!("skipped: this test is linked statically");
        return;
    };
    let copy = dir.path().join("libuv.so.1.0.0");
    std::fs::copy(libc_path, &copy).unwrap();
    let sleep = Running::start(Command::new("sleep").arg("60").env("LD_PRELOAD", &copy));
    let process = sleep.dir();
    let libraries = eventually(|| Some(process.node_libraries().ok()?).filter(|l| !l.is_empty()));
    let size = std::fs::metadata(&copy).unwrap().len();
    std::fs::remove_file(&copy).unwrap();
    match process.open_mapped(&libraries[0]) {
        Ok(file) => assert_eq!(file.metadata().unwrap().len(), size),
        // Without CAP_CHECKPOINT_RESTORE it cannot be had, and that is said.
        Err(error) => assert!(matches!(error, Error::Replaced { .. }), "{error}"),
    }
}

#[test]
fn the_test_itself_is_seen_as_it_is() {
    let own = Procfs::default().process(std::process::id()).unwrap();
    let stat = own.stat().unwrap();
    assert_eq!(stat.ppid, std::os::unix::process::parent_id());
    assert!(!stat.kernel_thread && stat.rss_bytes > 0 && stat.threads >= 1);
    // SAFETY: geteuid has no preconditions.
    assert_eq!(own.status().unwrap().user_id, unsafe { libc::geteuid() });
    assert_eq!(own.exe().unwrap().path, std::env::current_exe().unwrap());
    assert_eq!(own.cwd().unwrap().path, std::env::current_dir().unwrap());
    let args: Vec<_> = std::env::args_os().map(|arg| arg.as_bytes().to_vec()).collect();
    assert_eq!(own.cmdline(CMDLINE_MAX_BYTES).unwrap().args, args);
    // It was started before now, and less than an hour ago.
    let age = SystemTime::now().duration_since(started_at(boot_time(), stat.start_ticks)).unwrap();
    assert!(age < Duration::from_hours(1), "{age:?}");
}

#[test]
fn an_ended_process_is_gone_even_through_an_open_directory() {
    let mut sleep = Running::start(Command::new("sleep").arg("60"));
    let process = sleep.dir();
    assert_eq!(process.thread_ids().unwrap(), [process.pid()]);
    sleep.child.kill().unwrap();
    eventually(|| (process.stat().unwrap().state == 'Z').then_some(()));
    // A zombie has a pid but neither program nor memory.
    assert!(process.exe().unwrap_err().is_gone());
    assert!(process.cmdline(100).unwrap().args.is_empty());
    sleep.child.wait().unwrap();
    assert!(process.stat().unwrap_err().is_gone());
    assert!(process.thread_ids().unwrap_err().is_gone());
    assert!(process.thread_name(process.pid()).unwrap_err().is_gone());
    assert!(process.thread_state(process.pid()).unwrap_err().is_gone());
    assert!(process.thread_runs(process.pid(), &(0..u64::MAX)).unwrap_err().is_gone());
    assert!(process.mappings(|_| true).is_err_and(|error| error.is_gone()));
}

#[inline(never)]
fn waits_in_here(release: &std::sync::mpsc::Receiver<()>) {
    release.recv().ok();
    std::hint::black_box(());
}

#[test]
fn a_function_is_found_on_the_stack_of_the_thread_that_runs_it_only() {
    let (tell, tids) = std::sync::mpsc::channel();
    let (release_inside, inside) = std::sync::mpsc::channel();
    let (release_outside, outside) = std::sync::mpsc::channel::<()>();
    let tell_other = tell.clone();
    // SAFETY: gettid has no preconditions.
    let own_tid = || unsafe { libc::gettid() } as u32;
    let first = std::thread::spawn(move || {
        tell.send((true, own_tid())).unwrap();
        waits_in_here(&inside);
    });
    let second = std::thread::spawn(move || {
        tell_other.send((false, own_tid())).unwrap();
        outside.recv().ok();
    });
    // The address of the function; a return address in it is less than 256 bytes on.
    let start = waits_in_here as *const () as u64;
    let code = start..start + 256;
    let own = Procfs::default().process(std::process::id()).unwrap();
    for (expected, tid) in tids.iter().take(2) {
        eventually(|| matches!(own.thread_state(tid), Ok(ThreadState::InSyscall { .. })).then_some(()));
        let expected = if expected { OnStack::Yes } else { OnStack::No };
        assert_eq!(own.thread_runs(tid, &code).unwrap(), expected);
    }
    drop((release_inside, release_outside));
    first.join().unwrap();
    second.join().unwrap();
}

/// Address and size of `node::worker::Worker::Run()`, by binutils.
fn worker_run(node: &Path) -> Option<std::ops::Range<u64>> {
    let symbols = Command::new("nm").arg("--print-size").arg(node).output().ok()?.stdout;
    let symbols = String::from_utf8(symbols).unwrap();
    let line = symbols.lines().find(|line| line.ends_with(" _ZN4node6worker6Worker3RunEv"))?;
    let mut numbers = line.split_ascii_whitespace().map_while(|field| u64::from_str_radix(field, 16).ok());
    let (start, size) = (numbers.next()?, numbers.next()?);
    Some(start..start + size)
}

#[test]
fn worker_threads_of_real_node_are_told_from_all_its_other_threads() {
    for node in nodes("worker_threads_of_real_node_are_told_from_all_its_other_threads") {
        let Some(code) = worker_run(&node) else {
            eprintln!("skipped {}: no nm, or it finds no symbols", node.display());
            continue;
        };
        // A synchronous read happens on the thread itself, which thereby tells its tid. The stat starts the pool.
        let code_js = "const { Worker } = require('worker_threads'); require('fs').stat('/', () => {});
            console.log('ready');
            for (let n = 0; n < 2; n++) new Worker(`
                const tid = require('fs').readlinkSync('/proc/thread-self').split('/').pop();
                require('worker_threads').parentPort.postMessage(tid); setInterval(() => {}, 50)`, { eval: true })
                .on('message', tid => console.log(tid))";
        let mut running = Running::start_and_wait(Command::new(&node).args(["-e", code_js]));
        let mut workers: Vec<u32> = (0..2).map(|_| running.line().trim().parse().unwrap()).collect();
        workers.sort_unstable();
        let process = running.dir();
        let threads = process.thread_ids().unwrap();
        assert!(threads.len() > 6, "{threads:?}");
        let runs = |tid: &u32| {
            eventually(|| match process.thread_runs(*tid, &code).unwrap() {
                OnStack::Yes => Some(true),
                OnStack::No => Some(false),
                OnStack::Running | OnStack::Unclear => None,
            })
        };
        let found: Vec<u32> = threads.into_iter().filter(runs).collect();
        assert_eq!(found, workers, "{}", node.display());
    }
}

//! Fixtures of /proc, and real Node.js processes.

use std::{
    os::unix::{ffi::OsStringExt as _, fs::symlink},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::*;
use crate::procfs::{
    Procfs,
    live::{Running, nodes},
};

const STAT: &str = "42 (node) S 7 42 42 0 -1 4194304 0 0 0 0 37 12 0 0 20 0 11 0 91370 1134092288 11187 0\n";
const CONTAINER: &str = "4c01db0b339c8b2c9d2d3a4c1f0e6a5b7c8d9e0f11223344556677889900aabb";

struct Fixture(TempDir);

impl Fixture {
    /// Process 42, `node server.js` in `/srv/shop`, nothing else known.
    fn new() -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        let root = fixture.0.path().join("rootfs");
        fixture.write("42/stat", STAT);
        fixture.write("42/status", "Name:\tnode\nUid:\t0\t1000\t0\t0\nNSpid:\t42\t1\n");
        fixture.write("42/cgroup", format!("0::/docker/{CONTAINER}\n"));
        fixture.write("42/cmdline", "node\0server.js\0");
        fixture.write("42/environ", "");
        fixture.write("rootfs/srv/shop/server.js", "");
        symlink("/usr/local/bin/node", fixture.0.path().join("42/exe")).unwrap();
        symlink(root.join("srv/shop"), fixture.0.path().join("42/cwd")).unwrap();
        symlink(root, fixture.0.path().join("42/root")).unwrap();
        fixture
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn identity(&self) -> Identity {
        let process = Procfs::new(self.0.path()).process(42).unwrap();
        identify(&process, &Host::default(), Versions::default()).unwrap()
    }

    /// Name for people, name of the service, version.
    fn names(&self) -> (String, String, Option<String>) {
        let Identity { name, service_name, service_version, .. } = self.identity();
        (name, service_name, service_version)
    }
}

fn names(name: &str, service: &str, version: Option<&str>) -> (String, String, Option<String>) {
    (name.to_owned(), service.to_owned(), version.map(str::to_owned))
}

#[test]
fn facts_that_are_no_names_come_from_proc() {
    let identity = Fixture::new().identity();
    assert_eq!(identity.container_id.as_deref(), Some(CONTAINER));
    assert_eq!(identity.executable_path, "/usr/local/bin/node");
    assert_eq!((identity.namespaced_pid, identity.parent_pid, identity.user_id), (Some(1), 7, 1000));
}

#[test]
fn the_first_known_name_wins() {
    let fixture = Fixture::new();
    assert_eq!(fixture.names(), names("server.js", "server", None));
    fixture.write("42/environ", "npm_package_name=from-npm\0npm_package_version=0.1.0\0");
    assert_eq!(fixture.names(), names("from-npm", "from-npm", Some("0.1.0")));
    fixture.write("rootfs/srv/package.json", r#"{"name":"monorepo","version":"2.0.0"}"#);
    assert_eq!(fixture.names(), names("monorepo", "monorepo", Some("2.0.0")));
    fixture.write("rootfs/srv/shop/package.json", r#"{"name":"@acme/shop"}"#);
    assert_eq!(fixture.names(), names("@acme/shop", "@acme/shop", None));
    fixture.write("42/environ", "OTEL_RESOURCE_ATTRIBUTES=service.name=attr,service.version=3,a=b\0");
    assert_eq!(fixture.names(), names("attr", "attr", Some("3")));
    fixture.write("42/environ", "OTEL_RESOURCE_ATTRIBUTES=service.name=attr\0OTEL_SERVICE_NAME=direct\0");
    assert_eq!(fixture.names(), names("direct", "direct", None));
}

#[test]
fn the_process_own_resource_attributes_are_taken_over() {
    let fixture = Fixture::new();
    fixture.write(
        "42/environ",
        "SECRET=hunter2\0OTEL_RESOURCE_ATTRIBUTES=service.namespace=eu,service.instance.id=me,team=a%20b\0",
    );
    let identity = fixture.identity();
    assert_eq!(identity.service_namespace.as_deref(), Some("eu"));
    assert_eq!(identity.service_instance_id, "me");
    let says = Says { service_name: false, service_version: false, service_instance_id: true };
    assert_eq!(identity.says, says);
    assert_eq!(identity.resource_attributes.into_iter().collect::<Vec<_>>(), [("team".into(), "a b".into())]);
}

#[test]
fn a_tool_of_node_modules_is_the_application_that_has_it() {
    let fixture = Fixture::new();
    fixture.write("rootfs/srv/shop/package.json", r#"{"name":"shop"}"#);
    fixture.write("rootfs/srv/shop/node_modules/next/dist/bin/next", "");
    fixture.write("rootfs/srv/shop/node_modules/next/package.json", r#"{"name":"next"}"#);
    fixture.write("42/cmdline", "node\0/srv/shop/node_modules/next/dist/bin/next\0start\0");
    assert_eq!(fixture.names().0, "shop");
}

#[test]
fn a_global_tool_is_named_by_its_own_package() {
    let fixture = Fixture::new();
    fixture.write("rootfs/srv/shop/package.json", r#"{"name":"shop"}"#);
    fixture.write("rootfs/usr/lib/node_modules/http-server/package.json", r#"{"name":"http-server"}"#);
    fixture.write("rootfs/usr/lib/node_modules/http-server/bin/run", "");
    std::fs::create_dir_all(fixture.0.path().join("rootfs/usr/bin")).unwrap();
    symlink("../lib/node_modules/http-server/bin/run", fixture.0.path().join("rootfs/usr/bin/serve"))
        .unwrap();
    fixture.write("42/cmdline", "node\0/usr/bin/serve\0");
    assert_eq!(fixture.names().0, "http-server");
}

#[test]
fn pm2_names_the_application_and_its_script() {
    let fixture = Fixture::new();
    fixture.write("42/cmdline", "node /srv/shop/server.js\0\0\0\0");
    fixture.write("42/environ", "pm_id=0\0name=checkout\0pm_exec_path=/srv/shop/server.js\0");
    assert_eq!(fixture.names(), names("checkout", "checkout", None));
    // PM2's default, the script's own name, says less than the package does.
    fixture.write("42/environ", "pm_id=0\0name=server\0pm_exec_path=/srv/shop/server.js\0");
    assert_eq!(fixture.names(), names("server.js", "server", None));
    fixture.write("rootfs/srv/shop/package.json", r#"{"name":"shop"}"#);
    assert_eq!(fixture.names(), names("shop", "shop", None));
    // Without PM2 the variable `name` means nothing.
    fixture.write("42/environ", "name=me\0");
    assert_eq!(fixture.names().0, "shop");
}

#[test]
fn a_title_names_the_row_but_never_the_service() {
    let fixture = Fixture::new();
    fixture.write("42/cmdline", "job 17 of 99\0\0\0\0");
    assert_eq!(fixture.names(), names("job 17 of 99", UNKNOWN_SERVICE, None));
    fixture.write("rootfs/srv/shop/package.json", r#"{"name":"shop","version":"1"}"#);
    assert_eq!(fixture.names(), names("shop", "shop", Some("1")));
}

#[test]
fn a_package_manager_is_not_the_application_it_starts() {
    let fixture = Fixture::new();
    fixture.write("rootfs/srv/shop/package.json", r#"{"name":"shop"}"#);
    fixture.write("42/cmdline", "npm run start\0\0\0\0");
    fixture.write("42/environ", "npm_package_name=shop\0npm_package_version=1\0");
    assert_eq!(fixture.names(), names("npm run start", "npm", None));
}

#[test]
fn code_from_the_command_line_is_no_script() {
    let fixture = Fixture::new();
    fixture.write("42/cmdline", "node\0-e\0server.js\0");
    assert_eq!(fixture.names(), names("node -e", UNKNOWN_SERVICE, None));
    fixture.write("42/cmdline", "");
    assert_eq!(fixture.names(), names("node (no script)", UNKNOWN_SERVICE, None));
}

#[test]
fn a_hostile_package_json_is_passed_over() {
    let fixture = Fixture::new();
    fixture.write("rootfs/srv/package.json", r#"{"name":"above"}"#);
    fixture.write("outside.json", r#"{"name":"outside"}"#);
    let json = fixture.0.path().join("rootfs/srv/shop/package.json");
    let passed_over = |what: &str| {
        assert_eq!(fixture.names().0, "above", "{what}");
        std::fs::remove_file(&json).unwrap();
    };
    assert!(Command::new("mkfifo").arg(&json).status().unwrap().success());
    passed_over("a FIFO");
    symlink(fixture.0.path().join("outside.json"), &json).unwrap();
    passed_over("a link out of the root");
    symlink("../../../outside.json", &json).unwrap();
    passed_over("a relative link out of the root");
    symlink("/dev/zero", &json).unwrap();
    passed_over("a link to a device");
    std::fs::File::create(&json).unwrap().set_len(1 << 40).unwrap();
    passed_over("a terabyte");
    std::fs::write(&json, "[".repeat(1 << 19)).unwrap();
    passed_over("deep nesting");
    std::fs::write(&json, b"{\"name\":\"\xff\"}").unwrap();
    passed_over("invalid UTF-8");
    std::fs::create_dir(&json).unwrap();
    assert_eq!(fixture.names().0, "above", "a directory");
}

#[test]
fn the_search_for_a_package_ends() {
    let fixture = Fixture::new();
    fixture.write("rootfs/package.json", r#"{"name":"top"}"#);
    let deep = |levels: usize| format!("node\0{}/x.js\0", "/d".repeat(levels));
    fixture.write("42/cmdline", deep(15));
    assert_eq!(fixture.names().0, "top");
    fixture.write("42/cmdline", deep(16));
    assert_eq!(fixture.names().0, "d/x.js");
    fixture.write("42/cmdline", deep(20_000));
    assert_eq!(fixture.names().0, "d/x.js");
}

#[test]
fn instance_ids_are_stable_and_unique() {
    let stat = |start_ticks| {
        let fixture = Fixture::new();
        fixture.write("42/stat", STAT.replace("91370", start_ticks));
        Procfs::new(fixture.0.path()).process(42).unwrap().stat().unwrap()
    };
    let host = Host { machine_id: "m".into(), boot_id: "b".into() };
    let id = instance_id(&host, None, 42, &stat("91370"));
    // uuid.uuid5(uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320"), "m/b//42/91370") in Python.
    assert_eq!(id, "f08888f8-6e6b-57a2-9c59-8b85b3ddda4a");
    assert_eq!(id, instance_id(&host, None, 42, &stat("91370")));
    let others = [
        instance_id(&host, None, 43, &stat("91370")),
        instance_id(&host, None, 42, &stat("91371")),
        instance_id(&host, Some(CONTAINER), 42, &stat("91370")),
        instance_id(&Host { boot_id: "c".into(), ..host.clone() }, None, 42, &stat("91370")),
    ];
    assert!(others.iter().all(|other| *other != id), "{others:?}");
}

#[test]
fn a_process_that_has_ended_has_no_identity() {
    let fixture = Fixture::new();
    let process = Procfs::new(fixture.0.path()).process(42).unwrap();
    for path in ["42/environ", "42/cmdline", "42/cgroup", "42/cwd", "42/root"] {
        std::fs::remove_file(fixture.0.path().join(path)).unwrap();
        identify(&process, &Host::default(), Versions::default()).unwrap();
    }
    std::fs::remove_file(fixture.0.path().join("42/exe")).unwrap();
    assert!(identify(&process, &Host::default(), Versions::default()).unwrap_err().is_gone());
}

fn identity_of(running: &Running) -> Identity {
    identify(&running.dir(), &Host::read(Path::new("/")), Versions::default()).unwrap()
}

const STAY: &str = "console.log('ready'); setInterval(() => {}, 1000);";

fn assert_clean(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() <= PATH_MAX_CHARS, "{}", text.len());
}

#[test]
fn real_node_is_named_by_its_package_and_its_script() {
    for node in nodes("real_node_is_named_by_its_package_and_its_script") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/main.js"), STAY).unwrap();
        std::fs::write(dir.path().join("preload.js"), "").unwrap();
        let start = || {
            let mut command = Command::new(&node);
            command.current_dir(dir.path()).env_clear().args(["-r", "./preload.js", "src/main.js", "arg"]);
            Running::start_and_wait(&mut command)
        };
        let unnamed = identity_of(&start());
        assert_eq!((unnamed.name.as_str(), unnamed.service_name.as_str()), ("src/main.js", "main"));
        assert_eq!(unnamed.executable_path, node.canonicalize().unwrap().to_str().unwrap());
        std::fs::write(dir.path().join("package.json"), r#"{"name":"shop","version":"1.2.3"}"#).unwrap();
        let named = identity_of(&start());
        assert_eq!((named.name.as_str(), named.service_version.as_deref()), ("shop", Some("1.2.3")));
        assert_ne!(unnamed.service_instance_id, named.service_instance_id);
    }
}

#[test]
fn real_node_with_a_hostile_title_stays_printable() {
    for node in nodes("real_node_with_a_hostile_title_stays_printable") {
        let dir = tempfile::tempdir().unwrap();
        let code = format!("process.title = '\\x1b[2J\\x07evil\\u202e\\n'; {STAY}");
        let mut command = Command::new(&node);
        command.current_dir(dir.path()).env_clear().args(["-e", &code]);
        let running = Running::start_and_wait(&mut command);
        let identity = identity_of(&running);
        assert_eq!(identity.name, "\u{fffd}[2J\u{fffd}evil\u{fffd}");
        assert_eq!(identity.service_name, UNKNOWN_SERVICE);
        assert_clean(&running.dir().stat().unwrap().comm);
        assert_clean(&running.dir().thread_name(running.child.id()).unwrap());
    }
}

#[test]
fn real_node_with_a_huge_and_invalid_command_line_is_identified_at_once() {
    for node in nodes("real_node_with_a_huge_and_invalid_command_line_is_identified_at_once") {
        let dir = tempfile::tempdir().unwrap();
        // Node itself cannot run a script whose name is no UTF-8; arguments may be anything.
        let script = "b\u{202e}\x1b[31m.js";
        std::fs::write(dir.path().join(script), STAY).unwrap();
        let mut command = Command::new(&node);
        command.current_dir(dir.path()).env_clear().env("PADDING", "x".repeat(100_000)).arg(script);
        command.arg(std::ffi::OsString::from_vec(b"\xff\xfe".to_vec()));
        // One argument may be 128 KiB: nine of them make more than 1 MiB.
        command.args(std::iter::repeat_n("y".repeat(120_000), 9));
        let running = Running::start_and_wait(&mut command);
        let began = Instant::now();
        let identity = identity_of(&running);
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        assert_eq!(identity.name, "b\u{fffd}\u{fffd}[31m.js");
        assert_clean(&identity.service_name);
        assert!(running.dir().cmdline(CMDLINE_MAX_BYTES).unwrap().truncated);
    }
}

#[test]
fn real_node_that_ends_meanwhile_is_gone() {
    for node in nodes("real_node_that_ends_meanwhile_is_gone") {
        let mut command = Command::new(&node);
        command.args(["-e", STAY]);
        let running = Running::start_and_wait(&mut command);
        let process = running.dir();
        drop(running);
        assert!(identify(&process, &Host::default(), Versions::default()).unwrap_err().is_gone());
    }
}

#[test]
fn real_node_in_other_namespaces_is_identified_by_what_it_sees() {
    for node in nodes("real_node_in_other_namespaces_is_identified_by_what_it_sees") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("package.json"), r#"{"name":"of-the-host"}"#).unwrap();
        // Inside, the same directory is another file system, and `.` has to be entered anew.
        let script = r#"mount -t tmpfs none "$1" && cd "$1" && echo '{"name":"of-the-container"}' > package.json &&
            echo "$3" > main.js && exec "$2" main.js"#;
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command.arg(dir.path()).arg(&node).arg(STAY).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if !Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status().unwrap().success() {
            eprintln!("skipped: namespaces cannot be made here");
            return;
        }
        let running = Running::start_and_wait(&mut command);
        let procfs = Procfs::default();
        let inner = procfs
            .pids()
            .unwrap()
            .into_iter()
            .filter_map(|pid| procfs.process(pid).ok())
            .find(|process| process.stat().is_ok_and(|stat| stat.ppid == running.child.id()))
            .unwrap();
        let identity = identify(&inner, &Host::default(), Versions::default()).unwrap();
        assert_eq!(identity.name, "of-the-container", "{}", node.display());
        assert_eq!(identity.namespaced_pid, Some(1));
        assert_eq!(
            inner.open_exe().unwrap().metadata().unwrap().len(),
            std::fs::metadata(&node).unwrap().len()
        );
    }
}

#[test]
fn a_process_that_ends_at_any_moment_is_identified_or_gone() {
    for _ in 0..100 {
        let running = Running::start(Command::new("true").env("OTEL_SERVICE_NAME", "brief"));
        let process = running.dir();
        // Until it is a zombie, each look falls on another moment of its end.
        loop {
            match identify(&process, &Host::default(), Versions::default()) {
                // Before its exec it is still a copy of this test.
                Ok(identity) if identity.executable_path.ends_with("/true") => {
                    assert_eq!(identity.name, "brief");
                }
                Ok(_) => {}
                Err(error) => {
                    assert!(error.is_gone(), "{error}");
                    break;
                }
            }
        }
    }
}

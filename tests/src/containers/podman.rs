//! Containers of podman, from an image that buildah makes, in a store of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    rc::Rc,
};

use tempfile::TempDir;

use super::{Container, NOTES, Notes, Order, Runtime, START, Slices, groups::NewGroups, must};
use crate::{node::target_tmp, process::OwnedProcess, rootfs::Rootfs, wait::eventually};

const IMAGE: &str = "localhost/nodeprobe-services:1";
/// podman may not raise limits where root lacks `CAP_SYS_RESOURCE`, and crun knows no mixture of versions of control groups.
const SETTINGS: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:20000\", \"nproc=4096:4096\"]\n\
     [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
const CONTAINERFILE: &str = "FROM scratch\nCOPY . /\nENV PATH=/usr/local/bin:/usr/bin:/bin\nUSER 1000\n\
     ENTRYPOINT [\"/usr/local/bin/node\"]\n";

/// podman with an image in a store of its own, removed when the last container has gone.
pub struct Podman {
    store: Rc<Store>,
    around: Rc<Slices>,
}

struct Store {
    directory: TempDir,
}

/// A container of it.
struct Running {
    id: String,
    store: Rc<Store>,
    _client: OwnedProcess,
}

impl Podman {
    /// Makes the image.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn with(image: &Rootfs, around: &Rc<Slices>) -> Result<Self, String> {
        for program in ["podman", "buildah"] {
            let output = Command::new(program).arg("--version").output();
            output.map_err(|error| format!("{program} cannot be started: {error}; install its package"))?;
        }
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let store = Store { directory };
        fs::write(store.path("containers.conf"), SETTINGS).expect("a file can be written");
        let containerfile = store.path("Containerfile");
        fs::write(&containerfile, CONTAINERFILE).expect("a file can be written");
        let mut build = store.command("buildah");
        build.args(["bud", "--isolation", "chroot", "--quiet", "--tag", IMAGE, "--file"]);
        must(build.arg(&containerfile).arg(image.path()));
        Ok(Self { store: Rc::new(store), around: Rc::clone(around) })
    }

    /// Starts a container. Its standard output is read by podman.
    pub fn start(&self, order: &Order) -> Container {
        let notes = Notes::new();
        let [id_file, pid_file, log] = ["id", "pid", "log"].map(|name| notes.directory.path().join(name));
        let mut command = self.store.command("podman");
        command.args(["run", "--interactive", "--network", "host", "--cidfile"]).arg(&id_file);
        command.arg("--pidfile").arg(&pid_file);
        command.arg("--volume").arg(format!("{}:{NOTES}", notes.directory.path().display()));
        for variable in order.all_environment() {
            command.args(["--env", &variable]);
        }
        command.arg(IMAGE).args(&order.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(super::log_in(notes.directory.path()));
        let mut client = OwnedProcess::spawn(&mut command);
        let stdin = client.child_mut().stdin.take().expect("stdin is a pipe");
        let id = told(&id_file, &mut client, &log);
        let running = Running { id: id.clone(), store: Rc::clone(&self.store), _client: client };
        // Runs on, should podman have gone: it is found by its id.
        let pid = eventually("podman to write the pid", START, || {
            fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
        });
        // podman chooses the id, so its group is there already: podman removes it, or it is told to be left.
        let groups = NewGroups::of(&format!("libpod_parent/libpod-{id}"));
        Container {
            id,
            pid,
            notes,
            stdin: Some(Box::new(stdin)),
            runtime: Box::new(running),
            groups,
            _around: Rc::clone(&self.around),
        }
    }
}

#[track_caller]
fn told(file: &Path, client: &mut OwnedProcess, log: &Path) -> String {
    eventually("podman to start a container", START, || {
        assert!(client.try_wait().is_none(), "podman starts no container: {}", super::text_of(log));
        fs::read_to_string(file).ok().map(|id| id.trim().to_owned()).filter(|id| id.len() == 64)
    })
}

impl Store {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Nothing of what podman keeps elsewhere on this host is touched.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.path("store")).arg("--runroot").arg(self.path("run"));
        if program == "podman" {
            command.arg("--tmpdir").arg(self.path("tmp"));
        }
        command.env("CONTAINERS_CONF", self.path("containers.conf"));
        command
    }
}

impl Runtime for Running {}

impl Drop for Running {
    fn drop(&mut self) {
        let mut remove = self.store.command("podman");
        let removed = remove.args(["rm", "--force", "--time", "0", &self.id]).stdin(Stdio::null()).output();
        if !removed.is_ok_and(|output| output.status.success()) {
            eprintln!("container {} was not removed: remove it by `podman rm --force`", self.id);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.command("podman").args(["rmi", "--force", IMAGE]).stdin(Stdio::null()).output());
        // The store is mounted on itself, and would stay so.
        drop(Command::new("umount").arg(self.path("store/overlay")).stderr(Stdio::null()).status());
    }
}

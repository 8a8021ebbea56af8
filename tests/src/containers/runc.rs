//! Containers of runc, in groups of our choice: those of a kubelet, without one.

use std::{
    fs,
    io::pipe,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Container, NOTES, Notes, Order, Runtime, START, Slices, USER, groups::NewGroups, must};
use crate::{node::target_tmp, rootfs::Rootfs, wait::eventually};

/// Mounts the layers of a container where only it sees them, so that they go with it.
const IN_ITS_OWN_LAYERS: &str = "cd \"$1\" && shift && \
     mount -t overlay overlay -o lowerdir=\"$1\",upperdir=upper,workdir=work merged && shift && exec \"$@\"";

/// runc with an image and a state directory of its own.
pub struct Runc {
    image: Rc<Rootfs>,
    state: Rc<TempDir>,
    around: Rc<Slices>,
}

/// A container of it.
struct Running {
    id: String,
    state: Rc<TempDir>,
    _image: Rc<Rootfs>,
    bundle: TempDir,
}

impl Runc {
    /// # Errors
    /// Says what is missing.
    pub fn with(image: Rc<Rootfs>, around: &Rc<Slices>) -> Result<Self, String> {
        let output = Command::new("runc").arg("--version").output();
        output.map_err(|error| format!("runc cannot be started: {error}; install the package `runc`"))?;
        let state = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        Ok(Self { image, state: Rc::new(state), around: Rc::clone(around) })
    }

    /// Starts a container in the group `path`, in which `<id>` stands for its id.
    pub fn start(&self, id: &str, path: &str, order: Order) -> Container {
        let path = path.replace("<id>", id);
        let groups = NewGroups::watch(&path);
        let notes = Notes::new();
        let bundle = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        for directory in ["upper", "work", "merged"] {
            fs::create_dir(bundle.path().join(directory)).expect("a directory can be made");
        }
        let settings = settings(bundle.path(), &path, &notes, &order);
        fs::write(bundle.path().join("config.json"), settings.to_string()).expect("a file can be written");

        let (stdin, writing) = pipe().expect("a pipe can be made");
        let pid_file = bundle.path().join("pid");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", IN_ITS_OWN_LAYERS, "sh"]).arg(bundle.path());
        command.arg(self.image.path()).arg("runc").arg("--root").arg(self.state.path());
        command.args(["run", "--detach", "--pid-file"]).arg(&pid_file).args(["--bundle", ".", id]);
        // They become those of Node.
        let log = super::log_in(bundle.path());
        command.stdin(OwnedFd::from(stdin)).stdout(order.stdout.unwrap_or_else(Stdio::null)).stderr(log);
        // From here on there is something to remove.
        let running = Running {
            id: id.to_owned(),
            state: Rc::clone(&self.state),
            _image: Rc::clone(&self.image),
            bundle,
        };
        let mut starting = command.spawn().expect("unshare is there");
        let status = eventually("runc to start a container", START, || {
            starting.try_wait().expect("our own child can be waited for")
        });
        let log = super::text_of(&running.bundle.path().join("log"));
        assert!(status.success(), "runc does not start a container in {path}: {log}");
        let pid = fs::read_to_string(pid_file).expect("runc has written it").trim().parse();
        Container {
            id: id.to_owned(),
            pid: pid.expect("a number"),
            notes,
            stdin: Some(Box::new(writing)),
            runtime: Box::new(running),
            groups,
            _around: Rc::clone(&self.around),
        }
    }
}

/// What `runc spec` proposes, without network namespace and capabilities, for an unprivileged user.
fn settings(bundle: &Path, path: &str, notes: &Notes, order: &Order) -> Value {
    must(Command::new("runc").arg("spec").current_dir(bundle));
    let text = fs::read_to_string(bundle.join("config.json")).expect("runc has written it");
    let mut settings: Value = serde_json::from_str(&text).expect("runc writes JSON");
    settings["root"] = json!({ "path": "merged", "readonly": false });
    let arguments = ["/usr/local/bin/node"].into_iter().chain(order.arguments.iter().map(String::as_str));
    settings["process"] = json!({
        "terminal": false,
        "user": { "uid": USER, "gid": USER },
        "args": arguments.collect::<Vec<_>>(),
        "env": order.all_environment(),
        "cwd": "/",
        "noNewPrivileges": true,
    });
    settings["linux"]["cgroupsPath"] = json!(path);
    let namespaces = settings["linux"]["namespaces"].as_array_mut().expect("runc proposes namespaces");
    namespaces.retain(|namespace| namespace["type"] != "network");
    let notes = json!({
        "destination": NOTES, "type": "bind", "source": notes.directory.path(), "options": ["bind", "rw"],
    });
    settings["mounts"].as_array_mut().expect("runc proposes mounts").push(notes);
    settings
}

impl Runtime for Running {}

impl Drop for Running {
    fn drop(&mut self) {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.state.path()).args(["delete", "--force", &self.id]);
        if !command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success()) {
            let bundle = self.bundle.path().display();
            eprintln!("container {} in {bundle} was not removed: remove it by `{command:?}`", self.id);
        }
    }
}

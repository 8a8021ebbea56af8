//! A small root file system with Node in it, for processes in other mount and pid namespaces.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Node, node::target_tmp, process::OwnedProcess, wait::eventually};

/// A directory tree that Node can run in after `chroot`.
pub struct Rootfs(TempDir);

impl Rootfs {
    /// Copies Node, the libraries it is linked to and the workloads. A copy has an inode of its own, so the agent
    /// knows it from nowhere else.
    pub fn with(node: &Node) -> Self {
        let root = Self(TempDir::new_in(target_tmp()).expect("a scratch directory can be made"));
        for directory in ["proc", "dev", "tmp", "app"] {
            fs::create_dir_all(root.path().join(directory)).expect("the root file system can be made");
        }
        root.add_program(&node.binary, Path::new("/usr/local/bin/node"));
        for entry in fs::read_dir(workloads()).expect("the workloads are there").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "js") {
                root.add(&entry.path(), &Path::new("/app").join(entry.file_name()));
            }
        }
        root
    }

    /// The same with the services of `workloads/failure-modes`, the programs they call, and a `/tmp` for everybody.
    pub fn with_services(node: &Node) -> Self {
        let root = Self::with(node);
        for program in ["/bin/sh", "/bin/sleep", "/bin/cat"] {
            root.add_program(Path::new(program), Path::new(program));
        }
        root.add_tree(&workloads().join("failure-modes"), Path::new("/app/failure-modes"));
        let everybody = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(root.path().join("tmp"), everybody).expect("our own directory");
        // The scratch directory is ours alone, and the root of a container is for its user too.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
        root
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where a workload inside writes its notes.
    pub fn oracle(&self) -> PathBuf {
        self.path().join("tmp/oracle.jsonl")
    }

    /// A program and the libraries it is linked to.
    fn add_program(&self, from: &Path, to: &Path) {
        self.add(from, to);
        let output = Command::new("ldd").arg(from).output().expect("ldd is there");
        for word in
            String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/'))
        {
            self.add(Path::new(word), Path::new(word));
        }
    }

    fn add_tree(&self, from: &Path, to: &Path) {
        for entry in fs::read_dir(from).expect("the workloads are there").flatten() {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                self.add_tree(&entry.path(), &to);
            } else {
                self.add(&entry.path(), &to);
            }
        }
    }

    fn add(&self, from: &Path, to: &Path) {
        let to = self.path().join(to.strip_prefix("/").unwrap_or(to));
        let directory = to.parent().expect("a file has a directory");
        fs::create_dir_all(directory).expect("the root file system can be made");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{} cannot be copied: {error}", from.display()));
    }

    /// Starts a workload as pid 1 of a new pid namespace with this root. Returns the process and the pid that
    /// Node has on the host. Its stdin is piped.
    pub fn start(&self, script: &str, arguments: &[&str]) -> (OwnedProcess, u32) {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--kill-child", "--mount-proc", "--root"]).arg(self.path());
        command.args(["/usr/local/bin/node", &format!("/app/{script}")]).args(arguments);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("NODEPROBE_ORACLE", "/tmp/oracle.jsonl");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let process = OwnedProcess::spawn(&mut command);
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        let pid = eventually("Node inside the namespace", Duration::from_secs(10), || {
            fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
        });
        (process, pid)
    }
}

fn workloads() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads")
}

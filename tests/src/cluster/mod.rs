//! A real Kubernetes of one node, made of programs that the set-up compiled from Debian's sources.
//!
//! It lives in a network and a table of mounts of its own ([`host::enter`]): nothing listens where others could reach it, and
//! interfaces, routes and most mounts vanish with the test program. What the host shares nevertheless, control groups, some
//! settings of the kernel and processes, is put back by [`Cluster`]'s `Drop`, also after a panic.
//!
//! No kube-proxy runs: the address of the service `kubernetes` is one of the node's own, and the API server listens on port
//! 443. So a pod finds it as in any cluster, without a rule in iptables.

mod control_plane;
pub mod helm;
pub mod host;
pub mod images;
pub mod kubectl;
mod node;
pub mod release;
pub mod services;
pub mod suite;

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use self::{control_plane::ControlPlane, kubectl::Kubectl, node::Worker};
use crate::{Node, collector::executable, node::target_tmp, process::OwnedProcess};

/// The address of the node. Those of RFC 5737 are nobody's.
pub const NODE_IP: &str = "192.0.2.1";
/// What the node is called.
pub const NODE_NAME: &str = "node-1";
/// The first address of the range for services, as which every pod knows the API server.
const SERVICE_IP: &str = "10.96.0.1";

/// The cluster; ends when dropped.
pub struct Cluster {
    // In the order in which they have to end.
    worker: Worker,
    control_plane: ControlPlane,
    pub kubectl: Kubectl,
    _host: host::Host,
    _directory: TempDir,
}

impl Cluster {
    /// What it is made of.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn parts() -> Result<Parts, String> {
        // SAFETY: geteuid only reads.
        if unsafe { libc::geteuid() } != 0 {
            return Err("a Kubernetes node needs root".to_owned());
        }
        for variable in ["NODEPROBE_TEST_HELM_PYTHON", "NODEPROBE_TEST_VICTORIA_METRICS"] {
            executable(variable)?;
        }
        Ok(Parts {
            bin: executable("NODEPROBE_TEST_KUBERNETES")?.join("bin"),
            image: executable("NODEPROBE_TEST_IMAGE")?,
            node: Node::of_major(24)?,
        })
    }

    /// Starts it and waits until its node is ready, with the images of the agent and of the workloads on it. To be called
    /// by the only thread of the process.
    pub fn start(parts: &Parts) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let logs = logs();
        drop(fs::remove_dir_all(&logs));
        fs::create_dir_all(&logs).expect("a directory for logs can be made");
        let host = host::enter(directory.path(), &logs, &[NODE_IP, SERVICE_IP]);
        let control_plane = ControlPlane::start(&parts.bin, directory.path());
        let kubectl = Kubectl::new(&parts.bin.join("kubectl"), control_plane.kubeconfig());
        control_plane::wait(&kubectl);
        let worker = Worker::start(&parts.bin, directory.path(), control_plane.kubeconfig());
        node::import(&images::pause(directory.path(), &parts.bin));
        node::import(&images::workloads(directory.path(), &parts.node));
        node::import(&parts.image);
        node::wait(&kubectl);
        Self { worker, control_plane, kubectl, _host: host, _directory: directory }
    }

    /// Kills the API server as a crash would.
    pub fn kill_api_server(&mut self) {
        self.control_plane.kill_api_server();
    }

    /// Starts it again where it was.
    pub fn start_api_server(&mut self) {
        self.control_plane.start_api_server();
        control_plane::wait(&self.kubectl);
    }

    /// Whether everything still runs that a pod needs.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        self.control_plane.assert_alive();
        self.worker.assert_alive();
    }
}

/// What a cluster is made of.
pub struct Parts {
    bin: PathBuf,
    image: PathBuf,
    node: Node,
}

/// Where the programs of the cluster and its pods write what they have to say; stays until the next run.
pub fn logs() -> PathBuf {
    target_tmp().join("cluster-logs")
}

/// Starts a program that runs until it is dropped.
fn daemon(command: &mut Command) -> OwnedProcess {
    let name = Path::new(command.get_program()).file_name().expect("a program has a name");
    let log = logs().join(name).with_extension("log");
    let log = File::options().create(true).append(true).open(log).expect("a log can be made");
    let error = log.try_clone().expect("a descriptor can be copied");
    OwnedProcess::spawn(free_of_settings(command).stdin(Stdio::null()).stdout(log).stderr(error))
}

/// Runs a program to its end; returns what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = free_of_settings(command).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Of whoever runs the tests, who may have a cluster or a proxy.
fn free_of_settings(command: &mut Command) -> &mut Command {
    let of_others = |name: &str| name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("KUBE");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_others)) {
        command.env_remove(name);
    }
    command
}

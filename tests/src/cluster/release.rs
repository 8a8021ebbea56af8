//! The agent as the chart installs it.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{helm::Helm, host, kubectl::Kubectl};
use crate::wait::eventually;

/// The name of the release, and part of the names of all that it makes and of nothing else.
pub const RELEASE: &str = "np-e2e";
/// Where it is installed.
pub const NAMESPACE: &str = "monitoring";
const DAEMON_SET: &str = "np-e2e-nodeprobe";
/// The first probe of `/readyz` comes after 2 s, the next ones every 10 s; attaching and removing probes takes as long as the
/// machine has Node.js builds, and processes that keep it busy.
const READY: Duration = Duration::from_mins(3);
/// A child of the agent stays until the kernel has removed each probe, and the kubelet forgets no pod before the pod's control
/// group is empty. With a dozen builds of Node.js in use on a busy machine that took three minutes.
const GONE: Duration = Duration::from_mins(10);

/// An installed release; uninstalled when dropped.
pub struct Release<'a> {
    helm: Helm<'a>,
    kubectl: &'a Kubectl,
    is_installed: bool,
}

impl<'a> Release<'a> {
    /// Installs it with the image of this tree and further values, and waits until its pod is ready.
    #[track_caller]
    pub fn install(kubectl: &'a Kubectl, values: &Value) -> Self {
        let helm = Helm::new(kubectl.kubeconfig(), NAMESPACE, RELEASE);
        helm.install(&with_image(values));
        let release = Self { helm, kubectl, is_installed: true };
        release.wait_ready();
        release
    }

    /// Changes its values, and waits until a pod with them is ready.
    #[track_caller]
    pub fn upgrade(&self, values: &Value) {
        self.helm.upgrade(&with_image(values));
        self.wait_ready();
    }

    /// Removes it, and waits until its pods have ended.
    #[track_caller]
    pub fn uninstall(&mut self) {
        self.is_installed = false;
        self.helm.uninstall();
        eventually("the end of the agent's pods", GONE, || self.pods().is_empty().then_some(()));
    }

    /// Releases that Helm knows, of any name.
    #[track_caller]
    pub fn known(&self) -> Vec<Value> {
        self.helm.list()
    }

    #[track_caller]
    fn wait_ready(&self) {
        eventually(
            "a DaemonSet that is ready; its pod's log is in target/tmp/cluster-logs/pods",
            READY,
            || {
                let set = self.kubectl.get(&["daemonset", "-n", NAMESPACE, DAEMON_SET])?;
                let status = &set["status"];
                let is_current = status["observedGeneration"] == set["metadata"]["generation"];
                let all_ready =
                    ["numberReady", "updatedNumberScheduled", "desiredNumberScheduled"].map(|n| &status[n]);
                (is_current && all_ready == [&json!(1); 3] && self.pods().len() == 1).then_some(())
            },
        );
    }

    fn pods(&self) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        let pods = self.kubectl.get(&["pods", "-n", NAMESPACE, "-l", &selector]);
        // No answer is not an empty list.
        pods.map_or_else(|| vec![Value::Null], |pods| pods["items"].as_array().cloned().unwrap_or_default())
    }

    /// The pod of the only node.
    #[track_caller]
    pub fn pod(&self) -> Value {
        let pods = self.pods();
        assert_eq!(pods.len(), 1, "{pods:?}");
        pods.into_iter().next().unwrap_or_default()
    }

    /// The agent's process.
    #[track_caller]
    pub fn process(&self) -> Process {
        let agents = Process::all();
        assert_eq!(agents.len(), 1, "processes named nodeprobe in pods: {agents:?}");
        agents[0]
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if !self.is_installed {
            return;
        }
        if std::thread::panicking() {
            // Not to panic again; the next test finds out whether it has worked.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.uninstall())));
        } else {
            self.uninstall();
        }
    }
}

fn with_image(values: &Value) -> Value {
    let mut all = json!({"image": {"registry": "localhost", "pullPolicy": "Never"}});
    for (key, value) in values.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    all
}

/// An agent in a pod, as the host sees it.
#[derive(Clone, Copy, Debug)]
pub struct Process(i32);

impl Process {
    /// All of them; a child that removes probes is none.
    pub fn all() -> Vec<Self> {
        let read =
            |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let all = host::processes();
        let is_agent = |pid: &i32| read(*pid, "comm").trim() == "nodeprobe";
        let agents: Vec<i32> = all.into_iter().filter(is_agent).collect();
        let parent = |pid: i32| {
            let status = read(pid, "status");
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            line.trim().parse::<i32>().ok()
        };
        let is_child = |pid: &i32| parent(*pid).is_some_and(|parent| agents.contains(&parent));
        agents.iter().copied().filter(|pid| !is_child(pid)).map(Self).collect()
    }

    /// A line of `/proc/PID/status`.
    #[track_caller]
    pub fn status(self, name: &str) -> String {
        let text = fs::read_to_string(self.path("status")).expect("the agent runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    }

    /// The token that the kubelet mounted for it.
    #[track_caller]
    pub fn token(self) -> String {
        let path = self.path("root/var/run/secrets/kubernetes.io/serviceaccount/token");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The ids of the BPF programs that it holds.
    pub fn programs(self) -> Vec<u32> {
        let files = fs::read_dir(self.path("fdinfo")).expect("the agent runs").flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let mut ids: Vec<u32> = texts
            .filter_map(|text| {
                text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn path(self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }
}

/// Whether the kernel has a BPF program of this id.
pub fn is_loaded(program: u32) -> bool {
    const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
    // The union of the call's arguments, of which this command reads three numbers of 32 bits.
    let attributes: [u32; 3] = [program, 0, 0];
    // SAFETY: the kernel reads as many bytes as it is told from an array that lives until the call returns.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attributes.as_ptr(), size_of_val(&attributes))
    };
    let Ok(descriptor) = i32::try_from(descriptor) else { return false };
    if descriptor < 0 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "BPF program {program}: {error}");
        return false;
    }
    // SAFETY: it was opened just now and is nobody else's.
    unsafe { libc::close(descriptor) };
    true
}

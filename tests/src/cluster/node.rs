//! The node: containerd and the kubelet.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;

use super::{NODE_IP, NODE_NAME, daemon, images::PAUSE, kubectl::Kubectl, run};
use crate::{process::OwnedProcess, wait::eventually};

/// In a `/run` that only this cluster sees.
pub(super) const SOCKET: &str = "/run/nodeprobe-test/containerd.sock";
const START: Duration = Duration::from_mins(2);

/// A network for pods in which each reaches the node and is reached from there.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "dataDir": "/run/nodeprobe-test/addresses",
   "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;

/// What differs from containerd's own settings. A machine for builds may withhold some rights from its root: what lowers
/// OOM scores and loads `AppArmor` profiles is off.
const CONTAINERD: &str = r#"
version = 2
root = "@DIRECTORY@/containerd"
state = "/run/nodeprobe-test/state"
[grpc]
  address = "@SOCKET@"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "@PAUSE@"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "@DIRECTORY@/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#;

/// A running node.
pub(super) struct Worker {
    kubelet: Option<OwnedProcess>,
    containerd: OwnedProcess,
}

impl Worker {
    pub(super) fn start(bin: &Path, directory: &Path, kubeconfig: &Path) -> Self {
        let write = |name: &str, text: &str| -> PathBuf {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("a file has a directory"))
                .expect("a directory can be made");
            fs::write(&path, text).expect("a file can be written");
            path
        };
        write("cni/pods.conflist", NETWORK);
        fs::create_dir_all("/run/nodeprobe-test").expect("a directory can be made");
        let settings = CONTAINERD
            .replace("@DIRECTORY@", directory.to_str().expect("paths of tests are text"))
            .replace("@SOCKET@", SOCKET)
            .replace("@PAUSE@", PAUSE);
        let containerd =
            daemon(Command::new("containerd").arg("--config").arg(write("containerd.toml", &settings)));
        eventually("containerd; logs are in target/tmp/cluster-logs", START, || {
            ctr().arg("version").output().ok()?.status.success().then_some(())
        });

        let settings = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_IP,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": directory.join("pki/ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", super::host::CGROUP),
            "enforceNodeAllocatable": ["pods"],
            "failSwapOn": false,
            // No kube-proxy, no rules.
            "makeIPTablesUtilChains": false,
            "oomScoreAdj": 0,
            // A disk that is nearly full would drive pods away and delete images that nobody can pull again.
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "resolvConf": write("resolv.conf", "nameserver 192.0.2.53\n"),
        });
        let mut kubelet = Command::new(bin.join("kubelet"));
        kubelet.arg("--kubeconfig").arg(kubeconfig);
        kubelet.arg("--config").arg(write("kubelet.json", &settings.to_string()));
        kubelet.arg("--root-dir").arg(directory.join("kubelet"));
        kubelet.arg("--cert-dir").arg(directory.join("kubelet-pki"));
        kubelet.arg("--volume-plugin-dir").arg(directory.join("volume-plugins"));
        kubelet
            .args(["--container-runtime=remote", &format!("--container-runtime-endpoint=unix://{SOCKET}")]);
        kubelet.args([&format!("--hostname-override={NODE_NAME}"), &format!("--node-ip={NODE_IP}"), "--v=1"]);
        Self { kubelet: Some(daemon(&mut kubelet)), containerd }
    }

    #[track_caller]
    pub(super) fn assert_alive(&mut self) {
        let kubelet = self.kubelet.as_mut().and_then(OwnedProcess::try_wait);
        let ended = kubelet.is_some() || self.containerd.try_wait().is_some();
        assert!(!ended, "the kubelet or containerd has ended; logs are in target/tmp/cluster-logs");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // First, or it would start again what is ended here.
        self.kubelet = None;
        for (list, remove) in [
            (["tasks", "list", "--quiet"], ["tasks", "delete", "--force"]),
            (["containers", "list", "--quiet"], ["containers", "delete", ""]),
        ] {
            let output = ctr().args(list).output();
            let names = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            for name in names.unwrap_or_default().lines() {
                let words = remove.iter().filter(|word| !word.is_empty());
                // What is left is ended by its pid, and unmounted, when the host is restored.
                drop(ctr().args(words).arg(name).output());
            }
        }
    }
}

fn ctr() -> Command {
    let mut command = Command::new("ctr");
    command.args(["--address", SOCKET, "--namespace", "k8s.io"]);
    command
}

/// Gives the node an image.
pub(super) fn import(archive: &Path) {
    run(ctr().args(["images", "import"]).arg(archive));
}

/// Waits until pods can be started.
pub(super) fn wait(kubectl: &Kubectl) {
    eventually("a node that is ready; logs are in target/tmp/cluster-logs", START, || {
        let node = kubectl.get(&["node", NODE_NAME])?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        let is_ready =
            |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
        conditions.iter().any(is_ready).then_some(())
    });
}

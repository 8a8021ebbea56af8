//! etcd, API server, controller manager and scheduler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;

use super::{NODE_IP, SERVICE_IP, daemon, kubectl::Kubectl, run};
use crate::{process::OwnedProcess, wait::eventually};

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";
const TOKEN: &str = "administrator";
const START: Duration = Duration::from_mins(1);

/// Keys and certificates, in the working directory.
const CERTIFICATES: &str = r#"
set -e
openssl genrsa -out sa.key 2048
openssl rsa -in sa.key -pubout -out sa.pub
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca
signed() {
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
  printf "$3" > extensions
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 2 -extfile extensions
}
signed server /CN=kube-apiserver "subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$SERVICE_IP"
signed kubelet-client /O=system:masters/CN=kube-apiserver extendedKeyUsage=clientAuth
"#;

/// Everything of a cluster but its nodes.
pub(super) struct ControlPlane {
    bin: PathBuf,
    directory: PathBuf,
    kubeconfig: PathBuf,
    // In the order in which they have to end.
    others: Vec<OwnedProcess>,
    api_server: Option<OwnedProcess>,
    etcd: OwnedProcess,
}

impl ControlPlane {
    pub(super) fn start(bin: &Path, directory: &Path) -> Self {
        let pki = directory.join("pki");
        fs::create_dir_all(&pki).expect("a directory can be made");
        run(Command::new("sh").args(["-c", CERTIFICATES]).env("SERVICE_IP", SERVICE_IP).current_dir(&pki));
        fs::write(pki.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n"))
            .expect("a file can be written");
        let kubeconfig = directory.join("kubeconfig");
        fs::write(&kubeconfig, self::kubeconfig(&pki)).expect("a file can be written");

        let mut etcd = Command::new(bin.join("etcd"));
        etcd.arg("--data-dir").arg(directory.join("etcd")).args(["--log-level", "warn"]);
        etcd.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        etcd.args(["--listen-peer-urls", ETCD_PEER, "--initial-advertise-peer-urls", ETCD_PEER]);
        etcd.args(["--initial-cluster", &format!("default={ETCD_PEER}")]);
        // What it writes is not worth waiting for the disk.
        etcd.arg("--unsafe-no-fsync");
        let etcd = daemon(&mut etcd);
        let mut plane = Self {
            bin: bin.to_owned(),
            directory: directory.to_owned(),
            kubeconfig,
            others: Vec::new(),
            api_server: None,
            etcd,
        };
        plane.start_api_server();
        plane.others = vec![plane.controller_manager(), plane.scheduler()];
        plane
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(super) fn start_api_server(&mut self) {
        let mut command = Command::new(self.bin.join("kube-apiserver"));
        command.current_dir(self.directory.join("pki"));
        command.args([
            &format!("--etcd-servers={ETCD}"),
            // Of a network that nobody else is in.
            "--bind-address=0.0.0.0",
            "--secure-port=443",
            "--insecure-port=0",
            &format!("--advertise-address={NODE_IP}"),
            "--service-cluster-ip-range=10.96.0.0/16",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--client-ca-file=ca.crt",
            "--token-auth-file=tokens.csv",
            "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-client-certificate=kubelet-client.crt",
            "--kubelet-client-key=kubelet-client.key",
        ]);
        self.api_server = Some(daemon(&mut command));
    }

    pub(super) fn kill_api_server(&mut self) {
        let mut server = self.api_server.take().expect("the API server runs");
        server.signal(libc::SIGKILL);
        server.wait(START);
    }

    #[track_caller]
    pub(super) fn assert_alive(&mut self) {
        let processes = self.others.iter_mut().chain(&mut self.api_server).chain([&mut self.etcd]);
        let ended = processes.filter_map(OwnedProcess::try_wait).count();
        assert_eq!(ended, 0, "parts of the control plane have ended; logs are in target/tmp/cluster-logs");
    }

    fn controller_manager(&self) -> OwnedProcess {
        let mut command = self.client("kube-controller-manager");
        daemon(command.args([
            "--service-account-private-key-file=sa.key",
            "--root-ca-file=ca.crt",
            "--use-service-account-credentials=false",
        ]))
    }

    fn scheduler(&self) -> OwnedProcess {
        daemon(&mut self.client("kube-scheduler"))
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.arg("--kubeconfig").arg(&self.kubeconfig).current_dir(self.directory.join("pki"));
        command.args(["--leader-elect=false", "--bind-address=127.0.0.1", "--port=0"]);
        command
    }
}

/// Waits until the API answers.
pub(super) fn wait(kubectl: &Kubectl) {
    eventually("the API server; logs are in target/tmp/cluster-logs", START, || {
        kubectl.output(&["get", "--raw", "/readyz"]).ok()
    });
}

fn kubeconfig(pki: &Path) -> String {
    // JSON is YAML.
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": "https://127.0.0.1:443",
            "certificate-authority": pki.join("ca.crt"),
        }}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    })
    .to_string()
}

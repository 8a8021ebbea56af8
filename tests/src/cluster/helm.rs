//! The chart, installed by Helm's own engine.

use std::{
    env,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::free_of_settings;
use crate::chart::{directory, repository};

/// Helm with one release of the chart of this repository.
pub struct Helm<'a> {
    kubeconfig: &'a Path,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Helm<'a> {
    pub fn new(kubeconfig: &'a Path, namespace: &'a str, name: &'a str) -> Self {
        Self { kubeconfig, namespace, name }
    }

    /// `helm install --create-namespace`.
    #[track_caller]
    pub fn install(&self, values: &Value) {
        self.call("install", values);
    }

    /// `helm upgrade`.
    #[track_caller]
    pub fn upgrade(&self, values: &Value) {
        self.call("upgrade", values);
    }

    /// `helm uninstall`.
    #[track_caller]
    pub fn uninstall(&self) {
        self.call("uninstall", &Value::Null);
    }

    /// `helm list --all --all-namespaces`.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        self.call("list", &Value::Null).as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn call(&self, action: &str, values: &Value) -> Value {
        let request = json!({
            "action": action, "kubeconfig": self.kubeconfig, "namespace": self.namespace,
            "name": self.name, "chart": directory(), "values": values,
        });
        // As it is named: behind the links is a Python that does not know the environment.
        let python = env::var_os("NODEPROBE_TEST_HELM_PYTHON").expect("`Cluster::parts` has looked for it");
        let mut command = Command::new(python);
        command.arg(repository().join("tests/chart/release.py"));
        let mut running = free_of_settings(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the Python of the environment starts");
        let mut stdin = running.stdin.take().expect("it is a pipe");
        stdin.write_all(request.to_string().as_bytes()).expect("the script reads its request");
        drop(stdin);
        let output = running.wait_with_output().expect("the script ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {action} {}: {error}", self.name);
        serde_json::from_slice(&output.stdout).expect("release.py writes JSON")
    }
}

//! Node.js services as their owners deploy them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Cluster, images::WORKLOADS, kubectl::Kubectl};
use crate::wait::eventually;

const START: Duration = Duration::from_mins(1);
/// Where they run.
pub const NAMESPACE: &str = "shop";
/// Not the name of anything else.
pub const CONTAINER: &str = "app";

/// A Deployment of one pod; removed when dropped.
pub struct Service<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    pub pod: String,
}

/// What its owner may say of it.
#[derive(Default)]
pub struct Words {
    /// Annotations of the pod.
    pub annotations: Value,
    /// Environment of the process, as Kubernetes writes it.
    pub env: Value,
}

impl<'a> Service<'a> {
    /// Starts `pod.js`, which is sick for `block_ms` of each half second, and waits until it runs.
    #[track_caller]
    pub fn start(cluster: &'a Cluster, name: &'static str, block_ms: u32, words: &Words) -> Self {
        let kubectl = &cluster.kubectl;
        kubectl.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
        let list = |value: &Value| if value.is_null() { json!([]) } else { value.clone() };
        kubectl.apply(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"name": name}},
                "template": {
                    "metadata": {"labels": {"name": name}, "annotations": words.annotations},
                    "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                        "name": CONTAINER,
                        "image": WORKLOADS,
                        "imagePullPolicy": "Never",
                        "args": ["/app/pod.js", block_ms.to_string()],
                        "env": list(&words.env),
                    }]},
                },
            },
        }));
        let pod = eventually(&format!("the pod of {name}"), START, || {
            let pods = kubectl.get(&["pods", "-n", NAMESPACE, "-l", &format!("name={name}")])?;
            let pod = &pods["items"][0];
            let is_running = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
            is_running.then(|| pod["metadata"]["name"].as_str().map(str::to_owned)).flatten()
        });
        Self { cluster, name, pod }
    }
}

impl Service<'_> {
    /// Lets it run on; its pod. For tests that change the cluster meanwhile.
    pub fn keep(self) -> String {
        let mut service = std::mem::ManuallyDrop::new(self);
        std::mem::take(&mut service.pod)
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        delete(&self.cluster.kubectl, self.name);
    }
}

/// Removes a Deployment. Its end is not waited for: the next one has another name.
pub fn delete(kubectl: &Kubectl, name: &str) {
    drop(kubectl.output(&["delete", "deployment", "-n", NAMESPACE, name, "--wait=false"]));
}

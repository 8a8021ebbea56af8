//! Whether and how the cluster is asked.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::{clean::VALUE_MAX_CHARS, clean::clean_name, cli::Kubernetes};

/// Where the kubelet mounts the token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How the cluster is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The node whose pods are watched.
    pub node: String,
    /// Whether `app.kubernetes.io/instance` and `/name` name a service.
    pub names_by_labels: bool,
    /// Labels that become attributes, `k8s.pod.label.<key>`.
    pub labels: Vec<String>,
}

/// Why the cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "the name of this Kubernetes node is not known, and only its pods may be watched; set NODEPROBE_NODE_NAME from spec.nodeName, or --node-name, or --kubernetes off"
    )]
    NoNodeName,
}

impl Settings {
    /// From the flags; `None`: the cluster is not asked. `auto` does so in a pod that has a token and the name of its node.
    ///
    /// # Errors
    /// [`SetupError::NoNodeName`] where it was asked for by `on`; with `auto` that is a warning of whoever calls.
    pub fn resolve(
        mode: Kubernetes,
        node: Option<&str>,
        labels: &[String],
        names_by_labels: bool,
    ) -> Result<Option<Self>, SetupError> {
        let in_pod = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists();
        if mode == Kubernetes::Off || (mode == Kubernetes::Auto && !in_pod()) {
            return Ok(None);
        }
        let node = node.and_then(|node| clean_name(node.as_bytes(), VALUE_MAX_CHARS));
        let node = node.ok_or(SetupError::NoNodeName)?;
        Ok(Some(Self { node, names_by_labels, labels: labels.to_vec() }))
    }
}

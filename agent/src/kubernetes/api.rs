//! The parts of a Pod of the API that are read. Everything else in it, environments and commands above all, is passed over while
//! it is parsed.
#![forbid(unsafe_code)]

use kube::api::Object;
use serde::{Deserialize, Serialize};

/// A pod, `v1`.
pub(super) type ApiPod = Object<Spec, Status>;

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub node_name: Option<String>,
}

/// `status`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub start_time: Option<String>,
    pub container_statuses: Vec<ContainerStatus>,
    pub init_container_statuses: Vec<ContainerStatus>,
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// One of `status.containerStatuses`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus {
    pub name: String,
    /// `containerd://<id>`; empty until it runs.
    #[serde(rename = "containerID")]
    pub container_id: Option<String>,
    pub image: String,
}

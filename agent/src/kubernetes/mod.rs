//! What Kubernetes knows of the containers on this node: names and workloads, by the API, optional.
//!
//! ```text
//! API server ─► watch ─► Pods (by uid) ─► names: joined with snapshots by pod uid and container id
//! ```
//!
//! A process whose pod is not known yet, or while the API does not answer, keeps the names it has of its own; it gets the
//! others as soon as they come. Losing the API costs names of new pods and nothing else.
#![forbid(unsafe_code)]

mod api;
mod describe;
mod names;
mod pods;
mod settings;
mod watch;

pub use self::{
    names::Names,
    pods::{Container, Pod, Pods, Workload},
    settings::{Settings, SetupError},
    watch::{Shared, start},
};

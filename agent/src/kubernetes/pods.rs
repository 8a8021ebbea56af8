//! The pods of this node, as the API told last. Names are cleaned and bounded: they come from whoever may create pods.
//!
//! Architecture invariant: no I/O in here.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::api::{ApiPod, ContainerStatus};
use crate::clean::{VALUE_MAX_CHARS, clean, clean_name};

/// More are not kept. Kubernetes supports 110 on a node, and 500 are run.
const PODS_MAX: usize = 4096;
/// Labels and annotations that are kept of one pod.
const PAIRS_MAX: usize = 64;
/// What annotations for resource attributes begin with, by the semantic conventions ("Specify resource attributes using Kubernetes
/// annotations").
const ATTRIBUTE_ANNOTATION: &str = "resource.opentelemetry.io/";
/// The uid by which the kubelet runs a static pod, whose mirror in the API has another.
const STATIC_POD_HASH: &str = "kubernetes.io/config.hash";

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// As the API has it.
    pub uid: String,
    /// RFC 3339, as the API writes it.
    pub start_time: Option<String>,
    pub node: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Of the annotations `resource.opentelemetry.io/<attribute>`.
    pub attributes: BTreeMap<String, String>,
    pub workload: Workload,
    pub containers: Vec<Container>,
}

/// A container of a pod that runs or ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// The runtime's id, 64 digits; `None`: not started yet.
    pub id: Option<String>,
    pub image: String,
}

/// What a pod belongs to, each name with the attribute for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub deployment: Option<String>,
    pub replica_set: Option<String>,
    pub stateful_set: Option<String>,
    pub daemon_set: Option<String>,
    pub cron_job: Option<String>,
    pub job: Option<String>,
}

impl Workload {
    /// Kind and name of the pod's owner. The owner of that would have to be asked for, with rights to read more than pods: but a
    /// Deployment names its `ReplicaSet`s by the hash that is the pod's label `pod-template-hash`, and a `CronJob` its jobs by the minute.
    pub fn new(kind: &str, name: &str, template_hash: Option<&str>) -> Self {
        let named = Some(name.to_owned());
        match kind {
            "ReplicaSet" => Self {
                deployment: template_hash
                    .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'))
                    .map(str::to_owned),
                replica_set: named,
                ..Self::default()
            },
            "StatefulSet" => Self { stateful_set: named, ..Self::default() },
            "DaemonSet" => Self { daemon_set: named, ..Self::default() },
            "Job" => {
                // Minutes since 1970 have had eight digits since 1989. Jobs made by hand may look the same: a risk that is known.
                let is_minute =
                    |minute: &&str| minute.len() == 8 && minute.bytes().all(|b| b.is_ascii_digit());
                let cron_job = name.rsplit_once('-').filter(|(_, minute)| is_minute(minute));
                Self { cron_job: cron_job.map(|(name, _)| name.to_owned()), job: named, ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    /// Attribute and name, in the order in which they name a service, by the conventions.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("k8s.deployment.name", &self.deployment),
            ("k8s.replicaset.name", &self.replica_set),
            ("k8s.statefulset.name", &self.stateful_set),
            ("k8s.daemonset.name", &self.daemon_set),
            ("k8s.cronjob.name", &self.cron_job),
            ("k8s.job.name", &self.job),
        ]
        .into_iter()
        .filter_map(|(attribute, name)| Some((attribute, name.as_deref()?)))
    }
}

impl Pod {
    /// `None`: it has no uid, namespace or name, which no pod of a server lacks.
    pub(super) fn of_api(pod: &ApiPod) -> Option<Self> {
        let value = |text: &str| clean(text.as_bytes(), VALUE_MAX_CHARS);
        let name = |text: Option<&String>| clean_name(text?.as_bytes(), VALUE_MAX_CHARS);
        let labels: BTreeMap<String, String> = (pod.metadata.labels.iter().flatten().take(PAIRS_MAX))
            .map(|(key, text)| (value(key), value(text)))
            .collect();
        let annotations = pod.metadata.annotations.iter().flatten();
        let attributes = annotations
            .filter_map(|(key, text)| Some((value(key.strip_prefix(ATTRIBUTE_ANNOTATION)?), value(text))))
            .filter(|(key, text)| !key.is_empty() && !text.is_empty());
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.clone().find(|owner| owner.controller == Some(true)).or(owners.clone().next());
        let status = pod.status.as_ref();
        let containers = status.into_iter().flat_map(|status| {
            let ContainerStatuses { usual, init, ephemeral } = ContainerStatuses::of(status);
            usual.iter().chain(init).chain(ephemeral)
        });
        Some(Self {
            namespace: name(pod.metadata.namespace.as_ref())?,
            name: name(pod.metadata.name.as_ref())?,
            uid: name(pod.metadata.uid.as_ref())?,
            start_time: status.and_then(|status| name(status.start_time.as_ref())),
            node: name(pod.spec.node_name.as_ref()),
            workload: owner.map_or_else(Workload::default, |owner| {
                let hash = labels.get("pod-template-hash").map(String::as_str);
                Workload::new(&owner.kind, &value(&owner.name), hash)
            }),
            attributes: attributes.take(PAIRS_MAX).collect(),
            labels,
            containers: containers.map(Container::of_api).take(PAIRS_MAX).collect(),
        })
    }

    /// The container of this runtime's id.
    pub fn container(&self, id: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.id.as_deref() == Some(id))
    }
}

struct ContainerStatuses<'a> {
    usual: &'a [ContainerStatus],
    init: &'a [ContainerStatus],
    ephemeral: &'a [ContainerStatus],
}

impl<'a> ContainerStatuses<'a> {
    fn of(status: &'a super::api::Status) -> Self {
        Self {
            usual: &status.container_statuses,
            init: &status.init_container_statuses,
            ephemeral: &status.ephemeral_container_statuses,
        }
    }
}

impl Container {
    fn of_api(status: &ContainerStatus) -> Self {
        let id = status.container_id.as_deref().and_then(|id| id.split_once("://"));
        Self {
            name: clean(status.name.as_bytes(), VALUE_MAX_CHARS),
            id: id.map(|(_, id)| clean(id.as_bytes(), VALUE_MAX_CHARS)),
            image: clean(status.image.as_bytes(), VALUE_MAX_CHARS),
        }
    }
}

/// The pods of this node by uid. What has been joined is kept by those who joined it, so a pod may be forgotten as soon as the API
/// has none.
#[derive(Debug, Default)]
pub struct Pods {
    by_uid: HashMap<String, Arc<Pod>>,
    /// Uids of static pods in their control groups, to those in the API.
    mirrors: HashMap<String, String>,
    /// What a list told so far that is not complete yet.
    listed: Option<Vec<(Option<String>, Pod)>>,
    /// Counts changes, so that joins need not be made anew without one.
    generation: u64,
}

impl Pods {
    /// A list begins: after a loss of the connection it tells what is there now.
    pub(super) fn begin_list(&mut self) {
        self.listed = Some(Vec::new());
    }

    /// A pod is there, in a list or by itself.
    pub(super) fn is_there(&mut self, pod: &ApiPod) {
        let Some(facts) = Pod::of_api(pod) else { return };
        let hash = pod.metadata.annotations.as_ref().and_then(|all| all.get(STATIC_POD_HASH)).cloned();
        match &mut self.listed {
            Some(listed) => listed.push((hash, facts)),
            None => self.insert(hash, facts),
        }
    }

    /// The list is complete: what was not in it is gone.
    pub(super) fn end_list(&mut self) {
        let Some(listed) = self.listed.take() else { return };
        self.by_uid.clear();
        self.mirrors.clear();
        self.generation += 1;
        for (hash, pod) in listed {
            self.insert(hash, pod);
        }
    }

    /// A pod is gone.
    pub(super) fn is_gone(&mut self, pod: &ApiPod) {
        let Some(uid) = &pod.metadata.uid else { return };
        self.generation += 1;
        self.by_uid.remove(uid);
        self.mirrors.retain(|_, mirrored| mirrored != uid);
    }

    fn insert(&mut self, hash: Option<String>, pod: Pod) {
        if self.by_uid.len() >= PODS_MAX && !self.by_uid.contains_key(&pod.uid) {
            return;
        }
        self.generation += 1;
        if let Some(hash) = hash {
            self.mirrors.insert(hash, pod.uid.clone());
        }
        self.by_uid.insert(pod.uid.clone(), Arc::new(pod));
    }

    /// The pod whose uid a control group has.
    pub fn find(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.by_uid.get(uid).or_else(|| self.by_uid.get(self.mirrors.get(uid)?))
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.by_uid.len()
    }
}

//! Completes snapshots with what Kubernetes knows, and keeps instances apart.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Settings, Shared, describe::describe};
use crate::{
    identity::instances::Instances,
    model::{Identity, ProcessId, Snapshot},
};

/// The joins made so far.
#[derive(Debug, Default)]
pub struct Names {
    cluster: Option<(Shared, Settings)>,
    instances: Instances,
    joined: HashMap<ProcessId, Joined>,
}

#[derive(Debug)]
struct Joined {
    /// What discovery found.
    own: Arc<Identity>,
    complete: Arc<Identity>,
    /// Of the pods, when it was made.
    generation: u64,
    /// The container is known: nothing more can come.
    is_final: bool,
}

impl Names {
    /// `cluster`: where the pods are told; `None`: outside of one.
    pub fn new(cluster: Option<(Shared, Settings)>) -> Self {
        Self { cluster, ..Self::default() }
    }

    /// The same snapshot with all that is known of its processes. One that has its names keeps them: they do not change with what
    /// becomes of the pod, or its series would.
    pub fn complete(&mut self, mut snapshot: Snapshot) -> Snapshot {
        let live: HashSet<ProcessId> = snapshot.processes.iter().map(|process| process.id).collect();
        self.joined.retain(|id, _| live.contains(id));
        self.instances.retain(&live);
        for process in &mut snapshot.processes {
            process.identity = self.identity(process.id, &process.identity);
        }
        snapshot
    }

    fn identity(&mut self, id: ProcessId, own: &Arc<Identity>) -> Arc<Identity> {
        let generation = self.cluster.as_ref().map_or(0, |(pods, _)| pods.lock().generation());
        if let Some(joined) = self.joined.get(&id)
            && Arc::ptr_eq(&joined.own, own)
            && (joined.is_final || joined.generation == generation)
        {
            return Arc::clone(&joined.complete);
        }
        let (mut complete, is_final) = self.described(own);
        let own_pid = complete.namespaced_pid.unwrap_or(id.pid);
        complete.service_instance_id = self.instances.distinct(id, &complete.service_instance_id, own_pid);
        let joined = Joined { own: Arc::clone(own), complete: Arc::new(complete), generation, is_final };
        let complete = Arc::clone(&joined.complete);
        self.joined.insert(id, joined);
        complete
    }

    fn described(&self, own: &Identity) -> (Identity, bool) {
        let Some((pods, settings)) = &self.cluster else { return (own.clone(), false) };
        let Some(uid) = &own.pod_uid else { return (own.clone(), false) };
        let Some(pod) = pods.lock().find(uid).cloned() else { return (own.clone(), false) };
        let container = own.container_id.as_deref().and_then(|id| pod.container(id));
        (describe(own, &pod, container, settings), container.is_some())
    }
}

#[cfg(test)]
mod tests;

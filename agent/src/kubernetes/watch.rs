//! Watches the pods of this node.
//!
//! Only those: a watch of the whole cluster from every node would load the API server with the square of its size.
#![forbid(unsafe_code)]

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use kube::{
    Api, Client,
    api::ApiResource,
    core::GroupVersionKind,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};

use super::{Settings, api::ApiPod, pods::Pods};

/// Between two tries to read the configuration of the cluster, which the kubelet may mount late.
const RETRY: Duration = Duration::from_secs(30);
/// A server that answers nothing for so long is asked anew.
const SILENT_MAX_S: u32 = 290;

/// The pods, for whoever joins them.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Pods>>);

impl Shared {
    /// A panic of the watch leaves pods that are still true.
    pub fn lock(&self) -> MutexGuard<'_, Pods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches in a task of its own, for as long as the runtime lives; never fails, says in the log what it cannot.
pub fn start(settings: &Settings) -> Shared {
    let pods = Shared::default();
    let (shared, node) = (pods.clone(), settings.node.clone());
    tokio::spawn(async move {
        let client = loop {
            match connect().await {
                Ok(client) => break client,
                Err(error) => {
                    tracing::warn!(%error, "the cluster cannot be asked for the names of pods; trying again every {RETRY:?}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        watch(client, &node, &shared).await;
    });
    pods
}

async fn connect() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let mut config = kube::Config::infer().await?;
    // Above the time after which the server itself ends a watch.
    config.read_timeout = Some(Duration::from_secs(u64::from(SILENT_MAX_S) + 5));
    Ok(Client::try_from(config)?)
}

async fn watch(client: Client, node: &str, shared: &Shared) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<ApiPod> = Api::all_with(client, &resource);
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}")).timeout(SILENT_MAX_S);
    // The backoff keeps a server that is down from being asked by all nodes at once when it comes back.
    let mut events = pin!(watcher(pods, config).default_backoff());
    let mut is_lost = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let is_listed = matches!(event, Event::InitDone);
                apply(&mut shared.lock(), event);
                if is_listed {
                    let count = shared.lock().count();
                    tracing::info!(node, pods = count, "the names of this node's pods are known");
                    is_lost = false;
                }
            }
            // It says so once, and then again when the server is back.
            Err(error) if is_lost => tracing::debug!(%error, "the cluster cannot be asked"),
            Err(error) => {
                is_lost = true;
                tracing::warn!(
                    error = %chain(&error),
                    node,
                    "the cluster cannot be asked for the names of pods; new pods are exported under the names they give themselves until it answers"
                );
            }
        }
    }
}

/// The error with what it came from: `kube` says only that a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = source.to_string();
        // Most say what their source says.
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        next = source.source();
    }
    text
}

fn apply(pods: &mut Pods, event: Event<ApiPod>) {
    match event {
        Event::Init => pods.begin_list(),
        Event::InitApply(pod) | Event::Apply(pod) => pods.is_there(&pod),
        Event::InitDone => pods.end_list(),
        Event::Delete(pod) => pods.is_gone(&pod),
    }
}

#[cfg(test)]
mod tests;

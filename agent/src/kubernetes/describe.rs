//! Who a process is when its pod is known: names and attributes in the order of OpenTelemetry's conventions for Kubernetes
//! (semantic-conventions 1.44, "Specify resource attributes using Kubernetes annotations" and "How `service.name` should be
//! calculated"). What the process says of itself goes before all of it.
//!
//! Architecture invariant: no I/O in here.
#![forbid(unsafe_code)]

use super::{
    pods::{Container, Pod},
    settings::Settings,
};
use crate::model::Identity;

const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
const LABEL_NAME: &str = "app.kubernetes.io/name";
const LABEL_VERSION: &str = "app.kubernetes.io/version";

/// The identity of a process of this pod. `container`: `None` until the API has told which one it is.
pub(super) fn describe(
    identity: &Identity,
    pod: &Pod,
    container: Option<&Container>,
    settings: &Settings,
) -> Identity {
    let mut described = identity.clone();
    let annotated = |key: &str| pod.attributes.get(key).cloned();
    let label = |key: &str| pod.labels.get(key).filter(|text| !text.is_empty()).cloned();
    if !identity.says.service_name {
        let labels = settings.names_by_labels.then(|| label(LABEL_INSTANCE).or_else(|| label(LABEL_NAME)));
        let workload = || pod.workload.names().map(|(_, name)| name.to_owned()).next();
        described.service_name = annotated("service.name")
            .or_else(|| labels.flatten())
            .or_else(workload)
            .unwrap_or_else(|| pod.name.clone());
    }
    let image = container.map(|container| Image::of(&container.image));
    described.service_namespace = described
        .service_namespace
        .or_else(|| annotated("service.namespace"))
        .or_else(|| Some(pod.namespace.clone()));
    if !identity.says.service_version {
        // The version of the package beats the tag, which may be `latest`; only the cluster's own words beat it.
        described.service_version = annotated("service.version")
            .or_else(|| label(LABEL_VERSION))
            .or(described.service_version)
            .or_else(|| image.as_ref()?.tag.map(str::to_owned));
    }
    if !identity.says.service_instance_id {
        let known = annotated("service.instance.id");
        let of_container =
            || container.map(|container| format!("{}.{}.{}", pod.namespace, pod.name, container.name));
        // Until the container is known the id stays what it was: one change of it is enough.
        described.service_instance_id =
            known.or_else(of_container).unwrap_or_else(|| identity.service_instance_id.clone());
    }
    let mut set = |key: &str, value: &str| {
        // The process's own word stays.
        if !value.is_empty() && !described.resource_attributes.contains_key(key) {
            described.resource_attributes.insert(key.to_owned(), value.to_owned());
        }
    };
    set("k8s.namespace.name", &pod.namespace);
    set("k8s.pod.name", &pod.name);
    set("k8s.pod.uid", &pod.uid);
    set("k8s.pod.start_time", pod.start_time.as_deref().unwrap_or_default());
    set("k8s.node.name", pod.node.as_deref().unwrap_or(&settings.node));
    for (key, name) in pod.workload.names() {
        set(key, name);
    }
    for key in &settings.labels {
        set(&format!("k8s.pod.label.{key}"), label(key).as_deref().unwrap_or_default());
    }
    if let (Some(container), Some(image)) = (container, image) {
        set("k8s.container.name", &container.name);
        set("container.image.name", image.name);
        set("container.image.tags", image.tag.unwrap_or_default());
    }
    // Last: whoever may annotate a pod does not say which pod it is.
    for (key, value) in &pod.attributes {
        // Those have fields of their own.
        if !matches!(
            key.as_str(),
            "service.name" | "service.namespace" | "service.version" | "service.instance.id"
        ) {
            set(key, value);
        }
    }
    described
}

/// A reference to an image: `registry/name:tag@digest`.
struct Image<'a> {
    name: &'a str,
    tag: Option<&'a str>,
}

impl<'a> Image<'a> {
    fn of(reference: &'a str) -> Self {
        let named = reference.split('@').next().unwrap_or_default();
        // A colon before the last slash is that of a port.
        match named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            // `sha256:<id>` is an image without a name.
            Some((name, tag)) if name != "sha256" => Self { name, tag: Some(tag) },
            _ => Self { name: named, tag: None },
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

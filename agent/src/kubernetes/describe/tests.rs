use super::*;
use crate::{
    kubernetes::{Workload, api::ApiPod},
    model::Says,
};

const ID: &str = "4c01db0b339c8b2c9d2d3a4c1f0e6a5b7c8d9e0f11223344556677889900aabb";

/// A pod in the form in which an API server (1.20, and the reference of 1.37) gives it, cut to what differs between tests.
pub(in crate::kubernetes) fn api_pod(metadata: &str, image: &str) -> ApiPod {
    let text = format!(
        r#"{{
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {{
            "name": "web-7d4b9c6f5-x2x4k", "namespace": "shop", "uid": "0a1b2c3d-1111-4222-8333-444455556666",
            "resourceVersion": "4711", "creationTimestamp": "2026-11-26T09:00:00Z",
            "ownerReferences": [{{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5",
                "uid": "1", "controller": true, "blockOwnerDeletion": true}}]{metadata}
        }},
        "spec": {{"nodeName": "worker-3", "containers": [{{"name": "api", "image": "{image}",
            "env": [{{"name": "PASSWORD", "value": "hunter2"}}]}}]}},
        "status": {{"phase": "Running", "startTime": "2026-11-26T09:00:01Z", "hostIP": "10.0.0.3",
            "containerStatuses": [
                {{"name": "proxy", "state": {{"waiting": {{}}}}, "image": "envoy", "imageID": "", "ready": false}},
                {{"name": "api", "ready": true, "restartCount": 2, "image": "{image}",
                  "imageID": "docker.io/acme/shop@sha256:12", "containerID": "containerd://{ID}"}}]}}
    }}"#
    );
    serde_json::from_str(&text).expect("the pod is well-formed")
}

/// With these labels and annotations, as JSON.
fn pod(labels: &str, annotations: &str) -> Pod {
    let metadata = format!(r#", "labels": {{{labels}}}, "annotations": {{{annotations}}}"#);
    Pod::of_api(&api_pod(&metadata, "docker.io/acme/shop:1.4")).unwrap()
}

const HASH: &str = r#""pod-template-hash": "7d4b9c6f5""#;

/// What discovery knows of a process by itself.
fn own() -> Identity {
    Identity {
        name: "shop-server".to_owned(),
        service_name: "shop-server".to_owned(),
        service_instance_id: "uuid".to_owned(),
        ..Identity::default()
    }
}

fn settings() -> Settings {
    Settings { node: "worker-3".to_owned(), ..Settings::default() }
}

fn described(identity: &Identity, pod: &Pod) -> Identity {
    describe(identity, pod, pod.container(ID), &settings())
}

#[test]
fn a_pod_gives_names_and_attributes() {
    let described = described(&own(), &pod(HASH, ""));
    assert_eq!(described.name, "shop-server", "the name for people stays");
    assert_eq!(described.service_name, "web");
    assert_eq!(described.service_namespace.as_deref(), Some("shop"));
    assert_eq!(described.service_version.as_deref(), Some("1.4"));
    assert_eq!(described.service_instance_id, "shop.web-7d4b9c6f5-x2x4k.api");
    let attributes: Vec<String> =
        described.resource_attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        attributes,
        [
            "container.image.name=docker.io/acme/shop",
            "container.image.tags=1.4",
            "k8s.container.name=api",
            "k8s.deployment.name=web",
            "k8s.namespace.name=shop",
            "k8s.node.name=worker-3",
            "k8s.pod.name=web-7d4b9c6f5-x2x4k",
            "k8s.pod.start_time=2026-11-26T09:00:01Z",
            "k8s.pod.uid=0a1b2c3d-1111-4222-8333-444455556666",
            "k8s.replicaset.name=web-7d4b9c6f5",
        ]
    );
}

#[test]
fn the_service_is_named_in_the_order_of_the_conventions() {
    let labels =
        format!(r#"{HASH}, "app.kubernetes.io/name": "shop", "app.kubernetes.io/instance": "shop-eu""#);
    let annotation = r#""resource.opentelemetry.io/service.name": "checkout""#;
    let name = |identity: &Identity, pod: &Pod, names_by_labels| {
        describe(identity, pod, None, &Settings { names_by_labels, ..settings() }).service_name
    };
    let says = Identity { says: Says { service_name: true, ..Says::default() }, ..own() };
    assert_eq!(name(&says, &pod(&labels, annotation), true), "shop-server");
    assert_eq!(name(&own(), &pod(&labels, annotation), true), "checkout");
    assert_eq!(name(&own(), &pod(&labels, ""), true), "shop-eu");
    assert_eq!(name(&own(), &pod(r#""app.kubernetes.io/name": "shop""#, ""), true), "shop");
    assert_eq!(name(&own(), &pod(&labels, ""), false), "web", "labels name it only when asked to");
    let owned = |workload| Pod { workload, ..pod("", "") };
    for (kind, owner, expected) in [
        ("ReplicaSet", "bare-set", "bare-set"),
        ("StatefulSet", "db", "db"),
        ("DaemonSet", "log-shipper", "log-shipper"),
        ("Job", "report-29401234", "report"),
        ("Job", "migrate-2", "migrate-2"),
        ("Rollout", "canary", "web-7d4b9c6f5-x2x4k"),
    ] {
        assert_eq!(name(&own(), &owned(Workload::new(kind, owner, None)), false), expected, "{kind} {owner}");
    }
}

#[test]
fn what_the_process_says_goes_before_what_the_cluster_says() {
    let annotations = r#""resource.opentelemetry.io/service.instance.id": "theirs",
        "resource.opentelemetry.io/service.version": "9", "resource.opentelemetry.io/team": "blue",
        "resource.opentelemetry.io/k8s.pod.name": "lie", "kubectl.kubernetes.io/last-applied-configuration": "{}""#;
    let pod = pod(HASH, annotations);
    let from_cluster = described(&own(), &pod);
    assert_eq!(from_cluster.service_instance_id, "theirs");
    assert_eq!(from_cluster.service_version.as_deref(), Some("9"));
    assert_eq!(from_cluster.resource_attributes["team"], "blue");
    assert_eq!(from_cluster.resource_attributes["k8s.pod.name"], "web-7d4b9c6f5-x2x4k");
    let mut says = Identity {
        says: Says { service_name: true, service_version: true, service_instance_id: true },
        service_version: Some("3".to_owned()),
        service_namespace: Some("eu".to_owned()),
        ..own()
    };
    says.resource_attributes.insert("team".to_owned(), "red".to_owned());
    let described = described(&says, &pod);
    assert_eq!(described.service_instance_id, "uuid");
    assert_eq!(described.service_version.as_deref(), Some("3"));
    assert_eq!(described.service_namespace.as_deref(), Some("eu"));
    assert_eq!(described.resource_attributes["team"], "red");
}

#[test]
fn until_the_container_is_known_the_instance_is_what_it_was() {
    let pod = pod(HASH, "");
    let described = describe(&own(), &pod, None, &settings());
    assert_eq!((described.service_name.as_str(), described.service_instance_id.as_str()), ("web", "uuid"));
    assert!(!described.resource_attributes.contains_key("k8s.container.name"));
}

#[test]
fn labels_become_attributes_only_when_asked_for() {
    let pod = pod(r#""team": "blue", "secret": "x""#, "");
    let settings = Settings { labels: vec!["team".to_owned(), "absent".to_owned()], ..settings() };
    let attributes = describe(&own(), &pod, None, &settings).resource_attributes;
    assert_eq!(attributes["k8s.pod.label.team"], "blue");
    assert!(attributes.keys().all(|key| !key.contains("secret") && !key.contains("absent")));
}

#[test]
fn an_image_is_split_where_its_tag_is() {
    for (reference, name, tag) in [
        ("nginx", "nginx", None),
        ("acme/shop:1.4", "acme/shop", Some("1.4")),
        ("registry:5000/shop", "registry:5000/shop", None),
        ("registry:5000/shop:v2@sha256:ab", "registry:5000/shop", Some("v2")),
        ("shop@sha256:ab", "shop", None),
        ("sha256:ab", "sha256:ab", None),
        ("", "", None),
    ] {
        let image = Image::of(reference);
        assert_eq!((image.name, image.tag), (name, tag), "{reference}");
    }
}

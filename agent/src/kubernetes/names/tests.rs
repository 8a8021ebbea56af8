use std::{collections::BTreeMap, time::SystemTime};

use super::*;
use crate::{kubernetes::describe::tests::api_pod, model::Process, report::sample};

const CONTAINER: &str = "4c01db0b339c8b2c9d2d3a4c1f0e6a5b7c8d9e0f11223344556677889900aabb";
const UID: &str = "0a1b2c3d-1111-4222-8333-444455556666";

fn process(pid: u32, own_pid: u32) -> Process {
    let identity = Identity {
        service_name: "own".to_owned(),
        service_instance_id: format!("uuid-{pid}"),
        container_id: Some(CONTAINER.to_owned()),
        pod_uid: Some(UID.to_owned()),
        namespaced_pid: Some(own_pid),
        ..Identity::default()
    };
    Process {
        id: ProcessId { pid, start_ticks: 5 },
        identity: Arc::new(identity),
        ..sample::listed(&sample::process(pid, "own"))
    }
}

fn snapshot(processes: &[Process]) -> Snapshot {
    Snapshot {
        time: SystemTime::UNIX_EPOCH,
        monotonic_ns: 0,
        lost: BTreeMap::new(),
        processes: processes.to_vec(),
        host_cpu: None,
        answers_seen_ns: 0,
        stalls: Vec::new(),
        pauses: Vec::new(),
        stacks: Vec::new(),
        occasions: Vec::new(),
        notices: Vec::new(),
    }
}

fn instances(names: &mut Names, processes: &[Process]) -> Vec<String> {
    let complete = names.complete(snapshot(processes));
    complete
        .processes
        .iter()
        .map(|process| format!("{} {}", process.identity.service_name, process.identity.service_instance_id))
        .collect()
}

fn cluster() -> (Shared, Names) {
    let pods = Shared::default();
    let settings = Settings { node: "worker-3".to_owned(), ..Settings::default() };
    (pods.clone(), Names::new(Some((pods, settings))))
}

#[test]
fn answers_that_come_late_join_later_and_stay_when_the_pod_is_gone() {
    let (pods, mut names) = cluster();
    let processes = [process(100, 1)];
    assert_eq!(instances(&mut names, &processes), ["own uuid-100"]);
    let mut starting = api_pod("", "shop");
    starting.status = None;
    pods.lock().is_there(&starting);
    assert_eq!(instances(&mut names, &processes), ["web-7d4b9c6f5 uuid-100"], "no container is known yet");
    pods.lock().is_there(&api_pod("", "shop"));
    let known = ["web-7d4b9c6f5 shop.web-7d4b9c6f5-x2x4k.api"];
    assert_eq!(instances(&mut names, &processes), known);
    pods.lock().is_gone(&api_pod("", "shop"));
    assert_eq!(pods.lock().count(), 0);
    assert_eq!(instances(&mut names, &processes), known, "series do not change with the pod");
}

#[test]
fn workers_of_one_container_are_instances_of_their_own() {
    let (pods, mut names) = cluster();
    pods.lock().is_there(&api_pod("", "shop"));
    let processes = [process(100, 1), process(107, 8), process(108, 9)];
    assert_eq!(
        instances(&mut names, &processes),
        [
            "web-7d4b9c6f5 shop.web-7d4b9c6f5-x2x4k.api",
            "web-7d4b9c6f5 shop.web-7d4b9c6f5-x2x4k.api-8",
            "web-7d4b9c6f5 shop.web-7d4b9c6f5-x2x4k.api-9"
        ]
    );
}

#[test]
fn a_list_replaces_what_was_known_only_when_it_is_complete() {
    let (pods, _) = cluster();
    let mut pods = pods.lock();
    pods.is_there(&api_pod("", "shop"));
    pods.begin_list();
    assert!(pods.find(UID).is_some(), "the connection was lost, not the pod");
    pods.end_list();
    assert!(pods.find(UID).is_none());
}

#[test]
fn a_static_pod_is_found_by_the_hash_of_its_file() {
    let (pods, _) = cluster();
    let hash = "eba807732255ffced0cb2b278b6b115f";
    let annotations = format!(r#", "annotations": {{"kubernetes.io/config.hash": "{hash}"}}"#);
    let mut pods = pods.lock();
    pods.is_there(&api_pod(&annotations, "shop"));
    assert_eq!(pods.find(hash).map(|pod| pod.uid.as_str()), Some(UID));
    pods.is_gone(&api_pod(&annotations, "shop"));
    assert!(pods.find(hash).is_none());
}

#[test]
fn nothing_is_kept_of_what_has_ended() {
    let (pods, mut names) = cluster();
    pods.lock().is_there(&api_pod("", "shop"));
    for pid in 1..1000 {
        names.complete(snapshot(&[process(pid, pid)]));
    }
    assert_eq!(names.joined.len(), 1);
    assert_eq!(instances(&mut names, &[process(2000, 1)]), ["web-7d4b9c6f5 shop.web-7d4b9c6f5-x2x4k.api"]);
}

#[test]
fn without_a_cluster_processes_with_one_instance_id_are_still_told_apart() {
    let mut names = Names::new(None);
    let both: Vec<Process> = [3, 4]
        .map(|pid| {
            let mut process = process(pid, pid);
            Arc::make_mut(&mut process.identity).service_instance_id = "from-the-environment".to_owned();
            process
        })
        .to_vec();
    assert_eq!(instances(&mut names, &both), ["own from-the-environment", "own from-the-environment-4"]);
}

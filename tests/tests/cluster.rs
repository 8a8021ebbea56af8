//! The chart and the agent on a real Kubernetes node: `cargo xtask test --cluster`.

use std::{net::Ipv4Addr, process::ExitCode, time::Duration};

use nodeprobe_tests::{
    cluster::{
        Cluster, NODE_NAME,
        kubectl::Kubectl,
        release::{self, Process, RELEASE, Release, is_loaded},
        services::{self, CONTAINER, Service, Words},
        suite,
    },
    collector::VictoriaMetrics,
    prometheus::query,
    wait::{eventually, observe_for},
};
use serde_json::{Value, json};

const ARRIVAL: Duration = Duration::from_mins(1);
/// The agent looks at the last minute to find what is wrong.
const FOUND: Duration = Duration::from_mins(2);
/// After an outage the agent waits for up to a minute before it asks again, so that not all nodes do at once.
const BACK: Duration = Duration::from_mins(3);
const LOOP_TIME: &str = "nodejs.eventloop.time";
const STALLS: &str = "nodeprobe.eventloop.stall.time";
const FINDING: &str = "nodeprobe.finding.active";
/// What the sick service has, however busy the machine is.
const SICKNESS: &str = "unhandled-rejections";
/// What the machine does to a service is true of a healthy one, too.
const NOT_ITS_OWN: &str = "cpu-starved";

fn main() -> ExitCode {
    suite::run(&[
        ("a_sick_pod_is_found_by_name_and_a_healthy_one_is_silent", a_sick_pod_is_found),
        ("the_service_account_may_read_pods_and_nothing_else", the_service_account_may_read_pods),
        ("names_come_by_the_watch_and_outlive_the_api_server", names_outlive_the_api_server),
        ("an_upgrade_replaces_the_pod_and_an_uninstall_leaves_nothing", an_uninstall_leaves_nothing),
        ("a_privileged_agent_becomes_ready", a_privileged_agent_becomes_ready),
    ])
}

/// A database beside the cluster that the agent can reach.
fn database() -> VictoriaMetrics {
    VictoriaMetrics::start_on(Ipv4Addr::UNSPECIFIED).expect("`Cluster::parts` has looked for it")
}

/// Values with which the agent sends to it each second, by the address of its node.
fn sending_to(database: &VictoriaMetrics) -> Value {
    let endpoint = format!("http://$(NODEPROBE_HOST_IP):{}/opentelemetry", database.port);
    json!({"otlp": {"endpoint": endpoint, "interval": 1}})
}

/// Labels and values of a metric, of the series that have come in the last 15 s.
fn series(database: &VictoriaMetrics, metric: &str) -> Vec<(Value, f64)> {
    let recent = format!("last_over_time({{__name__=\"{metric}\"}}[15s]) keep_metric_names");
    query(database.port, &recent).expect("the database takes the query")
}

/// Those of a pod.
fn series_of(database: &VictoriaMetrics, metric: &str, pod: &str) -> Vec<(Value, f64)> {
    series(database, metric).into_iter().filter(|(labels, _)| labels["k8s.pod.name"] == pod).collect()
}

/// Labels under which a pod's event loop comes, once its container is known.
#[track_caller]
fn names(database: &VictoriaMetrics, pod: &str, within: Duration) -> Value {
    eventually(&format!("the event loop of the pod {pod} under its names"), within, || {
        let found = series_of(database, LOOP_TIME, pod);
        found.into_iter().map(|(labels, _)| labels).find(|labels| labels["k8s.container.name"] == CONTAINER)
    })
}

fn a_sick_pod_is_found(cluster: &mut Cluster) {
    let database = database();
    let release = Release::install(&cluster.kubectl, &sending_to(&database));

    let agent = release.process();
    // SYS_ADMIN, SYS_PTRACE and DAC_READ_SEARCH, by their numbers in linux/capability.h.
    assert_eq!(agent.status("CapEff"), format!("{:016x}", (1u64 << 21) | (1 << 19) | (1 << 2)));
    // A filter is on.
    assert_eq!(agent.status("Seccomp"), "2");
    assert_eq!(agent.status("NoNewPrivs"), "1");
    assert!(!agent.programs().is_empty(), "the agent holds no BPF program");

    let named = json!({"resource.opentelemetry.io/service.name": "product-catalog"});
    let sick = Service::start(cluster, "login", 250, &Words::default());
    let healthy = Service::start(cluster, "catalog", 0, &Words { annotations: named, ..Words::default() });

    let findings = |pod: &str| -> Vec<Value> {
        let found = series_of(&database, FINDING, pod).into_iter().filter(|(_, value)| *value > 0.0);
        found.map(|(labels, _)| labels).collect()
    };
    let labels = eventually("the finding of the sick pod", FOUND, || {
        findings(&sick.pod).into_iter().find(|labels| labels["nodeprobe.finding.id"] == SICKNESS)
    });
    let expected = [
        ("k8s.pod.name", sick.pod.as_str()),
        ("k8s.namespace.name", services::NAMESPACE),
        ("k8s.container.name", CONTAINER),
        ("k8s.deployment.name", "login"),
        ("k8s.node.name", NODE_NAME),
        ("service.name", "login"),
        ("service.namespace", services::NAMESPACE),
    ];
    for (label, value) in expected {
        assert_eq!(labels[label], value, "{label} of the sick pod: {labels}");
    }
    let labels = names(&database, &healthy.pod, ARRIVAL);
    assert_eq!(labels["k8s.deployment.name"], "catalog", "{labels}");
    assert_eq!(labels["service.name"], "product-catalog", "an annotation names it: {labels}");

    // By the sample of its stack: it is JavaScript that the loop stands still for.
    let stalled = |pod: &str| -> f64 {
        let all = series_of(&database, STALLS, pod).into_iter();
        all.filter(|(labels, _)| labels["nodeprobe.stall.cause"] == "javascript").map(|(_, s)| s).sum()
    };
    let stalled_s = eventually("5 s of stalls of the sick pod", ARRIVAL, || {
        Some(stalled(&sick.pod)).filter(|seconds| *seconds > 5.0)
    });
    // Its start and a busy machine may cost it something.
    assert!(
        stalled(&healthy.pod) < stalled_s / 10.0,
        "{} s of stalls of a healthy pod",
        stalled(&healthy.pod)
    );

    // It is looked for in both, and for as long.
    let looked_for = series_of(&database, FINDING, &healthy.pod);
    let is_sickness = |(labels, _): &(Value, f64)| labels["nodeprobe.finding.id"] == SICKNESS;
    assert!(looked_for.iter().any(is_sickness), "{looked_for:?}");
    let own: Vec<_> = findings(&healthy.pod);
    let own: Vec<_> =
        own.iter().map(|labels| &labels["nodeprobe.finding.id"]).filter(|id| *id != NOT_ITS_OWN).collect();
    assert_eq!(own, Vec::<&Value>::new(), "findings of a healthy pod");
    for pod in [&sick.pod, &healthy.pod] {
        let available = series_of(&database, "nodeprobe.signal.available", pod);
        let is_on = |signal: &str| {
            available.iter().any(|(labels, value)| labels["nodeprobe.signal"] == signal && *value > 0.0)
        };
        for signal in ["event_loop", "gc"] {
            assert!(is_on(signal), "{signal} is not observed in {pod}: {available:?}");
        }
    }
}

fn the_service_account_may_read_pods(cluster: &mut Cluster) {
    let release = Release::install(&cluster.kubectl, &json!({}));
    let service = Service::start(cluster, "victim", 0, &Words::default());
    let agent = cluster.kubectl.with_token(&release.process().token());
    let account = format!("system:serviceaccount:{}:", release::NAMESPACE);

    let pods = agent.get(&["pods", "--all-namespaces"]).expect("the agent may list pods");
    let names: Vec<_> =
        pods["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]["name"]).collect();
    assert!(names.contains(&&json!(service.pod)), "{names:?}");
    let one = agent.get(&["pod", "-n", services::NAMESPACE, &service.pod]);
    assert!(one.is_some(), "the agent may get a pod");
    let watch = ["get", "--raw", "/api/v1/pods?watch=true&timeoutSeconds=1"];
    let told = agent.output(&watch).unwrap_or_else(|error| panic!("the agent may watch pods: {error}"));
    assert!(told.contains(&service.pod), "{told}");

    let pod = ["-n", services::NAMESPACE, &service.pod];
    let attempts: [&[&str]; 8] = [
        &["get", "secrets", "--all-namespaces"],
        &["get", "nodes"],
        &["get", "configmaps", "--all-namespaces"],
        &["get", "deployments", "--all-namespaces"],
        &["get", "--raw", &format!("/api/v1/nodes/{NODE_NAME}/proxy/pods")],
        &["exec", pod[0], pod[1], pod[2], "--", "/usr/local/bin/node", "--version"],
        &["logs", pod[0], pod[1], pod[2]],
        &["delete", "pod", pod[0], pod[1], pod[2], "--wait=false"],
    ];
    for attempt in attempts {
        let what = attempt.join(" ");
        let error = agent.output(attempt).expect_err(&format!("the agent may `kubectl {what}`"));
        // Not any error: the server knows who asks, and says no.
        assert!(error.contains("Forbidden") || error.contains("forbidden"), "kubectl {what}: {error}");
        assert!(error.contains(&account), "kubectl {what}: {error}");
    }
    // The same requests are in order when somebody else makes them.
    for attempt in attempts {
        let result = cluster.kubectl.output(attempt);
        assert!(result.is_ok(), "kubectl {} as the administrator: {result:?}", attempt.join(" "));
    }
}

fn names_outlive_the_api_server(cluster: &mut Cluster) {
    let database = database();
    // Guards hold the cluster, and its API server is to be killed: so both are let go of by hand.
    let kubectl = cluster.kubectl.clone();
    let release = Release::install(&kubectl, &sending_to(&database));
    let agent = release.pod();
    // Started later than the agent: only the watch can tell its names.
    let before = Service::start(cluster, "before", 0, &Words::default()).keep();
    names(&database, &before, ARRIVAL);

    let time = |pod: &str| -> f64 {
        let named = series_of(&database, LOOP_TIME, pod).into_iter();
        named.filter(|(labels, _)| labels["k8s.container.name"] == CONTAINER).map(|(_, value)| value).sum()
    };
    cluster.kill_api_server();
    assert!(kubectl.get(&["pods", "--all-namespaces"]).is_none(), "the API server still answers");
    // The watch has lost its connection, and asks again in vain.
    observe_for(Duration::from_secs(5));
    let at_first = time(&before);
    eventually("10 s more of the event loop of a known pod", ARRIVAL, || {
        (time(&before) > at_first + 10.0).then_some(())
    });
    assert!(kubectl.get(&["pods", "--all-namespaces"]).is_none(), "the API server is back");

    cluster.start_api_server();
    let says = json!([{"name": "OTEL_SERVICE_NAME", "value": "says-so-itself"}]);
    let after = Service::start(cluster, "after", 0, &Words { env: says, ..Words::default() }).keep();
    let labels = names(&database, &after, BACK);
    assert_eq!(labels["k8s.deployment.name"], "after", "{labels}");
    assert_eq!(labels["service.name"], "says-so-itself", "its own word goes before all: {labels}");

    let now = release.pod();
    for field in ["uid", "name"] {
        assert_eq!(now["metadata"][field], agent["metadata"][field], "the agent's pod was replaced");
    }
    assert_eq!(now["status"]["containerStatuses"][0]["restartCount"], 0, "the agent was restarted");
    services::delete(&kubectl, "before");
    services::delete(&kubectl, "after");
    cluster.assert_alive();
}

/// Objects of any kind whose name has that of the release in it, each as `Kind/name`. Events stay for an hour whatever
/// becomes of what they tell of.
fn objects(kubectl: &Kubectl) -> Vec<String> {
    let kinds = kubectl.run(&["api-resources", "--verbs=list", "-o", "name"]);
    let kinds: Vec<_> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let all = kubectl.get(&["--all-namespaces", &kinds.join(",")]).expect("the server lists everything");
    let objects = all["items"].as_array().cloned().unwrap_or_default();
    assert!(objects.len() > 50, "the list of everything is no such thing: {} objects", objects.len());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = objects.iter().map(|object| (text(&object["kind"]), text(&object["metadata"]["name"])));
    named.filter(|(_, name)| name.contains(RELEASE)).map(|(kind, name)| format!("{kind}/{name}")).collect()
}

fn an_uninstall_leaves_nothing(cluster: &mut Cluster) {
    let values = |threshold: &str| {
        json!({
            "stallThreshold": threshold,
            "networkPolicy": {"enabled": true},
            "serviceMonitor": {"enabled": false},
            "dashboards": {"enabled": true},
        })
    };
    let kubectl = &cluster.kubectl;
    let mut release = Release::install(kubectl, &values("50ms"));
    let service = Service::start(cluster, "observed", 0, &Words::default());
    let first = release.pod();
    release.upgrade(&values("70ms"));
    let second = release.pod();
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"], "the pod was not replaced");
    let env = second["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
    let threshold = env.iter().find(|variable| variable["name"] == "NODEPROBE_STALL_THRESHOLD");
    assert_eq!(threshold.map(|variable| &variable["value"]), Some(&json!("70ms")));
    assert_eq!(release.known().len(), 1, "{:?}", release.known());

    let present = objects(kubectl);
    let kinds = [
        "DaemonSet",
        "Pod",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "NetworkPolicy",
        "ConfigMap",
        "Secret",
    ];
    for kind in kinds {
        let prefix = format!("{kind}/");
        assert!(present.iter().any(|object| object.starts_with(&prefix)), "no {kind}: {present:?}");
    }
    let programs = release.process().programs();
    assert!(!programs.is_empty() && programs.iter().all(|program| is_loaded(*program)), "{programs:?}");

    release.uninstall();
    eventually("the end of all objects of the release", ARRIVAL, || {
        objects(kubectl).is_empty().then_some(())
    });
    assert_eq!(release.known(), Vec::<Value>::new());
    eventually("the end of all processes and BPF programs of the agent", ARRIVAL, || {
        let are_gone = Process::all().is_empty() && !programs.iter().any(|program| is_loaded(*program));
        are_gone.then_some(())
    });
    let pod = kubectl.get(&["pod", "-n", services::NAMESPACE, &service.pod]).expect("the service is there");
    assert_eq!(
        pod["status"]["containerStatuses"][0]["restartCount"], 0,
        "the observed service was restarted"
    );
}

fn a_privileged_agent_becomes_ready(cluster: &mut Cluster) {
    let database = database();
    let mut values = sending_to(&database);
    values["privileged"] = json!(true);
    let release = Release::install(&cluster.kubectl, &values);
    let agent = release.process();
    assert_eq!(agent.status("Seccomp"), "0", "a privileged container has no filter");
    assert_eq!(agent.status("CapEff"), agent.status("CapBnd"), "it has all there are");
    let service = Service::start(cluster, "seen", 0, &Words::default());
    names(&database, &service.pod, ARRIVAL);
}

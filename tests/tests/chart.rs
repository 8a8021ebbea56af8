//! The Helm chart: what it renders to, whether Kubernetes takes that, and what it may not contain.

use std::{fs, path::Path};

use nodeprobe_tests::chart::{self, Rendered, directory, render, repository};
use serde_json::{Value, json};

const NEWEST: &str = "1.37.0";
/// Their content is other people's subject and long; it is compared with the files below.
const NOT_GOLDEN: [&str; 2] = ["templates/dashboards.yaml", "templates/prometheusrule.yaml"];

fn everything() -> Value {
    json!({
        "image": {
            "registry": "registry.example:5000", "repository": "team/nodeprobe",
            "digest": format!("sha256:{}", "0".repeat(64)), "pullPolicy": "Always", "pullSecrets": [{"name": "pull"}],
        },
        "commonLabels": {"team": "runtime"},
        "clusterName": "prod, west", "resourceAttributes": {"deployment.environment.name": "a=b"},
        "otlp": {
            "endpoint": "https://collector.monitoring:4317", "protocol": "grpc", "interval": 30,
            "temporality": "delta", "stallLogs": true, "headers": {"existingSecret": "otlp"},
        },
        "semconvMetrics": false, "stacks": false, "extraArgs": ["--otlp-compression=gzip"], "extraEnv": [{"name": "X", "value": "y"}],
        "extraCapabilities": ["SYS_RESOURCE"], "seLinuxOptions": {"type": "spc_t"},
        "volumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
        "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": true}],
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"}, "annotations": {"a": "b"},
        "priorityClassName": "system-node-critical",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]}}},
        "podMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "30s",
            "relabelings": [{"action": "labeldrop", "regex": "pod_template.*"}]},
        "serviceMonitor": {"enabled": true, "metricRelabelings": [{"action": "drop", "regex": "x"}]},
        "prometheusRule": {"enabled": true, "labels": {"release": "prometheus"},
            "runbookUrl": "https://wiki.example.com/nodeprobe/"},
        "dashboards": {"enabled": true, "namespace": "grafana"},
        "networkPolicy": {"enabled": true, "extraEgress": [{"ports": [{"port": 8443, "protocol": "TCP"}]}],
            "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
    })
}

fn minimal() -> Value {
    json!({
        "serviceAccount": {"create": false, "automount": false}, "rbac": {"create": false},
        "hostPaths": {"tracefs": "", "cgroup": ""}, "resources": {}, "nodeSelector": null, "tolerations": [],
        "podSecurityContext": null,
    })
}

/// Values, and the version of Kubernetes whose rendering is kept. Before 1.30 `AppArmor` is an annotation.
fn cases() -> [(&'static str, &'static str, Value); 4] {
    [
        ("default", NEWEST, json!({})),
        ("privileged", NEWEST, json!({"privileged": true})),
        ("minimal", "1.27.0", minimal()),
        ("everything", NEWEST, everything()),
    ]
}

#[test]
fn the_chart_is_what_was_reviewed_and_fits_kubernetes_1_27_to_1_37() {
    for (name, kube_version, values) in cases() {
        let Some(rendered) = render(&directory(), kube_version, true, &[values]) else { return };
        assert_eq!(rendered[0].complaints(), Vec::<String>::new(), "{name}");
        compare(name, &rendered[0]);
    }
}

/// With `NODEPROBE_BLESS` set the files are written instead.
fn compare(name: &str, rendered: &Rendered) {
    let manifests = rendered.manifests().into_iter().filter(|(path, _)| !NOT_GOLDEN.contains(path));
    let text: String = manifests
        .map(|(path, text)| format!("# {path}\n{}\n", text.trim_end()))
        .collect::<Vec<_>>()
        .join("---\n");
    let path = repository().join(format!("tests/chart/golden/{name}.yaml"));
    if std::env::var_os("NODEPROBE_BLESS").is_some() {
        fs::write(&path, text).expect("the file can be written");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let changed = golden.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        golden == text,
        "{} is not what the chart renders to (first difference: {changed:?}); if that is meant, run this test with \
         NODEPROBE_BLESS=1 and review the change",
        path.display()
    );
}

#[test]
fn the_pod_may_do_no_more_than_it_must() {
    let values = [json!({}), everything()];
    let Some(rendered) = render(&directory(), NEWEST, false, &values) else { return };
    let added = [
        json!(["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"]),
        json!(["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_RESOURCE"]),
    ];
    for (rendered, added) in rendered.iter().zip(added) {
        let security = &rendered.container()["securityContext"];
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"], "add": added}));
        assert_eq!(security["privileged"], false);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        let pod = &rendered.pod()["spec"];
        assert_eq!(pod["hostPID"], true);
        assert_eq!((&pod["hostNetwork"], &pod["hostIPC"]), (&Value::Null, &Value::Null));
        assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn what_is_the_nodes_is_mounted_read_only_and_is_only_tracefs_and_cgroups() {
    let values = [json!({}), json!({"privileged": true}), everything()];
    let Some(rendered) = render(&directory(), NEWEST, false, &values) else { return };
    for rendered in rendered {
        let volumes = rendered.pod()["spec"]["volumes"].as_array().unwrap();
        let of_node: Vec<_> = volumes.iter().filter(|volume| !volume["hostPath"].is_null()).collect();
        let paths: Vec<_> = of_node.iter().map(|volume| &volume["hostPath"]["path"]).collect();
        assert_eq!(paths, ["/sys/kernel/tracing", "/sys/fs/cgroup"]);
        for volume in of_node {
            let mounts = rendered.container()["volumeMounts"].as_array().unwrap();
            let mounts: Vec<_> = mounts.iter().filter(|mount| mount["name"] == volume["name"]).collect();
            assert_eq!(mounts.len(), 1, "{volume}");
            assert_eq!(mounts[0]["readOnly"], true, "{volume}");
        }
    }
}

#[test]
fn a_privileged_container_asks_for_nothing_that_contradicts_it() {
    let Some(rendered) = render(&directory(), NEWEST, false, &[json!({"privileged": true})]) else { return };
    // Kubernetes refuses `allowPrivilegeEscalation: false` beside it.
    assert_eq!(
        rendered[0].container()["securityContext"],
        json!({"privileged": true, "readOnlyRootFilesystem": true})
    );
}

#[test]
fn pods_can_be_read_and_nothing_else() {
    let Some(rendered) = render(&directory(), NEWEST, false, &[everything(), minimal()]) else { return };
    assert_eq!(
        rendered[0].only("ClusterRole")["rules"],
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}])
    );
    let binding = rendered[0].only("ClusterRoleBinding");
    assert_eq!(binding["roleRef"]["name"], rendered[0].only("ClusterRole")["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], rendered[0].pod()["spec"]["serviceAccountName"]);
    assert!(!rendered[0].kinds().iter().any(|kind| ["Role", "RoleBinding", "Secret"].contains(kind)));
    assert_eq!(rendered[1].kinds(), ["DaemonSet"]);
}

#[test]
fn probes_and_scrapes_reach_the_port_that_the_agent_listens_on() {
    let values = [json!({"port": 9999}), everything()];
    let Some(rendered) = render(&directory(), NEWEST, false, &values) else { return };
    let container = rendered[0].container();
    assert_eq!(rendered[0].env("NODEPROBE_PROMETHEUS"), Some("0.0.0.0:9999"));
    assert_eq!(container["ports"][0], json!({"name": "metrics", "containerPort": 9999, "protocol": "TCP"}));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "metrics"}));
    }
    let spec = &rendered[1].only("PodMonitor")["spec"];
    let labels = &rendered[1].pod()["metadata"]["labels"];
    for (key, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[key], value, "a label that the pods have");
    }
    for endpoint in
        [&spec["podMetricsEndpoints"][0], &rendered[1].only("ServiceMonitor")["spec"]["endpoints"][0]]
    {
        assert_eq!((&endpoint["port"], &endpoint["honorLabels"]), (&json!("metrics"), &json!(true)));
    }
}

#[test]
fn what_names_node_and_cluster_is_encoded_and_filled_in() {
    let Some(rendered) = render(&directory(), NEWEST, false, &[everything(), json!({})]) else { return };
    let attributes = rendered[0].env("OTEL_RESOURCE_ATTRIBUTES").unwrap();
    for expected in [
        "k8s.node.name=$(NODEPROBE_NODE_NAME)",
        "k8s.cluster.name=prod%2C%20west",
        "deployment.environment.name=a%3Db",
    ] {
        assert!(attributes.split(',').any(|attribute| attribute == expected), "{expected} in {attributes}");
    }
    assert_eq!(rendered[0].env("OTEL_METRIC_EXPORT_INTERVAL"), Some("30000"));
    assert_eq!(rendered[0].env("OTEL_METRICS_EXPORTER"), None);
    // Without a collector the default address would be tried for ever.
    assert_eq!(rendered[1].env("OTEL_METRICS_EXPORTER"), Some("none"));
}

#[test]
fn nothing_is_made_by_a_hook_or_kept_at_the_end() {
    let Some(rendered) = render(&directory(), NEWEST, false, &[everything()]) else { return };
    for document in rendered[0].documents() {
        let annotations = document["metadata"]["annotations"].as_object();
        for key in annotations.into_iter().flatten().map(|(key, _)| key) {
            assert!(!key.starts_with("helm.sh/"), "{key} of {}", document["metadata"]["name"]);
        }
    }
}

#[test]
fn wrong_values_are_refused_before_anything_is_installed() {
    let wrong = [
        json!({"otlp": {"endpont": "http://c:4318"}}),
        json!({"replicas": 2}),
        json!({"capabilities": ["CAP_SYS_ADMIN"]}),
        json!({"image": {"digest": "latest"}}),
        json!({"otlp": {"protocol": "http/json"}}),
        json!({"otlp": {"endpoint": "collector:4317"}}),
        json!({"port": "9464"}),
        json!({"seccompProfile": {"type": "Localhost"}}),
        json!({"dashboards": {"labelValue": 1}}),
    ];
    let Some(rendered) = render(&directory(), NEWEST, false, &wrong) else { return };
    for (values, rendered) in wrong.iter().zip(rendered) {
        let refused = !rendered.complaints().is_empty();
        assert!(refused, "{values}");
    }
}

#[test]
fn dashboards_and_rules_arrive_as_they_are() {
    let copy = tempfile::tempdir().unwrap();
    // Helm would fill in both of them.
    let dashboard = "{\n  \"legendFormat\": \"{{pod}} {{ .Values.port }}\"\n}";
    let rules = "groups:\n  - name: x\n    rules:\n      - alert: A\n        expr: up == 0\n        annotations: {summary: '{{ $labels.pod }}'}\n";
    chart::copy_with(
        copy.path(),
        &[("fleet.json", dashboard)],
        &[("loop_stalls.yaml", rules), ("loop_test.yaml", "tests: []\n")],
    );
    let values = [
        json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true, "namespace": "grafana"}}),
    ];
    let Some(rendered) = render(copy.path(), NEWEST, true, &values) else { return };
    assert_eq!(rendered[0].complaints(), Vec::<String>::new());
    let map = rendered[0].only("ConfigMap");
    assert_eq!(map["data"], json!({"fleet.json": dashboard}));
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "nodeprobe");
    assert_eq!(map["metadata"]["namespace"], "grafana");
    let rule = rendered[0].only("PrometheusRule");
    assert_eq!(rule["metadata"]["name"], "np-nodeprobe-loop-stalls");
    let alert = &rule["spec"]["groups"][0]["rules"][0];
    assert_eq!(alert["annotations"]["summary"], "{{ $labels.pod }}");
}

/// Every alert links to what people are to read, where they have put it.
#[test]
fn alerts_link_to_the_documents_named_in_the_values() {
    let Some(rendered) = render(&directory(), NEWEST, false, &[everything()]) else { return };
    let rules = rendered[0].of_kind("PrometheusRule");
    let groups = rules.flat_map(|rule| rule["spec"]["groups"].as_array().cloned().unwrap_or_default());
    let rules = groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    let alerts: Vec<Value> = rules.filter(|rule| rule["alert"].is_string()).collect();
    assert!(alerts.len() >= 29, "{} alerts", alerts.len());
    for alert in alerts {
        let link = alert["annotations"]["runbook_url"].as_str().expect("an alert has a link");
        let page =
            link.strip_prefix("https://wiki.example.com/nodeprobe/").expect("the address of the values");
        let (file, _) = page.split_once('#').expect("a place in a page");
        assert!(directory().join("../../docs").join(file).exists(), "{link}");
    }
}

#[test]
fn a_chart_without_dashboards_and_rules_is_fine() {
    let copy = tempfile::tempdir().unwrap();
    chart::copy_with(copy.path(), &[], &[]);
    let Some(rendered) = render(copy.path(), NEWEST, true, &[everything()]) else { return };
    assert_eq!(rendered[0].complaints(), Vec::<String>::new());
    assert!(!rendered[0].kinds().iter().any(|kind| ["ConfigMap", "PrometheusRule"].contains(kind)));
}

#[test]
fn every_dashboard_of_the_chart_is_shipped_whole_and_small_enough() {
    let Some(rendered) = render(&directory(), NEWEST, false, &[everything()]) else { return };
    let maps: Vec<_> = rendered[0].of_kind("ConfigMap").collect();
    let files = files(&directory().join("dashboards"), "json");
    assert_eq!(maps.len(), files.len());
    for (name, text) in &files {
        let map = maps.iter().find(|map| map["data"][name].is_string()).expect("one for each file");
        assert_eq!(map["data"][name], text.trim_end_matches('\n'), "{name}");
        assert!(text.len() < 1 << 20, "{name} is too large for a ConfigMap");
    }
    let rules = files_of_rules();
    assert_eq!(rendered[0].of_kind("PrometheusRule").count(), rules);
}

fn files_of_rules() -> usize {
    let rules = files(&directory().join("rules"), "yaml");
    rules.iter().filter(|(name, _)| !name.ends_with("_test.yaml")).count()
}

fn files(directory: &Path, extension: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|e| e == extension));
    let named =
        wanted.map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path));
    named.map(|(name, path)| (name, fs::read_to_string(path).expect("a text"))).collect()
}

//! `docs/metrics.md` as a function of the catalogue.

use std::fmt::Write as _;

use super::{
    ALL, CULPRITS_MAX, Instrument, Metric, PROMOTED, PROMOTED_OF_AGENT, Stability, Subject, most_series,
};

const HEAD: &str = "\
<!-- Generated from agent/src/model/catalog.rs; do not edit. -->

# Metrics

What `nodeprobe run` exports by OTLP, and what its [page for Prometheus](#the-page-for-prometheus) says. Every observed Node.js process is a Resource of its own; its metrics carry
only the attributes below. Their values are closed sets, but for the functions that stalls are blamed on and their files, of which
there is a limit; so [the number of series](#how-many-series) per process is bounded.

Sums and histograms are cumulative unless `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` says otherwise, and
count from the moment nodeprobe began to observe the process (`process.cpu.time`: from the start of the process).
With `delta`, an interval that could not be delivered is added to the next one, and histograms also carry the
maximum of the interval. With `lowmemory`, histograms are delta and counters cumulative.

Histograms have the explicit bounds listed here, which are counted in the kernel and therefore exact, with the
true sum. `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram` exports
base-2 exponential buckets of scale 3 (9 % wide) instead, from 1 µs to 256 s: what is shorter is in the zero
bucket, what is longer in the last one.

A process that ends is exported once more with its final values and never again. A signal that cannot be observed
has no values; `nodeprobe.signal.available` is 0 then.

The Prometheus name is the one after the default translation (`UnderscoreEscapingWithSuffixes`).
";

const SERIES: &str = "
## How many series

A process has at most %MAIN% series in Prometheus, and %BOTH% if it ever had worker threads: these are summed, so how many there are
does not matter. `target_info` is one more. Most of it is buckets, and few processes have them all: a cause has its histogram of
stalls from the first stall on that it leads, a stream has series for what it was connected to, and what cannot be observed has
none.

Of `nodeprobe.eventloop.stall.culprit.time` a process has at most %CULPRITS% series, one for each of the first %CULPRITS% functions that stalls
are blamed on (those of the main thread and of workers apart), and one more for all that come later, which has
`otel.metric.overflow` = `true` and no other attribute. They stay for as long as the process lives. Names and paths are cut after 255 characters. `--no-stacks` leaves them out: without stacks nobody is to
blame.
";

const RESOURCE: &str = "
## Resource of a process

| attribute | from |
| --- | --- |
| `service.name` | the process's own `OTEL_SERVICE_NAME`, else what Kubernetes tells (below), else its package or script; `unknown_service:node` if nothing fits |
| `service.instance.id` | the process's own `OTEL_RESOURCE_ATTRIBUTES`, else `<namespace>.<pod>.<container>`, else a UUID that is stable for the life of the process; where several processes would have the same (workers of a cluster, applications of PM2), all but the first with `-<pid>` behind it, the pid inside the container |
| `service.namespace`, `service.version` | if known |
| `process.pid`, `process.creation.time` | the host's process table |
| `process.parent_pid`, `process.vpid` | the host's process table; `vpid` is the pid inside the container, where it differs |
| `process.executable.name`, `process.executable.path` | the executable, as the process sees it |
| `process.runtime.name`, `process.runtime.version` | `nodejs` and the version of Node.js |
| `container.id`, `k8s.pod.uid` | the cgroup: versions 1, 2 and both, cgroupfs and systemd; containerd, CRI-O, Docker, Podman |
| `host.name`, `host.id`, `host.arch`, `os.type` | the host nodeprobe runs on; in a pod `host.name` is the name of the node |
| `telemetry.sdk.name`, `.language`, `.version` | `nodeprobe`, `nodejs`, the version of nodeprobe |
| others | the process's own `OTEL_RESOURCE_ATTRIBUTES` |
| `host.*`, `cloud.*`, `deployment.*`, `k8s.cluster.*`, `k8s.node.*` | nodeprobe's own `OTEL_RESOURCE_ATTRIBUTES`, where the process does not say it itself; the others describe nodeprobe and are never taken over |

Command lines are not exported: they may hold secrets. Of a process's own attributes at most 64 are kept, of 255 characters each.

### In Kubernetes

In a pod with a service account that may list and watch pods, `nodeprobe run` asks the API for the pods of its own node (never of
the whole cluster), whose name it needs: `--node-name` or `NODEPROBE_NODE_NAME`, from `spec.nodeName`. `--kubernetes on` does so from
outside, with the kubeconfig; `off` never.

| attribute | from |
| --- | --- |
| `service.name` | annotation `resource.opentelemetry.io/service.name`; with `--kubernetes-names-by-labels` the labels `app.kubernetes.io/instance`, then `/name`; then the name of the Deployment, `ReplicaSet`, `StatefulSet`, `DaemonSet`, `CronJob`, Job or pod |
| `service.namespace` | annotation, else the namespace |
| `service.version` | annotation, label `app.kubernetes.io/version`, the package, the tag of the image |
| `k8s.namespace.name`, `k8s.pod.name`, `.uid`, `.start_time`, `k8s.node.name`, `k8s.container.name` | the pod |
| `k8s.{deployment,replicaset,statefulset,daemonset,cronjob,job}.name` | the pod's owner; a Deployment by the label `pod-template-hash`, a `CronJob` by the minute in the name of its job, without asking for either |
| `container.image.name`, `container.image.tags` | the pod |
| `k8s.pod.label.<key>` | the labels named by `--kubernetes-labels` |
| others | annotations `resource.opentelemetry.io/<attribute>`, at most 64 |

What the process says of itself always goes first. Names come within a second or two of the start of a container; until then, and
for new pods while the API does not answer, a process is exported under its own. Once a container is known its names stay, whatever
becomes of the pod. The number of series is that of processes times [what one has](#how-many-series); nothing here adds to it.
";

/// In place of the values of an attribute that has no closed set.
const OPEN: &str = "what the process calls it; [not many](#how-many-series)";

const LOGS: &str = "
## Stalls as log records

With `--otlp-stall-logs` or `NODEPROBE_STALL_LOGS=true` every stall is also an OTLP log record, an event named
`nodeprobe.eventloop.stall` of severity WARN under the Resource of the process. Its time is when the stall began, its body a
sentence.

| attribute | |
| --- | --- |
| `nodeprobe.stall.cause` | what took the greatest part of it |
| `nodeprobe.stall.duration` | seconds |
| `nodeprobe.thread.type`, `thread.id` | whose event loop; the id is that of the host |
| `nodeprobe.stall.startup`, `nodeprobe.stall.lower_bound` | `true` where the turn was the start-up, or began before it could be seen |
| `code.function.name`, `code.file.path`, `code.line.number`, `nodeprobe.code.package` | who is to blame, and the npm package of that function; absent where no stack was sampled |
| `code.stacktrace` | the stack that took most of it, innermost frame first, 8 KiB at most |
| `nodeprobe.stall.suppressed` | how many stalls of the process before this one have no record |

A process has 10 records at once and 10 per minute on the average. Up to 2048 records wait for a collector that cannot be
reached. `nodeprobe.agent.stall_logs` counts what was delivered, suppressed and lost.
";

const PROMETHEUS: &str = "
## The page for Prometheus

`--prometheus 127.0.0.1:9464`, `NODEPROBE_PROMETHEUS` or `OTEL_METRICS_EXPORTER=prometheus` serves the same metrics at `/metrics`,
beside OTLP or instead of it (`OTEL_METRICS_EXPORTER=none`), as Prometheus' text format 0.0.4 or OpenMetrics 1.0.0, whichever the
`Accept` header asks for. `/healthz` answers 200 while nodeprobe works, and 503 once no reading has finished for three export intervals,
30 s at least: it hangs. A collector that is slow or away does not count. `/readyz` answers 200 once the probes are attached and a first
snapshot was read, and 503 before. `9464` or `:9464` is loopback; it listens on all addresses only where `0.0.0.0:9464` or `[::]:9464` says
so. There is neither TLS nor a password.

```yaml
scrape_configs:
  - job_name: nodeprobe
    honor_labels: true   # or every process has the job and the instance of nodeprobe
    static_configs:
      - targets: [127.0.0.1:9464]
```

Names, units, labels and values are those that Prometheus gives the same metrics when they come by OTLP:

- `job` is `service.namespace/service.name`, or `service.name` alone; `instance` is `service.instance.id`.
- These attributes of the Resource are labels of every series, too, as Prometheus' guide to OTLP recommends for
  `promote_resource_attributes`:
  %PROMOTED%.
- Series of nodeprobe itself also have %OF_AGENT%, so that alerts name the node whose agent is in trouble.
- All that are not in `job` and `instance` are labels of `target_info`, one per process; `target_info{process_pid=\"4711\"}` is how
  to find a process by its pid.
- Histograms have the bounds above, whatever OTLP is set to, and counters are cumulative.
- `nodejs.eventloop.utilization` is that between two scrapes, whoever made them.

Two processes that call themselves the same, in `job` and in `instance`, would be the same series: all but the one that is observed
for longest then have the label `process_pid` on every series, and the log tells which.

A page has 50 to 60 KB for each process, compressed a tenth of that. Scrapes within a second share what was read. A process that has
ended is on one more page, with its last values; what nobody scraped within five minutes is given up. While a collector does not
answer, a page may be as old as the export timeout.
";

const BESIDE: &str = "
## Beside the application's own metrics

An application that is instrumented itself may export some names of the semantic conventions, too (the first three come with
`@opentelemetry/instrumentation-runtime-node`): %CONVENTIONS%. Where its Resource is also the same, because
`OTEL_RESOURCE_ATTRIBUTES` of the process gives it a `service.instance.id`, a database may hold both for one:

- `nodejs.eventloop.*` of nodeprobe have the attribute `nodeprobe.thread.type`, so they are series of their own, but a sum over all is
  twice as high.
- `v8js.gc.duration` and `process.*` have nothing in their attributes that tells whose they are: two writers of one series, whose
  values alternate or are refused.

The scope of nodeprobe's is `nodeprobe` (the label `otel_scope_name`, where the way to the database keeps scopes), and
`telemetry.sdk.name` of its Resource is `nodeprobe`, too.

`--semconv-metrics off` or `NODEPROBE_SEMCONV_METRICS=off` leaves these names out for all processes, by OTLP and on the page; what
begins with `nodeprobe.` remains, and nodeprobe's metrics of itself. Panels of these names and of shares of the observed time then have
no data, and the alerts `NodejsEventLoopStalled`, `NodejsEventLoopSaturated` and `NodejsMemoryNearContainerLimit` cannot fire. Findings
and the alerts on them do not need them. nodeprobe cannot tell by itself which processes export them.
";

const SETTINGS: &str = "
## Environment variables

`OTEL_EXPORTER_OTLP_METRICS_X` goes before `OTEL_EXPORTER_OTLP_X`, a command-line flag before both. Log records have
`OTEL_EXPORTER_OTLP_LOGS_X` in its place, and `/v1/logs` is what HTTP appends. A value that is not understood is reported
and ignored.

| variable | values | default |
| --- | --- | --- |
| `OTEL_EXPORTER_OTLP[_METRICS]_ENDPOINT` | URL; over HTTP `/v1/metrics` is appended to the general one, the other is taken as it is | `http://localhost:4318`, gRPC `http://localhost:4317` |
| `OTEL_EXPORTER_OTLP[_METRICS]_PROTOCOL` | `grpc`, `http/protobuf` | `http/protobuf` |
| `OTEL_EXPORTER_OTLP[_METRICS]_HEADERS` | `key=value,key2=value2`, values URL-encoded; never logged | |
| `OTEL_EXPORTER_OTLP[_METRICS]_TIMEOUT` | milliseconds for one request with its retries | `10000` |
| `OTEL_EXPORTER_OTLP[_METRICS]_COMPRESSION` | `gzip`, `none` | `none` |
| `OTEL_EXPORTER_OTLP[_METRICS]_INSECURE` | `true`, `false`: no TLS for a gRPC endpoint without a scheme | `false` |
| `OTEL_EXPORTER_OTLP[_METRICS]_CERTIFICATE` | PEM file of the authorities to trust instead of the system's | |
| `OTEL_EXPORTER_OTLP[_METRICS]_CLIENT_CERTIFICATE`, `..._CLIENT_KEY` | PEM files for mutual TLS | |
| `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative`, `delta`, `lowmemory` | `cumulative` |
| `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` | `explicit_bucket_histogram`, `base2_exponential_bucket_histogram` | `explicit_bucket_histogram` |
| `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds | `15000` |
| `OTEL_METRIC_EXPORT_TIMEOUT` | milliseconds for one export with all its requests; never more than the interval | `30000` |
| `OTEL_METRICS_EXPORTER` | `otlp`, `console`, `prometheus`, `none`, or a list | `otlp` |
| `NODEPROBE_PROMETHEUS` | address and port of the page for Prometheus, see above; goes before the next two | |
| `OTEL_EXPORTER_PROMETHEUS_HOST`, `OTEL_EXPORTER_PROMETHEUS_PORT` | with `OTEL_METRICS_EXPORTER=prometheus`: an IP address or `localhost`, and a port | `localhost`, `9464` |
| `NODEPROBE_SEMCONV_METRICS` | `on`, `off`: no metrics of processes under names that they may export themselves, see above | `on` |
| `NODEPROBE_STALL_LOGS` | `true`: every stall also as a log record, see above | `false` |
| `OTEL_LOGS_EXPORTER` | where these go: `otlp`, `console`, `none`, or a list | `otlp` |
| `OTEL_SDK_DISABLED` | `true`: nothing is exported; the page of `NODEPROBE_PROMETHEUS` is served all the same | `false` |
| `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | describe nodeprobe itself; see the Resource above | `nodeprobe` |
| `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` | proxies, over HTTP only | |
";

/// The text of `docs/metrics.md`.
pub fn markdown() -> String {
    let mut text = String::from(HEAD);
    for (title, subjects) in [
        ("Metrics of a process", [Subject::Process, Subject::Both]),
        ("Metrics of nodeprobe itself", [Subject::Agent, Subject::Both]),
    ] {
        push(&mut text, format_args!("\n## {title}\n\n"));
        text.push_str("| name | instrument | unit | attributes | Prometheus name | stability |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        let metrics = ALL.iter().filter(|metric| subjects.contains(&metric.subject));
        for metric in metrics.clone() {
            row(&mut text, metric);
        }
        text.push('\n');
        for metric in metrics {
            push(&mut text, format_args!("- `{}`: {}\n", metric.name, metric.description));
        }
        if subjects.contains(&Subject::Agent) {
            text.push_str(
                "\nTheir Resource is `service.name` = `nodeprobe` (or `OTEL_SERVICE_NAME`), `service.version`, \
                 `host.name`, `k8s.node.name` (`--node-name`) and what `OTEL_RESOURCE_ATTRIBUTES` adds.\n",
            );
        }
    }
    attributes(&mut text);
    bounds(&mut text);
    text.push_str(&series());
    text.push_str(RESOURCE);
    text.push_str(LOGS);
    text.push_str(
        &PROMETHEUS
            .replace("%PROMOTED%", &labels(&PROMOTED))
            .replace("%OF_AGENT%", &labels(&PROMOTED_OF_AGENT)),
    );
    text.push_str(&BESIDE.replace("%CONVENTIONS%", &of_the_conventions()));
    text.push_str(SETTINGS);
    text
}

fn labels(keys: &[&str]) -> String {
    let labels = keys.iter().map(|key| format!("`{}`", key.replace('.', "_")));
    labels.collect::<Vec<_>>().join(", ")
}

fn of_the_conventions() -> String {
    let found = ALL.iter().filter(|metric| metric.is_of_the_conventions());
    found.map(|metric| format!("`{}`", metric.name)).collect::<Vec<_>>().join(", ")
}

fn series() -> String {
    let numbers = [("%MAIN%", most_series(1)), ("%BOTH%", most_series(2)), ("%CULPRITS%", CULPRITS_MAX)];
    let filled = |text: String, (name, number): (&str, usize)| text.replace(name, &number.to_string());
    numbers.into_iter().fold(SERIES.to_owned(), filled)
}

fn row(text: &mut String, metric: &Metric) {
    let instrument = match metric.instrument {
        Instrument::Counter => "Counter",
        Instrument::UpDownCounter => "UpDownCounter",
        Instrument::Gauge => "Gauge",
        Instrument::Histogram => "Histogram",
    };
    let stability = match metric.stability {
        Stability::Development => "development",
        Stability::ReleaseCandidate => "release candidate",
    };
    let keys: Vec<String> = metric.attributes.iter().map(|a| format!("`{}`", a.key)).collect();
    push(
        text,
        format_args!(
            "| `{}` | {instrument} | `{}` | {} | `{}` | {stability} |\n",
            metric.name,
            metric.unit,
            keys.join(", "),
            metric.prometheus_name(),
        ),
    );
}

fn attributes(text: &mut String) {
    text.push_str("\n## Attributes\n\n| attribute | values |\n| --- | --- |\n");
    let mut seen = Vec::new();
    for attribute in ALL.iter().flat_map(|metric| metric.attributes) {
        if !seen.contains(&attribute.key) {
            seen.push(attribute.key);
            let values: Vec<String> = attribute.values.iter().map(|v| format!("`{v}`")).collect();
            let values = if values.is_empty() { OPEN.to_owned() } else { values.join(", ") };
            push(text, format_args!("| `{}` | {values} |\n", attribute.key));
        }
    }
}

fn bounds(text: &mut String) {
    text.push_str("\n## Bounds of the histograms\n\n| name | upper bounds, seconds |\n| --- | --- |\n");
    for metric in ALL.iter().filter(|metric| !metric.bounds_ns.is_empty()) {
        let bounds: Vec<String> = metric.bounds_ns.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect();
        push(text, format_args!("| `{}` | {} |\n", metric.name, bounds.join(", ")));
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const BLESS: &str = "NODEPROBE_BLESS";

    #[test]
    fn docs_metrics_md_equals_the_catalogue() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var_os(BLESS).is_some() {
            fs::write(&path, markdown()).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == markdown(),
            "docs/metrics.md is not what the catalogue says; write it anew by\n    \
             {BLESS}=1 cargo test -p nodeprobe --lib docs_metrics_md_equals_the_catalogue"
        );
    }

    #[test]
    fn every_metric_and_its_prometheus_name_is_documented() {
        let text = markdown();
        for metric in ALL {
            assert!(text.contains(&format!("| `{}` |", metric.name)), "{}", metric.name);
            assert!(text.contains(&format!("| `{}` |", metric.prometheus_name())), "{}", metric.name);
        }
    }
}

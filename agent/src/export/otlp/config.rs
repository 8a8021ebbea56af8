//! Settings of the OTLP export: which, in what order of precedence, with what defaults. Names and meaning are those of
//! the `OpenTelemetry` specification ("Environment Variable Specification" and "OTLP Exporter Configuration"),
//! so that an agent is set up like any instrumented service beside it.
//!
//! Architecture invariant: nothing here reads a file or the process environment except [`from_environment`].

mod connection;
mod endpoint;
mod exporters;
mod values;

use std::{
    collections::BTreeMap, ffi::OsString, fmt, net::SocketAddr, ops::Deref, path::PathBuf, time::Duration,
};

use exporters::Exporters;
use reqwest::Url;
use values::{Flag, Reader};

pub use self::connection::Connection;
use crate::identity::Host;

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
}

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    Cumulative,
    Delta,
    /// Histograms delta, counters cumulative: ours are read from a map, which is what the specification calls
    /// asynchronous.
    LowMemory,
}

/// `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramAggregation {
    ExplicitBucket,
    Base2ExponentialBucket,
}

/// A file named by a setting; the name of the setting is kept for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSetting {
    pub path: PathBuf,
    pub from: &'static str,
}

/// Headers of every request. Values are secrets: `Debug` shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

/// Where requests go. It may hold credentials: `Debug` shows it without.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(pub Url);

impl Deref for Address {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}{}", self.scheme(), self.host_str().unwrap_or_default(), self.path())
    }
}

/// Everything the exporter needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Send by OTLP. With neither this nor `console` nothing is exported.
    pub otlp: bool,
    /// Print every data point on stdout.
    pub console: bool,
    /// Serve a page for Prometheus here, because `OTEL_METRICS_EXPORTER` says so.
    pub prometheus: Option<SocketAddr>,
    /// Where metrics go, and where the agent's own do.
    pub metrics: Connection,
    /// Stalls as log records; `None` unless asked for.
    pub logs: Option<Logs>,
    pub temporality: Temporality,
    pub histograms: HistogramAggregation,
    /// Export metrics of processes whose names are those of the semantic conventions, which the application may export, too.
    pub semconv_metrics: bool,
    pub interval: Duration,
    /// For one export with all its requests; never longer than the interval.
    pub export_timeout: Duration,
    /// `service.name` of the agent's own metrics.
    pub agent_service_name: String,
    /// The agent's `OTEL_RESOURCE_ATTRIBUTES`.
    pub agent_attributes: BTreeMap<String, String>,
    /// The host; the agent's own `OTEL_RESOURCE_ATTRIBUTES` may say it better.
    pub host: HostFacts,
}

/// What is true of every process of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    pub name: Option<String>,
    /// `host.id`: its machine id.
    pub id: Option<String>,
    /// Its name as a node of a Kubernetes cluster.
    pub node: Option<String>,
}

impl HostFacts {
    /// `node`: the name of the node, where this is one. In a pod the system's own name is the pod's, so that is the host's name, too.
    pub fn read(node: Option<&str>) -> Self {
        let node = node.map(str::to_owned).filter(|node| !node.is_empty());
        let id = Some(Host::of_machine().machine_id).filter(|id| !id.is_empty());
        Self { name: node.clone().or_else(host_name), id, node }
    }
}

/// Where log records go.
#[derive(Clone, Debug)]
pub struct Logs {
    pub otlp: Option<Connection>,
    /// Print every record on stdout.
    pub console: bool,
}

/// Values from the command line; each goes before the environment. `None`: the flag was not given.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Over HTTP `/v1/metrics` is appended, as to `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    pub protocol: Option<String>,
    pub headers: Option<String>,
    pub timeout_ms: Option<String>,
    pub compression: Option<String>,
    pub insecure: Option<String>,
    pub certificate: Option<String>,
    pub client_key: Option<String>,
    pub client_certificate: Option<String>,
    pub temporality: Option<String>,
    pub histogram_aggregation: Option<String>,
    pub semconv_metrics: Option<String>,
    pub interval_ms: Option<String>,
    pub exporter: Option<String>,
    pub stall_logs: Option<String>,
}

/// A setting that cannot be made good by a default.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{from}: `{value}` is no endpoint: {reason}; write for example http://localhost:4318")]
    Endpoint { from: &'static str, value: String, reason: String },
    #[error("{from}: there is no exporter `{value}` in nodeprobe; use {known}")]
    Exporter { from: &'static str, value: String, known: &'static str },
    #[error("{present} is set but {missing} is not; mutual TLS needs both")]
    HalfIdentity { present: &'static str, missing: &'static str },
}

/// A configuration and what the user should know about it, one sentence each.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub config: Config,
    pub warnings: Vec<String>,
}

/// Resolves against the environment and host name of this process.
///
/// # Errors
/// As [`resolve`].
pub fn from_environment(overrides: &Overrides, host: HostFacts) -> Result<Resolved, ConfigError> {
    resolve(&|name| std::env::var_os(name), overrides, host)
}

/// The name of this host.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Resolves the settings. `lookup` gives the value of an environment variable.
///
/// # Errors
/// [`ConfigError`] for an endpoint, exporter or client certificate that leaves no sensible way to go on;
/// everything else becomes a warning and a default.
pub fn resolve(
    lookup: &dyn Fn(&str) -> Option<OsString>,
    overrides: &Overrides,
    host: HostFacts,
) -> Result<Resolved, ConfigError> {
    let mut reader = Reader::new(lookup);
    let disabled = reader.value(Flag("", None), &["OTEL_SDK_DISABLED"], values::boolean, false, "false");
    let exporter = Flag("--otlp-exporter", overrides.exporter.as_deref());
    let Exporters { otlp, console, prometheus } =
        exporters::resolve(&mut reader, exporter, "OTEL_METRICS_EXPORTER", &exporters::OF_METRICS)?;
    let prometheus = prometheus.then(|| exporters::prometheus_address(&mut reader));
    let metrics = connection::resolve(&mut reader, overrides, &connection::METRICS)?;
    let logs = logs(&mut reader, overrides)?.filter(|_| !disabled);
    let temporality = reader.value(
        Flag("--otlp-temporality", overrides.temporality.as_deref()),
        &["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
        values::temporality,
        Temporality::Cumulative,
        "cumulative",
    );
    let histograms = reader.value(
        Flag("--otlp-histogram-aggregation", overrides.histogram_aggregation.as_deref()),
        &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
        values::histogram_aggregation,
        HistogramAggregation::ExplicitBucket,
        "explicit_bucket_histogram",
    );
    let semconv_metrics = reader.value(
        Flag("--semconv-metrics", overrides.semconv_metrics.as_deref()),
        &["NODEPROBE_SEMCONV_METRICS"],
        values::on_off,
        true,
        "on",
    );
    // Not the specification's minute: dashboards and alerts expect the resolution of a Prometheus scrape.
    let interval = reader.value(
        Flag("--otlp-interval-ms", overrides.interval_ms.as_deref()),
        &["OTEL_METRIC_EXPORT_INTERVAL"],
        values::milliseconds,
        Duration::from_secs(15),
        "15000",
    );
    let export_timeout = reader.value(
        Flag("", None),
        &["OTEL_METRIC_EXPORT_TIMEOUT"],
        values::milliseconds,
        Duration::from_secs(30),
        "30000",
    );
    let mut agent_attributes = reader.attributes("OTEL_RESOURCE_ATTRIBUTES");
    let from_attributes = agent_attributes.remove("service.name");
    let agent_service_name = reader
        .text("OTEL_SERVICE_NAME")
        .or(from_attributes)
        .unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned());
    let config = Config {
        otlp: otlp && !disabled,
        console: console && !disabled,
        prometheus: prometheus.filter(|_| !disabled),
        metrics,
        logs,
        temporality,
        histograms,
        semconv_metrics,
        interval,
        export_timeout: export_timeout.min(interval),
        agent_service_name,
        agent_attributes,
        host,
    };
    // A general variable is read for each signal.
    let mut warnings: Vec<String> = Vec::new();
    for warning in reader.warnings {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(Resolved { config, warnings })
}

/// `NODEPROBE_STALL_LOGS` says whether, `OTEL_LOGS_EXPORTER` where to.
fn logs(reader: &mut Reader<'_>, overrides: &Overrides) -> Result<Option<Logs>, ConfigError> {
    let wanted = reader.value(
        Flag("--otlp-stall-logs", overrides.stall_logs.as_deref()),
        &["NODEPROBE_STALL_LOGS"],
        values::boolean,
        false,
        "false",
    );
    if !wanted {
        return Ok(None);
    }
    let Exporters { otlp, console, .. } =
        exporters::resolve(reader, Flag("", None), "OTEL_LOGS_EXPORTER", &exporters::OF_LOGS)?;
    let otlp = otlp.then(|| connection::resolve(reader, overrides, &connection::LOGS)).transpose()?;
    Ok(Some(Logs { otlp, console }).filter(|logs| logs.otlp.is_some() || logs.console))
}

#[cfg(test)]
mod tests;

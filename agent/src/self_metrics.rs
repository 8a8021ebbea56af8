//! The agent's own metrics, through the `OpenTelemetry` SDK, over the same [`Sink`] as the process telemetry, so
//! that endpoint, certificates, headers and retries are the same by construction.
//!
//! The SDK's reader has a thread of its own; a collector that hangs holds up that thread and nothing else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{
        PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics, exporter::PushMetricExporter,
    },
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    export::{
        attributes::{self, Value},
        families::{Attributes, Family, Number, Since},
        otlp::{
            Sink,
            config::{self, Config},
        },
    },
    model::{
        Snapshot,
        catalog::{
            self, AGENT_EVENTS_LOST, AGENT_EXPORTS, AGENT_PROBES, AGENT_PROCESSES, AGENT_STALL_LOGS,
            Attribute, CPU_MODE, EXPORT_OUTCOME, Instrument, LOST_REASON, Metric, PROCESS_CPU_TIME,
            PROCESS_MEMORY_USAGE, STALL_LOG_OUTCOME,
        },
    },
};

/// What the parts of the agent count about themselves.
#[derive(Debug, Default)]
pub struct AgentCounters {
    /// Set by whoever attaches and detaches.
    pub probes_attached: AtomicU64,
    processes: AtomicU64,
    lost: Mutex<BTreeMap<&'static str, u64>>,
    exits_not_exported: AtomicU64,
    /// By [`EXPORT_OUTCOME`]: success, partial, failure.
    exports: [AtomicU64; 3],
    /// By [`STALL_LOG_OUTCOME`]: success, suppressed, lost.
    stall_logs: [AtomicU64; 3],
}

impl AgentCounters {
    pub(crate) fn take_over(&self, snapshot: &Snapshot) {
        let alive = snapshot.processes.iter().filter(|process| !process.exited).count();
        self.processes.store(alive as u64, Relaxed);
        // A thread that panicked here left counts behind that are right: each change is one assignment.
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, count) in &snapshot.lost {
            // Two faces take over snapshots, and one of them may be behind.
            let known = lost.entry(reason).or_default();
            *known = (*known).max(*count);
        }
    }

    pub(crate) fn exits_not_exported(&self, processes: usize) {
        self.exits_not_exported.fetch_add(processes as u64, Relaxed);
    }

    pub(crate) fn export_succeeded(&self) {
        self.exports[0].fetch_add(1, Relaxed);
    }

    pub(crate) fn export_partial(&self) {
        self.exports[1].fetch_add(1, Relaxed);
    }

    pub(crate) fn export_failed(&self) {
        self.exports[2].fetch_add(1, Relaxed);
    }

    pub(crate) fn stall_logs_delivered(&self, records: u64) {
        self.stall_logs[0].fetch_add(records, Relaxed);
    }

    pub(crate) fn stall_logs_suppressed(&self, records: u64) {
        self.stall_logs[1].fetch_add(records, Relaxed);
    }

    pub(crate) fn stall_logs_lost(&self, records: u64) {
        self.stall_logs[2].fetch_add(records, Relaxed);
    }

    /// Log records of stalls so far: delivered, suppressed, lost.
    pub fn stall_logs(&self) -> [u64; 3] {
        loaded(&self.stall_logs)
    }

    /// The agent's own metrics as they are now.
    pub(crate) fn families(&self) -> Vec<Family<'static>> {
        METRICS
            .iter()
            .filter_map(|(metric, points)| Family::numbers(metric, Since::Counters, points(self)))
            .collect()
    }

    fn lost(&self) -> Vec<(Attributes<'static>, Number)> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lost.insert(catalog::EXIT_NOT_EXPORTED, self.exits_not_exported.load(Relaxed));
        // Zero is a value too: it says that nothing was lost.
        let known = LOST_REASON.values.iter().map(|reason| (*reason, 0));
        let all: BTreeMap<_, _> = known.chain(lost).collect();
        all.into_iter().map(|(reason, count)| (vec![(LOST_REASON, reason)], Number::Whole(count))).collect()
    }
}

fn loaded(counts: &[AtomicU64; 3]) -> [u64; 3] {
    counts.each_ref().map(|count| count.load(Relaxed))
}

fn by(attribute: Attribute, counts: [u64; 3]) -> Vec<(Attributes<'static>, Number)> {
    let counts = attribute.values.iter().zip(counts);
    counts.map(|(value, count)| (vec![(attribute, *value)], Number::Whole(count))).collect()
}

fn alone(value: u64) -> Vec<(Attributes<'static>, Number)> {
    vec![(vec![], Number::Whole(value))]
}

/// How the points of a metric are had.
type Read = fn(&AgentCounters) -> Vec<(Attributes<'static>, Number)>;

/// Every metric of the catalogue that is about the agent.
const METRICS: [(&Metric, Read); 7] = [
    (&PROCESS_CPU_TIME, |_| {
        let modes = CPU_MODE.values.iter().zip(cpu_seconds());
        modes.map(|(mode, seconds)| (vec![(CPU_MODE, *mode)], Number::Real(seconds))).collect()
    }),
    (&PROCESS_MEMORY_USAGE, |_| rss_bytes().map(alone).unwrap_or_default()),
    (&AGENT_EVENTS_LOST, AgentCounters::lost),
    (&AGENT_PROCESSES, |counters| alone(counters.processes.load(Relaxed))),
    (&AGENT_PROBES, |counters| alone(counters.probes_attached.load(Relaxed))),
    (&AGENT_EXPORTS, |counters| by(EXPORT_OUTCOME, loaded(&counters.exports))),
    (&AGENT_STALL_LOGS, |counters| by(STALL_LOG_OUTCOME, counters.stall_logs())),
];

/// The running export of the agent's own metrics.
pub struct SelfMetrics {
    provider: SdkMeterProvider,
    /// When to give up sending; unset while the agent runs.
    give_up: watch::Sender<Option<Instant>>,
}

impl SelfMetrics {
    /// Starts it on the current Tokio runtime, which must have more than one thread.
    pub(crate) fn start(config: &Config, sink: Arc<Sink>, counters: &Arc<AgentCounters>) -> Self {
        let (give_up, deadline) = watch::channel(None);
        let exporter = SinkExporter {
            sink,
            deadline,
            runtime: Handle::current(),
            temporality: match config.temporality {
                config::Temporality::Cumulative => Temporality::Cumulative,
                config::Temporality::Delta => Temporality::Delta,
                config::Temporality::LowMemory => Temporality::LowMemory,
            },
            timeout: config.export_timeout,
        };
        let reader = PeriodicReader::builder(exporter).with_interval(config.interval).build();
        let provider =
            SdkMeterProvider::builder().with_reader(reader).with_resource(resource(config)).build();
        register(&provider, counters);
        Self { provider, give_up }
    }

    /// Sends the last values and ends the reader's thread, soon after `deadline` at the latest.
    pub(crate) async fn shutdown(self, deadline: Instant) {
        self.give_up.send_replace(Some(deadline));
        let provider = self.provider.clone();
        // Blocks until the reader's thread has sent, which gives up by itself at the deadline: a runtime waits
        // for its blocking tasks, so this one must end.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::debug!(%error, "the agent's own metrics were not flushed");
        }
    }
}

/// Without [`SelfMetrics::shutdown`] the provider would flush when it is dropped, and wait for the collector.
impl Drop for SelfMetrics {
    fn drop(&mut self) {
        self.give_up.send_if_modified(|deadline| {
            let running = deadline.is_none();
            deadline.get_or_insert_with(Instant::now);
            running
        });
    }
}

fn resource(config: &Config) -> Resource {
    let attributes = attributes::of_agent(config).into_iter().map(|(key, value)| match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Whole(number) => KeyValue::new(key, number),
    });
    Resource::builder_empty().with_schema_url(attributes, catalog::SCHEMA_URL).build()
}

/// The SDK keeps the instruments alive by their callbacks.
fn register(provider: &SdkMeterProvider, counters: &Arc<AgentCounters>) {
    let scope = opentelemetry::InstrumentationScope::builder(catalog::SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(catalog::SCHEMA_URL)
        .build();
    let meter = provider.meter_with_scope(scope);
    for (metric, read) in METRICS {
        let shared = Arc::clone(counters);
        let points = move || {
            let points = read(&shared).into_iter();
            points.map(|(attributes, number)| {
                let attributes: Vec<_> = attributes.iter().map(|(a, v)| KeyValue::new(a.key, *v)).collect();
                (attributes, number)
            })
        };
        // The SDK has a type for each, and of the instruments that are not in the catalogue none.
        match (metric.instrument, metric.unit) {
            (Instrument::Counter, "s") => drop(
                meter
                    .f64_observable_counter(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_callback(move |o| points().for_each(|(a, number)| o.observe(real(number), &a)))
                    .build(),
            ),
            (Instrument::Counter, _) => drop(
                meter
                    .u64_observable_counter(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_callback(move |o| points().for_each(|(a, number)| o.observe(whole(number), &a)))
                    .build(),
            ),
            _ => drop(
                meter
                    .i64_observable_up_down_counter(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_callback(move |o| {
                        points().for_each(|(a, number)| o.observe(signed(whole(number)), &a));
                    })
                    .build(),
            ),
        }
    }
}

fn real(number: Number) -> f64 {
    match number {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    }
}

fn whole(number: Number) -> u64 {
    match number {
        Number::Whole(value) => value,
        Number::Real(value) => value as u64,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// CPU time of the agent in user and system mode.
fn cpu_seconds() -> [f64; 2] {
    // SAFETY: rusage is plain integers, for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole rusage on this stack, which getrusage(2) fills. It cannot fail for
    // RUSAGE_SELF and a valid pointer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    [usage.ru_utime, usage.ru_stime].map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6)
}

/// `VmRSS` of `/proc/self/status`, which unlike `statm` needs no page size.
fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Hands what the SDK collected to the [`Sink`]. The SDK's own exporter would connect by itself, and it does not
/// know the variables for certificates.
struct SinkExporter {
    sink: Arc<Sink>,
    runtime: Handle,
    temporality: Temporality,
    timeout: Duration,
    deadline: watch::Receiver<Option<Instant>>,
}

/// Once there is a deadline, and it has passed.
async fn passed(deadline: &mut watch::Receiver<Option<Instant>>) {
    let at = deadline.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    // No sender: `SelfMetrics` is gone.
    sleep_until(at.unwrap_or_else(Instant::now)).await;
}

impl PushMetricExporter for SinkExporter {
    fn export(&self, metrics: &ResourceMetrics) -> impl Future<Output = OTelSdkResult> + Send {
        let request = ExportMetricsServiceRequest::from(metrics);
        let sink = Arc::clone(&self.sink);
        let timeout = self.timeout;
        // The reader's thread is no Tokio thread, so timers and sockets have to live on the runtime.
        let mut deadline = self.deadline.clone();
        let sending = self.runtime.spawn(async move {
            tokio::select! {
                biased;
                () = passed(&mut deadline) => Err("the agent ends".to_owned()),
                sent = sink.send(request, Instant::now() + timeout) => sent.map_err(|e| e.to_string()),
            }
        });
        async {
            match sending.await {
                // Rejections and failures are told by the exporter of process telemetry, which meets the same
                // collector at the same interval.
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(OTelSdkError::InternalFailure(error)),
                Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        self.temporality
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalog::Subject;

    #[test]
    fn every_metric_of_the_catalogue_about_the_agent_has_points() {
        let families = AgentCounters::default().families();
        let found: Vec<&str> = families.iter().map(|family| family.metric.name).collect();
        let expected = catalog::ALL.iter().filter(|metric| metric.subject != Subject::Process);
        assert_eq!(found, expected.map(|metric| metric.name).collect::<Vec<_>>());
    }
}

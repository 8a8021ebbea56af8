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
    export::otlp::{
        Sink,
        config::{self, Config},
    },
    identity::own_instance_id,
    model::{
        Snapshot,
        catalog::{
            self, AGENT_EVENTS_LOST, AGENT_EXPORTS, AGENT_PROBES, AGENT_PROCESSES, AGENT_STALL_LOGS,
            CPU_MODE, EXPORT_OUTCOME, LOST_REASON, PROCESS_CPU_TIME, PROCESS_MEMORY_USAGE, STALL_LOG_OUTCOME,
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
        // A thread that panicked here left a whole map behind: each change is one assignment.
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&snapshot.lost);
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
        [0, 1, 2].map(|outcome: usize| self.stall_logs[outcome].load(Relaxed))
    }
}

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
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", own_instance_id()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    attributes.extend(config.host.name.clone().map(|name| KeyValue::new("host.name", name)));
    // The user's own come last and win.
    attributes.extend(config.agent_attributes.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())));
    attributes.push(KeyValue::new("service.name", config.agent_service_name.clone()));
    Resource::builder_empty().with_schema_url(attributes, catalog::SCHEMA_URL).build()
}

/// The SDK keeps the instruments alive by their callbacks.
fn register(provider: &SdkMeterProvider, counters: &Arc<AgentCounters>) {
    let scope = opentelemetry::InstrumentationScope::builder(catalog::SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(catalog::SCHEMA_URL)
        .build();
    let meter = provider.meter_with_scope(scope);
    let shared = Arc::clone(counters);
    meter
        .u64_observable_counter(AGENT_EVENTS_LOST.name)
        .with_unit(AGENT_EVENTS_LOST.unit)
        .with_description(AGENT_EVENTS_LOST.description)
        .with_callback(move |observer| {
            let mut lost = shared.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
            lost.insert(catalog::EXIT_NOT_EXPORTED, shared.exits_not_exported.load(Relaxed));
            // Zero is a value too: it says that nothing was lost.
            let known = LOST_REASON.values.iter().map(|reason| (*reason, 0));
            for (reason, count) in known.chain(lost).collect::<BTreeMap<_, _>>() {
                observer.observe(count, &[KeyValue::new(LOST_REASON.key, reason)]);
            }
        })
        .build();
    let shared = Arc::clone(counters);
    meter
        .i64_observable_up_down_counter(AGENT_PROCESSES.name)
        .with_unit(AGENT_PROCESSES.unit)
        .with_description(AGENT_PROCESSES.description)
        .with_callback(move |observer| observer.observe(signed(&shared.processes), &[]))
        .build();
    let shared = Arc::clone(counters);
    meter
        .i64_observable_up_down_counter(AGENT_PROBES.name)
        .with_unit(AGENT_PROBES.unit)
        .with_description(AGENT_PROBES.description)
        .with_callback(move |observer| observer.observe(signed(&shared.probes_attached), &[]))
        .build();
    let shared = Arc::clone(counters);
    meter
        .u64_observable_counter(AGENT_EXPORTS.name)
        .with_unit(AGENT_EXPORTS.unit)
        .with_description(AGENT_EXPORTS.description)
        .with_callback(move |observer| {
            for (outcome, count) in EXPORT_OUTCOME.values.iter().zip(&shared.exports) {
                observer.observe(count.load(Relaxed), &[KeyValue::new(EXPORT_OUTCOME.key, *outcome)]);
            }
        })
        .build();
    let shared = Arc::clone(counters);
    meter
        .u64_observable_counter(AGENT_STALL_LOGS.name)
        .with_unit(AGENT_STALL_LOGS.unit)
        .with_description(AGENT_STALL_LOGS.description)
        .with_callback(move |observer| {
            for (outcome, count) in STALL_LOG_OUTCOME.values.iter().zip(shared.stall_logs()) {
                observer.observe(count, &[KeyValue::new(STALL_LOG_OUTCOME.key, *outcome)]);
            }
        })
        .build();
    meter
        .f64_observable_counter(PROCESS_CPU_TIME.name)
        .with_unit(PROCESS_CPU_TIME.unit)
        .with_description(PROCESS_CPU_TIME.description)
        .with_callback(|observer| {
            for (mode, seconds) in CPU_MODE.values.iter().zip(cpu_seconds()) {
                observer.observe(seconds, &[KeyValue::new(CPU_MODE.key, *mode)]);
            }
        })
        .build();
    meter
        .i64_observable_up_down_counter(PROCESS_MEMORY_USAGE.name)
        .with_unit(PROCESS_MEMORY_USAGE.unit)
        .with_description(PROCESS_MEMORY_USAGE.description)
        .with_callback(|observer| {
            if let Some(bytes) = rss_bytes() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

fn signed(value: &AtomicU64) -> i64 {
    i64::try_from(value.load(Relaxed)).unwrap_or(i64::MAX)
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
fn rss_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
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

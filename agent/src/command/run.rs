//! `nodeprobe run`: the daemon.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{EXIT_OK, EndSignals, Outcome, init_log, observe, prepare};
use crate::{
    agent::Agent,
    cli::{Cluster, Kubernetes, Otlp, Run},
    export::otlp::{Config, Exporter, Overrides, config, config::HostFacts},
    kubernetes::{self, Names},
    self_metrics::AgentCounters,
};

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: &Run) -> Outcome {
    init_log("info", None);
    let resolved = config::from_environment(
        &overrides(&arguments.otlp),
        HostFacts::read(arguments.cluster.node_name.as_deref()),
    )?;
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let config = resolved.config;
    let cluster = cluster(&arguments.cluster)?;
    prepare();
    // A reader of the SDK blocks a thread while it exports, so one is not enough.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the asynchronous runtime could not be started")?;
    let signals = EndSignals::catch(&runtime)?;
    let agent = observe(&arguments.observe.into(), None)?;
    let outcome = runtime.block_on(async {
        let cluster = cluster.map(|settings| (kubernetes::start(&settings), settings));
        serve(&agent, &config, Names::new(cluster), signals).await
    });
    // Nothing that hangs in a system call may keep the process from ending.
    runtime.shutdown_background();
    outcome
}

/// # Errors
/// The cluster was asked for by name and cannot be. What `auto` would have asked is a warning.
fn cluster(flags: &Cluster) -> anyhow::Result<Option<kubernetes::Settings>> {
    let Cluster { kubernetes, node_name, kubernetes_labels, kubernetes_names_by_labels } = flags;
    let labels: Vec<String> = kubernetes_labels.iter().filter(|key| !key.is_empty()).cloned().collect();
    match kubernetes::Settings::resolve(
        *kubernetes,
        node_name.as_deref(),
        &labels,
        *kubernetes_names_by_labels,
    ) {
        Err(error) if *kubernetes == Kubernetes::Auto => {
            tracing::warn!("{error}; processes are exported without the names of their pods");
            Ok(None)
        }
        resolved => Ok(resolved?),
    }
}

fn overrides(flags: &Otlp) -> Overrides {
    let Otlp {
        endpoint,
        protocol,
        headers,
        compression,
        certificate,
        client_certificate,
        client_key,
        temporality,
        interval,
        exporter,
        stall_logs,
    } = flags;
    Overrides {
        endpoint: endpoint.clone(),
        protocol: protocol.clone(),
        headers: headers.clone(),
        compression: compression.clone(),
        certificate: certificate.clone(),
        client_key: client_key.clone(),
        client_certificate: client_certificate.clone(),
        temporality: temporality.clone(),
        interval_ms: interval.map(|interval| interval.as_millis().to_string()),
        exporter: exporter.clone(),
        // Not given, the variable decides.
        stall_logs: stall_logs.then(|| "true".to_owned()),
        ..Overrides::default()
    }
}

async fn serve(agent: &Agent, config: &Config, mut names: Names, mut signals: EndSignals) -> Outcome {
    let counters = Arc::new(AgentCounters::default());
    let mut exporter = Exporter::new(config, Arc::clone(&counters))?;
    if config.otlp {
        tracing::info!(endpoint = config.metrics.endpoint_shown(), "exporting every {:?}", config.interval);
    } else if !config.console {
        tracing::warn!(
            "nothing is exported: OTEL_SDK_DISABLED or OTEL_METRICS_EXPORTER=none says so; processes are observed all the same"
        );
    }
    if let Some(logs) = config.logs.as_ref().and_then(|logs| logs.otlp.as_ref()) {
        tracing::info!(endpoint = logs.endpoint_shown(), "sending stalls as log records");
    }
    let mut ticks = interval_at(Instant::now() + config.interval, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let tick_and_export = async {
            ticks.tick().await;
            counters.probes_attached.store(agent.probes_attached(), Relaxed);
            exporter.export(&names.complete(agent.snapshot())).await;
        };
        tokio::select! {
            () = tick_and_export => {}
            () = signals.received() => break,
        }
    }
    tracing::info!("ending: sending the last values");
    exporter.shutdown(&names.complete(agent.snapshot())).await;
    Ok(EXIT_OK)
}

//! `nodeprobe run`: the daemon.

use std::{
    mem::ManuallyDrop,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use anyhow::Context as _;
use tokio::{
    runtime::Runtime,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{EXIT_OK, EndSignals, Outcome, init_log, observe, prepare};
use crate::{
    agent::Agent,
    cli::{Cluster, Kubernetes, Otlp, Run},
    export::{
        heartbeat::Heartbeat,
        otlp::{Config, Exporter, Overrides, config, config::HostFacts},
        prometheus::{ListenError, Page, Server, Site},
        readings::Readings,
    },
    kubernetes::{self, Names},
    model::Snapshot,
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
    let counters = Arc::new(AgentCounters::default());
    // Before the probes: a port that is taken is an error at once, and whoever asks meanwhile hears that we work.
    let scraped = arguments.prometheus.or(config.prometheus);
    let heartbeat = Arc::new(Heartbeat::every(config.interval));
    let scraped = scraped
        .map(|address| Scraped::listen(&runtime, address, &config, &counters, &heartbeat))
        .transpose()?;
    let agent = observe(&arguments.observe.into(), None)?;
    let outcome = runtime.block_on(async {
        let cluster = cluster.map(|settings| (kubernetes::start(&settings), settings));
        serve(agent, &config, counters, Names::new(cluster), scraped, heartbeat, signals).await
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

/// The page for Prometheus.
struct Scraped {
    page: Arc<Page>,
    site: Arc<Site>,
}

impl Scraped {
    /// Serves from now on, without metrics until the site is opened.
    fn listen(
        runtime: &Runtime,
        address: SocketAddr,
        config: &Config,
        counters: &Arc<AgentCounters>,
        heartbeat: &Arc<Heartbeat>,
    ) -> Result<Self, ListenError> {
        let server = runtime.block_on(Server::bind(address))?;
        let address = server.address().unwrap_or(address);
        tracing::info!("serving metrics for Prometheus on http://{address}/metrics");
        if address.ip().is_unspecified() {
            tracing::warn!("whoever reaches this host can read them: there is neither TLS nor a password");
        }
        let page = Arc::new(Page::new(config, Arc::clone(counters)));
        let site = Arc::new(Site::new(Arc::clone(&page), Arc::clone(heartbeat)));
        runtime.spawn(server.serve(Arc::clone(&site)));
        Ok(Self { page, site })
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
        semconv_metrics,
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
        semconv_metrics: semconv_metrics.clone(),
        // Not given, the variable decides.
        stall_logs: stall_logs.then(|| "true".to_owned()),
        ..Overrides::default()
    }
}

async fn serve(
    agent: ManuallyDrop<Agent>,
    config: &Config,
    counters: Arc<AgentCounters>,
    names: Names,
    scraped: Option<Scraped>,
    heartbeat: Arc<Heartbeat>,
    mut signals: EndSignals,
) -> Outcome {
    let mut exporter = Exporter::new(config, Arc::clone(&counters))?;
    if config.otlp {
        tracing::info!(endpoint = config.metrics.endpoint_shown(), "exporting every {:?}", config.interval);
    } else if !config.console && scraped.is_none() {
        tracing::warn!(
            "nothing is exported: OTEL_SDK_DISABLED or OTEL_METRICS_EXPORTER=none says so; processes are observed all the same"
        );
    }
    if let Some(logs) = config.logs.as_ref().and_then(|logs| logs.otlp.as_ref()) {
        tracing::info!(endpoint = logs.endpoint_shown(), "sending stalls as log records");
    }
    let page = scraped.as_ref().map(|scraped| Arc::clone(&scraped.page));
    let names = Mutex::new(names);
    let readings = Arc::new(Readings::new(page, heartbeat, move || {
        counters.probes_attached.store(agent.probes_attached(), Relaxed);
        names.lock().unwrap_or_else(PoisonError::into_inner).complete(agent.snapshot())
    }));
    if let Some(Scraped { site, .. }) = &scraped {
        read(&readings).await;
        let readings = Arc::clone(&readings);
        site.open(Arc::new(move || readings.read_for_page()));
    }
    let mut ticks = interval_at(Instant::now() + config.interval, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let tick_and_export = async {
            ticks.tick().await;
            read(&readings).await;
            if let Some(last) = observe_all_but_last(&mut exporter, &readings) {
                exporter.export(&last).await;
            }
        };
        tokio::select! {
            () = tick_and_export => {}
            () = signals.received() => break,
        }
    }
    tracing::info!("ending: sending the last values");
    read(&readings).await;
    if let Some(last) = observe_all_but_last(&mut exporter, &readings) {
        exporter.shutdown(&last).await;
    }
    Ok(EXIT_OK)
}

/// Reads a snapshot where it may block: it waits for locks, and for what the ring buffer holds of processes that ended.
async fn read(readings: &Arc<Readings>) {
    let readings = Arc::clone(readings);
    if let Err(error) = tokio::task::spawn_blocking(move || readings.read()).await {
        tracing::error!(%error, "a snapshot could not be read");
    }
}

/// Takes into account what scrapes have read since the last export.
fn observe_all_but_last(exporter: &mut Exporter, readings: &Readings) -> Option<Snapshot> {
    let mut waiting = readings.take();
    let last = waiting.pop_back();
    for snapshot in &waiting {
        exporter.observe(snapshot);
    }
    last
}

//! Export by OTLP: process telemetry straight from snapshots, because the SDK cannot take histograms that are
//! aggregated already and knows one Resource only, and the agent's own metrics through the SDK over the same
//! connection.
//!
//! ```text
//! Snapshot ─► totals (per process) ─► families ─► encode (requests) ─┬► transport ─► grpc | http
//!          └► logs (a record per stall, if asked for) ───────────────┘
//! ```
//!
//! Architecture invariant: this directory and `self_metrics` are the only users of `opentelemetry*`.
#![forbid(unsafe_code)]

pub mod config;
mod console;
mod encode;
pub(crate) mod error;
mod grpc;
mod http;
mod logs;
mod metrics;
mod points;
mod resource;
mod tls;
mod transport;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::{
    config::{Config, ConfigError, Overrides, Resolved},
    error::{SendError, SetupError},
    transport::{Rejection, Request, Sink},
};
use self::{logs::StallLogs, metrics::ProcessMetrics};
use crate::{
    model::Snapshot,
    self_metrics::{AgentCounters, SelfMetrics},
};

/// A container gets 10 s from SIGTERM to SIGKILL at least by default; the rest of the agent needs some of it.
const SHUTDOWN: Duration = Duration::from_millis(4500);
/// Of which this much for the last values of the processes.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// How one export ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Neither OTLP nor the console is switched on.
    Disabled,
    /// Nothing to export: no process.
    Empty,
    Delivered,
    /// Accepted, but the collector threw away that many data points (0: it only warned).
    PartlyRejected {
        data_points: u64,
    },
    /// Nothing or only a part arrived. Nothing is lost: totals go with the next export.
    Failed(SendError),
}

/// Ships snapshots. One request of each kind at a time; never blocks the thread, and gives up after the export
/// timeout.
pub struct Exporter {
    export_timeout: Duration,
    metrics: ProcessMetrics,
    logs: Option<StallLogs>,
    counters: Arc<AgentCounters>,
    self_metrics: Option<SelfMetrics>,
}

impl Exporter {
    /// Must be called inside a Tokio runtime with more than one thread. Does not connect.
    ///
    /// # Errors
    /// [`SetupError`]: a certificate that cannot be read, a setting that can never work.
    pub fn new(config: &Config, counters: Arc<AgentCounters>) -> Result<Self, SetupError> {
        let sink = config.otlp.then(|| Sink::new(&config.metrics).map(Arc::new)).transpose()?;
        let logs = config.logs.as_ref().map(|logs| StallLogs::new(logs, config, Arc::clone(&counters)));
        let self_metrics = sink.as_ref().map(|sink| SelfMetrics::start(config, Arc::clone(sink), &counters));
        Ok(Self {
            export_timeout: config.export_timeout,
            metrics: ProcessMetrics::new(config, sink, Arc::clone(&counters)),
            logs: logs.transpose()?,
            counters,
            self_metrics,
        })
    }

    /// Takes a snapshot into account without sending. Every snapshot that is read out must come here or to
    /// [`export`](Self::export), or the maxima of delta histograms miss what was longest between, and its stalls have
    /// no log records.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        self.counters.take_over(snapshot);
        self.metrics.observe(snapshot);
        if let Some(logs) = &mut self.logs {
            logs.observe(snapshot);
        }
    }

    /// Sends everything that is known up to `snapshot`. Takes as long as the export timeout at worst, so it
    /// belongs in a task of its own; a future that is dropped midway may make delta values and log records count
    /// twice. The outcome is that of the metrics.
    pub async fn export(&mut self, snapshot: &Snapshot) -> Outcome {
        self.export_within(snapshot, self.export_timeout).await
    }

    /// Sends the last values, the agent's own metrics too, and ends within 5 s whatever the collector does.
    pub async fn shutdown(&mut self, last: &Snapshot) -> Outcome {
        let began = Instant::now();
        let outcome = self.export_within(last, LAST_EXPORT.min(self.export_timeout)).await;
        if let Some(self_metrics) = self.self_metrics.take() {
            self_metrics.shutdown(began + SHUTDOWN).await;
        }
        outcome
    }

    async fn export_within(&mut self, snapshot: &Snapshot, limit: Duration) -> Outcome {
        self.observe(snapshot);
        let deadline = Instant::now() + limit;
        // Beside each other: they may go to different collectors, of which one may hang.
        let logs = &mut self.logs;
        let send_logs = async {
            if let Some(logs) = logs {
                logs.send(deadline).await;
            }
        };
        let (outcome, ()) = tokio::join!(self.metrics.send(deadline), send_logs);
        outcome
    }
}

//! Export by OTLP: process telemetry straight from snapshots, because the SDK cannot take histograms that are
//! aggregated already and knows one Resource only, and the agent's own metrics through the SDK over the same
//! connection.
//!
//! ```text
//! Snapshot ─► state (totals per process) ─► encode (requests) ─► transport ─► grpc | http
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
mod points;
mod resource;
mod state;
mod tls;
mod transport;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::{
    config::{Config, ConfigError, Overrides, Resolved},
    error::{SendError, SetupError},
    transport::{Rejection, Sink},
};
use self::{
    encode::{Encoder, LARGEST_REQUEST},
    resource::HostAttributes,
    state::State,
};
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

/// Ships snapshots. One request at a time; never blocks the thread, and gives up after the export timeout.
pub struct Exporter {
    console: bool,
    export_timeout: Duration,
    sink: Option<Arc<Sink>>,
    encoder: Encoder,
    state: State,
    counters: Arc<AgentCounters>,
    self_metrics: Option<SelfMetrics>,
    failing: bool,
    /// What the collector last said about rejected points; said again, it is not logged again.
    rejection_logged: Option<String>,
}

impl Exporter {
    /// Must be called inside a Tokio runtime with more than one thread. Does not connect.
    ///
    /// # Errors
    /// [`SetupError`]: a certificate that cannot be read, a setting that can never work.
    pub fn new(config: &Config, counters: Arc<AgentCounters>) -> Result<Self, SetupError> {
        let sink = config.otlp.then(|| Sink::new(config).map(Arc::new)).transpose()?;
        let self_metrics = sink.as_ref().map(|sink| SelfMetrics::start(config, Arc::clone(sink), &counters));
        Ok(Self {
            console: config.console,
            export_timeout: config.export_timeout,
            sink,
            encoder: Encoder {
                temporality: config.temporality,
                histograms: config.histograms,
                host: HostAttributes::new(config),
            },
            state: State::new(config.temporality),
            counters,
            self_metrics,
            failing: false,
            rejection_logged: None,
        })
    }

    /// Takes a snapshot into account without sending. Every snapshot that is read out must come here or to
    /// [`export`](Self::export), or the maxima of delta histograms miss what was longest between.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        self.counters.take_over(snapshot);
        if self.disabled() {
            return;
        }
        let given_up = self.state.observe(snapshot);
        if given_up > 0 {
            self.counters.exits_not_exported(given_up);
            tracing::debug!(
                processes = given_up,
                "ended while no collector was reachable; last values given up"
            );
        }
    }

    fn disabled(&self) -> bool {
        self.sink.is_none() && !self.console
    }

    /// Sends everything that is known up to `snapshot`. Takes as long as the export timeout at worst, so it
    /// belongs in a task of its own; a future that is dropped midway may make delta values count twice.
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
        if self.disabled() {
            return Outcome::Disabled;
        }
        let deadline = Instant::now() + limit;
        let batches = self.encoder.batches(&self.state, LARGEST_REQUEST);
        let mut outcome = if batches.is_empty() { Outcome::Empty } else { Outcome::Delivered };
        let mut rejected: Option<Rejection> = None;
        for batch in batches {
            if self.console {
                console::print(&batch.request);
            }
            let Some(sink) = &self.sink else {
                self.state.accepted(&batch.processes);
                continue;
            };
            match sink.send(batch.request, deadline).await {
                Ok(rejection) => {
                    self.state.accepted(&batch.processes);
                    if let Some(Rejection { data_points, message }) = rejection {
                        // What a collector says is not trusted to add up.
                        let earlier = rejected.map_or(0, |earlier| earlier.data_points);
                        let sum = data_points.saturating_add(earlier);
                        rejected = Some(Rejection { data_points: sum, message });
                    }
                }
                Err(error) => {
                    // What was answered concerns this request, and the processes in the next one must not
                    // starve behind it; what was not answered would not be the next time.
                    let answered = matches!(error, SendError::Http { .. } | SendError::Grpc { .. });
                    outcome = Outcome::Failed(error);
                    if !answered {
                        break;
                    }
                }
            }
        }
        self.report(outcome, rejected)
    }

    /// Counts every outcome; logs a failure when it begins and when it is over, not at every interval.
    fn report(&mut self, outcome: Outcome, rejected: Option<Rejection>) -> Outcome {
        match (&outcome, rejected) {
            (Outcome::Failed(error), _) => {
                self.counters.export_failed();
                if self.failing {
                    tracing::debug!("still no export: {error}");
                } else {
                    tracing::warn!("{error}; totals are kept and sent when it works again");
                }
                self.failing = true;
            }
            (Outcome::Delivered, rejection) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector accepts exports again");
                }
                if let Some(Rejection { data_points, message }) = rejection {
                    self.counters.export_partial();
                    if self.rejection_logged.as_ref() == Some(&message) {
                        tracing::debug!(
                            rejected.data_points = data_points,
                            "the collector answered: {message}"
                        );
                    } else {
                        tracing::warn!(
                            rejected.data_points = data_points,
                            "the collector answered: {message}"
                        );
                        self.rejection_logged = Some(message);
                    }
                    return Outcome::PartlyRejected { data_points };
                }
                self.rejection_logged = None;
                self.counters.export_succeeded();
            }
            _ => {}
        }
        outcome
    }
}

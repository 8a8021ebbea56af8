//! The metrics of the processes: what is kept between exports, and how an export goes.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Outcome, Rejection, SendError, Sink,
    config::Config,
    console,
    encode::{Encoder, LARGEST_REQUEST},
};
use crate::{
    export::{attributes::HostAttributes, totals::State},
    model::Snapshot,
    self_metrics::AgentCounters,
};

pub(super) struct ProcessMetrics {
    console: bool,
    sink: Option<Arc<Sink>>,
    encoder: Encoder,
    state: State,
    counters: Arc<AgentCounters>,
    failing: bool,
    /// What the collector last said about rejected points; said again, it is not logged again.
    rejection_logged: Option<String>,
}

impl ProcessMetrics {
    /// Without a `sink` nothing goes by OTLP.
    pub(super) fn new(config: &Config, sink: Option<Arc<Sink>>, counters: Arc<AgentCounters>) -> Self {
        Self {
            console: config.console,
            sink,
            encoder: Encoder {
                temporality: config.temporality,
                histograms: config.histograms,
                semconv: config.semconv_metrics,
                host: HostAttributes::new(config),
            },
            state: State::new(config.temporality),
            counters,
            failing: false,
            rejection_logged: None,
        }
    }

    pub(super) fn observe(&mut self, snapshot: &Snapshot) {
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

    /// Sends everything that is known.
    pub(super) async fn send(&mut self, deadline: Instant) -> Outcome {
        if self.disabled() {
            return Outcome::Disabled;
        }
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

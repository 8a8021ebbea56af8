//! The state of the processes as OTLP requests: one `ResourceMetrics` per process.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{Metric as OtlpMetric, ResourceMetrics, ScopeMetrics},
};
use prost::Message as _;

use super::{
    config::{HistogramAggregation, Temporality},
    points::{Span, histograms, numbers},
    resource::resource,
};
use crate::{
    export::{
        attributes::HostAttributes,
        families::{Family, Points, Since, families},
        totals::{ProcessState, State},
    },
    model::{ProcessId, catalog},
};

/// gRPC servers refuse larger messages unless set otherwise (`grpc.MaxRecvMsgSize`, 4 MiB).
pub(super) const LARGEST_REQUEST: usize = 4 << 20;

/// A request and the processes in it.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) request: ExportMetricsServiceRequest,
    pub(super) processes: Vec<ProcessId>,
}

impl Batch {
    fn new() -> Self {
        Self { request: ExportMetricsServiceRequest::default(), processes: Vec::new() }
    }
}

/// How the user wants it.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    pub(super) temporality: Temporality,
    pub(super) histograms: HistogramAggregation,
    pub(super) semconv: bool,
    pub(super) host: HostAttributes,
}

impl Encoder {
    /// Everything in `state`, in requests of at most `limit` bytes, a process never divided.
    pub(super) fn batches(&self, state: &State, limit: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut batch = Batch::new();
        let mut size = 0;
        for process in state.processes() {
            let resource_metrics = self.process(process);
            let encoded = resource_metrics.encoded_len();
            // Tag and length before the message.
            let framed = encoded + 1 + prost::length_delimiter_len(encoded);
            if size + framed > limit && !batch.processes.is_empty() {
                batches.push(std::mem::replace(&mut batch, Batch::new()));
                size = 0;
            }
            size += framed;
            batch.processes.push(process.id);
            batch.request.resource_metrics.push(resource_metrics);
        }
        if !batch.processes.is_empty() {
            batches.push(batch);
        }
        batches
    }

    fn process(&self, process: &ProcessState) -> ResourceMetrics {
        let scope = InstrumentationScope {
            name: catalog::SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        ResourceMetrics {
            resource: Some(resource(&self.host.of_process(process.id, &process.identity, process.started))),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics: families(process, self.semconv)
                    .iter()
                    .map(|family| self.metric(process, family))
                    .collect(),
                schema_url: catalog::SCHEMA_URL.to_owned(),
            }],
            schema_url: catalog::SCHEMA_URL.to_owned(),
        }
    }

    fn metric(&self, process: &ProcessState, family: &Family<'_>) -> OtlpMetric {
        let span = self.span(process, family.since);
        match &family.points {
            Points::Numbers(points) => numbers(family.metric, span, points),
            Points::Histograms(points) => histograms(family.metric, self.histograms, span, points),
        }
    }

    fn span(&self, process: &ProcessState, since: Since) -> Span {
        let counters = self.temporality == Temporality::Delta;
        let (start, delta) = match since {
            Since::Counters => (process.counters_since, counters),
            Since::Cpu => (process.cpu_since, counters),
            Since::Durations => (process.durations_since, self.temporality != Temporality::Cumulative),
            // The temporality preference leaves up-down counters cumulative.
            Since::Observed => (process.observed_since, false),
        };
        Span { start, end: process.time, delta }
    }
}

#[cfg(test)]
mod tests;

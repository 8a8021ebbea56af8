//! Stalls as log records, on request: one per stall, with what it was spent with and who is to blame.
//!
//! A service that stalls all the time must not drown the collector: each process has a budget, and the number of
//! stalls it did not cover goes with the next record. What no collector takes waits in a bounded queue. Both are
//! counted in `nodeprobe.agent.stall_logs`.

mod record;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::InstrumentationScope,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use tokio::time::Instant;

use super::{
    SendError, SetupError, Sink,
    config::{Config, Logs},
    console,
    resource::resource,
};
use crate::{
    export::attributes::HostAttributes,
    model::{Identity, ProcessId, Snapshot, catalog},
    self_metrics::AgentCounters,
};

/// Records a process may have at once, and per minute on the average.
const BURST: f64 = 10.0;
const REFILL_PER_NS: f64 = BURST / 60e9;
/// Records that wait for a collector; at 10 KB at most each, 20 MB.
const QUEUE: usize = 2048;
/// Of which so many go in one request, which stays below the 4 MiB that gRPC servers take.
const BATCH: usize = 256;

pub(super) struct StallLogs {
    sink: Option<Sink>,
    console: bool,
    host: HostAttributes,
    budgets: HashMap<ProcessId, Budget>,
    /// Oldest first.
    queue: VecDeque<Queued>,
    counters: Arc<AgentCounters>,
    failing: bool,
}

/// A token bucket.
struct Budget {
    tokens: f64,
    refilled_ns: u64,
    /// Since the last record.
    suppressed: u64,
}

struct Queued {
    process: ProcessId,
    identity: Arc<Identity>,
    started: SystemTime,
    record: LogRecord,
}

impl StallLogs {
    /// Does not connect.
    ///
    /// # Errors
    /// As [`Sink::new`].
    pub(super) fn new(
        logs: &Logs,
        config: &Config,
        counters: Arc<AgentCounters>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            sink: logs.otlp.as_ref().map(Sink::new).transpose()?,
            console: logs.console,
            host: HostAttributes::new(config),
            budgets: HashMap::new(),
            queue: VecDeque::new(),
            counters,
            failing: false,
        })
    }

    /// Queues the stalls of a snapshot.
    pub(super) fn observe(&mut self, snapshot: &Snapshot) {
        let mut suppressed = 0;
        for stall in &snapshot.stalls {
            let Some(process) = snapshot.processes.iter().find(|process| process.id == stall.process) else {
                self.counters.stall_logs_lost(1);
                continue;
            };
            let budget = self.budgets.entry(process.id).or_insert(Budget {
                tokens: BURST,
                refilled_ns: snapshot.monotonic_ns,
                suppressed: 0,
            });
            let Some(left_out) = budget.take(snapshot.monotonic_ns) else {
                suppressed += 1;
                continue;
            };
            self.queue.push_back(Queued {
                process: process.id,
                identity: Arc::clone(&process.identity),
                started: process.started,
                record: record::of(stall, process, snapshot.time, left_out),
            });
        }
        self.budgets.retain(|id, _| snapshot.processes.iter().any(|p| p.id == *id && !p.exited));
        self.counters.stall_logs_suppressed(suppressed);
        let surplus = self.queue.len().saturating_sub(QUEUE);
        self.queue.drain(..surplus);
        self.counters.stall_logs_lost(surplus as u64);
    }

    /// Sends what waits. What is not taken by `deadline` waits for the next time, unless the collector refused it for
    /// good.
    pub(super) async fn send(&mut self, deadline: Instant) {
        while !self.queue.is_empty() {
            let records = self.queue.len().min(BATCH);
            let request = self.request(records);
            if self.console {
                console::print_logs(&request);
            }
            let sent = match &self.sink {
                Some(sink) => sink.send(request, deadline).await,
                None => Ok(None),
            };
            // Taken out only now: a future that is dropped while it waits loses nothing.
            match sent {
                Ok(rejection) => {
                    let rejected = rejection.as_ref().map_or(0, |r| r.data_points.min(records as u64));
                    self.queue.drain(..records);
                    self.counters.stall_logs_delivered(records as u64 - rejected);
                    self.counters.stall_logs_lost(rejected);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the collector accepts log records again");
                    }
                    if let Some(rejection) = rejection {
                        tracing::debug!(rejected, "the collector answered: {}", rejection.message);
                    }
                }
                Err(error) => {
                    let refused = error.is_final();
                    if refused {
                        self.queue.drain(..records);
                        self.counters.stall_logs_lost(records as u64);
                    }
                    self.complain(&error, refused);
                    if !refused {
                        return;
                    }
                }
            }
        }
    }

    fn complain(&mut self, error: &SendError, refused: bool) {
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!("still no log records: {error}");
        } else if refused {
            tracing::warn!("{error}; these log records of stalls are given up");
        } else {
            tracing::warn!("{error}; log records of stalls wait until it works again");
        }
    }

    /// The first `records` of the queue, those of a process under one Resource.
    fn request(&self, records: usize) -> ExportLogsServiceRequest {
        let mut by_process: BTreeMap<ProcessId, (&Queued, Vec<LogRecord>)> = BTreeMap::new();
        for queued in self.queue.iter().take(records) {
            let (_, records) = by_process.entry(queued.process).or_insert((queued, Vec::new()));
            records.push(queued.record.clone());
        }
        let resource_logs = by_process.into_values().map(|(first, log_records)| {
            let scope = InstrumentationScope {
                name: catalog::SCOPE.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            };
            ResourceLogs {
                resource: Some(resource(&self.host.of_process(
                    first.process,
                    &first.identity,
                    first.started,
                ))),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope),
                    log_records,
                    schema_url: catalog::SCHEMA_URL.to_owned(),
                }],
                schema_url: catalog::SCHEMA_URL.to_owned(),
            }
        });
        ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
    }
}

impl Budget {
    /// A record may be made, and stands for so many that were not; `None`: it may not.
    fn take(&mut self, now_ns: u64) -> Option<u64> {
        let elapsed_ns = now_ns.saturating_sub(self.refilled_ns);
        self.tokens = (self.tokens + elapsed_ns as f64 * REFILL_PER_NS).min(BURST);
        self.refilled_ns = now_ns;
        if self.tokens < 1.0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget { tokens: BURST, refilled_ns: 0, suppressed: 0 }
    }

    #[test]
    fn ten_at_once_and_ten_a_minute() {
        let mut budget = budget();
        let granted = |budget: &mut Budget, times: usize, now_s: u64| {
            (0..times).filter(|_| budget.take(now_s * 1_000_000_000).is_some()).count()
        };
        assert_eq!(granted(&mut budget, 100, 0), 10);
        assert_eq!(granted(&mut budget, 100, 30), 5);
        assert_eq!(granted(&mut budget, 100, 36), 1);
        // However long it was quiet, no more than a burst.
        assert_eq!(granted(&mut budget, 100, 10_000), 10);
    }

    #[test]
    fn what_was_suppressed_goes_with_the_next_record() {
        let mut budget = budget();
        assert_eq!(budget.take(0), Some(0));
        for _ in 0..30 {
            budget.take(0);
        }
        // Nine more were granted, 21 were not.
        assert_eq!(budget.take(60_000_000_000), Some(21));
        assert_eq!(budget.take(60_000_000_000), Some(0));
    }
}

//! What a scrape gets: the totals of every process, and the agent's own metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    accept::Format,
    labels::{DISTINCTION, Key, Target},
    text::Exposition,
};
use crate::{
    export::{
        attributes::{self, HostAttributes, ResourceAttributes},
        families::families,
        otlp::{Config, config::Temporality},
        totals::{ProcessState, State},
    },
    model::{ProcessId, Snapshot, catalog::PROMOTED_OF_AGENT},
    self_metrics::AgentCounters,
};

/// Last values of a process are offered for so long. Prometheus takes a series of which it hears nothing for gone after
/// five minutes; a value that old would come up as a new one.
const OFFERED: Duration = Duration::from_mins(5);

/// The page. What it shows is a function of the snapshots it has observed.
pub struct Page {
    host: HostAttributes,
    agent: ResourceAttributes,
    counters: Arc<AgentCounters>,
    semconv: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Its own, not those of OTLP: what a collector has accepted and what a scrape has shown are different things.
    totals: State,
    /// Processes that need a label more. Once they have it they keep it, or a series would change under its readers
    /// when the other process ends.
    distinct: BTreeSet<ProcessId>,
    /// Processes on a page that was made since the last snapshot.
    shown: Vec<ProcessId>,
}

impl Page {
    pub fn new(config: &Config, counters: Arc<AgentCounters>) -> Self {
        Self {
            host: HostAttributes::new(config),
            agent: attributes::of_agent(config),
            counters,
            semconv: config.semconv_metrics,
            inner: Mutex::new(Inner {
                totals: State::new(Temporality::Cumulative),
                distinct: BTreeSet::new(),
                shown: Vec::new(),
            }),
        }
    }

    /// Takes a snapshot into account. Every snapshot that is read out must come here, in its order.
    pub fn observe(&self, snapshot: &Snapshot) {
        self.counters.take_over(snapshot);
        let mut inner = self.lock();
        // Not when it was made: until now nothing has changed, and who asked for the other format sees the same.
        let shown = std::mem::take(&mut inner.shown);
        inner.totals.accepted(&shown);
        let forgotten = inner.totals.observe(snapshot) + inner.totals.forget_exited(snapshot.time, OFFERED);
        if forgotten > 0 {
            tracing::debug!(processes = forgotten, "ended and nobody scraped their last values");
        }
    }

    /// The page as of the last snapshot. What it tells of processes that have ended it tells until the next.
    pub fn render(&self, format: Format) -> String {
        let mut inner = self.lock();
        let Inner { totals, distinct, shown } = &mut *inner;
        let resources: Vec<(&ProcessState, ResourceAttributes)> = totals
            .processes()
            .map(|process| (process, self.host.of_process(process.id, &process.identity, process.started)))
            .collect();
        let agent = Key::of(&self.agent);
        tell_apart(&agent, &resources, distinct);
        let mut exposition = Exposition::new(format);
        let mut add = |key: &Key, attributes, more: &[&str], families: &_| {
            let target = Target::new(key, attributes, more);
            exposition.add_info(&target.info);
            exposition.add(&target.series, families);
        };
        add(&agent, &self.agent, &PROMOTED_OF_AGENT, &self.counters.families());
        let mut taken = BTreeSet::new();
        for (process, attributes) in &resources {
            let (key, distinct) = (Key::of(attributes), distinct.contains(&process.id));
            // A pid that was given again before the last values of its first process were scraped.
            if taken.insert((key.clone(), distinct.then_some(process.id.pid))) {
                let more: &[&str] = if distinct { &[DISTINCTION] } else { &[] };
                add(&key, attributes, more, &families(process, self.semconv));
            } else {
                tracing::debug!(target.pid = process.id.pid, "another process of this pid is on the page");
            }
        }
        *shown = resources.iter().map(|(process, _)| process.id).collect();
        exposition.finish()
    }

    /// A panic while it was held has left totals that are right as far as they go.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks all but one of the processes that call themselves the same, and says so once. The one is the agent, else who
/// has been there for longest.
fn tell_apart(
    agent: &Key,
    resources: &[(&ProcessState, ResourceAttributes)],
    distinct: &mut BTreeSet<ProcessId>,
) {
    distinct.retain(|id| resources.iter().any(|(process, _)| process.id == *id));
    let mut by_age: Vec<_> = resources.iter().collect();
    by_age.sort_by_key(|(process, _)| (process.observed_since, process.id));
    let mut holders: BTreeMap<Key, Option<ProcessId>> = BTreeMap::from([(agent.clone(), None)]);
    for (process, attributes) in by_age {
        if distinct.contains(&process.id) {
            continue;
        }
        let key = Key::of(attributes);
        match holders.get(&key) {
            None => drop(holders.insert(key, Some(process.id))),
            Some(holder) => {
                let holder = holder.map_or("nodeprobe itself".to_owned(), |id| format!("process {}", id.pid));
                tracing::warn!(
                    target.pid = process.id.pid,
                    "calls itself `{}`, instance `{}`, as {holder} does: its series on the page for Prometheus have \
                     the label process_pid; give each a service.instance.id of its own",
                    key.job,
                    key.instance,
                );
                distinct.insert(process.id);
            }
        }
    }
}

#[cfg(test)]
mod tests;

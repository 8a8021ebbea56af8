//! The windows in which answers to requests are followed, in all processes at the same time: their probes are tracepoints, which
//! the kernel has for the whole host or not at all. The busiest process decides what they may cost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::{
    Budget,
    duty::{Duty, Excess, Step},
    windows::{LOOK, LOOK_LATER, YOUNG_NS, lock_kernel},
};
use crate::{
    agent::lock,
    bpf::{Kernel, attach::TracePoints, detach::Detaching},
    collector::{Collector, monotonic_ns},
    model::{Availability, Signal},
};

/// The windows of `async_context`.
pub(super) struct HostWindows {
    shared: Arc<Mutex<Collector>>,
    kernel: Arc<Mutex<Kernel>>,
    duty: Duty,
    /// `None`: no window is open.
    open: Option<(TracePoints, u64)>,
    /// What the last one left behind.
    detaching: Detaching,
    /// Hits by thread when they were last looked at.
    hits: HashMap<u32, u64>,
    /// Of whichever process had most between two looks, added up.
    most_hits: u64,
    /// Why nothing is followed at the moment.
    note: Option<Arc<str>>,
    /// It will not be tried again.
    given_up: bool,
    budget: Budget,
    look_ns: u64,
}

impl HostWindows {
    /// `cost_ns`: of one hit.
    pub(super) fn new(
        shared: Arc<Mutex<Collector>>,
        kernel: Arc<Mutex<Kernel>>,
        budget: Budget,
        cost_ns: f64,
    ) -> Self {
        let now_ns = monotonic_ns();
        let is_off = budget.overhead <= 0.0;
        Self {
            shared,
            kernel,
            duty: Duty::new(budget, cost_ns, now_ns),
            open: None,
            detaching: Detaching::default(),
            hits: HashMap::new(),
            most_hits: 0,
            note: is_off.then(|| "switched off by --max-overhead 0".into()),
            given_up: is_off,
            budget,
            look_ns: now_ns,
        }
    }

    /// When it wants to be looked at.
    pub(super) const fn due_ns(&self) -> u64 {
        self.look_ns
    }

    /// Opens and closes. To be called often.
    pub(super) fn look(&mut self) {
        let now_ns = monotonic_ns();
        if now_ns < self.look_ns {
            return;
        }
        let is_young = self.open.as_ref().is_some_and(|(_, since_ns)| now_ns - since_ns < YOUNG_NS);
        self.look_ns = now_ns + if is_young { LOOK } else { LOOK_LATER }.as_nanos() as u64;
        if !self.given_up {
            self.count();
            match self.duty.step(now_ns, self.most_hits) {
                Step::Keep => {}
                Step::Open => self.open(),
                Step::Close => self.close(),
                Step::TakeOut(excess) => {
                    self.close();
                    tracing::warn!(?excess, "following answers costs more than --max-overhead allows");
                    self.note = Some(sentence(excess, self.budget).into());
                }
            }
        }
        self.tell();
    }

    /// Adds what the busiest process has had since the last look.
    fn count(&mut self) {
        let mut by_process: HashMap<u32, u64> = HashMap::new();
        let records = lock(&self.shared).maps.questions.contexts.all();
        self.hits.retain(|tid, _| records.contains_key(tid));
        for (tid, record) in records {
            let hits = record.reads + record.writes;
            let before = self.hits.insert(tid, hits).unwrap_or(0);
            *by_process.entry(record.tgid).or_default() += hits.saturating_sub(before);
        }
        self.most_hits += by_process.into_values().max().unwrap_or(0);
    }

    fn open(&mut self) {
        std::mem::take(&mut self.detaching).wait();
        let attached = lock_kernel(&self.kernel).attach_async_context();
        match attached {
            Ok(points) => {
                let now_ns = monotonic_ns();
                self.open = Some((points, now_ns));
                self.look_ns = now_ns + LOOK.as_nanos() as u64;
                self.note = None;
                lock(&self.shared).answers_seen.begin(now_ns);
            }
            Err(reason) => {
                tracing::warn!(reason, "answers to requests are not followed");
                self.note = Some(format!("answers to requests cannot be followed: {reason}").into());
                self.given_up = true;
            }
        }
    }

    fn close(&mut self) {
        let Some((points, _)) = self.open.take() else { return };
        lock(&self.shared).answers_seen.end(monotonic_ns());
        self.detaching = points.detach_aside();
    }

    /// Says in the signals of every process why nothing is followed, or takes that back. What a process lacks for itself stays.
    fn tell(&self) {
        let mut shared = lock(&self.shared);
        for target in shared.targets.live_mut() {
            let told = match target.signals.get(&Signal::AsyncContext) {
                Some(Availability::Unavailable(reason)) if is_ours(reason) => Some(reason),
                Some(Availability::Unavailable(_)) => continue,
                Some(Availability::Ok) | None => None,
            };
            if told != self.note.as_ref() {
                let availability = self.note.clone().map_or(Availability::Ok, Availability::Unavailable);
                Arc::make_mut(&mut target.signals).insert(Signal::AsyncContext, availability);
            }
        }
    }
}

impl Drop for HostWindows {
    fn drop(&mut self) {
        self.close();
    }
}

/// Words with which the reasons of this module begin.
const OURS: [&str; 3] = ["taken out: ", "switched off by ", "answers to requests cannot be followed: "];

fn is_ours(reason: &str) -> bool {
    OURS.iter().any(|begin| reason.starts_with(begin))
}

fn sentence(excess: Excess, budget: Budget) -> String {
    format!(
        "taken out: {:.0} reads and writes per second of one process took {:.0} % of a processor more, and --max-overhead allows {} % \
         over time; tried again after {} s",
        excess.hits_per_s,
        excess.overhead * 100.0,
        budget.overhead * 100.0,
        excess.retry_ns / 1_000_000_000,
    )
}

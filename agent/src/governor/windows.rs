//! Opens and closes the windows in which processes are looked at; [`Duty`] says when.

use std::{
    collections::BTreeMap,
    fs::File,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use nodeprobe_ebpf::duty_record::DUTY_MICROTASKS;

use super::{
    Budget,
    cost::Costs,
    duty::{Duty, Excess, Step},
    host::HostWindows,
};
use crate::{
    agent::lock,
    binary::Instruction,
    bpf::{Attached, HookTarget, Kernel},
    collector::{Collector, monotonic_ns},
    model::{Availability, ProcessId, Signal},
    readout::duty::DutyTable,
};

/// How often a young window is looked at: a storm of 400 000 hits a second has then cost some milliseconds.
pub(super) const LOOK: Duration = Duration::from_millis(25);
/// Afterwards.
pub(super) const LOOK_LATER: Duration = Duration::from_millis(250);
pub(super) const YOUNG_NS: u64 = 1_000_000_000;
/// What began in a window is waited for so long at its end: else long drains would be missed more often than short ones.
const WAIT_FOR_END_NS: u64 = 2_000_000_000;

/// A group of probes of a process and where they go.
#[derive(Debug)]
pub struct Governed {
    pub id: ProcessId,
    /// `duty_record::DUTY_*`.
    pub group: usize,
    /// The one that is not available while they are out; `None`: another source stands in.
    pub signal: Option<Signal>,
    pub file: File,
    pub targets: Vec<HookTarget>,
    /// The slowest of those that the probes replace.
    pub instruction: Instruction,
}

/// Process and `duty_record::DUTY_*`.
type Key = (u32, usize);

/// The windows of all processes.
pub struct Windows {
    shared: Arc<Mutex<Collector>>,
    kernel: Arc<Mutex<Kernel>>,
    table: DutyTable,
    budget: Budget,
    costs: Costs,
    host: HostWindows,
    /// By process and group.
    watched: BTreeMap<Key, Watched>,
    /// Number of the window that was opened last.
    last_number: u64,
}

struct Watched {
    governed: Governed,
    duty: Duty,
    open: Option<Open>,
    look_ns: u64,
}

/// A window.
struct Open {
    number: u64,
    since_ns: u64,
    attached: Attached,
    /// Since when it is to be closed.
    closing_ns: Option<u64>,
}

impl Windows {
    pub fn new(
        shared: Arc<Mutex<Collector>>,
        kernel: Arc<Mutex<Kernel>>,
        table: DutyTable,
        budget: Budget,
        costs: Costs,
    ) -> Self {
        let host = HostWindows::new(Arc::clone(&shared), Arc::clone(&kernel), budget, costs.traced_ns);
        Self { shared, kernel, table, budget, costs, host, watched: BTreeMap::new(), last_number: 0 }
    }

    /// Runs until `stop`, or until nobody can name processes any more.
    pub fn run(&mut self, processes: &mpsc::Receiver<Governed>, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match processes.recv_timeout(self.until_next_look()) {
                Ok(governed) => self.add(governed),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            self.look();
            self.host.look();
        }
    }

    fn until_next_look(&self) -> Duration {
        let due_ns = self.watched.values().map(|watched| watched.look_ns).chain([self.host.due_ns()]).min();
        due_ns.map_or(LOOK_LATER, |due_ns| {
            Duration::from_nanos(due_ns.saturating_sub(monotonic_ns())).min(LOOK_LATER)
        })
    }

    fn add(&mut self, governed: Governed) {
        let key = (governed.id.pid, governed.group);
        // The program that ran under this pid before.
        self.remove(key);
        if self.budget.overhead <= 0.0 {
            self.note(governed.id, governed.signal, Some("switched off by --max-overhead 0".to_owned()));
            return;
        }
        let now_ns = monotonic_ns();
        let duty = Duty::new(self.budget, self.costs.of(governed.instruction), now_ns);
        self.watched.insert(key, Watched { governed, duty, open: None, look_ns: now_ns });
    }

    fn look(&mut self) {
        let due: Vec<Key> = {
            let now_ns = monotonic_ns();
            self.watched
                .iter()
                .filter(|(_, watched)| watched.look_ns <= now_ns)
                .map(|(key, _)| *key)
                .collect()
        };
        for key in due {
            self.look_at(key);
        }
    }

    fn look_at(&mut self, key: Key) {
        let Some(watched) = self.watched.get_mut(&key) else { return };
        let Governed { id, signal, .. } = watched.governed;
        let (pid, group) = key;
        if lock(&self.shared).targets.get(pid).is_none_or(|target| target.id != id) {
            self.remove(key);
            return;
        }
        let now_ns = monotonic_ns();
        let hits = self.table.hits(pid, group);
        let step = watched.duty.step(now_ns, hits);
        let is_young = watched
            .open
            .as_ref()
            .is_some_and(|open| now_ns - open.since_ns < YOUNG_NS || open.closing_ns.is_some());
        watched.look_ns = now_ns + if is_young { LOOK } else { LOOK_LATER }.as_nanos() as u64;
        match step {
            Step::Open => self.open(key),
            Step::Keep if watched.open.as_ref().is_some_and(|open| open.closing_ns.is_some()) => {
                self.close_when_done(key);
            }
            Step::Keep => {}
            Step::Close => {
                if let Some(open) = &mut watched.open {
                    open.closing_ns = Some(now_ns);
                }
                self.close_when_done(key);
            }
            Step::TakeOut(excess) => {
                self.close(key);
                tracing::warn!(
                    target.pid = pid,
                    group,
                    ?excess,
                    "probes cost more than --max-overhead allows"
                );
                self.note(id, signal, Some(sentence(excess, self.budget)));
            }
        }
    }

    fn open(&mut self, key: Key) {
        let (pid, group) = key;
        // One that is still closing: its hits are what the decision to open was made with, and must not fall.
        let hits = self.table.hits(pid, group);
        self.close(key);
        let Some(watched) = self.watched.get_mut(&key) else { return };
        let Governed { id, signal, .. } = watched.governed;
        self.last_number += 1;
        let number = self.last_number;
        if let Err(error) = self.table.open(pid, group, number, hits) {
            self.give_up(key, format!("the table of windows cannot be written: {error}"));
            return;
        }
        let Some(only) = NonZeroU32::new(pid) else { return };
        let Governed { file, targets, .. } = &watched.governed;
        let (attached, mut failed) =
            lock_kernel(&self.kernel).attach_process(file, targets.iter().copied(), only);
        if let Some((target, reason)) = failed.pop() {
            self.table.close(pid, group);
            drop(attached);
            self.give_up(key, format!("the kernel refused the probe `{}`: {reason}", target.program));
            return;
        }
        let since_ns = monotonic_ns();
        watched.open = Some(Open { number, since_ns, attached, closing_ns: None });
        watched.look_ns = since_ns + LOOK.as_nanos() as u64;
        if group == DUTY_MICROTASKS
            && let Some(target) = lock(&self.shared).targets.live_of(id)
        {
            target.drains_seen.begin(since_ns);
        }
        self.note(id, signal, None);
    }

    /// Not tried again.
    fn give_up(&mut self, key: Key, reason: String) {
        let Some(Watched { governed: Governed { id, signal, .. }, .. }) = self.watched.remove(&key) else {
            return;
        };
        tracing::warn!(target.pid = key.0, group = key.1, reason, "probes cannot be put in");
        self.note(id, signal, Some(reason));
    }

    /// Closes, unless a drain is under way that began in this window and may still be told.
    fn close_when_done(&mut self, key: Key) {
        let Some(Watched { open: Some(open), .. }) = self.watched.get(&key) else { return };
        let waited_ns = monotonic_ns() - open.closing_ns.unwrap_or(open.since_ns);
        let may_wait = key.1 == DUTY_MICROTASKS && waited_ns < WAIT_FOR_END_NS;
        let main = if may_wait { lock(&self.shared).maps.thread(key.0) } else { None };
        if main.is_none_or(|main| main.drain_since_ns == 0 || main.drain_window != open.number) {
            self.close(key);
        }
    }

    fn close(&mut self, key: Key) {
        let Some(watched) = self.watched.get_mut(&key) else { return };
        let Some(open) = watched.open.take() else { return };
        let (pid, group) = key;
        self.table.close(pid, group);
        if group == DUTY_MICROTASKS
            && let Some(target) = lock(&self.shared).targets.live_of(watched.governed.id)
        {
            target.drains_seen.end(monotonic_ns());
        }
        drop(open.attached);
    }

    fn remove(&mut self, key: Key) {
        self.close(key);
        self.watched.remove(&key);
    }

    /// Says in the signals of a process why it is not looked at; `None`: it is.
    fn note(&self, id: ProcessId, signal: Option<Signal>, reason: Option<String>) {
        let Some(signal) = signal else { return };
        let mut shared = lock(&self.shared);
        let Some(target) = shared.targets.live_of(id) else { return };
        let availability = reason.map_or(Availability::Ok, |reason| Availability::Unavailable(reason.into()));
        if target.signals.get(&signal) != Some(&availability) {
            Arc::make_mut(&mut target.signals).insert(signal, availability);
        }
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let keys: Vec<Key> = self.watched.keys().copied().collect();
        for key in keys {
            self.remove(key);
        }
    }
}

/// The lock of the kernel's side. A panic elsewhere leaves attachments as they are, so it is taken all the same.
pub(crate) fn lock_kernel(kernel: &Mutex<Kernel>) -> std::sync::MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn sentence(excess: Excess, budget: Budget) -> String {
    format!(
        "taken out: {:.0} hits per second took {:.0} % of a processor, and --max-overhead allows {} % over time; tried again after {} s",
        excess.hits_per_s,
        excess.overhead * 100.0,
        budget.overhead * 100.0,
        excess.retry_ns / 1_000_000_000,
    )
}

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

/// A process and where its probes go.
#[derive(Debug)]
pub struct Governed {
    pub id: ProcessId,
    pub file: File,
    pub targets: Vec<HookTarget>,
    /// The slowest of those that the probes replace.
    pub instruction: Instruction,
}

/// The windows of all processes.
pub struct Windows {
    shared: Arc<Mutex<Collector>>,
    kernel: Arc<Mutex<Kernel>>,
    table: DutyTable,
    budget: Budget,
    costs: Costs,
    host: HostWindows,
    processes: BTreeMap<u32, Watched>,
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
        Self { shared, kernel, table, budget, costs, host, processes: BTreeMap::new(), last_number: 0 }
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
        let due_ns = self.processes.values().map(|watched| watched.look_ns).chain([self.host.due_ns()]).min();
        due_ns.map_or(LOOK_LATER, |due_ns| {
            Duration::from_nanos(due_ns.saturating_sub(monotonic_ns())).min(LOOK_LATER)
        })
    }

    fn add(&mut self, governed: Governed) {
        let pid = governed.id.pid;
        // The program that ran under this pid before.
        self.remove(pid);
        if self.budget.overhead <= 0.0 {
            self.note(governed.id, Some("switched off by --max-overhead 0".to_owned()));
            return;
        }
        let now_ns = monotonic_ns();
        let duty = Duty::new(self.budget, self.costs.of(governed.instruction), now_ns);
        self.processes.insert(pid, Watched { governed, duty, open: None, look_ns: now_ns });
    }

    fn look(&mut self) {
        let due: Vec<u32> = {
            let now_ns = monotonic_ns();
            self.processes
                .iter()
                .filter(|(_, watched)| watched.look_ns <= now_ns)
                .map(|(pid, _)| *pid)
                .collect()
        };
        for pid in due {
            self.look_at(pid);
        }
    }

    fn look_at(&mut self, pid: u32) {
        let Some(watched) = self.processes.get_mut(&pid) else { return };
        let id = watched.governed.id;
        if lock(&self.shared).targets.get(pid).is_none_or(|target| target.id != id) {
            self.remove(pid);
            return;
        }
        let now_ns = monotonic_ns();
        let hits = self.table.hits(pid, DUTY_MICROTASKS);
        let step = watched.duty.step(now_ns, hits);
        let is_young = watched
            .open
            .as_ref()
            .is_some_and(|open| now_ns - open.since_ns < YOUNG_NS || open.closing_ns.is_some());
        watched.look_ns = now_ns + if is_young { LOOK } else { LOOK_LATER }.as_nanos() as u64;
        match step {
            Step::Open => self.open(pid),
            Step::Keep if watched.open.as_ref().is_some_and(|open| open.closing_ns.is_some()) => {
                self.close_when_done(pid);
            }
            Step::Keep => {}
            Step::Close => {
                if let Some(open) = &mut watched.open {
                    open.closing_ns = Some(now_ns);
                }
                self.close_when_done(pid);
            }
            Step::TakeOut(excess) => {
                self.close(pid);
                tracing::warn!(target.pid = pid, ?excess, "probes cost more than --max-overhead allows");
                self.note(id, Some(sentence(excess, self.budget)));
            }
        }
    }

    fn open(&mut self, pid: u32) {
        // One that is still closing: its hits are what the decision to open was made with, and must not fall.
        let hits = self.table.hits(pid, DUTY_MICROTASKS);
        self.close(pid);
        let Some(watched) = self.processes.get_mut(&pid) else { return };
        let id = watched.governed.id;
        self.last_number += 1;
        let number = self.last_number;
        if let Err(error) = self.table.open(pid, DUTY_MICROTASKS, number, hits) {
            self.note(id, Some(format!("the table of windows cannot be written: {error}")));
            self.processes.remove(&pid);
            return;
        }
        let Some(only) = NonZeroU32::new(pid) else { return };
        let Governed { file, targets, .. } = &watched.governed;
        let (attached, mut failed) =
            lock_kernel(&self.kernel).attach_process(file, targets.iter().copied(), only);
        if let Some((program, reason)) = failed.pop() {
            self.table.close(pid);
            attached.detach_aside();
            self.note(id, Some(format!("the kernel refused the probe `{program}`: {reason}")));
            self.processes.remove(&pid);
            return;
        }
        let since_ns = monotonic_ns();
        watched.open = Some(Open { number, since_ns, attached, closing_ns: None });
        watched.look_ns = since_ns + LOOK.as_nanos() as u64;
        let mut shared = lock(&self.shared);
        if let Some(target) = shared.targets.live_of(id) {
            target.drains_seen.begin(since_ns);
        }
        drop(shared);
        self.note(id, None);
    }

    /// Closes, unless a drain is under way that began in this window and may still be told.
    fn close_when_done(&mut self, pid: u32) {
        let Some(Watched { open: Some(open), .. }) = self.processes.get(&pid) else { return };
        let waited_ns = monotonic_ns() - open.closing_ns.unwrap_or(open.since_ns);
        let main = if waited_ns < WAIT_FOR_END_NS { lock(&self.shared).maps.thread(pid) } else { None };
        if main.is_none_or(|main| main.drain_since_ns == 0 || main.drain_window != open.number) {
            self.close(pid);
        }
    }

    fn close(&mut self, pid: u32) {
        let Some(watched) = self.processes.get_mut(&pid) else { return };
        let Some(open) = watched.open.take() else { return };
        self.table.close(pid);
        if let Some(target) = lock(&self.shared).targets.live_of(watched.governed.id) {
            target.drains_seen.end(monotonic_ns());
        }
        open.attached.detach_aside();
    }

    fn remove(&mut self, pid: u32) {
        self.close(pid);
        self.processes.remove(&pid);
    }

    /// Says in the signals of a process why it is not looked at; `None`: it is.
    fn note(&self, id: ProcessId, reason: Option<String>) {
        let mut shared = lock(&self.shared);
        let Some(target) = shared.targets.live_of(id) else { return };
        let availability = reason.map_or(Availability::Ok, |reason| Availability::Unavailable(reason.into()));
        if target.signals.get(&Signal::Microtasks) != Some(&availability) {
            Arc::make_mut(&mut target.signals).insert(Signal::Microtasks, availability);
        }
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        for pid in pids {
            self.remove(pid);
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

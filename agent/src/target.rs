//! The table of observed processes, where the two lanes meet: discovery fills it, the collector joins the kernel's
//! records with it by process id.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    cgroup::QuotaCost,
    model::{Availability, GroupMemory, Identity, ProcessId, Signal, Startup, Stdio, startup::PackageTime},
    v8::{ContextLayout, Layout, V8File},
};

/// One observed process.
#[derive(Debug)]
pub struct Target {
    pub id: ProcessId,
    pub identity: Arc<Identity>,
    pub signals: Arc<BTreeMap<Signal, Availability>>,
    pub started: SystemTime,
    pub observed_since: SystemTime,
    /// `CLOCK_MONOTONIC` when discovery began to look at it; an `exec` before that is no news of it.
    pub looked_at_ns: u64,
    /// `CLOCK_MONOTONIC` of the `exec` it began with; 0 = it ran before the agent. Threads that ended earlier belong to
    /// a former program under the same pid.
    pub begin_ns: u64,
    /// The probes were in place when the process began, so nothing of it can have been missed.
    pub from_start: bool,
    /// A loop thread of it was seen.
    pub measured: bool,
    /// Who took the time of its first turn.
    pub startup_packages: Arc<[PackageTime]>,
    /// As it was known last: what tells of it, the records of threads, may end before the process.
    pub startup: Option<Arc<Startup>>,
    /// `CLOCK_MONOTONIC` when the memory of its control group was read last, and what that was.
    pub group_memory: (u64, Option<GroupMemory>),
    /// What the quotas of its control groups have cost it.
    pub quota_cost: QuotaCost,
    /// Streams of threads that have ended; the sums of a process never go back.
    pub ended_streams: [Stdio; 2],
    /// Names of threads that have been read.
    pub thread_names: HashMap<u32, String>,
    /// When drains of microtask queues were looked at.
    pub drains_seen: Seen,
    /// What its stacks are decoded with; `None`: they cannot be, see `signals`.
    pub stacks: Option<StackSource>,
    /// Where its threads keep async contexts; `None`: not known, see `signals`.
    pub async_context: Option<ContextLayout>,
    /// In its environments, the address of async ids, by which the note is found that tells whether Node has told of rejections.
    /// `None`: it is not to be used.
    pub rejection_ids_offset: Option<u32>,
}

/// For how long something was looked at, in windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    closed_ns: u64,
    /// `CLOCK_MONOTONIC` when the open window was opened.
    open_ns: Option<u64>,
}

impl Seen {
    /// A window is opened.
    pub fn begin(&mut self, now_ns: u64) {
        self.end(now_ns);
        self.open_ns = Some(now_ns);
    }

    /// It is closed; nothing where none is open.
    pub fn end(&mut self, now_ns: u64) {
        self.closed_ns = self.until(now_ns);
        self.open_ns = None;
    }

    /// All windows up to now.
    pub fn until(self, now_ns: u64) -> u64 {
        self.closed_ns + self.open_ns.map_or(0, |open_ns| now_ns.saturating_sub(open_ns))
    }
}

/// What the stacks of a process are decoded with.
#[derive(Clone, Debug)]
pub struct StackSource {
    pub layout: Arc<Layout>,
    pub file: V8File,
}

impl StackSource {
    /// Whether it is of the same program.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.layout, &other.layout)
    }
}

impl Target {
    /// A process that has just been found.
    pub fn new(
        id: ProcessId,
        identity: Identity,
        signals: Arc<BTreeMap<Signal, Availability>>,
        started: SystemTime,
        observed_since: SystemTime,
        from_start: bool,
    ) -> Self {
        Self {
            id,
            identity: Arc::new(identity),
            signals,
            started,
            observed_since,
            looked_at_ns: 0,
            begin_ns: 0,
            from_start,
            measured: false,
            startup_packages: Arc::default(),
            startup: None,
            group_memory: (0, None),
            quota_cost: QuotaCost::default(),
            ended_streams: [Stdio::default(), Stdio::default()],
            thread_names: HashMap::new(),
            drains_seen: Seen::default(),
            stacks: None,
            async_context: None,
            rejection_ids_offset: None,
        }
    }
}

/// Observed processes by pid, and those that have ended since the last snapshot.
#[derive(Debug, Default)]
pub struct Targets {
    live: BTreeMap<u32, Target>,
    ended: Vec<Target>,
    registered: u64,
}

impl Targets {
    /// Adds a process; one that is there under the same pid has ended.
    pub fn add(&mut self, target: Target) {
        self.end(target.id.pid);
        self.registered += 1;
        self.live.insert(target.id.pid, target);
    }

    /// Takes a process off the live ones; it appears once more, as ended.
    pub fn end(&mut self, pid: u32) {
        self.ended.extend(self.live.remove(&pid));
    }

    pub fn get(&self, pid: u32) -> Option<&Target> {
        self.live.get(&pid)
    }

    /// The process that `pid` means, be it one that has just ended.
    pub fn find_mut(&mut self, pid: u32) -> Option<&mut Target> {
        match self.live.get_mut(&pid) {
            Some(target) => Some(target),
            None => self.ended.iter_mut().rfind(|target| target.id.pid == pid),
        }
    }

    /// As [`find_mut`](Self::find_mut), for looking only.
    pub fn find(&self, pid: u32) -> Option<&Target> {
        self.live.get(&pid).or_else(|| self.ended.iter().rfind(|target| target.id.pid == pid))
    }

    /// How often a process was added.
    pub fn registered(&self) -> u64 {
        self.registered
    }

    /// The process if it lives and has not become another program.
    pub fn live_of(&mut self, id: ProcessId) -> Option<&mut Target> {
        self.live.get_mut(&id.pid).filter(|target| target.id == id)
    }

    pub fn live(&self) -> impl Iterator<Item = &Target> {
        self.live.values()
    }

    pub fn live_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        self.live.values_mut()
    }

    pub fn take_ended(&mut self) -> Vec<Target> {
        std::mem::take(&mut self.ended)
    }

    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(pid: u32, start_ticks: u64) -> Target {
        let id = ProcessId { pid, start_ticks };
        let epoch = SystemTime::UNIX_EPOCH;
        Target::new(id, Identity::default(), Arc::default(), epoch, epoch, false)
    }

    #[test]
    fn a_reused_pid_ends_the_former_process() {
        let mut targets = Targets::default();
        targets.add(target(7, 100));
        targets.add(target(7, 200));
        assert_eq!(targets.get(7).unwrap().id.start_ticks, 200);
        let ended: Vec<u64> = targets.take_ended().iter().map(|t| t.id.start_ticks).collect();
        assert_eq!(ended, [100]);
        assert!(targets.take_ended().is_empty());
    }
}

//! Turns and stalls: how they divide by the kernel's parts, and what their samples add to that.

use std::{collections::HashMap, sync::Arc};

use nodeprobe_ebpf::{
    Event, ThreadRecord,
    event::{SLEEP_NS, SLEEP_PART, SLEEP_SYSCALL, STALL_STARTUP},
    part::{PART_CPU_WAIT, PART_GC, PART_STDIO_WRITE, PARTS},
};

use crate::{
    model::{
        Cause, Causes, Culprit, Sleep, Stack, StackTime, ThreadStacks,
        startup::{self, PackageTime},
    },
    stack::culprit::culprit,
    stall::{Sampled, Turns},
    syscalls,
    target::Targets,
};

/// The samples of all loop threads, and how their stalls divide.
#[derive(Debug, Default)]
pub struct Sampling {
    turns: Turns,
    /// By thread: all its stalls that were sampled, divided.
    divided: HashMap<u32, Causes>,
}

/// The turn a thread is in.
#[derive(Debug, Default)]
pub(super) struct CurrentTurn {
    pub(super) causes: Causes,
    pub(super) stack: Option<Arc<Stack>>,
    pub(super) culprit: Option<Culprit>,
}

/// What a stall was spent with.
#[derive(Debug)]
pub(super) struct Division {
    pub(super) causes: Causes,
    pub(super) stacks: Vec<StackTime>,
    pub(super) culprit: Option<Culprit>,
    pub(super) longest_sleep: Option<Sleep>,
    /// Of the start-up only.
    pub(super) packages: Vec<PackageTime>,
}

impl Sampling {
    /// Takes in one decoded sample of a thread in the turn that began at `turn_start_ns`.
    pub fn sample(&mut self, tid: u32, turn_start_ns: u64, sampled: Sampled) {
        self.turns.sample(tid, turn_start_ns, sampled);
    }

    pub(super) fn slept(&mut self, event: &Event) {
        self.turns.slept(event.tid, event.start_ns, event.duration_ns);
    }

    /// A turn has ended as a stall.
    pub(super) fn stalled(&mut self, event: &Event) -> Division {
        let mut causes = causes(event.duration_ns, &event.values);
        let mut longest_sleep = longest_sleep(&event.values);
        let Some(turn) = self.turns.take(event.tid, event.start_ns) else {
            return Division {
                causes,
                stacks: Vec::new(),
                culprit: None,
                longest_sleep,
                packages: Vec::new(),
            };
        };
        turn.divide(&mut causes);
        self.divided.entry(event.tid).or_default().merge(&causes);
        let mut stacks = turn.stacks(&causes, 0);
        let culprit = culprit(&stacks).map(|blame| blame.culprit);
        let packages =
            if event.detail & STALL_STARTUP != 0 { startup::packages(&stacks) } else { Vec::new() };
        stacks.truncate(STACKS_MAX);
        if let Some(sleep) = &mut longest_sleep {
            sleep.file = turn.longest_sleep_file().cloned();
        }
        Division { causes, stacks, culprit, longest_sleep, packages }
    }

    pub(super) fn ended(&mut self, tid: u32) {
        self.turns.end(tid);
    }

    /// Forgets what stalls of threads that are gone divided into.
    pub(super) fn retain(&mut self, lives: impl Fn(u32) -> bool) {
        self.divided.retain(|tid, _| lives(*tid));
    }

    /// What threads were sampled executing since the last call.
    pub(super) fn drain(
        &mut self,
        owner: impl Fn(u32) -> Option<u32>,
        targets: &Targets,
    ) -> Vec<ThreadStacks> {
        let of_thread = |(tid, stacks)| {
            let target = targets.find(owner(tid)?)?;
            Some(ThreadStacks { process: target.id, tid, stacks })
        };
        self.turns.drain().into_iter().filter_map(of_thread).collect()
    }

    /// How the stalls of a thread divide. The kernel's sums are complete; what ran is divided as far as it was sampled.
    pub(super) fn stall_causes(&self, record: &ThreadRecord) -> Causes {
        let mut causes = Causes::from_parts(record.stalls.sum_ns, &record.stall_parts_ns);
        if let Some(divided) = self.divided.get(&record.tid) {
            for cause in [Cause::JavaScript, Cause::Compile, Cause::Native] {
                causes.shift(Cause::OnCpu, cause, divided.ns(cause));
            }
        }
        causes
    }

    /// The turn a thread has been in for `age_ns`.
    pub(super) fn current_turn(&self, record: &ThreadRecord, age_ns: u64, now_ns: u64) -> CurrentTurn {
        let mut causes = current_turn_causes(record, age_ns, now_ns);
        let Some(turn) = self.turns.turn(record.tid, record.since_ns) else {
            return CurrentTurn { causes, ..CurrentTurn::default() };
        };
        turn.divide(&mut causes);
        let is_asleep = record.off_cpu_since_ns != 0 && record.off_cpu_woken == 0;
        let asleep_ns = if is_asleep { now_ns.saturating_sub(record.off_cpu_since_ns) } else { 0 };
        let stacks = turn.stacks(&causes, asleep_ns);
        CurrentTurn {
            causes,
            stack: turn.last().cloned(),
            culprit: culprit(&stacks).map(|blame| blame.culprit),
        }
    }
}

/// Stacks that are kept of one stall, those with the most time.
const STACKS_MAX: usize = 256;

/// The division of a stall, from its event.
fn causes(duration_ns: u64, values: &[u64]) -> Causes {
    let mut parts_ns = [0; PARTS];
    parts_ns.copy_from_slice(&values[..PARTS]);
    Causes::from_parts(duration_ns, &parts_ns)
}

/// The longest sleep in a stall, from its event.
fn longest_sleep(values: &[u64]) -> Option<Sleep> {
    let (duration_ns, syscall) = (values[SLEEP_NS], u32::try_from(values[SLEEP_SYSCALL]).ok());
    let cause = Cause::of_part(values[SLEEP_PART] as usize);
    (duration_ns > 0).then(|| Sleep {
        duration_ns,
        cause,
        syscall: syscall.and_then(syscalls::name),
        file: None,
    })
}

/// The division of the turn under way. A sleep or a bracket that is still open counts as far as it has come: the user
/// who looks during it must see it.
fn current_turn_causes(record: &ThreadRecord, age_ns: u64, now_ns: u64) -> Causes {
    let mut parts_ns = record.turn_parts_ns;
    let since = |begin_ns: u64| now_ns.saturating_sub(begin_ns);
    let off_cpu = if record.off_cpu_woken != 0 { PART_CPU_WAIT } else { record.off_cpu_part as usize };
    if record.off_cpu_since_ns != 0
        && let Some(part_ns) = parts_ns.get_mut(off_cpu)
    {
        *part_ns += since(record.off_cpu_since_ns);
    }
    let open = if record.gc_active != 0 {
        Some((PART_GC, record.gc_start_ns, record.gc_opened_ns))
    } else if record.write_start_ns != 0 {
        Some((PART_STDIO_WRITE, record.write_start_ns, record.write_opened_ns))
    } else {
        None
    };
    if let Some((part, start_ns, opened_ns)) = open {
        let counted_ns = (parts_ns[part] + parts_ns[PART_CPU_WAIT]).saturating_sub(opened_ns);
        parts_ns[part] += since(start_ns).saturating_sub(counted_ns);
    }
    Causes::from_parts(age_ns, &parts_ns)
}

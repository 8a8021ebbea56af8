//! Stacks that were not taken by the clock, counted; and which of the rejected promises they belong to nobody handled.

use std::{collections::HashMap, sync::Arc};

use nodeprobe_ebpf::{
    Event,
    sample::{SAMPLE_CONTEXT, SAMPLE_DEOPT, SAMPLE_POOL, SAMPLE_REJECTION, SAMPLE_REQUEST},
};

use crate::{
    model::{Occasion, OccasionStack, ProcessId, Stack},
    stack::callback::runs_in_context,
};

/// Distinct stacks between two snapshots at most; more are counted with none.
const STACKS_MAX: usize = 4096;
/// Rejections of one thread whose fate is not known yet, at most.
const UNDECIDED_MAX: usize = 64;
/// Requests that are not answered, at most.
const REQUESTS_MAX: usize = 16_384;

/// Stacks by what they were taken for.
#[derive(Debug, Default)]
pub struct Occasions {
    counted: HashMap<(ProcessId, u32, Occasion, Arc<Stack>), u64>,
    /// By thread: rejections of the turn that is under way, of which Node has not told.
    undecided: HashMap<u32, Undecided>,
    /// By thread and descriptor: whether what was written when a request was read was written with an async context.
    requests: HashMap<(u32, i32), bool>,
}

#[derive(Debug, Default)]
struct Undecided {
    turn_start_ns: u64,
    /// With the slot of the promise (`ThreadRecord::rejected`), -1 = it has none.
    stacks: Vec<(i32, ProcessId, Arc<Stack>)>,
}

impl Occasions {
    /// Takes in one decoded stack, and whether code is left that V8 made to be entered in a running loop. `flags` and `detail`
    /// are those of its sample.
    pub fn sample(
        &mut self,
        (process, tid): (ProcessId, u32),
        (flags, detail): (u32, i32),
        turn_start_ns: u64,
        (stack, in_loop_code): (Arc<Stack>, bool),
    ) {
        if flags & SAMPLE_REJECTION != 0 {
            let undecided = self.undecided.entry(tid).or_default();
            if undecided.turn_start_ns != turn_start_ns {
                *undecided = Undecided { turn_start_ns, stacks: Vec::new() };
            }
            // The slot is free again when the promise that had it was handled.
            undecided.stacks.retain(|(slot, ..)| *slot != detail || detail < 0);
            if undecided.stacks.len() < UNDECIDED_MAX {
                undecided.stacks.push((detail, process, stack));
            }
            return;
        }
        if flags & SAMPLE_REQUEST != 0 {
            if self.requests.len() < REQUESTS_MAX {
                self.requests.insert((tid, detail), runs_in_context(&stack));
            }
            return;
        }
        let had_context = detail < 0 || self.requests.remove(&(tid, detail)).unwrap_or(false);
        let occasion = match flags {
            flags if flags & SAMPLE_DEOPT != 0 && in_loop_code => Occasion::LoopExit,
            flags if flags & SAMPLE_DEOPT != 0 => Occasion::Deopt,
            flags if flags & SAMPLE_POOL != 0 => Occasion::PoolWork,
            flags if flags & SAMPLE_CONTEXT != 0 && had_context => Occasion::LostContext,
            flags if flags & SAMPLE_CONTEXT != 0 => Occasion::NoContext,
            _ => Occasion::Allocation,
        };
        // Of allocations, pages.
        let weight =
            if occasion == Occasion::Allocation { u64::try_from(detail).unwrap_or(0).max(1) } else { 1 };
        self.count((process, tid), occasion, stack, weight);
    }

    /// Node has told of these rejections, or their turn has ended: nobody has handled them.
    pub(super) fn rejected(&mut self, event: &Event) {
        let Some(undecided) = self.undecided.remove(&event.tid) else { return };
        if undecided.turn_start_ns != event.start_ns {
            return;
        }
        let slots = event.values[0];
        // Those without a slot are told apart by number only.
        let with_slot = u64::from(slots.count_ones()) + event.values[1];
        let mut without_slot = u64::from(event.detail).saturating_sub(with_slot);
        for (slot, process, stack) in undecided.stacks {
            let is_left = if let Ok(slot) = u32::try_from(slot) {
                slot < u64::BITS && slots & (1 << slot) != 0
            } else {
                let is_left = without_slot > 0;
                without_slot = without_slot.saturating_sub(1);
                is_left
            };
            if is_left {
                self.count((process, event.tid), Occasion::Rejection, stack, 1);
            }
        }
    }

    fn count(
        &mut self,
        (process, tid): (ProcessId, u32),
        occasion: Occasion,
        stack: Arc<Stack>,
        weight: u64,
    ) {
        if self.counted.len() < STACKS_MAX {
            *self.counted.entry((process, tid, occasion, stack)).or_default() += weight;
        }
    }

    pub(super) fn ended(&mut self, tid: u32) {
        self.undecided.remove(&tid);
        self.requests.retain(|(of, _), _| *of != tid);
    }

    /// What was taken since the last call.
    pub(super) fn drain(&mut self) -> Vec<OccasionStack> {
        let stacks = self.counted.drain().map(|((process, tid, occasion, stack), count)| OccasionStack {
            process,
            tid,
            occasion,
            stack,
            count,
        });
        stacks.collect()
    }
}

#[cfg(test)]
mod tests {
    use nodeprobe_ebpf::{EventKind, event::EVENT_VALUES};

    use super::*;

    const PROCESS: ProcessId = ProcessId { pid: 7, start_ticks: 1 };

    fn stack(problem: &'static str) -> Arc<Stack> {
        Arc::new(Stack { problem: Some(problem), ..Stack::default() })
    }

    fn rejected(start_ns: u64, count: u32, slots: u64) -> Event {
        let mut values = [0; EVENT_VALUES];
        values[0] = slots;
        Event {
            kind: EventKind::Rejected as u32,
            detail: count,
            tgid: 7,
            tid: 7,
            start_ns,
            duration_ns: 0,
            values,
        }
    }

    fn names(occasions: &mut Occasions) -> Vec<&'static str> {
        let mut names: Vec<_> = occasions.drain().iter().filter_map(|taken| taken.stack.problem).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_rejections_that_are_left_count() {
        let mut occasions = Occasions::default();
        let mut reject = |slot, turn, name| {
            occasions.sample((PROCESS, 7), (SAMPLE_REJECTION, slot), turn, (stack(name), false));
        };
        reject(0, 100, "of an earlier turn");
        reject(0, 200, "handled, its slot given away");
        reject(0, 200, "left");
        reject(1, 200, "handled");
        reject(-1, 200, "without a slot, left");
        reject(-1, 200, "without a slot, handled");
        occasions.rejected(&rejected(200, 2, 0b01));
        assert_eq!(names(&mut occasions), ["left", "without a slot, left"]);
        occasions.rejected(&rejected(200, 1, 0b01));
        assert!(names(&mut occasions).is_empty(), "a turn ends once");
    }

    #[test]
    fn node_may_tell_of_rejections_several_times_in_a_turn() {
        let mut occasions = Occasions::default();
        for (name, is_left) in [("first", true), ("second", false), ("third", true)] {
            occasions.sample((PROCESS, 7), (SAMPLE_REJECTION, 0), 100, (stack(name), false));
            if is_left {
                occasions.rejected(&rejected(100, 1, 0b01));
            }
        }
        assert_eq!(names(&mut occasions), ["first", "third"]);
    }

    #[test]
    fn code_that_is_left_behind_its_loop_is_told_apart() {
        let mut occasions = Occasions::default();
        for in_loop_code in [true, false, true] {
            occasions.sample((PROCESS, 7), (SAMPLE_DEOPT, 0), 100, (stack("left"), in_loop_code));
        }
        let mut counts: Vec<_> =
            occasions.drain().iter().map(|taken| (taken.occasion, taken.count)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(Occasion::Deopt, 1), (Occasion::LoopExit, 2)]);
    }
}

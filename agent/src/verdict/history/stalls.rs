//! Stalls and sampled stacks of the window, and whom they are blamed on.

use std::sync::Arc;

use super::{History, Seen};
use crate::{
    model::{Category, Cause, Causes, Culprit, Occasion, OccasionStack, Stack, StackTime, Stall},
    stack::{
        allocations::{Allocation, allocations},
        culprit::culprit,
    },
};

/// Some stalls together.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    pub count: usize,
    pub time_ns: u64,
    pub longest_ns: u64,
}

/// Causes that run code, whatever code.
pub const RUNNING: [Cause; 4] = [Cause::JavaScript, Cause::Compile, Cause::Native, Cause::OnCpu];

impl History {
    /// All stalls but the start-up.
    pub fn stalls(&self) -> impl Iterator<Item = &Stall> {
        self.seen.iter().flat_map(|seen| &seen.stalls)
    }

    /// Stalls of which the greatest part was spent with one of `causes` together.
    pub fn stalls_led_by(&self, causes: &[Cause]) -> Stalls {
        let mut sum = Stalls::default();
        for stall in self.stalls().filter(|stall| leads(&stall.causes, causes)) {
            sum.count += 1;
            sum.time_ns += stall.duration_ns;
            sum.longest_ns = sum.longest_ns.max(stall.duration_ns);
        }
        sum
    }

    /// What stalls were spent with one cause, whatever led in them: how many, the time, and the longest such time.
    pub fn stalled_with(&self, cause: Cause) -> Stalls {
        let mut sum = Stalls::default();
        for ns in self.stalls().map(|stall| stall.causes.ns(cause)).filter(|ns| *ns > 0) {
            sum.count += 1;
            sum.time_ns += ns;
            sum.longest_ns = sum.longest_ns.max(ns);
        }
        sum
    }

    /// Whom the time that stalls were spent with one cause is blamed on.
    pub fn blamed_for_cause(&self, cause: Cause) -> Option<Culprit> {
        let with = self.stalls().filter_map(|stall| Some((stall.culprit.as_ref()?, stall.causes.ns(cause))));
        Culprit::of_most(with.filter(|(_, ns)| *ns > 0))
    }

    /// Whom the stalls that are led by `causes` are blamed on.
    pub fn blamed_for_stalls(&self, causes: &[Cause]) -> Option<Culprit> {
        let led = self.stalls().filter(|stall| leads(&stall.causes, causes));
        Culprit::of_most(led.filter_map(|stall| Some((stall.culprit.as_ref()?, stall.duration_ns))))
    }

    /// The turn under way of the main thread: its age, how it divides and who is to blame, if `causes` lead in it.
    pub fn turn_under_way(&self, causes: &[Cause]) -> Option<(u64, Option<&Culprit>)> {
        let seen = self.seen.back().filter(|seen| seen.turn_ns > 0 && leads(&seen.turn_causes, causes))?;
        Some((seen.turn_ns, seen.turn_culprit.as_ref()))
    }

    /// Stacks of stalls but of the start-up.
    pub fn stall_stacks(&self) -> impl Iterator<Item = &StackTime> {
        self.stalls().flat_map(|stall| &stall.stacks)
    }

    /// Everything that was sampled but in intervals of the start-up.
    pub fn stacks(&self) -> impl Iterator<Item = &StackTime> + Clone {
        self.seen.iter().flat_map(|seen| &seen.stacks)
    }

    /// Time on the processor that was sampled, and its part in a category.
    pub fn sampled_ns(&self, category: Category) -> (u64, u64) {
        let on_cpu = || self.stacks().filter(|stack| stack.category != Category::Blocked);
        let of = on_cpu().filter(|stack| stack.category == category).map(|stack| stack.time_ns).sum();
        (on_cpu().map(|stack| stack.time_ns).sum(), of)
    }

    /// Whom those stacks are blamed on.
    pub fn blamed(&self, wanted: impl Fn(&StackTime) -> bool) -> Option<Culprit> {
        let stacks: Vec<StackTime> = self.stacks().filter(|stack| wanted(stack)).cloned().collect();
        culprit(&stacks).map(|blame| blame.culprit)
    }

    /// Stacks that were taken on an occasion.
    pub fn taken(&self, occasion: Occasion) -> impl Iterator<Item = &OccasionStack> {
        let occasions = self.seen.iter().flat_map(|seen| &seen.occasions);
        occasions.filter(move |taken| taken.occasion == occasion)
    }

    /// Whom stacks that were taken on an occasion are blamed on: the function of the application that is innermost in most of
    /// them, and its share of all.
    pub fn blamed_for(&self, occasion: Occasion) -> Option<(Culprit, f64)> {
        self.blamed_where(occasion, |_| true)
    }

    /// The same for those of the stacks that are `wanted`.
    pub fn blamed_where(
        &self,
        occasion: Occasion,
        wanted: impl Fn(&Stack) -> bool,
    ) -> Option<(Culprit, f64)> {
        let taken = self.taken(occasion).filter(|taken| wanted(&taken.stack));
        let mut all = 0;
        let mut innermost: Vec<(Culprit, u64)> = Vec::new();
        for taken in taken {
            all += taken.count;
            let stack = [StackTime {
                stack: Arc::clone(&taken.stack),
                category: Category::Application,
                samples: taken.count,
                time_ns: taken.count.max(1),
            }];
            if let Some(blame) = culprit(&stack) {
                innermost.push((blame.culprit, taken.count));
            }
        }
        let most = Culprit::of_most(innermost.iter().map(|(culprit, count)| (culprit, *count)))?;
        let is_most =
            |culprit: &Culprit| (&culprit.function, &culprit.script) == (&most.function, &most.script);
        let of_most = innermost.iter().filter(|(culprit, _)| is_most(culprit)).map(|(_, count)| count);
        let of_most: u64 = of_most.sum();
        Some((most, of_most as f64 / all as f64))
    }

    /// The functions of the application that allocate most, most first.
    pub fn allocations(&self) -> Vec<Allocation> {
        allocations(self.taken(Occasion::Allocation), self.allocated_bytes())
    }

    /// Intervals in which stacks were taken on an occasion that blame `culprit`, and whether there were some in the later half.
    pub fn intervals_with(&self, occasion: Occasion, culprit: &Culprit) -> (usize, bool) {
        let blames = |seen: &Seen| {
            let taken = seen.occasions.iter().filter(|taken| taken.occasion == occasion);
            taken
                .flat_map(|taken| &taken.stack.frames)
                .any(|frame| (&frame.function, &frame.script) == (&culprit.function, &culprit.script))
        };
        let which: Vec<usize> =
            self.seen.iter().enumerate().filter(|(_, seen)| blames(seen)).map(|(n, _)| n).collect();
        (which.len(), which.last().is_some_and(|last| 2 * last >= self.seen.len()))
    }
}

fn leads(causes: &Causes, wanted: &[Cause]) -> bool {
    let of = |some: &dyn Fn(Cause) -> bool| -> u64 {
        causes.iter().filter(|(cause, _)| some(*cause)).map(|(_, ns)| ns).sum()
    };
    let ours = of(&|cause| wanted.contains(&cause));
    // Those that run code count as one among the others, too.
    let running = if wanted.iter().any(|cause| RUNNING.contains(cause)) {
        0
    } else {
        of(&|cause| RUNNING.contains(&cause))
    };
    let others = causes.iter().filter(|(cause, _)| !wanted.contains(cause) && !RUNNING.contains(cause));
    ours > 0 && ours >= running && others.map(|(_, ns)| ns).all(|ns| ours >= ns)
}

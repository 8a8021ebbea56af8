//! What a loop thread was sampled executing in the last minute, and whom its stalls are blamed on.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::history::RATE_WINDOW_S;
use crate::model::{Culprit, Interval, ProcessId, StackTime, Stall};

/// Stacks kept per thread. A minute at 99 samples per second has fewer; a flood shortens the window instead.
const MAX_STACKS: usize = 8_192;

/// The intervals that reach into the last [`RATE_WINDOW_S`], oldest first.
#[derive(Clone, Debug, Default)]
pub struct RecentStacks {
    spans: VecDeque<Span>,
}

/// One interval. Shared, since a frozen screen keeps a copy of all of them.
#[derive(Clone, Debug)]
struct Span {
    duration_s: f64,
    stacks: Arc<[StackTime]>,
    /// Time of stalls that ended in the interval, by culprit.
    blamed: Arc<[(Culprit, u64)]>,
}

/// Stacks and stalls of one interval by thread.
pub(super) struct Happened<'a> {
    stacks: HashMap<(ProcessId, u32), Vec<&'a StackTime>>,
    stalls: HashMap<(ProcessId, u32), Vec<&'a Stall>>,
}

impl<'a> Happened<'a> {
    pub(super) fn of(interval: &'a Interval) -> Self {
        let mut happened = Self { stacks: HashMap::new(), stalls: HashMap::new() };
        for thread in &interval.stacks {
            happened.stacks.entry((thread.process, thread.tid)).or_default().extend(&thread.stacks);
        }
        for stall in &interval.stalls {
            happened.stalls.entry((stall.process, stall.tid)).or_default().push(stall);
        }
        happened
    }
}

impl RecentStacks {
    pub(super) fn push(&mut self, happened: &Happened<'_>, thread: (ProcessId, u32), duration_s: f64) {
        let mut stacks: Vec<StackTime> =
            happened.stacks.get(&thread).into_iter().flatten().map(|stack| (*stack).clone()).collect();
        if stacks.len() > MAX_STACKS {
            stacks.sort_by_key(|stack| std::cmp::Reverse(stack.time_ns));
            stacks.truncate(MAX_STACKS);
        }
        let mut blamed: HashMap<&Culprit, u64> = HashMap::new();
        for stall in happened.stalls.get(&thread).into_iter().flatten() {
            if let Some(culprit) = &stall.culprit {
                *blamed.entry(culprit).or_default() += stall.duration_ns;
            }
        }
        let blamed = blamed.into_iter().map(|(culprit, ns)| (culprit.clone(), ns)).collect();
        self.spans.push_back(Span { duration_s, stacks: stacks.into(), blamed });
        self.forget();
    }

    fn forget(&mut self) {
        let mut covered_s = self.covered_s();
        let mut stacks: usize = self.spans.iter().map(|span| span.stacks.len()).sum();
        while let Some(oldest) = self.spans.front()
            && self.spans.len() > 1
            && (covered_s - oldest.duration_s >= RATE_WINDOW_S || stacks > MAX_STACKS)
        {
            covered_s -= oldest.duration_s;
            stacks -= oldest.stacks.len();
            self.spans.pop_front();
        }
    }

    /// The time that the stacks were collected in.
    pub fn covered_s(&self) -> f64 {
        self.spans.iter().map(|span| span.duration_s).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = &StackTime> {
        self.spans.iter().flat_map(|span| span.stacks.iter())
    }

    /// Who is to blame for most of the stalled time, with the line that had most of it.
    pub fn culprit(&self) -> Option<Culprit> {
        let mut functions: BTreeMap<_, (u64, &Culprit, u64)> = BTreeMap::new();
        let mut lines: HashMap<&Culprit, u64> = HashMap::new();
        for (culprit, ns) in self.spans.iter().flat_map(|span| span.blamed.iter()) {
            let of_line = lines.entry(culprit).or_default();
            *of_line += ns;
            let key = (&culprit.function, &culprit.script, &culprit.package);
            let (total_ns, leading, leading_ns) = functions.entry(key).or_insert((0, culprit, 0));
            *total_ns += ns;
            if *of_line > *leading_ns {
                (*leading, *leading_ns) = (culprit, *of_line);
            }
        }
        functions.into_values().max_by_key(|(ns, ..)| *ns).map(|(_, culprit, _)| culprit.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn fed(seconds: u64, duration_s: f64, culprits: &[(&str, u32, u64)]) -> RecentStacks {
        let process = sample::sick(301);
        let mut recent = RecentStacks::default();
        for second in 0..seconds {
            let mut interval = sample::interval(second, vec![process.clone()]);
            interval.stacks = vec![sample::thread_stacks(&process)];
            for (function, line, duration_ms) in culprits {
                let mut stall = sample::stall(&process, second, duration_ms * sample::MS);
                stall.culprit = Some(sample::culprit(function, "/srv/app.js", *line));
                interval.stalls.push(stall);
            }
            recent.push(&Happened::of(&interval), (process.id, 301), duration_s);
        }
        recent
    }

    #[test]
    fn stacks_are_those_of_the_last_sixty_seconds() {
        let one = fed(1, 1.0, &[]).iter().count();
        assert!(one > 0);
        for (seconds, duration_s, intervals) in [(10, 1.0, 10), (200, 1.0, 60), (200, 7.0, 9), (3, 120.0, 1)]
        {
            let recent = fed(seconds, duration_s, &[]);
            assert_eq!(recent.iter().count(), intervals * one, "{seconds} of {duration_s} s");
        }
    }

    #[test]
    fn a_flood_of_stacks_is_bounded_and_the_newest_stay() {
        let process = sample::sick(301);
        let mut recent = RecentStacks::default();
        for second in 0..40 {
            let mut interval = sample::interval(second, vec![process.clone()]);
            let mut stacks = sample::thread_stacks(&process);
            stacks.stacks = (0..1_000).map(|_| stacks.stacks[0].clone()).collect();
            interval.stacks = vec![stacks];
            recent.push(&Happened::of(&interval), (process.id, 301), 1.0);
        }
        assert_eq!((recent.iter().count(), recent.covered_s()), (8_000, 8.0));
    }

    #[test]
    fn the_culprit_has_most_of_the_stalled_time_and_its_heaviest_line() {
        let culprits = [("render", 7, 90), ("hash", 41, 60), ("hash", 42, 70)];
        let culprit = fed(3, 1.0, &culprits).culprit().unwrap();
        assert_eq!((&*culprit.function, culprit.line), ("hash", Some(42)));
        assert_eq!(fed(3, 1.0, &[]).culprit(), None);
    }

    #[test]
    fn stacks_of_another_thread_are_not_taken() {
        let process = sample::sick(301);
        let mut interval = sample::interval(0, vec![process.clone()]);
        interval.stacks = vec![sample::thread_stacks(&process)];
        let mut recent = RecentStacks::default();
        recent.push(&Happened::of(&interval), (process.id, 308), 1.0);
        assert_eq!(recent.iter().count(), 0);
    }
}

//! The samples of one turn, and what they say of its time.

use std::{collections::HashMap, sync::Arc};

use nodeprobe_ebpf::sample::SAMPLE_PERIOD_NS;

use crate::{
    model::{Category, Cause, Causes, Stack, StackTime},
    stack::{Situation, cause},
};

/// Distinct stacks of one turn at most; they differ by line, so a long turn of a large program has more. What is beyond
/// counts for its category only. A stack has some kilobytes.
const STACKS_MAX: usize = 512;

/// What the thread did when a stack was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhileSampled {
    /// Ran.
    Running,
    /// Ran in a garbage collection.
    Collecting,
    /// Ran in a write to stdout or stderr.
    Writing,
    /// Fell asleep.
    FallingAsleep,
}

/// One decoded sample.
#[derive(Clone, Debug)]
pub struct Sampled {
    pub stack: Arc<Stack>,
    pub category: Category,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    pub sampled_while: WhileSampled,
    /// How many ticks of the sampling clock it stands for over all turns; in its own turn it is one like any other.
    pub ticks: u64,
    /// The file whose descriptor it falls asleep with.
    pub file: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    samples: u64,
    ticks: u64,
    asleep_ns: u64,
}

/// The samples of one turn.
#[derive(Clone, Debug)]
pub struct Turn {
    pub(super) start_ns: u64,
    counts: HashMap<(Arc<Stack>, Category, WhileSampled), Counts>,
    /// All samples, also those beyond [`STACKS_MAX`] stacks.
    samples: HashMap<(Category, WhileSampled), u64>,
    /// Takes what is beyond.
    uncounted: Counts,
    last: Option<Sampled>,
    /// The last sleep, whose length comes later.
    sleep: Option<Sampled>,
    /// Of the sampled sleeps that have ended: the longest, and its file.
    longest_sleep: (u64, Option<Arc<str>>),
}

impl Turn {
    pub(super) fn new(start_ns: u64) -> Self {
        Self {
            start_ns,
            counts: HashMap::new(),
            samples: HashMap::new(),
            uncounted: Counts::default(),
            last: None,
            sleep: None,
            longest_sleep: (0, None),
        }
    }

    pub(super) fn add(&mut self, sampled: Sampled) {
        let counts = self.counts_of(&sampled);
        counts.samples += 1;
        counts.ticks += sampled.ticks;
        *self.samples.entry((sampled.category, sampled.sampled_while)).or_default() += 1;
        if sampled.sampled_while == WhileSampled::FallingAsleep {
            self.sleep = Some(sampled.clone());
        }
        self.last = Some(sampled);
    }

    pub(super) fn slept(&mut self, began_ns: u64, duration_ns: u64) {
        if let Some(sleep) = self.sleep.take_if(|sleep| sleep.time_ns == began_ns) {
            self.counts_of(&sleep).asleep_ns += duration_ns;
            if duration_ns > self.longest_sleep.0 {
                self.longest_sleep = (duration_ns, sleep.file);
            }
        }
    }

    fn counts_of(&mut self, sampled: &Sampled) -> &mut Counts {
        let key = (Arc::clone(&sampled.stack), sampled.category, sampled.sampled_while);
        if self.counts.len() >= STACKS_MAX && !self.counts.contains_key(&key) {
            return &mut self.uncounted;
        }
        self.counts.entry(key).or_default()
    }

    /// What the longest of its sampled sleeps was for.
    pub fn longest_sleep_file(&self) -> Option<&Arc<str>> {
        self.longest_sleep.1.as_ref()
    }

    /// The stack that was sampled last.
    pub fn last(&self) -> Option<&Arc<Stack>> {
        self.last.as_ref().map(|sampled| &sampled.stack)
    }

    /// Each stack with the time it stands for, most first, of a turn that divides into `causes`. What ran, collected or wrote
    /// divides by samples. A sleep under way counts with `asleep_ns`, the age it has.
    pub fn stacks(&self, causes: &Causes, asleep_ns: u64) -> Vec<StackTime> {
        let cpu = self.per_sample(WhileSampled::Running, ran_ns(causes));
        let gc = self.per_sample(WhileSampled::Collecting, causes.ns(Cause::Gc));
        self.stack_times(
            |sampled_while, counts| {
                let per_sample_ns = match sampled_while {
                    WhileSampled::Running => cpu,
                    WhileSampled::Collecting => gc,
                    WhileSampled::Writing => SAMPLE_PERIOD_NS as f64,
                    WhileSampled::FallingAsleep => 0.0,
                };
                (counts.samples as f64 * per_sample_ns) as u64
            },
            asleep_ns,
        )
    }

    /// The same with the sampling period for every tick: where no cause is known for the whole.
    pub fn by_period(&self) -> Vec<StackTime> {
        self.stack_times(
            |sampled_while, counts| match sampled_while {
                WhileSampled::FallingAsleep => 0,
                _ => counts.ticks * SAMPLE_PERIOD_NS,
            },
            0,
        )
    }

    fn stack_times(&self, awake_ns: impl Fn(WhileSampled, &Counts) -> u64, asleep_ns: u64) -> Vec<StackTime> {
        let mut times: Vec<StackTime> = Vec::with_capacity(self.counts.len());
        for ((stack, category, sampled_while), counts) in &self.counts {
            let mut time_ns = awake_ns(*sampled_while, counts) + counts.asleep_ns;
            let is_asleep = |sleep: &Sampled| {
                *sampled_while == WhileSampled::FallingAsleep && Arc::ptr_eq(&sleep.stack, stack)
            };
            if self.sleep.as_ref().is_some_and(is_asleep) {
                time_ns += asleep_ns;
            }
            let category =
                if *sampled_while == WhileSampled::FallingAsleep { Category::Blocked } else { *category };
            times.push(StackTime { stack: Arc::clone(stack), category, samples: counts.samples, time_ns });
        }
        times.sort_by(|a, b| b.time_ns.cmp(&a.time_ns).then(b.samples.cmp(&a.samples)));
        times
    }

    fn per_sample(&self, wanted: WhileSampled, total_ns: u64) -> f64 {
        let samples: u64 = self
            .counts
            .iter()
            .filter(|((.., sampled_while), _)| *sampled_while == wanted)
            .map(|(_, counts)| counts.samples)
            .sum();
        // None of them may have been in the half millisecond that this kind of time took.
        if samples == 0 { 0.0 } else { total_ns as f64 / samples as f64 }
    }

    /// Divides what ran by what the samples say it ran. Without a sample it stays as it is.
    pub fn divide(&self, causes: &mut Causes) {
        let mut samples = [0_u64; 3];
        let mut unknown = 0;
        for ((category, sampled_while), count) in &self.samples {
            if *sampled_while != WhileSampled::Running {
                continue;
            }
            match cause(*category, Situation::default()) {
                Cause::JavaScript => samples[0] += count,
                Cause::Compile => samples[1] += count,
                // A collection that was not announced: the signal `gc` is missing.
                Cause::Native | Cause::Gc => samples[2] += count,
                _ => unknown += count,
            }
        }
        let total = samples.iter().sum::<u64>() + unknown;
        if total == 0 {
            return;
        }
        let ran_ns = causes.ns(Cause::OnCpu);
        for (cause, samples) in [Cause::JavaScript, Cause::Compile, Cause::Native].into_iter().zip(samples) {
            causes.shift(Cause::OnCpu, cause, (ran_ns as f64 * samples as f64 / total as f64) as u64);
        }
    }
}

fn ran_ns(causes: &Causes) -> u64 {
    [Cause::OnCpu, Cause::JavaScript, Cause::Compile, Cause::Native]
        .map(|cause| causes.ns(cause))
        .iter()
        .sum()
}

#[cfg(test)]
mod tests {
    use nodeprobe_ebpf::part::{PART_GC, PARTS};

    use super::*;

    const MS: u64 = 1_000_000;

    fn stack(function: &str) -> Arc<Stack> {
        use crate::model::{Frame, FrameKind};
        let frame = Frame {
            kind: FrameKind::JavaScript,
            function: function.into(),
            script: None,
            line: None,
            column: None,
            line_is_exact: false,
            package: None,
        };
        Arc::new(Stack { frames: vec![frame], ..Stack::default() })
    }

    fn sampled(stack: &Arc<Stack>, category: Category, sampled_while: WhileSampled) -> Sampled {
        Sampled { stack: Arc::clone(stack), category, time_ns: 5, sampled_while, ticks: 1, file: None }
    }

    #[test]
    fn what_ran_divides_by_samples() {
        let (script, hash) = (stack("script"), stack("hash"));
        let mut turn = Turn::new(0);
        for _ in 0..3 {
            turn.add(sampled(&script, Category::Application, WhileSampled::Running));
        }
        turn.add(sampled(&hash, Category::Crypto, WhileSampled::Running));
        turn.add(sampled(&script, Category::Gc, WhileSampled::Collecting));
        let mut parts = [0; PARTS];
        parts[PART_GC] = 20 * MS;
        let mut causes = Causes::from_parts(100 * MS, &parts);
        turn.divide(&mut causes);
        let of = |cause| causes.ns(cause) / MS;
        assert_eq!(
            (of(Cause::JavaScript), of(Cause::Native), of(Cause::OnCpu), of(Cause::Gc)),
            (60, 20, 0, 20)
        );
        let times = turn.stacks(&causes, 0);
        let of = |stack: &Arc<Stack>, category| {
            let time = times.iter().find(|time| Arc::ptr_eq(&time.stack, stack) && time.category == category);
            time.map(|time| time.time_ns / MS)
        };
        assert_eq!(of(&script, Category::Application), Some(60));
        assert_eq!(of(&script, Category::Gc), Some(20));
        assert_eq!(of(&hash, Category::Crypto), Some(20));
    }

    #[test]
    fn without_a_sample_nothing_is_said_of_what_ran() {
        let mut causes = Causes::from_parts(100 * MS, &[0; PARTS]);
        Turn::new(0).divide(&mut causes);
        assert_eq!(causes.ns(Cause::OnCpu), 100 * MS);
    }

    #[test]
    fn a_stack_that_cannot_be_read_leaves_its_share_unknown() {
        let script = stack("script");
        let mut turn = Turn::new(0);
        turn.add(sampled(&script, Category::Application, WhileSampled::Running));
        turn.add(sampled(&script, Category::Unknown, WhileSampled::Running));
        let mut causes = Causes::from_parts(100 * MS, &[0; PARTS]);
        turn.divide(&mut causes);
        assert_eq!((causes.ns(Cause::JavaScript), causes.ns(Cause::OnCpu)), (50 * MS, 50 * MS));
    }

    #[test]
    fn a_sleep_stands_for_its_length_and_one_under_way_for_its_age() {
        let reader = stack("read");
        let mut turn = Turn::new(0);
        turn.add(sampled(&reader, Category::Application, WhileSampled::FallingAsleep));
        let causes = Causes::default();
        assert_eq!(turn.stacks(&causes, 40 * MS)[0].time_ns, 40 * MS);
        turn.slept(4, 70 * MS);
        assert_eq!(turn.stacks(&causes, 0)[0].time_ns, 0, "another sleep");
        turn.slept(5, 70 * MS);
        turn.slept(5, 70 * MS);
        let times = turn.stacks(&causes, 40 * MS);
        assert_eq!((times[0].time_ns, times[0].category), (70 * MS, Category::Blocked));
    }
}

//! What loop threads were sampled executing, as files of known viewers: collapsed stacks for flame graphs,
//! speedscope, pprof.
//!
//! Every stack has a weight in samples and in the time that those stand for. A thread that sleeps has a stack too, and its
//! time is how long it slept; so time, not the number of samples, is what frames of different kinds are compared by.

pub mod collapsed;
pub mod pprof;
#[cfg(test)]
pub(crate) mod sample;
pub mod speedscope;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::document::text;
use crate::model::{Category, Frame, Interval, ProcessId, Stack, StackTime, ThreadKind};

/// Different stacks that are kept; the rest is one stack of its own. Some 100 MB at worst.
const MOST_STACKS: usize = 1 << 17;
/// What stands for the stacks beyond.
const MORE: &str = "(more stacks than are kept)";

/// The samples of a recording, added up.
#[derive(Debug, Default)]
pub struct Profile {
    /// Wall clock when the first interval began.
    pub began: Option<SystemTime>,
    pub duration: Duration,
    pub threads: BTreeMap<(ProcessId, u32), ThreadProfile>,
    stacks: usize,
}

/// The samples of one thread.
#[derive(Debug, Default)]
pub struct ThreadProfile {
    /// Name of the service, cleaned.
    pub service: String,
    pub kind: Option<ThreadKind>,
    weights: HashMap<(Arc<Stack>, Category), Weight>,
}

/// What a stack stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub samples: u64,
    pub time_ns: u64,
}

impl Profile {
    /// Adds what was sampled in an interval.
    pub fn add(&mut self, interval: &Interval) {
        let duration = Duration::from_secs_f64(interval.duration_s.clamp(0.0, 1e9));
        self.began
            .get_or_insert_with(|| interval.time.checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH));
        self.duration = self.duration.saturating_add(duration);
        for sampled in &interval.stacks {
            let thread = self.threads.entry((sampled.process, sampled.tid)).or_default();
            let process = interval.processes.iter().find(|process| process.id == sampled.process);
            if let Some(process) = process {
                thread.service = text(&process.identity.name);
                let found = process.threads.iter().find(|thread| thread.tid == sampled.tid);
                thread.kind = found.map(|found| found.kind).or(thread.kind);
            }
            for time in &sampled.stacks {
                thread.add(time, &mut self.stacks);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Everything together.
    pub fn total(&self) -> Weight {
        let mut total = Weight::default();
        for weight in self.threads.values().flat_map(|thread| thread.weights.values()) {
            total.add(*weight);
        }
        total
    }
}

impl ThreadProfile {
    fn add(&mut self, time: &StackTime, stacks: &mut usize) {
        let key = (Arc::clone(&time.stack), time.category);
        let weight = if self.weights.contains_key(&key) || *stacks < MOST_STACKS {
            self.weights.entry(key).or_insert_with(|| {
                *stacks += 1;
                Weight::default()
            })
        } else {
            let rest = Stack { problem: Some(MORE), ..Stack::default() };
            self.weights.entry((Arc::new(rest), Category::Unknown)).or_default()
        };
        weight.add(Weight { samples: time.samples, time_ns: time.time_ns });
    }

    /// `checkout-api 4711 main`, `checkout-api 4711 worker 4715`.
    pub fn label(&self, process: ProcessId, tid: u32) -> String {
        let service = if self.service.is_empty() { "node" } else { &self.service };
        format!("{service} {} {}", process.pid, self.thread(process, tid))
    }

    /// `main`, `worker 4715`.
    pub fn thread(&self, process: ProcessId, tid: u32) -> String {
        match self.kind {
            Some(ThreadKind::Main) => ThreadKind::Main.name().to_owned(),
            None if tid == process.pid => ThreadKind::Main.name().to_owned(),
            _ => format!("{} {tid}", ThreadKind::Worker.name()),
        }
    }

    /// The stacks, the heaviest first, those of equal weight in the order of their frames: the same profile is the same
    /// file every time.
    pub fn stacks(&self) -> Vec<(&Stack, Category, Weight)> {
        let mut stacks: Vec<_> =
            self.weights.iter().map(|((stack, category), weight)| (&**stack, *category, *weight)).collect();
        stacks.sort_by_cached_key(|(stack, category, weight)| {
            let names: Vec<String> = stack.frames.iter().map(label).collect();
            (std::cmp::Reverse(weight.time_ns), std::cmp::Reverse(weight.samples), *category, names)
        });
        stacks
    }
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
    }
}

/// A frame as viewers shall show it; where a stack says less than it should there is a frame that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shown<'a> {
    Frame(&'a Frame),
    Remark(&'a str),
}

/// Outermost first.
fn outer_to_inner(stack: &Stack) -> Vec<Shown<'_>> {
    let outer = stack.truncated.then_some(Shown::Remark("(truncated)"));
    let inner = match stack.problem {
        Some(problem) => Some(Shown::Remark(problem)),
        None if stack.frames.is_empty() => Some(Shown::Remark("(no stack)")),
        None => None,
    };
    let frames = stack.frames.iter().rev().map(Shown::Frame);
    outer.into_iter().chain(frames).chain(inner).collect()
}

/// `hash /srv/app/auth.js:42`; without a script only the function.
fn label(frame: &Frame) -> String {
    match (&frame.script, frame.line) {
        (Some(script), Some(line)) => format!("{} {script}:{line}", frame.function),
        (Some(script), None) => format!("{} {script}", frame.function),
        (None, _) => frame.function.to_string(),
    }
}

//! What the last minutes of intervals said: the ground for rates per minute, sparklines and the accumulated
//! histogram. Bounded in time and number, and forgotten with the process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::stacks::{Happened, RecentStacks};
use crate::{
    model::{
        Causes, Culprit, Histogram, Interval, LongPause, ProcessId, Signal, Stall,
        interval::{ProcessInterval, ThreadInterval},
    },
    report::document::{is_observed, max_s, quantile_s},
};

/// Samples kept per thread: ten minutes at one per second, and as many columns as a wide screen has several times.
const MAX_SAMPLES: usize = 600;
/// Stalls kept per process: half a minute of a loop that stalls ten times a second.
const MAX_STALLS: usize = 256;
/// Long pauses kept per process; more do not fit on a screen.
const MAX_PAUSES: usize = 64;
/// Rates of single seconds jump; those of a minute can be read.
pub(super) const RATE_WINDOW_S: f64 = 60.0;

#[derive(Clone, Debug, Default)]
pub struct History {
    processes: HashMap<ProcessId, ProcessHistory>,
}

#[derive(Clone, Debug)]
pub struct ProcessHistory {
    /// The last interval the process was in, and its place there.
    latest: (Arc<Interval>, usize),
    pub gc: Series<GcSample>,
    pub threads: BTreeMap<u32, ThreadHistory>,
    /// Oldest first, as are `pauses`.
    pub stalls: VecDeque<Arc<Stall>>,
    pub pauses: VecDeque<LongPause>,
}

#[derive(Clone, Debug, Default)]
pub struct ThreadHistory {
    pub samples: Series<LoopSample>,
    /// All turns since the first interval shown, and the time since then.
    pub turns: Histogram,
    pub observed_s: f64,
    pub stacks: RecentStacks,
}

/// The last values of one per interval.
#[derive(Clone, Debug)]
pub struct Series<T> {
    /// Oldest first.
    pub values: VecDeque<T>,
    /// How many there were before the oldest: `values[0]` keeps its number while it moves to the front.
    pub forgotten: usize,
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { values: VecDeque::new(), forgotten: 0 }
    }
}

impl<T> Series<T> {
    fn push(&mut self, value: T) {
        self.forgotten += usize::from(self.values.len() == MAX_SAMPLES);
        push_bounded(&mut self.values, value, MAX_SAMPLES);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct LoopSample {
    pub duration_s: f64,
    pub utilization: Option<f64>,
    pub turn_p99_s: Option<f64>,
    pub stalls: u64,
    pub stalled_s: f64,
    pub stall_causes: Causes,
}

/// Pauses of one interval, all threads of the process together.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub struct GcSample {
    pub interval_s: f64,
    pub minor_paused_s: f64,
    pub major_paused_s: f64,
    pub longest_s: Option<f64>,
}

/// Stalls of one thread in the last [`RATE_WINDOW_S`]; younger histories are not extrapolated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StallRate {
    pub per_minute: f64,
    pub stalled_s_per_minute: f64,
}

impl History {
    /// Takes `interval` in. What is not in it is forgotten, but for the process `keep`, whose page is open.
    pub fn update(&mut self, interval: &Arc<Interval>, keep: Option<ProcessId>) {
        let present: HashMap<ProcessId, usize> =
            interval.processes.iter().enumerate().map(|(index, process)| (process.id, index)).collect();
        self.processes.retain(|id, _| present.contains_key(id) || keep == Some(*id));
        let happened = Happened::of(interval);
        for (id, index) in present {
            self.processes
                .entry(id)
                .or_insert_with(|| ProcessHistory::new(interval, index))
                .update(interval, index, &happened);
        }
        for stall in &interval.stalls {
            if let Some(process) = self.processes.get_mut(&stall.process) {
                push_bounded(&mut process.stalls, Arc::new(stall.clone()), MAX_STALLS);
            }
        }
        for pause in &interval.pauses {
            if let Some(process) = self.processes.get_mut(&pause.process) {
                push_bounded(&mut process.pauses, pause.clone(), MAX_PAUSES);
            }
        }
    }

    pub fn process(&self, id: ProcessId) -> Option<&ProcessHistory> {
        self.processes.get(&id)
    }
}

impl ProcessHistory {
    fn new(interval: &Arc<Interval>, index: usize) -> Self {
        Self {
            latest: (Arc::clone(interval), index),
            gc: Series::default(),
            threads: BTreeMap::new(),
            stalls: VecDeque::new(),
            pauses: VecDeque::new(),
        }
    }

    fn update(&mut self, interval: &Arc<Interval>, index: usize, happened: &Happened<'_>) {
        self.latest = (Arc::clone(interval), index);
        let process = &interval.processes[index];
        self.gc.push(GcSample::of(process, interval.duration_s));
        self.threads.retain(|tid, _| process.threads.iter().any(|thread| thread.tid == *tid));
        let observed = is_observed(&process.signals, Signal::EventLoop);
        for thread in &process.threads {
            let history = self.threads.entry(thread.tid).or_default();
            history.turns.merge(&thread.turns);
            history.observed_s += interval.duration_s;
            history.samples.push(LoopSample::of(thread, interval.duration_s, observed));
            history.stacks.push(happened, (process.id, thread.tid), interval.duration_s);
        }
    }

    /// The process in the last interval it was in.
    pub fn process(&self) -> &ProcessInterval {
        &self.latest.0.processes[self.latest.1]
    }

    /// The last interval the process was in.
    pub fn interval(&self) -> &Interval {
        &self.latest.0
    }

    pub fn stall_rate(&self, tid: u32) -> StallRate {
        let Some(thread) = self.threads.get(&tid) else { return StallRate::default() };
        let window = window(&thread.samples.values, |sample| sample.duration_s);
        let covered_s: f64 = window.iter().map(|sample| sample.duration_s).sum();
        // Intervals rarely fill the window exactly, which is no reason to show 0.98 of a stall. Only with delays of
        // the size of the window does its length have to be taken out.
        let scale = if covered_s > 1.1 * RATE_WINDOW_S { RATE_WINDOW_S / covered_s } else { 1.0 };
        StallRate {
            per_minute: scale * window.iter().map(|sample| sample.stalls).sum::<u64>() as f64,
            stalled_s_per_minute: scale * window.iter().map(|sample| sample.stalled_s).sum::<f64>(),
        }
    }

    /// How the stalls of one thread in the last [`RATE_WINDOW_S`] divide.
    pub fn stall_causes(&self, tid: u32) -> Causes {
        let mut causes = Causes::default();
        if let Some(thread) = self.threads.get(&tid) {
            for sample in window(&thread.samples.values, |sample| sample.duration_s) {
                causes.merge(&sample.stall_causes);
            }
        }
        causes
    }

    /// Whom the stalls of one thread in the last [`RATE_WINDOW_S`] are blamed on.
    pub fn culprit(&self, tid: u32) -> Option<Culprit> {
        self.threads.get(&tid)?.stacks.culprit()
    }

    /// The utilization of one thread over the last [`RATE_WINDOW_S`]; `None` where it is not known.
    pub fn utilization(&self, tid: u32) -> Option<f64> {
        let window = window(&self.threads.get(&tid)?.samples.values, |sample| sample.duration_s);
        let known = window.iter().filter_map(|sample| Some((sample.utilization?, sample.duration_s)));
        let (busy_s, covered_s) =
            known.fold((0.0, 0.0), |(busy, covered), (ratio, s)| (busy + ratio * s, covered + s));
        (covered_s > 0.0).then(|| busy_s / covered_s)
    }

    /// The longest GC pause of the last [`RATE_WINDOW_S`].
    pub fn longest_pause_s(&self) -> Option<f64> {
        let window = window(&self.gc.values, |sample| sample.interval_s);
        window.iter().filter_map(|sample| sample.longest_s).reduce(f64::max)
    }
}

impl LoopSample {
    fn of(thread: &ThreadInterval, duration_s: f64, observed: bool) -> Self {
        Self {
            duration_s,
            utilization: thread.utilization().filter(|_| observed),
            turn_p99_s: quantile_s(&thread.turns, 0.99).filter(|_| observed),
            stalls: thread.stalls.count,
            stalled_s: thread.stalls.sum_ns as f64 / 1e9,
            stall_causes: thread.stall_causes,
        }
    }
}

impl GcSample {
    fn of(process: &ProcessInterval, interval_s: f64) -> Self {
        let (minor, major) = (&process.minor.durations, &process.major.durations);
        Self {
            interval_s,
            minor_paused_s: minor.sum_ns as f64 / 1e9,
            major_paused_s: major.sum_ns as f64 / 1e9,
            longest_s: max_s(minor).into_iter().chain(max_s(major)).reduce(f64::max),
        }
    }
}

/// The newest samples, as far back as one begins that still ends inside of [`RATE_WINDOW_S`].
fn window<T>(samples: &VecDeque<T>, duration_s: impl Fn(&T) -> f64) -> Vec<&T> {
    let mut ago_s = 0.0;
    let inside = |sample: &&T| {
        let ends_inside = ago_s < RATE_WINDOW_S;
        ago_s += duration_s(sample);
        ends_inside
    };
    samples.iter().rev().take_while(inside).collect()
}

fn push_bounded<T>(queue: &mut VecDeque<T>, value: T, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn fed(seconds: u64, duration_s: f64) -> (History, ProcessId) {
        let mut history = History::default();
        let process = sample::sick(301);
        for second in 0..seconds {
            let mut interval = sample::interval(second, vec![process.clone()]);
            interval.duration_s = duration_s;
            interval.stalls = vec![sample::stall(&process, second, 50 * sample::MS)];
            history.update(&Arc::new(interval), None);
        }
        (history, process.id)
    }

    #[test]
    fn stalls_per_minute_are_those_of_the_last_sixty_seconds() {
        // Four stalls of 492 ms in all per second.
        for (seconds, expected) in [(1, 4.0), (10, 40.0), (60, 240.0), (200, 240.0)] {
            let (history, id) = fed(seconds, 1.0);
            let rate = history.process(id).unwrap().stall_rate(301);
            assert!((rate.per_minute - expected).abs() < 1e-9, "{rate:?} after {seconds} s");
            assert!((rate.stalled_s_per_minute - expected * 0.123).abs() < 1e-9);
        }
    }

    #[test]
    fn an_interval_longer_than_the_window_is_scaled_to_a_minute() {
        let (history, id) = fed(3, 120.0);
        assert!((history.process(id).unwrap().stall_rate(301).per_minute - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_healthy_thread_has_no_stalls() {
        let (history, id) = fed(60, 1.0);
        assert_eq!(history.process(id).unwrap().stall_rate(308), StallRate::default());
    }

    #[test]
    fn memory_is_bounded() {
        let (history, id) = fed(2_000, 1.0);
        let process = history.process(id).unwrap();
        assert_eq!(process.gc.values.len(), MAX_SAMPLES);
        assert_eq!(process.threads[&301].samples.values.len(), MAX_SAMPLES);
        assert_eq!(process.stalls.len(), MAX_STALLS);
        assert_eq!(process.stalls.back().unwrap().began, sample::time(1_999));
        assert_eq!(process.threads[&301].turns.count, 200_000);
    }

    #[test]
    fn a_process_that_has_gone_is_forgotten_unless_its_page_is_open() {
        let (mut history, id) = fed(2, 1.0);
        let empty = Arc::new(sample::interval(3, Vec::new()));
        history.update(&empty, Some(id));
        assert_eq!(history.process(id).unwrap().interval().time, sample::time(1));
        history.update(&empty, None);
        assert!(history.process(id).is_none());
    }
}

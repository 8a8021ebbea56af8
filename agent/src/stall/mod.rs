//! What a turn was spent executing: the samples of each loop thread, gathered until its turn ends.
//!
//! Architecture invariant: no I/O and no clock in here; times are arguments.
#![forbid(unsafe_code)]

mod turn;

use std::collections::HashMap;

pub use turn::{Sampled, Turn, WhileSampled};

use crate::model::StackTime;

/// The turn under way of every loop thread that was sampled in it, and what was sampled since the last snapshot.
#[derive(Debug, Default)]
pub struct Turns {
    by_tid: HashMap<u32, Turn>,
    /// What was sampled since the last snapshot, over all turns.
    standing: HashMap<u32, Turn>,
}

impl Turns {
    /// Takes in one sample of a thread in the turn that began at `turn_start_ns`.
    pub fn sample(&mut self, tid: u32, turn_start_ns: u64, sampled: Sampled) {
        // The standing picture, whatever turn it was in.
        let standing = self.standing.entry(tid).or_insert_with(|| Turn::new(0));
        standing.add(sampled.clone());
        let turn = self.by_tid.entry(tid).or_insert_with(|| Turn::new(turn_start_ns));
        if turn.start_ns != turn_start_ns {
            *turn = Turn::new(turn_start_ns);
        }
        turn.add(sampled);
    }

    /// The sleep that began with the sample at `began_ns` lasted so long.
    pub fn slept(&mut self, tid: u32, began_ns: u64, duration_ns: u64) {
        for turns in [&mut self.by_tid, &mut self.standing] {
            if let Some(turn) = turns.get_mut(&tid) {
                turn.slept(began_ns, duration_ns);
            }
        }
    }

    /// The turn of a thread that began at `start_ns`, if it was sampled.
    pub fn turn(&self, tid: u32, start_ns: u64) -> Option<&Turn> {
        self.by_tid.get(&tid).filter(|turn| turn.start_ns == start_ns)
    }

    /// The same, for the last time: the turn has ended.
    pub fn take(&mut self, tid: u32, start_ns: u64) -> Option<Turn> {
        self.turn(tid, start_ns)?;
        self.by_tid.remove(&tid)
    }

    /// What each thread was sampled executing since the last call, by thread.
    pub fn drain(&mut self) -> Vec<(u32, Vec<StackTime>)> {
        self.standing.drain().map(|(tid, turn)| (tid, turn.by_period())).collect()
    }

    /// Forgets a thread that has ended; what it was sampled executing stays for the next snapshot.
    pub fn end(&mut self, tid: u32) {
        self.by_tid.remove(&tid);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nodeprobe_ebpf::{part::PARTS, sample::SAMPLE_PERIOD_NS};

    use super::*;
    use crate::model::{Category, Causes, Stack};

    fn sampled(time_ns: u64, sampled_while: WhileSampled) -> Sampled {
        Sampled {
            stack: Arc::default(),
            category: Category::Application,
            time_ns,
            sampled_while,
            ticks: 1,
            file: None,
        }
    }

    #[test]
    fn samples_of_an_earlier_turn_do_not_count_for_a_later_one() {
        let mut turns = Turns::default();
        turns.sample(7, 100, sampled(110, WhileSampled::Running));
        turns.sample(7, 200, sampled(210, WhileSampled::Running));
        assert!(turns.take(7, 100).is_none());
        assert!(turns.take(7, 200).is_some());
        assert!(turns.take(7, 200).is_none(), "a turn ends once");
    }

    #[test]
    fn a_sample_counts_once_in_its_turn_and_by_its_ticks_in_the_standing_picture() {
        let mut turns = Turns::default();
        let (early, late): (Arc<Stack>, _) =
            (Arc::default(), Arc::new(Stack { truncated: true, ..Stack::default() }));
        turns.sample(7, 100, Sampled { ticks: 4, stack: early, ..sampled(110, WhileSampled::Running) });
        turns.sample(7, 100, Sampled { stack: late, ..sampled(120, WhileSampled::Running) });
        let times = |stacks: &[StackTime]| -> Vec<u64> { stacks.iter().map(|s| s.time_ns).collect() };
        assert_eq!(times(&turns.drain()[0].1), [4 * SAMPLE_PERIOD_NS, SAMPLE_PERIOD_NS]);
        let causes = Causes::from_parts(60, &[0; PARTS]);
        assert_eq!(times(&turns.take(7, 100).unwrap().stacks(&causes, 0)), [30, 30]);
    }

    #[test]
    fn the_standing_picture_is_told_once() {
        let mut turns = Turns::default();
        turns.sample(7, 100, sampled(110, WhileSampled::Running));
        turns.sample(7, 200, sampled(210, WhileSampled::Running));
        let drained = turns.drain();
        assert_eq!((drained[0].0, drained[0].1[0].samples), (7, 2));
        assert!(turns.drain().is_empty());
    }
}

//! Finds for loop threads what they ask for: see `readout::questions`. The collector is not locked meanwhile: it is the memory of
//! other processes that is searched, and they decide how long that takes.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{
    ContextRecord, RejectionRecord,
    context_record::{CONTEXT_FRAMES, CONTEXT_IDS},
};

use super::Collector;
use crate::{
    agent::lock,
    readout::questions::Question,
    target::{Target, Targets},
    v8::{ContextLayout, find_context, find_rejection_note},
};

/// A thread is searched so often in vain with this pause; each search reads 64 KiB, and a hostile process can make one take 20 ms.
const PATIENCE: u32 = 25;
const SOON: Duration = Duration::from_millis(50);
/// Then with this one, which doubles some times.
const LATER: Duration = Duration::from_secs(10);
const DOUBLED_MOST: u32 = 4;

/// A pass may take so long, which is enough for two hundred threads. If it did, searching rests for so many times that, so that hostile
/// processes cannot keep the decoder from its stacks.
const PASS: Duration = Duration::from_millis(20);
const REST: u32 = 9;

/// Searches of each kind.
#[derive(Debug, Default)]
pub struct Searches {
    contexts: Search,
    rejections: Search,
}

/// A question with its thread and what is known of the process.
type Asked<Q, L> = (u32, Q, L);

impl Searches {
    /// Answers all threads that ask. To be called some times a second.
    pub fn answer_all(&mut self, shared: &Mutex<Collector>) {
        let (contexts, rejections) = {
            let shared = lock(shared);
            let (questions, targets) = (&shared.maps.questions, &shared.targets);
            (
                with_layout(questions.contexts.open(), targets, |target| target.async_context),
                with_layout(questions.rejections.open(), targets, |target| target.rejection_ids_offset),
            )
        };
        self.contexts.retain(&contexts);
        self.rejections.retain(&rejections);
        let contexts = self.contexts.find(contexts, context);
        let rejections = self.rejections.find(rejections, rejection);
        if !contexts.is_empty() || !rejections.is_empty() {
            let questions = &mut lock(shared).maps.questions;
            for (tid, answer) in contexts {
                questions.contexts.answer(tid, answer);
            }
            for (tid, answer) in rejections {
                questions.rejections.answer(tid, answer);
            }
        }
    }

    /// Answers a thread that has just rejected a promise, if it asks: until then handlers that come late may be missed.
    pub fn answer_rejecting(&mut self, tid: u32, shared: &Mutex<Collector>) {
        let asked = {
            let shared = lock(shared);
            let open = shared.maps.questions.rejections.open_of(tid).map(|question| (tid, question));
            with_layout(open, &shared.targets, |target| target.rejection_ids_offset)
        };
        for (tid, answer) in self.rejections.find(asked, rejection) {
            lock(shared).maps.questions.rejections.answer(tid, answer);
        }
    }
}

fn with_layout<Q: Question, L>(
    open: impl IntoIterator<Item = (u32, Q)>,
    targets: &Targets,
    layout: impl Fn(&Target) -> Option<L>,
) -> Vec<Asked<Q, L>> {
    let layout = |question: &Q| targets.get(question.asker().tgid).and_then(&layout);
    open.into_iter().filter_map(|(tid, question)| Some((tid, question, layout(&question)?))).collect()
}

fn context(question: ContextRecord, layout: ContextLayout) -> Option<ContextRecord> {
    let places = find_context(question.tgid, question.sp, layout)?;
    let (frame, no_frame) = places.frame.unwrap_or((0, 0));
    let mode = if places.frame.is_some() { CONTEXT_FRAMES } else { CONTEXT_IDS };
    Some(ContextRecord { mode, ids: places.ids, hooks: places.hooks, frame, no_frame, ..question })
}

fn rejection(question: RejectionRecord, ids_offset: u32) -> Option<RejectionRecord> {
    let note = find_rejection_note(question.tgid, question.sp, ids_offset)?;
    Some(RejectionRecord { note, ..question })
}

#[derive(Debug, Default)]
struct Search {
    /// Searches in vain by thread: since when it was observed, how often, and when next.
    in_vain: HashMap<u32, (u64, u32, Instant)>,
    /// After a pass that took too long.
    rests_until: Option<Instant>,
}

impl Search {
    /// Forgets threads that do not ask any more.
    fn retain<Q, L>(&mut self, asked: &[Asked<Q, L>]) {
        let asking: HashSet<u32> = asked.iter().map(|(tid, ..)| *tid).collect();
        self.in_vain.retain(|tid, _| asking.contains(tid));
    }

    /// The answers to questions that are not to be searched later.
    fn find<Q: Question, L>(
        &mut self,
        questions: Vec<Asked<Q, L>>,
        find: impl Fn(Q, L) -> Option<Q>,
    ) -> Vec<(u32, Q)> {
        let (mut answers, begun) = (Vec::new(), Instant::now());
        if self.rests_until.is_some_and(|until| begun < until) {
            return answers;
        }
        for (tid, question, layout) in questions {
            let (asker, now) = (question.asker(), Instant::now());
            let before = self.in_vain.get(&tid).filter(|(observed_ns, ..)| *observed_ns == asker.observed_ns);
            let (attempts, due) = before.map_or((0, now), |(_, attempts, due)| (*attempts, *due));
            if now < due {
                continue;
            }
            if let Some(answer) = find(question, layout) {
                tracing::debug!(target.pid = asker.tgid, tid, attempts, what = Q::WHAT, "found");
                self.in_vain.remove(&tid);
                answers.push((tid, answer));
            } else {
                self.in_vain.insert(tid, (asker.observed_ns, attempts + 1, now + pause(attempts)));
            }
            let taken = begun.elapsed();
            if taken >= PASS {
                self.rests_until = Some(begun + taken * (1 + REST));
                break;
            }
        }
        answers
    }
}

/// After so many attempts before.
fn pause(attempts: u32) -> Duration {
    attempts.checked_sub(PATIENCE).map_or(SOON, |more| LATER * (1 << more.min(DOUBLED_MOST)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_thread_that_is_searched_in_vain_is_left_alone_for_a_while() {
        let question =
            RejectionRecord { tgid: 7, was_set: 0, observed_ns: 100, sp: 0x7ffe_0000_0000, note: 0 };
        let (mut search, searched) = (Search::default(), Cell::new(0));
        let mut ask = |question, answer: Option<RejectionRecord>| {
            let find = |_, ()| {
                searched.set(searched.get() + 1);
                answer
            };
            (search.find(vec![(7, question, ())], find).len(), searched.get())
        };
        assert_eq!(ask(question, None), (0, 1));
        assert_eq!(ask(question, Some(question)), (0, 1), "not again at once");
        let other = RejectionRecord { observed_ns: 200, ..question };
        assert_eq!(ask(other, Some(other)), (1, 2), "another thread of the same number");
        assert_eq!(ask(other, None), (0, 3), "an answer ends the pause");
    }

    #[test]
    fn a_pass_that_takes_too_long_ends_and_is_followed_by_a_rest() {
        let question = |tid| RejectionRecord { tgid: tid, was_set: 0, observed_ns: 100, sp: 0x1000, note: 0 };
        let (mut search, searched) = (Search::default(), Cell::new(0));
        let slow = |question: RejectionRecord, ()| {
            searched.set(searched.get() + 1);
            std::thread::sleep(PASS);
            Some(question)
        };
        let asked = |count| (1..=count).map(|tid| (tid, question(tid), ())).collect();
        assert_eq!(search.find(asked(3), slow).len(), 1);
        assert_eq!(search.find(asked(1), slow).len(), 0, "it rests");
        assert_eq!(searched.get(), 1);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!(
            [0, 24, 25, 26, 29, 90].map(pause).map(|pause| pause.as_millis()),
            [50, 50, 10_000, 20_000, 160_000, 160_000]
        );
    }
}

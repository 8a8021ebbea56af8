//! Finds for loop threads what they ask for: see `readout::questions`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{
    ContextRecord, RejectionRecord,
    context_record::{CONTEXT_FRAMES, CONTEXT_IDS},
};

use crate::{
    readout::questions::{Asked, Question},
    target::{Target, Targets},
    v8::{ContextLayout, find_context, find_rejection_note},
};

/// A thread that was searched in vain so often is searched less often: each search reads 64 KiB.
const PATIENCE: u32 = 25;
const LATER: Duration = Duration::from_secs(10);

/// Searches of each kind.
#[derive(Debug, Default)]
pub(super) struct Searches {
    contexts: Search,
    rejections: Search,
}

impl Searches {
    /// Answers threads that ask where they keep their async context.
    pub(super) fn contexts(&mut self, asked: &mut Asked<ContextRecord>, targets: &Targets) {
        for (tid, question) in asked.open() {
            let answer = self.contexts.answer(tid, question, targets, |target| target.async_context, context);
            if let Some(answer) = answer {
                asked.answer(tid, answer);
            }
        }
    }

    /// Answers threads that ask where Node notes their rejected promises, or the one of them that is meant.
    pub(super) fn rejections(
        &mut self,
        asked: &mut Asked<RejectionRecord>,
        targets: &Targets,
        tid: Option<u32>,
    ) {
        let open = match tid {
            Some(tid) => asked.open_of(tid).map(|question| (tid, question)).into_iter().collect(),
            None => asked.open(),
        };
        for (tid, question) in open {
            let ids_offset = |target: &Target| target.async_ids_offset;
            if let Some(answer) = self.rejections.answer(tid, question, targets, ids_offset, rejection) {
                asked.answer(tid, answer);
            }
        }
    }

    /// Forgets threads that have ended.
    pub(super) fn retain(&mut self, is_living: impl Fn(u32) -> bool) {
        for search in [&mut self.contexts, &mut self.rejections] {
            search.in_vain.retain(|tid, _| is_living(*tid));
        }
    }
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
}

impl Search {
    /// The answer to a question, if the layout of its process is known and it is not to be searched later.
    fn answer<Q: Question, L>(
        &mut self,
        tid: u32,
        question: Q,
        targets: &Targets,
        layout: impl Fn(&Target) -> Option<L>,
        find: impl Fn(Q, L) -> Option<Q>,
    ) -> Option<Q> {
        let asker = question.asker();
        let layout = targets.get(asker.tgid).and_then(layout)?;
        let now = Instant::now();
        let (observed_ns, attempts, due) =
            self.in_vain.get(&tid).copied().unwrap_or((asker.observed_ns, 0, now));
        let is_same = observed_ns == asker.observed_ns;
        if is_same && now < due {
            return None;
        }
        let attempts = if is_same { attempts } else { 0 };
        let answer = find(question, layout);
        if answer.is_some() {
            tracing::debug!(target.pid = asker.tgid, tid, attempts, what = Q::WHAT, "found");
            self.in_vain.remove(&tid);
        } else {
            let pause = if attempts < PATIENCE { Duration::ZERO } else { LATER };
            self.in_vain.insert(tid, (asker.observed_ns, attempts + 1, now + pause));
        }
        answer
    }
}

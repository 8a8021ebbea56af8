//! Finds for loop threads what they ask for: see `readout::questions`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{
    ContextRecord,
    context_record::{CONTEXT_FRAMES, CONTEXT_IDS},
};

use crate::{
    readout::{
        maps::Wire,
        questions::{Question, Questions},
    },
    target::{Target, Targets},
    v8::{ContextLayout, find_context},
};

/// A thread that was searched in vain so often is searched less often: each search reads 64 KiB.
const PATIENCE: u32 = 25;
const LATER: Duration = Duration::from_secs(10);

/// Searches of each kind.
#[derive(Debug, Default)]
pub(super) struct Searches {
    contexts: Search,
}

impl Searches {
    /// Answers threads that ask where they keep their async context.
    pub(super) fn contexts(&mut self, questions: &mut Questions<ContextRecord>, targets: &Targets) {
        self.contexts.answer(questions, targets, |target| target.async_context, context);
    }
}

fn context(question: ContextRecord, layout: ContextLayout) -> Option<ContextRecord> {
    let places = find_context(question.tgid, question.sp, layout)?;
    let (frame, no_frame) = places.frame.unwrap_or((0, 0));
    let mode = if places.frame.is_some() { CONTEXT_FRAMES } else { CONTEXT_IDS };
    Some(ContextRecord { mode, ids: places.ids, hooks: places.hooks, frame, no_frame, ..question })
}

#[derive(Debug, Default)]
struct Search {
    /// Searches in vain by thread: since when it was observed, how often, and when next.
    in_vain: HashMap<u32, (u64, u32, Instant)>,
}

impl Search {
    /// Answers those that ask and of whose process a layout is known.
    fn answer<Q: Question, L>(
        &mut self,
        questions: &mut Questions<Q>,
        targets: &Targets,
        layout: impl Fn(&Target) -> Option<L>,
        find: impl Fn(Q, L) -> Option<Q>,
    ) where
        Wire<Q>: aya::Pod,
    {
        let now = Instant::now();
        let open = questions.open();
        self.in_vain.retain(|tid, _| open.iter().any(|(asking, _)| asking == tid));
        for (tid, question) in open {
            let asker = question.asker();
            let Some(layout) = targets.get(asker.tgid).and_then(&layout) else { continue };
            let (observed_ns, attempts, due) =
                self.in_vain.get(&tid).copied().unwrap_or((asker.observed_ns, 0, now));
            if observed_ns == asker.observed_ns && now < due {
                continue;
            }
            if let Some(answer) = find(question, layout) {
                tracing::debug!(target.pid = asker.tgid, tid, attempts, what = Q::WHAT, "found");
                questions.answer(tid, answer);
            } else {
                let pause = if attempts < PATIENCE { Duration::ZERO } else { LATER };
                self.in_vain.insert(tid, (asker.observed_ns, attempts + 1, now + pause));
            }
        }
    }
}

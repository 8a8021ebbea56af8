//! Finds for loop threads where they keep async contexts; see `v8::context`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{
    ContextRecord,
    context_record::{CONTEXT_FRAMES, CONTEXT_IDS},
};

use crate::{readout::contexts::Contexts, target::Targets, v8::find_context};

/// A thread that was searched in vain so often is searched less often: each search reads 64 KiB.
const PATIENCE: u32 = 25;
const LATER: Duration = Duration::from_secs(10);

/// Searches in vain.
#[derive(Debug, Default)]
pub(super) struct Searches {
    /// By thread: since when it was observed, how often, and when next.
    in_vain: HashMap<u32, (u64, u32, Instant)>,
}

impl Searches {
    /// Answers those that ask.
    pub(super) fn answer(&mut self, contexts: &mut Contexts, targets: &Targets) {
        let now = Instant::now();
        let asking = contexts.asking();
        self.in_vain.retain(|tid, _| asking.iter().any(|(asking, _)| asking == tid));
        for (tid, record) in asking {
            let Some(layout) = targets.get(record.tgid).and_then(|target| target.async_context) else {
                continue;
            };
            let (observed_ns, attempts, due) =
                self.in_vain.get(&tid).copied().unwrap_or((record.observed_ns, 0, now));
            if observed_ns == record.observed_ns && now < due {
                continue;
            }
            if let Some(places) = find_context(record.tgid, record.sp, layout) {
                tracing::debug!(
                    target.pid = record.tgid,
                    tid,
                    attempts,
                    "found where a thread keeps its async context"
                );
                let (frame, no_frame) = places.frame.unwrap_or((0, 0));
                let mode = if places.frame.is_some() { CONTEXT_FRAMES } else { CONTEXT_IDS };
                let (ids, hooks) = (places.ids, places.hooks);
                contexts.tell(tid, ContextRecord { mode, ids, hooks, frame, no_frame, ..record });
            } else {
                let pause = if attempts < PATIENCE { Duration::ZERO } else { LATER };
                self.in_vain.insert(tid, (record.observed_ns, attempts + 1, now + pause));
            }
        }
    }
}

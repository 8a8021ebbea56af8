//! The page of one process: which view of it is open, and what is selected there.

use std::sync::Arc;

use super::{
    breakdown::Breakdown,
    flame::FlameNode,
    flame_cursor::FlameCursor,
    history::ProcessHistory,
    row::RowKey,
    stall_log::{OpenStall, StallLog},
};
use crate::model::{ThreadKind, interval::ThreadInterval};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// Graphs of the loop, GC, streams.
    #[default]
    Overview,
    Stalls,
    Flame,
    Breakdown,
    /// What is wrong, and what to do.
    Findings,
}

impl Tab {
    pub const ALL: [Self; 5] = [Self::Overview, Self::Stalls, Self::Flame, Self::Breakdown, Self::Findings];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Stalls => "stall log",
            Self::Flame => "flame graph",
            Self::Breakdown => "breakdown",
            Self::Findings => "findings",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Detail {
    pub tab: Tab,
    /// Of what the tab scrolls, as far as it has no selection: sections or lines.
    pub scroll: usize,
    pub log: StallLog,
    /// The stall whose stacks lie over the log.
    pub open: Option<OpenStall>,
    pub flame: FlameCursor,
    /// Built while a tab shows it, once per reading.
    pub(super) profile: Option<Arc<Profile>>,
}

/// What one thread was sampled executing in the last minute.
#[derive(Debug)]
pub struct Profile {
    pub flame: FlameNode,
    pub breakdown: Breakdown,
    /// The time that the samples were taken in.
    pub covered_s: f64,
    /// `None`: not known.
    pub utilization: Option<f64>,
}

impl Profile {
    fn of(history: &ProcessHistory, tid: u32) -> Option<Self> {
        let stacks = &history.threads.get(&tid)?.stacks;
        Some(Self {
            flame: FlameNode::of(stacks.iter()),
            breakdown: Breakdown::of(stacks.iter()),
            covered_s: stacks.covered_s(),
            utilization: history.utilization(tid),
        })
    }
}

/// The thread that `key` looks at; `None` when it has ended.
pub(super) fn thread_of(history: &ProcessHistory, key: RowKey) -> Option<&ThreadInterval> {
    history.process().threads.iter().find(|thread| match key.worker_tid {
        Some(tid) => thread.tid == tid,
        None => thread.kind == ThreadKind::Main,
    })
}

impl Detail {
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_deref()
    }

    /// Follows new readings, another thread or another tab.
    pub fn refresh(&mut self, history: &ProcessHistory, key: RowKey) {
        self.log.settle(history);
        self.open = self.open.take().and_then(|open| open.settle(history));
        self.profile = match self.tab {
            Tab::Overview | Tab::Stalls | Tab::Findings => None,
            Tab::Flame | Tab::Breakdown => {
                thread_of(history, key).and_then(|thread| Profile::of(history, thread.tid)).map(Arc::new)
            }
        };
        if let Some(profile) = &self.profile {
            self.flame.settle(&profile.flame);
        }
    }

    /// Another thread of the same process: frames of the one are none of the other.
    pub fn thread_changed(&mut self) {
        self.flame = FlameCursor::default();
        self.scroll = 0;
    }
}

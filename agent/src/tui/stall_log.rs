//! The log of stalls of a process: turns in progress on top, then those that ended, the newest first.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{history::ProcessHistory, row::CURRENT_TURN_SHOWN_S};
use crate::model::{Causes, Culprit, Stack, Stall, ThreadKind, interval::ThreadInterval};

/// The begin of a turn is told by two clocks: its age while it lasts, a timestamp when it has ended.
const CLOCKS_DIFFER_BY: Duration = Duration::from_secs(1);

/// A line of the log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'a> {
    InProgress { thread: &'a ThreadInterval, age_ns: u64, began: SystemTime },
    Ended(&'a Arc<Stall>),
}

/// What stays the same while lines move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKey {
    InProgress { tid: u32 },
    Ended { tid: u32, began: SystemTime },
}

impl<'a> Entry<'a> {
    pub(super) fn duration_ns(self) -> u64 {
        match self {
            Self::InProgress { age_ns, .. } => age_ns,
            Self::Ended(stall) => stall.duration_ns,
        }
    }

    pub(super) fn thread(self) -> (ThreadKind, u32) {
        match self {
            Self::InProgress { thread, .. } => (thread.kind, thread.tid),
            Self::Ended(stall) => (stall.thread, stall.tid),
        }
    }

    pub(super) fn causes(self) -> &'a Causes {
        match self {
            Self::InProgress { thread, .. } => &thread.current_turn_causes,
            Self::Ended(stall) => &stall.causes,
        }
    }

    pub(super) fn culprit(self) -> Option<&'a Culprit> {
        match self {
            Self::InProgress { thread, .. } => thread.current_turn_culprit.as_ref(),
            Self::Ended(stall) => stall.culprit.as_ref(),
        }
    }

    /// The heaviest of those sampled, or the last while it lasts.
    pub(super) fn stack(self) -> Option<&'a Stack> {
        match self {
            Self::InProgress { thread, .. } => thread.current_turn_stack.as_deref(),
            Self::Ended(stall) => stall.stacks.first().map(|heaviest| &*heaviest.stack),
        }
    }

    fn key(self) -> EntryKey {
        match self {
            Self::InProgress { thread, .. } => EntryKey::InProgress { tid: thread.tid },
            Self::Ended(stall) => EntryKey::Ended { tid: stall.tid, began: stall.began },
        }
    }
}

/// All lines of the log.
pub(super) fn entries(history: &ProcessHistory) -> Vec<Entry<'_>> {
    let threads = &history.process().threads;
    let in_progress = threads.iter().filter_map(|thread| in_progress(history, thread));
    in_progress.chain(history.stalls.iter().rev().map(Entry::Ended)).collect()
}

/// The turn that `thread` is in, if it is worth a line.
pub(super) fn in_progress<'a>(history: &ProcessHistory, thread: &'a ThreadInterval) -> Option<Entry<'a>> {
    let age_ns = thread.current_turn_ns?;
    let shown = age_ns as f64 / 1e9 >= CURRENT_TURN_SHOWN_S && !thread.exited && !history.process().exited;
    let began = history.interval().time.checked_sub(Duration::from_nanos(age_ns))?;
    shown.then_some(Entry::InProgress { thread, age_ns, began })
}

/// The cursor of the log.
#[derive(Clone, Debug, Default)]
pub struct StallLog {
    /// `None` until a line is chosen: the cursor then stays on top while lines move.
    chosen: Option<EntryKey>,
    selected: usize,
    offset: usize,
    viewport: usize,
    count: usize,
}

impl StallLog {
    pub fn selected(&self) -> usize {
        self.selected
    }

    pub fn offset(&self) -> usize {
        self.offset
    }

    pub fn viewport(&self) -> usize {
        self.viewport.max(1)
    }

    /// Follows the chosen line after new readings. A turn in progress that has ended is followed to its stall.
    pub(super) fn settle(&mut self, history: &ProcessHistory) {
        let entries = entries(history);
        self.count = entries.len();
        let place = |key: EntryKey| entries.iter().position(|entry| entry.key() == key);
        let found = self.chosen.and_then(|chosen| match chosen {
            EntryKey::InProgress { tid } => place(chosen).or_else(|| {
                entries.iter().position(|entry| matches!(entry, Entry::Ended(stall) if stall.tid == tid))
            }),
            EntryKey::Ended { .. } => place(chosen),
        });
        self.selected = found.unwrap_or(self.selected).min(self.count.saturating_sub(1));
        self.chosen = self.chosen.and_then(|_| entries.get(self.selected)).map(|entry| entry.key());
        self.scroll_to_selected();
    }

    /// The view tells how many lines fit, before it asks which.
    pub fn set_viewport(&mut self, rows: usize) {
        self.viewport = rows;
        self.scroll_to_selected();
    }

    fn scroll_to_selected(&mut self) {
        let last_offset = self.count.saturating_sub(self.viewport());
        let lowest = (self.selected + 1).saturating_sub(self.viewport());
        self.offset = self.offset.clamp(lowest, self.selected.max(lowest)).min(last_offset);
    }

    pub(super) fn select(&mut self, history: &ProcessHistory, index: usize) {
        let entries = entries(history);
        self.count = entries.len();
        self.selected = index.min(self.count.saturating_sub(1));
        self.chosen = entries.get(self.selected).map(|entry| entry.key());
        self.scroll_to_selected();
    }

    /// The selected line as a page of its own.
    pub(super) fn open(&self, history: &ProcessHistory) -> Option<OpenStall> {
        let subject = match *entries(history).get(self.selected)? {
            Entry::InProgress { thread, began, .. } => Subject::InProgress { tid: thread.tid, began },
            Entry::Ended(stall) => Subject::Ended(Arc::clone(stall)),
        };
        Some(OpenStall { subject, scroll: 0 })
    }
}

/// A stall that is looked at. One that has ended is kept: the log forgets it sooner than one has read it.
#[derive(Clone, Debug)]
pub struct OpenStall {
    pub subject: Subject,
    /// Lines scrolled away.
    pub scroll: usize,
}

#[derive(Clone, Debug)]
pub enum Subject {
    InProgress { tid: u32, began: SystemTime },
    Ended(Arc<Stall>),
}

impl OpenStall {
    /// A turn in progress becomes the stall it ended as; `None` when it ended without one.
    pub(super) fn settle(self, history: &ProcessHistory) -> Option<Self> {
        let Subject::InProgress { tid, began } = self.subject else { return Some(self) };
        let threads = &history.process().threads;
        let same = |other: SystemTime| {
            let apart = other.duration_since(began).unwrap_or_else(|earlier| earlier.duration());
            apart <= CLOCKS_DIFFER_BY
        };
        let lasts = threads
            .iter()
            .find(|thread| thread.tid == tid)
            .and_then(|thread| in_progress(history, thread))
            .is_some_and(|entry| matches!(entry, Entry::InProgress { began, .. } if same(began)));
        if lasts {
            return Some(self);
        }
        let ended = history.stalls.iter().rev().find(|stall| stall.tid == tid && same(stall.began))?;
        Some(Self { subject: Subject::Ended(Arc::clone(ended)), ..self })
    }
}

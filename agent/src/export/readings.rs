//! Reads snapshots for all faces of the daemon. Each has to see every snapshot in its order: a snapshot tells events and
//! maxima since the one before, whoever asked for that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{heartbeat::Heartbeat, prometheus::Page};
use crate::model::Snapshot;

/// Snapshots that may wait for an exporter that hangs at its collector. A snapshot has 14 KiB of every loop thread, so
/// there must not be many; a scrape that finds so many shows what was last read.
const MOST_WAITING: usize = 4;

/// The one place where the daemon reads snapshots.
pub struct Readings {
    read: Box<dyn Fn() -> Snapshot + Send + Sync>,
    page: Option<Arc<Page>>,
    heartbeat: Arc<Heartbeat>,
    /// Not yet seen by the exporter. Held while one is read, so that they stay in their order.
    waiting: Mutex<VecDeque<Snapshot>>,
}

impl Readings {
    pub fn new(
        page: Option<Arc<Page>>,
        heartbeat: Arc<Heartbeat>,
        read: impl Fn() -> Snapshot + Send + Sync + 'static,
    ) -> Self {
        Self { read: Box::new(read), page, heartbeat, waiting: Mutex::default() }
    }

    /// For a scrape. Blocks for as long as a snapshot takes.
    pub fn read_for_page(&self) {
        let mut waiting = self.lock();
        if waiting.len() < MOST_WAITING {
            self.read_into(&mut waiting);
        }
    }

    /// For the exporter, which then [`take`](Self::take)s it. Blocks for as long as a snapshot takes.
    pub fn read(&self) {
        self.read_into(&mut self.lock());
    }

    /// What the exporter has not seen, oldest first.
    pub fn take(&self) -> VecDeque<Snapshot> {
        std::mem::take(&mut self.lock())
    }

    fn read_into(&self, waiting: &mut VecDeque<Snapshot>) {
        let snapshot = (self.read)();
        if let Some(page) = &self.page {
            page.observe(&snapshot);
        }
        waiting.push_back(snapshot);
        self.heartbeat.beat();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Snapshot>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

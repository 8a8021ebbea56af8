//! What `top` shows, without a terminal: intervals and keys come in, rows and actions go out.
//!
//! Architecture invariant: no widget, no clock and no I/O in here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    detail::{Detail, Tab},
    filter::Filter,
    history::History,
    row::{Row, RowKey},
    sort::{Column, Sort},
};
use crate::{
    model::{Interval, ProcessId},
    verdict::Judge,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Table,
    /// One process, looking at one of its threads.
    Detail(RowKey),
}

/// What lies over the page and takes the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    Help { scroll: usize },
    SortMenu { selected: usize },
    FilterInput,
}

/// What a key asks of the loop around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    Quit,
    /// A new interval between two readings.
    Delay(Duration),
    WriteSnapshot,
}

/// What was read so far.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    pub interval: Option<Arc<Interval>>,
    pub history: History,
    pub judge: Judge,
    /// Lost events since the first interval shown, by reason.
    pub lost: BTreeMap<&'static str, u64>,
}

/// Where the view put things, for the mouse.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    pub header_y: u16,
    pub first_row_y: u16,
    /// Of the log of stalls, which has fewer than fit.
    pub rows: usize,
    /// Begin, end (exclusive) and column.
    pub columns: Vec<(u16, u16, Column)>,
}

#[derive(Debug)]
pub struct App {
    pub page: Page,
    pub overlay: Option<Overlay>,
    pub sort: Sort,
    pub filter: Filter,
    /// Workers stand under their process; else every thread is a row of its own.
    pub tree: bool,
    pub delay: Duration,
    /// The answer to the last key, until the next.
    pub message: Option<String>,
    /// No more intervals come.
    pub ended: bool,
    /// Of the open process; without meaning on the table.
    pub detail: Detail,
    pub hits: Hits,
    pub(super) live: Readings,
    pub(super) frozen: Option<Box<Readings>>,
    rows: Vec<Row>,
    /// `None` until a row is chosen: the cursor then stays on top while rows move.
    chosen: Option<RowKey>,
    selected: usize,
    offset: usize,
    viewport: usize,
}

impl App {
    pub fn new(delay: Duration) -> Self {
        Self {
            page: Page::Table,
            overlay: None,
            sort: Sort::default(),
            filter: Filter::default(),
            tree: true,
            delay,
            message: None,
            ended: false,
            detail: Detail::default(),
            hits: Hits::default(),
            live: Readings::default(),
            frozen: None,
            rows: Vec::new(),
            chosen: None,
            selected: 0,
            offset: 0,
            viewport: 1,
        }
    }

    /// Takes the next interval in. A frozen screen goes on to collect behind what it shows.
    pub fn update(&mut self, interval: Arc<Interval>) {
        self.live.history.update(&interval, self.open_process());
        self.live.judge.push(&interval);
        for (reason, count) in &interval.lost {
            *self.live.lost.entry(reason).or_default() += count;
        }
        self.live.interval = Some(interval);
        if self.frozen.is_none() {
            self.refresh();
        }
    }

    /// What is on the screen: the newest readings, or those at the time of the freeze.
    pub fn readings(&self) -> &Readings {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn toggle_freeze(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(Box::new(self.live.clone())),
        };
        self.refresh();
    }

    fn open_process(&self) -> Option<ProcessId> {
        match self.page {
            Page::Table => None,
            Page::Detail(key) => Some(key.process),
        }
    }

    /// Builds the rows anew, after new readings or another sort, filter or tree setting.
    pub fn refresh(&mut self) {
        self.rows = self.build_rows();
        if let Some(found) = self.chosen.and_then(|chosen| self.rows.iter().position(|row| row.key == chosen))
        {
            self.selected = found;
        } else {
            // What was chosen has gone: the cursor stays where it is.
            self.selected = self.selected.min(self.rows.len().saturating_sub(1));
            self.chosen = self.chosen.and_then(|_| self.rows.get(self.selected)).map(|row| row.key);
        }
        self.scroll_to_selected();
        self.refresh_detail();
    }

    fn refresh_detail(&mut self) {
        let Page::Detail(key) = self.page else { return };
        // Not `readings()`, which would borrow the detail as well.
        let readings = self.frozen.as_deref().unwrap_or(&self.live);
        match readings.history.process(key.process) {
            Some(history) => self.detail.refresh(history, key),
            None => self.page = Page::Table,
        }
    }

    pub fn open_tab(&mut self, tab: Tab) {
        self.detail.tab = tab;
        self.detail.scroll = 0;
        self.detail.open = None;
        self.refresh_detail();
    }

    fn build_rows(&self) -> Vec<Row> {
        let readings = self.readings();
        let Some(interval) = &readings.interval else { return Vec::new() };
        let mut families: Vec<Vec<Row>> = interval
            .processes
            .iter()
            .filter(|process| self.filter.matches(process))
            .filter_map(|process| {
                let history = readings.history.process(process.id)?;
                let mut rows = Row::of_process(process, history, interval.duration_s);
                let findings = readings.judge.findings(process.id);
                rows[0].finding = findings.first().map(|finding| (finding.mode, finding.severity));
                Some(rows)
            })
            .collect();
        if self.tree {
            // Every family has the row of its process; the workers keep their order by tid.
            families.sort_by(|a, b| self.sort.compare(&a[0], &b[0]));
            families.into_iter().flatten().collect()
        } else {
            let mut rows: Vec<Row> = families.into_iter().flatten().collect();
            rows.sort_by(|a, b| self.sort.compare(a, b));
            rows
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Index of the selected row; meaningless without rows.
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// Index of the first row on the screen.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Rows that fit on the screen.
    pub fn viewport(&self) -> usize {
        self.viewport
    }

    /// The view tells how many rows fit, before it asks which.
    pub fn set_viewport(&mut self, rows: usize) {
        self.viewport = rows.max(1);
        self.scroll_to_selected();
    }

    fn scroll_to_selected(&mut self) {
        let last_offset = self.rows.len().saturating_sub(self.viewport);
        let lowest = (self.selected + 1).saturating_sub(self.viewport);
        self.offset = self.offset.clamp(lowest, self.selected.max(lowest)).min(last_offset);
    }

    pub fn select(&mut self, index: usize) {
        self.selected = index.min(self.rows.len().saturating_sub(1));
        self.chosen = self.rows.get(self.selected).map(|row| row.key);
        self.scroll_to_selected();
    }

    pub fn select_by(&mut self, by: isize) {
        self.select(self.selected.saturating_add_signed(by));
    }

    pub fn open_selected(&mut self) {
        if let Some(row) = self.rows.get(self.selected) {
            self.page = Page::Detail(row.key);
            self.chosen = Some(row.key);
            self.detail = Detail::default();
            self.refresh();
        }
    }

    pub fn close_detail(&mut self) {
        self.page = Page::Table;
        self.refresh();
    }

    /// Looks at the next thread of the open process, main after the last.
    pub fn next_thread(&mut self) {
        let Page::Detail(key) = self.page else { return };
        let Some(history) = self.readings().history.process(key.process) else { return };
        let workers = history.process().threads.iter().filter(|thread| thread.kind.name() == "worker");
        let tids: Vec<Option<u32>> =
            std::iter::once(None).chain(workers.map(|thread| Some(thread.tid))).collect();
        let here = tids.iter().position(|tid| *tid == key.worker_tid).unwrap_or(0);
        self.page = Page::Detail(RowKey { worker_tid: tids[(here + 1) % tids.len()], ..key });
        self.detail.thread_changed();
        self.refresh_detail();
    }

    pub fn set_filter(&mut self, text: &str) {
        self.filter = Filter::new(text);
        self.refresh();
    }
}

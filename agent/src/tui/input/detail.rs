//! Keys of the page of one process.

use crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};

use super::WHEEL_ROWS;
use crate::tui::{
    detail::Tab,
    row::RowKey,
    state::{App, Page},
};

/// Lines that a page up or down moves by where the view does not tell its height.
const PAGE_LINES: usize = 10;

impl App {
    pub(super) fn detail_key(&mut self, code: KeyCode, control: bool, key: RowKey) {
        match code {
            KeyCode::Tab => return self.next_thread(),
            KeyCode::Char(digit @ '1'..='5') => {
                return self.open_tab(Tab::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Char('l') => return self.toggle_tab(Tab::Stalls),
            KeyCode::Char('f') => return self.toggle_tab(Tab::Flame),
            KeyCode::Char('b') => return self.toggle_tab(Tab::Breakdown),
            KeyCode::Char('v') => return self.toggle_tab(Tab::Findings),
            _ => {}
        }
        match self.detail.tab {
            Tab::Overview => match code {
                KeyCode::Esc | KeyCode::Backspace => self.close_detail(),
                KeyCode::Enter => self.open_tab(Tab::Stalls),
                _ => scroll(&mut self.detail.scroll, code),
            },
            Tab::Stalls => self.stalls_key(code, control, key),
            Tab::Flame => self.flame_key(code),
            Tab::Breakdown | Tab::Findings => match code {
                KeyCode::Esc | KeyCode::Backspace => self.open_tab(Tab::Overview),
                _ => scroll(&mut self.detail.scroll, code),
            },
        }
    }

    /// The key of an open tab goes back to the overview.
    fn toggle_tab(&mut self, tab: Tab) {
        self.open_tab(if self.detail.tab == tab { Tab::Overview } else { tab });
    }

    fn stalls_key(&mut self, code: KeyCode, control: bool, key: RowKey) {
        if let Some(open) = &mut self.detail.open {
            match code {
                KeyCode::Esc | KeyCode::Backspace | KeyCode::Enter => self.detail.open = None,
                _ => scroll(&mut open.scroll, code),
            }
            return;
        }
        let page = isize::try_from(self.detail.log.viewport()).unwrap_or(1);
        match code {
            KeyCode::Esc | KeyCode::Backspace => self.open_tab(Tab::Overview),
            KeyCode::Enter => {
                // Not `readings()`, which would borrow the detail as well.
                let readings = self.frozen.as_deref().unwrap_or(&self.live);
                let history = readings.history.process(key.process);
                self.detail.open = history.and_then(|history| self.detail.log.open(history));
            }
            KeyCode::Char('d') if control => self.select_stall_by(page / 2),
            KeyCode::Char('u') if control => self.select_stall_by(-page / 2),
            KeyCode::Down | KeyCode::Char('j') => self.select_stall_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.select_stall_by(-1),
            KeyCode::PageDown => self.select_stall_by(page),
            KeyCode::PageUp => self.select_stall_by(-page),
            KeyCode::Home | KeyCode::Char('g') => self.select_stall(0),
            KeyCode::End | KeyCode::Char('G') => self.select_stall(usize::MAX),
            _ => {}
        }
    }

    fn select_stall_by(&mut self, by: isize) {
        self.select_stall(self.detail.log.selected().saturating_add_signed(by));
    }

    fn select_stall(&mut self, index: usize) {
        let Page::Detail(key) = self.page else { return };
        let readings = self.frozen.as_deref().unwrap_or(&self.live);
        if let Some(history) = readings.history.process(key.process) {
            self.detail.log.select(history, index);
        }
    }

    fn flame_key(&mut self, code: KeyCode) {
        let profile = self.detail.profile.clone();
        let cursor = &mut self.detail.flame;
        match (code, profile.as_deref().map(|profile| &profile.flame)) {
            (KeyCode::Esc | KeyCode::Backspace, _) if cursor.zoom_out() => {}
            (KeyCode::Esc | KeyCode::Backspace, _) => self.open_tab(Tab::Overview),
            (KeyCode::Enter, _) => cursor.zoom_in(),
            (KeyCode::Up | KeyCode::Char('k'), _) => cursor.up(),
            (KeyCode::Home | KeyCode::Char('g'), _) => cursor.select_top(),
            (KeyCode::Down | KeyCode::Char('j'), Some(root)) => cursor.down(root),
            (KeyCode::Right, Some(root)) => cursor.sideways(root, 1),
            (KeyCode::Left, Some(root)) => cursor.sideways(root, -1),
            _ => {}
        }
    }

    /// Wheel: scroll or move. Click on a stall: select, again: open.
    pub(super) fn detail_mouse(&mut self, event: MouseEvent) {
        let code = match event.kind {
            MouseEventKind::ScrollDown => KeyCode::Down,
            MouseEventKind::ScrollUp => KeyCode::Up,
            MouseEventKind::Down(MouseButton::Left) => return self.click_stall(event.row),
            _ => return,
        };
        let Page::Detail(key) = self.page else { return };
        let in_log = self.detail.tab == Tab::Stalls && self.detail.open.is_none();
        for _ in 0..if in_log { WHEEL_ROWS } else { 1 } {
            self.detail_key(code, false, key);
        }
    }

    fn click_stall(&mut self, y: u16) {
        let (Page::Detail(key), Tab::Stalls, None) = (self.page, self.detail.tab, &self.detail.open) else {
            return;
        };
        let Some(line) = y.checked_sub(self.hits.first_row_y).map(usize::from) else { return };
        if line >= self.hits.rows {
            return;
        }
        let index = self.detail.log.offset() + line;
        if index == self.detail.log.selected() {
            self.stalls_key(KeyCode::Enter, false, key);
        } else {
            self.select_stall(index);
        }
    }
}

/// The view puts what is too far back to the end.
fn scroll(scroll: &mut usize, code: KeyCode) {
    *scroll = match code {
        KeyCode::Down | KeyCode::Char('j') => *scroll + 1,
        KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
        KeyCode::PageDown => *scroll + PAGE_LINES,
        KeyCode::PageUp => scroll.saturating_sub(PAGE_LINES),
        KeyCode::Home | KeyCode::Char('g') => 0,
        _ => return,
    };
}

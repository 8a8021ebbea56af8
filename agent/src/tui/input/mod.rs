//! Keys and the mouse. The bindings follow htop, bottom and tokio-console, so that no hand has to learn.

mod detail;

use std::time::Duration;

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::{
    sort::Column,
    state::{Action, App, Overlay, Page},
};

/// Steps of `+` and `-`. Below a quarter of a second reading costs more than it tells.
const DELAYS_MS: [u64; 8] = [250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
const WHEEL_ROWS: isize = 3;

impl App {
    pub fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::None;
        }
        self.message = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        match &mut self.overlay {
            Some(Overlay::FilterInput) => self.filter_key(key.code, control),
            Some(Overlay::SortMenu { selected }) => {
                let selected = *selected;
                self.sort_menu_key(key.code, selected);
            }
            Some(Overlay::Help { scroll }) => match key.code {
                KeyCode::Down | KeyCode::Char('j') => *scroll += 1,
                KeyCode::PageDown => *scroll += 10,
                KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
                KeyCode::PageUp => *scroll = scroll.saturating_sub(10),
                _ => self.overlay = None,
            },
            None => return self.page_key(key.code, control),
        }
        Action::None
    }

    fn page_key(&mut self, code: KeyCode, control: bool) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.overlay = Some(Overlay::Help { scroll: 0 }),
            KeyCode::Char(' ' | 'p') => self.toggle_freeze(),
            KeyCode::Char('w') => return Action::WriteSnapshot,
            KeyCode::Char('+' | '=') => return self.change_delay(1),
            KeyCode::Char('-') => return self.change_delay(-1),
            _ => match self.page {
                Page::Table => self.table_key(code, control),
                Page::Detail(key) => self.detail_key(code, control, key),
            },
        }
        Action::None
    }

    fn table_key(&mut self, code: KeyCode, control: bool) {
        let page = isize::try_from(self.viewport()).unwrap_or(1);
        match code {
            KeyCode::Char('d') if control => self.select_by(page / 2),
            KeyCode::Char('u') if control => self.select_by(-page / 2),
            KeyCode::Down | KeyCode::Char('j') => self.select_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.select_by(-1),
            KeyCode::PageDown => self.select_by(page),
            KeyCode::PageUp => self.select_by(-page),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Enter => self.open_selected(),
            KeyCode::Esc => self.set_filter(""),
            KeyCode::Char('/') => self.overlay = Some(Overlay::FilterInput),
            KeyCode::Char('t') => {
                self.tree = !self.tree;
                self.refresh();
            }
            KeyCode::Char('s') | KeyCode::F(6) => {
                let selected = Column::ALL.iter().position(|column| *column == self.sort.column);
                self.overlay = Some(Overlay::SortMenu { selected: selected.unwrap_or(0) });
            }
            KeyCode::Char('<' | ',') => self.step_sort(-1),
            KeyCode::Char('>' | '.') => self.step_sort(1),
            KeyCode::Char('r') => {
                self.sort.reversed = !self.sort.reversed;
                self.refresh();
            }
            KeyCode::Char('P') => self.sort_by(Column::Cpu),
            KeyCode::Char('M') => self.sort_by(Column::Rss),
            KeyCode::Char('N') => self.sort_by(Column::Pid),
            KeyCode::Char('L') => self.sort_by(Column::TurnP99),
            // `G` is taken: whoever knows `g` expects the last row.
            KeyCode::Char('C') => self.sort_by(Column::GcRatio),
            KeyCode::Char('O') => self.sort_by(Column::Blocked),
            _ => {}
        }
    }

    fn filter_key(&mut self, code: KeyCode, control: bool) {
        let mut text = self.filter.text().to_owned();
        match code {
            KeyCode::Enter => self.overlay = None,
            KeyCode::Esc => {
                self.overlay = None;
                self.set_filter("");
            }
            KeyCode::Char('u') if control => self.set_filter(""),
            KeyCode::Backspace => {
                text.pop();
                self.set_filter(&text);
            }
            KeyCode::Char(character) if !control => {
                text.push(character);
                self.set_filter(&text);
            }
            _ => {}
        }
    }

    fn sort_menu_key(&mut self, code: KeyCode, selected: usize) {
        let last = Column::ALL.len() - 1;
        let selected = match code {
            KeyCode::Down | KeyCode::Char('j') => (selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => selected.saturating_sub(1),
            KeyCode::Home | KeyCode::Char('g') | KeyCode::PageUp => 0,
            KeyCode::End | KeyCode::Char('G') | KeyCode::PageDown => last,
            KeyCode::Enter | KeyCode::Char(' ') => {
                self.overlay = None;
                return self.sort_by(Column::ALL[selected]);
            }
            KeyCode::Char('r') => {
                self.sort.reversed = !self.sort.reversed;
                self.refresh();
                selected
            }
            _ => {
                self.overlay = None;
                return;
            }
        };
        self.overlay = Some(Overlay::SortMenu { selected });
    }

    fn sort_by(&mut self, column: Column) {
        self.sort.choose(column);
        self.refresh();
    }

    fn step_sort(&mut self, by: isize) {
        self.sort.step(by);
        self.refresh();
    }

    fn change_delay(&mut self, by: isize) -> Action {
        let now_ms = self.delay.as_millis();
        let next = if by > 0 {
            DELAYS_MS.into_iter().find(|step| u128::from(*step) > now_ms)
        } else {
            DELAYS_MS.into_iter().rev().find(|step| u128::from(*step) < now_ms)
        };
        let Some(next) = next else { return Action::None };
        self.delay = Duration::from_millis(next);
        Action::Delay(self.delay)
    }

    /// Click on a row: select, again: open. Click on a title: sort, again: reverse. Wheel: move.
    pub fn mouse(&mut self, event: MouseEvent) {
        if self.overlay.is_some() {
            if matches!(event.kind, MouseEventKind::Down(_)) {
                self.overlay = None;
            }
            return;
        }
        if let Page::Detail(_) = self.page {
            return self.detail_mouse(event);
        }
        match event.kind {
            MouseEventKind::ScrollDown => self.select_by(WHEEL_ROWS),
            MouseEventKind::ScrollUp => self.select_by(-WHEEL_ROWS),
            MouseEventKind::Down(MouseButton::Left) => self.click(event.column, event.row),
            _ => {}
        }
    }

    fn click(&mut self, x: u16, y: u16) {
        if y == self.hits.header_y {
            let hit = self.hits.columns.iter().find(|(begin, end, _)| (*begin..*end).contains(&x));
            if let Some(&(_, _, column)) = hit {
                self.sort_by(column);
            }
        } else if let Some(line) = y.checked_sub(self.hits.first_row_y).map(usize::from)
            && line < self.viewport()
            && self.offset() + line < self.rows().len()
        {
            let index = self.offset() + line;
            if index == self.selected() {
                self.open_selected();
            } else {
                self.select(index);
            }
        }
    }
}

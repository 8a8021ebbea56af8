//! The menu of `s`: every column with its meaning.

use ratatui::{Frame, layout::Rect, style::Style};

use super::{popup, put};
use crate::tui::{palette::Palette, sort::Column, state::App};

const WIDTH: u16 = 60;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, selected: usize, palette: &Palette) {
    let height = Column::ALL.len() as u16 + 2;
    let inner = popup(frame, area, WIDTH, height, "Sort by: Enter, r reverse, Esc", palette);
    let rows = usize::from(inner.height);
    let first = (selected + 1).saturating_sub(rows);
    for (y, (index, column)) in (inner.top()..).zip(Column::ALL.iter().enumerate().skip(first).take(rows)) {
        let symbols = palette.symbols;
        let direction = match (*column == app.sort.column, app.sort.descends()) {
            (false, _) => " ",
            (true, true) => symbols.descending,
            (true, false) => symbols.ascending,
        };
        let cursor = if index == selected { symbols.cursor } else { " " };
        let text = format!("{cursor}{direction} {:8}{}", column.title(), column.meaning());
        let style = if index == selected { palette.selected } else { Style::new() };
        let padded = format!("{text:width$}", width = usize::from(inner.width));
        put(frame, inner, inner.x, y, &padded, style);
    }
}

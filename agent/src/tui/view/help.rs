//! Keys and the meaning of columns.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::{Paragraph, Widget as _},
};

use super::popup;
use crate::tui::{palette::Palette, sort::Column};

const WIDTH: u16 = 78;

const KEYS: [(&str, &str); 21] = [
    ("j k, arrows, PgUp PgDn", "move; Ctrl-d Ctrl-u by half a page"),
    ("g G, Home End", "first and last row"),
    ("Enter, Esc", "open the page of a process, go back"),
    ("Tab", "on that page: next thread"),
    ("1 2 3 4 5", "there: overview, log, flames, breakdown, findings"),
    ("l f b v", "there: stall log, flames, breakdown, findings, and back"),
    ("Enter, Esc", "in the log: stacks of a stall, back"),
    ("arrows, Enter, Esc", "in the flame graph: select, zoom in, out"),
    ("t", "workers under their process, or every thread alone"),
    ("s, F6", "menu of columns to sort by"),
    ("< >", "sort by the column on the left or right"),
    ("r", "reverse the order"),
    ("P M N", "sort by CPU, memory, pid"),
    ("L C O", "sort by loop p99, collections (GC), stdout"),
    ("/", "filter by name, pid, container; a regular expression"),
    ("Esc", "clear the filter"),
    ("Space, p", "freeze the screen; readings go on behind it"),
    ("+ -", "longer or shorter intervals"),
    ("w", "write what is shown to a JSON file in this directory"),
    ("?, h, F1", "this help"),
    ("q, Ctrl-C", "quit"),
];

const NOTES: [&str; 10] = [
    "A turn is the time from one wait of the event loop to the next. A stall",
    "is a turn over the threshold (--stall-threshold, 50 ms).",
    "STALL/m and STALLED are sums over the last 60 seconds, GCMAX is the",
    "maximum of these; all other numbers are those of the last interval.",
    "CURRENT shows a turn that has not ended, from 50 ms on: the loop is",
    "blocked now. UTIL% counts it; p99 and MAX cannot know it yet.",
    "CAUSE and CULPRIT are those of most stalled time of the last 60 seconds,",
    "and CULPRIT is that of the turn in progress so far while there is one. It",
    "is the innermost function of the application that most of it shares.",
    "A dash means not known: Enter shows which signal is missing, and why.",
];

/// Draws the text and returns how far it is scrolled at most.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, scroll: usize, palette: &Palette) -> usize {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (keys, does) in KEYS {
        lines.push(Line::from(vec![
            Span::styled(format!(" {keys:<23}"), palette.key),
            Span::raw(format!(" {does}")),
        ]));
    }
    lines.push(Line::default());
    lines.extend(NOTES.map(|note| Line::raw(format!(" {note}"))));
    lines.push(Line::default());
    for column in Column::ALL {
        lines.push(Line::from(vec![
            Span::styled(format!(" {:<9}", column.title()), palette.key),
            Span::raw(column.meaning()),
        ]));
    }
    let height = lines.len() as u16 + 2;
    let inner = popup(frame, area, WIDTH, height, "Help: j k scroll, any other key closes", palette);
    let scroll = scroll.min(lines.len().saturating_sub(usize::from(inner.height)));
    let text = Paragraph::new(lines).scroll((scroll as u16, 0));
    text.render(inner.intersection(frame.area()), frame.buffer_mut());
    scroll
}

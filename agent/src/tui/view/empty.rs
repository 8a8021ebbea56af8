//! What one sees when there is nothing to see.

use ratatui::{
    Frame,
    layout::{Alignment, Rect},
    text::Line,
    widgets::{Paragraph, Widget as _, Wrap},
};

use crate::tui::{palette::Palette, state::App};

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, palette: &Palette) {
    let lines = if app.readings().interval.is_none() && !app.ended {
        vec![Line::styled("Looking for Node.js processes ...", palette.title)]
    } else {
        vec![
            Line::styled("No Node.js process is running on this host.", palette.title),
            Line::default(),
            Line::raw("Start any Node program and it appears here by itself."),
            Line::raw("In a clone of nodeprobe, `cargo xtask demo` starts a small sick service to look at."),
            Line::raw("`nodeprobe check` tells whether this host can be observed."),
        ]
    };
    let above = area.height.saturating_sub(lines.len() as u16) / 2;
    let middle = Rect { y: area.y + above, height: area.height - above, ..area };
    let text = Paragraph::new(lines).alignment(Alignment::Center).wrap(Wrap { trim: true });
    text.render(middle.intersection(frame.area()), frame.buffer_mut());
}

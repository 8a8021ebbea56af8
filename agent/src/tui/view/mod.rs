//! Draws the state. Any size of the screen is fine, also none at all.

mod bars;
mod detail;
mod empty;
mod help;
mod sort_menu;
mod table;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::{Block, Clear, Widget as _},
};

use super::{
    culprit,
    detail::Tab,
    palette::Palette,
    state::{App, Overlay, Page},
};
use crate::{
    model::Culprit,
    report::{printable, quantity::duration, timestamp::time_of_day},
};

/// Below this height the footer, then the header is left out: the table is what one came for.
const MIN_HEIGHT_FOR_FOOTER: u16 = 5;
const MIN_HEIGHT_FOR_HEADER: u16 = 3;

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, palette: &Palette) {
    let area = frame.area();
    let header_height = u16::from(area.height >= MIN_HEIGHT_FOR_HEADER);
    let footer_height = u16::from(area.height >= MIN_HEIGHT_FOR_FOOTER);
    let body =
        Rect { y: area.y + header_height, height: area.height - header_height - footer_height, ..area };
    app.hits = super::state::Hits::default();
    if header_height > 0 {
        draw_line(frame, Rect { height: 1, ..area }, header(app, palette));
    }
    match app.page {
        _ if app.readings().interval.as_ref().is_none_or(|interval| interval.processes.is_empty())
            && app.page == Page::Table =>
        {
            empty::draw(frame, body, app, palette);
        }
        Page::Table => table::draw(frame, body, app, palette),
        Page::Detail(key) => detail::draw(frame, body, app, key, palette),
    }
    if footer_height > 0 {
        let line = Rect { y: body.bottom(), height: 1, ..area };
        draw_line(frame, line, footer(app, palette));
    }
    match app.overlay {
        Some(Overlay::Help { scroll }) => {
            let scroll = help::draw(frame, area, scroll, palette);
            app.overlay = Some(Overlay::Help { scroll });
        }
        Some(Overlay::SortMenu { selected }) => sort_menu::draw(frame, area, app, selected, palette),
        Some(Overlay::FilterInput) | None => {}
    }
}

fn draw_line(frame: &mut Frame<'_>, area: Rect, line: Line<'_>) {
    line.render(area.intersection(frame.area()), frame.buffer_mut());
}

/// The host in one line.
fn header<'a>(app: &App, palette: &Palette) -> Line<'a> {
    let readings = app.readings();
    let mut spans = vec![Span::styled(" nodeprobe", palette.title)];
    // What must not be missed comes first: narrow screens cut the end.
    if app.is_frozen() {
        spans.extend([Span::raw("  "), Span::styled("FROZEN", palette.warning)]);
    } else if app.ended {
        spans.extend([Span::raw("  "), Span::styled("END OF DATA", palette.warning)]);
    }
    if let Some(interval) = &readings.interval {
        let processes = interval.processes.len();
        let threads: usize = interval.processes.iter().map(|process| process.threads.len()).sum();
        spans.push(Span::raw(format!(
            "  {processes} process{}, {threads} event loop{}",
            if processes == 1 { "" } else { "es" },
            if threads == 1 { "" } else { "s" },
        )));
        let lost: u64 = readings.lost.values().sum();
        if lost > 0 {
            let reasons: Vec<String> = readings
                .lost
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            let text = format!("LOST EVENTS {lost} ({})", reasons.join(", "));
            spans.extend([Span::raw("  "), Span::styled(text, palette.critical)]);
        } else {
            spans.push(Span::styled("  lost 0", palette.dim));
        }
        spans.push(Span::styled(format!("  every {}", duration(app.delay.as_secs_f64())), palette.dim));
        spans.push(Span::styled(format!("  {} UTC", time_of_day(interval.time)), palette.dim));
    }
    Line::from(spans)
}

/// What was typed, or happened, or could be typed.
fn footer<'a>(app: &App, palette: &Palette) -> Line<'a> {
    if let Some(message) = &app.message {
        return Line::styled(format!(" {}", palette.text(message, 512)), palette.warning);
    }
    let typing = app.overlay == Some(Overlay::FilterInput);
    if typing || (!app.filter.is_empty() && app.page == Page::Table) {
        let mut spans = vec![
            Span::styled(" filter: ", palette.key),
            Span::raw(palette.text(app.filter.text(), 128)),
            Span::styled(if typing { "_" } else { "" }, palette.key),
        ];
        if app.filter.is_substring() {
            let note = "  (not a regular expression: looked for as it stands)";
            spans.push(Span::styled(note, palette.warning));
        }
        let keys = if typing { "  Enter keep  Esc clear" } else { "  / edit  Esc clear" };
        spans.push(Span::styled(keys, palette.dim));
        return Line::from(spans);
    }
    let hints: &[(&str, &str)] = match app.page {
        Page::Table => &[
            ("?", "help"),
            ("q", "quit"),
            ("Enter", "detail"),
            ("/", "filter"),
            ("s", "sort"),
            ("r", "reverse"),
            ("t", "tree"),
            ("Space", "freeze"),
            ("w", "write"),
        ],
        Page::Detail(_) => detail_hints(app),
    };
    let hint = |(key, does): &(&str, &str)| {
        [Span::styled(format!(" {key}"), palette.key), Span::raw(format!(" {does} "))]
    };
    Line::from(hints.iter().flat_map(hint).collect::<Vec<_>>())
}

fn detail_hints(app: &App) -> &'static [(&'static str, &'static str)] {
    match (app.detail.tab, &app.detail.open) {
        (Tab::Stalls, Some(_)) => &[
            ("?", "help"),
            ("q", "quit"),
            ("Esc", "back to the log"),
            ("j k", "scroll"),
            ("Space", "freeze"),
        ],
        (Tab::Stalls, None) => &[
            ("?", "help"),
            ("q", "quit"),
            ("Esc", "back"),
            ("j k", "select"),
            ("Enter", "stack"),
            ("f", "flame graph"),
            ("b", "breakdown"),
            ("Space", "freeze"),
        ],
        (Tab::Flame, _) => &[
            ("?", "help"),
            ("q", "quit"),
            ("arrows", "select"),
            ("Enter", "zoom in"),
            ("Esc", "out, back"),
            ("Tab", "next thread"),
            ("b", "breakdown"),
            ("Space", "freeze"),
        ],
        (Tab::Overview | Tab::Breakdown | Tab::Findings, _) => &[
            ("?", "help"),
            ("q", "quit"),
            ("Esc", "back"),
            ("l", "stall log"),
            ("f", "flame graph"),
            ("b", "breakdown"),
            ("v", "findings"),
            ("Tab", "next thread"),
            ("j k", "scroll"),
            ("Space", "freeze"),
        ],
    }
}

/// Clears a rectangle in the middle of `area` and frames it; what is left is for its content.
fn popup(frame: &mut Frame<'_>, area: Rect, width: u16, height: u16, title: &str, palette: &Palette) -> Rect {
    let width = width.min(area.width);
    let height = height.min(area.height);
    let outer =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered()
        .border_set(palette.symbols.border)
        .border_style(palette.accent)
        .title(Span::styled(format!(" {title} "), palette.title));
    let inner = block.inner(outer);
    Clear.render(outer, frame.buffer_mut());
    block.render(outer, frame.buffer_mut());
    inner
}

/// `hashPassword auth.js:42` in `columns` columns. Of what is too long both parts keep what says most: a function its
/// begin, a place its end.
fn blame(culprit: &Culprit, columns: usize, palette: &Palette) -> String {
    let place = culprit::place_of(culprit);
    if place.is_empty() {
        return palette.text(&culprit.function, columns);
    }
    let function = palette.text(&culprit.function, columns);
    let (wanted, place_width) = (printable::width(&function), printable::width(&place));
    // A half for each, and what the other leaves over.
    let for_place = place_width.min((columns / 2).max(columns.saturating_sub(wanted + 1)));
    let function = palette.text(&culprit.function, columns.saturating_sub(for_place + 1));
    palette.text(&format!("{function} {}", palette.tail(&place, for_place)), columns)
}

/// Draws text from `(x, y)` on, as far as `area` goes.
fn put(frame: &mut Frame<'_>, area: Rect, x: u16, y: u16, text: &str, style: Style) {
    if x < area.right() && y < area.bottom() && x >= area.x && y >= area.y {
        let room = usize::from(area.right() - x);
        frame.buffer_mut().set_stringn(x, y, text, room, style);
    }
}

//! The table of processes and their worker threads.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
};

use super::{blame, put};
use crate::{
    report::printable,
    tui::{
        palette::Palette,
        row::Row,
        sort::Column,
        state::{App, Hits},
    },
};

/// The narrowest and the widest useful column of names.
const SERVICE_MIN: u16 = 14;
const SERVICE_MAX: u16 = 48;
/// Room for `hashPassword auth.js:42`, and for what minifiers and deep directories leave.
const CULPRIT_MIN: u16 = 23;
const CULPRIT_MAX: u16 = 56;
/// For the cursor.
const MARGIN: u16 = 1;

/// What a narrow screen does without, the first one first. What is not named stays: which service, how busy.
const DROP_ORDER: [Column; 20] = [
    Column::Age,
    Column::Node,
    Column::TurnP50,
    Column::GcLongest,
    Column::Cpu,
    Column::Stalled,
    Column::Thread,
    Column::Heap,
    Column::TurnMax,
    Column::Stdout,
    Column::Rss,
    Column::GcRatio,
    Column::Blocked,
    Column::Cause,
    Column::Finding,
    Column::Culprit,
    Column::Pid,
    Column::Stalls,
    Column::Current,
    Column::TurnP99,
];

/// Room for every value, and for the title with an arrow.
const fn width(column: Column) -> u16 {
    match column {
        Column::Service => SERVICE_MIN,
        Column::Culprit => CULPRIT_MIN,
        // `event-loop-starvation`.
        Column::Finding => 21,
        Column::Cause => 13,
        Column::Node | Column::Current | Column::Stalls | Column::Stalled => 8,
        Column::Pid | Column::Thread | Column::TurnP99 | Column::TurnMax | Column::Stdout => 7,
        Column::Utilization | Column::TurnP50 | Column::GcLongest | Column::Cpu | Column::Age => 6,
        Column::GcRatio | Column::Blocked | Column::Heap | Column::Rss => 5,
    }
}

/// The columns that fit and their widths; names and culprits share what is left over.
fn layout(screen_width: u16) -> Vec<(Column, u16)> {
    let mut columns = Column::ALL.to_vec();
    let needed = |columns: &[Column]| {
        MARGIN + columns.iter().map(|column| width(*column) + 1).sum::<u16>().saturating_sub(1)
    };
    for dropped in DROP_ORDER {
        if needed(&columns) <= screen_width {
            break;
        }
        columns.retain(|column| *column != dropped);
    }
    let spare = screen_width.saturating_sub(needed(&columns));
    let has_culprit = columns.contains(&Column::Culprit);
    let for_culprit = if has_culprit { (spare / 2).min(CULPRIT_MAX - CULPRIT_MIN) } else { 0 };
    let for_service = (spare - for_culprit).min(SERVICE_MAX - SERVICE_MIN);
    let extra = |column| match column {
        Column::Service => for_service,
        Column::Culprit => for_culprit,
        _ => 0,
    };
    columns.into_iter().map(|column| (column, width(column) + extra(column))).collect()
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App, palette: &Palette) {
    let columns = layout(area.width);
    let rows_area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    app.set_viewport(usize::from(rows_area.height));
    app.hits = draw_titles(frame, area, app, &columns, palette);
    let shown = app.rows().iter().enumerate().skip(app.offset()).take(usize::from(rows_area.height));
    for (y, (index, row)) in (rows_area.top()..).zip(shown) {
        let line = Rect { y, height: 1, ..rows_area };
        // A worker is the last of its process when no other worker follows.
        let is_last = app.rows().get(index + 1).is_none_or(|next| next.key.worker_tid.is_none());
        let branch = match row.key.worker_tid {
            Some(_) if app.tree && is_last => Some(palette.symbols.last_branch),
            Some(_) if app.tree => Some(palette.symbols.branch),
            _ => None,
        };
        draw_row(frame, line, row, branch, &columns, palette);
        if index == app.selected() {
            put(frame, line, line.x, y, palette.symbols.cursor, Style::new());
            let visible = line.intersection(frame.area());
            frame.buffer_mut().set_style(visible, palette.selected);
        }
    }
    if app.rows().is_empty() {
        let y = rows_area.y + 1;
        let text = "  No process matches the filter; Esc clears it.";
        put(frame, rows_area, rows_area.x, y, text, palette.dim);
    }
}

fn draw_titles(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    columns: &[(Column, u16)],
    palette: &Palette,
) -> Hits {
    let mut hits = Hits { header_y: area.y, first_row_y: area.y + 1, ..Hits::default() };
    let mut x = area.x + MARGIN;
    for (column, width) in columns {
        let sorted = *column == app.sort.column;
        let direction = match (sorted, app.sort.descends()) {
            (false, _) => "",
            (true, true) => palette.symbols.descending,
            (true, false) => palette.symbols.ascending,
        };
        let title = format!("{}{direction}", column.title());
        let style = if sorted { palette.sorted } else { palette.column };
        let columns_used = printable::width(&title) as u16;
        let begin = if column.is_text() { x } else { (x + width).saturating_sub(columns_used) };
        put(frame, area, begin, area.y, &title, style);
        hits.columns.push((x, x + width + 1, *column));
        x += width + 1;
    }
    hits
}

fn draw_row(
    frame: &mut Frame<'_>,
    line: Rect,
    row: &Row,
    branch: Option<&str>,
    columns: &[(Column, u16)],
    palette: &Palette,
) {
    let ended = if row.exited { palette.dim.add_modifier(Modifier::CROSSED_OUT) } else { Style::new() };
    let mut x = line.x + MARGIN;
    for (column, width) in columns {
        let value = match (column, branch) {
            // The pid stands on the process above.
            (Column::Pid, Some(_)) => String::new(),
            (Column::Service, Some(branch)) => format!("{branch}worker"),
            _ => column.cell(row),
        };
        let text = match (column, &row.culprit) {
            (Column::Culprit, Some(culprit)) => blame(culprit, usize::from(*width), palette),
            _ => palette.text(&value, usize::from(*width)),
        };
        let blanks = usize::from(*width).saturating_sub(printable::width(&text)) as u16;
        let begin = if column.is_text() { x } else { x + blanks };
        // Branches are ours and stay as they are.
        let text = if branch.is_some() && *column == Column::Service { value } else { text };
        put(frame, line, begin, line.y, &text, palette.level(column.level(row)).patch(ended));
        x += width + 1;
    }
}

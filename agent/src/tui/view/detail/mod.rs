//! The page of one process: one of its loops in depth, GC, streams, last stalls, and what is not known.

mod events;
mod graphs;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::draw_line;
use crate::{
    model::{
        ThreadKind,
        interval::{ProcessInterval, ThreadInterval},
    },
    report::quantity::{bytes, duration, milliseconds, or_unknown, percent},
    tui::{
        history::ProcessHistory,
        palette::Palette,
        row::{Level, Row, RowKey},
        sort::Column,
        state::App,
    },
};

/// From this width on graphs and lists stand side by side.
const TWO_COLUMNS_WIDTH: u16 = 104;
/// Between the two.
const GAP: u16 = 2;
/// As `docker ps` shows it.
const SHORT_CONTAINER_ID: usize = 12;

/// What all parts of the page look at.
struct Context<'a> {
    history: &'a ProcessHistory,
    process: &'a ProcessInterval,
    /// The loop looked at; `None` when it has ended.
    thread: Option<&'a ThreadInterval>,
    palette: &'a Palette,
}

type Draw<'a> = Box<dyn Fn(&mut Frame<'_>, Rect) + 'a>;

/// A part of the page with a title line; it is drawn whole or cut at the bottom.
struct Section<'a> {
    title: Line<'a>,
    /// Without the title.
    height: u16,
    draw: Draw<'a>,
}

/// Returns how far the page is scrolled at most.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &App, key: RowKey, palette: &Palette) -> usize {
    let scroll = app.detail_scroll;
    let Some(history) = app.readings().history.process(key.process) else { return 0 };
    let process = history.process();
    let thread = process.threads.iter().find(|thread| match key.worker_tid {
        Some(tid) => thread.tid == tid,
        None => thread.kind == ThreadKind::Main,
    });
    let context = Context { history, process, thread, palette };
    let gone =
        app.readings().interval.as_ref().is_some_and(|interval| interval.time > history.interval().time)
            || process.exited;
    let mut y = area.y;
    for line in head(&context, gone) {
        if y < area.bottom() {
            draw_line(frame, Rect { y, height: 1, ..area }, line);
        }
        y += 1;
    }
    let body = Rect { y: y + 1, height: area.bottom().saturating_sub(y + 1), ..area };
    let turns = graphs::turns(&context);
    let utilization = graphs::utilization(&context);
    let p99 = graphs::turn_p99(&context);
    let gc = graphs::gc(&context);
    let streams = events::streams(&context);
    let stalls = events::stalls(&context);
    let pauses = events::pauses(&context);
    let mut sections: Vec<Section<'_>> = events::unavailable(&context).into_iter().collect();
    let last = if area.width >= TWO_COLUMNS_WIDTH {
        let half = (area.width - GAP) / 2;
        let right = Rect { x: area.x + half + GAP, width: area.width - half - GAP, ..body };
        stack(frame, Rect { width: half, ..body }, vec![turns, utilization, p99, gc], 0, palette);
        sections.extend([streams, stalls, pauses]);
        stack(frame, right, sections, scroll, palette)
    } else {
        sections.extend([turns, utilization, p99, streams, stalls, gc, pauses]);
        stack(frame, body, sections, scroll, palette)
    };
    scroll.min(last)
}

/// Draws sections one below the other, without the first `scroll`; returns how many can be scrolled away.
fn stack(
    frame: &mut Frame<'_>,
    area: Rect,
    sections: Vec<Section<'_>>,
    scroll: usize,
    palette: &Palette,
) -> usize {
    let last = sections.len().saturating_sub(1);
    let mut y = area.y;
    for section in sections.into_iter().skip(scroll.min(last)) {
        if y >= area.bottom() {
            break;
        }
        let Section { mut title, height, draw } = section;
        title.style = palette.column;
        draw_line(frame, Rect { y, height: 1, ..area }, title);
        let left = area.bottom() - y - 1;
        draw(frame, Rect { y: y + 1, height: height.min(left), ..area });
        y = y.saturating_add(height + 2);
    }
    last
}

/// Who it is, and the numbers of the table that say most.
fn head<'a>(context: &Context<'a>, gone: bool) -> Vec<Line<'a>> {
    let Context { process, palette, history, thread } = *context;
    let identity = &process.identity;
    let mut who = vec![
        Span::raw(" "),
        Span::styled(palette.text(&identity.name, 60), palette.title),
        Span::raw(format!("  pid {}", process.id.pid)),
    ];
    let mut fact = |label: &str, value: Option<&str>, columns: usize| {
        if let Some(value) = value {
            who.push(Span::styled(format!("  {label} "), palette.dim));
            who.push(Span::raw(palette.text(value, columns)));
        }
    };
    fact("Node", identity.node_version.as_deref(), 20);
    fact("V8", identity.v8_version.as_deref(), 24);
    let container: Option<String> =
        identity.container_id.as_deref().map(|id| id.chars().take(SHORT_CONTAINER_ID).collect());
    fact("container", container.as_deref(), SHORT_CONTAINER_ID);
    fact("up", Some(&duration(process.uptime_s)), 8);
    if gone {
        who.extend([Span::raw("  "), Span::styled("ENDED", palette.critical)]);
    }
    let memory = vec![
        Span::styled(" heap ", palette.dim),
        Span::raw(or_unknown(process.heap_used_bytes, bytes)),
        Span::raw(process.heap_limit_bytes.map(|limit| format!(" of {}", bytes(limit))).unwrap_or_default()),
        Span::styled("  RSS ", palette.dim),
        Span::raw(or_unknown(process.rss_bytes, bytes)),
        Span::styled("  CPU ", palette.dim),
        Span::raw(or_unknown(process.cpu_ratio, percent)),
        Span::styled(" %", palette.dim),
    ];
    let mut lines = vec![Line::from(who), Line::from(memory)];
    let Some(thread) = thread else {
        lines.push(Line::styled(" this thread has ended; Tab shows the next", palette.warning));
        return lines;
    };
    // The rows know what counts as observed, and the thresholds.
    let rows = Row::of_process(process, history, history.interval().duration_s);
    let wanted = (thread.kind == ThreadKind::Worker).then_some(thread.tid);
    let row = rows.iter().find(|row| row.key.worker_tid == wanted);
    lines.push(loop_line(context, thread, row));
    lines
}

fn loop_line<'a>(context: &Context<'a>, thread: &ThreadInterval, row: Option<&Row>) -> Line<'a> {
    let palette = context.palette;
    let count = context.process.threads.len();
    let mut spans = vec![
        Span::styled(format!(" {} thread {}", thread.kind.name(), thread.tid), palette.accent),
        Span::styled(if count > 1 { format!(" (one of {count})") } else { String::new() }, palette.dim),
    ];
    if let Some(row) = row {
        let mut number = |label: &str, value: String, style: Style| {
            spans.push(Span::styled(format!("  {label} "), palette.dim));
            spans.push(Span::styled(value, style));
        };
        if let Some(age_s) = row.current_turn_s {
            let level = Level::of(Some(age_s), 0.0, 1.0);
            number("BLOCKED NOW for", duration(age_s), palette.level(level));
        }
        for (label, column) in [
            ("util %", Column::Utilization),
            ("stall/m", Column::Stalls),
            ("stalled", Column::Stalled),
            ("turn max ms", Column::TurnMax),
            ("p99", Column::TurnP99),
            ("p50", Column::TurnP50),
        ] {
            number(label, column.cell(row), palette.level(column.level(row)));
            if column == Column::Stalled && row.stall_cause.is_some() {
                number("by", Column::Cause.cell(row), Style::new());
            }
        }
    }
    Line::from(spans)
}

/// `7.0 ms`.
fn in_ms(seconds: f64) -> String {
    format!("{} ms", milliseconds(seconds))
}

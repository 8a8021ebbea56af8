//! The page of one process: one of its loops in depth, GC, streams, what is not known; its stalls and its stacks.

mod allocations;
mod breakdown;
mod causes;
mod events;
mod findings;
mod flame;
mod graphs;
mod happenings;
mod stall;
mod stall_log;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{blame, draw_line};
use crate::{
    model::{
        ThreadKind,
        interval::{ProcessInterval, ThreadInterval},
    },
    report::quantity::{bytes, duration, milliseconds, or_unknown, percent},
    tui::{
        detail::{Tab, thread_of},
        history::ProcessHistory,
        palette::Palette,
        row::{Level, Row, RowKey},
        sort::Column,
        state::App,
    },
    verdict,
};

/// From this width on graphs and lists stand side by side.
const TWO_COLUMNS_WIDTH: u16 = 104;
/// Between the two.
const GAP: u16 = 2;
/// Higher screens have a blank line between the head and what is below.
const BLANK_LINE_ABOVE_HEIGHT: u16 = 22;
/// Of the culprit in the line of the loop.
const CULPRIT_WIDTH: usize = 36;
/// As `docker ps` shows it.
const SHORT_CONTAINER_ID: usize = 12;

/// What all parts of the page look at.
struct Context<'a> {
    history: &'a ProcessHistory,
    process: &'a ProcessInterval,
    /// The loop looked at; `None` when it has ended.
    thread: Option<&'a ThreadInterval>,
    /// What is judged by: the last minute.
    minute: Option<&'a verdict::History>,
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

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App, key: RowKey, palette: &Palette) {
    // Not `App::readings`, which would borrow what the log of stalls changes as well.
    let readings = app.frozen.as_deref().unwrap_or(&app.live);
    let Some(history) = readings.history.process(key.process) else { return };
    let (process, thread) = (history.process(), thread_of(history, key));
    let minute = readings.judge.history(key.process);
    let context = Context { history, process, thread, minute, palette };
    let gone = readings.interval.as_ref().is_some_and(|interval| interval.time > history.interval().time)
        || process.exited;
    let mut y = area.y;
    for line in head(&context, gone).into_iter().chain([tabs(app.detail.tab, palette)]) {
        if y < area.bottom() {
            draw_line(frame, Rect { y, height: 1, ..area }, line);
        }
        y += 1;
    }
    // Low screens need the line.
    y += u16::from(area.height > BLANK_LINE_ABOVE_HEIGHT);
    let body = Rect { y, height: area.bottom().saturating_sub(y), ..area };
    match app.detail.tab {
        Tab::Overview => app.detail.scroll = overview(frame, body, app.detail.scroll, &context),
        Tab::Stalls => match &mut app.detail.open {
            Some(open) => {
                let lines = stall::lines(open, &context, usize::from(body.width));
                open.scroll = open.scroll.min(scrolled(frame, body, lines, open.scroll));
            }
            None => stall_log::draw(frame, body, &mut app.detail.log, &mut app.hits, &context),
        },
        Tab::Flame => flame::draw(frame, body, &app.detail, &context),
        Tab::Breakdown => {
            let last = breakdown::draw(frame, body, &app.detail, &context);
            app.detail.scroll = app.detail.scroll.min(last);
        }
        Tab::Findings => {
            let lines =
                findings::lines(readings.judge.findings(key.process), palette, usize::from(body.width));
            app.detail.scroll = app.detail.scroll.min(scrolled(frame, body, lines, app.detail.scroll));
        }
    }
}

fn tabs<'a>(open: Tab, palette: &Palette) -> Line<'a> {
    let tab = |(index, tab): (usize, Tab)| {
        let style = if tab == open { palette.sorted } else { palette.dim };
        [
            Span::styled(format!(" {} ", index + 1), palette.key),
            Span::styled(tab.title(), style),
            Span::raw(" "),
        ]
    };
    Line::from(Tab::ALL.into_iter().enumerate().flat_map(tab).collect::<Vec<_>>())
}

/// Returns how far it is scrolled at most.
fn overview(frame: &mut Frame<'_>, body: Rect, scroll: usize, context: &Context<'_>) -> usize {
    let palette = context.palette;
    let turns = graphs::turns(context);
    let utilization = graphs::utilization(context);
    let p99 = graphs::turn_p99(context);
    let gc = graphs::gc(context);
    let streams = events::streams(context);
    let stalls = events::stalls(context);
    let pauses = events::pauses(context);
    let mut sections: Vec<Section<'_>> = events::unavailable(context).into_iter().collect();
    let cpu_wait = events::cpu_wait(context);
    let microtasks = events::microtasks(context);
    let happenings = happenings::happenings(context);
    let allocations = allocations::allocations(context);
    let last = if body.width >= TWO_COLUMNS_WIDTH {
        let half = (body.width - GAP) / 2;
        let right = Rect { x: body.x + half + GAP, width: body.width - half - GAP, ..body };
        stack(frame, Rect { width: half, ..body }, vec![turns, utilization, p99, gc], 0, palette);
        sections.push(streams);
        sections.extend(cpu_wait);
        sections.extend(microtasks.into_iter().chain(happenings));
        sections.push(stalls);
        sections.extend(allocations);
        sections.push(pauses);
        sections.extend(events::startup(context));
        stack(frame, right, sections, scroll, palette)
    } else {
        sections.extend([turns, utilization, p99, streams]);
        sections.extend(cpu_wait);
        sections.extend(microtasks.into_iter().chain(happenings));
        sections.extend([stalls, gc]);
        sections.extend(allocations);
        sections.push(pauses);
        sections.extend(events::startup(context));
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

/// Draws lines without the first `scroll`; returns how many can be scrolled away.
fn scrolled(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>, scroll: usize) -> usize {
    let last = lines.len().saturating_sub(usize::from(area.height));
    for (y, line) in (area.top()..area.bottom()).zip(lines.into_iter().skip(scroll.min(last))) {
        draw_line(frame, Rect { y, height: 1, ..area }, line);
    }
    last
}

/// Who it is, and the numbers of the table that say most.
fn head<'a>(context: &Context<'a>, gone: bool) -> Vec<Line<'a>> {
    let Context { process, palette, history, thread, .. } = *context;
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
            if column == Column::Stalled
                && let Some(culprit) = &row.culprit
            {
                number("in", blame(culprit, CULPRIT_WIDTH, palette), Style::new());
            }
        }
    }
    Line::from(spans)
}

/// `7.0 ms`.
fn in_ms(seconds: f64) -> String {
    format!("{} ms", milliseconds(seconds))
}

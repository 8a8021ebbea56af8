//! The log of stalls: one line each, those in progress on top.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{Context, causes, in_ms};
use crate::{
    model::{self, Availability, Causes, Signal, Stack},
    report::{document::is_observed, stall::division, timestamp::time_of_day},
    tui::{
        culprit::{place, why_no_stacks},
        palette::Palette,
        row::Level,
        stall_log::{Entry, StallLog, entries},
        state::Hits,
        view::{blame, draw_line, put},
    },
};

const TIME_WIDTH: u16 = 8;
const DURATION_WIDTH: u16 = 12;
const THREAD_WIDTH: u16 = 14;
const DIVISION_WIDTH: u16 = 40;
/// Below these widths the log does without the division in words, the thread, a long bar, a bar.
const MIN_WIDTH_FOR_DIVISION: u16 = 130;
const MIN_WIDTH_FOR_THREAD: u16 = 90;
const MIN_WIDTH_FOR_LONG_BAR: u16 = 64;
const MIN_WIDTH_FOR_BAR: u16 = 44;

/// Above the log, of turns in progress, on screens that are high enough.
const MAX_STACKS_SO_FAR: usize = 2;
const MAX_FRAMES_SO_FAR: usize = 12;
const MIN_HEIGHT_FOR_STACKS: u16 = 7;

/// Where columns begin; a width of 0 is none.
struct Columns {
    thread: u16,
    bar: u16,
    culprit: u16,
    division: u16,
}

impl Columns {
    fn of(width: u16) -> Self {
        let thread = if width >= MIN_WIDTH_FOR_THREAD { THREAD_WIDTH } else { 0 };
        let bar = match width {
            MIN_WIDTH_FOR_LONG_BAR.. => 20,
            MIN_WIDTH_FOR_BAR.. => 8,
            _ => 0,
        };
        let division = if width >= MIN_WIDTH_FOR_DIVISION { DIVISION_WIDTH } else { 0 };
        let fixed = 1 + TIME_WIDTH + 1 + DURATION_WIDTH + 2;
        let optional: u16 =
            [thread, bar, division].into_iter().filter(|width| *width > 0).map(|width| width + 2).sum();
        Self { thread, bar, culprit: width.saturating_sub(fixed + optional), division }
    }
}

pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    log: &mut StallLog,
    hits: &mut Hits,
    context: &Context<'_>,
) {
    let palette = context.palette;
    let columns = Columns::of(area.width);
    let entries = entries(context.history);
    if entries.is_empty() {
        for (y, line) in (area.top()..area.bottom()).zip(nothing(context)) {
            draw_line(frame, Rect { y, height: 1, ..area }, line);
        }
        return;
    }
    let so_far = so_far(&entries, usize::from(area.width), palette);
    let so_far = if area.height >= MIN_HEIGHT_FOR_STACKS { so_far } else { Vec::new() };
    let stacks = Rect { height: so_far.len() as u16, ..area };
    for (y, line) in (stacks.top()..stacks.bottom()).zip(so_far) {
        draw_line(frame, Rect { y, height: 1, ..stacks }, line);
    }
    let area = Rect { y: stacks.bottom(), height: area.height - stacks.height, ..area };
    // A line of titles and a legend, where they leave room for stalls.
    let above = u16::from(area.height >= 2);
    let below = u16::from(area.height >= 4 && columns.bar > 0);
    let rows = Rect { y: area.y + above, height: area.height - above - below, ..area };
    log.set_viewport(usize::from(rows.height));
    hits.first_row_y = rows.y;
    hits.rows = usize::from(rows.height).min(entries.len());
    draw_line(frame, Rect { height: above, ..area }, titles(&columns, palette));
    let (offset, selected) = (log.offset(), log.selected());
    let mut seen = Causes::default();
    let shown = entries.iter().enumerate().skip(offset).take(usize::from(rows.height));
    for (y, (index, entry)) in (rows.top()..).zip(shown) {
        let line = Rect { y, height: 1, ..rows };
        draw_line(frame, line, entry_line(context, *entry, &columns, &mut seen));
        if index == selected {
            put(frame, line, line.x, y, palette.symbols.cursor, Style::new());
            let visible = line.intersection(frame.area());
            frame.buffer_mut().set_style(visible, palette.selected);
        }
    }
    let legend = Rect { y: rows.bottom(), height: below, ..area };
    draw_line(frame, legend, causes::legend(&seen, palette));
}

/// The stacks of turns in progress, innermost first, a line each: that is what one wants to know while a loop is
/// blocked, before anything is opened.
fn so_far<'a>(entries: &[Entry<'_>], width: usize, palette: &Palette) -> Vec<Line<'a>> {
    let in_progress = entries.iter().filter(|entry| matches!(entry, Entry::InProgress { .. }));
    let line = |entry: &Entry<'_>| {
        let stack = entry.stack()?;
        let frame = |frame: &model::Frame| match &frame.script {
            Some(script) => format!("{} {}", frame.function, place(script, frame.line)),
            None => frame.function.to_string(),
        };
        let frames: Vec<String> = stack.frames.iter().take(MAX_FRAMES_SO_FAR).map(frame).collect();
        let (kind, tid) = entry.thread();
        let label = format!(" {} {tid} is in ", kind.name());
        let room = width.saturating_sub(label.len());
        let frames = palette.text(&frames.join(" < "), room);
        let shown = Line::from(vec![Span::styled(label, palette.dim), Span::styled(frames, palette.warning)]);
        (!stack.frames.is_empty()).then_some(shown)
    };
    in_progress.filter_map(line).take(MAX_STACKS_SO_FAR).collect()
}

fn nothing<'a>(context: &Context<'a>) -> Vec<Line<'a>> {
    let palette = context.palette;
    let missing = context.process.signals.iter().find_map(|(signal, availability)| match availability {
        Availability::Unavailable(reason) if *signal == Signal::EventLoop => Some(reason),
        _ => None,
    });
    match missing {
        Some(reason) => vec![
            Line::styled(" Stalls are not seen: the event loop is not observed.", palette.warning),
            Line::raw(format!(" {}", palette.text(reason, 240))),
        ],
        None => vec![
            Line::raw(" No stall has been seen."),
            Line::styled(" Turns of the loop over the stall threshold appear here.", palette.dim),
        ],
    }
}

fn titles<'a>(columns: &Columns, palette: &Palette) -> Line<'a> {
    let mut titles = vec![
        format!(" {:w$} ", "TIME", w = usize::from(TIME_WIDTH)),
        format!("{:>w$}  ", "DURATION", w = usize::from(DURATION_WIDTH)),
    ];
    for (title, width) in [("THREAD", columns.thread), ("CAUSES", columns.bar)] {
        if width > 0 {
            titles.push(format!("{title:w$}  ", w = usize::from(width)));
        }
    }
    titles.push(format!("{:w$}", "CULPRIT", w = usize::from(columns.culprit)));
    if columns.division > 0 {
        titles.push("  WHERE THE TIME WENT".to_owned());
    }
    Line::styled(titles.concat(), palette.column)
}

fn entry_line<'a>(context: &Context<'_>, entry: Entry<'_>, columns: &Columns, seen: &mut Causes) -> Line<'a> {
    let palette = context.palette;
    let duration_s = entry.duration_ns() as f64 / 1e9;
    let (time, at_least, level) = match entry {
        Entry::InProgress { .. } => ("now".to_owned(), "", Level::of(Some(duration_s), 0.0, 1.0)),
        Entry::Ended(stall) => {
            let at_least = if stall.lower_bound { ">=" } else { "" };
            (time_of_day(stall.began), at_least, Level::of(Some(duration_s), 0.5, 1.0))
        }
    };
    let duration = format!("{at_least}{}", in_ms(duration_s));
    let style = palette.level(level);
    let mut spans = vec![
        Span::styled(format!(" {time:w$} ", w = usize::from(TIME_WIDTH)), style),
        Span::styled(format!("{duration:>w$}  ", w = usize::from(DURATION_WIDTH)), style),
    ];
    if columns.thread > 0 {
        let (kind, tid) = entry.thread();
        let thread = palette.text(&format!("{} {tid}", kind.name()), usize::from(columns.thread));
        spans.push(Span::raw(format!("{thread:w$}  ", w = usize::from(columns.thread))));
    }
    let observed = is_observed(&context.process.signals, Signal::Sched);
    if columns.bar > 0 {
        if observed {
            seen.merge(entry.causes());
            spans.extend(causes::bar(entry.causes(), usize::from(columns.bar), palette));
        } else {
            spans.push(Span::raw(" ".repeat(usize::from(columns.bar))));
        }
        spans.push(Span::raw("  "));
    }
    let room = usize::from(columns.culprit);
    let blamed = match entry.culprit() {
        Some(culprit) => Span::raw(blame(culprit, room, palette)),
        None => Span::styled(palette.text(why_no_culprit(context, entry.stack()), room), palette.dim),
    };
    let blanks = room.saturating_sub(blamed.width());
    spans.extend([blamed, Span::raw(" ".repeat(blanks))]);
    if let (Entry::Ended(stall), true) = (entry, columns.division > 0 && observed) {
        let startup = if stall.startup { "start-up, " } else { "" };
        let text = palette.text(&format!("{startup}{}", division(stall)), usize::from(columns.division));
        spans.push(Span::raw(format!("  {text}")));
    }
    Line::from(spans)
}

/// In a few words; the page of the stall has the rest.
fn why_no_culprit(context: &Context<'_>, stack: Option<&Stack>) -> &'static str {
    match stack {
        _ if why_no_stacks(&context.process.signals).is_some() => "stacks not observed",
        None => "no stack sampled",
        Some(stack) => stack.problem.unwrap_or("no application code"),
    }
}

//! One stall: how its time divides, and its stacks, the heaviest first.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{Context, causes, in_ms};
use crate::{
    model::{Causes, Culprit, FrameKind, Signal, Stack, StackTime, Stall},
    report::{document::is_observed, printable, quantity::duration, timestamp::time_of_day},
    tui::{
        culprit::why_no_stacks,
        palette::Palette,
        stall_log::{Entry, OpenStall, Subject, in_progress},
    },
};

const BAR_WIDTH: usize = 40;
/// Lighter stacks are counted, not shown.
const MAX_STACKS: usize = 20;
const MIN_NAME_WIDTH: usize = 16;
const MAX_NAME_WIDTH: usize = 48;
const MAX_PACKAGE_WIDTH: usize = 24;

pub(super) fn lines<'a>(open: &OpenStall, context: &Context<'a>, width: usize) -> Vec<Line<'a>> {
    match &open.subject {
        Subject::Ended(stall) => ended(context, stall, width),
        Subject::InProgress { tid, .. } => unfinished(context, *tid, width),
    }
}

fn ended<'a>(context: &Context<'a>, stall: &Stall, width: usize) -> Vec<Line<'a>> {
    let palette = context.palette;
    let at_least = if stall.lower_bound { "at least " } else { "" };
    let mut title = format!(
        " Stall of {at_least}{} on {} {} at {} UTC",
        in_ms(stall.duration_ns as f64 / 1e9),
        stall.thread.name(),
        stall.tid,
        time_of_day(stall.began),
    );
    title += if stall.startup { ", during start-up" } else { "" };
    let mut lines = vec![Line::styled(title, palette.column)];
    lines.extend(division(context, &stall.causes));
    if let Some(sleep) =
        stall.longest_sleep.as_ref().filter(|_| is_observed(&context.process.signals, Signal::Sched))
    {
        let (longest, cause) = (in_ms(sleep.duration_ns as f64 / 1e9), sleep.cause.name());
        let syscall = sleep.syscall.map(|syscall| format!(" in {syscall}")).unwrap_or_default();
        lines.push(Line::raw(format!(" longest sleep {longest}{syscall} ({cause})")));
    }
    lines.extend(blamed(stall.culprit.as_ref(), "blamed on", width, palette));
    let total_ns = stall.stacks.iter().map(|stack| stack.time_ns).sum::<u64>().max(1);
    for StackTime { stack, category, samples, time_ns } in stall.stacks.iter().take(MAX_STACKS) {
        let share = *time_ns as f64 / total_ns as f64 * 100.0;
        let plural = if *samples == 1 { "" } else { "s" };
        let heading = format!(
            " {share:.0} %  {}  {samples} sample{plural}  {}",
            in_ms(*time_ns as f64 / 1e9),
            category.name()
        );
        lines.extend([Line::default(), Line::styled(heading, palette.accent)]);
        lines.extend(frames(stack, stall.culprit.as_ref(), width, palette));
    }
    let rest = stall.stacks.get(MAX_STACKS..).unwrap_or_default();
    if !rest.is_empty() {
        let share = rest.iter().map(|stack| stack.time_ns).sum::<u64>() as f64 / total_ns as f64 * 100.0;
        let text = format!(" and {} more with {share:.0} %", rest.len());
        lines.extend([Line::default(), Line::styled(text, palette.dim)]);
    }
    if stall.stacks.is_empty() {
        lines.push(Line::default());
        lines.extend(nothing_sampled(context));
    }
    lines
}

fn unfinished<'a>(context: &Context<'a>, tid: u32, width: usize) -> Vec<Line<'a>> {
    let palette = context.palette;
    let thread = context.process.threads.iter().find(|thread| thread.tid == tid);
    let entry = thread.and_then(|thread| in_progress(context.history, thread));
    let Some(Entry::InProgress { thread, age_ns, .. }) = entry else { return Vec::new() };
    let age = duration(age_ns as f64 / 1e9);
    let title = format!(" In progress for {age} on {} {tid}", thread.kind.name());
    let mut lines = vec![Line::styled(title, palette.critical)];
    lines.extend(division(context, &thread.current_turn_causes));
    lines.extend(blamed(thread.current_turn_culprit.as_ref(), "blamed so far on", width, palette));
    lines.push(Line::default());
    match &thread.current_turn_stack {
        Some(stack) => {
            lines.push(Line::styled(" the last stack sampled", palette.accent));
            lines.extend(frames(stack, thread.current_turn_culprit.as_ref(), width, palette));
        }
        None => lines.extend(nothing_sampled(context)),
    }
    lines
}

fn division<'a>(context: &Context<'a>, time_by: &Causes) -> Option<Line<'a>> {
    let observed = is_observed(&context.process.signals, Signal::Sched) && time_by.total_ns() > 0;
    observed.then(|| {
        let mut spans = vec![Span::raw(" ")];
        spans.extend(causes::bar(time_by, BAR_WIDTH, context.palette));
        spans.push(Span::raw("  "));
        spans.extend(causes::shares(time_by, context.palette));
        Line::from(spans)
    })
}

fn blamed<'a>(
    culprit: Option<&Culprit>,
    label: &'static str,
    width: usize,
    palette: &Palette,
) -> Option<Line<'a>> {
    let Culprit { function, script, line, package } = culprit?;
    let place = script.as_deref().map(|script| with_line(script, *line)).unwrap_or_default();
    let package = package.as_deref().map(|package| format!("  package {package}")).unwrap_or_default();
    Some(Line::from(vec![
        Span::styled(format!(" {label} "), palette.dim),
        Span::styled(palette.text(function, MAX_NAME_WIDTH), palette.warning),
        Span::raw(format!("  {}", palette.tail(&place, width.saturating_sub(20)))),
        Span::raw(palette.text(&package, MAX_PACKAGE_WIDTH + 10)),
    ]))
}

fn with_line(script: &str, line: Option<u32>) -> String {
    line.map_or_else(|| script.to_owned(), |line| format!("{script}:{line}"))
}

/// Innermost first.
fn frames<'a>(stack: &Stack, culprit: Option<&Culprit>, width: usize, palette: &Palette) -> Vec<Line<'a>> {
    let names: Vec<String> = stack
        .frames
        .iter()
        .map(|frame| match frame.kind {
            FrameKind::JavaScript | FrameKind::NodeInternal => palette.text(&frame.function, MAX_NAME_WIDTH),
            FrameKind::Builtin | FrameKind::Native => {
                palette.text(&format!("[{}] {}", frame.kind.name(), frame.function), width)
            }
        })
        .collect();
    let with_place = names.iter().zip(&stack.frames).filter(|(_, frame)| frame.script.is_some());
    let longest = with_place.map(|(name, _)| printable::width(name)).max().unwrap_or(0);
    let name_width = longest.clamp(MIN_NAME_WIDTH, MAX_NAME_WIDTH).min((width / 2).max(1));
    let mut lines = Vec::new();
    for (frame, name) in stack.frames.iter().zip(names) {
        let is_culprit = culprit
            .is_some_and(|culprit| culprit.function == frame.function && culprit.script == frame.script);
        let style = match frame.kind {
            _ if is_culprit => palette.warning,
            FrameKind::JavaScript => Style::new(),
            FrameKind::NodeInternal | FrameKind::Builtin | FrameKind::Native => palette.dim,
        };
        let mark = if is_culprit { palette.symbols.cursor } else { " " };
        let mut spans = vec![Span::raw(format!("  {mark} "))];
        let Some(script) = &frame.script else {
            spans.push(Span::styled(name, style));
            lines.push(Line::from(spans));
            continue;
        };
        let name = palette.text(&name, name_width);
        let blanks = " ".repeat(name_width.saturating_sub(printable::width(&name)) + 2);
        let line = with_line(script, frame.line);
        let place = match (frame.line_is_exact, frame.line, frame.column) {
            (true, Some(_), Some(column)) => format!("{line}:{column}"),
            (false, Some(_), _) => format!("{line} (begin)"),
            _ => line,
        };
        let package = frame.package.as_deref().map(|package| palette.text(package, MAX_PACKAGE_WIDTH));
        let package = package.map(|package| format!("  {package}")).unwrap_or_default();
        let room = width.saturating_sub(name_width + 6 + printable::width(&package));
        spans.push(Span::styled(name + &blanks + &palette.tail(&place, room), style));
        spans.push(Span::styled(package, palette.accent));
        lines.push(Line::from(spans));
    }
    if stack.truncated {
        lines.push(Line::styled("    (outer frames missing)", palette.dim));
    }
    if let Some(problem) = stack.problem {
        lines.push(Line::styled(format!("    no JavaScript told: {problem}"), palette.warning));
    }
    lines
}

fn nothing_sampled<'a>(context: &Context<'a>) -> Vec<Line<'a>> {
    let palette = context.palette;
    match why_no_stacks(&context.process.signals) {
        Some((signal, reason)) => vec![
            Line::styled(format!(" No stack: the signal {signal} is not observed."), palette.warning),
            Line::raw(format!(" {}", palette.text(reason, 240))),
        ],
        None => vec![
            Line::raw(" No stack was sampled in it."),
            Line::styled(
                " Samples are taken while the thread runs, and when it begins a long sleep.",
                palette.dim,
            ),
        ],
    }
}

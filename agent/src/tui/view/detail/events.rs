//! The right half: what is missing, streams, and the last stalls and long pauses.

use std::sync::Arc;

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{Context, Section, causes, graphs::heap_change, in_ms};
use crate::{
    model::{Availability, CpuPeriods, GcKind, HostCpu, Signal, Stall, Stdio},
    report::{
        document::{is_observed, max_s},
        quantity::{UNKNOWN, bytes, milliseconds, or_unknown, percent},
        stall::division,
        startup::StartupReport,
        timestamp::time_of_day,
    },
    stack::logging::logging,
    tui::{
        row::Level,
        view::{blame, draw_line},
    },
    verdict::thresholds::{RUN_DELAY, THROTTLED},
};

const MAX_STALLS: usize = 12;
const MAX_PAUSES: usize = 8;
const BAR_WIDTH: usize = 10;
const CULPRIT_WIDTH: usize = 40;

pub(super) fn list<'a>(
    name: &'a str,
    about: String,
    about_style: Style,
    lines: Vec<Line<'a>>,
) -> Section<'a> {
    let title = Line::from(vec![Span::raw(format!(" {name}  ")), Span::styled(about, about_style)]);
    let height = lines.len() as u16;
    let draw = move |frame: &mut Frame<'_>, area: Rect| {
        let area = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
        for (y, line) in (area.top()..area.bottom()).zip(&lines) {
            draw_line(frame, Rect { y, height: 1, ..area }, line.clone());
        }
    };
    Section { title, height, draw: Box::new(draw) }
}

/// Signals that are not observed, with their reasons; `None` when all are.
pub(super) fn unavailable<'a>(context: &Context<'a>) -> Option<Section<'a>> {
    let palette = context.palette;
    let line = |(signal, availability): (&Signal, &Availability)| match availability {
        Availability::Ok => None,
        Availability::Unavailable(reason) => {
            Some(Line::styled(palette.text(&format!("{}: {reason}", signal.name()), 240), palette.warning))
        }
    };
    let lines: Vec<Line<'_>> = context.process.signals.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| list("Not observed", String::new(), Style::new(), lines))
}

/// How the process started; `None` when that was not seen.
pub(super) fn startup<'a>(context: &Context<'a>) -> Option<Section<'a>> {
    let report = StartupReport::from(context.process.startup.as_deref()?);
    let lines = report.lines().into_iter().map(|line| Line::raw(context.palette.text(&line, 240))).collect();
    report.is_known().then(|| list("Start-up", String::new(), Style::new(), lines))
}

pub(super) fn streams<'a>(context: &Context<'a>) -> Section<'a> {
    let (palette, process) = (context.palette, context.process);
    let duration_s = context.history.interval().duration_s;
    let observed = is_observed(&process.signals, Signal::Stdio);
    let header = format!(
        "{:<7}{:<8}{:>9}{:>10}{:>9}{:>12}{:>10}",
        "", "KIND", "BYTES/s", "WRITES/s", "BLK%", "LONGEST ms", "EAGAIN/s"
    );
    let mut lines = vec![Line::styled(header, palette.dim)];
    for (name, stream) in [("stdout", &process.stdout), ("stderr", &process.stderr)] {
        lines.push(stream_line(name, stream, observed, duration_s, |level| palette.level(level)));
    }
    let logging = logging(context.history.interval().stacks_of_main(process.id));
    if let Some(ratio) = logging.ratio().filter(|_| logging.cpu_ns > 0) {
        let by = logging.culprit.map(|culprit| format!("  by {}", blame(&culprit, CULPRIT_WIDTH, palette)));
        let text =
            format!("logging: {} % of the main thread's CPU time{}", percent(ratio), by.unwrap_or_default());
        lines.push(Line::styled(text, palette.level(Level::of(Some(ratio), 0.1, 0.3))));
    }
    list("Streams", String::new(), Style::new(), lines)
}

fn stream_line(
    name: &str,
    stream: &Stdio,
    observed: bool,
    duration_s: f64,
    style: impl Fn(Level) -> Style,
) -> Line<'static> {
    let kind = stream.kind.map_or(UNKNOWN, crate::model::StreamKind::name);
    let per_second = |count: u64| (observed && duration_s > 0.0).then(|| count as f64 / duration_s);
    let blocked = per_second(stream.blocked_ns).map(|ns_per_s| ns_per_s / 1e9);
    let longest = max_s(&stream.durations).filter(|_| observed);
    let rate = |count| or_unknown(per_second(count), |rate| format!("{rate:.0}"));
    let text = format!(
        "{name:<7}{kind:<8}{:>9}{:>10}{:>9}{:>12}{:>10}",
        or_unknown(per_second(stream.bytes), |rate| bytes(rate as u64)),
        rate(stream.writes),
        or_unknown(blocked, percent),
        or_unknown(longest, milliseconds),
        rate(stream.eagain),
    );
    Line::styled(text, style(Level::of(blocked, 0.01, 0.05)))
}

/// What keeps the process off a processor; `None` where nothing of it is known.
pub(super) fn cpu_wait<'a>(context: &Context<'a>) -> Option<Section<'a>> {
    let (palette, process, interval) = (context.palette, context.process, context.history.interval());
    let share = |ns: u64| (interval.duration_s > 0.0).then(|| ns as f64 / 1e9 / interval.duration_s);
    let delayed = process.run_delay_ns.and_then(share);
    let main = delayed.map(|share| format!("main thread {} %", percent(share)));
    let nice = process.nice.filter(|nice| *nice != 0).map(|nice| format!("nice {nice}"));
    let steal = interval.host_cpu.and_then(HostCpu::steal_ratio).filter(|share| *share > 0.0);
    let steal = steal.map(|share| format!("steal {} % of the host", percent(share)));
    let told: Vec<String> = [main, nice, steal].into_iter().flatten().collect();
    let level = Level::of(delayed, RUN_DELAY.warning, RUN_DELAY.critical);
    let style = if level == Level::Normal { palette.dim } else { palette.level(level) };
    // Groups without a quota have an account of it as well.
    let quota = process.cpu_throttled_ns.zip(process.cpu_periods).filter(|(_, periods)| periods.elapsed > 0);
    let quota = quota.and_then(|(throttled_ns, CpuPeriods { elapsed, throttled })| {
        // The kernel sums it over processors.
        let share = share(throttled_ns)?.min(1.0);
        let text =
            format!("throttled {} %, in {throttled} of {elapsed} periods of its quota", percent(share));
        let level = Level::of(Some(share), THROTTLED.warning, THROTTLED.critical);
        Some(Line::styled(text, palette.level(level)))
    });
    let is_known = !told.is_empty() || quota.is_some();
    is_known.then(|| list("Waiting for CPU", told.join(", "), style, quota.into_iter().collect()))
}

/// Drains of microtask queues; `None` where they are not looked at.
pub(super) fn microtasks<'a>(context: &Context<'a>) -> Option<Section<'a>> {
    let (palette, microtasks) = (context.palette, &context.process.microtasks);
    let per_s = microtasks.drains_per_s()?;
    let longest_s = microtasks.drains.interval_max_ns.map(|ns| ns as f64 / 1e9);
    let text = format!(
        "{per_s:.0} drains/s   {} of the time   p99 {} ms   longest {} ms",
        or_unknown(microtasks.time_ratio(), percent),
        or_unknown(microtasks.drains.quantile_s(0.99), milliseconds),
        or_unknown(longest_s, milliseconds),
    );
    let seen = format!(
        "looked at {} of the time",
        percent(microtasks.seen_ratio(context.history.interval().duration_s))
    );
    let line = Line::styled(text, palette.level(Level::of(longest_s, 0.05, 0.5)));
    Some(list("Microtasks", seen, palette.dim, vec![line]))
}

/// The last stalls of all threads of the process, newest first; the log of its own has the rest.
pub(super) fn stalls<'a>(context: &Context<'a>) -> Section<'a> {
    let (palette, stalls) = (context.palette, &context.history.stalls);
    let observed = is_observed(&context.process.signals, Signal::Sched);
    let line = |stall: &Arc<Stall>| {
        let duration_s = stall.duration_ns as f64 / 1e9;
        let thread = format!("{} {}", stall.thread.name(), stall.tid);
        let at_least = if stall.lower_bound { "at least " } else { "" };
        let startup = if stall.startup { "  start-up" } else { "" };
        let began = time_of_day(stall.began);
        let text = format!("{began}  {thread:<14}  {at_least}{}{startup}  ", in_ms(duration_s));
        let mut spans = vec![Span::styled(text, palette.level(Level::of(Some(duration_s), 0.5, 1.0)))];
        if observed {
            spans.extend(causes::bar(&stall.causes, BAR_WIDTH, palette));
            spans.push(Span::raw("  "));
        }
        match &stall.culprit {
            Some(culprit) => spans.push(Span::raw(blame(culprit, CULPRIT_WIDTH, palette))),
            None if observed => spans.push(Span::raw(division(stall))),
            None => {}
        }
        Line::from(spans)
    };
    let lines: Vec<Line<'_>> = stalls.iter().rev().take(MAX_STALLS).map(line).collect();
    let about = if lines.is_empty() { "none seen" } else { "newest first; Enter opens the log" };
    list("Last stalls", about.to_owned(), palette.dim, lines)
}

/// The last GC pauses worth an event, newest first.
pub(super) fn pauses<'a>(context: &Context<'a>) -> Section<'a> {
    let palette = context.palette;
    let lines: Vec<Line<'_>> = context
        .history
        .pauses
        .iter()
        .rev()
        .take(MAX_PAUSES)
        .map(|pause| {
            let heap = heap_change(pause.heap, palette.symbols.arrow);
            let duration_s = pause.duration_ns as f64 / 1e9;
            let (began, kind, tid) = (time_of_day(pause.began), pause.kind.name(), pause.tid);
            let heap = heap.map(|heap| format!("  heap {heap}")).unwrap_or_default();
            let style = match pause.kind {
                GcKind::Major => palette.level(Level::of(Some(duration_s), 0.05, 0.1)),
                GcKind::Minor => Style::new(),
            };
            Line::styled(format!("{began}  {kind} {tid:<8}  {:>9}{heap}", in_ms(duration_s)), style)
        })
        .collect();
    let about = if lines.is_empty() { "none over 10 ms seen" } else { "over 10 ms, newest first" };
    list("Last GC pauses", about.to_owned(), palette.dim, lines)
}

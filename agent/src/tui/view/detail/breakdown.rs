//! What the loop's time went to: by category, and by npm package.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{Context, scrolled};
use crate::{
    report::{
        printable,
        quantity::{duration, or_unknown, percent},
    },
    tui::{
        breakdown::{Origin, OriginTime},
        culprit::why_no_stacks,
        detail::{Detail, Profile},
        palette::Palette,
        row::Level,
        view::draw_line,
    },
};

/// From this width on the two tables stand side by side.
const TWO_COLUMNS_WIDTH: u16 = 100;
const GAP: u16 = 2;
const NAME_WIDTH: usize = 24;
const MIN_NAME_WIDTH: usize = 10;
const MAX_BAR_WIDTH: usize = 30;

/// Draws both tables and returns how far they are scrolled at most.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, detail: &Detail, context: &Context<'_>) -> usize {
    let Some(profile) = detail.profile().filter(|profile| profile.breakdown.total_ns > 0) else {
        for (y, line) in (area.top()..area.bottom()).zip(nothing_sampled(context, detail.profile())) {
            draw_line(frame, Rect { y, height: 1, ..area }, line);
        }
        return 0;
    };
    if area.width >= TWO_COLUMNS_WIDTH {
        let half = (area.width - GAP) / 2;
        let right = Rect { x: area.x + half + GAP, width: area.width - half - GAP, ..area };
        let last = scrolled(
            frame,
            Rect { width: half, ..area },
            categories(profile, usize::from(half), context.palette),
            detail.scroll,
        );
        let origins = origins(profile, usize::from(right.width), context.palette);
        last.max(scrolled(frame, right, origins, detail.scroll))
    } else {
        let width = usize::from(area.width);
        let mut lines = categories(profile, width, context.palette);
        lines.push(Line::default());
        lines.extend(origins(profile, width, context.palette));
        scrolled(frame, area, lines, detail.scroll)
    }
}

fn categories<'a>(profile: &Profile, width: usize, palette: &Palette) -> Vec<Line<'a>> {
    let total_ns = profile.breakdown.total_ns.max(1) as f64;
    let (name_width, bar_width) = widths(width);
    let title = format!(" {:name_width$}{:>7}{:>7}", "CATEGORY", "TIME%", "BUSY%");
    let mut lines = vec![Line::styled(title, palette.column)];
    let line = |name: &str, time: Option<f64>, busy: Option<f64>| {
        let numbers =
            format!("{:>7}{:>7}  ", or_unknown(time, percent), busy.map(percent).unwrap_or_default());
        Line::from(vec![
            Span::raw(format!(" {name:name_width$}")),
            Span::raw(numbers),
            Span::styled(bar(time.or(busy).unwrap_or(0.0), bar_width, palette), palette.accent),
        ])
    };
    for (category, ns) in &profile.breakdown.categories {
        let busy = *ns as f64 / total_ns;
        lines.push(line(category.name(), profile.utilization.map(|ratio| ratio * busy), Some(busy)));
    }
    lines.push(line("idle", profile.utilization.map(|ratio| 1.0 - ratio), None));
    let covered = duration(profile.covered_s.round());
    let about = format!(
        " {} samples of the last {covered}; idle is measured, not sampled",
        profile.breakdown.samples
    );
    lines.extend([Line::default(), Line::styled(palette.text(&about, width), palette.dim)]);
    for (problem, ns) in &profile.breakdown.problems {
        let share = *ns as f64 / total_ns;
        let text = format!(" {} % without JavaScript: {problem}", percent(share));
        let style = palette.level(Level::of(Some(share), 0.03, 0.2));
        lines.push(Line::styled(palette.text(&text, width), style));
    }
    lines
}

fn origins<'a>(profile: &Profile, width: usize, palette: &Palette) -> Vec<Line<'a>> {
    let total_ns = profile.breakdown.total_ns.max(1) as f64;
    let (name_width, bar_width) = widths(width);
    let title = format!(" {:name_width$}{:>7}{:>7}", "PACKAGE", "SELF%", "TOTAL%");
    let mut lines = vec![Line::styled(title, palette.column)];
    for OriginTime { origin, self_ns, total_ns: inclusive_ns } in &profile.breakdown.origins {
        let (name, style) = match origin {
            Origin::Application => ("(application)".to_owned(), palette.warning),
            Origin::Package(package) => (palette.text(package, name_width - 1), ratatui::style::Style::new()),
            Origin::Node => ("(node)".to_owned(), palette.dim),
            Origin::Native => ("(no JavaScript)".to_owned(), palette.dim),
        };
        let blanks = " ".repeat(name_width.saturating_sub(printable::width(&name)));
        let (own, inclusive) = (*self_ns as f64 / total_ns, *inclusive_ns as f64 / total_ns);
        lines.push(Line::from(vec![
            Span::raw(" "),
            Span::styled(name, style),
            Span::raw(format!("{blanks}{:>7}{:>7}  ", percent(own), percent(inclusive))),
            Span::styled(bar(own, bar_width, palette), palette.accent),
        ]));
    }
    lines.push(Line::default());
    let about = " of sampled time; SELF with the Node and native code it called";
    lines.push(Line::styled(palette.text(about, width), palette.dim));
    lines
}

/// Of names and of bars.
fn widths(width: usize) -> (usize, usize) {
    let name = NAME_WIDTH.min(width.saturating_sub(18)).max(MIN_NAME_WIDTH);
    (name, width.saturating_sub(name + 18).min(MAX_BAR_WIDTH))
}

/// Whole cells; a share that is any gets one.
fn bar(share: f64, width: usize, palette: &Palette) -> String {
    let cells = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    let full = palette.symbols.levels[8];
    full.repeat(if share > 0.0 { cells.max(1).min(width) } else { 0 })
}

/// Why there is nothing to see.
pub(super) fn nothing_sampled<'a>(context: &Context<'_>, profile: Option<&Profile>) -> Vec<Line<'a>> {
    let palette = context.palette;
    if let Some((signal, reason)) = why_no_stacks(&context.process.signals) {
        return vec![
            Line::styled(format!(" No stacks: the signal {signal} is not observed."), palette.warning),
            Line::raw(format!(" {}", palette.text(reason, 240))),
        ];
    }
    let Some(profile) = profile else { return Vec::new() };
    let mut lines = vec![Line::raw(format!(
        " No stack was sampled in the last {}.",
        duration(profile.covered_s.round().max(1.0))
    ))];
    if let Some(utilization) = profile.utilization {
        let busy = percent(utilization);
        let text = format!(" Samples are taken while the loop is busy, which it was {busy} % of the time.");
        lines.push(Line::styled(text, palette.dim));
    }
    lines
}

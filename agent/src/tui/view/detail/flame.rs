//! The flame graph, hanging: callers above, callees below, as wide as their share of the time.

use ratatui::{
    Frame,
    layout::Rect,
    style::Modifier,
    text::{Line, Span},
};

use super::{Context, breakdown::nothing_sampled};
use crate::{
    report::{
        printable,
        quantity::{duration, percent},
    },
    tui::{
        culprit::place,
        detail::{Detail, Profile},
        flame::{FlameNode, FrameKey},
        flame_cursor::FlameCursor,
        palette::{Palette, Shade},
        view::{draw_line, put},
    },
};

/// For the selected frame.
const ABOUT_HEIGHT: u16 = 2;
const MAX_NAME_COLUMNS: usize = 200;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, detail: &Detail, context: &Context<'_>) {
    let palette = context.palette;
    let Some(profile) = detail.profile().filter(|profile| profile.flame.time_ns > 0) else {
        for (y, line) in (area.top()..area.bottom()).zip(nothing_sampled(context, detail.profile())) {
            draw_line(frame, Rect { y, height: 1, ..area }, line);
        }
        return;
    };
    let cursor = &detail.flame;
    let Some(top) = profile.flame.along(cursor.zoom()).last().copied() else { return };
    if area.height > 0 {
        draw_line(frame, Rect { height: 1, ..area }, title(profile, cursor, palette));
    }
    // Low screens do without the selected frame in words.
    let about_height = if area.height > ABOUT_HEIGHT + 2 { ABOUT_HEIGHT } else { 0 };
    let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + about_height), ..area }
        .intersection(area);
    let level = cursor.path().len() - cursor.zoom().len();
    // The selected frame is kept in the middle of what does not fit.
    let last = (top.depth() + 1).saturating_sub(usize::from(rows.height));
    let first = level.saturating_sub(usize::from(rows.height) / 2).min(last);
    let mut canvas = Canvas { frame, rows, first, palette };
    canvas.node(top, Some(&cursor.path()[cursor.zoom().len()..]), 0, (0, rows.width));
    if about_height > 0 {
        let about = Rect { y: rows.bottom(), height: about_height, ..area };
        for (y, line) in
            (about.top()..).zip(about_selected(profile, cursor, usize::from(area.width), palette))
        {
            draw_line(frame, Rect { y, height: 1, ..about }, line);
        }
    }
}

struct Canvas<'a, 'b> {
    frame: &'a mut Frame<'b>,
    rows: Rect,
    /// Levels scrolled away.
    first: usize,
    palette: &'a Palette,
}

impl Canvas<'_, '_> {
    /// Draws `node` on `level`, in columns `from` to `to`, and what it calls. `selected` is the path from here to the
    /// selected frame, if that is this one or below.
    fn node(
        &mut self,
        node: &FlameNode,
        selected: Option<&[FrameKey]>,
        level: usize,
        (from, to): (u16, u16),
    ) {
        let row = level.checked_sub(self.first).filter(|row| *row < usize::from(self.rows.height));
        if level >= self.first + usize::from(self.rows.height) {
            return;
        }
        if let Some(row) = row {
            let is_selected = selected.is_some_and(<[FrameKey]>::is_empty);
            self.cell(node, self.rows.y + row as u16, (from, to), is_selected);
        }
        let mut before_ns = 0;
        for child in &node.children {
            let column = |ns: u64| {
                from + (ns as f64 / node.time_ns.max(1) as f64 * f64::from(to - from)).round() as u16
            };
            let (begin, mut end) = (column(before_ns), column(before_ns + child.time_ns).min(to));
            before_ns += child.time_ns;
            let below = selected.and_then(|path| path.split_first()).filter(|(key, _)| **key == child.key);
            if below.is_some() {
                // What is selected must be seen, however little it is.
                end = end.max((begin + 1).min(to));
            }
            if end > begin {
                self.node(child, below.map(|(_, rest)| rest), level + 1, (begin, end));
            }
        }
    }

    fn cell(&mut self, node: &FlameNode, y: u16, (from, to): (u16, u16), is_selected: bool) {
        let palette = self.palette;
        let columns = usize::from(to - from);
        let (fill, mut style) = palette.shade(Shade::of(node.key.kind, node.package.as_deref()));
        if is_selected {
            style = style.add_modifier(Modifier::BOLD | Modifier::REVERSED);
        }
        let mut text = palette.symbols.separator.to_string();
        text += &palette.text(&node.key.function, columns.saturating_sub(1));
        let blanks = columns.saturating_sub(printable::width(&text));
        text.extend(std::iter::repeat_n(fill, blanks));
        put(self.frame, self.rows, self.rows.x + from, y, &text, style);
    }
}

fn title<'a>(profile: &Profile, cursor: &FlameCursor, palette: &Palette) -> Line<'a> {
    let samples = profile.breakdown.samples;
    let mut spans = vec![Span::styled(
        format!(
            " {samples} samples, {} in {}  ",
            duration(profile.flame.time_ns as f64 / 1e9),
            duration(profile.covered_s.round())
        ),
        palette.column,
    )];
    if let Some(zoomed) = cursor.zoom().last() {
        let name = palette.text(&zoomed.function, 32);
        spans.push(Span::styled(format!("zoomed to {name}  "), palette.warning));
    }
    for shade in Shade::ALL {
        let (fill, style) = palette.shade(shade);
        spans.push(Span::styled(format!("{fill}{fill}"), style));
        spans.push(Span::styled(format!(" {}  ", shade.name()), palette.dim));
    }
    Line::from(spans)
}

/// Who it is; what it takes.
fn about_selected<'a>(
    profile: &Profile,
    cursor: &FlameCursor,
    width: usize,
    palette: &Palette,
) -> [Line<'a>; 2] {
    let root = &profile.flame;
    let node = root.along(cursor.path()).last().copied().unwrap_or(root);
    let name = palette.text(&node.key.function, MAX_NAME_COLUMNS.min(width.saturating_sub(2)));
    let mut who = vec![Span::raw(" "), Span::styled(name, palette.warning)];
    let mut used: usize = who.iter().map(Span::width).sum();
    if let Some(package) = &node.package {
        let package = format!("  package {}", palette.text(package, 32));
        used += printable::width(&package);
        who.push(Span::styled(package, palette.accent));
    }
    if let Some(script) = &node.key.script {
        let whole = match node.line {
            Some(line) => format!("{script}:{line}"),
            None => script.to_string(),
        };
        let left = width.saturating_sub(used + 2);
        let shown = if left < 12 { place(script, node.line) } else { whole };
        who.push(Span::raw(format!("  {}", palette.tail(&shown, left))));
    }
    let share = |ns: u64, of_ns: u64| percent(ns as f64 / of_ns.max(1) as f64);
    let mut what = vec![
        format!("{} % of all", share(node.time_ns, root.time_ns)),
        format!(
            "{} in {} sample{}",
            duration(node.time_ns as f64 / 1e9),
            node.samples,
            if node.samples == 1 { "" } else { "s" }
        ),
        format!("itself {} %", share(node.self_ns, root.time_ns)),
    ];
    if let Some(zoomed) = root.along(cursor.zoom()).last().filter(|_| !cursor.zoom().is_empty()) {
        what.push(format!("{} % of {}", share(node.time_ns, zoomed.time_ns), zoomed.key.function));
    }
    if let Some((category, part)) = node.leading_category() {
        what.push(format!("{} {} %", category.name(), percent(part)));
    }
    let what = format!(" {}", what.join(", "));
    [Line::from(who), Line::raw(palette.text(&what, width))]
}

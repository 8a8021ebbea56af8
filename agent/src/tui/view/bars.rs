//! Columns of different height: sparklines and histograms, in eighths of a cell.

use ratatui::{Frame, layout::Rect, style::Style};

use crate::tui::palette::Palette;

/// Levels of one cell above empty.
const EIGHTHS: usize = 8;

/// One column of the screen. `None` is drawn as nothing, anything above 0 as at least the smallest bar.
pub(super) struct Bar {
    /// 0 to 1 of the height.
    pub(super) height: Option<f64>,
    pub(super) style: Style,
}

/// Draws bars from the left edge of `area` on; those that do not fit are left out.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, bars: &[Bar], palette: &Palette) {
    let area = area.intersection(frame.area());
    let steps = usize::from(area.height) * EIGHTHS;
    for (x, bar) in (area.left()..area.right()).zip(bars) {
        let Some(height) = bar.height.filter(|height| *height > 0.0) else { continue };
        let filled = ((height.min(1.0) * steps as f64).round() as usize).clamp(1, steps.max(1));
        for (cell, y) in (area.top()..area.bottom()).rev().enumerate() {
            let level = filled.saturating_sub(cell * EIGHTHS).min(EIGHTHS);
            if level > 0 {
                frame.buffer_mut()[(x, y)].set_symbol(palette.symbols.levels[level]).set_style(bar.style);
            }
        }
    }
}

/// What stands for several values in one column.
#[derive(Clone, Copy)]
pub(super) enum Fold {
    Mean,
    Max,
}

/// A series in `width` columns, the newest on the right, scaled to `top`. When it is longer than that, each column
/// takes two values, then four and so on. `forgotten` values stood before the first: columns are cut by their number
/// in the whole series, so that a value stays with its neighbours while the series moves on.
pub(super) fn series(
    values: &[Option<f64>],
    forgotten: usize,
    fold: Fold,
    width: u16,
    top: f64,
    style: impl Fn(f64) -> Style,
) -> Vec<Bar> {
    let width = usize::from(width);
    let mut group = 1;
    // With groups there is one column more than the division says: the first and the last are filled in part.
    while values.len().div_ceil(group) + usize::from(group > 1) > width && group < values.len() {
        group *= 2;
    }
    let mut columns: Vec<Option<f64>> = Vec::with_capacity(width);
    let mut begin = 0;
    while begin < values.len() {
        let end = (begin + group - (forgotten + begin) % group).min(values.len());
        columns.push(folded(&values[begin..end], fold));
        begin = end;
    }
    let bar = |value: &Option<f64>| Bar {
        height: value.map(|value| if top > 0.0 { value / top } else { 0.0 }),
        style: value.map(&style).unwrap_or_default(),
    };
    let blanks = width.saturating_sub(columns.len());
    let blank = std::iter::repeat_n(&None, blanks);
    blank.chain(&columns[columns.len().saturating_sub(width)..]).map(bar).collect()
}

fn folded(values: &[Option<f64>], fold: Fold) -> Option<f64> {
    let known = || values.iter().flatten().copied();
    match fold {
        Fold::Max => known().reduce(f64::max),
        Fold::Mean => known().reduce(|sum, value| sum + value).map(|sum| sum / known().count() as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heights(count: usize, forgotten: usize, fold: Fold, width: u16) -> Vec<Option<f64>> {
        let values: Vec<Option<f64>> = (0..count).map(|n| Some((forgotten + n) as f64)).collect();
        let bars = series(&values, forgotten, fold, width, 1.0, |_| Style::new());
        assert_eq!(bars.len(), usize::from(width));
        bars.into_iter().map(|bar| bar.height).collect()
    }

    #[test]
    fn a_short_series_stands_on_the_right() {
        assert_eq!(heights(2, 0, Fold::Max, 4), [None, None, Some(0.0), Some(1.0)]);
        assert_eq!(heights(4, 0, Fold::Mean, 4), [0.0, 1.0, 2.0, 3.0].map(Some));
    }

    #[test]
    fn a_long_series_is_folded_and_none_of_it_is_left_out() {
        assert_eq!(heights(6, 0, Fold::Max, 5), [None, None, Some(1.0), Some(3.0), Some(5.0)]);
        assert_eq!(heights(6, 0, Fold::Mean, 5), [None, None, Some(0.5), Some(2.5), Some(4.5)]);
        // The groups stay the same when the first value has gone: 1, 2-3, 4-5, 6.
        assert_eq!(heights(6, 1, Fold::Max, 5), [None, Some(1.0), Some(3.0), Some(5.0), Some(6.0)]);
        for count in 0..700 {
            let bars = heights(count, 7, Fold::Max, 68);
            assert_eq!(bars.last().copied().flatten(), count.checked_sub(1).map(|last| (7 + last) as f64));
        }
    }

    #[test]
    fn no_width_is_no_bar() {
        assert_eq!(heights(9, 0, Fold::Max, 0), []);
    }
}

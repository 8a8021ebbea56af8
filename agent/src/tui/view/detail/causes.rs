//! How a stall divides, as a bar of letters and colours.

use ratatui::text::{Line, Span};

use crate::{
    model::{Cause, Causes},
    tui::palette::Palette,
};

/// Smaller shares are not worth a word.
const NAMED_SHARE: f64 = 0.01;

/// `JJJJJJGGII`: causes in their own order, so that bars can be compared; shorter than `columns` never, without any time
/// blank.
pub(super) fn bar<'a>(causes: &Causes, columns: usize, palette: &Palette) -> Vec<Span<'a>> {
    let total_ns = causes.total_ns();
    if total_ns == 0 {
        return vec![Span::raw(" ".repeat(columns))];
    }
    let mut spans = Vec::new();
    let (mut before_ns, mut begin) = (0, 0);
    for (cause, ns) in causes.iter() {
        before_ns += ns;
        let end = (before_ns as f64 / total_ns as f64 * columns as f64).round() as usize;
        if end > begin {
            let (letter, style) = palette.cause(cause);
            spans.push(Span::styled(letter.to_string().repeat(end - begin), style));
            begin = end;
        }
    }
    spans
}

/// `J javascript 62 %  G gc 10 %`, most first.
pub(super) fn shares<'a>(causes: &Causes, palette: &Palette) -> Vec<Span<'a>> {
    let total_ns = causes.total_ns().max(1) as f64;
    let mut shares: Vec<(Cause, f64)> =
        causes.iter().map(|(cause, ns)| (cause, ns as f64 / total_ns)).collect();
    shares.retain(|(_, share)| *share >= NAMED_SHARE);
    shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let named = |(cause, share): (Cause, f64)| {
        let (letter, style) = palette.cause(cause);
        let text = format!(" {} {:.0} %  ", cause.name(), share * 100.0);
        [Span::styled(letter.to_string(), style), Span::raw(text)]
    };
    shares.into_iter().flat_map(named).collect()
}

/// What the letters stand for; those of `causes` only.
pub(super) fn legend<'a>(causes: &Causes, palette: &Palette) -> Line<'a> {
    let mut spans = vec![Span::raw(" ")];
    for (cause, _) in causes.iter().filter(|(_, ns)| *ns > 0) {
        let (letter, style) = palette.cause(cause);
        spans.push(Span::styled(letter.to_string(), style));
        spans.push(Span::styled(format!(" {}  ", cause.name()), palette.dim));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use nodeprobe_ebpf::part::{PART_GC, PART_SYNC_IO};

    use super::*;
    use crate::report::sample;

    fn letters(duration_ns: u64, parts: &[(usize, u64)], columns: usize) -> String {
        let palette = Palette::new(false, true);
        let spans = bar(&sample::causes(duration_ns, parts), columns, &palette);
        spans.into_iter().map(|span| span.content).collect()
    }

    #[test]
    fn a_bar_is_as_wide_as_asked_for_and_in_proportion() {
        let parts = [(PART_GC, 10), (PART_SYNC_IO, 70)];
        assert_eq!(letters(100, &parts, 10), "RRGIIIIIII");
        for columns in 0..40 {
            assert_eq!(letters(97, &parts, columns).len(), columns);
        }
        assert_eq!(letters(0, &[], 4), "    ");
    }
}

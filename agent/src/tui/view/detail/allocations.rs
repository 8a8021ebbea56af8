//! Who allocates what the collector has to deal with.

use ratatui::text::Line;

use super::{Context, Section, events::list};
use crate::{
    report::quantity::{bytes, or_unknown, percent},
    stack::allocations::Allocation,
    tui::view::blame,
};

/// The rest is in the JSON document.
const MOST_FUNCTIONS: usize = 5;
const CULPRIT_WIDTH: usize = 40;

/// The functions that allocate most in the last minute; `None` without a sample.
pub(super) fn allocations<'a>(context: &Context<'a>) -> Option<Section<'a>> {
    let minute = context.minute?;
    let per_second = |amount: Option<f64>| {
        or_unknown(amount, |amount| format!("{}/s", bytes((amount / minute.window_s()) as u64)))
    };
    let line = |Allocation { culprit, ratio, bytes }: &Allocation| {
        let culprit = blame(culprit, CULPRIT_WIDTH, context.palette);
        Line::raw(format!("{:>5} %{:>9}  {culprit}", percent(*ratio), per_second(*bytes)))
    };
    let lines: Vec<Line<'_>> = minute.allocations().iter().take(MOST_FUNCTIONS).map(line).collect();
    let allocated = minute.allocated_bytes().map(|bytes| bytes as f64);
    let about = format!("{} in the heap, share by function", per_second(allocated));
    (!lines.is_empty()).then(|| list("Allocations", about, context.palette.dim, lines))
}

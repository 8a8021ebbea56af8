//! The left half: histogram, sparklines and the GC timeline.

use nodeprobe_ebpf::histogram::{EXPONENTIAL_LEN, FIRST_INDEX, SCALE};
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{Context, Section, in_ms};
use crate::{
    model::{HeapChange, Histogram, Pauses, Signal},
    report::{
        document::{is_observed, max_s, quantile_s},
        quantity::{bytes, duration, milliseconds, or_unknown, percent},
    },
    tui::{
        history::{GcSample, LoopSample, ThreadHistory},
        row::Level,
        view::{
            bars::{self, Bar, Fold},
            put,
        },
    },
};

const HISTOGRAM_BARS: u16 = 6;
const SPARKLINE_ROWS: u16 = 3;
const SLOTS_PER_OCTAVE: usize = 1 << SCALE;
/// What the histogram shows at least, so that its axis does not jump: 2^-13 s (0.1 ms) to 1 s.
const AXIS_MIN_SLOTS: std::ops::Range<usize> = slot_of_exponent(-13)..slot_of_exponent(0);
/// Room for `minor` and `major` before the GC sparklines.
const KIND_WIDTH: u16 = 6;

/// The slot that begins at 2^exponent seconds.
const fn slot_of_exponent(exponent: i32) -> usize {
    ((exponent << SCALE) - FIRST_INDEX).unsigned_abs() as usize
}

/// Turns by duration on a logarithmic axis: all since the first interval, those of the last one bright.
pub(super) fn turns<'a>(context: &Context<'a>) -> Section<'a> {
    let palette = context.palette;
    let thread = context.thread;
    let history = thread.and_then(|thread| context.history.threads.get(&thread.tid));
    let all = history.map(|history| &history.turns);
    let summary = match history {
        Some(ThreadHistory { turns, observed_s, .. }) if turns.count > 0 => format!(
            "{} in {}, p50 {}, p99 {}, max {}",
            turns.count,
            duration(observed_s.round()),
            or_unknown(quantile_s(turns, 0.5), milliseconds),
            or_unknown(quantile_s(turns, 0.99), milliseconds),
            or_unknown(max_s(turns), in_ms),
        ),
        _ => "none yet".to_owned(),
    };
    let title = Line::from(vec![Span::raw(" Turns  "), Span::styled(summary, palette.dim)]);
    let draw = move |frame: &mut Frame<'_>, area: Rect| {
        let (Some(all), Some(thread)) = (all, thread) else { return };
        let axis = Axis::of(all, area.width.saturating_sub(1));
        let bars = axis.bars(all, &thread.turns, palette.dim, palette.accent);
        let x = area.x + 1;
        let height = area.height.saturating_sub(1);
        bars::draw(frame, Rect { x, height, width: area.width.saturating_sub(1), ..area }, &bars, palette);
        for (column, label) in axis.labels(palette.symbols.micro) {
            put(frame, area, x + column, area.y + height, &label, palette.dim);
        }
    };
    Section { title, height: HISTOGRAM_BARS + 1, draw: Box::new(draw) }
}

/// Which slots stand in which column of the screen.
struct Axis {
    first_slot: usize,
    slots_per_column: usize,
    columns: usize,
}

impl Axis {
    fn of(histogram: &Histogram, width: u16) -> Self {
        let used = |slot: &usize| histogram.exponential[*slot] > 0;
        let first = (0..EXPONENTIAL_LEN).find(used).unwrap_or(AXIS_MIN_SLOTS.start).min(AXIS_MIN_SLOTS.start);
        let last = (0..EXPONENTIAL_LEN).rev().find(used).unwrap_or(0).max(AXIS_MIN_SLOTS.end);
        // Whole octaves, so that columns keep their meaning while the range grows.
        let first_slot = first / SLOTS_PER_OCTAVE * SLOTS_PER_OCTAVE;
        let slots = (last + 1).next_multiple_of(SLOTS_PER_OCTAVE).min(EXPONENTIAL_LEN) - first_slot;
        let width = usize::from(width).max(1);
        let slots_per_column =
            [1, 2, 4].into_iter().find(|group| slots.div_ceil(*group) <= width).unwrap_or(SLOTS_PER_OCTAVE);
        Self { first_slot, slots_per_column, columns: slots.div_ceil(slots_per_column) }
    }

    /// Heights are logarithms of counts: one stall among a million turns must be seen.
    fn bars(&self, all: &Histogram, recent: &Histogram, old: Style, new: Style) -> Vec<Bar> {
        let sum = |histogram: &Histogram, column: usize| -> u64 {
            let first = self.first_slot + column * self.slots_per_column;
            let end = (first + self.slots_per_column).min(EXPONENTIAL_LEN);
            histogram.exponential[first..end].iter().sum()
        };
        let counts: Vec<u64> = (0..self.columns).map(|column| sum(all, column)).collect();
        let top = counts.iter().copied().max().unwrap_or(0) as f64;
        counts
            .into_iter()
            .enumerate()
            .map(|(column, count)| Bar {
                height: Some((count as f64).ln_1p() / top.ln_1p().max(f64::MIN_POSITIVE)),
                style: if sum(recent, column) > 0 { new } else { old },
            })
            .collect()
    }

    /// Powers of ten that stand on the axis.
    fn labels(&self, micro: &str) -> Vec<(u16, String)> {
        (-6..=2)
            .filter_map(|power| {
                let slot =
                    (10_f64.powi(power).log2() * SLOTS_PER_OCTAVE as f64).round() - f64::from(FIRST_INDEX);
                let slots = slot as usize;
                let column = slots.checked_sub(self.first_slot)? / self.slots_per_column;
                let number = 10_u32.pow(power.rem_euclid(3).unsigned_abs());
                let unit = match power {
                    ..=-4 => micro,
                    -3..=-1 => "ms",
                    _ => "s",
                };
                (slot >= 0.0 && column < self.columns).then(|| (column as u16, format!("{number}{unit}")))
            })
            .collect()
    }
}

pub(super) fn utilization<'a>(context: &Context<'a>) -> Section<'a> {
    let (samples, forgotten) = samples(context);
    let now = samples.last().and_then(|sample| sample.utilization);
    let palette = context.palette;
    let style = move |value| match Level::of(Some(value), 0.7, 0.9) {
        Level::Normal => palette.accent,
        level => palette.level(level),
    };
    let about = format!("{} %, 0 to 100 %, last {}", or_unknown(now, percent), covered(&samples));
    let values = samples.iter().map(|sample| sample.utilization).collect();
    sparkline(
        context,
        " Utilization  ",
        about,
        Sparkline { values, forgotten, fold: Fold::Mean, top: 1.0 },
        style,
    )
}

pub(super) fn turn_p99<'a>(context: &Context<'a>) -> Section<'a> {
    let (samples, forgotten) = samples(context);
    let now = samples.last().and_then(|sample| sample.turn_p99_s);
    let palette = context.palette;
    let style = move |value| match Level::of(Some(value), 0.05, 0.1) {
        Level::Normal => palette.accent,
        level => palette.level(level),
    };
    let values: Vec<Option<f64>> = samples.iter().map(|sample| sample.turn_p99_s).collect();
    let top = values.iter().flatten().copied().fold(0.0, f64::max);
    let about = format!("{}, 0 to {}, last {}", or_unknown(now, in_ms), in_ms(top), covered(&samples));
    sparkline(context, " Turn p99  ", about, Sparkline { values, forgotten, fold: Fold::Max, top }, style)
}

/// What is known of the loop, oldest first, and how many samples were before.
fn samples(context: &Context<'_>) -> (Vec<LoopSample>, usize) {
    let history = context.thread.and_then(|thread| context.history.threads.get(&thread.tid));
    history
        .map(|history| (history.samples.values.iter().copied().collect(), history.samples.forgotten))
        .unwrap_or_default()
}

fn covered(samples: &[LoopSample]) -> String {
    duration(samples.iter().map(|sample| sample.duration_s).sum::<f64>().round())
}

struct Sparkline {
    values: Vec<Option<f64>>,
    forgotten: usize,
    fold: Fold,
    top: f64,
}

fn sparkline<'a>(
    context: &Context<'a>,
    name: &'static str,
    about: String,
    line: Sparkline,
    style: impl Fn(f64) -> Style + 'a,
) -> Section<'a> {
    let palette = context.palette;
    let draw = move |frame: &mut Frame<'_>, area: Rect| {
        let area = Rect { x: area.x + 1, width: area.width.saturating_sub(1), ..area };
        let Sparkline { values, forgotten, fold, top } = &line;
        bars::draw(frame, area, &bars::series(values, *forgotten, *fold, area.width, *top, &style), palette);
    };
    let title = Line::from(vec![Span::raw(name), Span::styled(about, palette.dim)]);
    Section { title, height: SPARKLINE_ROWS, draw: Box::new(draw) }
}

/// Pause time by kind over time, and the heap around the last pause of each kind.
pub(super) fn gc<'a>(context: &Context<'a>) -> Section<'a> {
    let (palette, history, process) = (context.palette, context.history, context.process);
    let observed = is_observed(&process.signals, Signal::Gc);
    let duration_s = history.interval().duration_s;
    let about = if observed {
        let longest = or_unknown(history.longest_pause_s(), in_ms);
        format!(
            "{} % of time, longest of the last 60 s {longest}",
            percent(process.gc_time_ratio(duration_s))
        )
    } else {
        "not observed".to_owned()
    };
    let title = Line::from(vec![Span::raw(" GC pauses  "), Span::styled(about, palette.dim)]);
    let draw = move |frame: &mut Frame<'_>, area: Rect| {
        if !observed {
            return;
        }
        let ratios = |time_s: fn(&GcSample) -> f64| -> Vec<Option<f64>> {
            let ratio = |sample| Some(time_s(sample) / sample.interval_s.max(f64::MIN_POSITIVE));
            history.gc.values.iter().map(ratio).collect()
        };
        let (minor, major) = (ratios(|sample| sample.minor_paused_s), ratios(|sample| sample.major_paused_s));
        // Both on one scale, or a few scavenges would look like many.
        let top = minor.iter().chain(&major).flatten().copied().fold(0.0, f64::max);
        let mut y = area.y;
        for (name, pauses, values, style) in [
            ("minor", &process.minor, minor, palette.accent),
            ("major", &process.major, major, palette.warning),
        ] {
            let text = pause_line(name, pauses, palette.symbols.arrow);
            put(frame, area, area.x + 1, y, &text, Style::new());
            let x = area.x + 1 + KIND_WIDTH;
            let width = area.width.saturating_sub(1 + KIND_WIDTH);
            let rows = Rect { x, y: y + 1, width, height: area.bottom().saturating_sub(y + 1).min(2) };
            bars::draw(
                frame,
                rows,
                &bars::series(&values, history.gc.forgotten, Fold::Mean, width, top, |_| style),
                palette,
            );
            y += 3;
        }
    };
    Section { title, height: 6, draw: Box::new(draw) }
}

fn pause_line(name: &str, pauses: &Pauses, arrow: &str) -> String {
    let durations = &pauses.durations;
    let longest = max_s(durations).map(|max| format!(", longest {}", in_ms(max))).unwrap_or_default();
    let heap = heap_change(pauses.last, arrow).map(|heap| format!(", heap {heap}")).unwrap_or_default();
    let time = in_ms(durations.sum_ns as f64 / 1e9);
    format!("{name} {} in {time}{longest}{heap}", durations.count)
}

/// `301M → 262M`; `None` when neither is known.
pub(super) fn heap_change(heap: HeapChange, arrow: &str) -> Option<String> {
    let HeapChange { before_bytes, after_bytes } = heap;
    (before_bytes.is_some() || after_bytes.is_some())
        .then(|| format!("{} {arrow} {}", or_unknown(before_bytes, bytes), or_unknown(after_bytes, bytes)))
}

//! Tables for docs/overhead.md, and the few statistics in them.

use std::fmt;

pub(super) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            head: head.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        writeln!(f, "{}\n\n{}", self.title, line(&self.head))?;
        writeln!(f, "|{}", " --- |".repeat(self.head.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", line(row)))
    }
}

/// Median, smallest and largest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` when nothing was measured.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }

    /// `median (min to max)` with so many decimals.
    pub(super) fn show(self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
    }
}

/// The mean of some measurements without a quarter at either end, rounded down, and where it lies with 95 % certainty: what it is in most of a thousand samples
/// drawn from them (bootstrap). Single ones that somebody disturbed move neither much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// `None` when nothing was measured.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        const DRAWS: usize = 1000;
        let values: Vec<f64> = values.into_iter().collect();
        let value = middle_mean(&values)?;
        // The same numbers at each call, so that a table can be made again (Knuth's linear congruential generator, MMIX).
        let mut state = 1u64;
        let mut drawn = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            values[(state >> 33) as usize % values.len()]
        };
        let means: Vec<f64> = (0..DRAWS)
            .filter_map(|_| middle_mean(&(0..values.len()).map(|_| drawn()).collect::<Vec<_>>()))
            .collect();
        let bound = |share| quantile(means.iter().copied(), share);
        Some(Self { value, low: bound(0.025)?, high: bound(0.975)? })
    }

    /// `value (low to high)` with so many decimals.
    pub(super) fn show(self, decimals: usize) -> String {
        let Self { value, low, high } = self;
        format!("{value:.decimals$} ({low:.decimals$} to {high:.decimals$})")
    }
}

fn middle_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    let middle = sorted.get(cut..sorted.len() - cut).filter(|middle| !middle.is_empty())?;
    Some(middle.iter().sum::<f64>() / middle.len() as f64)
}

/// The value that a share of the others does not exceed; `None` when nothing was measured.
pub(super) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    let mut sorted: Vec<_> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

/// What `select` of two measurements says, round by round: rounds are neighbours in time, so noise that lasts longer
/// than one of them cancels out.
pub(super) fn pairwise(one: &[f64], other: &[f64], select: impl Fn(f64, f64) -> f64) -> Option<Spread> {
    Spread::of(one.iter().zip(other).map(|(&one, &other)| select(one, other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 100.0]), Some(Spread { median: 3.0, min: 1.0, max: 100.0 }));
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn an_estimate_is_moved_little_by_one_that_was_disturbed() {
        let calm = [1.0, 1.2, 0.8, 1.1, 0.9, 1.0, 1.3, 0.7];
        let estimate = Estimate::of(calm).unwrap();
        assert!((estimate.value - 1.0).abs() < 0.01, "{estimate:?}");
        assert!(estimate.low > 0.7 && estimate.high < 1.3 && estimate.low < estimate.high, "{estimate:?}");
        let disturbed = Estimate::of(calm.into_iter().chain([40.0])).unwrap();
        assert!((disturbed.value - 1.0).abs() < 0.1, "{disturbed:?}");
        assert_eq!(Estimate::of([]), None);
    }

    #[test]
    fn one_measurement_is_its_own_estimate() {
        assert_eq!(Estimate::of([2.0]).map(|one| one.show(1)).as_deref(), Some("2.0 (2.0 to 2.0)"));
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values = || (1..=11).rev().map(f64::from);
        assert_eq!(quantile(values(), 0.9), Some(10.0));
        assert_eq!(quantile(values(), 0.0), Some(1.0));
        assert_eq!(quantile([], 0.5), None);
    }

    #[test]
    fn rounds_are_compared_with_their_neighbours() {
        // The machine became twice as slow in the second round; the ratio did not change.
        let ratio = pairwise(&[11.0, 22.0], &[10.0, 20.0], |watched, bare| watched / bare);
        assert_eq!(ratio.map(|spread| spread.show(2)).as_deref(), Some("1.10 (1.10 to 1.10)"));
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new("**Title**", &["a", "b"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        assert_eq!(table.to_string(), "**Title**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}

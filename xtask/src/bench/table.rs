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

//! Aligned columns of plain text.

use super::printable;

/// Columns this wide hold any value nodeprobe prints; only names and reasons can be longer.
const MAX_WIDTH: usize = 48;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One cell per column; missing cells are empty.
    pub(super) fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| printable::fit(&cell, MAX_WIDTH, '~')).collect());
    }

    /// Header and rows, each line without trailing blanks. `note` gives lines to put under row `i`.
    pub(super) fn lines(&self, note: impl Fn(usize) -> Vec<String>) -> Vec<String> {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (title, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(index));
                cells.map(|cell| printable::width(cell)).fold(title.len(), usize::max)
            })
            .collect();
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let mut lines = vec![self.line(&widths, &titles)];
        for (index, row) in self.rows.iter().enumerate() {
            lines.push(self.line(&widths, row));
            lines.extend(note(index));
        }
        lines
    }

    fn line(&self, widths: &[usize], cells: &[String]) -> String {
        let mut line = String::new();
        for (index, ((_, align), width)) in self.columns.iter().zip(widths).enumerate() {
            let cell = cells.get(index).map_or("", String::as_str);
            let blanks = " ".repeat(width.saturating_sub(printable::width(cell)));
            if index > 0 {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.extend([cell, &blanks]),
                Align::Right => line.extend([&blanks, cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

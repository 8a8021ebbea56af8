//! What nodeprobe prints for people without a terminal and for programs: the faces of `top -b`, `ps` and `diagnose`.
//!
//! Architecture invariant: reads the model only, and writes to nothing but the sink it is given.
#![forbid(unsafe_code)]

pub mod allocations;
mod csv;
pub mod diagnosis;
pub mod document;
pub mod page;
pub mod printable;
pub mod profile;
mod ps;
pub mod quantity;
pub mod queues;
#[cfg(test)]
pub(crate) mod sample;
pub mod stall;
pub mod startup;
mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod timestamp;

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

pub use self::{document::Report, ps::Listing};
use crate::model::{Interval, Process};

/// Shapes of `top -b`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    #[default]
    Text,
    /// One indented JSON document per interval
    Json,
    /// One line of JSON per interval
    Ndjson,
    /// A header once, then one row per thread and interval
    Csv,
}

/// Shapes of listings that are printed once, as by `ps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListingFormat {
    /// A table for people
    #[default]
    Text,
    /// One indented JSON document
    Json,
}

/// Writes intervals in one format.
#[derive(Debug)]
pub struct Writer<W> {
    format: Format,
    sink: W,
    header_written: bool,
}

impl<W: Write> Writer<W> {
    pub fn new(format: Format, sink: W) -> Self {
        Self { format, sink, header_written: false }
    }

    /// Writes one interval at once and flushes, so that a reader at the other end of a pipe never waits for the half
    /// of a document.
    ///
    /// # Errors
    /// Those of the sink; [`io::ErrorKind::BrokenPipe`] when its reader has gone, as after `| head`.
    pub fn write(&mut self, interval: &Interval) -> io::Result<()> {
        let report = Report::from(interval);
        let rendered = match self.format {
            Format::Text => text::render(&report).into_bytes(),
            Format::Json => to_json(&report)?,
            Format::Ndjson => {
                let mut line = serde_json::to_vec(&report)?;
                line.push(b'\n');
                line
            }
            Format::Csv => {
                let mut rows = Vec::new();
                csv::render(&report, !self.header_written, &mut rows)?;
                self.header_written |= !rows.is_empty();
                rows
            }
        };
        self.sink.write_all(&rendered)?;
        self.sink.flush()
    }
}

/// The interval as one indented JSON document with a line feed at the end.
///
/// # Errors
/// None that can happen: the document has string keys only and memory takes it.
pub fn json(interval: &Interval) -> io::Result<Vec<u8>> {
    to_json(&Report::from(interval))
}

/// Prints the listing of `nodeprobe ps`.
///
/// # Errors
/// Those of the sink; [`io::ErrorKind::BrokenPipe`] when its reader has gone.
pub fn ps(processes: &[Process], format: ListingFormat, mut sink: impl Write) -> io::Result<()> {
    let listing = Listing::from(processes);
    let rendered = match format {
        ListingFormat::Text => listing.render().into_bytes(),
        ListingFormat::Json => to_json(&listing)?,
    };
    sink.write_all(&rendered)?;
    sink.flush()
}

fn to_json(document: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut rendered = serde_json::to_vec_pretty(document)?;
    rendered.push(b'\n');
    Ok(rendered)
}

//! Lines to intervals: what a file says of itself, where it ends, and which line is wrong.

use std::io::{self, BufRead, Read as _};

use super::{FORMAT, Header, LONGEST_LINE, VERSION, decode::Tables, wire::Line};
use crate::{clean::clean, model::Interval};

/// Why a recording cannot be read, or no further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it cannot be read")]
    Io(#[source] io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is no recording: its first line does not say `\"format\":\"{FORMAT}\"`")]
    Foreign,
    #[error(
        "it was written in version {0} of the format, and this nodeprobe knows versions up to {VERSION}; use a newer one"
    )]
    Newer(u32),
    #[error("line {number}: {reason}")]
    Line { number: u64, reason: String },
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Complete,
    /// Its last line is missing: the recorder crashed, or is still at work.
    Unfinished,
    /// The same, and this line, which is left out, stops in the middle.
    CutOff { line: u64 },
}

/// Reads a recording line by line.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    number: u64,
    tables: Tables,
    end: Option<End>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`ReadError`]: nothing readable, not a recording, or one of a newer format.
    pub fn new(mut source: R) -> Result<Self, ReadError> {
        let first = read_line(&mut source, 1)?.ok_or(ReadError::Empty)?;
        // The version is looked at before the rest, which may have changed with it.
        let peek: serde_json::Value = serde_json::from_slice(&first).or(Err(ReadError::Foreign))?;
        if peek["format"] != FORMAT {
            return Err(ReadError::Foreign);
        }
        let version = peek["version"].as_u64().ok_or(ReadError::Foreign)?;
        if version == 0 || version > u64::from(VERSION) {
            return Err(ReadError::Newer(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        let header = serde_json::from_value(peek)
            .map_err(|error| ReadError::Line { number: 1, reason: error.to_string() })?;
        Ok(Self { source, header, number: 1, tables: Tables::default(), end: None })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended; `None` while there may be more.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The next interval; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Io`], and [`ReadError::Line`] for a line that no recorder writes. What came before is right;
    /// there is nothing to be had after it.
    pub fn next_interval(&mut self) -> Result<Option<Interval>, ReadError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let number = self.number + 1;
        let Some(bytes) = read_line(&mut self.source, number)? else {
            self.end = Some(End::Unfinished);
            return Ok(None);
        };
        self.number = number;
        let line = match serde_json::from_slice(&bytes) {
            Ok(line) => line,
            Err(_) if bytes.last() != Some(&b'\n') => {
                self.end = Some(End::CutOff { line: number });
                return Ok(None);
            }
            Err(error) => {
                // serde counts the lines of what it was given, which is one.
                let error = error.to_string().replace(" at line 1 column ", " at column ");
                let reason = format!("it is not what a recorder writes: {}", clean(error.as_bytes(), 200));
                return Err(ReadError::Line { number, reason });
            }
        };
        match line {
            Line::End(_) => {
                self.end = Some(End::Complete);
                Ok(None)
            }
            Line::Interval(line) => {
                self.tables.interval(*line).map(Some).map_err(|reason| ReadError::Line { number, reason })
            }
        }
    }
}

fn read_line(source: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let mut line = Vec::new();
    source.take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(ReadError::Io)?;
    if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
        let reason = format!("it is longer than {} MiB", LONGEST_LINE >> 20);
        return Err(ReadError::Line { number, reason });
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

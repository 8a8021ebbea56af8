//! A growing sequence of JSON lines, read as they come and stamped with the time of receipt.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::wall_clock::now_s;

/// One line; what is no JSON is kept as a string value, for the message.
#[derive(Clone, Debug)]
pub struct Line {
    /// Wall clock at receipt, seconds since 1970.
    pub received_s: f64,
    pub value: Value,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<Line>>,
    grown: Condvar,
}

/// Handle on what has been read so far.
pub struct JsonLines(Arc<Shared>);

impl JsonLines {
    /// Reads `source` to its end in a thread of its own.
    pub fn read(source: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let reader = Arc::clone(&shared);
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                let value = serde_json::from_slice(&line)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&line).into_owned()));
                let line = Line { received_s: now_s(), value };
                reader.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                reader.grown.notify_all();
            }
        });
        Self(shared)
    }

    pub fn len(&self) -> usize {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything read so far from line `first` on.
    pub fn since(&self, first: usize) -> Vec<Line> {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(first..).unwrap_or_default().to_vec()
    }

    /// Waits until `find` finds something in the lines read so far; asked again after each line. `None`: the
    /// deadline has passed.
    pub fn wait<T>(&self, deadline: Duration, mut find: impl FnMut(&[Line]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&lines) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            (lines, _) = self.0.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

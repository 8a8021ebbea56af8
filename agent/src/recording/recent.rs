//! The newest part of a recording, in memory: for a face that shows what was watched once it is over.

use std::{collections::VecDeque, io};

use super::{Header, Recorder};
use crate::model::Interval;

/// Intervals that share tables. What is dropped is dropped by so many.
const PART_INTERVALS: usize = 16;
/// The oldest goes beyond this: a browser has to take it. A service under load makes some 12 KiB a second.
const MOST_BYTES: usize = 32 << 20;

/// Keeps at least the last `window_s` seconds, unless they are more than [`MOST_BYTES`].
#[derive(Debug)]
pub struct Recent {
    window_s: f64,
    most_bytes: usize,
    header: Vec<u8>,
    recorder: Recorder<Vec<u8>>,
    /// Never empty.
    parts: VecDeque<Part>,
}

/// Lines that refer to none outside.
#[derive(Debug, Default)]
struct Part {
    lines: Vec<Vec<u8>>,
    bytes: usize,
    duration_s: f64,
}

impl Recent {
    /// # Errors
    /// None that can happen: memory takes everything.
    pub fn new(header: &Header, window_s: f64) -> io::Result<Self> {
        let mut recorder = Recorder::new(Vec::new(), header)?;
        let header = recorder.take();
        let parts = VecDeque::from([Part::default()]);
        Ok(Self { window_s, most_bytes: MOST_BYTES, header, recorder, parts })
    }

    /// # Errors
    /// The same.
    pub fn push(&mut self, interval: &Interval) -> io::Result<()> {
        if self.newest().lines.len() >= PART_INTERVALS {
            self.recorder.begin_anew();
            self.parts.push_back(Part::default());
        }
        self.recorder.write(interval)?;
        let line = self.recorder.take();
        let part = self.newest();
        part.bytes += line.len();
        part.duration_s += interval.duration_s;
        part.lines.push(line);
        self.drop_old();
        Ok(())
    }

    /// The lines of a recording, each with its line feed, the header first.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let intervals = self.parts.iter().flat_map(|part| &part.lines);
        std::iter::once(&self.header).chain(intervals).map(Vec::as_slice)
    }

    fn newest(&mut self) -> &mut Part {
        self.parts.back_mut().expect("there is always a part")
    }

    fn drop_old(&mut self) {
        let mut bytes: usize = self.parts.iter().map(|part| part.bytes).sum();
        let mut duration_s: f64 = self.parts.iter().map(|part| part.duration_s).sum();
        while self.parts.len() > 1
            && (bytes > self.most_bytes || duration_s - self.parts[0].duration_s >= self.window_s)
        {
            let dropped = self.parts.pop_front().expect("there are two");
            bytes -= dropped.bytes;
            duration_s -= dropped.duration_s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        recording::Reader,
        report::{profile, sample},
    };

    fn recent(window_s: f64, most_bytes: usize, seconds: u64) -> Recent {
        let header = Header::new("2026-11-23T20:31:04.250Z".to_owned(), None, 1.0, 0.05);
        let mut recent = Recent { most_bytes, ..Recent::new(&header, window_s).unwrap() };
        for second in 0..seconds {
            recent.push(&profile::sample::interval(second)).unwrap();
        }
        recent
    }

    fn read(recent: &Recent) -> Vec<Interval> {
        let file: Vec<u8> = recent.lines().flatten().copied().collect();
        let mut reader = Reader::new(file.as_slice()).unwrap();
        std::iter::from_fn(|| reader.next_interval().unwrap()).collect()
    }

    #[test]
    fn the_last_window_is_kept_and_can_be_read_by_itself() {
        let intervals = read(&recent(20.0, MOST_BYTES, 100));
        assert!((20..20 + PART_INTERVALS).contains(&intervals.len()), "{}", intervals.len());
        assert_eq!(intervals.last().unwrap().time, sample::time(99));
        assert!(!intervals[0].stacks[0].stacks[0].stack.frames.is_empty());
    }

    #[test]
    fn a_window_that_is_not_over_is_kept_whole() {
        assert_eq!(read(&recent(60.0, MOST_BYTES, 50)).len(), 50);
    }

    #[test]
    fn memory_is_bounded() {
        let recent = recent(1e6, 100_000, 500);
        let bytes: usize = recent.lines().map(<[u8]>::len).sum();
        assert!(bytes < 200_000, "{bytes}");
        assert!(!read(&recent).is_empty());
    }
}

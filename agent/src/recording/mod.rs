//! Recordings: what `nodeprobe record` writes, `nodeprobe top --replay` reads, and the page of `nodeprobe diagnose` draws.
//!
//! A file of lines of JSON. The first says what the file is, then there is one per [`Interval`](crate::model::Interval), and the last one
//! says that nothing is missing. Intervals rather than snapshots: each line stands for itself, so that a file that was
//! cut off is right up to there, and numbers that did not move cost nothing.
//!
//! Whatever repeats is written once: strings, frames, stacks and identities get numbers in the line in which they first
//! appear and are only referred to afterwards. The numbers begin anew at a line with `"fresh": true`, which the
//! writer puts in before its tables grow beyond [`Limits`].
//!
//! A file is no more trusted than a process: strings are cleaned again, numbers and tables bounded.
#![forbid(unsafe_code)]

mod decode;
mod intern;
mod read;
mod recent;
mod tables;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub use self::{
    read::{End, ReadError, Reader},
    recent::Recent,
    wire::Header,
    write::Recorder,
};

/// What [`Header::format`] says.
pub const FORMAT: &str = "nodeprobe-recording";
/// Goes up when a line means something else than before; a field that is only added leaves it.
pub const VERSION: u32 = 1;

/// How far the tables of a file may grow.
#[derive(Clone, Copy, Debug)]
struct Limits {
    strings: usize,
    frames: usize,
    stacks: usize,
    /// Frames of all stacks together.
    stack_frames: usize,
    processes: usize,
}

/// The writer begins anew before an interval when one of these is reached: some 40 MB.
const SOFT: Limits =
    Limits { strings: 1 << 16, frames: 1 << 16, stacks: 1 << 16, stack_frames: 1 << 19, processes: 1 << 12 };
/// The reader refuses what no writer makes: one interval adds far less than the difference.
const HARD: Limits =
    Limits { strings: 1 << 18, frames: 1 << 18, stacks: 1 << 18, stack_frames: 1 << 21, processes: 1 << 14 };
/// The kernel walks 96 frames; inlined functions multiply them.
const MOST_FRAMES: usize = 1024;
/// Longest line that is read.
const LONGEST_LINE: u64 = 64 << 20;

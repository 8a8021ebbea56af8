//! Processor time and memory of a process, from `/proc`.

use anyhow::{Context, Result};
use std::fs;

/// `utime` and `stime` in `/proc` count in this unit on every architecture (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// User and system time of all threads, in seconds.
pub(super) fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has it ended?"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} has an unknown form"))?;
    Ok(ticks as f64 / TICKS_PER_S)
}

/// Time that the first thread of a process has run, in microseconds: finer than the hundredths of [`cpu_s`].
pub(super) fn main_thread_us(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has it ended?"))?;
    let run_ns = text.split(' ').next().unwrap_or_default();
    let run_ns: u64 = run_ns.parse().with_context(|| format!("{path} has an unknown form"))?;
    Ok(run_ns as f64 / 1e3)
}

/// A figure of a process under `/proc`, in bytes.
pub(super) fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("no {field} in {path}"))?;
    let kib: u64 =
        line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().with_context(|| format!("{path}: {line}"))?;
    Ok(kib * 1024)
}

/// Fields 14 and 15; the name in field 2 may contain spaces and parentheses, so counting starts behind it.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_spaces_and_parentheses() {
        assert_eq!(ticks("7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1"), Some(300));
        assert_eq!(ticks("7 (cut"), None);
    }
}

//! What a process of this host holds, as the kernel tells.

use std::fs;

/// At one moment.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Resident memory.
    pub rss_kib: u64,
    /// Of it what is of no file: the program itself is shared with others that run it, and comes in as it is used.
    pub anonymous_kib: u64,
    pub descriptors: usize,
    pub threads: u64,
}

impl Resources {
    /// # Panics
    /// The process has gone, or is not ours to look at.
    pub fn of(pid: u32) -> Self {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
        Self {
            rss_kib: field(&status, "VmRSS:"),
            anonymous_kib: field(&status, "RssAnon:"),
            descriptors: descriptors.unwrap_or_else(|error| panic!("/proc/{pid}/fd: {error}")),
            threads: field(&status, "Threads:"),
        }
    }
}

/// The number behind a name.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The middle of some numbers.
///
/// # Panics
/// There are none.
pub fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

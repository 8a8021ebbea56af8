//! Whether the code of a process is what its file says. A probe in a file is a breakpoint: one byte that differs.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// Offsets in the executable at which the memory of the process differs from the file.
///
/// # Panics
/// When the process is gone, or its memory or file cannot be read.
pub fn changed_bytes(pid: u32, executable: &Path) -> Vec<u64> {
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory of our own child can be read");
    let file = fs::read(executable).expect("the executable can be read");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process is there");
    let path = fs::canonicalize(executable).expect("the executable is there");
    let mut changed = Vec::new();
    let mut compared = 0;
    for line in maps.lines().filter(|line| line.ends_with(&*path.to_string_lossy())) {
        let mut fields = line.split_whitespace();
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).expect("maps has hexadecimal numbers");
        let (start, end) = fields.next().and_then(|range| range.split_once('-')).expect("a range");
        let permissions = fields.next().expect("permissions");
        let offset = hexadecimal(fields.next().expect("an offset"));
        if !permissions.contains('x') {
            continue;
        }
        let (start, end) = (hexadecimal(start), hexadecimal(end));
        let mut bytes = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut bytes, start).expect("code can be read");
        // The last page goes beyond the end of a short file.
        let of_file = file.get(offset as usize..).unwrap_or_default();
        let differences = bytes.iter().zip(of_file).enumerate().filter(|(_, (now, then))| now != then);
        changed.extend(differences.map(|(at, _)| offset + at as u64));
        compared += bytes.len();
    }
    assert!(compared > 1 << 20, "{} has no code in {pid}", path.display());
    changed
}

//! Collapsed stacks: `outer;inner 123`, one per line, for `flamegraph.pl`, inferno and most viewers.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{Profile, Shown, label, outer_to_inner};

/// Writes the profile. The outermost frame names service, process and thread; the number is microseconds.
///
/// # Errors
/// Those of the sink.
pub fn write(profile: &Profile, mut sink: impl Write) -> io::Result<()> {
    // Stacks that differ only in what this format does not show are one line.
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for ((process, tid), thread) in &profile.threads {
        let root = escaped(&thread.label(*process, *tid));
        for (stack, _, weight) in thread.stacks() {
            let mut line = root.clone();
            for shown in outer_to_inner(stack) {
                line.push(';');
                line.push_str(&match shown {
                    Shown::Frame(frame) => escaped(&label(frame)),
                    Shown::Remark(remark) => escaped(remark),
                });
            }
            let sum = lines.entry(line).or_default();
            *sum = sum.saturating_add(weight.time_ns);
        }
    }
    for (line, time_ns) in lines {
        let microseconds = time_ns.saturating_add(500) / 1000;
        if microseconds > 0 {
            writeln!(sink, "{line} {microseconds}")?;
        }
    }
    sink.flush()
}

/// The format has no way to write a `;` or the end of a line inside of a name, so they become something else.
fn escaped(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            ';' => ':',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

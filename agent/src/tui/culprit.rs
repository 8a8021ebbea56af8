//! Functions and their places as text: `hashPassword auth.js:42`.

use std::collections::BTreeMap;

use crate::model::{Availability, Culprit, Signal};

/// The signals without which no stack is sampled, by the name they have everywhere.
const NEEDED_SIGNALS: [&str; 2] = ["event_loop", "sample"];

/// `auth.js:42`; the whole name of scripts inside of Node, whose directory tells more than their file.
pub(super) fn place(script: &str, line: Option<u32>) -> String {
    let shown = if script.starts_with("node:") { script } else { basename(script) };
    line.map_or_else(|| shown.to_owned(), |line| format!("{shown}:{line}"))
}

fn basename(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ => path,
    }
}

/// Where the culprit is; empty for native code.
pub(super) fn place_of(culprit: &Culprit) -> String {
    culprit.script.as_deref().map(|script| place(script, culprit.line)).unwrap_or_default()
}

/// `hashPassword auth.js:42`, of any length.
pub(super) fn label(culprit: &Culprit) -> String {
    match place_of(culprit) {
        place if place.is_empty() => culprit.function.to_string(),
        place => format!("{} {place}", culprit.function),
    }
}

/// Why there can be no stack: the reason of the first signal that is missing for it.
pub(super) fn why_no_stacks(signals: &BTreeMap<Signal, Availability>) -> Option<(&'static str, &str)> {
    signals.iter().find_map(|(signal, availability)| match availability {
        Availability::Unavailable(reason) if NEEDED_SIGNALS.contains(&signal.name()) => {
            Some((signal.name(), &**reason))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_name_of_the_file_and_the_line() {
        for (script, line, expected) in [
            ("/srv/app/src/auth.js", Some(42), "auth.js:42"),
            ("auth.js", None, "auth.js"),
            ("node:internal/timers", Some(7), "node:internal/timers:7"),
            ("", Some(7), ":7"),
            ("/", None, ""),
            ("/srv/dir/", Some(1), "dir:1"),
        ] {
            assert_eq!(place(script, line), expected);
        }
    }
}

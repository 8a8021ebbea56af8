//! Stalled time by the function to blame.
//!
//! Its names come from the process, which may have any number of them. So the first that stall have an entry each for as long
//! as the process lives, and all others share one: no series of a process ever goes back, or changes what it is about.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    clean::{VALUE_MAX_CHARS, clean},
    model::{Stall, ThreadKind, catalog::CULPRITS_MAX},
};

/// A function that stalls are blamed on. Without the line, which is the one that was executed, another one each time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::export) struct Blamed {
    pub(in crate::export) thread: ThreadKind,
    pub(in crate::export) function: Arc<str>,
    /// `None`: not known. Never empty: in Prometheus that is the same.
    pub(in crate::export) file: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::export) struct Culprits {
    /// At most [`CULPRITS_MAX`].
    known_ns: BTreeMap<Blamed, u64>,
    /// `None` until there are others.
    others_ns: Option<u64>,
}

impl Culprits {
    /// The whole time of a stall, if it is known who is to blame.
    pub(super) fn add(&mut self, stall: &Stall) {
        let Some(culprit) = &stall.culprit else { return };
        let bounded = |text: &str| Arc::from(clean(text.as_bytes(), VALUE_MAX_CHARS));
        let file = culprit.script.as_deref().filter(|script| !script.is_empty()).map(bounded);
        let blamed = Blamed { thread: stall.thread, function: bounded(&culprit.function), file };
        let is_full = self.known_ns.len() >= CULPRITS_MAX;
        let time_ns = match self.known_ns.get_mut(&blamed) {
            Some(time_ns) => time_ns,
            None if is_full => self.others_ns.get_or_insert(0),
            None => self.known_ns.entry(blamed).or_insert(0),
        };
        *time_ns += stall.duration_ns;
    }

    /// Each culprit with its time; `None`: all others.
    pub(in crate::export) fn iter(&self) -> impl Iterator<Item = (Option<&Blamed>, u64)> {
        let known = self.known_ns.iter().map(|(blamed, time_ns)| (Some(blamed), *time_ns));
        known.chain(self.others_ns.map(|time_ns| (None, time_ns)))
    }

    /// The same culprits without any time.
    pub(super) fn emptied(mut self) -> Self {
        self.known_ns.values_mut().chain(&mut self.others_ns).for_each(|time_ns| *time_ns = 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, MS};

    fn stall(thread: ThreadKind, function: &str, file: &str, duration_ms: u64) -> Stall {
        let process = sample::process(301, "checkout-api");
        let culprit = Some(sample::culprit(function, file, 7));
        Stall { thread, culprit, ..sample::stall(&process, 0, duration_ms * MS) }
    }

    /// A function and its file.
    type Name<'a> = (&'a str, Option<&'a str>);

    /// With milliseconds; no name: the others.
    fn summary(culprits: &Culprits) -> Vec<(Option<Name<'_>>, u64)> {
        fn name(blamed: &Blamed) -> Name<'_> {
            (&blamed.function, blamed.file.as_deref())
        }
        culprits.iter().map(|(blamed, ns)| (blamed.map(name), ns / MS)).collect()
    }

    #[test]
    fn the_stalls_of_a_function_add_up_whatever_line_it_was_at() {
        let mut culprits = Culprits::default();
        let mut at_another_line = stall(ThreadKind::Main, "hash", "/srv/a.js", 70);
        at_another_line.culprit.as_mut().unwrap().line = Some(9);
        for stall in [
            stall(ThreadKind::Main, "hash", "/srv/a.js", 60),
            at_another_line,
            stall(ThreadKind::Main, "hash", "/srv/b.js", 80),
            stall(ThreadKind::Worker, "hash", "/srv/a.js", 90),
        ] {
            culprits.add(&stall);
        }
        let expected = [
            (Some(("hash", Some("/srv/a.js"))), 130),
            (Some(("hash", Some("/srv/b.js"))), 80),
            (Some(("hash", Some("/srv/a.js"))), 90),
        ];
        assert_eq!(summary(&culprits), expected);
    }

    #[test]
    fn a_stall_that_nobody_is_to_blame_for_is_in_none() {
        let mut culprits = Culprits::default();
        culprits.add(&Stall { culprit: None, ..stall(ThreadKind::Main, "hash", "/srv/a.js", 60) });
        assert_eq!(summary(&culprits), []);
    }

    #[test]
    fn the_first_have_entries_of_their_own_and_all_later_ones_share_one() {
        let mut culprits = Culprits::default();
        for round in 1..=2 {
            for number in 0..50 {
                culprits.add(&stall(ThreadKind::Main, &format!("f{number:02}"), "/srv/a.js", 60));
            }
            let found = summary(&culprits);
            assert_eq!(found.len(), CULPRITS_MAX + 1);
            assert_eq!(found[19], (Some(("f19", Some("/srv/a.js"))), 60 * round));
            assert_eq!(found[20], (None, 30 * 60 * round));
        }
        // In the next interval of delta export they are the same ones: another twenty each time would be no bound.
        let mut culprits = culprits.emptied();
        culprits.add(&stall(ThreadKind::Main, "f49", "/srv/a.js", 60));
        culprits.add(&stall(ThreadKind::Main, "f00", "/srv/a.js", 70));
        let found = summary(&culprits);
        assert_eq!((found.len(), found[0].1, found[1].1, found[20]), (CULPRITS_MAX + 1, 70, 0, (None, 60)));
    }

    #[test]
    fn hostile_names_are_clean_and_bounded() {
        let endless = "x".repeat(10_000);
        let mut culprits = Culprits::default();
        culprits.add(&stall(ThreadKind::Main, &format!("{endless}1"), &format!("/{endless}1"), 60));
        culprits.add(&stall(ThreadKind::Main, &format!("{endless}2"), &format!("/{endless}2"), 60));
        culprits.add(&stall(ThreadKind::Main, "\u{1b}[31mred\n\u{202e}", "", 60));
        let found = summary(&culprits);
        assert_eq!(found[1], (Some(("\u{fffd}[31mred\u{fffd}\u{fffd}", None)), 60));
        let Some((function, Some(file))) = found[0].0 else { panic!("{found:?}") };
        assert_eq!((function.chars().count(), file.chars().count(), found[0].1), (255, 255, 120));
        assert_eq!(found.len(), 2, "what is the same when cut is one series");
    }
}

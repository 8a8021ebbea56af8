//! Runs the tests of one cluster, which takes longer to start than any of them; reports as Rust's own test programs do.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use super::{Cluster, host, logs};
use crate::skip::skip_test;

/// A test and its name.
pub type Test = (&'static str, fn(&mut Cluster));

const START: &str = "a_cluster_starts";
const END: &str = "the_machine_is_left_as_it_was";

/// Runs those of `tests` whose names contain the first argument, and the start and the end of their cluster as tests of their
/// own.
pub fn run(tests: &[Test]) -> ExitCode {
    let filter = env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let tests: Vec<_> = tests.iter().filter(|(name, _)| name.contains(&filter)).collect();
    let mut tally = Tally::default();
    if tests.is_empty() {
        return tally.end();
    }
    let parts = match Cluster::parts() {
        Ok(parts) => parts,
        Err(reason) => {
            for (name, _) in tests {
                skip_test(name, &reason);
                tally.passed += 1;
            }
            return tally.end();
        }
    };
    let before = host::facts();
    let mut cluster = None;
    tally.run(START, || cluster = Some(Cluster::start(&parts)));
    if let Some(cluster) = &mut cluster {
        for (name, test) in tests {
            tally.run(name, || test(cluster));
        }
    }
    tally.run(END, || {
        drop(cluster);
        assert_eq!(host::facts(), before);
    });
    tally.end()
}

#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    fn run(&mut self, name: &str, test: impl FnOnce()) {
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(test));
        let (word, count) =
            if result.is_ok() { ("ok", &mut self.passed) } else { ("FAILED", &mut self.failed) };
        *count += 1;
        println!("test {name} ... {word}");
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
    }

    fn end(&self) -> ExitCode {
        let Self { passed, failed } = self;
        if *failed > 0 && Path::new(&logs()).is_dir() {
            let logs = fs::canonicalize(logs()).unwrap_or_else(|_| logs());
            eprintln!("what the programs of the cluster and its pods said: {}", logs.display());
        }
        let word = if *failed == 0 { "ok" } else { "FAILED" };
        println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored");
        if *failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

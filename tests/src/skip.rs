//! Tests that cannot run here say so and are counted; they never look as if they had passed.

use std::{env, fs::OpenOptions, io::Write as _, thread};

/// Reports the running test as skipped.
///
/// # Panics
/// When `NODEPROBE_TEST_NO_SKIP` is set.
pub fn skip(reason: &str) {
    skip_test(thread::current().name().unwrap_or("unnamed test"), reason);
}

/// Reports a test as skipped that has no thread of its own.
///
/// # Panics
/// When `NODEPROBE_TEST_NO_SKIP` is set.
pub fn skip_test(test: &str, reason: &str) {
    assert!(env::var_os("NODEPROBE_TEST_NO_SKIP").is_none(), "{test} must not be skipped: {reason}");
    let line = format!("{test} skipped: {reason}\n");
    // Not eprint!: the test runner would swallow it, since the test itself does not fail.
    std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
    if let Some(path) = env::var_os("NODEPROBE_TEST_SKIPPED") {
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).expect("skip list can be opened");
        file.write_all(line.as_bytes()).expect("skip list can be written");
    }
}

//! Waiting for a condition with a deadline; no test sleeps and hopes.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Calls `poll` every 20 ms until it returns something.
///
/// # Panics
/// When the deadline has passed; the message names `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The healthy side of a test: time in which something must not happen. Not a substitute for a condition.
pub fn observe_for(duration: Duration) {
    thread::sleep(duration);
}

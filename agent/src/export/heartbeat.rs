//! Whether the daemon still reads what it observes: what `/healthz` is asked for, by which Kubernetes restarts an agent that hangs.
//!
//! One reading is due per export interval and takes milliseconds. What becomes of the export does not matter: it has time limits
//! of its own, which are no longer than the interval. The clock is the monotonic one, which stands still while the machine sleeps;
//! where the process alone stood still (a frozen control group), the next reading is due at once, and one answer before it is wrong.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Readings that must be missing in a row.
const MISSING: u32 = 3;
/// With short intervals: a crowded machine may give the agent no processor for some seconds, and a restart would not help it.
const LEAST: Duration = Duration::from_secs(30);

/// When the last reading finished.
#[derive(Debug)]
pub struct Heartbeat {
    patience: Duration,
    last: Mutex<Option<Instant>>,
}

impl Heartbeat {
    /// Of a daemon that reads once per `interval`.
    pub fn every(interval: Duration) -> Self {
        Self::within(interval.saturating_mul(MISSING).max(LEAST))
    }

    /// With a bound of its own for what is too long.
    pub fn within(patience: Duration) -> Self {
        Self { patience, last: Mutex::default() }
    }

    /// A reading has finished.
    pub fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago the last reading finished, where that is too long. Before the first it never is: to attach probes to everything
    /// that runs takes its time.
    pub fn silence(&self) -> Option<Duration> {
        self.silence_at(Instant::now())
    }

    fn silence_at(&self, now: Instant) -> Option<Duration> {
        let last = (*self.last.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(now.saturating_duration_since(last)).filter(|silence| *silence > self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after a reading from which on it is a hang.
    fn patience(interval: Duration) -> u64 {
        let heartbeat = Heartbeat::every(interval);
        heartbeat.beat();
        let last = heartbeat.last.lock().unwrap().unwrap();
        let second = |second| last + Duration::from_secs(second);
        (0..20_000).find(|at| heartbeat.silence_at(second(*at)).is_some()).unwrap()
    }

    #[test]
    fn three_readings_may_be_missing_and_never_less_than_half_a_minute() {
        assert_eq!(patience(Duration::from_millis(100)), 31);
        assert_eq!(patience(Duration::from_secs(15)), 46);
        assert_eq!(patience(Duration::from_hours(1)), 3 * 3600 + 1);
    }

    #[test]
    fn nothing_is_too_long_before_the_first_reading_or_with_an_interval_without_end() {
        let (starting, endless) = (Heartbeat::within(Duration::ZERO), Heartbeat::every(Duration::MAX));
        endless.beat();
        let late = Instant::now() + Duration::from_hours(1000);
        assert_eq!((starting.silence_at(late), endless.silence_at(late)), (None, None));
    }

    #[test]
    fn a_reading_ends_the_silence() {
        let heartbeat = Heartbeat::within(Duration::ZERO);
        let clock = Instant::now();
        heartbeat.beat();
        let before = heartbeat.last.lock().unwrap().unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(heartbeat.silence_at(before + second), Some(second));
        heartbeat.beat();
        let after = heartbeat.last.lock().unwrap().unwrap();
        assert_eq!(heartbeat.silence_at(after), None);
        // A clock read just before the beat.
        assert_eq!(heartbeat.silence_at(clock), None);
    }
}

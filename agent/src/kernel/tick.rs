//! Whether the kernel's tick can be the clock of samples.

use std::{fs, path::Path};

use nodeprobe_ebpf::tick::Tick;

/// The tick of this host, whose `/sys` and `/proc` are below `root`.
///
/// # Errors
/// Why samples need a clock of their own.
pub(crate) fn of_host(root: &Path) -> Result<Tick, String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    if resolution_ns(libc::CLOCK_MONOTONIC) != 1 {
        // The tick is no timer then, and all timers expire when it comes.
        return Err("timers have no high resolution (highres=off)".to_owned());
    }
    // The coarse clock moves on at each tick, and says so.
    let length_ns = resolution_ns(libc::CLOCK_MONOTONIC_COARSE);
    usable(length_ns, &read("sys/devices/system/cpu/nohz_full"), &read("proc/cmdline"))
}

/// `nohz_full`: the processors that have no tick while one thread runs there, as `/sys/devices/system/cpu/nohz_full` lists them.
/// `cmdline`: what the kernel was started with.
fn usable(length_ns: u64, nohz_full: &str, cmdline: &str) -> Result<Tick, String> {
    // Without any the file is empty, or says `(null)`.
    if nohz_full.contains(|letter: char| letter.is_ascii_digit()) {
        return Err(format!("processors {} run without a tick (nohz_full)", nohz_full.trim()));
    }
    // Each processor has its tick at another time then.
    let skewed = |word: &str| word.strip_prefix("skew_tick=").is_some_and(|value| value != "0");
    // The kernel takes either sign.
    if cmdline.replace('-', "_").split_whitespace().any(skewed) {
        return Err("ticks are skewed (skew_tick)".to_owned());
    }
    Tick::new(length_ns).ok_or_else(|| {
        format!("a tick of {} ms is too long", std::time::Duration::from_nanos(length_ns).as_secs_f64() * 1e3)
    })
}

/// As `clock_getres` tells; 0: it does not.
fn resolution_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a timespec.
    let failed = unsafe { libc::clock_getres(clock, &raw mut time) };
    if failed != 0 {
        return 0;
    }
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CMDLINE: &str = "root=/dev/vda1 ro quiet\n";

    #[test]
    fn a_usual_kernel_has_a_tick_for_samples() {
        for nohz_full in ["", "\n", "(null)\n"] {
            assert_eq!(usable(4_000_000, nohz_full, CMDLINE).map(Tick::length_ns), Ok(4_000_000));
        }
    }

    #[test]
    fn the_reason_is_told_where_it_has_none() {
        assert_eq!(usable(10_000_000, "", CMDLINE), Err("a tick of 10 ms is too long".to_owned()));
        let without = usable(4_000_000, "2-7\n", CMDLINE);
        assert_eq!(without, Err("processors 2-7 run without a tick (nohz_full)".to_owned()));
        assert!(usable(4_000_000, "", "quiet skew_tick=1").is_err());
        assert!(usable(4_000_000, "", "skew-tick=1 quiet").is_err());
        assert!(usable(4_000_000, "", "quiet skew_tick=0").is_ok());
    }

    #[test]
    fn this_kernel_tells_how_long_its_tick_is() {
        let length_ns = resolution_ns(libc::CLOCK_MONOTONIC_COARSE);
        // CONFIG_HZ is 100 to 1000 in kernels that are in use.
        assert!((1_000_000..=10_000_000).contains(&length_ns), "{length_ns}");
    }
}

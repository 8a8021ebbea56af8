//! `/proc/stat`, see `proc_stat(5)`.

use super::stat::ticks_to_ns;
use crate::model::HostCpu;

/// The line of all processors together; `None` if it is no such file, or of a kernel that does not account what is stolen.
pub(super) fn cpu(bytes: &[u8]) -> Option<HostCpu> {
    let line = bytes.split(|&byte| byte == b'\n').next()?.strip_prefix(b"cpu ")?;
    let fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut ns = fields.map(|field| field.parse().map(ticks_to_ns));
    let mut next = || ns.next()?.ok();
    // Guests are what two more fields tell, and count as user and nice already.
    let (user, nice, system, idle, iowait) = (next()?, next()?, next()?, next()?, next()?);
    let (irq, softirq, stolen_ns) = (next()?, next()?, next()?);
    let sum = |times: &[u64]| times.iter().try_fold(0u64, |sum, ns| sum.checked_add(*ns));
    Some(HostCpu {
        busy_ns: sum(&[user, nice, system, irq, softirq])?,
        idle_ns: sum(&[idle, iowait])?,
        stolen_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn fields_are_those_of_the_manual_page() {
        let text = b"cpu  100 200 300 400 500 600 700 800 100 200\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 7\n";
        let expected = HostCpu { busy_ns: 19 * SECOND, idle_ns: 9 * SECOND, stolen_ns: 8 * SECOND };
        assert_eq!(cpu(text), Some(expected));
        // Linux before 2.6.24 has no guests.
        assert_eq!(cpu(b"cpu  100 200 300 400 500 600 700 800\n"), Some(expected));
    }

    #[test]
    fn whatever_else_it_holds_is_refused() {
        for text in [
            "",
            "cpu",
            "cpu ",
            "cpu0 1 2 3 4 5 6 7 8 9 10\n",
            "cpu  1 2 3 4 5 6 7\n",
            "cpu  1 2 3 4 5 6 7\n8 9 10\n",
            "cpu  1 2 3 4 5 6 7 -8 0 0\n",
            "cpu  1 2 x 4 5 6 7 8 0 0\n",
            "cpu  1 2 3 4 5 6 7 18446744073709551616\n",
            "cpu  18446744073709551615 18446744073709551615 3 4 5 6 7 8\n",
            "intr 7\ncpu  1 2 3 4 5 6 7 8\n",
        ] {
            assert_eq!(cpu(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(cpu(b"cpu  1 2 3 4 5 6 7 \xff\n"), None);
    }
}

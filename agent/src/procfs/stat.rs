//! `/proc/PID/stat` and `/proc/PID/status`, see `proc_pid_stat(5)` and `proc_pid_status(5)`.

use crate::clean::clean;

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name of the main thread, cleaned. The process chooses it: nothing can be concluded from it.
    pub comm: String,
    /// `Z` and `X` are dead.
    pub state: char,
    pub ppid: u32,
    /// A thread of the kernel: no executable, no memory of its own.
    pub kernel_thread: bool,
    pub user_ns: u64,
    pub system_ns: u64,
    /// Of the main thread: 19 is the most patient, -20 the least.
    pub nice: i8,
    pub threads: u32,
    /// Arguments and environment are in place: false within an exec, for kernel threads and for zombies.
    pub exec_done: bool,
    /// Clock ticks since boot; with the pid it names a process uniquely.
    pub start_ticks: u64,
    /// As the kernel counts it without locking: off by up to 64 pages per thread since Linux 2.6.34.
    pub rss_bytes: u64,
}

impl Stat {
    /// Whether the process has ended: a zombie waits only to be reaped, and runs nothing any more.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// `None` if it is no such file. The name may hold anything, `) R 1 (` and newlines included: what follows
    /// the last parenthesis is numbers only.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&byte| byte == b'(')?;
        let close = bytes.iter().rposition(|&byte| byte == b')')?;
        let comm = clean(bytes.get(open + 1..close)?, 64);
        let mut fields = std::str::from_utf8(&bytes[close + 1..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 4 (ppid) is at index 0 from here on; a few fields are negative.
        let fields: Vec<i128> = fields.map_while(|field| field.parse().ok()).collect();
        let field = |number: usize| u64::try_from(*fields.get(number - 4)?).ok();
        Some(Self {
            comm,
            state,
            ppid: field(4)? as u32,
            kernel_thread: field(9)? & PF_KTHREAD != 0,
            user_ns: ticks_to_ns(field(14)?),
            system_ns: ticks_to_ns(field(15)?),
            nice: i8::try_from(*fields.get(19 - 4)?).ok()?,
            threads: field(20)? as u32,
            // env_end, which the kernel sets last. Linux before 3.5 had no such field.
            exec_done: field(51) != Some(0),
            start_ticks: field(22)?,
            rss_bytes: field(24)?.saturating_mul(page_size()),
        })
    }
}

/// The fields of `/proc/PID/status` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Effective user.
    pub user_id: u32,
    /// The pid in the innermost namespace the process is in, where that is not the reader's.
    pub namespaced_pid: Option<u32>,
}

impl Status {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let user_id = field(bytes, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        // Kernels before 4.1 have no NSpid.
        let pids = field(bytes, "NSpid").unwrap_or_default().split_ascii_whitespace().skip(1);
        let namespaced_pid = pids.last().and_then(|pid| pid.parse().ok());
        Some(Self { user_id, namespaced_pid })
    }
}

/// The value of `name:` in a file of such lines, `/proc/PID/status` for one.
pub(crate) fn field<'a>(bytes: &'a [u8], name: &str) -> Option<&'a str> {
    // The kernel escapes newlines in `Name:`, the only line a process can write.
    let value = bytes
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

pub(super) fn ticks_to_ns(ticks: u64) -> u64 {
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // The kernel's USER_HZ is 100 on every architecture there is a Node.js for.
    let per_second = u64::try_from(per_second).ok().filter(|&hz| hz > 0).unwrap_or(100);
    ticks.saturating_mul(1_000_000_000 / per_second)
}

fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fields 3 to 52 as Linux 6.18 wrote them: utime 37, stime 12, 11 threads, start 91370, rss 11187 pages.
    const TAIL: &str = "S 4401 4420 4401 34816 4420 4194304 9733 0 12 0 37 12 0 0 20 0 11 0 91370 1134092288 \
        11187 18446744073709551615 4194304 71231417 140722929330544 0 0 0 0 4096 134234626 0 0 0 17 1 0 0 0 0 0 \
        102387712 102502880 112816128 140722929333640 140722929333653 140722929333653 140722929336276 0\n";

    #[test]
    fn fields_are_those_of_the_manual_page() {
        let stat = Stat::parse(format!("4420 (node) {TAIL}").as_bytes()).unwrap();
        assert_eq!(
            stat,
            Stat {
                comm: "node".into(),
                state: 'S',
                ppid: 4401,
                kernel_thread: false,
                user_ns: 370_000_000,
                system_ns: 120_000_000,
                nice: 0,
                threads: 11,
                exec_done: true,
                start_ticks: 91370,
                rss_bytes: 11187 * page_size(),
            }
        );
    }

    #[test]
    fn a_name_cannot_forge_fields() {
        for (name, shown) in [
            (") R 1 (", ") R 1 ("),
            ("a\nb", "a\u{fffd}b"),
            ("", ""),
            (")", ")"),
            ("((((", "(((("),
            ("\x1b[31m", "\u{fffd}[31m"),
        ] {
            let stat = Stat::parse(format!("4420 ({name}) {TAIL}").as_bytes()).unwrap();
            assert_eq!((stat.comm.as_str(), stat.ppid, stat.start_ticks), (shown, 4401, 91370), "{name:?}");
        }
        let invalid = [b"4420 (\xff\xfe) ", TAIL.as_bytes()].concat();
        assert_eq!(Stat::parse(&invalid).unwrap().comm, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flag() {
        let stat = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 0";
        assert!(Stat::parse(stat).unwrap().kernel_thread);
    }

    #[test]
    fn nice_may_be_negative_and_nothing_that_does_not_fit() {
        let nice = |nice: &str| {
            let tail = TAIL.replace(" 20 0 11 0 ", &format!(" 20 {nice} 11 0 "));
            Stat::parse(format!("4420 (node) {tail}").as_bytes()).map(|stat| stat.nice)
        };
        assert_eq!(["-20", "-1", "0", "5", "19"].map(nice), [-20, -1, 0, 5, 19].map(Some));
        assert_eq!(["300", "-9223372036854775809", "5x", "+"].map(nice), [None; 4]);
    }

    #[test]
    fn within_an_exec_the_environment_has_no_end_yet() {
        let (before_env_end, _) = TAIL.rsplit_once("140722929336276").unwrap();
        let stat = Stat::parse(format!("4420 (node) {before_env_end}0 0\n").as_bytes()).unwrap();
        assert!(!stat.exec_done);
    }

    #[test]
    fn every_truncation_is_refused_or_read_without_panic() {
        let whole = format!("4420 (node) {TAIL}");
        for length in 0..whole.len() {
            let stat = Stat::parse(&whole.as_bytes()[..length]);
            // Complete up to field 24 or not at all.
            let complete = whole.find("11187").unwrap();
            assert_eq!(stat.is_some(), length > complete, "{length}");
        }
        assert_eq!(Stat::parse(b") ("), None);
    }

    #[test]
    fn status_tells_the_effective_user_and_the_innermost_pid() {
        let in_container = b"Name:\tnode\nUid:\t0\t1000\t0\t0\nNSpid:\t4420\t17\t1\n";
        assert_eq!(Status::parse(in_container).unwrap(), Status { user_id: 1000, namespaced_pid: Some(1) });
        let on_host = b"Name:\tUid:\\n\nUid:\t33\t33\t33\t33\nNSpid:\t4420\n";
        assert_eq!(Status::parse(on_host).unwrap(), Status { user_id: 33, namespaced_pid: None });
        assert_eq!(Status::parse(b"Name:\tnode\n"), None);
        assert_eq!(Status::parse(b""), None);
    }
}

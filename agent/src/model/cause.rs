//! Why a turn took as long as it did: how its wall time divides.

use nodeprobe_ebpf::part::{
    PART_ASLEEP, PART_CHILD_PROCESS, PART_CPU_WAIT, PART_GC, PART_LOCK, PART_STDIO_WRITE, PART_SYNC_IO, PARTS,
};

/// What a thread did, or waited for, in a part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Ran JavaScript.
    JavaScript,
    /// Parsed or compiled JavaScript.
    Compile,
    /// Ran native code in the service of JavaScript: crypto, zlib, JSON, regular expressions, Node and V8 themselves.
    Native,
    /// Ran on a processor, and no stack tells what.
    OnCpu,
    /// Stood still for garbage collection.
    Gc,
    /// Wrote to stdout or stderr.
    StdioWrite,
    /// Slept in a system call on files.
    SyncIo,
    /// Waited for a child process: `execSync`, `spawnSync`.
    ChildProcess,
    /// Waited for another thread: `Atomics.wait`, a mutex.
    Lock,
    /// Could have run, but another thread had the processor, or the quota of the cgroup was used up.
    CpuWait,
    /// Slept, and it is not known what for.
    Unknown,
}

impl Cause {
    pub const ALL: [Self; 11] = [
        Self::JavaScript,
        Self::Compile,
        Self::Native,
        Self::OnCpu,
        Self::Gc,
        Self::StdioWrite,
        Self::SyncIo,
        Self::ChildProcess,
        Self::Lock,
        Self::CpuWait,
        Self::Unknown,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "javascript",
            Self::Compile => "compile",
            Self::Native => "native",
            Self::OnCpu => "on_cpu",
            Self::Gc => "gc",
            Self::StdioWrite => "stdio_write",
            Self::SyncIo => "sync_io",
            Self::ChildProcess => "child_process",
            Self::Lock => "lock",
            Self::CpuWait => "cpu_wait",
            Self::Unknown => "unknown",
        }
    }

    /// The cause of a part; [`Self::Unknown`] for a number that is none.
    pub fn of_part(part: usize) -> Self {
        Self::ALL.into_iter().find(|cause| cause.part() == Some(part)).unwrap_or(Self::Unknown)
    }

    /// The part of the kernel's record; `None` for what is left over there.
    const fn part(self) -> Option<usize> {
        match self {
            Self::JavaScript | Self::Compile | Self::Native | Self::OnCpu => None,
            Self::Gc => Some(PART_GC),
            Self::StdioWrite => Some(PART_STDIO_WRITE),
            Self::SyncIo => Some(PART_SYNC_IO),
            Self::ChildProcess => Some(PART_CHILD_PROCESS),
            Self::Lock => Some(PART_LOCK),
            Self::CpuWait => Some(PART_CPU_WAIT),
            Self::Unknown => Some(PART_ASLEEP),
        }
    }
}

/// Wall time by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    ns: [u64; Cause::ALL.len()],
}

impl Causes {
    /// Of turns that took `duration_ns` together. What no part took, the thread ran. The clock is read at slightly
    /// different moments for the turn and for its parts, so those may exceed it by a little.
    pub fn from_parts(duration_ns: u64, parts_ns: &[u64; PARTS]) -> Self {
        let mut causes = Self::default();
        let mut left_ns = duration_ns;
        for cause in Cause::ALL {
            if let Some(part) = cause.part() {
                let taken_ns = parts_ns[part].min(left_ns);
                causes.ns[cause as usize] = taken_ns;
                left_ns -= taken_ns;
            }
        }
        causes.ns[Cause::OnCpu as usize] = left_ns;
        causes
    }

    pub fn ns(&self, cause: Cause) -> u64 {
        self.ns[cause as usize]
    }

    pub fn total_ns(&self) -> u64 {
        self.ns.iter().sum()
    }

    /// Each cause with its time, in the order of [`Cause::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.into_iter().map(|cause| (cause, self.ns(cause)))
    }

    /// The cause with the greatest share, and that share; `None` without any time.
    pub fn leading(&self) -> Option<(Cause, f64)> {
        let total = self.total_ns();
        let (cause, ns) = self.iter().max_by_key(|(cause, ns)| (*ns, std::cmp::Reverse(*cause)))?;
        (total > 0).then(|| (cause, ns as f64 / total as f64))
    }

    /// Books up to `ns` of one cause on another.
    pub fn shift(&mut self, from: Cause, to: Cause, ns: u64) {
        let ns = ns.min(self.ns(from));
        self.ns[from as usize] -= ns;
        self.ns[to as usize] += ns;
    }

    /// The same time with nothing known about it.
    #[must_use]
    pub fn all_unknown(&self) -> Self {
        let mut causes = Self::default();
        causes.ns[Cause::Unknown as usize] = self.total_ns();
        causes
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut causes = *self;
        let mut rebooked_ns = 0;
        for (ns, earlier) in causes.ns.iter_mut().zip(earlier.ns) {
            rebooked_ns += earlier.saturating_sub(*ns);
            *ns = ns.saturating_sub(earlier);
        }
        // A stall counts as `on_cpu` from its end until its samples are looked at. Where a snapshot fell in between, its
        // time was told already.
        for cause in [Cause::JavaScript, Cause::Compile, Cause::Native] {
            let ns = &mut causes.ns[cause as usize];
            let told_ns = rebooked_ns.min(*ns);
            *ns -= told_ns;
            rebooked_ns -= told_ns;
        }
        causes
    }

    pub fn merge(&mut self, other: &Self) {
        for (ns, other) in self.ns.iter_mut().zip(other.ns) {
            *ns += other;
        }
    }
}

/// Time by cause from pairs; what is said twice adds up.
impl FromIterator<(Cause, u64)> for Causes {
    fn from_iter<I: IntoIterator<Item = (Cause, u64)>>(pairs: I) -> Self {
        let mut causes = Self::default();
        for (cause, ns) in pairs {
            causes.ns[cause as usize] += ns;
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(gc: u64, cpu_wait: u64) -> [u64; PARTS] {
        let mut parts = [0; PARTS];
        parts[PART_GC] = gc;
        parts[PART_CPU_WAIT] = cpu_wait;
        parts
    }

    #[test]
    fn what_no_part_took_ran() {
        let causes = Causes::from_parts(100, &parts(30, 60));
        assert_eq!((causes.ns(Cause::OnCpu), causes.ns(Cause::Gc), causes.ns(Cause::CpuWait)), (10, 30, 60));
        assert_eq!(causes.total_ns(), 100);
        assert_eq!(causes.leading(), Some((Cause::CpuWait, 0.6)));
    }

    #[test]
    fn the_parts_never_exceed_the_whole() {
        let causes = Causes::from_parts(100, &parts(70, 70));
        assert_eq!((causes.total_ns(), causes.ns(Cause::OnCpu)), (100, 0));
    }

    #[test]
    fn nothing_has_no_leading_cause() {
        assert_eq!(Causes::default().leading(), None);
    }

    #[test]
    fn time_of_unknown_causes_stays_the_same_time() {
        let unknown = Causes::from_parts(100, &parts(30, 60)).all_unknown();
        assert_eq!((unknown.total_ns(), unknown.leading()), (100, Some((Cause::Unknown, 1.0))));
    }

    #[test]
    fn intervals_are_differences() {
        let (earlier, later) =
            (Causes::from_parts(100, &parts(30, 0)), Causes::from_parts(300, &parts(50, 0)));
        let mut between = later.since(&earlier);
        assert_eq!((between.ns(Cause::Gc), between.ns(Cause::OnCpu)), (20, 180));
        between.merge(&earlier);
        assert_eq!(between, later);
    }

    #[test]
    fn the_index_of_a_cause_is_its_place_in_the_list() {
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}

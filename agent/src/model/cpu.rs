//! What there is of processor time besides what a process uses: what its group may not use, and what the host does not get.

/// Time of all processors of the host together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCpu {
    /// Something ran.
    pub busy_ns: u64,
    pub idle_ns: u64,
    /// Something would have run, and the hypervisor ran another machine instead.
    pub stolen_ns: u64,
}

impl HostCpu {
    /// What came since; the kernel takes back a little of the time idle now and then.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy_ns: self.busy_ns.saturating_sub(earlier.busy_ns),
            idle_ns: self.idle_ns.saturating_sub(earlier.idle_ns),
            stolen_ns: self.stolen_ns.saturating_sub(earlier.stolen_ns),
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.busy_ns += other.busy_ns;
        self.idle_ns += other.idle_ns;
        self.stolen_ns += other.stolen_ns;
    }

    /// Share of all time that was stolen, as `top` has it under `st`; `None`: no time has passed.
    pub fn steal_ratio(self) -> Option<f64> {
        share(self.stolen_ns, self.busy_ns + self.idle_ns + self.stolen_ns)
    }

    /// Of the time in which something would have run, the share that was stolen: what one loses that runs all the time.
    pub fn stolen_of_wanted(self) -> Option<f64> {
        share(self.stolen_ns, self.busy_ns + self.stolen_ns)
    }
}

fn share(part_ns: u64, whole_ns: u64) -> Option<f64> {
    (whole_ns > 0).then(|| part_ns as f64 / whole_ns as f64)
}

/// Periods of the quota of a group (100 ms unless set otherwise) in which it ran, and those of them at whose end it was throttled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuPeriods {
    pub elapsed: u64,
    pub throttled: u64,
}

impl CpuPeriods {
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
            throttled: self.throttled.saturating_sub(earlier.throttled),
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.throttled += other.throttled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_told_of_all_time_and_of_the_time_wanted() {
        let host = HostCpu { busy_ns: 30, idle_ns: 60, stolen_ns: 10 };
        assert_eq!((host.steal_ratio(), host.stolen_of_wanted()), (Some(0.1), Some(0.25)));
        assert_eq!(HostCpu::default().steal_ratio(), None);
        assert_eq!(HostCpu { idle_ns: 5, ..HostCpu::default() }.stolen_of_wanted(), None);
    }

    #[test]
    fn what_the_kernel_takes_back_is_no_time() {
        let earlier = HostCpu { busy_ns: 30, idle_ns: 60, stolen_ns: 10 };
        let later = HostCpu { busy_ns: 40, idle_ns: 59, stolen_ns: 10 };
        assert_eq!(later.since(earlier), HostCpu { busy_ns: 10, idle_ns: 0, stolen_ns: 0 });
    }
}

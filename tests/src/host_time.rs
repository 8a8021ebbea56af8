//! What the kernel says of the processors of this machine, read apart from the agent.

use std::fs;

/// Time of all processors together, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct HostTime {
    pub all: f64,
    /// Those without anything to run.
    pub idle: f64,
    /// Something would have run, and the hypervisor ran another machine.
    pub stolen: f64,
}

impl HostTime {
    /// Since boot.
    #[track_caller]
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").expect("the kernel tells");
        let line = text.lines().next().expect("it has a line");
        let fields = line.split_whitespace().skip(1).take(8);
        let ticks: Vec<f64> = fields.map(|field| field.parse().expect("ticks")).collect();
        Self { all: ticks.iter().sum(), idle: ticks[3] + ticks[4], stolen: ticks[7] }
    }

    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            idle: self.idle - before.idle,
            stolen: self.stolen - before.stolen,
        }
    }

    /// Share of all time that was stolen.
    pub fn steal_share(self) -> f64 {
        self.stolen / self.all.max(1.0)
    }

    /// What a thread that runs all the time loses of it.
    pub fn stolen_of_wanted(self) -> f64 {
        self.stolen / (self.all - self.idle).max(1.0)
    }
}

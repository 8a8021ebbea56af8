//! When programs began: the kernel's own trace of `exec`, to the microsecond. `/proc/PID/stat` tells in steps of 10 ms, and of the
//! process, which may have run another program before.

use crate::sched_trace::SchedTrace;

/// An instance of tracefs that records what begins on this machine until it is dropped.
pub struct ExecTrace(SchedTrace);

impl ExecTrace {
    /// Records from now on.
    #[track_caller]
    pub fn start() -> Self {
        let trace = SchedTrace::empty("exec");
        trace.set("events/sched/sched_process_exec/enable", "1");
        Self(trace)
    }

    /// When the last program of a process began, ms of the monotonic clock.
    #[track_caller]
    pub fn began_ms(&self, pid: u32) -> f64 {
        let trace = self.0.text();
        last_of(&trace, pid).unwrap_or_else(|| panic!("no exec of {pid} in {trace}"))
    }
}

/// `node-77 [001] ..... 12.345678: sched_process_exec: filename=/usr/bin/node pid=77 old_pid=77`
fn last_of(trace: &str, pid: u32) -> Option<f64> {
    let of_process = trace.lines().rev().find_map(|line| {
        let (head, event) = line.split_once(": sched_process_exec: ")?;
        let (_, pids) = event.rsplit_once(" pid=")?;
        (pids.split_whitespace().next()?.parse() == Ok(pid)).then_some(head)
    });
    Some(of_process?.rsplit(' ').next()?.parse::<f64>().ok()? * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_program_of_a_process_counts() {
        // Of Linux 6.18.
        let trace = "\
# tracer: nop
              sh-77      [000] .....   100.001000: sched_process_exec: filename=/bin/sh pid=77 old_pid=77
            node-77      [001] .....   100.003500: sched_process_exec: filename=/a b/node pid=77 old_pid=77
            node-7       [001] .....   100.004000: sched_process_exec: filename=/a pid=77 old_pid=77/node pid=7 old_pid=7
";
        assert_eq!(last_of(trace, 77), Some(100_003.5));
        assert_eq!(last_of(trace, 78), None);
    }
}

//! Child processes that cannot outlive their test.

use std::{
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use crate::wait::eventually;

/// A child in a process group of its own. Dropping it ends the whole group, so also what it started itself.
pub struct OwnedProcess {
    child: Child,
    status: Option<ExitStatus>,
}

impl OwnedProcess {
    /// Starts `command`. The kernel ends the child should the test die without unwinding.
    pub fn spawn(command: &mut Command) -> Self {
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe and touches only the child.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { child, status: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: no memory is passed; the pid is ours until it is reaped, which sets `status`.
            unsafe { libc::kill(self.pid().cast_signed(), signal) };
        }
    }

    /// The exit status once the process has ended; its descendants are ended then too.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() && self.has_ended() {
            // The zombie still holds its pid, so the group's number cannot belong to anyone else yet.
            self.signal_group(libc::SIGKILL);
            self.status = Some(self.child.wait().expect("our own child can be waited for"));
        }
        self.status
    }

    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("process {} to end", self.pid());
        eventually(&what, deadline, || self.try_wait())
    }

    fn has_ended(&self) -> bool {
        // SAFETY: all-zero is a valid siginfo_t; waitid writes into the one that is passed.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            libc::waitid(libc::P_PID, self.pid(), &raw mut info, flags) == 0 && info.si_pid() != 0
        }
    }

    fn signal_group(&self, signal: i32) {
        // SAFETY: no memory is passed; the group is ours, see `spawn`.
        unsafe { libc::kill(-self.pid().cast_signed(), signal) };
    }
}

impl Drop for OwnedProcess {
    fn drop(&mut self) {
        if self.try_wait().is_some() {
            return;
        }
        self.signal_group(libc::SIGTERM);
        let patience = Instant::now() + Duration::from_secs(3);
        while self.try_wait().is_none() {
            if Instant::now() > patience {
                self.signal_group(libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How a process ended, for messages.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {signal:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exists(pid: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
    }

    #[test]
    fn dropping_ends_the_process_and_what_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let process = OwnedProcess::spawn(&mut command);
        let path = format!("/proc/{0}/task/{0}/children", process.pid());
        let children: Vec<u32> = eventually("two sleeps", Duration::from_secs(5), || {
            let text = std::fs::read_to_string(&path).ok()?;
            let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            (pids.len() == 2).then_some(pids)
        });
        let parent = process.pid();
        drop(process);
        for pid in children.into_iter().chain([parent]) {
            eventually("the end of a descendant", Duration::from_secs(5), || (!exists(pid)).then_some(()));
        }
    }

    #[test]
    fn exit_codes_are_kept() {
        let mut process = OwnedProcess::spawn(Command::new("sh").args(["-c", "exit 3"]));
        assert_eq!(process.wait(Duration::from_secs(5)).code(), Some(3));
        assert_eq!(process.try_wait().and_then(|status| status.code()), Some(3));
    }
}

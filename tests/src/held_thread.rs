//! A thread that stands still while the rest of its process goes on.

use std::{io, ptr};

/// A thread of a child of ours, stopped by the tracing interface until this is dropped.
pub struct HeldThread(libc::pid_t);

impl HeldThread {
    /// Stops the main thread of a process, and no other.
    #[track_caller]
    pub fn main_of(pid: u32) -> Self {
        let tid = pid.cast_signed();
        ptrace(libc::PTRACE_SEIZE, tid);
        ptrace(libc::PTRACE_INTERRUPT, tid);
        // SAFETY: no place for the status is passed; the thread is one that this thread traces.
        let waited = unsafe { libc::waitpid(tid, ptr::null_mut(), libc::__WALL) };
        assert_eq!(waited, tid, "the thread has ended");
        Self(tid)
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        // SAFETY: no memory is passed; a thread that has ended makes the call fail, which is as well.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

#[track_caller]
fn ptrace(request: libc::c_uint, tid: libc::pid_t) {
    // SAFETY: none of the requests that are made here takes memory.
    let result = unsafe { libc::ptrace(request, tid, 0, 0) };
    assert_eq!(result, 0, "ptrace({request}): {}", io::Error::last_os_error());
}

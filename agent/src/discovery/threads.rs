//! Threads that began before the probes were there: they are registered by the agent, all others announce themselves.

use std::{cmp::Reverse, fs::File, time::Instant};

use nodeprobe_ebpf::{
    DropReason, ThreadRecord,
    part::{PART_ASLEEP, PART_STDIO_WRITE, PART_SYNC_IO},
    thread::{FLAG_ATTACHED_LATE, FLAG_FROM_START, KIND_MAIN, KIND_WORKER, STATE_TURN, STATE_UNKNOWN},
};

use super::{
    Discovery, Retry,
    place::{FileIdentity, main_epfd},
    workers::Search,
};
use crate::{
    agent::lock,
    collector::monotonic_ns,
    model::ProcessId,
    plan::Plan,
    procfs::{self, ProcessDir, ThreadState},
    syscalls,
};

impl Discovery {
    /// Registers the threads of a process whose first line of JavaScript was not seen; `exec_ns`: its `exec` was.
    pub(super) fn register_earlier(
        &mut self,
        process: &ProcessDir,
        id: ProcessId,
        exec_ns: Option<u64>,
        plan: &Plan,
        files: &[File],
    ) {
        // All or none: plans count in them.
        let identities: Vec<_> =
            files.iter().map(FileIdentity::of).collect::<Result<_, _>>().unwrap_or_default();
        if exec_ns.is_some() {
            self.register_thread(id.pid, id.pid, KIND_MAIN, exec_ns, None);
        } else {
            let own_epfd = main_epfd(process, plan, &identities);
            self.register_thread(id.pid, id.pid, KIND_MAIN, None, own_epfd);
            self.search_workers(process, id, plan, &identities);
        }
    }

    /// Tells the kernel side of a thread that began before the probes were there. `own_epfd`: of its loop, if known.
    fn register_thread(&self, pid: u32, tid: u32, kind: u32, exec_ns: Option<u64>, own_epfd: Option<i32>) {
        let terminal = |fd: u32| {
            let process = self.procfs.process(pid).ok().filter(|_| kind == KIND_MAIN)?;
            process.terminal_alias(fd).ok().flatten().and_then(|fd| i32::try_from(fd).ok())
        };
        let tty_fds = [terminal(1).unwrap_or(-1), terminal(2).unwrap_or(-1)];
        // From here on in no time: what the thread does before the kernel side knows it would be booked on the wrong side.
        let mut shared = lock(&self.shared);
        let asleep = self.procfs.process(pid).and_then(|process| process.thread_state(tid)).ok();
        let since_ns = exec_ns.unwrap_or_else(monotonic_ns);
        let mut record = ThreadRecord {
            tty_fds,
            tgid: pid,
            tid,
            kind,
            flags: if exec_ns.is_some() { FLAG_FROM_START } else { FLAG_ATTACHED_LATE },
            observed_ns: since_ns,
            since_ns,
            ..ThreadRecord::ZERO
        };
        match exec_ns {
            // What it did until now nobody has seen.
            Some(exec_ns) => record.turn_parts_ns[PART_ASLEEP] = monotonic_ns().saturating_sub(exec_ns),
            None => sleep_under_way(&mut record, asleep, own_epfd, since_ns),
        }
        match shared.maps.insert_thread(record) {
            Ok(true) => {
                let now = self.procfs.process(pid).and_then(|process| process.thread_state(tid));
                // One that ended in between will never say so.
                if now.as_ref().is_err_and(procfs::Error::is_gone) {
                    shared.maps.remove_thread(tid);
                }
                // The nested wait that was seen had ended by then, and the thread was in that of its own loop, which would be a turn
                // without end.
                let is_idle = now.is_ok_and(|now| now.epfd().is_some_and(|epfd| Some(epfd) == own_epfd));
                if record.state == STATE_TURN && is_idle {
                    shared.maps.remove_thread(tid);
                    let idle = ThreadRecord { state: STATE_UNKNOWN, off_cpu_since_ns: 0, ..record };
                    drop(shared.maps.insert_thread(idle));
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(target.pid = pid, tid, %error, "the thread cannot be observed: the table is full (see --max-threads)");
                shared.lost(DropReason::ThreadTableFull.name());
            }
        }
    }

    /// Begins to look for the workers of a process that ran before the agent.
    fn search_workers(&mut self, process: &ProcessDir, id: ProcessId, plan: &Plan, files: &[FileIdentity]) {
        match Search::begin(process, plan, files) {
            Ok(Some(search)) => {
                self.searches.insert(id, search);
                self.find_workers(id);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(target.pid = id.pid, %error, "the workers of the process cannot be told");
            }
        }
    }

    /// Registers those workers that show themselves now: threads with a return address inside `Worker::Run` on their stacks.
    /// Nothing is stopped for it.
    pub(super) fn find_workers(&mut self, id: ProcessId) {
        let Some(mut search) = self.searches.remove(&id) else { return };
        // Another process under the same pid has workers of its own.
        let is_it =
            |process: &ProcessDir| process.stat().is_ok_and(|stat| stat.start_ticks == id.start_ticks);
        let Some(process) = self.procfs.process(id.pid).ok().filter(is_it) else { return };
        for tid in search.look(&process, &mut self.stack_pointers) {
            self.register_thread(id.pid, tid, KIND_WORKER, None, None);
        }
        if let Some(wait) = search.wait(&mut self.random) {
            self.retries.push(Reverse((Instant::now() + wait, Retry::Workers(id))));
            self.searches.insert(id, search);
        }
    }
}

/// Notes the sleep that a thread is in, so that a service that already hangs does not look as if it ran. A wait for events is left out
/// unless it is known not to be that of the thread's own loop: that is no part of a turn.
fn sleep_under_way(
    record: &mut ThreadRecord,
    state: Option<ThreadState>,
    own_epfd: Option<i32>,
    since_ns: u64,
) {
    let Some(state @ ThreadState::InSyscall { number, args, .. }) = state else { return };
    let Ok(number) = u32::try_from(number) else { return };
    if let Some(epfd) = state.epfd() {
        let Some(own_epfd) = own_epfd.filter(|own| *own != epfd) else { return };
        record.state = STATE_TURN;
        record.epfd = own_epfd;
        record.nested_epfd = epfd;
    }
    let part = match syscalls::part(number) {
        PART_STDIO_WRITE if matches!(args[0], 1 | 2) => {
            record.write_fd = args[0] as u32;
            record.write_start_ns = since_ns;
            PART_STDIO_WRITE
        }
        PART_STDIO_WRITE => PART_SYNC_IO,
        part => part,
    };
    record.off_cpu_since_ns = since_ns;
    record.off_cpu_part = part as u32;
    record.off_cpu_syscall = number;
}

//! Workers of processes that ran before the agent: by the stacks of their threads, which can be read while a thread does not run, or
//! once it was met running by a program that samples stacks.
//!
//! Where no stack is sampled, a thread that runs whenever it is looked at stays unknown. So looks come at irregular times: all of those
//! that come each 256 ms may fall into the turns of a worker that works for 60 of each 260 ms.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use super::place::FileIdentity;
use crate::{
    plan::Plan,
    procfs::{self, OnStack, ProcessDir},
    readout::stack_pointers::StackPointers,
};

/// Waits between looks, milliseconds: many looks at first, then as many as may go on for hours. A look at a thread that runs is one small
/// file.
const WAIT_MS: RangeInclusive<u64> = 20..=120;
const LATE_WAIT_MS: RangeInclusive<u64> = 500..=1500;
const LOOKS_UNTIL_LATE: u32 = 100;
/// So many stacks of one thread are read that do not tell. Each costs up to 256 KiB, and a recursion that deep has an end.
const UNCLEAR_MAX: u32 = 100;

/// Threads of a process of which it is not known yet whether they are workers.
#[derive(Debug)]
pub(super) struct Search {
    /// `Worker::Run`, where it lies in this process.
    code: Range<u64>,
    undecided: Vec<Undecided>,
    looks: u32,
}

#[derive(Debug)]
struct Undecided {
    tid: u32,
    /// Its stack pointer is asked for.
    asked: bool,
    /// Stacks that were read and did not tell.
    unclear: u32,
}

impl Search {
    /// `None`: `Worker::Run` is not known or not mapped, so there is nothing to look for.
    ///
    /// # Errors
    /// Those of reading the process's maps and threads.
    pub(super) fn begin(
        process: &ProcessDir,
        plan: &Plan,
        files: &[FileIdentity],
    ) -> Result<Option<Self>, procfs::Error> {
        let Some(code) = &plan.worker_run else { return Ok(None) };
        let Some(file) = files.get(code.file) else { return Ok(None) };
        let Some(code) = file.addresses(process, &code.range)? else { return Ok(None) };
        let others = process.thread_ids()?.into_iter().filter(|tid| *tid != process.pid());
        let undecided = others.map(|tid| Undecided { tid, asked: false, unclear: 0 }).collect();
        Ok(Some(Self { code, undecided, looks: 0 }))
    }

    /// Looks at each undecided thread once and tells the workers among them. Threads that have ended, or cannot be looked at, are
    /// decided as well.
    pub(super) fn look(&mut self, process: &ProcessDir, running: &mut StackPointers) -> Vec<u32> {
        self.looks += 1;
        let mut workers = Vec::new();
        self.undecided.retain_mut(|thread| {
            let is_undecided = match thread.is_worker(process, &self.code, running) {
                Ok(Some(is_worker)) => {
                    workers.extend(is_worker.then_some(thread.tid));
                    false
                }
                Ok(None) => true,
                Err(error) if error.is_gone() => false,
                Err(error) => {
                    tracing::debug!(target.pid = process.pid(), thread.tid, %error, "whether the thread is a worker cannot be told");
                    false
                }
            };
            if !is_undecided {
                running.forget(thread.tid);
            }
            is_undecided
        });
        workers
    }

    /// How long to wait before the next look; `None`: all threads are decided.
    pub(super) fn wait(&self, random: &mut fastrand::Rng) -> Option<Duration> {
        let range_ms = if self.looks < LOOKS_UNTIL_LATE { WAIT_MS } else { LATE_WAIT_MS };
        (!self.undecided.is_empty()).then(|| Duration::from_millis(random.u64(range_ms)))
    }
}

impl Undecided {
    /// `None`: that does not show now.
    fn is_worker(
        &mut self,
        process: &ProcessDir,
        code: &Range<u64>,
        running: &mut StackPointers,
    ) -> Result<Option<bool>, procfs::Error> {
        let mut on_stack = process.thread_runs(self.tid, code)?;
        let runs = on_stack == OnStack::Running;
        if runs {
            if !self.asked {
                // What another thread of this id has left is no answer.
                running.ask(self.tid);
                self.asked = true;
            } else if self.unclear < UNCLEAR_MAX
                && let Some(stack_pointer) = running.seen(self.tid)
            {
                on_stack = process.stack_holds(stack_pointer, code)?;
            }
        }
        match on_stack {
            OnStack::Yes => Ok(Some(true)),
            OnStack::Running => Ok(None),
            OnStack::No if !runs => Ok(Some(false)),
            // In signal handlers, and where WebAssembly waits for a promise, a worker runs on another stack.
            OnStack::No | OnStack::Unclear => {
                self.unclear += 1;
                Ok((!runs && self.unclear >= UNCLEAR_MAX).then_some(false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecided() -> Vec<Undecided> {
        vec![Undecided { tid: 1, asked: false, unclear: 0 }]
    }

    /// Whatever the rhythm of a worker, some look comes while it sleeps.
    #[test]
    fn no_rhythm_of_turns_hides_a_worker() {
        let mut random = fastrand::Rng::with_seed(1);
        for period_ms in 5..2000 {
            let busy_ms = period_ms * 4 / 5;
            let mut search = Search { code: 0..1, undecided: undecided(), looks: 0 };
            let mut now_ms = 0;
            // The first look is the least favourable one: right after the turn began.
            let found = (0..LOOKS_UNTIL_LATE).any(|_| {
                let sleeps = now_ms % period_ms >= busy_ms;
                search.looks += 1;
                now_ms += search.wait(&mut random).expect("undecided").as_millis() as u64;
                sleeps
            });
            assert!(found, "turns of {busy_ms} of each {period_ms} ms");
        }
    }

    #[test]
    fn threads_that_run_on_are_looked_at_rarely_and_decided_ones_never() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut search = Search { code: 0..1, undecided: undecided(), looks: LOOKS_UNTIL_LATE };
        assert!(search.wait(&mut random).expect("undecided") >= Duration::from_millis(500));
        search.undecided.clear();
        assert_eq!(search.wait(&mut random), None);
    }
}

//! What a thread is doing at this moment: its system call, and whether a function is on its stack.
//!
//! Limit: a word on the stack that looks like a return address may be left over in a hole of a live frame, or in a dead one where the
//! stack pointer is an older one. Ask for functions that either run for the whole life of a thread or never on it.

use std::{ops::Range, os::unix::fs::FileExt as _};

use super::{Error, ProcessDir, SMALL_FILE_MAX_BYTES};

/// How much of a stack is searched, from its top. A loop thread that waits uses a few KiB.
const STACK_MAX_BYTES: u64 = 256 << 10;

/// The contents of `/proc/PID/task/TID/syscall`, see `proc_pid_syscall(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadState {
    /// On a processor or waiting for one: its registers are not to be had.
    Running,
    /// Stopped outside a system call (a page fault, a signal, a lock of the kernel).
    Stopped {
        stack_pointer: u64,
        instruction_pointer: u64,
    },
    InSyscall {
        number: u64,
        args: [u64; 6],
        stack_pointer: u64,
        instruction_pointer: u64,
    },
}

/// Whether a function is on a thread's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStack {
    Yes,
    No,
    /// The thread runs, so where its stack ends is not to be had.
    Running,
    /// The stack could not be read, or is deeper than 256 KiB and that part holds no return address of it.
    Unclear,
}

impl ThreadState {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        if text == "running" {
            return Some(Self::Running);
        }
        let mut fields = text.split_ascii_whitespace();
        let number: i64 = fields.next()?.parse().ok()?;
        let mut words = fields.map_while(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok());
        let mut word = || words.next();
        if let Ok(number) = u64::try_from(number) {
            let args = [word()?, word()?, word()?, word()?, word()?, word()?];
            return Some(Self::InSyscall {
                number,
                args,
                stack_pointer: word()?,
                instruction_pointer: word()?,
            });
        }
        Some(Self::Stopped { stack_pointer: word()?, instruction_pointer: word()? })
    }

    /// The descriptor on which it waits for events; `None`: it does not.
    pub fn epfd(&self) -> Option<i32> {
        let epoll = [
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
        ];
        match self {
            Self::InSyscall { number, args, .. } if epoll.contains(&number.cast_signed()) => {
                Some(args[0] as i32)
            }
            _ => None,
        }
    }

    /// `None` while it runs.
    pub fn stack_pointer(&self) -> Option<u64> {
        match *self {
            Self::Running => None,
            Self::Stopped { stack_pointer, .. } | Self::InSyscall { stack_pointer, .. } => {
                Some(stack_pointer)
            }
        }
    }
}

impl ProcessDir {
    /// # Errors
    /// [`Error::Gone`] if the thread has ended; [`Error::Denied`].
    pub fn thread_state(&self, tid: u32) -> Result<ThreadState, Error> {
        let bytes = self.read_at(&format!("task/{tid}/syscall"), "syscall", SMALL_FILE_MAX_BYTES)?;
        // A thread that is ending has no memory any more; the kernel then writes `0` instead of the line.
        ThreadState::parse(&bytes).ok_or(Error::Gone)
    }

    /// Whether the main thread has children.
    ///
    /// # Errors
    /// [`Error::Gone`], also where the kernel does not tell (`CONFIG_PROC_CHILDREN`); [`Error::Denied`].
    pub fn has_children(&self) -> Result<bool, Error> {
        let path = format!("task/{}/children", self.pid());
        self.read_at(&path, "children", SMALL_FILE_MAX_BYTES).map(|bytes| !bytes.is_empty())
    }

    /// What stands at an address of the process; `None`: nothing, or it may not be read.
    pub fn memory<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.open("mem").ok()?.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    /// Whether a return address in `code` lies on the thread's stack: whether it is inside the function there.
    /// The thread is not stopped.
    ///
    /// # Errors
    /// [`Error::Gone`] if the thread has ended; [`Error::Denied`].
    pub fn thread_runs(&self, tid: u32, code: &Range<u64>) -> Result<OnStack, Error> {
        match self.thread_state(tid)?.stack_pointer() {
            Some(stack_pointer) => self.stack_holds(stack_pointer, code),
            None => Ok(OnStack::Running),
        }
    }

    /// The same for the stack that ends at `stack_pointer`, whether or not its thread runs; never [`OnStack::Running`].
    ///
    /// # Errors
    /// [`Error::Gone`] if the process has ended; [`Error::Denied`].
    pub fn stack_holds(&self, stack_pointer: u64, code: &Range<u64>) -> Result<OnStack, Error> {
        let stack_pointer = stack_pointer & !7;
        // The kernel reads through guard pages for a debugger, right into the next thread's stack: the mapping
        // is the bound.
        let stack = self.mappings(|mapping| mapping.range.contains(&stack_pointer))?;
        let Some(end) = stack.first().map(|mapping| mapping.range.end) else { return Ok(OnStack::Unclear) };
        let length = (end - stack_pointer).min(STACK_MAX_BYTES);
        let mut words = vec![0u8; length as usize];
        let memory = self.open("mem")?;
        let mut read = 0;
        while read < words.len() {
            match memory.read_at(&mut words[read..], stack_pointer + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A page that is not there (a guard page need not be a mapping of its own) ends the stack.
                Err(_unmapped) if read > 0 => break,
                Err(source) => {
                    return match Error::new(self.pid(), "mem", source) {
                        error @ (Error::Gone | Error::Denied { .. }) => Err(error),
                        _ => Ok(OnStack::Unclear),
                    };
                }
            }
        }
        let found = words[..read].chunks_exact(8).any(|word| {
            let word = word.try_into().map_or(0, u64::from_ne_bytes);
            code.contains(&word)
        });
        if read == 0 {
            return Err(Error::Gone);
        }
        let searched_all = (read as u64) < length || stack_pointer + length == end;
        Ok(if found {
            OnStack::Yes
        } else if searched_all {
            OnStack::No
        } else {
            OnStack::Unclear
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_tells_its_system_call() {
        let line = b"281 0x10 0x7fff660a36a0 0x400 0xbb8 0x0 0x8 0x7fff660a2940 0x7fa3c7a46cae\n";
        let state = ThreadState::parse(line).unwrap();
        assert_eq!(
            state,
            ThreadState::InSyscall {
                number: 281,
                args: [0x10, 0x7fff_660a_36a0, 0x400, 0xbb8, 0, 8],
                stack_pointer: 0x7fff_660a_2940,
                instruction_pointer: 0x7fa3_c7a4_6cae,
            }
        );
        assert_eq!(state.stack_pointer(), Some(0x7fff_660a_2940));
    }

    #[test]
    fn running_and_stopped_threads_are_told_apart() {
        assert_eq!(ThreadState::parse(b"running\n"), Some(ThreadState::Running));
        assert_eq!(
            ThreadState::parse(b"-1 0x7ffd1000 0x401000\n"),
            Some(ThreadState::Stopped { stack_pointer: 0x7ffd_1000, instruction_pointer: 0x40_1000 })
        );
    }

    #[test]
    fn an_incomplete_line_is_no_state() {
        for line in [&b""[..], b"0\n", b"281 0x1 0x2", b"-1 0x1", b"x", b"\xff", b"281 1 2 3 4 5 6 7 8"] {
            assert_eq!(ThreadState::parse(line), None, "{line:?}");
        }
    }
}

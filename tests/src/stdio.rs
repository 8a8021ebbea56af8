//! The other end of a workload's stdout: a reader that sleeps exactly as long as it is told.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A terminal without a screen; raw, so that bytes arrive as they were written. Returns (reading side, terminal).
pub fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: openpty writes the two descriptors, which are then owned by nobody else; tcgetattr fills the
    // all-zero termios before cfmakeraw and tcsetattr read it.
    unsafe {
        let opened = libc::openpty(&raw mut ours, &raw mut theirs, ptr::null_mut(), ptr::null(), ptr::null());
        assert_eq!(opened, 0, "openpty: {}", io::Error::last_os_error());
        let (ours, theirs) = (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs));
        for fd in [&ours, &theirs] {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
        }
        let mut settings: libc::termios = std::mem::zeroed();
        libc::tcgetattr(theirs.as_raw_fd(), &raw mut settings);
        libc::cfmakeraw(&raw mut settings);
        libc::tcsetattr(theirs.as_raw_fd(), libc::TCSANOW, &raw const settings);
        (ours, theirs)
    }
}

/// A pipe whose other end is read by 8 KiB with a pause after each, to its end.
pub fn slow_pipe(pause: Duration) -> OwnedFd {
    let (mut ours, theirs) = io::pipe().expect("a pipe can be made");
    thread::spawn(move || {
        let mut buffer = [0; 8 << 10];
        while let Ok(1..) = ours.read(&mut buffer) {
            thread::sleep(pause);
        }
    });
    theirs.into()
}

/// What a reader saw.
#[derive(Clone, Copy, Debug)]
pub struct ReaderNotes {
    /// From the first byte's arrival to the first read: so long the writer had nobody to take its data.
    pub asleep: Duration,
    pub bytes: u64,
}

/// Reads a stream to its end in a thread, after a sleep that begins when the first byte arrives.
pub struct SleepyReader(JoinHandle<ReaderNotes>);

impl SleepyReader {
    /// `Duration::ZERO` makes an attentive reader.
    pub fn start(source: impl Into<OwnedFd>, sleep: Duration) -> Self {
        let mut source = File::from(source.into());
        Self(thread::spawn(move || {
            wait_for_data(&source);
            let arrival = Instant::now();
            thread::sleep(sleep);
            let asleep = arrival.elapsed();
            let mut buffer = vec![0; 1 << 20];
            let mut bytes = 0;
            // A terminal ends with EIO once its last writer is gone, everything else with 0.
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                bytes += count as u64;
            }
            ReaderNotes { asleep, bytes }
        }))
    }

    /// Waits for the end of the stream.
    pub fn notes(self) -> ReaderNotes {
        self.0.join().expect("the reader does not panic")
    }
}

fn wait_for_data(source: &File) {
    let mut poll = libc::pollfd { fd: source.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd is passed and counted.
    unsafe { libc::poll(&raw mut poll, 1, -1) };
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_writer_to_a_terminal_waits_as_long_as_its_reader_sleeps() {
        let (ours, theirs) = pseudo_terminal();
        let reader = SleepyReader::start(ours, Duration::from_millis(300));
        let mut terminal = File::from(theirs);
        let begin = Instant::now();
        terminal.write_all(&vec![b'\n'; 128 << 10]).unwrap();
        let blocked = begin.elapsed();
        drop(terminal);
        let notes = reader.notes();
        assert_eq!(notes.bytes, 128 << 10);
        assert!(
            blocked >= notes.asleep && blocked < notes.asleep + Duration::from_millis(200),
            "{blocked:?}"
        );
    }
}

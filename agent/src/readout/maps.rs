//! Reads the records of loop threads and streams.

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use nodeprobe_ebpf::{DropReason, StdioKey, StdioRecord, ThreadRecord, stdio_record::TTY_FDS_LEN};

use super::{questions::Questions, queues::Queues};

/// A contract record as aya wants it: plain bytes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Wire<T>(pub T);

// SAFETY: the contract's `wire_record!` asserts that these have no padding, and all fields are integers, so every
// bit pattern is valid.
unsafe impl aya::Pod for Wire<ThreadRecord> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<StdioRecord> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<StdioKey> {}

/// A record that is written while it is copied is read again; a writer needs about 100 ns, so a second reading is
/// all but certain to be whole. After this many the last one is taken as it is.
const ATTEMPTS: usize = 8;

/// The maps that user space reads.
pub struct Maps {
    threads: HashMap<MapData, u32, Wire<ThreadRecord>>,
    stdio: HashMap<MapData, Wire<StdioKey>, Wire<StdioRecord>>,
    epoch: Array<MapData, u64>,
    drops: PerCpuArray<MapData, u64>,
    tty_fds: Array<MapData, u64>,
    /// What waits: for a thread of the pool, for the reader of a socket.
    pub queues: Queues,
    /// What threads ask the agent to find.
    pub questions: Questions,
    current_epoch: u64,
}

impl Maps {
    pub(crate) fn new(
        threads: HashMap<MapData, u32, Wire<ThreadRecord>>,
        stdio: HashMap<MapData, Wire<StdioKey>, Wire<StdioRecord>>,
        epoch: Array<MapData, u64>,
        drops: PerCpuArray<MapData, u64>,
        tty_fds: Array<MapData, u64>,
        queues: Queues,
        questions: Questions,
    ) -> Self {
        // Zeroed slots carry epoch 0, so the first interval must have another number.
        let mut maps = Self { threads, stdio, epoch, drops, tty_fds, queues, questions, current_epoch: 0 };
        maps.advance_epoch();
        maps
    }

    /// Ends the reading interval and returns its number: from here on maxima go to the next one.
    pub fn advance_epoch(&mut self) -> u64 {
        let ended = self.current_epoch;
        self.current_epoch += 1;
        if let Err(error) = self.epoch.set(0, self.current_epoch, 0) {
            tracing::warn!(%error, "the interval's number could not be written: maxima may be those of two intervals");
        }
        ended
    }

    /// Every record of a loop thread, ended ones included.
    pub fn threads(&self) -> Vec<ThreadRecord> {
        self.threads.keys().filter_map(Result::ok).filter_map(|tid| self.thread(tid)).collect()
    }

    /// The record of one thread.
    pub fn thread(&self, tid: u32) -> Option<ThreadRecord> {
        whole(|| self.threads.get(&tid, 0).ok().map(|record| record.0), |r| (r.seq_begin, r.seq_end))
    }

    /// Counters of streams by key.
    pub fn stdio(&self) -> Vec<(StdioKey, StdioRecord)> {
        self.stdio
            .keys()
            .filter_map(Result::ok)
            .filter_map(|key| self.stream(key.0).map(|record| (key.0, record)))
            .collect()
    }

    fn stream(&self, key: StdioKey) -> Option<StdioRecord> {
        whole(|| self.stdio.get(&Wire(key), 0).ok().map(|record| record.0), |r| (r.seq_begin, r.seq_end))
    }

    /// The counters of one thread's streams.
    pub fn streams_of(&self, tid: u32) -> Vec<(StdioKey, StdioRecord)> {
        [1, 2]
            .into_iter()
            .filter_map(|fd| {
                let key = StdioKey { tid, fd };
                self.stream(key).map(|record| (key, record))
            })
            .collect()
    }

    /// Registers a thread that was running before the agent saw it. `false`: the kernel has it already.
    ///
    /// # Errors
    /// When the table is full or the map refuses the write.
    pub fn insert_thread(&mut self, record: ThreadRecord) -> Result<bool, MapError> {
        const NO_EXIST: u64 = 1; // BPF_NOEXIST
        for fd in record.tty_fds.into_iter().filter_map(|fd| u32::try_from(fd).ok()) {
            self.tty_fds.set(fd.min(TTY_FDS_LEN - 1), 1, 0)?;
        }
        match self.threads.insert(record.tid, Wire(record), NO_EXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets a thread that has ended.
    pub fn remove_thread(&mut self, tid: u32) {
        // Absent is as good as removed.
        drop(self.threads.remove(&tid));
        for fd in [1, 2] {
            drop(self.stdio.remove(&Wire(StdioKey { tid, fd })));
        }
    }

    /// Losses since the start, by reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        DropReason::ALL
            .into_iter()
            .map(|reason| {
                let count = self.drops.get(&(reason as u32), 0).map_or(0, |per_cpu| per_cpu.iter().sum());
                (reason.name(), count)
            })
            .collect()
    }
}

fn whole<T>(mut read: impl FnMut() -> Option<T>, sequence: impl Fn(&T) -> (u64, u64)) -> Option<T> {
    let mut record = read()?;
    for _ in 1..ATTEMPTS {
        let (begin, end) = sequence(&record);
        if begin == end {
            break;
        }
        record = read()?;
    }
    Some(record)
}

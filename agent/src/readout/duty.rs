//! The table of processes with an open window; see `governor`.

use aya::maps::{HashMap, MapData, MapError};
use nodeprobe_ebpf::DutyRecord;

use super::maps::Wire;

// SAFETY: the contract's `wire_record!` asserts that it has no padding, and all fields are integers, so every bit pattern is
// valid.
unsafe impl aya::Pod for Wire<DutyRecord> {}

/// The agent writes records, the programs count in them.
pub struct DutyTable(HashMap<MapData, u32, Wire<DutyRecord>>);

impl DutyTable {
    pub(crate) const fn new(map: HashMap<MapData, u32, Wire<DutyRecord>>) -> Self {
        Self(map)
    }

    /// Hits up to now; 0 when no group of the process has a window.
    pub fn hits(&self, pid: u32, group: usize) -> u64 {
        self.0.get(&pid, 0).map_or(0, |record| record.0.hits[group])
    }

    /// Lets the programs of `group` count in this process, in a window of this number, from so many `hits` on.
    ///
    /// # Errors
    /// The table is full or cannot be written.
    pub fn open(&mut self, pid: u32, group: usize, number: u64, hits: u64) -> Result<(), MapError> {
        // What the programs of another group count between reading and writing is lost, so their hits may fall; `Duty` bears that.
        let mut record = self.0.get(&pid, 0).map_or(DutyRecord::ZERO, |record| record.0);
        record.windows[group] = number;
        record.hits[group] = hits;
        self.0.insert(pid, Wire(record), 0)
    }

    /// Ends it.
    pub fn close(&mut self, pid: u32, group: usize) {
        let Ok(Wire(mut record)) = self.0.get(&pid, 0) else { return };
        record.windows[group] = 0;
        // Absent is as good as removed, and one that cannot be written is looked at by no program that is attached.
        drop(if record.windows == DutyRecord::ZERO.windows {
            self.0.remove(&pid)
        } else {
            self.0.insert(pid, Wire(record), 0)
        });
    }
}

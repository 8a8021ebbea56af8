//! Reads what loop threads know of async contexts, and tells them where theirs is.

use std::collections::HashMap;

use aya::maps::{self, MapData};
use nodeprobe_ebpf::{ContextRecord, context_record::CONTEXT_UNKNOWN};

use super::maps::Wire;

// SAFETY: the contract's `wire_record!` asserts that it has no padding, and all fields are integers, so every bit
// pattern is valid.
unsafe impl aya::Pod for Wire<ContextRecord> {}

/// The map of contexts, by thread.
pub struct Contexts {
    records: maps::HashMap<MapData, u32, Wire<ContextRecord>>,
}

impl Contexts {
    pub(crate) fn new(records: maps::HashMap<MapData, u32, Wire<ContextRecord>>) -> Self {
        Self { records }
    }

    /// All records, by thread.
    pub fn all(&self) -> HashMap<u32, ContextRecord> {
        self.records.iter().filter_map(Result::ok).map(|(tid, record)| (tid, record.0)).collect()
    }

    /// Threads that ask where their context is.
    pub fn asking(&self) -> Vec<(u32, ContextRecord)> {
        let records = self.records.iter().filter_map(Result::ok).map(|(tid, record)| (tid, record.0));
        records.filter(|(_, record)| record.mode == CONTEXT_UNKNOWN).collect()
    }

    /// Tells a thread where its context is, if it still is the one that asked.
    pub fn tell(&mut self, tid: u32, record: ContextRecord) {
        const EXIST: u64 = 2; // BPF_EXIST
        let asked = self.records.get(&tid, 0).ok();
        if asked.is_some_and(|Wire(asked)| asked.observed_ns == record.observed_ns)
            && let Err(error) = self.records.insert(tid, Wire(record), EXIST)
        {
            tracing::debug!(tid, %error, "a thread cannot be told where its async context is");
        }
    }

    /// Forgets a thread that has ended.
    pub fn remove(&mut self, tid: u32) {
        // Absent is as good as removed.
        drop(self.records.remove(&tid));
    }
}

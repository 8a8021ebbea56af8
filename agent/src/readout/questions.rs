//! What loop threads ask the agent to find in their memory, and the answers.

use std::collections::HashMap;

use aya::maps::{self, MapData};
use nodeprobe_ebpf::{ContextRecord, RejectionRecord, context_record::CONTEXT_UNKNOWN};

use super::maps::Wire;

// SAFETY: the contract's `wire_record!` asserts that it has no padding, and all fields are integers, so every bit
// pattern is valid.
unsafe impl aya::Pod for Wire<ContextRecord> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<RejectionRecord> {}

/// A record that a loop thread makes and the agent completes.
pub trait Question: Copy {
    /// For people.
    const WHAT: &'static str;

    /// Whose it is.
    fn asker(&self) -> Asker;

    /// Whether the agent has not answered yet.
    fn is_open(&self) -> bool;
}

/// A thread that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub tgid: u32,
    /// That of its `ThreadRecord`.
    pub observed_ns: u64,
    /// A stack pointer: the frames of its loop are above.
    pub sp: u64,
}

impl Question for ContextRecord {
    const WHAT: &'static str = "where a thread keeps its async context";

    fn asker(&self) -> Asker {
        Asker { tgid: self.tgid, observed_ns: self.observed_ns, sp: self.sp }
    }

    fn is_open(&self) -> bool {
        self.mode == CONTEXT_UNKNOWN
    }
}

impl Question for RejectionRecord {
    const WHAT: &'static str = "where Node notes rejected promises";

    fn asker(&self) -> Asker {
        Asker { tgid: self.tgid, observed_ns: self.observed_ns, sp: self.sp }
    }

    fn is_open(&self) -> bool {
        self.note == 0
    }
}

/// All of them.
pub struct Questions {
    /// Whether callbacks have the async context of what they answer.
    pub contexts: Asked<ContextRecord>,
    /// Whether Node has told of rejected promises.
    pub rejections: Asked<RejectionRecord>,
}

/// The map of one kind, by thread.
pub struct Asked<Q: Question>
where
    Wire<Q>: aya::Pod,
{
    records: maps::HashMap<MapData, u32, Wire<Q>>,
}

impl<Q: Question> Asked<Q>
where
    Wire<Q>: aya::Pod,
{
    pub(crate) fn new(records: maps::HashMap<MapData, u32, Wire<Q>>) -> Self {
        Self { records }
    }

    /// All records, by thread.
    pub fn all(&self) -> HashMap<u32, Q> {
        self.records.iter().filter_map(Result::ok).map(|(tid, record)| (tid, record.0)).collect()
    }

    /// Those that are not answered.
    pub fn open(&self) -> Vec<(u32, Q)> {
        let records = self.records.iter().filter_map(Result::ok).map(|(tid, record)| (tid, record.0));
        records.filter(|(_, record)| record.is_open()).collect()
    }

    /// That of one thread, if it is not answered.
    pub fn open_of(&self, tid: u32) -> Option<Q> {
        self.records.get(&tid, 0).ok().map(|record| record.0).filter(Question::is_open)
    }

    /// Answers a thread, if it still is the one that asked.
    pub fn answer(&mut self, tid: u32, record: Q) {
        const EXIST: u64 = 2; // BPF_EXIST
        let asked = self.records.get(&tid, 0).ok();
        let is_same = |asked: Asker| asked.observed_ns == record.asker().observed_ns;
        if asked.is_some_and(|Wire(asked)| is_same(asked.asker()))
            && let Err(error) = self.records.insert(tid, Wire(record), EXIST)
        {
            tracing::debug!(tid, %error, what = Q::WHAT, "a thread cannot be answered");
        }
    }

    /// Forgets threads that have ended.
    pub fn retain(&mut self, mut is_living: impl FnMut(u32) -> bool) {
        let ended: Vec<u32> =
            self.records.keys().filter_map(Result::ok).filter(|tid| !is_living(*tid)).collect();
        for tid in ended {
            // Absent is as good as removed.
            drop(self.records.remove(&tid));
        }
    }
}

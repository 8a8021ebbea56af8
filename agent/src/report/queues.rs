//! What waits, as the JSON documents say it: work for libuv's pool of threads, data in sockets.

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::text;
use crate::model::{Backlog, Pool, PoolWork, interval::ProcessInterval, queue::POOL_NAMES};

/// libuv's pool of threads.
#[derive(Debug, Serialize)]
pub struct PoolReport {
    /// Work that was begun, how long it had waited in all, and the longest of it.
    pub tasks: Option<u64>,
    pub wait_s: Option<f64>,
    pub wait_max_s: Option<f64>,
    /// What waits now, and for how long the first of it has.
    pub waiting: Option<u64>,
    pub oldest_wait_s: Option<f64>,
    /// `null`: not observed.
    pub by_type: Option<BTreeMap<&'static str, PoolWorkReport>>,
}

#[derive(Debug, Serialize)]
pub struct PoolWorkReport {
    pub tasks: u64,
    pub wait_s: f64,
    /// For how long threads were busy with it while other work waited.
    pub busy_s: f64,
}

/// Writes to other descriptors than stdout and stderr that were refused, and TCP sockets that are full now.
#[derive(Debug, Serialize)]
pub struct SocketsReport {
    pub eagain: Option<u64>,
    /// The one that has been full for longest first; `null`: not observed.
    pub backlogs: Option<Vec<BacklogReport>>,
}

#[derive(Debug, Serialize)]
pub struct BacklogReport {
    pub fd: u32,
    pub peer: Option<String>,
    /// In the kernel.
    pub queued_bytes: Option<u64>,
    /// In libuv's queue. What JavaScript keeps until that is empty comes on top of both.
    pub libuv_queued_bytes: Option<u64>,
    pub age_s: f64,
}

pub(super) fn of_pool(pool: &Pool, observed: bool) -> PoolReport {
    let in_s = |ns: u64| ns as f64 / 1e9;
    let kind = |(name, kind): (&&'static str, &PoolWork)| {
        (
            *name,
            PoolWorkReport { tasks: kind.tasks, wait_s: in_s(kind.waited_ns), busy_s: in_s(kind.busy_ns) },
        )
    };
    PoolReport {
        tasks: observed.then(|| pool.tasks()),
        wait_s: observed.then(|| in_s(pool.waited_ns())),
        wait_max_s: pool.max_wait_ns.filter(|_| observed && pool.tasks() > 0).map(in_s),
        waiting: observed.then_some(pool.waiting),
        oldest_wait_s: (observed && pool.waiting > 0).then(|| in_s(pool.oldest_wait_ns)),
        by_type: observed.then(|| POOL_NAMES.iter().zip(&pool.kinds).map(kind).collect()),
    }
}

pub(super) fn of_sockets(process: &ProcessInterval, observed: bool) -> SocketsReport {
    let backlog = |backlog: &Backlog| BacklogReport {
        fd: backlog.fd,
        peer: backlog.peer.as_deref().map(text),
        queued_bytes: backlog.queued_bytes,
        libuv_queued_bytes: backlog.libuv_queued_bytes,
        age_s: backlog.age_ns as f64 / 1e9,
    };
    SocketsReport {
        eagain: observed.then_some(process.sockets_refused),
        backlogs: observed.then(|| process.backlogs.iter().map(backlog).collect()),
    }
}

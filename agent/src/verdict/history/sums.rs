//! Sums over the window, and what was so at its end: collections, streams, the processor, memory, queues.

use super::{History, Seen};
use crate::{
    model::{AsyncContext, Backlog, CpuPeriods, Histogram, HostCpu, Pool, StreamKind, interval::Microtasks},
    verdict::thresholds::OUTSIDE_HEAP_FROM_S,
};

/// stdout or stderr over the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    pub kind: Option<StreamKind>,
    pub blocked_ns: u64,
    pub refused: u64,
    pub writes: u64,
    pub bytes: u64,
}

impl History {
    /// Pauses: their time, their number, the longest, and how many were long.
    pub fn gc(&self) -> (u64, u64, u64, u64) {
        let longest_ns = self.seen.iter().map(|seen| seen.gc_longest_ns).max().unwrap_or(0);
        (self.sum(|s| s.gc_ns), self.sum(|s| s.gc_pauses), longest_ns, self.sum(|s| s.long_pauses))
    }

    /// The time that one pause in a hundred exceeds, seconds; `None`: there was none.
    pub fn gc_pause_p99_s(&self) -> Option<f64> {
        let mut durations = Histogram::default();
        self.seen.iter().filter_map(|seen| seen.gc_durations.as_ref()).for_each(|of| durations.merge(of));
        durations.quantile_s(0.99)
    }

    /// stdout, stderr.
    pub fn stdio(&self) -> [Stream; 2] {
        let mut streams = [Stream::default(); 2];
        for seen in &self.seen {
            for (sum, stream) in streams.iter_mut().zip(&seen.stdio) {
                sum.kind = stream.kind.or(sum.kind);
                sum.blocked_ns += stream.blocked_ns;
                sum.refused += stream.refused;
                sum.writes += stream.writes;
                sum.bytes += stream.bytes;
            }
        }
        streams
    }

    /// Share of the time for which the main thread could run and had no processor; `None`: not known in any interval.
    pub fn run_delay(&self) -> Option<f64> {
        self.known_share(|seen| seen.run_delay_ns)
    }

    /// Share of the time for which the quota of the cgroup was used up. The kernel sums it over processors.
    pub fn throttled(&self) -> Option<f64> {
        self.known_share(|seen| seen.throttled_ns).map(|share| share.min(1.0))
    }

    /// Periods of that quota; `None`: not known in any interval.
    pub fn cpu_periods(&self) -> Option<CpuPeriods> {
        let known = self.seen.iter().filter_map(|seen| seen.cpu_periods);
        known.reduce(|mut sum, more| {
            sum.merge(more);
            sum
        })
    }

    /// What the host's processors did; `None`: not known in any interval.
    pub fn host_cpu(&self) -> Option<HostCpu> {
        let known = self.seen.iter().filter_map(|seen| seen.host_cpu);
        known.reduce(|mut sum, more| {
            sum.merge(more);
            sum
        })
    }

    /// Share of the time that the host's hypervisor took away from the main thread, estimated.
    pub fn stolen(&self) -> Option<f64> {
        self.known_share(|seen| seen.stolen_ns)
    }

    /// Of the main thread, when it was last told.
    pub fn nice(&self) -> Option<i8> {
        self.seen.iter().rev().find_map(|seen| seen.nice)
    }

    fn known_share(&self, of: impl Fn(&Seen) -> Option<u64>) -> Option<f64> {
        let known = self.seen.iter().filter_map(|seen| Some((of(seen)?, seen.duration_s)));
        let (ns, known_s) =
            known.fold((0, 0.0), |(ns, seconds), (more, duration_s)| (ns + more, seconds + duration_s));
        (known_s > 0.0).then(|| ns as f64 / 1e9 / known_s)
    }

    /// Unhandled, handled late.
    pub fn rejections(&self) -> (u64, u64) {
        (self.sum(|seen| seen.rejections), self.sum(|seen| seen.rejections_handled_late))
    }

    pub fn deopts(&self) -> u64 {
        self.sum(|seen| seen.deopts)
    }

    /// Times in seconds, and bytes in use after full collections.
    pub fn heap_sizes(&self) -> Vec<(f64, f64)> {
        self.heap_sizes.iter().copied().collect()
    }

    pub fn heap_limit_bytes(&self) -> Option<u64> {
        self.heap_limit_bytes
    }

    /// What was allocated in the heap between collections; `None`: not known.
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.seen.iter().filter_map(|seen| seen.allocated_bytes).reduce(u64::saturating_add)
    }

    /// Resident memory at the end of the window.
    pub fn rss_bytes(&self) -> Option<u64> {
        self.seen.iter().rev().find_map(|seen| seen.rss_bytes)
    }

    /// Seconds since the begin of the window, and resident memory that is not in the heap (buffers, code, stacks), without the
    /// time right after the start. Empty while the size of the heap is not known: it is seen at collections.
    pub fn outside_heap(&self) -> Vec<(f64, f64)> {
        let mut at_s = 0.0;
        let mut sizes = Vec::new();
        let mut heap_bytes = self.seen.iter().find_map(|seen| seen.heap_used_bytes);
        for seen in &self.seen {
            at_s += seen.duration_s;
            heap_bytes = seen.heap_used_bytes.or(heap_bytes);
            if let (Some(rss), Some(heap)) = (seen.rss_bytes, heap_bytes)
                && seen.uptime_s >= OUTSIDE_HEAP_FROM_S
            {
                sizes.push((at_s, rss as f64 - heap as f64));
            }
        }
        sizes
    }

    /// Drains of the microtask queue, and for how long they were looked at.
    pub fn microtasks(&self) -> Microtasks {
        let mut sum = Microtasks::default();
        for seen in &self.seen {
            sum.drains.merge(&seen.microtasks.drains);
            sum.seen_ns += seen.microtasks.seen_ns;
        }
        sum
    }

    /// What libuv's pool of threads had to do; what waits is that at the end of the window.
    pub fn pool(&self) -> Pool {
        let mut pool = Pool::default();
        for seen in &self.seen {
            pool.merge(Pool { waiting: 0, oldest_wait_ns: 0, ..seen.pool });
        }
        let last = self.seen.back().map_or(Pool::default(), |seen| seen.pool);
        Pool { waiting: last.waiting, oldest_wait_ns: last.oldest_wait_ns, ..pool }
    }

    /// Answers to requests, by what became of their contexts.
    pub fn async_context(&self) -> AsyncContext {
        let mut answers = AsyncContext::default();
        for seen in &self.seen {
            answers.merge(seen.async_context);
        }
        answers
    }

    /// Share of the window in which answers to requests were followed.
    pub fn answers_seen_ratio(&self) -> f64 {
        self.share(self.sum(|seen| seen.answers_seen_ns)).min(1.0)
    }

    /// Writes to sockets that were refused.
    pub fn sockets_refused(&self) -> u64 {
        self.sum(|seen| seen.sockets_refused)
    }

    /// Sockets that are full at the end of the window, the one that has been for longest first.
    pub fn backlogs(&self) -> &[Backlog] {
        self.seen.back().map_or(&[], |seen| &seen.backlogs)
    }

    /// Memory in the heaps when it was last told.
    pub fn heap_used_bytes(&self) -> Option<u64> {
        self.seen.iter().rev().find_map(|seen| seen.heap_used_bytes)
    }
}

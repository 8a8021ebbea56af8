//! Who allocates, as the JSON documents say it.

use serde::Serialize;

use super::document::CulpritReport;
use crate::{
    model::{Interval, Occasion, interval::ProcessInterval},
    stack::allocations::{Allocation, allocations},
};

/// A function that allocates: its share of all that was sampled, and the bytes that are by what was allocated in all.
#[derive(Clone, Debug, Serialize)]
pub struct AllocationReport {
    #[serde(flatten)]
    pub culprit: CulpritReport,
    pub ratio: f64,
    /// `null`: no two collections told how much was allocated.
    pub bytes: Option<u64>,
}

impl From<&Allocation> for AllocationReport {
    fn from(allocation: &Allocation) -> Self {
        Self {
            culprit: CulpritReport::from(&allocation.culprit),
            ratio: (allocation.ratio * 1e6).round() / 1e6,
            bytes: allocation.bytes.map(|bytes| bytes.round() as u64),
        }
    }
}

/// Of one interval.
pub(super) fn of_process(process: &ProcessInterval, interval: &Interval) -> Vec<AllocationReport> {
    let taken = interval
        .occasions
        .iter()
        .filter(|taken| (taken.process, taken.occasion) == (process.id, Occasion::Allocation));
    allocations(taken, process.allocated_bytes).iter().map(AllocationReport::from).collect()
}

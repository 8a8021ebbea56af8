//! Probes that are in place for some of the time only, because they are hit often.

use crate::wire_record;

/// Probes around the drains of the microtask queue.
pub const DUTY_MICROTASKS: usize = 0;
/// The probe where a page of the young generation is used up.
pub const DUTY_PAGES: usize = 1;
pub const DUTY_GROUPS: usize = 2;

wire_record! {
    /// One process that is looked at in this way at the moment. The agent writes it before the first probes are there and
    /// removes it after the last; in between the programs count in it.
    pub struct DutyRecord {
        /// Number of the window under way by `DUTY_*`; 0 = none. What began in one window does not end in another.
        pub windows: [u64; DUTY_GROUPS],
        /// Hits of probes, those of windows before this one included.
        pub hits: [u64; DUTY_GROUPS],
    }
}

impl DutyRecord {
    pub const ZERO: Self = Self { windows: [0; DUTY_GROUPS], hits: [0; DUTY_GROUPS] };
}

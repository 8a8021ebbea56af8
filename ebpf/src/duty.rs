//! The part that all duty-cycled programs share: is this process being looked at, and what did looking cost?
//!
//! The agent's governor attaches them in windows and multiplies their hits by what one costs; see its module.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{map, uprobe},
    maps::HashMap,
    programs::ProbeContext,
};
use nodeprobe_ebpf::{DutyRecord, duty_record::DUTY_MICROTASKS};

use crate::{counter, target};

/// Processes with an open window. Made and removed by the agent only.
#[map]
static DUTY: HashMap<u32, DutyRecord> = HashMap::with_max_entries(4096, 0);

/// The number of the open window of this process. Counts the hit.
#[inline(always)]
pub(crate) fn window(group: usize) -> Option<u64> {
    let duty = DUTY.get_ptr_mut((bpf_get_current_pid_tgid() >> 32) as u32)?;
    // SAFETY: the map value stays valid while the program runs (RCU); threads of the process add atomically.
    let duty = unsafe { &mut *duty };
    counter::add(&mut duty.hits[group], 1);
    let window = duty.windows[group];
    (window != 0).then_some(window)
}

/// Whether a window is open for this process. Counts nothing.
#[inline(always)]
pub(crate) fn is_open(group: usize) -> bool {
    DUTY.get_ptr_mut((bpf_get_current_pid_tgid() >> 32) as u32).is_some_and(|duty| {
        // SAFETY: as above.
        unsafe { (*duty).windows[group] != 0 }
    })
}

/// Does what the others do when hit, for the agent's own measurement of that: looks up process and thread, and the time.
#[uprobe]
pub(crate) fn calibration(_ctx: ProbeContext) -> u32 {
    let window = window(DUTY_MICROTASKS).unwrap_or(0);
    let is_loop = target::current().is_some();
    u32::from(is_loop && target::now_ns() == window)
}

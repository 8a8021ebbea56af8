//! Attaches the programs that see threads leave and get a processor.

use std::{thread, time::Duration};

use aya::{
    Btf, BtfError, Ebpf,
    programs::{BtfTracePoint, Program, tp_btf::BtfTracePointLinkId},
};
use nodeprobe_ebpf::switch::{SWITCH_MISREAD, SWITCH_READ_RIGHT};

use super::load::{Kernel, chain};

/// Program and tracepoint. Wakings first: a sleep whose end is not seen would last until the thread runs.
pub(super) const RAW_TRACEPOINTS: [(&str, &str); 2] =
    [("sched_wakeup_raw", "sched_wakeup"), ("sched_switch_raw", "sched_switch")];

/// Loads one of [`RAW_TRACEPOINTS`], with the kernel's description of its types.
///
/// # Errors
/// The kernel has none, or refuses the program: before Linux 5.18 there is no fourth argument of `sched_switch`.
pub(super) fn load_raw(
    program: &mut BtfTracePoint,
    name: &str,
    btf: &Result<Btf, BtfError>,
) -> Result<(), String> {
    let event = RAW_TRACEPOINTS.iter().find(|(of, _)| *of == name).ok_or("of no known tracepoint")?.1;
    let btf = btf.as_ref().map_err(|error| chain(error))?;
    program.load(event, btf).map_err(|error| chain(&error))
}

impl Kernel {
    /// Attaches to the scheduler's raw tracepoints, for which the kernel does not first write each event down. Both or none.
    ///
    /// # Errors
    /// Why they cannot be used here: Linux before 5.18 does not tell there whether a thread falls asleep, and some kernels do not
    /// describe their types (`CONFIG_DEBUG_INFO_BTF`). Then the tracepoints with a format may do.
    pub(super) fn attach_sched_raw(&mut self) -> Result<(), String> {
        self.task_pid_offset.as_ref().map_err(Clone::clone)?;
        for (name, event) in RAW_TRACEPOINTS {
            if let Some(refusal) = self.refused.get(name) {
                return Err(format!("sched:{event}: the program was refused: {refusal}"));
            }
        }
        let mut links = Vec::with_capacity(RAW_TRACEPOINTS.len());
        let attached = RAW_TRACEPOINTS.into_iter().try_for_each(|(name, event)| {
            let link = self.attach_raw(name).map_err(|reason| format!("sched:{event}: {reason}"))?;
            links.push((name, link));
            Ok(())
        });
        let result = attached.and_then(|()| self.reads_switches());
        if result.is_err() {
            for (name, link) in links {
                let detached = raw_tracepoint(&mut self.ebpf, name).map(|program| program.detach(link));
                if let Some(Err(error)) = detached {
                    tracing::warn!(
                        program = name,
                        reason = chain(&error),
                        "a program stays where it is not wanted"
                    );
                }
            }
        }
        result
    }

    fn attach_raw(&mut self, name: &str) -> Result<BtfTracePointLinkId, String> {
        let program = raw_tracepoint(&mut self.ebpf, name).ok_or("the program is not in the object")?;
        program.attach().map_err(|error| chain(&error))
    }

    /// Whether switches are read right, by some of them: neither the order of arguments nor the place of the id is ABI.
    fn reads_switches(&self) -> Result<(), String> {
        // A thread whose id is not that of its process, which stands beside it, leaves its processor.
        thread::scope(|scope| {
            thread::Builder::new()
                .spawn_scoped(scope, || thread::sleep(Duration::from_millis(1)))
                .map_err(|error| chain(&error))
                .map(drop)
        })?;
        match self.switches_read.get(&0, 0) {
            Ok(SWITCH_READ_RIGHT) => Ok(()),
            Ok(SWITCH_MISREAD) => {
                Err("sched:sched_switch or a task has another form than is known of Linux".to_owned())
            }
            Ok(_) => Err("sched:sched_switch does not run the program".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }
}

fn raw_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut BtfTracePoint> {
    match ebpf.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => Some(program),
        _ => None,
    }
}

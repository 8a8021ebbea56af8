//! Attaches the programs that see threads leave and get a processor.

use std::{thread, time::Duration};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Program, ProgramError, tp_btf::BtfTracePointLinkId},
};

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
    btf: Option<&Btf>,
) -> Result<(), ProgramError> {
    let event = RAW_TRACEPOINTS.iter().find(|(of, _)| *of == name).ok_or(ProgramError::NotLoaded)?.1;
    program.load(event, btf.ok_or(ProgramError::NotLoaded)?)
}

impl Kernel {
    /// Attaches to the scheduler's raw tracepoints, for which the kernel does not first write each event down. Both or none.
    ///
    /// # Errors
    /// Why they cannot be used here: Linux before 5.18 does not tell there whether a thread falls asleep, and some kernels do not
    /// describe their types (`CONFIG_DEBUG_INFO_BTF`). Then the tracepoints with a format may do.
    pub(super) fn attach_sched_raw(&mut self) -> Result<(), String> {
        self.task_pid_offset.as_ref().map_err(Clone::clone)?;
        let mut links = Vec::with_capacity(RAW_TRACEPOINTS.len());
        let mut problem = None;
        for (name, event) in RAW_TRACEPOINTS {
            match self.attach_raw(name) {
                Ok(link) => links.push((name, link)),
                Err(reason) => problem = Some(format!("sched:{event}: {reason}")),
            }
        }
        // As the only sure way to know the order of arguments and the place of the id, which are no ABI.
        let problem = problem.or_else(|| self.misreads_switches());
        let Some(problem) = problem else { return Ok(()) };
        for (name, link) in links {
            if let Some(program) = raw_tracepoint(&mut self.ebpf, name) {
                program.detach(link).map_err(|error| chain(&error))?;
            }
        }
        Err(problem)
    }

    fn attach_raw(&mut self, name: &str) -> Result<BtfTracePointLinkId, String> {
        if let Some(refusal) = self.refused.get(name) {
            return Err(format!("the program was refused: {refusal}"));
        }
        let program = raw_tracepoint(&mut self.ebpf, name).ok_or("the program is not in the object")?;
        program.attach().map_err(|error| chain(&error))
    }

    fn misreads_switches(&self) -> Option<String> {
        // This thread leaves its processor meanwhile.
        thread::sleep(Duration::from_millis(1));
        match self.switch_misread.get(&0, 0) {
            Ok(0) => None,
            Ok(_) => Some("sched:sched_switch has other arguments than on any release of Linux".to_owned()),
            Err(error) => Some(chain(&error)),
        }
    }
}

fn raw_tracepoint<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut BtfTracePoint> {
    match ebpf.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => Some(program),
        _ => None,
    }
}

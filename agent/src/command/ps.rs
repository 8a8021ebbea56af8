//! `nodeprobe ps`: every Node process and what can be had of it.

use std::io;

use anyhow::Context as _;

use super::{EXIT_NO_PROCESS, EXIT_OK, Outcome, init_log, is_broken_pipe, observe, prepare};
use crate::{bpf::Settings, cli::Ps, report};

/// Prints once.
///
/// # Errors
/// What keeps it from that, for people; `complain` adds the remedy.
pub fn run(arguments: &Ps) -> Outcome {
    init_log("warn", None);
    prepare();
    // The programs are really attached: whether the kernel takes a probe is known only then.
    let agent = observe(&Settings::default(), None)?;
    let snapshot = agent.snapshot();
    match report::ps(&snapshot.processes, arguments.format, io::stdout().lock()) {
        Err(error) if !is_broken_pipe(&error) => return Err(error).context("the output cannot be written"),
        _ => {}
    }
    Ok(if snapshot.processes.is_empty() { EXIT_NO_PROCESS } else { EXIT_OK })
}

//! What shells and `man` want to know of the command line, made from the command line itself.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{EXIT_OK, Outcome, is_broken_pipe};
use crate::cli::Cli;

/// Prints completions for `shell`.
///
/// # Errors
/// Standard output cannot be written; a closed pipe is no error.
pub fn completions(shell: Shell) -> Outcome {
    // The generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nodeprobe", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if !is_broken_pipe(&error) => Err(error).context("the completions cannot be written"),
        _ => Ok(EXIT_OK),
    }
}

/// Writes `nodeprobe.1` and a page `nodeprobe-<command>.1` for each command that is not hidden into `directory`, which is made if
/// it is not there.
///
/// # Errors
/// It cannot be made or written to.
pub fn man_pages(directory: &Path) -> Outcome {
    let cannot = || format!("manual pages cannot be written to {}", directory.display());
    fs::create_dir_all(directory).with_context(cannot)?;
    // `nodeprobe-help.1` would only say what --help says.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory).with_context(cannot)?;
    Ok(EXIT_OK)
}

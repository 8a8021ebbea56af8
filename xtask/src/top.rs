//! `cargo xtask top`: from a clone to the live table in one command.

use crate::{build, child, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{ffi::OsString, os::unix::process::CommandExt};

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    become_nodeprobe(workspace, "top", args)
}

/// Builds, then replaces this process, so that signals, terminal and exit code are nodeprobe's own.
pub(crate) fn become_nodeprobe(workspace: &Workspace, command: &str, args: &[OsString]) -> Result<()> {
    build::run(workspace)?;
    let error = child::as_root(workspace.nodeprobe())?.arg(command).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", workspace.nodeprobe().display()))?;
    bail!("exec returned without an error")
}

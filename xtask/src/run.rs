//! `cargo xtask run`: the daemon from a clone.

use crate::{top, workspace::Workspace};
use anyhow::Result;
use std::ffi::OsString;

pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    top::become_nodeprobe(workspace, "run", args)
}

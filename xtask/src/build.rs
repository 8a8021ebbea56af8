//! `cargo xtask build`: the release binary with the programs for the kernel inside.

use crate::{child, setup, workspace::Workspace};
use anyhow::Result;
use std::{env, path::PathBuf, process::Command};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::for_build(workspace)?;
    child::stream(cargo(workspace).args([
        "build",
        "--release",
        "--package",
        "nodeprobe",
        "--bin",
        "nodeprobe",
    ]))
}

/// The cargo that runs this xtask, in the root of the clone.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command =
        Command::new(env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from));
    command.current_dir(&workspace.root);
    command
}

//! cargo-deb, which makes the Debian package out of what `agent/Cargo.toml` says of it.

use crate::{child, workspace::Workspace};
use anyhow::{Context, Result};
use std::{env, path::PathBuf, process::Command};

const VERSION: &str = "3.8.0";

/// Builds it where it is not there yet; returns the program.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let _lock = workspace.lock()?;
    let root = workspace.tools().join("cargo-deb");
    let program = root.join("bin/cargo-deb");
    if child::ask(&program, &["--version"]).is_some_and(|version| version.trim().ends_with(VERSION)) {
        return Ok(program);
    }
    eprintln!("xtask: building cargo-deb {VERSION} into {} (some minutes)", program.display());
    let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut install = Command::new(cargo);
    install.args(["install", "cargo-deb", "--version", VERSION, "--locked", "--force", "--root"]).arg(root);
    // The clone's own settings are not the tool's.
    install.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").current_dir("/");
    child::stream(&mut install).context("cargo-deb could not be built")?;
    Ok(program)
}

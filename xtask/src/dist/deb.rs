//! The Debian package: the program, its unit, manual pages, completions, a file of settings.

use super::{Release, put};
use crate::{child, setup, workspace::Workspace};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};

/// The unit in the tarball names where people put a program by hand.
const BY_HAND: &str = "/usr/local/bin/nodeprobe";
const PACKAGED: &str = "/usr/bin/nodeprobe";

/// `tree` is what the tarball holds. `[package.metadata.deb]` in `agent/Cargo.toml` says what goes where.
pub(super) fn write(workspace: &Workspace, tree: &Path, release: &Release) -> Result<()> {
    ensure!(
        workspace.target == workspace.root.join("target"),
        "agent/Cargo.toml names files of the Debian package under {}: unset CARGO_TARGET_DIR for `cargo xtask dist`",
        workspace.root.join("target").display()
    );
    let cargo_deb = setup::deb::ensure(workspace)?;
    let staged = release.dir.join("deb");
    for part in ["", "man", "completions"] {
        fs::create_dir_all(staged.join(part))?;
        for entry in fs::read_dir(tree.join(part))?.flatten().filter(|entry| entry.path().is_file()) {
            put(&entry.path(), &staged.join(part).join(entry.file_name()))?;
        }
    }
    let unit = staged.join("nodeprobe.service");
    let text = fs::read_to_string(&unit)?;
    ensure!(text.contains(BY_HAND), "packaging/nodeprobe.service does not name {BY_HAND}");
    // Debian installs under /usr, and what stands above the first section is for those who install by hand.
    let (_, sections) = text.split_once("\n\n").context("packaging/nodeprobe.service has no head")?;
    fs::write(&unit, sections.replace(BY_HAND, PACKAGED))?;

    let mut command = Command::new(cargo_deb);
    command.args(["--package=nodeprobe", "--no-build", "--no-strip", "--locked", "--output"]);
    command.arg(release.path(".deb")).current_dir(&workspace.root);
    command.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    child::quiet("writing the Debian package", &mut command)
        .context("cargo-deb could not make the package")?;
    fs::remove_dir_all(&staged)?;
    Ok(())
}

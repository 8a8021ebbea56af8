//! `cargo xtask lint`: what a reviewer should not have to look for.

mod architecture;
mod paths;

use crate::{build::cargo, child, generate, setup, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, process::Command};

/// Longer files are a hint at a second subject, not a fault.
const LONG_FILE_LINES: usize = 500;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::for_build(workspace)?;
    let files = tracked_text(workspace)?;
    let mut violations = Vec::new();
    for (path, text) in &files {
        let is_rust = Path::new(path).extension().is_some_and(|extension| extension == "rs");
        if is_rust {
            violations.extend(architecture::violations(path, text));
        }
        violations.extend(paths::violations(path, text, &paths::of_this_machine(&workspace.root)));
        if is_rust && text.lines().count() > LONG_FILE_LINES {
            eprintln!(
                "xtask: warning: {path} has more than {LONG_FILE_LINES} lines: is there a second subject in it?"
            );
        }
    }
    if !violations.is_empty() {
        bail!("{} rules are broken:\n{}", violations.len(), violations.join("\n"));
    }
    child::stream(cargo(workspace).args(["fmt", "--all", "--check"]))?;
    child::stream(cargo(workspace).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--features=nodeprobe-tests/cluster",
        "--",
        "-D",
        "warnings",
    ]))?;
    generate::run(workspace, &generate::Args { check: true, boards: false })
}

/// Every file in git that is text, with its path from the root. Files not added yet are read too.
fn tracked_text(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&workspace.root);
    let output = git.output().context("cannot run git")?;
    anyhow::ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    // A name whose file is deleted, or one that is not text, has nothing to check.
    let read =
        |name: &str| Some((name.to_owned(), fs::read_to_string(Path::new(&workspace.root).join(name)).ok()?));
    Ok(names.filter_map(read).collect())
}

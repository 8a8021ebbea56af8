//! Grafana's own components for the boards' pictures, from npm. The tests bundle them with their page; nothing of them is in the
//! repository or in a release.

use super::nodes;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// The last line of Grafana whose packages fit together (from 13 on one asks for a version that is not there), the React they
/// are made for, the colours of heat maps, and what puts a page together.
const PACKAGES: [&str; 8] = [
    "@grafana/ui@11.6.0",
    "@grafana/data@11.6.0",
    "@grafana/schema@11.6.0",
    "react@18.3.1",
    "react-dom@18.3.1",
    "d3-scale-chromatic@3.1.1",
    "rxjs@7.8.1",
    "esbuild@0.25.0",
];

/// The directory whose `node_modules` has them.
pub(crate) fn path(workspace: &Workspace) -> Option<PathBuf> {
    let directory = workspace.tools().join("grafana");
    directory.join("complete").exists().then_some(directory)
}

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let directory = workspace.tools().join("grafana");
    let complete = directory.join("complete");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    let npm = nodes::npm("to download Grafana's components for tests")?;
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory)?;
    // Without one npm would look for a package.json in the directories above.
    fs::write(directory.join("package.json"), "{\"private\": true}\n")?;
    let mut install = Command::new(npm);
    // Some ask for an older React than others; none needs a script of its own to be used in a page.
    install.args([
        "install",
        "--legacy-peer-deps",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]);
    child::quiet(
        "downloading Grafana's components (@grafana/ui from npm, 600 MB)",
        install.args(PACKAGES).current_dir(&directory),
    )?;
    fs::write(&complete, wanted).with_context(|| format!("cannot write {}", complete.display()))
}

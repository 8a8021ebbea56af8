//! Helm's engine and the schemas of Kubernetes, as Python packages: both run without a cluster and without network.

use super::apt;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// The engine of Helm 4.2, and the schemas of Kubernetes 1.25 to 1.37.
const PACKAGES: [&str; 2] = ["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0"];

/// The Python that has the packages.
pub(crate) fn python_path(workspace: &Workspace) -> Option<PathBuf> {
    let venv = workspace.tools().join("helm");
    venv.join("complete").exists().then(|| venv.join("bin/python"))
}

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let venv = workspace.tools().join("helm");
    let complete = venv.join("complete");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    apt::install(&["python3-venv"], "to run Helm's engine for the tests of the chart")?;
    drop(fs::remove_dir_all(&venv));
    child::quiet(
        "making a Python environment for Helm's engine",
        Command::new("python3").args(["-m", "venv"]).arg(&venv),
    )?;
    let mut pip = Command::new(venv.join("bin/pip"));
    child::stream(pip.args(["install", "--quiet", "--progress-bar=off"]).args(PACKAGES))?;
    fs::write(&complete, wanted).with_context(|| format!("cannot write {}", complete.display()))
}

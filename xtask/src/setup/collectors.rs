//! What judges exports in the live tests: real OTLP receivers, rotel (gRPC and HTTP) and `VictoriaMetrics` (HTTP, with
//! queries); and Prometheus, whose promtool checks the page it scrapes, dashboards and alert rules.

use super::apt;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ROTEL: &str = "rotel==0.0.1a15";
/// Newer than bookworm's, which does not receive OTLP; a static program, so it runs on any Debian. Prometheus comes from
/// the same suite.
const SUITE: &str = "trixie";

/// The agent program inside the Python package.
pub(crate) fn rotel_path(workspace: &Workspace) -> Option<PathBuf> {
    let lib = workspace.tools().join("venv/lib");
    let pythons = fs::read_dir(lib).ok()?.flatten();
    pythons.map(|python| python.path().join("site-packages/rotel/rotel-agent")).find(|agent| agent.exists())
}

pub(crate) fn victoria_metrics_path(workspace: &Workspace) -> Option<PathBuf> {
    let bin = workspace.tools().join("victoria-metrics/usr/bin");
    ["victoria-metrics", "victoria-metrics-prod"].iter().map(|name| bin.join(name)).find(|path| path.exists())
}

/// A program of Prometheus' packages: `prometheus`, `promtool`.
pub(crate) fn prometheus_path(workspace: &Workspace, program: &str) -> Option<PathBuf> {
    Some(workspace.tools().join("prometheus/usr/bin").join(program)).filter(|path| path.exists())
}

pub(super) fn rotel(workspace: &Workspace) -> Result<()> {
    if rotel_path(workspace).is_some() {
        return Ok(());
    }
    // The package exists for Python 3.11 alone, and its program links to that library.
    apt::install(&["python3-venv", "libpython3.11"], "to run rotel, an OTLP receiver for tests")?;
    let python =
        ["/usr/bin/python3.11", "/usr/bin/python3"].iter().map(Path::new).find(|python| python.exists());
    let python = python.unwrap_or_else(|| Path::new("python3"));
    let venv = workspace.tools().join("venv");
    drop(fs::remove_dir_all(&venv));
    child::quiet(
        "making a Python environment for rotel",
        Command::new(python).args(["-m", "venv"]).arg(&venv),
    )?;
    child::stream(Command::new(venv.join("bin/pip")).args(["install", "--progress-bar=off", ROTEL]))?;
    let agent = rotel_path(workspace).context("the Python package of rotel has no rotel-agent")?;
    if child::ask(&agent, &["--version"]).is_none() {
        bail!("{} does not start: run it to see why", agent.display());
    }
    Ok(())
}

pub(super) fn victoria_metrics(workspace: &Workspace) -> Result<()> {
    if victoria_metrics_path(workspace).is_some() {
        return Ok(());
    }
    suite(workspace)?.unpack(&["victoria-metrics"], &workspace.tools().join("victoria-metrics"))?;
    victoria_metrics_path(workspace).context("Debian's package of VictoriaMetrics has no such program")?;
    Ok(())
}

pub(super) fn prometheus(workspace: &Workspace) -> Result<()> {
    const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];
    if PROGRAMS.iter().all(|program| prometheus_path(workspace, program).is_some()) {
        return Ok(());
    }
    suite(workspace)?.unpack(&PROGRAMS, &workspace.tools().join("prometheus"))?;
    for program in PROGRAMS {
        prometheus_path(workspace, program)
            .with_context(|| format!("Debian's package `{program}` has no such program"))?;
    }
    Ok(())
}

fn suite(workspace: &Workspace) -> Result<apt::Suite> {
    apt::Suite::open(SUITE, &workspace.tools().join("apt").join(SUITE))
}

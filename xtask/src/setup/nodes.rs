//! Node.js builds for the live tests: the official ones from npm, and Debian's.

use super::apt;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{env, fs, path::PathBuf, process::Command};

/// The last release of each line when this table was made; 16 stands for the builds that still use `epoll_wait`
/// and an older V8 heap layout.
pub(crate) const VERSIONS: [&str; 6] = ["16.20.2", "18.20.8", "20.20.2", "22.23.3", "24.21.0", "26.10.0"];
const DEFAULT_VERSION: &str = "24.21.0";
/// Debian's Node.js 18 keeps V8 and libuv in shared libraries that have no internal symbols of libuv.
const DEBIAN_SUITE: &str = "bookworm";

/// Every version of [`VERSIONS`] under `target/nodes/<version>/package/bin/node`.
pub(super) fn official(workspace: &Workspace) -> Result<()> {
    VERSIONS.iter().try_for_each(|version| one_official(workspace, version).map(drop))
}

/// One official build; returns the path of its `node`.
pub(crate) fn one_official(workspace: &Workspace, version: &str) -> Result<PathBuf> {
    let dir = workspace.nodes().join(version);
    let node = official_path(workspace, version);
    if node.exists() {
        return Ok(node);
    }
    let npm = npm("to download Node.js builds for tests")?;
    let arch = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("there is no official Node.js build for {other}"),
    };
    let unfinished = workspace.nodes().join(format!("{version}.unfinished"));
    drop(fs::remove_dir_all(&unfinished));
    fs::create_dir_all(&unfinished)?;
    let package = format!("node-linux-{arch}@{version}");
    let output = child::quiet(
        &format!("downloading Node.js {version} ({package} from npm)"),
        Command::new(npm).args(["pack", "--silent", &package]).current_dir(&unfinished),
    )?;
    let archive = output.lines().last().context("`npm pack` did not say which file it wrote")?.trim();
    child::quiet(
        &format!("unpacking Node.js {version}"),
        Command::new("tar").args(["-xzf", archive, "package/bin/node"]).current_dir(&unfinished),
    )?;
    fs::remove_file(unfinished.join(archive))?;
    drop(fs::remove_dir_all(&dir));
    // A name without `.unfinished` is complete, whatever ended an earlier run.
    fs::rename(&unfinished, &dir)?;
    Ok(node)
}

/// Debian's `nodejs` with everything it links to, as a root directory: `chroot <root> /usr/bin/node <script>`. It does
/// not run in place, because it loads parts of itself from `/usr/share/nodejs`.
pub(super) fn debian(workspace: &Workspace) -> Result<()> {
    let root = workspace.debian_node();
    if root.join("usr/bin/node").exists() {
        return Ok(());
    }
    let suite = apt::Suite::open(DEBIAN_SUITE, &workspace.tools().join("apt").join(DEBIAN_SUITE))?;
    let closure = suite.closure(&["nodejs"])?;
    let names: Vec<_> = closure.iter().map(String::as_str).collect();
    let unfinished = root.with_extension("unfinished");
    drop(fs::remove_dir_all(&unfinished));
    suite.unpack(&names, &unfinished)?;
    // `node` is an alternative, which only the package's installation script would link.
    if !unfinished.join("usr/bin/node").exists() {
        std::os::unix::fs::symlink("nodejs", unfinished.join("usr/bin/node"))?;
    }
    // Places for scripts and mounts.
    for dir in ["tmp", "proc", "dev"] {
        fs::create_dir_all(unfinished.join(dir))?;
    }
    drop(fs::remove_dir_all(&root));
    fs::rename(&unfinished, &root)?;
    Ok(())
}

/// A Node.js to run xtask's own scripts with: the one in `PATH`, else the newest of the test builds.
pub(crate) fn any(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(node) = child::which("node") {
        return Ok(node);
    }
    let present =
        VERSIONS.iter().rev().map(|version| official_path(workspace, version)).find(|path| path.exists());
    present.map_or_else(|| one_official(workspace, DEFAULT_VERSION), Ok)
}

fn official_path(workspace: &Workspace, version: &str) -> PathBuf {
    workspace.nodes().join(version).join("package/bin/node")
}

pub(super) fn npm(why: &str) -> Result<PathBuf> {
    if child::which("npm").is_none() {
        apt::install(&["npm"], why)?;
    }
    child::which("npm").context("npm is not in PATH after its installation")
}

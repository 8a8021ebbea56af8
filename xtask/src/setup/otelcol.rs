//! The OpenTelemetry Collector, built from the Go libraries of Debian. No registry of crates, Python or Node packages has it as a
//! program, and a Go module proxy is not needed this way.

use super::apt;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's stable releases do not have the Collector's libraries.
const SUITE: &str = "sid";
const PACKAGES: [&str; 2] = ["golang-opentelemetry-collector-dev", "golang-go"];
/// What is put together of the libraries.
const SOURCE: &str = "tests/collector/main.go";

/// The program that the tests start.
pub(crate) fn path(workspace: &Workspace) -> Option<PathBuf> {
    let directory = directory(workspace);
    directory.join("complete").exists().then(|| directory.join("otelcol"))
}

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let directory = directory(workspace);
    let complete = directory.join("complete");
    let source = workspace.root.join(SOURCE);
    let wanted = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    if fs::read_to_string(&complete).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    drop(fs::remove_dir_all(&directory));
    let build = directory.join("build");
    fs::create_dir_all(&build).with_context(|| format!("cannot make {}", build.display()))?;
    let suite = apt::Suite::open(SUITE, &build.join("apt"))?;
    let closure = suite.closure(&PACKAGES)?;
    // The closure goes down to the C library, as if nothing were installed; Go's own linker needs none of that.
    let libraries: Vec<&str> =
        closure.iter().map(String::as_str).filter(|name| name.starts_with("golang-")).collect();
    let root = build.join("root");
    suite.unpack(&libraries, &root)?;
    let main = build.join("path/src/otelcol");
    fs::create_dir_all(&main)?;
    fs::copy(&source, main.join("main.go")).with_context(|| format!("cannot copy {}", source.display()))?;
    compile(&build, &root, &main, &directory.join("otelcol"))?;
    // 2 GB that nothing needs any more.
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
    fs::write(&complete, wanted).with_context(|| format!("cannot write {}", complete.display()))
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("otelcol")
}

fn compile(build: &Path, root: &Path, main: &Path, program: &Path) -> Result<()> {
    let go_root = go_root(root)?;
    // A link to the place where the package would have been installed.
    let sources = go_root.join("src");
    let release = go_root.file_name().context("Debian's Go has a directory of its own")?;
    drop(fs::remove_file(&sources));
    std::os::unix::fs::symlink(root.join("usr/share").join(release).join("src"), &sources)?;
    let go_path = format!("{}:{}", build.join("path").display(), root.join("usr/share/gocode").display());
    let mut go = Command::new("nice");
    go.args(["-n", "19"]).arg(go_root.join("bin/go"));
    go.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(program).arg(".").current_dir(main);
    // Debian's libraries are those of a GOPATH: whatever they import is beside them, and nothing is downloaded.
    go.env("GO111MODULE", "off").env("GOPATH", go_path).env("GOROOT", &go_root).env("GOTOOLCHAIN", "local");
    go.env("GOCACHE", build.join("cache")).env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    child::quiet("building the OpenTelemetry Collector", &mut go).map(drop)
}

/// The directory `go-<release>` of Debian's compiler.
fn go_root(root: &Path) -> Result<PathBuf> {
    let lib = root.join("usr/lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
    let found = entries.flatten().map(|entry| entry.path()).find(|path| path.join("bin/go").exists());
    found.with_context(|| format!("Debian's package golang-go brought no compiler to {}", lib.display()))
}

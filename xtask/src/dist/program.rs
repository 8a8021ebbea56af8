//! The program that is handed out: static, without symbols; those are in a file of their own.

use super::Release;
use crate::{build::cargo, child, setup, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// With glibc inside. Its resolver needs no library at run time since 2.34: hosts and DNS are built in, and nothing else is
/// asked without an /etc/nsswitch.conf that says so. So the program runs on any Linux, and alone in an image.
pub(super) fn build_static(workspace: &Workspace) -> Result<PathBuf> {
    setup::for_build(workspace)?;
    let target = host_triple()?;
    // Naming the target keeps the flag away from build scripts and macros, which must be loadable.
    let mut command = cargo(workspace);
    command.args([
        "build",
        "--release",
        "--package=nodeprobe",
        "--bin=nodeprobe",
        "--locked",
        "--target",
        &target,
    ]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    child::stream(&mut command)?;
    let built = workspace.target.join(target).join("release/nodeprobe");
    if let Some(needed) = needed(&built)?.first() {
        bail!("{} is not static: it needs {needed}", built.display());
    }
    Ok(built)
}

/// Shared libraries that a program asks for.
pub(super) fn needed(program: &Path) -> Result<Vec<String>> {
    let text =
        child::quiet("reading what the program needs", Command::new("readelf").arg("-d").arg(program))?;
    let needed = text.lines().filter(|line| line.contains("(NEEDED)"));
    Ok(needed.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']').to_owned())).collect())
}

/// The stripped program; the debug file beside it is compressed and named by the link in the program.
pub(super) fn split(built: &Path, release: &Release) -> Result<PathBuf> {
    let program = release.dir.join("nodeprobe");
    let debug = release.dir.join("nodeprobe.debug");
    let objcopy = |args: &[&OsStr]| {
        child::quiet("splitting off debug information", Command::new("objcopy").args(args)).map(drop)
    };
    let (built, program_os, debug_os) = (built.as_os_str(), program.as_os_str(), debug.as_os_str());
    objcopy(&["--only-keep-debug".as_ref(), "--compress-debug-sections".as_ref(), built, debug_os])?;
    objcopy(&["--strip-all".as_ref(), built, program_os])?;
    let mut link = Command::new("objcopy");
    // The name without its directory goes into the program, so that a debugger looks beside it.
    link.args(["--add-gnu-debuglink=nodeprobe.debug", "nodeprobe"]).current_dir(&release.dir);
    child::quiet("linking it to its debug file", &mut link)?;
    super::archive::gzipped(&debug, &release.path(".debug.tar.gz"), release.epoch)?;
    std::fs::remove_file(&debug)?;
    Ok(program)
}

fn host_triple() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = child::ask(rustc, &["-vV"]).context("cannot run `rustc -vV`")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

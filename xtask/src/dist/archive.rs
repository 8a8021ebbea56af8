//! Archives that are the same whenever and by whomever they are made.

use crate::child;
use anyhow::{Context, Result};
use std::{ffi::OsStr, path::Path, process::Command};

/// One file or directory, compressed; it stands at the top of the archive.
pub(super) fn gzipped(what: &Path, to: &Path, epoch: u64) -> Result<()> {
    let (dir, name) = (what.parent(), what.file_name());
    let (dir, name) = dir.zip(name).context("nothing to put into an archive")?;
    // `-n`: without the time at which it was compressed.
    tar(dir, &[name], to, epoch, &["--use-compress-program=gzip -9n"])
}

/// `names` in `dir`, as they are named, uncompressed.
pub(super) fn plain(dir: &Path, names: &[&OsStr], to: &Path, epoch: u64) -> Result<()> {
    tar(dir, names, to, epoch, &[])
}

fn tar(dir: &Path, names: &[&OsStr], to: &Path, epoch: u64, more: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--create", "--sort=name", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner"]);
    // Whatever the umask of the builder is.
    command.args(["--mode=u=rwX,go=rX", &format!("--mtime=@{epoch}")]).args(more);
    command.arg("--file").arg(to).arg("--directory").arg(dir).args(names).env("LC_ALL", "C");
    child::quiet(&format!("writing {}", to.display()), &mut command).map(drop)
}

//! `cargo xtask dist --check`: tries what was made. Parts that need a program which is not there are left out with a word.

mod container;
mod deb;

use super::{Release, files, program};
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, path::Path, process::Command};

/// `systemd-analyze security` calls services of up to 5.0 fairly safe. Ours needs `SYS_ADMIN` and the whole of /proc.
const EXPOSURE: &str = "35";
/// Beginnings of names that a minimal image has no file of.
const UNWANTED: [&str; 12] =
    ["sh", "bash", "dash", "busybox", "toybox", "apt", "dpkg", "apk", "rpm", "dnf", "ld-linux", "ld-musl"];

/// What docs/kubernetes.md says of the image, with room for a little more. Every node pulls it.
const IMAGE_MOST_MB: f64 = 25.0;

pub(super) fn run(workspace: &Workspace, release: &Release) -> Result<()> {
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&release.dir);
    child::quiet("comparing checksums", &mut sums)?;
    ensure!(files(&release.dir)?.len() == 6, "other files than expected in {}", release.dir.display());

    let unpacked = release.dir.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    for ending in [".tar.gz", ".debug.tar.gz"] {
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(release.path(ending)).arg("-C").arg(&unpacked);
        child::quiet(&format!("unpacking *{ending}"), &mut tar)?;
    }
    let tree = unpacked.join(release.stem());
    debug_file(&tree.join("nodeprobe"), &unpacked.join("nodeprobe.debug"))?;
    unit(&tree)?;
    deb::run(release)?;
    contents(&release.dir.join("rootfs"))?;
    size(fs::metadata(release.path(".image.tar"))?.len())?;
    container::run(workspace, release)?;
    fs::remove_dir_all(&unpacked)?;
    eprintln!("xtask: what was made works as far as it could be tried");
    Ok(())
}

/// The program is static, has no symbols, and names the debug file that belongs to it.
fn debug_file(stripped: &Path, debug: &Path) -> Result<()> {
    let version =
        child::ask(stripped, &["--version"]).context("the program in the tarball does not start")?;
    let needed = program::needed(stripped)?;
    if needed.is_empty() {
        eprintln!("xtask: {} is static", version.trim());
    } else {
        eprintln!("xtask: warning: not static, as --binary gave it: it needs {}", needed.join(", "));
    }
    let read = |args: &[&str], file: &Path| {
        child::quiet("reading the program", Command::new("readelf").args(args).arg(file))
    };
    let build_id = |file: &Path| {
        let notes = read(&["--notes"], file)?;
        let line = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
        Ok::<_, anyhow::Error>(
            line.with_context(|| format!("{} has no build id", file.display()))?.to_owned(),
        )
    };
    ensure!(build_id(stripped)? == build_id(debug)?, "program and debug file differ in their build ids");
    let link = read(&["--string-dump=.gnu_debuglink"], stripped)?;
    ensure!(link.contains("nodeprobe.debug"), "the program does not name its debug file");
    ensure!(!read(&["--sections", "--wide"], stripped)?.contains(".symtab"), "the program has symbols left");
    ensure!(read(&["--sections", "--wide"], debug)?.contains(".debug_line"), "the debug file has no lines");
    Ok(())
}

fn unit(tree: &Path) -> Result<()> {
    if child::which("systemd-analyze").is_none() {
        eprintln!("xtask: left out: the unit, there is no systemd-analyze");
        return Ok(());
    }
    // Where it will lie there is nothing now.
    let path = tree.join("nodeprobe.service");
    let text = fs::read_to_string(&path)?;
    fs::write(
        &path,
        text.replace("/usr/local/bin/nodeprobe", &tree.join("nodeprobe").display().to_string()),
    )?;
    let mut verify = Command::new("systemd-analyze");
    child::quiet("verifying the unit", verify.args(["verify", "--recursive-errors=no"]).arg(&path))?;
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--no-pager", "--offline=true", &format!("--threshold={EXPOSURE}")])
        .arg(&path);
    let report = child::quiet("measuring the exposure of the unit", &mut security)?;
    eprintln!("xtask:{}", report.lines().last().unwrap_or_default().trim_start_matches('→'));
    Ok(())
}

fn size(bytes: u64) -> Result<()> {
    let mb = bytes as f64 / 1e6;
    ensure!(
        mb <= IMAGE_MOST_MB,
        "the image has {mb:.1} MB, which is more than {IMAGE_MOST_MB} MB: find out what has grown, or change \
         IMAGE_MOST_MB, docs/kubernetes.md and CHANGELOG.md"
    );
    Ok(())
}

/// One program, and nothing that could start another one.
fn contents(root: &Path) -> Result<()> {
    let mut find = Command::new("find");
    find.arg(root).args(["-type", "f", "-perm", "/111", "-printf", "%P\\n"]);
    let programs = child::quiet("looking for programs in the image", &mut find)?;
    if programs.trim() != "usr/bin/nodeprobe" {
        bail!("programs in the image: {programs}");
    }
    let mut find = Command::new("find");
    let all = child::quiet("reading the image", find.arg(root).args(["-mindepth", "1", "-printf", "%f\\n"]))?;
    let unwanted =
        |name: &&str| UNWANTED.iter().any(|bad| name == bad || name.starts_with(&format!("{bad}-")));
    let found: Vec<_> = all.lines().filter(unwanted).collect();
    ensure!(found.is_empty(), "in the image: {found:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_has_grown_too_much_is_refused() {
        assert!(size(24_999_999).is_ok());
        let error = size(25_100_000).unwrap_err().to_string();
        assert!(error.contains("25.1 MB"), "{error}");
    }
}

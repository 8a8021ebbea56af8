//! `cargo xtask dist`: what is handed to users, under `target/dist`: a static program, its debug file, a tarball, a list
//! of what is in it, an image for containers. The same commit gives the same bytes on the same build machine.

mod archive;
mod check;
mod deb;
mod image;
mod licences;
mod program;
mod sbom;

use crate::{build::cargo, child, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also try what was made: contents, checksums, the unit, and with podman and runc the image with the chart's rights
    #[arg(long)]
    check: bool,
    /// Take this program instead of compiling a static one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Makes everything and returns the path of the image, for tests of it.
pub(crate) fn image(workspace: &Workspace) -> Result<PathBuf> {
    run(workspace, &Args { check: false, binary: None })?;
    Ok(release(workspace)?.path(".image.tar"))
}

/// What all parts are told about this version.
struct Release {
    version: String,
    /// Seconds since 1970 of the last commit, in place of the time of the build.
    epoch: u64,
    commit: String,
    /// `target/dist`.
    dir: PathBuf,
}

impl Release {
    /// `nodeprobe-0.1.0-x86_64`: how every file begins.
    fn stem(&self) -> String {
        format!("nodeprobe-{}-x86_64", self.version)
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}{ending}", self.stem()))
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let release = release(workspace)?;
    drop(fs::remove_dir_all(&release.dir));
    fs::create_dir_all(&release.dir)?;
    let built = match &args.binary {
        Some(binary) => binary.clone(),
        None => program::build_static(workspace)?,
    };
    let program = program::split(&built, &release)?;
    let packages = sbom::packages(workspace)?;
    let bom = release.path(".cdx.json");
    fs::write(&bom, sbom::write(&packages, &release)?)?;
    let notices = licences::of(&packages)?;

    let tree = release.dir.join(release.stem());
    fs::create_dir_all(&tree)?;
    put(&program, &tree.join("nodeprobe"))?;
    put(&bom, &tree.join("nodeprobe.cdx.json"))?;
    fs::write(tree.join("THIRD-PARTY-LICENSES.txt"), &notices)?;
    for name in ["LICENSE-APACHE", "LICENSE-GPL-2.0", "LICENSE-MIT", "CHANGELOG.md"] {
        put(&workspace.root.join(name), &tree.join(name))?;
    }
    put(&workspace.root.join("packaging/nodeprobe.service"), &tree.join("nodeprobe.service"))?;
    for_shells(&tree)?;
    archive::gzipped(&tree, &release.path(".tar.gz"), release.epoch)?;
    image::write(&tree, &release)?;
    deb::write(workspace, &tree, &release)?;
    // What is in it is in the tarball now.
    fs::remove_dir_all(&tree)?;
    fs::remove_file(&program)?;
    checksums(&release)?;
    for file in files(&release.dir)? {
        let bytes = file.metadata()?.len();
        eprintln!("xtask: {} {:.1} MB", file.display(), bytes as f64 / 1e6);
    }
    if args.check { check::run(workspace, &release) } else { Ok(()) }
}

fn release(workspace: &Workspace) -> Result<Release> {
    let mut metadata = cargo(workspace);
    metadata.args(["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let metadata = child::quiet("asking cargo for the version", &mut metadata)?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let agent = packages.iter().find(|package| package["name"] == "nodeprobe");
    let version = agent.and_then(|agent| agent["version"].as_str()).context("cargo knows no nodeprobe")?;
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct %H"]).current_dir(&workspace.root);
    let commit = child::quiet("asking git for the commit", &mut git)?;
    let (epoch, commit) = commit.trim().split_once(' ').context("git names no commit")?;
    Ok(Release {
        version: version.to_owned(),
        epoch: epoch.parse()?,
        commit: commit.to_owned(),
        dir: workspace.target.join("dist"),
    })
}

/// Completions and manual pages, as the program itself writes them.
fn for_shells(tree: &Path) -> Result<()> {
    let program = tree.join("nodeprobe");
    let completions = tree.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, name) in [("bash", "nodeprobe.bash"), ("zsh", "_nodeprobe"), ("fish", "nodeprobe.fish")] {
        let script =
            child::quiet("writing completions", Command::new(&program).args(["completions", shell]))?;
        fs::write(completions.join(name), script)?;
    }
    let mut pages = Command::new(&program);
    pages.args(["debug", "man-pages"]).arg(tree.join("man"));
    child::quiet("writing manual pages", &mut pages).map(drop)
}

fn put(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// What is handed out; directories are for the build of images.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn checksums(release: &Release) -> Result<()> {
    let names: Vec<_> =
        files(&release.dir)?.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
    let sums = child::quiet(
        "adding up checksums",
        Command::new("sha256sum").args(&names).current_dir(&release.dir),
    )?;
    fs::write(release.dir.join("SHA256SUMS"), sums).context("cannot write SHA256SUMS")
}

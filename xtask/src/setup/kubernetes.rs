//! A Kubernetes that runs on one machine without a registry and without a download from anywhere but Debian: the last
//! release of which Debian has the whole source, compiled here, and etcd as it comes.

use super::apt;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Newer suites have the source of kubectl only.
const SOURCE_SUITE: &str = "bookworm";
/// What that source is; its own scripts would ask git.
const VERSION: &str = "v1.20.2";
const PROGRAMS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];
/// Newer Go compilers do not compile this version's dependencies.
const GO: &str = "golang-1.19-go";
const GO_BIN: &str = "/usr/lib/go-1.19/bin";
/// bookworm's etcd is 3.4; this one needs nothing but a C library, of which bookworm's is new enough.
const ETCD_SUITE: &str = "trixie";
/// What a node is made of beside the kubelet, and what makes images for it. The kubelet asks iptables for its version.
const NODE: [&str; 7] =
    ["containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "buildah", "openssl"];

/// Where the programs are, in `bin/`; `None` until all of them are.
pub(crate) fn path(workspace: &Workspace) -> Option<PathBuf> {
    let dir = dir(workspace);
    dir.join("complete").exists().then_some(dir)
}

fn dir(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("kubernetes")
}

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    apt::install(&NODE, "to run a Kubernetes node for the tests")?;
    let dir = dir(workspace);
    let complete = dir.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|version| version == VERSION) {
        return Ok(());
    }
    apt::install(&[GO, "gcc", "libc6-dev", "make", "rsync"], "to build Kubernetes for the tests")?;
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    etcd(workspace, &bin)?;
    // With the compiler's cache in it: gigabytes that nobody needs afterwards.
    let source = dir.join("source");
    let tree = source.join("tree");
    drop(fs::remove_dir_all(&tree));
    let suite = format!("{SOURCE_SUITE}-source");
    apt::Suite::open_sources(SOURCE_SUITE, &workspace.tools().join("apt").join(suite))?
        .unpack_source("kubernetes", &tree)?;
    compile(&tree, &source.join("cache"))?;
    for program in PROGRAMS {
        take(&tree.join("_output/local/bin/linux/amd64").join(program), &bin.join(program))?;
    }
    // What holds the namespaces of a pod. Its image is usually pulled from a registry.
    let pause = tree.join("build/pause/linux/pause.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-Os", "-static", "-DVERSION=test", "-o"]).arg(bin.join("pause")).arg(pause);
    child::quiet("compiling the pause program", &mut gcc)?;
    fs::remove_dir_all(&source)?;
    fs::write(&complete, VERSION).with_context(|| format!("cannot write {}", complete.display()))
}

fn etcd(workspace: &Workspace, bin: &Path) -> Result<()> {
    let unpacked = bin.with_file_name("etcd");
    let suite = apt::Suite::open(ETCD_SUITE, &workspace.tools().join("apt").join(ETCD_SUITE))?;
    suite.unpack(&["etcd-server"], &unpacked)?;
    take(&unpacked.join("usr/bin/etcd"), &bin.join("etcd"))?;
    Ok(fs::remove_dir_all(&unpacked)?)
}

fn compile(tree: &Path, cache: &Path) -> Result<()> {
    // The source lies where Go before modules looks for it.
    let packages = tree.join(".go/src/k8s.io");
    fs::create_dir_all(&packages)?;
    std::os::unix::fs::symlink("../../..", packages.join("kubernetes"))?;
    let commands = PROGRAMS.map(|program| format!("cmd/{program}")).join(" ");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(PathBuf::from(GO_BIN)).chain(env::split_paths(&path)))?;
    let mut make = Command::new("nice");
    make.args(["-n", "19", "make", "GOLDFLAGS=-s -w", &format!("WHAT={commands}")]).current_dir(tree);
    make.env("PATH", path).env("GOCACHE", cache);
    make.envs([
        // Everything it needs is in the archive.
        ("GOPROXY", "off"),
        ("GO111MODULE", "auto"),
        ("GOTOOLCHAIN", "local"),
        ("FORCE_HOST_GO", "y"),
        // As the others are: with cgo nearly every package would be compiled twice.
        ("KUBE_STATIC_OVERRIDES", "kubelet"),
        ("KUBE_GIT_TREE_STATE", "archive"),
        ("KUBE_GIT_COMMIT", "debian"),
        ("KUBE_GIT_VERSION", VERSION),
        ("KUBE_GIT_MAJOR", "1"),
        ("KUBE_GIT_MINOR", "20"),
    ]);
    child::quiet("building Kubernetes (a quarter of an hour on two processors)", &mut make).map(drop)
}

fn take(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

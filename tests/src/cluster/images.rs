//! Images that no registry has to be asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::run;
use crate::{Node, rootfs::Rootfs};

/// What holds the namespaces of a pod.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// Node.js with the workloads of this package in `/app`.
pub const WORKLOADS: &str = "localhost/workloads:1";

pub(super) fn pause(directory: &Path, bin: &Path) -> PathBuf {
    let root = directory.join("pause");
    fs::create_dir_all(&root).expect("a directory can be made");
    fs::copy(bin.join("pause"), root.join("pause")).expect("the pause program can be copied");
    build(directory, PAUSE, &root, "ENTRYPOINT [\"/pause\"]\n")
}

pub(super) fn workloads(directory: &Path, node: &Node) -> PathBuf {
    let root = Rootfs::with(node);
    build(directory, WORKLOADS, root.path(), "USER 1000\nENTRYPOINT [\"/usr/local/bin/node\"]\n")
}

/// An image of a directory, as the archive that containerd imports. buildah keeps all that it needs in the directory.
fn build(directory: &Path, name: &str, root: &Path, configuration: &str) -> PathBuf {
    let storage = directory.join("buildah");
    fs::create_dir_all(&storage).expect("a directory can be made");
    let policy = storage.join("policy.json");
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)
        .expect("a file can be written");
    let recipe = storage.join("Containerfile");
    fs::write(&recipe, format!("FROM scratch\nCOPY . /\n{configuration}")).expect("a file can be written");
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run"));
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command
    };
    run(buildah(&["bud", "--isolation", "chroot", "--tag", name, "--signature-policy"])
        .arg(&policy)
        .arg("--file")
        .arg(&recipe)
        .arg(root));
    let archive = directory.join(name.replace(['/', ':'], "-")).with_extension("tar");
    let to = format!("docker-archive:{}:{name}", archive.display());
    run(buildah(&["push", "--signature-policy"]).arg(&policy).args([name, &to]));
    archive
}

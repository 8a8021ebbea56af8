//! The image for containers: the static program, certificates of public authorities, licences. Written here as the
//! archive that `docker load`, `podman load` and `ctr images import` read, so that building it takes none of them.

use super::{Release, archive, put};
use crate::child;
use anyhow::{Context, Result};
use serde_json::json;
use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// From Debian's package `ca-certificates`; the agent looks for it at this place.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where a runtime mounts something: with a read-only root it cannot make them.
const MOUNT_POINTS: [&str; 5] = ["dev", "etc", "proc", "run", "sys"];

pub(super) fn name(release: &Release) -> String {
    format!("localhost/nodeprobe:{}", release.version)
}

/// `tree` is what the tarball holds. Leaves the root directory for a Dockerfile, too.
pub(super) fn write(tree: &Path, release: &Release) -> Result<()> {
    let root = release.dir.join("rootfs");
    let documents = root.join("usr/share/doc/nodeprobe");
    for dir in MOUNT_POINTS.iter().chain(&["usr/bin", "etc/ssl/certs"]) {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::create_dir_all(&documents)?;
    put(Path::new(CERTIFICATES), &root.join(&CERTIFICATES[1..]))
        .context("the image needs Debian's package ca-certificates on the machine that builds it")?;
    for entry in fs::read_dir(tree)?.flatten() {
        match entry.file_name().to_str() {
            Some("nodeprobe") => put(&entry.path(), &root.join("usr/bin/nodeprobe"))?,
            // Nobody has a shell there.
            Some("nodeprobe.service" | "man" | "completions") => {}
            _ => put(&entry.path(), &documents.join(entry.file_name()))?,
        }
    }
    fs::set_permissions(root.join("usr/bin/nodeprobe"), fs::Permissions::from_mode(0o755))?;

    let parts = release.dir.join("image");
    fs::create_dir_all(&parts)?;
    let layer = parts.join("layer.tar");
    archive::plain(
        &root,
        &["dev", "etc", "proc", "run", "sys", "usr"].map(OsStr::new),
        &layer,
        release.epoch,
    )?;
    let digest = sha256(&layer)?;
    let layer_name = format!("{digest}.tar");
    fs::rename(&layer, parts.join(&layer_name))?;
    let config = serde_json::to_string_pretty(&config(release, &digest)?)?;
    fs::write(parts.join("config"), config)?;
    let config_name = format!("{}.json", sha256(&parts.join("config"))?);
    fs::rename(parts.join("config"), parts.join(&config_name))?;
    let manifest = json!([{"Config": config_name, "RepoTags": [name(release)], "Layers": [layer_name]}]);
    fs::write(parts.join("manifest.json"), manifest.to_string())?;
    let names = [config_name.as_str(), layer_name.as_str(), "manifest.json"].map(OsStr::new);
    archive::plain(&parts, &names, &release.path(".image.tar"), release.epoch)?;
    fs::remove_dir_all(&parts).context("cannot remove the parts of the image")
}

fn config(release: &Release, layer: &str) -> Result<serde_json::Value> {
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{}", release.epoch), "+%Y-%m-%dT%H:%M:%SZ"]);
    let created = child::quiet("writing the time of the commit", &mut date)?;
    let created = created.trim();
    Ok(json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["/usr/bin/nodeprobe"],
            "Cmd": ["run"],
            "Labels": {
                "org.opencontainers.image.title": "nodeprobe",
                "org.opencontainers.image.version": release.version,
                "org.opencontainers.image.revision": release.commit,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": created, "created_by": "cargo xtask dist"}],
    }))
}

fn sha256(file: &Path) -> Result<String> {
    let text = child::quiet("adding up a checksum", Command::new("sha256sum").arg(file))?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

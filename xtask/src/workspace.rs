//! Where things lie in the clone. Everything that xtask makes goes under `target/`, so that deleting that
//! directory is a complete clean-up.

use anyhow::{Context, Result};
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

pub(crate) struct Workspace {
    pub root: PathBuf,
    /// Where cargo builds: `CARGO_TARGET_DIR` when it is set.
    pub target: PathBuf,
}

impl Workspace {
    /// The clone this xtask was compiled in.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask package has no directory above it")?
            .to_owned();
        // A moved clone with an old target/ would otherwise work on the place it came from.
        let root = fs::canonicalize(&root).with_context(|| {
            format!("{} has moved since xtask was built: touch xtask/src/main.rs", root.display())
        })?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Programs that xtask installs for itself: the linker, the collectors.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// Node.js builds from npm, one directory per version.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.root.join("target/nodes")
    }

    /// Debian's split build of Node.js (libnode and libuv are shared libraries), as a root of its own.
    pub(crate) fn debian_node(&self) -> PathBuf {
        self.root.join("target/debian-node")
    }

    /// The binary users run.
    pub(crate) fn nodeprobe(&self) -> PathBuf {
        self.target.join("release/nodeprobe")
    }

    /// Held during set-up: two xtasks at once would run apt and npm into each other.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.root.join("target/xtask.lock");
        fs::create_dir_all(self.root.join("target"))?;
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("xtask: waiting for another `cargo xtask` in this clone to finish its set-up");
            file.lock()?;
        }
        Ok(file)
    }
}

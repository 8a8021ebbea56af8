//! The Node builds the tests run against.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::skip::skip;

/// Major versions that every row of the live table is shown on.
pub const MAJORS: [u32; 5] = [18, 20, 22, 24, 26];

/// One build of Node.
#[derive(Clone, Debug)]
pub struct Node {
    /// For messages: `node 20.20.2`, `node 24.21.0 stripped`.
    pub label: String,
    /// Without the leading `v`.
    pub version: String,
    pub binary: PathBuf,
    /// Where Debian's packages are extracted.
    debian_root: Option<PathBuf>,
}

impl Node {
    /// The newest build of a major version under `NODEPROBE_TEST_NODES`.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn of_major(major: u32) -> Result<Self, String> {
        let root = env::var_os("NODEPROBE_TEST_NODES")
            .ok_or("NODEPROBE_TEST_NODES names no directory with Node builds; `cargo xtask test` sets it")?;
        let entries = fs::read_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let version = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some((version_numbers(&name)?, name)))
            .filter(|(numbers, _)| numbers[0] == major)
            .max()
            .ok_or_else(|| format!("no Node {major} in {}", root.display()))?
            .1;
        let binary = Path::new(&root).join(&version).join("package/bin/node");
        if !binary.is_file() {
            return Err(format!("{} does not exist", binary.display()));
        }
        Ok(Self { label: format!("node {version}"), version, binary, debian_root: None })
    }

    /// The same build after `strip -s`: V8's own functions have no names there from Node 24 on.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn stripped(major: u32) -> Result<Self, String> {
        let original = Self::of_major(major)?;
        let binary = target_tmp().join(format!("node-{}-stripped", original.version));
        if !binary.is_file() {
            let unfinished = binary.with_extension("unfinished");
            let status =
                Command::new("strip").arg("-s").arg("-o").arg(&unfinished).arg(&original.binary).status();
            if !status.is_ok_and(|status| status.success()) {
                return Err("`strip` of binutils is missing or failed".to_owned());
            }
            fs::rename(&unfinished, &binary).map_err(|error| error.to_string())?;
        }
        Ok(Self { label: format!("{} stripped", original.label), binary, ..original })
    }

    /// Debian's build: V8 and Node in `libnode.so`, libuv in `libuv.so`.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn debian() -> Result<Self, String> {
        let root = env::var_os("NODEPROBE_TEST_DEBIAN_NODE")
            .ok_or("NODEPROBE_TEST_DEBIAN_NODE names no directory with Debian's nodejs extracted")?;
        let root =
            PathBuf::from(&root).canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
        let mut node = Self {
            label: String::new(),
            version: String::new(),
            binary: root.join("usr/bin/node"),
            debian_root: Some(root.clone()),
        };
        let output = node.command().arg("--version").output();
        let output = output.map_err(|error| format!("{}: {error}", node.binary.display()))?;
        if !output.status.success() {
            return Err(format!("Debian's node does not run: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().trim_start_matches('v').clone_into(&mut node.version);
        node.label = format!("node {} of Debian", node.version);
        Ok(node)
    }

    /// The same build under another path.
    #[must_use]
    pub fn at(&self, binary: &Path) -> Self {
        Self {
            label: format!("{} as {}", self.label, binary.display()),
            binary: binary.to_path_buf(),
            ..self.clone()
        }
    }

    pub fn major(&self) -> u32 {
        version_numbers(&self.version).map_or(0, |numbers| numbers[0])
    }

    /// A command that runs this build, free of the settings of whoever runs the tests.
    pub fn command(&self) -> Command {
        self.command_through::<&str>(&[])
    }

    /// A command that runs this build by way of `launcher`, which becomes what its last arguments name.
    pub fn command_through<S: AsRef<OsStr>>(&self, launcher: &[S]) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(root) = &self.debian_root {
            words.extend(DEBIAN_LAUNCHER.map(OsString::from));
            words.push(root.into());
        }
        words.extend(launcher.iter().map(|word| word.as_ref().to_owned()));
        words.push(self.binary.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let of_others = |name: &str| name.starts_with("NODE_") || name.starts_with("OTEL_");
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_others)) {
            command.env_remove(name);
        }
        command
    }
}

/// Debian's Node loads some of its own scripts from `/usr/share/nodejs`: the extracted tree is laid over `/usr/share`,
/// for this process alone. Every step is an exec, so the pid stays.
const DEBIAN_LAUNCHER: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t overlay overlay -o lowerdir=\"$0/usr/share:/usr/share\" /usr/share && \
     export LD_LIBRARY_PATH=\"$0/usr/lib/x86_64-linux-gnu\" && exec \"$@\"",
];

fn version_numbers(name: &str) -> Option<[u32; 3]> {
    let numbers: Vec<u32> = name.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Scratch space inside the workspace's target directory.
pub fn target_tmp() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    fs::create_dir_all(&path).expect("target/tmp can be made");
    path.canonicalize().expect("target/tmp exists")
}

/// One live test at a time: the rows compare times, and the machine may have two cores only.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a live test alone with a build of Node, or skips it with the reason.
pub fn live(node: Result<Node, String>, test: impl FnOnce(&Node)) {
    let _alone = alone();
    match node.and_then(|node| crate::agent::binary().map(|_| node)) {
        Ok(node) => test(&node),
        Err(reason) => skip(&reason),
    }
}

/// Makes one `#[test]` per major version of a function `fn name(node: &Node)`: `name::node_18` and so on.
#[macro_export]
macro_rules! on_every_node {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn node_18() { $crate::node::live($crate::Node::of_major(18), super::$name); }
            #[test]
            fn node_20() { $crate::node::live($crate::Node::of_major(20), super::$name); }
            #[test]
            fn node_22() { $crate::node::live($crate::Node::of_major(22), super::$name); }
            #[test]
            fn node_24() { $crate::node::live($crate::Node::of_major(24), super::$name); }
            #[test]
            fn node_26() { $crate::node::live($crate::Node::of_major(26), super::$name); }
        }
    )+};
}

/// Makes one `#[test]` of a function `fn name(node: &Node)`, on one build: `name::once`.
#[macro_export]
macro_rules! on_one_node {
    ($node:expr => $($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::Node;

            #[test]
            fn once() { $crate::node::live($node, super::$name); }
        }
    )+};
}

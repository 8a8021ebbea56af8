//! The Debian package, without installing it: what it holds, and that shells and `man` can read what is for them.

use super::Release;
use crate::child;
use anyhow::{Result, ensure};
use std::{fs, process::Command};

/// Everything in it that is no directory.
const FILES: [&str; 17] = [
    "etc/default/nodeprobe",
    "usr/bin/nodeprobe",
    "usr/lib/systemd/system/nodeprobe.service",
    "usr/share/bash-completion/completions/nodeprobe",
    "usr/share/doc/nodeprobe/THIRD-PARTY-LICENSES.txt",
    "usr/share/doc/nodeprobe/copyright",
    "usr/share/fish/vendor_completions.d/nodeprobe.fish",
    "usr/share/man/man1/nodeprobe-check.1.gz",
    "usr/share/man/man1/nodeprobe-completions.1.gz",
    "usr/share/man/man1/nodeprobe-diagnose.1.gz",
    "usr/share/man/man1/nodeprobe-ps.1.gz",
    "usr/share/man/man1/nodeprobe-record.1.gz",
    "usr/share/man/man1/nodeprobe-run.1.gz",
    "usr/share/man/man1/nodeprobe-top.1.gz",
    "usr/share/man/man1/nodeprobe-trace.1.gz",
    "usr/share/man/man1/nodeprobe.1.gz",
    "usr/share/zsh/vendor-completions/_nodeprobe",
];

pub(super) fn run(release: &Release) -> Result<()> {
    let package = release.path(".deb");
    let root = release.dir.join("unpacked/deb");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--raw-extract").arg(&package).arg(&root);
    child::quiet("unpacking the Debian package", &mut unpack)?;
    let mut find = Command::new("find");
    find.arg(&root).args(["-path", "*/DEBIAN", "-prune", "-o", "-not", "-type", "d", "-printf", "%P\\n"]);
    let found = child::quiet("reading the Debian package", &mut find)?;
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    ensure!(found == FILES, "in the Debian package: {found:#?}");

    let program = child::ask(root.join("usr/bin/nodeprobe"), &["--version"]);
    ensure!(program.is_some(), "the program in the Debian package does not start");
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/nodeprobe.service"))?;
    ensure!(unit.contains("ExecStart=/usr/bin/nodeprobe run"), "the unit starts another program");
    // What starts it at the installation and stops it at the removal.
    for script in ["postinst", "prerm", "postrm"] {
        let text = fs::read_to_string(root.join("DEBIAN").join(script))?;
        ensure!(text.contains("nodeprobe.service"), "{script} does nothing for the service");
    }

    let mut bash = Command::new("bash");
    bash.args(["-c", COMPLETE, "bash"]).arg(root.join("usr/share/bash-completion/completions/nodeprobe"));
    let completed = child::quiet("completing in bash", &mut bash)?;
    ensure!(completed.trim() == "diagnose", "bash completes `nodeprobe dia` to {completed:?}");
    if child::which("groff").is_none() {
        eprintln!("xtask: left out: manual pages, there is no groff");
        return Ok(());
    }
    for page in FILES.iter().filter(|name| name.ends_with(".1.gz")) {
        let mut read = Command::new("sh");
        read.args(["-c", r#"gzip -cd "$1" | groff -ww -man -Tutf8 2>&1 >/dev/null"#, "sh"])
            .arg(root.join(page));
        let warnings = child::quiet("reading a manual page", &mut read)?;
        ensure!(warnings.is_empty(), "groff says of {page}: {warnings}");
    }
    Ok(())
}

/// What the function that bash would call at the tabulator leaves for it.
const COMPLETE: &str = r#"source "$1"; COMP_WORDS=(nodeprobe dia); COMP_CWORD=1
    _nodeprobe nodeprobe dia nodeprobe; printf '%s\n' "${COMPREPLY[@]}""#;

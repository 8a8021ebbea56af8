//! What `agent/build.rs` needs to compile the programs for the kernel: a compiler with a core library for the
//! BPF target, and `bpf-linker` built against the LLVM of that compiler.

use super::apt;
use crate::{child, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM majors that this version of bpf-linker has a feature for.
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;
/// Compiler and core library, in order of preference. Current Debian releases carry a recent Rust for web
/// browsers beside their own older one; only its security updates have the BPF core library.
const PACKAGES: [[&str; 2]; 2] = [["rustc-web", "libstd-rust-web-dev-bpf"], ["rustc", "libstd-rust-dev-bpf"]];

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let llvm = compiler()?;
    linker(workspace, llvm)
}

/// Makes sure that one of the two toolchains is there; returns the major version of its LLVM.
fn compiler() -> Result<u32> {
    if let Some(llvm) = distribution_compiler().or_else(nightly_compiler) {
        return Ok(llvm);
    }
    if child::which("apt-get").is_some() {
        if !PACKAGES.iter().any(|[_, core]| apt::is_known(core)) {
            apt::update()?;
        }
        if let Some(packages) = PACKAGES.iter().find(|[_, core]| apt::is_known(core)) {
            apt::install(packages, "compiler and core library for the BPF target")?;
            if let Some(llvm) = distribution_compiler() {
                return Ok(llvm);
            }
            bail!(
                "/usr/bin/rustc still has no core library for {TARGET} after installing {}",
                packages.join(" ")
            );
        }
    }
    bail!(
        "no Rust compiler with a core library for {TARGET}: on Debian with security updates enabled install `{}`, \
         elsewhere `rustup toolchain install nightly --component rust-src`",
        PACKAGES[0].join(" ")
    )
}

/// The distribution's compiler, when its sysroot has a core library for the BPF target.
fn distribution_compiler() -> Option<u32> {
    // The variable is that of agent/build.rs, for a compiler in another place.
    let rustc = env::var_os("NODEPROBE_BPF_RUSTC").unwrap_or_else(|| "/usr/bin/rustc".into());
    let sysroot = child::ask(&rustc, &["--print", "sysroot"])?;
    let lib = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    let mut files = fs::read_dir(lib).ok()?.flatten();
    files.find(|file| file.file_name().to_string_lossy().starts_with("libcore-"))?;
    llvm_major(&child::ask(&rustc, &["-vV"])?)
}

/// A nightly toolchain of rustup with the source of core, which cargo compiles for the target.
fn nightly_compiler() -> Option<u32> {
    let sysroot = child::ask("rustup", &["run", "nightly", "rustc", "--print", "sysroot"])?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if !core.is_dir() {
        return None;
    }
    llvm_major(&child::ask("rustup", &["run", "nightly", "rustc", "-vV"])?)
}

fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.parse().ok()
}

/// `bpf-linker` reads the bitcode that the compiler writes, so it is built against the same LLVM.
fn linker(workspace: &Workspace, llvm: u32) -> Result<()> {
    let own = workspace.tools().join("bin/bpf-linker");
    if own.exists() || child::which("bpf-linker").is_some() {
        return Ok(());
    }
    if !LINKER_LLVM.contains(&llvm) {
        bail!(
            "the compiler for the BPF target is built on LLVM {llvm}, and bpf-linker {LINKER_VERSION} knows \
             {} to {}: install a matching bpf-linker in PATH",
            LINKER_LLVM.start(),
            LINKER_LLVM.end()
        );
    }
    let [dev, polly] = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    apt::install(&["gcc", "g++", "zlib1g-dev", "libzstd-dev", &dev, &polly], "to build bpf-linker")?;
    let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    eprintln!("xtask: building bpf-linker {LINKER_VERSION} into {} (about a minute)", own.display());
    child::stream(
        Command::new(cargo)
            .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--no-default-features"])
            .arg(format!("--features=llvm-{llvm}"))
            .arg("--root")
            .arg(workspace.tools())
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
            // The clone's own settings are not the linker's.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .current_dir("/"),
    )
    .context("bpf-linker could not be built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_major_is_read_from_the_compilers_version() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"), Some(22));
    }

    #[test]
    fn a_compiler_without_llvm_has_no_llvm_major() {
        assert_eq!(llvm_major("gccrs 15\n"), None);
    }
}

//! Compiles the programs for the kernel and leaves the object where `bpf/load.rs` embeds it.
//!
//! The one place that knows the two toolchains (in this order): the distribution's rustc with its precompiled
//! `core` for BPF, or rustup's nightly with `rust-src`. `cargo xtask setup` installs what is missing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "nodeprobe-ebpf";
const REMEDY: &str = "run `cargo xtask setup`, which installs what is missing";

fn main() -> Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let agent_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let root = agent_dir.parent().context("the agent's directory lies in the workspace")?;
    let ebpf_dir = root.join("ebpf");
    println!("cargo:rerun-if-changed={}", ebpf_dir.display());
    println!("cargo:rerun-if-env-changed=NODEPROBE_BPF_RUSTC");
    println!("cargo:rerun-if-env-changed=PATH");

    let path = search_path(root)?;
    if !env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()) {
        bail!("`bpf-linker` is neither in target/tools/bin nor in PATH: {REMEDY}");
    }
    let rustc =
        env::var_os("NODEPROBE_BPF_RUSTC").map_or_else(|| PathBuf::from("/usr/bin/rustc"), PathBuf::from);
    if has_bpf_core(&rustc) {
        let object = build_with_distribution(&rustc, root, &out_dir, &path)?;
        fs::copy(&object, out_dir.join(OBJECT))
            .with_context(|| format!("cannot copy {}", object.display()))?;
        return Ok(());
    }
    // SAFETY: a build script is single-threaded here, and the child processes need the path to bpf-linker.
    unsafe { env::set_var("PATH", &path) };
    let package =
        aya_build::Package { name: "nodeprobe-ebpf", root_dir: utf8(&ebpf_dir)?, ..Default::default() };
    aya_build::build_ebpf([package], aya_build::Toolchain::default()).with_context(|| {
        format!("the programs for the kernel were not compiled: neither {} has `core` for {TARGET} nor does rustup's nightly with rust-src work; {REMEDY}", rustc.display())
    })
}

/// `target/tools/bin`, where set-up puts bpf-linker, in front of PATH.
fn search_path(root: &Path) -> Result<std::ffi::OsString> {
    let mut dirs = vec![root.join("target/tools/bin")];
    dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    env::join_paths(dirs).context("PATH cannot be extended")
}

fn has_bpf_core(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

fn build_with_distribution(
    rustc: &Path,
    root: &Path,
    out_dir: &Path,
    path: &std::ffi::OsStr,
) -> Result<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("cargo sets CARGO_CFG_TARGET_ARCH")?;
    let target_dir = out_dir.join("bpf");
    let cargo = env::var_os("CARGO").context("cargo sets CARGO")?;
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "nodeprobe-ebpf", "--bin", "nodeprobe-ebpf"])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("PATH", path)
        .env("RUSTC", rustc)
        // The precompiled core is marked unstable and we need one nightly feature: an atomic addition.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Cdebuginfo=2", "-Clink-arg=--btf", &format!("--cfg=bpf_target_arch=\"{arch}\"")]
                .join("\u{1f}"),
        );
    // What cargo says about the outer build must not leak into the inner one.
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_MAKEFLAGS",
        "RUSTFLAGS",
        "TARGET",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(name);
    }
    let output = command.output().context("cargo could not be started for the BPF target")?;
    if !output.status.success() {
        bail!(
            "the programs for the kernel did not compile with {}:\n{}",
            rustc.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(target_dir.join(TARGET).join("release").join(OBJECT))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not valid UTF-8", path.display()))
}

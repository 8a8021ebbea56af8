//! `cargo xtask setup`: installs what is missing, says what it installs, and does nothing quickly otherwise.
//! The other commands call the part they need.

pub(crate) mod apt;
mod bpf;
pub(crate) mod collectors;
mod containers;
pub(crate) mod deb;
pub(crate) mod grafana;
pub(crate) mod helm;
pub(crate) mod kubernetes;
pub(crate) mod nodes;
pub(crate) mod otelcol;

use crate::{child, workspace::Workspace};
use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also what only the live tests use: Node.js 16 to 26, Debian's Node.js, two OTLP receivers, Helm, Prometheus,
    /// Chromium
    #[arg(long)]
    tests: bool,
    /// Also what only the benchmarks use: bpftrace
    #[arg(long)]
    bench: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    for_build(workspace)?;
    if args.tests {
        let missing = for_tests(workspace)?;
        anyhow::ensure!(missing.is_empty(), "not everything could be installed:\n{}", missing.join("\n"));
    }
    if args.bench {
        for_bench()?;
    }
    eprintln!("xtask: everything is in place");
    Ok(())
}

/// The toolchain for the programs in the kernel.
pub(crate) fn for_build(workspace: &Workspace) -> Result<()> {
    let _lock = workspace.lock()?;
    // The TLS library is partly C.
    if child::which("cc").is_none() {
        apt::install(&["gcc", "libc6-dev"], "C compiler and linker")?;
    }
    bpf::ensure(workspace)
}

/// What only live tests use. A part that cannot be had costs the tests that need it, and those say so; it does not
/// stop the others. Returns a sentence for each such part.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<Vec<String>> {
    let _lock = workspace.lock()?;
    Ok(missing_of([
        ("programs the tests call", test_programs()),
        ("Node.js builds from npm", nodes::official(workspace)),
        ("Debian's Node.js", nodes::debian(workspace)),
        ("rotel", collectors::rotel(workspace)),
        ("VictoriaMetrics", collectors::victoria_metrics(workspace)),
        ("Helm", helm::ensure(workspace)),
        ("Prometheus", collectors::prometheus(workspace)),
        ("Chromium", browser()),
    ]))
}

/// What only `cargo xtask test --cluster` uses, on top of [`for_tests`].
pub(crate) fn for_cluster(workspace: &Workspace) -> Result<Vec<String>> {
    let _lock = workspace.lock()?;
    Ok(missing_of([
        ("Grafana's components", grafana::ensure(workspace)),
        ("podman, runc and buildah", containers::ensure()),
        ("OpenTelemetry Collector", otelcol::ensure(workspace)),
        ("Kubernetes", kubernetes::ensure(workspace)),
    ]))
}

/// A sentence for each part that could not be installed.
fn missing_of<const N: usize>(parts: [(&str, Result<()>); N]) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, installed) in parts {
        if let Err(error) = installed {
            eprintln!("xtask: {name} could not be installed: {error:#}");
            missing.push(format!("{name}: {error:#}"));
        }
    }
    missing
}

/// openssl makes the certificates of the TLS tests; nm, objdump and strip are the oracles of the binary analysis.
fn test_programs() -> Result<()> {
    for (program, package) in [("openssl", "openssl"), ("objdump", "binutils")] {
        if child::which(program).is_none() {
            apt::install(&[package], "for the tests")?;
        }
    }
    Ok(())
}

/// The browser in which the page of `diagnose --html` is opened.
fn browser() -> Result<()> {
    if child::which("chromium").is_none() {
        apt::install(&["chromium"], "a browser for the tests of `diagnose --html`")?;
    }
    Ok(())
}

/// What only benchmarks use: the naive variant is a bpftrace script.
pub(crate) fn for_bench() -> Result<()> {
    if child::which("bpftrace").is_none() {
        apt::install(&["bpftrace"], "for the naive variant that the benchmark compares with")?;
    }
    Ok(())
}

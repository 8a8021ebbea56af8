//! Everything a developer types: `cargo xtask <command>`.

mod bench;
mod build;
mod child;
mod dashboards;
mod demo;
mod dist;
mod generate;
mod lint;
mod rules;
mod run;
mod setup;
mod test;
mod top;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode};
use workspace::Workspace;

/// Set-up, build, tests and benchmarks of nodeprobe. Each command first installs what it lacks and says so.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Install the toolchain for the programs in the kernel, and nothing if it is there
    Setup(setup::Args),
    /// Build target/release/nodeprobe
    Build,
    /// Build, then `nodeprobe top` as root
    #[command(disable_help_flag = true)]
    Top(PassedOn),
    /// Build, then `nodeprobe run` as root
    #[command(disable_help_flag = true)]
    Run(PassedOn),
    /// Build, start a small sick Node.js service and open `nodeprobe top` beside it
    #[command(disable_help_flag = true)]
    Demo(PassedOn),
    /// Unit tests, then live tests against real Node.js processes as root
    Test(test::Args),
    /// Formatting, clippy, the rules of the architecture, generated documents
    Lint,
    /// Measure what observation costs; prints tables for docs/overhead.md
    Bench(bench::Args),
    /// Make what is handed out: static program, tarball, image for containers, list of contents
    Dist(dist::Args),
    /// Write what is made from tables in the code: docs/metrics.md, dashboards, alert rules, the values in the chart's README
    Gen(generate::Args),
}

#[derive(clap::Args)]
struct PassedOn {
    /// Passed on to nodeprobe
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    match command() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<ExitCode> {
    let cli = Cli::parse();
    let workspace = Workspace::find()?;
    match cli.command {
        Subcommands::Setup(args) => setup::run(&workspace, &args)?,
        Subcommands::Build => build::run(&workspace)?,
        Subcommands::Top(passed) => top::run(&workspace, &passed.args)?,
        Subcommands::Run(passed) => run::run(&workspace, &passed.args)?,
        Subcommands::Demo(passed) => demo::run(&workspace, &passed.args)?,
        Subcommands::Test(args) => return test::run(&workspace, &args),
        Subcommands::Lint => lint::run(&workspace)?,
        Subcommands::Bench(args) => bench::run(&workspace, &args)?,
        Subcommands::Dist(args) => dist::run(&workspace, &args)?,
        Subcommands::Gen(args) => generate::run(&workspace, &args)?,
    }
    Ok(ExitCode::SUCCESS)
}

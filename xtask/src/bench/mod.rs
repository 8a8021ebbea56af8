//! `cargo xtask bench`: what observation costs. Every figure is compared inside one run, variants taking turns, with
//! its spread; figures of different machines or days are not comparable.

mod agent;
mod analysis;
mod http;
mod loop_turn;
mod processor;
mod running;
mod sink;
mod table;
mod variant;

use crate::{build, child, setup, workspace::Workspace};
use anyhow::{Result, bail};
use std::{env, fs};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benchmarks to run [default: all]
    #[arg(value_enum)]
    which: Vec<Which>,
    /// How often each variant has its turn
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds that one turn of a variant measures
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Of `http`, `service` and `shop`: only these variants, so that there can be more rounds [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    variants: Vec<variant::Variant>,
    /// The Node.js that is watched, one of target/nodes
    #[arg(long, default_value = "24.21.0")]
    node: String,
    /// Set by xtask itself when it starts again as root
    #[arg(long, hide = true)]
    installed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Time per turn of an empty event loop
    Loop,
    /// Requests per second of a small HTTP server
    Http,
    /// Requests per second of a service that works on each request
    Service,
    /// Requests per second of one that works about as long as services do that render pages
    Shop,
    /// Time to analyse a Node.js binary
    Analysis,
    /// Processor time and memory of the agent itself
    Agent,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if !args.installed {
        build::run(workspace)?;
        setup::for_bench()?;
        for version in setup::nodes::VERSIONS {
            setup::nodes::one_official(workspace, version)?;
        }
        if !child::is_root() {
            // Once as the user, so that nothing in target/ belongs to root; from here on as root.
            let status = child::status(
                child::as_root(env::current_exe()?)?.args(env::args_os().skip(1)).arg("--installed"),
            )?;
            return if status.success() { Ok(()) } else { bail!("the benchmarks ended with {status}") };
        }
    }
    let bench = Bench { workspace, node: workspace.nodes().join(&args.node).join("package/bin/node"), args };
    anyhow::ensure!(bench.node.exists(), "there is no {}", bench.node.display());
    println!("{}\n", machine());
    let all = [Which::Loop, Which::Http, Which::Service, Which::Shop, Which::Analysis, Which::Agent];
    let which = if args.which.is_empty() { &all[..] } else { &args.which };
    for which in which {
        let table = match which {
            Which::Loop => loop_turn::measure(&bench)?,
            Which::Http => http::measure(&bench, http::Server::Hello)?,
            Which::Service => http::measure(&bench, http::Server::Catalogue)?,
            Which::Shop => http::measure(&bench, http::Server::Shop)?,
            Which::Analysis => analysis::measure(&bench)?,
            Which::Agent => agent::measure(&bench)?,
        };
        println!("{table}");
    }
    Ok(())
}

struct Bench<'a> {
    workspace: &'a Workspace,
    node: std::path::PathBuf,
    args: &'a Args,
}

impl Bench<'_> {
    fn script(&self, name: &str) -> std::path::PathBuf {
        self.workspace.root.join("xtask/bench").join(name)
    }
}

/// One line that says what the figures were measured on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown processor");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    format!(
        "{model}, {cores} cores, Linux {}, load {load} at the start",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

//! Requests per second of an HTTP server under full load, and what each costs it in processor time.
//!
//! The speed of a shared machine wanders by more than any agent costs, from second to second and from minute to minute. So each
//! visit of a variant is compared with what the same server did unwatched right before and right after it. The visits of a variant
//! make an estimate with its uncertainty, and one variant is no watcher at all: what that seems to cost is noise.

use super::{
    Bench,
    processor::main_thread_us,
    running::Running,
    table::{Estimate, Table, quantile},
    variant::{self, Variant},
};
use anyhow::{Context, Result};
use std::{
    path::Path,
    process::Command,
    thread::{self, available_parallelism},
    time::Duration,
};

const CONNECTIONS: &str = "16";
const WINDOW_S: f64 = 0.1;
/// What comes and goes by its cost does so once in this time (`governor::duty` of the agent). A shorter visit would take its begin for all.
const PERIOD_S: u64 = 10;
/// Of the unwatched server, before and after each visit.
const BARE_S: u64 = 4;
/// The kernel takes tracepoints out for a second and more after the watcher has ended.
const LEAVE: Duration = Duration::from_millis(1500);

/// What the server did in a tenth of a second.
#[derive(Clone, Copy)]
struct Window {
    requests_per_s: f64,
    p99_ms: f64,
    /// Of the server, microseconds; also when nothing was answered.
    cpu_us: f64,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// It answers `hello`: nothing but system calls and HTTP, the worst case.
    Hello,
    /// It finds, sorts and renders a page of a catalogue.
    Catalogue,
    /// It parses a session, works out prices and renders a page of a hundred lines, in an async context.
    Shop,
}

impl Server {
    fn script(self) -> &'static str {
        match self {
            Self::Hello => "server.js",
            Self::Catalogue => "service.js",
            Self::Shop => "shop.js",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Hello => "Requests per second of a keep-alive server",
            Self::Catalogue => "Requests per second of a service that renders a page of a catalogue",
            Self::Shop => "Requests per second of a shop whose pages have a hundred lines",
        }
    }

    fn variants(self) -> &'static [Variant] {
        match self {
            Self::Hello => variant::WITH_PARTS,
            Self::Catalogue => variant::OUTSIDE,
            // Few, so that there can be many rounds.
            Self::Shop => &[Variant::Unwatched, Variant::Nodeprobe, Variant::WithoutHotProbes],
        }
    }
}

pub(super) fn measure(bench: &Bench<'_>, asked: Server) -> Result<Table> {
    let wanted = &bench.args.variants;
    let variants: Vec<Variant> = asked
        .variants()
        .iter()
        .copied()
        .filter(|variant| wanted.is_empty() || wanted.contains(variant))
        .collect();
    anyhow::ensure!(!variants.is_empty(), "none of --variants belongs to {}", asked.script());
    let processors = available_parallelism()?.get();
    let mut server =
        Running::start(&mut on_processor(processors - 1, &bench.node, &bench.script(asked.script())))?;
    let port = server.wait_for_word("ready", Duration::from_secs(30))?;
    let mut load = on_processor(0, &bench.node, &bench.script("load.js"));
    let mut load = Running::start(load.args([&port, CONNECTIONS]))?;
    // Compiled code first.
    windows(&mut load, server.pid(), 3)?;

    let mut visits: Vec<Vec<Visit>> = variants.iter().map(|_| Vec::new()).collect();
    let mut before = unwatched(bench, &mut server, &mut load)?;
    for round in 1..=bench.args.rounds {
        for (index, variant) in variant::in_turn(&variants, round) {
            eprintln!(
                "xtask: {}, round {round} of {}: {}",
                asked.script(),
                bench.args.rounds,
                variant.title()
            );
            let watcher = variant.watch(bench, &mut server)?;
            // What attaching has emptied fills again: caches, branch predictors.
            thread::sleep(Duration::from_millis(200));
            let own = windows(&mut load, server.pid(), bench.args.seconds.max(PERIOD_S))?;
            drop(watcher);
            let after = unwatched(bench, &mut server, &mut load)?;
            visits[index].push(Visit { own, bare: [before, after.clone()].concat() });
            before = after;
        }
    }
    let title = format!(
        "**{}**, Node.js {}, {CONNECTIONS} connections, {} rounds",
        asked.title(),
        bench.args.node,
        bench.args.rounds
    );
    let head = ["variant", "requests/s", "loss %", "p99 ms", "server CPU µs per request", "added %"];
    let mut table = Table::new(title, &head);
    for (variant, visits) in variants.iter().zip(&visits) {
        let estimate = |of: &dyn Fn(&Visit) -> f64, decimals| {
            Estimate::of(visits.iter().map(of)).map_or_else(String::new, |estimate| estimate.show(decimals))
        };
        table.row([
            variant.title().to_owned(),
            estimate(&|visit| rate(&visit.own), 0),
            estimate(&|visit| (1.0 - rate(&visit.own) / rate(&visit.bare)) * 100.0, 1),
            estimate(&|visit| median_p99(&visit.own), 2),
            estimate(&|visit| cpu_us(&visit.own), 2),
            estimate(&|visit| (cpu_us(&visit.own) / cpu_us(&visit.bare) - 1.0) * 100.0, 1),
        ]);
    }
    Ok(table)
}

/// A variant, once.
struct Visit {
    own: Vec<Window>,
    /// Right before and right after it.
    bare: Vec<Window>,
}

fn unwatched(bench: &Bench<'_>, server: &mut Running, load: &mut Running) -> Result<Vec<Window>> {
    Variant::Unwatched.watch(bench, server)?;
    thread::sleep(LEAVE);
    windows(load, server.pid(), BARE_S)
}

/// Of all windows, whoever disturbed them: what is in place for some of the time only is in it by its share.
fn rate(windows: &[Window]) -> f64 {
    windows.iter().map(|window| window.requests_per_s).sum::<f64>() / windows.len() as f64
}

/// Microseconds of the server for a request.
fn cpu_us(windows: &[Window]) -> f64 {
    let cpu_us: f64 = windows.iter().map(|window| window.cpu_us).sum();
    let requests: f64 = windows.iter().map(|window| window.requests_per_s * WINDOW_S).sum();
    cpu_us / requests
}

fn median_p99(windows: &[Window]) -> f64 {
    quantile(windows.iter().map(|window| window.p99_ms), 0.5).unwrap_or(f64::NAN)
}

/// Server and load each keep to a processor: moving from one to the other costs more than what is measured.
fn on_processor(processor: usize, node: &Path, script: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(processor.to_string()).arg(node).arg(script);
    command
}

/// The next seconds, window by window.
fn windows(load: &mut Running, server: u32, seconds: u64) -> Result<Vec<Window>> {
    let count = (seconds as f64 / WINDOW_S).round() as usize;
    (0..count).map(|_| window(load, server)).collect()
}

fn window(load: &mut Running, server: u32) -> Result<Window> {
    let before_us = main_thread_us(server)?;
    load.send(&WINDOW_S.to_string())?;
    let result = load.wait_for_word("rate", Duration::from_mins(1))?;
    let used_us = main_thread_us(server)? - before_us;
    let (rate, p99_ms) = result.split_once(' ').with_context(|| format!("load.js printed {result:?}"))?;
    Ok(Window { requests_per_s: rate.parse()?, p99_ms: p99_ms.parse()?, cpu_us: used_us })
}

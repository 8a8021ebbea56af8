//! Requests per second of a small keep-alive HTTP server under full load, and what each costs it in processor time.
//!
//! A neighbour on the same hardware slows a server by more than any agent does, for seconds, but never makes it faster. So
//! rates are taken in windows of a tenth of a second over all rounds, and a variant counts by its best windows: what the
//! server does when nobody disturbs it. How far that depends on one lucky round is told by leaving out each in turn.
//! The best windows leave out what comes and goes by its cost, so the last column has all of them: round by round, median (least to most).

use super::{
    Bench,
    processor::main_thread_us,
    running::Running,
    table::{Spread, Table, quantile},
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
/// What comes and goes by its cost does so once in this time (`governor::duty` of the agent). A shorter round would take its begin for all.
const PERIOD_S: u64 = 10;
/// A window is undisturbed if it is among the best of its variant, this share of all.
const UNDISTURBED: f64 = 0.05;

/// What the server did in a tenth of a second.
#[derive(Clone, Copy)]
struct Window {
    requests_per_s: f64,
    p99_ms: f64,
    cpu_us_per_request: f64,
    /// Of the server, microseconds; also when nothing was answered.
    cpu_us: f64,
}

/// The windows of one variant, round by round.
type Rounds = Vec<Vec<Window>>;

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
            // The control tells how well the machine can judge.
            Self::Catalogue | Self::Shop => &[
                Variant::Unwatched,
                Variant::Nodeprobe,
                Variant::WithoutStacks,
                Variant::WithoutHotProbes,
                Variant::OneTracepoint,
                Variant::EmptyPrograms,
            ],
        }
    }
}

pub(super) fn measure(bench: &Bench<'_>, asked: Server) -> Result<Table> {
    let processors = available_parallelism()?.get();
    let mut server =
        Running::start(&mut on_processor(processors - 1, &bench.node, &bench.script(asked.script())))?;
    let port = server.wait_for_word("ready", Duration::from_secs(30))?;
    let mut load = on_processor(0, &bench.node, &bench.script("load.js"));
    let mut load = Running::start(load.args([&port, CONNECTIONS]))?;
    // Compiled code first.
    windows(&mut load, server.pid(), 3)?;

    let variants = asked.variants();
    let mut measured: Vec<Rounds> = vec![Vec::new(); variants.len()];
    for round in 1..=bench.args.rounds {
        for (index, variant) in variant::in_turn(variants, round) {
            eprintln!("xtask: http, round {round} of {}: {}", bench.args.rounds, variant.title());
            let watcher = variant.watch(bench, &mut server)?;
            // What attaching has emptied fills again: caches, branch predictors.
            thread::sleep(Duration::from_millis(200));
            measured[index].push(windows(&mut load, server.pid(), bench.args.seconds.max(PERIOD_S))?);
            drop(watcher);
        }
    }
    let mut table = Table::new(
        format!(
            "**{}**, Node.js {}, {CONNECTIONS} connections, {} rounds: undisturbed \
             (least to most with any one round left out)",
            asked.title(),
            bench.args.node,
            bench.args.rounds
        ),
        &[
            "variant",
            "requests/s",
            "loss %",
            "p99 ms",
            "server CPU µs per request",
            "added %",
            "added %, all windows",
        ],
    );
    let bare = &measured[0];
    for (variant, rounds) in variants.iter().zip(&measured) {
        table.row([
            variant.title().to_owned(),
            show(leaving_one_out(rounds, bare, |own, _| best_rate(own)), 0),
            show(
                leaving_one_out(rounds, bare, |own, bare| (1.0 - best_rate(own) / best_rate(bare)) * 100.0),
                1,
            ),
            show(leaving_one_out(rounds, bare, |own, _| median_p99(own)), 2),
            show(leaving_one_out(rounds, bare, |own, _| best_cpu(own)), 2),
            show(
                leaving_one_out(rounds, bare, |own, bare| (best_cpu(own) / best_cpu(bare) - 1.0) * 100.0),
                1,
            ),
            show(
                Spread::of(
                    rounds.iter().zip(bare).map(|(own, bare)| (mean_cpu(own) / mean_cpu(bare) - 1.0) * 100.0),
                ),
                1,
            ),
        ]);
    }
    Ok(table)
}

fn show(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or_else(String::new, |spread| spread.show(decimals))
}

/// What `select` says of all rounds of a variant and of the bare server, and between which values it moves when any
/// round of both is left out.
fn leaving_one_out(
    own: &Rounds,
    bare: &Rounds,
    select: impl Fn(&[&Vec<Window>], &[&Vec<Window>]) -> f64,
) -> Option<Spread> {
    fn all_but(rounds: &Rounds, left_out: Option<usize>) -> Vec<&Vec<Window>> {
        let kept = rounds.iter().enumerate().filter(|(round, _)| Some(*round) != left_out);
        kept.map(|(_, windows)| windows).collect()
    }
    let value = |left_out| select(&all_but(own, left_out), &all_but(bare, left_out));
    let spread = Spread::of((0..own.len()).map(Some).chain([None]).map(value))?;
    Some(Spread { median: value(None), ..spread })
}

fn best_rate(rounds: &[&Vec<Window>]) -> f64 {
    let rates = rounds.iter().flat_map(|windows| windows.iter().map(|window| window.requests_per_s));
    quantile(rates, 1.0 - UNDISTURBED).unwrap_or(f64::NAN)
}

fn best_cpu(rounds: &[&Vec<Window>]) -> f64 {
    let costs = rounds.iter().flat_map(|windows| windows.iter().map(|window| window.cpu_us_per_request));
    quantile(costs, UNDISTURBED).unwrap_or(f64::NAN)
}

/// Of all windows of a round, whoever disturbed them: what is in place for some of the time only is in it by its share.
fn mean_cpu(windows: &[Window]) -> f64 {
    let cpu_us: f64 = windows.iter().map(|window| window.cpu_us).sum();
    let requests: f64 = windows.iter().map(|window| window.requests_per_s * WINDOW_S).sum();
    cpu_us / requests
}

/// Latency is what users have, neighbours or not: here no window is chosen.
fn median_p99(rounds: &[&Vec<Window>]) -> f64 {
    let latencies = rounds.iter().flat_map(|windows| windows.iter().map(|window| window.p99_ms));
    quantile(latencies, 0.5).unwrap_or(f64::NAN)
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
    let requests_per_s: f64 = rate.parse()?;
    Ok(Window {
        requests_per_s,
        p99_ms: p99_ms.parse()?,
        cpu_us_per_request: used_us / (requests_per_s * WINDOW_S),
        cpu_us: used_us,
    })
}

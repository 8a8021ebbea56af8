//! Requests per second of a small keep-alive HTTP server under full load, and what each costs it in processor time: the
//! second says more where others use the machine as well.

use super::{
    Bench,
    processor::cpu_s,
    running::Running,
    table::{Spread, Table, pairwise},
    variant,
};
use anyhow::{Context, Result};
use std::{process::Command, time::Duration};

const CONNECTIONS: &str = "16";

pub(super) fn measure(bench: &Bench<'_>) -> Result<Table> {
    let mut server = Running::start(Command::new(&bench.node).arg(bench.script("server.js")))?;
    let port = server.wait_for_word("ready", Duration::from_secs(30))?;
    let mut load =
        Running::start(Command::new(&bench.node).arg(bench.script("load.js")).args([&port, CONNECTIONS]))?;
    // Compiled code first.
    slice(&mut load, 3)?;

    let mut rates = variant::ALL.map(|_| Vec::new());
    let mut cpu_us = variant::ALL.map(|_| Vec::new());
    let mut latencies_ms = variant::ALL.map(|_| Vec::new());
    for round in 1..=bench.args.rounds {
        for (index, variant) in variant::in_turn(round) {
            eprintln!("xtask: http, round {round} of {}: {}", bench.args.rounds, variant.title());
            let watcher = variant.watch(bench, &mut server)?;
            let before_s = cpu_s(server.pid())?;
            let (rate, p99_ms) = slice(&mut load, bench.args.seconds)?;
            let used_s = cpu_s(server.pid())? - before_s;
            drop(watcher);
            cpu_us[index].push(used_s * 1e6 / (rate * bench.args.seconds as f64));
            rates[index].push(rate);
            latencies_ms[index].push(p99_ms);
        }
    }
    let mut table = Table::new(
        format!(
            "**Requests per second of a keep-alive server**, Node.js {}, {CONNECTIONS} connections, {} rounds: median (min to max)",
            bench.args.node, bench.args.rounds
        ),
        &["variant", "requests/s", "loss %", "p99 ms", "server CPU µs per request", "added %"],
    );
    for (index, variant) in variant::ALL.iter().enumerate() {
        let show = |spread: Option<Spread>, decimals| {
            spread.map_or_else(String::new, |spread| spread.show(decimals))
        };
        table.row([
            variant.title().to_owned(),
            show(Spread::of(rates[index].iter().copied()), 0),
            show(pairwise(&rates[index], &rates[0], |watched, bare| (1.0 - watched / bare) * 100.0), 1),
            show(Spread::of(latencies_ms[index].iter().copied()), 2),
            show(Spread::of(cpu_us[index].iter().copied()), 1),
            show(pairwise(&cpu_us[index], &cpu_us[0], |watched, bare| (watched / bare - 1.0) * 100.0), 1),
        ]);
    }
    Ok(table)
}

/// Requests per second and the 99th percentile of latency in the next seconds.
fn slice(load: &mut Running, seconds: u64) -> Result<(f64, f64)> {
    load.send(&seconds.to_string())?;
    let result = load.wait_for_word("rate", Duration::from_secs(seconds + 60))?;
    let (rate, p99_ms) = result.split_once(' ').with_context(|| format!("load.js printed {result:?}"))?;
    Ok((rate.parse()?, p99_ms.parse()?))
}

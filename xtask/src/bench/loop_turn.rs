//! Cost per turn of an empty event loop: the worst case for anything that looks at every turn.

use super::{
    Bench,
    running::Running,
    table::{Spread, Table, pairwise},
    variant,
};
use anyhow::{Context, Result};
use std::{process::Command, time::Duration};

const WARM_UP_TURNS: u32 = 500_000;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Table> {
    let mut storm = Running::start(Command::new(&bench.node).arg(bench.script("loop.js")))?;
    storm.wait_for_word("ready", Duration::from_secs(30))?;
    // Compiled code first; the second storm says how many turns fill the time that was asked for.
    run(&mut storm, WARM_UP_TURNS)?;
    let warm_ns = run(&mut storm, WARM_UP_TURNS)?;
    let turns = (bench.args.seconds as f64 * 1e9 / warm_ns * f64::from(WARM_UP_TURNS)).max(1000.0) as u32;

    let mut per_turn_ns = vec![Vec::new(); variant::USUAL.len()];
    for round in 1..=bench.args.rounds {
        for (index, variant) in variant::in_turn(variant::USUAL, round) {
            eprintln!("xtask: loop, round {round} of {}: {}", bench.args.rounds, variant.title());
            let watcher = variant.watch(bench, &mut storm)?;
            per_turn_ns[index].push(run(&mut storm, turns)? / f64::from(turns));
            drop(watcher);
        }
    }
    let mut table = Table::new(
        format!(
            "**Time per turn of a `setImmediate` storm**, Node.js {}, {} rounds: median (min to max)",
            bench.args.node, bench.args.rounds
        ),
        &["variant", "ns per turn", "added ns", "ratio"],
    );
    for (variant, measured) in variant::USUAL.iter().zip(&per_turn_ns) {
        let base = &per_turn_ns[0];
        let show = |spread: Option<Spread>, decimals| {
            spread.map_or_else(String::new, |spread| spread.show(decimals))
        };
        table.row([
            variant.title().to_owned(),
            show(Spread::of(measured.iter().copied()), 0),
            show(pairwise(measured, base, |watched, bare| watched - bare), 0),
            show(pairwise(measured, base, |watched, bare| watched / bare), 3),
        ]);
    }
    Ok(table)
}

/// Nanoseconds that so many turns took.
fn run(storm: &mut Running, turns: u32) -> Result<f64> {
    storm.send(&turns.to_string())?;
    let took = storm.wait_for_word("took", Duration::from_mins(10))?;
    took.parse().with_context(|| format!("loop.js printed {took:?} as a time"))
}

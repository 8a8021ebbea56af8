//! Time until it is known where to probe a Node.js binary: read for the first time, and from the cache.

use super::{
    Bench,
    table::{Spread, Table},
};
use crate::{child, setup::nodes};
use anyhow::{Context, Result};
use serde_json::Value;
use std::process::Command;

pub(super) fn measure(bench: &Bench<'_>) -> Result<Table> {
    let repeat = bench.args.rounds;
    let mut table = Table::new(
        format!("**Analysis of a Node.js binary**, {repeat} times: median (min to max)"),
        &["Node.js", "MB", "cold ms", "cached ms"],
    );
    for version in nodes::VERSIONS {
        let node = nodes::one_official(bench.workspace, version)?;
        let mut command = Command::new(bench.workspace.nodeprobe());
        command.args(["debug", "analyze"]).arg(&node).args(["--repeat", &repeat.to_string()]);
        let printed = child::quiet(&format!("analysing Node.js {version}"), &mut command)?;
        let result: Value =
            serde_json::from_str(&printed).context("`nodeprobe debug analyze` did not print JSON")?;
        let megabytes = node.metadata()?.len() as f64 / 1e6;
        let shown = |field: &str| -> Result<String> {
            let spread =
                Spread::of(numbers(&result[field])).with_context(|| format!("no {field} in {printed}"))?;
            Ok(if repeat > 1 && result[field].is_array() {
                spread.show(3)
            } else {
                format!("{:.3}", spread.median)
            })
        };
        table.row([version.to_owned(), format!("{megabytes:.0}"), shown("cold_ms")?, shown("cached_ms")?]);
    }
    Ok(table)
}

/// One number or a list of them.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().filter_map(Value::as_f64).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}

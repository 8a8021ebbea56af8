//! `cargo xtask gen`: documents, dashboards and alert rules that are made from tables in the code, so that the two cannot
//! disagree. The table of metrics belongs to the agent, and so does the test that compares; this asks it.

mod values;

use crate::{build::cargo, child, dashboards, rules, setup, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::fs;

const METRICS_TEST: &str = "docs_metrics_md_equals_the_catalogue";
/// Tells the test to write the document instead of comparing.
const WRITE: &str = "NODEPROBE_BLESS";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a document is not what the code says
    #[arg(long)]
    pub check: bool,
    /// Only dashboards and alert rules, which need no build of the agent
    #[arg(long)]
    pub boards: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    chart_readme(workspace, args)?;
    own_files(workspace, args)?;
    if args.boards {
        return Ok(());
    }
    setup::for_build(workspace)?;
    let what = if args.check { "comparing" } else { "writing" };
    let mut test = cargo(workspace);
    test.args(["test", "--package=nodeprobe", "--lib", "--", METRICS_TEST]);
    if args.check {
        test.env_remove(WRITE);
    } else {
        test.env(WRITE, "1");
    }
    let output = child::quiet(&format!("{what} docs/metrics.md with the metric catalogue"), &mut test)?;
    // A renamed test would let everything pass.
    if !output.contains("1 passed") {
        bail!("the agent has no test `{METRICS_TEST}`");
    }
    Ok(())
}

fn chart_readme(workspace: &Workspace, args: &Args) -> Result<()> {
    let chart = workspace.root.join("helm/nodeprobe");
    let read = |name: &str| {
        let path = chart.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (readme, values) = (read("README.md")?, read("values.yaml")?);
    let updated = values::updated(&readme, &values)?;
    if updated == readme {
        return Ok(());
    }
    if args.check {
        bail!("helm/nodeprobe/README.md is not what values.yaml says: run `cargo xtask gen`");
    }
    eprintln!("xtask: writing the table of values in helm/nodeprobe/README.md");
    fs::write(chart.join("README.md"), updated).context("cannot write the chart's README.md")
}

/// Dashboards and alert rules.
fn own_files(workspace: &Workspace, args: &Args) -> Result<()> {
    for (path, text) in made_here() {
        let file = workspace.root.join(&path);
        // A file that is missing is not what the code says either.
        if fs::read_to_string(&file).is_ok_and(|there| there == text) {
            continue;
        }
        if args.check {
            bail!("{path} is not what the code says: run `cargo xtask gen`");
        }
        eprintln!("xtask: writing {path}");
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

fn made_here() -> Vec<(String, String)> {
    dashboards::files().into_iter().chain(rules::files()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_dashboards_and_rules_equal_the_generated() {
        for (path, text) in made_here() {
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&path);
            let there = fs::read_to_string(&file).unwrap_or_default();
            assert!(there == text, "{path} is not what the code says: run `cargo xtask gen`");
        }
    }
}

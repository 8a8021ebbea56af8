//! `cargo xtask gen`: documents that are made from tables in the code, so that the two cannot disagree. The table of
//! metrics belongs to the agent, and so does the test that compares; this asks it.

mod values;

use crate::{build::cargo, child, setup, workspace::Workspace};
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
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    chart_readme(workspace, args)?;
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

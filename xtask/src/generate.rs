//! `cargo xtask gen`: documents that are made from tables in the code, so that the two cannot disagree. The table
//! belongs to the agent, and so does the test that compares; this asks it.

use crate::{build::cargo, child, setup, workspace::Workspace};
use anyhow::{Result, bail};

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

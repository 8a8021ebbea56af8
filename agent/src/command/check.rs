//! `nodeprobe check`: can this host be observed, and if not, what to do.

use std::io::{self, Write};

use serde::Serialize;

use super::{EXIT_ERROR, EXIT_OK};
use crate::kernel::{
    Facts, Requirement,
    requirements::{Status, is_observable, requirements},
};

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The JSON form; its field names are a contract.
#[derive(Debug, Serialize)]
struct Report {
    observable: bool,
    kernel_release: String,
    checks: Vec<Requirement>,
}

/// Looks at this host and writes what was found to stdout. Exit code 0: it can be observed, if with warnings;
/// 1: it cannot.
///
/// # Errors
/// If stdout cannot be written to.
pub fn run(format: Format) -> io::Result<u8> {
    let observable = write(&Facts::of_this_host(), format, &mut io::stdout().lock())?;
    Ok(if observable { EXIT_OK } else { EXIT_ERROR })
}

/// Returns whether the host can be observed.
fn write(facts: &Facts, format: Format, out: &mut impl Write) -> io::Result<bool> {
    let checks = requirements(facts);
    let report = Report { observable: is_observable(&checks), kernel_release: facts.release.clone(), checks };
    match format {
        Format::Text => write_text(&report, out)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(report.observable)
}

fn write_text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    for Requirement { name, status, found, breaks, remedy } in &report.checks {
        let status = match status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        writeln!(out, "{status:<4}  {name:<width$}  {found}")?;
        for (label, text) in [("breaks:", breaks), ("do:", remedy)] {
            if let Some(text) = text {
                writeln!(out, "      {:<width$}  {label:<7} {text}", "")?;
            }
        }
    }
    let count = |status| report.checks.iter().filter(|check| check.status == status).count();
    writeln!(out)?;
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => writeln!(out, "This host can be observed."),
        (0, warnings) => {
            writeln!(out, "This host can be observed, with {warnings} of {} in part.", report.checks.len())
        }
        (failures, _) => {
            writeln!(out, "This host cannot be observed: {failures} of {} failed.", report.checks.len())
        }
    }
}

#[cfg(test)]
mod tests;

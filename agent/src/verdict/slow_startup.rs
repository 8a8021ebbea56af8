//! Heavy dependencies are read, parsed and compiled before the service is ready.

use std::{collections::BTreeMap, sync::Arc};

use super::{Finding, History, Mode, duration, thresholds::STARTUP_S};
use crate::model::{Cause, Culprit, StackTime, Stall, startup::package_of};

const MODE: Mode = Mode::SlowStartup;

pub(super) fn check(history: &History) -> Option<Finding> {
    // A script that runs and ends had nothing to start up for.
    let startup = history.startup().filter(|_| !history.exited() || history.listening_s().is_some())?;
    let startup_s = startup.duration_ns as f64 / 1e9;
    let severity = STARTUP_S.severity(startup_s, MODE, history)?;
    let mut summary =
        format!("the script ran for {} before the event loop turned for the first time", duration(startup_s));
    let (package, package_s) = costliest_package(startup).unzip();
    if let (Some(culprit), Some(package_s)) = (&package, package_s)
        && let Some(name) = &culprit.package
    {
        summary = format!("{summary}; the package {name} took {}", duration(package_s));
    }
    let seconds = |cause| startup.causes.ns(cause) as f64 / 1e9;
    let mut finding = Finding::new(MODE, severity, history, summary).with([
        ("startup_s", startup_s),
        ("compile_s", seconds(Cause::Compile)),
        ("cpu_wait_s", seconds(Cause::CpuWait)),
        ("sync_io_s", seconds(Cause::SyncIo)),
    ]);
    if let Some(listening_s) = history.listening_s() {
        finding = finding.with([("listening_s", listening_s)]);
    }
    if let Some(environment_ns) = history.started().and_then(|started| started.environment_ns) {
        finding = finding.with([("environment_s", environment_ns as f64 / 1e9)]);
    }
    if let Some(modules) = history.started().and_then(|started| started.modules) {
        finding = finding
            .with([("modules", modules.modules as f64), ("modules_compile_s", modules.time_ns as f64 / 1e9)]);
    }
    if let Some(package_s) = package_s {
        finding = finding.with([("package_s", package_s)]);
    }
    Some(finding.blaming(package.or_else(|| startup.culprit.clone())))
}

/// The package that most of the start-up was spent below, and that time: the outermost one of each stack, because what a
/// package loads in turn is its doing.
fn costliest_package(startup: &Stall) -> Option<(Culprit, f64)> {
    let mut by_package: BTreeMap<Arc<str>, Vec<StackTime>> = BTreeMap::new();
    for stack in &startup.stacks {
        if let Some(package) = package_of(&stack.stack) {
            by_package.entry(Arc::clone(package)).or_default().push(stack.clone());
        }
    }
    let time_ns = |stacks: &Vec<StackTime>| -> u64 { stacks.iter().map(|stack| stack.time_ns).sum() };
    let (package, stacks) = by_package.into_iter().max_by_key(|(_, stacks)| time_ns(stacks))?;
    let of_package = stacks.iter().filter_map(|stack| {
        let frame = stack.stack.frames.iter().find(|frame| frame.package.as_ref() == Some(&package))?;
        Some((Culprit::of_frame(frame), stack.time_ns))
    });
    let of_package: Vec<_> = of_package.collect();
    let most = Culprit::of_most(of_package.iter().map(|(culprit, ns)| (culprit, *ns)))?;
    Some((most, time_ns(&stacks) as f64 / 1e9))
}

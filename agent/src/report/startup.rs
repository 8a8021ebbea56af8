//! How a process started and what it has compiled, in the JSON document and in the text of `diagnose`.

use serde::Serialize;

use super::{document::text, quantity};
use crate::model::{
    Startup,
    interval::ProcessInterval,
    startup::{MODULE_NAMES, PHASES, PackageTime},
};

/// Seconds since the `exec` of the program; `null`: not reached yet, or not seen.
#[derive(Clone, Debug, Serialize)]
pub struct StartupReport {
    /// The first line of JavaScript.
    pub environment_s: Option<f64>,
    /// The first wait of the event loop.
    pub first_turn_s: Option<f64>,
    pub listening_s: Option<f64>,
    /// The end of the last thing that belongs to the start.
    pub steady_s: Option<f64>,
    /// Modules that the main thread compiled until then, and for how long.
    pub modules: Option<u64>,
    pub compile_s: Option<f64>,
    /// Who took the time of the first turn, the costliest first.
    pub packages: Vec<PackageReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PackageReport {
    /// Of npm; `application` and `node` stand for what is in no package.
    pub name: String,
    pub cpu_s: f64,
    /// Asleep in system calls.
    pub wait_s: f64,
}

/// Modules that were compiled in the interval.
#[derive(Debug, Serialize)]
pub struct CompileReport {
    pub commonjs: Option<u64>,
    pub esm: Option<u64>,
    pub time_s: Option<f64>,
}

impl From<&Startup> for StartupReport {
    fn from(startup: &Startup) -> Self {
        let [environment_s, first_turn_s, listening_s, steady_s] = startup.phases().map(|ns| ns.map(in_s));
        Self {
            environment_s,
            first_turn_s,
            listening_s,
            steady_s,
            modules: startup.modules.map(|modules| modules.modules),
            compile_s: startup.modules.map(|modules| in_s(modules.time_ns)),
            packages: startup.packages.iter().map(PackageReport::from).collect(),
        }
    }
}

impl From<&PackageTime> for PackageReport {
    fn from(package: &PackageTime) -> Self {
        Self { name: text(&package.name), cpu_s: in_s(package.cpu_ns), wait_s: in_s(package.wait_ns) }
    }
}

impl CompileReport {
    pub(super) fn of(process: &ProcessInterval, observed: bool) -> Self {
        let [commonjs, esm] = process.modules.kinds;
        const { assert!(MODULE_NAMES.len() == 2) };
        Self {
            commonjs: observed.then_some(commonjs.modules),
            esm: observed.then_some(esm.modules),
            time_s: observed.then(|| in_s(commonjs.time_ns + esm.time_ns)),
        }
    }
}

/// Packages that lines for people name.
const PACKAGES_SHOWN: usize = 5;

impl StartupReport {
    /// Whether anything of it is known.
    pub fn is_known(&self) -> bool {
        self.environment_s.is_some() || self.first_turn_s.is_some() || self.listening_s.is_some()
    }

    /// For people: the phases, and who took the time.
    pub fn lines(&self) -> Vec<String> {
        let phases = [self.environment_s, self.first_turn_s, self.listening_s, self.steady_s];
        let mut told: Vec<String> = PHASES
            .iter()
            .zip(phases)
            .filter_map(|(name, at_s)| {
                Some(format!("{} {}", name.replace('_', " "), quantity::duration(at_s?)))
            })
            .collect();
        if let (Some(modules), Some(compile_s)) = (self.modules, self.compile_s) {
            told.push(format!("{modules} modules compiled in {}", quantity::duration(compile_s)));
        }
        let mut lines = vec![told.join(", ")];
        let packages: Vec<String> = self.packages.iter().take(PACKAGES_SHOWN).map(in_words).collect();
        if !packages.is_empty() {
            lines.push(packages.join(", "));
        }
        lines
    }
}

fn in_words(package: &PackageReport) -> String {
    let (cpu, wait) = (quantity::duration(package.cpu_s), quantity::duration(package.wait_s));
    // What is shorter is below what samples can tell.
    if package.wait_s >= 0.001 {
        format!("{} {cpu} and {wait} asleep", package.name)
    } else {
        format!("{} {cpu}", package.name)
    }
}

fn in_s(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_start_is_told_in_two_lines() {
        let report = StartupReport::from(&sample::startup());
        let lines = report.lines();
        assert_eq!(
            lines,
            [
                "environment 45ms, first turn 2.3s, listening 2.4s, 412 modules compiled in 380ms",
                "aws-sdk 1.1s and 120ms asleep, application 300ms, node 80ms",
            ]
        );
        assert!(report.is_known());
        assert!(!StartupReport::from(&Startup::default()).is_known());
    }
}

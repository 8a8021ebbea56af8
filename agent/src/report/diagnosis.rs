//! What is wrong with the observed processes, for people and for programs: the face of `nodeprobe diagnose`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
};

use serde::{Serialize, Serializer};

use super::{
    ListingFormat,
    allocations::AllocationReport,
    document::{CulpritReport, SignalReport, is_observed, of_signals, text},
    quantity,
    startup::StartupReport,
    timestamp, to_json,
};
use crate::{
    model::{Signal, interval::ProcessInterval},
    stack::allocations::Allocation,
    verdict::{Finding, Severity},
};

/// Where the modes are explained, below the repository.
const DOCS: &str = "docs/failure-modes.md";

/// The JSON document. Field names are a contract, as those of `top`.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// RFC 3339 in UTC, when it was made.
    pub time: String,
    pub processes: Vec<ProcessDiagnosis>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProcessDiagnosis {
    pub pid: u32,
    pub name: String,
    pub node_version: Option<String>,
    /// What is looked at, seconds.
    pub window_s: f64,
    pub exited: bool,
    /// What could not be observed, so what is not found for lack of it.
    pub signals: BTreeMap<&'static str, SignalReport>,
    /// How it started; `null`: before it was observed.
    pub startup: Option<StartupReport>,
    /// Who allocates, most first, ten at most; empty without a sample; `null`: not observed.
    pub allocations: Option<Vec<AllocationReport>>,
    /// The worst first; consequences of another finding behind it.
    pub findings: Vec<FindingReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct FindingReport {
    pub id: &'static str,
    pub severity: &'static str,
    pub summary: String,
    /// What was measured; each name carries its unit.
    #[serde(serialize_with = "as_object")]
    pub evidence: Vec<(&'static str, f64)>,
    pub culprit: Option<CulpritReport>,
    /// What to do now, and for good.
    pub remedy: String,
    /// A page that explains it.
    pub docs: String,
    pub primary: bool,
    /// The finding that this one is a consequence of.
    pub because_of: Option<&'static str>,
}

fn as_object<S: Serializer>(evidence: &Vec<(&'static str, f64)>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(evidence.iter().copied())
}

impl From<&Finding> for FindingReport {
    fn from(finding: &Finding) -> Self {
        let round = |value: f64| (value * 1e6).round() / 1e6;
        Self {
            id: finding.mode.id(),
            severity: finding.severity.name(),
            summary: text(&finding.summary),
            evidence: finding.evidence.iter().map(|(name, value)| (*name, round(*value))).collect(),
            culprit: finding.culprit.as_ref().map(CulpritReport::from),
            remedy: finding.mode.remedy().join("\n"),
            docs: format!("{DOCS}#{}", finding.mode.id()),
            primary: finding.is_primary(),
            because_of: finding.because_of.map(crate::verdict::Mode::id),
        }
    }
}

impl ProcessDiagnosis {
    pub fn new(process: &ProcessInterval, findings: &[Finding], window_s: f64) -> Self {
        Self {
            pid: process.id.pid,
            name: text(&process.identity.name),
            node_version: process.identity.node_version.as_deref().map(text),
            window_s: (window_s * 1e3).round() / 1e3,
            exited: process.exited,
            signals: of_signals(&process.signals),
            startup: process.startup.as_deref().map(StartupReport::from),
            allocations: is_observed(&process.signals, Signal::Gc).then(Vec::new),
            findings: findings.iter().map(FindingReport::from).collect(),
        }
    }

    /// With who allocates in the window.
    #[must_use]
    pub fn allocating(mut self, allocations: &[Allocation]) -> Self {
        if let Some(told) = &mut self.allocations {
            *told = allocations.iter().map(AllocationReport::from).collect();
        }
        self
    }

    /// Whether something is wrong, and not merely worth knowing.
    pub fn is_sick(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Info.name())
    }

    fn worst(&self) -> usize {
        let rank = |finding: &FindingReport| match finding.severity {
            "critical" => 3,
            "warning" => 2,
            _ => 1,
        };
        self.findings.iter().map(rank).max().unwrap_or(0)
    }
}

impl Diagnosis {
    /// The sickest process first.
    pub fn new(time: std::time::SystemTime, processes: impl IntoIterator<Item = ProcessDiagnosis>) -> Self {
        let mut processes: Vec<_> = processes.into_iter().collect();
        processes.sort_by_key(|process| (std::cmp::Reverse(process.worst()), process.pid));
        Self { time: timestamp::rfc3339(time), processes }
    }

    pub fn is_sick(&self) -> bool {
        self.processes.iter().any(ProcessDiagnosis::is_sick)
    }

    /// Prints it at once.
    ///
    /// # Errors
    /// Those of the sink; [`io::ErrorKind::BrokenPipe`] when its reader has gone.
    pub fn write(&self, format: ListingFormat, mut sink: impl Write) -> io::Result<()> {
        let rendered = match format {
            ListingFormat::Text => self.render().into_bytes(),
            ListingFormat::Json => to_json(self)?,
        };
        sink.write_all(&rendered)?;
        sink.flush()
    }

    /// As [`write`](Self::write), one of several: JSON on a line of its own.
    ///
    /// # Errors
    /// The same.
    pub fn write_next(&self, format: ListingFormat, mut sink: impl Write) -> io::Result<()> {
        if format == ListingFormat::Text {
            writeln!(sink, "{}", self.time)?;
            return self.write(format, sink);
        }
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        sink.write_all(&line)?;
        sink.flush()
    }

    fn render(&self) -> String {
        let mut out = String::new();
        for process in self.processes.iter().filter(|process| !process.findings.is_empty()) {
            process.render(&mut out);
        }
        let healthy: Vec<&ProcessDiagnosis> =
            self.processes.iter().filter(|process| process.findings.is_empty()).collect();
        if !healthy.is_empty() {
            out.push_str("Nothing is wrong with:\n");
            for process in healthy {
                line(&mut out, 2, &format!("{} {}", title(process), blind_spots(process)));
                process.render_startup(&mut out, 4);
            }
        }
        out
    }
}

impl ProcessDiagnosis {
    fn render(&self, out: &mut String) {
        line(out, 0, &format!("{} {}", title(self), blind_spots(self)));
        self.render_startup(out, 2);
        for finding in self.findings.iter().filter(|finding| finding.primary) {
            out.push('\n');
            finding.render(out);
            let consequences = self.findings.iter().filter(|other| other.because_of == Some(finding.id));
            for consequence in consequences {
                line(
                    out,
                    4,
                    &format!("hence {} ({}): {}", consequence.id, consequence.severity, consequence.summary),
                );
            }
        }
        out.push('\n');
    }
}

impl ProcessDiagnosis {
    fn render_startup(&self, out: &mut String, indent: usize) {
        let Some(startup) = self.startup.as_ref().filter(|startup| startup.is_known()) else { return };
        let mut label = "start-up: ";
        for told in startup.lines() {
            line(out, indent, &format!("{label}{told}"));
            label = "          ";
        }
    }
}

impl FindingReport {
    fn render(&self, out: &mut String) {
        line(out, 2, &format!("{} {}", self.severity.to_uppercase(), self.id));
        line(out, 4, &self.summary);
        if let Some(culprit) = &self.culprit {
            line(out, 4, &format!("where:    {}", place(culprit)));
        }
        let measured: Vec<String> =
            self.evidence.iter().map(|(name, value)| measured(name, *value)).collect();
        line(out, 4, &format!("measured: {}", measured.join(", ")));
        let mut label = "do:      ";
        for remedy in self.remedy.lines() {
            line(out, 4, &format!("{label} {remedy}"));
            label = "         ";
        }
        line(out, 4, &format!("more:     {}", self.docs));
    }
}

fn line(out: &mut String, indent: usize, text: &str) {
    writeln!(out, "{:indent$}{}", "", text.trim_end()).expect("a String takes everything");
}

fn title(process: &ProcessDiagnosis) -> String {
    let version =
        process.node_version.as_deref().map(|version| format!(", Node.js {version}")).unwrap_or_default();
    let exited = if process.exited { ", has ended" } else { "" };
    format!("{} (pid {}{version}{exited})", process.name, process.pid)
}

/// What could not be looked at: absence of findings is no proof there.
fn blind_spots(process: &ProcessDiagnosis) -> String {
    let missing = process.signals.iter().filter(|(_, signal)| matches!(signal, SignalReport::Unavailable(_)));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() { String::new() } else { format!("[not observed: {}]", missing.join(", ")) }
}

fn place(culprit: &CulpritReport) -> String {
    let mut place = culprit.function.clone();
    if let Some(script) = &culprit.script {
        write!(place, "  {script}").expect("a String takes everything");
        if let Some(line) = culprit.line {
            write!(place, ":{line}").expect("a String takes everything");
        }
    }
    if let Some(package) = &culprit.package {
        write!(place, "  (package {package})").expect("a String takes everything");
    }
    place
}

/// `stalled_ratio` 0.312 as `stalled 31.2 %`.
fn measured(name: &str, value: f64) -> String {
    let words = |name: &str| name.replace('_', " ");
    if let Some(name) = name.strip_suffix("_ratio") {
        format!("{} {} %", words(name), (value * 1000.0).round() / 10.0)
    } else if let Some(name) = name.strip_suffix("_bytes_per_s") {
        format!("{} {}/s", words(name), quantity::bytes(value.max(0.0) as u64))
    } else if let Some(name) = name.strip_suffix("_bytes") {
        format!("{} {}", words(name), quantity::bytes(value.max(0.0) as u64))
    } else if let Some(name) = name.strip_suffix("_per_s") {
        format!("{} {}/s", words(name), (value * 100.0).round() / 100.0)
    } else if let Some(name) = name.strip_suffix("_s") {
        format!("{} {}", words(name), quantity::duration(value))
    } else {
        format!("{} {}", words(name), (value * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{
        model::Culprit,
        report::sample,
        verdict::{Judge, Mode},
    };

    fn diagnosis() -> Diagnosis {
        let mut judge = Judge::new(60.0);
        let (mut sick, idle) = (sample::process(301, "shop"), sample::process(304, "@acme/mailer"));
        sick.stdout.blocked_ns = 50 * sample::MS;
        let interval = sample::interval(0, vec![sick.clone(), idle.clone()]);
        judge.push(&interval);
        let mut findings = judge.findings(sick.id).to_vec();
        findings[0].culprit = Some(Culprit {
            function: "log".into(),
            script: Some("/srv/shop/log.js".into()),
            line: Some(7),
            package: None,
        });
        let mut consequence = findings[0].clone();
        consequence.mode = Mode::EventLoopStarvation;
        consequence.because_of = Some(Mode::StdoutBackpressure);
        findings.push(consequence);
        let of =
            |process: &ProcessInterval, findings: &[Finding]| ProcessDiagnosis::new(process, findings, 10.0);
        Diagnosis::new(sample::time(0), [of(&idle, &[]), of(&sick, &findings)])
    }

    #[test]
    fn the_sick_come_first_and_consequences_below_their_cause() {
        assert!(diagnosis().is_sick());
        assert_snapshot!(diagnosis().render());
    }

    #[test]
    fn programs_get_the_same() {
        let json: serde_json::Value = serde_json::to_value(diagnosis()).unwrap();
        let finding = &json["processes"][0]["findings"][0];
        assert_eq!(finding["id"], "stdout-backpressure");
        assert_eq!(finding["evidence"]["blocked_ratio"], 0.05);
        assert_eq!(finding["primary"], true);
        assert_eq!(json["processes"][1]["findings"], serde_json::json!([]));
    }

    #[test]
    fn ids_are_those_of_the_documentation_and_of_the_metric() {
        assert_eq!(Mode::ALL.map(Mode::id), *crate::model::catalog::FINDING.values);
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failure-modes.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        for mode in Mode::ALL {
            assert!(docs.contains(&format!("\n## {}\n", mode.id())), "{}", mode.id());
            assert!(mode.remedy().iter().all(|line| line.len() <= 140), "{}", mode.id());
        }
    }
}

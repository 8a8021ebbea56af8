//! The listing of `nodeprobe ps`: every Node process and which of its signals are observed, else why not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    document::{SignalReport, of_signals, text},
    quantity::or_unknown,
    table::{Align, Table},
};
use crate::model::Process;

/// As `docker ps` shows it.
const SHORT_CONTAINER_ID: usize = 12;

const COLUMNS: [(&str, Align); 6] = [
    ("PID", Align::Right),
    ("SERVICE", Align::Left),
    ("NODE", Align::Left),
    ("V8", Align::Left),
    ("CONTAINER", Align::Left),
    ("SIGNALS", Align::Left),
];

/// The JSON document of `ps`; fields have the names and meanings they have in that of `top`.
#[derive(Debug, Serialize)]
pub struct Listing {
    pub processes: Vec<ListedProcess>,
}

#[derive(Debug, Serialize)]
pub struct ListedProcess {
    pub pid: u32,
    pub name: String,
    pub node_version: Option<String>,
    pub v8_version: Option<String>,
    pub container_id: Option<String>,
    pub signals: BTreeMap<&'static str, SignalReport>,
}

impl From<&[Process]> for Listing {
    fn from(processes: &[Process]) -> Self {
        let of_process = |process: &Process| ListedProcess {
            pid: process.id.pid,
            name: text(&process.identity.name),
            node_version: process.identity.node_version.as_deref().map(text),
            v8_version: process.identity.v8_version.as_deref().map(text),
            container_id: process.identity.container_id.as_deref().map(text),
            signals: of_signals(&process.signals),
        };
        Self { processes: processes.iter().map(of_process).collect() }
    }
}

impl Listing {
    /// A table of the processes, under each a line for every signal that is not observed.
    pub(super) fn render(&self) -> String {
        let mut table = Table::new(&COLUMNS);
        for process in &self.processes {
            table.push(vec![
                process.pid.to_string(),
                process.name.clone(),
                or_unknown(process.node_version.clone(), |version| version),
                or_unknown(process.v8_version.clone(), |version| version),
                or_unknown(process.container_id.as_deref(), |id| {
                    id.chars().take(SHORT_CONTAINER_ID).collect()
                }),
                process.observed(),
            ]);
        }
        table.lines(|row| self.processes[row].reasons()).join("\n") + "\n"
    }
}

impl ListedProcess {
    fn observed(&self) -> String {
        let observed: Vec<&str> = self
            .signals
            .iter()
            .filter(|(_, availability)| matches!(availability, SignalReport::Ok))
            .map(|(name, _)| *name)
            .collect();
        match observed.len() {
            0 => "none".to_owned(),
            len if len == self.signals.len() => "all".to_owned(),
            _ => observed.join(" "),
        }
    }

    fn reasons(&self) -> Vec<String> {
        let reason = |(name, availability): (&&str, &SignalReport)| match availability {
            SignalReport::Ok => None,
            SignalReport::Unavailable(reason) => Some(format!("       {name} unavailable: {reason}")),
        };
        self.signals.iter().filter_map(reason).collect()
    }
}

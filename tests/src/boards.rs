//! The dashboards and rules of helm/nodeprobe, and what docs/metrics.md lets them name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use crate::collector::workspace_file;

pub const BOARDS: [&str; 4] = ["fleet", "service", "process", "agent"];
/// Labels out of the Resource, under the same name on all paths into Prometheus: by OTLP where docs/dashboards.md has them promoted,
/// and on the page, where [`page_labels`] says which series have them.
pub const RESOURCE_LABELS: [&str; 9] = [
    "k8s_cluster_name",
    "k8s_namespace_name",
    "k8s_node_name",
    "k8s_pod_name",
    "k8s_container_name",
    "host_name",
    "service_namespace",
    "service_name",
    "service_instance_id",
];

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub struct Expression {
    pub place: String,
    pub text: String,
}

pub fn read(path: &str) -> String {
    fs::read_to_string(workspace_file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn board(name: &str) -> Value {
    serde_json::from_str(&read(&format!("helm/nodeprobe/dashboards/{name}.json"))).expect("a board is JSON")
}

/// All panels of a board but its rows.
pub fn panels(board: &Value) -> Vec<&Value> {
    let panels = board["panels"].as_array().expect("a board has panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// The expressions of all panels of all boards.
pub fn panel_expressions() -> Vec<Expression> {
    let mut found = Vec::new();
    for name in BOARDS {
        let board = board(name);
        for panel in panels(&board) {
            for target in panel["targets"].as_array().expect("a panel has targets") {
                found.push(Expression {
                    place: format!("{name}: {} {}", panel["title"], target["refId"]),
                    text: target["expr"].as_str().expect("a target has an expression").to_owned(),
                });
            }
        }
    }
    found
}

/// Inside of `label_values(…, label)`: the series asked for, and the label.
pub fn variable_expressions() -> Vec<(Expression, String)> {
    let mut found = Vec::new();
    for name in BOARDS {
        for variable in board(name)["templating"]["list"].as_array().expect("a board has variables") {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) =
                inside.and_then(|inside| inside.rsplit_once(", ")).expect("a variable asks for labels");
            let place = format!("{name}: variable {}", variable["name"]);
            found.push((Expression { place, text: series.to_owned() }, label.to_owned()));
        }
    }
    found
}

/// One rule of a rule file. The files are written by `cargo xtask gen`, always in the same form.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Of the alert, or of the recorded series.
    pub name: String,
    pub is_alert: bool,
    pub expression: String,
    pub fields: BTreeMap<String, String>,
}

/// The rules of a file of helm/nodeprobe/rules.
pub fn rules(file: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in read(&format!("helm/nodeprobe/rules/{file}.yaml")).lines() {
        let words = line.trim_start();
        for (begin, is_alert) in [("- alert: ", true), ("- record: ", false)] {
            if let Some(name) = words.strip_prefix(begin) {
                rules.push(Rule { name: name.to_owned(), is_alert, ..Rule::default() });
            }
        }
        let Some(rule) = rules.last_mut() else { continue };
        if line.starts_with("          ") && !rule.fields.contains_key("for") {
            rule.expression.push_str(words);
            rule.expression.push(' ');
        } else if let Some((key, value)) = words.split_once(": ").filter(|(key, _)| !key.starts_with('-')) {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.to_owned());
            rule.fields.insert(key.to_owned(), value);
        }
    }
    assert!(!rules.is_empty(), "{file}.yaml has no rules");
    rules
}

pub fn rule_expressions() -> Vec<Expression> {
    let rules = ["recording", "alerts"].into_iter().flat_map(rules);
    rules.map(|rule| Expression { place: rule.name, text: rule.expression }).collect()
}

/// Labels out of the Resource that docs/dashboards.md tells Prometheus to promote.
pub fn promoted_labels() -> BTreeSet<String> {
    let text = read("docs/dashboards.md");
    let list = text.split_once("promote_resource_attributes: [").expect("dashboards.md has the list").1;
    let list = list.split_once(']').expect("the list ends").0;
    list.split(',').map(|key| key.trim().replace('.', "_")).collect()
}

/// Labels out of the Resource on the page, by docs/metrics.md: those of every series, and those that only the agent's own have.
pub fn page_labels() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = read("docs/metrics.md");
    let between = |begin: &str, end: &str| -> BTreeSet<String> {
        let list = text.split_once(begin).unwrap_or_else(|| panic!("metrics.md has no {begin}")).1;
        let list = list.split_once(end).unwrap_or_else(|| panic!("metrics.md has no {end}")).0;
        list.split(", ").map(|label| label.trim().trim_matches('`').to_owned()).collect()
    };
    (
        between("`promote_resource_attributes`:", ".\n"),
        between("Series of nodeprobe itself also have", ", so that"),
    )
}

/// What docs/metrics.md lets an expression name.
pub struct Catalogue {
    /// Names of series in Prometheus with the labels they have of their own.
    pub series: BTreeMap<String, BTreeSet<String>>,
    /// Names of metrics, without what a histogram adds.
    pub metrics: BTreeSet<String>,
    /// The closed set of values of each label.
    pub values: BTreeMap<String, BTreeSet<String>>,
}

pub fn catalogue() -> Catalogue {
    let mut found = Catalogue { series: BTreeMap::new(), metrics: BTreeSet::new(), values: BTreeMap::new() };
    let code = |cell: &str| -> Vec<String> {
        cell.split(", ")
            .map(|word| word.trim_matches('`').to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let label = |attribute: &String| attribute.replace('.', "_");
    let mut section = "";
    let text = read("docs/metrics.md");
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match (section, cells.as_slice()) {
            (
                "Metrics of a process" | "Metrics of nodeprobe itself",
                [name, kind, _, attributes, series, _],
            ) if name.starts_with('`') => {
                let series = series.trim_matches('`').to_owned();
                let labels: BTreeSet<String> = code(attributes).iter().map(label).collect();
                found.metrics.insert(series.clone());
                if *kind == "Histogram" {
                    for suffix in ["sum", "count"] {
                        found.series.insert(format!("{series}_{suffix}"), labels.clone());
                    }
                    let with_le = labels.into_iter().chain(["le".to_owned()]);
                    found.series.insert(format!("{series}_bucket"), with_le.collect());
                } else {
                    found.series.insert(series, labels);
                }
            }
            ("Attributes", [attribute, values]) if attribute.starts_with('`') => {
                let label = attribute.trim_matches('`').replace('.', "_");
                found.values.insert(label, code(values).into_iter().collect());
            }
            _ => {}
        }
    }
    found
}

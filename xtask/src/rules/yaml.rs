//! Rule files as text. A JSON string is a YAML string as well.

use std::fmt::Write as _;

use super::DOCUMENTS;

pub(super) struct Group {
    pub name: &'static str,
    pub rules: Vec<Rule>,
}

pub(super) enum Rule {
    Record { name: &'static str, expression: String },
    Alert(Alert),
}

pub(super) struct Alert {
    pub name: &'static str,
    pub expression: String,
    /// How long it must hold.
    pub lasts: &'static str,
    pub severity: &'static str,
    pub summary: String,
    pub description: String,
    /// File and heading under [`DOCUMENTS`].
    pub runbook: String,
}

pub(super) fn text(groups: &[Group]) -> String {
    let mut text = "groups:\n".to_owned();
    for group in groups {
        push(&mut text, format_args!("  - name: {}\n    rules:\n", group.name));
        for rule in &group.rules {
            match rule {
                Rule::Record { name, expression } => {
                    push(&mut text, format_args!("      - record: {name}\n        expr: |-\n"));
                    block(&mut text, expression);
                }
                Rule::Alert(alert) => write_alert(&mut text, alert),
            }
        }
    }
    text
}

fn write_alert(text: &mut String, alert: &Alert) {
    let Alert { name, expression, lasts, severity, summary, description, runbook } = alert;
    push(text, format_args!("      - alert: {name}\n        expr: |-\n"));
    block(text, expression);
    push(text, format_args!("        for: {lasts}\n        labels:\n          severity: {severity}\n"));
    push(text, format_args!("        annotations:\n          summary: {}\n", quoted(summary)));
    push(text, format_args!("          description: {}\n", quoted(description)));
    push(text, format_args!("          runbook_url: {}\n", quoted(&format!("{DOCUMENTS}/{runbook}"))));
}

fn block(text: &mut String, expression: &str) {
    for line in expression.lines() {
        push(text, format_args!("          {}\n", line.trim_start()));
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a string takes everything");
}

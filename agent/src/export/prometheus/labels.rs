//! The labels of a resource, as Prometheus' OTLP translation makes them: `job` and `instance` say whose a series is,
//! promoted attributes are on every series, and the rest is on `target_info`.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    export::attributes::{ResourceAttributes, Value},
    model::catalog::PROMOTED,
};

/// What is in `job` and `instance` is not on `target_info` again.
const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Tells processes apart that call themselves the same.
pub(super) const DISTINCTION: &str = "process.pid";

/// Whose a series is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) job: String,
    pub(super) instance: String,
}

impl Key {
    pub(super) fn of(attributes: &ResourceAttributes) -> Self {
        let text = |key| attributes.get(key).map(shown).unwrap_or_default();
        let (namespace, name) = (text("service.namespace"), text("service.name"));
        let job = if namespace.is_empty() || name.is_empty() { name } else { format!("{namespace}/{name}") };
        Self { job, instance: text("service.instance.id") }
    }
}

/// Labels as they are written between the braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Of every series.
    pub(super) series: String,
    /// Of `target_info`.
    pub(super) info: String,
}

impl Target {
    /// `more`: attributes that are on every series besides those that always are.
    pub(super) fn new(key: &Key, attributes: &ResourceAttributes, more: &[&str]) -> Self {
        let promoted = |name: &str| PROMOTED.contains(&name) || more.contains(&name);
        Self {
            series: labels(key, attributes, promoted),
            info: labels(key, attributes, |name| !IDENTIFYING.contains(&name)),
        }
    }
}

fn labels(key: &Key, attributes: &ResourceAttributes, wanted: impl Fn(&str) -> bool) -> String {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in attributes.iter().filter(|(name, _)| wanted(name)) {
        let label = label_name(name);
        // Prometheus keeps what begins so for itself.
        if label.starts_with("__") || label.is_empty() {
            continue;
        }
        // Names that are the same when translated share the label, as in Prometheus.
        let values = labels.entry(label).or_default();
        if !values.is_empty() {
            values.push(';');
        }
        values.push_str(&shown(value));
    }
    labels.insert("job".to_owned(), key.job.clone());
    labels.insert("instance".to_owned(), key.instance.clone());
    let mut text = String::new();
    // An empty label is an absent one.
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        push_label(&mut text, name, value);
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Whole(number) => number.to_string(),
    }
}

/// Appends `name="value"`, after a comma where there is something before it.
pub(super) fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    write!(text, "{name}=\"").expect("writing to a String cannot fail");
    escape(text, value, true);
    text.push('"');
}

/// Both formats escape backslash and line feed; `quotes` where the text is in quotes.
pub(super) fn escape(into: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quotes => into.push_str("\\\""),
            c => into.push(c),
        }
    }
}

/// An attribute's key as a label: what is no letter, digit or underscore becomes an underscore, and a label that
/// begins with a digit or one underscore gets `key` in front.
pub(super) fn label_name(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{name}")
    } else if name.starts_with('_') && !name.starts_with("__") {
        format!("key{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> ResourceAttributes {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::Text((*value).to_owned()))).collect()
    }

    fn target(pairs: &[(&str, &str)], more: &[&str]) -> Target {
        let attributes = attributes(pairs);
        Target::new(&Key::of(&attributes), &attributes, more)
    }

    #[test]
    fn job_and_instance_are_those_of_the_otlp_translation() {
        let of = |pairs: &[(&str, &str)]| {
            let Key { job, instance } = Key::of(&attributes(pairs));
            (job, instance)
        };
        let full = [("service.name", "shop"), ("service.namespace", "sales"), ("service.instance.id", "1")];
        assert_eq!(of(&full), ("sales/shop".to_owned(), "1".to_owned()));
        assert_eq!(of(&full[..1]), ("shop".to_owned(), String::new()));
        assert_eq!(of(&full[1..2]), (String::new(), String::new()));
    }

    #[test]
    fn promoted_attributes_are_on_every_series_and_the_rest_on_target_info() {
        let found = target(
            &[
                ("service.name", "shop"),
                ("service.instance.id", "1"),
                ("k8s.pod.name", "shop-0"),
                ("process.pid", "7"),
                ("container.id", ""),
            ],
            &[],
        );
        assert_eq!(
            found.series,
            r#"instance="1",job="shop",k8s_pod_name="shop-0",service_instance_id="1",service_name="shop""#
        );
        assert_eq!(found.info, r#"instance="1",job="shop",k8s_pod_name="shop-0",process_pid="7""#);
    }

    #[test]
    fn what_a_process_says_of_itself_cannot_break_the_page() {
        let hostile = [
            ("service.name", "a\"} 1\nevil{b=\"\\"),
            ("__name__", "up"),
            ("job", "forged"),
            ("instance", "forged"),
            ("1st", "x"),
            ("_y", "y"),
            ("a.b", "1"),
            ("a-b", "2"),
            ("\u{fc}", "umlaut"),
        ];
        let found = target(&hostile, &[]);
        assert_eq!(found.series, r#"job="a\"} 1\nevil{b=\"\\",service_name="a\"} 1\nevil{b=\"\\""#);
        let info = r#"a_b="2;1",job="a\"} 1\nevil{b=\"\\",key_="umlaut",key_1st="x",key_y="y""#;
        assert_eq!(found.info, info);
        assert!(!found.info.contains("forged") && !found.info.contains("up"), "{}", found.info);
    }

    #[test]
    fn the_distinction_is_a_label_only_where_it_is_needed() {
        let pairs = [("service.name", "shop"), ("process.pid", "7")];
        assert!(!target(&pairs, &[]).series.contains("process_pid"));
        assert!(target(&pairs, &[DISTINCTION]).series.contains(r#"process_pid="7""#));
    }
}

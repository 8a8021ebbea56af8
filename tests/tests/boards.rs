//! Dashboards and alert rules: that they parse, name only what docs/metrics.md has, follow the rules of good boards, and fire
//! when they should. What they return on real processes is asked in `boards_live.rs`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nodeprobe_tests::{
    board_lint::lint,
    boards::{
        BOARDS, Expression, RESOURCE_LABELS, board, catalogue, page_labels, panel_expressions, panels,
        promoted_labels, read, rule_expressions, rules, variable_expressions,
    },
    collector::{executable, workspace_file},
    node::target_tmp,
    promql::names,
    skip::skip,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Metrics that no panel and no rule uses, and why.
const UNUSED: [(&str, &str); 0] = [];
/// What Grafana puts in, and a value that parses.
const FILLED_IN: [(&str, &str); 6] = [
    ("$__rate_interval", "1m"),
    ("$__range", "1h"),
    ("$cluster", ".*"),
    ("$namespace", ".*"),
    ("$service", ".*"),
    ("$instance", ".*"),
];

fn all_expressions() -> Vec<Expression> {
    let variables = variable_expressions().into_iter().map(|(expression, _)| expression);
    panel_expressions().into_iter().chain(variables).chain(rule_expressions()).collect()
}

/// `promtool`, or the reason why the test cannot run.
fn promtool() -> Option<PathBuf> {
    executable("NODEPROBE_TEST_PROMTOOL").map_err(|reason| skip(&reason)).ok()
}

#[track_caller]
fn run(promtool: &Path, arguments: &[&str], directory: &Path) {
    let output =
        Command::new(promtool).args(arguments).current_dir(directory).output().expect("promtool runs");
    assert!(
        output.status.success(),
        "promtool {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_expression_parses() {
    let Some(promtool) = promtool() else { return };
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let mut text = "groups:\n- name: all\n  rules:\n".to_owned();
    for (index, Expression { place, text: expression }) in all_expressions().iter().enumerate() {
        let filled = filled(expression);
        assert!(!filled.contains('$'), "{place}: an unknown variable in {filled}");
        let quoted = serde_json::to_string(&filled).expect("a string is JSON");
        writeln!(text, "  # {place}\n  - record: e{index}\n    expr: {quoted}")
            .expect("a string takes everything");
    }
    fs::write(directory.path().join("all.yaml"), text).expect("a file can be written");
    run(&promtool, &["check", "rules", "--lint=none", "all.yaml"], directory.path());
}

fn filled(expression: &str) -> String {
    FILLED_IN.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// In the hour that is shown: one that stalled in one process before and in another for the first time, one that stalled once, one
/// that stalled before and not again, one whose process ended, one that was not scraped when the hour began, one that nodeprobe began to count anew, and those beyond the limit.
#[test]
fn a_culprit_counts_from_zero_where_it_was_not_there_at_the_begin_of_the_time_shown() {
    const METRIC: &str = "nodeprobe_eventloop_stall_culprit_time_seconds_total";
    let Some(promtool) = promtool() else { return };
    let board = board("service");
    let is_table = |panel: &&Value| panel["title"] == "Culprits" && panel["type"] == "table";
    let table = panels(&board).into_iter().find(is_table).expect("the board has the table");
    let expression = table["targets"][0]["expr"].as_str().expect("a table has an expression");
    let of = |function: &str| {
        let file = "code_file_path=\"/srv/shop.js\"";
        format!("nodeprobe_thread_type=\"main\", code_function_name=\"{function}\", {file}")
    };
    let series = [
        ("1", of("render"), "10+1x120"),
        ("2", of("render"), "_x90 3x30"),
        ("1", of("hash"), "_x100 2x20"),
        ("1", of("migrate"), "7x120"),
        ("1", of("report"), "_x70 4x20"),
        ("1", of("parse"), "9x50 _x15 9x53"),
        ("1", of("sort"), "10x70 _x2 5x50"),
        ("1", "otel_metric_overflow=\"true\"".to_owned(), "_x100 2+1x20"),
    ];
    let series = series.map(|(instance, labels, values)| {
        let labels = format!("service_name=\"shop\", service_instance_id=\"{instance}\", {labels}");
        json!({"series": format!("{METRIC}{{{labels}}}"), "values": values})
    });
    let stalled = |labels: &str, seconds: f64| json!({"labels": format!("{{service_name=\"shop\", {labels}}}"), "value": seconds});
    let expected = [
        stalled(&of("render"), 60.0 + 3.0),
        stalled(&of("hash"), 2.0),
        stalled(&of("report"), 4.0),
        stalled(&of("sort"), 5.0),
        stalled("code_function_name=\"(all others)\"", 22.0),
    ];
    let asked = json!([{"expr": filled(expression), "eval_time": "120m", "exp_samples": expected}]);
    let case = json!({"interval": "1m", "input_series": series, "promql_expr_test": asked});
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    // JSON is YAML, too.
    let text = json!({"rule_files": [], "evaluation_interval": "1m", "tests": [case]}).to_string();
    fs::write(directory.path().join("culprits.yaml"), text).expect("a file can be written");
    run(&promtool, &["test", "rules", "culprits.yaml"], directory.path());
}

#[test]
fn expressions_name_only_what_the_catalogue_has() {
    let catalogue = catalogue();
    assert!(catalogue.series.len() > 40 && catalogue.values.len() > 10, "docs/metrics.md has no catalogue");
    let recorded: BTreeSet<String> = rules("recording").into_iter().map(|rule| rule.name).collect();
    let mut wrong = Vec::new();
    for Expression { place, text } in all_expressions() {
        let named = names(&text);
        assert!(!named.selectors.is_empty(), "{place}: no metric in {text}");
        let mut known: BTreeSet<&str> = RESOURCE_LABELS.into();
        for selector in &named.selectors {
            if recorded.contains(&selector.metric) {
                continue;
            }
            let Some(labels) = catalogue.series.get(&selector.metric) else {
                wrong.push(format!("{place}: no metric {}", selector.metric));
                continue;
            };
            known.extend(labels.iter().map(String::as_str));
            for (label, operator, value) in &selector.matchers {
                if RESOURCE_LABELS.contains(&label.as_str()) {
                    continue;
                }
                let values = catalogue.values.get(label);
                let all = value.split('|').filter(|_| operator.contains('~'));
                let one = Some(value.as_str()).filter(|_| !operator.contains('~'));
                let unknown = |value: &&str| !values.is_some_and(|values| values.contains(*value));
                if !labels.contains(label) {
                    wrong.push(format!("{place}: {} has no label {label}", selector.metric));
                } else if let Some(value) = all.chain(one).find(unknown) {
                    wrong.push(format!("{place}: {label} is never {value}"));
                }
            }
        }
        for label in named.labels.iter().filter(|label| !known.contains(label.as_str())) {
            wrong.push(format!("{place}: nothing in it has a label {label}"));
        }
    }
    for (Expression { place, .. }, label) in variable_expressions() {
        if !RESOURCE_LABELS.contains(&label.as_str()) {
            wrong.push(format!("{place}: {label} is no label of a Resource"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An alert that groups by a label that is absent takes all agents for one, and names none.
#[test]
fn labels_are_there_however_the_metrics_came() {
    let (promoted, (on_page, of_agents)) = (promoted_labels(), page_labels());
    assert!(on_page.len() > 10 && of_agents.len() == 2, "{on_page:?} {of_agents:?}");
    for label in RESOURCE_LABELS {
        assert!(promoted.contains(label), "docs/dashboards.md does not promote {label}");
        assert!(on_page.contains(label) || of_agents.contains(label), "{label} is not on the page");
    }
    for Expression { place, text } in all_expressions() {
        let named = names(&text);
        let is_of_agents = named.selectors.iter().any(|s| s.metric.starts_with("nodeprobe_agent_"));
        let only_of_agents: Vec<_> = named.labels.intersection(&of_agents).collect();
        assert!(is_of_agents || only_of_agents.is_empty(), "{place}: processes have no {only_of_agents:?}");
    }
}

/// docs/metrics.md says which alerts are lost with `--semconv-metrics off`.
#[test]
fn alerts_that_need_names_of_the_conventions_are_named() {
    let own = |metric: &str| metric.starts_with("nodeprobe_");
    let needs = |expression: &str, of_others: &dyn Fn(&str) -> bool| {
        names(expression).selectors.iter().any(|selector| of_others(&selector.metric))
    };
    let recorded: BTreeSet<String> = rules("recording")
        .into_iter()
        .filter(|rule| needs(&rule.expression, &|metric| !own(metric)))
        .map(|rule| rule.name)
        .collect();
    let is_lost = |metric: &str| recorded.contains(metric) || !(own(metric) || metric.contains(':'));
    let text = read("docs/metrics.md");
    let section = text.split_once("## Beside the application").expect("metrics.md has the section").1;
    let section = section.split_once("\n## ").expect("a section follows").0;
    for rule in rules("alerts") {
        let is_named = section.contains(&format!("`{}`", rule.name));
        assert_eq!(is_named, needs(&rule.expression, &is_lost), "{}: {}", rule.name, rule.expression);
    }
}

#[test]
fn every_metric_is_used() {
    let used: BTreeSet<String> = all_expressions()
        .iter()
        .flat_map(|expression| names(&expression.text).selectors)
        .map(|s| s.metric)
        .collect();
    let is_used = |metric: &str| {
        ["", "_bucket", "_sum", "_count"].iter().any(|suffix| used.contains(&format!("{metric}{suffix}")))
    };
    for metric in catalogue().metrics {
        let excused = UNUSED.iter().find(|(name, _)| *name == metric);
        assert!(is_used(&metric) || excused.is_some(), "no panel and no rule uses {metric}");
        assert!(!is_used(&metric) || excused.is_none(), "{metric} is used and listed as unused");
    }
}

#[test]
fn boards_follow_the_rules() {
    let wrong: Vec<String> = BOARDS.iter().flat_map(|name| lint(name, &board(name))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_rule_of_the_lint_finds_its_fault() {
    let faults: [(&str, Value); 10] = [
        ("/id", 7.into()),
        ("/uid", "other".into()),
        ("/templating/list/1/allValue", ".+".into()),
        ("/panels/1/datasource/uid", "prometheus".into()),
        ("/panels/1/description", "".into()),
        ("/panels/1/type", "graph".into()),
        (
            "/panels/1/targets/0/expr",
            "rate(nodeprobe_heap_used_bytes{k8s_cluster_name=~\"$cluster\"}[5m])".into(),
        ),
        // A line over time is no table about all that is shown.
        (
            "/panels/1/targets/0/expr",
            "rate(nodeprobe_heap_used_bytes{k8s_cluster_name=~\"$cluster\"}[$__range])".into(),
        ),
        ("/panels/1/fieldConfig/defaults/unit", "".into()),
        ("/panels/2/id", 2.into()),
    ];
    for (pointer, fault) in faults {
        let mut board = board("fleet");
        *board.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = fault;
        assert!(!lint("fleet", &board).is_empty(), "a fault at {pointer} is not found");
    }
}

#[test]
fn boards_lead_from_the_fleet_to_the_service_to_the_process() {
    for (from, to) in [("fleet", "service"), ("service", "process")] {
        let text = read(&format!("helm/nodeprobe/dashboards/{from}.json"));
        assert!(text.contains(&format!("/d/nodeprobe-{to}?")), "no link from {from} to {to}");
    }
}

/// The anchor that a heading gets.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter_map(|line| line.strip_prefix('#'));
    let titles = headings.map(|rest| rest.trim_start_matches('#').trim().to_lowercase());
    let word = |c: char| c.is_alphanumeric() || c == ' ' || c == '-';
    titles.map(|title| title.chars().filter(|c| word(*c)).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_failure_mode_has_an_alert_and_every_alert_a_runbook() {
    let alerts = rules("alerts");
    for id in &catalogue().values["nodeprobe_finding_id"] {
        let matcher = format!("nodeprobe_finding_id=\"{id}\"");
        assert!(alerts.iter().any(|alert| alert.expression.contains(&matcher)), "no alert for {id}");
    }
    let mut seen = BTreeSet::new();
    for alert in &alerts {
        let name = &alert.name;
        assert!(alert.is_alert && seen.insert(name), "{name} is there twice or no alert");
        let field =
            |key: &str| alert.fields.get(key).unwrap_or_else(|| panic!("{name} has no {key}")).as_str();
        assert!(
            ["info", "warning", "critical"].contains(&field("severity")),
            "{name}: {}",
            field("severity")
        );
        let documents = field("runbook_url").split_once("/docs/").expect("a runbook is one of docs/").1;
        let (file, anchor) = documents.split_once('#').expect("a runbook is a section");
        assert!(anchors(&read(&format!("docs/{file}"))).contains(anchor), "{name}: no #{anchor} in {file}");
        assert!(field("summary").len() < 160, "{name}: a summary is one line");
        assert!(field("description").ends_with('.'), "{name}: a description is made of sentences");
        assert!(
            read("docs/dashboards.md").contains(&format!("`{name}`")),
            "docs/dashboards.md has no {name}"
        );
    }
}

#[test]
fn rules_fire_and_keep_silent_as_they_should() {
    let Some(promtool) = promtool() else { return };
    let directory = workspace_file("tests/rules");
    run(&promtool, &["check", "rules", "../../helm/nodeprobe/rules/alerts.yaml"], &directory);
    let tests = fs::read_dir(&directory).expect("tests/rules is there").flatten();
    let tests: Vec<String> = tests.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    assert!(tests.len() >= 3, "{tests:?}");
    let tested: String = tests.iter().map(|test| read(&format!("tests/rules/{test}"))).collect();
    for rule in rules("alerts") {
        assert!(tested.contains(&format!("alertname=\"{}\"", rule.name)), "no test lets {} fire", rule.name);
    }
    let mut arguments = vec!["test", "rules"];
    arguments.extend(tests.iter().map(String::as_str));
    run(&promtool, &arguments, &directory);
}

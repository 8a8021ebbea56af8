//! What makes a dashboard a good one: rules of Grafana's dashboard-linter, and some of our own.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    boards::{BOARDS, panels},
    promql::names,
};

/// What Grafana can draw without plugins that are gone.
const PANELS: [&str; 7] = ["timeseries", "stat", "heatmap", "table", "gauge", "bargauge", "state-timeline"];
const VARIABLES: [&str; 5] = ["datasource", "cluster", "namespace", "service", "instance"];
const SOURCE: &str = "${datasource}";
const COLUMNS: u64 = 24;

/// Sentences about what is wrong.
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, is_right: bool, what: impl Into<String>) {
        if !is_right {
            self.0.push(what.into());
        }
    }
}

/// A sentence for each fault of a board.
pub fn lint(name: &str, board: &Value) -> Vec<String> {
    let mut faults = Faults(Vec::new());
    whole(name, board, &mut faults);
    variables(board, &mut faults);
    layout(board, &mut faults);
    for panel in panels(board) {
        let title = text(&panel["title"]);
        one_panel(title, panel, &mut faults);
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        faults.unless(!targets.is_empty(), format!("{title}: no query"));
        let letters: BTreeSet<&str> = targets.iter().map(|target| text(&target["refId"])).collect();
        faults.unless(letters.len() == targets.len(), format!("{title}: a refId is there twice"));
        for target in targets {
            one_target(title, target, &mut faults);
        }
    }
    faults.0.into_iter().map(|fault| format!("{name}: {fault}")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn whole(name: &str, board: &Value, faults: &mut Faults) {
    let uid = text(&board["uid"]);
    faults.unless(board["id"].is_null(), "the id must be null");
    faults.unless(uid == format!("nodeprobe-{name}") && uid.len() <= 40, format!("uid {uid}"));
    faults.unless(board["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "an old schema");
    faults.unless(board.get("__inputs").is_none(), "__inputs are for uploads to grafana.com");
    faults.unless(board["timezone"] == "browser", "the time zone is not that of the browser");
    faults.unless(board["links"][0]["includeVars"] == true, "no links to the other boards");
    faults.unless(
        !text(&board["title"]).is_empty() && !text(&board["description"]).is_empty(),
        "no description",
    );
}

fn variables(board: &Value, faults: &mut Faults) {
    let variables = board["templating"]["list"].as_array().expect("a board has variables");
    let order: Vec<&str> = variables.iter().map(|variable| text(&variable["name"])).collect();
    faults.unless(order == VARIABLES, format!("variables {order:?}"));
    for variable in variables {
        let name = text(&variable["name"]);
        if name == "datasource" {
            let is_source = variable["type"] == "datasource" && variable["query"] == "prometheus";
            faults.unless(is_source, "the data source is not a Prometheus");
            continue;
        }
        let allows_all =
            variable["multi"] == true && variable["includeAll"] == true && variable["allValue"] == ".*";
        faults.unless(allows_all, format!("variable {name} does not allow all"));
        faults.unless(variable["datasource"]["uid"] == SOURCE, format!("variable {name} has its own source"));
        faults.unless(variable["refresh"] == 2, format!("variable {name} does not follow the time range"));
    }
}

fn layout(board: &Value, faults: &mut Faults) {
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in board["panels"].as_array().expect("a board has panels") {
        let title = &panel["title"];
        faults.unless(ids.insert(panel["id"].as_u64()), format!("panel id {} is there twice", panel["id"]));
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(COLUMNS + 1));
        faults.unless(x + w <= COLUMNS, format!("{title} is wider than the board"));
        let is_free = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))).all(|cell| cells.insert(cell));
        faults.unless(is_free, format!("{title} lies over another panel"));
    }
}

fn one_panel(title: &str, panel: &Value, faults: &mut Faults) {
    faults.unless(!title.is_empty(), "a panel without title");
    faults.unless(text(&panel["description"]).len() >= 20, format!("{title}: no description"));
    faults.unless(PANELS.contains(&text(&panel["type"])), format!("{title}: type {}", panel["type"]));
    faults.unless(panel["datasource"]["uid"] == SOURCE, format!("{title}: its own data source"));
    let defaults = &panel["fieldConfig"]["defaults"];
    faults.unless(!text(&defaults["unit"]).is_empty(), format!("{title}: no unit"));
    // Of the panel, and of single columns.
    let overrides = panel["fieldConfig"]["overrides"].as_array().into_iter().flatten();
    let properties = overrides.filter_map(|change| change["properties"].as_array()).flatten();
    let of_columns =
        properties.filter(|property| property["id"] == "links").map(|property| &property["value"]);
    for link in of_columns.chain([&defaults["links"]]).filter_map(Value::as_array).flatten() {
        let url = text(&link["url"]);
        let to =
            url.strip_prefix("/d/nodeprobe-").and_then(|rest| rest.split('?').next()).unwrap_or_default();
        faults.unless(BOARDS.contains(&to), format!("{title}: {url} leads nowhere"));
        let keeps = url.contains("${__url_time_range}") && url.contains("${datasource:queryparam}");
        faults.unless(keeps, format!("{title}: {url} forgets time or data source"));
    }
}

fn one_target(title: &str, target: &Value, faults: &mut Faults) {
    let expression = text(&target["expr"]);
    faults.unless(target["datasource"]["uid"] == SOURCE, format!("{title}: a query with its own source"));
    faults.unless(!text(&target["legendFormat"]).is_empty(), format!("{title}: no legend"));
    faults.unless(!expression.contains("irate("), format!("{title}: irate"));
    for (at, _) in expression.match_indices('[') {
        // An hour is what the title of such a panel says, and a table may be about all that the board shows.
        let range = &expression[at..];
        let is_whole = range.starts_with("[$__range]") && target["instant"] == true;
        let is_good = range.starts_with("[$__rate_interval]") || range.starts_with("[1h]") || is_whole;
        faults.unless(is_good, format!("{title}: a fixed range in {expression}"));
    }
    for selector in names(expression).selectors {
        let metric = &selector.metric;
        let by_cluster =
            |(label, _, value): &(String, String, String)| label == "k8s_cluster_name" && value == "$cluster";
        faults.unless(
            selector.matchers.iter().any(by_cluster),
            format!("{title}: {metric} ignores the variables"),
        );
        let is_counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| metric.ends_with(end));
        let is_rated =
            ["rate(", "increase("].iter().any(|function| expression.contains(&format!("{function}{metric}")));
        // How many modules there are is the question there, not how fast they come.
        let is_level = metric.starts_with("nodeprobe_module_");
        faults.unless(!is_counter || is_rated || is_level, format!("{title}: {metric} without rate"));
    }
}

//! A panel of Grafana's classic model, of which only what the boards use is written.

use serde_json::{Value, json};

use super::thresholds::Threshold;

pub(super) const DATASOURCE: &str = "${datasource}";

pub(super) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": DATASOURCE})
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Lines,
    Stacked,
    Stat,
    Bars,
    Heatmap,
    Table,
    /// Whether something is so, over time.
    States,
}

/// One query with its legend.
struct Target {
    expression: String,
    legend: String,
}

/// A column of a table.
struct Column {
    source: Source,
    heading: &'static str,
    unit: &'static str,
    threshold: Option<Threshold>,
    /// 0: what is left, in equal parts.
    width: u64,
}

enum Source {
    Label(String),
    /// The query of that number.
    Query(usize),
}

pub(super) struct Panel {
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    pub(super) width: u64,
    pub(super) height: u64,
    max: Option<f64>,
    threshold: Option<Threshold>,
    targets: Vec<Target>,
    links: Vec<Value>,
    columns: Vec<Column>,
    words: Option<[&'static str; 2]>,
    /// What less than this is is bad.
    least: Option<f64>,
    /// Names of series and their colours.
    colors: Vec<(&'static str, &'static str)>,
    /// Series that are not in the panel's unit: the beginning of their names, and their unit.
    beside: Option<(&'static str, &'static str)>,
}

/// A panel without queries yet.
pub(super) fn panel(kind: Kind, title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    let (width, height) = match kind {
        Kind::Stat => (4, 4),
        Kind::Table => (24, 9),
        _ => (8, 8),
    };
    Panel {
        kind,
        title,
        description,
        unit,
        width,
        height,
        max: None,
        threshold: None,
        targets: Vec::new(),
        links: Vec::new(),
        columns: Vec::new(),
        words: None,
        least: None,
        colors: Vec::new(),
        beside: None,
    }
}

impl Panel {
    pub(super) fn query(mut self, legend: &str, expression: impl Into<String>) -> Self {
        self.targets.push(Target { expression: expression.into(), legend: legend.to_owned() });
        self
    }

    /// A query whose result is a column of a table.
    pub(super) fn column(
        mut self,
        heading: &'static str,
        unit: &'static str,
        threshold: Option<Threshold>,
        expression: impl Into<String>,
    ) -> Self {
        self.columns.push(Column {
            source: Source::Query(self.targets.len()),
            heading,
            unit,
            threshold,
            width: 0,
        });
        self.query(heading, expression)
    }

    /// A label that is a column of a table, so many pixels wide.
    pub(super) fn label(mut self, name: &str, heading: &'static str, width: u64) -> Self {
        self.columns.push(Column {
            source: Source::Label(name.to_owned()),
            heading,
            unit: "",
            threshold: None,
            width,
        });
        self
    }

    pub(super) fn threshold(mut self, threshold: Threshold) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// A share: the axis ends at all of it.
    pub(super) fn whole(mut self) -> Self {
        self.max = Some(1.0);
        self
    }

    pub(super) fn width(mut self, width: u64) -> Self {
        self.width = width;
        self
    }

    pub(super) fn height(mut self, height: u64) -> Self {
        self.height = height;
        self
    }

    /// What 0 and 1 are called.
    pub(super) fn words(mut self, words: [&'static str; 2]) -> Self {
        self.words = Some(words);
        self
    }

    /// The less is the bad.
    pub(super) fn at_least(mut self, least: f64) -> Self {
        self.least = Some(least);
        self
    }

    /// A series whose colour means something.
    pub(super) fn color(mut self, name: &'static str, color: &'static str) -> Self {
        self.colors.push((name, color));
        self
    }

    /// Series whose name begins so have a unit of their own, and an axis at the right.
    pub(super) fn beside(mut self, begin: &'static str, unit: &'static str) -> Self {
        self.beside = Some((begin, unit));
        self
    }

    pub(super) fn link(mut self, title: &str, url: &str) -> Self {
        self.links.push(json!({"title": title, "url": url}));
        self
    }

    /// The panel at a place, with `@` filled in.
    pub(super) fn json(&self, id: u64, x: u64, y: u64, selector: &str) -> Value {
        let is_table = self.kind == Kind::Table;
        let targets = self.targets.iter().enumerate().map(|(index, target)| {
            let mut json = json!({
                "datasource": datasource(), "editorMode": "code", "refId": letter(index),
                "expr": target.expression.replace('@', selector), "legendFormat": target.legend,
                "format": if is_table { "table" } else if self.kind == Kind::Heatmap { "heatmap" } else { "time_series" },
            });
            let now = is_table || self.kind == Kind::Bars;
            json["instant"] = now.into();
            json["range"] = (!now).into();
            json
        });
        let mut panel = json!({
            "id": id, "type": self.grafana_type(), "title": self.title, "description": self.description,
            "datasource": datasource(), "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": targets.collect::<Vec<_>>(), "options": self.options(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
        });
        if is_table {
            panel["transformations"] = self.transformations();
        }
        panel
    }

    fn grafana_type(&self) -> &'static str {
        match self.kind {
            Kind::Lines | Kind::Stacked => "timeseries",
            Kind::Stat => "stat",
            Kind::Bars => "bargauge",
            Kind::Heatmap => "heatmap",
            Kind::Table => "table",
            Kind::States => "state-timeline",
        }
    }

    fn defaults(&self) -> Value {
        let color = match self.kind {
            // Green says that all is well, which nobody has judged.
            Kind::Stat | Kind::Bars if self.threshold.is_none() && self.least.is_none() => {
                json!({"mode": "fixed", "fixedColor": "blue"})
            }
            Kind::Stat | Kind::Bars | Kind::States => json!({"mode": "thresholds"}),
            Kind::Lines | Kind::Stacked | Kind::Heatmap | Kind::Table => json!({"mode": "palette-classic"}),
        };
        let links: &[Value] = if self.kind == Kind::Table { &[] } else { &self.links };
        let mut defaults = json!({
            "unit": self.unit, "thresholds": self.steps(), "links": links, "custom": self.custom(),
            "color": color,
            "mappings": self.mappings(), "noValue": if self.kind == Kind::Stat { "no data" } else { "" },
        });
        if matches!(self.kind, Kind::Lines | Kind::Stacked | Kind::Bars | Kind::Stat) {
            defaults["min"] = 0.into();
        }
        if let Some(max) = self.max {
            defaults["max"] = max.into();
        } else if matches!(self.kind, Kind::Lines | Kind::Stacked) {
            // Beside an end that is given Grafana would take the lesser.
            let least = |Threshold(warning, _)| warning * 1.2;
            defaults["custom"]["axisSoftMax"] =
                self.threshold.map_or_else(|| least_axis(self.unit), least).into();
        }
        defaults
    }

    fn custom(&self) -> Value {
        let stacked = self.kind == Kind::Stacked;
        match self.kind {
            Kind::Lines | Kind::Stacked => json!({
                "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "showPoints": "never",
                "fillOpacity": if stacked { 40 } else { 8 }, "spanNulls": false, "axisPlacement": "auto",
                "stacking": {"group": "A", "mode": if stacked { "normal" } else { "none" }},
                "thresholdsStyle": {"mode": if self.threshold.is_some() { "dashed" } else { "off" }},
            }),
            Kind::Heatmap => json!({"scaleDistribution": {"type": "linear"}}),
            Kind::Table => json!({
                // Grafana's least width of 150 would push the last of eleven columns out of sight.
                "align": "auto", "cellOptions": {"type": "auto"}, "filterable": true, "minWidth": 80,
            }),
            Kind::States => json!({"fillOpacity": 70, "lineWidth": 0}),
            Kind::Stat | Kind::Bars => json!({}),
        }
    }

    fn steps(&self) -> Value {
        let Some(least) = self.least else { return steps(self.threshold) };
        json!({"mode": "absolute", "steps": [{"color": "orange", "value": null}, {"color": "green", "value": least}]})
    }

    fn mappings(&self) -> Value {
        let Some([no, yes]) = self.words else { return json!([]) };
        json!([{"type": "value", "options": {
            "0": {"index": 0, "text": no}, "1": {"index": 1, "text": yes},
        }}])
    }

    fn options(&self) -> Value {
        let last = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.kind {
            Kind::Lines | Kind::Stacked => json!({
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Kind::Stat => json!({
                "reduceOptions": last, "colorMode": "value", "graphMode": "area", "justifyMode": "auto",
                "orientation": "auto", "textMode": "auto", "wideLayout": true,
            }),
            Kind::Bars => json!({
                "reduceOptions": last, "displayMode": "basic", "orientation": "horizontal", "showUnfilled": true,
                "valueMode": "color",
            }),
            Kind::Heatmap => json!({
                "calculate": false, "cellGap": 1, "showValue": "never", "filterValues": {"le": 1e-9},
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange",
                    "reverse": false, "scale": "exponential"},
                "exemplars": {"color": "rgba(255,0,255,0.7)"}, "legend": {"show": true},
                "rowsFrame": {"layout": "auto"}, "tooltip": {"mode": "single", "yHistogram": false},
                "yAxis": {"axisPlacement": "left", "reverse": false, "unit": "s"},
            }),
            Kind::Table => json!({"cellHeight": "sm", "showHeader": true, "sortBy": self.worst_first()}),
            Kind::States => json!({
                "alignValue": "left", "mergeValues": true, "rowHeight": 0.9, "showValue": "never",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "single", "sort": "none"},
            }),
        }
    }

    /// By the columns that have colours: who needs somebody stands at the top.
    fn worst_first(&self) -> Value {
        let colored = self.columns.iter().filter(|column| column.threshold.is_some());
        colored.map(|column| json!({"displayName": column.heading, "desc": true})).collect()
    }

    /// Units, and colours where a threshold says from where on, by column; and what is in another unit.
    fn overrides(&self) -> Value {
        // What a row is about: a link on every column would make all of them blue.
        let labels = self.columns.iter().filter(|column| matches!(column.source, Source::Label(_)));
        let key = labels.last().map(|column| column.heading).filter(|_| !self.links.is_empty());
        let of_column = |column: &Column| {
            let mut properties = Vec::new();
            if !column.unit.is_empty() {
                properties.push(json!({"id": "unit", "value": column.unit}));
            }
            if column.unit == "percentunit" {
                // Three digits of each would make the small ones look like the great ones.
                properties.push(json!({"id": "decimals", "value": 1}));
            }
            if column.width > 0 {
                properties.push(json!({"id": "custom.width", "value": column.width}));
            }
            if Some(column.heading) == key {
                properties.push(json!({"id": "links", "value": self.links}));
            }
            if column.threshold.is_some() {
                properties.push(json!({"id": "thresholds", "value": steps(column.threshold)}));
                properties.push(json!({"id": "custom.cellOptions", "value": {"type": "color-text"}}));
                properties.push(json!({"id": "color", "value": {"mode": "thresholds"}}));
            }
            json!({"matcher": {"id": "byName", "options": column.heading}, "properties": properties})
        };
        let beside = self.beside.map(|(begin, unit)| {
            json!({"matcher": {"id": "byRegexp", "options": format!("/^{begin}/")}, "properties": [
                {"id": "unit", "value": unit},
                {"id": "custom.axisPlacement", "value": "right"},
                {"id": "custom.axisSoftMax", "value": least_axis(unit)},
                // Which are numbers of the other unit.
                {"id": "custom.thresholdsStyle", "value": {"mode": "off"}},
            ]})
        });
        let columns = self.columns.iter().map(of_column).filter(|change| change["properties"] != json!([]));
        let colors = self.colors.iter().map(|(name, color)| {
            json!({"matcher": {"id": "byName", "options": name}, "properties": [
                {"id": "color", "value": {"mode": "fixed", "fixedColor": color}},
            ]})
        });
        columns.chain(beside).chain(colors).collect()
    }

    /// What Grafana calls the field of a column. The values of a lone query have no letter.
    fn field(&self, column: &Column) -> String {
        match &column.source {
            Source::Label(name) => name.clone(),
            Source::Query(_) if self.targets.len() == 1 => "Value".to_owned(),
            Source::Query(index) => format!("Value #{}", letter(*index)),
        }
    }

    /// One row for what has the same labels, with the columns in order and nothing else.
    fn transformations(&self) -> Value {
        let names: Vec<String> = self.columns.iter().map(|column| self.field(column)).collect();
        let order: serde_json::Map<String, Value> =
            names.iter().enumerate().map(|(index, name)| (name.clone(), index.into())).collect();
        let headings: serde_json::Map<String, Value> =
            self.columns.iter().map(|column| (self.field(column), column.heading.into())).collect();
        json!([
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": names}}},
            {"id": "organize", "options": {"indexByName": order, "renameByName": headings, "excludeByName": {}}},
        ])
    }
}

fn steps(threshold: Option<Threshold>) -> Value {
    let mut steps = vec![json!({"color": "green", "value": null})];
    if let Some(Threshold(warning, critical)) = threshold {
        steps.push(json!({"color": "orange", "value": warning}));
        steps.extend(critical.map(|critical| json!({"color": "red", "value": critical})));
    }
    json!({"mode": "absolute", "steps": steps})
}

/// How far an axis reaches at least. One of nothing but zeros would reach to 100, which is 10000 % or two minutes.
fn least_axis(unit: &str) -> f64 {
    match unit {
        "percentunit" => 0.01,
        "s" => 0.001,
        "bytes" | "Bps" => 1024.0,
        _ => 1.0,
    }
}

/// Names of queries: A, B, and so on.
fn letter(index: usize) -> String {
    char::from(b'A' + u8::try_from(index).expect("a panel has few queries")).to_string()
}

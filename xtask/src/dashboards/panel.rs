//! A panel of Grafana's classic model, of which only what the boards use is written.

mod fields;

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

    /// A label that is a column of a table, so many pixels wide; 0: what is left.
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

    /// By the columns that have colours, else by all numbers: who needs somebody stands at the top.
    fn worst_first(&self) -> Value {
        let has_colors = self.columns.iter().any(|column| column.threshold.is_some());
        let decides = |column: &&Column| match column.source {
            Source::Query(_) => !has_colors || column.threshold.is_some(),
            Source::Label(_) => false,
        };
        let deciding = self.columns.iter().filter(decides);
        deciding.map(|column| json!({"displayName": column.heading, "desc": true})).collect()
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

/// Names of queries: A, B, and so on.
fn letter(index: usize) -> String {
    char::from(b'A' + u8::try_from(index).expect("a panel has few queries")).to_string()
}

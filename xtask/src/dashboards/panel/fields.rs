//! What Grafana applies to the fields of a panel: unit, ends of the axis, thresholds, colours, links; and by name of the field.

use serde_json::{Value, json};

use super::{Column, Kind, Panel, Source, Threshold};

impl Panel {
    pub(super) fn defaults(&self) -> Value {
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

    /// Units, and colours where a threshold says from where on, by column; and what is in another unit.
    pub(super) fn overrides(&self) -> Value {
        // What a row is about: a link on every column would make all of them blue.
        let mut labels = self.columns.iter().filter(|column| matches!(column.source, Source::Label(_)));
        let key = labels.next_back().map(|column| column.heading).filter(|_| !self.links.is_empty());
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

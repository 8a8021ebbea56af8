//! A dashboard: variables, links, and rows of panels that are laid out from left to right.

use serde_json::{Value, json};

use super::panel::{Panel, datasource};

const COLUMNS: u64 = 24;
const TAG: &str = "nodeprobe";

pub(super) struct Board {
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// The metric whose labels fill the variables.
    pub source: &'static str,
    pub selector: &'static str,
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Board {
    pub(super) fn json(&self) -> Value {
        json!({
            "id": null, "uid": self.uid, "title": self.title, "description": self.description, "tags": [TAG],
            "schemaVersion": 39, "version": 1, "editable": true, "timezone": "browser", "graphTooltip": 1,
            "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timepicker": {}, "weekStart": "",
            "fiscalYearStartMonth": 0, "liveNow": false,
            "annotations": {"list": [{
                "builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": true, "hide": true,
                "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard",
            }]},
            "links": [{
                "asDropdown": false, "icon": "external link", "includeVars": true, "keepTime": true, "tags": [TAG],
                "targetBlank": false, "title": "nodeprobe", "tooltip": "", "type": "dashboards", "url": "",
            }],
            "templating": {"list": self.variables()},
            "panels": self.panels(),
        })
    }

    fn variables(&self) -> Vec<Value> {
        let mut variables = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "current": {}, "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1, "regex": "",
            "skipUrlSync": false,
        })];
        let mut matchers: Vec<String> = Vec::new();
        for (name, label, title) in [
            ("cluster", "k8s_cluster_name", "Cluster"),
            ("namespace", "k8s_namespace_name", "Namespace"),
            ("service", "service_name", "Service"),
            ("instance", "service_instance_id", "Instance"),
        ] {
            let query = format!("label_values({}{{{}}}, {label})", self.source, matchers.join(", "));
            variables.push(json!({
                "name": name, "label": title, "type": "query", "datasource": datasource(),
                "query": {"query": query, "refId": "StandardVariableQuery"}, "definition": query,
                "current": {"selected": true, "text": ["All"], "value": ["$__all"]}, "hide": 0, "includeAll": true,
                // Also what has no such label: a host without Kubernetes.
                "allValue": ".*", "multi": true, "options": [], "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1,
            }));
            matchers.push(format!("{label}=~\"${name}\""));
        }
        variables
    }

    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let mut y = 0;
        for (title, row) in &self.rows {
            panels.push(json!({
                "id": panels.len() as u64 + 1, "type": "row", "title": title, "collapsed": false, "panels": [],
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in row {
                if x + panel.width > COLUMNS {
                    (x, y, tallest) = (0, y + tallest, 0);
                }
                panels.push(panel.json(panels.len() as u64 + 1, x, y, self.selector));
                x += panel.width;
                tallest = tallest.max(panel.height);
            }
            y += tallest;
        }
        panels
    }
}
